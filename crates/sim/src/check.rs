//! The end of a run, held against what must be: every call has its record with
//! a true end, who talked was heard, nothing is left over.

use std::collections::BTreeMap;
use std::time::Duration;

use landline_call::record::{Cause, LegRole, Party};
use landline_region::CallSid;

use crate::cx::Node;
use crate::database::Row;
use crate::phone::line::{End, Line, Person};
use crate::plan::Trouble;
use crate::tenants;
use crate::world::World;

/// After both have each other, until what they say is followed.
const SETTLED: Duration = Duration::from_millis(1_500);
/// What is said so shortly before the end may come too late.
const FAREWELL: Duration = Duration::from_millis(1_300);

/// Everything there is, found by what names it.
struct Books<'a> {
    rows: BTreeMap<CallSid, &'a Row>,
    /// By the Call-ID of the caller's leg.
    called: BTreeMap<&'a str, Vec<CallSid>>,
    lines: BTreeMap<u64, &'a Line>,
    /// The callees' lines, by Call-ID.
    rung: BTreeMap<&'a str, &'a Line>,
}

impl World {
    pub fn check(&mut self) {
        let mut wrong = Vec::new();
        self.check_rest(&mut wrong);
        let books = self.books();
        self.check_promises(&books, &mut wrong);
        for (sid, row) in &books.rows {
            self.check_row(*sid, row, &mut wrong);
        }
        for line in books.lines.values() {
            match line.is_caller {
                true => self.check_caller(&books, line, &mut wrong),
                false => self.check_rung(&books, line, &mut wrong),
            }
        }
        wrong.into_iter().for_each(|what| self.cx.fault(what));
    }

