//! The targets of the media path over their corpus and mutations of it.

use landline_fuzz::{
    corpus, dtls, framing, inputs, replay, rtcp_packet, rtp, run_mutated, srtp, stun,
};

#[test]
fn the_corpus_replays() {
    replay(stun, &corpus("stun"));
    replay(rtp, &corpus("rtp"));
    replay(rtcp_packet, &corpus("rtcp"));
    replay(srtp, &corpus("srtp"));
    replay(dtls, &corpus("dtls"));
    replay(framing, &corpus("framing"));
}

#[test]
fn mutated_streams_of_packets_do_no_harm() {
    run_mutated("framing", framing, &corpus("framing"), inputs());
}

#[test]
fn mutated_stun_does_no_harm() {
    run_mutated("stun", stun, &corpus("stun"), inputs());
}

#[test]
fn mutated_rtp_does_no_harm() {
    run_mutated("rtp", rtp, &corpus("rtp"), inputs());
}

#[test]
fn mutated_rtcp_does_no_harm() {
    run_mutated("rtcp", rtcp_packet, &corpus("rtcp"), inputs());
}

#[test]
fn mutated_srtp_does_no_harm() {
    run_mutated("srtp", srtp, &corpus("srtp"), inputs());
}

/// A handshake costs key exchanges: a tenth of the inputs.
#[test]
fn mutated_handshakes_do_no_harm() {
    run_mutated("dtls", dtls, &corpus("dtls"), inputs() / 10);
}
