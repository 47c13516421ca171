//! Two endpoints over a network that loses, repeats, delays and garbles: every
//! transaction ends in a defined way, both sides agree on what they must agree
//! on, and nothing is left behind.

mod lab;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lab::{peer, request};
use landline_sip::{
    ClientKey, Destination, Endpoint, EndpointConfig, Event, Flow, FlowId, HeaderName, Input,
    Listener, Method, Output, Request, Response, SendTo, ServerKey, StatusCode, Transport,
};

#[derive(Clone, Copy)]
struct Weather {
    lost: u64,
    doubled: u64,
    garbled: u64,
    /// Longest delay in milliseconds; unequal delays reorder.
    delay: u64,
}

const CALM: Weather = Weather { lost: 0, doubled: 0, garbled: 0, delay: 1 };
const ROUGH: Weather = Weather { lost: 20, doubled: 15, garbled: 2, delay: 900 };
const STORM: Weather = Weather { lost: 60, doubled: 30, garbled: 5, delay: 4000 };

/// xorshift64*: small, seeded, good enough to choose.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll(100) < chance
    }
}

/// How one request of the caller ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ending {
    successes: usize,
    refused: Option<u16>,
    failed: bool,
}

struct World {
    now: Instant,
    start: Instant,
    dice: Dice,
    weather: Weather,
    transport: Transport,
    sides: [Endpoint; 2],
    wire: BTreeMap<(Instant, u64), (usize, Bytes)>,
    sequence: u64,
    /// What the transaction users mean to do, and when.
    plans: BTreeMap<(Instant, u64), Plan>,
    endings: BTreeMap<ClientKey, Ending>,
    invites: BTreeMap<ClientKey, Request>,
    /// Seen by the callee, by Call-ID and method: at most one each.
    arrivals: BTreeMap<(String, String), usize>,
    open: BTreeMap<ServerKey, Request>,
    acked: usize,
    ack_timeouts: usize,
}

enum Plan {
    Cancel(ClientKey),
    Respond(ServerKey, u16),
}

impl World {
    fn new(seed: u64, weather: Weather, transport: Transport) -> Self {
        let now = Instant::now();
        let side = |n: u8| {
            let listener = |transport| Listener {
                transport,
                local: peer(5060 + u16::from(n)),
                advertised: ("192.0.2.9".into(), 5060 + u16::from(n)),
            };
            let config = EndpointConfig {
                listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
                ..Default::default()
            };
            Endpoint::new(config, [n; 32], now)
        };
        Self {
            now,
            start: now,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            weather,
            transport,
            sides: [side(0), side(1)],
            wire: BTreeMap::new(),
            sequence: 0,
            plans: BTreeMap::new(),
            endings: BTreeMap::new(),
            invites: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            open: BTreeMap::new(),
            acked: 0,
            ack_timeouts: 0,
        }
    }

    fn flow(&self, side: usize) -> Flow {
        let port = |side: usize| 5060 + side as u16;
        Flow {
            id: FlowId(side as u64),
            transport: self.transport,
            local: peer(port(side)),
            remote: peer(port(1 - side)),
            peer: None,
        }
    }

    fn begin(&mut self, key: u64, method: &str) {
        let text = lab::incoming(method, "z9hG4bKx").replace("c1", &format!("call{key}"));
        let mut request = request(&text);
        request.headers.remove_all(&HeaderName::Via);
        let key = ClientKey(key);
        self.endings.insert(key, Ending::default());
        if request.method == Method::Invite {
            self.invites.insert(key, request.clone());
            // The callee may be heard of no more; a caller gives up some day.
            self.plan(90_000, Plan::Cancel(key));
            if self.dice.percent(30) {
                let after = self.dice.roll(8000);
                self.plan(after, Plan::Cancel(key));
            }
        }
        let destination = Destination::Flow(self.flow(0));
        self.input(0, Input::Request { key, request, destination });
    }

    fn plan(&mut self, after: u64, plan: Plan) {
        self.sequence += 1;
        self.plans.insert((self.now + Duration::from_millis(after), self.sequence), plan);
    }

