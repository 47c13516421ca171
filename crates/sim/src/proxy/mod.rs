//! A proxy's machine: the real endpoint and core, and around them what the
//! proxy's tasks do, stepped by the run's clock.

mod border;
mod control;
mod peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_call::binding::BindingChange;
use landline_call::{
    BindingsToken, Core, CoreConfig, Input, LocalAddress, Output, Snapshot, Tenants,
};
use landline_region::{Now, PseudonymKey};
use landline_sip as sip;
use landline_sip::{Endpoint, EndpointConfig, Flow, FlowId, Listener, SendTo, Transport};
use landline_store::ledger::Journal;
use landline_store::{KeptCall, OpenCall};

use crate::cx::{Cx, Event, Node, border_address, proxy_address};
use crate::disk::{Health, SimDisk};
use crate::journal::{Desk, Entry, RETRY, Told};
use crate::stream::{Kind, What};
use crate::tenants;

const SHIP: Duration = Duration::from_millis(200);
const ALIVE: Duration = Duration::from_secs(1);
/// UDP's one flow.
const UDP: FlowId = FlowId(0);

/// What a proxy's tasks do by and by.
pub enum Task {
    Start,
    Gather,
    Written,
    Ship,
    Shipped,
    Alive,
    StoreBindings(BindingsToken, Vec<BindingChange>),
    /// Connect to this relay.
    Link(usize),
    /// Ping it, and see whether it still speaks.
    Ping(usize),
    /// Connect to this proxy of the region.
    Meet(usize),
    PeerPing(usize),
    /// Nobody is waited for any longer who was asked what he has of our calls.
    Asked,
}

pub struct ProxyHost {
    pub number: usize,
    pub region: usize,
    pub relays: Vec<usize>,
    /// The region's other proxies.
    pub peers: Vec<usize>,
    pub disk: SimDisk,
    pub life: Option<Life>,
    pub lives: u64,
    /// By how much its wall clock is off, in milliseconds.
    pub skew: i64,
}

/// How far a process has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What the former run left is shipped.
    Shipping,
    /// The other proxies say what they have of it.
    Asking,
    /// What that left open was closed, which is shipped.
    Sweeping,
    Up,
}

pub struct Life {
    stage: Stage,
    desk: Desk,
    pub machines: Option<Machines>,
    links: BTreeMap<usize, control::Link>,
    borders: border::Borders,
    peers: peers::Peers,
    /// Registrations that the database did not take.
    bindings_kept: Vec<BindingChange>,
    /// Answered calls of the former run, to be taken up.
    kept: Vec<Snapshot>,
}

impl Life {
    /// The former run's answered calls, less those whose records are closed by
    /// now; what of them is to be dropped.
    fn take_kept(&mut self, name: &str, open: &[OpenCall]) -> Vec<KeptCall> {
        let mut gone = Vec::new();
        self.kept = self.desk.journal().kept();
        self.kept.sort_unstable_by_key(|kept| kept.call);
        let spared = &self.peers.spared;
        self.kept.retain_mut(|kept| match open.iter().find(|it| it.sid == kept.call) {
            Some(known) if !spared.contains(&kept.call) => {
                if known.proxy == name {
                    kept.sequence = kept.sequence.max(known.next_sequence);
                }
                true
            }
            _ => {
                gone.push(KeptCall::Gone(kept.call));
                false
            }
        });
        gone
    }
}

pub struct Machines {
    pub endpoint: Endpoint,
    pub core: Core,
}

impl ProxyHost {
    pub fn new(
        number: usize,
        region: usize,
        relays: Vec<usize>,
        peers: Vec<usize>,
        disk: SimDisk,
    ) -> Self {
        Self { number, region, relays, peers, disk, life: None, lives: 0, skew: 0 }
    }

    pub fn node(&self) -> Node {
        Node::Proxy(self.number)
    }

    pub fn name(&self) -> String {
        format!("proxy-{}", self.number)
    }

