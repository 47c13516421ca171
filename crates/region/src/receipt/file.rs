//! What is handed to a customer or an auditor: statements with everything
//! that is needed to check them without the region.

use serde::{Deserialize, Serialize};

use super::{
    Deletion, Entry, KeyChange, Receipt, Report, Signed, TreeHead, VerifyingKey, canonical,
};
use crate::RegionCode;
use crate::merkle::{Sha256, is_included, leaf_hash};

/// A receipt with its place in the log. RFC 9162 §4.12.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub receipt: Signed<Receipt>,
    pub inclusion: Inclusion,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    pub tree_size: u64,
    pub path: Vec<Sha256>,
}

impl Inclusion {
    /// Whether the path leads from the statement, as this entry, to the head.
    pub fn places(&self, statement: &impl Serialize, index: u64, head: &TreeHead) -> bool {
        let leaf = canonical(statement).map(|octets| leaf_hash(&octets));
        self.tree_size == head.tree_size
            && leaf
                .is_ok_and(|leaf| is_included(leaf, index, head.tree_size, &self.path, head.root))
    }
}

/// A key that the file brings along. That it does proves nothing of whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    pub region: RegionCode,
    pub ed25519: String,
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self { region: key.region(), ed25519: key.to_hex() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptFileType {
    #[serde(rename = "landline/receipt-file/1")]
    V1,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    pub r#type: ReceiptFileType,
    pub evidence: Evidence,
    pub tree_head: Signed<TreeHead>,
    /// What of the call was deleted since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Entry<Deletion>>,
    /// From the region's first key to the one that signed `tree_head`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<Entry<KeyChange>>,
    pub keys: Vec<PublicKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportFileType {
    #[serde(rename = "landline/residency-report-file/1")]
    V1,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    pub r#type: ReportFileType,
    pub report: Signed<Report>,
    /// In the order of the log, all included in `tree_head`.
    pub receipts: Vec<Evidence>,
    /// The head before the first receipt's, where there is one, and the proof
    /// that the log only grew from it to `tree_head`.
    pub earlier_head: Option<Signed<TreeHead>>,
    pub consistency: Vec<Sha256>,
    pub tree_head: Signed<TreeHead>,
    /// What of the calls was deleted since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Entry<Deletion>>,
    /// From the region's first key to the one that signed `tree_head`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<Entry<KeyChange>>,
    pub keys: Vec<PublicKey>,
}

/// Either kind of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Receipt(Box<ReceiptFile>),
    Report(Box<ReportFile>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither a receipt nor a residency report that this program knows: {0}")]
pub struct UnreadableFile(String);

impl Document {
    /// Strict: a member that is unknown or stands twice is refused, so that what
    /// a reader sees in the file is what was signed.
    pub fn parse(text: &str) -> Result<Self, UnreadableFile> {
        #[derive(Deserialize)]
        struct Kind {
            r#type: String,
        }
        let unreadable = |error: serde_json::Error| UnreadableFile(error.to_string());
        let kind: Kind = serde_json::from_str(text).map_err(unreadable)?;
        match kind.r#type.as_str() {
            "landline/receipt-file/1" => {
                Ok(Self::Receipt(serde_json::from_str(text).map_err(unreadable)?))
            }
            "landline/residency-report-file/1" => {
                Ok(Self::Report(serde_json::from_str(text).map_err(unreadable)?))
            }
            other => {
                let other: String = other.chars().take(64).collect();
                Err(UnreadableFile(format!("its type is `{other}`")))
            }
        }
    }

    /// The head of the log that the file was made under.
    pub fn tree_head(&self) -> &Signed<TreeHead> {
        match self {
            Self::Receipt(file) => &file.tree_head,
            Self::Report(file) => &file.tree_head,
        }
    }

    /// All heads that the file holds, the earlier first.
    pub fn tree_heads(&self) -> Vec<&Signed<TreeHead>> {
        let earlier = match self {
            Self::Receipt(_) => None,
            Self::Report(file) => file.earlier_head.as_ref(),
        };
        earlier.into_iter().chain([self.tree_head()]).collect()
    }

    pub fn key_changes(&self) -> &[Entry<KeyChange>] {
        match self {
            Self::Receipt(file) => &file.key_changes,
            Self::Report(file) => &file.key_changes,
        }
    }

    pub fn keys(&self) -> &[PublicKey] {
        match self {
            Self::Receipt(file) => &file.keys,
            Self::Report(file) => &file.keys,
        }
    }
}
