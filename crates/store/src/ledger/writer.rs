//! The thread that writes the journal: it takes all that waits, writes it, and
//! pays one fsync for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use landline_call::record::{CallEvent, Step};
use landline_region::{CallSid, UnixMillis};
use tokio::sync::{oneshot, watch};

use super::kept::{KeptCall, Live};
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
    pub kind: Kind,
    pub octets: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Opens,
    Event,
    /// The last event of a call: nothing is kept of it from here on.
    Closes(CallSid),
    /// An answered call as it is now.
    State(CallSid),
    Gone(CallSid),
}

impl Record {
    pub fn of(event: &CallEvent) -> Self {
        let kind = match event.step {
            Step::Opened(_) => Kind::Opens,
            Step::Closed(_) => Kind::Closes(event.call),
            _ => Kind::Event,
        };
        Self { kind, octets: event::encode(event) }
    }

    pub fn of_call(kept: &KeptCall) -> Self {
        let kind = match kept {
            KeptCall::State(snapshot) => Kind::State(snapshot.call),
            KeptCall::Gone(call) => Kind::Gone(*call),
        };
        Self { kind, octets: kept.encode() }
    }

    fn is_event(&self) -> bool {
        matches!(self.kind, Kind::Opens | Kind::Event | Kind::Closes(_))
    }
}

/// Records that went into a group.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    records: u64,
    events: u64,
    opened: u64,
    closed: u64,
}

impl Tally {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        self.events += u64::from(record.is_event());
        self.opened += u64::from(record.kind == Kind::Opens);
        self.closed += u64::from(matches!(record.kind, Kind::Closes(_)));
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
    live: Live,
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
        live: Live,
    ) -> std::io::Result<Self> {
        let mut writer = Self {
            disk,
            limit,
            keys,
            counts,
            durable,
            segment_size: SEGMENT.min(limit / 8).max(1),
            live,
            broken: false,
            next_segment: segment.end().segment + 1,
            segment,
        };
        writer.begin()?;
        Ok(writer)
    }

    /// A new segment begins with every call that is kept: those before it are
    /// going to be removed.
    fn begin(&mut self) -> std::io::Result<()> {
        let mut calls = 0;
        for octets in self.live.iter() {
            self.segment.push(octets);
            calls += 1;
        }
        if calls > 0 {
            self.segment.sync()?;
            self.counts.fsyncs.fetch_add(1, Relaxed);
        }
        self.counts.octets.fetch_add(self.segment.end().offset, Relaxed);
        self.counts.total.fetch_add(calls, Relaxed);
        self.durable.send_replace(self.segment.end());
        Ok(())
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
                    self.note_kept(&append.records);
                    self.counts.refused.fetch_add(events_among(&append.records), Relaxed);
                    let problem = "no segment can be begun".to_owned();
                    let _ = append.reply.send(Err(AppendError::Disk(problem)));
                }
                Message::Append(append) => {
                    let answer = self.push(&append.records, &mut tally);
                    self.note_kept(&append.records);
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
        // Events come first: where many of them wait for the database, a call's
        // state waits for the next segment.
        let has_room = held <= self.limit / 2;
        let is_wanted = |it: &&Record| has_room || !matches!(it.kind, Kind::State(_));
        let wanted = || records.iter().filter(is_wanted);
        let opens = wanted().any(|record| record.kind == Kind::Opens);
        let limit = if opens { self.limit / 8 * 7 } else { self.limit };
        let all: u64 = wanted().map(octets).sum();
        let whole = held + all <= limit;
        let rest = || wanted().filter(|record| whole || record.kind != Kind::Opens);
        let fits = whole || held + rest().map(octets).sum::<u64>() <= self.limit;
        let before = tally.events;
        for record in rest().filter(|_| fits) {
            self.segment.push(&record.octets);
            tally.add(record);
        }
        if whole {
            return Ok(());
        }
        let written = tally.events - before;
        self.counts.refused.fetch_add(events_among(records) - written, Relaxed);
        Err(AppendError::Full)
    }

    /// For the next segment, whether or not this one took it.
    fn note_kept(&mut self, records: &[Record]) {
        for record in records {
            match record.kind {
                Kind::State(call) => self.live.keep(call, record.octets.clone()),
                Kind::Gone(call) | Kind::Closes(call) => self.live.forget(call),
                Kind::Opens | Kind::Event => {}
            }
        }
    }

    fn sync(&mut self, tally: Tally) -> Result<(), AppendError> {
        let octets = self.segment.buffered_octets();
        if let Err(error) = self.segment.sync() {
            // What of it reached the disk is unknown: go on in a new segment.
            self.broken = true;
            self.counts.refused.fetch_add(tally.events, Relaxed);
            tracing::error!(%error, "the ledger cannot be written");
            return Err(AppendError::Disk(error.to_string()));
        }
        self.counts.fsyncs.fetch_add(1, Relaxed);
        self.counts.octets.fetch_add(octets, Relaxed);
        self.counts.appended.fetch_add(tally.events, Relaxed);
        self.counts.total.fetch_add(tally.records, Relaxed);
        self.counts.calls_opened.fetch_add(tally.opened, Relaxed);
        self.counts.calls_closed.fetch_add(tally.closed, Relaxed);
        self.durable.send_replace(self.segment.end());
        // What is kept is written again in each: not more of that than of the rest.
        if self.segment.end().offset >= self.segment_size.max(4 * self.live.octets()) {
            self.rotate();
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let segment = self.next_segment;
        self.next_segment += 1;
        match SegmentWriter::create(&self.disk, segment, &self.keys) {
            Ok(segment) => {
                self.segment = segment;
                let begun = self.begin();
                self.broken = begun.is_err();
                if let Err(error) = begun {
                    tracing::error!(%error, "the ledger cannot begin a segment");
                }
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

fn events_among(records: &[Record]) -> u64 {
    records.iter().filter(|record| record.is_event()).count() as u64
}
