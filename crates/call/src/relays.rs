//! The region's relays as a core sees them: who is connected, who takes new
//! sessions, which request of ours waits for which outcome.

use std::collections::BTreeMap;

use landline_control::{RelayId, Request, RequestId, SessionId};
use rustc_hash::FxHashMap;

use crate::calls::CallKey;
use crate::context::Context;
use crate::io::Output;
use crate::timers::Timer;

#[derive(Debug, Default)]
pub(crate) struct Relays {
    connected: BTreeMap<RelayId, Relay>,
    /// What each request is for; answered once or timed out.
    waiting: FxHashMap<RequestId, Waiting>,
    sessions: FxHashMap<SessionId, CallKey>,
    last: u64,
}

#[derive(Debug, Default)]
struct Relay {
    sessions: usize,
    draining: bool,
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
    /// Legs that lost are given back; nothing waits for it.
    Release,
    Close,
    /// A session that a former process opened.
    Adopt,
}

impl Relays {
    /// Sessions are counted from `first` on: no two proxies of a region, nor two
    /// runs of one, should give them the same numbers.
    pub(crate) fn new(first: u64) -> Self {
        Self { last: first >> 1, ..Self::default() }
    }

    pub(crate) fn connect(&mut self, relay: RelayId) {
        self.connected.insert(relay, Relay::default());
    }

    /// Forgets the relay and tells which calls had their media there.
    pub(crate) fn disconnect(&mut self, relay: &RelayId) -> bool {
        self.waiting.retain(|_, waiting| waiting.relay != *relay);
        self.connected.remove(relay).is_some()
    }

    pub(crate) fn drain(&mut self, relay: &RelayId) {
        if let Some(relay) = self.connected.get_mut(relay) {
            relay.draining = true;
        }
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

    pub(crate) fn timed_out(&mut self, id: RequestId) -> Option<Waiting> {
        self.waiting.remove(&id)
    }
}

impl Context {
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
