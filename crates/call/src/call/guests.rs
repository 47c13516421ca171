//! The new call's half of a transfer: it calls the target, borrows the guests'
//! legs when that has answered, and offers each the media of the other.
//!
//! A guest learns of it by a re-INVITE in the dialog that it has (RFC 3261 §14),
//! as when a call moves to another relay.

use std::time::Duration;

use landline_control::{Direction, Op, Request as RelayRequest};
use landline_sip::{ClientKey, FailureCause, HeaderName, Method, Response, StatusCode, glare_wait};

use super::open::read_answer;
use super::transfer::{Returned, Word};
use super::{A, Call, Ending, Identity, Leg, Phase};
use crate::calls::CallKey;
use crate::context::{ClientUse, Context};
use crate::io::Log;
use crate::negotiate::Terms;
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::route::Side;
use crate::timers::{CallTimer, Timer};

/// A guest in whose dialog something else goes on is asked so soon.
const SOON: Duration = Duration::from_millis(100);
/// How often a guest is asked once more.
const RETRIES: u8 = 4;

pub(super) struct Handover {
    /// One, or two where both parties are others' already.
    pub guests: Vec<Guest>,
    /// As who the target sees the guest.
    pub presented: Option<Identity>,
}

pub(super) struct Guest {
    pub leg: usize,
    /// The call that lends the leg.
    pub from: CallKey,
    /// That call is over: the leg does not go back.
    pub is_left: bool,
    pub step: GuestStep,
    pub client: Option<ClientKey>,
    pub retried: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestStep {
    Away,
    /// The call that has it was asked for it.
    Wanted,
    Here,
    /// It has our offer.
    Asked,
    /// Ours waits out a collision (RFC 3261 §14.1).
    Waiting,
    Agreed,
}

impl Handover {
    pub(super) fn new(presented: Option<Identity>) -> Self {
        Self { guests: Vec::with_capacity(2), presented }
    }

    /// Of a parked party's, in a call that another process had: nobody wants it back.
    pub(super) fn parked(call: CallKey, presented: Option<Identity>) -> Self {
        let (leg, step) = (A, GuestStep::Agreed);
        let guest = Guest { leg, from: call, is_left: true, step, client: None, retried: 0 };
        Self { guests: vec![guest], presented }
    }
}

impl Call {
    /// The target has answered, or there is none, and the guests are not there yet.
    pub(super) fn is_gathering(&self) -> bool {
        let is_time = self.phase == Phase::Answering || self.is_being_parked();
        self.handover.is_some() && is_time && !self.is_joined
    }

    pub(super) fn has_guests(&self) -> bool {
        self.handover.is_some()
    }

    /// Both parties are guests: nobody is rung.
    pub(super) fn has_guests_alone(&self) -> bool {
        self.handover.is_some() && self.winner.is_some()
    }

    /// Takes the next step towards having every guest here and agreed.
    pub(super) fn gather(&mut self, cx: &mut Context) {
        if !self.is_gathering() || self.ending.is_some() {
            return;
        }
        let Some(handover) = &mut self.handover else { return };
        let mut wanted = Vec::with_capacity(2);
        for guest in handover.guests.iter_mut().filter(|it| it.step == GuestStep::Away) {
            guest.step = GuestStep::Wanted;
            wanted.push(guest.from);
        }
        let steps: Vec<_> = handover.guests.iter().map(|it| it.step).collect();
        for from in wanted {
            self.tell(cx, from, Word::Wanted);
        }
        if steps.contains(&GuestStep::Wanted) {
            return;
        }
        match steps.iter().position(|step| *step != GuestStep::Agreed) {
            Some(n) if steps.get(n) == Some(&GuestStep::Here) => match self.may_ask(n) {
                true => self.ask_guest(cx, n),
                false => self.ask_guest_soon(cx, n),
            },
            Some(_) => {}
            None if self.is_being_parked() => self.parked_here(cx),
            None => self.join_guests(cx),
        }
    }

