//! A call that rings, or is parked, is taken by somebody who was not rung: by an
//! INVITE of his own, whose dialog is the answered leg from then on (RFC 5359
//! §2.16). Whose phones rang hears that the call was completed elsewhere.

use std::sync::Arc;

use landline_control::{Op, Request as RelayRequest};
use landline_region::{LegSid, UserSid};
use landline_sip::{ByteStr, Dialog, Flow, HeaderName, Request, Response, ServerKey, StatusCode};

use super::leg::{Incoming, Invite, LegState, tag_text};
use super::message::{ContactFor, SDP, allow_header, contact, push_warning};
use super::open::{CallerMedia, refusal};
use super::reliable::Reliable;
use super::{Call, Leg, Phase};
use crate::context::{Context, ServerUse};
use crate::negotiate::{Description, LegMedia, Terms};
use crate::record::{Cause, DivertReason, Step};
use crate::relays::RelayStep;
use crate::route::{Reach, Refusal, Side};
use crate::tenancy::User;

/// An INVITE of a user who takes a call.
pub(crate) struct PickUp {
    pub key: ServerKey,
    pub flow: Flow,
    pub request: Request,
    pub user: Arc<User>,
    /// The leg whose place is taken; `None` where the call waits for anybody.
    pub instead: Option<usize>,
}

/// How a dialog stands that somebody wants the place of (RFC 3891 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// We ring that phone.
    Rung,
    /// That phone calls, and nobody has answered it.
    Rings,
    Talks,
    Over,
}

/// What an INVITE that takes a call brings.
struct Taking {
    offer: Description,
    media: LegMedia,
    tag: u64,
    dialog: Dialog,
}

/// Of one call, so that nobody wears it out by trying.
const MOST_ATTEMPTS: usize = 8;

/// Without an offer there is nothing that the caller could be answered with.
const NO_OFFER: Refusal = Refusal {
    status: 488,
    cause: Cause::NotAcceptable,
    warning: Some((399, "A call is taken with an offer")),
};

/// It is going to be where it can be taken in a moment.
const ON_ITS_WAY: Refusal = Refusal {
    status: 503,
    cause: Cause::Failed,
    warning: Some((399, "The call is on its way to another relay")),
};

impl Call {
    /// How this leg's dialog stands, if it goes by these names.
    pub(crate) fn standing(&self, leg: usize, call_id: &ByteStr, tag: &str) -> Option<Standing> {
        let it = self.legs.get(leg)?;
        let is_named = match (&it.dialog, it.branch_ref()) {
            (Some(dialog), _) => {
                *dialog.call_id() == *call_id && dialog.remote().tag() == Some(tag)
            }
            (None, Some(branch)) => {
                call_id.as_bytes() == branch.call_id.as_bytes() && it.rings.as_deref() == Some(tag)
            }
            (None, None) => false,
        };
        is_named.then(|| match (it.state, &it.invite) {
            _ if self.is_ending() => Standing::Over,
            (LegState::Ended, _) => Standing::Over,
            (LegState::Confirmed, _) => Standing::Talks,
            (LegState::Early, Invite::Sent(_)) if !self.rings_first() => Standing::Rung,
            (LegState::Early, _) => Standing::Rings,
        })
    }

    /// The leg that rings at this user's, or at anybody's.
    pub(crate) fn rings_at(&self, user: Option<UserSid>) -> Option<usize> {
        if !self.is_ringing() || self.winner.is_some() || self.rings_first() {
            return None;
        }
        self.legs.iter().position(|leg| {
            let is_rung = leg.branch_ref().is_some_and(|branch| branch.request.is_some());
            let rung = matches!(&leg.side, Side::User(it) if user.is_none_or(|sid| it.sid == sid));
            rung && is_rung && leg.state == LegState::Early
        })
    }

    /// Makes a leg for who takes the call. It is answered as soon as the relay has
    /// made its side.
    pub(crate) fn pick_up(&mut self, cx: &mut Context, it: PickUp) {
        let PickUp { key, flow, request, user, instead } = it;
        let side = Side::User(user);
        match self.may_pick_up(cx, &request, &flow, &side) {
            Ok(taking) => {
                let leg = self.leg_of_taker(cx, (key, request), side, &flow, taking);
                self.ask_for_taker(cx, leg, instead);
            }
            Err(refusal) => {
                cx.counters.pickups_refused += 1;
                let status = StatusCode::new(refusal.status);
                let status = status.unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
                let mut response = cx.response(&request, status);
                if let Some((code, text)) = refusal.warning {
                    push_warning(cx, &mut response, code, text);
                }
                cx.respond(key, response);
            }
        }
    }

    fn may_pick_up(
        &self,
        cx: &mut Context,
        request: &Request,
        flow: &Flow,
        side: &Side,
    ) -> Result<Taking, Refusal> {
        let is_pending = self.legs.iter().any(|leg| {
            leg.state == LegState::Early && leg.incoming().is_some_and(|it| it.picks_up)
        });
        let picks_up = |leg: &&Leg| leg.incoming().is_some_and(|it| it.picks_up);
        let is_tired = self.legs.iter().filter(picks_up).count() >= MOST_ATTEMPTS;
        let is_lost = self.session.as_ref().is_none_or(|session| session.lost);
        let is_taken = self.winner.is_some() || is_pending || is_tired;
        if !self.is_ringing() || is_taken {
            return Err(Refusal::new(486, Cause::Busy));
        }
        if is_lost || self.is_between_relays() || self.awaits_adoption() {
            return Err(ON_ITS_WAY);
        }
        let media = CallerMedia::read(cx, request, side, &self.account);
        let offer = media.offer?.ok_or(NO_OFFER)?;
        let media = LegMedia::answering(&offer, cx.entropy.u64()).map_err(refusal)?;
        let media = media.transcoding(cx.config.transcoding);
        let tag = cx.entropy.u64();
        let local = contact(cx, &ContactFor::Flow(flow));
        let dialog = Dialog::uas(request, &tag_text(tag), local);
        let dialog = dialog.map_err(|_| Refusal::new(400, Cause::Failed))?;
        Ok(Taking { offer, media, tag, dialog })
    }

