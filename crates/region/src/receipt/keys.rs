//! Which key a region signed with at which place of its log.

use std::collections::BTreeMap;

use super::{Entry, KeyChange, KeyId, TreeHead, VerifyingKey};

/// Keys that are believed, and from where to where in the log they signed.
pub struct KeyChain {
    keys: BTreeMap<KeyId, VerifyingKey>,
    /// The entries in which keys came and went, by the key.
    since: BTreeMap<KeyId, u64>,
    until: BTreeMap<KeyId, u64>,
}

impl KeyChain {
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        let keys = keys.into_iter().map(|key| (key.id(), key)).collect();
        Self { keys, since: BTreeMap::new(), until: BTreeMap::new() }
    }

    pub fn get(&self, id: KeyId) -> Option<&VerifyingKey> {
        self.keys.get(&id)
    }

    /// Whether the key signed at this place: an entry's number, or the size of
    /// the log that a head is of.
    pub fn is_of_place(&self, id: KeyId, place: u64) -> bool {
        let began = self.since.get(&id).is_none_or(|since| place > *since);
        let ended = self.until.get(&id).is_some_and(|until| place > *until);
        began && !ended
    }

    /// Believes the keys that are tied by changes in the log to one that is
    /// believed: who trusts a key trusts what it certified; and who trusts the
    /// key of a head trusts which keys signed the entries before, for the head
    /// covers the change. What was found, in words, or what is wrong.
    pub fn follow(
        &mut self,
        changes: &[Entry<KeyChange>],
        head: &TreeHead,
    ) -> Result<Vec<String>, String> {
        let mut ties: Vec<(VerifyingKey, VerifyingKey, u64)> = Vec::with_capacity(changes.len());
        for Entry { statement, inclusion } in changes {
            let change = &statement.body;
            let what = format!("the change of key in entry {}", change.log_index);
            let keys = change.former().and_then(|former| Ok((former, change.next()?)));
            let (former, next) = keys.map_err(|error| format!("{what}: {error}"))?;
            if change.region != head.region || !statement.is_by(&former) {
                return Err(format!("{what} was not signed by the key that it replaces"));
            }
            if !inclusion.places(change, change.log_index, head) {
                return Err(format!("{what} is not that entry of the log"));
            }
            if ties.last().is_some_and(|(_, last, at)| *last != former || *at >= change.log_index) {
                return Err(format!("{what} does not follow the change before it"));
            }
            ties.push((former, next, change.log_index));
        }
        for (former, next, at) in &ties {
            if self.keys.contains_key(&former.id()) {
                self.keys.entry(next.id()).or_insert(*next);
            }
            self.until.insert(former.id(), *at);
            self.since.insert(next.id(), *at);
        }
        for (former, next, _) in ties.iter().rev() {
            if self.keys.contains_key(&next.id()) {
                self.keys.entry(former.id()).or_insert(*former);
            }
        }
        let shown = |(former, next, at): &(VerifyingKey, VerifyingKey, u64)| {
            format!("key {} was certified by {} in entry {at} of the log", next.id(), former.id())
        };
        Ok(ties.iter().map(shown).collect())
    }
}
