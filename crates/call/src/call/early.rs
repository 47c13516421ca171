//! Ringing, and what is heard before the answer.

use landline_control::{Op, Request as RelayRequest};
use landline_sip::{Response, StatusCode};

use super::leg::LegState;
use super::open::read_body;
use super::{A, Call, Leg};
use crate::context::Context;
use crate::negotiate::{Terms, speak};
use crate::relays::RelayStep;

/// Longest tag of a ringing phone that its watchers are told.
const MAX_TAG: usize = 128;

impl Call {
    pub(super) fn branch_provisional(&mut self, cx: &mut Context, leg: usize, said: &Response) {
        if !self.acknowledge_provisional(cx, leg, said) {
            return;
        }
        let status = said.status;
        // 100 is the next hop's own; 199 says that a fork of it ended.
        if status == StatusCode::TRYING
            || status == StatusCode::EARLY_DIALOG_TERMINATED
            || !self.is_ringing()
            || self.legs.get(leg).is_none_or(|it| it.state != LegState::Early)
        {
            return;
        }
        if let Some(branch) = self.legs.get_mut(leg).and_then(Leg::branch) {
            branch.has_rung = true;
        }
        if let (Some(it), Ok(to)) = (self.legs.get_mut(leg), said.to()) {
            it.rings =
                to.tag().filter(|tag| tag.len() <= MAX_TAG).map(str::to_owned).or(it.rings.take());
        }
        // What the first party's phones say is for nobody to hear yet.
        if self.rings_first() {
            return;
        }
        if status == StatusCode::RINGING {
            self.record_ringing(cx);
        }
        if !said.body.is_empty() && self.early.is_none() && self.caller_hears() {
            self.preview(cx, leg, said);
        } else if !said.body.is_empty() && self.early.is_none() && self.owes_caller_offer() {
            self.preview_offer(cx, leg, said);
        } else if self.early.is_none() {
            self.tell_caller(cx, status, None);
        }
    }

    /// Whether media can be played to the caller before the answer.
    pub(super) fn caller_hears(&self) -> bool {
        // A guest is still where it came from.
        if self.handover.is_some() {
            return false;
        }
        self.started.is_some()
            || self.legs.first().and_then(Leg::incoming).is_some_and(|it| it.offer.is_some())
            || self.has_answered_reliably()
    }

    /// What the first callee that can be heard says is offered to a caller who
    /// offered nothing, and who is joined to it when it has answered that.
    fn preview_offer(&mut self, cx: &mut Context, leg: usize, said: &Response) {
        let plain = self.accepts_plain(leg);
        let media = self.legs.get_mut(leg).and_then(|it| it.media.as_mut());
        if let (Ok(answer), Some(media)) = (read_body(cx, &said.body), media)
            && (media.agreed.is_some() || media.preview(answer, plain).is_ok())
        {
            self.early = Some(leg);
        }
        self.tell_caller(cx, said.status, None);
    }

    /// The first branch with early media is joined to the caller.
    fn preview(&mut self, cx: &mut Context, leg: usize, said: &Response) {
        let plain = self.accepts_plain(leg);
        let Ok(answer) = read_body(cx, &said.body) else {
            return self.tell_caller(cx, said.status, None);
        };
        let media = self.legs.get_mut(leg).and_then(|it| it.media.as_mut());
        if media.is_none_or(|media| media.preview(answer, plain).is_err()) {
            return self.tell_caller(cx, said.status, None);
        }
        let Some(session) = self.session.clone() else { return };
        let owes_answer = self.started.is_none() && !self.has_answered_reliably();
        if owes_answer && self.answer_caller(leg).is_none() {
            return self.tell_caller(cx, said.status, None);
        }
        self.early = Some(leg);
        let ops = self.join_ops(leg);
        let step = RelayStep::Early { leg, status: said.status.code() };
        cx.ask_relay(&session.relay, self.key, step, RelayRequest::Change(session.id, ops));
    }

    /// Tells the relay of both sides, and to relay between them.
    pub(super) fn join_ops(&self, leg: usize) -> Vec<Op> {
        let relay_leg = |leg: usize| self.legs.get(leg).map(|it| it.relay_leg);
        let mut ops: Vec<_> = [A, leg].into_iter().flat_map(|it| self.remote_ops(it)).collect();
        if let (Some(a), Some(b)) = (relay_leg(A), relay_leg(leg)) {
            ops.push(Op::Join(a, b));
        }
        ops.extend(self.speak_op(A, leg));
        ops.extend(self.key_ops(A, leg));
        ops
    }

    /// What the relay has to know where these two do not share every codec.
    pub(super) fn speak_op(&self, one: usize, other: usize) -> Option<Op> {
        let media = |leg: usize| {
            let leg = self.legs.get(leg)?;
            Some((leg.relay_leg, leg.media.as_ref()?))
        };
        speak(media(one)?, media(other)?)
    }

    /// Our answer to the caller's offer, from what this branch answered.
    pub(super) fn answer_caller(&mut self, leg: usize) -> Option<bytes::Bytes> {
        self.convert_keys(A, leg);
        let agreed = self.legs.get(leg)?.media.as_ref()?.agreed.clone()?;
        let terms = Terms { direction: agreed.peer.direction, ..agreed.terms };
        let caller = self.legs.get_mut(A)?;
        let offer = caller.incoming()?.offer.clone()?;
        caller.media.as_mut()?.answer(&offer, terms)
    }

    /// The relay plays the branch's early media to the caller.
    pub(super) fn early_joined(&mut self, cx: &mut Context, leg: usize, status: u16) {
        if !self.is_ringing() || self.early != Some(leg) {
            return;
        }
        let status = StatusCode::new(status).unwrap_or(StatusCode::SESSION_PROGRESS);
        let body = self.answer_caller(leg);
        self.tell_caller(cx, status, body);
    }
}
