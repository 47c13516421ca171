//! The original call's half of a transfer: whoever is referred leaves it, and
//! with that it ends.

use std::time::Duration;

use landline_sip::{
    Ended, HeaderName, Method, Request, SIPFRAG, ServerKey, StatusCode, SubscriptionState, sipfrag,
};

use super::leg::LegState;
use super::message::push_warning;
use super::transfer::{Returned, Word};
use super::{A, Call, Ending, Phase};
use crate::calls::CallKey;
use crate::context::{ClientUse, Context};
use crate::record::Cause;
use crate::route::Side;
use crate::timers::{CallTimer, Timer};

/// How long who asked for a transfer may take to hang up by himself.
const GRACE: Duration = Duration::from_secs(1);
/// A leg in which something else goes on is asked for again so soon, and so often.
const SOON: Duration = Duration::from_millis(100);
const TRIES: u8 = 100;

pub(super) struct Departing {
    /// The new call.
    pub to: CallKey,
    /// The leg of who asked for it.
    by: usize,
    /// The leg that departs.
    leg: usize,
    /// Names the subscription that the REFER made: its CSeq (RFC 3515 §2.4.6).
    /// `None` where no reports are wanted.
    report: Option<u32>,
    step: DepartingStep,
    tries: u8,
    /// Somebody else takes his place: he is hung up as soon as that is done.
    is_replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DepartingStep {
    /// The target is being called.
    Staying,
    /// The new call asked for the leg.
    Wanted,
    Lent,
    /// The new call is up.
    Over,
}

impl Departing {
    /// The leg of who asked for it.
    pub(super) fn by(&self) -> usize {
        self.by
    }
}

impl Call {
    /// Who would be left if this leg's party referred the other one elsewhere.
    /// `Err`: not now (RFC 3261 §14.2 has the same for changes), or nobody.
    pub(crate) fn may_refer(&self, leg: usize) -> Result<usize, StatusCode> {
        let other = self.other(leg).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        let is_free = self.phase == Phase::Up
            && self.ending.is_none()
            && self.departing.is_none()
            && self.is_idle(leg)
            && self.is_idle(other);
        is_free.then_some(other).ok_or(StatusCode::REQUEST_PENDING)
    }

    /// Nothing of either side's is under way in this leg's dialog.
    fn is_idle(&self, leg: usize) -> bool {
        let is_quiet = self.legs.get(leg).is_some_and(|it| {
            it.state == LegState::Confirmed && it.refreshing.is_none() && it.may_be_offered()
        });
        is_quiet
            && self.modification.is_none()
            && !self.is_between_relays()
            && !self.awaits_adoption()
    }

    /// The leg's party is a user, who may transfer calls.
    pub(crate) fn user_of(&self, leg: usize) -> Option<&std::sync::Arc<crate::tenancy::User>> {
        match &self.legs.get(leg)?.side {
            Side::User(user) => Some(user),
            Side::Trunk(_) | Side::Region(_) => None,
        }
    }

    /// The REFER is accepted (RFC 3515 §2.4.2): what comes of it is reported,
    /// unless nobody wants to know (RFC 4488 §4).
    pub(crate) fn accept_refer(
        &mut self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: &Request,
        to: CallKey,
    ) {
        let Some(other) = self.other(leg) else { return };
        let is_silent = landline_sip::declines_reports(&request.headers);
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        let report = (!is_silent).then_some(number);
        self.part_with(to, leg, other, report);
        if let Some(dialog) = self.legs.get(leg).and_then(|it| it.dialog.as_ref()) {
            let mut response = dialog.respond(request, StatusCode::ACCEPTED);
            response.headers.set(HeaderName::Contact, dialog.local_contact());
            if is_silent {
                response.headers.push(HeaderName::ReferSub, "false");
            }
            cx.respond(key, response);
        }
        self.report(cx, StatusCode::TRYING);
    }

