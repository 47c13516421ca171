//! With which rollover counter a stream begins that is new to a context.
//!
//! The counter is not in the packet, and it is not always 0: RFC 3711 §3.3.1
//! lets it run on under a new key, RFC 4568 §7.1.4 begins anew with a new
//! address, and phones do either. Whoever comes to a stream late has missed its
//! wraps besides. So a first packet that does not authenticate with 0 is tried
//! with others. Each try costs as much as a packet, so there are only so many
//! in a second: forged packets must buy no computing time.

use std::time::{Duration, Instant};

/// What is tried for each packet: 20 ms packets wrap every 22 minutes, so these
/// are the first hours of a call.
const LIKELY: u32 = 8;
/// What is tried beyond, from where the last packet's tries ended.
const FURTHER: u32 = 24;
/// Where it starts over. 20 ms packets are here after four days.
const LAST: u32 = 255;

/// The counters that are tried beside 0.
#[derive(Debug, Clone)]
pub struct Search {
    next: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self { next: LIKELY + 1 }
    }
}

impl Search {
    /// The first that is `right`, of those that `may` be tried.
    pub fn find(
        &mut self,
        mut may: impl FnMut() -> bool,
        right: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        for counter in 1..=LIKELY + FURTHER {
            if !may() {
                return None;
            }
            let counter = if counter <= LIKELY { counter } else { self.turn() };
            if right(counter) {
                return Some(counter);
            }
        }
        None
    }

    fn turn(&mut self) -> u32 {
        let turn = self.next;
        self.next = if turn == LAST { LIKELY + 1 } else { turn + 1 };
        turn
    }
}

/// Tries that one source's packets may cost.
#[derive(Debug, Clone, Default)]
pub struct Tries {
    since: Option<Instant>,
    taken: u32,
}

impl Tries {
    /// Eight packets' worth. HMAC-SHA1 over 1,400 octets takes about 2.5 µs, so
    /// that this is less than a thousandth of a core.
    pub const A_SECOND: u32 = 8 * (LIKELY + FURTHER);

    /// Takes one. False when this second's are used up.
    pub fn take(&mut self, now: Instant) -> bool {
        let second = Duration::from_secs(1);
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= second) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken += 1;
        self.taken <= Self::A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hours_come_first_and_days_within_some_packets() {
        let mut search = Search::default();
        assert_eq!(search.find(|| true, |counter| counter == 3), Some(3));
        let mut packets = 1;
        while search.find(|| true, |counter| counter == LAST) != Some(LAST) {
            packets += 1;
        }
        assert_eq!(packets, (LAST - LIKELY).div_ceil(FURTHER));
    }

    #[test]
    fn a_second_has_so_many_tries_and_the_next_one_others() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let taken = |tries: &mut Tries, now| (0..10_000).filter(|_| tries.take(now)).count();
        assert_eq!(taken(&mut tries, now), Tries::A_SECOND as usize);
        assert_eq!(taken(&mut tries, now + Duration::from_millis(999)), 0);
        assert_eq!(taken(&mut tries, now + Duration::from_secs(1)), Tries::A_SECOND as usize);
    }
}
