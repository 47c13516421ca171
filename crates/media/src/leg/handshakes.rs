//! The DTLS handshakes of a leg: one for each component that has a socket of
//! its own (RFC 5764 §3), each bound to one peer address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{DtlsParameters, DtlsRole, MediaFault};

use super::{Component, DropCause, DtlsBackend};
use crate::dtls::{Association, Established, Failed};
use crate::identity::{Identity, fingerprint};
use crate::packet::PacketBuf;

/// Of a ClientHello: with a post-quantum key share it is two datagrams.
const MAX_EARLY: usize = 4;

/// A stranger whose handshake stops for this long makes room for another.
const STALLED: Duration = Duration::from_secs(2);

pub struct Handshakes {
    identity: Arc<Identity>,
    backend: DtlsBackend,
    timeout: Duration,
    parameters: Option<DtlsParameters>,
    components: [Handshake; 2],
}

#[derive(Default)]
struct Handshake {
    association: Option<Association>,
    peer: Option<Peer>,
    deadline: Option<Instant>,
    /// The last datagrams that came before the peer's description did.
    early: VecDeque<Early>,
    end: Option<End>,
}

/// By which of our sockets, and from where.
type Early = (Component, SocketAddr, PacketBuf);

#[derive(Clone, Copy)]
struct Peer {
    address: SocketAddr,
    trust: Trust,
    heard: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Established,
    /// It may be tried again when the peer is expected anew: a caller may ignore
    /// our description until it is the answer.
    TimedOut,
    Failed,
}

/// What is known of a datagram's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Validated by ICE, or the signalled address.
    Proven,
    /// Neither, but it may be the peer behind a NAT.
    Stranger,
}

/// What a step led to.
pub enum Step {
    Nothing,
    Keys(Box<Established>),
    Fault(MediaFault),
    Dropped(DropCause),
}

impl Handshakes {
    pub fn new(identity: Arc<Identity>, backend: DtlsBackend, timeout: Duration) -> Self {
        Self { identity, backend, timeout, parameters: None, components: Default::default() }
    }

    /// Takes the peer's parameters. True when they changed: then a new
    /// association is needed (RFC 8842 §4) and former keys are void.
    pub fn set_remote(&mut self, parameters: &DtlsParameters) -> bool {
        if self.parameters.as_ref() == Some(parameters) {
            return false;
        }
        self.parameters = Some(parameters.clone());
        for handshake in &mut self.components {
            let early = std::mem::take(&mut handshake.early);
            *handshake = Handshake { early, ..Handshake::default() };
        }
        true
    }

    pub fn take_early(&mut self, component: Component) -> VecDeque<Early> {
        std::mem::take(&mut self.components[component.index()].early)
    }

    /// Begins as the client, once there is an address to begin with.
    pub fn begin(&mut self, now: Instant, component: Component, to: SocketAddr) {
        let client = self.parameters.as_ref().is_some_and(|it| it.role == DtlsRole::Client);
        let handshake = &mut self.components[component.index()];
        if !client || handshake.end.is_some() || handshake.association.is_some() {
            return;
        }
        let association = Association::new(&self.identity, self.backend, DtlsRole::Client, now);
        handshake.association = association.ok();
        handshake.peer = Some(Peer { address: to, trust: Trust::Proven, heard: now });
    }

    /// From now on the handshake has to make progress; one that timed out
    /// before begins anew.
    pub fn expect(&mut self, now: Instant) {
        for handshake in &mut self.components {
            if handshake.end == Some(End::TimedOut) {
                *handshake = Handshake::default();
            }
            handshake.expect(now, self.timeout);
        }
    }

    /// Who the component's handshake is with.
    pub fn peer(&self, component: Component) -> Option<SocketAddr> {
        self.components[component.index()].peer.map(|peer| peer.address)
    }

    pub fn receive(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        trust: Trust,
        packet: &PacketBuf,
    ) -> Step {
        let handshake = &mut self.components[component.index()];
        let Some(parameters) = &self.parameters else {
            // A peer that answers may be faster than its answer.
            if handshake.early.len() >= MAX_EARLY {
                handshake.early.pop_front();
            }
            handshake.early.push_back((component, from, packet.clone()));
            return Step::Nothing;
        };
        let over = matches!(handshake.end, Some(End::Failed | End::TimedOut));
        if over || !handshake.hears(now, from, trust) {
            return Step::Dropped(DropCause::DtlsUnexpected);
        }
        if handshake.association.is_none() {
            let role = parameters.role;
            let association = Association::new(&self.identity, self.backend, role, now);
            handshake.association = association.ok();
        }
        if trust == Trust::Proven {
            handshake.expect(now, self.timeout);
        }
        let Some(association) = &mut handshake.association else {
            return handshake.fail(component);
        };
        match association.receive(now, &self.identity, self.backend, packet.as_slice()) {
            Ok(true) => handshake.conclude(component, parameters),
            Ok(false) => Step::Dropped(DropCause::DtlsRefused),
            Err(Failed) => handshake.fail(component),
        }
    }

