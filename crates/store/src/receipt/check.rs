//! Holds everything that is written down against what was stated of it: rows
//! and chunks against receipts, receipts against the log, the log against its
//! signed heads and against heads that somebody kept outside.

mod call;
mod chunks;
mod log;

use std::collections::HashMap;

use landline_region::receipt::{Deletion, Receipt, Signed, TreeHead};
use landline_region::{CallSid, RegionCode};

use super::facts::{Facts, Reader};
use crate::error::{Result, StoreError};
use crate::sql::{Row, values};
use crate::store::Store;

/// Receipts that are read at once.
const PAGE: i64 = 200;
/// Faults that are told in words; the others are counted.
const TOLD: usize = 100;

/// Something that is not as it was stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it was found at, as `call CA…` or `log entry 7`.
    pub at: String,
    pub problem: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResidencyCheck {
    /// Receipts whose signature, place and rows were checked.
    pub receipts: u64,
    /// Closed calls whose receipt is not issued yet.
    pub waiting: u64,
    /// Calls that are open; nothing is stated of them yet.
    pub open: u64,
    pub recordings: u64,
    pub chunks: u64,
    pub tree_heads: u64,
    /// Records and recordings whose deletion is signed in the log, by whom and
    /// why.
    pub deleted: u64,
    /// Calls of which a key was destroyed: their hashes hold, and nobody can
    /// read them.
    pub erased: u64,
    /// Recordings of which more arrived after the receipt was issued.
    pub grown: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
    pub faults_found: u64,
}

impl ResidencyCheck {
    pub fn is_sound(&self) -> bool {
        self.faults_found == 0
    }

    fn fault(&mut self, at: impl ToString, problem: impl ToString) {
        self.faults_found += 1;
        if self.faults.len() < TOLD {
            self.faults.push(Fault { at: at.to_string(), problem: problem.to_string() });
        }
    }

    /// What cannot even be read is a fault; a database that went away is not.
    fn unless_away(&mut self, at: impl ToString, error: StoreError) -> Result<()> {
        if error.is_transient() {
            return Err(error);
        }
        self.fault(at, error);
        Ok(())
    }
}

impl Store {
    /// Re-hashes everything against receipts and log. `kept` are tree heads
    /// from outside the database, from receipts or reports handed out before:
    /// only against them is it seen when the log's end was cut off together
    /// with all that it speaks of.
    pub async fn residency_check(&self, kept: &[Signed<TreeHead>]) -> Result<ResidencyCheck> {
        let mut check =
            Check { store: self, found: ResidencyCheck::default(), deletions: HashMap::new() };
        if let Err(error) = self.call_chain_verify().await {
            check.found.unless_away("the chain of closed calls", error)?;
        }
        let mut walk = log::Walk::new(self, kept, &mut check.found);
        while let Some(page) = walk.next(&mut check.found).await? {
            check.page(&page).await?;
        }
        walk.end(&mut check.found).await?;
        check.waiting().await?;
        check.strays().await?;
        Ok(check.found)
    }
}

struct Check<'a> {
    store: &'a Store,
    found: ResidencyCheck,
    /// What was deleted of the page's calls, as the log states it.
    deletions: HashMap<CallSid, Vec<Deletion>>,
}

