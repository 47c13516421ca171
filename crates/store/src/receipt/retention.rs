//! The task that deletes what has been kept for long enough.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Result;
use crate::store::{Store, now};

/// Deletes calls past their `retention_until` until it is stopped. Any number
/// of them may run in a region.
pub struct Retention {
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Retention {
    /// On the current tokio runtime.
    pub fn start(store: Store, every: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = Some(tokio::spawn(run(store, every, stopped)));
        Self { stop, task }
    }

    /// Waits for the transaction that is under way.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run(store: Store, every: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = sweep(&store, &stopped).await {
            tracing::warn!(%error, "what has been kept for long enough cannot be deleted");
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

async fn sweep(store: &Store, stopped: &watch::Receiver<bool>) -> Result<()> {
    // Whatever is wrong with a message holds up nothing else.
    while !*stopped.borrow() {
        match store.voicemail_sweep().await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                store.inner.counts.voicemail_sweeps_failed.fetch_add(1, Relaxed);
                tracing::warn!(%error, "messages that were removed cannot be deleted");
                break;
            }
        }
    }
    let (mut calls, mut recordings) = (0, 0);
    while !*stopped.borrow() {
        let swept = store.retention_sweep(now()).await?;
        calls += swept.calls;
        recordings += swept.recordings;
        if !swept.full {
            break;
        }
    }
    if calls > 0 {
        tracing::info!(calls, recordings, "kept for long enough, and deleted");
    }
    Ok(())
}
