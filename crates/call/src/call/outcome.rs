//! What the relay answered, and what its media does by itself.

use landline_control::{
    Direction, Event, LegId, LegLocal, MediaFault, Op, Outcome, Refusal, RelayId,
    Request as RelayRequest, SessionId,
};

use super::leg::LegState;
use super::message::reason;
use super::{Call, Ending, Phase};
use crate::context::Context;
use crate::io::Log;
use crate::record::Cause;
use crate::relays::RelayStep;

impl Call {
    pub(crate) fn relay_outcome(&mut self, cx: &mut Context, step: RelayStep, outcome: Outcome) {
        match (step, outcome) {
            (RelayStep::Adopt, outcome) => self.adoption_answered(cx, outcome),
            (_, Outcome::Adopted(_) | Outcome::TakenOver(_)) => {}
            (RelayStep::Move(step, session), outcome) => {
                self.move_outcome(cx, step, session, outcome);
            }
            (RelayStep::Leave(session), outcome) => self.departed(cx, session, outcome),
            (_, Outcome::Closed { legs, recording }) => self.session_closed(cx, legs, recording),
            (RelayStep::Close, Outcome::Refused(_) | Outcome::Done(_)) => self.close(cx),
            (_, _) if self.ending.is_some() => {}
            (step, Outcome::Done(legs)) => self.relay_done(cx, step, legs),
            (step, Outcome::Refused(refusal)) => self.relay_refused(cx, step, refusal),
        }
    }

    fn relay_done(&mut self, cx: &mut Context, step: RelayStep, legs: Vec<(LegId, LegLocal)>) {
        for (id, local) in legs {
            let Some(leg) = self.legs.iter_mut().find(|leg| leg.relay_leg == id) else { continue };
            leg.is_allocated = true;
            if let Some(media) = &mut leg.media {
                let relay = self.session.as_ref().map(|session| &session.relay);
                media.stream = relay.and_then(|it| cx.relays.stream_beside(it, local.rtp));
                media.local = Some(local);
            }
        }
        match step {
            RelayStep::Open | RelayStep::Fork => self.ring_group(cx),
            RelayStep::Retry { leg } => self.ring_again(cx, leg),
            RelayStep::PickUp { leg } => self.picked_up(cx, leg),
            RelayStep::Early { leg, status } => self.early_joined(cx, leg, status),
            RelayStep::Answer => self.joined(cx),
            RelayStep::LateAnswer { leg } => self.late_answer_applied(cx, leg),
            RelayStep::Prepare => self.modify_prepared(cx),
            RelayStep::Modify => self.modify_applied(cx),
            RelayStep::Release
            | RelayStep::Note
            | RelayStep::Close
            | RelayStep::Adopt
            | RelayStep::Move(..)
            | RelayStep::Leave(_) => {}
        }
    }

    fn relay_refused(&mut self, cx: &mut Context, step: RelayStep, refusal: Refusal) {
        cx.counters.relay_refusals += 1;
        if let Some(session) = &self.session {
            let (relay, call) = (session.relay.clone(), self.sid);
            cx.log(Log::RelayRefused { relay, call, refusal: refusal.to_string() });
        }
        match (step, refusal) {
            (RelayStep::Release, _) => {}
            (RelayStep::Note, _) => self.not_recorded(cx, "Media relay refused"),
            (RelayStep::Prepare | RelayStep::Modify, _) => self.modify_refused(cx),
            (RelayStep::Early { .. }, _) => self.early = None,
            (RelayStep::Retry { leg }, _) => self.retry_refused(cx, leg),
            (RelayStep::PickUp { leg }, _) => self.pick_up_failed(cx, leg, 503),
            (RelayStep::Fork, _) if self.phase == Phase::Ringing => self.fork_refused(cx),
            (RelayStep::Open, refusal) => {
                // Nothing was opened, so there is nothing to close.
                let refused = self.drop_session(cx);
                if let (Some(relay), Refusal::Draining) = (&refused, refusal) {
                    cx.relays.drain(relay, true);
                }
                self.tried_relays.extend(refused);
                self.open_session(cx);
            }
            (_, Refusal::BadRemote(_)) => {
                let ending = Ending::because(Cause::NotAcceptable, 488, 488, "Not Acceptable Here");
                self.end(cx, ending);
            }
            _ => self.end(cx, Ending::because(Cause::Failed, 503, 500, "Media relay refused")),
        }
    }

