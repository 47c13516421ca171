//! What is known of a run while it goes on: who said what, what was promised,
//! what was done to whom. [`crate::check`] holds the end against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landline_call::record::{CallEvent, Step};
use landline_region::CallSid;

use crate::cx::Node;
use crate::phone::line::Person;
use crate::plan::Trouble;
use crate::tenants::{DOMAINS, NAMES};

/// Faults kept; one would do.
const MOST_FAULTS: usize = 8;

#[derive(Debug, Clone, serde::Serialize)]
pub struct Fault {
    /// The step of the trace to look at.
    pub step: u64,
    pub what: String,
}

/// Something that was done to a machine, and until when it told.
#[derive(Debug, Clone)]
pub struct Span {
    pub node: Node,
    pub trouble: Trouble,
    pub from: Duration,
    pub until: Duration,
}

#[derive(Default)]
pub struct Model {
    pub faults: Vec<Fault>,
    pub spans: Vec<Span>,
    /// What cores gave out, by proxy and call.
    stated: BTreeMap<(usize, CallSid), Stated>,
    /// What somebody was told to be on disk.
    pub promised: BTreeSet<(CallSid, u32)>,
    /// Which of that says that somebody took a call over: too late, once it is
    /// over.
    pub take_overs: BTreeSet<(CallSid, u32)>,
    /// The Call-IDs of legs that cores made.
    pub legs: BTreeMap<String, CallSid>,
    /// Calls that an administrator ended.
    pub ended_by_admin: BTreeSet<CallSid>,
    crossing: BTreeSet<Person>,
    /// Phones whose proxy is another region's.
    pub roams: BTreeSet<usize>,
    /// Who parked somebody, was parked or took somebody: whom they hear, and in
    /// which record, is not followed.
    pub parking: BTreeSet<Person>,
    /// Parties that were parked, and taken by somebody.
    pub parked: u64,
    pub taken: u64,
    last_line: u64,
    pub words_heard: u64,
    /// Messages that went from region to region.
    pub crossed: u64,
    pub proxy_deaths: u64,
    pub relay_deaths: u64,
    pub database_deaths: u64,
    pub struck: u64,
    /// Calls that another process took up.
    pub restored: u64,
    /// And such as another proxy did.
    pub taken_over: u64,
}

#[derive(Default)]
struct Stated {
    next: u32,
    is_closed: bool,
    /// A death may have taken some of it, and another process goes on.
    may_go_back: bool,
}

impl Model {
    pub fn fault(&mut self, step: u64, what: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { step, what });
        }
    }

    pub fn next_line(&mut self) -> u64 {
        self.last_line += 1;
        self.last_line
    }

    /// A core gives out a step of a record: from an opening to one end, without
    /// a gap. What is wrong with it, if anything.
    pub fn stated(&mut self, proxy: usize, events: &[CallEvent]) -> Option<String> {
        let mut wrong = None;
        let is_taken_over = events.iter().any(|it| matches!(it.step, Step::TakenOver { .. }));
        for event in events {
            if let Step::LegOpened(leg) = &event.step {
                self.legs.insert(leg.sip_call_id.expose().clone(), event.call);
            }
            let known = self.stated.entry((proxy, event.call)).or_default();
            // Who takes another's call over says its record again, and goes on
            // with a number that nobody used.
            let is_over = matches!(event.step, Step::TakenOver { .. });
            self.taken_over += u64::from(is_over);
            let is_said_again = event.sequence == 0 && is_taken_over;
            let back = std::mem::take(&mut known.may_go_back) && event.sequence <= known.next
                || is_over && event.sequence >= known.next
                || is_said_again;
            known.is_closed &= !back;
            if !back && (event.sequence != known.next || known.is_closed) {
                let (call, sequence) = (event.call, event.sequence);
                wrong = Some(format!("{call}: step {sequence} after {} steps", known.next));
            }
            known.next = event.sequence + 1;
            known.is_closed |= matches!(event.step, Step::Closed(_));
        }
        wrong
    }

    /// A sweep closes what a dead process left open: from what is on disk, which
    /// may be less than the process had said.
    pub fn swept(&mut self, proxy: usize, events: &[CallEvent]) {
        for event in events {
            let (next, is_closed) = (event.sequence + 1, true);
            let stated = Stated { next, is_closed, may_go_back: false };
            self.stated.insert((proxy, event.call), stated);
        }
    }

    /// What a proxy had said and nobody was promised may be gone with it.
    pub fn proxy_died(&mut self) {
        self.proxy_deaths += 1;
        self.stated.values_mut().for_each(|it| it.may_go_back = true);
    }

    pub fn journaled(&mut self, events: &[CallEvent]) {
        self.promised.extend(events.iter().map(|event| (event.call, event.sequence)));
        let over = |it: &&CallEvent| matches!(it.step, Step::TakenOver { .. });
        self.take_overs.extend(events.iter().filter(over).map(|it| (it.call, it.sequence)));
    }

    /// Has part in what crosses: roams, or talks with the other region.
    pub fn let_cross(&mut self, person: Person) {
        self.crossing.insert(person);
    }

    pub fn may_cross(&self, home: usize, number: usize) -> bool {
        self.crossing.contains(&(home, number))
    }

    pub fn trouble(&mut self, node: Node, trouble: Trouble, from: Duration, until: Duration) {
        self.spans.push(Span { node, trouble, from, until });
    }

    /// What was wrong with a machine since some time is over soon.
    pub fn mended(&mut self, node: Node, troubles: &[Trouble], at: Duration) {
        let lasts = |it: &&mut Span| {
            it.node == node && it.until == Duration::MAX && troubles.contains(&it.trouble)
        };
        self.spans.iter_mut().filter(lasts).for_each(|span| span.until = at);
    }

    /// What was done to these machines within the time.
    pub fn troubles<'a>(
        &'a self,
        nodes: &'a [Node],
        from: Duration,
        until: Duration,
    ) -> impl Iterator<Item = &'a Span> {
        let spans = self.spans.iter().filter(move |span| nodes.contains(&span.node));
        spans.filter(move |span| span.from <= until && from <= span.until)
    }
}

/// Whom these octets name, if anybody.
pub fn named_in(octets: &[u8]) -> Option<&'static str> {
    let has = |text: &&str| octets.windows(text.len()).any(|window| window == text.as_bytes());
    NAMES.iter().flatten().chain(&DOMAINS).copied().find(has)
}

/// A step without whom it is about.
pub fn shown(step: &Step) -> String {
    match step {
        Step::Opened(_) => "opened".into(),
        Step::LegOpened(leg) => format!("leg {} opened", leg.role),
        Step::Ringing => "ringing".into(),
        Step::Answered { .. } => "answered".into(),
        Step::LegClosed(leg) => format!("leg closed with {}", leg.sip_status),
        Step::Closed(closed) => format!("closed: {} {}", closed.cause, closed.sip_status),
        Step::Joined(_) => "joined".into(),
        Step::TakenOver { proxy } => format!("taken over by {proxy}"),
        Step::Moved { from, to } => format!("moved from {from} to {to}"),
        Step::LegByEdge { .. } => "by another region's proxy".into(),
        Step::MessageBegun { .. } => "message begun".into(),
        Step::MessageHeard { .. } => "message heard".into(),
        Step::MessageRemoved { .. } => "message removed".into(),
        Step::MessageDropped { .. } => "message dropped".into(),
        Step::LegDiverted { reason, .. } => format!("leg diverted: {reason}"),
    }
}
