//! Walks the log from its first entry and builds its tree anew.

use std::collections::HashMap;

use landline_region::merkle::{Frontier, Node, Sha256, leaf_hash, node_count};
use landline_region::receipt::{Receipt, Signed, TreeHead, canonical};

use super::super::facts::Reader;
use super::super::log::{head_of, nodes, receipt_of};
use super::{PAGE, ResidencyCheck};
use crate::error::Result;
use crate::sql::{Row, values};
use crate::store::Store;

pub struct Walk<'a> {
    store: &'a Store,
    frontier: Frontier,
    /// The size of the last head that was met.
    last_head: u64,
    /// From outside, by size; those not met yet, the smallest last.
    kept: Vec<TreeHead>,
    /// An entry is missing: what follows has no place in a tree.
    torn: bool,
}

impl<'a> Walk<'a> {
    pub fn new(store: &'a Store, kept: &[Signed<TreeHead>], found: &mut ResidencyCheck) -> Self {
        let key = store.verifying_key();
        let mut sound = Vec::new();
        for head in kept {
            match head.body.region == store.region() && head.is_by(&key) {
                true => sound.push(head.body.clone()),
                false => found.fault(kept_head(&head.body), "this region's key did not sign it"),
            }
        }
        sound.sort_by_key(|head| std::cmp::Reverse(head.tree_size));
        Self { store, frontier: Frontier::default(), last_head: 0, kept: sound, torn: false }
    }

    /// The receipts of some more entries; none at the log's end.
    pub async fn next(&mut self, found: &mut ResidencyCheck) -> Result<Vec<Receipt>> {
        if self.torn {
            return Ok(Vec::new());
        }
        let first = self.frontier.size();
        let select = "SELECT * FROM receipt WHERE log_index >= $1 ORDER BY log_index LIMIT $2";
        let rows = self.store.database().rows(select, values![first, PAGE]).await?;
        let select = "SELECT * FROM tree_head WHERE tree_size > $1 AND tree_size <= $2 \
                      ORDER BY tree_size";
        let last = first + rows.len() as u64;
        let heads = self.store.database().rows(select, values![first, last]).await?;
        let mut heads = heads.iter().peekable();
        let (mut receipts, mut built) = (Vec::new(), HashMap::new());
        for row in &rows {
            let index = self.frontier.size();
            if row.unsigned("log_index").ok() != Some(index) {
                found.fault(entry(index), "it is missing");
                self.torn = true;
                break;
            }
            let (leaf, receipt) = self.entry(row, index, found)?;
            self.frontier.append(leaf, |node, hash| {
                let _ = built.insert(node, hash);
            });
            receipts.extend(receipt);
            let size = index + 1;
            while let Some(row) = heads.next_if(|row| row.unsigned("tree_size").ok() == Some(size))
            {
                self.head(row, found)?;
            }
            self.held_against_kept(found);
        }
        self.nodes(&built, found).await?;
        found.receipts += receipts.len() as u64;
        Ok(receipts)
    }

    /// The entry's leaf by its octets; its receipt, if that can be read.
    fn entry(
        &self,
        row: &Row,
        index: u64,
        found: &mut ResidencyCheck,
    ) -> Result<(Sha256, Option<Receipt>)> {
        let text = row.text("body").unwrap_or_default();
        let leaf = leaf_hash(text.as_bytes());
        let signed = match receipt_of(row) {
            Ok(signed) => signed,
            Err(error) => {
                found.unless_away(entry(index), error)?;
                return Ok((leaf, None));
            }
        };
        let receipt = &signed.body;
        if !signed.is_by(&self.store.verifying_key()) {
            found.fault(entry(index), "it was changed: the region's key did not sign what it says");
        }
        if canonical(receipt).ok().as_deref() != Some(text.as_bytes()) {
            found.fault(entry(index), "its octets are not the ones that were signed");
        }
        let columns = row.parse("call").ok() == Some(receipt.call)
            && row.parse("account").ok() == Some(receipt.account)
            && row.time("opened_at").ok() == Some(receipt.opened_at)
            && (receipt.log_index, receipt.region) == (index, self.store.region());
        if !columns {
            found.fault(entry(index), "it stands in another place, or its columns were changed");
        }
        Ok((leaf, Some(signed.body)))
    }

