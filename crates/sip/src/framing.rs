//! A TCP or TLS byte stream cut into messages by Content-Length (RFC 3261
//! §18.3), with the keep-alives of RFC 5626 §3.5.1 between them.

use bytes::{Buf, Bytes, BytesMut};

use crate::header_name::HeaderName;
use crate::limits::Limits;
use crate::scan;

/// Holds at most one message of the permitted size and what the last read
/// brought beyond it.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limits: Limits,
    /// How far the end of the header section has been looked for, so that a
    /// peer that sends byte by byte does not cost us the square of it.
    searched: usize,
    /// Head and body, once the head is complete.
    length: Option<usize>,
    dead: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, for [`crate::parse`].
    Message(Bytes),
    /// A double CR LF, to be answered with a single one.
    KeepAlivePing,
    /// A single CR LF: the answer to our ping.
    KeepAlivePong,
}

/// After one of these nobody can say where the next message begins: the
/// connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a message is larger than the limit")]
    TooLarge,
    #[error("a message has no Content-Length, which a stream needs")]
    NoContentLength,
    #[error("a message's Content-Length is malformed or stands twice")]
    BadContentLength,
    #[error("the stream does not hold SIP")]
    NotSip,
}

impl Framer {
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), limits, searched: 0, length: None, dead: false }
    }

    /// Call [`Framer::next`] until it has nothing more before pushing again:
    /// that bounds the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.dead {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes waiting for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame, or `None` until more has been pushed. After an error
    /// the stream is dead and every call returns `NotSip`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.dead {
            return Err(FrameError::NotSip);
        }
        let result = self.cut();
        if result.is_err() {
            self.dead = true;
            self.buffer = BytesMut::new();
        }
        result
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.length.is_none() {
            if let Some(keep_alive) = self.keep_alive() {
                return Ok(keep_alive);
            }
            let Some(head) = self.head_length()? else { return Ok(None) };
            let body = content_length(self.buffer.get(..head).unwrap_or_default())?;
            let length = head.checked_add(body).ok_or(FrameError::TooLarge)?;
            if length > self.limits.max_message {
                return Err(FrameError::TooLarge);
            }
            self.length = Some(length);
        }
        match self.length {
            Some(length) if self.buffer.len() >= length => {
                self.length = None;
                self.searched = 0;
                Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// `Some(None)`: it cannot be told yet.
    fn keep_alive(&mut self) -> Option<Option<Frame>> {
        match self.buffer.as_ref() {
            [b'\r', b'\n', b'\r', b'\n', ..] => {
                self.buffer.advance(4);
                Some(Some(Frame::KeepAlivePing))
            }
            // A ping arrives in one piece from every real peer; half of one
            // and a pong are the same bytes.
            [b'\r', b'\n', ..] => {
                self.buffer.advance(2);
                Some(Some(Frame::KeepAlivePong))
            }
            [b'\r'] | [] => Some(None),
            _ => None,
        }
    }

    fn head_length(&mut self) -> Result<Option<usize>, FrameError> {
        const END: &[u8] = b"\r\n\r\n";
        let from = self.searched.saturating_sub(END.len() - 1);
        // A start line ends before this; a TLS hello or a flood does not.
        let line = self.limits.max_uri + 128;
        if from <= line
            && self.buffer.get(..line).is_some_and(|start| memchr::memchr(b'\n', start).is_none())
        {
            return Err(FrameError::NotSip);
        }
        let found = self.buffer.get(from..).and_then(|rest| memchr::memmem::find(rest, END));
        if let Some(at) = found {
            return Ok(Some(from + at + END.len()));
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > self.limits.max_message {
            return Err(FrameError::TooLarge);
        }
        Ok(None)
    }
}

/// Every Content-Length line is read, also folded and compact, since two that
/// disagree would let a message hide in another one's body.
fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    let mut length = None;
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((name, value)) =
            memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
        else {
            continue;
        };
        if line.first().is_some_and(|byte| scan::is_space(*byte))
            || HeaderName::known(scan::trim_end(name)) != Some(HeaderName::ContentLength)
        {
            continue;
        }
        let mut value = scan::trim(value.get(1..).unwrap_or_default());
        while let Some(more) =
            lines.next_if(|next| next.first().is_some_and(|b| scan::is_space(*b)))
        {
            let more = scan::trim(more.strip_suffix(b"\r").unwrap_or(more));
            match (value.is_empty(), more.is_empty()) {
                (true, _) => value = more,
                (false, true) => {}
                (false, false) => return Err(FrameError::BadContentLength),
            }
        }
        let number = scan::number(value).ok_or(FrameError::BadContentLength)?;
        if length.replace(number).is_some() {
            return Err(FrameError::BadContentLength);
        }
    }
    length.ok_or(FrameError::NoContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nl: 5\r\n\r\nhello";

    fn frames(chunks: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
        let mut framer = Framer::new(Limits::default());
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(frame) = framer.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let stream = [OPTIONS, OPTIONS].concat();
        let expected = vec![Frame::Message(Bytes::from_static(OPTIONS)); 2];
        assert_eq!(frames(&[&stream]), Ok(expected.clone()));
        for cut in 1..stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(frames(&[a, b]), Ok(expected.clone()), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes), Ok(expected));
    }

    #[test]
    fn pings_and_pongs_stand_between_messages() {
        let stream = [b"\r\n\r\n", OPTIONS, b"\r\n", OPTIONS].concat();
        let message = Frame::Message(Bytes::from_static(OPTIONS));
        assert_eq!(
            frames(&[&stream]),
            Ok(vec![Frame::KeepAlivePing, message.clone(), Frame::KeepAlivePong, message])
        );
    }

    #[test]
    fn lengths_in_doubt_end_the_stream() {
        for (head, error) in [
            ("Via: x", FrameError::NoContentLength),
            ("Content-Length: -1", FrameError::BadContentLength),
            ("Content-Length: 1\r\nl: 1", FrameError::BadContentLength),
            ("Content-Length: 1\r\n 2", FrameError::BadContentLength),
            ("Content-Length: 99999999999999999999", FrameError::BadContentLength),
            ("Content-Length: 18446744073709551615", FrameError::TooLarge),
            ("Content-Length: 100000", FrameError::TooLarge),
        ] {
            let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{head}\r\n\r\n");
            assert_eq!(frames(&[text.as_bytes()]), Err(error), "{head}");
        }
        let folded = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length :\r\n 2\r\n\r\nhi";
        assert_eq!(frames(&[folded]), Ok(vec![Frame::Message(Bytes::from_static(folded))]));
    }

    #[test]
    fn what_never_ends_is_cut_off() {
        assert_eq!(frames(&[&vec![b'x'; 5000]]), Err(FrameError::NotSip));
        let endless = b"a: b\r\n".repeat(20_000);
        assert_eq!(frames(&[&endless]), Err(FrameError::TooLarge));
        let mut framer = Framer::new(Limits::default());
        framer.push(&endless);
        assert!(framer.next().is_err());
        framer.push(OPTIONS);
        assert_eq!(framer.next(), Err(FrameError::NotSip));
        assert_eq!(framer.buffered(), 0);
    }
}
