//! Bringing a backup into an empty database of its region, whole or not at all.

use std::path::Path;

use super::compare::{self, Compared};
use super::stream::{Block, Part, Reader};
use super::table::{Cell, Kind, Table, tables};
use super::{Pair, Progress, Tell, verify};
use crate::error::{Result, StoreError};
use crate::event;
use crate::keys::KeyRing;
use crate::schema;
use crate::sql::{Database, Tx, Value, values};
use crate::store::{Store, StoreConfig};

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    pub pair: Pair,
    pub rows: u64,
    /// Keys that the living part does not hold any more: what they sealed was
    /// erased, and is dead here too.
    pub erased: u64,
    /// Events of the ledger that were brought in.
    pub events: u64,
    pub compared: Compared,
}

/// Restores into the configuration's database, which must be empty, then reads
/// everything back and compares it. `file` is the records'.
pub async fn restore(config: &StoreConfig, file: &Path, tell: Tell<'_>) -> Result<Restored> {
    let keys = KeyRing::open(&config.key_ring, config.region)?;
    // Before anything is changed.
    let pair = verify(config, file, tell)?;
    let database = Database::connect(&config.url).await?;
    let restored = fill(&database, config, &keys, &pair, tell).await;
    database.close().await;
    let (rows, erased, mut compared) = restored?;
    let store = Store::open(config).await?;
    let ended = bring_events(&store, &pair, &keys).await;
    let checked = match ended {
        Ok(events) => compare::prove(&store, &mut compared).await.map(|()| events),
        Err(error) => Err(error),
    };
    store.close().await;
    Ok(Restored { events: checked?, pair, rows, erased, compared })
}

async fn fill(
    database: &Database,
    config: &StoreConfig,
    keys: &KeyRing,
    pair: &Pair,
    tell: Tell<'_>,
) -> Result<(u64, u64, Compared)> {
    let mut tx = database.begin().await?;
    // Records of a former schema are taken by a later one: what was added to
    // it since has its defaults.
    schema::create_at(&mut tx, config, keys, pair.living.head.schema).await?;
    let tables = tables(&mut tx).await?;
    // The migrations enter rows of their own.
    for table in tables.iter().rev() {
        tx.script(format!("DELETE FROM {}", table.name)).await?;
    }
    let mut filling = Filling { tx: &mut tx, tables: &tables, rows: 0, tell };
    for pass in [Pass::Beneath, Pass::Records, Pass::Above] {
        filling.pass(pass, pair, keys).await?;
    }
    let rows = filling.rows;
    let erased = "SELECT COUNT(*) AS erased FROM call_key WHERE LENGTH(wrapped) = 0";
    let erased = tx.row(erased, values![]).await?.map_or(Ok(0), |row| row.unsigned("erased"))?;
    let compared = compare::with_backup(&mut tx, &tables, pair, tell).await?;
    if let Some(fault) = compared.faults.first() {
        return Err(StoreError::file(&pair.records.file, format!("not restored: {fault}")));
    }
    tx.commit().await?;
    Ok((rows, erased, compared))
}

/// In this order, as rows refer to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// What lives, and records refer to: accounts above all.
    Beneath,
    Records,
    /// What lives and refers to records, and what is filled into those.
    Above,
}

struct Filling<'a, 'b> {
    tx: &'a mut Tx,
    tables: &'a [Table],
    rows: u64,
    tell: &'a mut (dyn FnMut(Progress<'_>) + Send + 'b),
}

