//! Whatever is changed behind the region's back is found: each column of one
//! row of each table, each row, each two that change places.

mod common;

use common::receipts::{NEVER, checked, closed, recorded, recording, sid};
use landline_call::tenancy::Account;
use landline_region::LegSid;
use landline_region::receipt::DeletionReason;
use landline_store::DeletedBy;

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// All that a receipt speaks of or stands on.
const TABLES: &[&str] = &[
    "call",
    "call_leg",
    "call_key",
    "call_chain",
    "recording",
    "recording_chunk",
    "receipt",
    "receipt_node",
    "receipt_log",
    "receipt_pending",
    "log_statement",
    "signing_key",
    "tree_head",
];

/// A connection that heeds no foreign key, as somebody's with all rights.
enum Hand {
    Postgres(sqlx::PgConnection),
    Sqlite(sqlx::SqliteConnection),
}

impl Hand {
    async fn of(region: &common::Region) -> Self {
        let url = &region.config.url;
        let mut hand = match url.starts_with("sqlite") {
            true => Self::Sqlite(sqlx::SqliteConnection::connect(url).await.unwrap()),
            false => Self::Postgres(sqlx::PgConnection::connect(url).await.unwrap()),
        };
        let free = match &hand {
            Self::Postgres(_) => "SET session_replication_role = replica",
            Self::Sqlite(_) => "PRAGMA foreign_keys = OFF",
        };
        hand.run(free).await.unwrap();
        hand
    }

