use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use landline_control::{LegId, LegLocal, PayloadType};
use landline_media::{Component, Leg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::ports::PortPair;

/// Differentiated services code point EF (RFC 3246) in the upper six bits.
const EXPEDITED_FORWARDING: u32 = 46 << 2;

/// The kernel's share of a socket's queue, doubled by it: half a second of
/// voice through a stalled shard, and little enough for a flood.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A leg of a session on its shard.
pub(super) struct RelayLeg {
    pub id: LegId,
    /// Where its session is.
    pub session: usize,
    pub machine: Leg,
    pub sockets: Sockets,
    /// Where the leg is that hears this one.
    pub partner: Option<usize>,
    /// Its packets go to the session's recording.
    pub recorded: bool,
    pub payload_types: Vec<PayloadType>,
    /// The earliest timer that is set for it.
    pub wake_at: Option<Instant>,
    /// Tells it from those that had its slot before.
    pub serial: u64,
}

impl RelayLeg {
    pub fn socket(&self, component: Component) -> &UdpSocket {
        match component {
            Component::Rtp => &self.sockets.rtp,
            Component::Rtcp => &self.sockets.rtcp,
        }
    }

    pub fn local(&self) -> LegLocal {
        self.machine.local(self.sockets.advertised_rtp, self.sockets.advertised_rtcp)
    }
}

/// A leg's two sockets, and whence their ports are.
pub(super) struct Sockets {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    pub pair: PortPair,
    /// Index of the local address in `Shared::addresses`.
    pub address: usize,
    pub advertised_rtp: SocketAddr,
    pub advertised_rtcp: SocketAddr,
}

/// What a socket's readiness is told with: the leg's slot and the component.
pub(super) fn token(slot: usize, component: Component) -> u64 {
    (slot as u64) << 1 | u64::from(component == Component::Rtcp)
}

pub(super) fn from_token(token: u64) -> (usize, Component) {
    let component = if token & 1 == 0 { Component::Rtp } else { Component::Rtcp };
    ((token >> 1) as usize, component)
}

pub(super) fn bind(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // Best effort: calls work without, if less well.
    let _ = if address.is_ipv4() {
        socket.set_tos_v4(EXPEDITED_FORWARDING)
    } else {
        socket.set_tclass_v6(EXPEDITED_FORWARDING)
    };
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
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
    fn a_token_names_the_leg_and_the_socket() {
        for slot in [0, 1, 77_777] {
            for component in [Component::Rtp, Component::Rtcp] {
                assert_eq!(from_token(token(slot, component)), (slot, component));
            }
        }
    }
}
