//! What keeper and proxy say to each other: frames of a kind, a number and a
//! body. Both are of one installation and one user: a frame that cannot be
//! read ends the link.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use landline_sip::{Flow, FlowId, Transport};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::metrics::{TRANSPORTS, label};

/// Kind, number, and the body's length.
const HEADER: usize = 1 + 8 + 4;
/// The longest body: a SIP message, with room.
const LONGEST: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The keeper's first: the listeners in their configured order.
    Hello(Vec<(Transport, SocketAddr)>),
    /// A connection is up, or was when the proxy came; and what its client's
    /// certificate speaks for.
    Opened(Flow, Vec<String>),
    Received(FlowId, Bytes),
    Closed(FlowId),
    /// So many more were thrown away, by the cause's place among the metric's.
    Dropped(u64, u64),
    /// The proxy's: to be written.
    Write(FlowId, Bytes),
    /// The proxy's: to be closed after what is queued was written.
    LetGo(FlowId),
    /// The proxy's: it hands over, and takes nothing more.
    Pause,
    /// The keeper's: that was all.
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame between keeper and proxy cannot be read")]
pub(crate) struct Malformed;

impl Frame {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let mut put = |kind: u8, number: u64, body: &[u8]| {
            out.put_u8(kind);
            out.put_u64(number);
            out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
            out.put_slice(body);
        };
        match self {
            Self::Hello(listeners) => {
                let line = |(transport, local): &(Transport, SocketAddr)| {
                    format!("{} {local}\n", label(*transport))
                };
                put(b'H', 0, listeners.iter().map(line).collect::<String>().as_bytes());
            }
            Self::Opened(flow, domains) => {
                let ends = format!("{} {} {}", label(flow.transport), flow.local, flow.remote);
                let body = [&[ends], domains.as_slice()].concat().join(" ");
                put(b'O', flow.id.0, body.as_bytes());
            }
            Self::Received(id, bytes) => put(b'R', id.0, bytes),
            Self::Closed(id) => put(b'C', id.0, &[]),
            Self::Dropped(cause, count) => put(b'D', *cause, &count.to_be_bytes()),
            Self::Write(id, bytes) => put(b'W', id.0, bytes),
            Self::LetGo(id) => put(b'L', id.0, &[]),
            Self::Pause => put(b'P', 0, &[]),
            Self::Paused => put(b'Q', 0, &[]),
        }
    }

    fn decode(kind: u8, number: u64, body: Bytes) -> Result<Self, Malformed> {
        let text = || std::str::from_utf8(&body).map_err(|_| Malformed);
        let id = FlowId(number);
        Ok(match kind {
            b'H' => Self::Hello(text()?.lines().map(listener).collect::<Result<_, _>>()?),
            b'O' => {
                let mut words = text()?.splitn(3, ' ');
                let ends = [words.next(), words.next()].map(Option::unwrap_or_default).join(" ");
                let mut rest = words.next().ok_or(Malformed)?.split(' ');
                let (transport, local) = listener(&ends)?;
                let remote = address(rest.next().unwrap_or_default())?;
                let flow = Flow { id, transport, local, remote, peer: None };
                Self::Opened(flow, rest.map(str::to_owned).collect())
            }
            b'R' => Self::Received(id, body),
            b'C' => Self::Closed(id),
            b'D' => {
                let count = body[..].try_into().map_err(|_| Malformed)?;
                Self::Dropped(number, u64::from_be_bytes(count))
            }
            b'W' => Self::Write(id, body),
            b'L' => Self::LetGo(id),
            b'P' => Self::Pause,
            b'Q' => Self::Paused,
            _ => return Err(Malformed),
        })
    }
}

fn listener(text: &str) -> Result<(Transport, SocketAddr), Malformed> {
    let (transport, local) = text.split_once(' ').ok_or(Malformed)?;
    let known = TRANSPORTS.iter().find(|known| label(**known) == transport);
    Ok((*known.ok_or(Malformed)?, address(local)?))
}

fn address(text: &str) -> Result<SocketAddr, Malformed> {
    text.parse().map_err(|_| Malformed)
}

/// Cuts what was read into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Reads until there is a whole frame.
    pub(crate) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.next().map_err(io::Error::other)? {
                return Ok(frame);
            }
            if from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next whole frame, or `None` until more is read.
    fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        let mut header = &self.buffer[..];
        if header.len() < HEADER {
            return Ok(None);
        }
        let (kind, number, length) = (header.get_u8(), header.get_u64(), header.get_u32());
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if length > LONGEST {
            return Err(Malformed);
        }
        if header.len() < length {
            self.buffer.reserve(length - header.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let body = self.buffer.split_to(length).freeze();
        Frame::decode(kind, number, body).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_any_split_and_rubbish_is_refused() {
        let (local, remote) = ("127.0.0.1:5061".parse().unwrap(), "[::1]:9".parse().unwrap());
        let id = FlowId(u64::MAX - 1);
        let flow = Flow { id, transport: Transport::Wss, local, remote, peer: None };
        let frames = [
            Frame::Hello(vec![(Transport::Udp, remote), (Transport::Tls, local)]),
            Frame::Opened(flow.clone(), Vec::new()),
            Frame::Opened(flow, vec!["a.test".to_owned(), "b.test".to_owned()]),
            Frame::Received(id, Bytes::from_static(b"OPTIONS sip:a SIP/2.0\r\n\r\n")),
            Frame::Closed(id),
            Frame::Dropped(3, 70_000),
            Frame::Write(id, Bytes::from_static(b"\xff\0")),
            Frame::LetGo(id),
            Frame::Pause,
            Frame::Paused,
        ];
        let mut octets = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut octets));
        for cut in 0..octets.len() {
            let (mut reader, mut seen) = (Frames::default(), Vec::new());
            for part in [&octets[..cut], &octets[cut..]] {
                reader.buffer.extend_from_slice(part);
                seen.extend(std::iter::from_fn(|| reader.next().unwrap()));
            }
            assert_eq!(seen, frames, "cut at {cut}");
        }
        for rubbish in [&b"Z\0\0\0\0\0\0\0\0\0\0\0\0"[..], b"R\0\0\0\0\0\0\0\0\xff\xff\xff\xff"] {
            let mut reader = Frames { buffer: BytesMut::from(rubbish) };
            assert_eq!(reader.next(), Err(Malformed));
        }
    }
}
