//! Everything that chance decides in a run, out of its one seed.

use std::time::Duration;

use landline_region::{Entropy, Seed};

pub struct Chance(Entropy);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut octets = Seed::default();
        octets[..8].copy_from_slice(&seed.to_be_bytes());
        Self(Entropy::new(octets))
    }

    /// A number below `of`.
    pub fn below(&mut self, of: usize) -> usize {
        (self.0.u64() % of.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn per_mille(&mut self, of: u64) -> bool {
        self.0.u64() % 1000 < of
    }

    /// From `from` up to `to`, in milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.0.u64() % (to - from).max(1))
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    pub fn u64(&mut self) -> u64 {
        self.0.u64()
    }

    pub fn seed(&mut self) -> Seed {
        self.0.seed()
    }

    /// For a machine that wants a whole source of its own.
    pub fn entropy(&mut self) -> Entropy {
        Entropy::new(self.0.seed())
    }
}