    /// Whoever takes the call has another offer for the guests.
    pub(super) fn ask_guests_anew(&mut self) {
        for guest in self.handover.iter_mut().flat_map(|it| &mut it.guests) {
            if guest.step == GuestStep::Agreed {
                guest.step = GuestStep::Here;
            }
        }
    }

    /// The leg is here: in the record, too.
    pub(super) fn borrow(&mut self, cx: &mut Context, from: CallKey, leg: Box<Leg>) {
        let Some(handover) = &mut self.handover else { return };
        let Some(guest) = handover.guests.iter_mut().find(|it| it.from == from) else { return };
        guest.step = GuestStep::Here;
        let place = guest.leg;
        let said = leg.media.clone();
        self.set_down(cx, place, leg);
        let Some(it) = self.legs.get_mut(place) else { return };
        it.status = StatusCode::OK.code();
        if let Some((media, said)) = it.media.as_mut().zip(said) {
            media.go_on_from(&said);
        }
        let call_id = it.dialog.as_ref().map(|it| it.call_id().to_str_lossy().into_owned());
        let away = match it.side {
            Side::Region(region) => Some(region),
            Side::User(_) | Side::Trunk(_) => None,
        };
        self.record_leg(cx, place, call_id.unwrap_or_default());
        if let Some(region) = away
            && let Err(refused) = cx.call_leaves(self.sid, region)
        {
            cx.counters.region_calls_kept_in += 1;
            cx.log(Log::CallKeptIn { call: self.sid, refused });
            return self.end(cx, Ending::new(Cause::Forbidden, 403));
        }
        self.gather(cx);
    }

    /// What it changes while it is parked comes to its end first.
    fn may_ask(&self, n: usize) -> bool {
        let leg = self.handover.as_ref().and_then(|it| it.guests.get(n)).map(|it| it.leg);
        let leg = leg.and_then(|leg| self.legs.get(leg));
        self.modification.is_none() && leg.is_some_and(Leg::may_be_offered)
    }

    fn ask_guest_soon(&mut self, cx: &mut Context, n: usize) {
        if let Some(guest) = self.handover.as_mut().and_then(|it| it.guests.get_mut(n)) {
            guest.step = GuestStep::Waiting;
            cx.timers.set(cx.now.instant + SOON, Timer::Call(self.key, CallTimer::Gather));
        }
    }

    fn ask_guest(&mut self, cx: &mut Context, n: usize) {
        let leg = self.handover.as_ref().and_then(|it| it.guests.get(n)).map(|it| it.leg);
        if let (Some(leg), None) = (leg, self.try_ask_guest(cx, n)) {
            self.guest_refused(cx, leg, 500);
        }
    }

    fn try_ask_guest(&mut self, cx: &mut Context, n: usize) -> Option<()> {
        let leg = self.handover.as_ref()?.guests.get(n)?.leg;
        let terms = self.terms_for_guest(leg)?;
        let it = self.legs.get_mut(leg)?;
        let body = it.media.as_mut()?.offer(terms)?;
        let purpose = ClientUse::Guest { call: self.key, leg };
        let client = it.send_offer(cx, Method::Invite, body, purpose)?;
        let guest = self.handover.as_mut()?.guests.get_mut(n)?;
        (guest.client, guest.step) = (Some(client), GuestStep::Asked);
        Some(())
    }

    /// What the other party speaks. What that one said while it was on hold says
    /// nothing of the call to come.
    fn terms_for_guest(&self, leg: usize) -> Option<Terms> {
        if self.is_being_parked() {
            return self.terms_of_parked(leg);
        }
        let other = self.other(leg)?;
        // Who takes another's place has made an offer, or leaves that to us.
        let terms = self.wanted_for(leg).unwrap_or_else(|| self.offered_by_caller());
        let guests = &self.handover.as_ref()?.guests;
        let is_held = guests.iter().any(|it| it.leg == other && it.step != GuestStep::Agreed);
        Some(match is_held {
            true => Terms { direction: Direction::SendReceive, ..terms },
            false => terms,
        })
    }

