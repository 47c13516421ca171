//! How a shard's packets come from the kernel and go to it: chosen at the start.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::network::Network;
use super::poller::{Found, Poller, Waker};
use super::ring::{Arrival, Ring};
use crate::config::{Engine, StartError};

pub(super) enum Kernel {
    /// One system call for each packet that comes, and for each that goes.
    Epoll(Poller),
    /// One for all of a round.
    Ring(Box<Ring>),
}

/// Whether the kernel allows it.
pub(crate) fn try_engine(engine: Engine) -> Result<(), StartError> {
    match engine {
        Engine::Epoll => Ok(()),
        Engine::IoUring => Ring::new().map(drop).map_err(StartError::Engine),
    }
}

impl Kernel {
    pub fn new(engine: Engine) -> io::Result<Self> {
        match engine {
            Engine::Epoll => Poller::new().map(Self::Epoll),
            Engine::IoUring => Ring::new().map(|ring| Self::Ring(Box::new(ring))),
        }
    }

    /// From now on it is this thread's.
    pub fn begin(&self) -> io::Result<()> {
        match self {
            Self::Epoll(_) => Ok(()),
            Self::Ring(ring) => ring.begin(),
        }
    }

    pub fn waker(&self) -> Waker {
        match self {
            Self::Epoll(poller) => poller.waker(),
            Self::Ring(ring) => ring.waker(),
        }
    }

    pub fn quiet_waker(&self) {
        match self {
            Self::Epoll(poller) => poller.quiet_waker(),
            Self::Ring(ring) => ring.quiet_waker(),
        }
    }

    /// Sleeps until something is there, somebody wakes us, or the time is over;
    /// `None` has no end.
    pub fn wait(&self, timeout: Option<Duration>, found: &mut Found) {
        match self {
            Self::Epoll(poller) => poller.wait(timeout, found),
            Self::Ring(ring) => ring.wait(timeout, found),
        }
    }

    /// Sends what waits to be sent.
    pub fn flush(&self) {
        if let Self::Ring(ring) = self {
            ring.flush();
        }
    }

    /// The next [`Network::receive`] brings this one.
    pub fn hand(&self, arrival: Arrival) {
        if let Self::Ring(ring) = self {
            ring.hand(arrival);
        }
    }

    /// Takes it back where nobody wanted it.
    pub fn take_back(&self) {
        if let Self::Ring(ring) = self {
            ring.take_back();
        }
    }

    /// Packets that it turned out later not to send, and not to receive.
    pub fn take_failures(&self) -> (u64, u64) {
        match self {
            Self::Epoll(_) => (0, 0),
            Self::Ring(ring) => ring.take_failures(),
        }
    }
}

impl Network for Kernel {
    type Socket = UdpSocket;

    fn bind(&self, address: IpAddr, port: u16) -> io::Result<UdpSocket> {
        match self {
            Self::Epoll(poller) => poller.bind(address, port),
            Self::Ring(ring) => ring.bind(address, port),
        }
    }

    fn watch(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        match self {
            Self::Epoll(poller) => poller.watch(socket, token),
            Self::Ring(ring) => ring.watch(socket, token),
        }
    }

    fn close(&self, socket: UdpSocket) {
        match self {
            Self::Epoll(poller) => poller.close(socket),
            Self::Ring(ring) => ring.close(socket),
        }
    }

    fn receive(&self, socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Epoll(poller) => poller.receive(socket, into),
            Self::Ring(ring) => ring.receive(socket, into),
        }
    }

    fn send(&self, socket: &UdpSocket, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
        match self {
            Self::Epoll(poller) => poller.send(socket, octets, to),
            Self::Ring(ring) => ring.send(socket, octets, to),
        }
    }

    fn watch_stream(&self, stream: &TcpStream, token: u64, room: Option<bool>) -> io::Result<()> {
        match self {
            Self::Epoll(poller) => poller.watch_stream(stream, token, room),
            Self::Ring(ring) => ring.watch_stream(stream, token, room),
        }
    }
}
