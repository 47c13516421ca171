//! The region's chain of closed calls: each record's hash covers the one
//! before, so that a changed, moved or removed record is seen.
//!
//! Hashed is what the tables hold, sealed columns as they are: the chain still
//! verifies after an erasure destroyed keys.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest::{Context, SHA256};
use landline_region::receipt::{Deletion, Record};
use landline_region::{CallSid, RegionCode};
use sqlx::AssertSqlSafe;

use crate::call::ChainReport;
use crate::error::{Result, StoreError};
use crate::receipt::statement_of;
use crate::sql::{Database, Row, Tx, values};
use crate::store::Store;

const PAGE: i64 = 500;

enum Kind {
    Int,
    Text,
    Bytes,
}
use Kind::{Bytes, Int, Text};

/// How calls are hashed that close now. Records of version 3 say by which edges
/// their legs went; they are hashed as those of version 2.
pub const VERSION: i64 = 3;

/// Order and meaning are part of the hash: never changed, only versioned. The
/// keyed indexes are left out, which go when a person's data is erased; they
/// are checked against the sealed parties while those can be opened.
const CALL_COLUMNS: &[(&str, Kind)] = &[
    ("sid", Text),
    ("account", Text),
    ("direction", Text),
    ("party_from", Bytes),
    ("party_to", Bytes),
    ("opened_at", Int),
    ("ringing_at", Int),
    ("answered_at", Int),
    ("answered_leg", Text),
    ("closed_at", Int),
    ("sip_status", Int),
    ("cause", Text),
    ("hung_up_by", Text),
    ("home_region", Text),
    ("signalling_region", Text),
    ("media_region", Text),
    ("storage_region", Text),
    ("relay_id", Text),
    ("proxy", Text),
    ("key_id", Text),
    ("contracting_entity", Text),
    ("recording", Text),
    ("consent_by_policy", Int),
    ("consent_granted_at", Int),
    ("retention_until", Int),
];

/// Added by version 2, in which no column of a record is left out.
const CALL_COLUMNS_2: &[(&str, Kind)] = &[("last_at", Int), ("next_sequence", Int)];

const LEG_COLUMNS: &[(&str, Kind)] = &[
    ("sid", Text),
    ("role", Text),
    ("party_user", Text),
    ("party_trunk", Text),
    ("sip_call_id", Bytes),
    ("media", Text),
    ("opened_at", Int),
    ("closed_at", Int),
    ("sip_status", Int),
    ("stats", Bytes),
];

const LEG_COLUMNS_2: &[(&str, Kind)] = &[
    ("call", Text),
    ("account", Text),
    ("codec", Text),
    ("mos_x100", Int),
    ("received_packets", Int),
    ("received_lost", Int),
    ("received_jitter_us", Int),
    ("sent_packets", Int),
    ("sent_lost", Int),
    ("sent_jitter_us", Int),
];

/// Columns that came later: hashed by name where they are set, so that records
/// from before have the hashes they had.
const LATER_CALL_COLUMNS: &[(&str, Kind)] = &[("join_token", Text), ("moves", Text)];
const LATER_LEG_COLUMNS: &[(&str, Kind)] =
    &[("party_region", Text), ("edge_regions", Text), ("diverted", Text)];

/// What the first record of a region's chain has before it.
pub fn origin(region: RegionCode) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(format!("landline call chain {region}").as_bytes());
    finish(context)
}

