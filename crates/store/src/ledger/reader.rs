//! The journal as it is read: batch by batch from where shipping stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use landline_call::record::CallEvent;
use tokio::sync::watch;

use super::Counts;
use super::kept;
use super::recover::write_checkpoint;
use crate::disk::{Disk, DiskFile as _};
use crate::event;
use crate::keys::KeyRing;
use crate::segment::{self, Frame, Position, SegmentReader};

/// Events in one transaction: where batches stop paying.
const BATCH: usize = 400;
/// How often the checkpoint is moved within a segment; what is shipped twice
/// after a death is known by its numbers.
const CHECKPOINT: Duration = Duration::from_secs(1);

pub struct Reader<D> {
    disk: D,
    keys: Arc<KeyRing>,
    counts: Arc<Counts>,
    /// Up to where everything is in the database.
    position: Position,
    former_ends: BTreeMap<u64, u64>,
    durable: watch::Receiver<Position>,
    checkpoint: Checkpoint,
}

/// What is known of the checkpoint on disk.
struct Checkpoint {
    position: Position,
    written_at: Option<Instant>,
}

/// Records read from the journal, and where they end.
pub struct Batch {
    pub events: Vec<CallEvent>,
    pub records: u64,
    end: Position,
}

impl<D: Disk> Reader<D> {
    pub fn new(
        disk: D,
        keys: Arc<KeyRing>,
        counts: Arc<Counts>,
        (shipped, former_ends): (Position, BTreeMap<u64, u64>),
        durable: watch::Receiver<Position>,
    ) -> Self {
        let checkpoint = Checkpoint { position: shipped, written_at: None };
        Self { disk, keys, counts, position: shipped, former_ends, durable, checkpoint }
    }

    /// The end of what may be read, for who waits for it to move.
    pub fn durable(&mut self) -> &mut watch::Receiver<Position> {
        &mut self.durable
    }

    /// Up to [`BATCH`] events from where shipping stands.
    pub fn read(&mut self) -> std::io::Result<Option<Batch>> {
        let durable = *self.durable.borrow_and_update();
        let mut batch = Batch { events: Vec::new(), records: 0, end: self.position };
        loop {
            let id = batch.end.segment;
            let end = match self.former_ends.get(&id) {
                _ if id == durable.segment => durable.offset,
                Some(end) => *end,
                None => {
                    self.disk.open(&segment::name(id)).and_then(|file| file.length()).unwrap_or(0)
                }
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
        let mut reader = SegmentReader::open(&self.disk, batch.end, &self.keys)?;
        while batch.records < BATCH as u64 {
            let frame = reader.next(end)?;
            match &frame {
                Frame::End => break,
                // For the next run, and no business of the database.
                Frame::Record(plain) if kept::is_kept(plain) => {}
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

    /// Moves the checkpoint and removes the segments before it.
    pub fn forget(&mut self, batch: &Batch, now: Instant) {
        let former = self.position.segment;
        self.position = batch.end;
        if former != self.position.segment || self.checkpoint.is_old(now) {
            self.note_position(now);
        }
        // Their events are in the database whether or not the checkpoint says so.
        for id in former..self.position.segment {
            self.remove(id);
        }
    }

    pub fn note_position(&mut self, now: Instant) {
        if self.checkpoint.position == self.position {
            return;
        }
        match write_checkpoint(&self.disk, self.position) {
            Ok(()) => {
                self.checkpoint = Checkpoint { position: self.position, written_at: Some(now) }
            }
            Err(error) => tracing::warn!(%error, "the ledger's checkpoint cannot be written"),
        }
    }

    fn remove(&mut self, id: u64) {
        let name = segment::name(id);
        let octets = self.disk.open(&name).and_then(|file| file.length()).unwrap_or(0);
        if let Err(error) = self.disk.remove(&name) {
            tracing::warn!(%error, segment = id, "a shipped segment cannot be removed");
        }
        self.former_ends.remove(&id);
        let less = |held: u64| Some(held.saturating_sub(octets));
        let _ = self.counts.octets.fetch_update(Relaxed, Relaxed, less);
    }
}

impl Checkpoint {
    fn is_old(&self, now: Instant) -> bool {
        self.written_at.is_none_or(|at| now.saturating_duration_since(at) >= CHECKPOINT)
    }
}
