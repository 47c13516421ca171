//! A party that waits until somebody takes it (RFC 5359 §2.15): it was referred
//! to a number of the account, and is in a call of its own with nobody else.
//!
//! Taking it is taking a call that rings: see [`super::pickup`].

use landline_control::{Direction, Op, Request as RelayRequest};
use landline_sip::Method;

use super::music::hears_music;
use super::transfer::Word;
use super::{A, Call, Ending, Leg, Phase};
use crate::calls::CallKey;
use crate::context::{ClientUse, Context};
use crate::negotiate::Terms;
use crate::record::{CallDirection, Cause};
use crate::relays::RelayStep;
use crate::route::Side;
use crate::timers::{CallTimer, Timer};

#[derive(Debug)]
pub(super) struct Parked {
    slot: u16,
    step: ParkStep,
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
        Self { slot, step: ParkStep::Coming }
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
        let deadline = cx.now.instant + cx.config.timers.parked;
        let timer = CallTimer::NoAnswer(self.group);
        cx.timers.set(deadline, Timer::Call(self.key, timer));
        self.gather(cx);
    }

    /// It is to be quiet, and hears what there is to hear.
    pub(super) fn terms_of_parked(&self, leg: usize) -> Option<Terms> {
        let agreed = self.legs.get(leg)?.media.as_ref()?.agreed.as_ref()?;
        let terms = self.terms_of(&agreed.peer);
        Some(Terms { direction: Direction::SendOnly, ..terms })
    }

    /// It is here and has agreed to wait.
    pub(super) fn parked_here(&mut self, cx: &mut Context) {
        let Some(parked) = &mut self.parked else { return };
        parked.step = ParkStep::Waits;
        let code = cx.slot_code(parked.slot);
        cx.counters.calls_parked += 1;
        // Whoever waits hears what those on hold hear, until somebody talks to it.
        let hears = |it: &&Leg| hears_music(&self.account, &it.side);
        self.music = self.legs.first().filter(hears).map(|it| it.relay_leg);
        let ops: Vec<Op> = self.remote_ops(A).into_iter().chain(self.music_again()).collect();
        if let Some(session) = self.session.clone() {
            let change = RelayRequest::Change(session.id, ops);
            cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
        }
        for from in self.guests_stay() {
            self.tell(cx, from, Word::Parked(code.clone()));
        }
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

    /// Nobody took it in time: it rings where it came from.
    pub(super) fn recall(&mut self, cx: &mut Context) {
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
