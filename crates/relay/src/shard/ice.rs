//! The port that all the shard's legs with ICE share: a check finds its leg by the
//! fragment that it names, everything else by an address that such checks proved.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_media::{Component, DropCause, stun};
use rustc_hash::FxHashMap;

use super::counters::OwnDrop;
use super::leg::ice_token;
use super::{Datagram, Network, Shard, take_in};
use crate::ice_ports::IceSocket;

/// Datagrams taken from the port before commands and timers have their turn.
const DATAGRAMS_PER_ROUND: usize = 512;

/// Addresses that a leg may always have, whatever others have taken: the first that
/// answers, and the one that its peer moves to.
const ASSURED: usize = 2;

/// Those of a leg whose peer has not described itself: it has shown no more than
/// that it knows the credentials.
const UNDESCRIBED: usize = 4;

/// A socket, and who is behind it. Legs are told by their slots.
pub(super) struct IcePort<S> {
    socket: Arc<S>,
    /// Index of its media address in `Shared::addresses`.
    pub address: usize,
    advertised: SocketAddr,
    /// By the fragments of our credentials. We draw those, and no peer.
    fragments: FxHashMap<String, usize>,
    /// By the addresses that valid checks came from, and by no other. Whoever has
    /// an account chooses among these, so they are hashed by a key.
    peers: HashMap<SocketAddr, usize>,
    /// How many legs share it.
    pub legs: usize,
}

/// What a leg has of such a port.
pub(super) struct IceShare<S> {
    /// Index of the port on the shard.
    pub port: usize,
    pub socket: Arc<S>,
    pub advertised: SocketAddr,
    pub peers: Vec<Peer>,
}

/// An address of the leg's peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    address: SocketAddr,
    /// When something authentic last came from there.
    heard: Instant,
    /// What came from there, since when.
    came: u32,
    since: Instant,
}

impl<S> IcePort<S> {
    /// With room for as many peers as there may well be, from the start on.
    pub fn new(bound: IceSocket<S>, advertised: SocketAddr, peers: usize) -> Self {
        Self {
            socket: Arc::new(bound.socket),
            address: bound.address,
            advertised,
            fragments: FxHashMap::default(),
            peers: HashMap::with_capacity(peers),
            legs: 0,
        }
    }

    pub fn share(&mut self, port: usize) -> IceShare<S> {
        self.legs += 1;
        let (socket, advertised) = (Arc::clone(&self.socket), self.advertised);
        IceShare { port, socket, advertised, peers: Vec::new() }
    }

    pub fn watch<N: Network<Socket = S>>(&self, network: &N, port: usize) -> std::io::Result<()> {
        network.watch(&self.socket, ice_token(port))
    }

    pub fn add_fragment(&mut self, fragment: String, slot: usize) {
        self.fragments.insert(fragment, slot);
    }

    pub fn remove_fragment(&mut self, fragment: &str) {
        self.fragments.remove(fragment);
    }
}

impl<S> IceShare<S> {
    fn heard(&self, from: SocketAddr) -> Option<Instant> {
        self.peers.iter().find(|peer| peer.address == from).map(|peer| peer.heard)
    }

    /// Whether more came from there within a second than may. Looked at before any
    /// cryptography, so that nobody keeps the shard from its other calls by that.
    fn is_too_fast(&mut self, now: Instant, from: SocketAddr, limit: u32) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == from) else {
            return false;
        };
        if now >= peer.since + Duration::from_secs(1) {
            (peer.came, peer.since) = (0, now);
        }
        peer.came = peer.came.saturating_add(1);
        peer.came > limit
    }

    /// Something authentic came from there.
    pub fn hear(&mut self, now: Instant, from: SocketAddr) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == from) {
            peer.heard = now;
        }
    }
}

impl<N: Network> Shard<N> {
    /// Takes what waits at a shared port, up to a limit.
    pub(super) fn ice_ready(&mut self, now: Instant, at: usize) {
        for _ in 0..DATAGRAMS_PER_ROUND {
            let Some(port) = self.ice.get(at) else { return };
            match take_in(&self.network, &port.socket, &mut self.packet, &mut self.counters) {
                Datagram::From(from) => self.sort(now, at, from),
                Datagram::Unusable => {}
                Datagram::None => return,
            }
        }
        self.more_waits = true;
    }

