//! A recording's chunks against the hash that its receipt names.

use landline_region::merkle::Sha256;
use landline_region::receipt::{Deletion, Receipt, Recording, RecordingState, StoredRecording};

use super::Check;
use crate::chunk::{self, Chunk};
use crate::error::Result;
use crate::sql::{Row, values};

/// Chunks that are read at once: about half a minute.
const CHUNKS: i64 = 32;

impl Check<'_> {
    pub(super) async fn recording(
        &mut self,
        receipt: &Receipt,
        recording: &Recording,
    ) -> Result<()> {
        let at = format!("recording {}", recording.sid);
        let select = "SELECT (SELECT deleted_at FROM recording WHERE sid = $1) AS deleted_at, \
                      (SELECT COUNT(*) FROM recording WHERE sid = $1) AS rows_there, \
                      (SELECT COUNT(*) FROM recording_chunk WHERE recording = $1) AS chunks";
        let row = self.store.database().row(select, values![recording.sid]).await?;
        let Some(row) = row else { return Ok(()) };
        let deleted_at = row.time_or_null("deleted_at")?;
        if let Some(deletion) = self.deletion_of(receipt, recording.sid).cloned() {
            return self.deleted(&at, receipt, &deletion, &row);
        }
        if let Some(when) = deleted_at {
            // Nothing is left that could be proven, whoever said so.
            let problem = format!("it was deleted at {when}, and no statement in the log says why");
            self.found.fault(at, problem);
            return Ok(());
        }
        let Some(stored) = &recording.stored else { return Ok(()) };
        self.found.recordings += 1;
        match self.walk(recording, stored).await {
            Err(error) => self.found.unless_away(at, error),
            Ok(()) => Ok(()),
        }
    }

    /// What the log states to be deleted was what the receipt names, and is gone.
    fn deleted(
        &mut self,
        at: &str,
        receipt: &Receipt,
        deletion: &Deletion,
        row: &Row,
    ) -> Result<()> {
        self.found.deleted += 1;
        if !deletion.is_of(receipt) {
            self.found.fault(at, "it was deleted, and was not what its receipt names by then");
        }
        if row.int("chunks")? != 0 {
            self.found.fault(at, "its deletion is stated, and there are chunks of it");
        }
        let is_there = row.int("rows_there")? != 0;
        if is_there && row.time_or_null("deleted_at")? != Some(deletion.deleted_at) {
            self.found.fault(at, "its row does not say when it was deleted");
        }
        Ok(())
    }

    async fn walk(&mut self, recording: &Recording, stored: &StoredRecording) -> Result<()> {
        let at = format!("recording {}", recording.sid);
        let (mut sequence, mut head) = (0, chunk::origin(recording.sid));
        if stored.chunks == 0 && stored.head != Sha256(head) {
            self.found.fault(&at, "it is empty, and was not when its receipt was issued");
        }
        loop {
            let select = "SELECT * FROM recording_chunk WHERE recording = $1 AND sequence >= $2 \
                          ORDER BY sequence LIMIT $3";
            let values = values![recording.sid, sequence, CHUNKS];
            let rows = self.store.database().rows(select, values).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                head = Chunk::of_row(row, recording.sid, sequence, &head)?.hash;
                sequence += 1;
                if sequence.unsigned_abs() == stored.chunks && stored.head != Sha256(head) {
                    self.found.fault(&at, "its chunks are not those that its receipt names");
                }
            }
        }
        let (there, wanted) = (sequence.unsigned_abs(), stored.chunks);
        self.found.chunks += there;
        if there < wanted || (there > wanted && recording.state == RecordingState::Finished) {
            self.found.fault(&at, format!("it has {there} chunks, and should have {wanted}"));
        }
        let select =
            "SELECT COUNT(*) AS chunks FROM recording_chunk WHERE recording = $1 AND sequence < 0";
        let before = self.store.database().row(select, values![recording.sid]).await?;
        if before.map_or(Ok(0), |row| row.int("chunks"))? != 0 {
            self.found.fault(&at, "there are chunks before its first");
        }
        Ok(())
    }
}