    fn later(&self, cx: &mut Cx, pause: Duration, task: Task) {
        cx.after(pause, Event::Proxy(self.number, self.lives, task));
    }

    fn now(&self, cx: &Cx) -> Now {
        cx.now(self.skew)
    }

    /// A process begins: its ledger first.
    pub fn start(&mut self, cx: &mut Cx) {
        self.lives += 1;
        let keys = tenants::keys(self.region);
        let journal = match Journal::open(self.disk.clone(), cx.plan.ledger_limit, keys) {
            Ok(journal) => journal,
            Err(error) => {
                cx.remark(format_args!("proxy {} cannot start: {error}", self.number));
                let pause = cx.chance.millis(1_000, 3_000);
                return self.later(cx, pause, Task::Start);
            }
        };
        if journal.counters().damaged > 0 {
            cx.fault(format!("proxy {}: its ledger is damaged", self.number));
        }
        cx.remark(format_args!("proxy {} starts", self.number));
        self.life = Some(Life {
            stage: Stage::Shipping,
            desk: Desk::new(journal, self.disk.clone()),
            machines: None,
            links: BTreeMap::new(),
            borders: border::Borders::default(),
            peers: peers::Peers::new(!self.peers.is_empty()),
            bindings_kept: Vec::new(),
            kept: Vec::new(),
        });
        self.later(cx, Duration::ZERO, Task::Ship);
    }

    pub fn task(&mut self, cx: &mut Cx, task: Task) {
        if matches!(task, Task::Start) {
            return if self.life.is_none() {
                self.start(cx)
            };
        }
        let Some(life) = &mut self.life else { return };
        match task {
            Task::Start => {}
            Task::Gather => {
                let (takes, told) = life.desk.gather(cx);
                self.told(cx, told);
                if let Some(takes) = takes {
                    self.later(cx, takes, Task::Written);
                }
            }
            Task::Written => {
                let told = life.desk.written(cx);
                self.told(cx, told);
                self.later(cx, Duration::ZERO, Task::Gather);
            }
            Task::Ship => self.ship(cx),
            Task::Shipped => {
                let pause = life.desk.shipped(cx, self.region);
                self.later(cx, pause, Task::Ship);
            }
            Task::Alive => self.alive(cx),
            Task::StoreBindings(token, changes) => self.store_bindings(cx, token, changes),
            Task::Link(relay) => self.link(cx, relay),
            Task::Ping(stream) => self.ping(cx, stream),
            Task::Meet(peer) => self.meet(cx, peer),
            Task::PeerPing(stream) => self.ping_peer(cx, stream),
            Task::Asked => life.peers.asked.clear(),
        }
    }

    fn ship(&mut self, cx: &mut Cx) {
        let Some(life) = &mut self.life else { return };
        match life.desk.ship(cx, self.region) {
            Some(takes) => self.later(cx, takes, Task::Shipped),
            None => {
                self.later(cx, SHIP, Task::Ship);
                self.go_on(cx);
            }
        }
    }

    /// Closes what the former run left open; then opens for business.
    fn go_on(&mut self, cx: &mut Cx) {
        let (name, region) = (self.name(), self.region);
        let Some(life) = &mut self.life else { return };
        let is_asking = !life.peers.asked.is_empty();
        let is_shipped = life.desk.is_shipped && !is_asking;
        if life.stage == Stage::Up || !is_shipped || !cx.databases[region].is_up() {
            return;
        }
        match life.stage {
            // The database may have been away for long: what they would have said
            // before tells nothing.
            Stage::Shipping => {
                life.stage = Stage::Asking;
                return self.ask_peers(cx);
            }
            Stage::Sweeping => {
                life.stage = Stage::Up;
                return self.open(cx);
            }
            Stage::Asking | Stage::Up => {}
        }
        let alive = life.desk.journal().last_alive();
        let open = cx.databases[region].open_calls();
        let gone = life.take_kept(&name, &open);
        let spared = &life.peers.spared;
        let is_kept =
            |call| life.kept.iter().any(|kept| kept.call == call) || spared.contains(&call);
        let lost = open.iter().filter(|call| call.proxy == name && !is_kept(call.sid));
        let lost: Vec<_> = lost.map(|call| call.lost(alive)).collect();
        cx.remark(format_args!("{name} sweeps {} calls", lost.len()));
        let ends = [(&lost[..], &gone[..])].into_iter();
        let is_new = !lost.is_empty() || !gone.is_empty();
        let written = !is_new || life.desk.journal().append_with(ends)[0].is_ok();
        if !written {
            // It cannot start so, and is started again.
            self.life = None;
            let pause = cx.chance.millis(1_000, 3_000);
            return self.later(cx, pause, Task::Start);
        }
        cx.model.swept(self.number, &lost);
        cx.model.journaled(&lost);
        life.stage = Stage::Sweeping;
        life.desk.is_shipped = lost.is_empty();
    }

