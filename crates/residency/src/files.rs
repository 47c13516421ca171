//! Directories of a region: every regular file, and what kind of place it is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{PlaceKind, Search};

/// What kind of place a file is, by its path.
pub fn kind_of(path: &Path) -> PlaceKind {
    let within = |name: &str| path.iter().any(|part| part.to_str() == Some(name));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if name == "core" || name.starts_with("core.") {
        PlaceKind::CoreDump
    } else if ends(&[".sqlite", ".sqlite3", ".db", "-wal", "-shm", "-journal"]) || within("pg") {
        PlaceKind::DatabaseFile
    } else if within("ledger") {
        PlaceKind::Ledger
    } else if within("spool") {
        PlaceKind::Spool
    } else if within("tmp") || ends(&[".tmp", ".part", ".swp"]) {
        PlaceKind::Temporary
    } else if within("backup") || ends(&[".bak", ".dump"]) {
        PlaceKind::Backup
    } else if name.starts_with("directory.json") {
        PlaceKind::Directory
    } else if name.contains(".log") {
        PlaceKind::Log
    } else {
        PlaceKind::File
    }
}

impl Search<'_> {
    /// Every file below, links not followed. Where `kind` is given, it holds
    /// for all of them.
    pub fn directory(
        &mut self,
        held_by: &str,
        directory: &Path,
        kind: Option<PlaceKind>,
    ) -> Result<()> {
        let parent = directory.parent().unwrap_or(directory);
        let mut open = vec![directory.to_owned()];
        while let Some(path) = open.pop() {
            let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                let name = path.strip_prefix(parent).unwrap_or(&path);
                // It may be gone by now: processes may be running.
                let Ok(kind_of_entry) = entry.file_type() else { continue };
                if kind_of_entry.is_dir() {
                    open.push(path);
                } else if kind_of_entry.is_file() && path.exists() {
                    let kind = kind.unwrap_or_else(|| kind_of(name));
                    self.file(held_by, kind, &name.display().to_string(), &path)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_path() {
        for (path, kind) in [
            ("ie1/database.sqlite-wal", PlaceKind::DatabaseFile),
            ("ie1/ledger/segment-1", PlaceKind::Ledger),
            ("ie1/spool/7.chunk", PlaceKind::Spool),
            ("ie1/proxy.log", PlaceKind::Log),
            ("ie1/proxy.log.1", PlaceKind::Log),
            ("ie1/core.4711", PlaceKind::CoreDump),
            ("ie1/tmp/x", PlaceKind::Temporary),
            ("shared/directory.json", PlaceKind::Directory),
            ("ie1/config.toml", PlaceKind::File),
        ] {
            assert_eq!(kind_of(Path::new(path)), kind, "{path}");
        }
    }
}
