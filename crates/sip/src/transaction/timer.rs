//! One queue for the timers of all transactions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use slab::Slab;

/// A binary heap with lazy deletion: cancelling costs nothing but a mark, and
/// the heap is rebuilt when more than half of it is marked. Memory is therefore
/// proportional to the timers armed, whatever is armed and cancelled meanwhile.
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    armed: Slab<Armed<T>>,
    /// Orders timers of the same instant by when they were armed, and tells a
    /// timer from an earlier one of the same slot.
    sequence: u64,
}

/// A timer armed, to cancel it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerId {
    slot: usize,
    sequence: u64,
}

struct Armed<T> {
    sequence: u64,
    what: T,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    sequence: u64,
    slot: usize,
}

impl<T: Copy> Timers<T> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), armed: Slab::new(), sequence: 0 }
    }

    pub fn arm(&mut self, at: Instant, what: T) -> TimerId {
        self.sequence += 1;
        let sequence = self.sequence;
        let slot = self.armed.insert(Armed { sequence, what });
        self.heap.push(Reverse(Entry { at, sequence, slot }));
        TimerId { slot, sequence }
    }

    /// Cancels what `id` names and empties it. A timer that has fired is none.
    pub fn cancel(&mut self, id: &mut Option<TimerId>) {
        let Some(id) = id.take() else { return };
        if self.armed.get(id.slot).is_some_and(|armed| armed.sequence == id.sequence) {
            self.armed.remove(id.slot);
            self.sweep();
        }
    }

    /// When the earliest timer is due: the top of the heap is never a marked one.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The earliest timer due at `now`, which is thereby no longer armed.
    pub fn expired(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        let armed = self.armed.try_remove(entry.slot);
        self.sweep();
        armed.map(|armed| armed.what)
    }

    pub fn len(&self) -> usize {
        self.armed.len()
    }

    fn sweep(&mut self) {
        let armed = &self.armed;
        let is_armed = |entry: &Entry| {
            armed.get(entry.slot).is_some_and(|armed| armed.sequence == entry.sequence)
        };
        if self.heap.len() > 2 * armed.len() + 64 {
            self.heap.retain(|Reverse(entry)| is_armed(entry));
        }
        while self.heap.peek().is_some_and(|Reverse(entry)| !is_armed(entry)) {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_fire_in_order_and_cancelled_ones_never() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        let mut cancelled = Some(timers.arm(at(10), 'a'));
        timers.arm(at(30), 'c');
        timers.arm(at(20), 'b');
        timers.arm(at(30), 'd');
        timers.cancel(&mut cancelled);
        assert_eq!(cancelled, None);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.expired(at(19)), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.expired(at(30))).collect();
        assert_eq!(fired, ['b', 'c', 'd']);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn cancelling_a_fired_timer_leaves_its_slots_next_owner_alone() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut fired = Some(timers.arm(start, 1));
        assert_eq!(timers.expired(start), Some(1));
        timers.arm(start, 2);
        timers.cancel(&mut fired);
        assert_eq!(timers.expired(start), Some(2));
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for i in 0..100_000 {
            let mut id = Some(timers.arm(start + Duration::from_secs(32), i));
            timers.cancel(&mut id);
        }
        assert!(timers.heap.len() < 100, "{} entries left", timers.heap.len());
        assert_eq!(timers.len(), 0);
    }
}
