use std::fmt;
use std::net::IpAddr;

use crate::byte_str::ByteStr;
use crate::host::{self, Host};
use crate::params::{self, Params};
use crate::scan;
use crate::transport::Transport;

/// One hop's Via (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, PartialEq, Eq)]
pub struct Via {
    pub transport: ViaTransport,
    pub host: Host,
    pub port: Option<u16>,
    pub params: Params,
}

/// Hops before ours may use transports that we do not.
#[derive(Clone, PartialEq, Eq)]
pub enum ViaTransport {
    Known(Transport),
    Other(ByteStr),
}

impl Via {
    pub fn new(transport: Transport, host: Host, port: Option<u16>, branch: &str) -> Self {
        let params = Params::new().with("branch", Some(branch));
        Self { transport: ViaTransport::Known(transport), host, port, params }
    }

    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::from_text(&ByteStr::from(text))
    }

    /// One value, comma lists already split.
    pub(crate) fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let parts = ViaParts::split(text.as_bytes())?;
        let transport = match Transport::from_bytes(parts.transport) {
            Some(known) => ViaTransport::Known(known),
            None => ViaTransport::Other(text.part(parts.transport)),
        };
        let host = Host::from_text(&text.part(parts.host)).ok_or(BAD_HOST)?;
        Ok(Self {
            transport,
            host,
            port: parts.port,
            params: Params::from_checked(text.part(parts.params)),
        })
    }

    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch")
    }

    /// The branch when it identifies the transaction (§17.2.3); `None` for an
    /// older sender, also when nothing stands behind the magic cookie.
    pub fn rfc3261_branch(&self) -> Option<&str> {
        let branch = self.branch()?;
        let (cookie, rest) = branch.split_at_checked(COOKIE.len())?;
        (cookie.eq_ignore_ascii_case(COOKIE) && !rest.is_empty()).then_some(branch)
    }

    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.get("received")?;
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
    }

    pub fn set_received(&mut self, ip: IpAddr) {
        self.params.set("received", Some(&ip.to_string()));
    }

    /// `Some(None)`: asked for and not yet filled in (RFC 3581 §3).
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|port| port.parse().ok())
    }

    /// `None` writes the bare parameter, which asks for it.
    pub fn set_rport(&mut self, port: Option<u16>) {
        self.params.set("rport", port.map(|port| port.to_string()).as_deref());
    }

    /// What comes of the request's reply when its flow is gone: `sent-by`,
    /// with the transport's default port (RFC 3261 §18.2.2).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(self.transport.known().map_or(5060, Transport::default_port))
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0/");
        match &self.transport {
            ViaTransport::Known(known) => out.extend_from_slice(known.as_str().as_bytes()),
            ViaTransport::Other(name) => {
                out.extend(name.as_bytes().iter().filter(|byte| scan::is_token_byte(**byte)));
            }
        }
        out.push(b' ');
        self.host.write_to(out);
        if let Some(port) = self.port {
            out.push(b':');
            out.extend_from_slice(port.to_string().as_bytes());
        }
        self.params.write_to(out);
    }
}

const COOKIE: &str = "z9hG4bK";

impl ViaTransport {
    pub fn known(&self) -> Option<Transport> {
        match self {
            Self::Known(known) => Some(*known),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Debug for ViaTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.known().map_or("(other)", Transport::as_str))
    }
}

impl From<&Via> for ByteStr {
    fn from(via: &Via) -> Self {
        let mut out = Vec::with_capacity(96);
        via.write_to(&mut out);
        ByteStr::from(out)
    }
}

impl From<Via> for ByteStr {
    fn from(via: Via) -> Self {
        ByteStr::from(&via)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ByteStr::from(self).to_str_lossy())
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({:?}, {:?})", self.transport, self.params)
    }
}

const BAD_HOST: &str = "the host or port is malformed";

