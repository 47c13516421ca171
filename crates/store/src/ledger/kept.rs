//! Answered calls as they lie among the ledger's events, so that one fsync keeps
//! both: the same segments, the same seal. The next run of the proxy takes them
//! up.

use std::collections::{BTreeMap, HashMap};

use landline_call::Snapshot;
use landline_region::{AccountSid, CallSid, Personal, UnixMillis};
use serde::{Deserialize, Serialize};

/// What is to be kept of a call beside its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptCall {
    /// Replaces what was kept of the call before. Its last event ends it.
    State(Snapshot),
    /// The call goes on elsewhere.
    Gone(CallSid),
}

// The first octet tells them from events, which begin with the length of a sid.
const STATE: u8 = 0;
const GONE: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    call: CallSid,
    account: AccountSid,
    sequence: u32,
    at: UnixMillis,
    state: Vec<u8>,
}

impl KeptCall {
    pub fn call(&self) -> CallSid {
        match self {
            Self::State(snapshot) => snapshot.call,
            Self::Gone(call) => *call,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::State(snapshot) => {
                let written = Written {
                    call: snapshot.call,
                    account: snapshot.account,
                    sequence: snapshot.sequence,
                    at: snapshot.at,
                    state: snapshot.state.expose().clone(),
                };
                postcard::to_extend(&written, vec![STATE]).expect("plain types serialise")
            }
            Self::Gone(call) => {
                postcard::to_extend(call, vec![GONE]).expect("plain types serialise")
            }
        }
    }

    /// `Err` says what is wrong with the octets.
    pub fn decode(octets: &[u8]) -> Result<Self, String> {
        match octets.split_first() {
            Some((&STATE, rest)) => {
                let written: Written = postcard::from_bytes(rest).map_err(|e| e.to_string())?;
                Ok(Self::State(Snapshot {
                    call: written.call,
                    account: written.account,
                    sequence: written.sequence,
                    at: written.at,
                    state: Personal::new(written.state),
                }))
            }
            Some((&GONE, rest)) => {
                postcard::from_bytes(rest).map(Self::Gone).map_err(|e| e.to_string())
            }
            _ => Err("it is no kept call".to_owned()),
        }
    }
}

/// Whether a record is one of these, and no event.
pub fn is_kept(octets: &[u8]) -> bool {
    matches!(octets.first(), Some(&(STATE | GONE)))
}

/// The calls that are kept, as they are to be written into the next segment:
/// the one before is removed once its events are in the database.
#[derive(Default)]
pub struct Live {
    calls: BTreeMap<CallSid, Vec<u8>>,
    octets: u64,
}

impl Live {
    pub fn of(calls: &HashMap<CallSid, Snapshot>) -> Self {
        let mut live = Self::default();
        for snapshot in calls.values() {
            live.keep(snapshot.call, KeptCall::State(snapshot.clone()).encode());
        }
        live
    }

    pub fn keep(&mut self, call: CallSid, octets: Vec<u8>) {
        self.octets += octets.len() as u64;
        if let Some(former) = self.calls.insert(call, octets) {
            self.octets -= former.len() as u64;
        }
    }

    pub fn forget(&mut self, call: CallSid) {
        if let Some(former) = self.calls.remove(&call) {
            self.octets -= former.len() as u64;
        }
    }

    pub fn octets(&self) -> u64 {
        self.octets
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.calls.values().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_is_no_event() {
        let snapshot = Snapshot {
            call: CallSid::from_u128(7),
            account: AccountSid::from_u128(8),
            sequence: 4,
            at: UnixMillis(5),
            state: Personal::new(vec![1, 2, 3]),
        };
        for kept in [KeptCall::State(snapshot), KeptCall::Gone(CallSid::from_u128(9))] {
            let octets = kept.encode();
            assert!(is_kept(&octets));
            assert_eq!(KeptCall::decode(&octets).as_ref(), Ok(&kept));
            assert!(KeptCall::decode(&octets[..octets.len() - 1]).is_err());
        }
    }
}
