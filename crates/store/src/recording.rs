//! Recordings as they are listed: of one or more parts, each a row.

use std::collections::BTreeMap;

use landline_control::Consent;
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::call::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::delivery::Happened;
use crate::error::{Result, StoreError};
use crate::sql::{Database, Row, Tx, values};
use crate::store::Store;
use crate::webhook::HookEvent;

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
    /// When the call was answered, where the part that began then is lost.
    pub started_at: UnixMillis,
    /// `None` while it runs, and where its last relay died.
    pub finished_at: Option<UnixMillis>,
    /// Packets that arrived: those stored and those that could not be kept.
    pub expected_packets: u64,
    pub stored_packets: u64,
    pub chunks: u64,
    /// From the beginning of the first part to the end of the last.
    pub duration_ms: u64,
    pub key_id: String,
    /// Its audio is gone since then; that it was is still known.
    pub deleted_at: Option<UnixMillis>,
    /// What each relay that carried the call recorded, in order: at least one.
    pub parts: Vec<RecordingPart>,
}

/// What one relay recorded of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingPart {
    /// The recording's own, for the first.
    pub sid: RecordingSid,
    pub segment: u16,
    pub started_at: UnixMillis,
    /// `None` while it runs, and where its relay died.
    pub finished_at: Option<UnixMillis>,
    pub expected_packets: u64,
    pub stored_packets: u64,
    pub chunks: u64,
    pub duration_ms: u64,
    pub key_id: String,
}

/// Nothing was recorded: the call was on its way from one relay to another, or
/// the first died with what it had not stored, which may be all it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingGap {
    /// After the recording's start.
    pub at_ms: u64,
    pub duration_ms: u64,
}

impl RecordingRecord {
    pub fn gaps(&self) -> Vec<RecordingGap> {
        let begin = self.parts.first().map_or(0, |first| self.offset_of(first));
        let lost = (begin > 0).then_some(RecordingGap { at_ms: 0, duration_ms: begin });
        let pairs = self.parts.iter().zip(self.parts.iter().skip(1));
        lost.into_iter().chain(pairs.map(|(before, after)| self.gap(before, after))).collect()
    }

    fn gap(&self, before: &RecordingPart, after: &RecordingPart) -> RecordingGap {
        let at_ms = self.offset_of(before).saturating_add(before.duration_ms);
        RecordingGap { at_ms, duration_ms: self.offset_of(after).saturating_sub(at_ms) }
    }

    /// Where a part begins, in milliseconds after the recording's start. The
    /// clocks of two relays may differ: a part is never before the recording.
    fn offset_of(&self, part: &RecordingPart) -> u64 {
        u64::try_from(part.started_at.0.saturating_sub(self.started_at.0)).unwrap_or(0)
    }

    fn add(&mut self, part: RecordingPart) {
        self.finished_at = part.finished_at;
        self.expected_packets = self.expected_packets.saturating_add(part.expected_packets);
        self.stored_packets = self.stored_packets.saturating_add(part.stored_packets);
        self.chunks = self.chunks.saturating_add(part.chunks);
        let end = self.offset_of(&part).saturating_add(part.duration_ms);
        self.duration_ms = self.duration_ms.max(end);
        self.parts.push(part);
    }
}

pub(crate) const SELECT: &str = "SELECT r.*, k.wrapped, \
    (SELECT COUNT(*) FROM recording_chunk c WHERE c.recording = r.sid) AS chunks_now, \
    (SELECT CAST(COALESCE(SUM(c.packets), 0) AS BIGINT) FROM recording_chunk c WHERE c.recording = r.sid) \
    AS packets_now, \
    (SELECT CAST(COALESCE(SUM(c.dropped), 0) AS BIGINT) FROM recording_chunk c WHERE c.recording = r.sid) \
    AS dropped_now, \
    (SELECT COALESCE(MAX(c.last_ms), 0) FROM recording_chunk c WHERE c.recording = r.sid) AS last_now, \
    (SELECT a.answered_at FROM call a WHERE a.sid = r.call) AS answered_at \
    FROM recording r LEFT JOIN call_key k ON k.key_id = r.key_id";

