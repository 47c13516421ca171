//! Our parsers beside independent ones: where both take an input, they read
//! the same in it.

use std::path::Path;

use bytes::Bytes;
use landline_fuzz::{corpus, files, inputs, mutate};
use landline_sip::{Limits, Message, Request, sdp};
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::message::HeadersExt;

#[test]
fn requests_read_as_rsip_reads_them() {
    let corpus = messages();
    let mut compared = 0;
    for (name, input) in &corpus {
        compared += usize::from(compare_request(input, name));
    }
    // rsip knows no compact names, no folding and no IPv6; the rest it reads.
    assert!(compared >= 20, "only {compared} requests were taken by both");
}

/// rsip trims, splits and decodes with less care, so mutations are held to
/// what identifies a transaction.
#[test]
fn mutated_requests_read_as_rsip_reads_them() {
    let mut corpus = messages();
    corpus.retain(|(name, input)| compare_request(input, name));
    let count = inputs() / 10;
    let mut compared = 0;
    for seed in 0..count {
        let (name, input) = &corpus[seed as usize % corpus.len()];
        let input = mutate(seed, input);
        compared += u64::from(compare_request(&input, &format!("mutate({seed}, {name})")));
    }
    println!("rsip: {compared} of {count} mutated requests were taken by both");
    assert!(compared * 10 > count, "only {compared} of {count}");
}

#[test]
fn descriptions_read_as_sdp_types_reads_them() {
    let mut compared = 0;
    for (name, input) in &corpus("sdp") {
        compared += usize::from(compare_sdp(input, name));
    }
    assert!(compared >= 7, "only {compared} descriptions were taken by both");
}

#[test]
fn mutated_descriptions_read_as_sdp_types_reads_them() {
    let corpus = corpus("sdp");
    let count = inputs() / 2;
    let mut compared = 0;
    for seed in 0..count {
        let (name, input) = &corpus[seed as usize % corpus.len()];
        let input = mutate(seed, input);
        compared += u64::from(compare_sdp(&input, &format!("mutate({seed}, {name})")));
    }
    println!("sdp-types: {compared} of {count} mutated descriptions were taken by both");
    assert!(compared * 10 > count, "only {compared} of {count}");
}

/// Whether both took it.
fn compare_request(input: &[u8], name: &str) -> bool {
    let ours = landline_sip::parse(&Bytes::copy_from_slice(input), &Limits::default());
    let (Ok(Message::Request(ours)), Some(theirs)) = (ours, rsip_request(input)) else {
        return false;
    };
    let (Ok(call_id), Ok(cseq)) = (theirs.call_id_header(), theirs.cseq_header()) else {
        return false;
    };
    let Ok(cseq) = cseq.typed() else { return false };
    assert_eq!(ours.method.as_str(), theirs.method.to_string(), "{name}");
    let own_cseq = ours.cseq().unwrap();
    assert_eq!(own_cseq.number, cseq.seq, "{name}");
    assert_eq!(own_cseq.method.as_str(), cseq.method.to_string(), "{name}");
    let own_call_id = ours.call_id().unwrap();
    assert_eq!(own_call_id.to_str_lossy(), call_id.value().trim(), "{name}");
    compare_uri(&ours, &theirs, name);
    true
}

fn compare_uri(ours: &Request, theirs: &rsip::Request, name: &str) {
    // rsip ends a user at the first character that is not one of these.
    let own = ours.uri.to_string();
    let plain = own.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@:.-_".contains(&byte));
    if plain && ours.uri.is_sip() {
        assert!(own.eq_ignore_ascii_case(&theirs.uri.to_string()), "{name}: the URI");
    }
}

/// rsip panics on some inputs; that is its loss.
fn rsip_request(input: &[u8]) -> Option<rsip::Request> {
    match std::panic::catch_unwind(|| rsip::SipMessage::try_from(input)) {
        Ok(Ok(rsip::SipMessage::Request(request))) => Some(request),
        _ => None,
    }
}

/// Whether both took it. What we print must mean to the other what the
/// original meant to it.
fn compare_sdp(input: &[u8], name: &str) -> bool {
    let Ok(ours) = sdp::parse(input, &Limits::default()) else { return false };
    let Ok(theirs) = sdp_types::Session::parse(input) else { return false };
    // Two spaces in a row are an empty word to it, and one separator to us.
    if theirs.medias.iter().any(|media| media.proto.is_empty() || media.fmt.is_empty()) {
        return false;
    }
    let printed = ours.to_bytes();
    let again = sdp_types::Session::parse(&printed);
    let again = again.unwrap_or_else(|error| panic!("{name}: our print is refused: {error}"));
    assert_eq!(ours.media.len(), theirs.medias.len(), "{name}");
    for (own, other) in again.medias.iter().zip(&theirs.medias) {
        assert_eq!(meaning(own), meaning(other), "{name}");
    }
    assert_eq!(meaning(&again.attributes), meaning(&theirs.attributes), "{name}");
    assert_eq!(meaning(&again.connection), meaning(&theirs.connection), "{name}");
    assert_eq!(meaning(&again.origin), meaning(&theirs.origin), "{name}");
    true
}

/// White space apart: between the words of a line we print one space.
fn meaning(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").replace("\\t", "").replace(' ', "")
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let torture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sip/torture");
    let mut all = corpus("sip");
    all.extend(files(&torture));
    all
}
