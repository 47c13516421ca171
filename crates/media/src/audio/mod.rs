//! Audio: codecs, tones, the concealment of what was lost, and the rendering of
//! recorded packets into aligned channels. The relay looks into a payload only
//! where two sides share no codec (see [`crate::translate`]).

mod codec;
mod conceal;
mod g711;
mod opus;
mod prompt;
mod render;
mod resample;
mod tone;
mod tune;
mod wav;

pub use codec::{AudioError, Codec, Decoder, Encoder};
pub use conceal::Concealer;
pub use g711::{alaw_decode, alaw_encode, ulaw_decode, ulaw_encode};
pub use prompt::{beep, greeting, no_messages, no_more_messages};
pub use render::{Rendered, Renderer, best_rate, render};
pub use resample::{Upsampler, resampled};
pub use tone::{ToneGenerator, strongest_tone};
pub use tune::tune;
pub use wav::{WavError, read_wav};
