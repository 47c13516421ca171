//! Fuzz targets over every parser that reads from the wire, a seeded mutator,
//! and the corpus they start from.
//!
//! A target takes any bytes and panics when something that must always hold
//! does not. `cargo test` replays the corpus and a bounded number of mutated
//! inputs; the count comes from `LANDLINE_FUZZ_INPUTS`.

mod control;
mod harness;
mod media;
mod mutate;
mod sdp;
mod sip;

pub use control::control;
pub use harness::{corpus, files, inputs, replay, run_mutated};
pub use media::{dtls, framing, rtcp_packet, rtp, srtp, stun};
pub use mutate::mutate;
pub use sdp::sdp;
pub use sip::{sip_framer, sip_message};
