//! Registrations on their way to the database: many in one transaction.

use std::sync::Arc;
use std::time::Duration;

use landline_call::BindingsToken;
use landline_call::binding::BindingChange;
use landline_store::Store;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::inbox::Incoming;
use crate::metrics::StoreFault;
use crate::shared::Shared;

/// Registrations between the driver and the store; more are answered as not
/// stored.
pub(crate) const QUEUE: usize = 4096;
/// Registrations in one transaction.
const BATCH: usize = 256;
/// How long the first of a batch waits for company.
const GATHER: Duration = Duration::from_millis(3);
/// How long a registration waits for the database before the phone is told to
/// try again; below Timer F and the core's own limit.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) type Entry = (BindingsToken, Vec<BindingChange>);

/// Writes what comes until the driver's end of the queue is dropped.
pub(crate) async fn run(store: Store, mut entries: mpsc::Receiver<Entry>, shared: Arc<Shared>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut reported = false;
    while gather(&mut entries, &mut batch).await {
        let (tokens, changes): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let changes: Vec<BindingChange> = changes.into_iter().flatten().collect();
        let problem = write(&store, &changes, &shared).await;
        if let (Some(problem), false) = (&problem, reported) {
            tracing::warn!(%problem, "registrations cannot be stored");
        }
        reported = problem.is_some();
        let stored = Incoming::BindingsStored { tokens, ok: problem.is_none() };
        if shared.inbox.send(stored).await.is_err() {
            return;
        }
    }
}

async fn gather(entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) -> bool {
    if entries.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match timeout_at(until, entries.recv_many(batch, room)).await {
            Err(_) | Ok(0) => break,
            Ok(_) => {}
        }
    }
    true
}

async fn write(store: &Store, changes: &[BindingChange], shared: &Shared) -> Option<String> {
    let problem = match timeout(PATIENCE, store.write_bindings(changes)).await {
        Ok(Ok(())) => {
            shared.metrics.bindings_written.inc_by(changes.len() as u64);
            return None;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the database did not answer in time".to_owned(),
    };
    shared.metrics.store_fault(StoreFault::Bindings);
    // A refusal comes at once; do not spin on it.
    sleep(Duration::from_millis(20)).await;
    Some(problem)
}
