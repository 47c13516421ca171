//! A leg's addresses, directions, timeouts and figures.

mod common;

use std::time::Duration;

use common::{SUITES, Wire, address, config, rtcp_packet, rtp_packet, spec};
use landline_control::{Direction, MediaFault, Protocol, SrtpSuite};
use landline_media::{Component, DropCause, PacketBuf, Received, rtp};

fn plain() -> Wire {
    Wire::new(config(spec(Protocol::Rtp), 1), config(spec(Protocol::Rtp), 2))
}

fn sdes(suite: SrtpSuite) -> Wire {
    let mut wire = Wire::new(config(spec(Protocol::Sdes), 1), config(spec(Protocol::Sdes), 2));
    wire.describe_sdes(suite);
    wire
}

fn receive(wire: &mut Wire, component: Component, host: u8, bytes: &[u8]) -> Received {
    let mut packet = PacketBuf::from_slice(bytes).unwrap();
    wire.a.leg.receive(wire.now, component, address(host, 5000), &mut packet)
}

#[test]
fn plain_media_and_rtcp_pass_both_ways() {
    let mut wire = plain();
    wire.describe(|_| {});
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"hello")));
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"hello")));
    assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
    wire.settle();
    assert!(wire.a.started && wire.b.started);
}

#[test]
fn sdes_media_and_rtcp_pass_both_ways_in_each_suite() {
    for suite in SUITES {
        let mut wire = sdes(suite);
        assert_eq!(wire.a.leg.suite(), Some(suite));
        for n in 0..300 {
            assert!(wire.a_speaks(Component::Rtp, &rtp_packet(65_400u16.wrapping_add(n), b"x")));
            assert!(wire.b_speaks(Component::Rtp, &rtp_packet(n, b"y")));
        }
        assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
        assert!(wire.b_speaks(Component::Rtcp, &rtcp_packet()));
        assert_eq!(wire.a.leg.drops().total() + wire.b.leg.drops().total(), 0);
    }
}

#[test]
fn without_mux_rtcp_goes_by_its_own_socket_and_with_mux_by_rtp_s() {
    for muxed in [true, false] {
        let mut wire = plain();
        wire.describe(|remote| remote.rtcp_mux = muxed);
        let mut packet = PacketBuf::from_slice(&rtcp_packet()).unwrap();
        let sent = wire.a.leg.send(wire.now, Component::Rtcp, &mut packet);
        let expected =
            if muxed { (Component::Rtp, wire.b.rtp) } else { (Component::Rtcp, wire.b.rtcp) };
        assert_eq!(sent, Some(expected));
        assert!(wire.b_speaks(Component::Rtcp, &rtcp_packet()));
    }
}

#[test]
fn a_stranger_neither_hears_nor_is_heard_while_the_peer_speaks() {
    let mut wire = plain();
    wire.describe(|_| {});
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"peer")));
    let stranger = receive(&mut wire, Component::Rtp, 66, &rtp_packet(2, b"stranger"));
    assert_eq!(stranger, Received::Dropped(DropCause::UnprovenSource));
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    assert_eq!(
        wire.a.leg.send(wire.now, Component::Rtp, &mut packet),
        Some((Component::Rtp, wire.b.rtp))
    );
}

#[test]
fn a_peer_behind_nat_is_followed_within_the_window_and_nobody_after_it() {
    let mut wire = plain();
    wire.describe(|_| {});
    assert!(matches!(
        receive(&mut wire, Component::Rtp, 7, &rtp_packet(1, b"nat")),
        Received::Rtp(_)
    ));
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    let sent = wire.a.leg.send(wire.now, Component::Rtp, &mut packet);
    assert_eq!(sent, Some((Component::Rtp, address(7, 5000))));
    wire.now += Duration::from_secs(6);
    assert_eq!(
        receive(&mut wire, Component::Rtp, 8, &rtp_packet(2, b"late")),
        Received::Dropped(DropCause::UnprovenSource)
    );
    assert!(!wire.b_speaks(Component::Rtp, &rtp_packet(2, b"late")), "strict by now");
}

