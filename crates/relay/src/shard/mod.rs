//! A shard: one thread with its own sockets, sessions, legs and timers. Both
//! legs of a call are on one shard, so a packet meets no lock. Its [`Network`] is
//! the kernel's in a relay; what it decides depends on nothing else.

mod counters;
mod ice;
mod kernel;
mod keys;
mod leg;
mod network;
mod operations;
mod pacing;
mod playing;
mod poller;
mod ring;
mod ring_buffers;
mod session;
mod stream;
mod tally;
mod tap;
mod threads;
mod timers;
mod translation;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{Event, MediaFault, Request, SessionId};
use landline_media::{Component, LegOutput, MAX_PACKET, PacketBuf, Received, RtpInfo};
use landline_region::{CallSid, Entropy};
use rustc_hash::FxHashMap;
use slab::Slab;
use tokio::sync::mpsc;

use self::counters::{Counters, OwnDrop};
use self::ice::IcePort;
use self::kernel::Kernel;
pub(crate) use self::kernel::try_engine;
use self::leg::{Ready, RelayLeg, from_token};
pub use self::network::Network;
pub(crate) use self::network::{EXPEDITED_FORWARDING, Room, bind_shared};
use self::pacing::Pacing;
use self::poller::Found;
use self::session::Session;
use self::stream::{Stream, watch_for_room};
use self::tally::Tally;
pub(crate) use self::threads::{ShardThreads, Shards};
use self::timers::{Timer, Timers};
use crate::ice_ports::IceSocket;
use crate::owner::{Owner, OwnerKey, Reply};
use crate::shared::Shared;
use crate::streams::Arrival;

/// Commands carried out before the sockets have their turn again.
const COMMANDS_PER_ROUND: usize = 64;

/// Datagrams of a handshake, of connectivity checks or of a picture that are
/// taken from one socket in a row. Sound comes one by one, and behind a picture
/// it must not wait.
const BURST: usize = 8;

#[derive(Debug)]
pub(crate) enum Command {
    Request {
        owner: Arc<Owner>,
        request: Request,
        reply: Reply,
    },
    /// Closes all sessions of a proxy's incarnation.
    CloseOwner(OwnerKey),
    /// A connection for a leg.
    Stream(Arrival),
}

pub(crate) struct Shard<N: Network> {
    shared: Arc<Shared>,
    /// Among the relay's shards.
    number: usize,
    network: N,
    sessions: Slab<Session>,
    index: FxHashMap<(OwnerKey, SessionId), usize>,
    /// By their calls: how an adopter names them.
    calls: FxHashMap<CallSid, usize>,
    legs: Slab<Box<RelayLeg<N::Socket>>>,
    /// One for each media address.
    ice: Vec<IcePort<N::Socket>>,
    /// How many addresses of peers they know.
    ice_peers: i64,
    streams: Slab<Stream>,
    timers: Timers,
    tally: Tally,
    counters: Counters,
    entropy: Entropy,
    next_serial: u64,
    /// The one packet in hand.
    packet: Box<PacketBuf>,
    /// A socket was left with something in it.
    more_waits: bool,
}

/// What a look at a socket brought.
enum Datagram {
    From(SocketAddr),
    /// Something that is counted and gone.
    Unusable,
    None,
}

