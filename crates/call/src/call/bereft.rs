//! A call that was taken up and whose relay has its session no more: it died
//! together with the proxy, say.
//!
//! It goes to another relay, as if its own had died before our eyes, if it is
//! sure that no other proxy has it: a relay's process that lives and knows
//! nothing of the session has closed it, for somebody who may write its end.

use std::time::Duration;

use landline_control::SessionId;
use landline_region::UnixMillis;
use landline_sip::{Request, ServerKey};

use super::restored::Adoption;
use super::snapshot::UNKNOWN;
use super::{A, Call, Ending};
use crate::context::Context;
use crate::restore::Former;
use crate::timers::{CallTimer, Timer};

/// How long phones hear nothing before nobody is there any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// A caller whose former proxy lived so long after the answer has had its 200,
/// and that proxy its ACK.
const CONFIRMED: Duration = Duration::from_secs(4);
/// A relay that is there is linked in a quarter of the time that it has.
const SOON: u32 = 4;

impl Call {
    /// From now on its relay is waited for.
    pub(super) fn await_relay(&mut self, cx: &mut Context) {
        let patience = cx.config.timers.adopt;
        if let Some(restored) = &mut self.restored {
            restored.deadline = Some(cx.now.instant + patience);
        }
        let soon = cx.now.instant + patience / SOON;
        cx.timers.set(soon, Timer::Call(self.key, CallTimer::Adopt));
    }

    /// Its relay has not said anything yet. Where another is, and its own is not,
    /// nobody waits any longer.
    pub(crate) fn adoption_overdue(&mut self, cx: &mut Context) {
        if !self.awaits_adoption() {
            return;
        }
        let deadline = self.restored.as_ref().and_then(|it| it.deadline);
        let Some(deadline) = deadline.filter(|at| *at > cx.now.instant) else {
            return self.not_adopted(cx);
        };
        if !self.is_own_relay_there(cx) && self.relayless_since(cx).is_some() {
            self.not_adopted(cx);
        }
        if self.awaits_adoption() {
            let next = cx.now.instant + cx.config.timers.adopt / SOON;
            cx.timers.set(next.min(deadline), Timer::Call(self.key, CallTimer::Adopt));
        }
    }

    /// Its relay has the session no more, or is silent.
    pub(crate) fn not_adopted(&mut self, cx: &mut Context) {
        if !self.awaits_adoption() {
            return;
        }
        let relayless_since = self.relayless_since(cx);
        let Some(restored) = self.restored.as_mut() else { return };
        let former = restored.former;
        let has_time = restored.deadline.is_some_and(|at| at > cx.now.instant);
        if matches!(former, Former::Peer { lives: true, .. }) && has_time && self.ending.is_none() {
            restored.adoption = Adoption::Doubted;
            return;
        }
        restored.adoption = Adoption::Done;
        let held = std::mem::take(&mut restored.held);
        if let Some(since) = relayless_since {
            return self.go_elsewhere(cx, since, held);
        }
        self.drop_held(cx, held);
        let Some(proven_until) = self.proven_until() else { return drop(self.taken(cx)) };
        if self.ending.is_some() {
            return self.close(cx);
        }
        self.lost_at = Some(proven_until);
        self.end(cx, Ending::relay_lost());
    }

    /// Taken from a proxy that may have it still: with another relay, since ours
    /// did not give it to us.
    pub(crate) fn may_be_anothers(&self, cx: &Context) -> bool {
        let Some(restored) = &self.restored else { return false };
        let is_open = self.ending.is_none() && matches!(restored.former, Former::Peer { .. });
        is_open
            && match restored.adoption {
                Adoption::Wanted => !self.is_own_relay_there(cx),
                Adoption::Doubted => true,
                Adoption::Done => false,
            }
    }

    fn is_own_relay_there(&self, cx: &Context) -> bool {
        self.session.as_ref().is_some_and(|it| cx.relays.is_connected(&it.relay))
    }

    /// The call was up until then at least; it is another's to say if we had let
    /// it go.
    fn proven_until(&self) -> Option<UnixMillis> {
        let restored = self.restored.as_ref()?;
        match restored.former {
            Former::Run { proven_until } | Former::Peer { proven_until, .. } => {
                Some(proven_until.max(restored.kept_at))
            }
            Former::LetGo => None,
        }
    }

    /// Since when the call is without its relay's process, if that is gone, and
    /// another may take the call before its phones give up.
    fn relayless_since(&self, cx: &Context) -> Option<UnixMillis> {
        let since = self.proven_until()?;
        let session = self.session.as_ref()?;
        let present = cx.relays.incarnation(&session.relay);
        let is_gone = !self.is_own_relay_there(cx)
            || session.incarnation != UNKNOWN && session.incarnation != present;
        let silent = cx.now.unix.0.saturating_sub(since.0);
        let is_fresh = silent < i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX);
        let may_go = self.stands() && self.ending.is_none();
        let has_another = cx.relays.choose(&[]).is_some();
        (is_gone && is_fresh && may_go && has_another).then_some(since)
    }

    /// To another relay. If none takes it, the call was over when its own was last
    /// known to carry it.
    fn go_elsewhere(
        &mut self,
        cx: &mut Context,
        since: UnixMillis,
        held: Vec<(usize, ServerKey, Request)>,
    ) {
        if cx.config.has_peers {
            self.number_by_time(cx);
            self.record_taken_over(cx);
        }
        if let Some(session) = &mut self.session {
            // Should that process come back, it is not asked for it any more.
            (session.lost, session.incarnation) = (true, UNKNOWN);
            if let Some(restored) = &mut self.restored {
                restored.lost = Some((session.id, since));
            }
        }
        let former = self.answered_at.map_or(0, |at| since.0.saturating_sub(at.0));
        if former > i64::try_from(CONFIRMED.as_millis()).unwrap_or(i64::MAX) {
            self.has_heard_answer(cx, A);
        }
        self.session_lost(cx);
        for (leg, key, request) in held {
            self.modify(cx, leg, key, request);
        }
    }

    /// Since when this session was lost, if nobody here saw it.
    pub(super) fn lost_before(&self, session: SessionId) -> Option<UnixMillis> {
        let (lost, since) = self.restored.as_ref()?.lost?;
        (lost == session).then_some(since)
    }
}
