//! Calls that no phone began: the first party is rung, and when it has
//! answered, the second; then both are joined.
//!
//! RFC 3725 §4.1 (flow I), with our relay between the parties: the first gets
//! a whole offer and its own leg, so nobody waits for a description, and what
//! the second makes of the codecs the first is told by a re-INVITE.

use std::ops::Range;
use std::sync::Arc;

use landline_control::{Op, Request as RelayRequest};
use landline_region::Personal;
use landline_sip::Response;

use super::open::recording;
use super::{A, Call, Ending, Identity};
use crate::calls::CallKey;
use crate::context::{ClientUse, Context};
use crate::io::{Log, StartCall};
use crate::record::{CallDirection, Cause};
use crate::relays::RelayStep;
use crate::route::{Refusal, Side};
use crate::tenancy::{Account, User};

/// What is known of a call that was asked for.
#[derive(Debug)]
pub(super) struct Started {
    /// Whom the first party is to talk to: a name or a number.
    dialled: Personal<String>,
    /// The first party has answered; the second is rung, or talks.
    answered: bool,
}

impl Started {
    /// Of a call that a former process began.
    pub(super) fn answered() -> Self {
        Self { dialled: Personal::default(), answered: true }
    }
}

impl Call {
    /// Opens the record, as for a call that comes in. What leads nowhere is
    /// closed at once, and nobody is rung.
    pub(crate) fn start(
        key: CallKey,
        cx: &mut Context,
        account: Arc<Account>,
        user: &Arc<User>,
        start: StartCall,
    ) -> Self {
        let caller = Side::User(user.clone());
        let first = cx.to_user(&account, user, CallDirection::Internal);
        // Somebody has to be there for whom media can be made.
        let first = match first {
            Ok(first) if first.groups.is_empty() => Err(Refusal::new(480, Cause::Unreachable)),
            first => first,
        };
        let second = cx.route_from_user(&account, start.to.expose());
        let is_same = |side: &Side| side.sid() == caller.sid();
        let second = match second {
            Ok(route) if is_same(&route.callee) => Err(Refusal::new(486, Cause::Busy)),
            other => other,
        };
        let route = second.as_ref().ok();
        let direction = route.map_or(CallDirection::Internal, |route| route.direction);
        let callee = route.map(|route| route.callee.clone());
        let identity = Identity {
            user: user.name.clone(),
            number: user.number.clone(),
            callee: route.map_or_else(|| start.to.clone(), |route| route.to_user.clone()),
            ..Identity::default()
        };
        let recording = recording(cx, &account, &caller, callee.as_ref().into_iter());
        let started = Started { dialled: start.to.clone(), answered: false };
        let mut call = Self {
            sid: start.sid,
            identity,
            recording,
            started: Some(started),
            ..Self::new(key, cx, account, caller, direction)
        };
        call.join_other_account(cx, callee.as_ref());
        let admitted = call.admit(cx);
        call.record_opened(cx, start.to.expose());
        if admitted.is_ok() && first.is_ok() && second.is_ok() {
            call.await_journal(cx);
        }
        cx.log(Log::CallOpened { call: call.sid, account: call.account.sid });
        match (admitted, first, second) {
            (Ok(()), Ok(first), Ok(_)) => call.follow(first),
            (Err(refusal), ..) | (_, Err(refusal), _) | (.., Err(refusal)) => {
                call.refuse(cx, refusal);
            }
        }
        call
    }

    /// Whether the first party of a call of ours is still to answer: every leg
    /// there is then stands for it.
    pub(super) fn rings_first(&self) -> bool {
        self.started.as_ref().is_some_and(|started| !started.answered)
    }

    /// The legs that are rung: all of them while the first party is, else all
    /// but the caller's.
    pub(super) fn rung(&self) -> Range<usize> {
        match self.rings_first() {
            true => A..self.legs.len(),
            false => A + 1..self.legs.len(),
        }
    }

    /// Who the first party sees calling: the one it is going to talk to.
    pub(super) fn identity_for_first(&self) -> Identity {
        Identity {
            user: self.identity.callee.clone(),
            callee: self.identity.user.clone(),
            ..Identity::default()
        }
    }

    /// One of the first party's phones answered: it is the caller's leg from
    /// here on, and the second party may ring.
    pub(super) fn first_answered(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        if let Err(mismatch) = self.confirm_branch(cx, leg, response) {
            return self.answer_unusable(cx, leg, mismatch);
        }
        self.nowhere_else(cx);
        self.bring_to_front(cx, leg);
        let Some(started) = &mut self.started else { return };
        started.answered = true;
        let dialled = started.dialled.clone();
        self.best = None;
        // Where the second party is may have changed while the first one rang.
        match cx.route_from_user(&self.account, dialled.expose()) {
            Ok(route) => self.follow(route),
            Err(refusal) => {
                return self.end(cx, Ending::new(refusal.cause, refusal.status));
            }
        }
        self.ring_second(cx);
    }

    fn ring_second(&mut self, cx: &mut Context) {
        let mut ops = self.remote_ops(A);
        ops.extend(self.remove_losers(A));
        let added = self.add_group(cx);
        // Somebody rings, or is woken for it.
        let is_tried = !added.is_empty() || self.waits_for_sleepers(cx);
        let Some(session) = self.session.clone().filter(|_| is_tried) else {
            return self.fail(cx);
        };
        ops.extend(added.into_iter().map(|(leg, spec)| Op::Add(leg, spec)));
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Fork, change);
    }

    /// The caller's leg is always the first: whoever looks for it by its tag
    /// or its transaction is told of the new place.
    fn bring_to_front(&mut self, cx: &mut Context, leg: usize) {
        if leg == A || leg >= self.legs.len() {
            return;
        }
        self.legs.swap(A, leg);
        for place in [A, leg] {
            let Some(it) = self.legs.get(place) else { continue };
            cx.dialogs.insert(it.tag, (self.key, place));
            let client = it.branch_ref().and_then(|branch| branch.key);
            if let Some(purpose) = client.and_then(|client| cx.clients.get_mut(&client)) {
                *purpose = ClientUse::Branch { call: self.key, leg: place };
            }
        }
    }
}
