//! A small world under a virtual clock: cores with real SIP endpoints, phones
//! with real SIP endpoints, a relay that plays along, a network that can lose.
#![allow(dead_code)]

pub mod ledger;
pub mod parking;
pub mod phone;
pub mod relay;
pub mod tenants;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_call::binding::BindingChange;
use landline_call::directory::{AccountEntry, Directory, InterRegionAddress, RegionEntry};
use landline_call::record::Step;
use landline_call::tenancy::{Account, EdgePolicy, RecordingPolicy, Tenancy};
use landline_call::{
    Core, CoreConfig, Input, LocalAddress, Log, Output, PeerId, Replica, Snapshot, Tenants, Wake,
};
use landline_control::{FromRelay, Hello, Outcome, Refusal, RelayId, Request, SessionId};
use landline_region::catalogue::fields::SIP_UNDECLARED;
use landline_region::egress::Carried;
use landline_region::{CallSid, Entropy, Now, NumberKey, PseudonymKey, RegionCode, UnixMillis};
use landline_sip as sip;
use landline_sip::{Endpoint, EndpointConfig, Flow, FlowId, Listener, SendTo, Transport};

use ledger::Ledger;
use phone::{Leg, Phone};
use relay::FakeRelay;

/// What all regions share to find each other's numbers.
pub const NUMBER_KEY: [u8; 32] = [77; 32];

/// One way through the network.
const LATENCY: Duration = Duration::from_millis(1);

pub struct World {
    start: Instant,
    elapsed: Duration,
    pub proxies: Vec<Proxy>,
    pub phones: Vec<Phone>,
    network: BinaryHeap<Reverse<(Duration, u64, Delivery)>>,
    sent: u64,
    pub entropy: Entropy,
    /// Of a thousand datagrams this many are lost.
    pub loss: u64,
    /// Everything that one region's proxy sent to another's.
    pub crossed: Vec<String>,
    /// Addresses nothing reaches.
    pub dead: Vec<SocketAddr>,
    /// The next that is sent there finds its connection broken.
    pub broken: Vec<SocketAddr>,
    /// The proxies are one region's: they share the first one's relay.
    pub together: bool,
    /// They hear each other's words.
    pub linked: bool,
    /// Whose the sessions of that relay are.
    owners: BTreeMap<SessionId, usize>,
    shared: Directory,
    flows: BTreeMap<(SocketAddr, SocketAddr), u64>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Delivery {
    Packet(Packet),
    /// Something of a proxy's surroundings answers; by its place in a queue.
    ToCore(usize),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    to: SocketAddr,
    from: SocketAddr,
    transport: u8,
    peer: Option<String>,
    bytes: Vec<u8>,
}

pub struct Proxy {
    pub region: RegionCode,
    pub core: Core,
    pub endpoint: Endpoint,
    configs: (CoreConfig, EndpointConfig),
    /// Calls that former runs opened and closed.
    pub former: u64,
    pub relay: FakeRelay,
    /// Further relays of the region.
    pub others: BTreeMap<RelayId, FakeRelay>,
    /// Relays that do nothing any more.
    pub dead_relays: Vec<RelayId>,
    pub ledger: Ledger,
    /// What is on the ledger's disk of the answered calls.
    pub kept: BTreeMap<CallSid, Snapshot>,
    pub stored: Vec<BindingChange>,
    /// Devices that push services are asked to wake.
    pub wakes: Vec<Wake>,
    /// Calls whose callers listen to their messages.
    pub listening: Vec<CallSid>,
    pub tenancy: Tenancy,
    pub logs: Vec<Log>,
    pub listeners: Vec<(Transport, SocketAddr)>,
    pub inter_region: SocketAddr,
    pending: std::collections::VecDeque<Input>,
    /// The journal or the store do not answer.
    pub journal_stuck: bool,
    pub store_fails: bool,
}

/// One region, in which alice and bob talk.
pub fn up(seed: u8) -> (World, Leg, Leg) {
    talking(World::ie1(seed))
}

/// And in which every call is recorded.
pub fn up_recorded(seed: u8) -> (World, Leg, Leg) {
    let mut world = World::new(seed);
    let all = |account: &mut Account| account.recording = RecordingPolicy::All;
    world.add_proxy("ie1", 1, tenants::with_account(tenants::acme(), all), |_| {});
    world.share_directory();
    talking(world)
}

fn talking(mut world: World) -> (World, Leg, Leg) {
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (a, b) = world.call(alice, bob, "sip:bob@acme.test");
    (world, a, b)
}

impl World {
    pub fn new(seed: u8) -> Self {
        Self {
            start: Instant::now(),
            elapsed: Duration::ZERO,
            proxies: Vec::new(),
            phones: Vec::new(),
            network: BinaryHeap::new(),
            sent: 0,
            entropy: Entropy::new([seed; 32]),
            loss: 0,
            crossed: Vec::new(),
            dead: Vec::new(),
            broken: Vec::new(),
            together: false,
            linked: false,
            owners: BTreeMap::new(),
            shared: Directory::default(),
            flows: BTreeMap::new(),
        }
    }

