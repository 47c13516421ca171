//! Legs that go on with the keys their peer has with another relay.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{SUITES, Side, Wire, config, rtcp_packet, rtp_packet, spec};
use landline_control::{KeyAndSalt, LegKeys, MediaFault, Protocol, SdesPair, SrtpSuite};
use landline_media::srtp::{Context, SrtpError};
use landline_media::{Component, DropCause, Identity, PacketBuf, RtpInfo};

/// What the source of every test's packets calls itself.
const SSRC: u32 = 0x1234_5678;
/// The phone is B. One that is stubborn keeps its keys and makes no handshake.
const STUBBORN: bool = true;

fn sdes(suite: SrtpSuite) -> Wire {
    let mut wire = Wire::new(config(spec(Protocol::Sdes), 1), config(spec(Protocol::Sdes), 2));
    wire.describe_sdes(suite);
    talk(&mut wire);
    wire
}

fn dtls() -> Wire {
    let mut phone = config(spec(Protocol::Dtls), 2);
    phone.identity = Some(Arc::new(Identity::generate().unwrap()));
    let mut wire = Wire::new(config(spec(Protocol::Dtls), 1), phone);
    wire.describe(|_| {});
    wire.run(Duration::from_secs(5));
    talk(&mut wire);
    wire
}

fn talk(wire: &mut Wire) {
    for n in 1..10 {
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(n, b"a")));
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(n, b"b")));
    }
    assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
    wire.settle();
}

fn keys(wire: &Wire) -> LegKeys {
    wire.a.keys.clone().expect("its keys were told")
}

/// Another relay takes A's place, with the keys that A has told.
fn resumed(wire: &mut Wire, keys: LegKeys) {
    let mut successor = config(spec(keys.protocol), 3);
    successor.identity = Some(Arc::new(Identity::generate().unwrap()));
    successor.resume = Some(keys);
    wire.a = Side::new(successor, 3, wire.now);
    wire.b.heard.clear();
}

/// The successor is told of the phone, and the phone of it unless it is stubborn.
fn described(wire: &mut Wire, is_stubborn: bool) {
    use landline_control::DtlsRole::{Client, Server};
    let (relay, phone) = (wire.a.local(), wire.b.local());
    wire.a.leg.set_remote(wire.now, &common::remote(&phone, Server)).unwrap();
    wire.a.leg.open_latch(wire.now);
    if !is_stubborn {
        wire.b.leg.set_remote(wire.now, &common::remote(&relay, Client)).unwrap();
    }
}

/// A speaks, and B hears it: under which names.
fn heard(wire: &mut Wire, from: u16) -> Vec<u32> {
    wire.b.heard.clear();
    for n in from..from + 10 {
        wire.a_speaks(Component::Rtp, &rtp_packet(n, b"relay"));
    }
    wire.a_speaks(Component::Rtcp, &rtcp_packet());
    wire.settle();
    let rtp = wire.b.heard.iter().filter(|(component, _)| *component == Component::Rtp);
    rtp.map(|(_, packet)| RtpInfo::parse(packet).unwrap().ssrc).collect()
}

#[test]
fn keys_are_told_once_and_again_when_a_stream_begins_or_somebody_else_listens() {
    for mut wire in [sdes(SUITES[0]), sdes(SUITES[1]), dtls()] {
        let told = keys(&wire);
        assert_eq!(told.sent, [SSRC]);
        assert!(told.rtp.is_some());
        let shown = format!("{:?}", told.rtp);
        assert!(shown.contains("‹secret›") && !shown.contains('['), "{shown}");
        wire.a.keys = None;
        wire.a_speaks(Component::Rtp, &rtp_packet(50, b"a"));
        wire.settle();
        assert!(wire.a.keys.is_none(), "nothing is new");
        let mut other = rtp_packet(1, b"another");
        other[8] ^= 1;
        wire.a_speaks(Component::Rtp, &other);
        wire.settle();
        assert_eq!(keys(&wire).sent.len(), 2);
        wire.a.keys = None;
        wire.a.leg.tell_keys();
        wire.settle();
        assert_eq!(keys(&wire).rtp, told.rtp);
    }
}

#[test]
fn a_phone_that_makes_no_new_handshake_hears_and_is_heard_and_that_is_no_fault() {
    let mut wire = dtls();
    let former = keys(&wire);
    resumed(&mut wire, former);
    described(&mut wire, STUBBORN);
    // Minutes, and with them the time that a handshake may take.
    for n in 0..100u16 {
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(20 + n, b"phone")), "{n}");
        assert_eq!(heard(&mut wire, 20 + 20 * n).len(), 10, "{n}");
        wire.run(Duration::from_secs(5));
    }
    assert!(wire.a.faults.is_empty(), "{:?}", wire.a.faults);
    // Who then falls silent is missed as ever.
    wire.run(Duration::from_secs(120));
    assert!(wire.a.faults.contains(&MediaFault::DtlsHandshakeFailed), "{:?}", wire.a.faults);
}

#[test]
fn a_later_handshake_takes_over() {
    let mut wire = dtls();
    let former = keys(&wire);
    resumed(&mut wire, former.clone());
    described(&mut wire, STUBBORN);
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(20, b"phone")));
    assert_eq!(heard(&mut wire, 20).len(), 10);
    described(&mut wire, !STUBBORN);
    wire.run(Duration::from_secs(5));
    assert!(!keys(&wire).are_of(&former), "new keys were told");
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(21, b"phone")));
    assert_eq!(heard(&mut wire, 40).len(), 10);
}

