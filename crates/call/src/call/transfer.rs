//! Transfer (RFC 5589), carried out here: no client but the one who asks for it
//! has to know of it.
//!
//! Whoever is referred becomes a guest of a new call, made by the account and in
//! the name of the one who refers, as if that one had dialled (ADR 020). The
//! original call goes on until the new one has what it needs, and lends it the
//! guest's leg then; if nothing comes of it the leg comes back.
//!
//! Calls know each other by key alone and speak by [`Letter`]s: the original
//! call's half is in `departing`, the new call's in `guests`.

use std::sync::Arc;

use landline_control::{Direction, LegKeys};
use landline_region::{CallSid, JoinToken, LegSid, Personal, RecordingSid, UnixMillis};
use landline_sip::{ClientKey, HeaderName, Headers, NameAddr};

use super::guests::{Guest, GuestStep, Handover};
use super::leg::{Invite, LegState};
use super::message::own_uri;
use super::open::recording;
use super::park::Parked;
use super::start::Started;
use super::{A, Call, Ending, Identity, Leg};
use crate::calls::CallKey;
use crate::context::Context;
use crate::io::Log;
use crate::negotiate::{LegMedia, Terms};
use crate::record::{CallDirection, Cause, LegRole};
use crate::route::{Reach, Refusal, Route, Side};
use crate::tenancy::{Account, User};

/// What one call has to say to another of the same core.
pub(crate) struct Letter {
    pub from: CallKey,
    pub to: CallKey,
    pub word: Word,
}

pub(crate) enum Word {
    /// To the original call: the new one is ready for the leg.
    Wanted,
    /// The leg.
    Lent(Box<Leg>),
    /// It cannot be had: something else goes on in it.
    Withheld,
    /// The original call is over, and what it lent stays where it is.
    Left,
    /// The original call is over, and with it the transfer.
    Withdrawn,
    /// The new call came to nothing.
    Failed { status: u16, leg: Option<Returned> },
    /// The guest hung up, or knows nothing of the dialog any more.
    Gone { is_lost: bool },
    /// Guest and target talk.
    Joined,
    /// The guest waits for whoever takes it by dialling this.
    Parked(String),
    /// To a call that was taken up with the same leg as the sender, which was
    /// opened then.
    Claimed { tag: u64, opened: (UnixMillis, CallSid) },
}

/// A leg that comes back.
pub(crate) struct Returned {
    pub leg: Box<Leg>,
    /// An offer of the new call's is still to be answered.
    pub asked: Option<ClientKey>,
    /// It went over already.
    pub agreed: bool,
}

/// A party of a call, for another call that is to have it.
pub(crate) struct Referred {
    from: CallKey,
    pub(super) side: Side,
    reach: Reach,
    media: LegMedia,
    /// Some phones take no new ones within a dialog (ADR 018).
    keys: Option<LegKeys>,
    /// As who the target is to see it, if that is known.
    identity: Option<Identity>,
    pub(super) is_recorded: bool,
    pub(super) join: Option<JoinToken>,
}

/// Who refers whom to where.
pub(crate) struct Referral {
    pub account: Arc<Account>,
    /// Who asks for it, and answers for it.
    pub user: Arc<User>,
    pub dialled: String,
    pub guest: Referred,
    pub to: ReferredTo,
}

pub(crate) enum ReferredTo {
    /// As if the user had dialled it.
    Target(Result<Route, Refusal>),
    /// The other party of another call of the same user.
    Party(Box<Referred>, CallDirection),
    /// Nobody as yet: it waits there until somebody takes it.
    Slot(u16, CallDirection),
}

impl Referred {
    pub(super) fn presented(&self) -> Option<Identity> {
        self.identity.clone()
    }
}

impl Call {
    /// What another call needs to know of this leg's party.
    pub(crate) fn referred(&self, leg: usize) -> Option<Referred> {
        let it = self.legs.get(leg)?;
        let own = &self.identity;
        let identity = match (leg, &it.side) {
            (_, Side::User(user)) => Some(Identity {
                display: own.display.clone().filter(|_| leg == A),
                user: user.name.clone(),
                number: user.number.clone(),
                is_private: own.is_private && leg == A,
                ..Identity::default()
            }),
            (A, _) => Some(own.clone()),
            (_, Side::Region(_)) => None,
            (_, Side::Trunk(_)) => {
                Some(Identity { user: own.callee.clone(), ..Identity::default() })
            }
        };
        // A call that was taken up by another process does not know it any more.
        let identity = identity.filter(|it| !it.user.expose().is_empty());
        Some(Referred {
            from: self.key,
            side: it.side.clone(),
            reach: it.reach.clone(),
            media: it.media.as_ref()?.renewed(),
            keys: self.keys.of(it.relay_leg).cloned(),
            identity,
            is_recorded: self.recording.is_some(),
            join: self.join.filter(|_| it.side.is_region()),
        })
    }

