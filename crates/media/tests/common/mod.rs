//! Two legs on a wire of their own, in virtual time.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use landline_control::{
    Direction, DtlsParameters, DtlsRole, IpFamily, LegKeys, LegLocal, LegSpec, MediaFault,
    PayloadType, Protocol, Remote, SdesPair, SrtpSuite,
};
use landline_media::{Component, Identity, Leg, LegConfig, LegOutput, PacketBuf, Received, rtp};

pub const SUITES: [SrtpSuite; 2] = [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AeadAes128Gcm];

pub fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY.get_or_init(|| Arc::new(Identity::generate().unwrap())).clone()
}

pub fn spec(protocol: Protocol) -> LegSpec {
    let suites = if protocol == Protocol::Sdes { SUITES.to_vec() } else { Vec::new() };
    LegSpec { protocol, ice: false, rtcp_mux: true, family: IpFamily::V4, suites }
}

pub fn config(spec: LegSpec, seed: u8) -> LegConfig {
    LegConfig::new(spec, Some(identity()), [seed; 32])
}

pub fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

/// One side: a leg and where it is.
pub struct Side {
    pub leg: Leg,
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
    pub started: bool,
    pub faults: Vec<MediaFault>,
    /// As told last.
    pub keys: Option<LegKeys>,
    /// Plain packets that arrived.
    pub heard: Vec<(Component, Vec<u8>)>,
}

impl Side {
    pub fn new(config: LegConfig, host: u8, now: Instant) -> Self {
        Self {
            leg: Leg::new(config, now),
            rtp: address(host, 4000),
            rtcp: address(host, 4001),
            started: false,
            faults: Vec::new(),
            keys: None,
            heard: Vec::new(),
        }
    }

    pub fn local(&self) -> LegLocal {
        self.leg.local(self.rtp, self.rtcp)
    }

    fn source(&self, component: Component) -> SocketAddr {
        match component {
            Component::Rtp | Component::Stream => self.rtp,
            Component::Rtcp => self.rtcp,
        }
    }
}

/// What a peer's description says to us, from what its leg has to offer.
pub fn remote(peer: &LegLocal, own_role: DtlsRole) -> Remote {
    Remote {
        rtp: peer.rtp,
        rtcp: peer.rtcp,
        rtcp_mux: true,
        ice: peer.ice.clone(),
        dtls: peer
            .fingerprint
            .clone()
            .map(|it| DtlsParameters { fingerprints: vec![it], role: own_role }),
        sdes: None,
        direction: Direction::SendReceive,
        payload_types: vec![kind(0, "PCMU", 8000), kind(101, "TELEPHONE-EVENT", 8000)],
    }
}

pub fn kind(number: u8, encoding: &str, clock_rate: u32) -> PayloadType {
    PayloadType { number, encoding: encoding.into(), clock_rate, channels: 1 }
}

pub fn sdes(own: &LegLocal, peer: &LegLocal, suite: SrtpSuite) -> SdesPair {
    let key = |of: &LegLocal| of.sdes.iter().find(|key| key.suite == suite).unwrap().clone();
    SdesPair { send: key(own), receive: key(peer) }
}

/// The wire between two sides, and its clock.
pub struct Wire {
    pub a: Side,
    pub b: Side,
    pub now: Instant,
    /// Which of the datagrams sent so far are lost, by their number.
    pub loses: Box<dyn FnMut(usize) -> bool>,
    /// Which come twice.
    pub doubles: Box<dyn FnMut(usize) -> bool>,
    pub sent: usize,
    pub longest: usize,
}

impl Wire {
    pub fn new(a: LegConfig, b: LegConfig) -> Self {
        let now = Instant::now();
        Self {
            a: Side::new(a, 1, now),
            b: Side::new(b, 2, now),
            now,
            loses: Box::new(|_| false),
            doubles: Box::new(|_| false),
            sent: 0,
            longest: 0,
        }
    }

