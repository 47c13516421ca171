//! The ledger's files alone, stepped by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use landline_call::Snapshot;
use landline_call::record::CallEvent;
use landline_region::{CallSid, UnixMillis};
use tokio::sync::{oneshot, watch};

use super::kept::{KeptCall, Live};
use super::reader::{Batch, Reader};
use super::writer::{Append, Message, Record, Writer};
use super::{AppendError, Counts, LedgerCounters, recover};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::keys::KeyRing;

type Appended = std::result::Result<(), AppendError>;

/// What a [`Ledger`](super::Ledger) does on a thread and a task of its own, for
/// one who has a disk and a clock to give.
pub struct Journal<D: Disk> {
    pub(super) writer: Writer<D>,
    pub(super) reader: Reader<D>,
    pub(super) counts: Arc<Counts>,
    pub(super) last_alive: Option<UnixMillis>,
    /// The answered calls of a former run.
    pub(super) calls: HashMap<CallSid, Snapshot>,
}

impl<D: Disk + Clone> Journal<D> {
    /// Mends what a former run left and begins a segment. `limit` as in
    /// [`LedgerConfig`](super::LedgerConfig).
    pub fn open(disk: D, limit: u64, keys: Arc<KeyRing>) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let recover::Recovered { writer, shipped, former_ends, last_alive, calls } =
            recover::recover(&disk, &keys, &counts)?;
        let (durable, durable_end) = watch::channel(writer.end());
        let reader = Reader::new(
            disk.clone(),
            keys.clone(),
            counts.clone(),
            (shipped, former_ends),
            durable_end,
        );
        let (fail, live) = (disk.path(""), Live::of(&calls));
        let writer = Writer::new((disk, limit), writer, keys, counts.clone(), durable, live)
            .map_err(|error| StoreError::file(fail, error))?;
        Ok(Self { writer, reader, counts, last_alive, calls })
    }

    /// The answered calls that a former run left and nobody has ended, to be
    /// taken up: once.
    pub fn kept(&mut self) -> Vec<Snapshot> {
        std::mem::take(&mut self.calls).into_values().collect()
    }

    /// Writes what several callers append, with one fsync, and says of each
    /// whether it is on disk.
    pub fn append(&mut self, appends: &[Vec<CallEvent>]) -> Vec<Appended> {
        self.append_with(appends.iter().map(|events| (&events[..], &[][..])))
    }

    /// With what is to be kept of calls.
    pub fn append_with<'a>(
        &mut self,
        appends: impl Iterator<Item = (&'a [CallEvent], &'a [KeptCall])>,
    ) -> Vec<Appended> {
        let (mut replies, mut group) = (Vec::new(), Vec::new());
        for (events, calls) in appends {
            let (reply, receiver) = oneshot::channel();
            let calls = calls.iter().map(Record::of_call);
            let records = events.iter().map(Record::of).chain(calls).collect();
            group.push(Message::Append(Append { records, reply }));
            replies.push(receiver);
        }
        self.writer.write(group);
        let answered = |mut reply: oneshot::Receiver<_>| reply.try_recv();
        replies.into_iter().map(|it| answered(it).unwrap_or(Err(AppendError::Closed))).collect()
    }

    /// Notes that the process was alive.
    pub fn alive(&mut self, at: UnixMillis) {
        self.writer.write(vec![Message::Alive(at)]);
    }

    /// When the former run was last known to be alive.
    pub fn last_alive(&self) -> Option<UnixMillis> {
        self.last_alive
    }

    /// What is to be shipped next, the same until it was.
    pub fn read(&mut self) -> std::io::Result<Option<Batch>> {
        self.reader.read()
    }

    /// The batch is in the database.
    pub fn shipped(&mut self, batch: &Batch, now: Instant) {
        self.reader.forget(batch, now);
    }

    /// Without what is shipped; see [`Journal::read`].
    pub fn counters(&self) -> LedgerCounters {
        self.counts.read(0)
    }
}
