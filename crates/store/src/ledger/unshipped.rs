use std::io::ErrorKind;
use std::path::Path;

use super::kept;
use super::recover::checkpoint;
use crate::disk::{Directory, Disk as _, DiskFile as _};
use crate::error::{Result, StoreError};
use crate::keys::KeyRing;
use crate::segment::{self, Frame, Position, SegmentReader};

/// The events after the checkpoint, encoded, read beside the process that
/// writes them. At most a segment's worth is in the database already; a
/// directory that does not exist holds none.
pub fn unshipped(dir: &Path, keys: &KeyRing) -> Result<Vec<Vec<u8>>> {
    let mut events = Vec::new();
    if !dir.exists() {
        return Ok(events);
    }
    let disk = Directory(dir.to_owned());
    let from = checkpoint(&disk);
    for id in segment::list(&disk).map_err(|error| StoreError::file(dir, error))? {
        let start = match from {
            Some(from) if id < from.segment => continue,
            Some(from) if id == from.segment => from,
            _ => Position::start_of(id),
        };
        match read(&disk, start, keys, &mut events) {
            // Shipped whole and removed since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::file(disk.path(&segment::name(id)), error)),
            Ok(()) => {}
        }
    }
    Ok(events)
}

/// Damaged records are the ledger's own to report; what is torn is being
/// written, and not acknowledged yet.
fn read(
    disk: &Directory,
    start: Position,
    keys: &KeyRing,
    events: &mut Vec<Vec<u8>>,
) -> std::io::Result<()> {
    let end = disk.open(&segment::name(start.segment))?.length()?;
    let mut reader = SegmentReader::open(disk, start, keys)?;
    loop {
        match reader.next(end)? {
            // For the proxy's next run on this machine, and no business of another.
            Frame::Record(plain) if kept::is_kept(&plain) => {}
            Frame::Record(plain) => events.push(plain),
            Frame::Damaged => {}
            Frame::End => return Ok(()),
        }
    }
}