#[test]
fn an_sdes_leg_offers_the_key_it_had_and_understands_an_old_and_a_new_one() {
    for suite in SUITES {
        for takes_new in [false, true] {
            let mut wire = sdes(suite);
            let former = keys(&wire);
            let told = wire.a.local();
            resumed(&mut wire, former);
            let (ours, theirs) = (wire.a.local().sdes, wire.b.local().sdes);
            assert_eq!(ours.len(), 1, "only the suite that was agreed on");
            let before = told.sdes.iter().find(|key| key.suite == suite).unwrap();
            assert_eq!(ours[0].key_and_salt, before.key_and_salt);
            let mut theirs = theirs.into_iter().find(|key| key.suite == suite).unwrap();
            if takes_new {
                theirs.key_and_salt.iter_mut().for_each(|octet| *octet ^= 0x55);
            }
            let mut remote = common::remote(&wire.b.local(), landline_control::DtlsRole::Server);
            let receive = theirs.clone();
            remote.sdes = Some(SdesPair { send: ours[0].clone(), receive });
            wire.a.leg.set_remote(wire.now, &remote).unwrap();
            assert_eq!(heard(&mut wire, 20).len(), 10, "it needs not know of the move");
            assert_eq!(wire.b_speaks(Component::Rtp, &rtp_packet(20, b"phone")), !takes_new);
            if takes_new {
                let mut anew = Context::new(suite, &theirs.key_and_salt).unwrap();
                let mut packet = PacketBuf::from_slice(&rtp_packet(21, b"phone")).unwrap();
                anew.protect_rtp(&mut packet).unwrap();
                let from = wire.b.rtp;
                let heard = wire.a.leg.receive(wire.now, Component::Rtp, from, &mut packet);
                assert!(matches!(heard, landline_media::Received::Rtp(_)), "{heard:?}");
            }
        }
    }
}

#[test]
fn wrong_keys_are_dropped_and_counted() {
    let mut wire = dtls();
    let mut wrong = keys(&wire);
    let pair = wrong.rtp.as_mut().unwrap();
    pair.receive = KeyAndSalt::new(vec![7; pair.suite.key_and_salt_len()]);
    resumed(&mut wire, wrong);
    described(&mut wire, STUBBORN);
    for n in 20..30 {
        assert!(!wire.b_speaks(Component::Rtp, &rtp_packet(n, b"phone")));
    }
    let drops = wire.a.leg.drops();
    assert_eq!(
        drops.iter().find(|(cause, _)| *cause == DropCause::SrtpAuthentication).unwrap().1,
        10
    );
    // Nothing is heard, so the handshake is missed.
    wire.run(Duration::from_secs(40));
    assert_eq!(wire.a.faults, [MediaFault::DtlsHandshakeFailed]);
}

#[test]
fn keys_that_cannot_be_the_leg_s_are_not_used() {
    let mut wire = sdes(SUITES[0]);
    let good = keys(&wire);
    let mut short = good.clone();
    short.rtp.as_mut().unwrap().send = KeyAndSalt::new(vec![1; 7]);
    let mut of_another = good.clone();
    of_another.protocol = Protocol::Dtls;
    let mut worn = good.clone();
    worn.sent = (0..129).collect();
    for (n, unfit) in (1..).zip([short, of_another, worn]) {
        let protocol = Protocol::Sdes;
        let mut successor = config(spec(protocol), 3);
        successor.resume = Some(unfit);
        wire.a = Side::new(successor, 3, wire.now);
        assert_eq!(wire.a.local().sdes.len(), 2, "new keys for each suite");
        wire.describe_sdes(SUITES[0]);
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(n, b"x")), "and a leg like any");
    }
}

/// Under the name and number it has had, a packet would be encrypted with the
/// keystream of another.
#[test]
fn no_stream_goes_on_under_a_name_that_it_had_on_any_relay_before() {
    for mut wire in [sdes(SUITES[0]), sdes(SUITES[1]), dtls()] {
        let mut names = vec![SSRC];
        for relay in 0..20u16 {
            let former = keys(&wire);
            assert!(names.iter().all(|name| former.sent.contains(name)), "{names:x?}");
            resumed(&mut wire, former);
            if wire.a.local().sdes.is_empty() {
                described(&mut wire, STUBBORN);
            } else {
                let mut remote =
                    common::remote(&wire.b.local(), landline_control::DtlsRole::Server);
                let send = wire.a.local().sdes.remove(0);
                let theirs = wire.b.local().sdes;
                let receive = theirs.into_iter().find(|it| it.suite == send.suite).unwrap();
                remote.sdes = Some(SdesPair { send, receive });
                wire.a.leg.set_remote(wire.now, &remote).unwrap();
            }
            // Nobody asked for new names: it takes them by itself.
            let heard = heard(&mut wire, 20 * relay);
            assert_eq!(heard.len(), 10);
            assert!(heard.iter().all(|name| *name == heard[0] && !names.contains(name)));
            names.push(heard[0]);
        }
    }
}

#[test]
fn a_context_sends_no_stream_that_another_has_sent_under_its_key() {
    for suite in SUITES {
        let key = vec![9; suite.key_and_salt_len()];
        let mut context = Context::new(suite, &key).unwrap().without(&[1, SSRC]);
        let mut packet = PacketBuf::from_slice(&rtp_packet(60_000, b"x")).unwrap();
        assert_eq!(context.protect_rtp(&mut packet), Err(SrtpError::StreamSpent));
        assert_eq!(packet.as_slice(), rtp_packet(60_000, b"x"), "and is left as it was");
        let mut packet = PacketBuf::from_slice(&rtcp_packet()).unwrap();
        assert_eq!(context.protect_rtcp(&mut packet), Err(SrtpError::StreamSpent));
    }
}
