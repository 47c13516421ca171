use std::path::Path;

use crate::disk::{Directory, Disk as _};
use crate::error::{Result, StoreError};
use crate::segment;

/// What a ledger's files hold, read beside the process that writes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inspection {
    pub segments: u64,
    pub records: u64,
    /// Records with a wrong checksum among whole ones.
    pub damaged: u64,
    /// Octets after the last whole record: a write under way or cut off.
    pub torn_octets: u64,
}

/// Checks the checksums of every segment and changes nothing. A directory that
/// does not exist holds nothing.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let mut found = Inspection::default();
    if !dir.exists() {
        return Ok(found);
    }
    let disk = Directory(dir.to_owned());
    for id in segment::list(&disk).map_err(|error| StoreError::file(dir, error))? {
        let scan = match segment::scan(&disk, id) {
            Ok(scan) => scan,
            // Shipped whole and removed since the directory was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::file(disk.path(&segment::name(id)), error)),
        };
        found.segments += 1;
        found.records += scan.records;
        found.damaged += scan.damaged;
        found.torn_octets += scan.torn;
    }
    Ok(found)
}
