//! Every column that the migrations make is declared in the catalogue, as
//! personal or as not, and what is declared exists.

mod common;

use std::collections::BTreeSet;

use common::Region;
use landline_region::catalogue::{COLUMNS, NOT_PERSONAL};

on_both_engines! {
    async fn every_column_is_declared_and_every_declared_column_exists(region: Region) {
        let found: BTreeSet<String> = region.texts(columns_of(&region)).await.into_iter().collect();
        let declared = declared();
        let unknown: Vec<_> = found.difference(&declared).collect();
        assert!(
            unknown.is_empty(),
            "declare in crates/region/src/catalogue/columns.rs, in COLUMNS or NOT_PERSONAL: {unknown:?}"
        );
        let stale: Vec<_> = declared.difference(&found).collect();
        assert!(stale.is_empty(), "declared, and in no migration: {stale:?}");
    }

    async fn a_column_that_is_not_declared_is_found(region: Region) {
        region.tamper("ALTER TABLE account ADD COLUMN birthday TEXT").await;
        let found: BTreeSet<String> = region.texts(columns_of(&region)).await.into_iter().collect();
        let unknown: Vec<_> = found.difference(&declared()).cloned().collect();
        assert_eq!(unknown, ["account.birthday"]);
    }
}

fn declared() -> BTreeSet<String> {
    let personal = COLUMNS.iter().map(|column| (column.table, column.name));
    let others = NOT_PERSONAL
        .iter()
        .flat_map(|(table, names, _)| names.iter().map(move |name| (*table, *name)));
    personal.chain(others).map(|(table, name)| format!("{table}.{name}")).collect()
}

/// The statement that lists all columns, as `table.column`.
fn columns_of(region: &Region) -> &'static str {
    match region.config.url.starts_with("sqlite") {
        true => {
            "SELECT m.name || '.' || p.name FROM sqlite_master m \
             JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'"
        }
        false => {
            "SELECT table_name || '.' || column_name FROM information_schema.columns \
             WHERE table_schema = 'public'"
        }
    }
}
