//! How a re-INVITE or UPDATE comes to its end.

use landline_control::{Op, Request as RelayRequest};
use landline_sip::{FailureCause, HeaderName, Method, Response, StatusCode};

use super::message::{SDP, reason};
use super::modify::{Modification, ModifyStep};
use super::open::read_answer;
use super::{Call, Ending};
use crate::context::Context;
use crate::negotiate::{Description, Mismatch, Terms};
use crate::relays::RelayStep;

impl Call {
    /// The other side's word on our offer.
    pub(crate) fn modify_response(&mut self, cx: &mut Context, leg: usize, response: Response) {
        let status = response.status;
        if status.is_provisional() {
            return;
        }
        self.offer_ended(leg);
        let ours = self.modification.as_ref().is_some_and(|it| {
            it.toward == leg && it.step == ModifyStep::Asking && it.client.is_some()
        });
        if status.is_success() {
            self.acknowledge(cx, leg, &response);
        }
        if self.ending.is_some() {
            return;
        }
        if !ours {
            return self.press_on(cx);
        }
        match status.is_success() {
            true => self.modify_accepted(cx, leg, &response),
            false => self.modify_declined(cx, leg, &response),
        }
    }

    /// Every 2xx to an INVITE gets its ACK, wanted or not, and refreshes the
    /// session.
    pub(super) fn acknowledge(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let Ok(cseq) = response.cseq() else { return };
        let Some(it) = self.legs.get_mut(leg) else { return };
        let Some(dialog) = it.dialog.as_mut() else { return };
        if let Ok(contacts) = response.contacts() {
            dialog.refresh_target(contacts);
        }
        let ack = (cseq.method == Method::Invite).then(|| dialog.ack(cseq.number));
        if let (Some(ack), Some(destination)) = (ack, it.destination(cx)) {
            cx.send_ack(ack, destination);
        }
        self.session_accepted(cx, leg, &response.headers);
    }

    fn modify_accepted(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let answer = read_answer(cx, response);
        match self.take_answer(leg, answer) {
            Ok(()) => self.apply(cx),
            Err(mismatch) => {
                if let Some(media) = self.legs.get_mut(leg).and_then(|it| it.media.as_mut()) {
                    media.withdraw();
                }
                self.refuse_asked(cx, mismatch);
            }
        }
    }

    fn modify_declined(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let status = response.status;
        if Self::dialog_gone(status) {
            return self.end(cx, Ending::dialog_lost(leg));
        }
        if self.challenged(leg, response) {
            let wanted = match self.modification.as_ref().and_then(|it| it.asked.as_ref()) {
                Some(asked) => Some(self.terms_of(&asked.offer)),
                None => self.wanted_for(leg),
            };
            if let Some(wanted) = wanted {
                return self.ask(cx, wanted);
            }
        }
        if let Some(media) = self.legs.get_mut(leg).and_then(|it| it.media.as_mut()) {
            media.withdraw();
        }
        if status == StatusCode::SESSION_INTERVAL_TOO_SMALL
            && let Some(it) = self.legs.get_mut(leg)
        {
            // The next refresh asks for as much.
            it.timer.lengthen(cx.config.session_policy(), &response.headers);
        }
        let Some(modification) = &self.modification else { return };
        let ours = modification.asked.is_none();
        if ours && status == StatusCode::REQUEST_PENDING && modification.retried < 3 {
            cx.counters.glare += 1;
            return self.wait_out(cx);
        }
        let passed = match status.code() {
            401 | 407 | 422 | 300..=399 => StatusCode::NOT_ACCEPTABLE_HERE,
            _ => status,
        };
        self.answer_asked_with(cx, passed, response);
    }

    /// The other side did not answer at all.
    pub(crate) fn modify_lost(&mut self, cx: &mut Context, leg: usize, cause: FailureCause) {
        self.offer_ended(leg);
        let ours = self.modification.as_ref().is_some_and(|it| it.toward == leg);
        if self.ending.is_some() {
            return;
        }
        if !ours && self.moving.is_none() {
            return;
        }
        if cause == FailureCause::Transport && self.reroute(cx, leg) {
            let wanted = match self.modification.as_ref().and_then(|it| it.asked.as_ref()) {
                Some(asked) => Some(self.terms_of(&asked.offer)),
                None => self.wanted_for(leg),
            };
            if let Some(wanted) = wanted {
                return self.ask(cx, wanted);
            }
        }
        if cause == FailureCause::Cancelled || cause == FailureCause::Refused {
            return self.refuse_asked_with(cx, StatusCode::SERVER_INTERNAL_ERROR);
        }
        self.end(cx, Ending::unanswered());
    }

