use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::byte_str::ByteStr;
use crate::host::{self, Host};
use crate::params::{self, Params};
use crate::scan;
use crate::transport::Transport;

/// `sip:`, `sips:` and `tel:` URIs taken apart (RFC 3261 §19.1, RFC 3966);
/// any other scheme is kept whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    pub scheme: Scheme,
    /// As written, escapes and all. Of a `tel:` URI the number; of another
    /// scheme everything behind the colon.
    pub user: Option<ByteStr>,
    pub password: Option<ByteStr>,
    /// An empty name where the scheme has no host.
    pub host: Host,
    pub port: Option<u16>,
    pub params: Params,
    /// What stands behind the `?`, as written.
    pub headers: Option<ByteStr>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// As it was written.
    Other(ByteStr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a URI: {0}")]
pub struct InvalidUri(pub(crate) &'static str);

impl Uri {
    /// `sip:user@host`; what the user part may not hold is escaped.
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(|user| ByteStr::from(escape_user(user))),
            password: None,
            host,
            port,
            params: Params::new(),
            headers: None,
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        Self::from_text(&ByteStr::from(text))
    }

    pub(crate) fn from_text(text: &ByteStr) -> Result<Self, InvalidUri> {
        let parts = UriParts::scan(text.as_bytes())?;
        let own = |part: &[u8]| text.part(part);
        Ok(Self {
            scheme: match parts.scheme {
                SchemeKind::Sip => Scheme::Sip,
                SchemeKind::Sips => Scheme::Sips,
                SchemeKind::Tel => Scheme::Tel,
                SchemeKind::Other(name) => Scheme::Other(own(name)),
            },
            user: parts.user.map(own),
            password: parts.password.map(own),
            host: match parts.ip {
                Some(ip) => Host::from(ip),
                None => Host::Name(own(parts.host)),
            },
            port: parts.port,
            params: Params::from_checked(own(parts.params)),
            headers: parts.headers.map(own),
        })
    }

    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part without its escapes.
    pub fn user_decoded(&self) -> Option<Cow<'_, str>> {
        let user = self.user.as_ref()?;
        match user.as_str() {
            Some(text) if !text.contains('%') => Some(Cow::Borrowed(text)),
            _ => {
                let decoded = scan::percent_decode(user.as_bytes());
                Some(Cow::Owned(String::from_utf8_lossy(&decoded).into_owned()))
            }
        }
    }

    /// See [`Params::get`].
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name)
    }

    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.set(name, value);
        self
    }

    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Whether a route set through this URI is a loose one (RFC 3261 §16.12).
    pub fn is_loose_router(&self) -> bool {
        self.params.contains("lr")
    }

    /// What the `transport` parameter asks for; `None` when absent or unknown.
    pub fn transport(&self) -> Option<Transport> {
        self.param("transport").and_then(Transport::parse)
    }

    /// The URI's own port, or its scheme's (RFC 3261 §19.1.2).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Sips => 5061,
            _ if self.transport() == Some(Transport::Tls) => 5061,
            _ => 5060,
        })
    }

    /// Whether both name the same resource (RFC 3261 §19.1.4; RFC 3966 §5 for
    /// `tel:`).
    pub fn matches(&self, other: &Self) -> bool {
        if self.scheme != other.scheme {
            return false;
        }
        match self.scheme {
            Scheme::Sip | Scheme::Sips => self.matches_sip(other),
            Scheme::Tel => {
                number_digits(&self.user) == number_digits(&other.user)
                    && self.params_by_name() == other.params_by_name()
            }
            Scheme::Other(_) => self.user == other.user && self.headers == other.headers,
        }
    }

    fn matches_sip(&self, other: &Self) -> bool {
        let decoded = |part: &Option<ByteStr>| {
            part.as_ref().map(|part| scan::percent_decode(part.as_bytes()))
        };
        decoded(&self.user) == decoded(&other.user)
            && decoded(&self.password) == decoded(&other.password)
            && self.host == other.host
            && self.port == other.port
            && self.params_agree(other)
            && self.sorted_headers() == other.sorted_headers()
    }

    /// Parameters in both must agree; these five must agree even when one side
    /// lacks them.
    fn params_agree(&self, other: &Self) -> bool {
        const ALWAYS: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
        let (mine, theirs) = (self.params_by_name(), other.params_by_name());
        let covered = |from: &Vec<(Vec<u8>, Vec<u8>)>, to: &Vec<(Vec<u8>, Vec<u8>)>| {
            from.iter().all(|(name, value)| match to.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => to.get(at).is_some_and(|(_, other)| other == value),
                Err(_) => !ALWAYS.contains(&name.as_slice()),
            })
        };
        covered(&mine, &theirs) && covered(&theirs, &mine)
    }

    /// Unescaped, in lower case, sorted: thousands of parameters must not cost
    /// the square of it. Of one that stands twice, which §19.1.1 forbids, the
    /// first counts, as in [`Params::get`].
    fn params_by_name(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let plain = |text: &[u8]| scan::percent_decode(text).to_ascii_lowercase();
        let mut all: Vec<_> = params::iter(self.params.as_bytes())
            .map(|param| (plain(param.name), plain(param.value.unwrap_or_default())))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, first| later.0 == first.0);
        all
    }

    fn sorted_headers(&self) -> Vec<Vec<u8>> {
        let text = self.headers.as_ref().map_or(&[][..], ByteStr::as_bytes);
        let mut headers: Vec<_> = text
            .split(|byte| *byte == b'&')
            .filter(|header| !header.is_empty())
            .map(|header| scan::percent_decode(header).to_ascii_lowercase())
            .collect();
        headers.sort();
        headers
    }

    /// What could end the URI, or the line it stands in, is escaped.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        match &self.scheme {
            Scheme::Sip => out.extend_from_slice(b"sip:"),
            Scheme::Sips => out.extend_from_slice(b"sips:"),
            Scheme::Tel => out.extend_from_slice(b"tel:"),
            Scheme::Other(name) => {
                out.extend(name.as_bytes().iter().filter(|byte| is_scheme_byte(**byte)));
                out.push(b':');
            }
        }
        if let Some(user) = &self.user {
            write_clean(out, user.as_bytes());
            if let Some(password) = &self.password {
                out.push(b':');
                write_clean(out, password.as_bytes());
            }
            if self.is_sip() {
                out.push(b'@');
            }
        }
        self.host.write_to(out);
        if let Some(port) = self.port {
            out.push(b':');
            out.extend_from_slice(port.to_string().as_bytes());
        }
        write_clean(out, self.params.as_bytes());
        if let Some(headers) = &self.headers {
            out.push(b'?');
            write_clean(out, headers.as_bytes());
        }
    }
}

