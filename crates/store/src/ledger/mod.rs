//! The append-only journal of call events in front of the database.
//!
//! An event is on disk before the call goes on; a shipper brings it into the
//! database when that is there. So a dead database stops no call, and a dead
//! process loses no record.

mod inspect;
mod journal;
mod kept;
mod reader;
mod recover;
mod shipper;
mod unshipped;
mod writer;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use landline_call::Snapshot;
use landline_call::record::{CallEvent, Closed, Step};
use landline_region::{CallSid, UnixMillis};
use tokio::sync::{Notify, oneshot, watch};

use crate::call::OpenCall;
use crate::disk::Directory;
use crate::error::{Result, StoreError};
use crate::store::Store;
use writer::{Append, Message, Record};

pub use crate::disk::{Disk, DiskFile};
pub use crate::event::{decode as decode_event, encode as encode_event};
pub use inspect::{Inspection, inspect};
pub use journal::Journal;
pub use kept::KeptCall;
pub use reader::Batch;
pub(crate) use unshipped::unshipped;

/// The journal, within a ledger's directory, of events that the database does
/// not take.
pub const REFUSED: &str = "refused";

/// Appends that may wait for the writer thread.
const QUEUE: usize = 4096;

#[derive(Debug, Clone)]
pub struct LedgerConfig {
    pub dir: PathBuf,
    /// Octets on disk beyond which appends are refused. Openings are refused
    /// at seven eighths of it, so that what is open can still be closed.
    pub limit: u64,
}

impl LedgerConfig {
    /// With a limit of 1 GiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), limit: 1 << 30 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No opening was written. What belongs to calls that are open already was,
    /// as long as there is room at all.
    #[error("the ledger is full: its events cannot be shipped to the database fast enough")]
    Full,
    #[error("the ledger's disk failed: {0}")]
    Disk(String),
    #[error("an event belongs to another region: {0}")]
    Foreign(String),
    #[error("the ledger was closed")]
    Closed,
}

/// Counted in events since the ledger was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounters {
    pub appended: u64,
    pub refused: u64,
    pub shipped: u64,
    /// On disk and not in the database yet.
    pub pending: u64,
    pub ship_failures: u64,
    /// Events that the database refused for good, kept in `refused` files.
    pub set_aside: u64,
    pub fsyncs: u64,
    /// Calls whose opening, and whose end, was appended.
    pub calls_opened: u64,
    pub calls_closed: u64,
    /// Octets on disk.
    pub octets: u64,
    /// Records of former runs with a wrong checksum or seal, passed over.
    pub damaged: u64,
    /// Octets of a write that the last run's death cut off.
    pub torn_octets: u64,
}

#[derive(Default)]
struct Counts {
    appended: AtomicU64,
    refused: AtomicU64,
    shipped: AtomicU64,
    /// Appended, and found unshipped at open.
    total: AtomicU64,
    ship_failures: AtomicU64,
    set_aside: AtomicU64,
    fsyncs: AtomicU64,
    calls_opened: AtomicU64,
    calls_closed: AtomicU64,
    octets: AtomicU64,
    damaged: AtomicU64,
    torn_octets: AtomicU64,
}

impl Counts {
    fn read(&self, done: u64) -> LedgerCounters {
        LedgerCounters {
            appended: self.appended.load(Relaxed),
            refused: self.refused.load(Relaxed),
            shipped: self.shipped.load(Relaxed),
            pending: self.total.load(Relaxed).saturating_sub(done),
            ship_failures: self.ship_failures.load(Relaxed),
            set_aside: self.set_aside.load(Relaxed),
            fsyncs: self.fsyncs.load(Relaxed),
            calls_opened: self.calls_opened.load(Relaxed),
            calls_closed: self.calls_closed.load(Relaxed),
            octets: self.octets.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
            torn_octets: self.torn_octets.load(Relaxed),
        }
    }
}

impl OpenCall {
    /// Its end, where the process that carried it died: the last moment that is
    /// proven by the record or by the process's own sign of life.
    pub fn lost(&self, last_alive: Option<UnixMillis>) -> CallEvent {
        CallEvent {
            call: self.sid,
            account: self.account,
            sequence: self.next_sequence,
            at: last_alive.map_or(self.last_at, |alive| alive.max(self.last_at)),
            step: Step::Closed(Closed::lost(self.answered)),
        }
    }
}

