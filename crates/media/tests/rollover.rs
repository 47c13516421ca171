//! Streams whose sequence numbers wrapped before their keys were new.

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{SUITES, Side, Wire, address, config, rtcp_packet, rtp_packet, spec};
use landline_control::{Protocol, SrtpSuite};
use landline_media::srtp::{Context, SrtpError, Tries};
use landline_media::{Component, DropCause, PacketBuf, Received, Rollover, RtpInfo};
use webrtc_srtp::context::Context as Oracle;
use webrtc_srtp::protection_profile::ProtectionProfile;

const SSRC: u32 = 0x1234_5678;

fn context(suite: SrtpSuite, key: u8) -> Context {
    Context::new(suite, &vec![key; suite.key_and_salt_len()]).unwrap()
}

/// An implementation of its own that has counted so many wraps.
fn oracle(suite: SrtpSuite, key: u8, counter: u32) -> Oracle {
    let profile = match suite {
        SrtpSuite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpSuite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let key = vec![key; suite.key_and_salt_len()];
    let mut oracle =
        Oracle::new(&key[..suite.key_len()], &key[suite.key_len()..], profile, None, None).unwrap();
    for index in (0..u64::from(counter) << 16).step_by(30_000) {
        oracle.encrypt_rtp(&rtp_packet(index as u16, b"before")).unwrap();
    }
    if counter > 0 {
        oracle.encrypt_rtp(&rtp_packet(1, b"before")).unwrap();
    }
    oracle
}

/// Reads a packet with tries at will; says how many were taken.
fn read(context: &mut Context, packet: &[u8]) -> (Result<Vec<u8>, SrtpError>, u32) {
    let taken = Cell::new(0);
    let mut packet = PacketBuf::from_slice(packet).unwrap();
    let read = context.unprotect_rtp_within(&mut packet, || {
        taken.set(taken.get() + 1);
        true
    });
    (read.map(|_| packet.as_slice().to_vec()), taken.get())
}

#[test]
fn a_stream_that_wrapped_before_is_understood_and_followed_over_its_next_wraps() {
    for suite in SUITES {
        for counter in [0, 1, 2, 8, 9, 40, 255] {
            let (mut theirs, mut ours) = (oracle(suite, 1, counter), context(suite, 1));
            let mut unheard = 0;
            let mut sequence = 110u16;
            for _ in 0..10_000 {
                let plain = rtp_packet(sequence, b"speech");
                let protected = theirs.encrypt_rtp(&plain).unwrap();
                match read(&mut ours, &protected).0 {
                    Ok(heard) => assert_eq!(heard, plain),
                    Err(error) => {
                        assert_eq!(error, SrtpError::Authentication);
                        unheard += 1;
                    }
                }
                sequence = sequence.wrapping_add(20);
            }
            // Those of a day are found with the second packet.
            let expected = if counter <= 32 { 0 } else { (counter - 9) / 24 };
            assert_eq!(unheard, expected, "{suite:?} {counter}");
        }
    }
}

#[test]
fn a_late_joiner_who_missed_the_wrap_understands_what_is_left() {
    for suite in SUITES {
        let (mut theirs, mut ours) = (oracle(suite, 1, 0), context(suite, 1));
        let packets: Vec<_> = (0..20)
            .map(|n| theirs.encrypt_rtp(&rtp_packet(65_530u16.wrapping_add(n), b"x")).unwrap())
            .collect();
        for packet in packets[8..].iter().chain(&packets[2..6]) {
            assert!(read(&mut ours, packet).0.is_ok(), "{suite:?}");
        }
    }
}

#[test]
fn only_a_new_stream_is_searched_for_and_never_beyond_what_it_may_cost() {
    for suite in SUITES {
        let mut ours = context(suite, 1);
        let forged = oracle(suite, 2, 0).encrypt_rtp(&rtp_packet(1, b"forged")).unwrap();
        let mut forged = forged.to_vec();
        for _ in 0..100 {
            let (read, taken) = read(&mut ours, &forged);
            assert_eq!((read, taken), (Err(SrtpError::Authentication), 32));
        }
        let mut packet = PacketBuf::from_slice(&forged).unwrap();
        assert_eq!(ours.unprotect_rtp(&mut packet), Err(SrtpError::Authentication));
        let known = oracle(suite, 1, 0).encrypt_rtp(&rtp_packet(2, b"x")).unwrap();
        assert!(read(&mut ours, &known).0.is_ok());
        forged[3] += 4;
        assert_eq!(read(&mut ours, &forged), (Err(SrtpError::Authentication), 0));
        let elsewhere = oracle(suite, 1, 5).encrypt_rtp(&rtp_packet(9, b"x")).unwrap();
        assert_eq!(read(&mut ours, &elsewhere), (Err(SrtpError::Authentication), 0));
    }
}

/// Within a session the counter under the former key is known: it costs no try.
#[test]
fn a_stream_goes_on_under_a_new_key_with_its_counter_or_without() {
    for suite in SUITES {
        for (rollover, counter, heard) in [
            (Rollover::Found, 71, true),
            (Rollover::Found, 0, true),
            (Rollover::Kept, 71, true),
            (Rollover::Kept, 0, false),
            (Rollover::Zero, 71, false),
            (Rollover::Zero, 0, true),
        ] {
            let mut before = context(suite, 1);
            let mut theirs = oracle(suite, 1, 70);
            for sequence in [2, 3, 4, 30_000, 60_000] {
                let heard = theirs.encrypt_rtp(&rtp_packet(sequence, b"x")).unwrap();
                assert_eq!(read(&mut before, &heard).0.is_ok(), sequence > 3);
            }
            // Twice: nothing was heard under the key between.
            let between = context(suite, 3).after(&before, rollover);
            let mut ours = context(suite, 2).after(&between, rollover);
            let next = oracle(suite, 2, counter).encrypt_rtp(&rtp_packet(110, b"x")).unwrap();
            let mut packet = PacketBuf::from_slice(&next).unwrap();
            let read = ours.unprotect_rtp(&mut packet);
            assert_eq!(read.is_ok(), heard, "{suite:?} {rollover:?} {counter}");
        }
    }
}

/// A wire whose B has sent and heard more than one cycle of sequence numbers.
fn wrapped(suite: SrtpSuite, rollover: Rollover) -> Wire {
    let mut phone = config(spec(Protocol::Sdes), 2);
    phone.rollover = rollover;
    let mut wire = Wire::new(config(spec(Protocol::Sdes), 1), phone);
    wire.describe_sdes(suite);
    for sequence in [40_000, 60_000, 65_535, 1, 30_000, 60_000, 100] {
        assert!(wire.a_speaks(Component::Rtp, &rtp_packet(sequence, b"a")));
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(sequence, b"b")));
        assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
    }
    wire
}

