//! Where sealed chunks wait on disk while the database is away: segments that
//! are written, read once in order, and removed.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::outlet::{Delivery, Outgoing};
use super::{Counts, RecorderConfig};
use crate::error::Result;
use crate::segment::{self, Frame, Position, SegmentReader, SegmentWriter};
use crate::store::Store;

const SEGMENT: u64 = 16 << 20;

pub struct Spool {
    dir: PathBuf,
    limit: u64,
    store: Store,
    counts: Arc<Counts>,
    writer: Option<SegmentWriter>,
    next: u64,
    /// Whole segments with their octets, the oldest first; the writer's is not
    /// among them.
    waiting: VecDeque<(u64, u64)>,
    /// Where the oldest is read.
    reader: Option<SegmentReader>,
    /// What [`Spool::read`] gave and [`Spool::advance`] has not confirmed.
    unconfirmed: Vec<Vec<u8>>,
    _lock: File,
}

impl Spool {
    pub fn open(config: &RecorderConfig, store: Store, counts: Arc<Counts>) -> Result<Self> {
        let dir = config.spool.clone();
        let fail = |error: std::io::Error| crate::StoreError::file(&dir, error);
        std::fs::create_dir_all(&dir).map_err(fail)?;
        let lock = crate::file::locked(&dir)?;
        let segments = segment::list(&dir).map_err(fail)?;
        let mut waiting = VecDeque::new();
        for &id in &segments {
            let scan = segment::scan(&segment::path(&dir, id)).map_err(fail)?;
            if scan.records == 0 {
                std::fs::remove_file(segment::path(&dir, id)).map_err(fail)?;
                continue;
            }
            counts.spool_octets.fetch_add(scan.end, Relaxed);
            waiting.push_back((id, scan.end));
        }
        Ok(Self {
            limit: config.spool_limit,
            dir,
            store,
            counts,
            writer: None,
            next: segments.last().map_or(1, |last| last + 1),
            waiting,
            reader: None,
            unconfirmed: Vec::new(),
            _lock: lock,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.writer.is_none() && self.unconfirmed.is_empty()
    }

    /// False where there is no room or the disk fails; nothing was kept then.
    pub fn write(&mut self, batch: &[Outgoing]) -> bool {
        let written = self.try_write(batch);
        if let Err(error) = &written {
            tracing::error!(%error, "the recorder's spool cannot be written");
            // What of it reached the disk is unknown; inserting it twice does
            // no harm.
            self.close_writer();
        }
        written.unwrap_or(false)
    }

    fn try_write(&mut self, batch: &[Outgoing]) -> std::io::Result<bool> {
        let mut records = Vec::with_capacity(batch.len());
        for outgoing in batch {
            records.push(postcard::to_stdvec(&outgoing.delivery).map_err(std::io::Error::other)?);
        }
        let octets: u64 = records.iter().map(|record| record.len() as u64 + 24).sum();
        if self.counts.spool_octets.load(Relaxed) + octets > self.limit {
            return Ok(false);
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let id = self.next;
                self.next += 1;
                let writer = SegmentWriter::create(&self.dir, id, self.store.keys())?;
                self.writer.insert(writer)
            }
        };
        records.iter().for_each(|record| writer.push(record));
        let octets = writer.buffered_octets();
        writer.sync()?;
        self.counts.spool_octets.fetch_add(octets, Relaxed);
        if writer.end().offset >= SEGMENT {
            self.close_writer();
        }
        Ok(true)
    }

    fn close_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            let Position { segment, offset, .. } = writer.end();
            self.waiting.push_back((segment, offset));
        }
    }

    /// The oldest deliveries, the same ones until they are confirmed.
    pub fn read(&mut self, most: usize) -> Vec<Delivery> {
        if self.unconfirmed.is_empty() {
            self.unconfirmed = self.read_records(most);
        }
        let decode = |record: &Vec<u8>| postcard::from_bytes(record).ok();
        self.unconfirmed.iter().filter_map(decode).collect()
    }

    /// The deliveries last read are in the database.
    pub fn advance(&mut self) {
        self.unconfirmed.clear();
    }

    fn read_records(&mut self, most: usize) -> Vec<Vec<u8>> {
        loop {
            if self.waiting.is_empty() {
                self.close_writer();
            }
            let Some(&(id, end)) = self.waiting.front() else { return Vec::new() };
            match self.read_from(id, end, most) {
                Ok(records) if !records.is_empty() => return records,
                Ok(_) => self.remove_oldest(),
                Err(error) => {
                    tracing::error!(%error, segment = id, "a spool segment cannot be read");
                    self.remove_oldest();
                }
            }
        }
    }

    fn read_from(&mut self, id: u64, end: u64, most: usize) -> std::io::Result<Vec<Vec<u8>>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let start = Position::start_of(id);
                self.reader.insert(SegmentReader::open(&self.dir, start, self.store.keys())?)
            }
        };
        let mut records = Vec::new();
        while records.len() < most {
            match reader.next(end)? {
                Frame::Record(record) => records.push(record),
                Frame::Damaged => tracing::error!(segment = id, "a spooled chunk is damaged"),
                Frame::End => break,
            }
        }
        Ok(records)
    }

    /// Only after all of it was confirmed, for it is read on at its end.
    fn remove_oldest(&mut self) {
        self.reader = None;
        let Some((id, octets)) = self.waiting.pop_front() else { return };
        if let Err(error) = std::fs::remove_file(segment::path(&self.dir, id)) {
            tracing::warn!(%error, segment = id, "a spool segment cannot be removed");
        }
        let less = |held: u64| Some(held.saturating_sub(octets));
        let _ = self.counts.spool_octets.fetch_update(Relaxed, Relaxed, less);
    }
}
