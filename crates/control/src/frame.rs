use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame accepted, in octets without its length field.
pub const MAX_FRAME: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a control frame of {0} octets is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    #[error("a control frame could not be read")]
    Malformed,
    #[error("{0} octets follow a control message in its frame")]
    Trailing(usize),
}

/// Appends one message as a frame.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_| FrameError::Malformed)?;
    if body.len() > MAX_FRAME {
        return Err(FrameError::TooLong(body.len()));
    }
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Cuts a byte stream into messages. After an error the stream is unusable.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Octets at the buffer's start that were taken already.
    taken: usize,
}

impl Framer {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    #[expect(clippy::should_implement_trait, reason = "its type differs from call to call")]
    /// The next whole message, or `None` until more bytes are pushed.
    pub fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let pending = &self.buffer[self.taken..];
        let Some((length, rest)) = pending.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else {
            self.compact();
            return Ok(None);
        };
        let (message, trailing) =
            postcard::take_from_bytes(body).map_err(|_| FrameError::Malformed)?;
        if !trailing.is_empty() {
            return Err(FrameError::Trailing(trailing.len()));
        }
        self.taken += 4 + length;
        Ok(Some(message))
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromRelay, ToRelay};

    #[test]
    fn messages_survive_any_split_of_the_stream() {
        let mut wire = Vec::new();
        for n in 0..3 {
            encode(&ToRelay::Ping(n), &mut wire).unwrap();
        }
        for cut in 0..wire.len() {
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                framer.push(part);
                while let Some(message) = framer.next::<ToRelay>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [ToRelay::Ping(0), ToRelay::Ping(1), ToRelay::Ping(2)]);
        }
    }

    #[test]
    fn an_oversize_or_garbled_frame_is_an_error() {
        let mut framer = Framer::default();
        framer.push(&u32::MAX.to_be_bytes());
        assert_eq!(framer.next::<FromRelay>(), Err(FrameError::TooLong(u32::MAX as usize)));

        let mut framer = Framer::default();
        framer.push(&[0, 0, 0, 2, 0xff, 0xff]);
        assert_eq!(framer.next::<FromRelay>(), Err(FrameError::Malformed));

        let mut framer = Framer::default();
        framer.push(&[0, 0, 0, 3, 2, 1, 0]);
        assert_eq!(framer.next::<ToRelay>(), Err(FrameError::Trailing(1)));
    }
}
