//! Where sealed chunks wait on disk while the database is away: segments that
//! are written, read once in order, and removed.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::outlet::{Delivery, Outgoing};
use super::{Counts, RecorderConfig};
use crate::disk::{Directory, Disk as _};
use crate::error::Result;
use crate::segment::{self, Frame, Position, SegmentReader, SegmentWriter};
use crate::store::Store;

const SEGMENT: u64 = 16 << 20;

pub struct Spool {
    disk: Directory,
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
        let disk = Directory(config.spool.clone());
        let fail = |error: std::io::Error| crate::StoreError::file(&config.spool, error);
        crate::file::make_dir(&config.spool).map_err(fail)?;
        let lock = crate::file::locked(&config.spool)?;
        let segments = segment::list(&disk).map_err(fail)?;
        let mut waiting = VecDeque::new();
        for &id in &segments {
            let scan = segment::scan(&disk, id).map_err(fail)?;
            if scan.torn > 0 {
                damaged(&counts, id, "its end was cut off or is damaged");
            }
            if scan.records == 0 {
                disk.remove(&segment::name(id)).map_err(fail)?;
                continue;
            }
            counts.spool_octets.fetch_add(scan.end, Relaxed);
            waiting.push_back((id, scan.end));
        }
        Ok(Self {
            limit: config.spool_limit,
            disk,
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
                let writer = SegmentWriter::create(&self.disk, id, self.store.keys())?;
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
        self.unconfirmed.iter().filter_map(|record| postcard::from_bytes(record).ok()).collect()
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
                    damaged(&self.counts, id, &error.to_string());
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
                self.reader.insert(SegmentReader::open(&self.disk, start, self.store.keys())?)
            }
        };
        let mut records = Vec::new();
        while records.len() < most {
            match reader.next(end)? {
                Frame::Record(record) => match postcard::from_bytes::<Delivery>(&record) {
                    Ok(_) => records.push(record),
                    Err(error) => damaged(&self.counts, id, &error.to_string()),
                },
                Frame::Damaged => damaged(&self.counts, id, "its checksum or seal is wrong"),
                Frame::End => break,
            }
        }
        Ok(records)
    }

    /// Only after all of it was confirmed, for it is read on at its end.
    fn remove_oldest(&mut self) {
        self.reader = None;
        let Some((id, octets)) = self.waiting.pop_front() else { return };
        if let Err(error) = self.disk.remove(&segment::name(id)) {
            tracing::warn!(%error, segment = id, "a spool segment cannot be removed");
        }
        let less = |held: u64| Some(held.saturating_sub(octets));
        let _ = self.counts.spool_octets.fetch_update(Relaxed, Relaxed, less);
    }
}

/// What cannot be read is passed over, not kept: it would hold up the rest.
fn damaged(counts: &Counts, segment: u64, problem: &str) {
    counts.spool_damaged.fetch_add(1, Relaxed);
    tracing::error!(segment, problem, "part of the recorder's spool is passed over");
}

#[cfg(test)]
mod tests {
    use landline_control::Recorded;
    use landline_region::{RecordingSid, UnixMillis};

    use super::super::outlet::Finish;
    use super::*;
    use crate::{KeyRing, StoreConfig};

    fn finish(recording: u128) -> Vec<u8> {
        let sid = RecordingSid::from_u128(recording);
        let recorded = Recorded { sid, expected_packets: 1, stored_packets: 1 };
        let finished_at = UnixMillis(1);
        let end = Finish { recorded, chunks: 1, duration_ms: 20, head: [0; 32], finished_at };
        postcard::to_stdvec(&Delivery::Finish(end)).unwrap()
    }

    /// As another version may have written it: whole, sealed, and unknown.
    #[tokio::test]
    async fn what_cannot_be_decoded_is_counted_and_does_not_hold_up_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (region, key_ring) = ("ie1".parse().unwrap(), dir.path().join("keys"));
        KeyRing::create(&key_ring, region).unwrap();
        let url = format!("sqlite:{}", dir.path().join("region.db").display());
        let store = Store::open(&StoreConfig::new(url, region, key_ring)).await.unwrap();
        let config = RecorderConfig::new(dir.path().join("spool"));
        std::fs::create_dir_all(&config.spool).unwrap();
        for (segment, records) in [
            (1, vec![vec![9, 9, 9], vec![9]]),
            (2, vec![vec![7], finish(1), vec![8, 8], finish(2)]),
        ] {
            let disk = Directory(config.spool.clone());
            let mut writer = SegmentWriter::create(&disk, segment, store.keys()).unwrap();
            records.iter().for_each(|record| writer.push(record));
            writer.sync().unwrap();
        }
        let counts = Arc::new(Counts::default());
        let mut spool = Spool::open(&config, store, counts.clone()).unwrap();
        for _ in 0..2 {
            assert_eq!(spool.read(10).len(), 2, "the same until they are confirmed");
        }
        spool.advance();
        assert!(spool.read(10).is_empty() && spool.is_empty());
        assert_eq!(counts.spool_damaged.load(Relaxed), 4);
        assert_eq!(counts.spool_octets.load(Relaxed), 0);
    }
}
