//! Changes of an answered call: re-INVITE (RFC 3261 §14) and UPDATE (RFC 3311)
//! from either side, carried to the other where it has to know.

use landline_control::{LegId, Op, Protocol, Request as RelayRequest};
use landline_sip::{
    ClientKey, HeaderName, Method, Request, Response, ServerKey, StatusCode, glare_wait,
};

use super::message::{SDP, push_warning};
use super::open::read_description;
use super::{A, Call, Leg, Phase};
use crate::context::{ClientUse, Context, ServerUse};
use crate::negotiate::{Codec, Description, LegMedia, Mismatch, Terms};
use crate::relays::RelayStep;
use crate::timers::{CallTimer, Timer};

/// The one change that is under way in a call.
pub(super) struct Modification {
    /// Who wants it; `None` when it is our own, to bring the sides together.
    pub asked: Option<Asked>,
    /// The leg that is asked in turn.
    pub toward: usize,
    pub client: Option<ClientKey>,
    pub method: Method,
    pub step: ModifyStep,
    /// The asking leg's former leg on the relay, while a new one is tried.
    pub former: Option<(LegId, LegMedia)>,
    /// We asked once more after a 491 or a challenge.
    pub retried: u8,
}

pub(super) struct Asked {
    pub leg: usize,
    pub key: ServerKey,
    pub request: Request,
    pub offer: Description,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModifyStep {
    /// The relay makes a leg that suits the offer.
    Preparing,
    /// The other side has our offer.
    Asking,
    /// The relay is told.
    Applying,
    /// Ours waits out a collision (RFC 3261 §14.1).
    Waiting,
}

impl Call {
    /// A re-INVITE or UPDATE within the dialog of a leg.
    pub(crate) fn modify(
        &mut self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: Request,
    ) {
        if request.method == Method::Update && request.body.is_empty() {
            return self.refresh(cx, leg, key, &request);
        }
        if self.hold_back(leg, key, &request) {
            return;
        }
        self.has_heard_answer(cx, leg);
        if let Some(response) = self.collision(cx, leg, &request) {
            return cx.respond(key, response);
        }
        match read_description(cx, &request) {
            Ok(None) => self.offer_again(cx, leg, key, &request),
            Ok(Some(offer)) => self.offered(cx, Asked { leg, key, request, offer }),
            Err(mismatch) => self.reject(cx, leg, key, &request, mismatch),
        }
    }

    /// Who comes second has to wait (RFC 3261 §14.2, RFC 3311 §5.2).
    fn collision(&mut self, cx: &mut Context, leg: usize, request: &Request) -> Option<Response> {
        let dialog = self.legs.get(leg)?.dialog.as_ref()?;
        let pending = dialog.respond(request, StatusCode::REQUEST_PENDING);
        let later = dialog.respond(request, StatusCode::SERVER_INTERNAL_ERROR);
        let own = |it: &Modification| it.asked.as_ref().is_some_and(|asked| asked.leg == leg);
        let unacked = self.other(leg).and_then(|other| self.legs.get(other)?.unacked).is_some();
        // The peer's former INVITE is in progress until its ACK.
        let overtaken = self.legs.get(leg)?.unacked.is_some();
        let mut response = match &self.modification {
            Some(modification) if own(modification) => Leg::later(cx, later),
            _ if overtaken => Leg::later(cx, later),
            // The other relay's addresses are on their way to it.
            None if self.is_between_relays() => pending,
            Some(_) => pending,
            None if !self.stands() || unacked || self.awaits_adoption() => pending,
            None if self.has_lent() => pending,
            None => return None,
        };
        cx.counters.glare += 1;
        response.headers.remove_all(&HeaderName::Contact);
        Some(response)
    }

    /// An UPDATE without an offer moves the peer's target and refreshes its
    /// session, and no more.
    fn refresh(&mut self, cx: &mut Context, leg: usize, key: ServerKey, request: &Request) {
        let Some(dialog) = self.legs.get_mut(leg).and_then(|it| it.dialog.as_mut()) else {
            return self.gone(cx, key, request);
        };
        let former = dialog.remote_target().clone();
        if let Ok(contacts) = request.contacts() {
            dialog.refresh_target(contacts);
        }
        let has_moved = *dialog.remote_target() != former;
        let mut response = dialog.respond(request, StatusCode::OK);
        self.session_taken(cx, leg, request, &mut response);
        cx.respond(key, response);
        let expires = self.legs.get(leg).is_some_and(|it| it.timer.agreed.is_some());
        if has_moved || expires {
            self.keep(cx);
        }
    }

