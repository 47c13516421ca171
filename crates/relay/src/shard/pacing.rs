use std::time::{Duration, Instant};

/// How long packets are counted to know the load.
const WINDOW: Duration = Duration::from_millis(16);

/// Packets that should come together in one wake-up for the sleep to be worth
/// the delay.
const WORTHWHILE: u32 = 3;

/// Wake-up coalescing: under load the shard sleeps up to a millisecond between
/// two looks at its sockets and so finds many packets at each, which halves the
/// cost of a packet. When there is little to do it wakes for each at once.
#[derive(Debug)]
pub(super) struct Pacing {
    longest: Duration,
    window_start: Instant,
    packets: u32,
    busy: bool,
}

impl Pacing {
    pub fn new(longest: Duration, now: Instant) -> Self {
        Self { longest, window_start: now, packets: 0, busy: false }
    }

    /// Counts what a round that began at `now` handled. Returns how long after
    /// `now` the next round should begin, when it should wait.
    pub fn round(&mut self, now: Instant, packets: u32) -> Option<Duration> {
        self.packets = self.packets.saturating_add(packets);
        let elapsed = now.saturating_duration_since(self.window_start);
        if elapsed >= WINDOW {
            let rounds = elapsed.as_nanos() / self.longest.as_nanos().max(1);
            self.busy = u128::from(self.packets) >= rounds * u128::from(WORTHWHILE);
            self.window_start = now;
            self.packets = 0;
        }
        (self.busy && !self.longest.is_zero()).then_some(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn load(pacing: &mut Pacing, from: Instant, rounds: u32, packets: u32) -> Option<Duration> {
        (1..=rounds).map(|n| pacing.round(from + MS * n, packets)).last().flatten()
    }

    #[test]
    fn it_sleeps_under_load_and_not_otherwise() {
        let start = Instant::now();
        let mut pacing = Pacing::new(MS, start);
        assert_eq!(load(&mut pacing, start, 100, 1), None);
        assert_eq!(load(&mut pacing, start + MS * 100, 100, 8), Some(MS));
        assert_eq!(load(&mut pacing, start + MS * 200, 100, 0), None);
    }

    #[test]
    fn a_zero_length_turns_it_off() {
        let start = Instant::now();
        let mut pacing = Pacing::new(Duration::ZERO, start);
        assert_eq!(load(&mut pacing, start, 100, 1000), None);
    }
}
