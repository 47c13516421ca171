//! The log's entries that are no receipts, as their table keeps them.

use landline_region::CallSid;
use landline_region::receipt::{Deletion, Entry, Inclusion, KeyChange, Signed, TreeHead};
use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;

use super::facts::Reader;
use super::log::{Nodes, assembled, broken, nodes, signature};
use crate::error::{Result, StoreError};
use crate::sql::{Row, values};
use crate::store::Store;
use landline_region::merkle::Plan;

/// What the column `kind` says.
pub const RECORD: &str = "record";
pub const RECORDING: &str = "recording";
pub const KEY: &str = "key";

/// Calls whose deletions one statement asks for.
const CALLS: usize = 500;

/// A statement as its row holds it.
pub fn statement_of<T: DeserializeOwned>(row: &Row) -> Result<Signed<T>> {
    let body = serde_json::from_str(&row.text("body")?).map_err(|error| StoreError::Column {
        column: "log_statement.body".to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Signed { body, key_id: row.parse("key_id")?, signature: signature(row)? })
}

impl Store {
    /// What of these calls was deleted, in the order of the log.
    pub(super) async fn deletions_of(&self, calls: &[CallSid]) -> Result<Vec<Signed<Deletion>>> {
        let mut found = Vec::new();
        for some in calls.chunks(CALLS) {
            let sids: Vec<String> = some.iter().map(CallSid::to_string).collect();
            let select =
                format!("SELECT * FROM log_statement WHERE {}", self.database().among("call", 1));
            for row in self.database().rows(AssertSqlSafe(select), values![sids]).await? {
                found.push(statement_of::<Deletion>(&row)?);
            }
        }
        found.sort_by_key(|it| it.body.log_index);
        Ok(found)
    }

    /// Every change of the signing key, the first one first.
    pub(super) async fn key_changes(&self) -> Result<Vec<Signed<KeyChange>>> {
        let select = "SELECT * FROM log_statement WHERE kind = 'key' ORDER BY log_index";
        let rows = self.database().rows(select, values![]).await?;
        rows.iter().map(statement_of).collect()
    }

    /// Statements with their places under a head; those that came later are
    /// left out.
    pub(super) async fn entries<T>(
        &self,
        statements: Vec<Signed<T>>,
        index_of: impl Fn(&T) -> u64,
        head: &TreeHead,
    ) -> Result<Vec<Entry<T>>> {
        let size = head.tree_size;
        let placed = statements.into_iter().filter_map(|statement| {
            let plan = Plan::inclusion(index_of(&statement.body), size)?;
            Some((statement, plan))
        });
        let placed: Vec<(Signed<T>, Plan)> = placed.collect();
        let wanted = placed.iter().flat_map(|(_, plan)| plan.nodes());
        let nodes: Nodes = nodes(&mut Reader::Database(self.database()), wanted).await?;
        let entry = |(statement, plan): (Signed<T>, Plan)| {
            let inclusion = Inclusion { tree_size: size, path: assembled(&plan, &nodes)? };
            Ok(Entry { statement, inclusion })
        };
        placed.into_iter().map(entry).collect()
    }
}

/// A change whose keys are no keys.
pub fn bad_key(error: impl ToString) -> StoreError {
    broken(&error.to_string())
}