impl Check<'_> {
    async fn page(&mut self, receipts: &[Receipt]) -> Result<()> {
        let calls: Vec<CallSid> = receipts.iter().map(|receipt| receipt.call).collect();
        self.deletions.clear();
        match self.store.deletions_of(&calls).await {
            Ok(deletions) => deletions.into_iter().for_each(|it| {
                self.deletions.entry(it.body.call).or_default().push(it.body);
            }),
            Err(error) => self.found.unless_away("the log's deletions", error)?,
        }
        match self.gather(&calls).await {
            Ok(facts) => {
                for receipt in receipts {
                    self.call(receipt, &facts).await?;
                }
            }
            Err(error) if error.is_transient() => return Err(error),
            // One of them cannot be read: find which.
            Err(_) => {
                for receipt in receipts {
                    match self.gather(&[receipt.call]).await {
                        Ok(facts) => self.call(receipt, &facts).await?,
                        Err(error) => {
                            self.found.unless_away(format!("call {}", receipt.call), error)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn gather(&self, calls: &[CallSid]) -> Result<Facts> {
        let database = self.store.database();
        Facts::gather(database, &mut Reader::Database(database), calls).await
    }

    /// Closed calls without a receipt wait for it, and those that wait are
    /// closed calls without one.
    async fn waiting(&mut self) -> Result<()> {
        let select = "SELECT (SELECT COUNT(*) FROM call WHERE closed_at IS NULL) AS open, \
                      (SELECT COUNT(*) FROM receipt_pending) AS waiting";
        if let Some(row) = self.store.database().row(select, values![]).await? {
            self.found.open = row.unsigned("open")?;
            self.found.waiting = row.unsigned("waiting")?;
        }
        let faults = [
            (
                "SELECT sid FROM call c WHERE c.closed_at IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM receipt r WHERE r.call = c.sid) \
                 AND NOT EXISTS (SELECT 1 FROM receipt_pending p WHERE p.call = c.sid) LIMIT 100",
                "it is closed, has no receipt and waits for none",
            ),
            (
                "SELECT p.call AS sid FROM receipt_pending p LEFT JOIN call c ON c.sid = p.call \
                 WHERE c.closed_at IS NULL OR c.closed_at <> p.closed_at \
                 OR c.chain_position IS NULL OR c.chain_position <> p.chain_position LIMIT 100",
                "it waits for a receipt, and is not the closed call that it was",
            ),
            (
                "SELECT p.call AS sid FROM receipt_pending p WHERE p.refused_at IS NOT NULL LIMIT 100",
                "its record makes no receipt",
            ),
            (
                "SELECT p.call AS sid FROM receipt_pending p \
                 JOIN receipt r ON r.call = p.call LIMIT 100",
                "it has a receipt and waits for another",
            ),
        ];
        for (select, problem) in faults {
            for row in self.store.database().rows(select, values![]).await? {
                self.found.fault(format!("call {}", row.text("sid")?), problem);
            }
        }
        Ok(())
    }

    /// What belongs to nothing, or to another region.
    async fn strays(&mut self) -> Result<()> {
        let ours = self.store.region();
        let strays = [
            (
                "recording",
                "SELECT r.sid FROM recording r WHERE r.home_region <> $1 OR r.storage_region <> $1 \
                 OR NOT EXISTS (SELECT 1 FROM call c WHERE c.sid = r.call) LIMIT 100",
                "its call is not here, or it is another region's",
            ),
            (
                "key",
                "SELECT k.key_id AS sid FROM call_key k WHERE $1 = $1 \
                 AND NOT EXISTS (SELECT 1 FROM call c WHERE c.key_id = k.key_id) \
                 AND NOT EXISTS (SELECT 1 FROM recording r WHERE r.key_id = k.key_id) LIMIT 100",
                "neither a call nor a recording names it",
            ),
            (
                "call",
                "SELECT c.sid FROM call c WHERE c.home_region <> $1 OR c.storage_region <> $1 \
                 OR c.signalling_region <> $1 OR c.media_region <> $1 LIMIT 100",
                "another region touched it",
            ),
            (
                "account",
                "SELECT a.sid FROM account a WHERE a.home_region <> $1 LIMIT 100",
                "it is another region's",
            ),
        ];
        for (what, select, problem) in strays {
            for row in self.store.database().rows(select, values![ours]).await? {
                self.stray(what, &row, problem)?;
            }
        }
        Ok(())
    }

    fn stray(&mut self, what: &str, row: &Row, problem: &str) -> Result<()> {
        self.found.fault(format!("{what} {}", row.text("sid")?), problem);
        Ok(())
    }

    fn region(&self) -> RegionCode {
        self.store.region()
    }
}