/// Appends the calls, which this transaction has closed, in this order, and
/// lets them wait for their receipts.
pub async fn extend(tx: &mut Tx, database: &Database, closed: &[CallSid]) -> Result<()> {
    // The row lock orders transactions of several proxies on one chain.
    let lock = "UPDATE call_chain SET position = position WHERE id = 1 RETURNING position, head";
    let row = tx.row(lock, values![]).await?.ok_or_else(|| gone("call_chain has no row"))?;
    let (mut position, mut head) = (row.int("position")?, hash_column(&row, "head")?);

    let sids: Vec<String> = closed.iter().map(CallSid::to_string).collect();
    let select = format!("SELECT * FROM call WHERE {}", database.among("sid", 1));
    let calls = tx.rows(AssertSqlSafe(select), values![sids.clone()]).await?;
    let select = format!("SELECT * FROM call_leg WHERE {} ORDER BY sid", database.among("call", 1));
    let legs = grouped(tx.rows(AssertSqlSafe(select), values![sids]).await?)?;
    let mut by_sid = HashMap::with_capacity(calls.len());
    for row in calls {
        by_sid.insert(row.parse::<CallSid>("sid")?, row);
    }

    let mut updates = Vec::with_capacity(closed.len());
    let mut pending = Vec::with_capacity(closed.len());
    for sid in closed {
        let Some(call) = by_sid.get(sid) else { continue };
        let legs: &[Row] = legs.get(sid).map_or(&[], Vec::as_slice);
        let hash = record_hash(VERSION, &head, call, legs)?;
        position += 1;
        updates.push(values![*sid, position, head, hash, VERSION]);
        pending.push(values![*sid, position, call.int("closed_at")?]);
        head = hash;
    }
    let columns = ["sid", "chain_position", "previous_hash", "hash", "hash_version"];
    tx.update_many("call", 1, &columns, updates).await?;
    let columns = ["call", "chain_position", "closed_at"];
    tx.insert_many("receipt_pending", &columns, "", pending).await?;
    let update = "UPDATE call_chain SET position = $1, head = $2 WHERE id = 1";
    tx.execute(update, values![position, head]).await.map(drop)
}

impl Store {
    /// Recomputes the region's chain of closed calls. The error names the first
    /// call whose record was changed or whose predecessor is missing.
    pub async fn call_chain_verify(&self) -> Result<ChainReport> {
        let end = self.database().row("SELECT position, head FROM call_chain", values![]).await?;
        let end = end.ok_or_else(|| gone("call_chain has no row"))?;
        let (end, wanted) = (end.int("position")?, hash_column(&end, "head")?);
        let (mut position, mut head) = (0, origin(self.region()));
        while position < end {
            let upto = end.min(position + PAGE);
            let calls = self.chain_page(position, upto).await?;
            let mut deleted = self.chain_deleted(position, upto).await?;
            let sids: Vec<String> = calls.iter().map(|r| r.text("sid")).collect::<Result<_>>()?;
            let legs = self.chain_legs(sids).await?;
            for call in &calls {
                let sid: CallSid = call.parse("sid")?;
                pass_deleted(&mut deleted, &mut position, &mut head)?;
                position += 1;
                let broken =
                    |problem: &str| StoreError::Chain { call: sid, problem: problem.into() };
                if call.int("chain_position")? != position {
                    return Err(broken("the record before it was removed"));
                }
                if hash_column(call, "previous_hash")? != head {
                    return Err(broken("it does not follow the record before it"));
                }
                let legs: &[Row] = legs.get(&sid).map_or(&[], Vec::as_slice);
                head = record_hash(call.int("hash_version")?, &head, call, legs)?;
                if hash_column(call, "hash")? != head {
                    return Err(broken("its record was changed after it was closed"));
                }
            }
            pass_deleted(&mut deleted, &mut position, &mut head)?;
            if position < upto {
                return Err(gone(&format!("records after number {position} were removed")));
            }
        }
        if head != wanted {
            return Err(gone("the chain's head is not its last record's hash"));
        }
        Ok(ChainReport { calls: position.unsigned_abs(), head })
    }

    async fn chain_page(&self, after: i64, upto: i64) -> Result<Vec<Row>> {
        let select = "SELECT * FROM call WHERE chain_position > $1 AND chain_position <= $2 \
                      ORDER BY chain_position";
        self.database().rows(select, values![after, upto]).await
    }

