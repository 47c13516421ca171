//! Files that are written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `bytes` into `file` with `mode`: a reader sees the old or the new file,
/// and nobody the new one under a wider mode.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = file.with_file_name(name);
    let written = (|| {
        let _ = fs::remove_file(&part);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&part, file)?;
        match file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}
