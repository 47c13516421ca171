//! Provisional responses that the caller acknowledges (RFC 3262 §3): sent one
//! after the other, each again until its PRACK is there.
//!
//! Whether the callee's side has anything of the kind is nothing to the caller's:
//! for that one see [`super::prack`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_control::Request as RelayRequest;
use landline_sip::{Dialog, HeaderName, Headers, RAck, Request, Response, ServerKey, StatusCode};

use super::message::{SDP, push_warning};
use super::open::read_description;
use super::{A, Call, Ending, Leg, Phase};
use crate::context::Context;
use crate::negotiate::{Mismatch, Terms};
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::timers::{CallTimer, Timer};

pub(crate) const RELIABLE: &str = "100rel";
/// RFC 3261 §17.1.1.1; a response that was sent for 64 of them is not going to
/// be acknowledged (RFC 3262 §3).
const T1: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(32);
/// Responses that wait for the one before: more than there are kinds of them.
const MOST_WAITING: usize = 8;

/// What the caller's INVITE makes of our provisional responses.
#[derive(Default)]
pub(crate) struct Reliable {
    demand: Demand,
    /// Of the last one.
    rseq: u32,
    unacked: Option<Unacked>,
    waiting: VecDeque<Response>,
    /// One had our answer to the caller's offer: it is the answer, and no other
    /// is given in this dialog (RFC 3261 §13.2.1). Or an offer of ours was answered.
    has_answered: bool,
    /// The caller offers nothing: the first of them has to bring an offer of ours
    /// (RFC 3261 §13.2.1), which its PRACK answers.
    owes_offer: bool,
    /// The call is answered, and the caller hears of it when it has acknowledged
    /// that.
    holds_answer: bool,
    /// The dialog that another branch's answer took the place of.
    former: Option<Dialog>,
    /// A final response went out: nothing is sent again.
    is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Demand {
    #[default]
    Never,
    /// It can be had: for those that say what matters.
    WithBody,
    /// It has to be.
    Always,
}

struct Unacked {
    response: Response,
    since: Instant,
    wait: Duration,
}

enum Overdue {
    /// Sent once more, and again at that time.
    Again(Response, Instant),
    GivenUp,
    Settled,
}

impl Reliable {
    pub(super) fn of(invite: &Headers, has_offer: bool) -> Self {
        let demand = match (invite.requires(RELIABLE), invite.supports(RELIABLE)) {
            (true, _) => Demand::Always,
            (false, true) => Demand::WithBody,
            (false, false) => Demand::Never,
        };
        let owes_offer = !has_offer && demand != Demand::Never;
        Self { demand, owes_offer, ..Self::default() }
    }

    fn wants(&self, response: &Response) -> bool {
        match self.demand {
            Demand::Never => false,
            Demand::WithBody => !response.body.is_empty(),
            Demand::Always => true,
        }
    }

    /// Numbers a response and takes it for sent. `first` is at random, as the
    /// first number is to be (§3).
    fn sent(&mut self, mut response: Response, now: Instant, first: u64) -> Response {
        self.rseq = match self.rseq {
            // Between 1 and 2³¹ - 1.
            0 => (first as u32 & (u32::MAX >> 1)).max(1),
            last => last.saturating_add(1),
        };
        response.headers.push(HeaderName::Require, RELIABLE);
        response.headers.push(HeaderName::RSeq, self.rseq.to_string());
        self.has_answered |= !response.body.is_empty() && !self.owes_offer;
        self.unacked = Some(Unacked { response: response.clone(), since: now, wait: T1 });
        response
    }

    /// Whether this acknowledges the response that is unacknowledged.
    fn acknowledged(&mut self, rack: &RAck, invite: &Request) -> bool {
        let is_it = rack.rseq == self.rseq
            && self.unacked.is_some()
            && invite.cseq().is_ok_and(|cseq| cseq == rack.cseq);
        if is_it {
            self.unacked = None;
        }
        is_it
    }

    fn overdue(&mut self, rseq: u32, now: Instant) -> Overdue {
        let is_it = self.rseq == rseq && !self.is_over;
        let Some(unacked) = self.unacked.as_mut().filter(|_| is_it) else {
            return Overdue::Settled;
        };
        let end = unacked.since + LIMIT;
        if now >= end {
            return Overdue::GivenUp;
        }
        unacked.wait *= 2;
        Overdue::Again(unacked.response.clone(), (now + unacked.wait).min(end))
    }

