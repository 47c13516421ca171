//! The region's relays as a core sees them: who is connected, who takes new
//! sessions, which request of ours waits for which outcome.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use landline_control::{Close, RelayId, Request, RequestId, SessionId};
use rustc_hash::FxHashMap;

use crate::calls::CallKey;
use crate::context::Context;
use crate::io::Output;
use crate::timers::Timer;

#[derive(Debug, Default)]
pub(crate) struct Relays {
    connected: BTreeMap<RelayId, Relay>,
    /// Those that were lost, until they are heard of again.
    lost: BTreeMap<RelayId, LostRelay>,
    pub moves: MoveQueue,
    /// What each request is for; answered once or timed out.
    waiting: FxHashMap<RequestId, Waiting>,
    sessions: FxHashMap<SessionId, CallKey>,
    last: u64,
}

#[derive(Debug, Default)]
struct Relay {
    incarnation: u64,
    sessions: usize,
    draining: bool,
    /// Where it takes connections for media.
    streams: Vec<SocketAddr>,
}

/// A relay may only have been out of reach: then it still has what calls left
/// there, and is to close it when it comes back.
#[derive(Debug, Default)]
struct LostRelay {
    incarnation: u64,
    left: Vec<(SessionId, CallKey)>,
}

/// What a relay that connects is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Fresh,
    /// It was never lost: the link broke and stands again.
    Relinked,
    /// It was lost, and lives: it still has its sessions.
    Back,
    /// It is connected already, as a process that is no more.
    Replaced,
}

/// Calls that are to be moved to another relay, in the order in which they
/// asked for it; so many at a time, that neither relay nor network is flooded.
#[derive(Debug, Default)]
pub(crate) struct MoveQueue {
    waiting: VecDeque<CallKey>,
    under_way: usize,
}

impl MoveQueue {
    pub(crate) fn push(&mut self, call: CallKey) {
        self.waiting.push_back(call);
    }