#[test]
fn a_caller_behind_nat_that_waits_for_the_answer_is_followed_then() {
    let mut wire = plain();
    wire.describe(|_| {});
    wire.now += Duration::from_secs(40);
    assert_eq!(
        receive(&mut wire, Component::Rtp, 7, &rtp_packet(1, b"early")),
        Received::Dropped(DropCause::UnprovenSource)
    );
    // The callee is heard: from now on the caller is expected to speak.
    wire.a_speaks(Component::Rtp, &rtp_packet(1, b"hello?"));
    assert!(matches!(
        receive(&mut wire, Component::Rtp, 7, &rtp_packet(2, b"nat")),
        Received::Rtp(_)
    ));
}

#[test]
fn an_srtp_stream_is_followed_on_proof_only() {
    for suite in SUITES {
        let mut wire = sdes(suite);
        let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"hi")).unwrap();
        wire.b.leg.send(wire.now, Component::Rtp, &mut packet).unwrap();
        let mut forged = packet.clone();
        forged.as_mut_slice()[13] ^= 1;
        assert_eq!(
            receive(&mut wire, Component::Rtp, 66, forged.as_slice()),
            Received::Dropped(DropCause::SrtpAuthentication)
        );
        assert!(matches!(
            receive(&mut wire, Component::Rtp, 7, packet.as_slice()),
            Received::Rtp(_)
        ));
        assert_eq!(
            receive(&mut wire, Component::Rtp, 66, packet.as_slice()),
            Received::Dropped(DropCause::SrtpReplay)
        );
        let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
        let sent = wire.a.leg.send(wire.now, Component::Rtp, &mut packet);
        assert_eq!(sent, Some((Component::Rtp, address(7, 5000))));
    }
}

#[test]
fn a_direction_holds_both_ways() {
    use Direction::{Inactive, ReceiveOnly, SendOnly, SendReceive};
    for (direction, sends, receives) in [
        (SendReceive, true, true),
        (SendOnly, true, false),
        (ReceiveOnly, false, true),
        (Inactive, false, false),
    ] {
        let mut wire = plain();
        wire.describe(|_| {});
        let mut described = common::remote(&wire.b.local(), landline_control::DtlsRole::Server);
        described.direction = direction;
        wire.a.leg.set_remote(wire.now, &described).unwrap();
        assert_eq!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), sends, "{direction:?}");
        assert_eq!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")), receives, "{direction:?}");
        // RTCP goes on (RFC 3264 §5.1).
        assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
        assert!(wire.b_speaks(Component::Rtcp, &rtcp_packet()));
    }
}

#[test]
fn hold_and_resume_keep_the_srtp_counters() {
    for suite in SUITES {
        let mut wire = sdes(suite);
        for n in 0..3 {
            for m in 0..30 {
                let sequence = 65_500u16.wrapping_add(n * 30 + m);
                assert!(wire.a_speaks(Component::Rtp, &rtp_packet(sequence, b"x")), "{sequence}");
            }
            wire.describe_sdes(suite);
        }
    }
}

#[test]
fn a_new_key_from_the_peer_is_taken_and_ours_goes_on() {
    let mut wire = sdes(SrtpSuite::AesCm128HmacSha1_80);
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    wire.b.leg = landline_media::Leg::new(config(spec(Protocol::Sdes), 9), wire.now);
    wire.describe_sdes(SrtpSuite::AesCm128HmacSha1_80);
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    assert!(!wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), "its number was used");
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(2, b"x")));
}

#[test]
fn an_sdes_key_that_is_not_ours_is_refused() {
    let mut wire = sdes(SrtpSuite::AeadAes128Gcm);
    let (a, b) = (wire.a.local(), wire.b.local());
    let mut described = common::remote(&b, landline_control::DtlsRole::Server);
    described.sdes = Some(common::sdes(&b, &a, SrtpSuite::AeadAes128Gcm));
    let refused = wire.a.leg.set_remote(wire.now, &described);
    assert_eq!(refused, Err(landline_media::RemoteError::ForeignSendKey));
    described.sdes = None;
    let refused = wire.a.leg.set_remote(wire.now, &described);
    assert_eq!(refused, Err(landline_media::RemoteError::NoSdesKeys));
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")), "nothing changed");
}

