//! When the driver wakes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// A timer that is moved only when it would ring too late: nearly every message
/// moves a timer of the machines, and moving ours is the dearer.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    rings: Instant,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let rings = Instant::now();
        Self { sleep: Box::pin(tokio::time::sleep_until(rings.into())), rings }
    }

    pub(crate) fn set(&mut self, at: Instant) {
        if at < self.rings || self.sleep.is_elapsed() {
            self.rings = at;
            self.sleep.as_mut().reset(at.into());
        }
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(context)
    }
}

/// Under load the driver lets messages gather for a moment: going to sleep and
/// being woken for each costs more than handling it.
pub(crate) struct Pace {
    since: Instant,
    count: usize,
    busy: bool,
    backlog: bool,
}

impl Pace {
    /// How long messages gather: a phone does not notice it, and those handled
    /// together find the caches warm.
    const GATHER: Duration = Duration::from_millis(1);
    /// How often it is decided anew, and from how many messages on.
    const WINDOW: Duration = Duration::from_millis(10);
    const MANY: usize = 20;

    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), count: 0, busy: false, backlog: false }
    }

    /// The thread is the driver's own, so it may sleep.
    pub(crate) fn wait(&self) {
        if self.busy && !self.backlog {
            std::thread::sleep(Self::GATHER);
        }
    }

    pub(crate) fn took(&mut self, count: usize, backlog: bool, now: Instant) {
        self.count += count;
        self.backlog = backlog;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= Self::WINDOW {
            let windows = elapsed.as_secs_f64() / Self::WINDOW.as_secs_f64();
            self.busy = self.count as f64 >= Self::MANY as f64 * windows;
            (self.since, self.count) = (now, 0);
        }
    }
}
