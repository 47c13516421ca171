//! Call transfer's own headers: Refer-To (RFC 3515 §2.1) and Replaces (RFC 3891
//! §6.1), and what a transfer is reported by (RFC 3420).

use std::fmt;

use crate::byte_str::ByteStr;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::method::Method;
use crate::name_addr::NameAddr;
use crate::scan;
use crate::status::StatusCode;
use crate::uri::Uri;

/// Whom a REFER leads to.
#[derive(Clone, PartialEq, Eq)]
pub struct ReferTo {
    /// Without header fields and without a `method`.
    pub uri: Uri,
    /// The dialog that the new one is to take the place of.
    pub replaces: Option<Replaces>,
}

/// The dialog a request is to take the place of, as its addressee knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Replaces {
    pub call_id: ByteStr,
    /// The addressee's own tag.
    pub to_tag: String,
    pub from_tag: String,
    /// A dialog that is confirmed by now is to be left alone.
    pub early_only: bool,
}

/// What is wrong with them, in words that a Warning can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferError {
    #[error("Refer-To is missing")]
    NoReferTo,
    #[error("more than one Refer-To")]
    ManyReferTo,
    #[error("Refer-To cannot be read")]
    BadReferTo,
    #[error("Refer-To asks for another method than INVITE")]
    OtherMethod,
    #[error("more than one Replaces")]
    ManyReplaces,
    #[error("Replaces cannot be read")]
    BadReplaces,
}

impl ReferTo {
    /// Of a REFER: exactly one (RFC 3515 §2.4.1). The other header fields that its
    /// URI may ask for are nobody's but the new call's own (RFC 3261 §19.1.5).
    pub fn of(headers: &Headers) -> Result<Self, ReferError> {
        let mut values = headers.all(&HeaderName::ReferTo);
        let value = values.next().ok_or(ReferError::NoReferTo)?;
        if values.next().is_some() {
            return Err(ReferError::ManyReferTo);
        }
        let NameAddr { mut uri, .. } =
            NameAddr::from_text(value).map_err(|_| ReferError::BadReferTo)?;
        let asked = uri.headers.take();
        let method = uri.param("method").map(str::to_owned);
        if method.is_some_and(|method| method != Method::Invite.as_str()) {
            return Err(ReferError::OtherMethod);
        }
        uri.params.remove("method");
        let mut found = asked.iter().flat_map(|it| it.as_bytes().split(|octet| *octet == b'&'));
        let replaces = found.find_map(|field| {
            let (name, value) = split_once(field, b'=')?;
            let name = scan::percent_decode(name);
            name.eq_ignore_ascii_case(b"replaces").then(|| scan::percent_decode(value))
        });
        let replaces = match replaces {
            Some(value) => Some(Replaces::parse(&ByteStr::from(value.to_vec()))?),
            None => None,
        };
        Ok(Self { uri, replaces })
    }
}

impl Replaces {
    /// Of an INVITE: one or none (RFC 3891 §3).
    pub fn of(headers: &Headers) -> Result<Option<Self>, ReferError> {
        let mut values = headers.all(&HeaderName::Replaces);
        let Some(value) = values.next() else { return Ok(None) };
        match values.next() {
            Some(_) => Err(ReferError::ManyReplaces),
            None => Self::parse(value).map(Some),
        }
    }

    fn parse(value: &ByteStr) -> Result<Self, ReferError> {
        let text = value.as_bytes();
        let (call_id, params) = split_once(text, b';').ok_or(ReferError::BadReplaces)?;
        let call_id = ByteStr::from(scan::trim(call_id).to_vec());
        let start = text.len().saturating_sub(params.len() + 1);
        let params = text.get(start..).unwrap_or_default();
        let params = NameAddr::from_text(&ByteStr::from([b"<sip:a>", params].concat()))
            .map_err(|_| ReferError::BadReplaces)?
            .params;
        let tag = |name: &str| params.get(name).filter(|it| !it.is_empty()).map(str::to_owned);
        match (tag("to-tag"), tag("from-tag"), call_id.is_empty()) {
            (Some(to_tag), Some(from_tag), false) => {
                Ok(Self { call_id, to_tag, from_tag, early_only: params.contains("early-only") })
            }
            _ => Err(ReferError::BadReplaces),
        }
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call_id, to_tag, from_tag, early_only } = self;
        write!(f, "{};to-tag={to_tag};from-tag={from_tag}", call_id.to_str_lossy())?;
        match early_only {
            true => f.write_str(";early-only"),
            false => Ok(()),
        }
    }
}