/// Checks one value without keeping anything of it.
pub(crate) fn check(text: &[u8]) -> Result<(), &'static str> {
    let parts = ViaParts::split(text)?;
    host::scan(parts.host).map(|_| ()).ok_or(BAD_HOST)
}

struct ViaParts<'a> {
    transport: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    params: &'a [u8],
}

impl<'a> ViaParts<'a> {
    /// White space may stand around every slash and colon (RFC 4475 §3.1.1.1).
    fn split(text: &'a [u8]) -> Result<Self, &'static str> {
        const PROTOCOL: &str = "the protocol is not SIP/2.0 over a transport";
        let (name, rest) = word(text, b'/').ok_or(PROTOCOL)?;
        let (version, rest) = word(rest, b'/').ok_or(PROTOCOL)?;
        if !name.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return Err(PROTOCOL);
        }
        let rest = scan::trim_start(rest);
        let end = rest.iter().position(|byte| !scan::is_token_byte(*byte)).ok_or(PROTOCOL)?;
        let (transport, rest) = rest.split_at_checked(end).unwrap_or_default();
        if transport.is_empty() || !rest.first().is_some_and(|byte| scan::is_space(*byte)) {
            return Err(PROTOCOL);
        }
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(end).unwrap_or_default();
        let (host, port) = split_sent_by(scan::trim(sent_by)).ok_or(BAD_HOST)?;
        params::check(params).map_or(Ok(()), Err)?;
        Ok(Self { transport, host, port, params })
    }
}

fn word(text: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let (word, rest) = text.split_at_checked(memchr::memchr(end, text)?)?;
    Some((scan::trim(word), rest.get(1..)?))
}

/// `host [":" port]`, where the colon may have space around it.
fn split_sent_by(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    if !text.iter().any(|byte| scan::is_space(*byte)) {
        return host::split_port(text);
    }
    let colon = memchr::memrchr(b':', text)?;
    let (host, port) = text.split_at_checked(colon)?;
    Some((scan::trim_end(host), Some(scan::number(scan::trim_start(port.get(1..)?))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via {
        check(text.as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        Via::parse(text).unwrap()
    }

    #[test]
    fn odd_white_space_is_read_over() {
        let odd = via("SIP  /    2.0   / UDP  192.168.255.111 : 5062  ; branch= z9hG4bK30239");
        assert_eq!(odd.to_string(), "SIP/2.0/UDP 192.168.255.111:5062;branch=z9hG4bK30239");
    }

    #[test]
    fn rport_and_received_are_asked_for_and_filled_in() {
        let mut hop = via("SIP/2.0/TLS [2001:db8::9]:5061;rport;branch=z9hG4bKa");
        assert_eq!((hop.rport(), hop.received()), (Some(None), None));
        hop.set_received("2001:db8::1".parse().unwrap());
        hop.set_rport(Some(40001));
        let again = via(&hop.to_string());
        assert_eq!(again.rport(), Some(Some(40001)));
        assert_eq!(again.received(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(again.branch(), Some("z9hG4bKa"));
    }

    #[test]
    fn a_branch_needs_more_than_the_cookie() {
        assert_eq!(via("SIP/2.0/UDP a;branch=z9hG4bK").rfc3261_branch(), None);
        assert_eq!(via("SIP/2.0/UDP a;branch=390skdjuw").rfc3261_branch(), None);
        assert_eq!(via("SIP/2.0/UDP a;branch=Z9HG4BKx").rfc3261_branch(), Some("Z9HG4BKx"));
        assert_eq!(via("SIP/2.0/UDP a").rfc3261_branch(), None);
    }

    #[test]
    fn unknown_transports_of_other_hops_are_kept() {
        let text = "SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf";
        assert_eq!(via(text).transport.known(), None);
        assert_eq!(via(text).to_string(), text);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 UDP a",
            "SIP/1.0/UDP a",
            "HTTP/1.1/TCP a",
            "SIP/2.0/UDPa",
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP a:x",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP [::1;branch=x",
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