/// Of the parts of a recording the first that there is stands for all.
pub(crate) const FIRST_PARTS: &str = "NOT EXISTS (SELECT 1 FROM recording b WHERE \
    (b.sid = r.whole OR b.whole = r.whole) AND b.segment < r.segment)";

/// The recordings that are whole by now and about which an account is told so:
/// once each, by whatever came last, the end of the call or of what the last
/// relay recorded of it. Of rows whose `column` is among these.
pub(crate) async fn whole(
    tx: &mut Tx,
    database: &Database,
    column: &str,
    sids: Vec<String>,
) -> Result<Vec<Happened>> {
    // Whoever closes the call at this moment goes before or behind us.
    let lock = if database.is_postgres() { "ORDER BY c.sid FOR UPDATE OF c" } else { "" };
    let select = format!(
        "SELECT COALESCE(r.whole, r.sid) AS sid, r.call, r.account, r.finished_at, c.closed_at \
         FROM recording r JOIN call c ON c.sid = r.call WHERE {} AND NOT EXISTS (SELECT 1 \
         FROM recording b WHERE b.whole = COALESCE(r.whole, r.sid) AND b.segment > r.segment) \
         {lock}",
        database.among(&format!("r.{column}"), 1)
    );
    let mut happened = Vec::new();
    for row in &tx.rows(AssertSqlSafe(select), values![sids]).await? {
        let ends = [row.int_or_null("finished_at")?, row.int_or_null("closed_at")?];
        if ends.iter().all(Option::is_some) {
            happened.push(Happened {
                account: row.parse("account")?,
                event: HookEvent::RecordingStored,
                call: row.parse("call")?,
                recording: Some(row.parse("sid")?),
            });
        }
    }
    Ok(happened)
}

impl Store {
    /// Newest first.
    pub async fn recording_list(&self, filter: &RecordingFilter) -> Result<Vec<RecordingRecord>> {
        let account = filter.account.map_or("", |_| "AND r.account = $3");
        let select = format!(
            "{SELECT} WHERE r.started_at >= $1 {account} AND {FIRST_PARTS} \
             ORDER BY r.started_at DESC, r.sid LIMIT $2"
        );
        let since = filter.since.map_or(i64::MIN, |since| since.0);
        let mut values = values![since, filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)];
        values.extend(filter.account.map(Into::into));
        let rows = self.database().rows(AssertSqlSafe(select), values).await?;
        self.recordings_of_rows(&rows).await
    }

    pub async fn recording_show(&self, recording: RecordingSid) -> Result<RecordingRecord> {
        let rows = self.recording_rows(recording).await?;
        records_of(&rows)?.pop().ok_or_else(|| unknown(recording))
    }

    /// The call's recording in this region's database, if there is one.
    pub async fn recording_of(&self, call: CallSid) -> Result<Option<RecordingRecord>> {
        Ok(self.recordings_of(call).await?.into_iter().next())
    }

    pub(crate) async fn recordings_of(&self, call: CallSid) -> Result<Vec<RecordingRecord>> {
        let select = format!("{SELECT} WHERE r.call = $1 ORDER BY r.segment, r.started_at, r.sid");
        let rows = self.database().rows(AssertSqlSafe(select), values![call]).await?;
        records_of(&rows)
    }

    /// Every part of the recording that this is, or is a part of; in order.
    pub(crate) async fn recording_rows(&self, recording: RecordingSid) -> Result<Vec<Row>> {
        let whole = "SELECT whole FROM recording WHERE sid = $1";
        let row = self.database().row(whole, values![recording]).await?;
        let whole = row.map(|row| row.parse_or_null("whole")).transpose()?.flatten();
        let select = format!("{SELECT} WHERE r.sid = $1 OR r.whole = $1 ORDER BY r.segment");
        let values = values![whole.unwrap_or(recording)];
        self.database().rows(AssertSqlSafe(select), values).await
    }

    /// From rows of first parts, in their order.
    pub(crate) async fn recordings_of_rows(&self, firsts: &[Row]) -> Result<Vec<RecordingRecord>> {
        let mut records: Vec<_> = firsts.iter().map(record_of).collect::<Result<_>>()?;
        let wholes: Vec<String> = records.iter().map(|record| record.sid.to_string()).collect();
        let among = self.database().among("r.whole", 1);
        let select = format!("{SELECT} WHERE {among} ORDER BY r.segment");
        let further = self.database().rows(AssertSqlSafe(select), values![wholes]).await?;
        let mut by_whole: BTreeMap<RecordingSid, Vec<RecordingPart>> = BTreeMap::new();
        for row in &further {
            by_whole.entry(whole_of(row)?).or_default().push(part_of(row)?);
        }
        for record in &mut records {
            for part in by_whole.remove(&record.sid).unwrap_or_default() {
                if record.parts.iter().all(|known| known.sid != part.sid) {
                    record.add(part);
                }
            }
        }
        Ok(records)
    }
}