    fn open(&mut self, cx: &mut Cx) {
        let now = self.now(cx);
        let mut endpoint = EndpointConfig::default();
        let listeners = [
            (Transport::Udp, proxy_address(self.number)),
            (Transport::Tls, border_address(self.number)),
        ];
        for (transport, local) in listeners {
            let advertised = (local.ip().to_string(), local.port());
            endpoint.listeners.push(Listener { transport, local, advertised });
        }
        let endpoint = Endpoint::new(endpoint, cx.chance.seed(), now.instant);
        let core = Core::new(self.core_config(), cx.chance.seed(), now);
        let tenants = Tenants::new(&tenants::tenancy(self.region));
        let directory = tenants::directory(&cx.plan);
        let bindings = cx.databases[self.region].bindings.values().cloned().collect();
        if let Some(life) = &mut self.life {
            life.machines = Some(Machines { endpoint, core });
        }
        self.input(cx, Input::Tenancy(Arc::new(tenants)));
        self.input(cx, Input::Directory(Arc::new(directory)));
        self.input(cx, Input::Bindings(bindings));
        self.take_up(cx);
        for relay in self.relays.clone() {
            self.later(cx, Duration::ZERO, Task::Link(relay));
        }
        for peer in self.peers.clone() {
            self.later(cx, Duration::ZERO, Task::Meet(peer));
        }
        self.later(cx, Duration::ZERO, Task::Alive);
        cx.remark(format_args!("{} is up", self.name()));
        cx.proxy_is_up(self.number);
    }

    fn take_up(&mut self, cx: &mut Cx) {
        let Some(life) = &mut self.life else { return };
        let calls = std::mem::take(&mut life.kept);
        let proven_until = life.desk.journal().last_alive().unwrap_or_default();
        cx.model.restored += calls.len() as u64;
        self.input(cx, Input::Restore { calls, proven_until });
    }

    fn core_config(&self) -> CoreConfig {
        let region = tenants::region(self.region);
        let key = [self.region as u8 + 1; 32];
        let mut config = CoreConfig::new(region, self.name(), PseudonymKey::new(&key));
        config.signing_key = key;
        let local = proxy_address(self.number);
        let (host, port) = (local.ip().to_string(), local.port());
        config.addresses = vec![LocalAddress { transport: Transport::Udp, local, host, port }];
        let border = border_address(self.number);
        config.inter_region = Some((border.ip().to_string(), border.port()));
        config.has_peers = !self.peers.is_empty();
        config.timers.no_answer = Duration::from_secs(40);
        config
    }

    fn alive(&mut self, cx: &mut Cx) {
        let (now, number) = (self.now(cx), self.number);
        let Some(life) = &mut self.life else { return };
        life.desk.journal().alive(now.unix);
        if let Some(takes) = life.desk.retry(cx) {
            self.later(cx, takes, Task::Written);
        }
        let Some(life) = &mut self.life else { return };
        if cx.databases[self.region].is_up() {
            let kept = std::mem::take(&mut life.bindings_kept);
            cx.databases[self.region].write_bindings(&kept);
        }
        if life.desk.held() > 5_000 {
            cx.fault(format!("proxy {number} holds {} events back", life.desk.held()));
        }
        self.later(cx, ALIVE.min(RETRY * 4), Task::Alive);
    }