    /// A final response is on its way; one that was sent may still be
    /// acknowledged.
    pub(super) fn is_over(&mut self) {
        self.is_over = true;
        self.waiting.clear();
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// The next that is reliable is to bring an offer: always, or if the callee has
    /// something to be heard.
    fn wants_offer(&self, is_heard: bool) -> bool {
        let is_first = self.rseq == 0 && self.unacked.is_none();
        self.owes_offer && is_first && (is_heard || self.demand == Demand::Always)
    }

    /// The dialog that a PRACK is for, if the caller's other early dialog had it.
    pub(crate) fn former_dialog(&mut self) -> Option<&mut Dialog> {
        self.former.as_mut()
    }

    /// Another dialog with the caller takes the place of this one.
    pub(super) fn leave(&mut self, dialog: Option<Dialog>) {
        (self.former, self.has_answered) = (dialog, false);
    }
}

impl Call {
    fn reliable(&mut self) -> Option<&mut Reliable> {
        Some(&mut self.legs.get_mut(A)?.incoming_mut()?.reliable)
    }

    /// The caller has our answer to its offer from a response that counts.
    pub(super) fn has_answered_reliably(&self) -> bool {
        let incoming = self.legs.first().and_then(Leg::incoming);
        incoming.is_some_and(|incoming| incoming.reliable.has_answered())
    }

    /// A caller who made no offer may have one before the answer.
    pub(super) fn owes_caller_offer(&self) -> bool {
        let incoming = self.legs.first().and_then(Leg::incoming);
        self.handover.is_none() && incoming.is_some_and(|it| it.reliable.owes_offer)
    }

    /// A provisional response to the caller, each status once.
    pub(super) fn tell_caller(
        &mut self,
        cx: &mut Context,
        status: StatusCode,
        body: Option<Bytes>,
    ) {
        let Some(mut response) = self.caller_response(status) else { return };
        let Some(incoming) = self.legs.get_mut(A).and_then(Leg::incoming_mut) else { return };
        if incoming.provisional == status.code() && body.is_none() {
            return;
        }
        incoming.provisional = status.code();
        let wants_offer = incoming.reliable.wants_offer(self.early.is_some());
        let body = if wants_offer { self.offer_early() } else { body };
        let Some(incoming) = self.legs.get_mut(A).and_then(Leg::incoming_mut) else { return };
        if let Some(body) = body {
            response.set_body(SDP, body);
        }
        let reliable = &mut incoming.reliable;
        match reliable.wants(&response) {
            true if reliable.unacked.is_some() && reliable.waiting.len() < MOST_WAITING => {
                reliable.waiting.push_back(response);
            }
            true if reliable.unacked.is_some() => cx.counters.provisionals_dropped += 1,
            true => self.send_reliably(cx, response),
            false => {
                let key = incoming.key;
                cx.respond(key, response);
            }
        }
    }

    fn send_reliably(&mut self, cx: &mut Context, response: Response) {
        let (call, first, now) = (self.key, cx.entropy.u64(), cx.now.instant);
        let Some(incoming) = self.legs.get_mut(A).and_then(Leg::incoming_mut) else { return };
        let response = incoming.reliable.sent(response, now, first);
        let timer = CallTimer::Provisional(incoming.reliable.rseq);
        cx.counters.provisionals_reliable += 1;
        cx.respond(incoming.key, response);
        cx.timers.set(now + T1, Timer::Call(call, timer));
    }

    /// The response with this number may want to be sent again.
    pub(crate) fn provisional_overdue(&mut self, cx: &mut Context, rseq: u32) {
        if self.ending.is_some() {
            return;
        }
        let (call, now) = (self.key, cx.now.instant);
        let Some(incoming) = self.legs.get_mut(A).and_then(Leg::incoming_mut) else { return };
        match incoming.reliable.overdue(rseq, now) {
            Overdue::Again(response, next) => {
                cx.respond(incoming.key, response);
                cx.timers.set(next, Timer::Call(call, CallTimer::Provisional(rseq)));
            }
            Overdue::GivenUp => {
                let text = "PRACK missing";
                self.end(cx, Ending::because(Cause::SignallingLost, 504, 504, text));
            }
            Overdue::Settled => {}
        }
    }

