//! The log's entries that are no receipts: what was deleted, and with which
//! key the region signs from there on.

use serde::{Deserialize, Serialize};

use super::file::Inclusion;
use super::{InvalidKey, Receipt, Record, RecordingState, Signed, VerifyingKey};
use crate::merkle::Sha256;
use crate::{AccountSid, CallSid, RecordingSid, RegionCode, UnixMillis};

/// A signed statement with its place in the log. RFC 9162 §4.12.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<T> {
    pub statement: Signed<T>,
    pub inclusion: Inclusion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionType {
    #[serde(rename = "landline/deletion/1")]
    V1,
}

/// That something was deleted which a receipt speaks of. Of `record` and
/// `recording` one is there: what was deleted, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    pub r#type: DeletionType,
    pub region: RegionCode,
    pub log_index: u64,
    pub deleted_at: UnixMillis,
    pub account: AccountSid,
    pub call: CallSid,
    /// The call's record with its legs.
    pub record: Option<Record>,
    pub recording: Option<DeletedRecording>,
    pub reason: DeletionReason,
    /// The sid of the API's key, `operator` or `retention`.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletedRecording {
    pub sid: RecordingSid,
    pub chunks: u64,
    /// The hash of the last sealed chunk, which covers all before it.
    pub head: Sha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletionReason {
    /// Somebody who may asked for it.
    Request,
    /// A person's data was to go (GDPR Art. 17).
    Erasure,
    /// Its time was over.
    Retention,
}

impl DeletionReason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Erasure => "erasure",
            Self::Retention => "retention",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyChangeType {
    #[serde(rename = "landline/key-change/1")]
    V1,
}

/// Signed by the former key: the next one signs whatever comes after this entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    pub r#type: KeyChangeType,
    pub region: RegionCode,
    pub log_index: u64,
    pub changed_at: UnixMillis,
    /// Both in hexadecimal.
    pub former: String,
    pub next: String,
}

impl KeyChange {
    pub fn former(&self) -> Result<VerifyingKey, InvalidKey> {
        VerifyingKey::from_hex(self.region, &self.former)
    }

    pub fn next(&self) -> Result<VerifyingKey, InvalidKey> {
        VerifyingKey::from_hex(self.region, &self.next)
    }
}

impl Deletion {
    /// Whether what was deleted is what the receipt names. A recording that was
    /// not finished may have grown since.
    pub fn is_of(&self, receipt: &Receipt) -> bool {
        let ours = self.call == receipt.call && self.account == receipt.account;
        ours && match (&self.record, &self.recording) {
            (Some(record), None) => *record == receipt.record,
            (None, Some(deleted)) => {
                let named = receipt.recordings.iter().find(|it| it.sid == deleted.sid);
                named.is_some_and(|named| match (&named.state, &named.stored) {
                    (RecordingState::Finished, Some(stored)) => {
                        (deleted.chunks, deleted.head) == (stored.chunks, stored.head)
                    }
                    (_, Some(stored)) => {
                        deleted.chunks > stored.chunks
                            || deleted.head == stored.head
                            || self.log_index < receipt.log_index
                    }
                    (_, None) => true,
                })
            }
            _ => false,
        }
    }

    pub fn in_words(&self) -> String {
        let what = match (&self.recording, &self.record) {
            (Some(recording), _) => format!(
                "recording {}, {} chunks hashing to {},",
                recording.sid, recording.chunks, recording.head
            ),
            (None, Some(record)) => {
                format!("the record of call {}, hashing to {},", self.call, record.hash)
            }
            (None, None) => "nothing".to_owned(),
        };
        format!("{what} was deleted at {}: {}, by {}", self.deleted_at, self.reason.name(), self.by)
    }
}
