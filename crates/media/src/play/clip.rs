//! A sound as one codec has it, cut into packets.

use crate::audio::{AudioError, Codec, Encoder, resampled};

/// Samples a second of what is given to be played.
pub const SOUND_RATE: u32 = 16_000;
/// Of sound in each packet, for every codec.
pub const FRAME_MS: u32 = 20;

/// Encoded once, and played to as many as are to hear it.
#[derive(Debug, PartialEq, Eq)]
pub struct Clip {
    codec: Codec,
    frames: Vec<Box<[u8]>>,
    octets: usize,
}

impl Clip {
    /// Of samples at [`SOUND_RATE`]; the last packet is filled up with silence.
    /// Takes its time: some seconds of it for minutes of Opus.
    pub fn encode(codec: Codec, samples: &[i16]) -> Result<Self, AudioError> {
        let narrow = matches!(codec, Codec::Pcmu | Codec::Pcma);
        let rate = if narrow { SOUND_RATE / 2 } else { SOUND_RATE };
        let samples = resampled(samples, SOUND_RATE, rate);
        let length = (rate / 1000 * FRAME_MS) as usize;
        let mut encoder = Encoder::live(codec, rate)?;
        let mut frames = Vec::with_capacity(samples.len().div_ceil(length));
        let mut frame = Vec::with_capacity(length);
        for part in samples.chunks(length) {
            frame.clear();
            frame.extend_from_slice(part);
            frame.resize(length, 0);
            let mut payload = Vec::new();
            encoder.encode(&frame, &mut payload)?;
            frames.push(payload.into_boxed_slice());
        }
        let octets = frames.iter().map(|it| it.len() + size_of::<Box<[u8]>>()).sum();
        Ok(Self { codec, frames, octets })
    }

    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// About what it takes in memory.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn frame(&self, number: usize) -> Option<&[u8]> {
        self.frames.get(number).map(AsRef::as_ref)
    }
}
