//! Files that are replaced whole or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::StoreError;

/// Makes a name's creation, change or removal in its directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a directory, and its name durable, where there is none.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    sync_parent(dir)
}

/// Writes beside the file, then renames over it: a reader sees the old text or
/// the new, and so does a restart after a power cut.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = File::create(&part)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    sync_parent(path)
}

/// Makes a file that its owner alone reads; fails where there is one.
pub fn create_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    sync_parent(path)
}

/// Keeps other processes out of a directory as long as the file is open.
pub fn locked(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|error| StoreError::file(&path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(_) => Err(StoreError::file(
            dir,
            "another process uses this directory: give each process one of its own",
        )),
    }
}
