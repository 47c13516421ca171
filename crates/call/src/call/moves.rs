//! An answered call goes over to another relay: its own is gone, or is to be
//! emptied.
//!
//! A session is opened on the other relay and both sides are offered its
//! addresses and keys (RFC 3264 §8.3.1; new ICE credentials and another
//! fingerprint are an ICE restart and a new DTLS association, RFC 8842 §5.5).
//! Nothing of the former session is given up before the latter has taken its
//! place: of a relay that lives the media go on until then, and where a side
//! will not move the call stays.

use std::time::Duration;

use landline_control::SessionId;
use landline_control::{LegId, LegLocal, Op, Open, Outcome, Recording, Refusal, RelayId};
use landline_sip::ClientKey;

use super::figures::Departed;
use super::keys::Keyring;
use super::{A, Call, Ending, Phase, Session};
use crate::context::Context;
use crate::io::Log;
use crate::negotiate::{LegMedia, speak};
use crate::record::{Cause, Step};
use crate::relays::{MoveStep, RelayStep};
use crate::timers::{CallTimer, Timer};

/// How soon a move that could not begin is tried again: its call is silent, or
/// still has its media.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);
/// A move that takes longer makes room for the next: its sides are slow, and
/// neither relay nor network is.
const ROOM: Duration = Duration::from_millis(400);
/// A phone that has not agreed by then is not going to.
const OVERDUE: Duration = Duration::from_secs(12);
/// Figures of former sessions that are kept apart.
const DEPARTED: usize = 8;

#[derive(Default)]
pub(super) struct Move {
    pub stage: Stage,
    /// Where the call goes, once that relay is asked.
    pub to: Option<Session>,
    pub sides: Vec<MovingSide>,
    /// As that relay told them.
    pub keys: Keyring,
    /// Relays that would not take it.
    tried: Vec<RelayId>,
    /// A side has been sent to a relay that is of no use any more.
    strayed: bool,
    /// It counts among those that are under way at one time.
    has_room: bool,
    is_queued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// For a relay, for its turn, or for the call to be ready.
    #[default]
    Waiting,
    /// The relay is to make the legs.
    Opening,
    /// The sides are to agree.
    Asking,
    /// The relay is to join them.
    Joining,
}

/// One side of a call that moves.
pub(super) struct MovingSide {
    pub leg: usize,
    /// Takes the place of the leg's own when the call has moved.
    pub media: LegMedia,
    pub step: SideStep,
    pub client: Option<ClientKey>,
    pub retried: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SideStep {
    /// Another transaction of the dialog has to end first (RFC 3261 §14.1), or
    /// it is not this side's turn.
    Held,
    /// It has our offer.
    Asked,
    /// Ours waits out a collision (RFC 3261 §14.1).
    Waiting,
    Agreed,
}

impl Move {
    /// Counts no more among those that are under way at one time.
    fn make_room(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.has_room) {
            cx.relays.moves.done();
        }
    }
}

impl Call {
    /// The call's media were on this relay, or were to go there, and it is gone.
    pub(crate) fn relay_lost(&mut self, cx: &mut Context, relay: &RelayId) {
        self.forget_departed(relay);
        if let Some(to) = self.moving.as_mut().and_then(|it| it.to.as_mut())
            && to.relay == *relay
        {
            to.lost = true;
            return self.move_again(cx);
        }
        if self.closing {
            return self.close(cx);
        }
        let is_there = |it: &&mut Session| it.relay == *relay && !it.lost;
        let awaits_adoption = self.awaits_adoption();
        let Some(session) = self.session.as_mut().filter(is_there) else { return };
        session.lost = true;
        if awaits_adoption {
            return self.not_adopted(cx);
        }
        match self.phase {
            Phase::Ending => {
                self.leave_behind(cx);
                self.close(cx);
            }
            Phase::Closed => {}
            // Nobody has heard of its addresses yet.
            Phase::Opening => {
                self.drop_session(cx);
                self.tried_relays.push(relay.clone());
                self.open_session(cx);
            }
            Phase::Up => self.session_lost(cx),
            Phase::Ringing if self.waits() => self.wait_without_relay(cx),
            Phase::Answering if self.is_gathering() => {
                self.end(cx, Ending::because(Cause::Failed, 503, 500, "Media relay lost"));
            }
            Phase::Answering => {
                // The call is answered; what the relay made of it matters no more.
                self.is_joined = true;
                self.session_lost(cx);
                self.joined(cx);
            }
            _ => self.end(cx, Ending::because(Cause::Failed, 503, 500, "Media relay lost")),
        }
    }

