//! The call's record, step by step.

use landline_region::Personal;

use super::{Call, Phase};
use crate::context::Context;
use crate::diversion::Diversion;
use crate::io::{JournalToken, Log, Output};
use crate::record::{CallEvent, Closed, LegClosed, LegOpened, Step};
use crate::route::Reach;
use crate::timers::Timer;

impl Call {
    pub(super) fn journal(&mut self, cx: &mut Context, step: Step) {
        let event = CallEvent {
            call: self.sid,
            account: self.account.sid,
            sequence: self.sequence,
            at: self.lost_at.unwrap_or_else(|| self.now(cx)),
            step,
        };
        self.sequence += 1;
        // What belongs together is written together.
        match cx.out.back_mut() {
            Some(Output::Journal { token: None, events, state: None })
                if events.first().is_some_and(|first| first.call == self.sid) =>
            {
                events.push(event);
            }
            _ => {
                let journal = Output::Journal { token: None, events: vec![event], state: None };
                cx.out.push_back(journal);
            }
        }
        // Who rings for it, or tried to take it, belongs to what is kept.
        if self.waits() {
            self.keep(cx);
        }
    }

    /// Waits until what was last journaled, and all before it, is on disk; not
    /// longer than until somebody else would give up.
    pub(super) fn await_journal(&self, cx: &mut Context) {
        let awaited = JournalToken(cx.next_token());
        let Some(Output::Journal { token: token @ None, .. }) = cx.out.back_mut() else { return };
        *token = Some(awaited);
        cx.journal.insert(awaited, self.key);
        let deadline = cx.now.instant + cx.config.timers.journal;
        cx.timers.set(deadline, Timer::Journal(awaited));
    }

    /// The leg exists from now on, for the record.
    pub(super) fn record_leg(&mut self, cx: &mut Context, leg: usize, sip_call_id: String) {
        let Some(it) = self.legs.get_mut(leg).filter(|it| !it.is_recorded) else { return };
        it.is_recorded = true;
        let opened = LegOpened {
            leg: it.sid,
            role: it.role(),
            party: it.party(),
            sip_call_id: Personal::new(sip_call_id),
            media: it.media.as_ref().map(|media| media.spec.protocol),
        };
        cx.counters.legs_opened += 1;
        let diverted = it.stead().and_then(|stead| stead.past.last()).cloned();
        let leg_sid = it.sid;
        self.journal(cx, Step::LegOpened(opened));
        if let Some(Diversion { by, why }) = diverted {
            self.journal(cx, Step::LegDiverted { leg: leg_sid, by: by.sid, reason: why });
        }
        self.record_edge(cx, leg);
    }

    /// Which other region's proxies a user's leg goes by, if the record does not
    /// say so yet: what left the region follows from it.
    pub(crate) fn record_edge(&mut self, cx: &mut Context, leg: usize) {
        let Some(it) = self.legs.get_mut(leg).filter(|it| it.is_recorded) else { return };
        let Reach::Region(edge, _) = it.reach else { return };
        if it.side.is_region() || edge == cx.config.region || it.edges.contains(&edge) {
            return;
        }
        it.edges.push(edge);
        let leg = it.sid;
        self.journal(cx, Step::LegByEdge { leg, edge });
    }

    pub(super) fn record_ringing(&mut self, cx: &mut Context) {
        if !self.rang {
            self.rang = true;
            self.journal(cx, Step::Ringing);
        }
    }

    /// Closes the record: the one place where that is done.
    pub(super) fn record_closed(&mut self, cx: &mut Context) {
        let Some(ending) = self.ending.clone() else { return };
        self.total_figures();
        self.close_mailbox(cx);
        let closed_legs: Vec<_> = self
            .legs
            .iter()
            .filter(|leg| leg.is_recorded)
            .map(|leg| LegClosed { leg: leg.sid, sip_status: leg.status, stats: leg.stats.clone() })
            .collect();
        for closed in closed_legs {
            self.journal(cx, Step::LegClosed(closed));
        }
        let closed = Closed {
            cause: ending.cause,
            sip_status: ending.caller_status,
            relay: self.session.as_ref().map(|session| session.relay.clone()),
            media_region: self.session.as_ref().map(|_| cx.config.region),
            recorded: self.recorded,
        };
        self.journal(cx, Step::Closed(closed));
        if self.farewell.is_some() {
            self.await_journal(cx);
        }
        self.phase = Phase::Closed;
        cx.counters.calls_closed += 1;
        cx.usage.remove(self.account.sid, self.caller.sid());
        cx.log(Log::CallClosed {
            call: self.sid,
            cause: ending.cause,
            sip_status: ending.caller_status,
        });
    }
}