impl Filling<'_, '_> {
    async fn pass(&mut self, pass: Pass, pair: &Pair, keys: &KeyRing) -> Result<()> {
        let file = if pass == Pass::Records { &pair.records.file } else { &pair.living.file };
        let mut reader = Reader::open(file, keys)?;
        let mut target: Option<Target<'_>> = None;
        loop {
            match reader.next()? {
                Block::Table { name, columns } => {
                    let table = self.tables.iter().find(|it| it.name == name);
                    let made = table.and_then(|it| Target::new(it, reader.head().part, &columns));
                    let made =
                        made.ok_or_else(|| reader.fault("its table is none of the schema"))?;
                    let above = made.fills_in || made.table.waits(self.tables);
                    target = match pass {
                        Pass::Records => Some(made),
                        Pass::Beneath => (!above).then_some(made),
                        Pass::Above => above.then_some(made),
                    };
                }
                Block::Rows(rows) => {
                    let Some(target) = &target else { continue };
                    self.rows += rows.len() as u64;
                    target.put(self.tx, rows, &reader).await?;
                    let (table, (octets, _)) = (&target.table.name, reader.progress());
                    (self.tell)(Progress { step: "restore", table, rows: self.rows, octets });
                }
                Block::TableEnd(_) => target = None,
                Block::Events(_) => {}
                Block::End { .. } => return Ok(()),
            }
        }
    }
}

/// A table of the empty database, and the columns that come.
struct Target<'a> {
    table: &'a Table,
    columns: Vec<&'a (String, Kind)>,
    fills_in: bool,
}

impl<'a> Target<'a> {
    fn new(table: &'a Table, part: Part, names: &[String]) -> Option<Self> {
        let slice = table.slice(part)?;
        let column = |name: &String| slice.columns.iter().find(|(known, _)| known == name).copied();
        let columns = names.iter().map(column).collect::<Option<_>>()?;
        Some(Self { table, columns, fills_in: slice.fills_in })
    }

    async fn put(&self, tx: &mut Tx, rows: Vec<Vec<Cell>>, reader: &Reader) -> Result<()> {
        let empty: Vec<&str> = match self.fills_in {
            true => Vec::new(),
            false => self.table.left_empty().collect(),
        };
        let mut names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let mut filled = Vec::with_capacity(rows.len());
        for row in rows {
            let fits = row.len() == self.columns.len()
                && row.iter().zip(&self.columns).all(|(cell, column)| cell.fits(column.1));
            if !fits {
                return Err(reader.fault("a row does not fit its table"));
            }
            let cells = row.into_iter().zip(&self.columns);
            let mut values: Vec<Value> = cells.map(|(cell, column)| cell.value(column.1)).collect();
            values.extend(empty.iter().map(|_| Value::Bytes(Some(Vec::new()))));
            filled.push(values);
        }
        if self.fills_in {
            // Found by the primary key, which has to come first.
            let order = self.key_first();
            names = order.iter().filter_map(|&at| names.get(at).copied()).collect();
            let sorted =
                |row: Vec<Value>| order.iter().filter_map(|&at| row.get(at).cloned()).collect();
            let filled = filled.into_iter().map(sorted).collect();
            let keys = self.table.key.len();
            return tx.update_many(&self.table.name, keys, &names, filled).await.map(drop);
        }
        names.extend(empty);
        tx.insert_many(&self.table.name, &names, "", filled).await.map(drop)
    }

    fn key_first(&self) -> Vec<usize> {
        let is_key =
            |&at: &usize| self.columns.get(at).is_some_and(|it| self.table.key.contains(&it.0));
        let (keys, others): (Vec<usize>, Vec<usize>) = (0..self.columns.len()).partition(is_key);
        [keys, others].concat()
    }
}

/// Brings in what the ledger held; what the snapshot has already is known.
async fn bring_events(store: &Store, pair: &Pair, keys: &KeyRing) -> Result<u64> {
    let mut reader = Reader::open(&pair.living.file, keys)?;
    let mut brought = 0;
    loop {
        match reader.next()? {
            Block::Events(events) => {
                let decoded: Vec<_> =
                    events.iter().filter_map(|it| event::decode(it).ok()).collect();
                brought += store.apply_events(&decoded).await?.applied as u64;
            }
            Block::End { .. } => return Ok(brought),
            _ => {}
        }
    }
}
