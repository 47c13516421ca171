//! The machine itself.

use std::collections::VecDeque;
use std::time::Instant;

use landline_region::{Entropy, Now, Seed};

use crate::config::CoreConfig;
use crate::counters::Counters;
use crate::io::{Input, LiveCall, Output};

/// Mutate with [`Core::handle_input`] or [`Core::handle_timeout`], then drain
/// [`Core::poll_output`], then sleep until [`Core::poll_timeout`].
pub struct Core {
    counters: Counters,
    out: VecDeque<Output>,
}

impl Core {
    pub fn new(_config: CoreConfig, seed: Seed, _now: Now) -> Self {
        let _ = Entropy::new(seed);
        Self { counters: Counters::default(), out: VecDeque::new() }
    }

    pub fn handle_input(&mut self, _now: Now, _input: Input) {}

    /// Fires what is due.
    pub fn handle_timeout(&mut self, _now: Now) {}

    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The calls that are open.
    pub fn live(&self) -> impl Iterator<Item = LiveCall> {
        std::iter::empty()
    }

    /// Registered contacts.
    pub fn bindings(&self) -> usize {
        0
    }
}
