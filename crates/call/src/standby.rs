//! Calls of the region's other proxies, held for the case that one of them dies.
//!
//! Each proxy tells the others of its answered calls. Whoever gets a request
//! inside one of them takes the call over, whether or not its proxy lives: the
//! relay gives the session to the last who asks, and the former lets go. When a
//! proxy stays away for the lease, its calls are shared out among the others,
//! each to one, so that their timers and the ends of their media are seen to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use landline_region::{CallSid, UnixMillis};
use landline_sip::Request;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::call::{Call, DialogName, tag_number};
use crate::core::Core;
use crate::io::Log;
use crate::record::CallEvent;
use crate::restore::Former;
use crate::snapshot::Snapshot;
use crate::timers::Timer;

/// Another proxy of the region, by its configured name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub String);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call of another proxy: how to go on with it, and its record so far, so that
/// the record is whole wherever it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    pub snapshot: Snapshot,
    pub record: Vec<CallEvent>,
}

#[derive(Default)]
pub(crate) struct Standby {
    calls: FxHashMap<CallSid, Held>,
    /// By the tags of ours that its requests name.
    tags: FxHashMap<u64, CallSid>,
    peers: BTreeMap<PeerId, Peer>,
    carried: Carried,
}

struct Held {
    keeper: Keeper,
    replica: Replica,
    dialogs: Vec<DialogName>,
}

/// Whose a call is that we hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keeper {
    Peer(PeerId),
    /// It was ours, and the relay gave it to another, who may not reach us to
    /// tell how it goes on.
    Somebody,
}

#[derive(Default)]
struct Peer {
    is_up: bool,
    calls: BTreeSet<CallSid>,
    /// Counts its losses: a lease is for one of them.
    losses: u64,
    lost_at: Option<UnixMillis>,
}

/// The calls of former runs and of other proxies that are or were ours, until
/// another took them: a proxy that comes back asks for them.
#[derive(Default)]
struct Carried {
    calls: FxHashSet<CallSid>,
    order: VecDeque<CallSid>,
}

/// Calls remembered as carried.
const CARRIED: usize = 50_000;

impl Carried {
    fn add(&mut self, call: CallSid) {
        if !self.calls.insert(call) {
            return;
        }
        self.order.push_back(call);
        if self.order.len() > CARRIED
            && let Some(first) = self.order.pop_front()
        {
            self.calls.remove(&first);
        }
    }

    fn remove(&mut self, call: CallSid) {
        if self.calls.remove(&call) {
            self.order.retain(|it| *it != call);
        }
    }
}

impl Standby {
    fn hold(&mut self, keeper: Keeper, replica: Replica, dialogs: Vec<DialogName>) {
        let call = replica.snapshot.call;
        self.forget(call);
        self.tags.extend(dialogs.iter().map(|dialog| (dialog.tag, call)));
        if let Keeper::Peer(peer) = &keeper {
            self.peers.entry(peer.clone()).or_default().calls.insert(call);
        }
        self.calls.insert(call, Held { keeper, replica, dialogs });
    }

    fn forget(&mut self, call: CallSid) -> Option<Held> {
        let held = self.calls.remove(&call)?;
        for dialog in &held.dialogs {
            // One that went over to another call is that one's.
            if self.tags.get(&dialog.tag) == Some(&call) {
                self.tags.remove(&dialog.tag);
            }
        }
        if let Keeper::Peer(peer) = &held.keeper
            && let Some(peer) = self.peers.get_mut(peer)
        {
            peer.calls.remove(&call);
        }
        Some(held)
    }

    /// The call that a request is inside of: its tag alone is no proof.
    fn call_of(&self, request: &Request) -> Option<CallSid> {
        let to = request.to().ok()?;
        let tag = tag_number(to.tag()?)?;
        let call = *self.tags.get(&tag)?;
        let mut dialogs = self.calls.get(&call)?.dialogs.iter();
        dialogs.any(|dialog| dialog.tag == tag && dialog.is_of(request)).then_some(call)
    }

