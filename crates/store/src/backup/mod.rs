//! A region's backup: two files that are of use together and with the region's
//! key ring alone.
//!
//! The records' file holds what happened, each backup one of its own. All that
//! is personal in it is sealed under keys that lie in the other: the living
//! part, of which there is one, replaced by each backup. So what was erased
//! from the region is dead in every backup once the next was made.

mod compare;
mod drill;
mod place;
mod restore;
mod stream;
mod table;
mod write;

pub use compare::Compared;
pub use drill::{drill, newest};
pub use place::Listed;
pub use restore::{Restored, restore};
pub use stream::{Head, Part};
pub use write::Made;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::keys::KeyRing;
use crate::store::{StoreConfig, now};
use stream::{Block, Reader};
use table::Sum;

/// How far something is, told now and then.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// `write`, `verify`, `restore` or `compare`.
    pub step: &'static str,
    pub table: &'a str,
    pub rows: u64,
    pub octets: u64,
}

pub type Tell<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// What one file holds of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub table: String,
    pub columns: Vec<String>,
    pub sum: Sum,
}

/// A file that was read whole.
#[derive(Debug, Clone)]
pub struct Verified {
    pub file: PathBuf,
    pub head: Head,
    pub octets: u64,
    pub rows: u64,
    /// Of the ledger.
    pub events: u64,
    pub tables: Vec<Held>,
}

/// Both files of a backup.
#[derive(Debug, Clone)]
pub struct Pair {
    pub records: Verified,
    pub living: Verified,
}

impl Pair {
    /// Whether the living part is of the same moment as the records.
    pub fn is_of_one_moment(&self) -> bool {
        self.records.head.taken_at == self.living.head.taken_at
    }
}

/// The region's backups in a directory, the oldest first.
pub fn list(config: &StoreConfig, dir: &Path) -> Result<Vec<Listed>> {
    place::list(dir, &KeyRing::open(&config.key_ring, config.region)?)
}

/// Removes the region's backups that are older than `keep`, but never the
/// newest.
pub fn prune(config: &StoreConfig, dir: &Path, keep: Duration) -> Result<Vec<PathBuf>> {
    place::prune(dir, &KeyRing::open(&config.key_ring, config.region)?, now(), keep)
}

/// Reads both files of a backup whole, with every checksum and seal, and
/// changes nothing. `file` is the records'; the living part lies beside it.
pub fn verify(config: &StoreConfig, file: &Path, tell: Tell<'_>) -> Result<Pair> {
    let keys = KeyRing::open(&config.key_ring, config.region)?;
    let records = verify_file(file, Part::Records, &keys, tell)?;
    let living = verify_file(&place::living_of(file, config.region), Part::Living, &keys, tell)?;
    if living.head.taken_at < records.head.taken_at {
        // Keys of the newest calls would be missing: as if they were erased.
        let problem = format!(
            "the living part of {} is older than these records of {}: bring the newest one here",
            living.head.taken_at, records.head.taken_at
        );
        return Err(crate::error::StoreError::file(&living.file, problem));
    }
    Ok(Pair { records, living })
}

fn verify_file(file: &Path, part: Part, keys: &KeyRing, tell: Tell<'_>) -> Result<Verified> {
    let mut reader = Reader::open(file, keys)?;
    if reader.head().part != part {
        return Err(reader.fault(match part {
            Part::Records => "this is the living part; name the file with the records",
            Part::Living => "these are records, and the living part is wanted here",
        }));
    }
    let mut found = Verified {
        file: file.to_owned(),
        head: reader.head().clone(),
        octets: reader.progress().1,
        rows: 0,
        events: 0,
        tables: Vec::new(),
    };
    let mut open: Option<Held> = None;
    loop {
        match reader.next()? {
            Block::Table { name, columns } if open.is_none() => {
                open = Some(Held { table: name, columns, sum: Sum::default() });
            }
            Block::Rows(rows) => {
                let held = open.as_mut().ok_or_else(|| reader.fault("rows of no table"))?;
                rows.iter().for_each(|row| held.sum.add(row));
                found.rows += rows.len() as u64;
                let (octets, _) = reader.progress();
                tell(Progress { step: "verify", table: &held.table, rows: found.rows, octets });
            }
            Block::TableEnd(sum) => {
                let held = open.take().ok_or_else(|| reader.fault("the end of no table"))?;
                if held.sum != sum {
                    return Err(reader.fault("a table's rows are not those that were read"));
                }
                found.tables.push(held);
            }
            Block::Events(events) => found.events += events.len() as u64,
            Block::End { rows } if open.is_none() && rows == found.rows => return Ok(found),
            Block::Table { .. } | Block::End { .. } => {
                return Err(reader.fault("a table has no end, or rows are missing"));
            }
        }
    }
}