impl Shard<Kernel> {
    /// Each round: (1) sockets, (2) commands, (3) timers. Sockets come first:
    /// what was found readable must still be the leg it was found on.
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        if let Err(error) = self.network.begin() {
            tracing::error!(%error, "a shard's engine does not start");
            return;
        }
        let mut pacing = Pacing::new(self.shared.config.coalesce, Instant::now());
        let mut found = Found::new();
        let mut commands_wait = false;
        while !self.shared.is_stopping() {
            let timeout = if commands_wait { Some(Duration::ZERO) } else { self.until_timer() };
            self.network.wait(timeout, &mut found);
            let now = Instant::now();
            let before = self.counters.packets_received;
            for arrival in found.arrivals() {
                self.network.hand(arrival);
                self.receive(now, arrival.token);
                self.network.take_back();
            }
            self.counters.failed(self.network.take_failures());
            for token in found.tokens() {
                match token {
                    Some(token) => self.receive(now, token),
                    None => {
                        self.network.quiet_waker();
                        commands_wait = true;
                    }
                }
            }
            let packets = (self.counters.packets_received - before) as u32;
            if commands_wait {
                // Those take their time, and what was said is not to wait for them.
                self.network.flush();
                commands_wait = self.carry_out(now, &mut commands);
            }
            self.fire_timers(now);
            self.counters.flush();
            let more_waits = std::mem::take(&mut self.more_waits) || found.is_full();
            if let Some(pause) = pacing.round(now, packets)
                && !more_waits
            {
                self.network.flush();
                std::thread::sleep(pause.saturating_sub(now.elapsed()));
            }
        }
        self.close_all();
        self.network.flush();
    }

    fn until_timer(&self) -> Option<Duration> {
        self.next_timer().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Carries out what waits, up to a limit. True when there may be more.
    fn carry_out(&mut self, now: Instant, commands: &mut mpsc::Receiver<Command>) -> bool {
        for _ in 0..COMMANDS_PER_ROUND {
            match commands.try_recv() {
                Ok(command) => self.command(now, command),
                Err(_) => return false,
            }
        }
        true
    }
}

