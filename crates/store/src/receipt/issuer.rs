//! The task that issues receipts beside a region's calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use landline_region::UnixMillis;
use tokio::sync::watch;

use crate::error::{Result, StoreError};
use crate::store::{Store, now};

/// A database that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// How often to look for closed calls.
    pub every: Duration,
    /// How long a receipt waits for the end of the call's recording.
    pub recording_wait: Duration,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self { every: Duration::from_millis(500), recording_wait: Duration::from_secs(15 * 60) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssuerCounters {
    pub issued: u64,
    /// Times that a call's rows made no statement.
    pub refused: u64,
    pub database_failures: u64,
    /// Closed calls that have no receipt yet.
    pub waiting: u64,
}

#[derive(Default)]
struct Counts {
    issued: AtomicU64,
    refused: AtomicU64,
    database_failures: AtomicU64,
    waiting: AtomicU64,
}

impl Counts {
    fn read(&self) -> IssuerCounters {
        IssuerCounters {
            issued: self.issued.load(Relaxed),
            refused: self.refused.load(Relaxed),
            database_failures: self.database_failures.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
        }
    }
}

/// Issues receipts until it is stopped. Any number of them may run in a region.
pub struct Issuer {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Issuer {
    /// On the current tokio runtime.
    pub fn start(store: Store, config: IssuerConfig) -> Self {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let work = Work { store, config, counts: counts.clone(), reached_since: None };
        let task = Some(tokio::spawn(work.run(stopped)));
        Self { counts, stop, task }
    }

    pub fn counters(&self) -> IssuerCounters {
        self.counts.read()
    }

    /// What reads the counters, also when the issuer is elsewhere.
    pub fn counter(&self) -> impl Fn() -> IssuerCounters + Send + Sync + use<> {
        let counts = self.counts.clone();
        move || counts.read()
    }

    /// Issues what is ready now and stops. What is not waits in the database.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Work {
    store: Store,
    config: IssuerConfig,
    counts: Arc<Counts>,
    /// Since when the database answered every time. While it was away, ends
    /// of recordings waited in a spool: their time begins anew.
    reached_since: Option<UnixMillis>,
}

impl Work {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pause = self.config.every;
        loop {
            let stopping = tokio::select! {
                stopping = stopped.wait_for(|stop| *stop) => { let _ = stopping; true }
                () = tokio::time::sleep(pause) => false,
            };
            match self.issue_ready().await {
                Ok(()) => pause = self.config.every,
                Err(error) => {
                    self.reached_since = None;
                    self.counts.database_failures.fetch_add(1, Relaxed);
                    tracing::warn!(%error, "receipts cannot be issued");
                    pause = (pause * 2).clamp(self.config.every, LONGEST_PAUSE);
                }
            }
            if stopping {
                return;
            }
        }
    }

    async fn issue_ready(&mut self) -> Result<()> {
        let since = *self.reached_since.get_or_insert_with(now);
        let patience = i64::try_from(self.config.recording_wait.as_millis()).unwrap_or(i64::MAX);
        let earliest = now().0.saturating_sub(patience);
        // Before everything, until the database was there for long enough.
        let give_up_before = if since.0 <= earliest { earliest } else { i64::MIN };
        loop {
            let batch = self.store.receipts_issue(UnixMillis(give_up_before));
            let batch = tokio::time::timeout(PATIENCE, batch).await;
            let issued =
                batch.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))?;
            self.counts.issued.fetch_add(issued.issued as u64, Relaxed);
            self.counts.refused.fetch_add(issued.refused as u64, Relaxed);
            if !issued.full {
                let waiting = self.store.receipts_waiting().await?;
                self.counts.waiting.store(waiting, Relaxed);
                return Ok(());
            }
        }
    }
}