impl FromStr for Uri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        Self::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(64);
        self.write_to(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// The scheme alone: the rest names people and machines.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({:?}:..)", self.scheme)
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sip => "sip",
            Self::Sips => "sips",
            Self::Tel => "tel",
            Self::Other(_) => "(other scheme)",
        })
    }
}

/// A URI's parts, borrowed; checking one this way allocates nothing.
pub(crate) struct UriParts<'a> {
    pub(crate) scheme: SchemeKind<'a>,
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    host: &'a [u8],
    ip: Option<std::net::IpAddr>,
    port: Option<u16>,
    params: &'a [u8],
    pub(crate) headers: Option<&'a [u8]>,
}

pub(crate) enum SchemeKind<'a> {
    Sip,
    Sips,
    Tel,
    Other(&'a [u8]),
}

impl<'a> UriParts<'a> {
    pub(crate) fn scan(text: &'a [u8]) -> Result<Self, InvalidUri> {
        if text.iter().any(|byte| !is_uri_byte(*byte)) {
            return Err(InvalidUri("it holds a space, a quote or a bracket"));
        }
        let colon = memchr::memchr(b':', text).ok_or(InvalidUri("it has no scheme"))?;
        let (scheme, rest) = text.split_at_checked(colon).unwrap_or_default();
        let rest = rest.get(1..).unwrap_or_default();
        let scheme = SchemeKind::scan(scheme).ok_or(InvalidUri("its scheme is malformed"))?;
        match scheme {
            SchemeKind::Sip | SchemeKind::Sips => Self::scan_sip(scheme, rest),
            SchemeKind::Tel => Self::scan_tel(rest),
            SchemeKind::Other(_) if rest.is_empty() => Err(InvalidUri("its scheme has no rest")),
            SchemeKind::Other(_) => Ok(Self::opaque(scheme, rest, &[])),
        }
    }

