//! Attributes with a grammar of their own. Each `parse` takes the value behind
//! the colon and returns `None` when it does not follow it.

use std::fmt;
use std::net::IpAddr;

/// RFC 8866 §6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub const ALL: [Self; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The same stream as the other side sees it.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            same => same,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// RFC 8866 §6.6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpMap {
    pub payload_type: u8,
    pub encoding: String,
    pub clock_rate: u32,
    pub channels: Option<u16>,
}

impl RtpMap {
    pub fn parse(value: &str) -> Option<Self> {
        let (payload_type, rest) = split_payload_type(value)?;
        let mut parts = rest.split('/');
        let encoding = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let clock_rate = parts.next()?.trim().parse().ok()?;
        let channels = parts.next().map(|channels| channels.trim().parse()).transpose().ok()?;
        Some(Self { payload_type, encoding, clock_rate, channels })
    }
}

impl fmt::Display for RtpMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.payload_type, self.encoding, self.clock_rate)?;
        self.channels.map_or(Ok(()), |channels| write!(f, "/{channels}"))
    }
}

/// RFC 8866 §6.15.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fmtp {
    pub payload_type: u8,
    pub params: String,
}

impl Fmtp {
    pub fn parse(value: &str) -> Option<Self> {
        let (payload_type, params) = split_payload_type(value)?;
        Some(Self { payload_type, params: params.to_owned() })
    }
}

impl fmt::Display for Fmtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.payload_type, self.params)
    }
}

fn split_payload_type(value: &str) -> Option<(u8, &str)> {
    let (payload_type, rest) = value.trim().split_once([' ', '\t'])?;
    Some((payload_type.parse().ok().filter(|number| *number < 128)?, rest.trim_start()))
}

/// One SDES key (RFC 4568 §9.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    pub tag: u32,
    /// `AES_CM_128_HMAC_SHA1_80`, …
    pub suite: String,
    /// Master key and salt, base64 as sent: some leave the padding out.
    pub key: String,
    /// `2^31` or a number of packets.
    pub lifetime: Option<String>,
    /// `value:length`; keys that need one are best refused.
    pub mki: Option<String>,
    pub session_params: Vec<String>,
}

impl Crypto {
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?;
        let tag = (tag.len() <= 9).then(|| tag.parse().ok()).flatten()?;
        let suite = words.next()?.to_owned();
        // Several keys may follow each other, told apart by their MKI.
        let first = words.next()?.split(';').next()?;
        let (method, info) = first.split_at_checked("inline:".len())?;
        if !method.eq_ignore_ascii_case("inline:") {
            return None;
        }
        let mut parts = info.split('|');
        let key = parts.next().filter(|key| !key.is_empty())?.to_owned();
        let (mki, lifetime): (Vec<_>, Vec<_>) = parts.partition(|part| part.contains(':'));
        Some(Self {
            tag,
            suite,
            key,
            lifetime: lifetime.first().map(|text| (*text).to_owned()),
            mki: mki.first().map(|text| (*text).to_owned()),
            session_params: words.map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} inline:{}", self.tag, self.suite, self.key)?;
        for part in [&self.lifetime, &self.mki].into_iter().flatten() {
            write!(f, "|{part}")?;
        }
        self.session_params.iter().try_for_each(|param| write!(f, " {param}"))
    }
}

/// Without the key.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// RFC 8122 §5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lower case: `sha-256`, …
    pub hash: String,
    /// The digest itself.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    pub fn parse(value: &str) -> Option<Self> {
        let (hash, digest) = value.trim().split_once([' ', '\t'])?;
        let digest = digest.trim().split(':').map(hex_byte).collect::<Option<Vec<u8>>>()?;
        Some(Self { hash: hash.to_ascii_lowercase(), digest })
    }
}

fn hex_byte(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(text, 16).ok())?
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest: Vec<_> = self.digest.iter().map(|byte| format!("{byte:02X}")).collect();
        write!(f, "{} {}", self.hash, digest.join(":"))
    }
}

/// Who opens the DTLS association (RFC 4145 §4, RFC 8842 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    Active,
    Passive,
    ActPass,
    HoldConn,
}

impl Setup {
    pub const ALL: [Self; 4] = [Self::Active, Self::Passive, Self::ActPass, Self::HoldConn];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
            Self::HoldConn => "holdconn",
        }
    }

    pub fn parse(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(value.trim()))
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// RFC 8839 §5.1.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate {
    pub foundation: String,
    pub component: u16,
    /// `udp`, `tcp`, as written.
    pub transport: String,
    pub priority: u32,
    /// An address, or a host name (mDNS: `….local`).
    pub address: String,
    pub port: u16,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub kind: String,
    /// `raddr`, `rport` and extensions, as pairs.
    pub extensions: Vec<(String, String)>,
}

impl Candidate {
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let foundation = words.next()?.to_owned();
        let component = words.next()?.parse().ok().filter(|id| (1..=256).contains(id))?;
        let transport = words.next()?.to_owned();
        let priority = words.next()?.parse().ok()?;
        let address = words.next()?.to_owned();
        let port = words.next()?.parse().ok()?;
        let kind = words.next().filter(|typ| *typ == "typ").and_then(|_| words.next())?.to_owned();
        let mut extensions = Vec::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            extensions.push((name.to_owned(), value.to_owned()));
        }
        Some(Self { foundation, component, transport, priority, address, port, kind, extensions })
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, component, transport, priority, address, port, kind, extensions } =
            self;
        write!(f, "{foundation} {component} {transport} {priority} {address} {port} typ {kind}")?;
        extensions.iter().try_for_each(|(name, value)| write!(f, " {name} {value}"))
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("component", &self.component).finish_non_exhaustive()
    }
}

/// Where RTCP goes when it is not the port above (RFC 3605).
#[derive(Clone, PartialEq, Eq)]
pub struct Rtcp {
    pub port: u16,
    /// `None`: the address of the media.
    pub address: Option<IpAddr>,
}

impl Rtcp {
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let port = words.next()?.parse().ok()?;
        let address = words.nth(2).map(str::parse).transpose().ok()?;
        Some(Self { port, address })
    }
}

impl fmt::Display for Rtcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.port)?;
        let Some(address) = self.address else { return Ok(()) };
        write!(f, " IN {} {address}", if address.is_ipv4() { "IP4" } else { "IP6" })
    }
}

impl fmt::Debug for Rtcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rtcp(..)")
    }
}