    pub(super) fn session_lost(&mut self, cx: &mut Context) {
        if self.is_in_mailbox() {
            return self.end(cx, Ending::relay_lost());
        }
        self.set_adrift(cx);
        self.dissolve_modification(cx);
        match self.moving.as_ref().map(|it| it.stage) {
            None | Some(Stage::Waiting) => self.want_move(cx),
            // On its way already; nothing is to be spared any more.
            Some(_) => self.press_on(cx),
        }
    }

    /// The relay was out of reach and still has the session. True when the call
    /// is as it was.
    pub(crate) fn relay_back(&mut self, relay: &RelayId, incarnation: u64) -> bool {
        let was_there =
            |it: &&mut Session| it.relay == *relay && it.incarnation == incarnation && it.lost;
        let Some(session) = self.session.as_mut().filter(was_there) else { return false };
        session.lost = false;
        if self.moving.as_ref().is_some_and(|it| it.stage == Stage::Waiting && !it.strayed) {
            self.moving = None;
        }
        true
    }

    pub(crate) fn is_on(&self, relay: &RelayId) -> bool {
        let to = self.moving.as_ref().and_then(|it| it.to.as_ref());
        let sessions = [self.session.as_ref(), to].into_iter().flatten();
        sessions.map(|it| &it.relay).any(|it| it == relay)
            || self.departed.iter().any(|it| it.relay == *relay)
    }

    /// The relay is to be emptied. Calls that are not answered yet are moved
    /// when they are.
    pub(crate) fn leave_if_draining(&mut self, cx: &mut Context) {
        let Some(session) = self.session.as_ref().filter(|it| !it.lost) else { return };
        if self.stands() && cx.relays.is_draining(&session.relay) {
            self.want_move(cx);
        }
    }

    /// Takes its place in the queue.
    pub(crate) fn want_move(&mut self, cx: &mut Context) {
        // Nobody is left in a mailbox for longer than a relay waits.
        if self.ending.is_some() || self.is_in_mailbox() {
            return;
        }
        let moving = self.moving.get_or_insert_with(Move::default);
        if moving.stage == Stage::Waiting && !moving.is_queued {
            moving.is_queued = true;
            cx.relays.moves.push(self.key);
        }
    }