    /// A head of the size that the tree has now.
    fn head(&mut self, row: &Row, found: &mut ResidencyCheck) -> Result<()> {
        let at = format!("tree head of {} entries", self.frontier.size());
        match head_of(row, self.store.region()) {
            Err(error) => found.unless_away(at, error)?,
            Ok(head) => {
                found.tree_heads += 1;
                if !head.is_by(&self.store.verifying_key()) {
                    found.fault(&at, "it was changed: the region's key did not sign what it says");
                }
                if head.body.root != self.frontier.root() {
                    found.fault(&at, "the entries that it was signed over are not these");
                }
                if head.body.previous_size != self.last_head {
                    found.fault(&at, "the head before it is missing");
                }
                self.last_head = head.body.tree_size;
            }
        }
        Ok(())
    }

    fn held_against_kept(&mut self, found: &mut ResidencyCheck) {
        let size = self.frontier.size();
        while let Some(head) = self.kept.pop_if(|head| head.tree_size <= size) {
            if head.tree_size == size && head.root != self.frontier.root() {
                found.fault(kept_head(&head), "the log was rewritten since it was signed");
            }
        }
    }

    /// The nodes that the page's entries complete, as they are kept.
    async fn nodes(&self, built: &HashMap<Node, Sha256>, found: &mut ResidencyCheck) -> Result<()> {
        let database = self.store.database();
        let kept = nodes(&mut Reader::Database(database), built.keys().copied()).await;
        match kept {
            Err(error) => found.unless_away("the log's nodes", error),
            Ok(kept) => {
                for (node, hash) in built {
                    if kept.get(&node.position()) != Some(hash) {
                        found.fault(
                            format!("log node {}", node.position()),
                            "it was changed or removed",
                        );
                    }
                }
                Ok(())
            }
        }
    }

    /// Nothing is there beyond what was walked.
    pub async fn end(mut self, found: &mut ResidencyCheck) -> Result<()> {
        // One statement sees one state, also while receipts are issued.
        let select = "SELECT (SELECT size FROM receipt_log) AS size, \
                      (SELECT COUNT(*) FROM receipt) AS entries, \
                      (SELECT MIN(log_index) FROM receipt) AS first, \
                      (SELECT COUNT(*) FROM receipt_node) AS nodes, \
                      (SELECT MIN(tree_size) FROM tree_head) AS first_head, \
                      (SELECT MAX(tree_size) FROM tree_head) AS last_head, \
                      (SELECT key_generation FROM receipt_log) AS generation, \
                      (SELECT COALESCE(MAX(generation), 0) FROM signing_key) AS key";
        let Some(row) = self.store.database().row(select, values![]).await? else { return Ok(()) };
        let size = row.int_or_null("size")?.unwrap_or(-1);
        let entries = row.int("entries")?;
        if size != entries || row.int_or_null("first")?.unwrap_or(0) != 0 {
            found.fault("the log", format!("it has {entries} entries, and should have {size}"));
        }
        if row.unsigned("nodes")? != node_count(entries.unsigned_abs()) {
            found.fault("the log", "nodes of its tree were added or removed");
        }
        if row.int_or_null("last_head")?.unwrap_or(0) != entries {
            found
                .fault("the log", "its newest entries have no signed head, or the other way about");
        }
        if row.int_or_null("generation")? != row.int_or_null("key")? {
            found.fault("the log", "it is not signed with the region's newest key");
        }
        if row.int_or_null("first_head")?.is_some_and(|size| size < 1) {
            found.fault("the log", "a head of nothing was added");
        }
        self.held_against_kept(found);
        for head in &self.kept {
            found.fault(
                kept_head(head),
                format!("the log has {} entries: its end was cut off", self.frontier.size()),
            );
        }
        Ok(())
    }
}

fn entry(index: u64) -> String {
    format!("log entry {index}")
}

fn kept_head(head: &TreeHead) -> String {
    format!("the kept tree head of {} entries", head.tree_size)
}
