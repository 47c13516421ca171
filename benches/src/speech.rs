//! Something like speech, and how codecs are named to a relay.

use std::f32::consts::TAU;

use landline_control::{PayloadType, Spoken};
use landline_media::audio::{Codec, Encoder};

/// Harmonics of a pitch that wanders, in syllables, with some noise: what keeps a
/// speech codec as busy as speech.
pub struct Voice {
    time: f32,
    phase: f32,
    noise: u32,
}

impl Default for Voice {
    fn default() -> Self {
        Self { time: 0.0, phase: 0.0, noise: 1 }
    }
}

impl Voice {
    /// The next sample, at so many a second.
    pub fn next(&mut self, rate: u32) -> i16 {
        let step = 1.0 / rate as f32;
        self.time = (self.time + step) % 10.0;
        let pitch = 140.0 + 30.0 * (TAU * 0.7 * self.time).sin();
        self.phase = (self.phase + TAU * pitch * step) % TAU;
        let loudness = (0.5 + 0.5 * (TAU * 3.0 * self.time).sin()).powi(2);
        let harmonics: f32 = (1..12).map(|n| (self.phase * n as f32).sin() / n as f32).sum();
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (self.noise >> 16) as f32 / 65_536.0 - 0.5;
        (5000.0 * loudness * (harmonics + 0.2 * noise)) as i16
    }
}

/// So many packets' payloads, of 20 ms each.
pub fn say(codec: Codec, packets: usize) -> Vec<Vec<u8>> {
    let (mut voice, rate) = (Voice::default(), codec.sample_rate());
    let mut encoder = Encoder::new(codec).expect("an encoder");
    let mut payload = || {
        let frame: Vec<i16> = (0..rate / 50).map(|_| voice.next(rate)).collect();
        let mut payload = Vec::new();
        encoder.encode(&frame, &mut payload).expect("a frame");
        payload
    };
    (0..packets).map(|_| payload()).collect()
}

pub fn number(codec: Codec) -> u8 {
    codec.payload_type().unwrap_or(111)
}

pub fn payload_type(codec: Codec) -> PayloadType {
    PayloadType {
        number: number(codec),
        encoding: codec.encoding().to_owned(),
        clock_rate: codec.clock_rate(),
        channels: 1,
    }
}

pub fn speaks(codec: Codec) -> Spoken {
    let kind = payload_type(codec);
    Spoken { says: vec![kind.clone()], takes: vec![kind], packet_ms: None }
}