    fn leg_of_taker(
        &mut self,
        cx: &mut Context,
        (key, request): (ServerKey, Request),
        side: Side,
        flow: &Flow,
        taking: Taking,
    ) -> usize {
        let Taking { offer, media, tag, dialog } = taking;
        let (place, sid) = (self.legs.len(), LegSid::new(&mut cx.entropy));
        let relay_leg = self.relay_leg();
        let headers = request.headers.clone();
        let (offer, reliable) = (Some(offer), Reliable::default());
        let incoming = Incoming { key, request, offer, provisional: 0, reliable, picks_up: true };
        let invite = Invite::Received(Box::new(incoming));
        let mut leg = Leg::new(sid, side, Reach::back(flow, false), tag, relay_leg, invite);
        leg.dialog = Some(dialog);
        leg.media = Some(media);
        leg.learn_methods(&headers);
        leg.timer.take(cx.config.session_policy(), &headers, self.now(cx));
        cx.servers.insert(key, ServerUse::PickUp { call: self.key, leg: place });
        cx.dialogs.insert(tag, (self.key, place));
        self.legs.push(leg);
        place
    }

    fn ask_for_taker(&mut self, cx: &mut Context, leg: usize, instead: Option<usize>) {
        let instead = instead.and_then(|it| Some(self.user_of(it)?.sid));
        let Some(it) = self.legs.get(leg) else { return };
        let (sid, relay_leg) = (it.sid, it.relay_leg);
        let spec = it.media.as_ref().map(|media| media.spec.clone());
        let call_id = it.dialog.as_ref().map(|it| it.call_id().to_str_lossy().into_owned());
        self.record_leg(cx, leg, call_id.unwrap_or_default());
        if let Some(by) = instead {
            let reason = DivertReason::PickedUp;
            self.journal(cx, Step::LegDiverted { leg: sid, by, reason });
        }
        if let (Some(session), Some(spec)) = (self.session.clone(), spec) {
            let change = RelayRequest::Change(session.id, vec![Op::Add(relay_leg, spec)]);
            cx.ask_relay(&session.relay, self.key, RelayStep::PickUp { leg }, change);
        }
    }

    /// The relay made the leg: whoever takes the call has it, unless somebody
    /// answered meanwhile.
    pub(super) fn picked_up(&mut self, cx: &mut Context, leg: usize) {
        let is_early = self.legs.get(leg).is_some_and(|it| it.state == LegState::Early);
        if !is_early {
            return self.release_media(cx, leg);
        }
        if self.phase != Phase::Ringing || self.winner.is_some() {
            return self.pick_up_failed(cx, leg, 486);
        }
        let terms = self.offered_by_caller();
        let Some(response) = self.answer_for_taker(leg, terms) else {
            return self.pick_up_failed(cx, leg, 488);
        };
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.state = LegState::Confirmed;
        it.status = StatusCode::OK.code();
        if let Some(dialog) = &mut it.dialog {
            dialog.confirm();
        }
        let Some(key) = it.incoming().map(|it| it.key) else { return };
        it.unacked = Some(key);
        cx.counters.calls_picked_up += 1;
        cx.respond(key, response);
        self.won(cx, leg);
    }

    fn answer_for_taker(&mut self, leg: usize, terms: Terms) -> Option<Response> {
        let it = self.legs.get_mut(leg)?;
        let offer = it.incoming()?.offer.clone()?;
        let body = it.media.as_mut()?.answer(&offer, terms)?;
        let request = &it.incoming()?.request;
        let mut response = it.dialog.as_ref()?.respond(request, StatusCode::OK);
        response.set_body(SDP, body);
        response.headers.push(HeaderName::Allow, allow_header());
        it.timer.tell(&request.headers, &mut response.headers);
        Some(response)
    }

    /// Nothing came of it: the call rings on.
    pub(super) fn pick_up_failed(&mut self, cx: &mut Context, leg: usize, status: u16) {
        let Some(it) = self.legs.get_mut(leg).filter(|it| it.state == LegState::Early) else {
            return;
        };
        it.state = LegState::Ended;
        it.dialog = None;
        self.refuse_pick_up(cx, leg, status);
        self.release_media(cx, leg);
        self.group_failed(cx);
    }

    /// Who wanted the call thinks better of it.
    pub(crate) fn pick_up_cancelled(&mut self, cx: &mut Context, leg: usize) {
        self.pick_up_failed(cx, leg, 487);
    }

    /// The final response to an INVITE that was to take the call.
    pub(super) fn refuse_pick_up(&mut self, cx: &mut Context, leg: usize, status: u16) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.status = status;
        let tag = tag_text(it.tag);
        let Some(incoming) = it.incoming().filter(|it| it.picks_up) else { return };
        let status = StatusCode::new(status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
        let response = Response::for_request(&incoming.request, status).with_to_tag(&tag);
        let key = incoming.key;
        cx.counters.pickups_refused += 1;
        cx.respond(key, response);
    }
}