    /// The records of this part that were deleted, as the log has them.
    async fn chain_deleted(&self, after: i64, upto: i64) -> Result<VecDeque<Record>> {
        let select = "SELECT * FROM log_statement WHERE chain_position > $1 \
                      AND chain_position <= $2 ORDER BY chain_position";
        let rows = self.database().rows(select, values![after, upto]).await?;
        let record = |row: &Row| Ok(statement_of::<Deletion>(row)?.body.record);
        Ok(rows.iter().map(record).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    async fn chain_legs(&self, calls: Vec<String>) -> Result<HashMap<CallSid, Vec<Row>>> {
        let among = self.database().among("call", 1);
        let select = format!("SELECT * FROM call_leg WHERE {among} ORDER BY sid");
        grouped(self.database().rows(AssertSqlSafe(select), values![calls]).await?)
    }
}

/// Goes on behind the records that come next and were deleted: that they were,
/// and what their hashes were, is signed.
fn pass_deleted(
    deleted: &mut VecDeque<Record>,
    position: &mut i64,
    head: &mut [u8; 32],
) -> Result<()> {
    while let Some(record) =
        deleted.pop_front_if(|it| i64::try_from(it.position) == Ok(*position + 1))
    {
        if record.previous.0 != *head {
            return Err(gone(&format!(
                "record {}, deleted, does not follow the one before",
                record.position
            )));
        }
        (*position, *head) = (*position + 1, record.hash.0);
    }
    Ok(())
}

pub fn grouped(legs: Vec<Row>) -> Result<HashMap<CallSid, Vec<Row>>> {
    let mut by_call: HashMap<CallSid, Vec<Row>> = HashMap::new();
    for leg in legs {
        by_call.entry(leg.parse("call")?).or_default().push(leg);
    }
    Ok(by_call)
}

/// The hash of a call's record that follows the one of hash `previous`. The
/// legs come in the order of their sids.
pub fn record_hash(
    version: i64,
    previous: &[u8; 32],
    call: &Row,
    legs: &[Row],
) -> Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    context.update(format!("landline call {version}").as_bytes());
    context.update(previous);
    let whole = match version {
        1 => false,
        2 | VERSION => true,
        _ => {
            let problem = format!("version {version} is not known");
            return Err(StoreError::Column { column: "call.hash_version".to_owned(), problem });
        }
    };
    update(&mut context, call, CALL_COLUMNS)?;
    if whole {
        update(&mut context, call, CALL_COLUMNS_2)?;
    }
    update_later(&mut context, call, LATER_CALL_COLUMNS)?;
    context.update(&(legs.len() as u64).to_be_bytes());
    for leg in legs {
        update(&mut context, leg, LEG_COLUMNS)?;
        if whole {
            update(&mut context, leg, LEG_COLUMNS_2)?;
        }
        update_later(&mut context, leg, LATER_LEG_COLUMNS)?;
    }
    Ok(finish(context))
}

/// Each column as its presence, length and octets.
fn update(context: &mut Context, row: &Row, columns: &[(&str, Kind)]) -> Result<()> {
    for (name, kind) in columns {
        match octets(row, name, kind)? {
            None => context.update(&[0]),
            Some(octets) => {
                context.update(&[1]);
                context.update(&(octets.len() as u64).to_be_bytes());
                context.update(&octets);
            }
        }
    }
    Ok(())
}

/// Nothing for an empty column; else its name, length and octets.
fn update_later(context: &mut Context, row: &Row, columns: &[(&str, Kind)]) -> Result<()> {
    for (name, kind) in columns {
        let Some(octets) = octets(row, name, kind)? else { continue };
        for part in [name.as_bytes(), &octets] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    Ok(())
}

fn octets(row: &Row, name: &str, kind: &Kind) -> Result<Option<Vec<u8>>> {
    Ok(match kind {
        Int => row.int_or_null(name)?.map(|value| value.to_be_bytes().to_vec()),
        Text => row.text_or_null(name)?.map(String::into_bytes),
        Bytes => row.bytes_or_null(name)?,
    })
}

fn finish(context: Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

pub fn hash_column(row: &Row, name: &str) -> Result<[u8; 32]> {
    let bytes = row.bytes_or_null(name)?.unwrap_or_default();
    bytes.try_into().map_err(|_| StoreError::Column {
        column: name.to_owned(),
        problem: "it is not a SHA-256 hash".to_owned(),
    })
}

fn gone(problem: &str) -> StoreError {
    StoreError::Column { column: "call_chain.head".to_owned(), problem: problem.to_owned() }
}