    pub(super) fn reject(
        &mut self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: &Request,
        mismatch: Mismatch,
    ) {
        let status = StatusCode::new(mismatch.status()).unwrap_or(StatusCode::NOT_ACCEPTABLE_HERE);
        let Some(dialog) = self.legs.get(leg).and_then(|it| it.dialog.as_ref()) else {
            return self.gone(cx, key, request);
        };
        let mut response = dialog.respond(request, status);
        let (code, text) = mismatch.warning();
        push_warning(cx, &mut response, code, text);
        cx.respond(key, response);
    }

    /// A re-INVITE without an offer: ours goes out in the 200, and what the
    /// other side has to know of the answer, when it has come.
    fn offer_again(&mut self, cx: &mut Context, leg: usize, key: ServerKey, request: &Request) {
        let agreed = |call: &Self, leg: usize| {
            let media = call.legs.get(leg)?.media.as_ref()?;
            Some(media.agreed.as_ref()?.peer.clone())
        };
        let peer = self.other(leg).and_then(|other| agreed(self, other));
        let terms = match self.is_in_mailbox() {
            true => self.terms_of_mailbox(&Codec::ours()),
            false if self.waits() => self.terms_of_parked(leg),
            false => peer.map(|peer| self.terms_of(&peer)),
        };
        let Some(it) = self.legs.get_mut(leg) else { return };
        let body = terms.and_then(|terms| it.media.as_mut()?.offer(terms));
        let (Some(body), Some(dialog)) = (body, it.dialog.as_mut()) else {
            return self.gone(cx, key, request);
        };
        if let Ok(contacts) = request.contacts() {
            dialog.refresh_target(contacts);
        }
        let mut response = dialog.respond(request, StatusCode::OK);
        response.set_body(SDP, body);
        it.unacked = Some(key);
        cx.servers.insert(key, ServerUse::Modify { call: self.key, leg });
        self.session_taken(cx, leg, request, &mut response);
        cx.respond(key, response);
    }

    /// A new offer of a peer.
    fn offered(&mut self, cx: &mut Context, asked: Asked) {
        let Asked { leg, key, .. } = asked;
        let plain = self.accepts_plain(leg);
        if asked.offer.protocol == Protocol::Rtp && !plain {
            cx.counters.encryption_missing += 1;
            return self.reject(cx, leg, key, &asked.request, Mismatch::Unencrypted);
        }
        let alone = (self.is_in_mailbox() || self.waits()).then_some(leg);
        let Some(toward) = self.other(leg).or(alone) else {
            return self.gone(cx, key, &asked.request);
        };
        let method = asked.request.method.clone();
        cx.servers.insert(key, ServerUse::Modify { call: self.key, leg });
        let Some(media) = self.legs.get(leg).and_then(|it| it.media.as_ref()) else { return };
        let (fits, restarts) = (media.fits(&asked.offer), media.restarts_ice(&asked.offer));
        if self.is_in_mailbox() && !fits {
            cx.servers.remove(&key);
            return self.reject(cx, leg, key, &asked.request, Mismatch::Transport);
        }
        self.modification = Some(Modification {
            asked: Some(asked),
            toward,
            client: None,
            method,
            step: ModifyStep::Preparing,
            former: None,
            retried: 0,
        });
        match (fits, restarts) {
            (true, false) => self.carry(cx),
            (true, true) => self.prepare(cx, leg, |leg| Op::Restart(leg.relay_leg)),
            (false, _) => self.replace_leg(cx, leg),
        }
    }

    /// The relay's leg cannot serve the offer (other keys, another family):
    /// a new one is made beside it, and takes its place when all have agreed.
    fn replace_leg(&mut self, cx: &mut Context, leg: usize) {
        let fresh = self.relay_leg();
        let offer = self.modification.as_ref().and_then(|it| it.asked.as_ref());
        let offer = offer.map(|it| it.offer.clone());
        let session = cx.entropy.u64();
        let Some(it) = self.legs.get_mut(leg) else { return };
        let (Some(offer), Some(media)) = (offer, it.media.as_ref()) else { return };
        match media.replaced(&offer, session) {
            Ok(media) => {
                let media = if it.side.is_trunk() { media.by_ports() } else { media };
                let spec = media.spec.clone();
                let former = it.media.replace(media);
                let former_id = std::mem::replace(&mut it.relay_leg, fresh);
                if let (Some(modification), Some(former)) = (&mut self.modification, former) {
                    modification.former = Some((former_id, former));
                }
                self.prepare(cx, leg, |leg| Op::Add(leg.relay_leg, spec));
            }
            Err(mismatch) => self.refuse_asked(cx, mismatch),
        }
    }

    pub(super) fn prepare(&mut self, cx: &mut Context, leg: usize, op: impl FnOnce(&Leg) -> Op) {
        let (Some(session), Some(it)) = (self.session.clone(), self.legs.get(leg)) else { return };
        let change = RelayRequest::Change(session.id, vec![op(it)]);
        cx.ask_relay(&session.relay, self.key, RelayStep::Prepare, change);
    }

