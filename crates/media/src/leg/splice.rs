//! One stream of sound to a peer that the relay itself speaks to, between what the
//! leg's partner says.
//!
//! A browser hears of all unannounced streams the one that it met last, and does not
//! go back to one it has known before: after hold music its user would hear nobody.
//! So the relay is a mixer there (RFC 3550 §7.3), if one that lets only one speak at
//! a time: whoever has the turn goes on where the last one ended, under one SSRC.
//! Reports are told, and brought back, in the numbers of either side.

use std::time::Instant;

use landline_control::PayloadType;
use landline_region::Entropy;
use smallvec::SmallVec;

use super::drops::DropCause;
use super::renewal::first_sequence;
use super::stats::is_event;
use crate::rtcp::sources::{self, Original};
use crate::rtp::RtpInfo;

/// Who has ever had a turn. Who comes after so many others begins anew.
const MAX_SOURCES: usize = 4;
/// A source whose numbers go back or on by more may count anew (RFC 3550 A.1).
const MAX_MISORDER: u32 = 100;
const MAX_DROPOUT: i16 = 3000;
/// How many names are remembered.
const MAX_USED: usize = 64;
/// A source's clock that is further off than a part of a second is set anew.
const PARTS: u32 = 4;

#[derive(Debug, Clone)]
pub struct Splice {
    /// As the peer hears it.
    ssrc: u32,
    /// What its timestamps count: units a second. By another clock it is another
    /// stream (RFC 7160 §4).
    clock: Option<u32>,
    /// Names that the peer has heard.
    used: Vec<u32>,
    sources: SmallVec<[Source; 2]>,
    turn: Option<Turn>,
    /// Where the next turn begins.
    next: u16,
    last: Option<Last>,
    /// As a sender report counts them.
    packets: u32,
    octets: u32,
}

/// By how much a source's timestamps are told later.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    offset: u32,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    ssrc: u32,
    /// Of its first packet: as it was said, and as it is told.
    first: (u16, u16),
    /// How far it has come since.
    length: u32,
    /// What would follow the last packet that was too late: a source that counts
    /// anew (RFC 3550 A.1).
    restarts: Option<u16>,
}

/// The newest packet of sound.
#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    at: Instant,
}

impl Splice {
    /// Under a name that is not in use.
    pub fn new(entropy: &mut Entropy, used: Vec<u32>) -> Self {
        let ssrc = loop {
            let ssrc = entropy.u64() as u32;
            if !used.contains(&ssrc) {
                break ssrc;
            }
        };
        Self {
            ssrc,
            clock: None,
            used,
            sources: SmallVec::new(),
            turn: None,
            next: first_sequence(entropy),
            last: None,
            packets: 0,
            octets: 0,
        }
    }

    fn go_by(&mut self, entropy: &mut Entropy, clock: u32) {
        if self.clock.is_some_and(|former| former != clock) {
            let mut used = std::mem::take(&mut self.used);
            if used.len() == MAX_USED {
                used.remove(0);
            }
            used.push(self.ssrc);
            *self = Self::new(entropy, used);
        }
        self.clock = Some(clock);
    }