    async fn run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Postgres(hand) => sqlx::query(query).execute(hand).await?.rows_affected(),
            Self::Sqlite(hand) => sqlx::query(query).execute(hand).await?.rows_affected(),
        })
    }

    /// A statement's only column, as text.
    async fn texts(&mut self, sql: &str) -> Vec<String> {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(hand) => {
                let rows = sqlx::query(query).fetch_all(hand).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Self::Sqlite(hand) => {
                let rows = sqlx::query(query).fetch_all(hand).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// `NAME TYPE` of each column, from the database itself.
    async fn columns(&mut self, table: &str) -> Vec<(String, String)> {
        let sql = match self {
            Self::Postgres(_) => format!(
                "SELECT column_name || ' ' || data_type FROM information_schema.columns \
                 WHERE table_name = '{table}' AND table_schema = 'public'"
            ),
            Self::Sqlite(_) => {
                format!("SELECT name || ' ' || lower(type) FROM pragma_table_info('{table}')")
            }
        };
        let columns = self.texts(&sql).await;
        let pair = |text: &String| {
            let (name, kind) = text.split_once(' ').unwrap();
            (name.to_owned(), kind.to_owned())
        };
        columns.iter().map(pair).collect()
    }

    /// How one row of a table is named.
    fn row_id(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "ctid",
            Self::Sqlite(_) => "rowid",
        }
    }

    async fn save(&mut self, table: &str) {
        self.run(&format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await.unwrap();
    }

    async fn restore(&mut self, table: &str) {
        self.run(&format!("DELETE FROM {table}")).await.unwrap();
        self.run(&format!("INSERT INTO {table} SELECT * FROM saved_{table}")).await.unwrap();
    }
}

/// Another value of a column's kind, or one where there was none.
fn other(column: &str, kind: &str, postgres: bool) -> Vec<String> {
    let bytes = if postgres { "'\\x00ff'::bytea" } else { "x'00ff'" };
    match kind {
        "bigint" => {
            vec![format!("COALESCE({column}, 0) + 1000"), format!("COALESCE({column}, 0) - 1")]
        }
        "text" => vec![format!("COALESCE({column}, '') || '1'"), "'us1'".to_owned()],
        _ => vec![
            format!("COALESCE({column}, {bytes}) || {bytes}"),
            // As long as before.
            match postgres {
                true => format!(
                    "set_byte(COALESCE({column}, {bytes}), 0, 255 - get_byte(COALESCE({column}, {bytes}), 0))"
                ),
                false => bytes.to_owned(),
            },
        ],
    }
}

async fn a_region_with_everything(region: &common::Region) -> Account {
    a_region_of_calls(region, true).await
}

async fn a_region_of_calls(region: &common::Region, with_statements: bool) -> Account {
    let account = region.account().await;
    recorded(region, &account, 1).await;
    closed(region, &account, 2..=3).await;
    region.store.receipts_issue(NEVER).await.unwrap();
    closed(region, &account, 4..=5).await;
    region.store.receipts_issue(NEVER).await.unwrap();
    if with_statements {
        another_key_and_a_deletion(region, &account).await;
    }
    // One that waits.
    closed(region, &account, 6..=6).await;
    let found = checked(region, &[]).await;
    assert!(found.is_sound() && found.waiting == 1, "{found:?}");
    account
}

async fn another_key_and_a_deletion(region: &common::Region, account: &Account) {
    region.store.signing_key_rotate().await.unwrap();
    recorded(region, account, 7).await;
    region.store.receipts_issue(NEVER).await.unwrap();
    let by = DeletedBy { reason: DeletionReason::Request, actor: "operator".to_owned() };
    region.store.recording_delete(account.sid, recording(7), &by).await.unwrap();
}

on_both_engines! {
    async fn every_column_of_every_table(region: Region) {
        a_region_with_everything(&region).await;
        let mut hand = Hand::of(&region).await;
        let postgres = matches!(hand, Hand::Postgres(_));
        let (id, mut tried) = (hand.row_id(), 0);
        for table in TABLES {
            hand.save(table).await;
            for (column, kind) in hand.columns(table).await {
                for value in other(&column, &kind, postgres) {
                    let change = format!(
                        "UPDATE {table} SET {column} = {value} WHERE {id} = \
                         (SELECT MIN({id}) FROM {table})"
                    );
                    // A constraint of the table's own may be in the way.
                    if !matches!(hand.run(&change).await, Ok(1)) {
                        continue;
                    }
                    let found = checked(&region, &[]).await;
                    assert!(!found.is_sound(), "{change}");
                    hand.restore(table).await;
                    tried += 1;
                }
            }
        }
        assert!(checked(&region, &[]).await.is_sound(), "all was put back");
        assert!(tried > 150, "{tried}");
    }

    async fn every_row_that_is_removed_and_every_two_that_change_places(region: Region) {
        let account = a_region_with_everything(&region).await;
        let mut hand = Hand::of(&region).await;
        let id = hand.row_id();
        for table in TABLES {
            hand.save(table).await;
            let rows = hand.texts(&format!("SELECT CAST({id} AS TEXT) FROM {table}")).await;
            for row in 0..rows.len() {
                // Restoring gives rows new ids: count instead.
                let all = hand.texts(&format!("SELECT CAST({id} AS TEXT) FROM {table} ORDER BY {id}")).await;
                let remove = format!("DELETE FROM {table} WHERE CAST({id} AS TEXT) = '{}'", all[row]);
                assert_eq!(hand.run(&remove).await.unwrap(), 1);
                let found = checked(&region, &[]).await;
                // A key may go: that is how a person's data is erased.
                assert_eq!(found.is_sound(), *table == "call_key", "{remove}: {found:?}");
                hand.restore(table).await;
            }
        }
        let one = |call: u128| format!("call = '{}'", sid(call));
        let swaps = [
            ("receipt", "log_index", "log_index = 0".to_owned(), "log_index = 1".to_owned()),
            ("receipt", "call", "log_index = 1".to_owned(), "log_index = 4".to_owned()),
            ("receipt_node", "position", "position = 0".to_owned(), "position = 2".to_owned()),
            ("recording_chunk", "sequence", "sequence = 0".to_owned(), "sequence = 1".to_owned()),
            ("call_leg", "call", format!("sid = '{}'", LegSid::from_u128(20)), format!("sid = '{}'", LegSid::from_u128(30))),
            ("call", "chain_position", format!("sid = '{}'", sid(2)), format!("sid = '{}'", sid(3))),
            ("call_key", "key_id", one(2), one(3)),
            ("tree_head", "tree_size", "tree_size = 3".to_owned(), "tree_size = 5".to_owned()),
        ];
        for (table, column, a, b) in swaps {
            let quoted = |values: Vec<String>| format!("'{}'", values[0]);
            let cast = format!("CAST({column} AS TEXT)");
            let of_a = quoted(hand.texts(&format!("SELECT {cast} FROM {table} WHERE {a}")).await);
            let of_b = quoted(hand.texts(&format!("SELECT {cast} FROM {table} WHERE {b}")).await);
            let id_of = |wanted: String| format!("SELECT CAST({id} AS TEXT) FROM {table} WHERE {wanted}");
            let id_b = hand.texts(&id_of(b.clone())).await.remove(0);
            let aside = if column == "call" || column == "key_id" { "'aside'" } else { "999999" };
            let kind = hand.columns(table).await.into_iter().find(|(name, _)| name == column).unwrap().1;
            let typed = |value: &str| format!("CAST({value} AS {kind})");
            // ctid changes with each update, so rows are named by their values.
            let moved = format!("{column} = {}", typed(aside));
            hand.run(&format!("UPDATE {table} SET {moved} WHERE CAST({id} AS TEXT) = '{id_b}'")).await.unwrap();
            let a = if a.starts_with(column) { format!("{column} = {}", typed(&of_a)) } else { a };
            hand.run(&format!("UPDATE {table} SET {column} = {} WHERE {a}", typed(&of_b))).await.unwrap();
            let back = format!("UPDATE {table} SET {column} = {} WHERE {moved}", typed(&of_a));
            assert_eq!(hand.run(&back).await.unwrap(), 1);
            let found = checked(&region, &[]).await;
            assert!(!found.is_sound(), "{table}.{column}: {found:?}");
            hand.restore(table).await;
        }
        assert!(checked(&region, &[]).await.is_sound(), "all was put back");
        let _ = account;
    }

    async fn an_end_that_is_cut_off_with_all_that_speaks_of_it(region: Region) {
        let account = a_region_of_calls(&region, false).await;
        let file = region.store.receipt_file(sid(5)).await.unwrap();
        let kept = [file.tree_head];
        assert!(checked(&region, &kept).await.is_sound());
        // Everything as it was after call 3, but for one thing: what was handed out.
        let mut hand = Hand::of(&region).await;
        for statement in [
            format!("DELETE FROM call_leg WHERE call >= '{}'", sid(4)),
            format!("DELETE FROM call_key WHERE call >= '{}'", sid(4)),
            format!("DELETE FROM call WHERE sid >= '{}'", sid(4)),
            "DELETE FROM receipt WHERE log_index >= 3".to_owned(),
            "DELETE FROM receipt_node WHERE position NOT IN (0, 1, 2, 4)".to_owned(),
            "DELETE FROM tree_head WHERE tree_size > 3".to_owned(),
            "DELETE FROM receipt_pending".to_owned(),
            "UPDATE receipt_log SET size = 3".to_owned(),
            "UPDATE call_chain SET position = 3, head = (SELECT hash FROM call WHERE chain_position = 3)".to_owned(),
        ] {
            hand.run(&statement).await.unwrap();
        }
        let found = checked(&region, &[]).await;
        assert!(found.is_sound(), "from inside, nothing is to be seen: {found:?}");
        let found = checked(&region, &kept).await;
        assert!(found.faults[0].problem.contains("cut off"), "{found:?}");

        // And the log grown again over other calls is another log.
        closed(&region, &account, 7..=9).await;
        region.store.receipts_issue(NEVER).await.unwrap();
        assert!(checked(&region, &[]).await.is_sound());
        let found = checked(&region, &kept).await;
        assert!(found.faults[0].problem.contains("rewritten"), "{found:?}");
    }
}