    /// Both sides agree: the relay is to do it.
    pub(super) fn apply(&mut self, cx: &mut Context) {
        let Some(modification) = &mut self.modification else { return };
        modification.step = ModifyStep::Applying;
        let toward = modification.toward;
        let former = modification.former.as_ref().map(|(leg, _)| *leg);
        let asked = modification.asked.as_ref().map(|it| (it.leg, it.offer.clone()));
        if let Some((leg, offer)) = asked {
            let terms = self.terms_to_answer(leg, toward, &offer);
            let media = self.legs.get_mut(leg).and_then(|it| it.media.as_mut());
            let body = media.zip(terms).and_then(|(media, terms)| media.answer(&offer, terms));
            if body.is_none() {
                return self.refuse_asked(cx, Mismatch::Codec);
            }
        }
        let mut ops: Vec<_> = match self.other(toward) {
            Some(other) => [other, toward].into_iter().flat_map(|it| self.remote_ops(it)).collect(),
            None if self.is_in_mailbox() => self.mailbox_ops(),
            None => self.remote_ops(toward),
        };
        let speak = self.other(toward).and_then(|other| self.speak_op(other, toward));
        if let (Some(former), Some(other)) = (former, self.other(toward)) {
            let ids = [other, toward].map(|it| self.legs.get(it).map(|leg| leg.relay_leg));
            if let [Some(fresh), Some(partner)] = ids {
                // Its keys are others than those its peer heard the streams under.
                ops.push(Op::Renew(fresh));
                // What was made for its partner so far had numbers of its own.
                if speak.is_some() {
                    ops.push(Op::Renew(partner));
                }
                ops.push(Op::Join(fresh, partner));
                ops.push(Op::Remove(former));
            }
        }
        if let (Some(former), None, Some(it)) = (former, self.other(toward), self.legs.get(toward))
        {
            ops.extend([Op::Renew(it.relay_leg), Op::Remove(former)]);
        }
        ops.extend(speak);
        if let Some(other) = self.other(toward) {
            ops.extend(self.key_ops(toward, other));
        }
        ops.extend(self.music_ops());
        let Some(session) = self.session.clone() else { return };
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Modify, change);
    }

    /// The relay has done it: who asked may know.
    pub(super) fn modify_applied(&mut self, cx: &mut Context) {
        let Some(modification) = self.modification.take_if(|it| it.step == ModifyStep::Applying)
        else {
            return;
        };
        let Some(asked) = modification.asked else {
            self.keep(cx);
            return self.settle(cx, modification.toward);
        };
        let terms = self.terms_to_answer(asked.leg, modification.toward, &asked.offer);
        let Some(it) = self.legs.get_mut(asked.leg) else { return };
        let media = it.media.as_mut();
        let body = media.zip(terms).and_then(|(media, terms)| media.answer(&asked.offer, terms));
        let (Some(body), Some(dialog)) = (body, it.dialog.as_mut()) else { return };
        if let Ok(contacts) = asked.request.contacts() {
            dialog.refresh_target(contacts);
        }
        let mut response = dialog.respond(&asked.request, StatusCode::OK);
        response.headers.push(HeaderName::Allow, super::allow_header());
        response.set_body(SDP, body);
        match asked.request.method {
            Method::Invite => it.unacked = Some(asked.key),
            _ => {
                cx.servers.remove(&asked.key);
            }
        }
        self.session_taken(cx, asked.leg, &asked.request, &mut response);
        cx.respond(asked.key, response);
        self.keep(cx);
    }

    /// What an offer is answered by: what the other side agreed to, or what can be
    /// heard here.
    fn terms_to_answer(&self, leg: usize, toward: usize, offer: &Description) -> Option<Terms> {
        if self.is_in_mailbox() {
            return self.terms_of_mailbox(&offer.codecs);
        }
        if leg == toward {
            return Some(self.terms_of_waiting(offer));
        }
        let agreed = self.legs.get(toward)?.media.as_ref()?.agreed.clone()?;
        Some(Terms { direction: agreed.peer.direction, ..agreed.terms })
    }

    /// What the other side was told last may be out of date by now.
    fn settle(&mut self, cx: &mut Context, toward: usize) {
        if self.other(toward).is_some() {
            self.align(cx, toward);
        }
    }

    /// An answer that came in an ACK is with the relay: the other side has to
    /// know what changed.
    pub(super) fn late_answer_applied(&mut self, cx: &mut Context, leg: usize) {
        self.keep(cx);
        if let Some(other) = self.other(leg) {
            self.align(cx, other);
        }
    }

    pub(super) fn refuse_asked(&mut self, cx: &mut Context, mismatch: Mismatch) {
        let Some(modification) = self.modification.take() else { return };
        let Some(modification) = self.restore(cx, modification) else { return };
        if let Some(asked) = modification.asked {
            cx.servers.remove(&asked.key);
            self.reject(cx, asked.leg, asked.key, &asked.request, mismatch);
        }
    }

    fn refuse_asked_with(&mut self, cx: &mut Context, status: StatusCode) {
        let nothing = Response::new(status);
        self.answer_asked_with(cx, status, &nothing);
    }

    /// Nothing changes: who asked hears the other side's reason.
    fn answer_asked_with(&mut self, cx: &mut Context, status: StatusCode, said: &Response) {
        let Some(modification) = self.modification.take() else { return };
        let Some(modification) = self.restore(cx, modification) else { return };
        let Some(asked) = modification.asked else { return };
        cx.servers.remove(&asked.key);
        let Some(dialog) = self.legs.get(asked.leg).and_then(|it| it.dialog.as_ref()) else {
            return;
        };
        let mut response = dialog.respond(&asked.request, status);
        for value in super::message::reasons(&said.headers) {
            response.headers.push(HeaderName::Reason, value);
        }
        cx.respond(asked.key, response);
    }

    /// The former leg on the relay serves on.
    fn restore(
        &mut self,
        cx: &mut Context,
        mut modification: Modification,
    ) -> Option<Modification> {
        let asked = modification.asked.as_ref().map(|it| it.leg);
        if let (Some((id, media)), Some(leg)) = (modification.former.take(), asked)
            && let Some(it) = self.legs.get_mut(leg)
        {
            let tried = std::mem::replace(&mut it.relay_leg, id);
            it.media = Some(media);
            self.give_back(cx, tried);
        }
        Some(modification)
    }

    /// The relay that was to carry the change out is gone. What it was told of
    /// is agreed; of anything before that nobody knows yet, and who asked may
    /// ask again (RFC 3261 §14.2).
    pub(super) fn dissolve_modification(&mut self, cx: &mut Context) {
        if self.modification.as_ref().is_some_and(|it| it.step == ModifyStep::Applying) {
            return self.modify_applied(cx);
        }
        let Some(modification) = self.modification.take() else { return };
        let toward = self.legs.get_mut(modification.toward);
        if let Some(media) = toward.and_then(|it| it.media.as_mut()) {
            media.withdraw();
        }
        if let (Some(client), ModifyStep::Asking, Method::Invite) =
            (modification.client, modification.step, &modification.method)
        {
            cx.cancel(client, None);
        }
        let Some(modification) = self.restore(cx, modification) else { return };
        let Some(asked) = modification.asked else { return };
        cx.servers.remove(&asked.key);
        if let Some(dialog) = self.legs.get(asked.leg).and_then(|it| it.dialog.as_ref()) {
            let response = dialog.respond(&asked.request, StatusCode::REQUEST_PENDING);
            cx.respond(asked.key, response);
        }
    }

    /// The relay would not: what was agreed before goes on.
    pub(super) fn modify_refused(&mut self, cx: &mut Context) {
        self.refuse_asked(cx, Mismatch::Transport);
    }

    /// CANCEL of a re-INVITE: whatever the other side still says, it is asked
    /// to go on as before.
    pub(crate) fn modify_cancelled(&mut self, cx: &mut Context, leg: usize) {
        let Some(modification) = &mut self.modification else { return };
        let Some(asked) = modification.asked.take_if(|it| it.leg == leg) else { return };
        cx.servers.remove(&asked.key);
        if let (Some(client), Method::Invite) = (modification.client, &modification.method) {
            cx.cancel(client, Some(reason(487, "Request Terminated")));
        }
        if modification.step == ModifyStep::Preparing {
            self.modification = None;
        }
        if let Some(dialog) = self.legs.get(leg).and_then(|it| it.dialog.as_ref()) {
            let response = dialog.respond(&asked.request, StatusCode::REQUEST_TERMINATED);
            cx.respond(asked.key, response);
        }
    }

    /// The call ends in the middle of it.
    pub(super) fn drop_modification(&mut self, cx: &mut Context) {
        let Some(modification) = self.modification.take() else { return };
        if let Some(asked) = modification.asked {
            cx.servers.remove(&asked.key);
            if let Some(dialog) = self.legs.get(asked.leg).and_then(|it| it.dialog.as_ref()) {
                let response = dialog.respond(&asked.request, StatusCode::REQUEST_TERMINATED);
                cx.respond(asked.key, response);
            }
        }
        if let (Some(client), ModifyStep::Asking, Method::Invite) =
            (modification.client, modification.step, &modification.method)
        {
            cx.cancel(client, None);
        }
    }
}
