//! A call that waits for devices to wake up (RFC 8599 §5.6.2): the caller hears
//! nothing until one of them rings, and whoever else is there rings meanwhile.

use landline_region::UserSid;

use super::{Call, Failure};
use crate::context::Context;
use crate::diversion::Diversion;
use crate::io::Output;
use crate::push::{Sleeper, Wake};
use crate::route::Route;
use crate::tenancy::User;
use crate::timers::{CallTimer, Timer};

impl Call {
    /// From here on the call leads there.
    pub(super) fn follow(&mut self, route: Route) {
        self.groups = route.groups;
        self.sleepers = route.sleepers;
        self.mailed_to = route.mailbox.map(|it| (it.user, Failure::of(it.refusal)));
    }

    /// Has those that sleep woken, each once. True while any is waited for.
    pub(super) fn waits_for_sleepers(&mut self, cx: &mut Context) -> bool {
        let uncalled: Vec<Sleeper> =
            self.sleepers.iter().filter(|it| !it.is_called).cloned().collect();
        for sleeper in &mut self.sleepers {
            sleeper.is_called = true;
        }
        if !uncalled.is_empty() {
            let at = cx.now.instant + self.ring_time(cx);
            cx.timers.set(at, Timer::Call(self.key, CallTimer::NoAnswer(self.group)));
        }
        for Sleeper { user, target, .. } in uncalled {
            cx.counters.wakes_asked += 1;
            let waiting = cx.sleepers.entry(user.sid).or_default();
            if !waiting.contains(&self.key) {
                waiting.push(self.key);
            }
            let (region, account) = (cx.config.region, self.account.sid);
            let wake = Wake { region, account, call: self.sid, target };
            cx.out.push_back(Output::Wake(wake));
        }
        !self.sleepers.is_empty()
    }

    /// The user has registered: it may be a device that this waits for.
    pub(crate) fn woken(&mut self, cx: &mut Context, user: UserSid) {
        if !self.is_ringing() || self.winner.is_some() {
            return;
        }
        let mut there = Vec::new();
        let account = self.account.clone();
        self.sleepers.retain(|it| {
            let target = (it.user.sid == user).then(|| cx.woken(&account, it)).flatten();
            let sleeps_on = target.is_none();
            there.extend(target);
            sleeps_on
        });
        if self.sleepers.iter().any(|it| it.user.sid == user) {
            cx.sleepers.entry(user).or_default().push(self.key);
        }
        if !there.is_empty() {
            cx.counters.wakes_answered += 1;
            self.groups.push_front(there);
            self.ring_next(cx);
        }
    }

    /// Whose device was waited for in vain.
    pub(super) fn slept(&self) -> Option<(std::sync::Arc<User>, Vec<Diversion>)> {
        let sleeper = self.sleepers.last()?;
        let past = sleeper.stead.as_ref().map_or_else(Vec::new, |stead| stead.past.clone());
        Some((sleeper.user.clone(), past))
    }

    pub(super) fn forget_sleepers(&mut self, cx: &mut Context) {
        for sleeper in self.sleepers.drain(..) {
            if let Some(waiting) = cx.sleepers.get_mut(&sleeper.user.sid) {
                waiting.retain(|key| *key != self.key);
                if waiting.is_empty() {
                    cx.sleepers.remove(&sleeper.user.sid);
                }
            }
        }
    }
}
