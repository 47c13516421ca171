//! Registrations on their way to the database: many in one transaction.

use std::sync::Arc;
use std::time::Duration;

use landline_call::BindingsToken;
use landline_call::binding::BindingChange;
use landline_store::Store;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::inbox::Incoming;
use crate::metrics::{Drop as Cause, StoreFault};
use crate::shared::Shared;

/// Registrations between the driver and the store; more are answered as not
/// stored.
pub(crate) const QUEUE: usize = 4096;
/// Registrations in one transaction.
const BATCH: usize = 256;
/// How long the first of a batch waits for company.
const GATHER: Duration = Duration::from_millis(4);
/// The same while many come: a commit costs as much as writing dozens of
/// registrations, and a phone sends its REGISTER again after 500 ms at the
/// soonest (RFC 3261 §17.1.2.2).
const GATHER_MANY: Duration = Duration::from_millis(25);
/// From so many in a batch on.
const MANY: usize = 6;
/// How long a registration waits for the database before it counts as not
/// stored; below Timer F and the core's own limit.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a database that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Changes kept for a database that is away.
const MOST_KEPT: usize = 200_000;
/// Changes of the kept ones written in one transaction.
const CATCH_UP: usize = 5_000;

pub(crate) type Entry = (BindingsToken, Vec<BindingChange>);

/// Writes what comes until the driver's end of the queue is dropped. While the
/// database is away registrations are known to be in memory only, at once; what
/// they changed is written when it is back.
pub(crate) async fn run(store: Store, mut entries: mpsc::Receiver<Entry>, shared: Arc<Shared>) {
    let mut writer = Writer { store, shared, kept: Vec::new(), retry_at: Instant::now() };
    let mut batch = Vec::with_capacity(BATCH);
    let mut last = 0;
    loop {
        if !writer.kept.is_empty() && writer.retry_at <= Instant::now() {
            writer.catch_up().await;
        }
        let taken = match writer.kept.is_empty() {
            true => gather(&mut entries, &mut batch, last).await,
            false => {
                let next = entries.recv_many(&mut batch, BATCH);
                let Ok(taken) = timeout_at(writer.retry_at, next).await else {
                    continue;
                };
                taken
            }
        };
        if taken == 0 {
            return writer.catch_up().await;
        }
        last = taken;
        let (tokens, changes): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let changes: Vec<BindingChange> = changes.into_iter().flatten().collect();
        let ok = writer.store(changes).await;
        let stored = Incoming::BindingsStored { tokens, ok };
        let _gone = writer.shared.answers.send(stored).await;
    }
}

/// Sleeps through the gathering: to be woken for each registration would cost
/// more than writing it. `last` is how many the batch before had.
async fn gather(entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>, last: usize) -> usize {
    if entries.recv_many(batch, BATCH).await == 0 {
        return 0;
    }
    if batch.len() < BATCH {
        sleep(if last < MANY { GATHER } else { GATHER_MANY }).await;
    }
    while batch.len() < BATCH {
        let Ok(entry) = entries.try_recv() else {
            break;
        };
        batch.push(entry);
    }
    batch.len()
}

struct Writer {
    store: Store,
    shared: Arc<Shared>,
    /// What the database did not take, in order.
    kept: Vec<BindingChange>,
    retry_at: Instant,
}

impl Writer {
    async fn store(&mut self, changes: Vec<BindingChange>) -> bool {
        if !self.kept.is_empty() {
            self.keep(changes);
            return false;
        }
        match self.write(&changes).await {
            Ok(()) => true,
            Err(problem) => {
                tracing::warn!(%problem, "registrations cannot be stored; they are kept in memory");
                self.keep(changes);
                self.retry_at = Instant::now() + RETRY;
                false
            }
        }
    }

    fn keep(&mut self, changes: Vec<BindingChange>) {
        for change in changes {
            match self.kept.len() < MOST_KEPT {
                true => self.kept.push(change),
                false => self.shared.metrics.drop(Cause::BindingQueueFull),
            }
        }
    }

    async fn catch_up(&mut self) {
        while !self.kept.is_empty() {
            let count = self.kept.len().min(CATCH_UP);
            let Some(first) = self.kept.get(..count) else {
                return;
            };
            if self.write(first).await.is_err() {
                self.retry_at = Instant::now() + RETRY;
                return;
            }
            self.kept.drain(..count);
            if self.kept.is_empty() {
                tracing::info!("registrations are stored again");
            }
        }
    }

    async fn write(&self, changes: &[BindingChange]) -> Result<(), String> {
        let problem = match timeout(PATIENCE, self.store.write_bindings(changes)).await {
            Ok(Ok(())) => {
                self.shared.metrics.bindings_written.inc_by(changes.len() as u64);
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database did not answer in time".to_owned(),
        };
        self.shared.metrics.store_fault(StoreFault::Bindings);
        Err(problem)
    }
}
