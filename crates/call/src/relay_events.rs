//! What relays say and do, brought to the calls whose media they carry.

use landline_control::{Close, FromRelay, RelayId, Request};

use crate::calls::CallKey;
use crate::core::Core;
use crate::io::Log;
use crate::relays::{Arrival, RelayStep};

impl Core {
    pub(crate) fn relay(&mut self, relay: &RelayId, message: FromRelay) {
        match message {
            FromRelay::Outcome(id, outcome) => match self.cx.relays.answered(relay, id) {
                Some(waiting) => {
                    self.with(waiting.call, |call, cx| {
                        call.relay_outcome(cx, waiting.purpose, outcome);
                    });
                    if waiting.purpose == RelayStep::Adopt {
                        self.adoption_over(relay);
                    }
                }
                None => self.cx.counters.relay_strays += 1,
            },
            FromRelay::Event(session, event) => match self.cx.relays.call_of(session) {
                Some(call) => self.with(call, |call, cx| call.media_event(cx, session, event)),
                None => self.cx.counters.relay_strays += 1,
            },
            FromRelay::Counted(sessions) => {
                for (session, legs) in sessions {
                    if let Some(call) = self.cx.relays.call_of(session) {
                        self.with(call, |call, _| call.counted(session, legs));
                    }
                }
            }
            FromRelay::Taken(session) => match self.cx.relays.call_of(session) {
                Some(key) => {
                    let mut left = None;
                    self.with(key, |call, cx| left = Some((call.sid, call.taken(cx))));
                    if let Some((call, snapshot)) = left {
                        self.let_go(call, snapshot);
                    }
                }
                None => self.cx.counters.relay_strays += 1,
            },
            FromRelay::Draining => self.relay_drains(relay),
            FromRelay::Resumed => {
                self.cx.relays.drain(relay, false);
                self.cx.log(Log::RelayResumed { relay: relay.clone() });
            }
            FromRelay::Streams(at) => self.cx.relays.takes_streams(relay, at),
            FromRelay::Hello(_) | FromRelay::Pong(_) => {}
        }
    }

    /// Calls leave it, one after the other; each stays until it is elsewhere.
    fn relay_drains(&mut self, relay: &RelayId) {
        self.cx.relays.drain(relay, true);
        self.cx.log(Log::RelayDraining { relay: relay.clone() });
        for key in self.calls_on(relay) {
            self.with(key, |call, cx| call.leave_if_draining(cx));
        }
    }

    pub(crate) fn relay_connected(&mut self, relay: RelayId, incarnation: u64) {
        let arrival = self.cx.relays.arrival(&relay, incarnation);
        match arrival {
            Arrival::Relinked => {
                self.cx.counters.relays_relinked += 1;
                // If it still drains it says so.
                self.cx.relays.drain(&relay, false);
                return self.close_again(&relay);
            }
            Arrival::Replaced => self.relay_lost(&relay),
            Arrival::Back | Arrival::Fresh => {}
        }
        let mut regained = 0;
        if arrival == Arrival::Back {
            for key in self.calls_on(&relay) {
                self.with(key, |call, _| {
                    regained += usize::from(call.relay_back(&relay, incarnation));
                });
            }
        }
        let left = self.cx.relays.connect(relay.clone(), incarnation, regained);
        for (session, call) in left {
            let request = Request::Close(Close { session });
            self.cx.ask_relay(&relay, call, RelayStep::Leave(session), request);
        }
        self.cx.log(Log::RelayConnected { relay });
    }

    /// What was to be closed as the link broke may not have been: a session
    /// would be left for ever. Anything else is found out by its time-out.
    fn close_again(&mut self, relay: &RelayId) {
        for waiting in self.cx.relays.unanswered_closes(relay) {
            let session = match waiting.purpose {
                RelayStep::Leave(session) => Some(session),
                _ => self.calls.get(waiting.call).and_then(|call| Some(call.session.as_ref()?.id)),
            };
            let Some(session) = session else { continue };
            let request = Request::Close(Close { session });
            self.cx.ask_relay(relay, waiting.call, waiting.purpose, request);
        }
    }

    pub(crate) fn relay_lost(&mut self, relay: &RelayId) {
        let calls = self.calls_on(relay);
        if !self.cx.relays.disconnect(relay) {
            return;
        }
        self.cx.counters.relays_lost += 1;
        self.cx.log(Log::RelayLost { relay: relay.clone(), calls: calls.len() });
        for key in calls {
            self.with(key, |call, cx| call.relay_lost(cx, relay));
        }
        self.adoptions_lost(relay);
    }

    /// Oldest first.
    fn calls_on(&self, relay: &RelayId) -> Vec<CallKey> {
        let on_it = self.calls.iter().filter(|call| call.is_on(relay));
        let mut calls: Vec<_> = on_it.map(|call| call.key).collect();
        calls.sort_unstable();
        calls
    }

    /// Begins as many moves as may be under way. Each that waits has its turn
    /// once: what cannot begin comes back by a timer.
    pub(crate) fn begin_moves(&mut self) {
        for _ in 0..self.cx.relays.moves.len() {
            let at_a_time = self.cx.config.limits.moves;
            let Some(key) = self.cx.relays.moves.next(at_a_time) else { return };
            self.with(key, |call, cx| call.begin_move(cx));
        }
    }
}