    fn told(&mut self, cx: &mut Cx, told: Told) {
        for token in told.journaled {
            let peers = self.life.as_mut().map(|life| &mut life.peers.replication);
            if peers.is_none_or(|replication| replication.on_disk(token)) {
                self.input(cx, Input::Journaled(token));
            }
        }
        for token in told.failed {
            if let Some(life) = &mut self.life {
                life.peers.replication.failed(token);
            }
            self.input(cx, Input::JournalFailed(token));
        }
    }

    fn store_bindings(&mut self, cx: &mut Cx, token: BindingsToken, changes: Vec<BindingChange>) {
        let Some(life) = &mut self.life else { return };
        let ok = cx.databases[self.region].is_up() && life.bindings_kept.is_empty();
        match ok {
            true => cx.databases[self.region].write_bindings(&changes),
            false => life.bindings_kept.extend(changes),
        }
        self.input(cx, Input::BindingsStored { token, ok });
    }

    pub fn input(&mut self, cx: &mut Cx, input: Input) {
        let now = self.now(cx);
        if let Some(machines) = self.machines() {
            machines.core.handle_input(now, input);
            self.drain(cx);
        }
    }

    fn machines(&mut self) -> Option<&mut Machines> {
        self.life.as_mut()?.machines.as_mut()
    }

    pub fn sip(&mut self, cx: &mut Cx, input: sip::Input) {
        let now = self.now(cx);
        if let Some(machines) = self.machines() {
            machines.endpoint.handle_input(now.instant, input);
            self.drain(cx);
        }
    }

    /// A datagram by its one UDP listener.
    pub fn packet(&mut self, cx: &mut Cx, from: SocketAddr, octets: Vec<u8>) {
        let local = proxy_address(self.number);
        let flow = Flow { id: UDP, transport: Transport::Udp, local, remote: from, peer: None };
        self.sip(cx, sip::Input::Received { flow, bytes: Bytes::from(octets) });
    }

    pub fn stream(&mut self, cx: &mut Cx, stream: usize, side: usize, what: What) {
        match cx.streams.get(stream).kind {
            Kind::Control => self.control(cx, stream, what),
            Kind::Border => self.border(cx, stream, side, what),
            Kind::Peer => self.peer(cx, stream, side, what),
        }
    }

    /// Nothing is under way, or it is not up.
    pub fn is_at_rest(&self) -> bool {
        let machines = self.life.as_ref().and_then(|life| life.machines.as_ref());
        machines.is_none_or(|it| {
            it.endpoint.is_empty() && it.core.under_way().iter().all(|(_, count)| *count == 0)
        })
    }

    pub fn timeout(&self) -> Option<Instant> {
        let life = self.life.as_ref()?;
        let machines = life.machines.as_ref()?;
        let peers = life.peers.replication.poll_timeout();
        let all = [machines.endpoint.poll_timeout(), machines.core.poll_timeout(), peers];
        all.into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, cx: &mut Cx) {
        let now = self.now(cx);
        if self.timeout().is_none_or(|at| at > now.instant) {
            return;
        }
        if let Some(machines) = self.machines() {
            machines.endpoint.handle_timeout(now.instant);
            machines.core.handle_timeout(now);
            self.drain(cx);
        }
        self.answers_overdue(cx);
    }

    /// Carries out what both machines ask until neither asks for more.
    fn drain(&mut self, cx: &mut Cx) {
        let now = self.now(cx);
        loop {
            let Some(machines) = self.machines() else { return };
            if let Some(output) = machines.endpoint.poll_output() {
                match output {
                    sip::Output::Event(event) => {
                        machines.core.handle_input(now, Input::Sip(event));
                    }
                    sip::Output::Resolve { key, .. } => {
                        let nothing = sip::Input::Resolved { key, targets: Vec::new() };
                        machines.endpoint.handle_input(now.instant, nothing);
                    }
                    sip::Output::Send { to, bytes, key } => self.send(cx, to, &bytes, key),
                }
            } else if let Some(output) = machines.core.poll_output() {
                self.carry_out(cx, output);
            } else {
                return self.tell_peers(cx);
            }
        }
    }

