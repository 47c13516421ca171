//! What hostile or broken senders can make of an endpoint: nothing lasting.

mod lab;

use bytes::Bytes;
use lab::*;
use landline_sip::{Endpoint, Event, Input, Output, Response, StatusCode};

/// Answers every request with 500, as a user that understands nothing.
fn feed(lab: &mut Lab, bytes: Bytes) -> usize {
    let outputs = lab.input(Input::Received { flow: udp(), bytes });
    let mut sent = sends(&outputs).len();
    for output in outputs {
        if let Output::Event(Event::Request { key: Some(key), request, .. }) = output {
            let response = Response::for_request(&request, StatusCode::SERVER_INTERNAL_ERROR)
                .with_to_tag("us");
            sent += sends(&lab.input(Input::Respond { key, response })).len();
        }
    }
    sent
}

fn torture() -> Vec<(String, Bytes)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/sip/torture");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap().into()))
        .collect();
    files.sort();
    files
}

#[test]
fn torture_messages_get_one_answer_at_most_and_leave_nothing() {
    let messages = torture();
    assert!(messages.len() > 40, "{} messages", messages.len());
    for (name, bytes) in messages {
        let mut lab = Lab::new();
        assert!(feed(&mut lab, bytes.clone()) <= 1, "{name}");
        lab.run(64_000);
        assert!(lab.endpoint.is_empty(), "{name}");
        assert_eq!(lab.endpoint.poll_timeout(), None, "{name}");
    }
}

#[test]
fn mutilated_messages_leave_nothing() {
    let mut texts = vec![incoming("INVITE", "z9hG4bKa"), incoming("CANCEL", "z9hG4bKa")];
    texts.extend(["ACK", "BYE", "REGISTER"].map(|method| incoming(method, "z9hG4bKb")));
    let mut lab = Lab::new();
    let outputs = lab.request(KEY, &incoming("INVITE", "z9hG4bKx"), address_of_peer());
    let (_, invite) = sends(&outputs).remove(0);
    texts.extend([180, 200, 486].map(|status| answer(&invite, status, "b")));
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut roll = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % sides as u64) as usize
    };
    for _ in 0..5000 {
        let mut bytes = texts[roll(texts.len())].replace('\n', "\r\n").into_bytes();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len());
            match roll(3) {
                0 => bytes[at] = roll(256) as u8,
                1 => bytes.truncate(at.max(1)),
                _ => {
                    let piece: Vec<u8> = bytes[at..(at + 20).min(bytes.len())].to_vec();
                    let to = roll(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        feed(&mut lab, bytes.into());
        lab.run(7);
    }
    lab.input(Input::Cancel { key: KEY, reason: None });
    lab.run(100_000);
    assert_eq!(left(&lab.endpoint), (0, None));
}

#[test]
fn a_flood_of_new_requests_is_bounded_and_ends() {
    let mut config = config();
    config.max_transactions = 1000;
    let mut lab = Lab::with(config);
    for n in 0..5000 {
        let text = incoming("INVITE", &format!("z9hG4bK{n}")).replace("c1", &format!("c{n}"));
        feed(&mut lab, Bytes::from(text.replace('\n', "\r\n")));
        assert!(lab.endpoint.len() <= 1000);
    }
    assert_eq!(lab.endpoint.counters().overload_answered, 4100);
    lab.run(32_000);
    assert_eq!(left(&lab.endpoint), (0, None));
}

fn left(endpoint: &Endpoint) -> (usize, Option<std::time::Instant>) {
    (endpoint.len(), endpoint.poll_timeout())
}

fn address_of_peer() -> landline_sip::Destination {
    address(landline_sip::Transport::Udp, 5099)
}
