//! Failed authentications, by source *and* user: a phone with a wrong password
//! tries many times a second, and an office behind one address must not be
//! shut out with it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Source and user together, hashed: nothing of either is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Suspect(u64, u64);

impl Suspect {
    pub(crate) fn new(source: IpAddr, domain: &str, user: &str) -> Self {
        // Whoever has one address of an IPv6 network has all of its 64 bits.
        let source = match source.to_canonical() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        let hash = |salt: u8| FxBuildHasher.hash_one((salt, source, domain, user));
        Self(hash(1), hash(2))
    }
}

#[derive(Debug)]
pub(crate) struct Throttle {
    failures: FxHashMap<Suspect, Failures>,
    /// In the order of their first failure, for forgetting.
    order: VecDeque<(Instant, Suspect)>,
    limit: u32,
    period: Duration,
    capacity: usize,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Throttle {
    pub(crate) fn new(limit: u32, period: Duration, capacity: usize) -> Self {
        Self { failures: FxHashMap::default(), order: VecDeque::new(), limit, period, capacity }
    }

    pub(crate) fn is_shut_out(&self, suspect: Suspect, now: Instant) -> bool {
        self.failures
            .get(&suspect)
            .is_some_and(|it| it.count >= self.limit && now < it.since + self.period)
    }

    /// Counts a failure; true when it is the one that shuts out.
    pub(crate) fn failed(&mut self, suspect: Suspect, now: Instant) -> bool {
        self.forget(now);
        match self.failures.get_mut(&suspect) {
            Some(failures) => failures.count += 1,
            None => {
                if self.order.len() >= self.capacity
                    && let Some((_, oldest)) = self.order.pop_front()
                {
                    self.failures.remove(&oldest);
                }
                self.order.push_back((now, suspect));
                self.failures.insert(suspect, Failures { since: now, count: 1 });
            }
        }
        self.failures.get(&suspect).is_some_and(|it| it.count == self.limit)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, suspect)) = self.order.front() {
            if now < *since + self.period {
                return;
            }
            self.failures.remove(suspect);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_is_shut_out_and_the_office_around_it_is_not() {
        let start = Instant::now();
        let mut throttle = Throttle::new(3, Duration::from_secs(60), 10);
        let office = "192.0.2.1".parse().unwrap();
        let broken = Suspect::new(office, "acme.test", "alice");
        let told: Vec<_> = (0..4).map(|_| throttle.failed(broken, start)).collect();
        assert_eq!(told, [false, false, true, false]);
        assert!(throttle.is_shut_out(broken, start));
        assert!(!throttle.is_shut_out(Suspect::new(office, "acme.test", "bob"), start));
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert!(!throttle.is_shut_out(Suspect::new(elsewhere, "acme.test", "alice"), start));
        assert!(!throttle.is_shut_out(broken, start + Duration::from_secs(61)));
    }

    #[test]
    fn the_table_keeps_its_bound() {
        let start = Instant::now();
        let mut throttle = Throttle::new(3, Duration::from_secs(60), 10);
        for n in 0..1000 {
            throttle.failed(Suspect::new("::1".parse().unwrap(), "x", &n.to_string()), start);
        }
        assert_eq!((throttle.failures.len(), throttle.order.len()), (10, 10));
    }
}