/// Whom a call belongs to is nobody's to read in a log.
impl fmt::Debug for ReferTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReferTo({})", if self.replaces.is_some() { "with Replaces" } else { "" })
    }
}

impl fmt::Debug for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replaces")
    }
}

/// Content-Type of a report on a referred request (RFC 3515 §2.4.4).
pub const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// The status line that a report consists of (RFC 3420 §2).
pub fn sipfrag(status: StatusCode) -> String {
    format!("SIP/2.0 {} {}\r\n", status.code(), status.reason())
}

/// Whether the sender wants no reports on what it refers to (RFC 4488 §4).
pub fn declines_reports(headers: &Headers) -> bool {
    let said = headers.get(&HeaderName::ReferSub);
    said.is_some_and(|it| {
        let value = it.as_bytes().split(|octet| *octet == b';').next().unwrap_or_default();
        scan::trim(value).eq_ignore_ascii_case(b"false")
    })
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|octet| *octet == at)?;
    let (before, after) = text.split_at_checked(place)?;
    Some((before, after.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refer_to(values: &[&str]) -> Result<ReferTo, ReferError> {
        let mut headers = Headers::new();
        values.iter().for_each(|it| headers.push(HeaderName::ReferTo, *it));
        ReferTo::of(&headers)
    }

    #[test]
    fn a_refer_to_leads_to_one_address() {
        let plain = refer_to(&["\"Bob\" <sip:bob@acme.test;method=INVITE>"]).unwrap();
        assert_eq!(plain.uri.to_string(), "sip:bob@acme.test");
        assert!(plain.replaces.is_none());
        assert_eq!(refer_to(&["sip:bob@acme.test"]).unwrap().uri, plain.uri);
        assert_eq!(refer_to(&["<tel:+353123>"]).unwrap().uri.to_string(), "tel:+353123");
        assert_eq!(refer_to(&[]), Err(ReferError::NoReferTo));
        assert_eq!(refer_to(&["<sip:a@b>", "<sip:c@d>"]), Err(ReferError::ManyReferTo));
        assert_eq!(refer_to(&["<sip:a@b;method=BYE>"]), Err(ReferError::OtherMethod));
        assert_eq!(refer_to(&["<sip:a@b"]), Err(ReferError::BadReferTo));
    }

    #[test]
    fn a_refer_to_may_name_the_dialog_to_replace() {
        let found = refer_to(&["<sip:bob@acme.test?Subject=x&rePlaces=98asjd8%40host%3B\
            to-tag%3D7743%3Bfrom-tag%3D6472%3bearly-only>"]);
        let replaces = found.unwrap().replaces.unwrap();
        assert_eq!(replaces.to_string(), "98asjd8@host;to-tag=7743;from-tag=6472;early-only");
        for bad in ["98asjd8%40host", "x%3Bto-tag%3D7743", "%3Bto-tag%3D1%3Bfrom-tag%3D2"] {
            let value = format!("<sip:bob@acme.test?Replaces={bad}>");
            assert_eq!(refer_to(&[&value]), Err(ReferError::BadReplaces), "{bad}");
        }
    }

    #[test]
    fn an_invite_replaces_one_dialog_at_most() {
        let of = |values: &[&str]| {
            let mut headers = Headers::new();
            values.iter().for_each(|it| headers.push(HeaderName::Replaces, *it));
            Replaces::of(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        let one = of(&["a@b ;from-tag=2;to-tag=1;other=3"]).unwrap().unwrap();
        assert_eq!(one.to_string(), "a@b;to-tag=1;from-tag=2");
        assert_eq!(of(&["a;to-tag=1;from-tag=2", "b;to-tag=1;from-tag=2"]), {
            Err(ReferError::ManyReplaces)
        });
        assert_eq!(of(&["nothing"]), Err(ReferError::BadReplaces));
    }

    #[test]
    fn reports_may_be_declined() {
        for (said, declined) in [("false", true), ("FALSE;x=1", true), ("true", false)] {
            let mut headers = Headers::new();
            headers.push(HeaderName::ReferSub, said);
            assert_eq!(declines_reports(&headers), declined, "{said}");
        }
        assert!(!declines_reports(&Headers::new()));
    }
}
