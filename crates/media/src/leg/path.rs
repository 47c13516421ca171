//! Where a leg's peer is (the rule that media addresses move only on proof).
//!
//! What authenticates moves the address at once. Plain packets prefer the
//! signalled address; another source latches only while the window is open and
//! the signalled address is silent, and from then on the path is strict.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// In a window that opened anew, a stranger may follow a source that has been
/// silent for this long: the peer's NAT binding changed.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub struct Path {
    signalled: Option<SocketAddr>,
    current: Option<SocketAddr>,
    heard: Option<Instant>,
    window_end: Option<Instant>,
}

impl Path {
    /// Takes the address of the peer's description. What was learnt stays when
    /// the description says the same again.
    pub fn signal(&mut self, address: SocketAddr) {
        let usable = usable(address).then_some(address);
        if usable != self.signalled || usable.is_none() {
            *self = Self { signalled: usable, ..Self::default() };
        }
    }

    pub fn open_window(&mut self, end: Instant) {
        self.window_end = Some(end);
    }

    /// Whether a plain packet from this source is the peer's; learns from it.
    /// `within` limits a stranger to one host: RTCP's to where RTP comes from.
    pub fn admit_plain(&mut self, now: Instant, from: SocketAddr, within: Option<IpAddr>) -> bool {
        if self.current != Some(from) && !self.may_move(now, from, within) {
            return false;
        }
        self.current = Some(from);
        self.heard = Some(now);
        true
    }

    fn may_move(&self, now: Instant, from: SocketAddr, within: Option<IpAddr>) -> bool {
        let open = self.window_end.is_some_and(|end| now < end);
        match self.current {
            // The first packet from where the peer said it is needs no window.
            None if self.signalled == Some(from) => true,
            None => open && within.is_none_or(|host| host == from.ip()),
            Some(_) if !open => false,
            // The signalled address wins over a stranger that was faster.
            Some(_) if self.signalled == Some(from) => true,
            Some(current) => {
                let silent = self.heard.is_none_or(|heard| now >= heard + SILENCE);
                silent
                    && Some(current) != self.signalled
                    && within.is_none_or(|host| host == from.ip())
            }
        }
    }

    /// The source of an authentic packet is the peer.
    pub fn prove(&mut self, now: Instant, from: SocketAddr) {
        self.current = Some(from);
        self.heard = Some(now);
    }

    /// Whether DTLS from this source, not the signalled one, may be heard: the
    /// peer's handshake from behind a NAT, or repeats of its last flight.
    pub fn may_handshake(&self, now: Instant, from: SocketAddr) -> bool {
        self.current == Some(from) || self.window_end.is_some_and(|end| now < end)
    }

    pub fn is_signalled(&self, from: SocketAddr) -> bool {
        self.signalled == Some(from)
    }

    pub fn target(&self) -> Option<SocketAddr> {
        self.current.or(self.signalled)
    }

    pub fn current(&self) -> Option<SocketAddr> {
        self.current
    }
}

/// Port 9 is "discard": what an ICE agent writes before it knows (RFC 8839 §4.3).
fn usable(address: SocketAddr) -> bool {
    !address.ip().is_unspecified() && !matches!(address.port(), 0 | 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn fresh() -> (Path, Instant) {
        let now = Instant::now();
        let mut path = Path::default();
        path.signal(at(4000));
        path.open_window(now + Duration::from_secs(5));
        (path, now)
    }

    #[test]
    fn a_stranger_latches_only_while_the_window_is_open() {
        let (mut path, now) = fresh();
        assert!(!path.admit_plain(now + Duration::from_secs(5), at(5000), None));
        assert!(path.admit_plain(now + Duration::from_secs(4), at(5000), None));
        assert_eq!(path.target(), Some(at(5000)));
        assert!(!path.admit_plain(now + Duration::from_secs(4), at(6000), None));
        assert!(path.admit_plain(now + Duration::from_secs(40), at(5000), None), "and keeps it");
    }

    #[test]
    fn the_signalled_address_wins_over_a_faster_stranger() {
        let (mut path, now) = fresh();
        assert!(path.admit_plain(now, at(5000), None));
        assert!(path.admit_plain(now, at(4000), None));
        assert!(!path.admit_plain(now, at(5000), None));
        assert_eq!(path.target(), Some(at(4000)));
    }

    #[test]
    fn the_signalled_address_is_heard_however_late_it_speaks() {
        let (mut path, now) = fresh();
        assert!(path.admit_plain(now + Duration::from_secs(50), at(4000), None));
    }

    #[test]
    fn a_stranger_never_replaces_the_signalled_address() {
        let (mut path, now) = fresh();
        assert!(path.admit_plain(now, at(4000), None));
        assert!(!path.admit_plain(now + Duration::from_secs(4), at(5000), None));
    }

    #[test]
    fn rtcp_of_a_stranger_must_come_from_the_host_of_its_rtp() {
        let (mut path, now) = fresh();
        let host = Some(IpAddr::from([198, 51, 100, 1]));
        assert!(!path.admit_plain(now, at(5001), host));
        assert!(path.admit_plain(now, at(5001), Some(at(5000).ip())));
    }

    #[test]
    fn a_description_that_says_the_same_again_keeps_what_was_learnt() {
        let (mut path, now) = fresh();
        path.prove(now, at(5000));
        path.signal(at(4000));
        assert_eq!(path.target(), Some(at(5000)));
        path.signal(at(4002));
        assert_eq!(path.target(), Some(at(4002)));
    }

    #[test]
    fn port_9_is_no_address() {
        let mut path = Path::default();
        path.signal(at(9));
        assert_eq!(path.target(), None);
    }
}
