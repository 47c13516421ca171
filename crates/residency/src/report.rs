//! What was searched and found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{Exception, Hit, PlaceKind, Search, Searched};

/// Rows of a table in Markdown; JSON has them all.
const ROWS: usize = 200;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub passed: bool,
    /// What else was established, one sentence each; a failed one fails the run.
    pub facts: Vec<Fact>,
    pub searched: Vec<Place>,
    pub needles: usize,
    pub search_seconds: f64,
    pub leaks: Vec<Hit>,
    pub declared: Vec<Declared>,
    /// By kind of place: leaks planted, leaks found.
    pub planted: BTreeMap<String, (u64, u64)>,
    pub missed: Vec<String>,
    pub flows: Vec<FlowLine>,
}

#[derive(Debug, Serialize)]
pub struct Fact {
    pub holds: bool,
    pub text: String,
}

#[derive(Debug, Serialize)]
pub struct Place {
    pub held_by: String,
    pub kind: PlaceKind,
    #[serde(flatten)]
    pub searched: Searched,
}

/// An exception, and what it covers; another may cover the same.
#[derive(Debug, Serialize)]
pub struct Declared {
    #[serde(flatten)]
    pub exception: Exception,
    pub hits: u64,
}

/// What passed between two regions.
#[derive(Debug, Clone, Serialize)]
pub struct FlowLine {
    pub from: String,
    pub to: String,
    pub what: String,
    pub connections: u64,
    pub packets: u64,
    pub octets: u64,
    pub declared: bool,
}

impl Report {
    pub fn of(search: &Search<'_>, needles: usize, exceptions: &[Exception]) -> Self {
        let declared = |exception: &Exception| Declared {
            exception: exception.clone(),
            hits: search.hits.iter().filter(|hit| exception.covers(hit)).count() as u64,
        };
        let place = |((held_by, kind), searched): (&(String, PlaceKind), &Searched)| Place {
            held_by: held_by.clone(),
            kind: *kind,
            searched: *searched,
        };
        Self {
            searched: search.searched.iter().map(place).collect(),
            needles,
            search_seconds: search.took.as_secs_f64(),
            leaks: search.leaks().cloned().collect(),
            declared: exceptions.iter().map(declared).collect(),
            ..Self::default()
        }
    }

    pub fn fact(&mut self, holds: bool, text: impl Into<String>) {
        self.facts.push(Fact { holds, text: text.into() });
    }

    pub fn judge(&mut self) -> bool {
        self.passed = self.leaks.is_empty()
            && self.missed.is_empty()
            && self.facts.iter().all(|fact| fact.holds)
            && self.flows.iter().all(|flow| flow.declared);
        self.passed
    }

    /// Writes `report.md` and `report.json`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(directory.join("report.json"), json).context("report.json")?;
        fs::write(directory.join("report.md"), self.markdown()).context("report.md")
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let octets: u64 = self.searched.iter().map(|it| it.searched.octets).sum();
        let places: u64 = self.searched.iter().map(|it| it.searched.places).sum();
        let rate = octets as f64 / 1e6 / self.search_seconds.max(0.001);
        let _ = writeln!(
            text,
            "# Residency: {verdict}\n\n{octets} octets in {places} places were searched for {} \
             octet strings and every tone, at {rate:.0} MB/s. {} leaks.\n",
            self.needles,
            self.leaks.len()
        );
        for fact in &self.facts {
            let _ =
                writeln!(text, "- {}{}", if fact.holds { "" } else { "**NOT SO**: " }, fact.text);
        }
        self.write_places(&mut text);
        self.write_flows(&mut text);
        self.write_hits(&mut text);
        self.write_planted(&mut text);
        text
    }

    fn write_places(&self, text: &mut String) {
        text.push_str("\n## Searched\n\n| held by | place | places | octets | with the region's own canaries |\n|---|---|---|---|---|\n");
        for place in &self.searched {
            let Searched { places, octets, own } = place.searched;
            let _ = writeln!(
                text,
                "| {} | {} | {places} | {octets} | {own} |",
                place.held_by,
                place.kind.name()
            );
        }
    }

    fn write_flows(&self, text: &mut String) {
        if self.flows.is_empty() {
            return;
        }
        text.push_str("\n## Between regions\n\n| from | to | what | connections | packets | octets | declared |\n|---|---|---|---|---|---|---|\n");
        for flow in &self.flows {
            let FlowLine { from, to, what, connections, packets, octets, declared } = flow;
            let declared = if *declared { "yes" } else { "**no**" };
            let _ = writeln!(
                text,
                "| {from} | {to} | {what} | {connections} | {packets} | {octets} | {declared} |"
            );
        }
    }

    fn write_hits(&self, text: &mut String) {
        text.push_str("\n## Leaks\n\n");
        if self.leaks.is_empty() {
            text.push_str("None.\n");
        } else {
            text.push_str("| held by | place | name | of | what | encoding | times | first at |\n|---|---|---|---|---|---|---|---|\n");
        }
        for hit in self.leaks.iter().take(ROWS) {
            let Hit { held_by, place, name, canary, what, encoding, count, first_at, .. } = hit;
            let place = place.name();
            let _ = writeln!(
                text,
                "| {held_by} | {place} | {name} | {canary} | {what} | {encoding} | {count} | {first_at} |"
            );
        }
        if self.leaks.len() > ROWS {
            let _ = writeln!(text, "\nand {} more in report.json.", self.leaks.len() - ROWS);
        }
        text.push_str("\n## Declared exceptions\n\n");
        if self.declared.is_empty() {
            text.push_str("None.\n");
        } else {
            text.push_str("| id | canary of | held by | what | place | name | hits | why |\n|---|---|---|---|---|---|---|---|\n");
        }
        for Declared { exception, hits } in &self.declared {
            let Exception { id, canary, held_by, what, place, name, why } = exception;
            let place = place.name();
            let _ = writeln!(
                text,
                "| {id} | {canary} | {held_by} | {what} | {place} | {name} | {hits} | {why} |"
            );
        }
    }

    fn write_planted(&self, text: &mut String) {
        if self.planted.is_empty() {
            return;
        }
        text.push_str("\n## Planted leaks\n\n| place | planted | found |\n|---|---|---|\n");
        for (place, (planted, found)) in &self.planted {
            let _ = writeln!(text, "| {place} | {planted} | {found} |");
        }
        for missed in self.missed.iter().take(ROWS) {
            let _ = writeln!(text, "- **missed**: {missed}");
        }
    }
}
