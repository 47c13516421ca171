//! The directory that a region's backups lie in: it belongs to the region that
//! used it first.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landline_region::egress::{Destination, Flow, Gate};
use landline_region::{RegionCode, UnixMillis};

use super::stream::{Head, Reader};
use crate::error::{Result, StoreError};
use crate::keys::KeyRing;

const STAMP: &str = "region";
const RECORDS: &str = ".records.backup";

/// A records' file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub file: PathBuf,
    pub head: Head,
    pub octets: u64,
}

/// Asks the gate whether a backup may go there, and enters the region where
/// nobody was before. `host` is who keeps the directory, where that is somebody
/// else than the region.
pub fn claim(dir: &Path, gate: &Gate, host: Option<&str>) -> Result<()> {
    let stamp = dir.join(STAMP);
    let fail = |error: std::io::Error| StoreError::file(&stamp, error);
    let owner = match std::fs::read_to_string(&stamp) {
        Ok(text) => text.trim().parse().map_err(|_| {
            StoreError::file(&stamp, "it names no region: this is no directory of backups")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => gate.region(),
        Err(error) => return Err(fail(error)),
    };
    // Sealed octets go, and no field in any form that could be read.
    gate.decide(Flow::Backup, &Destination::Region(owner), &[])
        .map_err(|error| StoreError::BackupRefused { dir: dir.to_owned(), owner, error })?;
    if let Some(host) = host {
        gate.decide(Flow::Backup, &Destination::Party(host), &[])?;
    }
    make_private(dir)?;
    match crate::file::create_private(&stamp, format!("{owner}\n").as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(error)),
        _ => Ok(()),
    }
}

/// A directory that its owner alone reads, where there is none.
pub fn make_private(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| StoreError::file(dir, error))
}

pub fn records_in(dir: &Path, region: RegionCode, taken_at: UnixMillis) -> PathBuf {
    let digits: String = taken_at.to_string().chars().filter(|c| !":-.".contains(*c)).collect();
    dir.join(format!("{region}-{digits}{RECORDS}"))
}

/// The living part that lies beside a records' file.
pub fn living_of(records: &Path, region: RegionCode) -> PathBuf {
    records.with_file_name(format!("{region}.living.backup"))
}

/// The region's records' files there, the oldest first. What is no file of its
/// backups is passed over.
pub fn list(dir: &Path, keys: &KeyRing) -> Result<Vec<Listed>> {
    let entries = std::fs::read_dir(dir).map_err(|error| StoreError::file(dir, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| StoreError::file(dir, error))?.path();
        let ours = file.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            name.ends_with(RECORDS) && name.starts_with(&format!("{}-", keys.region()))
        });
        if let Some(reader) = ours.then(|| Reader::open(&file, keys).ok()).flatten() {
            let octets = reader.progress().1;
            found.push(Listed { head: reader.head().clone(), file, octets });
        }
    }
    found.sort_by_key(|listed| listed.head.taken_at);
    Ok(found)
}

/// Removes records' files older than `keep`, but never the newest.
pub fn prune(dir: &Path, keys: &KeyRing, now: UnixMillis, keep: Duration) -> Result<Vec<PathBuf>> {
    let mut listed = list(dir, keys)?;
    listed.pop();
    let old = listed.into_iter().filter(|it| it.head.taken_at.plus(keep) < now);
    let mut removed = Vec::new();
    for Listed { file, .. } in old {
        std::fs::remove_file(&file).map_err(|error| StoreError::file(&file, error))?;
        removed.push(file);
    }
    Ok(removed)
}