    fn books(&self) -> Books<'_> {
        let mut books = Books {
            rows: BTreeMap::new(),
            called: BTreeMap::new(),
            lines: BTreeMap::new(),
            rung: BTreeMap::new(),
        };
        for (sid, row) in self.cx.databases.iter().flat_map(|database| &database.calls) {
            books.rows.insert(*sid, row);
            for leg in row.legs.iter().filter(|leg| leg.role == LegRole::A) {
                books.called.entry(leg.sip_call_id.expose()).or_default().push(*sid);
            }
        }
        for phone in &self.phones {
            for line in phone.history.iter().chain(phone.lines.values()) {
                books.lines.insert(line.id, line);
                if !line.is_caller {
                    books.rung.insert(&line.call_id, line);
                }
            }
        }
        books
    }

    /// Nothing is kept for what is over.
    fn check_rest(&self, wrong: &mut Vec<String>) {
        for proxy in &self.proxies {
            let machines = proxy.life.as_ref().and_then(|life| life.machines.as_ref());
            let Some(machines) = machines else {
                wrong.push(format!("{} never came up again", proxy.name()));
                continue;
            };
            for (what, count) in machines.core.under_way().into_iter().filter(|it| it.1 > 0) {
                wrong.push(format!("{}: {count} {what} left", proxy.name()));
            }
            if !machines.endpoint.is_empty() {
                let count = machines.endpoint.len();
                wrong.push(format!("{}: {count} transactions left", proxy.name()));
            }
        }
        for relay in &self.relays {
            let (sessions, ports) = relay.under_way(&self.cx);
            if (sessions, ports) != (0, 0) || relay.bound_ports() > 0 {
                let bound = relay.bound_ports();
                wrong.push(format!(
                    "{}: {sessions} sessions, {ports} port pairs, {bound} ports left",
                    relay.id()
                ));
            }
        }
    }

    /// What was acknowledged is in the database, each step once.
    fn check_promises(&self, books: &Books, wrong: &mut Vec<String>) {
        for (call, sequence) in &self.cx.model.promised {
            let row = books.rows.get(call);
            // Once it is another's, what its former proxy still says is set aside.
            let is_late = self.cx.model.take_overs.contains(&(*call, *sequence));
            let taken = row.is_some_and(|row| {
                row.taken_over || row.taken.contains(sequence) || is_late && row.closed.is_some()
            });
            if !taken && !self.may_lack(books, *call, *sequence) {
                wrong.push(format!("{call}: step {sequence} was acknowledged and is lost"));
            }
        }
    }

    /// A refused opening drops what came with it; what came later has no record.
    fn may_lack(&self, books: &Books, call: CallSid, _sequence: u32) -> bool {
        !books.rows.contains_key(&call) && !self.cx.model.promised.contains(&(call, 0))
    }

    fn check_row(&self, sid: CallSid, row: &Row, wrong: &mut Vec<String>) {
        let Some((closed_at, closed)) = &row.closed else {
            return wrong.push(format!("{sid} is open for ever"));
        };
        if row.taken.windows(2).any(|pair| pair[0] >= pair[1]) {
            wrong.push(format!("{sid}: steps {:?} were written", row.taken));
        }
        let answered_at = row.answered.map_or(row.opened_at, |(at, _)| at);
        if answered_at < row.opened_at || *closed_at < answered_at {
            wrong.push(format!(
                "{sid} was opened at {}, answered at {answered_at}, closed at {closed_at}",
                row.opened_at
            ));
        }
        if closed.cause == Cause::HungUpByAdmin && !self.cx.model.ended_by_admin.contains(&sid) {
            wrong.push(format!("{sid} was ended by an administrator, and no one did"));
        }
        if let Some(recorded) = &closed.recorded
            && recorded.stored_packets > recorded.expected_packets
        {
            wrong.push(format!("{sid}: recorded {recorded:?}"));
        }
    }

    /// Every machine that has part in a line's call.
    fn nodes(&self, line: &Line) -> Vec<Node> {
        let mut persons: Vec<Person> = vec![line.person];
        persons.extend(line.peer);
        let phones: Vec<_> =
            self.phones.iter().filter(|phone| persons.contains(&phone.person)).collect();
        let mut regions: Vec<usize> = persons.iter().map(|person| person.0).collect();
        regions.extend(phones.iter().map(|phone| self.proxies[phone.proxy].region));
        let mut nodes: Vec<Node> = phones.iter().map(|phone| Node::Phone(phone.number)).collect();
        for proxy in self.proxies.iter().filter(|proxy| regions.contains(&proxy.region)) {
            nodes.push(Node::Proxy(proxy.number));
        }
        for relay in self.relays.iter().filter(|relay| regions.contains(&relay.region)) {
            nodes.push(Node::Relay(relay.number));
        }
        nodes
    }

    /// What of all that was done concerned this line's call.
    fn troubles(&self, line: &Line) -> Vec<Trouble> {
        let until = line.over_at.unwrap_or(self.cx.at()) + Duration::from_secs(40);
        let nodes = self.nodes(line);
        self.cx.model.troubles(&nodes, line.began, until).map(|span| span.trouble).collect()
    }

    fn check_caller(&self, books: &Books, line: &Line, wrong: &mut Vec<String>) {
        let none = Vec::new();
        let sids = books.called.get(line.call_id.as_str()).unwrap_or(&none);
        let is_parking = |person| self.cx.model.parking.contains(&person);
        if is_parking(line.person) || line.peer.is_some_and(is_parking) {
            if line.rang && sids.is_empty() && !line.takes {
                wrong.push(format!("line {}: it rang, and there is no record", line.id));
            }
            return;
        }
        let troubles = self.troubles(line);
        // An edge that hears nothing of a home proxy asks the next one.
        let again = |it: &&Trouble| matches!(it, Trouble::ProxyDeath | Trouble::Partition);
        let deaths = troubles.iter().filter(again).count();
        let name = format!("line {} ({})", line.id, line.call_id);
        if sids.len() > 1 + deaths {
            wrong.push(format!("{name}: {} records after {deaths} deaths", sids.len()));
        }
        let answered: Vec<_> = sids.iter().filter(|it| books.rows[it].answered.is_some()).collect();
        let disk = troubles.iter().any(|it| Trouble::DISK.contains(it));
        if line.up_at.is_some() && answered.is_empty() && !(disk && deaths > 0) {
            wrong.push(format!("{name}: answered, and no record says so"));
        }
        if answered.len() > 1 + deaths {
            wrong.push(format!("{name}: {} answered records", answered.len()));
        }
        let harmless = |it: &Trouble| {
            matches!(it, Trouble::RelayDrain | Trouble::Administrator)
                || (*it == Trouble::ClockJump && line.up_at.is_some())
        };
        if line.rang && sids.is_empty() {
            wrong.push(format!("{name}: it rang, and there is no record"));
        }
        if troubles.iter().all(harmless) {
            self.check_undisturbed(books, line, sids, wrong);
        }
    }

    /// Nobody disturbed it: its end is the true one, and all was heard.
    fn check_undisturbed(
        &self,
        books: &Books,
        line: &Line,
        sids: &[CallSid],
        wrong: &mut Vec<String>,
    ) {
        let name = format!("line {} ({})", line.id, line.call_id);
        let Some(sid) = sids.first() else {
            if line.up_at.is_some() {
                wrong.push(format!("{name}: undisturbed, and without a record"));
            }
            return;
        };
        let Some((_, closed)) = &books.rows[sid].closed else { return };
        let end = (closed.cause, closed.sip_status);
        if self.cx.model.ended_by_admin.contains(sid) {
            return;
        }
        let callee = self.callee(books, *sid);
        if line.up_at.is_none() {
            let fits = match line.end {
                Some(End::WeCancelled) => match end {
                    // One answered, and hung up before the CANCEL came.
                    (Cause::CalleeHungUp, 487) => self.was_hung_up_by_a_callee(books, *sid),
                    end => end == (Cause::CallerCancelled, 487),
                },
                Some(End::Refused(status)) => status == closed.sip_status,
                _ => true,
            };
            if !fits {
                wrong.push(format!("{name}: {:?}, and {sid} says {end:?}", line.end));
            }
            return;
        }
        let theirs = callee.and_then(|callee| callee.end);
        let mut admissible = match (line.end, theirs) {
            // Answered in the very moment that the caller gave up.
            _ if line.cancelled => {
                vec![Cause::CallerCancelled, Cause::CallerHungUp, Cause::CalleeHungUp]
            }
            (Some(End::WeHungUp), Some(End::WeHungUp)) => {
                vec![Cause::CallerHungUp, Cause::CalleeHungUp]
            }
            (Some(End::WeHungUp), _) => vec![Cause::CallerHungUp],
            (Some(End::TheyHungUp), Some(End::WeHungUp)) => vec![Cause::CalleeHungUp],
            // Who could have told is another region's record.
            (_, None) => return,
            _ => vec![Cause::CallerHungUp, Cause::CalleeHungUp],
        };
        if line.modified || callee.is_some_and(|callee| callee.modified) {
            // Who was put on hold is silent, and may be so for too long.
            admissible.push(Cause::MediaLost);
            // A BYE that comes long after the 481 to a change which it crossed.
            admissible.push(Cause::SignallingLost);
        }
        if !admissible.contains(&closed.cause) || closed.sip_status != 200 {
            let ends = (line.end, theirs);
            return wrong.push(format!("{name}: {ends:?}, and {sid} says {end:?}"));
        }
        if let Some(callee) = callee {
            self.check_heard(line, callee, wrong);
            self.check_heard(callee, line, wrong);
        }
    }

    /// Whether one of those that rang, in this region or the other one, answered
    /// and hung up.
    fn was_hung_up_by_a_callee(&self, books: &Books, sid: CallSid) -> bool {
        let Some(row) = books.rows.get(&sid) else { return false };
        let joined = |other: &&&Row| row.join.is_some() && other.join == row.join;
        let rows = books.rows.values().filter(joined).chain([row]);
        let mut lines = rows
            .flat_map(|row| &row.legs)
            .filter_map(|leg| books.rung.get(leg.sip_call_id.expose().as_str()));
        lines.any(|line| line.dialog.is_some() && line.end == Some(End::WeHungUp))
    }

    /// The line that took the call, in this region's record or in the one that
    /// has the same token.
    fn callee<'a>(&self, books: &Books<'a>, sid: CallSid) -> Option<&'a Line> {
        let row = books.rows.get(&sid)?;
        let (_, winner) = row.answered?;
        let leg = row.legs.iter().find(|leg| leg.leg == winner)?;
        if let Some(line) = books.rung.get(leg.sip_call_id.expose().as_str()) {
            return Some(line);
        }
        let join = row.join.filter(|_| matches!(leg.party, Party::Region(_)))?;
        let other = books.rows.iter().find(|(it, row)| **it != sid && row.join == Some(join))?;
        let (_, winner) = other.1.answered?;
        let leg = other.1.legs.iter().find(|leg| leg.leg == winner)?;
        books.rung.get(leg.sip_call_id.expose().as_str()).copied()
    }

    fn check_heard(&self, speaker: &Line, hearer: &Line, wrong: &mut Vec<String>) {
        let whole = self.cx.plan.is_lossless() && !speaker.modified && !hearer.modified;
        let both = speaker.up_at.max(hearer.up_at).zip(speaker.over_at.min(hearer.over_at));
        let Some((from, until)) = both.filter(|_| whole && hearer.up_at.is_some()) else { return };
        let none = Vec::new();
        let heard = hearer.heard.get(&speaker.id).unwrap_or(&none);
        let due = speaker.said.iter().filter(|(_, at)| *at > from + SETTLED);
        let missed = due.filter(|(word, at)| *at + FAREWELL < until && !heard.contains(word));
        let missed: Vec<_> = missed.map(|(word, _)| *word).collect();
        if !missed.is_empty() {
            wrong.push(format!(
                "line {} of {}/{} does not hear {} words of line {}, from {} on",
                hearer.id,
                hearer.person.0,
                hearer.person.1,
                missed.len(),
                speaker.id,
                missed[0]
            ));
        }
    }

    /// Nothing leaves for a callee before the opening is on disk.
    fn check_rung(&self, books: &Books, line: &Line, wrong: &mut Vec<String>) {
        let Some(sid) = self.cx.model.legs.get(&line.call_id) else {
            return wrong.push(format!("line {}: no core rang it", line.id));
        };
        if !books.rows.contains_key(sid) {
            let region = tenants::region(line.person.0);
            wrong.push(format!("{sid} of {region} rang line {}, and has no record", line.id));
        }
    }
}
