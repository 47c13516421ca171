//! The task that brings the journal into the database, in order, and removes
//! what is there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landline_call::record::CallEvent;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Counts;
use super::recover::write_checkpoint;
use crate::error::StoreError;
use crate::event;
use crate::segment::{self, Frame, Position, SegmentReader};
use crate::store::Store;

/// Events in one transaction: where batches stop paying.
const BATCH: usize = 400;
/// How long events gather before they are shipped: a transaction of one costs
/// as much as one of dozens, and they are safe where they are.
const GATHER: Duration = Duration::from_millis(200);
/// How often the checkpoint is moved within a segment; what is shipped twice
/// after a death is known by its numbers.
const CHECKPOINT: Duration = Duration::from_secs(1);
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
    /// Up to where everything is in the database.
    pub position: Position,
    pub former_ends: BTreeMap<u64, u64>,
    pub durable: watch::Receiver<Position>,
    pub stop: watch::Receiver<bool>,
    /// Somebody waits for the events to be in the database.
    pub hurry: Arc<Notify>,
    pub done: watch::Sender<u64>,
    pub checkpoint: Checkpoint,
}

/// What is known of the checkpoint on disk.
pub struct Checkpoint {
    position: Position,
    written_at: Instant,
}

impl Checkpoint {
    pub fn new(position: Position) -> Self {
        Self { position, written_at: Instant::now() }
    }
}

/// Records read from the journal, and where they end.
struct Batch {
    events: Vec<CallEvent>,
    records: u64,
    end: Position,
}

impl Shipper {
    pub async fn run(mut self) {
        self.ship_all().await;
        self.note_position();
    }

    /// Until the ledger is closed.
    async fn ship_all(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let more = match self.read() {
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
        let closed = tokio::select! {
            changed = self.durable.changed() => changed.is_err(),
            changed = self.stop.changed() => changed.is_err() && self.durable.has_changed().is_err(),
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

    /// Up to [`BATCH`] events from where shipping stands.
    fn read(&mut self) -> std::io::Result<Option<Batch>> {
        let durable = *self.durable.borrow_and_update();
        let mut batch = Batch { events: Vec::new(), records: 0, end: self.position };
        loop {
            let id = batch.end.segment;
            let path = segment::path(&self.dir, id);
            let end = match self.former_ends.get(&id) {
                _ if id == durable.segment => durable.offset,
                Some(end) => *end,
                None => path.metadata().map_or(0, |metadata| metadata.len()),
            };
            if end > batch.end.offset {
                self.read_segment(&mut batch, end)?;
            }
            if batch.records >= BATCH as u64 || id >= durable.segment {
                break;
            }
            batch.end = Position::start_of(id + 1);
        }
        Ok((batch.end != self.position).then_some(batch))
    }

    fn read_segment(&self, batch: &mut Batch, end: u64) -> std::io::Result<()> {
        let mut reader = SegmentReader::open(&self.dir, batch.end, self.store.keys())?;
        while batch.records < BATCH as u64 {
            let frame = reader.next(end)?;
            match &frame {
                Frame::End => break,
                Frame::Record(plain) => match event::decode(plain) {
                    Ok(event) => batch.events.push(event),
                    Err(problem) => self.damaged(batch.end, &problem),
                },
                Frame::Damaged => self.damaged(batch.end, "its checksum or seal is wrong"),
            }
            batch.records += 1;
            batch.end = reader.position();
        }
        Ok(())
    }

    fn damaged(&self, at: Position, problem: &str) {
        self.counts.damaged.fetch_add(1, Relaxed);
        let Position { segment, offset, .. } = at;
        tracing::error!(segment, offset, problem, "a ledger record is passed over");
    }

    /// Tries until the events are in the database or set aside; false when the
    /// ledger was closed before.
    async fn ship(&mut self, batch: &Batch) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.store.apply_events(&batch.events).await {
                Ok(_) => {
                    self.counts.shipped.fetch_add(batch.events.len() as u64, Relaxed);
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
            while let Err(error) = self.store.apply_events(std::slice::from_ref(event)).await {
                self.failed(&error);
                refusals += u32::from(!error.is_transient());
                if refusals == PATIENCE {
                    self.set_aside(event);
                    break;
                }
                if self.stopped_within(pause).await {
                    return false;
                }
                let longest = if error.is_transient() { LONGEST_PAUSE } else { REFUSED_PAUSE };
                pause = (pause * 2).min(longest);
            }
            if refusals < PATIENCE {
                self.counts.shipped.fetch_add(1, Relaxed);
            }
        }
        true
    }

    fn failed(&self, error: &StoreError) {
        self.counts.ship_failures.fetch_add(1, Relaxed);
        tracing::warn!(%error, "call events cannot be shipped to the database");
    }

    /// Keeps a refused event, sealed, in a journal of its own.
    fn set_aside(&self, event: &CallEvent) {
        self.counts.set_aside.fetch_add(1, Relaxed);
        let kept = || {
            let dir = self.dir.join("refused");
            std::fs::create_dir_all(&dir)?;
            let next = segment::list(&dir)?.last().map_or(1, |last| last + 1);
            let mut writer = segment::SegmentWriter::create(&dir, next, self.store.keys())?;
            writer.push(&event::encode(event));
            writer.sync()
        };
        let (call, sequence) = (event.call, event.sequence);
        match kept() {
            Ok(()) => tracing::error!(%call, sequence, "the database refuses an event: set aside"),
            Err(error) => tracing::error!(%call, sequence, %error, "a refused event is lost"),
        }
    }

    /// True: there may be more.
    fn advance(&mut self, batch: &Batch) -> bool {
        self.forget(batch);
        self.done.send_modify(|done| *done += batch.records);
        true
    }

    /// Moves the checkpoint and removes the segments before it.
    fn forget(&mut self, batch: &Batch) {
        let former = self.position.segment;
        self.position = batch.end;
        if former != self.position.segment || self.checkpoint.written_at.elapsed() >= CHECKPOINT {
            self.note_position();
        }
        // Their events are in the database whether or not the checkpoint says so.
        for id in former..self.position.segment {
            self.remove(id);
        }
    }

    fn note_position(&mut self) {
        if self.checkpoint.position == self.position {
            return;
        }
        match write_checkpoint(&self.dir, self.position) {
            Ok(()) => self.checkpoint = Checkpoint::new(self.position),
            Err(error) => tracing::warn!(%error, "the ledger's checkpoint cannot be written"),
        }
    }

    fn remove(&mut self, id: u64) {
        let path = segment::path(&self.dir, id);
        let octets = path.metadata().map_or(0, |metadata| metadata.len());
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, segment = id, "a shipped segment cannot be removed");
        }
        self.former_ends.remove(&id);
        let less = |held: u64| Some(held.saturating_sub(octets));
        let _ = self.counts.octets.fetch_update(Relaxed, Relaxed, less);
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
