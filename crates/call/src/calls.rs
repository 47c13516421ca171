//! The calls of a core.

use landline_region::CallSid;
use rustc_hash::FxHashMap;

use crate::call::Call;

/// Names a call while the core lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallKey(pub u64);

#[derive(Default)]
pub(crate) struct Calls {
    calls: FxHashMap<CallKey, Box<Call>>,
    sids: FxHashMap<CallSid, CallKey>,
    last: u64,
}

impl Calls {
    pub(crate) fn next_key(&mut self) -> CallKey {
        self.last += 1;
        CallKey(self.last)
    }

    pub(crate) fn insert(&mut self, call: Call) {
        self.sids.insert(call.sid, call.key);
        self.calls.insert(call.key, Box::new(call));
    }

    pub(crate) fn get(&mut self, key: CallKey) -> Option<&mut Call> {
        self.calls.get_mut(&key).map(Box::as_mut)
    }

    pub(crate) fn by_sid(&self, sid: CallSid) -> Option<CallKey> {
        self.sids.get(&sid).copied()
    }

    pub(crate) fn remove(&mut self, key: CallKey) -> Option<Box<Call>> {
        let call = self.calls.remove(&key)?;
        self.sids.remove(&call.sid);
        Some(call)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(Box::as_ref)
    }

    pub(crate) fn keys(&self) -> Vec<CallKey> {
        let mut keys: Vec<_> = self.calls.keys().copied().collect();
        keys.sort_unstable();
        keys
    }
}
