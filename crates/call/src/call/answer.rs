//! The answer: a branch's 2xx, the join, the caller's 200 and its ACK.

use std::time::Duration;

use landline_control::{Op, Request as RelayRequest};
use landline_sip::{Method, Request, Response, ServerKey, StatusCode};

use super::branch::dialog;
use super::leg::{Incoming, LegState, tag_text};
use super::message::{SDP, reason, reason_for};
use super::open::{read_body, read_description, wants_recording};
use super::{A, Call, Ending, Phase};
use crate::context::{ClientUse, Context};
use crate::io::Log;
use crate::negotiate::{Description, LegMedia, Mismatch};
use crate::record::{Cause, Step};
use crate::relays::RelayStep;
use crate::route::Side;
use crate::tenancy::MediaPolicy;
use crate::timers::{CallTimer, Timer};

/// An ACK that comes so long after the answer is to one that was sent again.
const LATE_ACK: Duration = Duration::from_secs(2);

impl Call {
    /// The first 2xx wins; the other branches are told so (RFC 3326 §2).
    pub(super) fn branch_answered(&mut self, cx: &mut Context, leg: usize, response: Response) {
        if self.rings_first() {
            return self.first_answered(cx, leg, &response);
        }
        if let Err(mismatch) = self.confirm_branch(cx, leg, &response) {
            return self.answer_unusable(cx, leg, mismatch);
        }
        self.won(cx, leg);
    }

    /// This leg has the call: nobody rings any more.
    pub(super) fn won(&mut self, cx: &mut Context, leg: usize) {
        self.winner = Some(leg);
        self.phase = Phase::Answering;
        self.decide_on_recording(leg);
        self.nowhere_else(cx);
        self.other_early_dialog(cx, Some(leg));
        if self.is_gathering() {
            self.ask_guests_anew();
            return self.gather(cx);
        }
        self.join(cx, leg);
    }

    /// Where one of several answered, or whoever took the call: it is for those who
    /// talk to say whether they are recorded.
    fn decide_on_recording(&mut self, leg: usize) {
        let Some(it) = self.legs.get(leg) else { return };
        let is_chosen = it.incoming().is_some() || it.stead().is_some_and(|it| it.list.is_some());
        let wants = |side: &Side| wants_recording(&self.account, side);
        let caller = self.legs.get(A).is_some_and(|it| wants(&it.side));
        if is_chosen && !self.has_guests() && !caller && !wants(&it.side) {
            self.recording = None;
        }
    }

    /// Makes the dialog, acknowledges, and takes the answer in.
    pub(super) fn confirm_branch(
        &mut self,
        cx: &mut Context,
        leg: usize,
        response: &Response,
    ) -> Result<(), Mismatch> {
        let (account, now) = (self.account.clone(), self.now(cx));
        let Some(it) = self.legs.get_mut(leg) else { return Err(Mismatch::Unreadable) };
        let dialog = dialog(it, response).ok_or(Mismatch::Unreadable)?;
        it.timer.accepted(&response.headers, now);
        it.state = LegState::Confirmed;
        it.status = response.status.code();
        it.learn_methods(&response.headers);
        let cseq = it.branch().map_or(1, |branch| branch.cseq);
        let mut ack = dialog.ack(cseq);
        it.dialog = Some(dialog);
        it.prove_like_invite(&mut ack);
        if let Some(destination) = it.destination(cx) {
            cx.send_ack(ack, destination);
        }
        let plain = it.side.accepts_plain(&account);
        let media = it.media.as_mut().ok_or(Mismatch::Unreadable)?;
        match response.body.is_empty() {
            // What the 183 said stands (RFC 3261 §13.2.1 wants it repeated;
            // some leave it out).
            true if media.agreed.is_some() => {
                media.withdraw();
                Ok(())
            }
            true => Err(Mismatch::NoAudio),
            false => {
                let answer = read_body(cx, &response.body)?;
                media.accept(answer, plain)
            }
        }
    }

    /// A 2xx whose answer cannot be used: that branch is hung up, and counts
    /// as one that refused our offer.
    pub(super) fn answer_unusable(&mut self, cx: &mut Context, leg: usize, mismatch: Mismatch) {
        if mismatch == Mismatch::Unencrypted {
            cx.counters.encryption_missing += 1;
        }
        self.hang_up(cx, leg, &[reason(488, "Not Acceptable Here").into()]);
        self.consider(488, Cause::NotAcceptable, Vec::new());
        if let Some(best) = self.best.as_mut().filter(|best| best.status == 488) {
            best.warning = Some(mismatch.warning());
        }
        self.release_media(cx, leg);
        self.group_failed(cx);
    }

