//! The task that brings the journal into the database, in order, and removes
//! what is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use landline_call::record::CallEvent;
use tokio::sync::{Notify, watch};

use super::reader::{Batch, Reader};
use super::{Counts, REFUSED};
use crate::call::Applied;
use crate::disk::Directory;
use crate::error::StoreError;
use crate::event;
use crate::segment;
use crate::store::Store;

/// How long events gather before they are shipped: a transaction of one costs
/// as much as one of dozens, and they are safe where they are.
const GATHER: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A refusal is no outage: waiting longer only holds up the events behind it.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// How often one event alone is tried that the database answers and refuses.
const PATIENCE: u32 = 8;

pub struct Shipper {
    pub dir: PathBuf,
    pub store: Store,
    pub counts: Arc<Counts>,
    pub reader: Reader<Directory>,
    pub stop: watch::Receiver<bool>,
    /// Somebody waits for the events to be in the database.
    pub hurry: Arc<Notify>,
    pub done: watch::Sender<u64>,
}

impl Shipper {
    pub async fn run(mut self) {
        self.ship_all().await;
        self.reader.note_position(Instant::now());
    }

    /// Until the ledger is closed.
    async fn ship_all(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let more = match self.reader.read() {
                Ok(Some(batch)) => match self.ship(&batch).await {
                    true => self.advance(&batch),
                    false => return,
                },
                Ok(None) => false,
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be read");
                    if self.stopped_within(pause).await {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            pause = FIRST_PAUSE;
            if !more && self.idle().await {
                return;
            }
        }
    }

    /// Waits for more to ship; true when the ledger was closed.
    async fn idle(&mut self) -> bool {
        if *self.stop.borrow() {
            return true;
        }
        let durable = self.reader.durable();
        let closed = tokio::select! {
            changed = durable.changed() => changed.is_err(),
            changed = self.stop.changed() => changed.is_err() && durable.has_changed().is_err(),
        };
        if !closed && !*self.stop.borrow() {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = self.hurry.notified() => {}
                _ = self.stop.changed() => {}
            }
        }
        closed
    }

    /// Tries until the events are in the database or set aside; false when the
    /// ledger was closed before.
    async fn ship(&mut self, batch: &Batch) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.store.apply_events(&batch.events).await {
                Ok(applied) => {
                    self.shipped(&batch.events, &applied);
                    return true;
                }
                Err(error) => error,
            };
            self.failed(&error);
            if !error.is_transient() {
                return self.ship_each(&batch.events).await;
            }
            if self.stopped_within(pause).await {
                return false;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One event among them is refused: it must not hold up the others.
    async fn ship_each(&mut self, events: &[CallEvent]) -> bool {
        for event in events {
            let (mut refusals, mut pause) = (0, FIRST_PAUSE);
            let alone = std::slice::from_ref(event);
            loop {
                let error = match self.store.apply_events(alone).await {
                    Ok(applied) => break self.shipped(alone, &applied),
                    Err(error) => error,
                };
                self.failed(&error);
                refusals += u32::from(!error.is_transient());
                if refusals == PATIENCE {
                    break self.set_aside(event, "the database refuses it");
                }
                if self.stopped_within(pause).await {
                    return false;
                }
                let longest = if error.is_transient() { LONGEST_PAUSE } else { REFUSED_PAUSE };
                pause = (pause * 2).min(longest);
            }
        }
        true
    }

    /// What came too late for its record is kept for who must look into it.
    fn shipped(&self, events: &[CallEvent], applied: &Applied) {
        for event in &applied.late {
            self.set_aside(event, "its call was closed as lost before it came");
        }
        let shipped = events.len().saturating_sub(applied.late.len());
        self.counts.shipped.fetch_add(shipped as u64, Relaxed);
    }

    fn failed(&self, error: &StoreError) {
        self.counts.ship_failures.fetch_add(1, Relaxed);
        tracing::warn!(%error, "call events cannot be shipped to the database");
    }

    /// Keeps a refused event, sealed, in a journal of its own.
    fn set_aside(&self, event: &CallEvent, problem: &str) {
        self.counts.set_aside.fetch_add(1, Relaxed);
        let kept = || {
            let refused = Directory(self.dir.join(REFUSED));
            std::fs::create_dir_all(&refused.0)?;
            let next = segment::list(&refused)?.last().map_or(1, |last| last + 1);
            let mut writer = segment::SegmentWriter::create(&refused, next, self.store.keys())?;
            writer.push(&event::encode(event));
            writer.sync()
        };
        let (call, sequence) = (event.call, event.sequence);
        match kept() {
            Ok(()) => tracing::error!(%call, sequence, problem, "an event is set aside"),
            Err(error) => tracing::error!(%call, sequence, problem, %error, "an event is lost"),
        }
    }

    /// True: there may be more.
    fn advance(&mut self, batch: &Batch) -> bool {
        self.reader.forget(batch, Instant::now());
        self.done.send_modify(|done| *done += batch.records);
        true
    }

    async fn stopped_within(&mut self, pause: Duration) -> bool {
        let stopped = self.stop.wait_for(|stop| *stop);
        match tokio::time::timeout(pause, stopped).await {
            Err(_) => false,
            Ok(Ok(_)) => true,
            // Every ledger handle is gone: nobody can stop us or wait for us.
            Ok(Err(_)) => true,
        }
    }
}
