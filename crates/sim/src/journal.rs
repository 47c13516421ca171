//! The way of a proxy's records: gathered, written with one fsync, confirmed,
//! shipped. The files, the writer, recovery and the reader are the ledger's own;
//! what the proxy's tasks do around them is done here step by step.

use std::time::Duration;

use landline_call::JournalToken;
use landline_call::record::{CallEvent, Step};
use landline_store::ledger::{Batch, Journal};
use landline_store::{AppendError, KeptCall};

use crate::cx::Cx;
use crate::disk::{Health, SimDisk};

const GATHER: Duration = Duration::from_millis(20);
const GATHER_AWAITED: Duration = Duration::from_millis(8);
pub const RETRY: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the core has written down at one time.
pub struct Entry {
    pub token: Option<JournalToken>,
    pub events: Vec<CallEvent>,
    pub calls: Vec<KeptCall>,
}

/// One proxy process's ledger.
pub struct Desk {
    journal: Journal<SimDisk>,
    disk: SimDisk,
    /// Gathering, and until when.
    waiting: Vec<Entry>,
    until: Option<Duration>,
    writing: Option<Writing>,
    /// What a failing ledger did not take, in order.
    kept: Vec<CallEvent>,
    retry_at: Duration,
    shipping: Option<Batch>,
    pause: Duration,
    /// Everything there was is in the database.
    pub is_shipped: bool,
}

struct Writing {
    entries: Vec<Entry>,
    result: Result<(), AppendError>,
    is_retry: bool,
}

/// Whom to tell.
#[derive(Default)]
pub struct Told {
    pub journaled: Vec<JournalToken>,
    pub failed: Vec<JournalToken>,
}

impl Desk {
    pub fn new(journal: Journal<SimDisk>, disk: SimDisk) -> Self {
        Self {
            journal,
            disk,
            waiting: Vec::new(),
            until: None,
            writing: None,
            kept: Vec::new(),
            retry_at: Duration::ZERO,
            shipping: None,
            pause: FIRST_PAUSE,
            is_shipped: false,
        }
    }

    pub fn journal(&mut self) -> &mut Journal<SimDisk> {
        &mut self.journal
    }

    /// Until when this gathers.
    pub fn take(&mut self, at: Duration, entry: Entry) -> Duration {
        let patience = match &entry {
            Entry { events, .. } if opens(events) => Duration::ZERO,
            Entry { token: Some(_), .. } => GATHER_AWAITED,
            Entry { .. } => GATHER,
        };
        self.waiting.push(entry);
        let until = self.until.map_or(at + patience, |until| until.min(at + patience));
        self.until = Some(until);
        until
    }

    /// Begins to write what has gathered; how long that takes, or whom to tell
    /// at once that a failing ledger takes nothing.
    pub fn gather(&mut self, cx: &mut Cx) -> (Option<Duration>, Told) {
        let due = self.until.is_some_and(|until| until <= cx.at());
        if self.writing.is_some() || !due {
            return (None, Told::default());
        }
        self.until = None;
        let mut entries = std::mem::take(&mut self.waiting);
        if !self.kept.is_empty() {
            return (None, self.keep_back(entries));
        }
        let events = entries.iter().flat_map(|entry| entry.events.clone()).collect();
        let calls: Vec<KeptCall> =
            entries.iter_mut().flat_map(|entry| std::mem::take(&mut entry.calls)).collect();
        (Some(self.begin(cx, (events, calls), entries, false)), Told::default())
    }

    /// Tries again what could not be written.
    pub fn retry(&mut self, cx: &mut Cx) -> Option<Duration> {
        if self.kept.is_empty() || self.writing.is_some() || self.retry_at > cx.at() {
            return None;
        }
        self.retry_at = cx.at() + RETRY;
        let events = self.kept.clone();
        Some(self.begin(cx, (events, Vec::new()), Vec::new(), true))
    }

    fn begin(
        &mut self,
        cx: &mut Cx,
        (events, calls): (Vec<CallEvent>, Vec<KeptCall>),
        entries: Vec<Entry>,
        is_retry: bool,
    ) -> Duration {
        self.disk.writing();
        let mut results = self.journal.append_with([(&events[..], &calls[..])].into_iter());
        let result = results.pop().unwrap_or(Err(AppendError::Closed));
        self.writing = Some(Writing { entries, result, is_retry });
        match self.disk.health() {
            Health::Slow => cx.chance.millis(50, 6_000),
            _ => cx.chance.millis(1, 8),
        }
    }

    /// The write is over.
    pub fn written(&mut self, cx: &mut Cx) -> Told {
        let Some(writing) = self.writing.take() else { return Told::default() };
        self.disk.written();
        let mut told = Told::default();
        match (writing.result, writing.is_retry) {
            (Ok(()), true) => {
                cx.model.journaled(&std::mem::take(&mut self.kept));
            }
            (Ok(()), false) => {
                for entry in writing.entries {
                    cx.model.journaled(&entry.events);
                    told.journaled.extend(entry.token);
                }
            }
            (Err(error), false) => {
                cx.note(format_args!("the ledger does not take it: {error}"));
                self.retry_at = cx.at() + RETRY;
                told = self.keep_back(writing.entries);
            }
            (Err(_), true) => {}
        }
        if !self.waiting.is_empty() {
            self.until = Some(cx.at());
        }
        told
    }

    /// Openings are dropped, whose calls do not ring then; the rest is kept.
    fn keep_back(&mut self, entries: Vec<Entry>) -> Told {
        let mut told = Told::default();
        for entry in entries {
            told.failed.extend(entry.token);
            if !opens(&entry.events) {
                self.kept.extend(entry.events);
            }
        }
        told
    }

    /// Begins to ship; how long that takes.
    pub fn ship(&mut self, cx: &mut Cx, region: usize) -> Option<Duration> {
        if self.shipping.is_some() {
            return None;
        }
        match self.journal.read() {
            Ok(batch) => {
                self.is_shipped = batch.is_none();
                self.shipping = batch;
            }
            Err(error) => cx.note(format_args!("the ledger cannot be read: {error}")),
        }
        if self.journal.counters().damaged > 0 {
            cx.fault("records of a ledger are passed over".to_owned());
        }
        self.shipping.as_ref()?;
        Some(cx.database_time(region))
    }

    /// The database answered, or did not; when to go on.
    pub fn shipped(&mut self, cx: &mut Cx, region: usize) -> Duration {
        let Some(batch) = self.shipping.take() else { return GATHER };
        let (now, sabotage) = (cx.instant(), cx.plan.sabotage);
        let database = &mut cx.databases[region];
        match database.apply(&batch.events, &mut cx.chance, sabotage) {
            Ok(()) => {
                self.journal.shipped(&batch, now);
                self.pause = FIRST_PAUSE;
                Duration::ZERO
            }
            Err(_) => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        }
    }

    /// What is held in memory for the ledger.
    pub fn held(&self) -> usize {
        self.kept.len() + self.waiting.len()
    }
}

fn opens(events: &[CallEvent]) -> bool {
    events.iter().any(|event| matches!(event.step, Step::Opened(_)))
}
