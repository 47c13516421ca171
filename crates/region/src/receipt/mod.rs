//! What a region states about a closed call, signed: every region that touched
//! its signalling, media and storage, and the hashes of what was written down.
//!
//! A statement holds no personal data: sids, region codes, configured names,
//! hashes and times. Its canonical octets (RFC 8785) are signed with the
//! region's key (RFC 8032) and are an entry of the region's log
//! ([`crate::merkle`], RFC 9162). `docs/receipts.md` says how to check one
//! without this program.

mod canonical;
mod egress;
mod file;
mod key;
mod keys;
mod statement;
mod verify;

use serde::{Deserialize, Serialize};

use crate::merkle::{Sha256, Tree, leaf_hash};
use crate::{AccountSid, CallSid, RecordingSid, RegionCode, UnixMillis};

pub use canonical::{NotCanonical, canonical};
pub use egress::{CallFlow, Egress, EgressLine, EgressTotal, LegParty, LegWay, egress_totals};
pub use file::{
    Document, Evidence, Inclusion, PublicKey, ReceiptFile, ReceiptFileType, ReportFile,
    ReportFileType, UnreadableFile,
};
pub use key::{InvalidKey, InvalidSignature, KeyId, Signature, SigningKey, VerifyingKey};
pub use statement::{
    DeletedRecording, Deletion, DeletionReason, DeletionType, Entry, KeyChange, KeyChangeType,
};
pub use verify::{Trust, Verdict, verify};

/// A statement, and who signed its canonical octets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed<T> {
    pub body: T,
    pub key_id: KeyId,
    pub signature: Signature,
}

impl<T: Serialize> Signed<T> {
    pub fn new(body: T, key: &SigningKey) -> Result<Self, NotCanonical> {
        let signature = key.sign(&canonical(&body)?);
        Ok(Self { body, key_id: key.id(), signature })
    }

    pub fn is_by(&self, key: &VerifyingKey) -> bool {
        key.id() == self.key_id
            && canonical(&self.body).is_ok_and(|octets| key.verifies(&octets, &self.signature))
    }
}

/// The `type` members keep statements apart: the signature of one is never
/// that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptType {
    #[serde(rename = "landline/receipt/1")]
    V1,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub r#type: ReceiptType,
    /// Who states this: the region that holds the call's record.
    pub region: RegionCode,
    /// Which entry of the region's log this is, counted from 0.
    pub log_index: u64,
    /// All times are milliseconds since 1970.
    pub issued_at: UnixMillis,
    pub call: CallSid,
    pub account: AccountSid,
    pub contracting_entity: String,
    pub opened_at: UnixMillis,
    pub answered_at: Option<UnixMillis>,
    pub closed_at: UnixMillis,
    pub regions: Regions,
    /// The configured names of what signalled and carried the call.
    pub proxy: String,
    pub relay: Option<String>,
    /// To being recorded.
    pub consent: Option<Consent>,
    pub key: CallKey,
    pub record: Record,
    pub recordings: Vec<Recording>,
    pub egress: Egress,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    pub home: RegionCode,
    pub signalling: RegionCode,
    /// `None`: no media was carried.
    pub media: Option<RegionCode>,
    pub storage: RegionCode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Given beforehand by the account's policy, not by the caller's own act.
    pub by_policy: bool,
    pub granted_at: UnixMillis,
}

/// The key that personal columns or packets were sealed with, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallKey {
    pub id: String,
    /// `None`: it was destroyed before the receipt was issued.
    pub created_at: Option<UnixMillis>,
}

/// The call's record and its legs, as the region's chain of closed calls
/// hashes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// In the chain, counted from 1.
    pub position: u64,
    pub previous: Sha256,
    pub hash: Sha256,
    pub legs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    pub sid: RecordingSid,
    pub state: RecordingState,
    /// `None`: nothing of it is stored.
    pub stored: Option<StoredRecording>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    Finished,
    /// Its relay died or its end did not arrive in time: what is stored counts.
    Unfinished,
    /// Was to be made, and nothing arrived.
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRecording {
    pub home_region: RegionCode,
    pub storage_region: RegionCode,
    pub key: CallKey,
    pub consent: Consent,
    pub started_at: UnixMillis,
    pub finished_at: Option<UnixMillis>,
    pub duration_ms: u64,
    pub expected_packets: u64,
    pub stored_packets: u64,
    pub chunks: u64,
    /// The hash of the last sealed chunk, which covers all before it.
    pub head: Sha256,
}

impl Receipt {
    /// RFC 9162 §2.1.1, over the canonical octets.
    pub fn leaf(&self) -> Result<Sha256, NotCanonical> {
        canonical(self).map(|octets| leaf_hash(&octets))
    }

    /// Every region that signalled, carried or stored the call, and in what
    /// part. Where the call itself led is in its lines of egress.
    pub fn touched(&self) -> Vec<(&'static str, RegionCode)> {
        let regions = &self.regions;
        let mut touched = vec![
            ("statement", self.region),
            ("home", regions.home),
            ("signalling", regions.signalling),
            ("storage", regions.storage),
        ];
        touched.extend(regions.media.map(|media| ("media", media)));
        for stored in self.recordings.iter().filter_map(|recording| recording.stored.as_ref()) {
            touched.push(("recording home", stored.home_region));
            touched.push(("recording storage", stored.storage_region));
        }
        touched
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeHeadType {
    #[serde(rename = "landline/tree-head/1")]
    V1,
}

/// RFC 9162 §4.10: what the log was at a time. Two heads of one size and
/// different roots prove that the region showed two histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeHead {
    pub r#type: TreeHeadType,
    pub region: RegionCode,
    pub signed_at: UnixMillis,
    pub tree_size: u64,
    pub root: Sha256,
    /// The size of the head before this one, so that none can be left out
    /// unseen; 0 in the first.
    pub previous_size: u64,
}

impl TreeHead {
    pub fn tree(&self) -> Tree {
        Tree { size: self.tree_size, root: self.root }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportType {
    #[serde(rename = "landline/residency-report/1")]
    V1,
}

/// What a region states about an account's calls of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub r#type: ReportType,
    pub region: RegionCode,
    pub made_at: UnixMillis,
    pub account: AccountSid,
    /// Calls opened at or after `from`, and before `to`.
    pub from: UnixMillis,
    pub to: UnixMillis,
    /// Calls of the period: closed ones are those with a receipt and those
    /// that wait for theirs.
    pub closed: u64,
    pub open: u64,
    pub waiting: u64,
    /// How many receipts the report lists, and the Merkle root over their
    /// leaves in the report's order.
    pub receipts: u64,
    pub receipts_root: Sha256,
    /// Regions other than the home that occur in any of them.
    pub other_regions: Vec<RegionCode>,
    /// Lines of egress in them.
    pub egress_lines: u64,
    /// Receipts of calls whose record does not say what left.
    pub egress_unreported: u64,
    /// What the lines come to by way and receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressTotal>,
}
