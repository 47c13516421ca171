//! A party that waits until somebody takes it (RFC 5359 §2.15): it was referred
//! to a number of the account, and is in a call of its own with nobody else.
//!
//! Taking it is taking a call that rings: see [`super::pickup`].

use std::time::Duration;

use landline_control::{Direction, Op};
use landline_region::UnixMillis;
use landline_sip::Method;

use super::leg::LegState;
use super::transfer::Word;
use super::{A, Call, Ending, Phase};
use crate::calls::CallKey;
use crate::context::{ClientUse, Context};
use crate::negotiate::{Description, Terms};
use crate::record::{CallDirection, Cause};
use crate::route::Side;
use crate::timers::{CallTimer, Timer};

/// How long until it rings once it can.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Parked {
    slot: u16,
    step: ParkStep,
    /// Then it rings where it came from.
    until: UnixMillis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParkStep {
    /// The party comes over.
    Coming,
    Waits,
    /// Nobody took it, and whoever parked it is rung.
    Recalled,
}

impl Parked {
    pub(super) fn at(slot: u16) -> Self {
        Self { slot, step: ParkStep::Coming, until: UnixMillis(0) }
    }

    /// A former process, or another one, had it.
    pub(super) fn again(slot: u16, until: UnixMillis) -> Self {
        Self { slot, step: ParkStep::Waits, until }
    }

    pub(super) fn kept(&self) -> (u16, UnixMillis) {
        (self.slot, self.until)
    }
}

impl Call {
    fn park_step(&self) -> Option<ParkStep> {
        let step = self.parked.as_ref()?.step;
        (self.winner.is_none() && self.ending.is_none()).then_some(step)
    }

    pub(super) fn is_being_parked(&self) -> bool {
        self.phase == Phase::Ringing && self.park_step() == Some(ParkStep::Coming)
    }