    /// One region, ie1, with the usual tenancy and one relay.
    /// So many proxies of ie1 that stand in for each other.
    pub fn ie1_together(seed: u8, proxies: u8) -> Self {
        let mut world = Self::new(seed);
        for number in 1..=proxies {
            world.add_proxy("ie1", number, tenants::acme(), |config| {
                config.proxy = format!("proxy-{number}");
                config.signing_key = [1; 32];
                config.pseudonyms = PseudonymKey::new(&[1; 32]);
                config.has_peers = true;
            });
        }
        world.together = true;
        world.share_directory();
        for proxy in 1..usize::from(proxies) {
            world.link(proxy);
        }
        world
    }

    pub fn ie1(seed: u8) -> Self {
        let mut world = Self::new(seed);
        world.add_proxy("ie1", 1, tenants::acme(), |_| {});
        world.share_directory();
        world
    }

    pub fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            unix: UnixMillis(1_800_000_000_000 + self.elapsed.as_millis() as i64),
        }
    }

    pub fn add_proxy(
        &mut self,
        region: &str,
        number: u8,
        tenancy: Tenancy,
        configure: impl FnOnce(&mut CoreConfig),
    ) -> usize {
        let region: RegionCode = region.parse().unwrap();
        let at = |port: u16| SocketAddr::from(([10, 0, number, 1], port));
        let listeners =
            vec![(Transport::Udp, at(5060)), (Transport::Tls, at(5061)), (Transport::Ws, at(8080))];
        let inter_region = at(7061);
        let mut config = CoreConfig::new(region, "proxy-1", PseudonymKey::new(&[number; 32]));
        config.signing_key = [number; 32];
        config.number_key = Some(NumberKey::new(&NUMBER_KEY));
        config.product = Some("Landline".into());
        config.addresses = listeners
            .iter()
            .map(|(transport, local)| LocalAddress {
                transport: *transport,
                local: *local,
                host: local.ip().to_string(),
                port: local.port(),
            })
            .collect();
        config.inter_region = Some((inter_region.ip().to_string(), inter_region.port()));
        configure(&mut config);
        let mut endpoint_config = EndpointConfig::default();
        for (transport, local) in listeners.iter().chain([&(Transport::Tls, inter_region)]) {
            endpoint_config.listeners.push(Listener {
                transport: *transport,
                local: *local,
                advertised: (local.ip().to_string(), local.port()),
            });
        }
        let now = self.now();
        let endpoint = Endpoint::new(endpoint_config.clone(), self.entropy.seed(), now.instant);
        let core = Core::new(config.clone(), self.entropy.seed(), now);
        self.proxies.push(Proxy {
            region,
            core,
            endpoint,
            configs: (config, endpoint_config),
            former: 0,
            relay: FakeRelay::new(number),
            others: BTreeMap::new(),
            dead_relays: Vec::new(),
            ledger: Ledger::default(),
            kept: BTreeMap::new(),
            stored: Vec::new(),
            wakes: Vec::new(),
            listening: Vec::new(),
            tenancy: tenancy.clone(),
            logs: Vec::new(),
            listeners,
            inter_region,
            pending: Default::default(),
            journal_stuck: false,
            store_fails: false,
        });
        let proxy = self.proxies.len() - 1;
        self.input(proxy, Input::Tenancy(Arc::new(Tenants::new(&tenancy))));
        self.connect_relay(proxy);
        proxy
    }

    /// Those that live.
    fn connect_relays(&mut self, proxy: usize) {
        let first = &self.proxies[if self.together { 0 } else { proxy }];
        let all = [RelayId("relay-1".into())].into_iter().chain(first.others.keys().cloned());
        let there: Vec<_> = all.filter(|it| !first.dead_relays.contains(it)).collect();
        for relay in there {
            self.relay_links(proxy, &relay.0, 1);
        }
    }

    pub fn connect_relay(&mut self, proxy: usize) {
        self.relay_links(proxy, "relay-1", 1);
    }

    /// As this process of the relay.
    pub fn relay_links(&mut self, proxy: usize, name: &str, incarnation: u64) {
        let region = self.proxies[proxy].region;
        let hello = Hello { version: 1, region, name: name.into(), incarnation };
        let relay = RelayId(name.into());
        self.input(proxy, Input::RelayConnected { relay, hello });
    }

    /// A further relay of the region, which every proxy of it knows.
    pub fn add_relay(&mut self, name: &str, number: u8) {
        let first = if self.together { 0 } else { self.proxies.len() - 1 };
        let others = &mut self.proxies[first].others;
        others.insert(RelayId(name.into()), FakeRelay::new(number));
        for proxy in first..self.proxies.len() {
            self.relay_links(proxy, name, 1);
        }
    }

    /// Nothing of what the relay had is there any more, and nothing answers.
    pub fn relay_halts(&mut self, name: &str) {
        let relay = RelayId(name.into());
        let first = &mut self.proxies[0];
        first.others.get_mut(&relay).unwrap_or(&mut first.relay).forget();
        first.dead_relays.push(relay);
    }

    /// SIGKILL and a new process in its place: what was on its way inside is gone,
    /// what is on the ledger's disk is not.
    pub fn proxy_dies(&mut self, proxy: usize) {
        self.proxy_dies_for(proxy, Duration::ZERO);
    }

    /// With a while between the death and the new process.
    pub fn proxy_dies_for(&mut self, proxy: usize, away: Duration) {
        let died_at = self.now().unix;
        let address = self.proxies[proxy].listeners[0].1;
        self.proxies[proxy].pending.clear();
        let (core, endpoint) = self.proxies[proxy].configs.clone();
        let (seeds, now) = ([self.entropy.seed(), self.entropy.seed()], self.now());
        self.proxies[proxy].endpoint = Endpoint::new(endpoint, seeds[0], now.instant);
        self.proxies[proxy].core = Core::new(core, seeds[1], now);
        if !away.is_zero() {
            self.dead.push(address);
            self.run(away);
            self.dead.retain(|it| *it != address);
        }
        let at = &mut self.proxies[proxy];
        at.former += at.ledger.close_lost(&at.kept, died_at);
        let calls = at.kept.values().cloned().collect();
        let tenants = Arc::new(Tenants::new(&at.tenancy));
        self.input(proxy, Input::Directory(Arc::new(self.shared.clone())));
        self.input(proxy, Input::Tenancy(tenants));
        self.input(proxy, Input::Restore { calls, proven_until: died_at });
        self.connect_relays(proxy);
    }

    /// SIGKILL, and nothing in its place. Its disk stays.
    pub fn proxy_halts(&mut self, proxy: usize) {
        let (core, endpoint) = self.proxies[proxy].configs.clone();
        let (seeds, now) = ([self.entropy.seed(), self.entropy.seed()], self.now());
        let at = &mut self.proxies[proxy];
        at.pending.clear();
        at.endpoint = Endpoint::new(endpoint, seeds[0], now.instant);
        at.core = Core::new(core, seeds[1], now);
        let listeners = at.listeners.iter().map(|it| it.1);
        self.dead.extend(listeners.collect::<Vec<_>>());
        if self.linked {
            let name = self.peer(proxy);
            for other in self.others(proxy) {
                self.input(other, Input::PeerLost(name.clone()));
            }
        }
    }

    /// From now on the phones send to this proxy.
    pub fn go_by(&mut self, proxy: usize) {
        let address = self.proxies[proxy].listeners[0].1;
        for phone in &mut self.phones {
            phone.proxy = address;
        }
    }

    /// A new process takes up what is on its disk, but for what the others say
    /// that they have.
    pub fn proxy_returns(&mut self, proxy: usize, died_at: UnixMillis) {
        let mut carried = Vec::new();
        let name = self.peer(proxy);
        if self.linked {
            for other in self.others(proxy) {
                self.input(other, Input::PeerStarts(name.clone()));
                carried.extend(self.proxies[other].core.carried());
            }
        }
        let tenants = Arc::new(Tenants::new(&self.proxies[proxy].tenancy));
        let at = &mut self.proxies[proxy];
        at.kept.retain(|call, _| !carried.contains(call));
        let calls = at.kept.values().cloned().collect();
        let listeners: Vec<_> = at.listeners.iter().map(|it| it.1).collect();
        self.dead.retain(|it| !listeners.contains(it));
        self.input(proxy, Input::Directory(Arc::new(self.shared.clone())));
        self.input(proxy, Input::Tenancy(tenants));
        self.input(proxy, Input::Restore { calls, proven_until: died_at });
        self.connect_relays(proxy);
        if self.linked {
            self.link(proxy);
        }
    }

    /// The others hear of its calls, and it of theirs, from the beginning.
    pub fn link(&mut self, proxy: usize) {
        self.linked = true;
        for other in self.others(proxy) {
            for (from, to) in [(proxy, other), (other, proxy)] {
                self.input(to, Input::PeerUp(self.peer(from)));
                let kept: Vec<_> = self.proxies[from].kept.values().cloned().collect();
                kept.into_iter().for_each(|snapshot| self.replicate(from, to, snapshot));
            }
        }
    }

    /// None of them hears of another any more.
    pub fn unlink(&mut self) {
        self.linked = false;
        for proxy in 0..self.proxies.len() {
            for other in self.others(proxy) {
                self.input(proxy, Input::PeerLost(self.peer(other)));
            }
        }
    }

    pub fn peer(&self, proxy: usize) -> PeerId {
        PeerId(self.proxies[proxy].configs.0.proxy.clone())
    }

    fn others(&self, proxy: usize) -> Vec<usize> {
        (0..self.proxies.len()).filter(|it| *it != proxy).collect()
    }

    fn replicate(&mut self, from: usize, to: usize, snapshot: Snapshot) {
        let record = self.proxies[from].ledger.of(snapshot.call).cloned().collect();
        let replica = Box::new(Replica { snapshot, record });
        self.answer_core(to, Input::Replica { peer: self.peer(from), replica });
    }

    fn tell_gone(&mut self, from: usize, call: CallSid) {
        let others = if self.linked { self.others(from) } else { Vec::new() };
        for other in others {
            self.answer_core(other, Input::ReplicaGone { peer: self.peer(from), call });
        }
    }

    /// The one relay's answer, and its word to who had the session before.
    fn ask_shared(&mut self, proxy: usize, relay: &RelayId, request: Request) -> Option<Outcome> {
        let (id, adopts) = match &request {
            Request::Open(open) => (open.session, true),
            Request::Adopt(adopt) => (adopt.session, true),
            Request::TakeOver(take) => (take.adopt.session, true),
            Request::Resume(resume) => (resume.open.session, true),
            Request::Change(id, _) => (*id, false),
            Request::Close(close) => (close.session, false),
        };
        let owner = self.owners.get(&id).copied();
        if !adopts && owner != Some(proxy) {
            return Some(Outcome::Refused(Refusal::UnknownSession));
        }
        let first = &mut self.proxies[0];
        if first.dead_relays.contains(relay) {
            return None;
        }
        let outcome = first.others.get_mut(relay).unwrap_or(&mut first.relay).handle(request);
        if adopts && !matches!(outcome, Some(Outcome::Refused(_))) {
            self.owners.insert(id, proxy);
            if let Some(former) = owner.filter(|owner| *owner != proxy) {
                let (relay, message) = (relay.clone(), FromRelay::Taken(id));
                self.answer_core(former, Input::Relay { relay, message });
            }
        }
        outcome
    }

    /// Every proxy learns where every account of `tenants` is at home.
    pub fn share_directory(&mut self) {
        let mut directory = Directory { version: 1, ..Directory::default() };
        for proxy in &self.proxies {
            let address = proxy.inter_region;
            directory.regions.insert(
                proxy.region,
                RegionEntry {
                    jurisdiction: "IE".parse().unwrap(),
                    proxies: vec![InterRegionAddress {
                        host: address.ip().to_string(),
                        port: address.port(),
                    }],
                    public_uri: Some(format!("sip:{};transport=tls", proxy.listeners[1].1)),
                    console: None,
                },
            );
        }
        let usual = [tenants::acme(), tenants::globex()];
        let served = self.proxies.iter().map(|proxy| &proxy.tenancy);
        for tenancy in usual.iter().chain(served) {
            for account in &tenancy.accounts {
                directory.accounts.insert(account.domain.clone(), account.as_ref().into());
                for number in tenancy.numbers.iter().filter(|it| it.account == account.sid) {
                    let token = NumberKey::new(&NUMBER_KEY).token(number.e164.expose());
                    directory.numbers.insert(token, account.domain.clone());
                }
            }
        }
        self.set_directory(&directory);
    }

    /// The snapshot that was shared last.
    pub fn directory(&self) -> Directory {
        self.shared.clone()
    }

    pub fn set_directory(&mut self, directory: &Directory) {
        self.shared = directory.clone();
        let directory = Arc::new(directory.clone());
        for proxy in 0..self.proxies.len() {
            self.input(proxy, Input::Directory(directory.clone()));
        }
    }

    pub fn edge_policy(&mut self, domain: &str, policy: EdgePolicy) {
        let mut directory = Directory::default();
        let account = tenants::acme().accounts[0].clone();
        let entry = AccountEntry { edge_policy: policy, ..account.as_ref().into() };
        directory.accounts.insert(domain.to_owned(), entry);
        directory.regions.insert(
            "ie1".parse().unwrap(),
            RegionEntry {
                jurisdiction: "IE".parse().unwrap(),
                proxies: Vec::new(),
                public_uri: Some("sip:ie1.example:5061;transport=tls".into()),
                console: None,
            },
        );
        let directory = Arc::new(directory);
        for proxy in 0..self.proxies.len() {
            self.input(proxy, Input::Directory(directory.clone()));
        }
    }

    pub fn input(&mut self, proxy: usize, input: Input) {
        let now = self.now();
        self.proxies[proxy].core.handle_input(now, input);
        self.drain(proxy);
    }

    /// Runs until nothing is under way in the network, without waiting for any
    /// timer.
    pub fn settle(&mut self) {
        for _ in 0..20_000 {
            let Some(Reverse((at, ..))) = self.network.peek() else { return };
            let at = *at;
            self.advance_to(at);
        }
        panic!("the network never becomes quiet");
    }

    /// Lets time pass, timers included.
    pub fn run(&mut self, time: Duration) {
        let end = self.elapsed + time;
        for _ in 0..2_000_000 {
            let next = self.next_event().filter(|at| *at <= end);
            match next {
                Some(at) => self.advance_to(at),
                None => break,
            }
        }
        self.elapsed = end;
    }

    fn next_event(&self) -> Option<Duration> {
        let packet = self.network.peek().map(|Reverse((at, ..))| *at);
        let since = |at: Instant| at.saturating_duration_since(self.start);
        let proxies = self.proxies.iter().flat_map(|it| {
            [it.core.poll_timeout(), it.endpoint.poll_timeout()].into_iter().flatten()
        });
        let phones = self.phones.iter().filter_map(|it| it.endpoint.poll_timeout());
        packet.into_iter().chain(proxies.chain(phones).map(since)).min()
    }

    fn advance_to(&mut self, at: Duration) {
        self.elapsed = self.elapsed.max(at);
        let now = self.now();
        for proxy in 0..self.proxies.len() {
            self.proxies[proxy].endpoint.handle_timeout(now.instant);
            self.proxies[proxy].core.handle_timeout(now);
            self.drain(proxy);
        }
        for phone in 0..self.phones.len() {
            self.phones[phone].endpoint.handle_timeout(now.instant);
            self.drain_phone(phone);
        }
        while let Some(Reverse((due, ..))) = self.network.peek() {
            if *due > self.elapsed {
                break;
            }
            let Some(Reverse((_, _, delivery))) = self.network.pop() else { break };
            match delivery {
                Delivery::Packet(packet) => self.deliver(packet),
                Delivery::ToCore(proxy) => {
                    if let Some(input) = self.proxies[proxy].pending.pop_front() {
                        self.input(proxy, input);
                    }
                }
            }
        }
    }

    fn schedule(&mut self, delivery: Delivery) {
        self.sent += 1;
        self.network.push(Reverse((self.elapsed + LATENCY, self.sent, delivery)));
    }

    /// Something answers the core in a moment.
    pub fn answer_core(&mut self, proxy: usize, input: Input) {
        self.proxies[proxy].pending.push_back(input);
        self.schedule(Delivery::ToCore(proxy));
    }

    fn deliver(&mut self, packet: Packet) {
        if self.dead.contains(&packet.to) {
            return;
        }
        let transport = Transport::ALL[usize::from(packet.transport)];
        let id = match transport {
            Transport::Udp => 0,
            _ => self.flow_id(packet.to, packet.from),
        };
        let flow = Flow {
            id: FlowId(id),
            transport,
            local: packet.to,
            remote: packet.from,
            peer: packet.peer.as_deref().map(Into::into),
        };
        let input = sip::Input::Received { flow, bytes: Bytes::from(packet.bytes) };
        let now = self.now().instant;
        let is_at = |proxy: &Proxy| {
            proxy.inter_region == packet.to || proxy.listeners.iter().any(|it| it.1 == packet.to)
        };
        if let Some(proxy) = self.proxies.iter().position(is_at) {
            self.proxies[proxy].endpoint.handle_input(now, input);
            self.drain(proxy);
        } else if let Some(phone) = self.phones.iter().position(|it| it.address == packet.to) {
            self.phones[phone].endpoint.handle_input(now, input);
            self.drain_phone(phone);
        }
    }

    pub fn flow_id(&mut self, local: SocketAddr, remote: SocketAddr) -> u64 {
        let next = self.flows.len() as u64 + 1;
        *self.flows.entry((local, remote)).or_insert(next)
    }

    fn send(&mut self, from: Option<usize>, own: SocketAddr, to: SendTo, bytes: &Bytes) {
        let (source, target, transport, peer) = match to {
            SendTo::Flow(flow) => {
                let peer = flow.peer.is_some().then_some(from).flatten();
                (flow.local, flow.remote, flow.transport, peer)
            }
            SendTo::Address { transport, addr, .. } => {
                let source = match from {
                    Some(proxy) => {
                        let listeners = &self.proxies[proxy].listeners;
                        listeners.iter().find(|it| it.0 == transport).map_or(own, |it| it.1)
                    }
                    None => own,
                };
                (source, addr, transport, None)
            }
            SendTo::Region { host, port, .. } => {
                (own, SocketAddr::new(host.parse().unwrap(), port), Transport::Tls, from)
            }
        };
        if transport == Transport::Udp && self.entropy.u64() % 1000 < self.loss {
            return;
        }
        let peer = peer.map(|proxy| self.proxies[proxy].region.to_string());
        let transport = Transport::ALL.iter().position(|it| *it == transport).unwrap() as u8;
        if peer.is_some() {
            let undeclared = |it: &Carried| it.0.name == SIP_UNDECLARED.name;
            let carried = landline_call::crossing::carried(bytes);
            assert!(!carried.iter().any(undeclared), "{}", String::from_utf8_lossy(bytes));
            self.crossed.push(String::from_utf8_lossy(bytes).into_owned());
        }
        let bytes = bytes.to_vec();
        self.schedule(Delivery::Packet(Packet {
            to: target,
            from: source,
            transport,
            peer,
            bytes,
        }));
    }

    fn drain(&mut self, proxy: usize) {
        let now = self.now();
        loop {
            if let Some(output) = self.proxies[proxy].core.poll_output() {
                self.core_output(proxy, output);
            } else if let Some(output) = self.proxies[proxy].endpoint.poll_output() {
                match output {
                    sip::Output::Event(event) => {
                        self.proxies[proxy].core.handle_input(now, Input::Sip(event));
                    }
                    sip::Output::Send { to, bytes, key } => {
                        let own = self.proxies[proxy].inter_region;
                        if self.is_refused(&to) || self.breaks(&to) {
                            let failed = sip::Input::SendFailed { key, to };
                            self.proxies[proxy].endpoint.handle_input(now.instant, failed);
                        } else {
                            self.send(Some(proxy), own, to, &bytes);
                        }
                    }
                    sip::Output::Resolve { key, .. } => {
                        let nothing = sip::Input::Resolved { key, targets: Vec::new() };
                        self.proxies[proxy].endpoint.handle_input(now.instant, nothing);
                    }
                }
            } else {
                return;
            }
        }
    }

    /// Connections to where nobody is are refused; datagrams vanish.
    fn is_refused(&self, to: &SendTo) -> bool {
        to.transport() != Transport::Udp && self.dead.contains(&target(to))
    }

    fn breaks(&mut self, to: &SendTo) -> bool {
        let before = self.broken.len();
        self.broken.retain(|it| *it != target(to));
        self.broken.len() < before
    }

    fn core_output(&mut self, proxy: usize, output: Output) {
        let now = self.now();
        match output {
            Output::Sip(input) => self.proxies[proxy].endpoint.handle_input(now.instant, input),
            Output::Relay { relay, id, request } if self.together => {
                if let Some(outcome) = self.ask_shared(proxy, &relay, request) {
                    let message = FromRelay::Outcome(id, outcome);
                    self.answer_core(proxy, Input::Relay { relay, message });
                }
            }
            Output::Relay { relay, id, request } => {
                let to = &mut self.proxies[proxy];
                if to.dead_relays.contains(&relay) {
                    return;
                }
                let asked = to.others.get_mut(&relay).unwrap_or(&mut to.relay);
                if let Some(outcome) = asked.handle(request) {
                    let message = FromRelay::Outcome(id, outcome);
                    self.answer_core(proxy, Input::Relay { relay, message });
                }
            }
            Output::Journal { token, events, state } => {
                let kept = &mut self.proxies[proxy].kept;
                for event in &events {
                    if matches!(event.step, Step::Closed(_)) {
                        kept.remove(&event.call);
                    }
                }
                let told = state.clone().filter(|_| self.linked);
                kept.extend(state.map(|state| (state.call, state)));
                for event in events {
                    let is_end = matches!(event.step, Step::Closed(_));
                    let call = event.call;
                    self.proxies[proxy].ledger.append(event);
                    if is_end {
                        self.tell_gone(proxy, call);
                    }
                }
                if let Some(snapshot) = told {
                    for other in self.others(proxy) {
                        self.replicate(proxy, other, snapshot.clone());
                    }
                }
                if let Some(token) = token.filter(|_| !self.proxies[proxy].journal_stuck) {
                    self.answer_core(proxy, Input::Journaled(token));
                }
            }
            Output::Messages { call, .. } => self.proxies[proxy].listening.push(call),
            Output::Wake(wake) => self.proxies[proxy].wakes.push(wake),
            Output::Forget(call) => {
                self.proxies[proxy].kept.remove(&call);
                self.tell_gone(proxy, call);
            }
            Output::StoreBindings { token, changes } => {
                self.proxies[proxy].stored.extend(changes);
                let ok = !self.proxies[proxy].store_fails;
                self.answer_core(proxy, Input::BindingsStored { token, ok });
            }
            Output::Log(log) => self.proxies[proxy].logs.push(log),
        }
    }

    fn drain_phone(&mut self, phone: usize) {
        while let Some(output) = self.phones[phone].endpoint.poll_output() {
            match output {
                sip::Output::Event(event) => {
                    let now = self.now().instant;
                    let inputs = self.phones[phone].hear(event);
                    for input in inputs {
                        self.phones[phone].endpoint.handle_input(now, input);
                    }
                }
                sip::Output::Send { to, bytes, .. } => {
                    let own = self.phones[phone].address;
                    self.send(None, own, to, &bytes);
                }
                sip::Output::Resolve { .. } => panic!("phones resolve nothing"),
            }
        }
    }

    /// Hands a phone's endpoint something to do.
    pub fn phone_input(&mut self, phone: usize, input: sip::Input) {
        let now = self.now().instant;
        self.phones[phone].endpoint.handle_input(now, input);
        self.drain_phone(phone);
    }

    /// As [`Self::assert_at_rest`], where the relay was away and answers late.
    pub fn assert_at_rest_but_relay(&mut self) {
        self.run(Duration::from_secs(120));
        for proxy in &self.proxies {
            for (what, count) in proxy.core.under_way() {
                assert_eq!(count, 0, "{}: {what} left", proxy.region);
            }
            proxy.ledger.assert_closed();
        }
    }

    /// Everything is over: no call, leg, dialog, transaction or session is
    /// left, and every record was closed once.
    pub fn assert_at_rest(&mut self) {
        self.run(Duration::from_secs(120));
        for proxy in &self.proxies {
            for (what, count) in proxy.core.under_way() {
                assert_eq!(count, 0, "{}: {what} left", proxy.region);
            }
            let others = proxy.others.iter().filter(|it| !proxy.dead_relays.contains(it.0));
            let others: usize = others.map(|(_, relay)| relay.sessions()).sum();
            let first = match proxy.dead_relays.contains(&RelayId("relay-1".into())) {
                true => 0,
                false => proxy.relay.sessions(),
            };
            assert_eq!((first, others), (0, 0), "sessions left on the relays");
            assert_eq!(proxy.core.live().count(), 0);
            proxy.ledger.assert_closed();
            assert!(proxy.kept.is_empty(), "a call's state is left on disk");
            let counters = proxy.core.counters();
            let had = counters.calls_opened + counters.calls_restored;
            assert_eq!(had, counters.calls_closed + counters.calls_taken);
            if proxy.former == 0 && counters.calls_restored == 0 {
                assert_eq!(counters.calls_opened as usize, proxy.ledger.calls().len());
            }
        }
    }
}

fn target(to: &SendTo) -> SocketAddr {
    match to {
        SendTo::Flow(flow) => flow.remote,
        SendTo::Address { addr, .. } => *addr,
        SendTo::Region { host, port, .. } => SocketAddr::new(host.parse().unwrap(), *port),
    }
}