    /// A guest's word on our offer.
    pub(crate) fn guest_response(
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
        if self.ending.is_some() || !self.is_guest_asked(leg, client) {
            return;
        }
        let retries = response.headers.contains(&HeaderName::RetryAfter);
        match status {
            _ if status.is_success() => self.guest_answered(cx, leg, &response),
            _ if Self::dialog_gone(status) => self.end(cx, Ending::dialog_lost(leg)),
            StatusCode::REQUEST_PENDING => self.guest_waits(cx, leg),
            _ if status.class() == 5 && retries => self.guest_waits(cx, leg),
            _ if self.challenged(leg, &response) => {
                self.set_guest(leg, GuestStep::Here);
                self.gather(cx);
            }
            _ => self.guest_refused(cx, leg, status.code()),
        }
    }

    fn is_guest_asked(&self, leg: usize, client: ClientKey) -> bool {
        let mut guests = self.handover.iter().flat_map(|it| &it.guests);
        guests.any(|it| it.leg == leg && it.client == Some(client) && it.step == GuestStep::Asked)
    }

    fn guest_answered(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let answer = read_answer(cx, response);
        let taken = self.take_answer(leg, answer);
        // It has taken the offer, whatever its answer is worth.
        self.set_guest(leg, GuestStep::Agreed);
        match taken {
            Ok(()) => self.gather(cx),
            Err(_) => self.guest_refused(cx, leg, 488),
        }
    }

    fn set_guest(&mut self, leg: usize, step: GuestStep) {
        let mut guests = self.handover.iter_mut().flat_map(|it| &mut it.guests);
        if let Some(guest) = guests.find(|it| it.leg == leg) {
            (guest.step, guest.client) = (step, None);
        }
    }

