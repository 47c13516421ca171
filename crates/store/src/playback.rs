//! A recording as it is read: every part in order, verified on the way.

use std::collections::VecDeque;

use landline_control::{LegId, PayloadType};
use landline_region::catalogue::sealed::SEALED_CHUNK;
use landline_region::{AccountSid, RecordingSid};

use crate::chain::hash_column;
use crate::chunk::{self, Chunk};
use crate::error::{Result, StoreError};
use crate::part::Part;
use crate::recording::{began_at, unknown};
use crate::seal::Sealer;
use crate::sql::{Row, values};
use crate::store::Store;

/// Chunks that are read at once: about half a minute.
const PAGE: i64 = 32;

/// One thing that was recorded, in the order of its arrival.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedEntry {
    /// What the leg's payload types mean from here on.
    PayloadTypes { leg: LegId, types: Vec<PayloadType> },
    /// A plain RTP packet received from the leg's peer, `at_ms` after the start.
    Packet { leg: LegId, at_ms: u32, packet: Vec<u8> },
    /// Packets that arrived and could not be kept.
    Dropped { at_ms: u32, packets: u32 },
    /// Nothing was recorded from `at_ms` to `until_ms`: the call was on its way
    /// from one relay to another, or a relay died with what it had.
    Gap { at_ms: u32, until_ms: u32 },
}

impl Store {
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
        let rows = self.recording_rows(recording).await?;
        let first = rows.first().ok_or_else(|| unknown(recording))?;
        if let Some(at) = first.time_or_null("deleted_at")? {
            return Err(StoreError::Deleted { what: format!("recording {recording}"), at });
        }
        let started_at = began_at(first)?;
        let mut parts = VecDeque::with_capacity(rows.len());
        for row in &rows {
            let since = row.time("started_at")?.0.saturating_sub(started_at.0);
            parts.push_back(self.part_reader(row, u32::try_from(since).unwrap_or(0)).await?);
        }
        // What was lost before the first part that there is, is a gap too.
        let is_first = parts.front().is_none_or(|first| first.offset_ms == 0);
        Ok(RecordingReader { store: self.clone(), parts, last_ms: 0, is_first })
    }

    async fn part_reader(&self, row: &Row, offset_ms: u32) -> Result<PartReader> {
        let recording: RecordingSid = row.parse("sid")?;
        let whole: Option<RecordingSid> = row.parse_or_null("whole")?;
        let segment = u16::try_from(row.int("segment")?).unwrap_or(u16::MAX);
        if whole.is_some_and(|whole| Part::of(whole, segment).sid() != recording) {
            return Err(chunk::broken(recording, 0, "it is no part of the recording it names"));
        }
        let account: AccountSid = row.parse("account")?;
        let wrapped = row.bytes_or_null("wrapped")?;
        let end = match row.int_or_null("finished_at")? {
            Some(_) => Some((row.int("chunks")?, hash_column(row, "head")?)),
            None => None,
        };
        Ok(PartReader {
            recording,
            sealer: self.opened_key(account, &row.text("key_id")?, wrapped).await?,
            end,
            sequence: 0,
            head: chunk::origin(recording),
            offset_ms,
        })
    }
}

/// Reads a recording in order, verifying as it goes.
pub struct RecordingReader {
    store: Store,
    /// What is left of it.
    parts: VecDeque<PartReader>,
    /// Of what was read so far.
    last_ms: u32,
    is_first: bool,
}

/// One relay's part, with a key and a chain of its own.
struct PartReader {
    recording: RecordingSid,
    sealer: Sealer,
    /// How many chunks a finished part has, and the last one's hash.
    end: Option<(i64, [u8; 32])>,
    sequence: i64,
    head: [u8; 32],
    /// Where it begins.
    offset_ms: u32,
}

impl RecordingReader {
    /// The entries of some more chunks; `None` at the end, when all was verified.
    pub async fn next(&mut self) -> Result<Option<Vec<RecordedEntry>>> {
        while let Some(part) = self.parts.front_mut() {
            let follows = part.sequence == 0 && !std::mem::take(&mut self.is_first);
            let Some(mut entries) = part.next(&self.store).await? else {
                self.parts.pop_front();
                continue;
            };
            let from = self.last_ms;
            self.last_ms = entries.iter().filter_map(time_of).fold(from, u32::max);
            if follows {
                let until_ms = part.offset_ms.max(from);
                entries.insert(0, RecordedEntry::Gap { at_ms: from, until_ms });
            }
            return Ok(Some(entries));
        }
        Ok(None)
    }
}

fn time_of(entry: &RecordedEntry) -> Option<u32> {
    match entry {
        RecordedEntry::Packet { at_ms, .. } | RecordedEntry::Dropped { at_ms, .. } => Some(*at_ms),
        RecordedEntry::PayloadTypes { .. } | RecordedEntry::Gap { .. } => None,
    }
}

impl PartReader {
    async fn next(&mut self, store: &Store) -> Result<Option<Vec<RecordedEntry>>> {
        let select = "SELECT * FROM recording_chunk WHERE recording = $1 AND sequence >= $2 \
                      ORDER BY sequence LIMIT $3";
        let values = values![self.recording, self.sequence, PAGE];
        let rows = store.database().rows(select, values).await?;
        if rows.is_empty() {
            return self.check_end().map(|()| None);
        }
        let mut entries = Vec::new();
        for row in &rows {
            entries.extend(self.open(row)?);
        }
        for entry in &mut entries {
            if let RecordedEntry::Packet { at_ms, .. } | RecordedEntry::Dropped { at_ms, .. } =
                entry
            {
                *at_ms = at_ms.saturating_add(self.offset_ms);
            }
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