    fn input(&mut self, side: usize, input: Input) {
        self.sides[side].handle_input(self.now, input);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.sides[side].poll_output() {
            match output {
                Output::Send { to, bytes, .. } => self.send(side, &to, bytes),
                Output::Resolve { .. } => panic!("nothing is looked up here"),
                Output::Event(event) if side == 0 => self.caller_hears(event),
                Output::Event(event) => self.callee_hears(event),
            }
        }
    }

    fn send(&mut self, side: usize, to: &SendTo, bytes: Bytes) {
        assert!(matches!(to, SendTo::Flow(_)));
        let copies = if self.transport.is_reliable() {
            1
        } else if self.dice.percent(self.weather.lost) {
            0
        } else {
            1 + usize::from(self.dice.percent(self.weather.doubled))
        };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if !self.transport.is_reliable() && self.dice.percent(self.weather.garbled) {
                let mut garbled = bytes.to_vec();
                let at = self.dice.roll(garbled.len() as u64) as usize;
                garbled[at] = self.dice.roll(256) as u8;
                bytes = garbled.into();
            }
            let delay = 1 + self.dice.roll(self.weather.delay);
            self.sequence += 1;
            let at = self.now + Duration::from_millis(delay);
            self.wire.insert((at, self.sequence), (1 - side, bytes));
        }
    }

    fn caller_hears(&mut self, event: Event) {
        match event {
            Event::Response { key, response } => {
                let status = response.status;
                let ending = self.endings.get_mut(&key).expect("a request of ours");
                assert!(ending.refused.is_none() && !ending.failed, "{key:?} had ended");
                if !status.is_final() {
                    return;
                }
                if !status.is_success() {
                    assert_eq!(ending.successes, 0);
                    ending.refused = Some(status.code());
                    return;
                }
                ending.successes += 1;
                if self.invites.contains_key(&key) {
                    self.acknowledge(key, &response);
                }
            }
            Event::ClientFailed { key, .. } => {
                let ending = self.endings.get_mut(&key).expect("a request of ours");
                assert_eq!(*ending, Ending::default(), "{key:?} had ended");
                ending.failed = true;
            }
            // A garbled response that became a request.
            _ => {}
        }
    }

    fn acknowledge(&mut self, key: ClientKey, response: &Response) {
        let invite = &self.invites[&key];
        let mut ack = Request::new(Method::Ack, invite.uri.clone());
        for name in [HeaderName::From, HeaderName::CallId] {
            ack.headers.push(name.clone(), invite.headers.get(&name).unwrap().clone());
        }
        ack.headers.push(HeaderName::To, response.headers.get(&HeaderName::To).unwrap().clone());
        ack.headers.push(HeaderName::CSeq, "7 ACK");
        let destination = Destination::Flow(self.flow(0));
        self.input(0, Input::Forward { request: ack, destination });
    }

    fn callee_hears(&mut self, event: Event) {
        match event {
            Event::Request { key: Some(key), request, .. } => {
                let name = (
                    request.call_id().unwrap().to_str_lossy().into_owned(),
                    request.method.as_str().to_owned(),
                );
                *self.arrivals.entry(name).or_default() += 1;
                if request.method == Method::Invite {
                    let after = self.dice.roll(500);
                    self.plan(after, Plan::Respond(key, 180));
                }
                let final_code = [200, 200, 486, 603, 401][self.dice.roll(5) as usize];
                let after = self.dice.roll(12_000);
                self.plan(after, Plan::Respond(key, final_code));
                self.open.insert(key, request);
            }
            Event::Cancelled { key } => self.respond(key, 487),
            Event::Acked { .. } => self.acked += 1,
            Event::AckTimeout { .. } => self.ack_timeouts += 1,
            _ => {}
        }
    }

    fn respond(&mut self, key: ServerKey, code: u16) {
        let status = StatusCode::new(code).unwrap();
        let request = match status.is_final() {
            true => self.open.remove(&key),
            false => self.open.get(&key).cloned(),
        };
        let Some(request) = request else { return };
        let response = Response::for_request(&request, status).with_to_tag("us");
        self.input(1, Input::Respond { key, response });
    }

    fn step(&mut self) -> bool {
        let timers = self.sides.iter().filter_map(Endpoint::poll_timeout);
        let wire = self.wire.keys().next().map(|(at, _)| *at);
        let plan = self.plans.keys().next().map(|(at, _)| *at);
        let Some(next) = timers.chain(wire).chain(plan).min() else { return false };
        self.now = self.now.max(next);
        for side in 0..2 {
            self.sides[side].handle_timeout(self.now);
            self.drain(side);
        }
        if wire == Some(next) {
            let (_, (side, bytes)) = self.wire.pop_first().unwrap();
            let flow = self.flow(side);
            self.input(side, Input::Received { flow, bytes });
        } else if plan == Some(next) {
            match self.plans.pop_first().unwrap().1 {
                Plan::Cancel(key) => self.input(0, Input::Cancel { key, reason: None }),
                Plan::Respond(key, code) => self.respond(key, code),
            }
        }
        true
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self) {
        while self.step() {
            assert!(self.now - self.start < Duration::from_secs(600), "it never ends");
        }
        for (name, side) in ["caller", "callee"].iter().zip(&self.sides) {
            assert_eq!(side.len(), 0, "{name} keeps transactions");
            assert_eq!(side.poll_timeout(), None);
        }
        for (key, ending) in &self.endings {
            let ways = [ending.successes > 0, ending.refused.is_some(), ending.failed];
            let ways = ways.into_iter().filter(|way| *way).count();
            assert_eq!(ways, 1, "{key:?} ended as {ending:?}");
            // A garbled To tag is another fork.
            assert!(ending.successes <= 1 || self.weather.garbled > 0, "{key:?}: {ending:?}");
        }
    }
}

