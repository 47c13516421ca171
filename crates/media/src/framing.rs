//! Packets on a connection (RFC 4571 §2): each behind its length, two octets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::packet::MAX_PACKET;

const LENGTH: usize = 2;

/// What may wait for a peer that reads slowly, in octets.
const MAX_WAITING: usize = 64 * 1024;

/// And for how long media may: on a connection that is too slow for a call, more
/// would be how late the call is heard to its end.
const MAX_AGE: Duration = Duration::from_millis(300);

/// No packet is that long: the peer is out of step, or means harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} octets is longer than any packet")]
pub struct TooLong(pub usize);

/// Cuts what a connection brings into packets. After an error it is unusable.
#[derive(Debug, Default)]
pub struct Deframer {
    /// A part of a frame.
    rest: Vec<u8>,
}

impl Deframer {
    /// Takes what came and gives out the packets that are whole by now, one by
    /// one, until `accept` wants no more: then the connection is to be closed.
    /// Holds less than one frame in between.
    pub fn push(
        &mut self,
        mut octets: &[u8],
        mut accept: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), TooLong> {
        while !self.rest.is_empty() {
            // As much as is wanting of the length, then of the packet.
            let wanted = match length(&self.rest)? {
                None => LENGTH,
                Some(length) => LENGTH + length,
            };
            let (more, after) = octets.split_at(octets.len().min(wanted - self.rest.len()));
            self.rest.extend_from_slice(more);
            octets = after;
            match length(&self.rest)? {
                Some(length) if self.rest.len() == LENGTH + length => {
                    let goes_on = length == 0 || accept(&self.rest[LENGTH..]);
                    self.rest.clear();
                    if !goes_on {
                        return Ok(());
                    }
                }
                _ if octets.is_empty() => return Ok(()),
                _ => {}
            }
        }
        while let Some(length) = length(octets)? {
            let Some(packet) = octets.get(LENGTH..LENGTH + length) else { break };
            // An empty one says nothing.
            if length > 0 && !accept(packet) {
                return Ok(());
            }
            octets = &octets[LENGTH + length..];
        }
        self.rest.extend_from_slice(octets);
        Ok(())
    }
}

fn length(octets: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(field) = octets.first_chunk::<LENGTH>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes(*field)) {
        // A packet may have to be told from one that was cut short.
        length if length >= MAX_PACKET => Err(TooLong(length)),
        length => Ok(Some(length)),
    }
}

/// Frames that wait until a connection takes more. Media does not wait for
/// ever: what is old goes, and where there is no room for all, the oldest.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Each with the time since when it waits.
    frames: VecDeque<(Instant, Vec<u8>)>,
    octets: usize,
    /// Of the first frame, gone already: the rest has to follow.
    written: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Sends a packet by `write`, which takes as many octets as there is room
    /// for. What it does not take waits. Returns how many packets were dropped.
    pub fn send<E>(
        &mut self,
        now: Instant,
        packet: &[u8],
        mut write: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut frame = [0; LENGTH + 2048];
        let length = LENGTH + packet.len();
        let (Some(frame), Ok(field)) = (frame.get_mut(..length), u16::try_from(packet.len()))
        else {
            return Ok(1);
        };
        frame[..LENGTH].copy_from_slice(&field.to_be_bytes());
        frame[LENGTH..].copy_from_slice(packet);
        let written = if self.is_empty() { write(frame)? } else { 0 };
        if written >= length {
            return Ok(0);
        }
        if self.is_empty() {
            self.written = written;
        }
        self.octets += length;
        self.frames.push_back((now, frame.to_vec()));
        Ok(self.make_room(now))
    }

    /// Sends what waits, as far as `write` takes it, but for what has waited too
    /// long: returns how many packets that were.
    pub fn flush<E>(
        &mut self,
        now: Instant,
        mut write: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let dropped = self.make_room(now);
        while let Some((_, frame)) = self.frames.front() {
            let rest = frame.get(self.written..).unwrap_or_default();
            let (whole, taken) = (rest.len(), write(rest)?);
            if taken < whole {
                self.written += taken;
                break;
            }
            self.octets -= frame.len();
            self.frames.pop_front();
            self.written = 0;
        }
        Ok(dropped)
    }

    fn make_room(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        loop {
            // A frame that was begun has to end.
            let first = usize::from(self.written > 0);
            let mut waiting = self.frames.iter().enumerate().skip(first);
            let oldest = waiting.find(|(_, (_, frame))| is_media(frame));
            let at = match oldest {
                Some((at, (since, _))) if now > *since + MAX_AGE => at,
                _ if self.octets <= MAX_WAITING => return dropped,
                Some((at, _)) => at,
                None => first,
            };
            let Some((_, frame)) = self.frames.remove(at) else { return dropped };
            self.octets -= frame.len();
            dropped += 1;
        }
    }
}

