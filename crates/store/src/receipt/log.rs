//! The region's Merkle log as its tables keep it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use landline_region::merkle::{Frontier, Node, Plan, Sha256, leaf_hash, peaks};
use landline_region::receipt::{
    Deletion, Receipt, Signature, Signed, SigningKey, TreeHead, TreeHeadType, canonical,
};
use landline_region::{RegionCode, UnixMillis};
use serde::Serialize;

use super::facts::Reader;
use crate::chain::hash_column;
use crate::error::{Result, StoreError};
use crate::sql::{Row, Tx, Value, values};
use crate::store::Store;

const STATEMENT: &[&str] = &[
    "log_index",
    "kind",
    "subject",
    "account",
    "call",
    "chain_position",
    "body",
    "key_id",
    "signature",
];

/// Nodes that one statement asks for.
const NODES: usize = 500;

pub type Nodes = HashMap<u64, Sha256>;

/// What is added to the log in one transaction.
pub struct Growth {
    pub frontier: Frontier,
    /// When this growth began.
    size: u64,
    nodes: Vec<Vec<Value>>,
    /// Entries that are no receipts.
    statements: Vec<Vec<Value>>,
    /// Signs what is added from here on.
    pub key: Arc<SigningKey>,
}

impl Growth {
    /// Takes the lock that orders those who add: one writes at a time.
    pub async fn begin(tx: &mut Tx, store: &Store) -> Result<Self> {
        let lock = "UPDATE receipt_log SET size = size WHERE id = 1 \
                    RETURNING size, key_generation";
        let row = tx.row(lock, values![]).await?.ok_or_else(|| broken("receipt_log has no row"))?;
        let size = row.unsigned("size")?;
        let generation = row.int("key_generation")?;
        let key = store.signing_key_of(generation, &mut Reader::Tx(tx)).await?;
        let edge = peaks(0..size);
        let known = nodes(&mut Reader::Tx(tx), edge.iter().copied()).await?;
        let hashes = edge.iter().filter_map(|node| known.get(&node.position()).copied()).collect();
        let frontier = Frontier::resume(size, hashes);
        let frontier =
            frontier.ok_or_else(|| broken("a node at the log's right edge is missing"))?;
        Ok(Self { frontier, size, nodes: Vec::new(), statements: Vec::new(), key })
    }

    /// Signs a statement as the log's next entry, whose number it has to name.
    pub fn enter(
        &mut self,
        kind: &str,
        subject: &str,
        about: Option<&Deletion>,
        body: &impl Serialize,
    ) -> Result<()> {
        let octets = canonical(body).map_err(unsignable)?;
        let Signature(signature) = self.key.sign(&octets);
        let position = about.and_then(|deletion| Some(deletion.record.as_ref()?.position));
        let row = values![
            self.frontier.size(),
            kind,
            subject,
            about.map(|deletion| deletion.account),
            about.map(|deletion| deletion.call),
            position,
            String::from_utf8(octets.clone()).map_err(unsignable)?,
            self.key.id().to_string(),
            signature.to_vec(),
        ];
        self.statements.push(row);
        self.append(leaf_hash(&octets));
        Ok(())
    }

    /// States a deletion as the log's next entry.
    pub fn delete(&mut self, kind: &str, subject: &str, deletion: Deletion) -> Result<()> {
        let deletion = Deletion { log_index: self.frontier.size(), ..deletion };
        self.enter(kind, subject, Some(&deletion), &deletion)
    }

    pub fn append(&mut self, leaf: Sha256) {
        let nodes = &mut self.nodes;
        self.frontier.append(leaf, |node, hash| {
            nodes.push(values![node.position(), hash.0]);
        });
    }

    /// Writes the nodes, the new size and its head.
    pub async fn write(self, tx: &mut Tx, store: &Store, now: UnixMillis) -> Result<()> {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let head = TreeHead {
            r#type: TreeHeadType::V1,
            region: store.region(),
            signed_at: now,
            tree_size: size,
            root,
            previous_size: self.size,
        };
        let head = Signed::new(head, &self.key).map_err(unsignable)?;
        tx.insert_many("log_statement", STATEMENT, "", self.statements).await?;
        tx.insert_many("receipt_node", &["position", "hash"], "", self.nodes).await?;
        let update = "UPDATE receipt_log SET size = $1 WHERE id = 1";
        tx.execute(update, values![size]).await?;
        let insert = "INSERT INTO tree_head (tree_size, root, previous_size, signed_at, key_id, \
                      signature) VALUES ($1, $2, $3, $4, $5, $6)";
        let (key_id, signature) = (head.key_id.to_string(), head.signature.0.to_vec());
        let values = values![size, root.0, self.size, now, key_id, signature];
        tx.execute(insert, values).await.map(drop)
    }
}

/// The hashes of these nodes, of those that are there, by position.
pub async fn nodes(reader: &mut Reader<'_>, wanted: impl Iterator<Item = Node>) -> Result<Nodes> {
    let positions: Vec<u64> =
        wanted.map(Node::position).collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = HashMap::with_capacity(positions.len());
    for some in positions.chunks(NODES) {
        let list = some.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let select = format!("SELECT position, hash FROM receipt_node WHERE position IN ({list})");
        for row in reader.rows(select, values![]).await? {
            found.insert(row.unsigned("position")?, Sha256(hash_column(&row, "hash")?));
        }
    }
    Ok(found)
}

/// Puts a proof together from nodes that were read.
pub fn assembled(plan: &Plan, nodes: &Nodes) -> Result<Vec<Sha256>> {
    plan.assemble(|node| nodes.get(&node.position()).copied())
        .ok_or_else(|| broken("a node of the log is missing"))
}

pub fn head_of(row: &Row, region: RegionCode) -> Result<Signed<TreeHead>> {
    let body = TreeHead {
        r#type: TreeHeadType::V1,
        region,
        signed_at: row.time("signed_at")?,
        tree_size: row.unsigned("tree_size")?,
        root: Sha256(hash_column(row, "root")?),
        previous_size: row.unsigned("previous_size")?,
    };
    Ok(Signed { body, key_id: row.parse("key_id")?, signature: signature(row)? })
}

pub fn receipt_of(row: &Row) -> Result<Signed<Receipt>> {
    let body = serde_json::from_str(&row.text("body")?).map_err(|error| StoreError::Column {
        column: "receipt.body".to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Signed { body, key_id: row.parse("key_id")?, signature: signature(row)? })
}

pub fn signature(row: &Row) -> Result<Signature> {
    let octets = row.bytes("signature")?.try_into().map_err(|_| StoreError::Column {
        column: "signature".to_owned(),
        problem: "it is not 64 octets long".to_owned(),
    })?;
    Ok(Signature(octets))
}

pub fn broken(problem: &str) -> StoreError {
    StoreError::Log { problem: problem.to_owned() }
}

/// Times or counts beyond 2^53.
pub fn unsignable(error: impl ToString) -> StoreError {
    StoreError::Column { column: "receipt".to_owned(), problem: error.to_string() }
}
