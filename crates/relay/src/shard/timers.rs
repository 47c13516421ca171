use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// When to look at which leg. Entries are not taken out when a leg's deadline
/// moves: who pops one compares it with what is set for the leg at present.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub at: Instant,
    /// Where the leg is, and which leg there it was.
    pub slot: usize,
    pub serial: u64,
}

impl Timers {
    pub fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }

    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        match self.heap.peek() {
            Some(Reverse(timer)) if timer.at <= now => self.heap.pop().map(|Reverse(timer)| timer),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries that no longer count.
    pub fn retain(&mut self, mut counts: impl FnMut(&Timer) -> bool) {
        self.heap.retain(|Reverse(timer)| counts(timer));
    }
}