/// Another relay takes A's place.
fn moved(wire: &mut Wire, suite: SrtpSuite) {
    wire.a = Side::new(config(spec(Protocol::Sdes), 3), 3, wire.now);
    wire.describe_sdes(suite);
}

#[test]
fn a_peer_is_heard_after_a_move_whatever_its_counter() {
    for suite in SUITES {
        let mut wire = wrapped(suite, Rollover::Kept);
        moved(&mut wire, suite);
        for n in 101..110 {
            assert!(wire.b_speaks(Component::Rtp, &rtp_packet(n, b"still there")), "{suite:?}");
        }
    }
}

#[test]
fn a_peer_hears_after_a_move_whether_it_keeps_its_counters_or_not() {
    for suite in SUITES {
        for rollover in [Rollover::Kept, Rollover::Zero] {
            let mut wire = wrapped(suite, rollover);
            moved(&mut wire, suite);
            // As it was, only those understand who begin anew.
            let as_it_was = wire.a_speaks(Component::Rtp, &rtp_packet(101, b"x"));
            assert_eq!(as_it_was, rollover == Rollover::Zero);

            moved(&mut wire, suite);
            wire.a.leg.renew();
            wire.b.heard.clear();
            for n in 102..120 {
                wire.a_speaks(Component::Rtp, &rtp_packet(n, b"still there"));
                wire.a_speaks(Component::Rtcp, &rtcp_packet());
            }
            assert_eq!(wire.b.heard.len(), 36, "{suite:?} {rollover:?}");
            let first = RtpInfo::parse(&wire.b.heard[0].1).unwrap();
            assert!(first.ssrc != SSRC && first.sequence < 0x8000);
            for (n, heard) in wire.b.heard.chunks(2).enumerate() {
                let info = RtpInfo::parse(&heard[0].1).unwrap();
                assert_eq!((info.ssrc, info.sequence), (first.ssrc, first.sequence + n as u16));
                assert_eq!(info.timestamp, (102 + n as u32) * 160);
                assert_eq!(heard[1].1[4..8], first.ssrc.to_be_bytes());
            }
        }
    }
}

