use std::fmt;

use landline_control::{LegId, PayloadType, Recorded};
use landline_region::RecordingSid;
use landline_store::{Full, RecordingStart};
use tokio::sync::oneshot;

/// Where the shards put the frames of recorded calls. The store's recorder is
/// one; every method is called between two packets and none may block.
pub trait RecordingSink: Send + Sync {
    /// The call was answered and is recorded from now on.
    fn start(&self, start: RecordingStart) -> Result<(), Full>;

    /// From now on the leg's payload types mean this.
    fn payload_types(
        &self,
        recording: RecordingSid,
        leg: LegId,
        types: &[PayloadType],
    ) -> Result<(), Full>;

    /// A plain RTP packet from the leg's peer, `at_ms` after the start. What is
    /// refused is lost; the sink counts it as expected and not stored.
    fn frame(
        &self,
        recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full>;

    /// Resolves when everything is safe.
    fn finish(&self, recording: RecordingSid) -> oneshot::Receiver<Recorded>;
}

impl RecordingSink for landline_store::RecordingSink {
    fn start(&self, start: RecordingStart) -> Result<(), Full> {
        self.start(start)
    }

    fn payload_types(
        &self,
        recording: RecordingSid,
        leg: LegId,
        types: &[PayloadType],
    ) -> Result<(), Full> {
        self.payload_types(recording, leg, types)
    }

    fn frame(
        &self,
        recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full> {
        self.frame(recording, leg, at_ms, packet)
    }

    fn finish(&self, recording: RecordingSid) -> oneshot::Receiver<Recorded> {
        self.finish(recording)
    }
}

impl fmt::Debug for dyn RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingSink(..)")
    }
}