    /// What the record calls this leg's party.
    pub(crate) fn name_of(&self, leg: usize) -> String {
        let named = match leg {
            A => self.identity.recorded(),
            _ => self.identity.callee.clone(),
        };
        match self.user_of(leg) {
            Some(user) => user.name.expose().clone(),
            None => named.expose().clone(),
        }
    }

    /// The new call. Its record is opened as of any other, and what leads nowhere
    /// is closed at once.
    pub(crate) fn refer(key: CallKey, cx: &mut Context, referral: Referral) -> Self {
        let Referral { account, user, dialled, guest, to } = referral;
        let caller = Side::User(user.clone());
        let (route, party, slot) = match to {
            ReferredTo::Target(route) => (Some(route), None, None),
            ReferredTo::Party(party, direction) => (None, Some((party, direction)), None),
            ReferredTo::Slot(slot, direction) => (None, None, Some((slot, direction))),
        };
        let known = route.as_ref().and_then(|route| route.as_ref().ok());
        let callee = match (&party, known) {
            (Some((party, _)), _) => Some(party.side.clone()),
            (None, route) => route.map(|route| route.callee.clone()),
        };
        let direction = match (&party, &slot, known) {
            (Some((_, direction)), ..) | (None, Some((_, direction)), _) => *direction,
            (None, None, route) => route.map_or(CallDirection::Internal, |it| it.direction),
        };
        let identity = Identity {
            user: user.name.clone(),
            number: user.number.clone(),
            callee: known.map_or_else(|| Personal::new(dialled.clone()), |it| it.to_user.clone()),
            ..Identity::default()
        };
        let mut call = Self {
            identity,
            recording: recording(cx, &account, &caller, callee.as_ref().into_iter()),
            started: Some(Started::answered()),
            handover: Some(Box::new(Handover::new(guest.presented()))),
            parked: slot.map(|(slot, _)| Parked::at(slot)),
            ..Self::new(key, cx, account, caller, direction)
        };
        let second = party.as_ref().map(|(party, _)| party.as_ref());
        let guests = || [Some(&guest), second].into_iter().flatten();
        call.go_on_recording(cx, guests().any(|it| it.is_recorded));
        if second.is_some() {
            call.winner = Some(A + 1);
        }
        // A party of another account has its own record, under the same token.
        let is_away = known.is_some_and(|route| route.callee.is_region());
        call.join = guests().find_map(|it| it.join).filter(|_| !is_away);
        call.join_other_account(cx, callee.as_ref().filter(|_| known.is_some()));
        let admitted = call.admit(cx);
        call.seat(cx, guest, LegRole::A);
        if let Some((party, _)) = party {
            call.seat(cx, *party, LegRole::B);
        }
        call.record_opened(cx, &dialled);
        let refused = route.as_ref().and_then(|route| route.as_ref().err().copied());
        if admitted.is_ok() && refused.is_none() {
            call.await_journal(cx);
        }
        cx.log(Log::CallOpened { call: call.sid, account: call.account.sid });
        match (admitted, route) {
            (Ok(()), Some(Ok(route))) => call.follow(route),
            (Ok(()), None) => {}
            (Err(refusal), _) | (_, Some(Err(refusal))) => call.refuse(cx, refusal),
        }
        call
    }

    /// What was recorded goes on being recorded.
    pub(super) fn go_on_recording(&mut self, cx: &mut Context, was_recorded: bool) {
        if self.recording.is_none() && was_recorded {
            let consent = landline_control::Consent { by_policy: true, granted_at: cx.now.unix };
            self.recording = Some((RecordingSid::new(&mut cx.entropy), consent));
        }
    }

    /// A place for a guest, who is elsewhere as yet.
    pub(super) fn seat(&mut self, cx: &mut Context, guest: Referred, role: LegRole) {
        let (sid, tag) = (LegSid::new(&mut cx.entropy), cx.entropy.u64());
        let relay_leg = self.relay_leg();
        let mut leg = Leg::new(sid, guest.side, guest.reach, tag, relay_leg, Invite::Former(role));
        leg.media = Some(guest.media);
        if let Some(keys) = guest.keys {
            self.keys.set(relay_leg, keys);
        }
        let place = self.legs.len();
        self.legs.push(leg);
        if let Some(handover) = &mut self.handover {
            let (from, step) = (guest.from, GuestStep::Away);
            let guest = Guest { leg: place, from, is_left: false, step, client: None, retried: 0 };
            handover.guests.push(guest);
        }
    }

    /// What the target of a transfer is offered: what the guest speaks. It was on
    /// hold, most likely, and is not going to be.
    pub(super) fn terms_of_guest(&self) -> Option<Terms> {
        self.handover.as_ref()?;
        let agreed = self.legs.first()?.media.as_ref()?.agreed.as_ref()?;
        let terms = self.terms_of(&agreed.peer);
        Some(Terms { direction: Direction::SendReceive, ..terms })
    }

    /// Users see whom they are going to talk to. Carriers and other accounts see
    /// the one who refers: nobody calls out in another's name.
    pub(super) fn identity_towards(&self, side: Option<&Side>) -> Identity {
        let presented = self.handover.as_ref().and_then(|it| it.presented.clone());
        match (side, presented) {
            (Some(Side::User(_)), Some(presented)) => {
                Identity { callee: self.identity.callee.clone(), ..presented }
            }
            _ => self.identity.clone(),
        }
    }

