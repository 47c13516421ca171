//! Whatever arrives, a leg neither panics nor stops working.

mod common;

use std::time::Duration;

use common::{Wire, address, config, rtcp_packet, rtp_packet, spec};
use landline_control::{Protocol, SrtpSuite};
use landline_media::{Component, DtlsBackend, LegOutput, PacketBuf};

/// A small generator of repeatable noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(4) {
            match self.next(4) {
                0 if !bytes.is_empty() => {
                    let at = self.next(bytes.len());
                    bytes[at] ^= 1 << self.next(8);
                }
                1 if !bytes.is_empty() => {
                    let at = self.next(bytes.len());
                    bytes[at] = [0, 0xff, 0x7f, 0x80][self.next(4)];
                }
                2 => bytes.truncate(self.next(bytes.len() + 1)),
                _ => {
                    let at = self.next(bytes.len() + 1);
                    let copies = self.next(20);
                    bytes.splice(at..at, std::iter::repeat_n(self.next(256) as u8, copies));
                }
            }
        }
        bytes.truncate(1900);
    }
}

/// Every message of a handshake, mutated, before it comes as it is.
#[test]
fn mutated_handshakes_do_no_harm() {
    for backend in [DtlsBackend::Primary, DtlsBackend::Dimpl] {
        for seed in 0..40 {
            let mut noise = Noise(seed);
            let mut a = config(spec(Protocol::Dtls), 1);
            a.dtls_backend = backend;
            let mut wire = Wire::new(a, config(spec(Protocol::Dtls), 2));
            wire.describe(|_| {});
            for _ in 0..60 {
                exchange_with_noise(&mut wire, &mut noise);
                wire.now += Duration::from_millis(250);
                wire.a.leg.handle_timeout(wire.now);
                wire.b.leg.handle_timeout(wire.now);
            }
        }
    }
}

fn exchange_with_noise(wire: &mut Wire, noise: &mut Noise) {
    for _ in 0..8 {
        let (a, b, now) = (&mut wire.a, &mut wire.b, wire.now);
        pass(&mut a.leg, &mut b.leg, address(1, 4000), now, noise);
        pass(&mut b.leg, &mut a.leg, address(2, 4000), now, noise);
    }
}

fn pass(
    from: &mut landline_media::Leg,
    to: &mut landline_media::Leg,
    source: std::net::SocketAddr,
    now: std::time::Instant,
    noise: &mut Noise,
) {
    while let Some(output) = from.poll_output() {
        let LegOutput::Transmit { component, bytes, .. } = output else { continue };
        for _ in 0..noise.next(3) {
            let mut mutated = bytes.clone();
            noise.mutate(&mut mutated);
            let mut packet = PacketBuf::from_slice(&mutated).unwrap();
            to.receive(now, component, source, &mut packet);
        }
        let mut packet = PacketBuf::from_slice(&bytes).unwrap();
        to.receive(now, component, source, &mut packet);
    }
}

/// From an address that proved nothing, not even a flood of DTLS matters.
#[test]
fn a_stranger_s_handshake_records_do_not_disturb_the_peer_s() {
    let mut wire = Wire::new(config(spec(Protocol::Dtls), 1), config(spec(Protocol::Dtls), 2));
    wire.describe(|_| {});
    let mut noise = Noise(7);
    for n in 0..2000 {
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, n as u8, 0, 40];
        record.extend((0..40).map(|_| noise.next(256) as u8));
        let mut packet = PacketBuf::from_slice(&record).unwrap();
        wire.a.leg.receive(wire.now, Component::Rtp, address(66, 1), &mut packet);
        while wire.a.leg.poll_output().is_some() {}
    }
    wire.run(Duration::from_secs(5));
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")));
}

#[test]
fn mutated_media_does_no_harm_and_the_real_is_heard_between() {
    for suite in common::SUITES.map(Some).into_iter().chain([None]) {
        let protocol = if suite.is_some() { Protocol::Sdes } else { Protocol::Rtp };
        let mut wire = Wire::new(config(spec(protocol), 1), config(spec(protocol), 2));
        match suite {
            Some(suite) => wire.describe_sdes(suite),
            None => wire.describe(|_| {}),
        }
        let mut noise = Noise(suite.map_or(1, |it: SrtpSuite| it as u64 + 2));
        for n in 0..3000u16 {
            let plain = if n % 5 == 0 { rtcp_packet() } else { rtp_packet(n, &[n as u8; 50]) };
            let kind = if n % 5 == 0 { Component::Rtcp } else { Component::Rtp };
            let mut protected = PacketBuf::from_slice(&plain).unwrap();
            wire.b.leg.send(wire.now, kind, &mut protected).unwrap();
            let mut mutated = protected.as_slice().to_vec();
            noise.mutate(&mut mutated);
            let mut packet = PacketBuf::from_slice(&mutated).unwrap();
            let from = wire.b.rtp;
            wire.a.leg.receive(wire.now, Component::Rtp, from, &mut packet);
            let mut packet = protected.clone();
            wire.a.leg.receive(wire.now, Component::Rtp, from, &mut packet);
            if suite.is_some() && mutated != protected.as_slice() {
                assert_eq!(packet.as_slice(), plain, "{suite:?} {n}");
            }
            let mut echoed = PacketBuf::from_slice(&mutated).unwrap();
            let _ = wire.a.leg.send(wire.now, kind, &mut echoed);
        }
    }
}
