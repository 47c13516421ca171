//! Where on the other side's clock a packet of the source lies.

use std::time::{Duration, Instant};

use super::reorder::Slot;

/// More than this is not made up for: it would be silence anyway.
const CONCEALED_MS: u32 = 120;
/// A clock this much off goes on without a gap.
const NEXT_MS: u32 = 5;
/// A source's clock that is further from ours has jumped.
const JUMP_MS: u32 = 1000;

pub(super) struct Timeline {
    /// Of the last packet: its time, the time it was told as, when it came.
    said: u32,
    told: u32,
    arrived: Instant,
    /// Hz, of the source and of what is told.
    from_clock: u32,
    to_clock: u32,
    /// Where the sound that was taken in ends, as it is told.
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Right behind the packet before it.
    Next,
    /// Behind a loss that can be made up for, in units of the told clock.
    Behind { at: u32, missing: u32 },
    /// Behind a pause.
    Apart { at: u32 },
}

impl Place {
    pub fn is_apart(self) -> bool {
        matches!(self, Self::Apart { .. })
    }
}

impl Timeline {
    /// Times go on from where the source's begin, until it is known how they
    /// are counted.
    pub fn new(now: Instant, timestamp: u32) -> Self {
        let clock = 8000;
        Self {
            said: timestamp,
            told: timestamp,
            arrived: now,
            from_clock: clock,
            to_clock: clock,
            end: timestamp,
        }
    }

    /// Of a stream that has come there, told as it was said.
    pub fn following(at: Instant, timestamp: u32, clock: u32) -> Self {
        let clock = clock.max(1);
        Self { from_clock: clock, to_clock: clock, ..Self::new(at, timestamp) }
    }

    /// What is said, and what is told of it, is counted by these clocks from now
    /// on.
    pub fn set_clocks(&mut self, slot: &Slot, clocks: (u32, u32)) {
        if clocks == (self.from_clock, self.to_clock) {
            return;
        }
        (self.from_clock, self.to_clock) = clocks;
        // The first packet of its kind comes right behind what was before.
        (self.said, self.told) = (slot.timestamp, self.end);
    }

    /// A time of the source's as it is told.
    pub fn map(&self, said: u32) -> u32 {
        let passed = i64::from(said.wrapping_sub(self.said) as i32);
        let passed = passed * i64::from(self.to_clock) / i64::from(self.from_clock);
        self.told.wrapping_add(passed as u32)
    }

    /// Now, as it is told.
    pub fn now(&self, now: Instant) -> u32 {
        let waited = now.saturating_duration_since(self.arrived);
        let waited = self.units(u32::try_from(waited.as_millis()).unwrap_or(u32::MAX));
        let passed = self.told.wrapping_add(waited);
        // Sound that was taken in is told already.
        if (self.end.wrapping_sub(passed) as i32) > 0 { self.end } else { passed }
    }

    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn place(&self, slot: &Slot, lost: u64) -> Place {
        let at = self.map(slot.timestamp);
        let ahead = at.wrapping_sub(self.end) as i32;
        let waited =
            slot.arrived.map_or(Duration::ZERO, |it| it.saturating_duration_since(self.arrived));
        let waited = self.units(u32::try_from(waited.as_millis()).unwrap_or(u32::MAX));
        let jump = i64::from(self.units(JUMP_MS));
        let is_jump = (i64::from(ahead) - i64::from(waited)).abs() > jump;
        match ahead {
            _ if is_jump && waited <= self.units(CONCEALED_MS) => Place::Next,
            _ if is_jump => Place::Apart { at: self.end.wrapping_add(waited) },
            ..=-1 => Place::Next,
            _ if ahead.unsigned_abs() <= self.units(NEXT_MS) => Place::Next,
            _ if lost > 0 && ahead.unsigned_abs() <= self.units(CONCEALED_MS) => {
                Place::Behind { at, missing: ahead.unsigned_abs() }
            }
            _ => Place::Apart { at },
        }
    }

    /// The packet lies there, with so many units of sound, what was made up
    /// before it included. When its sound begins, as it is told.
    pub fn take(&mut self, slot: &Slot, place: Place, length: u32) -> u32 {
        let begin = match place {
            Place::Next | Place::Behind { .. } => self.end,
            Place::Apart { at } => at,
        };
        let at = match place {
            Place::Behind { at, .. } => at,
            Place::Next | Place::Apart { .. } => begin,
        };
        self.end = begin.wrapping_add(length);
        self.note(slot, at);
        at
    }

    /// Where what is no sound lies beside it. Nothing is counted on from there: it
    /// may go by a clock of its own.
    pub fn beside(&self, slot: &Slot) -> u32 {
        match self.place(slot, 0) {
            Place::Next => self.end,
            Place::Behind { at, .. } | Place::Apart { at } => at,
        }
    }

    /// The sound was filled up with so many units of silence.
    pub fn lengthen(&mut self, units: u32) {
        self.end = self.end.wrapping_add(units);
    }

    fn note(&mut self, slot: &Slot, at: u32) {
        (self.said, self.told) = (slot.timestamp, at);
        self.arrived = slot.arrived.unwrap_or(self.arrived);
    }

    fn units(&self, ms: u32) -> u32 {
        (u64::from(ms) * u64::from(self.to_clock) / 1000).min(u64::from(u32::MAX)) as u32
    }
}