#[test]
fn a_silent_peer_is_a_fault_once_and_only_while_it_should_speak() {
    let mut wire = plain();
    wire.describe(|_| {});
    wire.run(Duration::from_secs(300));
    assert_eq!(wire.a.faults, [], "nobody was expected to speak yet");
    wire.a_speaks(Component::Rtp, &rtp_packet(1, b"hello?"));
    wire.run(Duration::from_secs(59));
    assert_eq!(wire.a.faults, []);
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.a.faults, [MediaFault::MediaTimeout]);
    wire.run(Duration::from_secs(300));
    assert_eq!(wire.a.faults.len(), 1);
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(1, b"back")));
    wire.run(Duration::from_secs(61));
    assert_eq!(wire.a.faults.len(), 2, "it was there again, and went");
    assert_eq!(wire.a.leg.stats(wire.now).faults, [MediaFault::MediaTimeout]);

    let mut held = common::remote(&wire.b.local(), landline_control::DtlsRole::Server);
    held.direction = Direction::SendOnly;
    wire.a.leg.set_remote(wire.now, &held).unwrap();
    wire.run(Duration::from_secs(600));
    assert_eq!(wire.a.faults.len(), 2);
}

#[test]
fn figures_tell_packets_loss_events_codec_and_quality() {
    let mut wire = plain();
    wire.describe(|_| {});
    for n in 0..100u16 {
        wire.now += Duration::from_millis(20);
        if n % 10 != 5 {
            assert!(wire.b_speaks(Component::Rtp, &rtp_packet(n, &[0; 160])));
        }
    }
    for (n, timestamp) in [(100u16, 16_000u32), (101, 16_000), (102, 20_000)] {
        let header = rtp::write_header(n == 100, 101, n, timestamp, 0x1234_5678);
        assert!(wire.b_speaks(Component::Rtp, &[&header[..], &[5, 0, 0, 160]].concat()));
    }
    wire.b_speaks(Component::Rtcp, &rtcp_packet());
    wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x"));
    let stats = wire.a.leg.stats(wire.now);
    assert_eq!(stats.received.packets, 93);
    assert_eq!(stats.received.octets, 90 * 160 + 12);
    assert_eq!(stats.received.lost, 10);
    assert_eq!(stats.received.dtmf_events, 2);
    assert_eq!(stats.received.rtcp_packets, 1);
    assert_eq!(stats.sent.packets, 1);
    assert_eq!(stats.codec.as_deref(), Some("PCMU"));
    let mos = stats.mos_x100.unwrap();
    assert!((250..400).contains(&mos), "{mos}");
    assert_eq!(wire.b.leg.stats(wire.now).sent.dtmf_events, 2);
}

#[test]
fn early_dtls_and_unknown_protocols_are_counted_and_dropped() {
    let mut wire = plain();
    wire.describe(|_| {});
    for (bytes, cause) in [
        (&[22u8, 254, 253][..], DropCause::DtlsUnexpected),
        (&[0, 1, 0, 0], DropCause::StunUnexpected),
        (&[70, 0], DropCause::UnknownProtocol),
        (&[200, 0], DropCause::UnknownProtocol),
        (&[], DropCause::UnknownProtocol),
        (&[128, 0, 0], DropCause::MalformedRtp),
        (&[128, 200, 0], DropCause::MalformedRtcp),
    ] {
        assert_eq!(receive(&mut wire, Component::Rtp, 2, bytes), Received::Dropped(cause));
        assert!(wire.a.leg.drops().of(cause) > 0);
    }
    let names: Vec<_> =
        wire.a.leg.stats(wire.now).dropped.into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"malformed_rtp".to_owned()), "{names:?}");
}
