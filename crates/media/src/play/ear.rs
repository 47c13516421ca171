use super::Said;
use crate::audio::{Codec, Decoder};

/// Its static number (RFC 3551 §6), which needs no description.
const COMFORT_NOISE: u8 = 13;
/// A sample beyond this is meant to be heard: about -47 dB of full scale.
const AUDIBLE: u16 = 150;
/// Opus' discontinuous transmission and digital silence are no longer.
const SILENT_OPUS: usize = 8;
const RATE: u32 = 8000;

/// Whether there is anything to hear in what somebody sends: some phones go on
/// sending silence while they hold a call, and browsers encode it at a length that
/// tells nothing once packets were lost.
#[derive(Default)]
pub struct Ear {
    decoder: Option<(Codec, Decoder)>,
    samples: Vec<i16>,
}

impl Ear {
    /// By the payload type's number and, where it is known, its encoding.
    pub fn hear(&mut self, number: u8, encoding: Option<&str>, payload: &[u8]) -> Said {
        let is = |name: &str| encoding.is_some_and(|it| it.eq_ignore_ascii_case(name));
        if is("TELEPHONE-EVENT") {
            return Said::Keys;
        }
        // Comfort noise (RFC 3389) is what silence sounds like.
        let is_noise = is("CN") || (encoding.is_none() && number == COMFORT_NOISE);
        let codec = encoding.and_then(Codec::from_encoding);
        match !is_noise && self.is_audible(codec, payload) {
            true => Said::Sound,
            false => Said::Silence,
        }
    }

    /// Of a codec that is not known, whatever comes is sound.
    fn is_audible(&mut self, codec: Option<Codec>, payload: &[u8]) -> bool {
        let Some(codec) = codec else { return !payload.is_empty() };
        if payload.is_empty() || (codec == Codec::Opus && payload.len() <= SILENT_OPUS) {
            return false;
        }
        if self.decoder.as_ref().is_none_or(|(of, _)| *of != codec) {
            self.decoder = Decoder::at(codec, RATE).ok().map(|decoder| (codec, decoder));
        }
        let Some((_, decoder)) = &mut self.decoder else { return true };
        self.samples.clear();
        // What cannot be decoded cannot be heard either.
        let is_decoded = decoder.decode(payload, &mut self.samples).is_ok();
        is_decoded && self.samples.iter().any(|sample| sample.unsigned_abs() > AUDIBLE)
    }
}
