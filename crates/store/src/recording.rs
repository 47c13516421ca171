use landline_control::{Consent, LegId, PayloadType};
use landline_region::catalogue::sealed::SEALED_CHUNK;
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::call::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::chain::hash_column;
use crate::chunk::{self, Chunk};
use crate::error::{Result, StoreError};
use crate::seal::Sealer;
use crate::sql::{Row, values};
use crate::store::Store;

/// Chunks that are read at once: about half a minute.
const PAGE: i64 = 32;

#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    pub account: Option<AccountSid>,
    /// Started at or after.
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
    /// Packets that arrived: those stored and those that could not be kept.
    pub expected_packets: u64,
    pub stored_packets: u64,
    pub chunks: u64,
    pub duration_ms: u64,
    pub key_id: String,
    /// Its audio is gone since then; that it was is still known.
    pub deleted_at: Option<UnixMillis>,
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

pub(crate) const SELECT: &str = "SELECT r.*, k.wrapped, \
    (SELECT COUNT(*) FROM recording_chunk c WHERE c.recording = r.sid) AS chunks_now, \
    (SELECT CAST(COALESCE(SUM(c.packets), 0) AS BIGINT) FROM recording_chunk c WHERE c.recording = r.sid) \
    AS packets_now \
    FROM recording r LEFT JOIN call_key k ON k.key_id = r.key_id";

impl Store {
    /// Newest first.
    pub async fn recording_list(&self, filter: &RecordingFilter) -> Result<Vec<RecordingRecord>> {
        let account = filter.account.map_or("", |_| "AND r.account = $3");
        let select = format!(
            "{SELECT} WHERE r.started_at >= $1 {account} ORDER BY r.started_at DESC, r.sid LIMIT $2"
        );
        let since = filter.since.map_or(i64::MIN, |since| since.0);
        let mut values = values![since, filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)];
        values.extend(filter.account.map(Into::into));
        let rows = self.database().rows(AssertSqlSafe(select), values).await?;
        rows.iter().map(recording_of_row).collect()
    }

    pub async fn recording_show(&self, recording: RecordingSid) -> Result<RecordingRecord> {
        recording_of_row(&self.recording_row(recording).await?)
    }

    /// The call's recording in this region's database, if there is one.
    pub async fn recording_of(&self, call: CallSid) -> Result<Option<RecordingRecord>> {
        Ok(self.recordings_of(call).await?.into_iter().next())
    }

    pub(crate) async fn recordings_of(&self, call: CallSid) -> Result<Vec<RecordingRecord>> {
        let select = format!("{SELECT} WHERE r.call = $1 ORDER BY r.started_at, r.sid");
        let rows = self.database().rows(AssertSqlSafe(select), values![call]).await?;
        rows.iter().map(recording_of_row).collect()
    }

    /// All that was recorded, verified. An error names the first chunk that was
    /// changed, moved or is missing. A long recording is better read by
    /// [`Store::recording_reader`].
    pub async fn recording_frames(&self, recording: RecordingSid) -> Result<Vec<RecordedEntry>> {
        let mut reader = self.recording_reader(recording).await?;
        let mut entries = Vec::new();
        while let Some(more) = reader.next().await? {
            entries.extend(more);
        }
        Ok(entries)
    }

    pub async fn recording_reader(&self, recording: RecordingSid) -> Result<RecordingReader> {
        let row = self.recording_row(recording).await?;
        if let Some(at) = row.time_or_null("deleted_at")? {
            return Err(StoreError::Deleted { what: format!("recording {recording}"), at });
        }
        let account = row.parse("account")?;
        let wrapped = row.bytes_or_null("wrapped")?;
        let finished = row.int_or_null("finished_at")?.is_some();
        let end = match finished {
            true => Some((row.int("chunks")?, hash_column(&row, "head")?)),
            false => None,
        };
        Ok(RecordingReader {
            store: self.clone(),
            recording,
            sealer: self.opened_key(account, &row.text("key_id")?, wrapped).await?,
            end,
            sequence: 0,
            head: chunk::origin(recording),
        })
    }

    async fn recording_row(&self, recording: RecordingSid) -> Result<Row> {
        let select = format!("{SELECT} WHERE r.sid = $1");
        let row = self.database().row(AssertSqlSafe(select), values![recording]).await?;
        row.ok_or_else(|| unknown(recording))
    }
}

pub(crate) fn unknown(recording: RecordingSid) -> StoreError {
    StoreError::NotFound {
        what: format!("recording {recording} in this region"),
        next: "`recording list` shows this region's; others are in their home regions".to_owned(),
    }
}

/// Reads a recording in order, verifying as it goes.
pub struct RecordingReader {
    store: Store,
    recording: RecordingSid,
    sealer: Sealer,
    /// How many chunks a finished recording has, and the last one's hash.
    end: Option<(i64, [u8; 32])>,
    sequence: i64,
    head: [u8; 32],
}

impl RecordingReader {
    /// The entries of some more chunks; `None` at the end, when all was verified.
    pub async fn next(&mut self) -> Result<Option<Vec<RecordedEntry>>> {
        let select = "SELECT * FROM recording_chunk WHERE recording = $1 AND sequence >= $2 \
                      ORDER BY sequence LIMIT $3";
        let values = values![self.recording, self.sequence, PAGE];
        let rows = self.store.database().rows(select, values).await?;
        if rows.is_empty() {
            return self.check_end().map(|()| None);
        }
        let mut entries = Vec::new();
        for row in &rows {
            entries.extend(self.open(row)?);
        }
        Ok(Some(entries))
    }

    fn open(&mut self, row: &Row) -> Result<Vec<RecordedEntry>> {
        let chunk = Chunk::of_row(row, self.recording, self.sequence, &self.head)?;
        let plain = self.sealer.open(&SEALED_CHUNK, &chunk.row_name(), &chunk.sealed);
        let plain = plain.map_err(|_| self.broken("it was changed or sealed with another key"))?;
        let entries = chunk::entries(&plain).map_err(|problem| self.broken(problem))?;
        self.head = chunk.hash;
        self.sequence += 1;
        Ok(entries)
    }

    fn check_end(&self) -> Result<()> {
        match self.end {
            Some((chunks, _)) if self.sequence < chunks => Err(self.broken(chunk::MISSING)),
            Some((_, head)) if self.head != head => {
                Err(self.broken("the recording's own hash is not its last chunk's"))
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, problem: &str) -> StoreError {
        chunk::broken(self.recording, self.sequence, problem)
    }
}

/// Of a recording that was not finished, what is there counts.
pub(crate) fn recording_of_row(row: &Row) -> Result<RecordingRecord> {
    let finished_at = row.time_or_null("finished_at")?;
    let (stored, chunks) = match finished_at {
        Some(_) => (row.unsigned("stored_packets")?, row.unsigned("chunks")?),
        None => (row.unsigned("packets_now")?, row.unsigned("chunks_now")?),
    };
    Ok(RecordingRecord {
        sid: row.parse("sid")?,
        call: row.parse("call")?,
        account: row.parse("account")?,
        consent: Consent {
            by_policy: row.int("consent_by_policy")? == 1,
            granted_at: row.time("consent_granted_at")?,
        },
        started_at: row.time("started_at")?,
        finished_at,
        expected_packets: row.unsigned("expected_packets")?.max(stored),
        stored_packets: stored,
        chunks,
        duration_ms: row.unsigned("duration_ms")?,
        key_id: row.text("key_id")?,
        deleted_at: row.time_or_null("deleted_at")?,
    })
}
