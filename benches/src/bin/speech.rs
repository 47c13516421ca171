//! Ten seconds of something like speech in each codec, for `peergen talk`: JSON
//! with the payload type, the clock of a packet and the payloads in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use landline_benches::speech::{number, say};
use landline_media::audio::Codec;
use serde_json::{Map, json};

const PACKETS: usize = 500;

fn main() {
    let mut speech = Map::new();
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        let payloads: Vec<_> =
            say(codec, PACKETS).iter().map(|payload| STANDARD.encode(payload)).collect();
        let said = json!({
            "payload_type": number(codec),
            "clock_rate": codec.clock_rate(),
            "payloads": payloads,
        });
        speech.insert(codec.encoding().to_ascii_lowercase(), said);
    }
    println!("{}", json!(speech));
}