    /// Nobody is rung.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self.park_step(), Some(ParkStep::Coming | ParkStep::Waits))
    }

    /// Its party is here, alone, and listens until somebody comes: a call that is
    /// kept, refreshed and moved as one that is up.
    pub(super) fn waits(&self) -> bool {
        let is_here = matches!(self.park_step(), Some(ParkStep::Waits | ParkStep::Recalled));
        is_here && self.phase == Phase::Ringing
    }

    /// Whoever is here has had his answer, and changes what was agreed by offers.
    pub(super) fn stands(&self) -> bool {
        self.phase == Phase::Up || self.waits() && !self.is_being_taken()
    }

    /// An INVITE of somebody who takes it is under way.
    fn is_being_taken(&self) -> bool {
        let mut legs = self.legs.iter();
        legs.any(|it| it.state == LegState::Early && it.incoming().is_some_and(|it| it.picks_up))
    }

    /// It can go to another relay: nobody rings who would have to be told.
    pub(super) fn may_wait_elsewhere(&self) -> bool {
        self.waits() && self.is_parked() && !self.is_being_taken()
    }

    /// The number that nobody else may wait under.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.park_step().and(self.parked.as_ref()).map(|it| it.slot)
    }

    /// The number by which it can be taken.
    pub(crate) fn waits_at(&self) -> Option<u16> {
        let step = self.park_step()?;
        self.slot().filter(|_| step != ParkStep::Coming)
    }

    /// The relay made a leg for it: it may come.
    pub(super) fn park(&mut self, cx: &mut Context) {
        let patience = cx.config.timers.parked;
        let until = self.now(cx).plus(patience);
        if let Some(parked) = &mut self.parked {
            parked.until = until;
        }
        self.recall_in(cx, patience);
        self.gather(cx);
    }

    /// It is to be quiet, and hears what there is to hear.
    pub(super) fn terms_of_parked(&self, leg: usize) -> Option<Terms> {
        let agreed = self.legs.get(leg)?.media.as_ref()?.agreed.as_ref()?;
        let terms = self.terms_of(&agreed.peer);
        Some(Terms { direction: Direction::SendOnly, ..terms })
    }

    fn recall_in(&self, cx: &mut Context, wait: Duration) {
        let timer = CallTimer::NoAnswer(self.group);
        cx.timers.set(cx.now.instant + wait, Timer::Call(self.key, timer));
    }

    /// It waited with another process already.
    pub(super) fn wait_on(&mut self, cx: &mut Context) {
        let until = self.parked.as_ref().map_or(0, |it| it.until.0);
        let left = until.saturating_sub(self.now(cx).0);
        self.recall_in(cx, Duration::from_millis(u64::try_from(left).unwrap_or(0)));
        self.watch_sessions(cx);
    }

    /// What it says of itself, it is answered to by itself: it is to be quiet.
    pub(super) fn terms_of_waiting(&self, offer: &Description) -> Terms {
        Terms { direction: Direction::SendOnly, video: None, ..self.terms_of(offer) }
    }

    /// It is here and has agreed to wait.
    pub(super) fn parked_here(&mut self, cx: &mut Context) {
        let Some(parked) = &mut self.parked else { return };
        parked.step = ParkStep::Waits;
        let code = cx.slot_code(parked.slot);
        cx.counters.calls_parked += 1;
        let ops = self.remote_ops(A).into_iter().chain(self.music_ops()).collect();
        self.have_relay(cx, ops);
        for from in self.guests_stay() {
            self.tell(cx, from, Word::Parked(code.clone()));
        }
        self.watch_sessions(cx);
        self.keep(cx);
        self.leave_if_draining(cx);
    }

    /// What makes it wait on the relay that it moves to.
    pub(super) fn wait_elsewhere(&self) -> Vec<Op> {
        let Some(it) = self.legs.first() else { return Vec::new() };
        // Its streams' names are new there: see `join_elsewhere`.
        [Op::Renew(it.relay_leg)].into_iter().chain(self.music_again()).collect()
    }

    /// Its relay is gone, and with it what rings or takes the call; once it is
    /// elsewhere it rings again.
    pub(super) fn wait_without_relay(&mut self, cx: &mut Context) {
        let Some(parked) = &mut self.parked else { return };
        let was_recalled = std::mem::replace(&mut parked.step, ParkStep::Waits);
        self.ring_no_more(cx, None);
        if was_recalled == ParkStep::Recalled {
            self.group = self.group.saturating_add(1);
            self.recall_in(cx, AGAIN);
        }
        self.session_lost(cx);
    }

    /// To the call that the party came from: who sent it there is told where it is.
    pub(super) fn parked_elsewhere(&mut self, cx: &mut Context, to: CallKey, code: &str) {
        let key = self.key;
        let by = self.departing.as_ref().filter(|it| it.to == to).map(|it| it.by());
        let told = by.and_then(|leg| {
            let it = self.legs.get_mut(leg)?;
            let mut message = it.dialog.as_mut()?.request(Method::Message);
            message.set_body("text/plain", format!("Parked at {code}"));
            Some((leg, message, it.destination(cx)?))
        });
        if let Some((leg, message, destination)) = told {
            cx.send(ClientUse::Pass { call: key, leg }, message, destination);
        }
        self.transferred(cx, to);
    }

    /// Nobody took it in time: it rings where it came from, by the relay that it
    /// is on.
    pub(super) fn recall(&mut self, cx: &mut Context) {
        if self.awaits_adoption() || self.is_between_relays() {
            return self.recall_in(cx, AGAIN);
        }
        let Some(parked) = &mut self.parked else { return };
        parked.step = ParkStep::Recalled;
        cx.counters.calls_recalled += 1;
        let account = self.account.clone();
        let route = match &self.caller {
            Side::User(user) => cx.reach(&account, user, CallDirection::Internal, &[]).ok(),
            Side::Trunk(_) | Side::Region(_) => None,
        };
        match route {
            Some(route) => {
                self.follow(route);
                self.ring_next(cx);
            }
            None => self.end(cx, Ending::new(Cause::NoAnswer, 480)),
        }
    }
}