    /// Its own change crossed ours, or it is busy.
    fn guest_waits(&mut self, cx: &mut Context, leg: usize) {
        cx.counters.glare += 1;
        self.set_guest(leg, GuestStep::Waiting);
        let mut guests = self.handover.iter_mut().flat_map(|it| &mut it.guests);
        let Some(guest) = guests.find(|it| it.leg == leg) else { return };
        guest.retried += 1;
        if guest.retried > RETRIES {
            return self.guest_refused(cx, leg, 491);
        }
        // Whose Call-ID it is was another call's matter: the longer wait is for
        // who made it (RFC 3261 §14.1), and either will do.
        let wait = glare_wait(true, cx.entropy.u64());
        cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, CallTimer::Gather));
    }

    /// A collision has been waited out.
    pub(crate) fn ask_guests_again(&mut self, cx: &mut Context) {
        let mut is_any = false;
        for guest in self.handover.iter_mut().flat_map(|it| &mut it.guests) {
            if guest.step == GuestStep::Waiting {
                (guest.step, is_any) = (GuestStep::Here, true);
            }
        }
        if is_any {
            self.gather(cx);
        }
    }

    pub(crate) fn guest_lost(
        &mut self,
        cx: &mut Context,
        leg: usize,
        client: ClientKey,
        cause: FailureCause,
    ) {
        self.offer_ended(leg);
        if self.ending.is_some() || !self.is_guest_asked(leg, client) {
            return;
        }
        match cause {
            FailureCause::Transport if self.reroute(cx, leg) => {
                self.set_guest(leg, GuestStep::Here);
                self.gather(cx);
            }
            FailureCause::Cancelled | FailureCause::Refused => self.guest_refused(cx, leg, 500),
            _ => self.end(cx, Ending { hung_up: Some(leg), ..Ending::unanswered() }),
        }
    }

    fn guest_refused(&mut self, cx: &mut Context, leg: usize, status: u16) {
        if let Some(media) = self.legs.get_mut(leg).and_then(|it| it.media.as_mut()) {
            media.withdraw();
        }
        let text = StatusCode::new(status).map_or("", StatusCode::reason);
        self.end(cx, Ending::because(Cause::NotAcceptable, 488, status, text));
    }

    /// Something else has gone on in the leg for too long.
    pub(super) fn guest_withheld(&mut self, cx: &mut Context, from: CallKey) {
        if self.handover.iter().flat_map(|it| &it.guests).any(|it| it.from == from) {
            self.end(cx, Ending::new(Cause::Failed, 500));
        }
    }

    /// Everybody is here: from now on this is a call like any other.
    fn join_guests(&mut self, cx: &mut Context) {
        let (Some(session), Some(winner)) = (self.session.clone(), self.winner) else { return };
        // Who takes another's place called: it hears the guest's answer, or is
        // made an offer of it.
        let incoming = self.legs.first().and_then(Leg::incoming).map(|it| it.offer.is_some());
        if incoming == Some(true) && self.answer_caller(winner).is_none() {
            return self.end(cx, Ending::new(Cause::NotAcceptable, 488));
        }
        let is_whole = incoming != Some(false);
        let mut ops = match is_whole {
            true => self.join_ops(winner),
            false => self.remote_ops(winner),
        };
        ops.extend(self.remove_losers(winner));
        ops.extend(self.music_ops());
        if is_whole && self.recording.is_some() {
            ops.push(Op::Record);
        }
        self.is_joined = is_whole;
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Answer, change);
    }

    /// The call is up, and on disk: those that lent the legs are done.
    pub(super) fn gathered(&mut self, cx: &mut Context) {
        let Some(handover) = self.handover.take() else { return };
        cx.counters.transfers += 1;
        if let Some(presented) = handover.presented {
            let callee = std::mem::take(&mut self.identity.callee);
            self.identity = Identity { callee, ..presented };
        }
        for guest in handover.guests {
            self.tell(cx, guest.from, Word::Joined);
        }
        if self.modification.is_none()
            && let Some(winner) = self.winner
        {
            self.align(cx, winner);
        }
    }

    /// Nobody wants the guests back.
    pub(super) fn guests_stay(&mut self) -> Vec<CallKey> {
        let guests = self.handover.iter_mut().flat_map(|it| &mut it.guests);
        guests
            .map(|guest| {
                guest.is_left = true;
                guest.from
            })
            .collect()
    }

    /// The call that lent the leg is over: it stays here.
    pub(super) fn guest_stays(&mut self, from: CallKey) {
        let mut guests = self.handover.iter_mut().flat_map(|it| &mut it.guests);
        if let Some(guest) = guests.find(|it| it.from == from) {
            guest.is_left = true;
        }
    }

    /// The original call has ended, and not because of us.
    pub(super) fn withdrawn(&mut self, cx: &mut Context, from: CallKey) {
        self.guest_stays(from);
        if self.handover.iter().flat_map(|it| &it.guests).any(|it| it.from == from) {
            self.end(cx, Ending::new(Cause::CallerCancelled, 487));
        }
    }

    /// The call ends before its guests are its own: they go back where they came
    /// from, unless there is nothing to go back to.
    pub(super) fn return_guests(&mut self, cx: &mut Context, ending: &Ending) {
        let Some(handover) = self.handover.take() else { return };
        cx.counters.transfers_failed += 1;
        for guest in handover.guests {
            let asked = guest.client.filter(|_| guest.step == GuestStep::Asked);
            if guest.is_left {
                // Whoever is here is hung up with the rest.
                if let Some(client) = asked {
                    cx.cancel(client, None);
                }
                continue;
            }
            if ending.hung_up == Some(guest.leg) {
                let is_lost = ending.cause == Cause::SignallingLost;
                self.tell(cx, guest.from, Word::Gone { is_lost });
                continue;
            }
            let is_here = !matches!(guest.step, GuestStep::Away | GuestStep::Wanted);
            let lifted = if is_here { self.lift(cx, guest.leg) } else { None };
            let agreed = guest.step == GuestStep::Agreed;
            let leg = lifted.map(|leg| Returned { leg, asked, agreed });
            let status = ending.caller_status;
            self.tell(cx, guest.from, Word::Failed { status, leg });
        }
    }
}
