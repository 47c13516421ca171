//! One batch of receipts, in one transaction.

use landline_region::merkle::leaf_hash;
use landline_region::receipt::{Signature, canonical};
use landline_region::{CallSid, UnixMillis};

use super::facts::{Facts, Reader};
use super::log::{Growth, unsignable};
use crate::error::{Result, StoreError};
use crate::sql::{Row, Tx, Value, values};
use crate::store::{Store, now};

/// Receipts in one transaction.
const BATCH: i64 = 256;
/// A call whose rows make no statement is tried again after this long.
const TRY_AGAIN_MS: i64 = 3_600_000;

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Issued {
    pub issued: usize,
    /// Calls whose rows were tampered with so that they make no statement.
    pub refused: usize,
    /// There may be more.
    pub full: bool,
}

/// What the transaction writes.
#[derive(Default)]
struct Batch {
    receipts: Vec<Vec<Value>>,
    done: Vec<Vec<Value>>,
    refused: Vec<Vec<Value>>,
}

impl Store {
    /// Issues receipts of closed calls, in the order of their closing. A call
    /// whose recording is not finished waits, unless it was closed before
    /// `give_up_before`: then its receipt says so.
    pub async fn receipts_issue(&self, give_up_before: UnixMillis) -> Result<Issued> {
        let (now, database) = (now(), self.database());
        // Most of the time there is nothing to do, and no lock to take.
        if ready(&mut Reader::Database(database), now, give_up_before).await?.is_empty() {
            return Ok(Issued::default());
        }
        let mut tx = database.begin().await?;
        let mut growth = Growth::begin(&mut tx, self).await?;
        // Another proxy's issuer may have been before us.
        let calls = ready(&mut Reader::Tx(&mut tx), now, give_up_before).await?;
        let facts = Facts::gather(database, &mut Reader::Tx(&mut tx), &calls).await?;
        let mut batch = Batch::default();
        for call in &calls {
            batch.take(self, &mut growth, &facts, *call, now)?;
        }
        let issued = Issued {
            issued: batch.receipts.len(),
            refused: batch.refused.len(),
            full: calls.len() as i64 == BATCH,
        };
        batch.write(self, &mut tx, growth, now).await?;
        tx.commit().await?;
        Ok(issued)
    }
}

async fn ready(
    reader: &mut Reader<'_>,
    now: UnixMillis,
    give_up_before: UnixMillis,
) -> Result<Vec<CallSid>> {
    let select = format!(
        "SELECT p.call FROM receipt_pending p JOIN call c ON c.sid = p.call \
         WHERE (p.refused_at IS NULL OR p.refused_at < $1) AND (p.closed_at < $2 \
         OR ((c.recording IS NULL OR c.answered_at IS NULL \
              OR EXISTS (SELECT 1 FROM recording r WHERE r.call = c.sid)) \
             AND NOT EXISTS (SELECT 1 FROM recording r WHERE r.call = c.sid \
                             AND r.finished_at IS NULL))) \
         ORDER BY p.chain_position LIMIT {BATCH}"
    );
    let rows = reader.rows(select, values![now.0 - TRY_AGAIN_MS, give_up_before]).await?;
    rows.iter().map(|row: &Row| row.parse("call")).collect()
}

impl Batch {
    /// What makes no statement must not hold up the calls behind it.
    fn take(
        &mut self,
        store: &Store,
        growth: &mut Growth,
        facts: &Facts,
        call: CallSid,
        now: UnixMillis,
    ) -> Result<()> {
        match self.issue(store, growth, facts, call, now) {
            Ok(()) => self.done.push(values![call]),
            Err(StoreError::Column { column, problem }) => {
                tracing::error!(%call, %column, %problem, "a record makes no receipt");
                self.refused.push(values![call, now]);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn issue(
        &mut self,
        store: &Store,
        growth: &mut Growth,
        facts: &Facts,
        call: CallSid,
        now: UnixMillis,
    ) -> Result<()> {
        let Some(row) = facts.call(call) else { return Ok(()) };
        let index = growth.frontier.size();
        let receipt = facts.statement(row, store.region(), now, index)?;
        let octets = canonical(&receipt).map_err(unsignable)?;
        let key = growth.key.clone();
        let Signature(signature) = key.sign(&octets);
        growth.append(leaf_hash(&octets));
        // Canonical JSON is text.
        let body = String::from_utf8(octets).map_err(unsignable)?;
        self.receipts.push(values![
            index,
            call,
            receipt.account,
            receipt.opened_at,
            body,
            key.id().to_string(),
            signature.to_vec(),
        ]);
        Ok(())
    }

    async fn write(
        self,
        store: &Store,
        tx: &mut Tx,
        growth: Growth,
        now: UnixMillis,
    ) -> Result<()> {
        const RECEIPT: &[&str] =
            &["log_index", "call", "account", "opened_at", "body", "key_id", "signature"];
        tx.update_many("receipt_pending", 1, &["call", "refused_at"], self.refused).await?;
        if self.receipts.is_empty() {
            return Ok(());
        }
        tx.insert_many("receipt", RECEIPT, "", self.receipts).await?;
        tx.delete_many("receipt_pending", &["call"], self.done).await?;
        growth.write(tx, store, now).await
    }
}
