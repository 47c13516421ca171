//! Receipts of calls and residency reports: files that are checked without
//! the region, handed out as they are. `docs/receipts.md` explains each member.

use std::sync::Arc;

use landline_region::{CallSid, UnixMillis};
use landline_store::StoreError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::time::wall_clock;

/// A report over HTTPS lists no more calls: `landline residency prove` does.
const REPORTED: u32 = 10_000;

/// Only its schema is of use: what is sent is the file itself.
#[derive(JsonSchema, Serialize)]
pub struct ReceiptFile {
    /// `landline/receipt-file/1`.
    #[serde(rename = "type")]
    pub kind: String,
    pub evidence: Evidence,
    pub tree_head: Signed,
    pub keys: Vec<PublicKey>,
}

/// Only its schema is of use, as of all that follow.
#[derive(JsonSchema, Serialize)]
pub struct ReportFile {
    /// `landline/residency-report-file/1`.
    #[serde(rename = "type")]
    pub kind: String,
    pub report: Signed,
    pub receipts: Vec<Evidence>,
    pub earlier_head: Option<Signed>,
    /// SHA-256, in hexadecimal.
    pub consistency: Vec<String>,
    pub tree_head: Signed,
    pub keys: Vec<PublicKey>,
}

#[derive(JsonSchema, Serialize)]
pub struct Evidence {
    pub receipt: Signed,
    pub inclusion: Inclusion,
}

#[derive(JsonSchema, Serialize)]
pub struct Inclusion {
    pub tree_size: u64,
    /// SHA-256, in hexadecimal.
    pub path: Vec<String>,
}

/// A statement, and the Ed25519 signature of its canonical octets (RFC 8785).
#[derive(JsonSchema, Serialize)]
pub struct Signed {
    pub body: Map<String, Value>,
    pub key_id: String,
    pub signature: String,
}

#[derive(JsonSchema, Serialize)]
pub struct PublicKey {
    pub region: String,
    pub ed25519: String,
}

/// A receipt outlives its call's record.
pub async fn of_call(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (account, call): (_, CallSid) = (input.account()?, input.sid("call")?);
    match app.store.receipt_of(call).await? {
        Some(receipt) if receipt.body.account == account => {
            Reply::json(&app.store.receipt_file(call).await?)
        }
        Some(_) => Err(Problem::not_found(format!("no call {call} in account {account}"))),
        None => {
            super::calls::own(&app, account, call).await?;
            // Says why there is none yet.
            Reply::json(&app.store.receipt_file(call).await?)
        }
    }
}

pub async fn report(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let from = input.query.time("StartTime>")?.unwrap_or(UnixMillis(0));
    let to = match input.query.time("StartTime<")? {
        Some(to) => to,
        None => wall_clock(),
    };
    if from >= to {
        return Err(Problem::invalid("StartTime>", "wanted before `StartTime<`"));
    }
    let made = app.store.residency_report_of(input.account()?, (from, to), REPORTED).await;
    match made {
        Ok(report) => Reply::json(&report),
        Err(StoreError::Invalid { problem, .. }) => Err(Problem::invalid("StartTime<", problem)),
        Err(error) => Err(error.into()),
    }
}
