use anyhow::{Result, bail};
use landline_store::{Store, ledger};
use serde_json::{Value, json};

use super::Place;
use crate::cli::LedgerVerb;
use crate::config::Config;
use crate::open;
use crate::output::{Style, Table, say};

pub async fn run(place: &Place, verb: LedgerVerb, style: Style) -> Result<String> {
    let LedgerVerb::Check = verb;
    let mut rows = Vec::new();
    for config in place.configs() {
        rows.push(check(config, &open::store(config).await?).await?);
    }
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row["region"].as_str()?, row["fault"].as_str()?)))
        .collect();
    let columns =
        ["region", "opened", "closed", "open", "chained", "journal_records", "set_aside", "ok"];
    let answer = Table::new(&columns, rows, "no regions").render(style);
    if faults.is_empty() {
        return Ok(answer);
    }
    say(&answer)?;
    bail!("{}", faults.join("\n"))
}

/// Holds the records against each other: every one is open or closed, every
/// closed one is in the chain unchanged, and the journal's files are whole.
async fn check(config: &Config, store: &Store) -> Result<Value> {
    let counts = store.call_counts().await?;
    let open = store.open_calls(None).await?.len() as u64;
    let (chained, mut fault) = match store.call_chain_verify().await {
        Ok(chain) => (Some(chain.calls), None),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => (None, Some(error.to_string())),
    };
    let dir = config.data_dir.join("ledger");
    let (journal, refused) = (ledger::inspect(&dir)?, ledger::inspect(&dir.join(ledger::REFUSED))?);
    // Calls close while we count: a chain longer than the count is none short.
    if chained.is_some_and(|chained| chained < counts.closed) {
        fault = Some("closed records are missing from the chain".to_owned());
    }
    if journal.damaged > 0 {
        fault = Some(format!("{} records of the journal are damaged", journal.damaged));
    }
    if refused.records > 0 {
        fault = Some(format!(
            "{} call events are set aside in {}: the database does not take them, or their call \
             was closed as lost before they came",
            refused.records,
            dir.join(ledger::REFUSED).display()
        ));
    }
    Ok(json!({
        "region": config.region.code.to_string(),
        "ok": fault.is_none(),
        "opened": counts.opened,
        "closed": counts.closed,
        "open": open,
        "chained": chained,
        "journal_records": journal.records,
        "journal_damaged": journal.damaged,
        "set_aside": refused.records,
        "fault": fault,
    }))
}
