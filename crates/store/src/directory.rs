//! The shared directory snapshot as a JSON file.

use std::path::Path;

use landline_call::directory::{AccountEntry, Directory, RegionEntry};
use landline_region::RegionCode;

use crate::error::Result;
use crate::store::not_ready;

pub fn read(path: &Path) -> Result<Directory> {
    Err(not_ready(&path.display().to_string()))
}

/// Reads, changes and replaces the file under a lock; the version rises by one.
/// A missing file is an empty directory.
pub fn update<T>(path: &Path, change: impl FnOnce(&mut Directory) -> Result<T>) -> Result<T> {
    change(&mut Directory::default())?;
    Err(not_ready(&path.display().to_string()))
}

pub fn region_add(path: &Path, code: RegionCode, entry: RegionEntry) -> Result<()> {
    let _ = (code, entry);
    Err(not_ready(&path.display().to_string()))
}

pub fn account_add(path: &Path, domain: &str, entry: AccountEntry) -> Result<()> {
    let _ = (domain, entry);
    Err(not_ready(&path.display().to_string()))
}
