//! SRTP per packet beside webrtc-srtp, and what forwarding a packet from one
//! leg to another costs without the sockets.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use landline_control::{
    Direction, DtlsRole, IpFamily, LegLocal, LegSpec, PayloadType, Protocol, Remote, SdesPair,
    SrtpSuite,
};
use landline_media::srtp::Context;
use landline_media::{Component, Leg, LegConfig, PacketBuf, Received, rtp};
use webrtc_srtp::context::Context as Peer;
use webrtc_srtp::protection_profile::ProtectionProfile;

const SUITES: [(SrtpSuite, ProtectionProfile); 2] = [
    (SrtpSuite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    (SrtpSuite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
];

/// 20 ms of G.711, the packet of most calls.
const PAYLOAD: usize = 160;

/// Packets of one stream, in order, for ever.
struct Stream {
    bytes: [u8; rtp::FIXED_HEADER + PAYLOAD],
    sequence: u16,
}

impl Stream {
    fn new() -> Self {
        Self { bytes: [0x55; rtp::FIXED_HEADER + PAYLOAD], sequence: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.sequence = self.sequence.wrapping_add(1);
        let timestamp = u32::from(self.sequence) * 160;
        let header = rtp::write_header(false, 0, self.sequence, timestamp, 0x1234_5678);
        self.bytes[..rtp::FIXED_HEADER].copy_from_slice(&header);
        &self.bytes
    }
}

fn key(suite: SrtpSuite) -> Vec<u8> {
    (0..suite.key_and_salt_len() as u8).collect()
}

fn contexts(suite: SrtpSuite, profile: ProtectionProfile) -> (Context, Peer) {
    let key = key(suite);
    let peer = Peer::new(&key[..16], &key[16..], profile, None, None).expect("the key's length");
    (Context::new(suite, &key).expect("the key's length"), peer)
}

fn protect(c: &mut Criterion) {
    for (suite, profile) in SUITES {
        let mut group = c.benchmark_group(format!("srtp/protect/{}", suite.name()));
        group.throughput(Throughput::Elements(1));
        let (mut ours, mut theirs) = contexts(suite, profile);
        let (mut stream, mut packet) = (Stream::new(), PacketBuf::new());
        group.bench_function("landline", |b| {
            b.iter(|| {
                packet.copy_from(stream.next());
                ours.protect_rtp(&mut packet).expect("a fresh packet");
                black_box(packet.as_slice());
            });
        });
        let mut stream = Stream::new();
        group.bench_function("webrtc-srtp", |b| {
            b.iter(|| black_box(theirs.encrypt_rtp(stream.next()).expect("a fresh packet")));
        });
    }
}

fn unprotect(c: &mut Criterion) {
    for (suite, profile) in SUITES {
        let mut group = c.benchmark_group(format!("srtp/unprotect/{}", suite.name()));
        group.throughput(Throughput::Elements(1));
        let (mut ours, mut theirs) = contexts(suite, profile);
        let (mut our_sender, _) = contexts(suite, profile);
        let mut stream = Stream::new();
        group.bench_function("landline", |b| {
            b.iter_batched_ref(
                || protected(&mut our_sender, &mut stream),
                |packet| ours.unprotect_rtp(packet).expect("authentic"),
                BatchSize::NumIterations(1000),
            );
        });
        let (mut their_sender, _) = contexts(suite, profile);
        let mut stream = Stream::new();
        group.bench_function("webrtc-srtp", |b| {
            b.iter_batched_ref(
                || protected(&mut their_sender, &mut stream),
                |packet| theirs.decrypt_rtp(packet.as_slice()).expect("authentic"),
                BatchSize::NumIterations(1000),
            );
        });
    }
}

fn protected(sender: &mut Context, stream: &mut Stream) -> PacketBuf {
    let mut packet = PacketBuf::from_slice(stream.next()).expect("a short packet");
    sender.protect_rtp(&mut packet).expect("a fresh packet");
    packet
}

/// A packet into one leg and out of its partner.
fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("leg/forward");
    group.throughput(Throughput::Elements(1));
    let counter = Some(SrtpSuite::AesCm128HmacSha1_80);
    let gcm = Some(SrtpSuite::AeadAes128Gcm);
    for (name, from, to) in [
        ("rtp-to-rtp", None, None),
        ("rtp-to-srtp-cm", None, counter),
        ("srtp-cm-to-rtp", counter, None),
        ("srtp-cm-to-srtp-cm", counter, counter),
        ("rtp-to-srtp-gcm", None, gcm),
        ("srtp-gcm-to-rtp", gcm, None),
        ("srtp-gcm-to-srtp-gcm", gcm, gcm),
    ] {
        let now = Instant::now();
        let (mut phone, mut inward) = pair(from, now);
        let (_, mut outward) = pair(to, now);
        let mut stream = Stream::new();
        let mut incoming = || {
            let mut packet = PacketBuf::from_slice(stream.next()).expect("a short packet");
            phone.send(now, Component::Rtp, &mut packet).expect("a described leg");
            packet
        };
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                &mut incoming,
                |packet| {
                    let received = inward.receive(now, Component::Rtp, address(1), packet);
                    assert!(matches!(received, Received::Rtp(_)));
                    black_box(outward.send(now, Component::Rtp, packet).expect("a described leg"))
                },
                BatchSize::NumIterations(1000),
            );
        });
    }
}

