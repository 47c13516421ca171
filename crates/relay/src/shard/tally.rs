//! What the legs of each session did so far, told to its proxy now and then:
//! all that is left of it should the relay die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{COUNTED_SESSIONS, FromRelay, LegId, LegStats, SessionId};
use rustc_hash::FxHashMap;

use super::{Network, Shard};
use crate::owner::Owner;

/// Every session is told of once in so many turns, one turn a second: figures
/// are at most five seconds old, and there is never a burst.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Not set while there are no sessions.
    pub at: Option<Instant>,
    turn: usize,
}

impl Tally {
    /// There is a session.
    pub(super) fn begin(&mut self, now: Instant) {
        self.at.get_or_insert(now + TURN);
    }
}

type Told = (Arc<Owner>, Vec<(SessionId, Vec<(LegId, LegStats)>)>);

impl<N: Network> Shard<N> {
    pub(super) fn tell_figures(&mut self, now: Instant) {
        if self.tally.at.is_none_or(|at| at > now) {
            return;
        }
        self.tally.at = (!self.sessions.is_empty()).then_some(now + TURN);
        self.tally.turn = (self.tally.turn + 1) % TURNS;
        let mut told: FxHashMap<_, Told> = FxHashMap::default();
        for (at, session) in self.sessions.iter() {
            if at % TURNS != self.tally.turn {
                continue;
            }
            let there = session.legs.iter().filter_map(|(id, slot)| {
                self.legs.get(*slot).map(|leg| (*id, leg.machine.stats(now)))
            });
            let legs = session.ended.iter().cloned().chain(there).collect();
            let owner = || (Arc::clone(&session.owner), Vec::new());
            let (owner, batch) = told.entry(session.owner.key).or_insert_with(owner);
            batch.push((session.id, legs));
            if batch.len() >= COUNTED_SESSIONS {
                owner.tell_figures(FromRelay::Counted(std::mem::take(batch)));
            }
        }
        for (owner, batch) in told.into_values().filter(|(_, batch)| !batch.is_empty()) {
            owner.tell_figures(FromRelay::Counted(batch));
        }
    }
}
