//! Music for who is on hold (RFC 5359 §2.3): the relay plays it, unless the phone
//! that holds has something to say itself.

use landline_control::{LegId, Op, Play, Request as RelayRequest};

use super::{A, Call};
use crate::context::Context;
use crate::negotiate::LegMedia;
use crate::relays::RelayStep;
use crate::route::Side;
use crate::tenancy::Account;

/// Whether who is on this side hears something of the account's on hold. Who is
/// behind another region's proxy is told of the hold, and hears what is played
/// there: no account's sound is heard, or recorded, in a region that is not its own.
pub(super) fn hears_music(account: &Account, side: &Side) -> bool {
    account.hold_sound().is_some() && !matches!(side, Side::Region(_))
}

impl Call {
    /// The relay's leg of who is on hold, and listens.
    pub(super) fn held(&self) -> Option<LegId> {
        let media = |leg: usize| self.legs.get(leg).and_then(|it| it.media.as_ref());
        if self.waits() {
            // It hears what those on hold hear, until somebody talks to it.
            let it = self.legs.first().filter(|_| media(A).is_some_and(LegMedia::listens))?;
            return hears_music(&self.account, &it.side).then_some(it.relay_leg);
        }
        let winner = self.winner?;
        let pairs = [(A, winner), (winner, A)];
        let (_, held) = pairs.into_iter().find(|(holder, held)| {
            media(*holder).is_some_and(LegMedia::holds)
                && media(*held).is_some_and(LegMedia::listens)
        })?;
        let held = self.legs.get(held)?;
        hears_music(&self.account, &held.side).then_some(held.relay_leg)
    }

    /// What the relay has to know after a change of what the sides agreed to.
    pub(super) fn music_ops(&mut self) -> Vec<Op> {
        let held = self.held();
        let former = std::mem::replace(&mut self.music, held);
        if former == held {
            return Vec::new();
        }
        // A leg that another took the place of has gone with what it heard.
        let is_there = |leg: &LegId| self.legs.iter().any(|it| it.relay_leg == *leg);
        let hush = former.filter(is_there).map(Op::Hush);
        hush.into_iter().chain(self.music_again()).collect()
    }

    /// For a relay that does not know of it yet.
    pub(super) fn music_again(&self) -> Option<Op> {
        let sounds = vec![self.account.hold_sound()?];
        Some(Op::Play(self.music?, Box::new(Play { sounds, repeats: true })))
    }

    /// For a relay that did what a former process asked for: nobody knows how much
    /// of it, and what is said twice changes nothing.
    pub(super) fn settle_music(&mut self, cx: &mut Context) {
        let Some(session) = self.session.clone() else { return };
        let legs = [Some(A), self.winner].into_iter().flatten();
        let legs = legs.filter_map(|leg| self.legs.get(leg)).map(|it| it.relay_leg);
        let hush = legs.filter(|leg| self.music != Some(*leg)).map(Op::Hush);
        let ops = hush.chain(self.music_again()).collect();
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
    }

    /// The leg's peer has put the other side on hold, and may be silent.
    pub(super) fn is_holding(&self, leg: LegId) -> bool {
        let leg = self.legs.iter().find(|it| it.relay_leg == leg);
        leg.and_then(|it| it.media.as_ref()).is_some_and(LegMedia::holds)
    }
}
