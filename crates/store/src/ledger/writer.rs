//! The thread that writes the journal: it takes all that waits, writes it, and
//! pays one fsync for it.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use landline_region::UnixMillis;
use tokio::sync::{oneshot, watch};

use super::recover::ALIVE;
use super::{AppendError, Counts, LedgerConfig};
use crate::segment::{Position, SegmentWriter};
use crate::store::Store;

/// Appends that share one fsync, at most.
const GROUP: usize = 1024;
const SEGMENT: u64 = 8 << 20;

pub struct Append {
    /// Whether it opens calls.
    pub opens: bool,
    pub records: Vec<Vec<u8>>,
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

pub enum Message {
    Append(Append),
    Alive(UnixMillis),
}

pub struct Writer {
    config: LedgerConfig,
    store: Store,
    counts: Arc<Counts>,
    segment: SegmentWriter,
    /// The end of what may be read.
    durable: watch::Sender<Position>,
    segment_size: u64,
    /// The segment failed and must not be written any more.
    broken: bool,
    next_segment: u64,
    _lock: File,
}

impl Writer {
    pub fn new(
        config: LedgerConfig,
        (segment, lock): (SegmentWriter, File),
        store: Store,
        counts: Arc<Counts>,
        durable: watch::Sender<Position>,
    ) -> Self {
        let segment_size = SEGMENT.min(config.limit / 8).max(1);
        counts.octets.fetch_add(segment.end().offset, Relaxed);
        Self {
            config,
            store,
            counts,
            durable,
            segment_size,
            broken: false,
            next_segment: segment.end().segment + 1,
            segment,
            _lock: lock,
        }
    }

    /// Until the ledger is closed.
    pub fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut group = vec![first];
            group.extend(messages.try_iter().take(GROUP - 1));
            self.write(group);
        }
    }

    fn write(&mut self, group: Vec<Message>) {
        if self.broken {
            self.rotate();
        }
        let (mut taken, mut records) = (Vec::with_capacity(group.len()), 0);
        let mut alive = None;
        for message in group {
            match message {
                Message::Alive(at) => alive = Some(at),
                Message::Append(append) if self.broken => {
                    self.counts.refused.fetch_add(append.records.len() as u64, Relaxed);
                    let problem = "no segment can be begun".to_owned();
                    let _ = append.reply.send(Err(AppendError::Disk(problem)));
                }
                Message::Append(append) if !self.has_room(&append) => {
                    self.counts.refused.fetch_add(append.records.len() as u64, Relaxed);
                    let _ = append.reply.send(Err(AppendError::Full));
                }
                Message::Append(append) => {
                    append.records.iter().for_each(|record| self.segment.push(record));
                    records += append.records.len() as u64;
                    taken.push(append.reply);
                }
            }
        }
        let result = if taken.is_empty() { Ok(()) } else { self.sync(records) };
        for reply in taken {
            let _ = reply.send(result.clone());
        }
        if let Some(at) = alive {
            self.note_alive(at);
        }
    }

    fn has_room(&self, append: &Append) -> bool {
        let octets: u64 = append.records.iter().map(|record| record.len() as u64 + 24).sum();
        let limit = if append.opens { self.config.limit / 8 * 7 } else { self.config.limit };
        let held = self.counts.octets.load(Relaxed) + self.segment.buffered_octets();
        held + octets <= limit
    }

    fn sync(&mut self, records: u64) -> Result<(), AppendError> {
        let octets = self.segment.buffered_octets();
        if let Err(error) = self.segment.sync() {
            // What of it reached the disk is unknown: go on in a new segment.
            self.broken = true;
            self.counts.refused.fetch_add(records, Relaxed);
            tracing::error!(%error, "the ledger cannot be written");
            return Err(AppendError::Disk(error.to_string()));
        }
        self.counts.fsyncs.fetch_add(1, Relaxed);
        self.counts.octets.fetch_add(octets, Relaxed);
        self.counts.appended.fetch_add(records, Relaxed);
        self.counts.total.fetch_add(records, Relaxed);
        self.durable.send_replace(self.segment.end());
        if self.segment.end().offset >= self.segment_size {
            self.rotate();
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let segment = self.next_segment;
        self.next_segment += 1;
        match SegmentWriter::create(&self.config.dir, segment, self.store.keys()) {
            Ok(segment) => {
                self.counts.octets.fetch_add(segment.end().offset, Relaxed);
                self.durable.send_replace(segment.end());
                self.segment = segment;
                self.broken = false;
            }
            Err(error) => tracing::error!(%error, "the ledger cannot begin a segment"),
        }
    }

    fn note_alive(&self, at: UnixMillis) {
        let path = self.config.dir.join(ALIVE);
        let part = path.with_extension("part");
        let written = std::fs::write(&part, at.0.to_string())
            .and_then(|()| File::open(&part)?.sync_data())
            .and_then(|()| std::fs::rename(&part, &path));
        if let Err(error) = written {
            tracing::warn!(%error, "the ledger cannot note that it is alive");
        }
    }
}