    /// Which of the proxies that live is to go on with a call: the same for all
    /// that know of the same ones.
    fn successor<'a>(&'a self, call: CallSid, own: &'a str) -> &'a str {
        let living = self.peers.iter().filter(|(_, peer)| peer.is_up).map(|(id, _)| id.0.as_str());
        living.chain([own]).max_by_key(|name| weight(call, name)).unwrap_or(own)
    }

    fn calls_of(&self, peer: &PeerId) -> Vec<CallSid> {
        self.peers.get(peer).map_or_else(Vec::new, |peer| peer.calls.iter().copied().collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

/// Rendezvous hashing, by FNV-1a: the same in every process.
fn weight(call: CallSid, name: &str) -> (u64, &str) {
    let octets = call.as_u128().to_be_bytes();
    let hash =
        octets.iter().chain(name.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
    // The last octets alone would hardly reach the upper bits.
    (hash ^ hash >> 32, name)
}

impl Core {
    /// The peer's link is up; it tells of every call anew.
    pub(crate) fn peer_up(&mut self, peer: PeerId) {
        for call in self.standby.calls_of(&peer) {
            self.standby.forget(call);
        }
        self.cx.log(Log::PeerUp { peer: peer.clone() });
        self.standby.peers.entry(peer).or_default().is_up = true;
    }

    pub(crate) fn peer_lost(&mut self, id: PeerId) {
        let Some(peer) = self.standby.peers.get_mut(&id).filter(|peer| peer.is_up) else { return };
        peer.is_up = false;
        peer.lost_at = Some(self.cx.now.unix);
        let calls = peer.calls.len();
        self.cx.log(Log::PeerLost { peer: id.clone(), calls });
        self.lease_begins(id);
    }

    /// It is back, and asks what became of its calls before it takes any up: it
    /// has as long again.
    pub(crate) fn peer_starts(&mut self, id: PeerId) {
        if self.standby.peers.get(&id).is_some_and(|peer| !peer.is_up) {
            self.lease_begins(id);
        }
    }

    fn lease_begins(&mut self, id: PeerId) {
        let Some(peer) = self.standby.peers.get_mut(&id) else { return };
        peer.losses += 1;
        let losses = peer.losses;
        let at = self.cx.now.instant + self.cx.config.timers.lease;
        self.cx.timers.set(at, Timer::Lease(id, losses));
    }

    pub(crate) fn replica(&mut self, peer: PeerId, replica: Replica) {
        let call = replica.snapshot.call;
        self.leave_to_peer(call);
        // If it is ours still, the relay is about to tell us that it is not, or
        // the peer that it is.
        let is_new = !self.standby.calls.contains_key(&call);
        let dialogs = Call::dialogs_in(&replica.snapshot);
        if dialogs.is_empty() || is_new && self.standby.len() >= self.cx.config.limits.replicas {
            self.cx.counters.replicas_dropped += 1;
            return;
        }
        self.standby.hold(Keeper::Peer(peer), replica, dialogs);
    }

    pub(crate) fn replica_gone(&mut self, peer: PeerId, call: CallSid) {
        self.leave_to_peer(call);
        let keeper = Keeper::Peer(peer);
        if self.standby.calls.get(&call).is_some_and(|held| held.keeper == keeper) {
            self.standby.forget(call);
        }
    }

    /// Its proxy has it, or has ended it, and no relay has given it to us.
    fn leave_to_peer(&mut self, call: CallSid) {
        let Some(key) = self.calls.by_sid(call) else { return };
        let mut is_left = false;
        self.with(key, |call, cx| {
            is_left = call.may_be_anothers(cx);
            if is_left {
                call.taken(cx);
            }
        });
        if is_left {
            self.standby.carried.remove(call);
        }
    }

    /// The peer did not come back: each of its calls goes on with one of us.
    pub(crate) fn lease_over(&mut self, id: &PeerId, losses: u64) {
        let known = self.standby.peers.get(id);
        if known.is_none_or(|peer| peer.is_up || peer.losses != losses) {
            return;
        }
        let own = self.cx.config.proxy.clone();
        for call in self.standby.calls_of(id) {
            if self.standby.successor(call, &own) == own {
                self.take_over(call);
            }
        }
    }

    /// A request inside a dialog that is nobody's here: perhaps another's call.
    pub(crate) fn take_over_for(&mut self, request: &Request) -> bool {
        if self.standby.tags.is_empty() {
            return false;
        }
        self.standby.call_of(request).is_some_and(|call| self.take_over(call))
    }

    /// Goes on with another's call. What cannot be read here stays its own.
    fn take_over(&mut self, call: CallSid) -> bool {
        let Some(Held { keeper, replica, .. }) = self.standby.forget(call) else { return false };
        if self.calls.by_sid(call).is_some() {
            return false;
        }
        let (from, former) = match &keeper {
            Keeper::Somebody => (None, Former::LetGo),
            Keeper::Peer(id) => {
                let known = self.standby.peers.get(id).filter(|peer| !peer.is_up);
                let lives = known.is_none();
                let lost_at = known.and_then(|peer| peer.lost_at);
                let proven_until = lost_at.unwrap_or(self.cx.now.unix);
                (Some(id.clone()), Former::Peer { proven_until, lives })
            }
        };
        if !self.restore_from_peer(replica, former) {
            return false;
        }
        self.cx.counters.calls_taken_over += 1;
        self.cx.log(Log::CallTakenOver { call, from });
        true
    }

    /// From now on it is told to who asks as ours.
    pub(crate) fn carry(&mut self, call: CallSid) {
        self.standby.carried.add(call);
    }

    /// A call of ours that another took. Who has it may be out of our reach, and
    /// the phones in it: then they get it back here.
    pub(crate) fn let_go(&mut self, call: CallSid, snapshot: Option<Snapshot>) {
        self.standby.carried.remove(call);
        let Some(snapshot) = snapshot else { return };
        let is_full = self.standby.len() >= self.cx.config.limits.replicas;
        if is_full || !self.cx.config.has_peers || self.standby.calls.contains_key(&call) {
            return;
        }
        let dialogs = Call::dialogs_in(&snapshot);
        let replica = Replica { snapshot, record: Vec::new() };
        self.standby.hold(Keeper::Somebody, replica, dialogs);
        let at = self.cx.now.instant + self.cx.config.timers.let_go;
        self.cx.timers.set(at, Timer::LetGo(call));
    }

    pub(crate) fn let_go_for_good(&mut self, call: CallSid) {
        let held = self.standby.calls.get(&call);
        if held.is_some_and(|held| held.keeper == Keeper::Somebody) {
            self.standby.forget(call);
        }
    }

    /// What is or was ours of the calls of former runs and other proxies: a
    /// proxy that comes back leaves them alone.
    pub fn carried(&self) -> impl Iterator<Item = CallSid> {
        self.standby.carried.order.iter().copied()
    }

    /// Calls of others that are held for them.
    pub fn replicas(&self) -> usize {
        self.standby.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shared_out_and_all_agree_to_whom() {
        let names = ["proxy-1", "proxy-2", "proxy-3"];
        let mut shares = BTreeMap::new();
        for number in 0..3000_u128 {
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let call = CallSid::from_u128(spread);
            let chosen: BTreeSet<String> = names
                .iter()
                .map(|own| {
                    let mut standby = Standby::default();
                    for other in names.iter().filter(|it| it != &own) {
                        let peer = Peer { is_up: true, ..Peer::default() };
                        standby.peers.insert(PeerId((*other).to_owned()), peer);
                    }
                    standby.successor(call, own).to_owned()
                })
                .collect();
            assert_eq!(chosen.len(), 1);
            *shares.entry(chosen.into_iter().next().unwrap()).or_insert(0) += 1;
        }
        assert!(shares.len() == 3 && shares.values().all(|share| *share > 600), "{shares:?}");
    }
}
