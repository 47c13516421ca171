//! Walks the log from its first entry and builds its tree anew.

use std::collections::HashMap;

use landline_region::merkle::{Frontier, Node, Sha256, leaf_hash, node_count};
use landline_region::receipt::{
    Deletion, KeyChange, Receipt, Signed, TreeHead, VerifyingKey, canonical,
};
use serde::Serialize;

use super::super::facts::Reader;
use super::super::log::{head_of, nodes, receipt_of};
use super::super::statement::{KEY, RECORD, RECORDING, bad_key, statement_of};
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
    kept: Vec<Signed<TreeHead>>,
    /// An entry is missing: what follows has no place in a tree.
    torn: bool,
    /// Signs what comes next; each change of it, with its time.
    key: VerifyingKey,
    changes: Vec<KeyChange>,
}

impl<'a> Walk<'a> {
    pub fn new(store: &'a Store, kept: &[Signed<TreeHead>], found: &mut ResidencyCheck) -> Self {
        let mut ours = Vec::new();
        for head in kept {
            match head.body.region == store.region() {
                true => ours.push(head.clone()),
                false => found.fault(kept_head(&head.body), "this region's key did not sign it"),
            }
        }
        ours.sort_by_key(|head| std::cmp::Reverse(head.body.tree_size));
        Self {
            store,
            frontier: Frontier::default(),
            last_head: 0,
            kept: ours,
            torn: false,
            key: store.keys().first_signing_key().verifying_key(),
            changes: Vec::new(),
        }
    }

    /// The receipts of some more entries; `None` at the log's end.
    pub async fn next(&mut self, found: &mut ResidencyCheck) -> Result<Option<Vec<Receipt>>> {
        let first = self.frontier.size();
        let rows = if self.torn { Vec::new() } else { self.rows(first).await? };
        if rows.is_empty() {
            return Ok(None);
        }
        let select = "SELECT * FROM tree_head WHERE tree_size > $1 AND tree_size <= $2 \
                      ORDER BY tree_size";
        let last = first + rows.len() as u64;
        let heads = self.store.database().rows(select, values![first, last]).await?;
        let mut heads = heads.iter().peekable();
        let (mut receipts, mut built) = (Vec::new(), HashMap::new());
        for (row, is_receipt) in &rows {
            let index = self.frontier.size();
            if row.unsigned("log_index").ok() != Some(index) {
                found.fault(entry(index), "it is missing");
                self.torn = true;
                break;
            }
            let leaf = match is_receipt {
                true => {
                    let (leaf, receipt) = self.entry(row, index, found)?;
                    receipts.extend(receipt);
                    leaf
                }
                false => self.statement(row, index, found)?,
            };
            self.frontier.append(leaf, |node, hash| {
                let _ = built.insert(node, hash);
            });
            let size = index + 1;
            while let Some(row) = heads.next_if(|row| row.unsigned("tree_size").ok() == Some(size))
            {
                self.head(row, found)?;
            }
            self.held_against_kept(found);
        }
        self.nodes(&built, found).await?;
        found.receipts += receipts.len() as u64;
        Ok(Some(receipts))
    }

    /// Some more entries in order, and which of them are receipts.
    async fn rows(&self, first: u64) -> Result<Vec<(Row, bool)>> {
        let mut rows = Vec::new();
        for (select, is_receipt) in [
            ("SELECT * FROM receipt WHERE log_index >= $1 AND log_index < $2", true),
            ("SELECT * FROM log_statement WHERE log_index >= $1 AND log_index < $2", false),
        ] {
            let values = values![first, first + PAGE.unsigned_abs()];
            let found = self.store.database().rows(select, values).await?;
            rows.extend(found.into_iter().map(|row| (row, is_receipt)));
        }
        rows.sort_by_key(|(row, _)| row.unsigned("log_index").unwrap_or(u64::MAX));
        Ok(rows)
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
        if !signed.is_by(&self.key) {
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

    /// The leaf of a deletion or a change of the key, whose sense is checked.
    fn statement(&mut self, row: &Row, index: u64, found: &mut ResidencyCheck) -> Result<Sha256> {
        let text = row.text("body").unwrap_or_default();
        let leaf = leaf_hash(text.as_bytes());
        let checked = match row.text("kind").as_deref() {
            Ok(KEY) => self.change(row, index, &text),
            _ => self.deletion(row, index, &text),
        };
        match checked {
            Ok(None) => {}
            Ok(Some(problem)) => found.fault(entry(index), problem),
            Err(error) => found.unless_away(entry(index), error)?,
        }
        Ok(leaf)
    }

    fn deletion(&self, row: &Row, index: u64, text: &str) -> Result<Option<&'static str>> {
        let signed = statement_of::<Deletion>(row)?;
        let deletion = &signed.body;
        let (kind, subject) = match (&deletion.record, &deletion.recording) {
            (Some(_), None) => (RECORD, deletion.call.to_string()),
            (None, Some(recording)) => (RECORDING, recording.sid.to_string()),
            _ => return Ok(Some("it states no deletion of one thing")),
        };
        let position = deletion.record.as_ref().map(|record| record.position);
        let columns = (deletion.log_index, deletion.region) == (index, self.store.region())
            && (row.text("kind")?, row.text("subject")?) == (kind.to_owned(), subject)
            && row.parse_or_null("account")? == Some(deletion.account)
            && row.parse_or_null("call")? == Some(deletion.call)
            && row.int_or_null("chain_position")?.map(i64::unsigned_abs) == position;
        Ok(self.stated(&signed, text, columns))
    }

    /// From here on another key signs.
    fn change(&mut self, row: &Row, index: u64, text: &str) -> Result<Option<&'static str>> {
        let signed = statement_of::<KeyChange>(row)?;
        let change = &signed.body;
        let next = change.next().map_err(bad_key)?;
        let columns = (change.log_index, change.region) == (index, self.store.region())
            && row.text("subject")? == next.id().to_string()
            && row.text_or_null("account")?.is_none()
            && row.text_or_null("call")?.is_none()
            && row.int_or_null("chain_position")?.is_none();
        let problem = self.stated(&signed, text, columns);
        if change.former != self.key.to_hex() {
            return Ok(Some("it replaces another key than the one that signed before it"));
        }
        if problem.is_none() {
            self.key = next;
            self.changes.push(signed.body);
        }
        Ok(problem)
    }

