//! One media leg: classify, ICE-lite, DTLS, SRTP, RTP and RTCP, statistics, audio

pub mod audio;
mod dtls;
pub mod framing;
mod ice;
mod identity;
pub mod keys;
mod leg;
mod packet;
pub mod play;
mod quality;
pub mod rtcp;
pub mod rtp;
pub mod srtp;
pub mod stun;
pub mod translate;

pub use identity::{Identity, IdentityError, fingerprint};
pub use leg::{
    Component, DropCause, Drops, DtlsBackend, Heard, Leg, LegConfig, LegOutput, Received,
    RemoteError,
};
pub use packet::{MAX_PACKET, PacketBuf};
pub use rtp::RtpInfo;
pub use srtp::Rollover;
