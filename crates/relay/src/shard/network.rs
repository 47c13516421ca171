use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::poller::Poller;

/// Differentiated services code point EF (RFC 3246) in the upper six bits.
pub(crate) const EXPEDITED_FORWARDING: u32 = 46 << 2;

/// The kernel's share of a socket's queue, doubled by it: half a second of
/// voice through a stalled shard, and little enough for a flood.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The same where many legs share a socket: a tenth of a second of a thousand. The
/// kernel gives no more than `net.core.rmem_max`.
const SHARED_BUFFER: usize = 2 * 1024 * 1024;

/// What the legs' ports are bound in: the kernel's sockets for a relay, and
/// whatever stands in for them where a shard is driven by something else.
/// Nothing here may block.
pub trait Network {
    type Socket;

    fn bind(&self, address: IpAddr, port: u16) -> io::Result<Self::Socket>;

    /// From now on the shard is told the token when the socket can be read.
    fn watch(&self, socket: &Self::Socket, token: u64) -> io::Result<()>;

    /// `WouldBlock` when nothing waits.
    fn receive(&self, socket: &Self::Socket, into: &mut [u8]) -> io::Result<(usize, SocketAddr)>;

    fn send(&self, socket: &Self::Socket, octets: &[u8], to: SocketAddr) -> io::Result<usize>;

    /// From now on the shard is told the token when the connection can be read.
    /// With `room`, one that is watched already: whether also when it can be
    /// written. A network that brings no connections needs none of this.
    fn watch_stream(&self, _: &TcpStream, _token: u64, _room: Option<bool>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Network for Poller {
    type Socket = UdpSocket;

    fn bind(&self, address: IpAddr, port: u16) -> io::Result<UdpSocket> {
        bind(address, port, RECEIVE_BUFFER)
    }

    fn watch(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        self.add(socket, token)
    }

    fn receive(&self, socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        socket.recv_from(into)
    }

    fn send(&self, socket: &UdpSocket, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
        socket.send_to(octets, to)
    }

    fn watch_stream(&self, stream: &TcpStream, token: u64, room: Option<bool>) -> io::Result<()> {
        match room {
            None => self.add(stream, token),
            Some(room) => self.watch_for_room(stream, token, room),
        }
    }
}

/// A socket for many legs, and its port.
pub(crate) fn bind_shared(address: IpAddr, port: u16) -> io::Result<(UdpSocket, u16)> {
    let socket = bind(address, port, SHARED_BUFFER)?;
    let _ = SockRef::from(&socket).set_send_buffer_size(SHARED_BUFFER);
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

fn bind(address: IpAddr, port: u16, receive_buffer: usize) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // Best effort: calls work without, if less well.
    let _ = if address.is_ipv4() {
        socket.set_tos_v4(EXPEDITED_FORWARDING)
    } else {
        socket.set_tclass_v6(EXPEDITED_FORWARDING)
    };
    let _ = socket.set_recv_buffer_size(receive_buffer);
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket.into())
}
