//! What a region leaves behind and hands out: lists, exports, receipts and
//! reports, metrics, a backup, crash dumps.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::memory;
use crate::net::run;
use crate::process::eventually;
use crate::region::{PROXY_PAGES, RELAY_PAGES, Region};

/// Recordings and receipts that are exported, of each at most.
pub const EXPORTS: usize = 20;

impl Region<'_> {
    /// What admins list and export, and what monitors scrape; how many
    /// recordings and receipts there were.
    pub fn hand_out(&mut self) -> Result<(usize, usize)> {
        for arguments in [
            &["account", "list"][..],
            &["region", "list"],
            &["user", "list", self.cast.domain],
            &["number", "list", self.cast.domain],
            &["trunk", "list", self.cast.domain],
            &["key", "list", self.cast.domain],
            &["calls", "list", "--limit", "1000"],
            &["recording", "list", "--limit", "1000"],
            &["ledger", "check"],
        ] {
            let listed = self.admin(arguments)?.to_string();
            self.listings.push((format!("landline {}", arguments.join(" ")), listed.into()));
        }
        for arguments in [&["residency", "register"][..], &["residency", "subprocessors"]] {
            let said = self.admin(arguments)?.to_string();
            self.handed_out.push((format!("landline {}", arguments.join(" ")), said.into()));
        }
        self.scrape()?;
        self.export()
    }

    pub fn scrape(&mut self) -> Result<()> {
        let mut pages = vec![("proxy", PROXY_PAGES)];
        if self.roles().contains(&"relay") {
            pages.push(("relay", RELAY_PAGES));
        }
        for (role, port) in pages {
            for path in ["metrics", "health"] {
                let page = self.page(port, path).with_context(|| format!("{role} /{path}"))?;
                self.pages.push((format!("{role} /{path}"), page));
            }
        }
        Ok(())
    }

    /// Recordings for the customer; receipts and a report for whoever doubts.
    fn export(&mut self) -> Result<(usize, usize)> {
        let exports = self.directory.join("exports");
        fs::create_dir_all(&exports)?;
        let path = |name: String| -> Result<String> {
            Ok(exports.join(name).to_str().context("a path that is no text")?.to_owned())
        };
        let mut recordings = self.sids(&["recording", "list", "--limit", "1000"])?;
        recordings.truncate(EXPORTS);
        for recording in &recordings {
            self.admin(&["recording", "export", recording, &path(format!("{recording}.wav"))?])?;
        }
        let trust = path("trust".to_owned())?;
        self.admin(&["receipt", "keys", "--out", &trust])?;
        let calls = self.sids(&["calls", "list", "--limit", "1000"])?;
        let mut files = Vec::new();
        eventually("receipts are issued", Duration::from_secs(10), || {
            files = calls
                .iter()
                .filter_map(|call| {
                    let file = path(format!("{call}.receipt")).ok()?;
                    self.admin(&["receipt", "export", call, &file]).ok().map(|_| file)
                })
                .take(EXPORTS)
                .collect();
            (!files.is_empty()).then_some(())
        })?;
        let receipts = files.len();
        let report = path("residency-report.json".to_owned())?;
        self.admin(&["residency", "prove", self.cast.domain, "--out", &report])?;
        files.push(report);
        for file in files {
            self.admin(&["receipt", "verify", &file, "--trust", &trust])?;
            self.handed_out.push((file.clone(), fs::read(file)?));
        }
        Ok((recordings.len(), receipts))
    }

    fn sids(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let listed = self.admin(arguments)?;
        let items = listed.as_array().context("no list")?.iter();
        Ok(items.filter_map(|it| it["sid"].as_str().map(str::to_owned)).collect())
    }

    /// A backup as an operator would make one: the database by its own tool,
    /// the files as they are.
    pub fn back_up(&self) -> Result<()> {
        let backup = self.directory.join("backup");
        fs::create_dir_all(&backup)?;
        match self.database_url().strip_prefix("sqlite:") {
            Some(database) => {
                let copy = format!(".backup '{}'", backup.join("records.bak").display());
                run(Command::new("sqlite3").args([database, &copy]))?;
            }
            None => {
                run(Command::new("pg_dump")
                    .arg("--file")
                    .arg(backup.join("records.dump"))
                    .arg(&self.database))?;
                // So that the cluster's files are as the backup.
                run(Command::new("psql").args(["-qc", "checkpoint"]).arg(&self.database))?;
            }
        }
        run(Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(backup.join("files.bak"))
            .arg("--directory")
            .arg(&self.directory)
            .args(["config.toml", "keys.json", "ledger", "spool"]))
    }

    /// Ends the processes, those that are to leave a crash dump by a signal
    /// that makes one.
    pub fn close(&mut self, dumped: bool) -> Result<()> {
        let memory = self.shared.arguments.read_memory || memory::dumps_go_elsewhere();
        for (role, mut process) in std::mem::take(&mut self.processes) {
            let id = process.id();
            let kept = self.directory.join(format!("core.{role}"));
            if !dumped {
                process.end("TERM")?;
                continue;
            }
            if memory {
                memory::dump(id, &kept)?;
                process.end("KILL")?;
            } else {
                process.end("ABRT")?;
                let names = ["core".to_owned(), format!("core.{id}")];
                let core = names.map(|name| self.directory.join(name));
                let core: Option<&PathBuf> = core.iter().find(|core| core.exists());
                let core = core.with_context(|| format!("{role} left no crash dump"))?;
                fs::rename(core, &kept)?;
            }
            self.cores.push((role, kept));
        }
        Ok(())
    }

    /// How many calls are closed, and how many recordings there are.
    pub fn counts(&self) -> Result<(usize, usize)> {
        let calls = self.admin(&["calls", "list", "--limit", "1000"])?;
        let is_closed = |call: &&Value| !call["closed_at"].is_null();
        let closed = calls.as_array().map_or(0, |calls| calls.iter().filter(is_closed).count());
        Ok((closed, self.sids(&["recording", "list", "--limit", "1000"])?.len()))
    }
}
