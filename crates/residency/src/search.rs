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

    pub fn file(&mut self, held_by: &str, place: PlaceKind, name: &str, path: &Path) -> Result<()> {
        // A name can tell as much as what is in the file.
        self.octets(held_by, place, &format!("name of {name}"), name.as_bytes());
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
        for seen in sightings.into_iter().filter(|it| it.canary != held_by) {
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
            hit.exception =
                self.exceptions.iter().find(|it| it.covers(&hit)).map(|it| it.id.clone());
            self.hits.push(hit);
        }
    }

    /// Hits that no exception covers.
    pub fn leaks(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter().filter(|hit| hit.exception.is_none())
    }
}
