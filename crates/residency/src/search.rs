//! A search: places one after another, what was seen in each, and what of it
//! belongs to another region than the one that holds the place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{Exception, Scan, Scanner, Sighting};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceKind {
    /// Every table as a client reads it.
    Database,
    /// The files beneath: free pages, write-ahead logs, indexes.
    DatabaseFile,
    Ledger,
    Spool,
    Log,
    Metrics,
    CoreDump,
    Temporary,
    Backup,
    /// What is shared between regions by design.
    Directory,
    /// What admin commands print.
    Listing,
    File,
    /// Packets as they were on the wire.
    Capture,
    /// The same with TLS taken off.
    Decrypted,
}

impl PlaceKind {
    pub const ALL: [Self; 14] = [
        Self::Database,
        Self::DatabaseFile,
        Self::Ledger,
        Self::Spool,
        Self::Log,
        Self::Metrics,
        Self::CoreDump,
        Self::Temporary,
        Self::Backup,
        Self::Directory,
        Self::Listing,
        Self::File,
        Self::Capture,
        Self::Decrypted,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::DatabaseFile => "database-file",
            Self::Ledger => "ledger",
            Self::Spool => "spool",
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::CoreDump => "core-dump",
            Self::Temporary => "temporary",
            Self::Backup => "backup",
            Self::Directory => "directory",
            Self::Listing => "listing",
            Self::File => "file",
            Self::Capture => "capture",
            Self::Decrypted => "decrypted",
        }
    }
}

/// Something of one region in a place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    pub place: PlaceKind,
    pub held_by: String,
    pub name: String,
    pub canary: String,
    pub what: String,
    pub encoding: String,
    pub count: u64,
    pub first_at: u64,
    /// The declared exception that covers it.
    pub exception: Option<String>,
}

/// How much was looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Searched {
    pub places: u64,
    pub octets: u64,
    /// Places where the region's own canaries were seen: the search is not blind.
    pub own: u64,
}

pub struct Search<'a> {
    scanner: &'a Scanner,
    exceptions: Vec<Exception>,
    pub hits: Vec<Hit>,
    pub searched: BTreeMap<(String, PlaceKind), Searched>,
    pub took: Duration,
}

impl<'a> Search<'a> {
    pub fn new(scanner: &'a Scanner, exceptions: &[Exception]) -> Self {
        Self {
            scanner,
            exceptions: exceptions.to_vec(),
            hits: Vec::new(),
            searched: BTreeMap::new(),
            took: Duration::ZERO,
        }
    }

    pub fn octets(&mut self, held_by: &str, place: PlaceKind, name: &str, octets: &[u8]) {
        let begun = Instant::now();
        let sightings = self.scanner.sightings(octets);
        self.took += begun.elapsed();
        self.note(held_by, place, name, octets.len() as u64, sightings);
    }

    pub fn reader(
        &mut self,
        held_by: &str,
        place: PlaceKind,
        name: &str,
        mut reader: impl Read,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut scan: Scan<'_> = self.scanner.scan();
        let mut chunk = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut chunk).with_context(|| name.to_owned())?;
            let Some(octets) = chunk.get(..read).filter(|it| !it.is_empty()) else { break };
            scan.push(octets);
        }
        let octets = scan.octets();
        let sightings = scan.finish();
        self.took += begun.elapsed();
        self.note(held_by, place, name, octets, sightings);
        Ok(())
    }

    /// A database's dump: as it is, and with what it shows in hex made octets
    /// again, so that what lies encoded in a column of octets is found, too.
    pub(crate) fn dump(&mut self, held_by: &str, name: &str, mut reader: impl Read) -> Result<()> {
        let begun = Instant::now();
        let (mut text, mut columns) = (self.scanner.scan(), self.scanner.scan());
        let mut unhex = Unhex::default();
        let mut chunk = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut chunk).with_context(|| name.to_owned())?;
            let Some(octets) = chunk.get(..read).filter(|it| !it.is_empty()) else { break };
            text.push(octets);
            columns.push(&unhex.octets(octets));
        }
        let octets = text.octets();
        let mut sightings = text.finish();
        sightings.extend(columns.finish());
        self.took += begun.elapsed();
        self.note(held_by, PlaceKind::Database, name, octets, sightings);
        Ok(())
    }

    pub fn file(&mut self, held_by: &str, place: PlaceKind, name: &str, path: &Path) -> Result<()> {
        // A name can tell as much as what is in the file.
        for hit in self.foreign(held_by, place, name, self.scanner.sightings(name.as_bytes())) {
            self.hits.push(Hit { encoding: format!("{}, in its name", hit.encoding), ..hit });
        }
        let file = File::open(path).with_context(|| path.display().to_string())?;
        self.reader(held_by, place, name, file)
    }

    fn note(
        &mut self,
        held_by: &str,
        place: PlaceKind,
        name: &str,
        octets: u64,
        sightings: Vec<Sighting>,
    ) {
        let searched = self.searched.entry((held_by.to_owned(), place)).or_default();
        searched.places += 1;
        searched.octets += octets;
        searched.own += u64::from(sightings.iter().any(|it| it.canary == held_by));
        let hits = self.foreign(held_by, place, name, sightings);
        self.hits.extend(hits);
    }

    /// What of it is another region's.
    fn foreign(
        &self,
        held_by: &str,
        place: PlaceKind,
        name: &str,
        sightings: Vec<Sighting>,
    ) -> Vec<Hit> {
        let foreign = sightings.into_iter().filter(|it| it.canary != held_by);
        let hit = |seen: Sighting| {
            let mut hit = Hit {
                place,
                held_by: held_by.to_owned(),
                name: name.to_owned(),
                canary: seen.canary,
                what: seen.what,
                encoding: seen.encoding,
                count: seen.count,
                first_at: seen.first_at,
                exception: None,
            };
            let exception = self.exceptions.iter().find(|it| it.covers(&hit));
            hit.exception = exception.map(|it| it.id.clone());
            hit
        };
        foreign.map(hit).collect()
    }

    /// Hits that no exception covers.
    pub fn leaks(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter().filter(|hit| hit.exception.is_none())
    }
}

/// Runs of hexadecimal digits, as the octets that they stand for.
#[derive(Default)]
struct Unhex {
    high: Option<u8>,
    within: bool,
}

impl Unhex {
    fn octets(&mut self, text: &[u8]) -> Vec<u8> {
        let mut octets = Vec::with_capacity(text.len() / 2);
        for character in text {
            let Some(digit) = char::from(*character).to_digit(16) else {
                if std::mem::take(&mut self.within) {
                    octets.push(0);
                }
                self.high = None;
                continue;
            };
            self.within = true;
            // A digit has four bits.
            let digit = digit as u8;
            match self.high.take() {
                Some(high) => octets.push(high << 4 | digit),
                None => self.high = Some(digit),
            }
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_octets_are_read_across_chunks() {
        let mut unhex = Unhex::default();
        let mut octets = unhex.octets(b"insert into t values(X'72696");
        octets.extend(unhex.octets(b"e67','\\x626f62');"));
        let text = String::from_utf8_lossy(&octets);
        assert!(text.contains("ring") && text.contains("bob"), "{text:?}");
    }
}
