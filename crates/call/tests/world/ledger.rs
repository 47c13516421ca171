//! What was journaled, and whether it holds together.

use std::collections::BTreeMap;

use landline_call::Snapshot;
use landline_call::record::{CallEvent, Cause, Closed, LegRole, Opened, Party, Step};
use landline_region::{CallSid, LegSid, UnixMillis};

#[derive(Default)]
pub struct Ledger {
    pub events: Vec<CallEvent>,
    /// The store ends them with their call.
    lost_legs: Vec<LegSid>,
}

impl Ledger {
    /// Sequences count from 0, with gaps only where another proxy takes the call,
    /// from Opened to one Closed.
    /// What a proxy that takes a call brings along is known by its number.
    pub fn append(&mut self, event: CallEvent) {
        if self.events.contains(&event) {
            return;
        }
        let former: Vec<_> = self.of(event.call).collect();
        let next = former.last().map_or(0, |last| last.sequence + 1);
        match event.step {
            Step::TakenOver { .. } => assert!(event.sequence >= next, "{} goes back", event.call),
            _ => assert_eq!(event.sequence, next, "a gap in {}", event.call),
        }
        match &event.step {
            Step::Opened(_) => assert!(former.is_empty()),
            _ => assert!(!former.is_empty(), "{} begins without Opened", event.call),
        }
        let closed = former.iter().any(|it| matches!(it.step, Step::Closed(_)));
        assert!(!closed, "{} goes on after Closed: {:?}", event.call, event.step);
        self.events.push(event);
    }

    /// What the ledger's recovery does: every open call that is not kept is
    /// closed. Gives how many.
    pub fn close_lost(&mut self, kept: &BTreeMap<CallSid, Snapshot>, at: UnixMillis) -> u64 {
        let open = |call: &CallSid| self.closed(*call).is_none() && !kept.contains_key(call);
        let lost: Vec<_> = self.calls().into_iter().filter(open).collect();
        for call in &lost {
            let last = self.of(*call).last().expect("an event").clone();
            let closed = Closed {
                cause: Cause::Lost,
                sip_status: 0,
                relay: None,
                media_region: None,
                recorded: None,
            };
            let (sequence, step) = (last.sequence + 1, Step::Closed(closed));
            let mut legs: BTreeMap<_, CallEvent> = BTreeMap::new();
            for event in self.of(*call) {
                if let Step::LegOpened(leg) = &event.step {
                    legs.insert(leg.leg, event.clone());
                }
            }
            self.lost_legs.extend(legs.into_keys());
            self.append(CallEvent { sequence, at, step, ..last });
        }
        lost.len() as u64
    }

    pub fn of(&self, call: CallSid) -> impl Iterator<Item = &CallEvent> {
        self.events.iter().filter(move |it| it.call == call)
    }

    pub fn calls(&self) -> Vec<CallSid> {
        let opened = self.events.iter().filter(|it| matches!(it.step, Step::Opened(_)));
        opened.map(|it| it.call).collect()
    }

    pub fn opened(&self, call: CallSid) -> &Opened {
        let opened = self.of(call).find_map(|it| match &it.step {
            Step::Opened(opened) => Some(opened),
            _ => None,
        });
        opened.expect("opened")
    }

    pub fn closed(&self, call: CallSid) -> Option<&Closed> {
        self.of(call).find_map(|it| match &it.step {
            Step::Closed(closed) => Some(closed),
            _ => None,
        })
    }

    /// Of the calls in the order they were opened.
    pub fn causes(&self) -> Vec<&'static str> {
        let of = |call: CallSid| self.closed(call).map_or("open", |it| it.cause.name());
        self.calls().into_iter().map(of).collect()
    }

    /// Of the call's legs, in the order they were opened.
    pub fn parties(&self, call: CallSid) -> Vec<(LegRole, Party)> {
        let legs = self.of(call).filter_map(|it| match &it.step {
            Step::LegOpened(leg) => Some((leg.role, leg.party)),
            _ => None,
        });
        legs.collect()
    }

    /// Cause, status, B legs and whether it rang and was answered, of the last
    /// call.
    pub fn last(&self) -> Summary {
        let call = *self.calls().last().expect("a call");
        let count = |wanted: fn(&Step) -> bool| self.of(call).filter(|it| wanted(&it.step)).count();
        let closed = self.closed(call);
        Summary {
            cause: closed.map_or("open", |it| it.cause.name()),
            status: closed.map_or(0, |it| it.sip_status),
            b_legs: count(|it| matches!(it, Step::LegOpened(leg) if leg.role == LegRole::B)),
            rang: count(|it| matches!(it, Step::Ringing)) == 1,
            answered: count(|it| matches!(it, Step::Answered { .. })) == 1,
        }
    }

    pub fn assert_closed(&self) {
        for call in self.calls() {
            let mut legs: BTreeMap<_, i32> = BTreeMap::new();
            for event in self.of(call) {
                match &event.step {
                    Step::LegOpened(it) => *legs.entry(it.leg).or_default() += 1,
                    Step::LegClosed(it) => *legs.entry(it.leg).or_default() -= 1,
                    _ => {}
                }
            }
            assert!(self.closed(call).is_some(), "{call} is open");
            legs.retain(|leg, _| !self.lost_legs.contains(leg));
            assert!(legs.values().all(|it| *it == 0), "{call}: a leg is open or closed twice");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub cause: &'static str,
    pub status: u16,
    pub b_legs: usize,
    pub rang: bool,
    pub answered: bool,
}
