//! Session descriptions (RFC 8866), with what SRTP, DTLS and ICE write into
//! them. Lines and attributes that nobody here knows survive a round trip.

mod attributes;
mod parse;
mod print;
mod view;

pub use attributes::{Candidate, Crypto, Direction, Fingerprint, Fmtp, Rtcp, RtpMap, Setup};
pub use parse::{SdpError, parse};

use std::fmt;
use std::net::IpAddr;

#[derive(Clone, PartialEq, Eq)]
pub struct SessionDescription {
    pub origin: Origin,
    /// `s=`; a single dash or space where there is none.
    pub name: String,
    pub connection: Option<Connection>,
    pub bandwidth: Vec<Bandwidth>,
    pub times: Vec<Time>,
    pub attributes: Vec<Attribute>,
    pub media: Vec<Media>,
    /// The lines above do not cover: `i=`, `u=`, `e=`, `p=`, `z=`, `k=`, and
    /// letters that no RFC knows.
    pub other: Vec<Line>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    pub username: String,
    /// Digits, of any length.
    pub session_id: String,
    /// Digits; must grow with every change (RFC 3264 §8).
    pub session_version: String,
    pub net_type: String,
    pub address_type: String,
    pub address: String,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    pub net_type: String,
    /// `IP4` or `IP6`.
    pub address_type: String,
    /// With `/ttl` for multicast.
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`, `TIAS`, `CT`, …
    pub kind: String,
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    pub start: String,
    pub stop: String,
    /// `r=` lines, unread.
    pub repeats: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: Option<String>,
}

/// A line kept as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    pub kind: char,
    pub value: String,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, …
    pub kind: String,
    /// 0: refused, or no longer wanted (RFC 3264 §6, §8.2).
    pub port: u16,
    pub port_count: Option<u16>,
    /// `RTP/AVP`, `UDP/TLS/RTP/SAVPF`, …
    pub protocol: String,
    /// Payload types, in order of preference.
    pub formats: Vec<String>,
    pub connection: Option<Connection>,
    pub bandwidth: Vec<Bandwidth>,
    pub attributes: Vec<Attribute>,
    /// `i=`, `k=` and unknown letters.
    pub other: Vec<Line>,
}

impl SessionDescription {
    /// An empty description of a session at `address`.
    pub fn new(session_id: u64, session_version: u64, address: IpAddr) -> Self {
        let connection = Connection::new(address);
        Self {
            origin: Origin {
                username: "-".into(),
                session_id: session_id.to_string(),
                session_version: session_version.to_string(),
                net_type: connection.net_type.clone(),
                address_type: connection.address_type.clone(),
                address: connection.address.clone(),
            },
            name: "-".into(),
            connection: Some(connection),
            bandwidth: Vec::new(),
            times: vec![Time { start: "0".into(), stop: "0".into(), repeats: Vec::new() }],
            attributes: Vec::new(),
            media: Vec::new(),
            other: Vec::new(),
        }
    }
}

impl Connection {
    pub fn new(address: IpAddr) -> Self {
        let address_type = if address.is_ipv4() { "IP4" } else { "IP6" };
        Self {
            net_type: "IN".into(),
            address_type: address_type.into(),
            address: address.to_string(),
        }
    }

    /// `None` for a host name or a multicast address with its TTL.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

impl Attribute {
    pub fn flag(name: &str) -> Self {
        Self { name: name.into(), value: None }
    }

    pub fn new(name: &str, value: impl fmt::Display) -> Self {
        Self { name: name.into(), value: Some(value.to_string()) }
    }
}

impl Media {
    pub fn new(kind: &str, port: u16, protocol: &str, formats: Vec<String>) -> Self {
        Self {
            kind: kind.into(),
            port,
            port_count: None,
            protocol: protocol.into(),
            formats,
            connection: None,
            bandwidth: Vec::new(),
            attributes: Vec::new(),
            other: Vec::new(),
        }
    }

    /// Refused or removed.
    pub fn is_disabled(&self) -> bool {
        self.port == 0
    }
}

/// Keys, addresses and names stay out of every log: each `Debug` here shows
/// the shape alone.
impl fmt::Debug for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDescription")
            .field("attributes", &self.attributes)
            .field("media", &self.media)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("disabled", &self.is_disabled())
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map_or(0, String::len);
        write!(f, "Attribute({} bytes, {value} bytes)", self.name.len())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin(..)")
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection(..)")
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes)", self.value.len())
    }
}