    fn want_move_later(&self, cx: &mut Context) {
        let is_silent = self.is_adrift();
        let wait = if is_silent { SOON } else { LATER };
        cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, CallTimer::MoveAgain));
    }

    /// It is its turn.
    pub(crate) fn begin_move(&mut self, cx: &mut Context) {
        let Some(moving) = self.moving.as_mut() else { return };
        moving.is_queued = false;
        if moving.stage != Stage::Waiting || self.ending.is_some() {
            return;
        }
        let Some(session) = self.session.clone() else { return };
        if !session.lost && !moving.strayed && !cx.relays.is_draining(&session.relay) {
            // It takes sessions again.
            self.moving = None;
            return;
        }
        let mut tried = moving.tried.clone();
        if !session.lost {
            tried.push(session.relay);
        }
        let Some(relay) = cx.relays.choose(&tried).filter(|_| self.may_move()) else {
            if let Some(moving) = self.moving.as_mut() {
                moving.tried.clear();
            }
            return self.want_move_later(cx);
        };
        self.open_elsewhere(cx, relay);
    }

    /// Neither is a description of either side outstanding, nor a change under way.
    fn may_move(&self) -> bool {
        let agreed = |leg: usize| {
            let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
            media.is_some_and(|media| media.agreed.is_some() && !media.awaits_answer())
        };
        let is_up = self.phase == Phase::Up && self.other(A).is_some_and(agreed);
        (is_up || self.may_wait_elsewhere())
            && self.modification.is_none()
            && !self.has_lent()
            && agreed(A)
    }

    fn open_elsewhere(&mut self, cx: &mut Context, relay: RelayId) {
        let (mut legs, mut sides) = (Vec::with_capacity(2), Vec::with_capacity(2));
        for leg in [Some(A), self.other(A)].into_iter().flatten() {
            let Some(it) = self.legs.get(leg) else { return };
            let Some(media) = it.media.as_ref().map(LegMedia::renewed) else { return };
            legs.push((it.relay_leg, media.spec.clone()));
            let step = SideStep::Held;
            sides.push(MovingSide { leg, media, step, client: None, retried: 0 });
        }
        let id = cx.relays.begin(&relay, self.key);
        let Some(moving) = self.moving.as_mut() else { return };
        let incarnation = cx.relays.incarnation(&relay);
        moving.to = Some(Session { relay: relay.clone(), id, incarnation, lost: false });
        (moving.sides, moving.stage) = (sides, Stage::Opening);
        if !std::mem::replace(&mut moving.has_room, true) {
            cx.relays.moves.begin();
        }
        for (wait, timer) in
            [(ROOM, CallTimer::MoveRoom(id)), (OVERDUE, CallTimer::MoveOverdue(id))]
        {
            cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, timer));
        }
        let recording = self.recording.map(|(sid, consent)| Recording { sid, consent });
        let (account, call) = (self.account.sid, self.sid);
        let open = self.open_resumed(Open { session: id, account, call, recording, legs });
        cx.ask_relay(&relay, self.key, RelayStep::Move(MoveStep::Open, id), open);
    }

    /// What the relay made of a step of the move to this session.
    pub(super) fn move_outcome(
        &mut self,
        cx: &mut Context,
        step: MoveStep,
        session: SessionId,
        outcome: Outcome,
    ) {
        // Of one that was given up the close is on its way.
        if !self.moves_to(session) || self.ending.is_some() {
            return;
        }
        match (step, outcome) {
            (MoveStep::Open, Outcome::Done(locals)) => self.opened_elsewhere(cx, locals),
            (MoveStep::Remote { .. }, Outcome::Done(_)) => {}
            (MoveStep::Join, Outcome::Done(_)) => self.moved(cx),
            (MoveStep::Remote { leg }, Outcome::Refused(Refusal::BadRemote(_))) => {
                self.side_refused(cx, leg, 488);
            }
            (_, Outcome::Refused(refusal)) => {
                cx.counters.relay_refusals += 1;
                let to = self.moving.as_ref().and_then(|it| it.to.as_ref());
                if let (Some(to), Refusal::Draining) = (to, &refusal) {
                    cx.relays.drain(&to.relay, true);
                }
                self.move_again(cx);
            }
            (_, Outcome::Closed { .. } | Outcome::Adopted(_) | Outcome::TakenOver(_)) => {
                self.move_again(cx)
            }
        }
    }

    pub(super) fn moves_to(&self, session: SessionId) -> bool {
        let to = self.moving.as_ref().and_then(|it| it.to.as_ref());
        to.is_some_and(|to| to.id == session)
    }

    fn opened_elsewhere(&mut self, cx: &mut Context, locals: Vec<(LegId, LegLocal)>) {
        let Some(moving) = self.moving.as_mut() else { return };
        for (id, local) in locals {
            let leg = self.legs.iter().position(|it| it.relay_leg == id);
            if let Some(side) = moving.sides.iter_mut().find(|side| Some(side.leg) == leg) {
                let relay = moving.to.as_ref().map(|to| &to.relay);
                side.media.stream = relay.and_then(|it| cx.relays.stream_beside(it, local.rtp));
                side.media.local = Some(local);
            }
        }
        moving.stage = Stage::Asking;
        self.press_on(cx);
    }

    /// Both sides have agreed to where the call goes: it is there.
    fn moved(&mut self, cx: &mut Context) {
        let Some(mut moving) = self.moving.take() else { return };
        moving.make_room(cx);
        let Some(to) = moving.to else { return };
        let Some(from) = self.session.replace(to.clone()) else { return };
        self.depart(cx, &from);
        for side in moving.sides {
            if let Some(leg) = self.legs.get_mut(side.leg) {
                leg.media = Some(side.media);
            }
        }
        self.keys.go_on_with(moving.keys);
        self.is_joined = self.winner.is_some();
        cx.counters.calls_moved += 1;
        let (from, to) = (from.relay, to.relay);
        self.journal(cx, Step::Moved { from: from.clone(), to: to.clone() });
        self.keep(cx);
        cx.log(Log::CallMoved { call: self.sid, from, to });
        // What one side agreed to may be news to the other.
        self.align(cx, A);
        if let Some(other) = self.other(A) {
            self.align(cx, other);
        }
        self.leave_if_draining(cx);
    }

    /// The former session is closed, and its figures are waited for; of a dead
    /// relay those that it told last count.
    fn depart(&mut self, cx: &mut Context, from: &Session) {
        let legs = self.legs.iter_mut();
        let counted = legs.filter_map(|leg| Some((leg.relay_leg, leg.counted.take()?))).collect();
        let is_awaited = match from.lost {
            true => {
                cx.relays.left_behind(&from.relay, from.id, self.key);
                cx.relays.end(&from.relay, from.id);
                false
            }
            false => cx.leave_session(&from.relay, from.id, self.key),
        };
        let (session, relay) = (from.id, from.relay.clone());
        self.departed.push(Departed { session, relay, counted, is_awaited });
        if self.departed.len() > DEPARTED {
            let first = self.departed.remove(0);
            self.add_figures(first.counted);
        }
    }

    /// This attempt comes to nothing, and another is made.
    pub(super) fn move_again(&mut self, cx: &mut Context) {
        if self.moving.is_none() {
            return;
        }
        cx.counters.moves_repeated += 1;
        self.give_up_attempt(cx);
        if self.is_adrift() {
            self.set_adrift(cx);
        }
        self.want_move_later(cx);
    }

    /// Gives the session on the other relay back. Sides that heard of it have
    /// to be told of yet another.
    pub(super) fn give_up_attempt(&mut self, cx: &mut Context) {
        let Some(mut moving) = self.moving.take() else { return };
        moving.make_room(cx);
        for side in moving.sides.drain(..) {
            moving.strayed |= side.client.is_some();
            // A phone that took it and says no more would hold up the next.
            if let (SideStep::Asked, Some(client)) = (side.step, side.client) {
                cx.cancel(client, None);
            }
            if let Some(media) = self.legs.get_mut(side.leg).and_then(|it| it.media.as_mut()) {
                media.count_on_from(side.media);
            }
        }
        let tried = std::mem::take(&mut moving.keys);
        match self.session.as_ref().is_some_and(|it| !it.lost) {
            // Sides that went there come back to the keys they had here.
            true => self.keys.add_sent(&tried),
            false => self.keys.go_on_with(tried),
        }
        if let Some(to) = moving.to.take() {
            match to.lost {
                true => cx.relays.end(&to.relay, to.id),
                false => drop(cx.leave_session(&to.relay, to.id, self.key)),
            }
            moving.tried.push(to.relay);
        }
        moving.stage = Stage::Waiting;
        self.moving = Some(moving);
    }

    /// It takes long: the next may begin.
    pub(crate) fn move_is_slow(&mut self, cx: &mut Context, session: SessionId) {
        if self.moves_to(session)
            && let Some(moving) = self.moving.as_mut()
        {
            moving.make_room(cx);
        }
    }

    /// At least one side sends to where nobody is.
    fn is_adrift(&self) -> bool {
        self.session.as_ref().is_some_and(|it| it.lost)
            || self.moving.as_ref().is_some_and(|it| it.strayed)
    }

    /// Whether the media are between two relays: neither side may change them.
    pub(super) fn is_between_relays(&self) -> bool {
        self.is_adrift() || self.moving.as_ref().is_some_and(|it| it.stage != Stage::Waiting)
    }

    fn set_adrift(&self, cx: &mut Context) {
        let Some(session) = &self.session else { return };
        let timer = Timer::Call(self.key, CallTimer::Adrift(session.id));
        cx.timers.set(cx.now.instant + cx.config.timers.adrift, timer);
    }

    /// No relay took the call for so long that nobody will be on the line.
    pub(crate) fn adrift_for_long(&mut self, cx: &mut Context, session: SessionId) {
        let is_same = self.session.as_ref().is_some_and(|it| it.id == session);
        let stage = self.moving.as_ref().map(|it| it.stage);
        if !is_same || !self.is_adrift() || !matches!(stage, Some(Stage::Waiting | Stage::Opening))
        {
            return;
        }
        cx.counters.calls_adrift += 1;
        cx.log(Log::CallAdrift { call: self.sid });
        // The media ran until the relay was lost, as far as anybody can tell.
        self.lost_at = self.lost_before(session);
        self.end(cx, Ending::relay_lost());
    }

    /// The call ends in the middle of it.
    pub(super) fn drop_move(&mut self, cx: &mut Context) {
        self.give_up_attempt(cx);
        self.moving = None;
    }

    /// What joins both sides on the relay that the call moves to. The streams'
    /// names are new there: under a former key its keystream would be used twice,
    /// and phones disagree on how sequence numbers that have wrapped go on under
    /// a new one. Each relay's part of the recording has a number of its own,
    /// used once.
    pub(super) fn join_elsewhere(&mut self, other: usize) -> Vec<Op> {
        let id = |leg: usize| self.legs.get(leg).map(|it| it.relay_leg);
        let (Some(a), Some(b)) = (id(A), id(other)) else { return Vec::new() };
        let mut ops = vec![Op::Renew(a), Op::Renew(b), Op::Join(a, b)];
        let sides = self.moving.as_ref().map_or(&[][..], |it| &it.sides);
        if let [one, two] = sides
            && let (Some(of_one), Some(of_two)) = (id(one.leg), id(two.leg))
        {
            ops.extend(speak((of_one, &one.media), (of_two, &two.media)));
        }
        ops.extend(self.key_ops(A, other));
        ops.extend(self.music_again());
        if self.recording.is_some() {
            self.segments = self.segments.saturating_add(1);
            ops.push(Op::Continue(self.segments));
        }
        ops
    }
}
