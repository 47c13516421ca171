//! Call events on their way to the ledger, and confirmations back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landline_call::JournalToken;
use landline_call::record::CallEvent;
use landline_region::UnixMillis;
use landline_store::{AppendError, Ledger};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::inbox::Incoming;
use crate::metrics::StoreFault;
use crate::shared::Shared;

/// Events between the driver and the ledger. The driver waits when it is full:
/// no event is thrown away.
pub(crate) const QUEUE: usize = 8192;
const BATCH: usize = 512;

pub(crate) type Entry = (Option<JournalToken>, CallEvent);

/// Appends what comes until the driver's end of the queue is dropped.
pub(crate) async fn run(ledger: Ledger, mut entries: mpsc::Receiver<Entry>, shared: Arc<Shared>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut reported = false;
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let (tokens, events): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let tokens: Vec<JournalToken> = tokens.into_iter().flatten().collect();
        let ok = append(&ledger, events, &shared, &mut reported).await;
        let heard = match ok {
            true => Incoming::Journaled(tokens),
            false => Incoming::JournalFailed(tokens),
        };
        // The driver may be gone at the end; the events are kept all the same.
        let _gone = shared.inbox.send(heard).await;
    }
}

async fn append(
    ledger: &Ledger,
    events: Vec<CallEvent>,
    shared: &Shared,
    reported: &mut bool,
) -> bool {
    let error = match ledger.append(events).await {
        Ok(Ok(())) => {
            *reported = false;
            return true;
        }
        Ok(Err(error)) => error,
        Err(_) => AppendError::Closed,
    };
    shared.metrics.store_fault(StoreFault::Ledger);
    if !*reported {
        tracing::error!(%error, "call events cannot be journaled; new calls are refused");
        *reported = true;
    }
    false
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
