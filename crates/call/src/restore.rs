//! Calls that outlive their process: how they come back into a core.

use std::collections::{BTreeMap, VecDeque};

use landline_control::RelayId;
use landline_region::UnixMillis;
use landline_sip::{Flow, Method, Request, Response, ServerKey};

use crate::call::{Call, tag_number};
use crate::calls::CallKey;
use crate::core::Core;
use crate::io::{Log, Output};
use crate::record::{CallEvent, Closed, Step};
use crate::snapshot::Snapshot;
use crate::standby::Replica;

/// Sessions asked for at one time of one relay.
const WINDOW: usize = 256;

/// Sessions that are still to be asked for, by their relays.
#[derive(Default)]
pub(crate) struct Adoptions {
    relays: BTreeMap<RelayId, Queue>,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<CallKey>,
    asked: usize,
}

/// Whose a call was that is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Former {
    /// A former run's of this proxy.
    Run { proven_until: UnixMillis },
    /// Another proxy's, which lived until then, or still does as far as is known.
    Peer { proven_until: UnixMillis, lives: bool },
    /// Ours, until another took it: if the relay has it no more, that one knows
    /// what became of it.
    LetGo,
}

impl Core {
    pub(crate) fn restore(&mut self, calls: Vec<Snapshot>, proven_until: UnixMillis) {
        let mut restored = 0;
        let mut relays = Vec::new();
        for snapshot in calls {
            match self.restore_one(&snapshot, Vec::new(), Former::Run { proven_until }) {
                Ok(relay) => {
                    restored += 1;
                    relays.extend(relay.filter(|relay| !relays.contains(relay)));
                }
                Err(problem) => self.unrestorable(&snapshot, proven_until, problem),
            }
        }
        if restored > 0 {
            self.cx.log(Log::CallsRestored { calls: restored });
        }
        for relay in relays {
            self.adopt_from(&relay);
        }
    }

    /// False where it cannot be read: it is the other's to end.
    pub(crate) fn restore_from_peer(&mut self, replica: Replica, former: Former) -> bool {
        let Replica { snapshot, record } = replica;
        match self.restore_one(&snapshot, record, former) {
            Ok(relay) => {
                relay.into_iter().for_each(|relay| self.adopt_from(&relay));
                true
            }
            Err(problem) => {
                self.cx.counters.calls_unrestorable += 1;
                self.cx.log(Log::CallUnrestorable { call: snapshot.call, problem });
                false
            }
        }
    }

    /// The record so far goes into our ledger first: the other's may be lost with
    /// its disk, and an event that is in the database is known by its number.
    fn restore_one(
        &mut self,
        snapshot: &Snapshot,
        record: Vec<CallEvent>,
        former: Former,
    ) -> Result<Option<RelayId>, &'static str> {
        if self.calls.by_sid(snapshot.call).is_some() {
            return Err("it is here already");
        }
        let key = self.calls.next_key();
        let call = Call::from_snapshot(key, &mut self.cx, snapshot, former)?;
        if !record.is_empty() {
            self.cx.out.push_back(Output::Journal { token: None, events: record, state: None });
        }
        let relay = call.session.as_ref().map(|session| session.relay.clone());
        self.carry(call.sid);
        self.calls.insert(call);
        self.with(key, |call, cx| {
            if !matches!(former, Former::Run { .. }) {
                call.relocate(cx);
            }
            call.resume(cx);
        });
        if let Some(relay) = &relay {
            self.adoptions.relays.entry(relay.clone()).or_default().calls.push_back(key);
        }
        Ok(relay)
    }

    /// Its record is closed at the last time that is proven.
    fn unrestorable(
        &mut self,
        snapshot: &Snapshot,
        proven_until: UnixMillis,
        problem: &'static str,
    ) {
        self.cx.counters.calls_unrestorable += 1;
        self.cx.log(Log::CallUnrestorable { call: snapshot.call, problem });
        let event = CallEvent {
            call: snapshot.call,
            account: snapshot.account,
            sequence: snapshot.sequence,
            at: snapshot.at.max(proven_until),
            step: Step::Closed(Closed::lost(true)),
        };
        self.cx.out.push_back(Output::Journal { token: None, events: vec![event], state: None });
    }

    /// Asks a relay for as many sessions as it is good for at one time.
    pub(crate) fn adopt_from(&mut self, relay: &RelayId) {
        if !self.cx.relays.is_connected(relay) {
            return;
        }
        loop {
            let Some(queue) = self.adoptions.relays.get_mut(relay) else { return };
            if queue.asked >= WINDOW {
                return;
            }
            let Some(key) = queue.calls.pop_front() else {
                if queue.asked == 0 {
                    self.adoptions.relays.remove(relay);
                }
                return;
            };
            let mut is_asked = false;
            self.with(key, |call, cx| is_asked = call.adopt(cx));
            if let Some(queue) = self.adoptions.relays.get_mut(relay) {
                queue.asked += usize::from(is_asked);
            }
        }
    }

    /// One of them has been answered, or is not going to be.
    pub(crate) fn adoption_over(&mut self, relay: &RelayId) {
        if let Some(queue) = self.adoptions.relays.get_mut(relay) {
            queue.asked = queue.asked.saturating_sub(1);
            self.adopt_from(relay);
        }
    }

    /// The relay is gone, and its calls have ended.
    pub(crate) fn adoptions_lost(&mut self, relay: &RelayId) {
        self.adoptions.relays.remove(relay);
    }

    /// An INVITE that a restored call has answered: its 200 goes out once more.
    pub(crate) fn is_answered_already(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
    ) -> bool {
        if request.method != Method::Invite || self.cx.unheard.is_empty() {
            return false;
        }
        let Ok(call_id) = request.call_id() else { return false };
        let Some(call) = self.cx.unheard.get(&call_id).copied() else { return false };
        let mut is_answered = false;
        self.with(call, |call, cx| is_answered = call.answer_again(cx, key, flow, request));
        is_answered
    }

    /// A 2xx to an INVITE that no transaction here has sent (RFC 3261 §18.1.2).
    pub(crate) fn stray_answer(&mut self, response: &Response) {
        let tag = response.from().ok().and_then(|from| tag_number(from.tag()?));
        match tag.and_then(|tag| self.cx.dialogs.get(&tag).copied()) {
            Some((call, leg)) => {
                self.with(call, |call, cx| call.acknowledge_again(cx, leg, response));
            }
            None => self.cx.counters.stray_responses += 1,
        }
    }
}
