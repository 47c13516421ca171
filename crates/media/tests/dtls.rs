//! DTLS-SRTP between legs of both back ends.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Wire, config, rtcp_packet, rtp_packet, spec};
use landline_control::{MediaFault, Protocol, SrtpSuite};
use landline_media::{Component, DropCause, DtlsBackend, Identity, Leg, PacketBuf, Received};

fn wire(a: DtlsBackend, b: DtlsBackend) -> Wire {
    let mut a_config = config(spec(Protocol::Dtls), 1);
    a_config.dtls_backend = a;
    let mut b_config = config(spec(Protocol::Dtls), 2);
    b_config.dtls_backend = b;
    b_config.identity = Some(Arc::new(Identity::generate().unwrap()));
    Wire::new(a_config, b_config)
}

#[test]
fn every_pair_of_back_ends_agrees_on_keys_and_media_flows() {
    use DtlsBackend::{Dimpl, Primary};
    for (a, b) in [(Primary, Primary), (Primary, Dimpl), (Dimpl, Primary)] {
        let mut wire = wire(a, b);
        wire.describe(|_| {});
        assert!(!wire.a_speaks(Component::Rtp, &rtp_packet(1, b"early")), "no keys yet");
        wire.run(Duration::from_secs(5));
        assert_eq!(wire.a.leg.suite(), Some(SrtpSuite::AeadAes128Gcm), "{a:?} {b:?}");
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(2, b"hello")), "{a:?} {b:?}");
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(2, b"hello back")));
        assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
        assert!(wire.longest <= 1200, "{}", wire.longest);
    }
}

#[test]
fn a_client_that_offers_dtls_1_3_gets_it_unless_the_server_is_held_to_1_2() {
    use DtlsBackend::{Dimpl13, Primary, Primary12};
    let mut newer = wire(Primary, Dimpl13);
    newer.describe(|_| {});
    newer.run(Duration::from_secs(5));
    assert_eq!(newer.a.leg.suite(), Some(SrtpSuite::AeadAes256Gcm), "its client's first");
    assert!(newer.a_speaks(Component::Rtp, &rtp_packet(2, b"hello")));
    assert!(newer.b_speaks(Component::Rtp, &rtp_packet(2, b"hello back")));
    assert!(newer.a_speaks(Component::Rtcp, &rtcp_packet()));
    assert!(newer.longest <= 1200, "{}", newer.longest);

    let mut pinned = wire(Primary12, Dimpl13);
    pinned.describe(|_| {});
    pinned.run(Duration::from_secs(60));
    assert_eq!((pinned.a.leg.suite(), pinned.b.leg.suite()), (None, None));
}

/// One datagram in four is lost.
fn lossy(seed: u64) -> Box<dyn FnMut(usize) -> bool> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    Box::new(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 100 < 25
    })
}

#[test]
fn a_handshake_survives_the_loss_of_every_fourth_datagram() {
    for seed in 1..=30 {
        let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
        wire.loses = lossy(seed);
        wire.describe(|_| {});
        wire.run(Duration::from_secs(29));
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{seed}");
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{seed}");
    }
}

#[test]
fn a_handshake_between_back_ends_survives_the_loss_of_any_two_datagrams() {
    use DtlsBackend::{Dimpl, Dimpl13, Primary};
    for (a, b) in [(Primary, Dimpl), (Dimpl, Primary), (Primary, Dimpl13)] {
        for (first, second) in (1..=8).flat_map(|n| [(n, n), (n, n + 1), (n, n + 3)]) {
            let mut wire = wire(a, b);
            wire.loses = Box::new(move |n| n == first || n == second);
            wire.describe(|_| {});
            wire.run(Duration::from_secs(29));
            let heard = wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x"))
                && wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x"));
            assert!(heard, "{a:?} {b:?} {first} {second}");
        }
    }
}

/// The repeats of a peer whose timer is faster than ours must not stop ours.
#[test]
fn a_repeated_datagram_does_not_stall_the_handshake() {
    for lost in 1..=8 {
        for doubled in 1..=8 {
            let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
            wire.loses = Box::new(move |n| n == lost);
            wire.doubles = Box::new(move |n| n == doubled);
            wire.describe(|_| {});
            wire.run(Duration::from_secs(5));
            assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{lost} {doubled}");
            assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{lost} {doubled}");
        }
    }
}

#[test]
fn peers_with_rsa_certificates_are_taken_in_both_roles() {
    for rsa_serves in [true, false] {
        let mut wire = Wire::new(config(spec(Protocol::Dtls), 1), config(spec(Protocol::Dtls), 2));
        let mut rsa = config(spec(Protocol::Dtls), 3);
        rsa.identity = Some(rsa_identity());
        let side = if rsa_serves { &mut wire.a } else { &mut wire.b };
        side.leg = Leg::new(rsa, wire.now);
        wire.describe(|_| {});
        wire.run(Duration::from_secs(5));
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{rsa_serves}");
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")), "{rsa_serves}");
        assert!(wire.longest <= 1200, "{}", wire.longest);
    }
}