/// Clones share one journal.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    counts: Arc<Counts>,
    queue: Mutex<Option<SyncSender<Message>>>,
    /// Events shipped or set aside, counted like [`Counts::total`].
    done: watch::Receiver<u64>,
    hurry: Arc<Notify>,
    /// When the former run was last known to be alive.
    last_alive: Option<UnixMillis>,
    /// The answered calls of former runs that nobody has taken up yet.
    calls: Mutex<HashMap<CallSid, Snapshot>>,
    /// Calls of former runs that other proxies have by now.
    spared: Mutex<BTreeSet<CallSid>>,
    /// Until the lost calls are closed, the former run's last sign of life
    /// must not be overwritten.
    swept: std::sync::atomic::AtomicBool,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: std::thread::JoinHandle<()>,
    shipper: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Ledger {
    /// Opens the journal in the directory, which is made if need be, and starts
    /// shipping to the store, first what a former run left.
    pub async fn open(config: LedgerConfig, store: Store) -> Result<Ledger> {
        let dir = config.dir.clone();
        crate::file::make_dir(&dir).map_err(|error| StoreError::file(&dir, error))?;
        // Keeps other processes out of the directory.
        let lock = crate::file::locked(&dir)?;
        let disk = Directory(dir.clone());
        let journal = Journal::open(disk, config.limit, store.keys().clone())?;
        let Journal { writer, reader, counts, last_alive, calls } = journal;
        let (queue, messages) = std::sync::mpsc::sync_channel(QUEUE);
        let (done_sender, done) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let shipper = shipper::Shipper {
            dir,
            store: store.clone(),
            counts: counts.clone(),
            reader,
            stop: stopped,
            hurry: hurry.clone(),
            done: done_sender,
        };
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                let _lock = lock;
                writer.run(&messages);
            })
            .map_err(|error| StoreError::file("ledger thread", error))?;
        let threads = Threads { writer, shipper: tokio::spawn(shipper.run()), stop };
        let shared = Shared {
            store,
            counts,
            queue: Mutex::new(Some(queue)),
            done,
            hurry,
            last_alive,
            calls: Mutex::new(calls),
            spared: Mutex::default(),
            swept: false.into(),
            threads: Mutex::new(Some(threads)),
        };
        Ok(Ledger { shared: Arc::new(shared) })
    }

    /// Hands events to the journal in order. Resolves when they are on disk.
    pub fn append(&self, events: Vec<CallEvent>) -> oneshot::Receiver<Result<(), AppendError>> {
        self.append_with(events, Vec::new())
    }

    /// With what is to be kept of calls: one write, one fsync.
    pub fn append_with(
        &self,
        events: Vec<CallEvent>,
        calls: Vec<KeptCall>,
    ) -> oneshot::Receiver<Result<(), AppendError>> {
        let (reply, receiver) = oneshot::channel();
        let foreign = events.iter().find_map(|event| self.shared.store.check_event(event).err());
        if let Some(error) = foreign {
            self.shared.counts.refused.fetch_add(events.len() as u64, Relaxed);
            let _ = reply.send(Err(AppendError::Foreign(error.to_string())));
            return receiver;
        }
        let records = events.iter().map(Record::of).chain(calls.iter().map(Record::of_call));
        let append = Append { records: records.collect(), reply };
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match queue.as_ref().map(|queue| queue.try_send(Message::Append(append))) {
            Some(Ok(())) => return receiver,
            Some(Err(std::sync::mpsc::TrySendError::Full(message))) => {
                Some((message, AppendError::Full))
            }
            Some(Err(std::sync::mpsc::TrySendError::Disconnected(message))) => {
                Some((message, AppendError::Closed))
            }
            None => None,
        };
        self.shared.counts.refused.fetch_add(events.len() as u64, Relaxed);
        if let Some((Message::Append(append), error)) = refused {
            let _ = append.reply.send(Err(error));
        }
        receiver
    }

    /// Notes that the process was alive; ends of lost calls are proven by it.
    /// Call it about once a second. Before [`Ledger::sweep_lost`] it does nothing.
    pub fn alive(&self, at: UnixMillis) {
        if !self.shared.swept.load(Relaxed) {
            return;
        }
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref() {
            let _ = queue.try_send(Message::Alive(at));
        }
    }

    /// Closes as lost what a former run of this proxy left open and
    /// unanswered, at the last time that is proven. What is answered is kept: see
    /// [`Ledger::kept`]. Call it once, before the first append.
    pub async fn sweep_lost(&self, proxy: &str) -> Result<Vec<CallEvent>> {
        self.flush().await?;
        let open = self.shared.store.open_calls(None).await?;
        let gone = self.retain_kept(proxy, &open);
        let alive = self.shared.last_alive;
        let spared = std::mem::take(&mut *self.spared());
        let is_kept = |call| self.calls().contains_key(&call) || spared.contains(&call);
        let lost = open.iter().filter(|call| call.proxy == proxy && !is_kept(call.sid));
        let lost: Vec<CallEvent> = lost.map(|call| call.lost(alive)).collect();
        let _written = self.append_with(Vec::new(), gone).await;
        let events = self.close_lost(lost.into_iter()).await?;
        self.shared.swept.store(true, Relaxed);
        Ok(events)
    }

    /// Closes as lost what proxies other than `but` left open that
    /// have given no sign of life since. Several may do so at a time: an end is
    /// written once.
    pub async fn sweep_abandoned(&self, but: &str, since: UnixMillis) -> Result<Vec<CallEvent>> {
        let abandoned = self.shared.store.abandoned_calls(but, since).await?;
        self.close_lost(abandoned.iter().map(|found| found.call.lost(found.alive_at))).await
    }

    async fn close_lost(&self, ends: impl Iterator<Item = CallEvent>) -> Result<Vec<CallEvent>> {
        let events: Vec<CallEvent> = ends.collect();
        if !events.is_empty() {
            let appended = self.append(events.clone()).await;
            let appended = appended.unwrap_or(Err(AppendError::Closed));
            appended.map_err(|error| StoreError::file("ledger", error))?;
            self.flush().await?;
        }
        Ok(events)
    }

    /// These calls are other proxies' by now: they are neither lost nor kept.
    /// Call it before [`Ledger::sweep_lost`].
    pub fn spare(&self, calls: BTreeSet<CallSid>) {
        *self.spared() = calls;
    }

    fn spared(&self) -> std::sync::MutexGuard<'_, BTreeSet<CallSid>> {
        self.shared.spared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is kept of calls whose records are closed by now, or that are
    /// spared.
    fn retain_kept(&self, proxy: &str, open: &[OpenCall]) -> Vec<KeptCall> {
        let open: HashMap<CallSid, &OpenCall> = open.iter().map(|call| (call.sid, call)).collect();
        let spared = self.spared();
        let mut gone = Vec::new();
        self.calls().retain(|call, snapshot| match open.get(call) {
            Some(known) if !spared.contains(call) => {
                // Another's numbers are not ours to go on with, unless the relay
                // gives us the call.
                if known.proxy == proxy {
                    snapshot.sequence = snapshot.sequence.max(known.next_sequence);
                }
                true
            }
            _ => {
                gone.push(KeptCall::Gone(*call));
                false
            }
        });
        gone
    }

    /// The answered calls that a former run left, for the proxy to take up: once,
    /// after [`Ledger::sweep_lost`].
    pub fn kept(&self) -> Vec<Snapshot> {
        std::mem::take(&mut *self.calls()).into_values().collect()
    }

    /// When the former run was last known to live.
    pub fn last_alive(&self) -> Option<UnixMillis> {
        self.shared.last_alive
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<CallSid, Snapshot>> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything appended so far is in the database.
    pub async fn flush(&self) -> Result<()> {
        let total = self.shared.counts.total.load(Relaxed);
        let mut done = self.shared.done.clone();
        self.shared.hurry.notify_one();
        let waited = done.wait_for(|done| *done >= total).await;
        waited.map(drop).map_err(|_| StoreError::file("ledger", AppendError::Closed))
    }

    pub fn counters(&self) -> LedgerCounters {
        self.shared.counts.read(*self.shared.done.borrow())
    }

    /// Stops the writer and the shipper; what is not shipped stays on disk.
    pub async fn close(self) {
        drop(self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { writer, shipper, stop }) = threads else { return };
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        let _ = stop.send(true);
        let _ = shipper.await;
    }
}
