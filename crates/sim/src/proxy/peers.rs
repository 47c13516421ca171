//! The links between the proxies of a region, by the rules of the proxy's own:
//! who has calls connects to who is to hold them, tells each answer before the
//! caller hears of it, and asks, when it starts, what became of its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landline_call::{Input, PeerId};
use landline_control::Framer;
use landline_proxy::replica::{
    Frames, FromPeer, Greeting, Replication, ToPeer, VERSION, queue, replica,
};
use landline_region::CallSid;

use super::{ProxyHost, Task};
use crate::cx::{Cx, Node};
use crate::relay::{in_pieces, say};
use crate::stream::{Kind, What};
use crate::tenants;

const PING: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
const ASK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(300);

pub(super) struct Peers {
    pub(super) replication: Replication,
    /// Streams by which who holds our calls is reached, or asked.
    holders: BTreeMap<usize, Holder>,
    /// Streams of those whose calls we hold.
    held: BTreeMap<usize, Held>,
    /// The present link of each of them.
    links: BTreeMap<PeerId, usize>,
    /// Who has not said yet which of our calls it has.
    pub(super) asked: BTreeSet<usize>,
    /// The calls that others have by now.
    pub(super) spared: BTreeSet<CallSid>,
}

struct Holder {
    peer: usize,
    asks: bool,
    framer: Framer,
    frames: Option<Frames>,
    heard: Duration,
}

struct Held {
    peer: PeerId,
    framer: Framer,
    is_greeted: bool,
    heard: Duration,
}

fn id(peer: usize) -> PeerId {
    PeerId(format!("proxy-{peer}"))
}

impl Peers {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            replication: Replication::new(is_on),
            holders: BTreeMap::new(),
            held: BTreeMap::new(),
            links: BTreeMap::new(),
            asked: BTreeSet::new(),
            spared: BTreeSet::new(),
        }
    }
}

impl ProxyHost {
    /// What became of the former run's calls, before any is taken up.
    pub(super) fn ask_peers(&mut self, cx: &mut Cx) {
        for peer in self.peers.clone() {
            self.connect_peer(cx, peer, true);
        }
        let peers = self.peers.iter().copied().collect();
        if let Some(life) = &mut self.life {
            life.peers.asked = peers;
        }
        self.later(cx, ASK, Task::Asked);
    }

    pub(super) fn meet(&mut self, cx: &mut Cx, peer: usize) {
        let stream = self.connect_peer(cx, peer, false);
        self.later(cx, PING, Task::PeerPing(stream));
    }

    fn connect_peer(&mut self, cx: &mut Cx, peer: usize, asks: bool) -> usize {
        let stream = cx.connect(Kind::Peer, self.node(), Node::Proxy(peer), self.lives);
        let (framer, heard) = (Framer::default(), cx.at());
        if let Some(life) = &mut self.life {
            let holder = Holder { peer, asks, framer, frames: None, heard };
            life.peers.holders.insert(stream, holder);
        }
        stream
    }

    fn greeting(&self, asks: bool) -> Greeting {
        let region = tenants::region(self.region);
        Greeting { version: VERSION, region, name: self.name(), asks }
    }

    pub(super) fn ping_peer(&mut self, cx: &mut Cx, stream: usize) {
        let Some(life) = &self.life else { return };
        let holder = life.peers.holders.get(&stream).map(|it| (it.heard, 0));
        let held = life.peers.held.get(&stream).map(|it| (it.heard, 1));
        let Some((heard, side)) = holder.or(held) else { return };
        if cx.at() - heard >= SILENCE {
            cx.close(stream, side);
            return self.parted(cx, stream);
        }
        if side == 0 {
            say(cx, stream, 0, &ToPeer::Ping);
        }
        self.later(cx, PING, Task::PeerPing(stream));
    }

    pub(super) fn peer(&mut self, cx: &mut Cx, stream: usize, side: usize, what: What) {
        match what {
            What::Opened if side == 1 => {
                let Node::Proxy(number) = cx.streams.get(stream).ends[0] else { return };
                let (peer, framer, heard) = (id(number), Framer::default(), cx.at());
                if let Some(life) = &mut self.life {
                    let held = Held { peer, framer, is_greeted: false, heard };
                    life.peers.held.insert(stream, held);
                }
                cx.accepted(stream, self.lives);
                self.later(cx, PING, Task::PeerPing(stream));
            }
            What::Opened => {
                let holders = self.life.as_ref().map(|life| &life.peers.holders);
                let asks = holders.and_then(|it| it.get(&stream)).is_some_and(|it| it.asks);
                say(cx, stream, 0, &ToPeer::Hello(self.greeting(asks)));
            }
            What::Octets(octets) if side == 0 => self.holder_says(cx, stream, &octets),
            What::Octets(octets) => self.peer_says(cx, stream, &octets),
            What::Closed | What::Lost => self.parted(cx, stream),
        }
    }

