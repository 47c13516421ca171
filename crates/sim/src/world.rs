//! The cluster and its run: the next event, to whom it concerns, until all is
//! at rest.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::chance::Chance;
use crate::chaos::Strike;
use crate::cx::{Cx, Event, Node, Packet, nat_address, node_at};
use crate::database::Database;
use crate::disk::SimDisk;
use crate::phone::Phone;
use crate::phone::nat::Nat;
use crate::plan::{Plan, Sabotage};
use crate::proxy::{Life, ProxyHost};
use crate::relay::{self, RelayHost};
use crate::stranger::CAPTURED;
use crate::stream::Kind;
use crate::tenants;

/// How long the cluster may take to come to rest: longer than any timer.
const REST: Duration = Duration::from_secs(230);
/// Transactions of phones that are switched off by then are over.
const SILENCE: Duration = Duration::from_secs(90);
/// Who was put on hold may be silent for good: such a call ends once a phone is
/// asked whether it is there, at half of this.
const SESSION: Duration = Duration::from_secs(1_800);
/// Events that may wait: messages on their way and what was planned.
const MOST_WAITING: usize = 20_000;

pub struct World {
    pub cx: Cx,
    pub proxies: Vec<ProxyHost>,
    pub relays: Vec<RelayHost>,
    pub phones: Vec<Phone>,
    pub runtime: Runtime,
    /// Datagrams that somebody may send again.
    pub captured: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl World {
    pub fn new(plan: Plan, aloud: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let mut cx = Cx::new(plan);
        cx.trace.aloud = aloud;
        cx.databases = vec![Database::default(), Database::default()];
        let mut world = Self {
            cx,
            proxies: Vec::new(),
            relays: Vec::new(),
            phones: Vec::new(),
            runtime: runtime.expect("a runtime"),
            captured: VecDeque::new(),
        };
        world.add_servers();
        world.add_phones();
        world
    }

    fn add_servers(&mut self) {
        let plan = self.cx.plan.clone();
        let relays = |region: usize| (region * plan.relays..(region + 1) * plan.relays).collect();
        let forgets = plan.sabotage == Some(Sabotage::DiskForgets);
        for region in 0..2 {
            for number in tenants::proxies_of(&plan, region) {
                let disk = SimDisk::new(Chance::new(self.cx.chance.u64()), forgets);
                let peers = tenants::peers_of(&plan, region, number);
                self.proxies.push(ProxyHost::new(number, region, relays(region), peers, disk));
            }
            self.relays.extend(
                (0..plan.relays).map(|relay| RelayHost::new(region * plan.relays + relay, region)),
            );
        }
        for relay in 0..self.relays.len() {
            self.start_relay(relay);
        }
        for proxy in &mut self.proxies {
            proxy.start(&mut self.cx);
        }
    }

    /// Each account's users at a proxy of their home, but for those who travel.
    fn add_phones(&mut self) {
        let plan = self.cx.plan.clone();
        for home in 0..2 {
            for user in 0..plan.phones {
                let roams = self.cx.chance.one_in(6);
                let region = if roams { 1 - home } else { home };
                let proxies = tenants::proxies_of(&plan, region);
                let proxy = match self.cx.chance.one_in(5) {
                    true => proxies.start + self.cx.chance.below(proxies.len()),
                    false => proxies.start,
                };
                let number = self.phones.len();
                if roams {
                    self.cx.model.let_cross((home, user));
                    self.cx.model.roams.insert(number);
                }
                self.add_nat(number);
                self.phones.push(Phone::new(number, (home, user), proxy));
                let pause = self.cx.chance.millis(1_000, 3_000);
                self.cx.after(pause, Event::Chaos(Strike::PhoneOn(number)));
            }
        }
        for stranger in 0..plan.strangers {
            let number = self.phones.len() + stranger;
            self.add_nat(number);
            let pause = Duration::from_secs(4);
            self.cx.after(pause, Event::Chaos(Strike::Stranger(number)));
        }
        self.cx.after(Duration::from_secs(10), Event::Chaos(Strike::Any));
    }

    fn add_nat(&mut self, number: usize) {
        let is_symmetric = self.cx.chance.one_in(3);
        self.cx.nats.push(Nat::new(nat_address(number), is_symmetric));
    }

    /// The whole run: trouble, mending, rest.
    pub fn run(&mut self) {
        self.run_until(self.cx.plan.length);
        self.mend_all();
        for pause in [4, 11, 30, 60] {
            self.run_for(Duration::from_secs(pause));
            for phone in &mut self.phones {
                let lines: Vec<u64> = phone.lines.keys().copied().collect();
                lines.into_iter().for_each(|line| phone.hang_up(&mut self.cx, line));
                phone.tidy();
            }
        }
        self.run_for(REST);
        for phone in &mut self.phones {
            phone.power_off(&mut self.cx);
        }
        self.run_for(SILENCE);
        let end = self.cx.at() + SESSION;
        while !self.proxies.iter().all(ProxyHost::is_at_rest) && self.cx.at() < end {
            self.run_for(SILENCE);
        }
        self.check();
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.cx.at() + time);
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.cx.advance(next);
            self.fire_timers();
            while let Some(event) = self.cx.pop() {
                self.dispatch(event);
            }
            if self.cx.waiting() > MOST_WAITING {
                self.cx.fault("more and more is under way".to_owned());
                return;
            }
        }
        self.cx.advance(end);
    }

    fn next(&self) -> Option<Duration> {
        let proxies = self.proxies.iter().filter_map(ProxyHost::timeout);
        let relays = self.relays.iter().filter_map(RelayHost::timeout);
        let phones = self.phones.iter().filter_map(Phone::timeout);
        let timers = proxies.chain(relays).chain(phones).min();
        let timer = timers.map(|at| self.cx.since_start(at).max(self.cx.at()));
        [timer, self.cx.next_event()].into_iter().flatten().min()
    }

    fn fire_timers(&mut self) {
        self.proxies.iter_mut().for_each(|proxy| proxy.handle_timeout(&mut self.cx));
        self.relays.iter_mut().for_each(|relay| relay.handle_timeout(&mut self.cx));
        self.phones.iter_mut().for_each(|phone| phone.handle_timeout(&mut self.cx));
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Packet(packet) => self.packet(packet),
            Event::Stream(stream, side) => self.stream(stream, side),
            Event::Proxy(proxy, life, task) if self.proxies[proxy].lives == life => {
                self.proxies[proxy].task(&mut self.cx, task);
            }
            Event::Relay(relay, life, task) if self.relays[relay].lives == life => match task {
                relay::Task::Replace => self.replace_relay(relay),
                task => self.relays[relay].task(&mut self.cx, &task),
            },
            Event::Phone(phone, life, act) if self.phones[phone].lives == life => {
                self.phones[phone].act(&mut self.cx, act);
            }
            // For a process that is gone.
            Event::Proxy(..) | Event::Relay(..) | Event::Phone(..) => {}
            Event::Chaos(strike) => self.strike(strike),
        }
        if self.relays.iter().any(RelayHost::is_finishing) {
            self.finish_recordings();
        }
    }

    fn packet(&mut self, Packet { from, to, octets }: Packet) {
        let at = self.cx.at();
        let (length, said) = (octets.len(), said(&octets));
        self.cx.note(format_args!("{from} to {to}: {length} octets {said}"));
        self.cx.trace.octets(&octets);
        match node_at(to) {
            Some(Node::Proxy(proxy)) => {
                if self.captured.len() == CAPTURED {
                    self.captured.pop_front();
                }
                if octets.len() > 4 && self.cx.plan.strangers > 0 {
                    self.captured.push_back((from, to, octets.clone()));
                }
                // Keep-alives are the shell's.
                if octets.len() > 4 {
                    self.proxies[proxy].packet(&mut self.cx, from, octets);
                }
            }
            Some(Node::Relay(relay)) => {
                self.relays[relay].packet(&mut self.cx, from, to.port(), octets);
            }
            Some(Node::Phone(phone)) => {
                let Some(private) = self.cx.nats[phone].inward(to.port(), from, at) else { return };
                if let Some(phone) = self.phones.get_mut(phone) {
                    phone.packet(&mut self.cx, from, private, octets);
                }
            }
            None => {}
        }
    }

    fn stream(&mut self, stream: usize, side: usize) {
        let (node, life) = {
            let it = self.cx.streams.get(stream);
            (it.ends[side], it.lives[side])
        };
        // The first that comes to an acceptor finds whatever process is there.
        let (is_on, lives) = match node {
            Node::Proxy(proxy) => {
                let host = &self.proxies[proxy];
                // Who starts asks its peers before it opens for business.
                let asks = self.cx.streams.get(stream).kind == Kind::Peer && side == 0;
                let is_ready = |life: &Life| asks || life.machines.is_some();
                let is_up = host.life.as_ref().is_some_and(is_ready);
                (is_up, host.lives)
            }
            Node::Relay(relay) => (self.relays[relay].life.is_some(), self.relays[relay].lives),
            Node::Phone(_) => return,
        };
        let is_same = life == lives || (life == 0 && side == 1);
        if !is_on || !is_same {
            return self.cx.unheard(stream, side, is_on);
        }
        let Some(what) = self.cx.arrived(stream, side) else { return };
        if let crate::stream::What::Octets(octets) = &what {
            let (length, said) = (octets.len(), said(octets));
            self.cx.note(format_args!("stream {stream} to {node:?}: {length} octets {said}"));
            self.cx.trace.octets(octets);
        }
        match node {
            Node::Proxy(proxy) => self.proxies[proxy].stream(&mut self.cx, stream, side, what),
            Node::Relay(relay) => self.relays[relay].stream(&mut self.cx, stream, side, what),
            Node::Phone(_) => {}
        }
    }

    /// The relays await the ends of recordings on a runtime: it runs until
    /// nothing is to be done there.
    fn finish_recordings(&mut self) {
        self.runtime.block_on(async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        });
        self.relays.iter_mut().for_each(|relay| relay.drain(&mut self.cx));
    }
}

/// The beginning of a SIP message, which names nobody: its method or status.
fn said(octets: &[u8]) -> &str {
    let first = octets.split(|octet| matches!(octet, b'\r' | b':')).next().unwrap_or_default();
    let text = std::str::from_utf8(first).unwrap_or_default();
    if text.len() < 64 && text.starts_with(|it: char| it.is_ascii_uppercase()) { text } else { "" }
}