fn rsa_identity() -> Arc<Identity> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    Arc::new(Identity::from_der(certificate.der().to_vec(), key.serialize_der()).unwrap())
}

#[test]
fn a_certificate_that_was_not_signalled_yields_no_keys() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    wire.describe(|remote| {
        let parameters = remote.dtls.as_mut().unwrap();
        if parameters.role == landline_control::DtlsRole::Server {
            parameters.fingerprints[0].digest[0] ^= 1;
        }
    });
    wire.run(Duration::from_secs(5));
    assert_eq!(wire.a.faults, [MediaFault::DtlsFingerprintMismatch]);
    assert_eq!(wire.a.leg.suite(), None);
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    let received = wire.a.leg.receive(wire.now, Component::Rtp, wire.b.rtp, &mut packet);
    assert_eq!(received, Received::Dropped(DropCause::NoKeys));
}

#[test]
fn any_of_several_fingerprints_may_match() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    wire.describe(|remote| {
        let fingerprints = &mut remote.dtls.as_mut().unwrap().fingerprints;
        let mut other = fingerprints[0].clone();
        other.digest[3] ^= 1;
        fingerprints.insert(0, other);
    });
    wire.run(Duration::from_secs(5));
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
}

#[test]
fn a_peer_that_never_answers_is_a_fault_within_the_handshake_timeout() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    wire.loses = Box::new(|_| true);
    wire.describe(|_| {});
    wire.b.leg.open_latch(wire.now);
    wire.run(Duration::from_secs(29));
    assert_eq!(wire.b.faults, []);
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.b.faults, [MediaFault::DtlsHandshakeFailed]);
    assert!(wire.sent < 100, "{}", wire.sent);
}

#[test]
fn without_rtcp_mux_each_port_has_its_own_handshake() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Dimpl);
    wire.describe(|remote| remote.rtcp_mux = false);
    wire.run(Duration::from_secs(5));
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
    assert!(wire.b_speaks(Component::Rtcp, &rtcp_packet()));
}

#[test]
fn the_same_description_again_keeps_the_association_and_its_counters() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    wire.describe(|_| {});
    wire.run(Duration::from_secs(5));
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    let sent = wire.sent;
    wire.describe(|_| {});
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(2, b"x")));
    assert!(!wire.a_speaks(Component::Rtp, &rtp_packet(2, b"x")), "a repeat is not sent");
    wire.run(Duration::from_secs(5));
    assert_eq!(wire.sent, sent, "no second handshake");
}

/// A caller may ignore what rings and take only the answer's description.
#[test]
fn a_handshake_that_timed_out_while_it_rang_is_done_when_the_call_is_answered() {
    for backend in [DtlsBackend::Primary, DtlsBackend::Dimpl] {
        let mut wire = wire(DtlsBackend::Primary, backend);
        wire.loses = Box::new(|_| true);
        wire.describe(|_| {});
        wire.a.leg.open_latch(wire.now);
        wire.b.leg.open_latch(wire.now);
        wire.run(Duration::from_secs(40));
        assert_eq!(wire.a.faults, [MediaFault::DtlsHandshakeFailed]);
        assert_eq!(wire.b.faults, [MediaFault::DtlsHandshakeFailed]);
        wire.loses = Box::new(|_| false);
        wire.a.leg.open_latch(wire.now);
        wire.b.leg.open_latch(wire.now);
        wire.run(Duration::from_secs(5));
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    }
}

/// Behind a NAT the peer is not where it was signalled to be: who completes the
/// handshake with the signalled certificate is the peer.
#[test]
fn a_client_behind_nat_is_followed_once_its_handshake_is_complete() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    let signalled = wire.b.rtp;
    wire.describe(|_| {});
    wire.b.rtp = common::address(77, 1234);
    wire.run(Duration::from_secs(4));
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    let sent = wire.a.leg.send(wire.now, Component::Rtp, &mut packet);
    assert_ne!(signalled, wire.b.rtp);
    assert_eq!(sent, Some((Component::Rtp, wire.b.rtp)));
}

/// A stranger with a certificate of its own ends nothing.
#[test]
fn a_stranger_s_complete_handshake_is_no_fault_and_the_peer_s_follows() {
    let mut wire = wire(DtlsBackend::Primary, DtlsBackend::Primary);
    wire.describe(|_| {});
    let peer = std::mem::replace(
        &mut wire.b,
        common::Side::new(config(spec(Protocol::Dtls), 66), 66, wire.now),
    );
    let identity = Identity::generate().unwrap();
    let mut stranger = config(spec(Protocol::Dtls), 66);
    stranger.identity = Some(Arc::new(identity));
    wire.b.leg = Leg::new(stranger, wire.now);
    let to_stranger = common::remote(&wire.a.local(), landline_control::DtlsRole::Client);
    wire.b.leg.set_remote(wire.now, &to_stranger).unwrap();
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.a.faults, []);
    assert_eq!(wire.a.leg.suite(), None);
    wire.b = peer;
    wire.run(Duration::from_secs(10));
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"the peer")));
}
