//! Keeping a call's sides alive (RFC 4028): refreshes of ours, those of the
//! peers, and the end of a side that is silent.
//!
//! A refresh ends here: the other side has a timer of its own, and hears of
//! nothing but a changed description. A side without a timer is asked by OPTIONS
//! (RFC 3261 §11): any answer but that it knows of no such dialog will do.

use std::time::Duration;

use landline_region::UnixMillis;
use landline_sip::{ClientKey, FailureCause, Headers, Method, Request, Response, StatusCode};

use super::modify::{Modification, ModifyStep};
use super::session_timer::Due;
use super::{A, Call, Ending, Leg, Phase};
use crate::context::{ClientUse, Context};
use crate::negotiate::LegMedia;
use crate::record::Cause;
use crate::timers::{CallTimer, Timer};

impl Call {
    /// The call is up: both sides' timers run; of one that is parked that of who waits.
    pub(super) fn watch_sessions(&mut self, cx: &mut Context) {
        let now = self.now(cx);
        let is_restored = self.restored.is_some();
        for leg in [Some(A), self.winner].into_iter().flatten() {
            if let Some(it) = self.legs.get_mut(leg) {
                match is_restored {
                    true => it.timer.resume(now),
                    false => it.timer.answered(now),
                }
            }
            self.watch_session(cx, leg);
        }
    }

    /// The next thing to do for this side.
    fn watch_session(&self, cx: &mut Context, leg: usize) {
        let now = self.now(cx);
        let Some(it) = self.legs.get(leg) else { return };
        let wait = match it.timer.due(cx.config.session_policy(), now) {
            Due::At(then) => until(now, then),
            Due::Refresh | Due::Ask | Due::Expired => Duration::ZERO,
        };
        let timer = Timer::Call(self.key, CallTimer::Session(leg));
        cx.timers.set(cx.now.instant + wait, timer);
    }

    pub(crate) fn session_due(&mut self, cx: &mut Context, leg: usize) {
        if !(self.phase == Phase::Up || self.waits()) || self.ending.is_some() {
            return;
        }
        let now = self.now(cx);
        let Some(it) = self.legs.get(leg) else { return };
        match it.timer.due(cx.config.session_policy(), now) {
            Due::Refresh | Due::Ask => {
                self.refresh_side(cx, leg);
                if let Some(it) = self.legs.get(leg) {
                    let again = cx.now.instant + it.timer.patience();
                    cx.timers.set(again, Timer::Call(self.key, CallTimer::Session(leg)));
                }
            }
            Due::Expired => {
                cx.counters.sessions_expired += 1;
                let text = "Session expired";
                self.end(cx, Ending::because(Cause::SignallingLost, 200, 408, text));
            }
            // Refreshed since: that has set its own.
            Due::At(_) => {}
        }
    }

    /// By UPDATE, which changes nothing else (§7.4), or by a re-INVITE with the
    /// description that the peer has. What does not expire needs neither.
    fn refresh_side(&mut self, cx: &mut Context, leg: usize) {
        let Some(it) = self.legs.get(leg).filter(|it| it.refreshing.is_none()) else { return };
        let is_sent = match (it.timer.agreed, it.takes_update) {
            (None, _) => self.send_within(cx, leg, Method::Options),
            (Some(_), true) => self.send_update(cx, leg),
            (Some(_), false) => {
                self.offer_same(cx, leg);
                None
            }
        };
        if let (Some(client), Some(it)) = (is_sent, self.legs.get_mut(leg)) {
            it.refreshing = Some(client);
            it.timer.attempts = it.timer.attempts.saturating_add(1);
        }
    }

    /// An UPDATE without an offer: our Contact, and the session timer.
    pub(super) fn send_update(&mut self, cx: &mut Context, leg: usize) -> Option<ClientKey> {
        self.send_within(cx, leg, Method::Update)
    }

    fn send_within(&mut self, cx: &mut Context, leg: usize, method: Method) -> Option<ClientKey> {
        let it = self.legs.get_mut(leg)?;
        let mut request = it.dialog.as_mut()?.request(method);
        if request.method == Method::Update {
            it.timer.ask_again(cx.config.session_policy(), &mut request.headers);
        }
        it.prove(cx, &mut request);
        let destination = it.destination(cx)?;
        Some(cx.send(ClientUse::Refresh { call: self.key, leg }, request, destination))
    }