    /// Our offer to a caller who made none: what the callee that is heard speaks,
    /// or all we know.
    fn offer_early(&mut self) -> Option<Bytes> {
        let heard = self.early.and_then(|leg| self.legs.get(leg)?.media.as_ref());
        let peer = heard.and_then(|media| media.agreed.as_ref()).map(|it| it.peer.clone());
        let terms = peer.map_or_else(|| self.offered_by_caller(), |it| self.terms_of(&it));
        self.legs.get_mut(A)?.media.as_mut()?.offer(terms)
    }

    /// A PRACK of the caller's: what it says of the media is its answer to our
    /// offer, or an offer of its own (RFC 3262 §5).
    pub(crate) fn prack(&mut self, cx: &mut Context, leg: usize, key: ServerKey, prack: &Request) {
        let Ok(rack) = prack.rack() else {
            return cx.reply(key, prack, StatusCode::BAD_REQUEST);
        };
        let incoming = self.legs.get_mut(leg).and_then(Leg::incoming_mut);
        let is_known = incoming
            .is_some_and(|incoming| incoming.reliable.acknowledged(&rack, &incoming.request));
        if !is_known {
            cx.counters.pracks_unmatched += 1;
            return cx.reply(key, prack, StatusCode::CALL_DOES_NOT_EXIST);
        }
        if self.ending.is_some() {
            return cx.reply(key, prack, StatusCode::OK);
        }
        let owes_offer = self.reliable().is_some_and(|reliable| reliable.owes_offer);
        let mut response = cx.response(prack, StatusCode::OK);
        if owes_offer {
            if self.take_prack_answer(cx, prack).is_err() {
                cx.reply(key, prack, StatusCode::NOT_ACCEPTABLE_HERE);
                return self.end(cx, Ending::new(Cause::NotAcceptable, 488));
            }
        } else if !prack.body.is_empty() {
            match self.answer_prack(cx, leg, prack) {
                Some(body) => response.set_body(SDP, body),
                None => {
                    response = cx.response(prack, StatusCode::NOT_ACCEPTABLE_HERE);
                    push_warning(cx, &mut response, 399, "The offer does not fit the session");
                }
            }
        }
        cx.respond(key, response);
        let Some(reliable) = self.reliable() else { return };
        let next = reliable.waiting.pop_front();
        match (std::mem::take(&mut reliable.holds_answer), next) {
            // Its answer is what the callee's was waiting for.
            (true, _) if owes_offer => self.join_caller(cx),
            (true, _) => self.joined(cx),
            (false, Some(next)) => self.send_reliably(cx, next),
            (false, None) => {}
        }
    }

    /// The caller's answer to our offer. Whoever is heard before the answer is heard
    /// from here on.
    fn take_prack_answer(&mut self, cx: &mut Context, prack: &Request) -> Result<(), Mismatch> {
        let answer = read_description(cx, prack).and_then(|it| it.ok_or(Mismatch::NoAudio));
        self.take_answer(A, answer)?;
        if let Some(reliable) = self.reliable() {
            (reliable.owes_offer, reliable.has_answered) = (false, true);
        }
        if let (Some(leg), Some(session)) = (self.early, self.session.clone()) {
            let change = RelayRequest::Change(session.id, self.join_ops(leg));
            cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
        }
        Ok(())
    }

    /// An offer in a PRACK is answered here, for as much of it as the relay's leg
    /// serves: the callee is told when the call is up.
    fn answer_prack(&mut self, cx: &mut Context, leg: usize, prack: &Request) -> Option<Bytes> {
        let offer = read_description(cx, prack).ok().flatten()?;
        let (early, session) = (self.early?, self.session.clone()?);
        if leg != A || !self.is_ringing() || !self.has_answered_reliably() {
            return None;
        }
        let agreed = self.legs.get(early)?.media.as_ref()?.agreed.clone()?;
        let terms = Terms { direction: agreed.peer.direction, ..agreed.terms };
        let media = self.legs.get_mut(A)?.media.as_mut()?;
        if !media.fits(&offer) || media.restarts_ice(&offer) {
            return None;
        }
        let body = media.answer(&offer, terms)?;
        self.legs.get_mut(A)?.incoming_mut()?.offer = Some(offer);
        let change = RelayRequest::Change(session.id, self.join_ops(early));
        cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
        Some(body)
    }