    /// Who holds our calls, or was asked about them.
    fn holder_says(&mut self, cx: &mut Cx, stream: usize, octets: &[u8]) {
        let at = cx.at();
        let holders = self.life.as_mut().map(|life| &mut life.peers.holders);
        let Some(holder) = holders.and_then(|it| it.get_mut(&stream)) else { return };
        holder.heard = at;
        holder.framer.push(octets);
        loop {
            let Some(life) = &mut self.life else { return };
            let Some(holder) = life.peers.holders.get_mut(&stream) else { return };
            let peer = holder.peer;
            match holder.framer.next::<FromPeer>() {
                Ok(None) => return,
                Ok(Some(FromPeer::Hello(_))) if !holder.asks => {
                    let (sender, frames) = queue();
                    holder.frames = Some(frames);
                    life.peers.replication.peer_up(id(peer), sender);
                    cx.remark(format_args!("proxy {peer} holds the calls of {}", self.number));
                    self.tell_peers(cx);
                }
                Ok(Some(FromPeer::Ack(number))) => {
                    for token in life.peers.replication.acknowledged(&id(peer), number) {
                        self.input(cx, Input::Journaled(token));
                    }
                }
                Ok(Some(FromPeer::Carried(calls))) if calls.is_empty() => {
                    life.peers.asked.remove(&peer);
                    life.peers.holders.remove(&stream);
                    return cx.close(stream, 0);
                }
                Ok(Some(FromPeer::Carried(calls))) => life.peers.spared.extend(calls),
                Ok(Some(FromPeer::Hello(_) | FromPeer::Pong)) => {}
                Err(error) => return cx.fault(format!("a proxy cannot read its peer: {error}")),
            }
        }
    }

    /// Who has calls for us to hold, or asks about its own.
    fn peer_says(&mut self, cx: &mut Cx, stream: usize, octets: &[u8]) {
        let at = cx.at();
        let held = self.life.as_mut().map(|life| &mut life.peers.held);
        let Some(held) = held.and_then(|it| it.get_mut(&stream)) else { return };
        held.heard = at;
        held.framer.push(octets);
        let own = self.greeting(false);
        loop {
            let Some(life) = &mut self.life else { return };
            let Some(held) = life.peers.held.get_mut(&stream) else { return };
            let peer = held.peer.clone();
            match held.framer.next::<ToPeer>() {
                Ok(None) => return,
                Ok(Some(ToPeer::Hello(hello))) => {
                    held.is_greeted = !hello.asks;
                    say(cx, stream, 1, &FromPeer::Hello(own.clone()));
                    match hello.asks {
                        true => self.tell_carried(cx, stream, peer),
                        false => {
                            life.peers.links.insert(peer.clone(), stream);
                            self.input(cx, Input::PeerUp(peer));
                        }
                    }
                }
                Ok(Some(ToPeer::Ping)) => say(cx, stream, 1, &FromPeer::Pong),
                Ok(Some(ToPeer::Gone(call))) => {
                    if life.peers.links.get(&peer) == Some(&stream) {
                        self.input(cx, Input::ReplicaGone { peer, call });
                    }
                }
                Ok(Some(ToPeer::Call { number, state, record })) => {
                    let Some(replica) = replica(&state, &record) else {
                        return cx.fault("a replica cannot be read".to_owned());
                    };
                    if life.peers.links.get(&peer) == Some(&stream) {
                        let replica = Box::new(replica);
                        self.input(cx, Input::Replica { peer, replica });
                    }
                    say(cx, stream, 1, &FromPeer::Ack(number));
                }
                Err(error) => return cx.fault(format!("a proxy cannot read its peer: {error}")),
            }
        }
    }

    fn tell_carried(&mut self, cx: &mut Cx, stream: usize, peer: PeerId) {
        self.input(cx, Input::PeerStarts(peer));
        let Some(machines) = self.machines() else { return };
        let carried: Vec<CallSid> = machines.core.carried().collect();
        if !carried.is_empty() {
            say(cx, stream, 1, &FromPeer::Carried(carried));
        }
        say(cx, stream, 1, &FromPeer::Carried(Vec::new()));
    }

    /// A link is over; there will be another.
    fn parted(&mut self, cx: &mut Cx, stream: usize) {
        let Some(life) = &mut self.life else { return };
        if let Some(holder) = life.peers.holders.remove(&stream) {
            if holder.asks {
                life.peers.asked.remove(&holder.peer);
                return;
            }
            if holder.frames.is_some() {
                for token in life.peers.replication.peer_lost(&id(holder.peer)) {
                    self.input(cx, Input::Journaled(token));
                }
            }
            return self.later(cx, PAUSE, Task::Meet(holder.peer));
        }
        let Some(held) = life.peers.held.remove(&stream).filter(|it| it.is_greeted) else { return };
        if life.peers.links.get(&held.peer) == Some(&stream) {
            life.peers.links.remove(&held.peer);
            self.input(cx, Input::PeerLost(held.peer));
        }
    }

    /// Writes what waits for the peers.
    pub(super) fn tell_peers(&mut self, cx: &mut Cx) {
        let Some(life) = &mut self.life else { return };
        let mut over = Vec::new();
        for (stream, holder) in &mut life.peers.holders {
            let Some(frames) = &mut holder.frames else { continue };
            let mut octets = Vec::new();
            frames.take_now(&mut octets);
            if !octets.is_empty() {
                in_pieces(cx, *stream, 0, &octets);
            }
            if frames.is_over() {
                over.push(*stream);
            }
        }
        for stream in over {
            cx.close(stream, 0);
            self.parted(cx, stream);
        }
    }

    /// Answers that waited long enough for a peer.
    pub(super) fn answers_overdue(&mut self, cx: &mut Cx) {
        let now = cx.instant();
        let overdue = match &mut self.life {
            Some(life) => life.peers.replication.overdue(now),
            None => return,
        };
        for token in overdue {
            self.input(cx, Input::Journaled(token));
        }
    }
}
