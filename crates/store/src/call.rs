use landline_call::record::{CallDirection, CallEvent, Cause, HungUpBy, LegRole, Party};
use landline_control::{LegStats, Protocol, RelayId};
use landline_region::{
    AccountSid, CallSid, LegSid, Personal, RecordingSid, RegionCode, UnixMillis,
};

use crate::error::Result;
use crate::recording::RecordingRecord;
use crate::store::{Store, not_ready};

/// What became of a batch of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub applied: usize,
    /// Were there already.
    pub duplicates: usize,
    /// Belong to a call whose opening is not in the database.
    pub orphans: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallState {
    #[default]
    Any,
    Open,
    Closed,
}

#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    pub account: Option<AccountSid>,
    /// Opened at or after.
    pub since: Option<UnixMillis>,
    pub state: CallState,
    /// At most 10 000; `None` is 100.
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    pub sid: CallSid,
    pub account: AccountSid,
    pub direction: CallDirection,
    pub from: Personal<String>,
    pub to: Personal<String>,
    pub opened_at: UnixMillis,
    pub ringing_at: Option<UnixMillis>,
    pub answered_at: Option<UnixMillis>,
    pub answered_leg: Option<LegSid>,
    pub closed_at: Option<UnixMillis>,
    pub sip_status: Option<u16>,
    pub cause: Option<Cause>,
    pub hung_up_by: Option<HungUpBy>,
    pub home_region: RegionCode,
    pub signalling_region: RegionCode,
    pub media_region: Option<RegionCode>,
    pub storage_region: RegionCode,
    pub relay: Option<RelayId>,
    pub proxy: String,
    pub key_id: String,
    pub contracting_entity: String,
    pub retention_until: Option<UnixMillis>,
    /// SHA-256 of the record closed before this one in the region.
    pub previous_hash: Option<[u8; 32]>,
    pub hash: Option<[u8; 32]>,
    pub recording: Option<RecordingSid>,
    /// Filled by [`Store::call_show`].
    pub legs: Vec<LegRecord>,
    /// Filled by [`Store::call_show`].
    pub recordings: Vec<RecordingRecord>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LegRecord {
    pub sid: LegSid,
    pub role: LegRole,
    pub party: Party,
    pub sip_call_id: Personal<String>,
    pub media: Option<Protocol>,
    pub opened_at: UnixMillis,
    pub closed_at: Option<UnixMillis>,
    pub sip_status: Option<u16>,
    /// Codec, MOS, loss and jitter per direction.
    pub stats: Option<LegStats>,
}

/// A call that was opened and not closed.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenCall {
    pub sid: CallSid,
    pub account: AccountSid,
    pub proxy: String,
    pub opened_at: UnixMillis,
    /// The time of the last event that was written.
    pub last_at: UnixMillis,
    pub next_sequence: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainReport {
    /// Closed calls whose hashes were verified.
    pub calls: u64,
    pub head: [u8; 32],
}

impl Store {
    /// Writes events down, each once by `(call, sequence)`. All or none.
    pub async fn apply_events(&self, events: &[CallEvent]) -> Result<Applied> {
        let _ = events;
        Err(not_ready("call"))
    }

    /// Newest first.
    pub async fn call_list(&self, filter: &CallFilter) -> Result<Vec<CallRecord>> {
        let _ = filter;
        Err(not_ready("call"))
    }

    pub async fn call_show(&self, call: CallSid) -> Result<CallRecord> {
        Err(not_ready(&call.to_string()))
    }

    /// Whether this region's database has the call's record.
    pub async fn holds(&self, call: CallSid) -> Result<bool> {
        Err(not_ready(&call.to_string()))
    }

    /// Open calls, of one proxy or of all.
    pub async fn open_calls(&self, proxy: Option<&str>) -> Result<Vec<OpenCall>> {
        let _ = proxy;
        Err(not_ready("call"))
    }

    /// Recomputes the region's chain of closed calls.
    pub async fn call_chain_verify(&self) -> Result<ChainReport> {
        Err(not_ready("call"))
    }
}