    /// Whether the 200 has to wait: for the acknowledgement of a response with
    /// our answer in it (RFC 3262 §3).
    pub(super) fn must_hold_answer(&mut self) -> bool {
        let is_answered = self.phase == Phase::Answering;
        let Some(reliable) = self.reliable().filter(|_| is_answered) else { return false };
        reliable.waiting.clear();
        let unacked = reliable.unacked.as_ref();
        reliable.holds_answer = unacked.is_some_and(|it| !it.response.body.is_empty());
        reliable.holds_answer
    }

    /// The callee's answer is not the one that the caller has, which took it from
    /// a provisional response: it is to be told.
    pub(super) fn answer_has_changed(&self) -> bool {
        let agreed = |leg: usize| self.legs.get(leg)?.media.as_ref()?.agreed.as_ref();
        let callee = self.winner.and_then(agreed);
        let Some((caller, callee)) = agreed(A).zip(callee) else { return false };
        let terms = Terms { direction: callee.peer.direction, ..callee.terms.clone() };
        self.has_answered_reliably() && caller.told != terms
    }

    /// The caller has offered anew before the answer: the callee knows nothing of
    /// that.
    pub(super) fn owes_callee_news(&self) -> bool {
        let callee = self.winner.filter(|_| self.has_answered_reliably());
        callee.is_some_and(|callee| {
            self.wanted_for(callee).is_some_and(|wanted| self.is_news(callee, &wanted))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_sip::{Method, Uri};

    fn headers(name: HeaderName, value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.push(name, value);
        headers
    }

    fn invite() -> Request {
        Request::new(Method::Invite, Uri::parse("sip:b@acme.test").unwrap())
            .with_header(HeaderName::CSeq, "7 INVITE")
    }

    fn rack(text: String) -> RAck {
        headers(HeaderName::RAck, &text).rack().unwrap()
    }

    #[test]
    fn it_is_sent_again_at_growing_intervals_and_given_up_after_64_t1() {
        let mut reliable = Reliable::of(&headers(HeaderName::Require, RELIABLE), true);
        let start = Instant::now();
        let sent = reliable.sent(Response::new(StatusCode::RINGING), start, u64::MAX);
        let rseq = sent.rseq().unwrap().unwrap();
        assert_eq!(rseq, u32::MAX >> 1);
        let (mut at, mut times) = (start + T1, Vec::new());
        while let Overdue::Again(again, next) = reliable.overdue(rseq, at) {
            assert_eq!(again.rseq(), Ok(Some(rseq)));
            times.push((at - start).as_millis());
            at = next;
        }
        assert_eq!(times, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(at - start, LIMIT);
        assert!(matches!(reliable.overdue(rseq, at), Overdue::GivenUp));
        assert!(matches!(reliable.overdue(rseq - 1, at), Overdue::Settled));
        reliable.is_over();
        assert!(matches!(reliable.overdue(rseq, at), Overdue::Settled));
    }

    #[test]
    fn it_is_acknowledged_once_and_by_its_number_and_request() {
        let mut reliable = Reliable::of(&headers(HeaderName::Require, RELIABLE), true);
        let sent = reliable.sent(Response::new(StatusCode::RINGING), Instant::now(), 41);
        let rseq = sent.rseq().unwrap().unwrap();
        for other in [format!("{rseq} 8 INVITE"), format!("{rseq} 7 UPDATE"), "40 7 INVITE".into()]
        {
            assert!(!reliable.acknowledged(&rack(other), &invite()));
        }
        let right = rack(format!("{rseq} 7 INVITE"));
        assert!(reliable.acknowledged(&right, &invite()));
        assert!(!reliable.acknowledged(&right, &invite()));
        let next = reliable.sent(Response::new(StatusCode::RINGING), Instant::now(), 99);
        assert_eq!(next.rseq(), Ok(Some(rseq + 1)));
    }

    #[test]
    fn what_the_caller_asks_for_decides_what_is_reliable() {
        let plain = Response::new(StatusCode::RINGING);
        let described = Response::new(StatusCode::SESSION_PROGRESS).with_body(SDP, "v=0\r\n");
        for (name, has_offer, wanted) in [
            (HeaderName::Require, true, [true, true]),
            (HeaderName::Require, false, [true, true]),
            (HeaderName::Supported, true, [false, true]),
            (HeaderName::Allow, true, [false, false]),
        ] {
            let reliable = Reliable::of(&headers(name, RELIABLE), has_offer);
            assert_eq!([reliable.wants(&plain), reliable.wants(&described)], wanted);
        }
    }
}