    /// This call's other party is going to be another call's.
    pub(crate) fn part_with(&mut self, to: CallKey, by: usize, leg: usize, report: Option<u32>) {
        let (step, tries, is_replaced) = (DepartingStep::Staying, 0, false);
        let departing = Departing { to, by, leg, report, step, tries, is_replaced };
        self.departing = Some(Box::new(departing));
    }

    /// Another call takes this one's other party, and the one at `by` goes.
    pub(crate) fn give_way(&mut self, to: CallKey, by: usize, leg: usize) {
        self.part_with(to, by, leg, None);
        if let Some(departing) = &mut self.departing {
            departing.is_replaced = true;
        }
    }

    pub(crate) fn refuse_refer(
        &self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: &Request,
        (status, text): (StatusCode, &str),
    ) {
        cx.counters.transfers_refused += 1;
        let Some(dialog) = self.legs.get(leg).and_then(|it| it.dialog.as_ref()) else {
            return self.gone(cx, key, request);
        };
        let mut response = dialog.respond(request, status);
        if !text.is_empty() {
            push_warning(cx, &mut response, 399, text);
        }
        cx.respond(key, response);
    }

    /// Tells who asked how far it is; a final status ends the subscription
    /// (RFC 6665 §4.1.3).
    fn report(&mut self, cx: &mut Context, status: StatusCode) {
        let key = self.key;
        let Some(departing) = &self.departing else { return };
        let (leg, Some(number)) = (departing.by, departing.report) else { return };
        let Some(it) = self.legs.get_mut(leg).filter(|it| it.state == LegState::Confirmed) else {
            return;
        };
        let Some(dialog) = it.dialog.as_mut() else { return };
        let mut notify = dialog.request(Method::Notify);
        let state = match status.is_provisional() {
            true => SubscriptionState::Active(180),
            false => SubscriptionState::Terminated(Ended::NoResource),
        };
        notify.headers.push(HeaderName::Contact, dialog.local_contact());
        notify.headers.push(HeaderName::Event, format!("refer;id={number}"));
        notify.headers.push(HeaderName::SubscriptionState, state.to_string());
        notify.set_body(SIPFRAG, sipfrag(status));
        if let Some(destination) = it.destination(cx) {
            cx.send(ClientUse::Pass { call: key, leg }, notify, destination);
        }
    }

    /// The leg is another call's at present.
    pub(super) fn has_lent(&self) -> bool {
        let step = self.departing.as_ref().map(|it| it.step);
        matches!(step, Some(DepartingStep::Lent | DepartingStep::Over))
    }

    /// The new call wants the leg.
    pub(super) fn lend(&mut self, cx: &mut Context, to: CallKey) {
        let Some(departing) = self.departing.as_mut().filter(|it| it.to == to) else { return };
        departing.step = DepartingStep::Wanted;
        departing.tries += 1;
        let (leg, tries) = (departing.leg, departing.tries);
        if self.lend_if_idle(cx, to, leg) {
            return;
        }
        match tries > TRIES {
            true => self.tell(cx, to, Word::Withheld),
            false => cx.timers.set(cx.now.instant + SOON, Timer::Call(self.key, CallTimer::Depart)),
        }
    }

    fn lend_if_idle(&mut self, cx: &mut Context, to: CallKey, leg: usize) -> bool {
        if self.phase != Phase::Up || self.ending.is_some() || !self.is_idle(leg) {
            return false;
        }
        let Some(lent) = self.lift(cx, leg) else { return false };
        if let Some(departing) = &mut self.departing {
            departing.step = DepartingStep::Lent;
        }
        self.tell(cx, to, Word::Lent(lent));
        true
    }

    /// It is time to ask again, or to go.
    pub(crate) fn depart_on_time(&mut self, cx: &mut Context) {
        match self.departing.as_ref().map(|it| (it.step, it.to)) {
            Some((DepartingStep::Wanted, to)) => self.lend(cx, to),
            Some((DepartingStep::Over, _)) => self.end(cx, Ending::new(Cause::Transferred, 200)),
            _ => {}
        }
    }

