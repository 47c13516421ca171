//! What a former run left in the ledger's directory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use landline_region::UnixMillis;

use super::{Counts, LedgerConfig};
use crate::error::{Result, StoreError};
use crate::segment::{self, Position, Scan, SegmentReader, SegmentWriter};
use crate::store::Store;

pub const ALIVE: &str = "alive";
const CHECKPOINT: &str = "shipped";

pub struct Recovered {
    /// Keeps other processes out of the directory.
    pub lock: File,
    pub writer: SegmentWriter,
    /// Up to where everything is in the database.
    pub shipped: Position,
    /// The ends of the former runs' segments.
    pub former_ends: BTreeMap<u64, u64>,
    pub last_alive: Option<UnixMillis>,
}

pub fn recover(config: &LedgerConfig, store: &Store, counts: &Counts) -> Result<Recovered> {
    let dir = &config.dir;
    let fail = |error: std::io::Error| StoreError::file(dir, error);
    std::fs::create_dir_all(dir).map_err(fail)?;
    let lock = crate::file::locked(dir)?;
    let segments = segment::list(dir).map_err(fail)?;
    let mut former_ends = BTreeMap::new();
    for (index, &id) in segments.iter().enumerate() {
        let path = segment::path(dir, id);
        let scan = segment::scan(&path).map_err(|error| StoreError::file(&path, error))?;
        mend(&path, &scan, index + 1 == segments.len(), counts)
            .map_err(|error| StoreError::file(&path, error))?;
        if scan.end > 0 {
            counts.octets.fetch_add(scan.end, Relaxed);
            former_ends.insert(id, scan.end);
        }
    }
    let next = segments.last().map_or(1, |last| last + 1);
    let writer = SegmentWriter::create(dir, next, store.keys()).map_err(fail)?;
    let oldest = former_ends.keys().next().copied().unwrap_or(next);
    let shipped = checkpoint(dir).filter(|position| position.segment >= oldest);
    let shipped = shipped.unwrap_or(Position::start_of(oldest));
    let pending = count_records(dir, shipped, &former_ends, store).map_err(fail)?;
    counts.total.store(pending, Relaxed);
    Ok(Recovered { lock, writer, shipped, former_ends, last_alive: last_alive(dir) })
}

/// Cuts what a death left half-written; what else is damaged is set aside in a
/// file beside the segment.
fn mend(path: &Path, scan: &Scan, newest: bool, counts: &Counts) -> std::io::Result<()> {
    let shown = path.display();
    if scan.damaged > 0 {
        counts.damaged.fetch_add(scan.damaged, Relaxed);
        std::fs::copy(path, beside(path, "damaged"))?;
        tracing::error!(segment = %shown, records = scan.damaged, "ledger records are damaged");
    }
    if scan.torn == 0 {
        return Ok(());
    }
    counts.torn_octets.fetch_add(scan.torn, Relaxed);
    if newest {
        tracing::warn!(segment = %shown, octets = scan.torn, "cut a torn end off the ledger");
    } else {
        std::fs::copy(path, beside(path, "damaged"))?;
        tracing::error!(segment = %shown, octets = scan.torn, "set a damaged end of the ledger aside");
    }
    if scan.end == 0 {
        return std::fs::rename(path, beside(path, "headless"));
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(scan.end)?;
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_extension(suffix)
}

fn count_records(
    dir: &Path,
    from: Position,
    ends: &BTreeMap<u64, u64>,
    store: &Store,
) -> std::io::Result<u64> {
    let mut records = 0;
    for (&id, &end) in ends.range(from.segment..) {
        let start = if id == from.segment { from } else { Position::start_of(id) };
        let mut reader = SegmentReader::open(dir, start, store.keys())?;
        while reader.next(end)? != segment::Frame::End {
            records += 1;
        }
    }
    Ok(records)
}

/// Up to where was shipped. Events are known by their numbers, so an old or
/// missing checkpoint costs work and loses nothing.
fn checkpoint(dir: &Path) -> Option<Position> {
    let text = std::fs::read_to_string(dir.join(CHECKPOINT)).ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Position { segment: next()?, offset: next()?, index: next()? })
}

pub fn write_checkpoint(dir: &Path, position: Position) -> std::io::Result<()> {
    let Position { segment, offset, index } = position;
    let part = dir.join("shipped.part");
    std::fs::write(&part, format!("{segment} {offset} {index}\n"))?;
    std::fs::rename(part, dir.join(CHECKPOINT))
}

fn last_alive(dir: &Path) -> Option<UnixMillis> {
    let text = std::fs::read_to_string(dir.join(ALIVE)).ok()?;
    text.trim().parse().ok().map(UnixMillis)
}
