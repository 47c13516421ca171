//! The one way out of a call, whatever ends it.

use std::time::Duration;

use landline_control::{Close, LegId, LegStats, Recorded, Request as RelayRequest};
use landline_sip::{ByteStr, FailureCause, HeaderName, Request, Response, ServerKey, StatusCode};

use super::leg::{Invite, LegState};
use super::message::{reason, reasons};
use super::{A, Call, Leg, Phase};
use crate::context::Context;
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::route::{Reach, Side};
use crate::timers::{CallTimer, Timer};

/// Why and how a call ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub cause: Cause,
    /// The final status of the caller's INVITE: the one to be sent, or the one
    /// it had.
    pub caller_status: u16,
    /// Reason headers for BYE, CANCEL and the refusal.
    pub reasons: Vec<ByteStr>,
    pub warning: Option<(u16, &'static str)>,
    /// The leg that hung up and is not to be sent a BYE.
    pub hung_up: Option<usize>,
}

impl Ending {
    pub(crate) fn new(cause: Cause, caller_status: u16) -> Self {
        Self { cause, caller_status, reasons: Vec::new(), warning: None, hung_up: None }
    }

    pub(crate) fn because(cause: Cause, caller_status: u16, code: u16, text: &str) -> Self {
        Self { reasons: vec![reason(code, text).into()], ..Self::new(cause, caller_status) }
    }

    /// A request of ours within the dialog was not answered.
    pub(super) fn unanswered() -> Self {
        Self::because(Cause::SignallingLost, 200, 408, "No answer in the dialog")
    }

    /// This leg's peer knows nothing of the dialog any more.
    pub(super) fn dialog_lost(leg: usize) -> Self {
        let ending = Self::because(Cause::SignallingLost, 200, 481, "Dialog lost");
        Self { hung_up: Some(leg), ..ending }
    }

    fn is_dialog_lost(&self, leg: usize) -> bool {
        self.cause == Cause::SignallingLost && self.hung_up == Some(leg)
    }

    /// No relay has the media of the answered call any more.
    pub(super) fn relay_lost() -> Self {
        Self::because(Cause::Lost, 200, 500, "Media relay lost")
    }
}

/// How long the transactions of a closed call may take: longer than any can.
const FORGET: Duration = Duration::from_secs(70);
/// How long a BYE may wait for its 200: less than until it is sent again
/// (T1, RFC 3261 §17.1.2.2).
const FAREWELL: Duration = Duration::from_millis(400);

impl Call {
    /// Ends the call on every leg, then on the relay, then in the record. The
    /// first ending is the one that counts.
    pub(crate) fn end(&mut self, cx: &mut Context, mut ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        // Written as answered, it was: the caller is told so before it is hung up.
        self.pass_answer(cx);
        if self.ending.is_some() {
            return;
        }
        self.end_departing(cx, &mut ending);
        self.return_guests(cx, &ending);
        let was_answered = self.started.is_none() || self.answered_at.is_some();
        if was_answered && self.legs.first().is_some_and(|caller| caller.status != 0) {
            ending.caller_status = self.legs.first().map_or(0, |caller| caller.status);
        }
        self.ending = Some(ending.clone());
        self.phase = Phase::Ending;
        self.groups.clear();
        self.forget_sleepers(cx);
        self.drop_modification(cx);
        self.drop_move(cx);
        self.drop_passes(cx);
        if !self.rings_first() {
            self.release_caller(cx, &ending);
        }
        for leg in self.rung() {
            self.release_branch(cx, leg, &ending);
        }
        // Else it is closed as soon as it is ours.
        if !self.awaits_adoption() {
            self.close_session(cx);
        }
    }

    /// The relay is to close the session, and to tell what it counted.
    pub(super) fn close_session(&mut self, cx: &mut Context) {
        match self.session.clone() {
            Some(session) if !session.lost && cx.relays.is_connected(&session.relay) => {
                let close = RelayRequest::Close(Close { session: session.id });
                cx.ask_relay(&session.relay, self.key, RelayStep::Close, close);
            }
            _ => {
                self.leave_behind(cx);
                self.close(cx);
            }
        }
    }