#[test]
fn reports_on_a_renewed_stream_come_back_in_its_own_numbers() {
    let suite = SUITES[0];
    let mut wire = wrapped(suite, Rollover::Kept);
    moved(&mut wire, suite);
    wire.a.leg.renew();
    wire.a_speaks(Component::Rtp, &rtp_packet(65_530, b"x"));
    let heard = RtpInfo::parse(&wire.b.heard.pop().unwrap().1).unwrap();
    let report = |ssrc: u32, highest: u32| {
        let words = [0x81c9_0007, 99, ssrc, 0x0c00_0003, highest, 0, 0, 0];
        words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect::<Vec<u8>>()
    };
    wire.a.heard.clear();
    wire.b_speaks(Component::Rtcp, &report(heard.ssrc, u32::from(heard.sequence) + 50));
    wire.b_speaks(Component::Rtcp, &report(SSRC, 7));
    let heard: Vec<_> = wire.a.heard.drain(..).map(|(_, packet)| packet).collect();
    assert_eq!(heard, [report(SSRC, 65_580), report(SSRC, 7)]);
}

#[test]
fn plain_streams_keep_their_names() {
    let mut wire = Wire::new(config(spec(Protocol::Rtp), 1), config(spec(Protocol::Rtp), 2));
    wire.describe(|_| {});
    wire.a.leg.renew();
    assert!(wire.a_speaks(Component::Rtp, &rtp_packet(1, b"x")));
    assert!(wire.a_speaks(Component::Rtcp, &rtcp_packet()));
}

/// Who forges from anywhere uses up only what strangers may cost.
#[test]
fn a_flood_of_forged_packets_takes_no_try_from_where_the_peer_is() {
    for suite in SUITES {
        let mut wire = wrapped(suite, Rollover::Kept);
        moved(&mut wire, suite);
        let forged = oracle(suite, 9, 0).encrypt_rtp(&rtp_packet(1, b"forged")).unwrap();
        let started = std::time::Instant::now();
        for n in 0..100_000u32 {
            let mut packet = PacketBuf::from_slice(&forged).unwrap();
            packet.as_mut_slice()[8..12].copy_from_slice(&n.to_be_bytes());
            let from = address(66, n as u16);
            let received = wire.a.leg.receive(wire.now, Component::Rtp, from, &mut packet);
            assert_eq!(received, Received::Dropped(DropCause::SrtpAuthentication));
        }
        eprintln!("{suite:?}: {:?} for each forged packet", started.elapsed() / 100_000);
        assert!(wire.b_speaks(Component::Rtp, &rtp_packet(101, b"still there")), "{suite:?}");
    }
}

/// One second's tries are not the next one's.
#[test]
fn tries_come_back_with_time() {
    let suite = SUITES[0];
    let mut wire = wrapped(suite, Rollover::Kept);
    moved(&mut wire, suite);
    let forged = oracle(suite, 9, 0).encrypt_rtp(&rtp_packet(1, b"forged")).unwrap();
    let forge = |wire: &mut Wire| {
        for _ in 0..Tries::A_SECOND {
            let mut packet = PacketBuf::from_slice(&forged).unwrap();
            let from = wire.b.rtp;
            wire.a.leg.receive(wire.now, Component::Rtp, from, &mut packet);
        }
    };
    forge(&mut wire);
    assert!(!wire.b_speaks(Component::Rtp, &rtp_packet(101, b"too many before it")));
    wire.now += Duration::from_secs(1);
    assert!(wire.b_speaks(Component::Rtp, &rtp_packet(102, b"heard")));
}
