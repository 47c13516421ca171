use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landline_control::{LegKeys, LegSpec, MediaFault};
use landline_region::Seed;

use crate::identity::Identity;
use crate::leg::DropCause;
use crate::rtp::RtpInfo;
use crate::srtp::Rollover;

/// Which socket of the leg, and what kind of packet. With RTCP multiplexed
/// everything comes and goes by the RTP socket (RFC 5761).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    Rtp,
    Rtcp,
    /// A connection that the peer made (RFC 6544), told from others by the
    /// peer's address. It carries what the RTP socket does, RTCP multiplexed.
    Stream,
}

impl Component {
    /// Which of ICE's components it belongs to, from 0.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Rtp | Self::Stream => 0,
            Self::Rtcp => 1,
        }
    }
}

/// Which DTLS implementation a leg uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtlsBackend {
    /// Takes peers with RSA and ECDSA certificates. As the server it speaks DTLS
    /// 1.3 with who offers that, and 1.2 else; as the client, 1.2.
    #[default]
    Primary,
    /// The same, without DTLS 1.3.
    Primary12,
    /// DTLS 1.2, independent of the primary one; takes ECDSA certificates only.
    Dimpl,
    /// DTLS 1.3 and no other; takes ECDSA certificates only.
    Dimpl13,
}

/// What a leg is made from.
#[derive(Debug, Clone)]
pub struct LegConfig {
    pub spec: LegSpec,
    /// Must be there when the specification's protocol is DTLS.
    pub identity: Option<Arc<Identity>>,
    pub dtls_backend: DtlsBackend,
    /// How long a leg that should bring media may be silent.
    pub media_timeout: Duration,
    /// How long plain media from an address that was not signalled may become
    /// the peer's: after its description, after the first packet sent to it,
    /// and after [`super::Leg::open_latch`].
    pub latch_window: Duration,
    /// How long a DTLS handshake may take from its first sign of life.
    pub handshake_timeout: Duration,
    /// How the peer's streams are understood when its SDES key has changed.
    pub rollover: Rollover,
    /// The keys that its peer has with another relay: the leg goes on with them.
    pub resume: Option<LegKeys>,
    /// Makes ICE credentials and SDES keys. Never use one twice.
    pub seed: Seed,
}

impl LegConfig {
    pub fn new(spec: LegSpec, identity: Option<Arc<Identity>>, seed: Seed) -> Self {
        Self {
            spec,
            identity,
            dtls_backend: DtlsBackend::default(),
            media_timeout: Duration::from_secs(60),
            latch_window: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(30),
            rollover: Rollover::default(),
            resume: None,
            seed,
        }
    }
}

/// What became of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The buffer holds the plain RTP packet.
    Rtp(RtpInfo),
    /// The same, of a stream that is no sound.
    Video(RtpInfo),
    /// The buffer holds the plain RTCP compound.
    Rtcp,
    /// It was for the leg itself (STUN, DTLS); see [`super::Leg::poll_output`].
    Handled,
    Dropped(DropCause),
}

/// What a leg wants done or known.
#[derive(Debug)]
pub enum LegOutput {
    /// Send this by that socket: a STUN answer or a part of a DTLS flight.
    Transmit {
        component: Component,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// The first authentic media arrived; for plain RTP, the latched stream.
    Started,
    Fault(MediaFault),
    /// The leg's keys, or the streams sent under them, are others than before.
    Keyed(Box<LegKeys>),
}

/// Why a peer's description does not fit the leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    #[error("it has no SDES keys")]
    NoSdesKeys,
    #[error("the SDES key to send with is none of those offered")]
    ForeignSendKey,
    #[error("an SDES key has the wrong length for its suite")]
    SdesKeyLength,
    #[error("it has no DTLS fingerprint")]
    NoFingerprint,
    #[error("the leg has no DTLS identity")]
    NoIdentity,
}