    fn scan_sip(scheme: SchemeKind<'a>, rest: &'a [u8]) -> Result<Self, InvalidUri> {
        // `;` and `?` are ordinary characters of a user part, so it is the `@`
        // that has to be looked for first (RFC 4475 §3.1.1.9).
        let (userinfo, rest) = split_at_byte(rest, b'@');
        let (userinfo, rest) = match rest {
            Some(rest) => (Some(userinfo), rest),
            None => (None, userinfo),
        };
        let (rest, headers) = split_at_byte(rest, b'?');
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (hostport, params) = rest.split_at_checked(end).unwrap_or_default();
        let (host, port) =
            host::split_port(hostport).ok_or(InvalidUri("its host or port is malformed"))?;
        let ip = match host::scan(host).ok_or(InvalidUri("its host is malformed"))? {
            host::Scanned::Name => None,
            host::Scanned::Ip(ip) => Some(ip),
        };
        check_params(params)?;
        let (user, password) = match userinfo.map(|info| split_at_byte(info, b':')) {
            Some(([], _)) => return Err(InvalidUri("its user part is empty")),
            Some((user, password)) => (Some(user), password),
            None => (None, None),
        };
        Ok(Self { scheme, user, password, host, ip, port, params, headers })
    }

    fn scan_tel(rest: &'a [u8]) -> Result<Self, InvalidUri> {
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (number, params) = rest.split_at_checked(end).unwrap_or_default();
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        // RFC 3966 §3: local numbers may hold hexadecimal digits, * and #.
        let is_number = |b: &u8| b.is_ascii_hexdigit() || b"-.()*#".contains(b);
        if !digits.iter().any(u8::is_ascii_hexdigit) || !digits.iter().all(is_number) {
            return Err(InvalidUri("its telephone number is malformed"));
        }
        check_params(params)?;
        Ok(Self::opaque(SchemeKind::Tel, number, params))
    }

    fn opaque(scheme: SchemeKind<'a>, user: &'a [u8], params: &'a [u8]) -> Self {
        Self {
            scheme,
            user: Some(user),
            password: None,
            host: &[],
            ip: None,
            port: None,
            params,
            headers: None,
        }
    }
}

impl<'a> SchemeKind<'a> {
    fn scan(scheme: &'a [u8]) -> Option<Self> {
        Some(match scheme.len() {
            3 if scheme.eq_ignore_ascii_case(b"sip") => Self::Sip,
            4 if scheme.eq_ignore_ascii_case(b"sips") => Self::Sips,
            3 if scheme.eq_ignore_ascii_case(b"tel") => Self::Tel,
            _ if scheme.first()?.is_ascii_alphabetic()
                && scheme.iter().all(|b| is_scheme_byte(*b)) =>
            {
                Self::Other(scheme)
            }
            _ => return None,
        })
    }
}

fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(byte, text).and_then(|at| text.split_at_checked(at)) {
        Some((before, rest)) => (before, rest.get(1..)),
        None => (text, None),
    }
}

/// Each must have a name; RFC 4475 §3.1.2.1's `;;;` is none.
fn check_params(text: &[u8]) -> Result<(), InvalidUri> {
    let nameless = |param: &[u8]| matches!(param.first(), None | Some(b'='));
    match text.strip_prefix(b";") {
        Some(params) if params.split(|byte| *byte == b';').any(nameless) => {
            Err(InvalidUri("a parameter of it has no name"))
        }
        _ => Ok(()),
    }
}

fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What may stand in a URI without moving the border of what it stands in.
/// Bytes past ASCII ought to be escaped and sometimes are not.
fn is_uri_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !matches!(byte, b'<' | b'>' | b'"')
}

fn write_clean(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| is_uri_byte(*byte)) {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        if is_uri_byte(*byte) { out.push(*byte) } else { write_escape(out, *byte) }
    }
}

/// RFC 3261 §25.1 `user`: unreserved and user-unreserved stay.
fn escape_user(user: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(byte);
        } else {
            write_escape(&mut out, byte);
        }
    }
    out
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// A number without its visual separators (RFC 3966 §3).
fn number_digits(number: &Option<ByteStr>) -> Vec<u8> {
    let number = number.as_ref().map_or(&[][..], ByteStr::as_bytes);
    let separator = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')');
    number.iter().filter(|byte| !separator(byte)).map(u8::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_part_is_found() {
        let uri = uri("sips:al%69ce:secret@[2001:db8::1]:5071;transport=TCP;lr?Subject=x&P=1");
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user_decoded().as_deref(), Some("alice"));
        assert!(uri.password.clone().unwrap() == "secret");
        assert_eq!(uri.host.to_string(), "[2001:db8::1]");
        assert_eq!(uri.port, Some(5071));
        assert_eq!(uri.transport(), Some(Transport::Tcp));
        assert!(uri.is_loose_router());
        assert!(uri.headers.clone().unwrap() == "Subject=x&P=1");
        assert_eq!(
            uri.to_string(),
            "sips:al%69ce:secret@[2001:db8::1]:5071;transport=TCP;lr?Subject=x&P=1"
        );
    }

    #[test]
    fn a_user_part_may_hold_semicolons_and_question_marks() {
        let uri = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!(uri.user_decoded().as_deref(), Some("user;par=u@example.net"));
        assert!(uri.params.is_empty());
        assert_eq!(Uri::parse("sip:a?b;c@d").unwrap().host.name(), Some("d"));
    }

    #[test]
    fn tel_numbers_are_users_and_compare_without_separators() {
        let number = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!(number.user_decoded().as_deref(), Some("+1-201-555-0123"));
        assert_eq!(number.param("phone-context"), Some("example.com"));
        assert!(number.matches(&uri("TEL:+12015550123;Phone-Context=EXAMPLE.com")));
        assert!(!number.matches(&uri("tel:+12015550124;phone-context=example.com")));
        assert!(!uri("tel:0123;phone-context=a").matches(&uri("tel:0123;phone-context=b")));
        assert_eq!(number.to_string(), "tel:+1-201-555-0123;phone-context=example.com");
    }

    #[test]
    fn foreign_schemes_are_kept_whole() {
        let text = "nobodyKnowsThisScheme:totallyopaquecontent?x;y";
        assert_eq!(uri(text).to_string(), text);
    }

    /// The examples of RFC 3261 §19.1.4.
    #[test]
    fn equality_follows_the_rfc() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(uri(a).matches(&uri(b)) && uri(b).matches(&uri(a)), "{a} {b}");
        }
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
        ] {
            assert!(!uri(a).matches(&uri(b)) && !uri(b).matches(&uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            ":",
            "sip",
            "sip:",
            "<sip:a@b>",
            "sip:a b@c",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b:port",
            "sip:a@b:99999",
            "sip:a@[::1",
            "sip:a@b;",
            "sip:a@b;;x",
            "sip:a@b;=1",
            "tel:",
            "tel:abc!",
            "tel:+",
            "1sip:a@b",
            "t.watson@example.org",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_set_in_code_ends_the_line() {
        let mut uri = Uri::sip(Some("a@b\r\nEvil: 1"), Host::parse("c").unwrap(), None);
        assert_eq!(uri.to_string(), "sip:a%40b%0D%0AEvil%3A%201@c");
        uri.user = Some("x> y\r\n".into());
        assert_eq!(uri.to_string(), "sip:x%3E%20y%0D%0A@c");
    }
}
