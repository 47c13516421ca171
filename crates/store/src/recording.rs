use landline_control::{Consent, LegId, PayloadType};
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};

use crate::error::Result;
use crate::store::{Store, not_ready};

#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    pub account: Option<AccountSid>,
    pub since: Option<UnixMillis>,
    /// At most 10 000; `None` is 100.
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RecordingRecord {
    pub sid: RecordingSid,
    pub call: CallSid,
    pub account: AccountSid,
    pub consent: Consent,
    pub started_at: UnixMillis,
    /// `None` while it runs, and where its relay died.
    pub finished_at: Option<UnixMillis>,
    pub expected_packets: u64,
    pub stored_packets: u64,
    pub chunks: u64,
    pub duration_ms: u64,
    pub key_id: String,
}

/// One thing that was recorded, in the order of its arrival.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedEntry {
    /// What the leg's payload types mean from here on.
    PayloadTypes { leg: LegId, types: Vec<PayloadType> },
    /// A plain RTP packet received from the leg's peer, `at_ms` after the start.
    Packet { leg: LegId, at_ms: u32, packet: Vec<u8> },
    /// Packets that arrived and could not be kept.
    Dropped { at_ms: u32, packets: u32 },
}

impl Store {
    /// Newest first.
    pub async fn recording_list(&self, filter: &RecordingFilter) -> Result<Vec<RecordingRecord>> {
        let _ = filter;
        Err(not_ready("recording"))
    }

    pub async fn recording_show(&self, recording: RecordingSid) -> Result<RecordingRecord> {
        Err(not_ready(&recording.to_string()))
    }

    /// The call's recording in this region's database, if there is one.
    pub async fn recording_of(&self, call: CallSid) -> Result<Option<RecordingRecord>> {
        Err(not_ready(&call.to_string()))
    }

    /// Opens and verifies every chunk. An error names the first chunk that was
    /// changed, moved or is missing.
    pub async fn recording_frames(&self, recording: RecordingSid) -> Result<Vec<RecordedEntry>> {
        Err(not_ready(&recording.to_string()))
    }
}
