//! The SIP, SDP and stream targets over their corpus and mutations of it.

use std::path::Path;

use landline_fuzz::{corpus, files, inputs, replay, run_mutated, sdp, sip_framer, sip_message};

#[test]
fn the_corpus_of_messages_replays() {
    replay(sip_message, &messages());
}

#[test]
fn the_corpus_of_descriptions_replays() {
    replay(sdp, &corpus("sdp"));
}

#[test]
fn the_corpus_of_streams_replays() {
    replay(sip_framer, &corpus("sip_framer"));
}

#[test]
fn mutated_messages_do_no_harm() {
    run_mutated("sip_message", sip_message, &messages(), inputs());
}

#[test]
fn mutated_descriptions_do_no_harm() {
    run_mutated("sdp", sdp, &corpus("sdp"), inputs());
}

#[test]
fn mutated_streams_do_no_harm() {
    run_mutated("sip_framer", sip_framer, &corpus("sip_framer"), inputs());
}

/// The torture messages are as good a start as any.
fn messages() -> Vec<(String, Vec<u8>)> {
    let torture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sip/torture");
    let mut all = corpus("sip");
    all.extend(files(&torture));
    all
}
