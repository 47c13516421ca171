use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use landline_region::Entropy;

use crate::config::StartError;

/// Fewer pairs than this are hardly meant: four calls of phones at a time.
const FEW: usize = 8;

/// The port pairs of one local address. Shared by the shards, at set-up and
/// tear-down of legs only.
///
/// Pairs are handed out in a shuffled order, least recently used first: a
/// stranger cannot guess the next call's port from the last one's.
#[derive(Debug)]
pub(crate) struct PortAllocator {
    pub address: IpAddr,
    quarantine: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: VecDeque<PortPair>,
    /// In the order of their release.
    quarantined: VecDeque<(Instant, PortPair)>,
    used: usize,
}

/// An even port for RTP; RTCP has the next one (RFC 3550 §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortPair(u16);

impl PortPair {
    pub fn rtp(self) -> u16 {
        self.0
    }

    pub fn rtcp(self) -> u16 {
        self.0 + 1
    }

    fn has(self, port: u16) -> bool {
        port & !1 == self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortUse {
    pub free: usize,
    pub used: usize,
    pub quarantined: usize,
}

impl PortAllocator {
    /// Of the range's, but for those that are `taken` already.
    pub fn new(
        address: IpAddr,
        range: &RangeInclusive<u16>,
        taken: &[u16],
        quarantine: Duration,
        entropy: &mut Entropy,
    ) -> Result<Self, StartError> {
        let mut free: Vec<_> = range
            .clone()
            .filter(|port| port % 2 == 0 && *port >= 1024 && *port < *range.end())
            .map(PortPair)
            .filter(|pair| !taken.iter().any(|port| pair.has(*port)))
            .collect();
        if free.is_empty() {
            return Err(StartError::PortRange { first: *range.start(), last: *range.end() });
        }
        for last in (1..free.len()).rev() {
            free.swap(last, (entropy.u64() % (last as u64 + 1)) as usize);
        }
        let state = State { free: free.into(), ..State::default() };
        Ok(Self { address, quarantine, state: Mutex::new(state) })
    }

    /// Whether there are so few pairs that a handful of calls uses them up.
    pub fn are_few(&self) -> bool {
        self.lock().free.len() < FEW
    }

    /// A pair that nobody uses and whose quarantine is over.
    pub fn take(&self, now: Instant) -> Option<PortPair> {
        let mut state = self.lock();
        state.reclaim(now);
        let pair = state.free.pop_front()?;
        state.used += 1;
        Some(pair)
    }

    /// Gives a pair back, into quarantine.
    pub fn release(&self, now: Instant, pair: PortPair) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(1);
        state.quarantined.push_back((now + self.quarantine, pair));
    }

    pub fn usage(&self, now: Instant) -> PortUse {
        let mut state = self.lock();
        state.reclaim(now);
        PortUse { free: state.free.len(), used: state.used, quarantined: state.quarantined.len() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn reclaim(&mut self, now: Instant) {
        while self.quarantined.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, pair)) = self.quarantined.pop_front() {
                self.free.push_back(pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn allocator(range: RangeInclusive<u16>) -> Result<PortAllocator, StartError> {
        allocator_beside(&[], range)
    }

    fn allocator_beside(
        taken: &[u16],
        range: RangeInclusive<u16>,
    ) -> Result<PortAllocator, StartError> {
        let quarantine = Duration::from_secs(5);
        let entropy = &mut Entropy::new([3; 32]);
        PortAllocator::new(Ipv4Addr::LOCALHOST.into(), &range, taken, quarantine, entropy)
    }

    #[test]
    fn pairs_start_even_and_both_ports_lie_in_the_range() {
        let ports = allocator(4001..=4008).unwrap();
        let now = Instant::now();
        let mut taken: Vec<_> = std::iter::from_fn(|| ports.take(now)).collect();
        taken.sort();
        assert_eq!(taken, [PortPair(4002), PortPair(4004), PortPair(4006)]);
        assert_eq!(taken[2].rtcp(), 4007);
    }

    #[test]
    fn what_is_taken_is_in_no_pair() {
        let ports = allocator_beside(&[4000, 4005, 9], 4000..=4007).unwrap();
        let now = Instant::now();
        let mut taken: Vec<_> = std::iter::from_fn(|| ports.take(now)).collect();
        taken.sort();
        assert_eq!(taken, [PortPair(4002), PortPair(4006)]);
        assert!(allocator_beside(&[4000], 4000..=4001).is_err());
    }

    #[test]
    fn a_range_that_browsers_leave_little_of_is_told_from_others() {
        assert!(!allocator(4000..=4015).unwrap().are_few());
        assert!(allocator_beside(&[4000], 4000..=4015).unwrap().are_few());
        assert!(!allocator_beside(&[4000, 4001], 4000..=4017).unwrap().are_few());
    }

    #[test]
    fn a_released_pair_is_not_reused_before_its_quarantine_is_over() {
        let ports = allocator(4000..=4001).unwrap();
        let now = Instant::now();
        let pair = ports.take(now).unwrap();
        assert_eq!(ports.take(now), None);
        ports.release(now, pair);
        assert_eq!(ports.take(now + Duration::from_millis(4_999)), None);
        assert_eq!(
            ports.usage(now + Duration::from_millis(4_999)),
            PortUse { free: 0, used: 0, quarantined: 1 }
        );
        assert_eq!(ports.take(now + Duration::from_secs(5)), Some(pair));
    }

    #[test]
    fn a_range_without_a_pair_is_an_error() {
        for range in [4001..=4001, 4000..=4000, 4001..=4002, 0..=1] {
            assert!(matches!(allocator(range), Err(StartError::PortRange { .. })));
        }
    }
}