    /// Tells each side what the other has, after `adapt`ing both descriptions.
    pub fn describe(&mut self, adapt: impl Fn(&mut Remote)) {
        let (a, b) = (self.a.local(), self.b.local());
        let mut to_a = remote(&b, DtlsRole::Server);
        let mut to_b = remote(&a, DtlsRole::Client);
        adapt(&mut to_a);
        adapt(&mut to_b);
        self.a.leg.set_remote(self.now, &to_a).unwrap();
        self.b.leg.set_remote(self.now, &to_b).unwrap();
    }

    pub fn describe_sdes(&mut self, suite: SrtpSuite) {
        let (a, b) = (self.a.local(), self.b.local());
        let mut to_a = remote(&b, DtlsRole::Server);
        to_a.sdes = Some(sdes(&a, &b, suite));
        let mut to_b = remote(&a, DtlsRole::Client);
        to_b.sdes = Some(sdes(&b, &a, suite));
        self.a.leg.set_remote(self.now, &to_a).unwrap();
        self.b.leg.set_remote(self.now, &to_b).unwrap();
    }

    /// Carries what both sides want to send until they are quiet.
    pub fn settle(&mut self) {
        while self.carry(true) | self.carry(false) {}
    }

    fn carry(&mut self, from_a: bool) -> bool {
        let (from, to) =
            if from_a { (&mut self.a, &mut self.b) } else { (&mut self.b, &mut self.a) };
        let mut any = false;
        while let Some(output) = from.leg.poll_output() {
            any = true;
            match output {
                LegOutput::Started => from.started = true,
                LegOutput::Fault(fault) => from.faults.push(fault),
                LegOutput::Keyed(keys) => from.keys = Some(*keys),
                LegOutput::Transmit { component, to: _, bytes } => {
                    self.sent += 1;
                    self.longest = self.longest.max(bytes.len());
                    let copies = match (self.loses)(self.sent) {
                        true => 0,
                        false => 1 + usize::from((self.doubles)(self.sent)),
                    };
                    for _ in 0..copies {
                        let mut packet = PacketBuf::from_slice(&bytes).unwrap();
                        to.leg.receive(self.now, component, from.source(component), &mut packet);
                    }
                }
            }
        }
        any
    }

    /// Lets time pass, from timeout to timeout.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        for _ in 0..10_000 {
            let due = [self.a.leg.poll_timeout(), self.b.leg.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.a.leg.handle_timeout(self.now);
            self.b.leg.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// Side A's media to side B. True when it arrived as it was.
    pub fn a_speaks(&mut self, component: Component, plain: &[u8]) -> bool {
        speak(&mut self.a, &mut self.b, self.now, component, plain)
    }

    pub fn b_speaks(&mut self, component: Component, plain: &[u8]) -> bool {
        speak(&mut self.b, &mut self.a, self.now, component, plain)
    }
}

fn speak(from: &mut Side, to: &mut Side, now: Instant, component: Component, plain: &[u8]) -> bool {
    let mut packet = PacketBuf::from_slice(plain).unwrap();
    let Some((socket, _)) = from.leg.send(now, component, &mut packet) else { return false };
    match to.leg.receive(now, socket, from.source(socket), &mut packet) {
        Received::Rtp(_) | Received::Rtcp => {
            to.heard.push((component, packet.as_slice().to_vec()));
            packet.as_slice() == plain
        }
        _ => false,
    }
}

pub fn rtp_packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let timestamp = u32::from(sequence) * 160;
    [&rtp::write_header(false, 0, sequence, timestamp, 0x1234_5678)[..], payload].concat()
}

/// A sender report and a source description.
pub fn rtcp_packet() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend_from_slice(&0x1234_5678_u32.to_be_bytes());
    packet.extend_from_slice(&[7; 20]);
    packet.extend_from_slice(&[0x81, 202, 0, 2, 0x12, 0x34, 0x56, 0x78, 1, 1, b'x', 0]);
    packet
}
