//! The sides of a call that moves: each is sent a re-INVITE with the addresses
//! and keys of the other relay.

use bytes::Bytes;
use landline_control::{Op, Request as RelayRequest, SessionId};
use landline_sip::{ClientKey, FailureCause, HeaderName, Method, Response, StatusCode, glare_wait};

use super::message::{SDP, reason};
use super::modify::{Modification, ModifyStep};
use super::moves::{SideStep, Stage};
use super::open::read_answer;
use super::{A, Call, Ending, Leg};
use crate::context::{ClientUse, Context};
use crate::record::Cause;
use crate::relays::{MoveStep, RelayStep};
use crate::timers::{CallTimer, Timer};

/// How often a side is asked once more.
const RETRIES: u8 = 4;

impl Call {
    /// Asks whoever can be asked by now. Of a relay that lives one side leaves
    /// after the other: the first may still refuse, and the call then stays.
    pub(super) fn press_on(&mut self, cx: &mut Context) {
        let one_by_one = self.session.as_ref().is_some_and(|it| !it.lost);
        let sides = self.moving.as_ref().filter(|it| it.stage == Stage::Asking);
        for n in 0..sides.map_or(0, |it| it.sides.len()) {
            let Some(side) = self.moving.as_ref().and_then(|it| it.sides.get(n)) else { return };
            let (leg, step) = (side.leg, side.step);
            if step == SideStep::Held && self.legs.get(leg).is_some_and(Leg::may_be_offered) {
                self.ask_side(cx, n);
            }
            if one_by_one && step != SideStep::Agreed {
                return;
            }
        }
    }

    fn ask_side(&mut self, cx: &mut Context, n: usize) {
        let leg = self.moving.as_ref().and_then(|it| it.sides.get(n)).map(|side| side.leg);
        if let (Some(leg), None) = (leg, self.try_ask_side(cx, n)) {
            self.side_refused(cx, leg, 500);
        }
    }

    fn try_ask_side(&mut self, cx: &mut Context, n: usize) -> Option<()> {
        let side = self.moving.as_mut()?.sides.get_mut(n)?;
        let it = self.legs.get_mut(side.leg)?;
        let terms = side.media.told()?;
        let body = side.media.offer(terms)?;
        let purpose = ClientUse::Move { call: self.key, leg: side.leg };
        let client = it.send_offer(cx, Method::Invite, body, purpose)?;
        (side.client, side.step) = (Some(client), SideStep::Asked);
        Some(())
    }

    /// A side's word on our offer.
    pub(crate) fn move_response(
        &mut self,
        cx: &mut Context,
        leg: usize,
        client: ClientKey,
        response: Response,
    ) {
        let status = response.status;
        if status.is_provisional() {
            return;
        }
        self.offer_ended(leg);
        if status.is_success() {
            self.acknowledge(cx, leg, &response);
        }
        if self.ending.is_some() {
            return;
        }
        if !self.is_asked(leg, client) {
            // To an offer that was given up: the next may go out. Where the call
            // stays, a side that left after all comes back.
            let stays = self.moving.is_none() && self.modification.is_none();
            return match stays && status.is_success() {
                true => self.bring_back(cx, leg),
                false => self.press_on(cx),
            };
        }
        let retries = response.headers.contains(&HeaderName::RetryAfter);
        match status {
            _ if status.is_success() => self.side_answered(cx, leg, &response),
            _ if Self::dialog_gone(status) => self.end(cx, Ending::dialog_lost(leg)),
            StatusCode::REQUEST_PENDING => self.side_waits(cx, leg),
            _ if status.class() == 5 && retries => self.side_waits(cx, leg),
            _ if self.challenged(leg, &response) => self.hold_side(cx, leg),
            _ => self.side_refused(cx, leg, status.code()),
        }
    }

    fn is_asked(&self, leg: usize, client: ClientKey) -> bool {
        let mut sides = self.moving.iter().flat_map(|it| &it.sides);
        sides.any(|it| it.leg == leg && it.client == Some(client) && it.step == SideStep::Asked)
    }

    fn side_answered(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let plain = self.accepts_plain(leg);
        let answer = read_answer(cx, response);
        let id = self.legs.get(leg).map(|it| it.relay_leg);
        let Some(moving) = self.moving.as_mut() else { return };
        let Some(side) = moving.sides.iter_mut().find(|side| side.leg == leg) else { return };
        let Some(id) = id else { return };
        let accepted = answer.and_then(|answer| side.media.accept(answer, plain));
        let mut ops = accepted.map_or_else(|_| Vec::new(), |()| side.media.remote_ops(id));
        if ops.is_empty() {
            return self.side_refused(cx, leg, 488);
        }
        side.step = SideStep::Agreed;
        let all = moving.sides.iter().all(|side| side.step == SideStep::Agreed);
        let Some(to) = moving.to.clone() else { return };
        let mut step = MoveStep::Remote { leg };
        if all {
            ops.extend(match self.other(A) {
                Some(other) => self.join_elsewhere(other),
                None => self.wait_elsewhere(),
            });
            step = MoveStep::Join;
            if let Some(moving) = self.moving.as_mut() {
                moving.stage = Stage::Joining;
            }
        }
        let change = RelayRequest::Change(to.id, ops);
        cx.ask_relay(&to.relay, self.key, RelayStep::Move(step, to.id), change);
        self.press_on(cx);
    }

