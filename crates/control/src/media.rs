use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// How a leg's packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Plain RTP: only where the user or the trunk is set to allow it.
    Rtp,
    /// SRTP with keys in the SDP (RFC 4568).
    Sdes,
    /// SRTP with keys from a DTLS handshake on the media path (RFC 5764).
    Dtls,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Rtp, Self::Sdes, Self::Dtls];

    /// As records, commands and the API write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::Sdes => "sdes",
            Self::Dtls => "dtls",
        }
    }
}

/// SRTP protection profiles by their SDES names (RFC 4568 §6.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SrtpSuite {
    AesCm128HmacSha1_80,
    AeadAes128Gcm,
    /// Where a DTLS 1.3 client asks for it first; not offered by SDES.
    AeadAes256Gcm,
}

impl SrtpSuite {
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Of those that SDES may carry.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::AesCm128HmacSha1_80, Self::AeadAes128Gcm]
            .into_iter()
            .find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Octets of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Octets of master key and master salt together: what `inline:` carries.
    pub const fn key_and_salt_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => self.key_len() + 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => self.key_len() + 12,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    V4,
    V6,
}

/// One SDES key: suite, `a=crypto` tag, and master key followed by master salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdesKey {
    pub tag: u32,
    pub suite: SrtpSuite,
    pub key_and_salt: Vec<u8>,
}

impl Drop for SdesKey {
    fn drop(&mut self) {
        self.key_and_salt.zeroize();
    }
}

impl fmt::Debug for SdesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SdesKey({} {} ‹secret›)", self.tag, self.suite.name())
    }
}

/// The two keys of an SDES leg once offer and answer have met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdesPair {
    /// What the relay protects with: the key in our own `a=crypto`.
    pub send: SdesKey,
    /// What the peer protects with: the key in its `a=crypto`.
    pub receive: SdesKey,
}

/// A master key followed by its master salt, as `inline:` carries them and a
/// DTLS handshake yields them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAndSalt(Vec<u8>);

impl KeyAndSalt {
    pub const fn new(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for KeyAndSalt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for KeyAndSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹secret›")
    }
}

/// What the packets of one component are protected with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    pub suite: SrtpSuite,
    /// The relay's.
    pub send: KeyAndSalt,
    /// The peer's.
    pub receive: KeyAndSalt,
}

/// The SRTP keys of a leg, so that another relay can go on with them: some
/// phones take no new ones within a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegKeys {
    pub protocol: Protocol,
    /// Of both components with SDES, and wherever they share a port.
    pub rtp: Option<KeyPair>,
    pub rtcp: Option<KeyPair>,
    /// The SSRCs that the peer was sent packets of under these keys. Nobody may
    /// use one anew: its keystream would be used twice.
    pub sent: Vec<u32>,
}

impl LegKeys {
    /// Whether packets of both would share a keystream under one SSRC.
    pub fn are_of(&self, other: &Self) -> bool {
        self.rtp == other.rtp && self.rtcp == other.rtcp
    }

    /// Takes note of what else was sent under these keys.
    pub fn add_sent(&mut self, ssrcs: &[u32]) {
        for ssrc in ssrcs {
            if !self.sent.contains(ssrc) {
                self.sent.push(*ssrc);
            }
        }
    }
}

/// RFC 8122 §5 hash functions that we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HashFunction {
    Sha256,
    Sha384,
    Sha512,
}

impl HashFunction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
    }
}

/// `a=fingerprint` (RFC 8122 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub hash: HashFunction,
    pub digest: Vec<u8>,
}

/// The relay's part in the DTLS handshake (RFC 5763 §5, RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtlsRole {
    /// `a=setup:active` in our description.
    Client,
    /// `a=setup:passive` in our description.
    Server,
}

/// What the peer signalled for DTLS. Any of the fingerprints may match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsParameters {
    pub fingerprints: Vec<Fingerprint>,
    /// Our own role. In an offer we say `actpass`; the answer decides.
    pub role: DtlsRole,
}

/// `a=ice-ufrag` and `a=ice-pwd` (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IceCredentials({}, ‹secret›)", self.ufrag)
    }
}

