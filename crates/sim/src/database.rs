//! A region's database, as far as calls and registrations go: events become
//! rows, each once, a batch or nothing.

use std::collections::BTreeMap;

use landline_call::binding::{Binding, BindingChange};
use landline_call::record::{CallEvent, Closed, LegOpened, Opened, Step};
use landline_region::{AccountSid, CallSid, JoinToken, LegSid, UnixMillis, UserSid};
use landline_store::OpenCall;

use crate::chance::Chance;
use crate::plan::Sabotage;

#[derive(Debug, Clone)]
pub struct Row {
    pub account: AccountSid,
    pub opened: Opened,
    pub opened_at: UnixMillis,
    pub next_sequence: u32,
    pub last_at: UnixMillis,
    pub legs: Vec<LegOpened>,
    pub answered: Option<(UnixMillis, LegSid)>,
    pub closed: Option<(UnixMillis, Closed)>,
    pub join: Option<JoinToken>,
    pub packets_heard: BTreeMap<LegSid, u64>,
    /// Sequences taken, for the model's sake.
    pub taken: Vec<u32>,
    /// By another proxy, whose numbers are higher than any before.
    pub taken_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    #[default]
    Up,
    Down,
    /// Answers in seconds.
    Slow,
    /// Commits, and the connection breaks before it says so.
    Lies,
}

#[derive(Default)]
pub struct Database {
    pub standing: Standing,
    pub calls: BTreeMap<CallSid, Row>,
    pub bindings: BTreeMap<(UserSid, String), Binding>,
    pub orphans: u64,
    pub duplicates: u64,
}

/// It cannot be reached, or did not say that it has it.
#[derive(Debug)]
pub struct Unavailable;

impl Database {
    pub fn is_up(&self) -> bool {
        self.standing != Standing::Down
    }

    pub fn apply(
        &mut self,
        events: &[CallEvent],
        chance: &mut Chance,
        sabotage: Option<Sabotage>,
    ) -> Result<(), Unavailable> {
        if !self.is_up() {
            return Err(Unavailable);
        }
        let drops = sabotage == Some(Sabotage::DatabaseDrops) && chance.one_in(20);
        let dropped = chance.below(events.len());
        for (index, event) in events.iter().enumerate() {
            if drops && index == dropped {
                continue;
            }
            self.take(event, sabotage == Some(Sabotage::DatabaseDoubles));
        }
        match self.standing == Standing::Lies && chance.one_in(2) {
            true => Err(Unavailable),
            false => Ok(()),
        }
    }

    /// Each event once, by the call and its number.
    fn take(&mut self, event: &CallEvent, doubles: bool) {
        if let (Step::Opened(opened), None) = (&event.step, self.calls.get(&event.call)) {
            self.calls.insert(event.call, Row::new(event, opened));
            return;
        }
        let Some(row) = self.calls.get_mut(&event.call) else {
            self.orphans += 1;
            return;
        };
        if event.sequence < row.next_sequence && !doubles {
            self.duplicates += 1;
            return;
        }
        if row.closed.is_some() && !doubles {
            self.orphans += 1;
            return;
        }
        row.take(event);
    }

    pub fn open_calls(&self) -> Vec<OpenCall> {
        let open = |(sid, row): (&CallSid, &Row)| {
            row.closed.is_none().then(|| OpenCall {
                sid: *sid,
                account: row.account,
                proxy: row.opened.proxy.clone(),
                opened_at: row.opened_at,
                last_at: row.last_at,
                next_sequence: row.next_sequence,
                answered: row.answered.is_some(),
            })
        };
        self.calls.iter().filter_map(open).collect()
    }

    pub fn write_bindings(&mut self, changes: &[BindingChange]) {
        for change in changes {
            match change {
                BindingChange::Put(binding) => {
                    let key = (binding.user, binding.key().expose().clone());
                    self.bindings.insert(key, (**binding).clone());
                }
                BindingChange::Remove { user, contact } => {
                    self.bindings.remove(&(*user, contact.expose().clone()));
                }
            }
        }
    }
}

impl Row {
    fn new(event: &CallEvent, opened: &Opened) -> Self {
        Self {
            account: event.account,
            opened: opened.clone(),
            opened_at: event.at,
            next_sequence: event.sequence + 1,
            last_at: event.at,
            legs: Vec::new(),
            answered: None,
            closed: None,
            join: None,
            packets_heard: BTreeMap::new(),
            taken: vec![event.sequence],
            taken_over: false,
        }
    }

    fn take(&mut self, event: &CallEvent) {
        self.next_sequence = self.next_sequence.max(event.sequence + 1);
        self.last_at = self.last_at.max(event.at);
        self.taken.push(event.sequence);
        match &event.step {
            Step::Opened(_)
            | Step::Ringing
            | Step::LegByEdge { .. }
            | Step::LegDiverted { .. }
            | Step::MessageBegun { .. }
            | Step::MessageDropped { .. }
            | Step::MessageHeard { .. }
            | Step::MessageRemoved { .. }
            | Step::Moved { .. } => {}
            Step::TakenOver { proxy } => {
                self.opened.proxy = proxy.clone();
                self.taken_over = true;
            }
            Step::LegOpened(leg) => self.legs.push(leg.clone()),
            Step::Answered { leg } => self.answered = Some((event.at, *leg)),
            Step::Joined(join) => self.join = Some(*join),
            Step::LegClosed(leg) => {
                if let Some(stats) = &leg.stats {
                    self.packets_heard.insert(leg.leg, stats.received.packets);
                }
            }
            Step::Closed(closed) => self.closed = Some((event.at, closed.clone())),
        }
    }
}
