use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Flow;

/// Lines counted apart; there are few flows and declared destinations, so more
/// would be a fault, and what comes beyond is counted as `other`.
const MAX_LINES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Passed,
    /// With the reason, a label from a closed set.
    Refused(&'static str),
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused(reason) => reason,
        }
    }
}

/// How often a flow to a destination was decided in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub flow: Flow,
    pub destination: String,
    pub verdict: Verdict,
    pub count: u64,
}

type Key = (Flow, String, Verdict);

#[derive(Debug, Default)]
struct Line {
    total: u64,
    unwritten: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<Key, Line>>);

impl Counts {
    pub(super) fn add(&self, flow: Flow, destination: String, verdict: Verdict) {
        let mut lines = self.lines();
        let mut key = (flow, destination, verdict);
        if lines.len() >= MAX_LINES && !lines.contains_key(&key) {
            key.1 = "other".to_owned();
        }
        let line = lines.entry(key).or_default();
        line.total += 1;
        line.unwritten += 1;
    }

    pub(super) fn all(&self) -> Vec<Counted> {
        self.lines().iter().map(|(key, line)| counted(key, line.total)).collect()
    }

    pub(super) fn take_unwritten(&self) -> Vec<Counted> {
        let mut lines = self.lines();
        let unwritten = lines.iter_mut().filter(|(_, line)| line.unwritten > 0);
        unwritten.map(|(key, line)| counted(key, std::mem::take(&mut line.unwritten))).collect()
    }

    pub(super) fn restore(&self, unwritten: Vec<Counted>) {
        let mut lines = self.lines();
        for line in unwritten {
            let key = (line.flow, line.destination, line.verdict);
            if let Some(known) = lines.get_mut(&key) {
                known.unwritten += line.count;
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Key, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counted((flow, destination, verdict): &Key, count: u64) -> Counted {
    Counted { flow: *flow, destination: destination.clone(), verdict: *verdict, count }
}
