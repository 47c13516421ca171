use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::byte_str::ByteStr;

/// A host as a URI or a Via names it.
#[derive(Clone, Eq)]
pub enum Host {
    Name(ByteStr),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    /// `example.com`, `192.0.2.1` or `[2001:db8::1]`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_text(&ByteStr::from(text))
    }

    pub(crate) fn from_text(text: &ByteStr) -> Option<Self> {
        Some(match scan(text.as_bytes())? {
            Scanned::Name => Self::Name(text.clone()),
            Scanned::Ip(IpAddr::V4(ip)) => Self::V4(ip),
            Scanned::Ip(IpAddr::V6(ip)) => Self::V6(ip),
        })
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(ip) => Some(IpAddr::V4(*ip)),
            Self::V6(ip) => Some(IpAddr::V6(*ip)),
        }
    }

    /// `None` for an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => name.as_str(),
            _ => None,
        }
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Name(name) => {
                out.extend(name.as_bytes().iter().filter(|byte| is_name_byte(**byte)));
            }
            address => out.extend_from_slice(address.to_string().as_bytes()),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6(ip),
        }
    }
}

/// Names ignore letter case (RFC 3261 §19.1.4).
impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.as_bytes().eq_ignore_ascii_case(b.as_bytes()),
            _ => self.ip() == other.ip() && self.ip().is_some(),
        }
    }
}

impl std::hash::Hash for Host {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Name(name) => {
                name.as_bytes().iter().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
            }
            address => address.ip().hash(state),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.to_str_lossy()),
            Self::V4(ip) => write!(f, "{ip}"),
            Self::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(_) => "Host::Name(..)",
            Self::V4(_) => "Host::V4(..)",
            Self::V6(_) => "Host::V6(..)",
        })
    }
}

pub(crate) enum Scanned {
    Name,
    Ip(IpAddr),
}

pub(crate) fn scan(text: &[u8]) -> Option<Scanned> {
    let last = text.last()?;
    if let Some(inside) = text.strip_prefix(b"[") {
        let inside = std::str::from_utf8(inside.strip_suffix(b"]")?).ok()?;
        return Some(Scanned::Ip(IpAddr::V6(inside.parse().ok()?)));
    }
    // No top-level domain ends in a digit, so what does must be an address
    // (RFC 3261 §25.1: a toplabel begins with a letter).
    if last.is_ascii_digit()
        && let Some(ip) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
    {
        return Some(Scanned::Ip(IpAddr::V4(ip)));
    }
    text.iter().all(|byte| is_name_byte(*byte)).then_some(Scanned::Name)
}

/// The underscore is in no host name by the book and in many private ones.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// `host[:port]`, the port within 0..=65535.
pub(crate) fn split_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let behind = match text.first()? {
        b'[' => memchr::memchr(b']', text)? + 1,
        _ => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(behind)?;
    match rest.strip_prefix(b":") {
        None => rest.is_empty().then_some((host, None)),
        Some(port) => Some((host, Some(crate::scan::number(port)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        assert_eq!(Host::parse("192.0.2.1"), Some(Host::V4([192, 0, 2, 1].into())));
        assert_eq!(Host::parse("[2001:db8::9:1]").unwrap().to_string(), "[2001:db8::9:1]");
        assert_eq!(Host::parse("Example.COM"), Host::parse("example.com"));
        assert!(Host::parse("2001:db8::1").is_none());
        assert!(Host::parse("[2001:db8::1").is_none());
        assert!(Host::parse("exa mple").is_none());
        assert!(Host::parse("").is_none());
    }

    #[test]
    fn ports_stay_within_their_range() {
        assert_eq!(split_port(b"a:5060"), Some((&b"a"[..], Some(5060))));
        assert_eq!(split_port(b"[::1]:5060"), Some((&b"[::1]"[..], Some(5060))));
        assert_eq!(split_port(b"a"), Some((&b"a"[..], None)));
        for bad in ["a:", "a:65536", "a:-1", "[::1]x", "[::1", "a:50 60"] {
            assert_eq!(split_port(bad.as_bytes()), None, "{bad}");
        }
    }
}
