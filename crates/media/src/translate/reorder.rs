//! Packets in the order in which they were sent.
//!
//! There is no clock of its own in it: what comes in order goes on at once, and
//! the hearer's buffer evens out the network's jitter as it would without us.
//! Only behind a missing packet the next ones wait, no longer than such packets
//! have been late.

use std::time::{Duration, Instant};

use crate::rtp::RtpInfo;

/// Packets that may wait.
const WAITING: usize = 16;
/// Further ahead or behind is another stream.
const MAX_AHEAD: i16 = 500;
const MAX_BEHIND: i16 = -100;

/// How long a missing packet is waited for. A packet that was overtaken comes
/// right behind the one that overtook it; the more that come later than that,
/// the longer.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(80);
const STEP: Duration = Duration::from_millis(20);
/// Packets without a late one after which the wait becomes shorter.
const CALM: u32 = 500;

#[derive(Debug)]
pub(super) struct Reorder {
    /// The number whose turn it is, extended by its cycles.
    next: u64,
    waiting: Vec<Slot>,
    /// Slots that are empty, for their room.
    spare: Vec<Slot>,
    wait: Duration,
    calm: u32,
    /// Came after their turn.
    pub late: u32,
}

/// A packet that waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Slot {
    extended: u64,
    pub number: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub arrived: Option<Instant>,
    pub payload: Vec<u8>,
}

impl Reorder {
    pub fn new(first: u16) -> Self {
        Self {
            next: 1 << 32 | u64::from(first),
            waiting: Vec::new(),
            spare: Vec::new(),
            wait: SHORTEST,
            calm: 0,
            late: 0,
        }
    }

    pub fn push(&mut self, now: Instant, info: &RtpInfo, payload: &[u8]) {
        let ahead = info.sequence.wrapping_sub(self.next as u16) as i16;
        if !(MAX_BEHIND..=MAX_AHEAD).contains(&ahead) {
            self.begin_anew(info.sequence);
            return self.push(now, info, payload);
        }
        if ahead < 0 {
            self.late += 1;
            self.calm = 0;
            self.wait = (self.wait + STEP).min(LONGEST);
            return;
        }
        let extended = self.next + ahead as u64;
        if self.waiting.iter().any(|it| it.extended == extended) {
            return;
        }
        if self.waiting.len() >= 2 * WAITING {
            return;
        }
        let mut slot = self.spare.pop().unwrap_or_default();
        slot.extended = extended;
        slot.number = info.payload_type;
        slot.marker = info.marker;
        slot.sequence = info.sequence;
        slot.timestamp = info.timestamp;
        slot.arrived = Some(now);
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        self.waiting.push(slot);
    }

    /// The stream jumped: what waited is of the former one.
    fn begin_anew(&mut self, sequence: u16) {
        self.spare.append(&mut self.waiting);
        self.next = ((self.next >> 16) + 2) << 16 | u64::from(sequence);
    }

    /// The packet whose turn it is, and how many were lost right before it.
    pub fn peek(&self, now: Instant) -> Option<(&Slot, u64)> {
        let slot = self.first()?;
        let is_due = slot.extended == self.next
            || self.waiting.len() > WAITING
            || self.deadline().is_some_and(|it| it <= now);
        is_due.then(|| (slot, slot.extended - self.next.min(slot.extended)))
    }

    /// Takes what [`Self::peek`] showed; give it back when it was used.
    pub fn take(&mut self) -> Option<Slot> {
        let first = self.first()?.extended;
        let at = self.waiting.iter().position(|it| it.extended == first)?;
        self.next = first + 1;
        self.calm += 1;
        if self.calm > CALM {
            self.calm = 0;
            self.wait = self.wait.saturating_sub(STEP).max(SHORTEST);
        }
        Some(self.waiting.swap_remove(at))
    }

    pub fn give_back(&mut self, slot: Slot) {
        self.spare.push(slot);
    }

    /// When the missing packet will have been waited for long enough.
    pub fn deadline(&self) -> Option<Instant> {
        let arrived = self.waiting.iter().filter_map(|it| it.arrived).min()?;
        Some(arrived + self.wait)
    }

    fn first(&self) -> Option<&Slot> {
        self.waiting.iter().min_by_key(|it| it.extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::write_header;

    fn push(reorder: &mut Reorder, now: Instant, sequence: u16) {
        let header = write_header(false, 0, sequence, 0, 1);
        reorder.push(now, &RtpInfo::parse(&header).unwrap(), &[1]);
    }

    fn take_all(reorder: &mut Reorder, now: Instant) -> Vec<(u16, u64)> {
        let mut taken = Vec::new();
        while let Some(lost) = reorder.peek(now).map(|(_, lost)| lost) {
            let slot = reorder.take().unwrap();
            taken.push((slot.sequence, lost));
            reorder.give_back(slot);
        }
        taken
    }

    #[test]
    fn what_comes_in_order_does_not_wait_and_what_was_overtaken_is_put_back() {
        let now = Instant::now();
        let mut reorder = Reorder::new(65_534);
        push(&mut reorder, now, 65_534);
        assert_eq!(take_all(&mut reorder, now), [(65_534, 0)]);
        push(&mut reorder, now, 0);
        push(&mut reorder, now, 0);
        assert_eq!(take_all(&mut reorder, now), []);
        push(&mut reorder, now, 65_535);
        assert_eq!(take_all(&mut reorder, now), [(65_535, 0), (0, 0)]);
        assert_eq!(reorder.deadline(), None);
    }

    #[test]
    fn a_missing_packet_is_waited_for_only_so_long() {
        let now = Instant::now();
        let mut reorder = Reorder::new(10);
        push(&mut reorder, now, 12);
        assert_eq!(take_all(&mut reorder, now + SHORTEST / 2), []);
        assert_eq!(reorder.deadline(), Some(now + SHORTEST));
        assert_eq!(take_all(&mut reorder, now + SHORTEST), [(12, 2)]);
        // Those that come after all make the next wait longer.
        push(&mut reorder, now, 11);
        assert_eq!(reorder.late, 1);
        push(&mut reorder, now, 14);
        assert_eq!(reorder.deadline(), Some(now + SHORTEST + STEP));
    }

    #[test]
    fn only_so_many_wait_and_a_jump_is_another_stream() {
        let now = Instant::now();
        let mut reorder = Reorder::new(10);
        for sequence in 11..200 {
            push(&mut reorder, now, sequence);
        }
        assert!(reorder.waiting.len() <= 2 * WAITING);
        assert_eq!(take_all(&mut reorder, now).first(), Some(&(11, 1)));
        push(&mut reorder, now, 40_000);
        assert_eq!(take_all(&mut reorder, now), [(40_000, 0)]);
    }
}
