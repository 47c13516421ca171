//! Audio for test phones and for exports of recordings: codecs, tones, and the
//! rendering of recorded packets into aligned channels. The relay itself never
//! looks into a payload.

mod codec;
mod g711;
mod opus;
mod render;
mod resample;
mod tone;

pub use codec::{AudioError, Codec, Decoder, Encoder};
pub use g711::{alaw_decode, alaw_encode, ulaw_decode, ulaw_encode};
pub use render::{Rendered, Renderer, best_rate, render};
pub use resample::Upsampler;
pub use tone::{ToneGenerator, strongest_tone};
