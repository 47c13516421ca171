//! Safe handles on the Opus codec (RFC 6716).
//!
//! The library is C in Rust's clothes. What a peer sends reaches the decoder, so
//! a panic in there is caught and costs that packet and the decoder's state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use unsafe_libopus::{
    OPUS_APPLICATION_VOIP, OPUS_OK, OPUS_SET_COMPLEXITY_REQUEST, OPUS_SET_INBAND_FEC_REQUEST,
    OPUS_SET_PACKET_LOSS_PERC_REQUEST, OpusDecoder, OpusEncoder, opus_decode, opus_decoder_create,
    opus_decoder_destroy, opus_encode, opus_encoder_create, opus_encoder_ctl_impl,
    opus_encoder_destroy, varargs,
};

use super::AudioError;

/// The longest Opus packet lasts 120 ms (RFC 6716 §3.1).
const MAX_MS: usize = 120;
/// The longest packet we make: a frame at the codec's highest rate.
const MAX_ENCODED: usize = 1275;

/// A call in progress is encoded at half of the greatest effort: speech sounds
/// the same, and costs two thirds.
const COMPLEXITY: i32 = 5;
/// What loss the encoder expects, in percent: enough for it to repeat itself
/// in-band (RFC 6716 §2.1.7) when the bit rate has room.
const EXPECTED_LOSS: i32 = 5;

/// One channel, whatever the stream has.
pub struct Decoder {
    state: NonNull<OpusDecoder>,
    rate: u32,
    frame: Vec<i16>,
}

// SAFETY: the state is plain memory that this handle alone owns.
unsafe impl Send for Decoder {}

impl Decoder {
    /// `rate` is 8000, 12000, 16000, 24000 or 48000.
    pub fn new(rate: u32) -> Result<Self, AudioError> {
        let frame = vec![0; rate as usize * MAX_MS / 1000];
        Ok(Self { state: create_decoder(rate)?, rate, frame })
    }

    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), AudioError> {
        self.run(packet, self.frame.len(), false, out)
    }

    /// What is missing before this packet, `samples` long, a multiple of 2.5 ms:
    /// as this one repeats it in-band (RFC 6716 §2.1.7), or else as the sound
    /// probably went on.
    pub fn conceal(
        &mut self,
        next: &[u8],
        samples: usize,
        out: &mut Vec<i16>,
    ) -> Result<(), AudioError> {
        self.run(next, samples, true, out)
    }

    fn run(
        &mut self,
        packet: &[u8],
        room: usize,
        repeated: bool,
        out: &mut Vec<i16>,
    ) -> Result<(), AudioError> {
        let room = room.min(self.frame.len()) as i32;
        let (octets, length) = (packet.as_ptr(), packet.len() as i32);
        let (state, frame) = (self.state.as_ptr(), self.frame.as_mut_ptr());
        // SAFETY: the state is live; the lengths are those of the two buffers.
        let decode = || unsafe { opus_decode(state, octets, length, frame, room, repeated.into()) };
        let Ok(samples) = catch_unwind(AssertUnwindSafe(decode)) else {
            self.replace()?;
            return Err(AudioError::Payload);
        };
        let samples = usize::try_from(samples).map_err(|_| AudioError::Payload)?;
        out.extend_from_slice(self.frame.get(..samples).ok_or(AudioError::Payload)?);
        Ok(())
    }

    fn replace(&mut self) -> Result<(), AudioError> {
        let former = std::mem::replace(&mut self.state, create_decoder(self.rate)?);
        // SAFETY: created by `opus_decoder_create`, destroyed once.
        unsafe { opus_decoder_destroy(former.as_ptr()) }
        Ok(())
    }
}

fn create_decoder(rate: u32) -> Result<NonNull<OpusDecoder>, AudioError> {
    let mut error = OPUS_OK;
    // SAFETY: `error` outlives the call; a null result is checked.
    let state = unsafe { opus_decoder_create(rate as i32, 1, &mut error) };
    NonNull::new(state).ok_or(AudioError::Rate(rate))
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: created by `opus_decoder_create`, destroyed once.
        unsafe { opus_decoder_destroy(self.state.as_ptr()) }
    }
}

pub struct Encoder {
    state: NonNull<OpusEncoder>,
}

// SAFETY: the state is plain memory that this handle alone owns.
unsafe impl Send for Encoder {}

impl Encoder {
    pub fn new(rate: u32) -> Result<Self, AudioError> {
        let mut error = OPUS_OK;
        // SAFETY: `error` outlives the call; a null result is checked.
        let state =
            unsafe { opus_encoder_create(rate as i32, 1, OPUS_APPLICATION_VOIP, &mut error) };
        Ok(Self { state: NonNull::new(state).ok_or(AudioError::Rate(rate))? })
    }

    /// For a call in progress, many of which are encoded at a time.
    pub fn live(rate: u32) -> Result<Self, AudioError> {
        let encoder = Self::new(rate)?;
        for (request, value) in [
            (OPUS_SET_COMPLEXITY_REQUEST, COMPLEXITY),
            (OPUS_SET_INBAND_FEC_REQUEST, 1),
            (OPUS_SET_PACKET_LOSS_PERC_REQUEST, EXPECTED_LOSS),
        ] {
            let state = encoder.state.as_ptr();
            // SAFETY: the state is live; each of these requests takes one integer.
            let done = unsafe { opus_encoder_ctl_impl(state, request, varargs!(value)) };
            debug_assert_eq!(done, OPUS_OK);
        }
        Ok(encoder)
    }

    /// `samples` is one frame of 2.5, 5, 10, 20, 40 or 60 ms.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), AudioError> {
        let mut packet = [0; MAX_ENCODED];
        // SAFETY: the state is live; the lengths are those of the two buffers.
        let length = unsafe {
            opus_encode(
                self.state.as_ptr(),
                samples.as_ptr(),
                samples.len() as i32,
                packet.as_mut_ptr(),
                MAX_ENCODED as i32,
            )
        };
        let length = usize::try_from(length).map_err(|_| AudioError::Frame(samples.len()))?;
        out.extend_from_slice(packet.get(..length).ok_or(AudioError::Frame(samples.len()))?);
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: created by `opus_encoder_create`, destroyed once.
        unsafe { opus_encoder_destroy(self.state.as_ptr()) }
    }
}
