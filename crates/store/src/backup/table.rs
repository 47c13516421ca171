//! The tables as the database itself describes them, so that one that a later
//! migration adds is in the backup too; and which half of it a column goes to.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::stream::Part;
use crate::error::{Result, StoreError};
use crate::sql::{Row, Tx, Value, values};

/// What happened, and is kept because it did: the records, the log that proves
/// them, and the audits. Every other table is of what lives.
const RECORDS: &[&str] = &[
    "region_stamp",
    "call_key",
    "call",
    "call_leg",
    "call_chain",
    "recording",
    "recording_chunk",
    "receipt",
    "receipt_pending",
    "receipt_node",
    "receipt_log",
    "tree_head",
    "log_statement",
    "signing_key",
    "usage_of_deleted",
    "audit",
    "egress",
];

/// Columns of records that an erasure takes away: they live, and their rows are
/// restored with nothing in them where they do not any more. The filter leaves
/// out what is dead already, of a deleted recording above all.
const ERASABLE: &[(&str, &[&str], &str)] = &[
    (
        "call_key",
        &["wrapped"],
        "LENGTH(wrapped) > 0 AND NOT EXISTS (SELECT 1 FROM recording r \
         WHERE r.key_id = call_key.key_id AND r.deleted_at IS NOT NULL)",
    ),
    (
        "call",
        &["from_index", "to_index"],
        "EXISTS (SELECT 1 FROM call_key k WHERE k.key_id = call.key_id AND LENGTH(k.wrapped) > 0)",
    ),
];

/// How the schema came about; the restored one comes about anew.
const LEFT_OUT: &str = "schema_version";

/// About as many octets of rows are asked for at once.
const PAGE: usize = 1 << 20;
const MOST_ROWS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// The columns of its primary key.
    pub key: Vec<String>,
    pub references: BTreeSet<String>,
}

/// Some columns of a table that go together.
#[derive(Debug, Clone)]
pub struct Slice<'a> {
    pub table: &'a Table,
    pub columns: Vec<&'a (String, Kind)>,
    /// Its rows are made by the other half; this one fills in columns.
    pub fills_in: bool,
    filter: Option<&'static str>,
}

/// The sum of the rows' SHA-256 modulo 2^256, and how many there are: the same
/// in whatever order a database sorts them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub rows: u64,
    pub hash: [u8; 32],
}

impl Sum {
    pub fn add(&mut self, row: &[Cell]) {
        self.rows += 1;
        let octets = postcard::to_stdvec(row).unwrap_or_default();
        let hash = digest(&SHA256, &octets);
        let mut carry = 0;
        for (sum, octet) in self.hash.iter_mut().zip(hash.as_ref()) {
            let added = u16::from(*sum) + u16::from(*octet) + carry;
            (*sum, carry) = (added as u8, added >> 8);
        }
    }
}

impl Table {
    /// What of it goes into this part; `None` where nothing does.
    pub fn slice(&self, part: Part) -> Option<Slice<'_>> {
        let of_records = RECORDS.contains(&self.name.as_str());
        let erasable = ERASABLE.iter().find(|(table, ..)| *table == self.name);
        let erased = |name: &str| erasable.is_some_and(|(_, columns, _)| columns.contains(&name));
        let wanted = |(name, _): &&(String, Kind)| match (part, of_records) {
            (Part::Records, _) => !erased(name),
            (Part::Living, false) => true,
            (Part::Living, true) => erased(name) || self.key.contains(name),
        };
        let there = match part {
            Part::Records => of_records,
            Part::Living => !of_records || erasable.is_some(),
        };
        let fills_in = part == Part::Living && of_records;
        there.then(|| Slice {
            table: self,
            columns: self.columns.iter().filter(wanted).collect(),
            fills_in,
            filter: erasable.filter(|_| fills_in).map(|(.., filter)| *filter),
        })
    }

    /// Whether a record of what happened is beneath it, so that it can only be
    /// restored after the records.
    pub fn waits(&self, all: &[Table]) -> bool {
        self.references.iter().any(|name| {
            RECORDS.contains(&name.as_str())
                || all.iter().any(|it| it.name == *name && it.name != self.name && it.waits(all))
        })
    }

    pub fn kind(&self, name: &str) -> Kind {
        let column = self.columns.iter().find(|(known, _)| known == name);
        column.map_or(Kind::Text, |(_, kind)| *kind)
    }

    pub fn cell(&self, row: &Row, name: &str) -> Result<Cell> {
        cell(row, &(name.to_owned(), self.kind(name)))
    }

    /// Columns that the records' half cannot fill.
    pub fn left_empty(&self) -> impl Iterator<Item = &str> {
        let erasable = ERASABLE.iter().find(|(table, ..)| *table == self.name);
        erasable.into_iter().flat_map(|(_, columns, _)| columns.iter().copied())
    }
}

