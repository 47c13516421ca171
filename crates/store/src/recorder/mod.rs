//! From what the relay hears to sealed chunks in the database.
//!
//! The relay's shards copy packets into a buffer and go on. A thread cuts them
//! into chunks of about a second, seals and chains them; a task inserts the
//! chunks, or keeps them in a spool on disk while the database is away.

mod lane;
mod outlet;
mod sealing;
mod spool;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use landline_control::{Consent, LegId, PayloadType, Recorded};
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use tokio::sync::{mpsc, oneshot};

use crate::chunk;
use crate::error::{Result, StoreError};
use crate::part::Part;
use crate::store::Store;
use lane::{Control, Lane};

/// Buffers side by side, so that shards seldom meet at one lock.
const LANES: usize = 4;
/// Sealed chunks on their way to the database.
const OUTLET_QUEUE: usize = 256;

#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Where sealed chunks wait while the database is away. One recorder's own.
    pub spool: PathBuf,
    pub spool_limit: u64,
    /// Octets of packets that may wait for the sealing thread.
    pub buffer: usize,
}

impl RecorderConfig {
    /// With a spool of 1 GiB and a buffer of 8 MiB.
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self { spool: spool.into(), spool_limit: 1 << 30, buffer: 8 << 20 }
    }
}

#[derive(Debug, Clone)]
pub struct RecordingStart {
    pub part: Part,
    pub call: CallSid,
    pub account: AccountSid,
    pub consent: Consent,
    /// Packets' times count from here.
    pub started_at: UnixMillis,
    pub payload_types: Vec<(LegId, Vec<PayloadType>)>,
}

/// The buffer between the relay and the sealing thread has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recorder's buffer is full")]
pub struct Full;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecorderCounters {
    /// Packets that were sealed.
    pub packets: u64,
    /// Packets that could not be kept; each is marked in its recording.
    pub packets_dropped: u64,
    pub chunks_stored: u64,
    pub chunks_spooled: u64,
    /// Chunks that the database refused for good.
    pub chunks_refused: u64,
    /// Records of the spool that could not be read, and ends that were cut off.
    pub spool_damaged: u64,
    pub database_failures: u64,
    /// Octets in the spool.
    pub spool_octets: u64,
}

#[derive(Default)]
struct Counts {
    packets: AtomicU64,
    packets_dropped: AtomicU64,
    chunks_stored: AtomicU64,
    chunks_spooled: AtomicU64,
    chunks_refused: AtomicU64,
    spool_damaged: AtomicU64,
    database_failures: AtomicU64,
    spool_octets: AtomicU64,
}

/// Seals what the relay hears and brings it into the database.
pub struct Recorder {
    sink: RecordingSink,
    thread: Option<std::thread::JoinHandle<()>>,
    outlet: Option<tokio::task::JoinHandle<()>>,
}

/// Where the relay's shards put what they hear. Never blocks longer than a copy.
#[derive(Clone)]
pub struct RecordingSink {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: Vec<Mutex<Lane>>,
    counts: Arc<Counts>,
    stop: AtomicBool,
    /// The sealing thread, to be woken at a recording's end.
    thread: Mutex<Option<std::thread::Thread>>,
}

impl Recorder {
    /// Starts the sealing thread and, on the current tokio runtime, the task
    /// that inserts, first what a former run left in the spool.
    pub fn start(store: Store, config: RecorderConfig) -> Result<Recorder> {
        let counts = Arc::new(Counts::default());
        let spool = spool::Spool::open(&config, store.clone(), counts.clone())?;
        let lane = || Mutex::new(Lane::new(config.buffer / LANES));
        let shared = Arc::new(Shared {
            lanes: (0..LANES).map(|_| lane()).collect(),
            counts: counts.clone(),
            stop: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let (sender, receiver) = mpsc::channel(OUTLET_QUEUE);
        let outlet = tokio::spawn(outlet::Outlet::new(store.clone(), spool, counts).run(receiver));
        let sealing = sealing::Sealing::new(store.region(), shared.clone(), config.buffer, sender);
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || sealing.run())
            .map_err(|error| StoreError::file("recorder thread", error))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(thread.thread().clone());
        let sink = RecordingSink { shared };
        Ok(Recorder { sink, thread: Some(thread), outlet: Some(outlet) })
    }

    pub fn sink(&self) -> RecordingSink {
        self.sink.clone()
    }

    pub fn counters(&self) -> RecorderCounters {
        self.sink.counters()
    }

    /// Seals what is buffered and brings it into the database or the spool.
    pub async fn shutdown(mut self) {
        self.sink.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Some(outlet) = self.outlet.take() {
            let _ = outlet.await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.sink.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.as_ref() {
            thread.unpark();
        }
    }

    /// All of one recording goes through one lane and so stays in order.
    fn lane(&self, recording: RecordingSid) -> std::sync::MutexGuard<'_, Lane> {
        let index = recording.as_u128() as usize % self.lanes.len();
        self.lanes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordingSink {
    pub fn counters(&self) -> RecorderCounters {
        let counts = &self.shared.counts;
        RecorderCounters {
            packets: counts.packets.load(Relaxed),
            packets_dropped: counts.packets_dropped.load(Relaxed),
            chunks_stored: counts.chunks_stored.load(Relaxed),
            chunks_spooled: counts.chunks_spooled.load(Relaxed),
            chunks_refused: counts.chunks_refused.load(Relaxed),
            spool_damaged: counts.spool_damaged.load(Relaxed),
            database_failures: counts.database_failures.load(Relaxed),
            spool_octets: counts.spool_octets.load(Relaxed),
        }
    }

    pub fn start(&self, start: RecordingStart) -> Result<(), Full> {
        let recording = start.part.sid();
        self.shared.lane(recording).control(recording, Control::Start(Box::new(start)))
    }

    /// From now on the leg's payload types mean this (after a re-INVITE).
    pub fn payload_types(
        &self,
        recording: RecordingSid,
        leg: LegId,
        types: &[PayloadType],
    ) -> Result<(), Full> {
        let types = chunk::encode_types(types);
        self.shared.lane(recording).control(recording, Control::PayloadTypes { leg, types })
    }

    /// A plain RTP packet received from the leg's peer `at_ms` after the
    /// start. A packet that is refused is marked in the recording as dropped.
    pub fn frame(
        &self,
        recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full> {
        self.shared.lane(recording).packet(recording, leg, at_ms, packet)
    }

    /// Resolves when everything is in the database or safe in the spool. It is
    /// closed without a value where the recording was not started.
    pub fn finish(&self, recording: RecordingSid) -> oneshot::Receiver<Recorded> {
        let (reply, receiver) = oneshot::channel();
        // Refused only where far more ends than starts came; dropping the
        // sender tells.
        let _ = self.shared.lane(recording).control(recording, Control::Finish(reply));
        self.shared.wake();
        receiver
    }
}