    /// There is no room for the places that were to ring next: as if they did not
    /// answer.
    fn fork_refused(&mut self, cx: &mut Context) {
        for leg in self.rung() {
            let Some(it) = self.legs.get_mut(leg) else { continue };
            let is_rung = it.branch_ref().is_some_and(|branch| branch.request.is_some());
            if it.state == LegState::Early && !is_rung {
                (it.state, it.status) = (LegState::Ended, 503);
            }
        }
        self.consider(503, Cause::Failed, Vec::new());
        self.group_failed(cx);
    }

    /// Unless the branch has been taken back in the meantime.
    fn ring_again(&mut self, cx: &mut Context, leg: usize) {
        match self.legs.get(leg).map(|it| it.state) {
            Some(LegState::Early) => self.ring(cx, leg),
            Some(LegState::Ended) => self.release_media(cx, leg),
            // Another took its place meanwhile.
            Some(LegState::Confirmed) | None => {}
        }
    }

    pub(super) fn drop_session(&mut self, cx: &mut Context) -> Option<RelayId> {
        let session = self.session.take()?;
        cx.relays.end(&session.relay, session.id);
        Some(session.relay)
    }

    /// The branch cannot be offered anything else.
    fn retry_refused(&mut self, cx: &mut Context, leg: usize) {
        let Some(it) = self.legs.get_mut(leg).filter(|it| it.state == LegState::Early) else {
            return;
        };
        it.state = LegState::Ended;
        it.status = 488;
        self.consider(488, Cause::NotAcceptable, Vec::new());
        self.group_failed(cx);
    }

    /// A relay that does not answer is as good as gone for this call.
    pub(crate) fn relay_silent(&mut self, cx: &mut Context, step: RelayStep) {
        cx.counters.relay_timeouts += 1;
        match step {
            RelayStep::Close => self.close(cx),
            RelayStep::Release => {}
            RelayStep::Note => self.not_recorded(cx, "Media relay is silent"),
            RelayStep::Adopt => self.not_adopted(cx),
            RelayStep::Move(_, session) if self.moves_to(session) => self.move_again(cx),
            RelayStep::Move(..) => {}
            RelayStep::Leave(session) => self.departed(cx, session, Outcome::Done(Vec::new())),
            _ => self.end(cx, Ending::because(Cause::Failed, 503, 500, "Media relay is silent")),
        }
    }

    /// Has the relay do something that nothing waits for.
    pub(super) fn have_relay(&self, cx: &mut Context, ops: Vec<Op>) {
        self.have_relay_for(cx, RelayStep::Release, ops);
    }

    pub(super) fn have_relay_for(&self, cx: &mut Context, step: RelayStep, ops: Vec<Op>) {
        if let Some(session) = self.session.as_ref().filter(|it| !it.lost) {
            let change = RelayRequest::Change(session.id, ops);
            cx.ask_relay(&session.relay, self.key, step, change);
        }
    }

    /// What the media of a leg does by itself.
    pub(crate) fn media_event(&mut self, cx: &mut Context, session: SessionId, event: Event) {
        let (leg, fault) = match event {
            Event::Fault(leg, fault) => (leg, fault),
            Event::Keyed(leg, keys) => return self.keyed(session, leg, *keys),
            Event::Key(leg, key) => return self.key_pressed(cx, session, leg, key),
            Event::Played(leg) => return self.played(cx, session, leg),
            Event::MediaStarted(_) => return,
        };
        // One that is left falls silent, as it should.
        let is_there = self.session.as_ref().is_some_and(|it| it.id == session);
        if !is_there || self.moving.is_some() {
            return;
        }
        cx.counters.media_faults += 1;
        if self.phase != Phase::Up || self.ending.is_some() {
            return;
        }
        let relay_leg = leg;
        let Some(leg) = self.legs.iter().find(|it| it.relay_leg == leg) else { return };
        // A peer that was asked to be silent may be.
        let sends = leg.media.as_ref().and_then(|media| media.agreed.as_ref()).is_some_and(|it| {
            matches!(it.terms.direction, Direction::SendReceive | Direction::ReceiveOnly)
        });
        let text = match fault {
            MediaFault::MediaTimeout if !sends || self.is_holding(relay_leg) => return,
            MediaFault::MediaTimeout => "Media timeout",
            MediaFault::DtlsHandshakeFailed => "DTLS handshake failed",
            MediaFault::DtlsFingerprintMismatch => "DTLS fingerprint mismatch",
        };
        let mut ending = Ending::new(Cause::MediaLost, 200);
        ending.reasons = vec![reason(500, text).into()];
        self.end(cx, ending);
    }
}