    fn stated<T: Serialize>(
        &self,
        signed: &Signed<T>,
        text: &str,
        columns: bool,
    ) -> Option<&'static str> {
        if !signed.is_by(&self.key) {
            return Some("it was changed: the region's key did not sign what it says");
        }
        if canonical(&signed.body).ok().as_deref() != Some(text.as_bytes()) {
            return Some("its octets are not the ones that were signed");
        }
        (!columns).then_some("it stands in another place, or its columns were changed")
    }

    /// The keys that are kept are those that the log certified, and only the
    /// newest can still sign.
    async fn keys(&self, found: &mut ResidencyCheck) -> Result<()> {
        let select = "SELECT * FROM signing_key ORDER BY generation";
        let rows = self.store.database().rows(select, values![]).await?;
        let mut sound = rows.len() == self.changes.len();
        for (place, (row, change)) in rows.iter().zip(&self.changes).enumerate() {
            let is_newest = place + 1 == self.changes.len();
            sound &= row.int("generation").ok() == Some(place as i64 + 1)
                && row.text("ed25519").ok().as_ref() == Some(&change.next)
                && row.time("created_at").ok() == Some(change.changed_at);
            let salt = row.bytes_or_null("salt").ok().flatten();
            sound &= match salt.map(<[u8; 32]>::try_from) {
                Some(Ok(salt)) if is_newest => {
                    self.store.keys().later_signing_key(&salt).verifying_key() == self.key
                }
                None => !is_newest,
                Some(_) => false,
            };
        }
        if !sound {
            found.fault("the signing keys", "they are not those that the log certifies");
        }
        Ok(())
    }

    /// A head of the size that the tree has now.
    fn head(&mut self, row: &Row, found: &mut ResidencyCheck) -> Result<()> {
        let at = format!("tree head of {} entries", self.frontier.size());
        match head_of(row, self.store.region()) {
            Err(error) => found.unless_away(at, error)?,
            Ok(head) => {
                found.tree_heads += 1;
                if !head.is_by(&self.key) {
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
        while let Some(head) = self.kept.pop_if(|head| head.body.tree_size <= size) {
            if !head.is_by(&self.key) {
                found.fault(kept_head(&head.body), "this region's key did not sign it");
            } else if head.body.tree_size == size && head.body.root != self.frontier.root() {
                found.fault(kept_head(&head.body), "the log was rewritten since it was signed");
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
                      (SELECT COUNT(*) FROM receipt) \
                      + (SELECT COUNT(*) FROM log_statement) AS entries, \
                      (SELECT COUNT(*) FROM receipt WHERE log_index < 0) \
                      + (SELECT COUNT(*) FROM log_statement WHERE log_index < 0) AS outside, \
                      (SELECT COUNT(*) FROM receipt_node) AS nodes, \
                      (SELECT MIN(tree_size) FROM tree_head) AS first_head, \
                      (SELECT MAX(tree_size) FROM tree_head) AS last_head, \
                      (SELECT key_generation FROM receipt_log) AS generation";
        let Some(row) = self.store.database().row(select, values![]).await? else { return Ok(()) };
        let size = row.int_or_null("size")?.unwrap_or(-1);
        let entries = row.int("entries")?;
        if size != entries || row.int("outside")? != 0 {
            found.fault("the log", format!("it has {entries} entries, and should have {size}"));
        }
        if row.unsigned("nodes")? != node_count(entries.unsigned_abs()) {
            found.fault("the log", "nodes of its tree were added or removed");
        }
        if row.int_or_null("last_head")?.unwrap_or(0) != entries {
            found
                .fault("the log", "its newest entries have no signed head, or the other way about");
        }
        if row.int_or_null("generation")? != Some(self.changes.len() as i64) {
            found.fault("the log", "it is not signed with the region's newest key");
        }
        if row.int_or_null("first_head")?.is_some_and(|size| size < 1) {
            found.fault("the log", "a head of nothing was added");
        }
        self.keys(found).await?;
        self.held_against_kept(found);
        for head in &self.kept {
            found.fault(
                kept_head(&head.body),
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
