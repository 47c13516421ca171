use std::net::SocketAddr;
use std::time::Instant;

use landline_control::{LegId, LegLocal, PayloadType, Spoken};
use landline_media::{Component, Leg};

use super::ice::IceShare;
use super::keys::Keys;
use super::playing::Playing;
use super::translation::Translation;
use crate::ports::PortPair;

/// A leg of a session on its shard.
pub(super) struct RelayLeg<S> {
    pub id: LegId,
    /// Where its session is.
    pub session: usize,
    pub machine: Leg,
    pub sockets: Sockets<S>,
    /// Where its peer's connections are.
    pub streams: Vec<usize>,
    /// By which checks name it: of its ICE credentials, and of those before.
    pub fragments: Vec<String>,
    /// Where the leg is that hears this one.
    pub partner: Option<usize>,
    /// Its packets go to the session's recording.
    pub recorded: bool,
    pub payload_types: Vec<PayloadType>,
    /// Where its peer and its partner's do not share every codec.
    pub spoken: Option<Box<Spoken>>,
    pub translation: Option<Box<Translation>>,
    /// What its peer hears from the relay itself.
    pub playing: Option<Box<Playing>>,
    /// Where its keys are told.
    pub keys: Keys,
    /// The earliest timer that is set for it.
    pub wake_at: Option<Instant>,
    /// Tells it from those that had its slot before.
    pub serial: u64,
}

impl<S> RelayLeg<S> {
    /// `None` for a connection, and for RTCP on a port that others share.
    pub fn socket(&self, component: Component) -> Option<&S> {
        match (&self.sockets, component) {
            (Sockets::Pair(pair), Component::Rtp) => Some(&pair.rtp),
            (Sockets::Pair(pair), Component::Rtcp) => Some(&pair.rtcp),
            (Sockets::Ice(share), Component::Rtp) => Some(&share.socket),
            (Sockets::Ice(_), Component::Rtcp) | (_, Component::Stream) => None,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.machine.poll_timeout().into_iter();
        own.chain(self.translation_timeout()).chain(self.playing_timeout()).min()
    }

    pub fn playing_timeout(&self) -> Option<Instant> {
        self.playing.as_ref()?.poll_timeout()
    }

    pub fn translation_timeout(&self) -> Option<Instant> {
        self.translation.as_ref()?.translator.poll_timeout()
    }

    pub fn local(&self) -> LegLocal {
        match &self.sockets {
            Sockets::Pair(pair) => self.machine.local(pair.advertised_rtp, pair.advertised_rtcp),
            Sockets::Ice(share) => self.machine.local(share.advertised, share.advertised),
        }
    }
}

/// By what a leg's packets come and go.
pub(super) enum Sockets<S> {
    Pair(PairSockets<S>),
    /// The port that the shard's legs with ICE share.
    Ice(IceShare<S>),
}

impl<S> Sockets<S> {
    pub fn ice(&self) -> Option<&IceShare<S>> {
        match self {
            Self::Pair(_) => None,
            Self::Ice(share) => Some(share),
        }
    }

    pub fn ice_mut(&mut self) -> Option<&mut IceShare<S>> {
        match self {
            Self::Pair(_) => None,
            Self::Ice(share) => Some(share),
        }
    }
}

/// Two sockets of a leg's own, and whence their ports are.
pub(super) struct PairSockets<S> {
    pub rtp: S,
    pub rtcp: S,
    pub pair: PortPair,
    /// Index of the local address in `Shared::addresses`.
    pub address: usize,
    pub advertised_rtp: SocketAddr,
    pub advertised_rtcp: SocketAddr,
}

const STREAM: u64 = 1 << 62;
const ICE: u64 = 1 << 61;

/// What is ready: a socket of a leg's own, a connection, or a port that legs
/// share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Leg(usize, Component),
    Stream(usize),
    Ice(usize),
}

/// What a socket's readiness is told with: the leg's slot and the component.
pub(super) fn token(slot: usize, component: Component) -> u64 {
    (slot as u64) << 1 | u64::from(component == Component::Rtcp)
}

/// The same for a connection: its own slot.
pub(super) fn stream_token(slot: usize) -> u64 {
    STREAM | slot as u64
}

/// The same for a port that legs share.
pub(super) fn ice_token(port: usize) -> u64 {
    ICE | port as u64
}

pub(super) fn from_token(token: u64) -> Ready {
    match (token & STREAM != 0, token & ICE != 0, token & 1) {
        (true, ..) => Ready::Stream((token & !STREAM) as usize),
        (_, true, _) => Ready::Ice((token & !ICE) as usize),
        (.., 0) => Ready::Leg((token >> 1) as usize, Component::Rtp),
        _ => Ready::Leg((token >> 1) as usize, Component::Rtcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_the_leg_and_the_socket() {
        for slot in [0, 1, 77_777] {
            for component in [Component::Rtp, Component::Rtcp] {
                assert_eq!(from_token(token(slot, component)), Ready::Leg(slot, component));
            }
            assert_eq!(from_token(stream_token(slot)), Ready::Stream(slot));
            assert_eq!(from_token(ice_token(slot)), Ready::Ice(slot));
        }
    }
}
