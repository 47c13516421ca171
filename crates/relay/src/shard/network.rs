use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::poller::Poller;

/// Differentiated services code point EF (RFC 3246) in the upper six bits.
pub(crate) const EXPEDITED_FORWARDING: u32 = 46 << 2;

/// The kernel's share of a socket's queue, doubled by it: half a second of
/// voice through a stalled shard, and little enough for a flood.
pub(super) const RECEIVE_BUFFER: usize = 64 * 1024;

/// The same where many legs share a socket: a tenth of a second of a thousand.
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

    /// What is told of it may be that it will be sent.
    fn send(&self, socket: &Self::Socket, octets: &[u8], to: SocketAddr) -> io::Result<usize>;

    /// Nothing is told of the socket any more, and its port is free soon.
    fn close(&self, socket: Self::Socket) {
        drop(socket);
    }

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

/// What the kernel gave a socket for many legs, in octets as it counts them: with
/// what it keeps of each datagram besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Room {
    pub receive: usize,
    pub send: usize,
}

impl Room {
    pub fn of(socket: &UdpSocket) -> io::Result<Self> {
        let socket = SockRef::from(socket);
        Ok(Self { receive: socket.recv_buffer_size()?, send: socket.send_buffer_size()? })
    }

    /// The least that there is of either.
    pub fn least(self, other: Self) -> Self {
        Self { receive: self.receive.min(other.receive), send: self.send.min(other.send) }
    }

    /// The settings of the kernel that kept it from what was asked for, and what
    /// they have to be.
    pub fn wants(self) -> impl Iterator<Item = (&'static str, usize)> {
        let all = [("net.core.rmem_max", self.receive), ("net.core.wmem_max", self.send)];
        // It doubles what it is asked for.
        let little = all.into_iter().filter(|(_, given)| *given < 2 * SHARED_BUFFER);
        little.map(|(setting, _)| (setting, SHARED_BUFFER))
    }
}

/// A socket for many legs, and its port.
pub(crate) fn bind_shared(address: IpAddr, port: u16) -> io::Result<(UdpSocket, u16)> {
    let socket = bind(address, port, SHARED_BUFFER)?;
    // Beyond what the kernel's settings allow: for the privileged alone.
    let _ = set_socket_recv_buffer_size_force(&socket, SHARED_BUFFER);
    let _ = SockRef::from(&socket).set_send_buffer_size(SHARED_BUFFER);
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

pub(super) fn bind(address: IpAddr, port: u16, receive_buffer: usize) -> io::Result<UdpSocket> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_did_not_give_is_named_by_its_setting() {
        let full = Room { receive: 2 * SHARED_BUFFER, send: 2 * SHARED_BUFFER };
        assert_eq!(full.wants().count(), 0);
        // As with a kernel's defaults.
        let little = Room { receive: 425_984, ..full };
        let wants: Vec<_> = full.least(little).wants().collect();
        assert_eq!(wants, [("net.core.rmem_max", SHARED_BUFFER)]);
        let wants: Vec<_> = Room { send: 425_984, ..full }.wants().collect();
        assert_eq!(wants, [("net.core.wmem_max", SHARED_BUFFER)]);
    }

    #[test]
    fn a_shared_socket_has_more_room_than_a_legs_own() {
        let address = "127.0.0.1".parse().unwrap();
        let (shared, _) = bind_shared(address, 0).unwrap();
        let own = bind(address, 0, RECEIVE_BUFFER).unwrap();
        let (shared, own) = (Room::of(&shared).unwrap(), Room::of(&own).unwrap());
        assert!(shared.receive > own.receive, "{shared:?} {own:?}");
        assert!(shared.send >= own.send, "{shared:?} {own:?}");
    }
}