fn mix(seed: u64, weather: Weather, transport: Transport) -> World {
    let mut world = World::new(seed, weather, transport);
    for key in 1..=12 {
        world.begin(key, ["INVITE", "OPTIONS", "INVITE", "REGISTER"][(key % 4) as usize]);
    }
    world.run();
    world
}

#[test]
fn in_calm_weather_every_request_is_answered_and_nothing_is_repeated_in_vain() {
    for transport in [Transport::Udp, Transport::Tcp] {
        for seed in 1..=20 {
            let world = mix(seed, CALM, transport);
            assert!(world.endings.values().all(|ending| !ending.failed), "seed {seed}");
            assert!(world.arrivals.values().all(|count| *count == 1));
            assert_eq!(world.ack_timeouts, 0);
            let invited: usize = world.invites.keys().map(|key| world.endings[key].successes).sum();
            assert_eq!(world.acked, invited);
        }
    }
}

#[test]
fn rough_weather_delays_and_loses_no_answer() {
    for seed in 1..=150 {
        let world = mix(seed, ROUGH, Transport::Udp);
        let failed = world.endings.values().filter(|ending| ending.failed).count();
        // Ten repetitions through 20 % loss: only a garbled last word can fail one.
        assert!(failed <= 1, "seed {seed}: {:?}", world.endings);
        for ((call, method), count) in &world.arrivals {
            assert!(*count <= 2, "seed {seed}: {method} of {call} passed up {count} times");
        }
    }
}

#[test]
fn through_a_storm_everything_ends_and_nothing_leaks() {
    let mut failed = 0;
    for seed in 1..=150 {
        let world = mix(seed, STORM, Transport::Udp);
        failed += world.endings.values().filter(|ending| ending.failed).count();
    }
    assert!(failed > 0, "the storm was none");
}

#[test]
fn the_same_seed_makes_the_same_weather() {
    let once = mix(42, STORM, Transport::Udp);
    let twice = mix(42, STORM, Transport::Udp);
    assert_eq!(once.endings, twice.endings);
    assert_eq!(once.now - once.start, twice.now - twice.start);
    assert_eq!(once.sides[1].counters(), twice.sides[1].counters());
}
