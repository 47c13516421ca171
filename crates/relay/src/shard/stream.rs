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
}

impl Stream {
    /// Sends a packet, or keeps it until there is room. Returns whether the
    /// network has to be told to watch for that.
    pub fn send(&mut self, counters: &mut Counters, octets: &[u8]) -> bool {
        let socket = &self.socket;
        match self.output.send(octets, |octets| write(socket, octets)) {
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
        let Arrival { place, socket, from, octets } = arrival;
        let refused = match self.legs.get(place.slot) {
            Some(leg) if leg.serial == place.serial => {
                // Another from the same port: the first is gone, and we do not
                // know it yet.
                let stale = leg.streams.iter().copied().find(|at| self.is_from(*at, from));
                stale.into_iter().for_each(|at| self.close_stream(at));
                self.admit(now, place.slot, socket, from, &octets).err()
            }
            _ => Some(Refused::UnknownLeg),
        };
        if let Some(refused) = refused {
            self.shared.metrics.refuse_stream(refused);
        }
    }

    fn is_from(&self, at: usize, peer: SocketAddr) -> bool {
        self.streams.get(at).is_some_and(|stream| stream.peer == peer)
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
        if leg.streams.len() >= STREAMS_OF_A_LEG {
            return Err(Refused::Unproven);
        }
        let (input, output) = (Deframer::default(), Outbox::default());
        let stream = Stream { socket, leg: slot, peer, input, output, awaits_room: false };
        let at = self.streams.insert(stream);
        leg.streams.push(at);
        self.shared.metrics.streams.inc();
        self.heard(now, at, octets);
        let leg = self.legs.get(slot);
        if !leg.is_some_and(|leg| leg.machine.is_validated(Component::Stream, peer)) {
            self.close_stream(at);
            return Err(Refused::Unproven);
        }
        // What it said may have closed it.
        let Some(stream) = self.streams.get(at) else { return Ok(()) };
        let watched = self.network.watch_stream(&stream.socket, stream_token(at), None);
        if watched.is_err() {
            self.close_stream(at);
        }
        Ok(())
    }

    /// There is something to read, or room to write.
    pub(super) fn stream_ready(&mut self, now: Instant, at: usize) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        if stream.awaits_room {
            let socket = &stream.socket;
            let flushed = stream.output.flush(|octets| write(socket, octets));
            if flushed.is_err() {
                return self.close_stream(at);
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
        let Some(stream) = self.streams.try_remove(at) else { return };
        self.shared.metrics.streams.dec();
        if let Some(leg) = self.legs.get_mut(stream.leg) {
            leg.streams.retain(|it| *it != at);
            leg.machine.close_stream(stream.peer);
        }
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