    pub(crate) fn next(&mut self, at_a_time: usize) -> Option<CallKey> {
        if self.under_way >= at_a_time {
            return None;
        }
        self.waiting.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn begin(&mut self) {
        self.under_way += 1;
    }

    pub(crate) fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub relay: RelayId,
    pub call: CallKey,
    pub purpose: RelayStep,
}

/// Why a call asked its relay for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayStep {
    Open,
    /// Legs for a further group of branches.
    Fork,
    /// A branch's leg replaced, to offer it another protocol.
    Retry {
        leg: usize,
    },
    /// A leg for who takes the call although nobody rang there.
    PickUp {
        leg: usize,
    },
    /// A branch's early media joined to the caller.
    Early {
        leg: usize,
        status: u16,
    },
    /// The answered branch joined to the caller.
    Answer,
    /// The caller's answer, which came in its ACK.
    LateAnswer {
        leg: usize,
    },
    /// A leg made anew for a re-INVITE that the former one cannot serve.
    Prepare,
    /// What a re-INVITE or UPDATE changed.
    Modify,
    /// What a mailbox's caller says is recorded.
    Note,
    /// Legs that lost are given back; nothing waits for it.
    Release,
    Close,
    /// A session that a former process opened.
    Adopt,
    /// A step of the move to this session, on its relay.
    Move(MoveStep, SessionId),
    /// A session that the call has left is closed; its figures are still wanted.
    Leave(SessionId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoveStep {
    Open,
    /// One side's answer is told.
    Remote {
        leg: usize,
    },
    /// Both sides are there: they are joined, and recorded on.
    Join,
}

impl Relays {
    /// Sessions are counted from `first` on: no two proxies of a region, nor two
    /// runs of one, should give them the same numbers.
    pub(crate) fn new(first: u64) -> Self {
        Self { last: first >> 1, ..Self::default() }
    }

    /// What is known of a relay that connects as this process.
    pub(crate) fn arrival(&self, relay: &RelayId, incarnation: u64) -> Arrival {
        match (self.connected.get(relay), self.lost.get(relay)) {
            (Some(known), _) if known.incarnation == incarnation => Arrival::Relinked,
            (Some(_), _) => Arrival::Replaced,
            (None, Some(lost)) if lost.incarnation == incarnation => Arrival::Back,
            (None, _) => Arrival::Fresh,
        }
    }

    /// `sessions` of ours are there. What calls left there while it was away
    /// is given to be closed.
    pub(crate) fn connect(
        &mut self,
        relay: RelayId,
        incarnation: u64,
        sessions: usize,
    ) -> Vec<(SessionId, CallKey)> {
        let lost = self.lost.remove(&relay).filter(|it| it.incarnation == incarnation);
        self.connected.insert(relay, Relay { incarnation, sessions, ..Relay::default() });
        lost.map(|it| it.left).unwrap_or_default()
    }

    /// Forgets the relay, if it was there.
    pub(crate) fn disconnect(&mut self, relay: &RelayId) -> bool {
        self.waiting.retain(|_, waiting| waiting.relay != *relay);
        let Some(Relay { incarnation, .. }) = self.connected.remove(relay) else { return false };
        self.lost.insert(relay.clone(), LostRelay { incarnation, left: Vec::new() });
        true
    }

    /// What a call left there is to be closed when the relay comes back.
    pub(crate) fn left_behind(&mut self, relay: &RelayId, session: SessionId, call: CallKey) {
        if let Some(lost) = self.lost.get_mut(relay) {
            lost.left.push((session, call));
        }
    }

    pub(crate) fn incarnation(&self, relay: &RelayId) -> u64 {
        self.connected.get(relay).map_or(0, |relay| relay.incarnation)
    }

    pub(crate) fn takes_streams(&mut self, relay: &RelayId, at: Vec<SocketAddr>) {
        if let Some(relay) = self.connected.get_mut(relay) {
            relay.streams = at;
        }
    }

    /// Where the relay takes connections for a leg whose packets come here.
    pub(crate) fn stream_beside(&self, relay: &RelayId, rtp: SocketAddr) -> Option<SocketAddr> {
        let streams = &self.connected.get(relay)?.streams;
        let same_host = streams.iter().find(|it| it.ip() == rtp.ip());
        same_host.or_else(|| streams.iter().find(|it| it.is_ipv4() == rtp.is_ipv4())).copied()
    }

    pub(crate) fn drain(&mut self, relay: &RelayId, draining: bool) {
        if let Some(relay) = self.connected.get_mut(relay) {
            relay.draining = draining;
        }
    }

    pub(crate) fn is_draining(&self, relay: &RelayId) -> bool {
        self.connected.get(relay).is_some_and(|relay| relay.draining)
    }

    /// The one with the fewest of our sessions, of those not tried yet.
    pub(crate) fn choose(&self, tried: &[RelayId]) -> Option<RelayId> {
        self.connected
            .iter()
            .filter(|(id, relay)| !relay.draining && !tried.contains(id))
            .min_by_key(|(_, relay)| relay.sessions)
            .map(|(id, _)| id.clone())
    }

    pub(crate) fn is_connected(&self, relay: &RelayId) -> bool {
        self.connected.contains_key(relay)
    }

    /// A session's number, for a call that is about to open it.
    pub(crate) fn begin(&mut self, relay: &RelayId, call: CallKey) -> SessionId {
        self.last += 1;
        let session = SessionId(self.last);
        self.sessions.insert(session, call);
        if let Some(relay) = self.connected.get_mut(relay) {
            relay.sessions += 1;
        }
        session
    }

    /// A session that a former process, or another one, began.
    pub(crate) fn resume(&mut self, relay: &RelayId, session: SessionId, call: CallKey) {
        self.sessions.insert(session, call);
        if let Some(relay) = self.connected.get_mut(relay) {
            relay.sessions += 1;
        }
    }

    pub(crate) fn end(&mut self, relay: &RelayId, session: SessionId) {
        if self.sessions.remove(&session).is_some()
            && let Some(relay) = self.connected.get_mut(relay)
        {
            relay.sessions = relay.sessions.saturating_sub(1);
        }
    }

    pub(crate) fn call_of(&self, session: SessionId) -> Option<CallKey> {
        self.sessions.get(&session).copied()
    }

    /// Takes what waited for this outcome, if its sender is the one asked.
    pub(crate) fn answered(&mut self, relay: &RelayId, id: RequestId) -> Option<Waiting> {
        match self.waiting.get(&id) {
            Some(waiting) if waiting.relay == *relay => self.waiting.remove(&id),
            _ => None,
        }
    }

    /// Takes those of the relay's requests that were to close a session.
    pub(crate) fn unanswered_closes(&mut self, relay: &RelayId) -> Vec<Waiting> {
        let closes = |waiting: &Waiting| {
            waiting.relay == *relay
                && matches!(waiting.purpose, RelayStep::Close | RelayStep::Leave(_))
        };
        let taken = self.waiting.extract_if(|_, waiting| closes(waiting));
        let mut taken: Vec<_> = taken.collect();
        taken.sort_unstable_by_key(|(id, _)| *id);
        taken.into_iter().map(|(_, waiting)| waiting).collect()
    }

    pub(crate) fn timed_out(&mut self, id: RequestId) -> Option<Waiting> {
        self.waiting.remove(&id)
    }
}

impl Context {
    /// Closes a session that its call has left. False where its relay is away:
    /// it is closed when the relay comes back, and nobody waits for that.
    pub(crate) fn leave_session(&mut self, relay: &RelayId, id: SessionId, call: CallKey) -> bool {
        if !self.relays.is_connected(relay) {
            self.relays.sessions.remove(&id);
            self.relays.left_behind(relay, id, call);
            return false;
        }
        self.relays.end(relay, id);
        let close = Request::Close(Close { session: id });
        self.ask_relay(relay, call, RelayStep::Leave(id), close);
        true
    }

    /// Asks a relay; its outcome, or a time-out, comes back to the call.
    pub(crate) fn ask_relay(
        &mut self,
        relay: &RelayId,
        call: CallKey,
        purpose: RelayStep,
        request: Request,
    ) {
        self.relays.last += 1;
        let id = RequestId(self.relays.last);
        self.relays.waiting.insert(id, Waiting { relay: relay.clone(), call, purpose });
        self.timers.set(self.now.instant + self.config.timers.relay, Timer::Relay(id));
        self.out.push_back(Output::Relay { relay: relay.clone(), id, request });
    }
}