impl<N: Network> Shard<N> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        number: usize,
        network: N,
        ice: Vec<IceSocket<N::Socket>>,
        entropy: Entropy,
    ) -> io::Result<Self> {
        let counters = Counters::new(&shared.metrics);
        let mut ports = Vec::with_capacity(ice.len());
        for (at, bound) in ice.into_iter().enumerate() {
            let local = shared.addresses.get(bound.address).ok_or(ErrorKind::NotFound)?;
            let advertised = local.advertised(bound.port);
            let port = IcePort::new(bound, advertised, shared.config.limits.ice_peers);
            port.watch(&network, at)?;
            ports.push(port);
        }
        Ok(Self {
            shared,
            number,
            network,
            ice: ports,
            ice_peers: 0,
            sessions: Slab::new(),
            index: FxHashMap::default(),
            calls: FxHashMap::default(),
            legs: Slab::new(),
            streams: Slab::new(),
            timers: Timers::default(),
            tally: Tally::default(),
            counters,
            entropy,
            next_serial: 0,
            packet: Box::default(),
            more_waits: false,
        })
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.tally.at).min()
    }

    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Request { owner, request, reply } => self.request(now, owner, request, reply),
            Command::CloseOwner(owner) => self.close_owner(now, owner),
            Command::Stream(arrival) => self.greet(now, arrival),
        }
    }

    pub(crate) fn receive(&mut self, now: Instant, token: u64) {
        let (slot, component) = match from_token(token) {
            Ready::Leg(slot, component) => (slot, component),
            Ready::Stream(at) => return self.stream_ready(now, at),
            Ready::Ice(at) => return self.ice_ready(now, at),
        };
        for _ in 0..BURST {
            match self.receive_one(now, slot, component) {
                Some(Received::Handled | Received::Video(_)) => {}
                _ => return,
            }
        }
    }

    fn receive_one(&mut self, now: Instant, slot: usize, component: Component) -> Option<Received> {
        let socket = self.legs.get(slot)?.socket(component)?;
        match take_in(&self.network, socket, &mut self.packet, &mut self.counters) {
            Datagram::From(from) => self.take(now, slot, component, from),
            Datagram::Unusable | Datagram::None => None,
        }
    }

    /// The way of the packet in hand: unprotect, record, protect, send.
    fn take(
        &mut self,
        now: Instant,
        slot: usize,
        component: Component,
        from: SocketAddr,
    ) -> Option<Received> {
        let leg = self.legs.get_mut(slot)?;
        let received = leg.machine.receive(now, component, from, &mut self.packet);
        if let (Some(share), Received::Rtp(_) | Received::Video(_) | Received::Rtcp) =
            (leg.sockets.ice_mut(), &received)
        {
            share.hear(now, from);
        }
        let (partner, recorded) = (leg.partner, leg.recorded);
        let tells_keys = leg.keys.is_some();
        let is_alone = partner.is_none() && (recorded || leg.playing.is_some());
        let translation = leg.translation.as_ref().map(|it| &it.translator);
        match received {
            Received::Rtp(info) => {
                let translated = translation.is_some_and(|it| it.is_needed_for(info.payload_type));
                if recorded {
                    self.record(now, slot);
                }
                match translated {
                    _ if tells_keys && self.take_key(now, slot, &info) => {}
                    // With nobody at the other end, and as it is to be.
                    _ if is_alone => {}
                    true => self.translate(now, slot, Some(&info)),
                    false => self.forward(now, partner, Component::Rtp),
                }
            }
            Received::Video(info) => {
                self.counters.video_packets += 1;
                match partner {
                    // A recording holds everything that passed, and it holds sound.
                    _ if recorded => self.counters.lost(OwnDrop::Unrecorded),
                    Some(partner) => self.show(now, partner, &info),
                    None => self.counters.lost(OwnDrop::Unjoined),
                }
            }
            Received::Rtcp => {
                self.translate_reports(slot, partner);
                self.forward(now, partner, Component::Rtcp);
            }
            Received::Handled => self.reschedule(slot),
            Received::Dropped(cause) => self.counters.dropped(cause),
        }
        self.drain_outputs(now, slot);
        Some(received)
    }

    /// Sends the packet in hand by the partner's socket.
    fn forward(&mut self, now: Instant, partner: Option<usize>, component: Component) {
        let partner = partner.and_then(|slot| Some((slot, self.legs.get_mut(slot)?)));
        let Some((slot, leg)) = partner else {
            self.counters.lost(OwnDrop::Unjoined);
            return;
        };
        if component == Component::Rtp
            && let Some(playing) = &mut leg.playing
            && !playing.overhear(now, &leg.payload_types, self.packet.as_slice())
        {
            self.counters.lost(OwnDrop::PlayedOver);
            return;
        }
        self.deliver(now, slot, component);
    }

    /// Sends the video in hand to whom it is video.
    fn show(&mut self, now: Instant, slot: usize, info: &RtpInfo) {
        match self.legs.get(slot) {
            Some(leg) if leg.machine.has_as_video(info) => self.deliver(now, slot, Component::Rtp),
            _ => self.counters.lost(OwnDrop::PartnerNotReady),
        }
    }

    /// Sends the packet in hand to the leg's peer.
    fn deliver(&mut self, now: Instant, slot: usize, component: Component) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let Some((by, to)) = leg.machine.send(now, component, &mut self.packet) else {
            self.counters.lost(OwnDrop::PartnerNotReady);
            return;
        };
        let octets = self.packet.as_slice();
        let (streams, counters) = (&mut self.streams, &mut self.counters);
        send(now, &self.network, streams, counters, leg, (by, to), octets);
        if leg.machine.has_keys_to_tell() {
            self.drain_outputs(now, slot);
        } else if leg.wake_at.is_none() {
            self.reschedule(slot);
        }
    }

    /// Does what a leg wants done. Cheap when it wants nothing.
    fn drain_outputs(&mut self, now: Instant, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let mut changed = leg.wake_at.is_none();
        while let Some(output) = leg.machine.poll_output() {
            changed = true;
            let event = match output {
                LegOutput::Transmit { component, to, bytes } => {
                    let target = (component, to);
                    let (streams, counters) = (&mut self.streams, &mut self.counters);
                    let octets = bytes.as_slice();
                    send(now, &self.network, streams, counters, leg, target, octets);
                    continue;
                }
                LegOutput::Keyed(keys) => {
                    let owner = self.sessions.get(leg.session).map(|it| (&it.owner, it.id));
                    let keyed = Event::Keyed(leg.id, keys);
                    if owner.is_some_and(|(owner, id)| owner.tell_if_room(id, keyed)) {
                        continue;
                    }
                    // With the next packet, once the proxy listens.
                    leg.machine.tell_keys();
                    break;
                }
                LegOutput::Started => Event::MediaStarted(leg.id),
                LegOutput::Fault(fault) => {
                    self.shared.metrics.faults.with_label_values(&[fault_name(fault)]).inc();
                    Event::Fault(leg.id, fault)
                }
            };
            if let Some(session) = self.sessions.get(leg.session) {
                session.owner.tell(session.id, event);
            }
        }
        if changed {
            self.reschedule(slot);
        }
    }

    /// Sets a timer if the leg wants one that is earlier than what is set. A
    /// deadline that moved on is found out when the timer fires.
    fn reschedule(&mut self, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let Some(at) = leg.poll_timeout() else { return };
        if leg.wake_at.is_none_or(|set| at < set) {
            leg.wake_at = Some(at);
            self.timers.push(Timer { at, slot, serial: leg.serial });
        }
        // Outdated entries go by themselves within the longest deadline; a
        // peer that makes many faster than that must not fill the memory.
        if self.timers.len() > 4 * self.legs.len() + 64 {
            let legs = &self.legs;
            self.timers.retain(|timer| is_set(legs, timer));
        }
    }

    pub(crate) fn fire_timers(&mut self, now: Instant) {
        self.tell_figures(now);
        // Those that are set anew for now wait for the next round.
        for _ in 0..self.timers.len() {
            let Some(timer) = self.timers.pop_due(now) else { return };
            if !is_set(&self.legs, &timer) {
                continue;
            }
            if let Some(leg) = self.legs.get_mut(timer.slot) {
                leg.wake_at = None;
                if leg.machine.poll_timeout().is_some_and(|at| at <= now) {
                    leg.machine.handle_timeout(now);
                }
                if leg.translation_timeout().is_some_and(|at| at <= now) {
                    self.translate(now, timer.slot, None);
                }
                self.play_on(now, timer.slot);
            }
            self.drain_outputs(now, timer.slot);
        }
    }
}

