//! Keys that are pressed in a stream that has none of its own: events of RFC 4733
//! between its packets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::timeline::Timeline;
use super::{Stream, Translator};
use crate::leg::Heard;
use crate::packet::PacketBuf;
use crate::play::Voice;
use crate::rtp::RtpInfo;

/// From one packet of an event to the next.
const STEP: Duration = Duration::from_millis(20);
/// The last packet of an event comes as often (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// Between two events, so that the same key twice is two.
const PAUSE: Duration = Duration::from_millis(60);
/// Keys that wait for their turn: as many as anybody dials in one go.
const MOST: usize = 32;
/// Volume in -dBm0 (§2.3.3).
const VOLUME: u8 = 10;
const END_BIT: u8 = 0x80;

/// A key, for so long; sent by this payload type, on its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Press {
    /// RFC 4733 §3.2: 0 to 9, 10 for `*`, 11 for `#`, A to D.
    pub event: u8,
    pub duration: Duration,
    pub number: u8,
    /// In Hz.
    pub clock: u32,
}

#[derive(Default)]
pub(super) struct Presses {
    waiting: VecDeque<Press>,
    under_way: Option<UnderWay>,
    /// The next event begins no sooner.
    not_before: Option<Instant>,
    /// Should the stream have said nothing yet.
    voice: Option<Voice>,
}

struct UnderWay {
    press: Press,
    /// Its RTP time, from first to last.
    timestamp: u32,
    /// How long it is said to last so far.
    told: Duration,
    ends: u8,
    next_at: Instant,
}

impl Presses {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.under_way {
            Some(it) => Some(it.next_at),
            None => self.not_before.filter(|_| !self.waiting.is_empty()),
        }
    }
}

impl Translator {
    /// The source's stream went past so far, and goes on from there by way of the
    /// translator. Of no meaning once there is one.
    pub fn follow(&mut self, heard: Heard) {
        self.stream.get_or_insert_with(|| Stream::following(heard));
    }

    /// Presses a key once those before it are done; by `voice` if the stream has
    /// not begun. False when too many wait.
    pub fn press(&mut self, now: Instant, press: Press, voice: Voice) -> bool {
        if self.presses.waiting.len() >= MOST {
            return false;
        }
        let at = self.presses.not_before.map_or(now, |at| at.max(now));
        self.presses.not_before = Some(at);
        self.presses.voice = Some(voice);
        self.presses.waiting.push_back(press);
        true
    }

    /// The next packet of a key, if it is due.
    pub(super) fn write_press(&mut self, now: Instant, packet: &mut PacketBuf) -> bool {
        if self.presses.is_idle() || self.presses.poll_timeout().is_none_or(|at| now < at) {
            return false;
        }
        let stream = match (&mut self.stream, self.presses.voice) {
            (Some(stream), _) => stream,
            (none, Some(voice)) => none.insert(Stream::new(now, &info_of(voice))),
            (None, None) => return false,
        };
        let begins = self.presses.under_way.is_none();
        if begins {
            let Some(press) = self.presses.waiting.pop_front() else { return false };
            let timestamp = stream.time_of_press(now);
            let told = Duration::ZERO;
            self.presses.under_way =
                Some(UnderWay { press, timestamp, told, ends: 0, next_at: now });
        }
        let Some(it) = &mut self.presses.under_way else { return false };
        it.told = (it.told + STEP).min(it.press.duration);
        let is_end = it.told >= it.press.duration;
        it.ends += u8::from(is_end);
        let units = it.told.as_micros() * u128::from(it.press.clock) / 1_000_000;
        let units = u16::try_from(units).unwrap_or(u16::MAX);
        let flags = VOLUME | if is_end { END_BIT } else { 0 };
        let [high, low] = units.to_be_bytes();
        let payload = [it.press.event, flags, high, low];
        let (number, timestamp) = (it.press.number, it.timestamp);
        // Late, it goes on from now.
        it.next_at = it.next_at.max(now) + STEP;
        if it.ends >= ENDS {
            self.presses.under_way = None;
            self.presses.not_before = Some(now + PAUSE);
        }
        stream.write(begins, number, timestamp, &payload, packet)
    }
}

impl Stream {
    fn following(heard: Heard) -> Self {
        let next = heard.sequence.wrapping_add(1);
        let info = info_of(Voice { ssrc: heard.ssrc, sequence: next, timestamp: heard.timestamp });
        Self {
            timeline: Timeline::following(heard.at, heard.timestamp, heard.clock),
            begins: false,
            heard: heard.sequence,
            packets: heard.packets,
            octets: heard.octets,
            ..Self::new(heard.at, &info)
        }
    }

    /// When an event begins that the source knows nothing of: never twice the same.
    fn time_of_press(&mut self, now: Instant) -> u32 {
        let mut told = self.timeline.now(now);
        if let Some((_, former)) = self.event
            && told.wrapping_sub(former) as i32 <= 0
        {
            told = former.wrapping_add(1);
        }
        // No packet of the source's is part of it.
        self.event = Some((told.wrapping_sub(1 << 31), told));
        told
    }
}

fn info_of(Voice { ssrc, sequence, timestamp }: Voice) -> RtpInfo {
    RtpInfo {
        payload_type: 0,
        marker: false,
        sequence,
        timestamp,
        ssrc,
        header_len: crate::rtp::FIXED_HEADER,
        padded: false,
    }
}
