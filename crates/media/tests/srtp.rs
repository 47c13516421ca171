//! SRTP and SRTCP beside webrtc-srtp, and what forgers may try.

mod common;

use common::{rtcp_packet, rtp_packet};
use landline_control::SrtpSuite;
use landline_media::srtp::{Context, MAX_STREAMS, SrtpError};
use landline_media::{PacketBuf, RtpInfo};
use proptest::prelude::*;
use webrtc_srtp::context::Context as Oracle;
use webrtc_srtp::protection_profile::ProtectionProfile;

fn key(suite: SrtpSuite) -> Vec<u8> {
    (1..=suite.key_and_salt_len() as u8).collect()
}

const SUITES: [SrtpSuite; 3] =
    [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AeadAes128Gcm, SrtpSuite::AeadAes256Gcm];

fn context(suite: SrtpSuite) -> Context {
    Context::new(suite, &key(suite)).unwrap()
}

fn oracle(suite: SrtpSuite) -> Oracle {
    let profile = match suite {
        SrtpSuite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpSuite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let key = key(suite);
    Oracle::new(&key[..suite.key_len()], &key[suite.key_len()..], profile, None, None).unwrap()
}

fn packet(bytes: &[u8]) -> PacketBuf {
    PacketBuf::from_slice(bytes).unwrap()
}

/// A valid packet with CSRCs, an extension and padding as wished.
fn rich_rtp(
    sequence: u16,
    csrcs: u8,
    extension: Option<u8>,
    padding: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = rtp_packet(sequence, b"");
    bytes[0] |= csrcs;
    bytes.extend(std::iter::repeat_n(9, usize::from(csrcs) * 4));
    if let Some(words) = extension {
        bytes[0] |= 0x10;
        bytes.extend_from_slice(&[0xbe, 0xde, 0, words]);
        bytes.extend(std::iter::repeat_n(0, usize::from(words) * 4));
    }
    bytes.extend_from_slice(payload);
    if padding > 0 {
        bytes[0] |= 0x20;
        bytes.extend(std::iter::repeat_n(0, usize::from(padding) - 1));
        bytes.push(padding);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_packet_means_the_same_to_webrtc_srtp(
        first in any::<u16>(),
        steps in prop::collection::vec(1u16..2000, 1..12),
        csrcs in 0u8..=15,
        extension in prop::option::of(0u8..20),
        padding in 0u8..40,
        payload in prop::collection::vec(any::<u8>(), 1..400),
        gcm in any::<bool>(),
    ) {
        let suite = SUITES[usize::from(gcm)];
        let (mut ours, mut theirs) = (context(suite), oracle(suite));
        let (mut our_receiver, mut their_receiver) = (context(suite), oracle(suite));
        let mut sequence = first;
        for step in steps {
            let plain = rich_rtp(sequence, csrcs, extension, padding, &payload);
            let mut protected = packet(&plain);
            ours.protect_rtp(&mut protected).unwrap();
            let expected = theirs.encrypt_rtp(&plain).unwrap();
            prop_assert_eq!(protected.as_slice(), &expected[..]);
            prop_assert_eq!(&their_receiver.decrypt_rtp(&expected).unwrap()[..], &plain[..]);
            let info = our_receiver.unprotect_rtp(&mut protected).unwrap();
            prop_assert_eq!(protected.as_slice(), &plain[..]);
            prop_assert_eq!(info, RtpInfo::parse(&plain).unwrap());
            sequence = sequence.wrapping_add(step);
        }
    }

    #[test]
    fn noise_never_authenticates(bytes in prop::collection::vec(any::<u8>(), 0..200), gcm in any::<bool>()) {
        let suite = SUITES[usize::from(gcm)];
        prop_assert!(context(suite).unprotect_rtp(&mut packet(&bytes)).is_err());
        prop_assert!(context(suite).unprotect_rtcp(&mut packet(&bytes)).is_err());
        let _ = context(suite).protect_rtp(&mut packet(&bytes));
        let _ = context(suite).protect_rtcp(&mut packet(&bytes));
    }
}

#[test]
fn rtcp_means_the_same_to_webrtc_srtp() {
    for suite in SUITES {
        let (mut ours, mut theirs) = (context(suite), oracle(suite));
        let (mut our_receiver, mut their_receiver) = (context(suite), oracle(suite));
        let plain = rtcp_packet();
        for _ in 0..3 {
            let mut protected = packet(&plain);
            ours.protect_rtcp(&mut protected).unwrap();
            assert_eq!(their_receiver.decrypt_rtcp(protected.as_slice()).unwrap(), plain);
            let expected = theirs.encrypt_rtcp(&plain).unwrap();
            let mut received = packet(&expected);
            our_receiver.unprotect_rtcp(&mut received).unwrap();
            assert_eq!(received.as_slice(), plain);
        }
    }
}

/// The reference packet of libsrtp's test driver, under the key of RFC 3711 B.3.
#[test]
fn a_packet_matches_libsrtp_s() {
    let key = hex::decode("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6").unwrap();
    let mut context = Context::new(SrtpSuite::AesCm128HmacSha1_80, &key).unwrap();
    let plain = hex::decode("800f1234decafbadcafebabeabababababababababababababababab").unwrap();
    let mut protected = packet(&plain);
    context.protect_rtp(&mut protected).unwrap();
    let expected = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402\
                    b78d6acc99ea179b8dbb";
    assert_eq!(hex::encode(protected.as_slice()), expected);
}

#[test]
fn a_changed_octet_anywhere_is_noticed() {
    for suite in SUITES {
        let mut protected = packet(&rich_rtp(5, 1, Some(1), 4, b"payload"));
        context(suite).protect_rtp(&mut protected).unwrap();
        let mut protected_rtcp = packet(&rtcp_packet());
        context(suite).protect_rtcp(&mut protected_rtcp).unwrap();
        for at in 0..protected.len() {
            let mut forged = protected.clone();
            forged.as_mut_slice()[at] ^= 0x04;
            assert!(context(suite).unprotect_rtp(&mut forged).is_err(), "{suite:?} {at}");
        }
        for at in 0..protected_rtcp.len() {
            let mut forged = protected_rtcp.clone();
            forged.as_mut_slice()[at] ^= 0x04;
            assert!(context(suite).unprotect_rtcp(&mut forged).is_err(), "{suite:?} {at}");
        }
    }
}

#[test]
fn a_packet_cut_anywhere_is_noticed() {
    for suite in SUITES {
        let mut protected = packet(&rtp_packet(5, b"payload"));
        context(suite).protect_rtp(&mut protected).unwrap();
        let mut protected_rtcp = packet(&rtcp_packet());
        context(suite).protect_rtcp(&mut protected_rtcp).unwrap();
        for length in 0..protected.len() {
            let mut cut = packet(&protected.as_slice()[..length]);
            assert!(context(suite).unprotect_rtp(&mut cut).is_err());
        }
        for length in 0..protected_rtcp.len() {
            let mut cut = packet(&protected_rtcp.as_slice()[..length]);
            assert!(context(suite).unprotect_rtcp(&mut cut).is_err());
        }
    }
}

/// The flag says unencrypted, the tag is right for counter mode's layout or is
/// zero: both must fail, since encryption was negotiated.
#[test]
fn srtcp_that_says_it_is_not_encrypted_is_refused() {
    for suite in SUITES {
        for tag in [10, 16] {
            let mut bytes = rtcp_packet();
            bytes.extend_from_slice(&[0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(0, tag));
            let error = context(suite).unprotect_rtcp(&mut packet(&bytes)).unwrap_err();
            assert!(matches!(error, SrtpError::Unencrypted), "{suite:?} {error:?}");
        }
        let mut protected = packet(&rtcp_packet());
        context(suite).protect_rtcp(&mut protected).unwrap();
        let behind = if suite == SrtpSuite::AesCm128HmacSha1_80 { 14 } else { 4 };
        let at = protected.len() - behind;
        protected.as_mut_slice()[at] &= 0x7f;
        let error = context(suite).unprotect_rtcp(&mut protected).unwrap_err();
        assert_eq!(error, SrtpError::Unencrypted);
    }
}

#[test]
fn a_replayed_packet_is_refused_and_a_late_one_is_not() {
    for suite in SUITES {
        let mut sender = context(suite);
        let mut receiver = context(suite);
        let protected: Vec<PacketBuf> = (0..200)
            .map(|n| {
                let mut it = packet(&rtp_packet(65_436u16.wrapping_add(n), b"x"));
                sender.protect_rtp(&mut it).unwrap();
                it
            })
            .collect();
        for at in (0..150).filter(|n| *n != 100).chain([100]) {
            receiver.unprotect_rtp(&mut protected[at].clone()).unwrap();
        }
        for seen in [100, 149, 30] {
            let error = receiver.unprotect_rtp(&mut protected[seen].clone()).unwrap_err();
            assert_eq!(error, SrtpError::Replay);
        }
        let mut rtcp = packet(&rtcp_packet());
        sender.protect_rtcp(&mut rtcp).unwrap();
        receiver.unprotect_rtcp(&mut rtcp.clone()).unwrap();
        assert_eq!(receiver.unprotect_rtcp(&mut rtcp), Err(SrtpError::Replay));
    }
}

#[test]
fn forged_streams_take_no_room_and_real_ones_are_bounded() {
    for suite in SUITES {
        let mut sender = context(suite);
        let mut receiver = context(suite);
        let from = |ssrc: u32| {
            let mut bytes = rtp_packet(1, b"x");
            bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
            bytes
        };
        for ssrc in 0..10_000 {
            let mut forged = [from(ssrc), vec![0; 16]].concat();
            forged.truncate(12 + 1 + 16);
            let error = receiver.unprotect_rtp(&mut packet(&forged)).unwrap_err();
            assert_eq!(error, SrtpError::Authentication);
        }
        for ssrc in 0..MAX_STREAMS as u32 {
            let mut protected = packet(&from(ssrc));
            sender.protect_rtp(&mut protected).unwrap();
            receiver.unprotect_rtp(&mut protected).unwrap();
        }
        let mut one_more = packet(&from(1 << 20));
        assert_eq!(sender.protect_rtp(&mut one_more), Err(SrtpError::TooManyStreams));
    }
}

#[test]
fn the_same_sequence_number_is_not_sent_twice() {
    for suite in SUITES {
        let mut sender = context(suite);
        sender.protect_rtp(&mut packet(&rtp_packet(9, b"one"))).unwrap();
        let again = sender.protect_rtp(&mut packet(&rtp_packet(9, b"two")));
        assert_eq!(again, Err(SrtpError::Replay));
    }
}