    /// Whatever is under way in the call goes first; the next try comes soon.
    fn offer_same(&mut self, cx: &mut Context, leg: usize) {
        let is_free = self.modification.is_none()
            && self.stands()
            && !self.is_between_relays()
            && !self.awaits_adoption()
            && self.legs.get(leg).is_some_and(Leg::may_be_offered);
        let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
        let Some(told) = media.and_then(LegMedia::told).filter(|_| is_free) else { return };
        self.modification = Some(Modification {
            asked: None,
            toward: leg,
            client: None,
            method: Method::Invite,
            step: ModifyStep::Asking,
            former: None,
            retried: 0,
        });
        if let Some(it) = self.legs.get_mut(leg) {
            it.timer.attempts = it.timer.attempts.saturating_add(1);
        }
        cx.counters.sessions_refreshed += 1;
        self.ask(cx, told);
    }

    /// The peer's word on our UPDATE.
    pub(crate) fn refresh_response(
        &mut self,
        cx: &mut Context,
        leg: usize,
        client: ClientKey,
        response: &Response,
    ) {
        let status = response.status;
        if status.is_provisional() {
            return;
        }
        let is_refresh = self.refresh_ended(leg, client);
        if self.ending.is_some() {
            return;
        }
        if response.cseq().is_ok_and(|it| it.method == Method::Options) {
            return self.asked(cx, leg, response);
        }
        if status.is_success() {
            cx.counters.sessions_refreshed += u64::from(is_refresh);
            if let Some(dialog) = self.legs.get_mut(leg).and_then(|it| it.dialog.as_mut())
                && let Ok(contacts) = response.contacts()
            {
                dialog.refresh_target(contacts);
            }
            self.session_accepted(cx, leg, &response.headers);
            return self.keep(cx);
        }
        // What merely told the peer where we are may be refused.
        if is_refresh {
            self.refresh_refused(cx, leg, response);
        }
    }

    /// Its word on whether it is there.
    fn asked(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        if Self::dialog_gone(response.status) {
            return self.end(cx, Ending::dialog_lost(leg));
        }
        if self.challenged(leg, response) {
            return self.refresh_side(cx, leg);
        }
        let now = self.now(cx);
        if let Some(it) = self.legs.get_mut(leg) {
            it.timer.answered(now);
            self.watch_session(cx, leg);
        }
    }

    fn refresh_refused(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let status = response.status;
        if Self::dialog_gone(status) {
            return self.end(cx, Ending::dialog_lost(leg));
        }
        if self.challenged(leg, response) {
            return self.refresh_side(cx, leg);
        }
        let policy = cx.config.session_policy();
        let Some(it) = self.legs.get_mut(leg) else { return };
        match status {
            StatusCode::SESSION_INTERVAL_TOO_SMALL
                if it.timer.lengthen(policy, &response.headers) =>
            {
                self.refresh_side(cx, leg);
            }
            // It said that it takes them.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                it.takes_update = false;
                self.refresh_side(cx, leg);
            }
            _ => {}
        }
    }

    /// The peer did not answer our UPDATE at all.
    pub(crate) fn refresh_lost(
        &mut self,
        cx: &mut Context,
        leg: usize,
        client: ClientKey,
        cause: FailureCause,
    ) {
        if !self.refresh_ended(leg, client) || self.ending.is_some() {
            return;
        }
        match cause {
            FailureCause::Transport if self.reroute(cx, leg) => self.refresh_side(cx, leg),
            FailureCause::Timeout => self.end(cx, Ending::unanswered()),
            _ => {}
        }
    }

    fn refresh_ended(&mut self, leg: usize, client: ClientKey) -> bool {
        let it = self.legs.get_mut(leg);
        it.is_some_and(|it| it.refreshing.take_if(|known| *known == client).is_some())
    }

    /// The peer accepted a request of ours that refreshes the session, whatever
    /// else it was for.
    pub(super) fn session_accepted(&mut self, cx: &mut Context, leg: usize, said: &Headers) {
        let now = self.now(cx);
        if let Some(it) = self.legs.get_mut(leg) {
            it.timer.accepted(said, now);
            self.watch_session(cx, leg);
        }
    }

    /// A request of the peer's is accepted: what follows for the session, and
    /// what our 2xx says of it.
    pub(super) fn session_taken(
        &mut self,
        cx: &mut Context,
        leg: usize,
        request: &Request,
        response: &mut Response,
    ) {
        let now = self.now(cx);
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.timer.take(cx.config.session_policy(), &request.headers, now);
        it.timer.tell(&request.headers, &mut response.headers);
        self.watch_session(cx, leg);
    }
}

fn until(now: UnixMillis, then: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(then.0.saturating_sub(now.0)).unwrap_or(0))
}
