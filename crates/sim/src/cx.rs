//! What every machine of a run shares: the clock, the network, what is known of
//! who is where, and the model that watches.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use landline_region::{Now, UnixMillis};

use crate::chance::Chance;
use crate::database::Database;
use crate::model::Model;
use crate::phone::nat::Nat;
use crate::plan::Plan;
use crate::stream::Streams;
use crate::trace::Trace;

/// 2027-01-15T08:00:00Z: where every run's wall clock begins.
const EPOCH: i64 = 1_800_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Proxy(usize),
    Relay(usize),
    Phone(usize),
}

pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub octets: Vec<u8>,
}

/// What is to happen. What is for a process carries which of its lives it is
/// for: the next one knows nothing of it.
pub enum Event {
    Packet(Packet),
    /// Something waits at this side of a stream.
    Stream(usize, usize),
    Proxy(usize, u64, crate::proxy::Task),
    Relay(usize, u64, crate::relay::Task),
    Phone(usize, u64, crate::phone::Act),
    Chaos(crate::chaos::Strike),
}

struct Due {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub struct Cx {
    pub plan: Plan,
    pub chance: Chance,
    pub trace: Trace,
    pub model: Model,
    pub streams: Streams,
    pub databases: Vec<Database>,
    pub nats: Vec<Nat>,
    /// Pairs that cannot reach each other.
    pub parted: BTreeSet<(Node, Node)>,
    /// The chaos is over: all runs to its rest.
    pub is_over: bool,
    start: Instant,
    elapsed: Duration,
    queue: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
}

impl Cx {
    pub fn new(plan: Plan) -> Self {
        Self {
            chance: Chance::new(plan.seed ^ 0x5eed_0fca_1100_0000),
            trace: Trace::default(),
            model: Model::default(),
            streams: Streams::default(),
            databases: Vec::new(),
            nats: Vec::new(),
            parted: BTreeSet::new(),
            is_over: false,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            plan,
        }
    }

    pub fn at(&self) -> Duration {
        self.elapsed
    }

    pub fn instant(&self) -> Instant {
        self.start + self.elapsed
    }

    /// As a machine reads it whose wall clock is off by `skew` milliseconds.
    pub fn now(&self, skew: i64) -> Now {
        let unix = UnixMillis(EPOCH + self.elapsed.as_millis() as i64 + skew);
        Now { instant: self.instant(), unix }
    }

    pub fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    pub fn advance(&mut self, at: Duration) {
        self.elapsed = self.elapsed.max(at);
    }

    pub fn after(&mut self, pause: Duration, event: Event) {
        self.scheduled += 1;
        let due = Due { at: self.elapsed + pause, number: self.scheduled, event };
        self.queue.push(Reverse(due));
    }

    pub fn next_event(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse(due)| due.at)
    }

    pub fn pop(&mut self) -> Option<Event> {
        let due = self.queue.peek().is_some_and(|Reverse(due)| due.at <= self.elapsed);
        if !due {
            return None;
        }
        self.queue.pop().map(|Reverse(due)| due.event)
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.elapsed, what);
    }

    pub fn remark(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.remark(self.elapsed, what);
    }

    /// Something is not as it must be.
    pub fn fault(&mut self, what: String) {
        self.trace.remark(self.elapsed, format_args!("FAULT {what}"));
        self.model.fault(self.trace.steps, what);
    }

    pub fn are_parted(&self, a: Node, b: Node) -> bool {
        self.parted.contains(&(a.min(b), a.max(b)))
    }

    /// A datagram on its way, by the sender's NAT and through the network.
    pub fn datagram(&mut self, sender: Node, from: SocketAddr, to: SocketAddr, octets: &[u8]) {
        let from = match sender {
            Node::Phone(phone) => {
                let limit = self.elapsed;
                match self.nats[phone].outward(from, to, limit) {
                    Some(public) => public,
                    None => return,
                }
            }
            _ => from,
        };
        let Some(receiver) = node_at(to) else { return };
        if self.are_parted(sender, receiver) || self.chance.per_mille(self.plan.lost) {
            return;
        }
        let twice = self.chance.per_mille(self.plan.doubled);
        for _ in 0..=usize::from(twice) {
            let mut delay = self.chance.millis(2, 30);
            if self.chance.per_mille(self.plan.late) {
                delay += self.chance.millis(20, 900);
            }
            let packet = Packet { from, to, octets: octets.to_vec() };
            self.after(delay, Event::Packet(packet));
        }
    }
}

pub fn proxy_address(proxy: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, proxy as u8 + 1, 1], 5060))
}

/// Where other regions' proxies reach it.
pub fn border_address(proxy: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, proxy as u8 + 1, 1], 7061))
}

pub fn relay_address(relay: usize) -> IpAddr {
    IpAddr::from([10, 1, relay as u8 + 1, 9])
}

/// Behind the phone's NAT.
pub fn phone_address(phone: usize) -> SocketAddr {
    SocketAddr::from(([192, 168, phone as u8 + 1, 2], 5060))
}

pub fn nat_address(phone: usize) -> IpAddr {
    IpAddr::from([203, 0, phone as u8 + 1, 1])
}

/// Who is reached at a public address.
pub fn node_at(address: SocketAddr) -> Option<Node> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    match ip.octets() {
        [10, 0, number, 1] => Some(Node::Proxy(usize::from(number) - 1)),
        [10, 1, number, 9] => Some(Node::Relay(usize::from(number) - 1)),
        [203, 0, number, 1] => Some(Node::Phone(usize::from(number) - 1)),
        _ => None,
    }
}

impl Cx {
    /// How long a region's database takes for a statement.
    pub fn database_time(&mut self, region: usize) -> Duration {
        use crate::database::Standing;
        match self.databases[region].standing {
            Standing::Slow => self.chance.millis(200, 5_000),
            Standing::Down => self.chance.millis(1, 2_000),
            Standing::Up | Standing::Lies => self.chance.millis(2, 25),
        }
    }
}