impl Slice<'_> {
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The rows after `last`, a page of them. The key may be no part of what is
    /// asked for, and says where to go on.
    async fn page(&self, tx: &mut Tx, last: &Option<Vec<Value>>, limit: usize) -> Result<Vec<Row>> {
        let key: Vec<&str> = self.table.key.iter().map(String::as_str).collect();
        rows_after(tx, &self.table.name, self.filter, &key, last, limit).await
    }

    /// Hands all rows to `take`, some at a time, and sums them up.
    pub async fn each(
        &self,
        tx: &mut Tx,
        mut take: impl FnMut(Vec<Vec<Cell>>) -> Result<()>,
    ) -> Result<Sum> {
        let (mut sum, mut last, mut limit) = (Sum::default(), None, 32);
        loop {
            let rows = self.page(tx, &last, limit).await?;
            let Some(end) = rows.last() else { return Ok(sum) };
            last = Some(self.key_of(end)?);
            let mut cells = Vec::with_capacity(rows.len());
            for row in &rows {
                let row: Vec<Cell> =
                    self.columns.iter().map(|column| cell(row, column)).collect::<Result<_>>()?;
                sum.add(&row);
                cells.push(row);
            }
            let octets: usize = cells.iter().flatten().map(Cell::octets).sum();
            let whole = rows.len() < limit;
            limit = (limit * PAGE / octets.max(1)).clamp(1, MOST_ROWS).min(limit * 2);
            take(cells)?;
            if whole {
                return Ok(sum);
            }
        }
    }

    fn key_of(&self, row: &Row) -> Result<Vec<Value>> {
        let column = |name: &String| self.table.columns.iter().find(|(known, _)| known == name);
        let value = |column: &(String, Kind)| Ok(cell(row, column)?.value(column.1));
        self.table.key.iter().filter_map(column).map(value).collect()
    }
}

/// Whole rows of a table that a condition holds for, in the order of a key and
/// after `last`.
pub async fn rows_after(
    tx: &mut Tx,
    table: &str,
    condition: Option<&str>,
    key: &[&str],
    last: &Option<Vec<Value>>,
    limit: usize,
) -> Result<Vec<Row>> {
    let order = key.join(", ");
    let after = last.as_ref().map(|_| format!("({order}) > ({})", places(key.len())));
    let conditions: Vec<&str> = condition.into_iter().chain(after.as_deref()).collect();
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", conditions.join(" AND ")),
    };
    let select = format!("SELECT * FROM {table} {filter} ORDER BY {order} LIMIT {limit}");
    tx.rows(AssertSqlSafe(select), last.clone().unwrap_or_default()).await
}

