use ezk_g722::libg722::Bitrate;
use ezk_g722::libg722::decoder::Decoder as G722Decoder;
use ezk_g722::libg722::encoder::Encoder as G722Encoder;

use super::{Upsampler, alaw_decode, alaw_encode, opus, ulaw_decode, ulaw_encode};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    #[error("the codec does not work at {0} Hz")]
    Rate(u32),
    #[error("the payload is not the codec's")]
    Payload,
    #[error("the codec has no frames of {0} samples")]
    Frame(usize),
}

/// The codecs that can be rendered and transcoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    Pcmu,
    Pcma,
    G722,
    Opus,
}

impl Codec {
    /// By the encoding name of `a=rtpmap`, in any case.
    pub fn from_encoding(name: &str) -> Option<Self> {
        [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus]
            .into_iter()
            .find(|codec| codec.encoding().eq_ignore_ascii_case(name))
    }

    pub const fn encoding(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "OPUS",
        }
    }

    /// Samples a second as heard, in Hz.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8000,
            Self::G722 => 16_000,
            Self::Opus => 48_000,
        }
    }

    /// RTP timestamp units a second. G.722's is 8000 by an old error (RFC 3551
    /// §4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::G722 => 8000,
            other => other.sample_rate(),
        }
    }

    /// The static payload type (RFC 3551 §6), if it has one.
    pub const fn payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            Self::Opus => None,
        }
    }
}

/// Payloads to samples at the codec's [`Codec::sample_rate`].
pub struct Decoder(Decoding);

enum Decoding {
    Ulaw,
    Alaw,
    G722(Box<G722Decoder>),
    Opus(opus::Decoder),
}

impl Decoder {
    pub fn new(codec: Codec) -> Result<Self, AudioError> {
        Self::at(codec, codec.sample_rate())
    }

    /// To samples at another rate: Opus decodes to any of its own, and of G.722
    /// the lower band alone is 8 kHz.
    pub fn at(codec: Codec, rate: u32) -> Result<Self, AudioError> {
        Ok(Self(match codec {
            Codec::Pcmu if rate == 8000 => Decoding::Ulaw,
            Codec::Pcma if rate == 8000 => Decoding::Alaw,
            Codec::G722 if rate == 8000 || rate == 16_000 => {
                let lower = rate == 8000;
                Decoding::G722(Box::new(G722Decoder::new(Bitrate::Mode1_64000, false, lower)))
            }
            Codec::Opus => Decoding::Opus(opus::Decoder::new(rate)?),
            _ => return Err(AudioError::Rate(rate)),
        }))
    }

    /// Appends the payload's samples to `out`.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), AudioError> {
        match &mut self.0 {
            Decoding::Ulaw => out.extend(payload.iter().map(|code| ulaw_decode(*code))),
            Decoding::Alaw => out.extend(payload.iter().map(|code| alaw_decode(*code))),
            Decoding::G722(decoder) => out.extend(decoder.decode(payload)),
            Decoding::Opus(decoder) => decoder.decode(payload, out)?,
        }
        Ok(())
    }
}

impl Decoder {
    /// Appends what was lost before `next`, `samples` long, as the codec itself
    /// would have it. False, and nothing done, of a codec that has no such thing.
    pub fn conceal(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) -> bool {
        let Decoding::Opus(decoder) = &mut self.0 else { return false };
        decoder.conceal(next, samples, out).is_ok()
    }
}

/// Samples at the codec's [`Codec::sample_rate`] to payloads.
pub struct Encoder(Encoding);

enum Encoding {
    Ulaw,
    Alaw,
    G722(Box<G722Encoder>),
    /// From half of its rate: the library's own mode for that makes silence.
    RaisedG722(Box<(Upsampler, Vec<i16>, G722Encoder)>),
    Opus(opus::Encoder),
}

impl Encoder {
    pub fn new(codec: Codec) -> Result<Self, AudioError> {
        Ok(Self(match codec {
            Codec::Opus => Encoding::Opus(opus::Encoder::new(codec.sample_rate())?),
            _ => return Self::live(codec, codec.sample_rate()),
        }))
    }

