//! Headers read by their grammar, when somebody asks for them.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::byte_str::ByteStr;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::message::{Request, Response};
use crate::method::Method;
use crate::name_addr::NameAddr;
use crate::params::{self, Params};
use crate::scan;
use crate::session::{RAck, SessionExpires};
use crate::via::Via;

/// RFC 3261 §20.16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    pub method: Method,
}

/// RFC 3261 §20.10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: every binding (§10.2.2).
    Star,
    List(Vec<ContactValue>),
}

/// One contact with its `q` and `expires`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactValue(pub NameAddr);

/// `type/subtype;params` (RFC 3261 §20.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// Lower case.
    pub kind: String,
    /// Lower case.
    pub subtype: String,
    pub params: Params,
}

/// Why a request was sent (RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850`, …
    pub protocol: String,
    pub cause: Option<u16>,
    pub text: Option<String>,
}

impl CSeq {
    pub(crate) fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let (number, method) = split_cseq(text.as_bytes())?;
        let method = Method::from_text(&text.part(method)).ok_or("its method is not a token")?;
        Ok(Self { number, method })
    }
}

pub(crate) fn split_cseq(text: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let end = text.iter().position(|byte| scan::is_space(*byte)).ok_or("it names no method")?;
    let (number, method) = text.split_at_checked(end).unwrap_or_default();
    let number = scan::number(number).ok_or("its number is not within 32 bits")?;
    Ok((number, scan::trim(method)))
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

impl From<CSeq> for ByteStr {
    fn from(cseq: CSeq) -> Self {
        ByteStr::from(cseq.to_string())
    }
}

impl ContactValue {
    /// Thousandths, 0..=1000; 1000 when absent or malformed (RFC 3261 §16.6
    /// leaves the order of equals to us).
    pub fn q(&self) -> u16 {
        self.params.get("q").and_then(parse_q).unwrap_or(1000)
    }

    /// Seconds. An overlarge or malformed value is `None`: RFC 3261 §10.3 has
    /// the registrar take its default then.
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").and_then(|text| scan::number(text.as_bytes()))
    }
}

fn parse_q(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

impl Deref for ContactValue {
    type Target = NameAddr;

    fn deref(&self) -> &NameAddr {
        &self.0
    }
}

impl DerefMut for ContactValue {
    fn deref_mut(&mut self) -> &mut NameAddr {
        &mut self.0
    }
}

impl MediaType {
    fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (essence, parameters) = bytes.split_at_checked(end).unwrap_or_default();
        params::check(parameters).map_or(Ok(()), Err)?;
        let essence = std::str::from_utf8(essence).map_err(|_| "it is not text")?;
        let (kind, subtype) = essence.split_once('/').ok_or("it has no subtype")?;
        let (kind, subtype) = (kind.trim(), subtype.trim());
        if !scan::is_token(kind.as_bytes()) || !scan::is_token(subtype.as_bytes()) {
            return Err("its type is not a token");
        }
        Ok(Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            params: Params::from_checked(text.part(parameters)),
        })
    }

    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }
}

impl Reason {
    pub fn new(protocol: &str, cause: u16, text: &str) -> Self {
        Self { protocol: protocol.into(), cause: Some(cause), text: Some(text.into()) }
    }

    fn from_text(text: &ByteStr) -> Option<Self> {
        let bytes = text.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (protocol, parameters) = bytes.split_at_checked(end)?;
        params::check(parameters).map_or(Some(()), |_| None)?;
        let params = Params::from_checked(text.part(parameters));
        Some(Self {
            protocol: std::str::from_utf8(scan::trim(protocol)).ok()?.to_owned(),
            cause: params.get("cause").and_then(|cause| cause.parse().ok()),
            text: params.get_unquoted("text").map(|text| text.into_owned()),
        })
    }
}

impl From<Reason> for ByteStr {
    fn from(reason: Reason) -> Self {
        let mut out: Vec<u8> =
            reason.protocol.bytes().filter(|byte| scan::is_token_byte(*byte)).collect();
        if let Some(cause) = reason.cause {
            out.extend_from_slice(format!(";cause={cause}").as_bytes());
        }
        if let Some(text) = reason.text {
            out.extend_from_slice(b";text=");
            scan::write_quoted(&mut out, text.as_bytes());
        }
        ByteStr::from(out)
    }
}

