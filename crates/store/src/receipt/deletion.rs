//! Deleting what a receipt speaks of: never without a statement in the log of
//! what was there, who deleted it and why.

use landline_region::merkle::Sha256;
use landline_region::receipt::{DeletedRecording, Deletion, DeletionReason, DeletionType, Record};
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use sqlx::AssertSqlSafe;

use super::log::Growth;
use super::statement::{RECORD, RECORDING};
use crate::chain::hash_column;
use crate::chunk;
use crate::error::{Result, StoreError};
use crate::recording::RecordingRecord;
use crate::sql::{Row, Tx, values};
use crate::store::{Store, now};
use crate::voicemail;

/// Calls that one transaction deletes when their time is over.
const SWEPT: i64 = 64;

/// Why something is deleted, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedBy {
    pub reason: DeletionReason,
    /// The sid of the API's key, or of the user who removed a message by phone;
    /// `operator`, `retention` or `voicemail`; never a name.
    pub actor: String,
}

/// What was deleted because its time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub calls: u64,
    pub recordings: u64,
    /// There may be more.
    pub full: bool,
}

/// What a statement is about.
struct About<'a> {
    account: AccountSid,
    call: CallSid,
    by: &'a DeletedBy,
    at: UnixMillis,
}

impl Store {
    /// Removes the audio and keeps the row, and a signed statement in the log,
    /// as proof that there was one. A recording that still runs is refused; one
    /// that is deleted already stays as it is.
    pub async fn recording_delete(
        &self,
        account: AccountSid,
        recording: RecordingSid,
        by: &DeletedBy,
    ) -> Result<RecordingRecord> {
        let found = self.recording_show(recording).await?;
        if found.account != account {
            return Err(crate::recording::unknown(recording));
        }
        let now = now();
        let mut tx = self.database().begin().await?;
        let mut growth = Growth::begin(&mut tx, self).await?;
        // A call that is over will not be recorded any more, finished or not.
        let update = "UPDATE recording SET deleted_at = $2 WHERE (sid = $1 OR whole = $1) \
                      AND deleted_at IS NULL AND (NOT EXISTS (SELECT 1 FROM recording p \
                      WHERE (p.sid = $1 OR p.whole = $1) AND p.finished_at IS NULL) \
                      OR EXISTS (SELECT 1 FROM call c \
                      WHERE c.sid = recording.call AND c.closed_at IS NOT NULL))";
        if tx.execute(update, values![found.sid, now]).await? == 0 {
            drop(tx);
            let found = self.recording_show(recording).await?;
            return match found.deleted_at {
                Some(_) => Ok(found),
                None => Err(StoreError::InUse {
                    what: format!("recording {recording}"),
                    next: format!("call {} is still recorded; hang up first", found.call),
                }),
            };
        }
        let about = About { account, call: found.call, by, at: now };
        for part in &found.parts {
            self.audio_delete(&mut tx, &mut growth, part.sid, &about).await?;
        }
        growth.write(&mut tx, self, now).await?;
        voicemail::forget_recording(&mut tx, found.sid).await?;
        tx.commit().await?;
        self.recording_show(recording).await
    }

    /// Deletes calls whose time is over, some at once: audio, recordings, legs,
    /// records and keys. Their receipts stay, and say nothing of persons.
    pub async fn retention_sweep(&self, before: UnixMillis) -> Result<Swept> {
        let over = format!(
            "SELECT c.* FROM call c WHERE c.retention_until < $1 AND c.closed_at IS NOT NULL \
             AND EXISTS (SELECT 1 FROM receipt r WHERE r.call = c.sid) \
             ORDER BY c.chain_position LIMIT {SWEPT}"
        );
        // Most of the time there is nothing to do, and no lock to take.
        if self.database().rows(AssertSqlSafe(over.clone()), values![before]).await?.is_empty() {
            return Ok(Swept::default());
        }
        let (now, mut swept) = (now(), Swept::default());
        let by = DeletedBy { reason: DeletionReason::Retention, actor: "retention".to_owned() };
        let mut tx = self.database().begin().await?;
        let mut growth = Growth::begin(&mut tx, self).await?;
        // Another process may have been before us.
        let calls = tx.rows(AssertSqlSafe(over), values![before]).await?;
        for row in &calls {
            let about =
                About { account: row.parse("account")?, call: row.parse("sid")?, by: &by, at: now };
            swept.recordings += self.call_delete(&mut tx, &mut growth, row, &about).await?;
            swept.calls += 1;
        }
        swept.full = calls.len() as i64 == SWEPT;
        if !calls.is_empty() {
            growth.write(&mut tx, self, now).await?;
        }
        tx.commit().await?;
        Ok(swept)
    }

