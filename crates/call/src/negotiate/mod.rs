//! Session descriptions: from the peers' SDP to what a relay must know of a leg,
//! and back to SDP of our own (RFC 3264). Audio, and between browsers video
//! beside it; other media are refused line by line.
//!
//! Nothing of one side's description reaches the other but its codecs, its
//! packet times and the direction of its media.

mod codec;
mod leg_media;
mod profile;
mod read;
mod transcoding;
mod video;
mod write;

pub(crate) use codec::Codec;
pub(crate) use leg_media::{KeptVideo, LegMedia, Terms};
pub(crate) use profile::{
    Profile, Profiles, accepts_plain_trunk, accepts_plain_user, region_profiles, trunk_profiles,
    user_profiles,
};
pub(crate) use read::Description;
pub(crate) use transcoding::{heard_here, speak};

/// Why a description is refused; becomes 400 or 488 and a Warning
/// (RFC 3261 §20.43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// Not SDP at all.
    Unreadable,
    NoAudio,
    Transport,
    Address,
    Codec,
    /// Plain RTP where encryption is required.
    Unencrypted,
    /// Encrypted, with nothing that we have in common.
    Keys,
    /// No ICE, or RTCP apart, where nothing else finds the peer.
    Checks,
}

impl Mismatch {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Unreadable => 400,
            _ => 488,
        }
    }

    /// Warning code and text.
    pub(crate) fn warning(self) -> (u16, &'static str) {
        match self {
            Self::Unreadable => (399, "the session description cannot be read"),
            Self::NoAudio => (304, "no audio stream that can be used"),
            Self::Transport => (302, "no transport protocol in common"),
            Self::Address => (301, "no network address that can be used"),
            Self::Codec => (305, "no media format in common"),
            Self::Unencrypted => (399, "encryption is required: offer SRTP by DTLS or SDES"),
            Self::Keys => (399, "no SRTP suite or fingerprint that can be used"),
            Self::Checks => {
                (399, "ICE is required: ice-ufrag, ice-pwd and rtcp-mux, of which one is missing")
            }
        }
    }
}