const MISSING: &str = "it is missing";

/// One list of accessors, on [`Headers`] and on both kinds of message.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty)?) -> $ret:ty;)*) => {
        impl Request { $($(#[$doc])* pub fn $name(&self $(, $arg: $type)?) -> $ret {
            self.headers.$name($($arg)?)
        })* }
        impl Response { $($(#[$doc])* pub fn $name(&self $(, $arg: $type)?) -> $ret {
            self.headers.$name($($arg)?)
        })* }
    };
}

accessors! {
    top_via() -> Result<Via, HeaderError>;
    from() -> Result<NameAddr, HeaderError>;
    to() -> Result<NameAddr, HeaderError>;
    call_id() -> Result<ByteStr, HeaderError>;
    cseq() -> Result<CSeq, HeaderError>;
    /// An empty list when there is none.
    contacts() -> Result<Contacts, HeaderError>;
    routes() -> Result<Vec<NameAddr>, HeaderError>;
    record_routes() -> Result<Vec<NameAddr>, HeaderError>;
    path() -> Result<Vec<NameAddr>, HeaderError>;
    max_forwards() -> Result<Option<u8>, HeaderError>;
    /// Seconds.
    expires() -> Result<Option<u32>, HeaderError>;
    /// Seconds.
    min_expires() -> Result<Option<u32>, HeaderError>;
    content_type() -> Result<Option<MediaType>, HeaderError>;
    reason_header() -> Option<Reason>;
    session_expires() -> Result<Option<SessionExpires>, HeaderError>;
    min_se() -> Result<Option<u32>, HeaderError>;
    rseq() -> Result<Option<u32>, HeaderError>;
    rack() -> Result<RAck, HeaderError>;
    supports(option: &str) -> bool;
    requires(option: &str) -> bool;
    /// Option tags, methods and the like, of any list header.
    tokens(name: &HeaderName) -> Vec<String>;
}

