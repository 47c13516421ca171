//! STUN messages: the vectors of RFC 5769, and garbage.

use std::net::SocketAddr;

use landline_media::stun::{BINDING, Class, Message, StunError, Writer, attribute};
use proptest::prelude::*;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace([' ', '\n'], "")).unwrap()
}

fn request() -> Vec<u8> {
    bytes(
        "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c
         69656e74 00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676
         59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf",
    )
}

#[test]
fn the_sample_request_is_read_and_authentic() {
    let request = request();
    let message = Message::parse(&request).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, BINDING));
    assert_eq!(message.username, Some(&b"evtj:h6vY"[..]));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.ice_controlled, Some(0x932f_f9b1_5126_3b36));
    assert!(message.fingerprinted && message.unknown.is_empty());
    assert!(message.is_authentic(PASSWORD));
    assert!(!message.is_authentic("VOkJxbRl1RmTxUk/WvJxBT"));
}

#[test]
fn the_sample_responses_are_read_and_authentic() {
    let v4 = bytes(
        "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
         00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
         80280004 c07d4c96",
    );
    let v6 = bytes(
        "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
         00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1
         1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c",
    );
    for (response, mapped) in
        [(v4, "192.0.2.1:32853"), (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let message = Message::parse(&response).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped, Some(mapped.parse::<SocketAddr>().unwrap()));
        assert!(message.is_authentic(PASSWORD));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let address: SocketAddr = "[2001:db8::7]:4567".parse().unwrap();
    let written = Writer::new(Class::Error, BINDING, [7; 12])
        .error_code(487, "Role Conflict")
        .attribute(attribute::USERNAME, b"a:bc")
        .xor_mapped_address(address)
        .integrity("password")
        .finish();
    let message = Message::parse(&written).unwrap();
    assert_eq!((message.class, message.transaction), (Class::Error, [7; 12]));
    assert_eq!((message.error_code, message.mapped), (Some(487), Some(address)));
    assert_eq!(message.username, Some(&b"a:bc"[..]));
    assert!(message.fingerprinted && message.is_authentic("password"));
}

#[test]
fn a_changed_octet_anywhere_is_noticed() {
    let request = request();
    for at in 0..request.len() {
        let mut forged = request.clone();
        forged[at] ^= 1;
        let noticed = Message::parse(&forged)
            .map(|message| !message.fingerprinted || !message.is_authentic(PASSWORD));
        assert!(noticed.unwrap_or(true), "{at}");
    }
    for length in 0..request.len() {
        assert!(Message::parse(&request[..length]).is_err(), "{length}");
    }
}

#[test]
fn attributes_behind_the_integrity_are_not_believed() {
    let mut writer = Writer::new(Class::Request, BINDING, [1; 12]).integrity("password");
    writer = writer.attribute(attribute::USE_CANDIDATE, &[]).attribute(attribute::USERNAME, b"x");
    let bytes = writer.finish();
    let message = Message::parse(&bytes).unwrap();
    assert!(message.is_authentic("password"));
    assert!(!message.use_candidate && message.username.is_none());
}

#[test]
fn nothing_may_follow_the_fingerprint() {
    let mut bytes = request();
    bytes.extend_from_slice(&[0x80, 0x22, 0, 0]);
    bytes[3] += 4;
    assert_eq!(Message::parse(&bytes).unwrap_err(), StunError::Fingerprint);
}

#[test]
fn unknown_attributes_that_must_be_understood_are_listed() {
    let bytes = Writer::new(Class::Request, BINDING, [1; 12])
        .attribute(0x7777, b"abc")
        .attribute(0x8777, b"abc")
        .finish();
    assert_eq!(&Message::parse(&bytes).unwrap().unknown[..], [0x7777]);
}

proptest! {
    #[test]
    fn garbage_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&noise).map(|message| message.is_authentic("x"));
    }

    #[test]
    fn mutated_messages_never_panic(changes in prop::collection::vec((0usize..108, any::<u8>()), 1..8), length in 0usize..108) {
        let mut bytes = request();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(length.max(20));
        let body = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&body.to_be_bytes());
        let _ = Message::parse(&bytes).map(|message| message.is_authentic("x"));
    }
}