    /// Asked at the wrong moment: its own change crossed ours, or it is busy.
    fn side_waits(&mut self, cx: &mut Context, leg: usize) {
        cx.counters.glare += 1;
        // Its caller's Call-ID is its own choice, unless we rang it.
        let is_ours = leg != A || self.started.is_some();
        let wait = glare_wait(is_ours, cx.entropy.u64());
        let Some(side) = self.side_mut(leg) else { return };
        if side.retried >= RETRIES {
            return self.side_refused(cx, leg, 491);
        }
        side.retried += 1;
        side.step = SideStep::Waiting;
        cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, CallTimer::MoveAsk));
    }

    fn side_mut(&mut self, leg: usize) -> Option<&mut super::moves::MovingSide> {
        self.moving.as_mut()?.sides.iter_mut().find(|side| side.leg == leg)
    }

    /// Asks this side once more, at once.
    fn hold_side(&mut self, cx: &mut Context, leg: usize) {
        if let Some(side) = self.side_mut(leg) {
            side.step = SideStep::Held;
        }
        self.press_on(cx);
    }

    /// Collisions have been waited out.
    pub(crate) fn ask_sides_again(&mut self, cx: &mut Context) {
        for side in self.moving.iter_mut().flat_map(|it| &mut it.sides) {
            if side.step == SideStep::Waiting {
                side.step = SideStep::Held;
            }
        }
        self.press_on(cx);
    }

    /// The side did not answer at all.
    pub(crate) fn move_lost(
        &mut self,
        cx: &mut Context,
        leg: usize,
        client: ClientKey,
        cause: FailureCause,
    ) {
        self.offer_ended(leg);
        if self.ending.is_some() {
            return;
        }
        if !self.is_asked(leg, client) {
            return self.press_on(cx);
        }
        match cause {
            FailureCause::Transport if self.reroute(cx, leg) => self.hold_side(cx, leg),
            FailureCause::Cancelled | FailureCause::Refused => self.side_refused(cx, leg, 500),
            _ => self.end(cx, Ending::unanswered()),
        }
    }

    /// The signalling of a side that says nothing is as good as lost; unless its
    /// media still run where they were.
    pub(crate) fn move_is_overdue(&mut self, cx: &mut Context, session: SessionId) {
        if !self.moves_to(session) {
            return;
        }
        let late = self.moving.iter().flat_map(|it| &it.sides);
        let late = late.filter(|side| side.step != SideStep::Agreed).map(|side| side.leg).next();
        match late {
            Some(leg) if self.session.as_ref().is_some_and(|it| !it.lost) => {
                self.side_refused(cx, leg, 408);
            }
            _ => self.end(cx, Ending::unanswered()),
        }
    }

    /// This side will not move. Of a relay that lives the call stays there, and
    /// a side that left comes back; else it has no media any more.
    pub(super) fn side_refused(&mut self, cx: &mut Context, leg: usize, status: u16) {
        if self.session.as_ref().is_none_or(|it| it.lost) {
            let text = StatusCode::new(status).map_or("", StatusCode::reason);
            let mut ending = Ending::new(Cause::MediaLost, 200);
            ending.reasons = vec![reason(status, text).into()];
            return self.end(cx, ending);
        }
        cx.counters.moves_refused += 1;
        let left = self.moving.iter().flat_map(|it| &it.sides);
        let left = left.filter(|side| side.leg != leg && side.step == SideStep::Agreed);
        let left = left.map(|side| side.leg).next();
        self.give_up_attempt(cx);
        self.moving = None;
        if let Some(left) = left {
            self.bring_back(cx, left);
        }
    }

    /// Offers a side the session that it left.
    pub(super) fn bring_back(&mut self, cx: &mut Context, leg: usize) {
        let Some(it) = self.legs.get(leg) else { return };
        let (Some(media), Some(session)) = (it.media.as_ref(), &self.session) else { return };
        // It had other keys meanwhile, as when it moves.
        let renew = RelayRequest::Change(session.id, vec![Op::Renew(it.relay_leg)]);
        cx.ask_relay(&session.relay, self.key, RelayStep::Release, renew);
        // Its checks and its handshake begin anew, there as here.
        let restarts = media.spec.ice || media.spec.protocol == landline_control::Protocol::Dtls;
        let Some(terms) = media.told() else { return };
        self.modification = Some(Modification {
            asked: None,
            toward: leg,
            client: None,
            method: Method::Invite,
            step: if restarts { ModifyStep::Preparing } else { ModifyStep::Asking },
            former: None,
            retried: 0,
        });
        match restarts {
            true => self.prepare(cx, leg, |leg| Op::Restart(leg.relay_leg)),
            false => self.ask(cx, terms),
        }
    }

    /// A transaction with an offer of ours is over.
    pub(super) fn offer_ended(&mut self, leg: usize) {
        if let Some(it) = self.legs.get_mut(leg) {
            it.offering = None;
        }
    }
}

impl Leg {
    /// Sends our offer within the dialog, in an INVITE or an UPDATE.
    pub(super) fn send_offer(
        &mut self,
        cx: &mut Context,
        method: Method,
        offer: Bytes,
        purpose: ClientUse,
    ) -> Option<ClientKey> {
        let mut request = self.dialog.as_mut()?.request(method);
        request.headers.push(HeaderName::Allow, super::allow_header());
        self.timer.ask_again(cx.config.session_policy(), &mut request.headers);
        request.set_body(SDP, offer);
        self.prove(cx, &mut request);
        let destination = self.destination(cx)?;
        self.offering = Some(cx.send(purpose, request, destination));
        self.offering
    }

    /// No INVITE of either side is under way in its dialog (RFC 3261 §14.1).
    pub(super) fn may_be_offered(&self) -> bool {
        self.offering.is_none() && self.unacked.is_none() && self.dialog.is_some()
    }
}
