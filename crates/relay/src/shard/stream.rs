//! The connections of a shard's legs (RFC 6544).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use landline_media::Component;
use landline_media::framing::{Deframer, Outbox};
use slab::Slab;

use super::counters::{Counters, OwnDrop};
use super::leg::stream_token;
use super::{Network, Shard};
use crate::streams::{Arrival, Refused};

/// Connections of one leg: the peer's hosts and networks, while it moves from
/// one to the next.
const STREAMS_OF_A_LEG: usize = 4;

/// Taken from a connection at a time: sound of half a second.
const READ_SIZE: usize = 8 * 1024;

pub(super) struct Stream {
    socket: TcpStream,
    /// Where its leg is.
    leg: usize,
    pub peer: SocketAddr,
    input: Deframer,
    output: Outbox,
    /// The shard is told when there is room to write.
    awaits_room: bool,
    heard_at: Instant,
}

impl Stream {
    /// Sends a packet, or keeps it until there is room. Returns whether the
    /// network has to be told to watch for that.
    pub fn send(&mut self, now: Instant, counters: &mut Counters, octets: &[u8]) -> bool {
        let socket = &self.socket;
        match self.output.send(now, octets, |octets| write(socket, octets)) {
            Ok(0) => {
                counters.packets_sent += 1;
                counters.octets_sent += octets.len() as u64;
            }
            Ok(dropped) => (0..dropped).for_each(|_| counters.lost(OwnDrop::StreamFull)),
            // Its end is found out by reading.
            Err(_) => counters.lost(OwnDrop::SendFailed),
        }
        let awaits_room = !self.output.is_empty();
        awaits_room && !std::mem::replace(&mut self.awaits_room, awaits_room)
    }
}

fn write(mut socket: &TcpStream, octets: &[u8]) -> std::io::Result<usize> {
    match socket.write(octets) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

impl<N: Network> Shard<N> {
    /// A connection that names one of our legs. It stays if the leg finds its
    /// first check authentic.
    pub(super) fn greet(&mut self, now: Instant, arrival: Arrival) {
        let Arrival { place, socket, from, octets, stranger } = arrival;
        let refused = match self.legs.get(place.slot) {
            Some(leg) if leg.serial == place.serial => {
                self.admit(now, place.slot, socket, from, &octets).err()
            }
            _ => Some(Refused::UnknownLeg),
        };
        drop(stranger);
        if let Some(refused) = refused {
            self.shared.metrics.refuse_stream(refused);
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        slot: usize,
        socket: TcpStream,
        peer: SocketAddr,
        octets: &[u8],
    ) -> Result<(), Refused> {
        let leg = self.legs.get_mut(slot).ok_or(Refused::UnknownLeg)?;
        let same = |at: &usize| self.streams.get(*at).is_some_and(|stream| stream.peer == peer);
        let former = leg.streams.iter().copied().find(same);
        let checks = leg.machine.checks();
        let stream = Stream {
            socket,
            leg: slot,
            peer,
            input: Deframer::default(),
            output: Outbox::default(),
            awaits_room: false,
            heard_at: now,
        };
        let at = self.streams.insert(stream);
        // The first of those from one address is sent to.
        leg.streams.insert(0, at);
        self.shared.metrics.streams.inc();
        self.heard(now, at, octets);
        if self.legs.get(slot).is_none_or(|leg| leg.machine.checks() == checks) {
            self.forget_stream(at);
            return Err(Refused::Unproven);
        }
        // Another from the same port: the first is gone, and we did not know it.
        former.into_iter().for_each(|at| drop(self.forget_stream(at)));
        self.limit_streams(slot, at);
        // What it said may have closed it.
        let Some(stream) = self.streams.get(at) else { return Ok(()) };
        let watched = self.network.watch_stream(&stream.socket, stream_token(at), None);
        if watched.is_err() {
            self.close_stream(at);
        }
        Ok(())
    }

    /// Who has connections enough loses the one that was heard least recently of
    /// those that are of no use now: it may be dead for long.
    fn limit_streams(&mut self, slot: usize, newest: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        if leg.streams.len() <= STREAMS_OF_A_LEG {
            return;
        }
        let spare = leg.streams.iter().copied().filter(|at| {
            let peer = self.streams.get(*at).map(|stream| stream.peer);
            let in_use = |peer| leg.machine.is_selected(Component::Stream, peer);
            *at != newest && !peer.is_some_and(in_use)
        });
        let oldest = spare.min_by_key(|at| self.streams.get(*at).map(|stream| stream.heard_at));
        oldest.into_iter().for_each(|at| self.close_stream(at));
    }

    /// There is something to read, or room to write.
    pub(super) fn stream_ready(&mut self, now: Instant, at: usize) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        if stream.awaits_room {
            let socket = &stream.socket;
            match stream.output.flush(now, |octets| write(socket, octets)) {
                Ok(late) => (0..late).for_each(|_| self.counters.lost(OwnDrop::StreamFull)),
                Err(_) => return self.close_stream(at),
            }
            if stream.output.is_empty() {
                stream.awaits_room = false;
                watch_for_room(&self.network, &self.streams, at, false);
            }
        }
        let Some(stream) = self.streams.get_mut(at) else { return };
        let mut octets = [0; READ_SIZE];
        match stream.socket.read(&mut octets) {
            Ok(0) => self.close_stream(at),
            Ok(length) => self.heard(now, at, &octets[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close_stream(at),
        }
    }

    fn heard(&mut self, now: Instant, at: usize, octets: &[u8]) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        let (slot, peer) = (stream.leg, stream.peer);
        stream.heard_at = now;
        let mut input = std::mem::take(&mut stream.input);
        let pushed = input.push(octets, |packet| {
            self.counters.packets_received += 1;
            self.counters.octets_received += packet.len() as u64;
            if self.packet.copy_from(packet) {
                self.take(now, slot, Component::Stream, peer);
            }
            true
        });
        match (pushed, self.streams.get_mut(at)) {
            (Ok(()), Some(stream)) => stream.input = input,
            (Ok(()), None) => {}
            (Err(_), _) => {
                self.shared.metrics.refuse_stream(Refused::Framing);
                self.close_stream(at);
            }
        }
    }

    pub(super) fn close_stream(&mut self, at: usize) {
        if let Some(stream) = self.forget_stream(at)
            && let Some(leg) = self.legs.get_mut(stream.leg)
        {
            leg.machine.lose(Component::Stream, stream.peer);
        }
    }

    /// Closes it, and says nothing to the leg: it has another from there, or
    /// knows of none.
    fn forget_stream(&mut self, at: usize) -> Option<Stream> {
        let stream = self.streams.try_remove(at)?;
        self.shared.metrics.streams.dec();
        if let Some(leg) = self.legs.get_mut(stream.leg) {
            leg.streams.retain(|it| *it != at);
        }
        Some(stream)
    }
}

/// Best effort: without it, what waits goes with the peer's next packet.
pub(super) fn watch_for_room<N: Network>(
    network: &N,
    streams: &Slab<Stream>,
    at: usize,
    wanted: bool,
) {
    if let Some(stream) = streams.get(at) {
        let _ = network.watch_stream(&stream.socket, stream_token(at), Some(wanted));
    }
}
