use std::path::PathBuf;

use landline_control::{Consent, LegId, PayloadType, Recorded};
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use tokio::sync::oneshot;

use crate::error::{Result, StoreError};
use crate::store::{Store, not_ready};

#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Where sealed chunks wait while the database is away.
    pub spool: PathBuf,
    pub spool_limit: u64,
    /// Octets of frames that may wait for the writer thread.
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
    pub sid: RecordingSid,
    pub call: CallSid,
    pub account: AccountSid,
    pub consent: Consent,
    /// Frames' times count from here.
    pub started_at: UnixMillis,
    pub payload_types: Vec<(LegId, Vec<PayloadType>)>,
}

/// The buffer between the relay and the writer has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recorder's buffer is full")]
pub struct Full;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecorderCounters {
    pub packets: u64,
    pub packets_dropped: u64,
    pub chunks_stored: u64,
    pub chunks_spooled: u64,
    pub database_failures: u64,
}

/// Seals what the relay hears and brings it into the database.
pub struct Recorder {
    sink: RecordingSink,
}

impl Recorder {
    /// Starts the writer thread and, on the current tokio runtime, the task
    /// that inserts.
    pub fn start(store: Store, config: RecorderConfig) -> Result<Recorder> {
        let _ = store;
        Err::<Recorder, StoreError>(not_ready(&config.spool.display().to_string()))
    }

    pub fn sink(&self) -> RecordingSink {
        self.sink.clone()
    }

    pub fn counters(&self) -> RecorderCounters {
        RecorderCounters::default()
    }

    /// Writes out what is buffered, at most as long as the database takes.
    pub async fn shutdown(self) {}
}

/// Where the relay's shards put what they hear. Never blocks.
#[derive(Clone)]
pub struct RecordingSink {}

impl RecordingSink {
    pub fn start(&self, start: RecordingStart) -> Result<(), Full> {
        let _ = start;
        Err(Full)
    }

    /// From now on the leg's payload types mean this (after a re-INVITE).
    pub fn payload_types(
        &self,
        recording: RecordingSid,
        leg: LegId,
        types: &[PayloadType],
    ) -> Result<(), Full> {
        let _ = (recording, leg, types);
        Err(Full)
    }

    /// A plain RTP packet received from the leg's peer `at_ms` after the
    /// start. A packet that is refused is counted as expected and not stored.
    pub fn frame(
        &self,
        recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full> {
        let _ = (recording, leg, at_ms, packet);
        Err(Full)
    }

    /// Resolves when everything is in the database or safe in the spool.
    pub fn finish(&self, recording: RecordingSid) -> oneshot::Receiver<Recorded> {
        let _ = recording;
        oneshot::channel().1
    }
}
