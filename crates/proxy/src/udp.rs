//! UDP listeners. The driver reads and writes them itself: a hop between tasks
//! would cost more than the system calls.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_sip::stun::is_stun;
use landline_sip::{Flow, FlowId, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::metrics::{Drop as Cause, Metrics};

/// Datagrams kept while the socket's own buffer is full.
const SEND_QUEUE: usize = 1024;
/// Octets asked of the kernel for each direction: bursts outlast a busy driver.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The longest datagram there is.
const LONGEST: usize = 65_535;

pub(crate) struct UdpListener {
    id: FlowId,
    socket: UdpSocket,
    local: SocketAddr,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    buffer: Box<[u8]>,
    /// When the socket's buffer was last found empty.
    empty_at: Instant,
}

/// Why a datagram cannot be sent at all.
#[derive(Debug)]
pub(crate) struct Unsendable;

pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel gives what its own limit allows.
    let _less = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _less = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl UdpListener {
    /// Of a bound socket. Called within the runtime that reads it.
    pub(crate) fn new(id: FlowId, socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let local = socket.local_addr()?;
        let buffer = vec![0; LONGEST].into_boxed_slice();
        let empty_at = Instant::now();
        Ok(Self { id, socket, local, waiting: VecDeque::new(), buffer, empty_at })
    }

    pub(crate) const fn id(&self) -> FlowId {
        self.id
    }

    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Ready when there is something to read, or room for what waits.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let writable = !self.waiting.is_empty() && self.socket.poll_send_ready(context).is_ready();
        match self.socket.poll_recv_ready(context).is_ready() || writable {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(crate) fn found_empty(&mut self, now: Instant) {
        self.empty_at = now;
    }

    /// How long what is received now can have waited in the socket's buffer.
    pub(crate) fn longest_wait(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.empty_at)
    }

    /// The next datagram that may be SIP; `None` when there is none now.
    pub(crate) fn receive(&mut self, metrics: &Metrics, now: Instant) -> Option<(Flow, Bytes)> {
        loop {
            let (length, remote) = match self.socket.try_recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.empty_at = now;
                    return None;
                }
                Err(_) => {
                    metrics.drop(Cause::UdpReceiveFailed);
                    return None;
                }
            };
            match classify(&self.buffer[..length]) {
                Datagram::Sip => {}
                Datagram::Stun => {
                    self.answer_stun(length, remote, metrics);
                    continue;
                }
                Datagram::KeepAlive => {
                    metrics.drop(Cause::UdpKeepAlive);
                    continue;
                }
                Datagram::Noise => {
                    metrics.drop(Cause::UdpNoise);
                    continue;
                }
            }
            let flow = Flow {
                id: self.id,
                transport: Transport::Udp,
                local: self.local,
                remote,
                peer: None,
            };
            return Some((flow, Bytes::copy_from_slice(&self.buffer[..length])));
        }
    }

    /// A client asks where it is seen, to keep its flow open (RFC 5626 §8). It
    /// does not wait while others' messages do.
    fn answer_stun(&self, length: usize, remote: SocketAddr, metrics: &Metrics) {
        let request = self.buffer.get(..length).unwrap_or_default();
        let Some(answer) = landline_sip::stun::answer(request, remote) else {
            return metrics.drop(Cause::UdpNoise);
        };
        match self.socket.try_send_to(&answer, remote) {
            Ok(_) => metrics.stun_answered.inc(),
            Err(_) => metrics.drop(Cause::UdpSendFailed),
        }
    }

    pub(crate) fn send(
        &mut self,
        to: SocketAddr,
        bytes: Bytes,
        metrics: &Metrics,
    ) -> Result<(), Unsendable> {
        if !self.waiting.is_empty() {
            self.keep(to, bytes, metrics);
            return Ok(());
        }
        match self.socket.try_send_to(&bytes, to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.keep(to, bytes, metrics);
                Ok(())
            }
            Err(_) => {
                metrics.drop(Cause::UdpSendFailed);
                Err(Unsendable)
            }
        }
    }

    /// Sends what waited, as far as there is room.
    pub(crate) fn flush(&mut self, metrics: &Metrics) {
        while let Some((to, bytes)) = self.waiting.front() {
            match self.socket.try_send_to(bytes, *to) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => metrics.drop(Cause::UdpSendFailed),
                Ok(_) => {}
            }
            self.waiting.pop_front();
        }
    }

    fn keep(&mut self, to: SocketAddr, bytes: Bytes, metrics: &Metrics) {
        match self.waiting.len() < SEND_QUEUE {
            true => self.waiting.push_back((to, bytes)),
            false => metrics.drop(Cause::UdpSendQueueFull),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Datagram {
    Sip,
    /// Line ends alone, or zero octets: phones keep a NAT's binding open so.
    KeepAlive,
    Stun,
    Noise,
}

/// A SIP message begins with a token, or with the CRLFs that RFC 3261 §7.5
/// wants ignored.
fn classify(datagram: &[u8]) -> Datagram {
    let first = datagram.iter().find(|octet| !matches!(octet, b'\r' | b'\n' | b' ' | b'\t' | 0));
    match first {
        None => Datagram::KeepAlive,
        _ if is_stun(datagram) => Datagram::Stun,
        Some(octet) if octet.is_ascii_graphic() => Datagram::Sip,
        Some(_) => Datagram::Noise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alives_and_noise_are_told_from_messages() {
        for (datagram, wanted) in [
            (&b""[..], Datagram::KeepAlive),
            (b"\r\n\r\n", Datagram::KeepAlive),
            (b"\0\0\0\0", Datagram::KeepAlive),
            (b"\x80\x01binary", Datagram::Noise),
            (b"\0\x01\0\0\x21\x12\xa4\x42", Datagram::Stun),
            (b"\0\x01\0\0\x21\x12\xa4\x43", Datagram::Noise),
            (b"\r\nOPTIONS sip:a SIP/2.0", Datagram::Sip),
        ] {
            assert_eq!(classify(datagram), wanted, "{datagram:?}");
        }
    }
}