    /// For calls in progress, from samples at any rate that [`Decoder::at`] has.
    pub fn live(codec: Codec, rate: u32) -> Result<Self, AudioError> {
        Ok(Self(match codec {
            Codec::Pcmu if rate == 8000 => Encoding::Ulaw,
            Codec::Pcma if rate == 8000 => Encoding::Alaw,
            Codec::G722 => {
                let encoder = G722Encoder::new(Bitrate::Mode1_64000, false, false);
                match Upsampler::new(rate, codec.sample_rate()) {
                    _ if rate == codec.sample_rate() => Encoding::G722(Box::new(encoder)),
                    Some(up) if rate == 8000 => {
                        Encoding::RaisedG722(Box::new((up, Vec::new(), encoder)))
                    }
                    _ => return Err(AudioError::Rate(rate)),
                }
            }
            Codec::Opus => Encoding::Opus(opus::Encoder::live(rate)?),
            _ => return Err(AudioError::Rate(rate)),
        }))
    }

    /// Appends one frame's payload to `out`. 20 ms suit every codec.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), AudioError> {
        match &mut self.0 {
            Encoding::Ulaw => out.extend(samples.iter().map(|sample| ulaw_encode(*sample))),
            Encoding::Alaw => out.extend(samples.iter().map(|sample| alaw_encode(*sample))),
            // It wants whole pairs of samples.
            Encoding::G722(_) if !samples.len().is_multiple_of(2) => {
                return Err(AudioError::Frame(samples.len()));
            }
            Encoding::G722(encoder) => out.extend(encoder.encode(samples)),
            Encoding::RaisedG722(raised) => {
                let (up, raised, encoder) = &mut **raised;
                raised.clear();
                up.push(samples, raised);
                out.extend(encoder.encode(raised));
            }
            Encoding::Opus(encoder) => encoder.encode(samples, out)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{ToneGenerator, strongest_tone};

    /// The strongest tone of a second that was encoded and decoded, and its level.
    fn through(encoder: &mut Encoder, decoder: &mut Decoder, hz: f64, rate: u32) -> (f64, f64) {
        let mut tone = ToneGenerator::new(hz, rate);
        let mut heard = Vec::new();
        for _ in 0..50 {
            let mut frame = vec![0; rate as usize / 50];
            tone.fill(&mut frame);
            let mut payload = Vec::new();
            encoder.encode(&frame, &mut payload).unwrap();
            decoder.decode(&payload, &mut heard).unwrap();
        }
        assert_eq!(heard.len(), rate as usize);
        strongest_tone(&heard, rate).unwrap()
    }

    #[test]
    fn a_tone_is_heard_through_every_codec() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            for hz in [440.0, 1000.0, 2600.0] {
                let rate = codec.sample_rate();
                let mut encoder = Encoder::new(codec).unwrap();
                let mut decoder = Decoder::new(codec).unwrap();
                let (found, level) = through(&mut encoder, &mut decoder, hz, rate);
                assert!((found - hz).abs() < 10.0, "{codec:?} {hz}: {found}");
                assert!(level > -20.0, "{codec:?} {hz}: {level} dB");
            }
        }
    }

    #[test]
    fn a_tone_is_heard_at_the_lower_rates_too() {
        for (codec, rate) in [(Codec::G722, 8000), (Codec::Opus, 8000), (Codec::Opus, 16_000)] {
            for hz in [440.0, 1000.0, 2600.0] {
                let mut encoder = Encoder::live(codec, rate).unwrap();
                let mut decoder = Decoder::at(codec, rate).unwrap();
                let (found, level) = through(&mut encoder, &mut decoder, hz, rate);
                assert!((found - hz).abs() < 10.0, "{codec:?} {hz}: {found}");
                assert!((level - -12.2).abs() < 3.0, "{codec:?} {hz}: {level} dB");
            }
        }
        assert!(Decoder::at(Codec::Pcmu, 16_000).is_err());
        assert!(Encoder::live(Codec::G722, 48_000).is_err());
    }

    #[test]
    fn garbage_is_an_error_or_noise_and_nothing_worse() {
        for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
            let mut decoder = Decoder::new(codec).unwrap();
            let mut state = 1u32;
            for length in 0..400 {
                let payload: Vec<u8> = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .take(length)
                .collect();
                let _ = decoder.decode(&payload, &mut Vec::new());
            }
        }
    }
}