    /// RFC 3892 §2.2, for who is told who calls anyway.
    pub(super) fn push_referred_by(&self, headers: &mut Headers, leg: usize) {
        let side = self.legs.get(leg).map(|it| &it.side);
        if let (Some(_), Side::User(by), Some(Side::User(_))) = (&self.handover, &self.caller, side)
        {
            let by = own_uri(Some(by.name.expose()), &self.account.domain);
            headers.push(HeaderName::ReferredBy, NameAddr::new(by));
        }
    }

    /// Another call has something to say.
    pub(crate) fn told(&mut self, cx: &mut Context, from: CallKey, word: Word) {
        match word {
            Word::Wanted => self.lend(cx, from),
            Word::Failed { status, leg } => self.transfer_failed(cx, from, status, leg),
            Word::Gone { is_lost } => self.guest_gone(cx, from, is_lost),
            Word::Joined => self.transferred(cx, from),
            Word::Parked(code) => self.parked_elsewhere(cx, from, &code),
            Word::Lent(leg) => self.borrow(cx, from, leg),
            Word::Withheld => self.guest_withheld(cx, from),
            Word::Left => self.guest_stays(from),
            Word::Withdrawn => self.withdrawn(cx, from),
            Word::Claimed { tag, opened } => self.claimed(cx, from, tag, opened),
        }
    }

    pub(super) fn tell(&self, cx: &mut Context, to: CallKey, word: Word) {
        cx.letters.push_back(Letter { from: self.key, to, word });
    }

    /// Two calls were kept with the same leg: a death came between the new call's
    /// answer and the original one's end. The later call has it.
    pub(super) fn claim(&self, cx: &mut Context, other: CallKey, tag: u64) {
        self.tell(cx, other, Word::Claimed { tag, opened: (self.opened_at, self.sid) });
    }

    fn claimed(
        &mut self,
        cx: &mut Context,
        other: CallKey,
        tag: u64,
        opened: (UnixMillis, CallSid),
    ) {
        let Some(place) = self.legs.iter().position(|it| it.tag == tag) else { return };
        if (self.opened_at, self.sid) > opened {
            cx.dialogs.insert(tag, (self.key, place));
            return self.claim(cx, other, tag);
        }
        drop(self.lift(cx, place));
        self.end(cx, Ending::new(Cause::Transferred, 200));
    }

    /// Another proxy has this call, and nothing of a transfer.
    pub(super) fn drop_transfer(&mut self, cx: &mut Context) {
        if let Some(departing) = self.departing.take() {
            self.tell(cx, departing.to, Word::Withdrawn);
        }
        for guest in self.handover.take().map(|it| it.guests).unwrap_or_default() {
            self.tell(cx, guest.from, Word::Joined);
        }
    }

    /// Takes a leg out of this call, dialog and all. In its place stays what the
    /// record and the relay have of it.
    pub(super) fn lift(&mut self, cx: &mut Context, leg: usize) -> Option<Box<Leg>> {
        let it = self.legs.get_mut(leg)?;
        if let Some(client) = it.branch_ref().and_then(|branch| branch.key) {
            cx.clients.remove(&client);
        }
        if let Some(incoming) = it.incoming() {
            cx.servers.remove(&incoming.key);
        }
        let (role, tag) = (it.role(), cx.entropy.u64());
        let (side, reach) = (it.side.clone(), it.reach.clone());
        let mut stays = Leg::new(it.sid, side, reach, tag, it.relay_leg, Invite::Former(role));
        stays.state = LegState::Ended;
        stays.media.clone_from(&it.media);
        stays.edges.clone_from(&it.edges);
        stays.former_tag = it.former_tag.take();
        stays.is_allocated = it.is_allocated;
        stays.is_recorded = it.is_recorded;
        stays.status = it.status;
        (stays.stats, stays.counted) = (it.stats.take(), it.counted.take());
        stays.before = it.before.take();
        Some(Box::new(std::mem::replace(it, stays)))
    }

    /// Puts a leg into its place in this call: the dialog is the leg's own, record
    /// and relay know the place.
    pub(super) fn set_down(&mut self, cx: &mut Context, place: usize, leg: Box<Leg>) {
        let key = self.key;
        let Some(it) = self.legs.get_mut(place) else { return };
        let known = std::mem::replace(it, *leg);
        it.invite = Invite::Former(known.role());
        (it.sid, it.relay_leg, it.is_allocated) = (known.sid, known.relay_leg, known.is_allocated);
        (it.media, it.edges) = (known.media, known.edges);
        (it.former_tag, it.is_recorded) = (known.former_tag, known.is_recorded);
        (it.stats, it.counted, it.before) = (known.stats, known.counted, known.before);
        it.state = LegState::Confirmed;
        cx.dialogs.insert(it.tag, (key, place));
    }
}
