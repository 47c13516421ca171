//! From one codec's payloads to another's, by way of samples at the lower of
//! their rates.

use super::routes::Pair;
use crate::audio::{AudioError, Codec, Concealer, Decoder, Encoder};

/// Opus has frames of these lengths (RFC 6716 §2.1.4), below a voice's 60 ms;
/// the others have any.
const OPUS_MS: [u16; 4] = [10, 20, 40, 60];
const SHORTEST_MS: u16 = 10;
const LONGEST_MS: u16 = 60;
const USUAL_MS: u16 = 20;

pub(super) struct Coding {
    pair: Pair,
    /// As it was asked for.
    packet_ms: u16,
    rate: u32,
    decoder: Decoder,
    /// For a codec that has no concealment of its own.
    concealer: Option<Concealer>,
    encoder: Encoder,
    /// Samples of a packet.
    frame: usize,
    /// Decoded and not yet encoded.
    sound: Vec<i16>,
    payload: Vec<u8>,
    /// Samples of the last packet that came.
    last: usize,
}

/// What a packet has brought.
pub(super) struct Taken {
    /// With those that were made up.
    pub samples: usize,
    /// Packets that were made up for.
    pub concealed: u32,
}

impl Coding {
    pub fn new(pair: Pair, packet_ms: u16) -> Result<Self, AudioError> {
        let rate = pair.from.sample_rate().min(pair.to.sample_rate());
        let frame = rate as usize / 1000 * usize::from(frame_ms(pair.to, packet_ms));
        Ok(Self {
            pair,
            packet_ms,
            rate,
            decoder: Decoder::at(pair.from, rate)?,
            concealer: (pair.from != Codec::Opus).then(|| Concealer::new(rate)),
            encoder: Encoder::live(pair.to, rate)?,
            frame,
            sound: Vec::with_capacity(4 * frame),
            payload: Vec::with_capacity(2 * frame),
            last: frame,
        })
    }

    pub fn suits(&self, pair: Pair, packet_ms: u16) -> bool {
        self.pair == pair && self.packet_ms == packet_ms
    }

    pub fn number(&self) -> u8 {
        self.pair.number
    }

    /// Decodes a packet, behind so many samples that were lost. `None` when it
    /// is none of the codec's.
    pub fn take(&mut self, payload: &[u8], missing: usize) -> Option<Taken> {
        if payload.is_empty() {
            return None;
        }
        let before = self.sound.len();
        if missing > 0 {
            self.conceal(payload, missing);
        }
        let begin = self.sound.len();
        if self.decoder.decode(payload, &mut self.sound).is_err() {
            self.sound.truncate(before);
            return None;
        }
        if let (Some(concealer), Some(heard)) = (&mut self.concealer, self.sound.get_mut(begin..)) {
            concealer.heard(heard);
        }
        self.last = (self.sound.len() - begin).max(1);
        let concealed = missing.div_ceil(self.last) as u32;
        Some(Taken { samples: self.sound.len() - before, concealed })
    }

    fn conceal(&mut self, next: &[u8], missing: usize) {
        let end = self.sound.len() + missing;
        match &mut self.concealer {
            Some(concealer) => concealer.fill(missing, &mut self.sound),
            None => {
                let step = self.rate as usize / 400;
                let _ = self.decoder.conceal(next, missing - missing % step, &mut self.sound);
                // What no frame lasts for.
                self.sound.resize(end, 0);
            }
        }
    }

    /// The payload of the next packet, if there is sound for one.
    pub fn encode(&mut self) -> Option<&[u8]> {
        let frame = self.sound.get(..self.frame)?;
        self.payload.clear();
        let encoded = self.encoder.encode(frame, &mut self.payload);
        let left = self.sound.len() - self.frame;
        self.sound.copy_within(self.frame.., 0);
        self.sound.truncate(left);
        encoded.ok().map(|()| self.payload.as_slice())
    }

    pub fn is_empty(&self) -> bool {
        self.sound.is_empty()
    }

    /// Samples that wait to be encoded.
    pub fn waiting(&self) -> usize {
        self.sound.len()
    }

    /// Fills what waits up to whole packets, with silence; with how much.
    pub fn round_up(&mut self) -> usize {
        let before = self.sound.len();
        self.sound.resize(before.div_ceil(self.frame) * self.frame, 0);
        self.sound.len() - before
    }

    /// What waits is of another source.
    pub fn forget(&mut self) {
        self.sound.clear();
    }

    /// Samples as units of the told clock, and back.
    pub fn units_of(&self, samples: usize) -> u32 {
        (samples as u64 * u64::from(self.pair.to.clock_rate()) / u64::from(self.rate)) as u32
    }

    pub fn samples_of(&self, units: u32) -> usize {
        let clock = u64::from(self.pair.to.clock_rate());
        (u64::from(units) * u64::from(self.rate) / clock) as usize
    }
}

fn frame_ms(codec: Codec, wanted: u16) -> u16 {
    let wanted = if wanted == 0 { USUAL_MS } else { wanted };
    match codec {
        Codec::Opus => {
            let shorter = OPUS_MS.into_iter().rev().find(|it| *it <= wanted);
            shorter.unwrap_or(SHORTEST_MS)
        }
        _ => wanted.clamp(SHORTEST_MS, LONGEST_MS) / SHORTEST_MS * SHORTEST_MS,
    }
}