    /// `may_wait`: the peer is heard without it. A handshake that is late then
    /// may be later still.
    pub fn handle_timeout(&mut self, now: Instant, component: Component, may_wait: bool) -> Step {
        let handshake = &mut self.components[component.index()];
        if handshake.end.is_some() {
            return Step::Nothing;
        }
        let is_late = handshake.deadline.is_some_and(|deadline| now >= deadline);
        if is_late && may_wait {
            handshake.deadline = Some(now + self.timeout);
        } else if is_late {
            return handshake.give_up(component, End::TimedOut, MediaFault::DtlsHandshakeFailed);
        }
        let Some(association) = &mut handshake.association else { return Step::Nothing };
        match association.handle_timeout(now, &self.identity, self.backend) {
            Ok(()) => Step::Nothing,
            Err(Failed) => handshake.fail(component),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.components.iter().filter_map(Handshake::poll_timeout).min()
    }

    /// The next datagram to send, and to whom if nothing better is known.
    pub fn transmit(&mut self, component: Component) -> Option<(SocketAddr, Vec<u8>)> {
        let handshake = &mut self.components[component.index()];
        let to = handshake.peer?.address;
        Some((to, handshake.association.as_mut()?.transmit()?))
    }
}

impl Handshake {
    fn expect(&mut self, now: Instant, timeout: Duration) {
        if self.end.is_none() {
            self.deadline.get_or_insert(now + timeout);
        }
    }

    /// Whether a datagram from here belongs to this handshake. Who is proven
    /// takes the place of a stranger; a stranger only that of a stalled one.
    fn hears(&mut self, now: Instant, address: SocketAddr, trust: Trust) -> bool {
        let newcomer = Peer { address, trust, heard: now };
        match &mut self.peer {
            Some(peer) if peer.address == address => peer.heard = now,
            Some(peer) if peer.trust == Trust::Proven && trust == Trust::Proven => {
                *peer = newcomer;
            }
            Some(_) if self.end.is_some() => return false,
            Some(peer) if peer.trust == Trust::Proven => return false,
            Some(peer) if trust == Trust::Stranger && now < peer.heard + STALLED => return false,
            Some(_) => {
                self.association = None;
                self.peer = Some(newcomer);
            }
            None => self.peer = Some(newcomer),
        }
        true
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.end.is_some() {
            return None;
        }
        let retransmission = self.association.as_ref().and_then(Association::poll_timeout);
        [retransmission, self.deadline].into_iter().flatten().min()
    }

    fn conclude(&mut self, component: Component, parameters: &DtlsParameters) -> Step {
        let Some(association) = &mut self.association else { return Step::Nothing };
        match association.established() {
            None => Step::Nothing,
            Some(Err(Failed)) => self.fail(component),
            Some(Ok(established)) => {
                let known = parameters.fingerprints.iter().any(|signalled| {
                    fingerprint(signalled.hash, &established.certificate) == *signalled
                });
                if !known {
                    return self.refuse(component, MediaFault::DtlsFingerprintMismatch);
                }
                self.end = Some(End::Established);
                Step::Keys(Box::new(established))
            }
        }
    }

    fn fail(&mut self, component: Component) -> Step {
        self.refuse(component, MediaFault::DtlsHandshakeFailed)
    }

    /// A stranger's failure is its own: the peer may still come.
    fn refuse(&mut self, component: Component, fault: MediaFault) -> Step {
        if self.peer.is_some_and(|peer| peer.trust == Trust::Stranger) {
            self.association = None;
            self.peer = None;
            return Step::Dropped(DropCause::DtlsRefused);
        }
        self.give_up(component, End::Failed, fault)
    }

    fn give_up(&mut self, component: Component, end: End, fault: MediaFault) -> Step {
        self.association = None;
        self.end = Some(end);
        match component {
            Component::Rtp | Component::Stream => Step::Fault(fault),
            // Without RTCP the call still has sound.
            Component::Rtcp => Step::Nothing,
        }
    }
}
