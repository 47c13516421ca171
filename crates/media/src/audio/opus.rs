//! Safe handles on the Opus codec (RFC 6716).

use std::ptr::NonNull;

use unsafe_libopus::{
    OPUS_APPLICATION_VOIP, OPUS_OK, OpusDecoder, OpusEncoder, opus_decode, opus_decoder_create,
    opus_decoder_destroy, opus_encode, opus_encoder_create, opus_encoder_destroy,
};

use super::AudioError;

/// The longest Opus packet lasts 120 ms (RFC 6716 §3.1).
const MAX_MS: usize = 120;
/// The longest packet we make: a frame at the codec's highest rate.
const MAX_ENCODED: usize = 1275;

/// One channel, whatever the stream has.
pub struct Decoder {
    state: NonNull<OpusDecoder>,
    frame: Vec<i16>,
}

// SAFETY: the state is plain memory that this handle alone owns.
unsafe impl Send for Decoder {}

impl Decoder {
    /// `rate` is 8000, 12000, 16000, 24000 or 48000.
    pub fn new(rate: u32) -> Result<Self, AudioError> {
        let mut error = OPUS_OK;
        // SAFETY: `error` outlives the call; a null result is checked.
        let state = unsafe { opus_decoder_create(rate as i32, 1, &mut error) };
        let state = NonNull::new(state).ok_or(AudioError::Rate(rate))?;
        Ok(Self { state, frame: vec![0; rate as usize * MAX_MS / 1000] })
    }

    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), AudioError> {
        let (length, room) = (packet.len() as i32, self.frame.len() as i32);
        // SAFETY: the state is live; the lengths are those of the two buffers.
        let samples = unsafe {
            opus_decode(
                self.state.as_ptr(),
                packet.as_ptr(),
                length,
                self.frame.as_mut_ptr(),
                room,
                0,
            )
        };
        let samples = usize::try_from(samples).map_err(|_| AudioError::Payload)?;
        out.extend_from_slice(self.frame.get(..samples).ok_or(AudioError::Payload)?);
        Ok(())
    }
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