    /// Where the caller heard another branch's early media, this answer is
    /// another dialog to it: one To tag has one session description
    /// (RFC 3261 §13.2.1).
    pub(super) fn other_early_dialog(&mut self, cx: &mut Context, leg: Option<usize>) {
        if self.early.is_some() && self.early != leg {
            self.other_caller_dialog(cx);
        }
    }

    /// What the caller is told from here on is another dialog's.
    pub(super) fn other_caller_dialog(&mut self, cx: &mut Context) {
        let key = self.key;
        let Some(caller) = self.legs.get_mut(A) else { return };
        let tag = cx.entropy.u64();
        let local = caller.dialog.as_ref().map(|it| it.local_contact().clone());
        let request = caller.incoming().map(|it| it.request.clone());
        let (Some(local), Some(request)) = (local, request) else { return };
        if let Ok(dialog) = landline_sip::Dialog::uas(&request, &tag_text(tag), local) {
            let former = caller.dialog.replace(dialog);
            caller.former_tag = Some(caller.tag);
            caller.tag = tag;
            if let Some(incoming) = caller.incoming_mut() {
                incoming.reliable.leave(former);
            }
            cx.dialogs.insert(tag, (key, A));
        }
    }

    fn join(&mut self, cx: &mut Context, leg: usize) {
        let Some(session) = self.session.clone() else { return };
        let offered = self.caller_hears();
        // A party that we rang has answered an offer of ours already.
        let owes_answer = self.started.is_none() && !self.has_answered_reliably();
        if offered && owes_answer && self.answer_caller(leg).is_none() {
            return self.end(cx, Ending::new(Cause::NotAcceptable, 488));
        }
        let mut ops = match offered {
            true => self.join_ops(leg),
            false => self.remote_ops(leg),
        };
        ops.extend(self.remove_losers(leg));
        ops.extend(self.music_ops());
        if offered && self.recording.is_some() {
            ops.push(Op::Record);
        }
        self.is_joined = offered;
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Answer, change);
    }

    /// The caller has answered our offer, and the callee has answered before.
    pub(super) fn join_caller(&mut self, cx: &mut Context) {
        if self.is_in_mailbox() {
            return self.mailbox_pracked(cx);
        }
        if let Some(leg) = self.winner.filter(|_| self.phase == Phase::Answering) {
            self.join(cx, leg);
        }
    }

    /// Takes the media of those who lost against `winner` from the relay.
    pub(super) fn remove_losers(&mut self, winner: usize) -> Vec<Op> {
        let losers = self.legs.iter_mut().enumerate().skip(1).filter(|(leg, _)| *leg != winner);
        let allocated = losers.filter_map(|(_, loser)| {
            std::mem::take(&mut loser.is_allocated).then_some(Op::Remove(loser.relay_leg))
        });
        allocated.collect()
    }

    /// Tells the relay of a leg's peer.
    pub(super) fn remote_ops(&self, leg: usize) -> Vec<Op> {
        let leg = self.legs.get(leg);
        let media = leg.and_then(|leg| Some((leg.relay_leg, leg.media.as_ref()?)));
        media.map_or_else(Vec::new, |(id, media)| media.remote_ops(id))
    }

    /// The relay has joined both sides: the record says so, then the caller may
    /// know. An answered call that a death left without its answer could not be
    /// charged for.
    pub(super) fn joined(&mut self, cx: &mut Context) {
        if self.is_in_mailbox() {
            return self.mailbox_joined(cx);
        }
        let winner = self.winner.filter(|_| self.phase == Phase::Answering);
        let Some(leg) = winner.and_then(|leg| self.legs.get(leg)).map(|it| it.sid) else { return };
        if self.answered_at.is_some() || self.must_hold_answer() {
            return;
        }
        self.answered_at = Some(self.now(cx));
        self.journal(cx, Step::Answered { leg });
        self.keep(cx);
        self.await_journal(cx);
    }

    pub(super) fn pass_answer(&mut self, cx: &mut Context) {
        if self.is_in_mailbox() {
            return self.mailbox_answers(cx);
        }
        let winner = self.winner.filter(|_| self.phase == Phase::Answering);
        let Some(winner) = winner.filter(|_| self.answered_at.is_some()) else { return };
        let response = self.answer_for_caller(winner);
        if response.is_none() && self.started.is_none() {
            return self.end(cx, Ending::new(Cause::NotAcceptable, 488));
        }
        cx.counters.calls_answered += 1;
        self.rise(cx, response);
        self.learn(cx);
        cx.log(Log::CallAnswered { call: self.sid });
        if self.started.is_some() {
            // It was offered all we know, before anybody knew what the other speaks.
            self.align(cx, A);
        }
        if let Some(winner) = self.winner.filter(|_| self.owes_callee_news()) {
            self.align(cx, winner);
        }
        self.gathered(cx);
        self.leave_if_draining(cx);
    }

    /// The call is up, and the caller hears of it.
    pub(super) fn rise(&mut self, cx: &mut Context, response: Option<Response>) {
        self.phase = Phase::Up;
        if let (Some(response), Some(caller)) = (response, self.legs.get_mut(A)) {
            caller.state = LegState::Confirmed;
            caller.status = StatusCode::OK.code();
            if let Some(dialog) = &mut caller.dialog {
                dialog.confirm();
            }
            match (caller.incoming().map(|it| it.key), &mut self.restored) {
                (Some(Incoming::FORMER), Some(restored)) => restored.reply = Some(response),
                (Some(key), _) => {
                    caller.unacked = Some(key);
                    if let Some(incoming) = caller.incoming_mut() {
                        incoming.reliable.is_over();
                    }
                    cx.respond(key, response);
                }
                (None, _) => {}
            }
        }
        if let Some(longest) = cx.config.timers.max_call {
            let so_far = self.answered_at.map_or(0, |at| cx.now.unix.0.saturating_sub(at.0));
            let so_far = Duration::from_millis(u64::try_from(so_far).unwrap_or(0));
            let timer = Timer::Call(self.key, CallTimer::MaxDuration);
            cx.timers.set(cx.now.instant + longest.saturating_sub(so_far), timer);
        }
        self.watch_sessions(cx);
    }

    /// The 200 to the caller's INVITE.
    pub(super) fn answer_for_caller(&mut self, winner: usize) -> Option<Response> {
        let mut response = self.caller_response(StatusCode::OK)?;
        if !self.has_answered_reliably() {
            let body = self.answer_caller(winner).or_else(|| self.offer_caller(winner));
            response.set_body(SDP, body?);
        }
        response.headers.push(landline_sip::HeaderName::Allow, super::allow_header());
        let caller = self.legs.first()?;
        caller.timer.tell(&caller.incoming()?.request.headers, &mut response.headers);
        Some(response)
    }

    /// Our offer to a caller who made none, from the callee's answer.
    fn offer_caller(&mut self, winner: usize) -> Option<bytes::Bytes> {
        self.legs.first()?.incoming()?;
        let peer = self.legs.get(winner)?.media.as_ref()?.agreed.as_ref()?.peer.clone();
        let terms = self.terms_of(&peer);
        self.legs.get_mut(A)?.media.as_mut()?.offer(terms)
    }

    /// Both ends' devices showed what they speak: their next calls begin with it.
    fn learn(&self, cx: &mut Context) {
        for leg in &self.legs {
            let (crate::route::Side::User(user), Some(dialog)) = (&leg.side, &leg.dialog) else {
                continue;
            };
            let Some(spec) = leg.media.as_ref().map(|media| &media.spec) else { continue };
            if leg.state == LegState::Confirmed {
                let spoken = match spec.protocol {
                    landline_control::Protocol::Rtp => MediaPolicy::Rtp,
                    landline_control::Protocol::Sdes => MediaPolicy::Sdes,
                    landline_control::Protocol::Dtls if spec.ice => MediaPolicy::Webrtc,
                    landline_control::Protocol::Dtls => MediaPolicy::Dtls,
                };
                let target = dialog.remote_target();
                let instance = cx.instance_at(&self.account, target);
                cx.registrar.learn(user.sid, target, instance.as_deref(), spoken);
            }
        }
    }

    /// An ACK to a 2xx of ours, with the answer where that 2xx had the offer.
    pub(crate) fn acked(&mut self, cx: &mut Context, leg: usize, ack: &Request) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        let unacked = it.unacked.take();
        if let Some(key) = unacked {
            cx.servers.remove(&key);
            self.heard_answer(cx);
        }
        let Some(it) = self.legs.get_mut(leg) else { return };
        let first = unacked.is_some();
        if std::mem::take(&mut it.owes_bye) {
            return self.say_bye(cx, leg, &[]);
        }
        if !first || self.ending.is_some() {
            return;
        }
        if self.offer_awaits_answer(leg) {
            self.late_answer(cx, leg, ack);
        } else if leg == A && self.answer_has_changed() {
            self.align(cx, A);
        } else if leg == A {
            self.expect_late_caller(cx);
        }
        self.press_on(cx);
    }

    /// Our 200 was lost and came again: the caller speaks from now on, and the
    /// relay's window for one behind a NAT may be over. One whose ACK died with a
    /// former process has spoken long since.
    fn expect_late_caller(&self, cx: &mut Context) {
        if self.restored.is_some() {
            return;
        }
        let Some(at) = self.answered_at else { return };
        let is_late = self.now(cx).0.saturating_sub(at.0) >= LATE_ACK.as_millis() as i64;
        let winner = self.winner.and_then(|winner| self.legs.get(winner));
        let (Some(caller), Some(winner)) = (self.legs.first(), winner) else { return };
        if is_late && self.is_joined && !self.is_between_relays() {
            self.have_relay(cx, vec![Op::Join(caller.relay_leg, winner.relay_leg)]);
        }
    }

    /// A 2xx of ours was never acknowledged: the dialog ends, and the call
    /// with it (RFC 3261 §13.3.1.4).
    pub(crate) fn ack_missed(&mut self, cx: &mut Context, key: ServerKey) {
        cx.servers.remove(&key);
        let Some(leg) = self.legs.iter().position(|it| it.unacked == Some(key)) else { return };
        cx.counters.ack_timeouts += 1;
        if let Some(it) = self.legs.get_mut(leg) {
            it.unacked = None;
            if std::mem::take(&mut it.owes_bye) {
                return self.say_bye(cx, leg, &[]);
            }
        }
        if self.heard_answer(cx) {
            // It may have been there before our time, and need not come again.
            return;
        }
        let mut ending = Ending::new(Cause::SignallingLost, 200);
        ending.reasons = vec![reason(408, "ACK missing").into()];
        self.end(cx, ending);
    }

    fn offer_awaits_answer(&self, leg: usize) -> bool {
        let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
        media.is_some_and(LegMedia::awaits_answer)
    }

    /// What a leg's party answered to our offer.
    pub(super) fn take_answer(
        &mut self,
        leg: usize,
        answer: Result<Description, Mismatch>,
    ) -> Result<(), Mismatch> {
        let (answer, plain) = (answer?, self.accepts_plain(leg));
        let media = self.legs.get_mut(leg).and_then(|it| it.media.as_mut());
        media.ok_or(Mismatch::NoAudio)?.accept(answer, plain)
    }

    /// Whether media may go unencrypted on this leg.
    pub(super) fn accepts_plain(&self, leg: usize) -> bool {
        self.legs.get(leg).is_some_and(|it| it.side.accepts_plain(&self.account))
    }

    /// The answer to an offer of ours in a 2xx.
    fn late_answer(&mut self, cx: &mut Context, leg: usize, ack: &Request) {
        let answer = read_description(cx, ack).and_then(|it| it.ok_or(Mismatch::NoAudio));
        if self.take_answer(leg, answer).is_err() {
            let mut ending = Ending::new(Cause::NotAcceptable, 200);
            ending.reasons = vec![reason(488, "Not Acceptable Here").into()];
            return self.end(cx, ending);
        }
        if self.is_in_mailbox() {
            return self.mailbox_heard(cx);
        }
        let Some(session) = self.session.clone() else { return };
        let Some(other) = self.other(leg) else {
            let ops = self.remote_ops(leg).into_iter().chain(self.music_ops()).collect();
            return self.have_relay_for(cx, RelayStep::LateAnswer { leg }, ops);
        };
        let first = leg == A && !self.is_joined;
        let mut ops: Vec<_> = match first {
            true => self.join_ops(other),
            false => {
                let speak = self.speak_op(leg, other);
                let keys = self.key_ops(leg, other);
                self.remote_ops(leg).into_iter().chain(speak).chain(keys).collect()
            }
        };
        ops.extend(self.music_ops());
        if first && self.recording.is_some() {
            ops.push(Op::Record);
        }
        self.is_joined = true;
        if session.lost {
            // Another relay is told of it.
            return;
        }
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::LateAnswer { leg }, change);
    }

    /// Sends BYE on a confirmed dialog.
    pub(super) fn say_bye(
        &mut self,
        cx: &mut Context,
        leg: usize,
        reasons: &[landline_sip::ByteStr],
    ) {
        let key = self.key;
        let Some(it) = self.legs.get_mut(leg) else { return };
        let Some(dialog) = it.dialog.as_mut() else { return };
        let mut bye = dialog.request(Method::Bye);
        for reason in reasons {
            bye.headers.push(landline_sip::HeaderName::Reason, reason_for(&it.side, reason));
        }
        it.prove(cx, &mut bye);
        if let Some(destination) = it.destination(cx) {
            cx.send(ClientUse::Bye { call: key, leg }, bye, destination);
        }
    }

    /// Ends a confirmed leg from our side.
    pub(super) fn hang_up(
        &mut self,
        cx: &mut Context,
        leg: usize,
        reasons: &[landline_sip::ByteStr],
    ) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.state = LegState::Ended;
        match it.unacked {
            // RFC 3261 §15: not before the ACK, or the wait for it, is over.
            Some(_) => it.owes_bye = true,
            None => self.say_bye(cx, leg, reasons),
        }
    }
}
