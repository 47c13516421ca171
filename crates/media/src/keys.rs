//! Keys that a peer presses (RFC 4733), each told once.

use std::time::{Duration, Instant};

use crate::rtp::RtpInfo;

/// Nobody presses keys faster.
const LEAST: Duration = Duration::from_millis(40);
const END_BIT: u8 = 0x80;
/// The keys of a telephone (§3.2); flash hook is 16.
const MOST_EVENT: u8 = 16;

/// A key, and how long it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub event: u8,
    pub duration: Duration,
}

/// Reads one peer's events.
#[derive(Debug, Default)]
pub struct KeyReader {
    /// The one that goes on, or was told last.
    current: Option<Current>,
    told_at: Option<Instant>,
    /// That came too fast to be anybody's, or are none of a telephone's.
    pub refused: u32,
}

#[derive(Debug)]
struct Current {
    ssrc: u32,
    timestamp: u32,
    event: u8,
    units: u16,
    is_told: bool,
}

impl KeyReader {
    /// Takes an event's packet. A key is told when it ends; one whose end was
    /// lost, when the next begins.
    pub fn read(
        &mut self,
        now: Instant,
        info: &RtpInfo,
        payload: &[u8],
        clock: u32,
    ) -> Option<Key> {
        let [event, flags, high, low] = *payload.first_chunk::<4>()?;
        let units = u16::from_be_bytes([high, low]);
        let is_same = |it: &Current| (it.ssrc, it.timestamp) == (info.ssrc, info.timestamp);
        let mut former = None;
        if !self.current.as_ref().is_some_and(is_same) {
            // What is late of one that was told is no other one.
            let is_late = |it: &Current| {
                it.ssrc == info.ssrc && (info.timestamp.wrapping_sub(it.timestamp) as i32) < 0
            };
            if self.current.as_ref().is_some_and(is_late) {
                return None;
            }
            former = self.current.take().filter(|it| !it.is_told);
            let (ssrc, timestamp) = (info.ssrc, info.timestamp);
            self.current = Some(Current { ssrc, timestamp, event, units, is_told: false });
        }
        let mut ended = None;
        if let Some(it) = &mut self.current {
            it.units = it.units.max(units);
            if flags & END_BIT != 0 && !it.is_told {
                it.is_told = true;
                ended = Some((it.event, it.units));
            }
        }
        let (event, units) = former.map(|it| (it.event, it.units)).or(ended)?;
        self.tell(now, event, units, clock)
    }

    fn tell(&mut self, now: Instant, event: u8, units: u16, clock: u32) -> Option<Key> {
        let is_hasty = self.told_at.is_some_and(|at| now < at + LEAST);
        if is_hasty || event > MOST_EVENT {
            self.refused += 1;
            return None;
        }
        self.told_at = Some(now);
        let micros = u64::from(units) * 1_000_000 / u64::from(clock.max(1));
        Some(Key { event, duration: Duration::from_micros(micros) })
    }
}