    /// Guest and target talk. Who asked for it may hang up now, and if he does not
    /// he is hung up.
    pub(super) fn transferred(&mut self, cx: &mut Context, to: CallKey) {
        let Some(departing) = self.departing.as_mut().filter(|it| it.to == to) else { return };
        departing.step = DepartingStep::Over;
        let leg = departing.leg;
        if departing.is_replaced {
            let text = "Call completed elsewhere";
            return self.end(cx, Ending::because(Cause::Transferred, 200, 200, text));
        }
        // Who asked for it may talk on for a while, and is not to be heard.
        self.release_media(cx, leg);
        self.report(cx, StatusCode::OK);
        cx.timers.set(cx.now.instant + GRACE, Timer::Call(self.key, CallTimer::Depart));
    }

    /// Nothing came of it: the call goes on as if nobody had asked.
    pub(super) fn transfer_failed(
        &mut self,
        cx: &mut Context,
        to: CallKey,
        status: u16,
        returned: Option<Returned>,
    ) {
        let known = self.departing.as_ref().filter(|it| it.to == to);
        let Some(leg) = known.map(|it| it.leg) else { return };
        let status = StatusCode::new(status).filter(|it| it.is_final() && !it.is_success());
        self.report(cx, status.unwrap_or(StatusCode::SERVER_INTERNAL_ERROR));
        self.departing = None;
        if let Some(returned) = returned {
            self.take_back(cx, leg, returned);
        }
        self.keep(cx);
    }

    fn take_back(&mut self, cx: &mut Context, place: usize, returned: Returned) {
        let Returned { mut leg, asked, agreed } = returned;
        let tried = leg.media.take();
        self.set_down(cx, place, leg);
        let media = self.legs.get_mut(place).and_then(|it| it.media.as_mut());
        if let Some((media, tried)) = media.zip(tried) {
            media.count_on_from(tried);
        }
        match asked {
            // Should it go over after all, it is brought back then.
            Some(client) => {
                if let Some(purpose) = cx.clients.get_mut(&client) {
                    *purpose = ClientUse::Move { call: self.key, leg: place };
                }
                cx.cancel(client, None);
            }
            None if agreed => self.bring_back(cx, place),
            None => {}
        }
        self.watch_sessions(cx);
    }

    /// The guest hung up while it was another call's, or is not there any more:
    /// for this one that is the end, too.
    pub(super) fn guest_gone(&mut self, cx: &mut Context, to: CallKey, is_lost: bool) {
        let known = self.departing.as_ref().filter(|it| it.to == to);
        let Some(leg) = known.map(|it| it.leg) else { return };
        self.report(cx, StatusCode::REQUEST_TERMINATED);
        self.departing = None;
        let cause = match leg {
            _ if is_lost => Cause::SignallingLost,
            A => Cause::CallerHungUp,
            _ => Cause::CalleeHungUp,
        };
        self.end(cx, Ending { hung_up: Some(leg), ..Ending::new(cause, 200) });
    }

    /// The call ends. Who asked for the transfer need not wait for what comes of
    /// it; if anything else ends the call, it ends the transfer.
    pub(super) fn end_departing(&mut self, cx: &mut Context, ending: &mut Ending) {
        let Some(departing) = self.departing.as_ref() else { return };
        let (to, leg, step) = (departing.to, departing.leg, departing.step);
        let leaves = ending.hung_up == Some(departing.by);
        let goes_on = match step {
            DepartingStep::Over => true,
            DepartingStep::Lent => leaves,
            DepartingStep::Staying | DepartingStep::Wanted => {
                leaves && self.lend_if_idle(cx, to, leg)
            }
        };
        self.departing = None;
        match (step, goes_on) {
            (DepartingStep::Over, _) => {}
            (_, true) => self.tell(cx, to, Word::Left),
            (_, false) => return self.tell(cx, to, Word::Withdrawn),
        }
        ending.cause = Cause::Transferred;
    }
}
