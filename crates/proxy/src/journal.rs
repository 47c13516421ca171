//! Call events on their way to the ledger, and confirmations back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landline_call::JournalToken;
use landline_call::record::{CallEvent, Step};
use landline_region::UnixMillis;
use landline_store::{AppendError, KeptCall, Ledger};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::inbox::Incoming;
use crate::metrics::{Drop as Cause, StoreFault};
use crate::shared::Shared;

/// Events between the driver and the ledger. The driver waits when it is full:
/// no event is thrown away.
pub(crate) const QUEUE: usize = 8192;
const BATCH: usize = 512;
/// How long events that nobody waits for gather: each write costs an fsync.
const GATHER: Duration = Duration::from_millis(20);
/// How long an answer and an end gather, for which a phone waits. An opening
/// does not: the call's set-up has only begun.
const GATHER_AWAITED: Duration = Duration::from_millis(8);
/// How often a ledger that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Events kept for a ledger that fails. New calls are refused meanwhile, so
/// these are the ends of the calls there were.
const MOST_KEPT: usize = 200_000;

/// What the core has written down at one time.
pub(crate) struct Entry {
    pub(crate) token: Option<JournalToken>,
    pub(crate) events: Vec<CallEvent>,
    pub(crate) calls: Vec<KeptCall>,
}

/// Appends what comes until the driver's end of the queue is dropped.
pub(crate) async fn run(ledger: Ledger, mut entries: mpsc::Receiver<Entry>, shared: Arc<Shared>) {
    let mut journal = Journal { ledger, shared, kept: Vec::new(), retry_at: Instant::now() };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if journal.retry_at <= Instant::now() {
            journal.retry().await;
        }
        let taken = match journal.kept.is_empty() {
            true => gather(&mut entries, &mut batch).await,
            // A failing ledger is tried again even when nothing new comes.
            false => {
                let next = entries.recv_many(&mut batch, BATCH);
                let Ok(taken) = timeout_at(journal.retry_at, next).await else {
                    continue;
                };
                taken
            }
        };
        if taken == 0 {
            return journal.retry().await;
        }
        match journal.kept.is_empty() {
            true => journal.append(&mut batch).await,
            false => journal.keep_back(&mut batch).await,
        }
    }
}

/// Takes what comes until a call is opened or the first has waited long
/// enough. Gives how many; none once the queue is closed.
async fn gather(entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) -> usize {
    let mut looked_at = 0;
    let mut until: Option<Instant> = None;
    loop {
        let next = entries.recv_many(batch, BATCH - batch.len());
        let taken = match until {
            None => next.await,
            Some(until) => timeout_at(until, next).await.unwrap_or(0),
        };
        let fresh = batch.get(looked_at..).unwrap_or_default();
        let opens = fresh.iter().any(opens);
        let is_awaited = fresh.iter().any(|entry| entry.token.is_some());
        looked_at = batch.len();
        if taken == 0 || opens || batch.len() >= BATCH {
            return batch.len();
        }
        let patience = if is_awaited { GATHER_AWAITED } else { GATHER };
        let latest = Instant::now() + patience;
        until = Some(until.map_or(latest, |until| until.min(latest)));
    }
}

fn opens(entry: &Entry) -> bool {
    entry.events.iter().any(|event| matches!(event.step, Step::Opened(_)))
}

struct Journal {
    ledger: Ledger,
    shared: Arc<Shared>,
    /// What a failing ledger did not take, in order.
    kept: Vec<CallEvent>,
    retry_at: Instant,
}

impl Journal {
    async fn append(&mut self, batch: &mut Vec<Entry>) {
        let events = batch.iter().flat_map(|entry| entry.events.iter().cloned()).collect();
        let calls = batch.iter_mut().flat_map(|entry| std::mem::take(&mut entry.calls)).collect();
        if let Err(error) = self.write(events, calls).await {
            self.retry_at = Instant::now() + RETRY;
            tracing::error!(%error, "call events cannot be journaled; new calls are refused");
            return self.keep_back(batch).await;
        }
        let tokens: Vec<JournalToken> = batch.drain(..).filter_map(|entry| entry.token).collect();
        if !tokens.is_empty() {
            // The driver may be gone at the end; the events are kept all the same.
            let _gone = self.shared.answers.send(Incoming::Journaled(tokens)).await;
        }
    }

    /// Drops openings, whose calls do not ring then, and keeps the rest for
    /// later. Whoever waits is told that it is not on disk.
    async fn keep_back(&mut self, batch: &mut Vec<Entry>) {
        let mut tokens = Vec::new();
        for entry in batch.drain(..) {
            let drops = opens(&entry);
            tokens.extend(entry.token);
            for event in entry.events.into_iter().filter(|_| !drops) {
                match self.kept.len() < MOST_KEPT {
                    true => self.kept.push(event),
                    false => self.shared.metrics.drop(Cause::JournalFull),
                }
            }
        }
        if !tokens.is_empty() {
            let _gone = self.shared.answers.send(Incoming::JournalFailed(tokens)).await;
        }
    }

    async fn retry(&mut self) {
        self.retry_at = Instant::now() + RETRY;
        if self.kept.is_empty() || self.write(self.kept.clone(), Vec::new()).await.is_err() {
            return;
        }
        tracing::info!(events = self.kept.len(), "call events can be journaled again");
        self.kept = Vec::new();
    }

    /// The ledger keeps a call's state for its next segment even where it cannot
    /// write now.
    async fn write(&self, events: Vec<CallEvent>, calls: Vec<KeptCall>) -> Result<(), AppendError> {
        let written =
            self.ledger.append_with(events, calls).await.unwrap_or(Err(AppendError::Closed));
        if written.is_err() {
            self.shared.metrics.store_fault(StoreFault::Ledger);
        }
        written
    }
}

/// Tells the ledger each second that the process lives, and the metrics how
/// much is not shipped yet.
pub(crate) async fn heartbeat(ledger: Ledger, shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut failures = 0;
    loop {
        ticks.tick().await;
        ledger.alive(unix_now());
        let counters = ledger.counters();
        shared.metrics.ledger_pending.set(i64::try_from(counters.pending).unwrap_or(i64::MAX));
        for _ in failures..counters.ship_failures {
            shared.metrics.store_fault(StoreFault::Shipping);
        }
        failures = counters.ship_failures;
    }
}

pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