/// Placeholders for so many values.
pub fn places(count: usize) -> String {
    (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

impl Cell {
    pub fn value(self, kind: Kind) -> Value {
        match (self, kind) {
            (Self::Int(value), _) => Value::Int(Some(value)),
            (Self::Text(value), _) => Value::Text(Some(value)),
            (Self::Bytes(value), _) => Value::Bytes(Some(value)),
            (Self::Null, Kind::Int) => Value::Int(None),
            (Self::Null, Kind::Text) => Value::Text(None),
            (Self::Null, Kind::Bytes) => Value::Bytes(None),
        }
    }

    /// Whether a column of this kind can hold it.
    pub fn fits(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Int(_), Kind::Int)
                | (Self::Text(_), Kind::Text)
                | (Self::Bytes(_), Kind::Bytes)
        )
    }

    fn octets(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

fn cell(row: &Row, (name, kind): &(String, Kind)) -> Result<Cell> {
    Ok(match kind {
        Kind::Int => row.int_or_null(name)?.map_or(Cell::Null, Cell::Int),
        Kind::Text => row.text_or_null(name)?.map_or(Cell::Null, Cell::Text),
        Kind::Bytes => row.bytes_or_null(name)?.map_or(Cell::Null, Cell::Bytes),
    })
}

/// Every table, those that others refer to first.
pub async fn tables(tx: &mut Tx) -> Result<Vec<Table>> {
    let (columns, references) = match tx {
        Tx::Postgres(_) => (POSTGRES_COLUMNS, POSTGRES_REFERENCES),
        Tx::Sqlite(_) => (SQLITE_COLUMNS, SQLITE_REFERENCES),
    };
    let mut found: BTreeMap<String, (Table, Vec<(i64, String)>)> = BTreeMap::new();
    for row in tx.rows(columns, values![]).await? {
        let (name, column) = (row.text("table_name")?, row.text("column_name")?);
        let kind = kind_of(&name, &column, &row.text("kind")?)?;
        let (table, key) = found.entry(name.clone()).or_insert_with(|| {
            let (columns, references) = (Vec::new(), BTreeSet::new());
            (Table { name, columns, key: Vec::new(), references }, Vec::new())
        });
        match row.int("key_place")? {
            0 => {}
            place => key.push((place, column.clone())),
        }
        table.columns.push((column, kind));
    }
    for row in tx.rows(references, values![]).await? {
        if let Some((table, _)) = found.get_mut(&row.text("table_name")?) {
            table.references.insert(row.text("referenced")?);
        }
    }
    found.remove(LEFT_OUT);
    let mut tables = Vec::with_capacity(found.len());
    for (mut table, mut key) in found.into_values() {
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, name)| name).collect();
        if table.key.is_empty() {
            return Err(unfit(&table.name, "it has no primary key"));
        }
        tables.push(table);
    }
    Ok(ordered(tables))
}

fn ordered(mut left: Vec<Table>) -> Vec<Table> {
    let mut placed: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let there = |name: &String, own: &str| {
            name == own || placed.iter().any(|table| table.name == *name)
        };
        let next = left.iter().position(|it| it.references.iter().all(|r| there(r, &it.name)));
        // Tables that refer to each other in a circle would be refused by the
        // database itself while they are filled.
        placed.push(left.remove(next.unwrap_or(0)));
    }
    placed
}

fn kind_of(table: &str, column: &str, kind: &str) -> Result<Kind> {
    match kind.to_ascii_lowercase().as_str() {
        "bigint" => Ok(Kind::Int),
        "text" => Ok(Kind::Text),
        "bytea" | "blob" => Ok(Kind::Bytes),
        _ => Err(unfit(&format!("{table}.{column}"), &format!("it is of type {kind}"))),
    }
}

fn unfit(what: &str, problem: &str) -> StoreError {
    let problem = format!("{problem}, and cannot be backed up");
    StoreError::Column { column: what.to_owned(), problem }
}

const SQLITE_COLUMNS: &str = "SELECT m.name AS table_name, p.name AS column_name, \
    p.type AS kind, p.pk AS key_place FROM sqlite_master m JOIN pragma_table_info(m.name) p \
    WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY m.name, p.cid";

const SQLITE_REFERENCES: &str = "SELECT m.name AS table_name, f.\"table\" AS referenced \
    FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'";

const POSTGRES_COLUMNS: &str = "SELECT t.relname::text AS table_name, \
    a.attname::text AS column_name, format_type(a.atttypid, NULL) AS kind, \
    COALESCE(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint AS key_place \
    FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace \
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary \
    WHERE t.relkind = 'r' AND n.nspname = current_schema() ORDER BY t.relname, a.attnum";

const POSTGRES_REFERENCES: &str = "SELECT t.relname::text AS table_name, \
    f.relname::text AS referenced FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
    JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
    WHERE c.contype = 'f' AND n.nspname = current_schema()";