    pub(super) fn modify_prepared(&mut self, cx: &mut Context) {
        let preparing = self.modification.as_ref();
        let preparing = preparing.filter(|it| it.step == ModifyStep::Preparing);
        match preparing.map(|it| (it.asked.is_some(), it.toward)) {
            Some((true, _)) => self.carry(cx),
            Some((false, toward)) => {
                let media = self.legs.get(toward).and_then(|it| it.media.as_ref());
                if let Some(terms) = media.and_then(LegMedia::told) {
                    self.ask(cx, terms);
                }
            }
            None => {}
        }
    }

    /// Offers to the other side what this one offered, unless that would tell
    /// it nothing new: a mere change of address or keys, or a refresh.
    fn carry(&mut self, cx: &mut Context) {
        let Some(modification) = &self.modification else { return };
        let Some(asked) = &modification.asked else { return };
        let wanted = self.terms_of(&asked.offer);
        let (toward, is_alone) = (modification.toward, asked.leg == modification.toward);
        if !is_alone && self.is_news(toward, &wanted) {
            return self.ask(cx, wanted);
        }
        self.apply(cx);
    }

    /// Whether these terms differ from what the other side was last told.
    pub(super) fn is_news(&self, toward: usize, wanted: &Terms) -> bool {
        let media = self.legs.get(toward).and_then(|it| it.media.as_ref());
        media.is_none_or(|media| media.is_news(wanted))
    }

    /// Our offer to the other side.
    pub(super) fn ask(&mut self, cx: &mut Context, terms: Terms) {
        if self.try_ask(cx, terms).is_none() {
            self.refuse_asked(cx, Mismatch::Transport);
        }
    }

    fn try_ask(&mut self, cx: &mut Context, terms: Terms) -> Option<()> {
        let key = self.key;
        let modification = self.modification.as_mut()?;
        let toward = modification.toward;
        let it = self.legs.get_mut(toward)?;
        // UPDATE is carried as UPDATE where it is understood.
        if modification.method != Method::Update || !it.takes_update {
            modification.method = Method::Invite;
        }
        let body = it.media.as_mut()?.offer(terms)?;
        let purpose = ClientUse::Modify { call: key, leg: toward };
        modification.client =
            Some(it.send_offer(cx, modification.method.clone(), body, purpose)?);
        modification.step = ModifyStep::Asking;
        Some(())
    }

    /// Begins a change of our own, so that the other side knows what this one
    /// agreed to last.
    pub(super) fn align(&mut self, cx: &mut Context, toward: usize) {
        let Some(wanted) = self.wanted_for(toward).filter(|it| self.is_news(toward, it)) else {
            return;
        };
        if self.modification.is_some() || self.phase != Phase::Up || self.is_between_relays() {
            return;
        }
        self.modification = Some(Modification {
            asked: None,
            toward,
            client: None,
            method: Method::Invite,
            step: ModifyStep::Asking,
            former: None,
            retried: 0,
        });
        self.ask(cx, wanted);
    }

    pub(super) fn wanted_for(&self, toward: usize) -> Option<Terms> {
        let other = self.legs.get(self.other(toward)?)?;
        Some(self.terms_of(&other.media.as_ref()?.agreed.as_ref()?.peer))
    }

    /// What the other side is to know of this one. A recording holds everything
    /// that passed, and it holds sound: who is recorded is not seen.
    pub(super) fn terms_of(&self, peer: &Description) -> Terms {
        let terms = LegMedia::terms_of(peer);
        Terms { video: terms.video.filter(|_| self.recording.is_none()), ..terms }
    }

    /// After a 491 to an offer of our own.
    pub(super) fn wait_out(&mut self, cx: &mut Context) {
        let Some(modification) = &mut self.modification else { return };
        modification.step = ModifyStep::Waiting;
        modification.retried += 1;
        // The Call-ID of the caller's dialog is the caller's choice, unless we rang it.
        let is_ours = modification.toward != A || self.started.is_some();
        let wait = glare_wait(is_ours, cx.entropy.u64());
        cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, CallTimer::Retry));
    }

    pub(crate) fn retry(&mut self, cx: &mut Context) {
        let waiting = self.modification.as_ref().filter(|it| it.step == ModifyStep::Waiting);
        let Some(toward) = waiting.map(|it| it.toward) else { return };
        match self.wanted_for(toward).filter(|it| self.is_news(toward, it)) {
            Some(wanted) if self.phase == Phase::Up => self.ask(cx, wanted),
            _ => self.modification = None,
        }
    }
}