    fn carry_out(&mut self, cx: &mut Cx, output: Output) {
        let now = self.now(cx);
        match output {
            Output::Sip(input) => {
                if let Some(machines) = self.machines() {
                    machines.endpoint.handle_input(now.instant, input);
                }
            }
            Output::Relay { relay, id, request } => self.ask_relay(cx, &relay, id, request),
            // Nobody listens to messages here.
            Output::Wake(_) | Output::Messages { .. } => {}
            Output::Forget(call) => {
                if let Some(life) = &mut self.life {
                    life.peers.replication.forget(call);
                }
                let calls = vec![KeptCall::Gone(call)];
                self.write_down(cx, Entry { token: None, events: Vec::new(), calls });
            }
            Output::Journal { token, events, state } => {
                if let Some(life) = &mut self.life {
                    let replication = &mut life.peers.replication;
                    replication.journaled(now.instant, token, &events, state.as_ref());
                }
                if let Some(wrong) = cx.model.stated(self.number, &events) {
                    cx.fault(wrong);
                }
                for event in &events {
                    let (name, step) = (self.name(), crate::model::shown(&event.step));
                    cx.remark(format_args!("{name} {} {} {step}", event.call, event.sequence));
                }
                let calls = state.map(KeptCall::State).into_iter().collect();
                self.write_down(cx, Entry { token, events, calls });
            }
            Output::StoreBindings { token, changes } => {
                let takes = cx.database_time(self.region);
                self.later(cx, takes, Task::StoreBindings(token, changes));
            }
            Output::Log(log) => {
                let said = format!("{log} {log:?}");
                cx.note(format_args!("{} says {log}", self.name()));
                if let Some(name) = crate::model::named_in(said.as_bytes()) {
                    cx.fault(format!("a log names {name}: {said}"));
                }
            }
        }
    }

    fn write_down(&mut self, cx: &mut Cx, entry: Entry) {
        let Some(life) = &mut self.life else { return };
        let until = life.desk.take(cx.at(), entry);
        let pause = until.saturating_sub(cx.at());
        self.later(cx, pause, Task::Gather);
    }

    fn send(&mut self, cx: &mut Cx, to: SendTo, octets: &Bytes, key: Option<sip::ClientKey>) {
        let own = proxy_address(self.number);
        match &to {
            SendTo::Flow(flow) if flow.transport == Transport::Udp => {
                cx.datagram(self.node(), own, flow.remote, octets);
            }
            SendTo::Address { transport: Transport::Udp, addr, .. } => {
                cx.datagram(self.node(), own, *addr, octets);
            }
            SendTo::Flow(_) | SendTo::Region { .. } => self.cross(cx, to, octets, key),
            SendTo::Address { .. } => self.send_failed(cx, key, to),
        }
    }

    fn send_failed(&mut self, cx: &mut Cx, key: Option<sip::ClientKey>, to: SendTo) {
        let now = cx.instant();
        if let Some(machines) = self.machines() {
            machines.endpoint.handle_input(now, sip::Input::SendFailed { key, to });
        }
    }

    /// The process ends, or its machine loses power.
    pub fn die(&mut self, cx: &mut Cx, power_cut: bool) {
        self.life = None;
        match power_cut {
            true => self.disk.power_cut(),
            false => self.disk.process_died(),
        }
        for (stream, side) in cx.streams.of(self.node()) {
            match power_cut {
                true => cx.abandon(stream, side),
                false => cx.close(stream, side),
            }
        }
    }

    /// Runs again on a disk that works.
    pub fn mend(&mut self) {
        self.disk.set_health(Health::Well);
    }
}
