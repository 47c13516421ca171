//! Backups of a region: made, looked at, tried and brought back.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use landline_store::backup::{self, Compared, Pair, Progress, Restored, Verified};
use serde_json::{Value, json};

use super::Place;
use crate::cli::{BackupVerb, RestoreArgs};
use crate::config::{self, Config};
use crate::open;
use crate::output::{Style, Table, card, say};

pub async fn run(place: &Place, verb: Option<BackupVerb>, style: Style) -> Result<String> {
    match verb {
        None => make(place, style).await,
        Some(BackupVerb::Verify { file }) => verify(place, &file, style),
        Some(BackupVerb::List) => list(place, style),
    }
}

async fn make(place: &Place, style: Style) -> Result<String> {
    let mut rows = Vec::new();
    for config in place.configs() {
        rows.push(make_one(config, style).await?);
    }
    let columns = ["region", "file", "rows", "ledger_events", "octets", "removed"];
    Ok(Table::new(&columns, rows, "no regions").render(style))
}

async fn make_one(config: &Config, style: Style) -> Result<Value> {
    let target = target(config)?;
    let store = open::store(config).await?;
    let mut line = Line::new(style);
    let ledger = config.data_dir.join("ledger");
    let host = target.host.as_deref();
    let made = store.backup(&target.directory, host, &ledger, &mut |it| line.show(it)).await;
    line.clear();
    // Passed or refused: what the gate decided is written down.
    store.write_egress().await?;
    let made = made?;
    let keep = Duration::from_secs(u64::from(target.keep_days) * 86_400);
    let removed = backup::prune(&open::settings(config)?, &target.directory, keep)?;
    Ok(json!({
        "region": config.region.code.to_string(),
        "file": made.records,
        "living": made.living,
        "taken_at": made.taken_at.to_string(),
        "tables": made.tables,
        "rows": made.rows,
        "ledger_events": made.events,
        "octets": made.octets,
        "removed": removed,
    }))
}

fn target(config: &Config) -> Result<&config::Backup> {
    config.backup.as_ref().ok_or_else(|| {
        anyhow!(
            "region {} has no [backup] in its configuration: say in which directory of the region its backups lie, as `directory = \"/var/backups/landline\"`",
            config.region.code
        )
    })
}

fn list(place: &Place, style: Style) -> Result<String> {
    let mut rows = Vec::new();
    for config in place.configs() {
        for listed in backup::list(&open::settings(config)?, &target(config)?.directory)? {
            rows.push(json!({
                "region": config.region.code.to_string(),
                "file": listed.file,
                "taken_at": listed.head.taken_at.to_string(),
                "octets": listed.octets,
                "schema": listed.head.schema,
                "key_ring": listed.head.key_ring,
            }));
        }
    }
    Ok(Table::new(&["region", "taken_at", "octets", "file"], rows, "no backups").render(style))
}

fn verify(place: &Place, file: &Path, style: Style) -> Result<String> {
    let mut line = Line::new(style);
    let pair = backup::verify(&open::settings(one(place)?)?, file, &mut |it| line.show(it));
    line.clear();
    Ok(card(&verified(&pair?), style))
}

pub async fn restore(place: &Place, args: RestoreArgs, style: Style) -> Result<String> {
    let config = one(place)?;
    let settings = open::settings(config)?;
    let file = match args.file {
        Some(file) => file,
        None => backup::newest(&settings, &target(config)?.directory)?,
    };
    let (file, mut line) = (file.as_path(), Line::new(style));
    let restored = match args.drill {
        true => {
            let scratch = &config.data_dir;
            backup::drill(&settings, file, scratch, &mut |it| line.show(it)).await
        }
        false => backup::restore(&settings, file, &mut |it| line.show(it)).await,
    };
    line.clear();
    let restored = restored.with_context(|| format!("{}", file.display()))?;
    let mut answer = shown(&restored);
    answer["drill"] = json!(args.drill);
    let answer = card(&answer, style);
    if restored.compared.is_sound() {
        return Ok(answer);
    }
    say(&answer)?;
    let Compared { faults, faults_found, .. } = &restored.compared;
    bail!("{faults_found} faults, of them:\n{}", faults.join("\n"))
}

/// A backup is of one region.
fn one(place: &Place) -> Result<&Config> {
    match place.configs() {
        [config] => Ok(config),
        _ => bail!("which region? Give --config of the one that the backup is of"),
    }
}

fn verified(pair: &Pair) -> Value {
    let Verified { head, .. } = &pair.records;
    json!({
        "ok": true,
        "region": head.region.to_string(),
        "file": pair.records.file,
        "living": pair.living.file,
        "taken_at": head.taken_at.to_string(),
        "living_taken_at": pair.living.head.taken_at.to_string(),
        "schema": head.schema,
        "key_ring": head.key_ring,
        "rows": pair.records.rows + pair.living.rows,
        "ledger_events": pair.living.events,
        "octets": pair.records.octets + pair.living.octets,
    })
}

fn shown(restored: &Restored) -> Value {
    let Compared { faults_found, .. } = restored.compared;
    let compared = &restored.compared;
    json!({
        "ok": compared.is_sound(),
        "region": restored.pair.records.head.region.to_string(),
        "file": restored.pair.records.file,
        "taken_at": restored.pair.records.head.taken_at.to_string(),
        "rows": restored.rows,
        "keys_erased": restored.erased,
        "ledger_events": restored.events,
        "tables_compared": compared.tables,
        "rows_compared": compared.rows,
        "chained": compared.chained,
        "receipts": compared.receipts,
        "recordings": compared.recordings,
        "chunks": compared.chunks,
        "same_in_region": compared.same_in_region,
        "deleted_since": compared.deleted_since,
        "faults": faults_found,
    })
}

/// How far it is, on a terminal that people look at.
struct Line {
    shown: bool,
    wanted: bool,
    last: Instant,
}

impl Line {
    const EVERY: Duration = Duration::from_millis(200);

    fn new(style: Style) -> Self {
        let wanted = !style.json && std::io::stderr().is_terminal();
        Self { shown: false, wanted, last: Instant::now() }
    }

    fn show(&mut self, progress: Progress<'_>) {
        if !self.wanted || self.last.elapsed() < Self::EVERY {
            return;
        }
        (self.last, self.shown) = (Instant::now(), true);
        let Progress { step, table, rows, octets } = progress;
        let megabytes = octets / 1_000_000;
        let _ = write!(std::io::stderr(), "\r{step} {table}: {rows} rows, {megabytes} MB\x1b[K");
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