/// The socket's next datagram, into the buffer.
fn take_in<N: Network>(
    network: &N,
    socket: &N::Socket,
    packet: &mut PacketBuf,
    counters: &mut Counters,
) -> Datagram {
    let (length, from) = match network.receive(socket, packet.receive_area()) {
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Datagram::None,
        Err(_) => {
            counters.lost(OwnDrop::ReceiveFailed);
            return Datagram::Unusable;
        }
    };
    counters.packets_received += 1;
    counters.octets_received += length as u64;
    if length >= MAX_PACKET {
        counters.lost(OwnDrop::TooLong);
        return Datagram::Unusable;
    }
    packet.set_len(length);
    Datagram::From(from)
}

fn send<N: Network>(
    now: Instant,
    network: &N,
    streams: &mut Slab<Stream>,
    counters: &mut Counters,
    leg: &RelayLeg<N::Socket>,
    (by, to): (Component, SocketAddr),
    octets: &[u8],
) {
    let Some(socket) = leg.socket(by) else {
        let is_to = |at: &usize| streams.get(*at).is_some_and(|stream| stream.peer == to);
        match leg.streams.iter().copied().find(is_to) {
            Some(at) if streams[at].send(now, counters, octets) => {
                watch_for_room(network, streams, at, true);
            }
            Some(_) => {}
            None => counters.lost(OwnDrop::SendFailed),
        }
        return;
    };
    match network.send(socket, octets, to) {
        Ok(sent) => {
            counters.packets_sent += 1;
            counters.octets_sent += sent as u64;
        }
        Err(_) => counters.lost(OwnDrop::SendFailed),
    }
}

fn is_set<S>(legs: &Slab<Box<RelayLeg<S>>>, timer: &Timer) -> bool {
    legs.get(timer.slot)
        .is_some_and(|leg| leg.serial == timer.serial && leg.wake_at == Some(timer.at))
}

fn fault_name(fault: MediaFault) -> &'static str {
    match fault {
        MediaFault::DtlsHandshakeFailed => "dtls_handshake_failed",
        MediaFault::DtlsFingerprintMismatch => "dtls_fingerprint_mismatch",
        MediaFault::MediaTimeout => "media_timeout",
    }
}