    /// Makes a packet of sound, or of keys, the next of the one stream. What comes
    /// from before the source's own turn is late for good: its number is another's by
    /// now.
    pub fn rtp(
        &mut self,
        entropy: &mut Entropy,
        now: Instant,
        info: &RtpInfo,
        kind: Option<&PayloadType>,
        packet: &mut [u8],
    ) -> Result<RtpInfo, DropCause> {
        let is_key = kind.is_some_and(is_event);
        // Comfort noise, and what the peer has not listed, go by the sound's clock.
        let is_noise = kind.is_none_or(|kind| kind.encoding.eq_ignore_ascii_case("CN"));
        let own = kind.map_or(8000, |kind| kind.clock_rate);
        let clock = self.clock.filter(|_| is_noise).unwrap_or(own);
        if !is_key {
            self.go_by(entropy, clock);
        }
        let turn = match self.turn {
            Some(turn) if turn.ssrc == info.ssrc => turn,
            _ => self.give_turn(now, info, clock, is_key),
        };
        let sequence = info.sequence.wrapping_sub(turn.first.0).wrapping_add(turn.first.1);
        // Against the next: one too many if it is the next, and two if the one before.
        let ahead = sequence.wrapping_sub(self.next) as i16;
        let behind = if ahead < 0 { u32::from(ahead.unsigned_abs()) } else { 0 };
        if behind > turn.length || behind > MAX_MISORDER || ahead > MAX_DROPOUT {
            if turn.restarts != Some(info.sequence) {
                let restarts = Some(info.sequence.wrapping_add(1));
                self.turn = Some(Turn { restarts, ..turn });
                return Err(DropCause::Overtaken);
            }
            self.turn = None;
            return self.rtp(entropy, now, info, kind, packet);
        }
        let advance = u32::try_from(i32::from(ahead) + 1).unwrap_or(0);
        let length = turn.length.saturating_add(advance);
        self.turn = Some(Turn { length, restarts: None, ..turn });
        self.next = self.next.wrapping_add(advance as u16);
        let timestamp = info.timestamp.wrapping_add(self.offset(info.ssrc));
        if advance > 0 && !is_key {
            self.last = Some(Last { timestamp, at: now });
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add((packet.len() - info.header_len) as u32);
        let told = RtpInfo { sequence, timestamp, ssrc: self.ssrc, ..*info };
        for (at, field) in [
            (2, &told.sequence.to_be_bytes()[..]),
            (4, &told.timestamp.to_be_bytes()),
            (8, &told.ssrc.to_be_bytes()),
        ] {
            if let Some(octets) = packet.get_mut(at..at + field.len()) {
                octets.copy_from_slice(field);
            }
        }
        Ok(told)
    }

    fn give_turn(&mut self, now: Instant, info: &RtpInfo, clock: u32, is_key: bool) -> Turn {
        self.set_clock(now, info, clock, is_key);
        Turn { ssrc: info.ssrc, first: (info.sequence, self.next), length: 0, restarts: None }
    }

    /// Whoever gets a turn goes on by as much later as it is. Keys are told by the
    /// time at which they were first pressed: that one stays.
    fn set_clock(&mut self, now: Instant, info: &RtpInfo, clock: u32, is_key: bool) {
        let known = self.sources.iter().position(|it| it.ssrc == info.ssrc);
        let waited = |last: &Last| now.saturating_duration_since(last.at).as_micros();
        let due = self.last.as_ref().map_or(info.timestamp, |last| {
            let units = waited(last) * u128::from(clock) / 1_000_000;
            last.timestamp.wrapping_add(units as u32)
        });
        let offset = due.wrapping_sub(info.timestamp);
        match known.and_then(|at| self.sources.get_mut(at)) {
            Some(_) if is_key => {}
            Some(source) => {
                let off = offset.wrapping_sub(source.offset) as i32;
                let told = info.timestamp.wrapping_add(source.offset);
                // Never back to before what the peer has heard.
                let is_back =
                    self.last.is_some_and(|it| (told.wrapping_sub(it.timestamp) as i32) <= 0);
                if is_back || off.unsigned_abs() > clock / PARTS {
                    source.offset = offset;
                }
            }
            None => {
                if self.sources.len() == MAX_SOURCES {
                    self.sources.remove(0);
                }
                self.sources.push(Source { ssrc: info.ssrc, offset });
            }
        }
    }

    fn offset(&self, ssrc: u32) -> u32 {
        self.sources.iter().find(|it| it.ssrc == ssrc).map_or(0, |it| it.offset)
    }

    /// Makes the sources' reports true of the one stream. Where one of them says
    /// that it is over, the stream is not.
    pub fn tell(&self, compound: &mut [u8]) {
        sources::for_each(compound, |report| {
            for source in &self.sources {
                sources::change_sender(report, source.ssrc, |said| {
                    (said.wrapping_add(source.offset), self.packets, self.octets)
                });
            }
            if !sources::is_bye(report) {
                let is_known = |ssrc| self.sources.iter().any(|it| it.ssrc == ssrc);
                sources::replace_own(report, |ssrc| if is_known(ssrc) { self.ssrc } else { ssrc });
            }
        });
    }

    /// Brings what the peer reports of the stream back to the numbers of whoever
    /// has the turn.
    pub fn restore(&self, compound: &mut [u8]) {
        let Some(turn) = self.turn else { return };
        let original = Original { ssrc: turn.ssrc, sequence: turn.first };
        sources::for_each(compound, |report| {
            sources::restore_reported(report, |ssrc| (ssrc == self.ssrc).then_some(original));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtp::write_header;

    const PHONE: u32 = 7;
    const MUSIC: u32 = 9;

    struct Peer {
        splice: Splice,
        entropy: Entropy,
        now: Instant,
    }

    fn peer() -> Peer {
        let splice = Splice::new(&mut Entropy::new([3; 32]), Vec::new());
        Peer { splice, entropy: Entropy::new([4; 32]), now: Instant::now() }
    }

    impl Peer {
        fn hears(
            &mut self,
            ssrc: u32,
            sequence: u16,
            timestamp: u32,
        ) -> Result<RtpInfo, DropCause> {
            self.hears_as("PCMU", ssrc, sequence, timestamp)
        }

        fn hears_as(
            &mut self,
            encoding: &str,
            ssrc: u32,
            sequence: u16,
            timestamp: u32,
        ) -> Result<RtpInfo, DropCause> {
            let clock_rate = if encoding == "OPUS" { 48_000 } else { 8000 };
            let kind =
                PayloadType { number: 0, encoding: encoding.into(), clock_rate, channels: 1 };
            let mut packet = write_header(false, 0, sequence, timestamp, ssrc).to_vec();
            packet.extend_from_slice(&[0; 160]);
            let info = RtpInfo::parse(&packet).unwrap();
            let told =
                self.splice.rtp(&mut self.entropy, self.now, &info, Some(&kind), &mut packet)?;
            assert_eq!(RtpInfo::parse(&packet).unwrap(), told, "the packet says what is told");
            Ok(told)
        }

        fn after(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }
    }

    #[test]
    fn who_speaks_in_turn_is_heard_as_one() {
        let mut peer = peer();
        let first = peer.hears(PHONE, 65_535, 160).unwrap();
        assert!(first.ssrc != PHONE && first.ssrc != MUSIC);
        assert_eq!(first.timestamp, 160);
        peer.after(20);
        let next = peer.hears(PHONE, 0, 320).unwrap();
        assert_eq!((next.ssrc, next.sequence), (first.ssrc, first.sequence + 1));
        peer.after(20);
        let music = peer.hears(MUSIC, 4_000, 77).unwrap();
        assert_eq!((music.ssrc, music.sequence), (first.ssrc, first.sequence + 2));
        assert_eq!(music.timestamp, 480, "it goes on when it comes");
        peer.after(1_000);
        peer.hears(MUSIC, 4_050, 77 + 8_000).unwrap();
        peer.after(20);
        // It was silent meanwhile, and its clock stood still.
        let back = peer.hears(PHONE, 1, 480).unwrap();
        assert_eq!((back.ssrc, back.sequence), (first.ssrc, first.sequence + 53));
        assert_eq!(back.timestamp, 480 + 8_000 + 160);
        peer.after(20);
        let after = peer.hears(PHONE, 2, 640).unwrap();
        assert_eq!(after.timestamp - back.timestamp, 160);
    }

    #[test]
    fn no_number_is_ever_used_twice() {
        let mut peer = peer();
        let first = peer.hears(PHONE, 100, 0).unwrap();
        peer.hears(PHONE, 102, 320).unwrap();
        assert_eq!(peer.hears(PHONE, 101, 160).unwrap().sequence, first.sequence + 1, "overtaken");
        assert_eq!(peer.hears(PHONE, 99, 0), Err(DropCause::Overtaken), "from before it began");
        peer.hears(MUSIC, 1, 0).unwrap();
        let back = peer.hears(PHONE, 103, 480).unwrap();
        assert_eq!(back.sequence, first.sequence + 4);
        assert_eq!(peer.hears(PHONE, 102, 320), Err(DropCause::Overtaken), "the music's by now");
        // A turn may be longer than half of all numbers.
        for n in 0..40_000u16 {
            peer.hears(PHONE, 104 + n, 0).unwrap();
        }
        assert!(peer.hears(PHONE, 104, 0).is_err(), "of long ago");
        let late = peer.hears(PHONE, 104 + 39_998, 0).unwrap();
        assert_eq!(late.sequence, back.sequence.wrapping_add(39_999));
    }

    #[test]
    fn a_source_that_counts_anew_is_heard_from_its_second_packet_on() {
        for length in [10, 25_000u16] {
            let mut peer = peer();
            let first = peer.hears(PHONE, 30_000, 0).unwrap();
            for n in 1..length {
                peer.hears(PHONE, 30_000 + n, 0).unwrap();
            }
            assert_eq!(peer.hears(PHONE, 10_100, 0), Err(DropCause::Overtaken));
            let told = peer.hears(PHONE, 10_101, 160).unwrap();
            assert_eq!(told.sequence, first.sequence.wrapping_add(length));
            assert_eq!(
                peer.hears(PHONE, 10_102, 320).unwrap().sequence,
                told.sequence.wrapping_add(1)
            );
        }
    }

    #[test]
    fn noise_by_a_static_number_begins_no_other_stream() {
        let mut peer = peer();
        let first = peer.hears_as("OPUS", PHONE, 1, 960).unwrap();
        assert_eq!(peer.hears_as("CN", PHONE, 2, 1_920).unwrap().ssrc, first.ssrc);
        assert_eq!(peer.hears_as("OPUS", PHONE, 3, 2_880).unwrap().ssrc, first.ssrc);
    }

    #[test]
    fn a_key_has_one_time_however_many_speak_between() {
        let mut peer = peer();
        peer.hears(PHONE, 1, 160).unwrap();
        peer.hears(MUSIC, 1, 0).unwrap();
        peer.after(20);
        let pressed = peer.hears_as("telephone-event", PHONE, 2, 320).unwrap();
        for n in 0..100 {
            peer.after(20);
            peer.hears(MUSIC, 2 + n, 160 * u32::from(n + 1)).unwrap();
            let held = peer.hears_as("telephone-event", PHONE, 3 + n, 320).unwrap();
            assert_eq!(held.timestamp, pressed.timestamp);
        }
    }

    #[test]
    fn by_another_clock_it_is_another_stream() {
        let mut peer = peer();
        let first = peer.hears(PHONE, 1, 160).unwrap();
        let music = peer.hears_as("OPUS", MUSIC, 1, 960).unwrap();
        assert_ne!(music.ssrc, first.ssrc);
        let next = peer.hears_as("OPUS", MUSIC, 2, 1_920).unwrap();
        assert_eq!((next.ssrc, next.sequence), (music.ssrc, music.sequence + 1));
        // Keys may be counted by whichever.
        assert_eq!(peer.hears_as("telephone-event", PHONE, 2, 160).unwrap().ssrc, music.ssrc);
        let back = peer.hears(PHONE, 3, 320).unwrap();
        assert!(back.ssrc != music.ssrc && back.ssrc != first.ssrc);
    }

    #[test]
    fn reports_speak_of_the_one_stream() {
        let octets =
            |words: &[u32]| words.iter().flat_map(|it| it.to_be_bytes()).collect::<Vec<_>>();
        let mut peer = peer();
        peer.hears(MUSIC, 50, 1_000).unwrap();
        peer.after(20);
        let told = peer.hears(PHONE, 500, 320).unwrap();
        let mut report = octets(&[0x80c8_0006, PHONE, 0, 0, 480, 1, 160]);
        peer.splice.tell(&mut report);
        let expected = [0x80c8_0006, told.ssrc, 0, 0, told.timestamp + 160, 2, 320];
        assert_eq!(report, octets(&expected));
        // Its own farewell is not the stream's.
        let mut bye = octets(&[0x81cb_0001, PHONE]);
        peer.splice.tell(&mut bye);
        assert_eq!(bye, octets(&[0x81cb_0001, PHONE]));

        let highest = u32::from(told.sequence) + 5;
        let mut heard = octets(&[0x81c9_0007, 1, told.ssrc, 0, highest, 3, 4, 5]);
        peer.splice.restore(&mut heard);
        assert_eq!(heard, octets(&[0x81c9_0007, 1, PHONE, 0, 505, 3, 4, 5]));
    }
}