    /// Gives the datagram in hand to its leg.
    fn sort(&mut self, now: Instant, at: usize, from: SocketAddr) {
        let Some(port) = self.ice.get(at) else { return };
        let octets = self.packet.as_slice();
        // Only a check says whose it is: an address may get another leg by it.
        let (slot, is_check) = match stun::receiver(octets) {
            Some(fragment) => (port.fragments.get(fragment).copied(), true),
            None => (port.peers.get(&from).copied(), false),
        };
        if let Some(leg) = slot.and_then(|slot| self.legs.get_mut(slot))
            && let Some(share) = leg.sockets.ice_mut()
            && share.is_too_fast(now, from, self.shared.config.limits.ice_packets)
        {
            leg.machine.refuse(DropCause::TooFast);
            return self.counters.dropped(DropCause::TooFast);
        }
        match slot {
            Some(slot) if is_check => self.check(now, at, slot, from),
            Some(slot) => {
                self.take(now, slot, Component::Rtp, from);
            }
            // No answer: who guesses learns nothing, and nobody is sent what he did
            // not ask for.
            None if is_check => self.counters.lost(OwnDrop::UnknownFragment),
            None => self.counters.lost(OwnDrop::UnknownSource),
        }
    }

    /// A check for a leg. If the leg finds it authentic, what else comes from
    /// there is the leg's.
    fn check(&mut self, now: Instant, at: usize, slot: usize, from: SocketAddr) {
        let Some(port) = self.ice.get(at) else { return };
        let former = port.peers.get(&from).copied();
        let refused = match former {
            Some(former) if former == slot => None,
            Some(former) => self.is_in_use(now, former, from).then_some(DropCause::AddressInUse),
            None => (!self.has_room(at, slot)).then_some(DropCause::TooManyAddresses),
        };
        if let Some(cause) = refused {
            // Its own call is mute by that, so its own statistics say why.
            self.legs.get_mut(slot).into_iter().for_each(|leg| leg.machine.refuse(cause));
            return self.counters.dropped(cause);
        }
        let checks = |shard: &Self| shard.legs.get(slot).map(|leg| leg.machine.checks());
        let before = checks(self);
        self.take(now, slot, Component::Rtp, from);
        if checks(self) == before {
            return;
        }
        if former != Some(slot) {
            self.bind_peer(now, at, slot, from);
        }
        if let Some(share) = self.legs.get_mut(slot).and_then(|leg| leg.sockets.ice_mut()) {
            share.hear(now, from);
        }
    }

    /// Another leg's peer was there a moment ago. It is asked for its consent
    /// every few seconds, so its address is not free yet, whatever somebody claims
    /// who can send in its name.
    fn is_in_use(&self, now: Instant, slot: usize, from: SocketAddr) -> bool {
        let share = self.legs.get(slot).and_then(|leg| leg.sockets.ice());
        let heard = share.and_then(|share| share.heard(from));
        heard.is_some_and(|heard| now < heard + self.shared.config.address_quiet)
    }

    /// Whether the leg may have one more address, which nobody has.
    fn has_room(&self, at: usize, slot: usize) -> bool {
        let (Some(port), Some(leg)) = (self.ice.get(at), self.legs.get(slot)) else {
            return false;
        };
        let has = leg.sockets.ice().map_or(0, |share| share.peers.len());
        let is_full = port.peers.len() >= self.shared.config.limits.ice_peers;
        has < ASSURED || !is_full && (has < UNDESCRIBED || leg.machine.is_described())
    }

    fn bind_peer(&mut self, now: Instant, at: usize, slot: usize, from: SocketAddr) {
        let (Some(port), Some(leg)) = (self.ice.get_mut(at), self.legs.get_mut(slot)) else {
            return;
        };
        let Some(share) = leg.sockets.ice_mut() else { return };
        share.peers.push(Peer { address: from, heard: now, came: 1, since: now });
        // Those that the leg gave up for it.
        let machine = &leg.machine;
        share.peers.retain(|peer| {
            let is_kept = machine.is_validated(Component::Rtp, peer.address);
            if !is_kept && port.peers.get(&peer.address) == Some(&slot) {
                port.peers.remove(&peer.address);
            }
            is_kept
        });
        let former = port.peers.insert(from, slot).filter(|former| *former != slot);
        if let Some(former) = former.and_then(|former| self.legs.get_mut(former)) {
            if let Some(share) = former.sockets.ice_mut() {
                share.peers.retain(|peer| peer.address != from);
            }
            former.machine.lose(Component::Rtp, from);
        }
        self.count_peers();
    }

    /// The leg is over: nothing finds it any more.
    pub(super) fn leave_ice(&mut self, share: IceShare<N::Socket>, fragments: &[String]) {
        if let Some(port) = self.ice.get_mut(share.port) {
            fragments.iter().for_each(|fragment| port.remove_fragment(fragment));
            for peer in share.peers {
                port.peers.remove(&peer.address);
            }
            port.legs = port.legs.saturating_sub(1);
        }
        self.shared.metrics.ice_legs.dec();
        self.count_peers();
    }

    /// Of all shards: each adds what became more or less of its own.
    fn count_peers(&mut self) {
        let peers: usize = self.ice.iter().map(|port| port.peers.len()).sum();
        let change = peers as i64 - std::mem::replace(&mut self.ice_peers, peers as i64);
        self.shared.metrics.ice_peers.add(change);
    }
}
