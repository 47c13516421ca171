//! PostgreSQL and SQLite behind one set of statements.
//!
//! Both take `$n` placeholders, and the schema keeps to integers, text and
//! octets, so a statement is written once. Batches are one statement over
//! `UNNEST`ed arrays on PostgreSQL and a loop inside the transaction on SQLite.

mod hosts;

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use landline_region::UnixMillis;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr};

use crate::error::{Result, StoreError};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without an answer a server counts as gone: a machine that
/// lost its power closes no connection, and the kernel tries for a quarter of
/// an hour.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
const POSTGRES_CONNECTIONS: u32 = 8;
const SQLITE_READERS: u32 = 4;

#[derive(Clone)]
pub enum Database {
    Postgres(PgPool),
    /// SQLite has one writer at a time; waiting for it in a pool of one is
    /// fairer than its busy handler.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
}

pub enum Tx {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

/// What is bound to a placeholder. The variant gives the column's type also
/// where the value is absent.
#[derive(Debug, Clone)]
pub enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// For [`Database::among`].
    List(Vec<String>),
}

/// Binds each of its arguments by `Value::from`.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use values;

impl Database {
    pub async fn connect(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" => Self::connect_postgres(url).await,
            "sqlite" => Self::connect_sqlite(url).await,
            _ => Err(StoreError::Url {
                url: shown(url),
                problem: "wanted `sqlite:PATH` or `postgres://USER@HOST/DATABASE`".to_owned(),
            }),
        }
    }

    async fn connect_postgres(url: &str) -> Result<Self> {
        let hosts =
            hosts::hosts(url).map_err(|problem| StoreError::Url { url: shown(url), problem })?;
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = hosts::connect(pool, hosts)
            .await
            .map_err(|source| StoreError::Connect { database: shown(url), source })?;
        Ok(Self::Postgres(pool))
    }

    async fn connect_sqlite(url: &str) -> Result<Self> {
        let bad = |problem: String| StoreError::Url { url: shown(url), problem };
        let options =
            SqliteConnectOptions::from_str(url).map_err(|error| bad(error.to_string()))?;
        if options.get_filename().to_string_lossy().starts_with("file:sqlx-in-memory") {
            return Err(bad("an in-memory database keeps nothing; name a file".to_owned()));
        }
        create_private(options.get_filename())?;
        // FULL: a commit is on disk when it returns, which is what we promise
        // of a binding or a shipped event.
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .foreign_keys(true);
        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(|source| StoreError::Connect { database: shown(url), source })?;
        // Readers connect when they are needed, which is after the migrations:
        // one that knew the schema from before would take a new column for
        // none, and sqlx panics at a row that has more columns than prepared.
        Ok(Self::Sqlite { writer, readers: pool(SQLITE_READERS).connect_lazy_with(options) })
    }

    /// A transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// A transaction that reads all of its rows as of one moment, beside those
    /// that write.
    pub async fn snapshot(&self) -> Result<Tx> {
        let mut tx = match self {
            Self::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Tx::Postgres(pool.begin_with(begin).await?)
            }
            Self::Sqlite { readers, .. } => Tx::Sqlite(readers.begin().await?),
        };
        // The moment is that of the first statement that reads.
        tx.rows("SELECT id FROM region_stamp", Vec::new()).await?;
        Ok(tx)
    }

    pub async fn rows(&self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Postgres(pool) => {
                let rows = in_time(postgres(sql, values).fetch_all(pool)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Self::Sqlite { readers, .. } => {
                let rows = sqlite(sql, values).fetch_all(readers).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    pub async fn row(&self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// One statement that changes something, in a transaction of its own; how
    /// many rows it changed.
    pub async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        let mut tx = self.begin().await?;
        let changed = tx.execute(sql, values).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// `COLUMN among the texts of placeholder N`, which is bound to a list.
    pub fn among(&self, column: &str, placeholder: u32) -> String {
        match self {
            Self::Postgres(_) => format!("{column} = ANY(${placeholder})"),
            Self::Sqlite { .. } => {
                format!("{column} IN (SELECT value FROM json_each(${placeholder}))")
            }
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

impl Tx {
    /// How many rows it changed.
    pub async fn execute(&mut self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<u64> {
        Ok(match self {
            Self::Postgres(tx) => {
                in_time(postgres(sql, values).execute(&mut **tx)).await?.rows_affected()
            }
            Self::Sqlite(tx) => sqlite(sql, values).execute(&mut **tx).await?.rows_affected(),
        })
    }

    pub async fn rows(&mut self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Postgres(tx) => {
                let rows = in_time(postgres(sql, values).fetch_all(&mut **tx)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Self::Sqlite(tx) => {
                let rows = sqlite(sql, values).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    pub async fn row(&mut self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Several statements without placeholders.
    pub async fn script(&mut self, sql: String) -> Result<()> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Postgres(tx) => script.execute(&mut **tx).await.map(drop)?,
            Self::Sqlite(tx) => script.execute(&mut **tx).await.map(drop)?,
        }
        Ok(())
    }

    /// Inserts rows; `on_conflict` is the statement's end, or empty.
    pub async fn insert_many(
        &mut self,
        table: &str,
        columns: &[&str],
        on_conflict: &'static str,
        rows: Vec<Vec<Value>>,
    ) -> Result<u64> {
        let names = columns.join(", ");
        match self {
            Self::Postgres(_) => {
                let Some(arrays) = Arrays::transpose(rows, columns.len()) else { return Ok(0) };
                let sql = format!(
                    "INSERT INTO {table} ({names}) SELECT * FROM UNNEST({}) {on_conflict}",
                    arrays.placeholders()
                );
                self.execute_arrays(sql, arrays).await
            }
            Self::Sqlite(_) => {
                let statement = |rows: usize| {
                    let row = |n| {
                        format!("({})", numbered(n * columns.len() + 1..=(n + 1) * columns.len()))
                    };
                    let values: Vec<String> = (0..rows).map(row).collect();
                    format!(
                        "INSERT INTO {table} ({names}) VALUES {} {on_conflict}",
                        values.join(", ")
                    )
                };
                self.execute_together(statement, rows).await
            }
        }
    }

    /// Updates rows found by the first `keys` of the columns.
    pub async fn update_many(
        &mut self,
        table: &str,
        keys: usize,
        columns: &[&str],
        rows: Vec<Vec<Value>>,
    ) -> Result<u64> {
        let (key_columns, set_columns) = columns.split_at(keys);
        match self {
            Self::Postgres(_) => {
                let Some(arrays) = Arrays::transpose(rows, columns.len()) else { return Ok(0) };
                let set = join(set_columns, ", ", |_, c| format!("{c} = u.{c}"));
                let found = join(key_columns, " AND ", |_, c| format!("t.{c} = u.{c}"));
                let sql = format!(
                    "UPDATE {table} AS t SET {set} FROM UNNEST({}) AS u({}) WHERE {found}",
                    arrays.placeholders(),
                    columns.join(", ")
                );
                self.execute_arrays(sql, arrays).await
            }
            Self::Sqlite(_) => {
                let set = join(set_columns, ", ", |i, c| format!("{c} = ${}", keys + i + 1));
                let found = join(key_columns, " AND ", |i, c| format!("{c} = ${}", i + 1));
                let sql = format!("UPDATE {table} SET {set} WHERE {found}");
                self.execute_each(sql, rows).await
            }
        }
    }

    /// Deletes rows found by the columns.
    pub async fn delete_many(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        rows: Vec<Vec<Value>>,
    ) -> Result<u64> {
        match self {
            Self::Postgres(_) => {
                let Some(arrays) = Arrays::transpose(rows, columns.len()) else { return Ok(0) };
                let found = join(columns, " AND ", |_, c| format!("t.{c} = u.{c}"));
                let sql = format!(
                    "DELETE FROM {table} AS t USING UNNEST({}) AS u({}) WHERE {found}",
                    arrays.placeholders(),
                    columns.join(", ")
                );
                self.execute_arrays(sql, arrays).await
            }
            Self::Sqlite(_) => {
                let found = join(columns, " AND ", |i, c| format!("{c} = ${}", i + 1));
                self.execute_each(format!("DELETE FROM {table} WHERE {found}"), rows).await
            }
        }
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Postgres(tx) => in_time(tx.commit()).await?,
            Self::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Each statement is a trip to the connection's thread and back, which costs
    /// more than a row does: rows go together, in few sizes, so that statements
    /// are prepared once.
    async fn execute_together(
        &mut self,
        statement: impl Fn(usize) -> String,
        rows: Vec<Vec<Value>>,
    ) -> Result<u64> {
        let Self::Sqlite(tx) = self else { return Ok(0) };
        let mut rows = rows.into_iter();
        let mut changed = 0;
        for size in [64, 16, 4, 1] {
            if rows.len() < size {
                continue;
            }
            let sql = AssertSqlSafe(statement(size)).into_sql_str();
            while rows.len() >= size {
                let values = rows.by_ref().take(size).flatten().collect();
                let done = sqlite(sql.clone(), values).execute(&mut **tx).await?;
                changed += done.rows_affected();
            }
        }
        Ok(changed)
    }

    async fn execute_each(&mut self, sql: String, rows: Vec<Vec<Value>>) -> Result<u64> {
        let Self::Sqlite(tx) = self else { return Ok(0) };
        let sql = AssertSqlSafe(sql).into_sql_str();
        let mut changed = 0;
        for row in rows {
            changed += sqlite(sql.clone(), row).execute(&mut **tx).await?.rows_affected();
        }
        Ok(changed)
    }

    async fn execute_arrays(&mut self, sql: String, arrays: Arrays) -> Result<u64> {
        let Self::Postgres(tx) = self else { return Ok(0) };
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for array in arrays.0 {
            query = match array {
                Array::Int(values) => query.bind(values),
                Array::Text(values) => query.bind(values),
                Array::Bytes(values) => query.bind(values),
            };
        }
        Ok(in_time(query.execute(&mut **tx)).await?.rows_affected())
    }
}

/// What a server that is gone does not answer is an error that may pass.
async fn in_time<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Rows turned into one array per column.
struct Arrays(Vec<Array>);

enum Array {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Arrays {
    /// `None` where there are no rows.
    fn transpose(rows: Vec<Vec<Value>>, columns: usize) -> Option<Self> {
        let mut arrays: Vec<Array> = rows
            .first()?
            .iter()
            .map(|value| match value {
                Value::Int(_) => Array::Int(Vec::with_capacity(rows.len())),
                Value::Text(_) | Value::List(_) => Array::Text(Vec::with_capacity(rows.len())),
                Value::Bytes(_) => Array::Bytes(Vec::with_capacity(rows.len())),
            })
            .collect();
        debug_assert_eq!(arrays.len(), columns);
        for value_and_array in rows.into_iter().flat_map(|row| row.into_iter().enumerate()) {
            match (value_and_array.1, &mut arrays[value_and_array.0]) {
                (Value::Int(value), Array::Int(array)) => array.push(value),
                (Value::Text(value), Array::Text(array)) => array.push(value),
                (Value::Bytes(value), Array::Bytes(array)) => array.push(value),
                _ => debug_assert!(false, "a column changes its type within a batch"),
            }
        }
        Some(Self(arrays))
    }

    fn placeholders(&self) -> String {
        join(&self.0, ", ", |i, array| {
            let kind = match array {
                Array::Int(_) => "bigint",
                Array::Text(_) => "text",
                Array::Bytes(_) => "bytea",
            };
            format!("${}::{kind}[]", i + 1)
        })
    }
}

fn join<T>(items: &[T], separator: &str, show: impl Fn(usize, &T) -> String) -> String {
    items.iter().enumerate().map(|(i, item)| show(i, item)).collect::<Vec<_>>().join(separator)
}

fn numbered(placeholders: impl Iterator<Item = usize>) -> String {
    let mut text = String::new();
    for n in placeholders {
        let _ = write!(text, "{}${n}", if text.is_empty() { "" } else { ", " });
    }
    text
}

type Query<DB> = sqlx::query::Query<'static, DB, <DB as sqlx::Database>::Arguments>;

fn postgres(sql: impl SqlSafeStr, values: Vec<Value>) -> Query<sqlx::Postgres> {
    values.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::List(values) => query.bind(values),
    })
}

fn sqlite(sql: impl SqlSafeStr, values: Vec<Value>) -> Query<sqlx::Sqlite> {
    values.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::List(values) => query.bind(serde_json::json!(values).to_string()),
    })
}

pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

macro_rules! column {
    ($row:expr, $name:expr) => {
        match $row {
            Row::Postgres(row) => row.try_get_unchecked($name),
            Row::Sqlite(row) => row.try_get_unchecked($name),
        }
        .map_err(|error: sqlx::Error| bad_column($name, error))
    };
}

impl Row {
    pub fn int(&self, name: &str) -> Result<i64> {
        column!(self, name)
    }

    pub fn int_or_null(&self, name: &str) -> Result<Option<i64>> {
        column!(self, name)
    }

    pub fn text(&self, name: &str) -> Result<String> {
        column!(self, name)
    }

    pub fn text_or_null(&self, name: &str) -> Result<Option<String>> {
        column!(self, name)
    }

    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        column!(self, name)
    }

    pub fn bytes_or_null(&self, name: &str) -> Result<Option<Vec<u8>>> {
        column!(self, name)
    }

    /// A column that holds the text of a sid, region or name.
    pub fn parse<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().map_err(|error: T::Err| bad_column(name, error))
    }

    pub fn parse_or_null<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<Option<T>> {
        let text = self.text_or_null(name)?;
        text.map(|text| text.parse().map_err(|error: T::Err| bad_column(name, error))).transpose()
    }

    pub fn time(&self, name: &str) -> Result<UnixMillis> {
        self.int(name).map(UnixMillis)
    }

    pub fn time_or_null(&self, name: &str) -> Result<Option<UnixMillis>> {
        Ok(self.int_or_null(name)?.map(UnixMillis))
    }

    /// A count or size, never negative.
    pub fn unsigned(&self, name: &str) -> Result<u64> {
        u64::try_from(self.int(name)?).map_err(|error| bad_column(name, error))
    }
}

fn bad_column(name: &str, problem: impl ToString) -> StoreError {
    StoreError::Column { column: name.to_owned(), problem: problem.to_string() }
}

macro_rules! value_from {
    ($variant:ident: $($type:ty => $convert:expr),+ $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(Some($convert(value)))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map($convert))
            }
        }
    )+};
}

value_from!(Int: i64 => |v| v, UnixMillis => |v: UnixMillis| v.0, u16 => i64::from, u32 => i64::from,
    u64 => |v: u64| i64::try_from(v).unwrap_or(i64::MAX), bool => i64::from);
value_from!(Text: String => |v| v, &str => str::to_owned,
    landline_region::AccountSid => |v: landline_region::AccountSid| v.to_string(),
    landline_region::UserSid => |v: landline_region::UserSid| v.to_string(),
    landline_region::TrunkSid => |v: landline_region::TrunkSid| v.to_string(),
    landline_region::SoundSid => |v: landline_region::SoundSid| v.to_string(),
    landline_region::CallSid => |v: landline_region::CallSid| v.to_string(),
    landline_region::JoinToken => |v: landline_region::JoinToken| v.to_string(),
    landline_region::LegSid => |v: landline_region::LegSid| v.to_string(),
    landline_region::RecordingSid => |v: landline_region::RecordingSid| v.to_string(),
    landline_region::VoicemailSid => |v: landline_region::VoicemailSid| v.to_string(),
    landline_region::WebhookSid => |v: landline_region::WebhookSid| v.to_string(),
    landline_region::EventSid => |v: landline_region::EventSid| v.to_string(),
    landline_region::RegionCode => |v: landline_region::RegionCode| v.to_string());
value_from!(Bytes: Vec<u8> => |v| v, [u8; 32] => |v: [u8; 32]| v.to_vec());

impl From<Vec<String>> for Value {
    fn from(values: Vec<String>) -> Self {
        Self::List(values)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            sqlx::Error::Database(cause) if cause.code().is_some_and(|c| passes(&c)) => {
                Self::Unavailable(error)
            }
            _ => Self::Database(error),
        }
    }
}

/// Whether an SQLSTATE class or an SQLite result code speaks of a condition
/// that may pass: connection, resources, operator intervention, serialization;
/// busy, locked, I/O error, disk full.
fn passes(code: &str) -> bool {
    if code.len() == 5 {
        // A replica that is not promoted yet, or a primary that an operator made
        // read-only: read_only_sql_transaction.
        return code == "25006"
            || ["08", "53", "57", "58", "40", "55"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
}

/// A URL without its password.
pub fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(at)) if start + 3 <= at => {
            let user = url[start + 3..at].split(':').next().unwrap_or_default();
            format!("{}://{user}@{}", &url[..start], url[at + 1..].split('?').next().unwrap_or(""))
        }
        _ => url.to_owned(),
    }
}

/// Personal data is sealed, but who may read traffic data is the owner's alone.
fn create_private(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    // SQLite makes its log's name durable, and takes ours for older.
    match options.open(path).and_then(|_| crate::file::sync_parent(path)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::file(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(shown("postgres://ann:pw@db:5432/ie1?x=pw"), "postgres://ann@db:5432/ie1");
        assert_eq!(shown("sqlite:/var/lib/ie1.db"), "sqlite:/var/lib/ie1.db");
    }
}