/// A phone's leg and the relay's, which know each other.
fn pair(suite: Option<SrtpSuite>, now: Instant) -> (Leg, Leg) {
    let (mut phone, mut relay) = (leg(suite, 1, now), leg(suite, 2, now));
    let of_phone = phone.local(address(1), address(1));
    let of_relay = relay.local(address(2), address(2));
    phone.set_remote(now, &remote(&of_relay, &of_phone)).expect("a description that fits");
    relay.set_remote(now, &remote(&of_phone, &of_relay)).expect("a description that fits");
    (phone, relay)
}

fn leg(suite: Option<SrtpSuite>, seed: u8, now: Instant) -> Leg {
    let protocol = if suite.is_some() { Protocol::Sdes } else { Protocol::Rtp };
    let suites = suite.into_iter().collect();
    let spec = LegSpec { protocol, ice: false, rtcp_mux: true, family: IpFamily::V4, suites };
    Leg::new(LegConfig::new(spec, None, [seed; 32]), now)
}

fn remote(peer: &LegLocal, own: &LegLocal) -> Remote {
    let keys = own.sdes.first().zip(peer.sdes.first());
    let kind = |number, encoding: &str| PayloadType {
        number,
        encoding: encoding.to_owned(),
        clock_rate: 8000,
        channels: 1,
    };
    Remote {
        rtp: peer.rtp,
        rtcp: peer.rtcp,
        rtcp_mux: true,
        ice: None,
        dtls: None,
        sdes: keys.map(|(send, receive)| SdesPair { send: send.clone(), receive: receive.clone() }),
        direction: Direction::SendReceive,
        payload_types: vec![kind(0, "PCMU"), kind(101, "TELEPHONE-EVENT")],
    }
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4000))
}

/// One whole handshake, both ends.
fn handshake(c: &mut Criterion) {
    let identity = std::sync::Arc::new(landline_media::Identity::generate().expect("an identity"));
    c.bench_function("dtls/handshake-both-ends", |b| {
        b.iter(|| {
            let now = Instant::now();
            let spec = LegSpec {
                protocol: Protocol::Dtls,
                ice: false,
                rtcp_mux: true,
                family: IpFamily::V4,
                suites: Vec::new(),
            };
            let config = |seed| LegConfig::new(spec.clone(), Some(identity.clone()), [seed; 32]);
            let mut legs = [Leg::new(config(1), now), Leg::new(config(2), now)];
            let locals =
                [legs[0].local(address(1), address(1)), legs[1].local(address(2), address(2))];
            for (n, role) in [(0, DtlsRole::Server), (1, DtlsRole::Client)] {
                let mut described = remote(&locals[1 - n], &locals[n]);
                let fingerprints = locals[1 - n].fingerprint.clone().into_iter().collect();
                described.dtls = Some(landline_control::DtlsParameters { fingerprints, role });
                legs[n].set_remote(now, &described).expect("a description that fits");
            }
            let mut from = 1;
            while legs[0].suite().is_none() || legs[1].suite().is_none() {
                while let Some(output) = legs[from].poll_output() {
                    let landline_media::LegOutput::Transmit { bytes, .. } = output else {
                        continue;
                    };
                    let mut packet = PacketBuf::from_slice(&bytes).expect("a short flight");
                    let source = locals[from].rtp;
                    legs[1 - from].receive(now, Component::Rtp, source, &mut packet);
                }
                from = 1 - from;
            }
        });
    });
}

criterion_group!(benches, protect, unprotect, forward, handshake);
criterion_main!(benches);