    /// How many recordings went with it.
    async fn call_delete(
        &self,
        tx: &mut Tx,
        growth: &mut Growth,
        row: &Row,
        about: &About<'_>,
    ) -> Result<u64> {
        let call = about.call;
        let select = "SELECT sid, deleted_at FROM recording WHERE call = $1 ORDER BY sid";
        let mut recordings = 0;
        for recording in tx.rows(select, values![call]).await? {
            let sid = recording.parse("sid")?;
            if recording.int_or_null("deleted_at")?.is_none() {
                self.audio_delete(tx, growth, sid, about).await?;
                recordings += 1;
            }
        }
        let legs = "SELECT COUNT(*) AS legs FROM call_leg WHERE call = $1";
        let legs = tx.row(legs, values![call]).await?;
        let record = Record {
            position: row.unsigned("chain_position")?,
            previous: Sha256(hash_column(row, "previous_hash")?),
            hash: Sha256(hash_column(row, "hash")?),
            legs: legs.map_or(Ok(0), |row| row.unsigned("legs"))?,
        };
        growth.delete(RECORD, &call.to_string(), self.deletion(about, Some(record), None))?;
        crate::usage::keep(tx, call).await?;
        voicemail::forget_call(tx, call).await?;
        for delete in [
            "DELETE FROM recording_chunk WHERE recording IN \
             (SELECT sid FROM recording WHERE call = $1)",
            "DELETE FROM recording WHERE call = $1",
            "DELETE FROM call_leg WHERE call = $1",
            "DELETE FROM call WHERE sid = $1",
            "DELETE FROM call_key WHERE call = $1",
        ] {
            tx.execute(delete, values![call]).await?;
        }
        Ok(recordings)
    }

    /// Deletes what a recording holds, and states what it was.
    async fn audio_delete(
        &self,
        tx: &mut Tx,
        growth: &mut Growth,
        recording: RecordingSid,
        about: &About<'_>,
    ) -> Result<()> {
        let select = "SELECT (SELECT COUNT(*) FROM recording_chunk WHERE recording = $1) AS chunks, \
                      (SELECT hash FROM recording_chunk WHERE recording = $1 \
                       ORDER BY sequence DESC LIMIT 1) AS head";
        let row = tx.row(select, values![recording]).await?;
        let mut deleted =
            DeletedRecording { sid: recording, chunks: 0, head: Sha256(chunk::origin(recording)) };
        if let Some(row) = row.filter(|row| row.unsigned("chunks").is_ok_and(|chunks| chunks > 0)) {
            deleted.chunks = row.unsigned("chunks")?;
            deleted.head = Sha256(hash_column(&row, "head")?);
        }
        let deletion = self.deletion(about, None, Some(deleted));
        growth.delete(RECORDING, &recording.to_string(), deletion)?;
        let delete = "DELETE FROM recording_chunk WHERE recording = $1";
        tx.execute(delete, values![recording]).await.map(drop)
    }

    fn deletion(
        &self,
        about: &About<'_>,
        record: Option<Record>,
        recording: Option<DeletedRecording>,
    ) -> Deletion {
        Deletion {
            r#type: DeletionType::V1,
            region: self.region(),
            log_index: 0,
            deleted_at: about.at,
            account: about.account,
            call: about.call,
            record,
            recording,
            reason: about.by.reason,
            by: about.by.actor.clone(),
        }
    }
}
