//! The thread that writes the journal: it takes all that waits, writes it, and
//! pays one fsync for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use landline_call::record::{CallEvent, Step};
use landline_region::UnixMillis;
use tokio::sync::{oneshot, watch};

use super::recover::ALIVE;
use super::{AppendError, Counts};
use crate::disk::Disk;
use crate::event;
use crate::keys::KeyRing;
use crate::segment::{self, Position, SegmentWriter};

/// Appends that share one fsync, at most.
const GROUP: usize = 1024;
const SEGMENT: u64 = 8 << 20;

pub struct Append {
    pub records: Vec<Record>,
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

pub struct Record {
    /// Whether it opens a call.
    pub opens: bool,
    pub closes: bool,
    pub octets: Vec<u8>,
}

impl Record {
    pub fn of(event: &CallEvent) -> Self {
        Self {
            opens: matches!(event.step, Step::Opened(_)),
            closes: matches!(event.step, Step::Closed(_)),
            octets: event::encode(event),
        }
    }
}

/// Records that went into a group.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    records: u64,
    opened: u64,
    closed: u64,
}

impl Tally {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        self.opened += u64::from(record.opens);
        self.closed += u64::from(record.closes);
    }
}

pub enum Message {
    Append(Append),
    Alive(UnixMillis),
}

pub struct Writer<D: Disk> {
    disk: D,
    /// Octets on disk beyond which appends are refused.
    limit: u64,
    keys: Arc<KeyRing>,
    counts: Arc<Counts>,
    segment: SegmentWriter<D::File>,
    /// The end of what may be read.
    durable: watch::Sender<Position>,
    segment_size: u64,
    /// The segment failed and must not be written any more.
    broken: bool,
    next_segment: u64,
}

impl<D: Disk> Writer<D> {
    pub fn new(
        (disk, limit): (D, u64),
        segment: SegmentWriter<D::File>,
        keys: Arc<KeyRing>,
        counts: Arc<Counts>,
        durable: watch::Sender<Position>,
    ) -> Self {
        counts.octets.fetch_add(segment.end().offset, Relaxed);
        Self {
            disk,
            limit,
            keys,
            counts,
            durable,
            segment_size: SEGMENT.min(limit / 8).max(1),
            broken: false,
            next_segment: segment.end().segment + 1,
            segment,
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

    /// Writes all of them, with one fsync, and answers each.
    pub fn write(&mut self, group: Vec<Message>) {
        if self.broken {
            self.rotate();
        }
        let (mut taken, mut tally) = (Vec::with_capacity(group.len()), Tally::default());
        let mut alive = None;
        for message in group {
            match message {
                Message::Alive(at) => alive = Some(at),
                Message::Append(append) if self.broken => {
                    self.counts.refused.fetch_add(append.records.len() as u64, Relaxed);
                    let problem = "no segment can be begun".to_owned();
                    let _ = append.reply.send(Err(AppendError::Disk(problem)));
                }
                Message::Append(append) => {
                    let answer = self.push(&append.records, &mut tally);
                    taken.push((append.reply, answer));
                }
            }
        }
        let result = if tally.records == 0 { Ok(()) } else { self.sync(tally) };
        for (reply, answer) in taken {
            let _ = reply.send(result.clone().and(answer));
        }
        if let Some(at) = alive {
            self.note_alive(at);
        }
    }

    /// All of the records, or, where there is no room for openings any more,
    /// those that are none: what is open must be closed.
    fn push(&mut self, records: &[Record], tally: &mut Tally) -> Result<(), AppendError> {
        let octets = |record: &Record| record.octets.len() as u64 + segment::OVERHEAD;
        let held = self.counts.octets.load(Relaxed) + self.segment.buffered_octets();
        let opens = records.iter().any(|record| record.opens);
        let limit = if opens { self.limit / 8 * 7 } else { self.limit };
        let all: u64 = records.iter().map(octets).sum();
        let whole = held + all <= limit;
        let rest = || records.iter().filter(|record| whole || !record.opens);
        let fits = whole || held + rest().map(octets).sum::<u64>() <= self.limit;
        let before = tally.records;
        for record in rest().filter(|_| fits) {
            self.segment.push(&record.octets);
            tally.add(record);
        }
        if whole {
            return Ok(());
        }
        let written = tally.records - before;
        self.counts.refused.fetch_add(records.len() as u64 - written, Relaxed);
        Err(AppendError::Full)
    }

    fn sync(&mut self, tally: Tally) -> Result<(), AppendError> {
        let octets = self.segment.buffered_octets();
        if let Err(error) = self.segment.sync() {
            // What of it reached the disk is unknown: go on in a new segment.
            self.broken = true;
            self.counts.refused.fetch_add(tally.records, Relaxed);
            tracing::error!(%error, "the ledger cannot be written");
            return Err(AppendError::Disk(error.to_string()));
        }
        self.counts.fsyncs.fetch_add(1, Relaxed);
        self.counts.octets.fetch_add(octets, Relaxed);
        self.counts.appended.fetch_add(tally.records, Relaxed);
        self.counts.total.fetch_add(tally.records, Relaxed);
        self.counts.calls_opened.fetch_add(tally.opened, Relaxed);
        self.counts.calls_closed.fetch_add(tally.closed, Relaxed);
        self.durable.send_replace(self.segment.end());
        if self.segment.end().offset >= self.segment_size {
            self.rotate();
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let segment = self.next_segment;
        self.next_segment += 1;
        match SegmentWriter::create(&self.disk, segment, &self.keys) {
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
        let written = self.disk.replace(ALIVE, &at.0.to_string(), true);
        if let Err(error) = written {
            tracing::warn!(%error, "the ledger cannot note that it is alive");
        }
    }
}