/// Direction as the *peer of this leg* may use it, seen from the relay:
/// `send` is relay to peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Direction {
    #[default]
    SendReceive,
    SendOnly,
    ReceiveOnly,
    Inactive,
}

/// One negotiated RTP payload type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadType {
    /// 0 to 127.
    pub number: u8,
    /// Encoding name as in `a=rtpmap`, upper-cased: `PCMU`, `OPUS`, `TELEPHONE-EVENT`.
    pub encoding: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    pub channels: u8,
}

impl PayloadType {
    /// The same format, whatever its number. Some name Opus with one channel
    /// (RFC 7587 §7 wants two), so Opus is Opus.
    pub fn is_same_format(&self, other: &Self) -> bool {
        self.encoding == other.encoding
            && self.clock_rate == other.clock_rate
            && (self.channels == other.channels || self.encoding == "OPUS")
    }
}

/// One payload type of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoType {
    /// 0 to 127.
    pub number: u8,
    /// Retransmissions (RFC 4588): they name the packet that they repeat.
    pub repeats: bool,
}

/// What a leg's peer says and takes, where the two sides of a call do not share
/// every codec: the relay transcodes what the other side does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// What the peer may send, by the numbers that it was told.
    pub says: Vec<PayloadType>,
    /// What it takes, by its own numbers, in the order it likes them.
    pub takes: Vec<PayloadType>,
    /// Milliseconds of sound that it wants in a packet (`a=ptime`).
    pub packet_ms: Option<u16>,
}

/// What the relay must know to allocate a leg, before or after the peer's
/// description is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSpec {
    pub protocol: Protocol,
    /// Answer connectivity checks as an ICE-lite agent (RFC 8445 §2.5).
    pub ice: bool,
    /// RTP and RTCP on one port (RFC 5761). With ICE that is certain, and the leg
    /// shares the relay's port for such; without ICE, it may be offered and not
    /// yet answered, and the relay allocates the RTCP port as well. A leg with ICE
    /// that says no has a port for RTCP, and may multiplex all the same.
    pub rtcp_mux: bool,
    pub family: IpFamily,
    /// For SDES: a key is made for each, in this order. Otherwise empty.
    pub suites: Vec<SrtpSuite>,
}

/// What the relay answers: everything our description of the leg needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegLocal {
    /// Advertised addresses. With `rtcp_mux`, `rtcp` may equal `rtp`.
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
    pub ice: Option<IceCredentials>,
    pub fingerprint: Option<Fingerprint>,
    /// One key per wanted suite, tags counted from 1 in order.
    pub sdes: Vec<SdesKey>,
}

/// What the peer's description says, as far as the relay needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// From `c=` and `m=`. Port 9 or an unspecified address with ICE.
    pub rtp: SocketAddr,
    /// From `a=rtcp`, else RTP's port plus one; equal to `rtp` with mux.
    pub rtcp: SocketAddr,
    pub rtcp_mux: bool,
    pub ice: Option<IceCredentials>,
    pub dtls: Option<DtlsParameters>,
    pub sdes: Option<SdesPair>,
    pub direction: Direction,
    pub payload_types: Vec<PayloadType>,
}

/// Counters of one direction of one leg since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StreamStats {
    pub packets: u64,
    pub octets: u64,
    /// Expected by sequence number minus received; never negative.
    pub lost: u64,
    /// RFC 3550 §6.4.1 interarrival jitter, in microseconds.
    pub jitter_us: u32,
    pub rtcp_packets: u64,
    /// RFC 4733 events begun.
    pub dtmf_events: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LegStats {
    /// From the peer to the relay.
    pub received: StreamStats,
    /// From the relay to the peer.
    pub sent: StreamStats,
    /// Encoding name of the last audio payload received, if any was.
    pub codec: Option<String>,
    /// Estimated listening quality of what was received, MOS × 100, if any was.
    pub mos_x100: Option<u16>,
    /// Packets dropped by cause, the causes' names as in the metrics.
    pub dropped: Vec<(String, u64)>,
    pub faults: Vec<MediaFault>,
}

/// Why a leg's media does not flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MediaFault {
    DtlsHandshakeFailed,
    DtlsFingerprintMismatch,
    /// Nothing received from this leg for the media timeout.
    MediaTimeout,
}