/// And no check or handshake, which the peer waits for (RFC 7983).
fn is_media(frame: &[u8]) -> bool {
    frame.get(LENGTH).is_some_and(|first| (128..=191).contains(first))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn framed(packets: &[&[u8]]) -> Vec<u8> {
        let frame = |packet: &&[u8]| [&(packet.len() as u16).to_be_bytes(), *packet].concat();
        packets.iter().flat_map(frame).collect()
    }

    fn all(deframer: &mut Deframer, octets: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let accept = |packet: &[u8]| {
            packets.push(packet.to_vec());
            true
        };
        deframer.push(octets, accept).unwrap();
        packets
    }

    #[test]
    fn packets_survive_any_split_of_the_stream_and_empty_ones_are_passed_over() {
        let packets: [&[u8]; 4] = [&[1; 20], &[], &[2], &[3; 1200]];
        let wire = framed(&packets);
        let whole = [packets[0], packets[2], packets[3]];
        for cut in 0..=wire.len() {
            let mut deframer = Deframer::default();
            let mut seen = all(&mut deframer, &wire[..cut]);
            seen.extend(all(&mut deframer, &wire[cut..]));
            assert_eq!(seen, whole, "cut at {cut}");
        }
        let mut deframer = Deframer::default();
        let seen: Vec<_> = wire.chunks(1).flat_map(|one| all(&mut deframer, one)).collect();
        assert_eq!(seen, whole);
    }

    #[test]
    fn a_frame_longer_than_a_packet_is_an_error_before_it_is_read() {
        let length = (MAX_PACKET as u16).to_be_bytes();
        assert_eq!(Deframer::default().push(&length, |_| true), Err(TooLong(MAX_PACKET)));
        let mut deframer = Deframer::default();
        deframer.push(&[0xff], |_| true).unwrap();
        assert_eq!(deframer.push(&[0xff], |_| true), Err(TooLong(0xffff)));
    }

    /// A connection that takes so many octets, and what it has taken.
    struct Pipe {
        room: usize,
        taken: Vec<u8>,
    }

    impl Pipe {
        fn write(&mut self, octets: &[u8]) -> Result<usize, Infallible> {
            let length = octets.len().min(self.room);
            self.room -= length;
            self.taken.extend_from_slice(&octets[..length]);
            Ok(length)
        }
    }

    #[test]
    fn a_slow_reader_misses_the_oldest_media_and_no_frame_is_torn() {
        let mut pipe = Pipe { room: 100, taken: Vec::new() };
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let mut dropped = 0;
        let packet = |n: u8, kind: u8| [&[kind, n][..], &[n; 998]].concat();
        for n in 0..200 {
            let kind = if n == 1 { 22 } else { 0x80 };
            dropped += outbox.send(now, &packet(n, kind), |octets| pipe.write(octets)).unwrap();
        }
        assert!((130..150).contains(&dropped), "{dropped}");
        pipe.room = usize::MAX;
        assert_eq!(outbox.flush(now, |octets| pipe.write(octets)), Ok(0));
        assert!(outbox.is_empty());
        let heard = all(&mut Deframer::default(), &pipe.taken);
        assert_eq!(heard.len(), 200 - dropped);
        let numbers: Vec<_> = heard.iter().map(|packet| packet[1]).collect();
        assert_eq!(numbers[..2], [0, 1], "what was begun, and the handshake");
        assert_eq!(numbers[2] as usize, dropped + 2);
        assert!(numbers.is_sorted() && numbers.last() == Some(&199));
    }

    /// 60 kbit/s for a call that wants 80, for a minute.
    #[test]
    fn a_connection_that_is_too_slow_loses_packets_and_does_not_fall_behind() {
        let mut pipe = Pipe { room: 0, taken: Vec::new() };
        let (mut outbox, begun) = (Outbox::default(), Instant::now());
        let (mut dropped, mut worst) = (0, 0);
        for n in 0..3000_u32 {
            let now = begun + Duration::from_millis(20) * n;
            pipe.room += 150;
            dropped += outbox.flush(now, |octets| pipe.write(octets)).unwrap();
            let packet = [&[0x80][..], &n.to_be_bytes(), &[0; 193]].concat();
            dropped += outbox.send(now, &packet, |octets| pipe.write(octets)).unwrap();
            let whole = pipe.taken.len() / 200 * 200;
            if let Some(last) = pipe.taken[..whole].chunks(200).next_back() {
                let last = u32::from_be_bytes(last[3..7].try_into().unwrap());
                worst = worst.max(n - last);
            }
        }
        assert!(worst <= 17, "{worst} packets late");
        assert!((700..800).contains(&dropped), "{dropped}");
    }

    #[test]
    fn who_reads_as_fast_as_we_write_misses_nothing() {
        let mut pipe = Pipe { room: usize::MAX, taken: Vec::new() };
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        for n in 0..200 {
            assert_eq!(outbox.send(now, &[0x80, n], |octets| pipe.write(octets)), Ok(0));
        }
        assert_eq!(all(&mut Deframer::default(), &pipe.taken).len(), 200);
    }
}