impl Headers {
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let value = self.values(&HeaderName::Via).next();
        let value = value.ok_or(HeaderError { header: HeaderName::Via, problem: MISSING })?;
        Via::from_text(&value).map_err(|problem| HeaderError { header: HeaderName::Via, problem })
    }

    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.name_addr(HeaderName::From)
    }

    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.name_addr(HeaderName::To)
    }

    pub fn call_id(&self) -> Result<ByteStr, HeaderError> {
        self.required(HeaderName::CallId).cloned()
    }

    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        CSeq::from_text(self.required(HeaderName::CSeq)?)
            .map_err(|problem| HeaderError { header: HeaderName::CSeq, problem })
    }

    pub fn contacts(&self) -> Result<Contacts, HeaderError> {
        let header = HeaderName::Contact;
        let mut contacts = Vec::new();
        let mut star = false;
        for value in self.values(&header) {
            if value == "*" {
                star = true;
                continue;
            }
            match NameAddr::from_text(&value) {
                Ok(contact) => contacts.push(ContactValue(contact)),
                Err(problem) => return Err(HeaderError { header: HeaderName::Contact, problem }),
            }
        }
        match (star, contacts.is_empty()) {
            (false, _) => Ok(Contacts::List(contacts)),
            (true, true) => Ok(Contacts::Star),
            (true, false) => Err(HeaderError { header, problem: "* stands beside other contacts" }),
        }
    }

    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::Route)
    }

    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::RecordRoute)
    }

    pub fn path(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::Path)
    }

    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.number(HeaderName::MaxForwards)
    }

    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::Expires)
    }

    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::MinExpires)
    }

    pub fn content_type(&self) -> Result<Option<MediaType>, HeaderError> {
        let header = HeaderName::ContentType;
        self.get(&header)
            .map(MediaType::from_text)
            .transpose()
            .map_err(|problem| HeaderError { header, problem })
    }

    /// The first Reason that can be read.
    pub fn reason_header(&self) -> Option<Reason> {
        self.values(&HeaderName::Reason).find_map(|value| Reason::from_text(&value))
    }

    pub fn supports(&self, option: &str) -> bool {
        self.has_token(&HeaderName::Supported, option)
    }

    pub fn requires(&self, option: &str) -> bool {
        self.has_token(&HeaderName::Require, option)
    }

    pub fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_case(token))
    }

    /// Whether an answer may have content of this type (RFC 3261 §20.1). Who says
    /// nothing takes what the method, or the event package, has by default; an
    /// empty field takes nothing.
    pub fn accepts(&self, media_type: &str) -> bool {
        let header = HeaderName::Accept;
        let range = media_type.split('/').next().map(|kind| format!("{kind}/*"));
        let takes = |value: ByteStr| {
            let value = value.to_str_lossy();
            let named = value.split(';').next().unwrap_or_default().trim();
            let known = [Some(media_type), range.as_deref(), Some("*/*")];
            known.into_iter().flatten().any(|it| it.eq_ignore_ascii_case(named))
        };
        !self.contains(&header) || self.values(&header).take(32).any(takes)
    }

    pub fn tokens(&self, name: &HeaderName) -> Vec<String> {
        self.values(name)
            .filter(|value| scan::is_token(value.as_bytes()))
            .map(|value| value.to_str_lossy().into_owned())
            .collect()
    }

    fn required(&self, header: HeaderName) -> Result<&ByteStr, HeaderError> {
        match self.get(&header) {
            Some(value) => Ok(value),
            None => Err(HeaderError { header, problem: MISSING }),
        }
    }

    fn name_addr(&self, header: HeaderName) -> Result<NameAddr, HeaderError> {
        let value = self.required(header.clone())?;
        NameAddr::from_text(value).map_err(|problem| HeaderError { header, problem })
    }

    fn name_addrs(&self, header: HeaderName) -> Result<Vec<NameAddr>, HeaderError> {
        self.values(&header)
            .map(|value| NameAddr::from_text(&value))
            .collect::<Result<_, _>>()
            .map_err(|problem| HeaderError { header, problem })
    }

    pub(crate) fn number<N: TryFrom<u64>>(
        &self,
        header: HeaderName,
    ) -> Result<Option<N>, HeaderError> {
        match self.get(&header).map(|value| scan::number(value.as_bytes())) {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => {
                Err(HeaderError { header, problem: "it is not a number within its range" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.push(name, value);
        headers
    }

    #[test]
    fn contacts_carry_q_and_expires() {
        let headers = with(
            HeaderName::Contact,
            "\"A, B\" <sip:a@b>;q=0.33;expires=60, sip:c@d, <sip:e@f>;expires=99999999999;q=2",
        );
        let Ok(Contacts::List(list)) = headers.contacts() else { panic!("no list") };
        assert_eq!(list.iter().map(ContactValue::q).collect::<Vec<_>>(), [330, 1000, 1000]);
        let expires: Vec<_> = list.iter().map(ContactValue::expires).collect();
        assert_eq!(expires, [Some(60), None, None]);
    }

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(with(HeaderName::Contact, "*").contacts(), Ok(Contacts::Star));
        assert!(with(HeaderName::Contact, "*, <sip:a@b>").contacts().is_err());
        assert_eq!(Headers::new().contacts(), Ok(Contacts::List(vec![])));
    }

    #[test]
    fn a_missing_or_bad_header_is_named() {
        assert_eq!(Headers::new().cseq().unwrap_err().to_string(), "CSeq: it is missing");
        let error = with(HeaderName::MaxForwards, "300").max_forwards().unwrap_err();
        assert_eq!(error.header, HeaderName::MaxForwards);
    }

    #[test]
    fn media_types_ignore_letter_case() {
        let sdp = with(HeaderName::ContentType, "Application / SDP ;charset=utf-8");
        let sdp = sdp.content_type().unwrap().unwrap();
        assert!(sdp.is("application", "sdp"));
        assert_eq!(sdp.params.get("charset"), Some("utf-8"));
        assert!(with(HeaderName::ContentType, "text").content_type().is_err());
    }

    #[test]
    fn reasons_are_read_and_written() {
        let reason = Reason::new("SIP", 200, "Call \"completed\" elsewhere");
        let text = ByteStr::from(reason.clone());
        assert!(text == r#"SIP;cause=200;text="Call \"completed\" elsewhere""#);
        let headers = with(HeaderName::Reason, text.as_str().unwrap());
        assert_eq!(headers.reason_header(), Some(reason));
    }
}
