//! Making a backup beside the processes that write: one snapshot of the
//! database, and what of the ledger is not in it yet.

use std::path::{Path, PathBuf};

use landline_region::UnixMillis;

use super::place;
use super::stream::{Block, Head, Part, Writer};
use super::table::{Table, tables};
use super::{Progress, Tell};
use crate::error::Result;
use crate::ledger;
use crate::sql::{Tx, values};
use crate::store::{Store, now};

/// Events in one block.
const EVENTS: usize = 500;

/// A backup that lies where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub records: PathBuf,
    pub living: PathBuf,
    pub taken_at: UnixMillis,
    /// Of both files.
    pub octets: u64,
    pub rows: u64,
    pub tables: u64,
    /// Of the ledger, that the database did not have yet.
    pub events: u64,
}

impl Store {
    /// Writes a backup into the directory, which must be this region's. The
    /// ledger is that of this machine; there may be none.
    pub async fn backup(
        &self,
        dir: &Path,
        host: Option<&str>,
        ledger: &Path,
        tell: Tell<'_>,
    ) -> Result<Made> {
        place::claim(dir, self.gate(), host)?;
        // Before the snapshot: what is shipped meanwhile is in both, and known
        // by its numbers.
        let events = ledger::unshipped(ledger, self.keys())?;
        let mut tx = self.database().snapshot().await?;
        let schema =
            tx.row("SELECT MAX(version) AS version FROM schema_version", values![]).await?;
        let schema = schema.map_or(Ok(0), |row| row.int("version"))?;
        let (tables, taken_at) = (tables(&mut tx).await?, now());
        let records = place::records_in(dir, self.region(), taken_at);
        let living = place::living_of(&records, self.region());
        let head = |part| Head::new(part, self.keys(), schema, taken_at);
        let mut made = Made {
            records: records.clone(),
            living: living.clone(),
            taken_at,
            octets: 0,
            rows: 0,
            tables: tables.len() as u64,
            events: events.len() as u64,
        };

        let mut out = Writer::create(&living, &head(Part::Living), self.keys())?;
        let mut rows = write_tables(&mut out, &mut tx, &tables, Part::Living, tell).await?;
        for some in events.chunks(EVENTS) {
            out.put(&Block::Events(some.to_vec()))?;
        }
        out.put(&Block::End { rows })?;
        let living = out.finish()?;
        made.rows += rows;

        let mut out = Writer::create(&records, &head(Part::Records), self.keys())?;
        rows = write_tables(&mut out, &mut tx, &tables, Part::Records, tell).await?;
        out.put(&Block::End { rows })?;
        let records = out.finish()?;
        made.rows += rows;
        made.octets = living.octets + records.octets;
        // In this order: records never lie there without the keys to them, and
        // older records are served by a later living part.
        living.publish()?;
        records.publish()?;
        Ok(made)
    }
}

async fn write_tables(
    out: &mut Writer,
    tx: &mut Tx,
    tables: &[Table],
    part: Part,
    tell: Tell<'_>,
) -> Result<u64> {
    let (mut written, mut octets) = (0, 0);
    for slice in tables.iter().filter_map(|table| table.slice(part)) {
        let columns = slice.names().into_iter().map(str::to_owned).collect();
        let name = slice.table.name.clone();
        out.put(&Block::Table { name, columns })?;
        let sum = slice
            .each(tx, |rows| {
                written += rows.len() as u64;
                out.put(&Block::Rows(rows))?;
                octets = out.octets();
                let table = &slice.table.name;
                tell(Progress { step: "write", table, rows: written, octets });
                Ok(())
            })
            .await?;
        out.put(&Block::TableEnd(sum))?;
    }
    Ok(written)
}