    fn release_caller(&mut self, cx: &mut Context, ending: &Ending) {
        let Some(caller) = self.legs.get_mut(A) else { return };
        match caller.state {
            LegState::Early => {
                caller.state = LegState::Ended;
                caller.status = ending.caller_status;
                self.refuse_caller(cx, ending);
            }
            LegState::Confirmed if ending.hung_up == Some(A) => caller.state = LegState::Ended,
            LegState::Confirmed => self.hang_up(cx, A, &ending.reasons),
            LegState::Ended => {}
        }
    }

    fn release_branch(&mut self, cx: &mut Context, leg: usize, ending: &Ending) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        match it.state {
            LegState::Early => {
                let reason = ending.reasons.first().map(|it| it.to_str_lossy().into_owned());
                self.cancel_branch(cx, leg, reason);
            }
            LegState::Confirmed if ending.hung_up == Some(leg) => it.state = LegState::Ended,
            LegState::Confirmed => self.hang_up(cx, leg, &ending.reasons),
            LegState::Ended => {}
        }
    }

    /// The relay has closed the session and told what it counted.
    pub(super) fn session_closed(
        &mut self,
        cx: &mut Context,
        stats: Vec<(LegId, LegStats)>,
        recorded: Option<Recorded>,
    ) {
        for (id, stats) in stats {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.relay_leg == id) {
                leg.stats = Some(stats);
            }
        }
        self.add_recorded(recorded);
        self.close(cx);
    }

    /// A relay that was only out of reach is to close the session when it is
    /// back.
    pub(super) fn leave_behind(&mut self, cx: &mut Context) {
        if let Some(session) = self.session.as_ref().filter(|it| it.lost) {
            cx.relays.left_behind(&session.relay, session.id, self.key);
        }
    }

    /// Closes the record, once, with or without the relay's figures.
    pub(super) fn close(&mut self, cx: &mut Context) {
        if self.phase == Phase::Closed {
            return;
        }
        self.closing = self.awaits_figures();
        if self.closing {
            return;
        }
        if let Some(session) = &self.session {
            cx.relays.end(&session.relay, session.id);
        }
        self.record_closed(cx);
        cx.timers.set(cx.now.instant + FORGET, Timer::Call(self.key, CallTimer::Forget));
    }

    /// Nothing is waited for any longer.
    pub(crate) fn forget(&mut self) {
        for leg in &mut self.legs {
            leg.owes_bye = false;
            if let Invite::Sent(branch) = &mut leg.invite {
                branch.is_pending = false;
            }
        }
    }

    /// A BYE from this leg (RFC 3261 §15.1.2).
    pub(crate) fn bye(&mut self, cx: &mut Context, leg: usize, key: ServerKey, bye: &Request) {
        let response = match self.legs.get(leg).and_then(|it| it.dialog.as_ref()) {
            Some(dialog) => dialog.respond(bye, StatusCode::OK),
            None => Response::for_request(bye, StatusCode::OK),
        };
        if let Some(it) = self.legs.get_mut(leg) {
            it.owes_bye = false;
        }
        let early = self.legs.get(leg).is_some_and(|it| it.state == LegState::Early);
        let ending = match (leg, early) {
            // BYE in place of CANCEL: the INVITE still wants its answer.
            (A, true) => Ending::new(Cause::CallerCancelled, 487),
            // The party that we rang first did not wait for the other.
            (A, false) if self.started.is_some() && self.answered_at.is_none() => {
                Ending::new(Cause::CallerCancelled, 487)
            }
            (A, false) => Ending::new(Cause::CallerHungUp, 200),
            _ if self.winner == Some(leg) => Ending::new(Cause::CalleeHungUp, 487),
            _ => return cx.respond(key, response),
        };
        if let Some(began) = &mut self.ending {
            // Its BYE and its 481 to a request of ours crossed: it hung up.
            if self.phase == Phase::Ending && began.is_dialog_lost(leg) {
                began.cause = ending.cause;
            }
            return cx.respond(key, response);
        }
        self.farewell = Some((key, response));
        cx.timers.set(cx.now.instant + FAREWELL, Timer::Call(self.key, CallTimer::Farewell));
        let hung_up = (!early).then_some(leg);
        self.end(cx, Ending { reasons: reasons(&bye.headers), hung_up, ..ending });
    }

    /// Its end is on disk, or the one who hung up would ask again.
    pub(crate) fn say_farewell(&mut self, cx: &mut Context) {
        if let Some((key, response)) = self.farewell.take() {
            cx.respond(key, response);
        }
    }

    /// The caller's CANCEL; it has its 200 already.
    pub(crate) fn cancelled(&mut self, cx: &mut Context) {
        let answered = self.legs.first().is_some_and(|caller| caller.state != LegState::Early);
        if !answered {
            self.end(cx, Ending::new(Cause::CallerCancelled, 487));
        }
    }

    /// What came of our BYE. A peer whose connection is gone may have another.
    pub(crate) fn bye_failed(&mut self, cx: &mut Context, leg: usize, cause: FailureCause) {
        if cause == FailureCause::Transport && self.reroute(cx, leg) {
            self.say_bye(cx, leg, &[]);
        }
    }

    /// A trunk wants its BYE proven.
    pub(crate) fn bye_refused(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        if self.challenged(leg, response) {
            self.say_bye(cx, leg, &[]);
        }
    }

    /// Takes a challenge inside the dialog up, once for each leg.
    pub(super) fn challenged(&mut self, leg: usize, response: &Response) -> bool {
        let Some(it) = self.legs.get_mut(leg).filter(|it| it.side.is_trunk()) else {
            return false;
        };
        let Some(asked) = super::branch::challenged(response).filter(|_| !it.rerouted) else {
            return false;
        };
        it.rerouted = true;
        it.challenged = Some(asked);
        true
    }

    /// Another way to a peer whose connection is gone: to a phone one that it
    /// registered by since, or what its Contact says; to another region one that
    /// is opened anew.
    pub(super) fn reroute(&mut self, cx: &Context, leg: usize) -> bool {
        let Some(it) = self.legs.get_mut(leg).filter(|it| !it.rerouted) else { return false };
        it.rerouted = true;
        if matches!(it.reach, Reach::Region(..)) {
            return true;
        }
        let (Reach::Flow(gone), Some(dialog)) = (&it.reach, &it.dialog) else { return false };
        let target = dialog.remote_target();
        let known = match &it.side {
            Side::User(user) => {
                let instance = cx.instance_at(&self.account, target);
                cx.registrar.other_flow(user.sid, target, instance.as_deref(), gone)
            }
            Side::Trunk(_) | Side::Region(_) => None,
        };
        match known {
            Some(flow) => it.reach = Reach::Flow(flow),
            None if it.side.is_trunk() || is_at(target, gone) => it.reach = Reach::Uri,
            None => return false,
        }
        true
    }

    /// The statuses of an answered leg that say its dialog is no more
    /// (RFC 3261 §12.2.1.2).
    pub(super) fn dialog_gone(status: StatusCode) -> bool {
        status == StatusCode::CALL_DOES_NOT_EXIST || status == StatusCode::REQUEST_TIMEOUT
    }

    /// Everything that leads to this call from outside is taken down.
    pub(crate) fn unlink(&mut self, cx: &mut Context) {
        self.heard_answer(cx);
        for leg in &self.legs {
            for tag in [Some(leg.tag), leg.former_tag].into_iter().flatten() {
                // It may be another call's by now.
                if cx.dialogs.get(&tag).is_some_and(|(call, _)| *call == self.key) {
                    cx.dialogs.remove(&tag);
                }
            }
            if let Some(incoming) = leg.incoming() {
                cx.servers.remove(&incoming.key);
            }
            if let Some(key) = leg.unacked {
                cx.servers.remove(&key);
            }
            if let Some(key) = leg.branch_ref().and_then(|branch| branch.key) {
                cx.clients.remove(&key);
            }
        }
    }

    /// A response to something of a call that has ended.
    pub(crate) fn gone(&self, cx: &mut Context, key: ServerKey, request: &Request) {
        cx.reply(key, request, StatusCode::CALL_DOES_NOT_EXIST);
    }
}

/// Only to the machine the connection came from: a Contact is no way to make
/// us connect to whatever it names.
fn is_at(target: &landline_sip::Uri, gone: &landline_sip::Flow) -> bool {
    target.host == landline_sip::Host::from(gone.remote.ip())
        && !matches!(gone.transport, landline_sip::Transport::Ws | landline_sip::Transport::Wss)
}

impl Leg {
    /// A Retry-After for what has to wait for us (RFC 3261 §14.2).
    pub(super) fn later(cx: &mut Context, mut response: Response) -> Response {
        let seconds = cx.entropy.u64() % 11;
        response.headers.push(HeaderName::RetryAfter, seconds.to_string());
        response
    }
}
