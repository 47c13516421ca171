//! What a former run left in the ledger's directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use landline_call::Snapshot;
use landline_call::record::Step;
use landline_region::{CallSid, UnixMillis};

use super::Counts;
use super::kept::{self, KeptCall};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::event;
use crate::keys::KeyRing;
use crate::segment::{self, Frame, Position, Scan, SegmentReader, SegmentWriter};

pub const ALIVE: &str = "alive";
const CHECKPOINT: &str = "shipped";

pub struct Recovered<F> {
    pub writer: SegmentWriter<F>,
    /// Up to where everything is in the database.
    pub shipped: Position,
    /// The ends of the former runs' segments.
    pub former_ends: BTreeMap<u64, u64>,
    pub last_alive: Option<UnixMillis>,
    /// The answered calls that nobody has ended.
    pub calls: HashMap<CallSid, Snapshot>,
}

pub fn recover<D: Disk>(disk: &D, keys: &KeyRing, counts: &Counts) -> Result<Recovered<D::File>> {
    let fail = |error: std::io::Error| StoreError::file(disk.path(""), error);
    let segments = segment::list(disk).map_err(fail)?;
    let mut former_ends = BTreeMap::new();
    for (index, &id) in segments.iter().enumerate() {
        let failed = |error| StoreError::file(disk.path(&segment::name(id)), error);
        let scan = segment::scan(disk, id).map_err(failed)?;
        mend(disk, id, &scan, index + 1 == segments.len(), counts).map_err(failed)?;
        if scan.end > 0 {
            counts.octets.fetch_add(scan.end, Relaxed);
            former_ends.insert(id, scan.end);
        }
    }
    let next = segments.last().map_or(1, |last| last + 1);
    let writer = SegmentWriter::create(disk, next, keys).map_err(fail)?;
    let oldest = former_ends.keys().next().copied().unwrap_or(next);
    let shipped = checkpoint(disk).filter(|position| position.segment >= oldest);
    let shipped = shipped.unwrap_or(Position::start_of(oldest));
    let pending = count_records(disk, shipped, &former_ends, keys).map_err(fail)?;
    counts.total.store(pending, Relaxed);
    let calls = kept_calls(disk, &former_ends, keys).map_err(fail)?;
    Ok(Recovered { writer, shipped, former_ends, last_alive: last_alive(disk), calls })
}

/// Cuts what a death left half-written; what else is damaged is set aside in a
/// file beside the segment.
fn mend(
    disk: &impl Disk,
    id: u64,
    scan: &Scan,
    newest: bool,
    counts: &Counts,
) -> std::io::Result<()> {
    let name = segment::name(id);
    let shown = disk.path(&name);
    let shown = shown.display();
    if scan.damaged > 0 {
        counts.damaged.fetch_add(scan.damaged, Relaxed);
        disk.copy(&name, &beside(id, "damaged"))?;
        tracing::error!(segment = %shown, records = scan.damaged, "ledger records are damaged");
    }
    if scan.torn == 0 {
        return Ok(());
    }
    counts.torn_octets.fetch_add(scan.torn, Relaxed);
    if newest {
        tracing::warn!(segment = %shown, octets = scan.torn, "cut a torn end off the ledger");
    } else {
        disk.copy(&name, &beside(id, "damaged"))?;
        tracing::error!(segment = %shown, octets = scan.torn, "set a damaged end of the ledger aside");
    }
    if scan.end == 0 {
        return disk.rename(&name, &beside(id, "headless"));
    }
    disk.cut(&name, scan.end)
}

fn beside(segment: u64, suffix: &str) -> String {
    format!("{segment:012}.{suffix}")
}

fn count_records(
    disk: &impl Disk,
    from: Position,
    ends: &BTreeMap<u64, u64>,
    keys: &KeyRing,
) -> std::io::Result<u64> {
    let mut records = 0;
    for (&id, &end) in ends.range(from.segment..) {
        let start = if id == from.segment { from } else { Position::start_of(id) };
        let mut reader = SegmentReader::open(disk, start, keys)?;
        while reader.next(end)? != segment::Frame::End {
            records += 1;
        }
    }
    Ok(records)
}

/// What the segments say of calls that were answered and not ended: the newest
/// state of each.
fn kept_calls(
    disk: &impl Disk,
    ends: &BTreeMap<u64, u64>,
    keys: &KeyRing,
) -> std::io::Result<HashMap<CallSid, Snapshot>> {
    let mut calls = HashMap::new();
    for (&id, &end) in ends {
        let mut reader = SegmentReader::open(disk, Position::start_of(id), keys)?;
        loop {
            match reader.next(end)? {
                Frame::End => break,
                Frame::Record(plain) if kept::is_kept(&plain) => match KeptCall::decode(&plain) {
                    Ok(KeptCall::State(snapshot)) => drop(calls.insert(snapshot.call, snapshot)),
                    Ok(KeptCall::Gone(call)) => drop(calls.remove(&call)),
                    Err(problem) => tracing::error!(segment = id, %problem, "a kept call is lost"),
                },
                Frame::Record(plain) => note_event(&mut calls, &plain),
                Frame::Damaged => {}
            }
        }
    }
    Ok(calls)
}

/// The record goes on after the last event; with its end the call is over.
fn note_event(calls: &mut HashMap<CallSid, Snapshot>, plain: &[u8]) {
    // What cannot be read is counted when it is shipped.
    let Ok(event) = event::decode(plain) else { return };
    if matches!(event.step, Step::Closed(_)) {
        calls.remove(&event.call);
    } else if let Some(snapshot) = calls.get_mut(&event.call) {
        snapshot.sequence = snapshot.sequence.max(event.sequence + 1);
    }
}

/// Up to where was shipped. Events are known by their numbers, so an old or
/// missing checkpoint costs work and loses nothing.
pub fn checkpoint(disk: &impl Disk) -> Option<Position> {
    let text = disk.read(CHECKPOINT).ok()?;
    // It is not synced: what a power cut left of it may end in half a number.
    let text = text.strip_suffix('\n')?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Position { segment: next()?, offset: next()?, index: next()? })
}

pub fn write_checkpoint(disk: &impl Disk, position: Position) -> std::io::Result<()> {
    let Position { segment, offset, index } = position;
    disk.replace(CHECKPOINT, &format!("{segment} {offset} {index}\n"), false)
}

fn last_alive(disk: &impl Disk) -> Option<UnixMillis> {
    let text = disk.read(ALIVE).ok()?;
    text.trim().parse().ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    #[test]
    fn half_a_checkpoint_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory(dir.path().to_owned());
        let position = Position { segment: 3, offset: 1024, index: 17 };
        write_checkpoint(&disk, position).unwrap();
        assert_eq!(checkpoint(&disk), Some(position));
        let text = disk.read(CHECKPOINT).unwrap();
        for cut in 0..text.len() {
            disk.replace(CHECKPOINT, &text[..cut], true).unwrap();
            assert_eq!(checkpoint(&disk), None, "cut to {cut}");
        }
    }
}
