//! Holding what was restored against the backup, against its own proofs, and
//! against the region that lives.

use sqlx::AssertSqlSafe;

use super::stream::Part;
use super::table::{Cell, Table, places, rows_after, tables};
use super::{Held, Pair, Progress, Tell};
use crate::error::Result;
use crate::sql::{Row, Tx, Value, values};
use crate::store::Store;

/// Faults that are told in words; the others are counted.
const TOLD: usize = 20;
/// Records that are compared at once.
const PAGE: usize = 500;

/// What was looked at, and what is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Read back and held against the backup, by count and content.
    pub tables: u64,
    pub rows: u64,
    /// Records in the chain, recomputed.
    pub chained: u64,
    /// Receipts with their signature, place in the log and rows.
    pub receipts: u64,
    pub recordings: u64,
    pub chunks: u64,
    /// Records, receipts and chunks held against the living region.
    pub same_in_region: u64,
    /// Those that the region has deleted since, and states so.
    pub deleted_since: u64,
    pub faults: Vec<String>,
    pub faults_found: u64,
}

impl Compared {
    pub fn is_sound(&self) -> bool {
        self.faults_found == 0
    }

    fn fault(&mut self, problem: String) {
        self.faults_found += 1;
        if self.faults.len() < TOLD {
            self.faults.push(problem);
        }
    }
}

/// Reads every table back and sums it up again.
pub async fn with_backup(
    tx: &mut Tx,
    tables: &[Table],
    pair: &Pair,
    tell: Tell<'_>,
) -> Result<Compared> {
    let mut compared = Compared::default();
    let records = pair.records.tables.iter().map(|held| (Part::Records, held));
    let living = pair.living.tables.iter().map(|held| (Part::Living, held));
    for (part, held) in records.chain(living) {
        let table = tables.iter().find(|table| table.name == held.table);
        let Some(mut slice) = table.and_then(|table| table.slice(part)) else {
            compared.fault(format!("table {} is not there", held.table));
            continue;
        };
        if slice.fills_in && !pair.is_of_one_moment() {
            // Keys of records that are in a later backup, or in none any more.
            continue;
        }
        slice.columns.retain(|(name, _)| held.columns.contains(name));
        let mut rows = compared.rows;
        let sum = slice
            .each(tx, |page| {
                rows += page.len() as u64;
                tell(Progress { step: "compare", table: &held.table, rows, octets: 0 });
                Ok(())
            })
            .await?;
        compared.rows = rows;
        compared.tables += 1;
        if sum != held.sum {
            compared.fault(differs(held, sum.rows));
        }
    }
    Ok(compared)
}

fn differs(held: &Held, found: u64) -> String {
    let Held { table, sum, .. } = held;
    match sum.rows == found {
        true => format!("table {table}: of its {found} rows some are not as they were"),
        false => format!("table {table}: {found} rows, and there were {}", sum.rows),
    }
}

/// The chain of records, receipts, the log and recordings, by their own hashes
/// and signatures.
pub async fn prove(store: &Store, compared: &mut Compared) -> Result<()> {
    match store.call_chain_verify().await {
        Ok(chain) => compared.chained = chain.calls,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => compared.fault(error.to_string()),
    }
    let checked = store.residency_check(&[]).await?;
    compared.receipts = checked.receipts;
    compared.recordings = checked.recordings;
    compared.chunks = checked.chunks;
    for fault in &checked.faults {
        compared.fault(format!("{}: {}", fault.at, fault.problem));
    }
    Ok(())
}

/// Rows that do not change any more once they are written.
struct Settled {
    table: &'static str,
    condition: &'static str,
    /// Its primary key.
    key: &'static [&'static str],
    compared: &'static [&'static str],
    /// Where a deletion of it would be stated.
    deletion: &'static str,
}

const SETTLED: [Settled; 3] = [
    Settled {
        table: "call",
        condition: "closed_at IS NOT NULL",
        key: &["sid"],
        compared: &["hash"],
        deletion: "kind = 'record' AND subject = $1",
    },
    Settled {
        table: "receipt",
        condition: "log_index >= 0",
        key: &["log_index"],
        compared: &["call", "body", "key_id", "signature"],
        deletion: "log_index < 0",
    },
    Settled {
        table: "recording_chunk",
        condition: "sequence >= 0",
        key: &["recording", "sequence"],
        compared: &["hash"],
        deletion: "kind = 'recording' AND subject = $1",
    },
];

/// Holds each settled record of the restored copy against the region itself.
pub async fn with_region(copy: &Store, region: &Store, compared: &mut Compared) -> Result<()> {
    let (mut restored, mut living) =
        (copy.database().snapshot().await?, region.database().snapshot().await?);
    let known = tables(&mut restored).await?;
    for Settled { table: name, condition, key, compared: columns, deletion } in SETTLED {
        let Some(table) = known.iter().find(|table| table.name == name) else { continue };
        let mut last: Option<Vec<Value>> = None;
        loop {
            let limit = if name == "recording_chunk" { PAGE / 20 } else { PAGE };
            let page = rows_after(&mut restored, name, Some(condition), key, &last, limit).await?;
            let Some(end) = page.last() else { break };
            last = Some(values_of(end, key, table)?);
            for row in &page {
                let at = values_of(row, key, table)?;
                let found = row_at(&mut living, name, key, at.clone()).await?;
                let Some(found) = found else {
                    let first = at.into_iter().take(1).collect();
                    match is_stated(&mut living, deletion, first).await? {
                        true => compared.deleted_since += 1,
                        false => compared.fault(format!(
                            "{name} {}: not in the region, and no deletion is stated",
                            shown(row, key, table)
                        )),
                    }
                    continue;
                };
                match same(row, &found, columns, table)? {
                    true => compared.same_in_region += 1,
                    false => compared.fault(format!(
                        "{name} {}: the region has another",
                        shown(row, key, table)
                    )),
                }
            }
        }
    }
    Ok(())
}

async fn row_at(tx: &mut Tx, table: &str, key: &[&str], at: Vec<Value>) -> Result<Option<Row>> {
    let select =
        format!("SELECT * FROM {table} WHERE ({}) = ({})", key.join(", "), places(key.len()));
    tx.row(AssertSqlSafe(select), at).await
}

/// The deletion of a recording states that of its chunks.
async fn is_stated(tx: &mut Tx, deletion: &str, subject: Vec<Value>) -> Result<bool> {
    let select = format!("SELECT log_index FROM log_statement WHERE {deletion} LIMIT 1");
    let subject = if deletion.contains("$1") { subject } else { values![] };
    Ok(tx.row(AssertSqlSafe(select), subject).await?.is_some())
}

fn values_of(row: &Row, names: &[&str], table: &Table) -> Result<Vec<Value>> {
    names.iter().map(|name| Ok(table.cell(row, name)?.value(table.kind(name)))).collect()
}

fn same(one: &Row, other: &Row, columns: &[&str], table: &Table) -> Result<bool> {
    for column in columns {
        if table.cell(one, column)? != table.cell(other, column)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sids and numbers of entries are no personal data.
fn shown(row: &Row, key: &[&str], table: &Table) -> String {
    let text = |name: &&str| match table.cell(row, name) {
        Ok(Cell::Text(text)) => Some(text),
        Ok(Cell::Int(number)) => Some(number.to_string()),
        _ => None,
    };
    key.iter().filter_map(text).collect::<Vec<_>>().join(" ")
}