pub(crate) fn unknown(recording: RecordingSid) -> StoreError {
    StoreError::NotFound {
        what: format!("recording {recording} in this region"),
        next: "`recording list` shows this region's; others are in their home regions".to_owned(),
    }
}

fn whole_of(row: &Row) -> Result<RecordingSid> {
    match row.parse_or_null("whole")? {
        Some(whole) => Ok(whole),
        None => row.parse("sid"),
    }
}

/// From rows of parts, each recording's in order.
fn records_of(rows: &[Row]) -> Result<Vec<RecordingRecord>> {
    let mut records: Vec<RecordingRecord> = Vec::new();
    for row in rows {
        let whole = whole_of(row)?;
        match records.iter_mut().find(|record| record.sid == whole) {
            Some(record) => record.add(part_of(row)?),
            None => records.push(record_of(row)?),
        }
    }
    Ok(records)
}

/// When the recording began whose first part is this row. A relay that dies
/// within its first second leaves no part at all; the call was answered then.
pub(crate) fn began_at(first: &Row) -> Result<UnixMillis> {
    let started_at = first.time("started_at")?;
    let answered_at = first.time_or_null("answered_at")?;
    let is_lost = first.int("segment")? > 0;
    Ok(answered_at.filter(|at| is_lost && *at < started_at).unwrap_or(started_at))
}

fn record_of(row: &Row) -> Result<RecordingRecord> {
    let part = part_of(row)?;
    let started_at = began_at(row)?;
    let lead = u64::try_from(part.started_at.0.saturating_sub(started_at.0)).unwrap_or(0);
    Ok(RecordingRecord {
        sid: whole_of(row)?,
        call: row.parse("call")?,
        account: row.parse("account")?,
        consent: Consent {
            by_policy: row.int("consent_by_policy")? == 1,
            granted_at: row.time("consent_granted_at")?,
        },
        started_at,
        finished_at: part.finished_at,
        expected_packets: part.expected_packets,
        stored_packets: part.stored_packets,
        chunks: part.chunks,
        duration_ms: lead.saturating_add(part.duration_ms),
        key_id: part.key_id.clone(),
        deleted_at: row.time_or_null("deleted_at")?,
        parts: vec![part],
    })
}

/// Of a part that was not finished, what is there counts.
fn part_of(row: &Row) -> Result<RecordingPart> {
    let finished_at = row.time_or_null("finished_at")?;
    let (expected, stored, chunks, duration_ms) = match finished_at {
        Some(_) => (
            row.unsigned("expected_packets")?,
            row.unsigned("stored_packets")?,
            row.unsigned("chunks")?,
            row.unsigned("duration_ms")?,
        ),
        None => {
            let stored = row.unsigned("packets_now")?;
            let expected = stored.saturating_add(row.unsigned("dropped_now")?);
            (expected, stored, row.unsigned("chunks_now")?, row.unsigned("last_now")?)
        }
    };
    Ok(RecordingPart {
        sid: row.parse("sid")?,
        segment: u16::try_from(row.int("segment")?).unwrap_or(u16::MAX),
        started_at: row.time("started_at")?,
        finished_at,
        expected_packets: expected.max(stored),
        stored_packets: stored,
        chunks,
        duration_ms,
        key_id: row.text("key_id")?,
    })
}
