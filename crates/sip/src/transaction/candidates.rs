//! The places a request can be sent to, RFC 3263 §4, and RFC 3261 §18.1.1's
//! rule for large ones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::flow::{Destination, SendTo, Target};
use crate::{Scheme, Transport, Uri};

/// Over UDP a request must leave 200 bytes of an unknown path MTU.
pub(crate) const MAX_UDP_REQUEST: usize = 1300;

/// Tried beyond this many, a name server is playing with us.
const MAX_CANDIDATES: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub to: SendTo,
    /// Large as it may be, this try stays on UDP: TCP was refused.
    keep_udp: bool,
}

impl Candidate {
    pub fn new(to: SendTo) -> Self {
        Self { to, keep_udp: false }
    }

    /// For a request of `size` bytes that must not go over UDP: where it goes
    /// instead, and what to try when that is refused. A flow is kept as it is.
    pub fn instead_of_udp(&self, size: usize) -> Option<(SendTo, Candidate)> {
        if size <= MAX_UDP_REQUEST || self.keep_udp {
            return None;
        }
        match &self.to {
            SendTo::Address { transport: Transport::Udp, addr, server_name } => {
                let tcp = SendTo::Address {
                    transport: Transport::Tcp,
                    addr: *addr,
                    server_name: server_name.clone(),
                };
                Some((tcp, Candidate { to: self.to.clone(), keep_udp: true }))
            }
            _ => None,
        }
    }
}

/// What a destination means before any look-up.
pub(crate) enum Located {
    At(VecDeque<Candidate>),
    LookUp(Uri),
}

pub(crate) fn locate(destination: Destination) -> Located {
    let one = |to| Located::At(VecDeque::from([Candidate::new(to)]));
    match destination {
        Destination::Flow(flow) => one(SendTo::Flow(flow)),
        Destination::Address { transport, addr, server_name } => {
            one(SendTo::Address { transport, addr, server_name })
        }
        Destination::Region { region, host, port } => one(SendTo::Region { region, host, port }),
        Destination::Uri(uri) => match numeric(&uri) {
            Some(to) => one(to),
            None => Located::LookUp(uri),
        },
    }
}

pub(crate) fn found(targets: Vec<Target>) -> VecDeque<Candidate> {
    targets.into_iter().take(MAX_CANDIDATES).map(|target| Candidate::new(target.into())).collect()
}

/// RFC 3263 §4.1 and §4.2 for a host that is an address: the transport named,
/// else TLS for sips and UDP for sip; the port named, else the transport's.
fn numeric(uri: &Uri) -> Option<SendTo> {
    let ip = uri.host.ip()?;
    let secure = uri.scheme == Scheme::Sips;
    let transport = match (uri.transport(), secure) {
        (Some(Transport::Ws), true) => Transport::Wss,
        (Some(Transport::Tcp), true) | (None, true) => Transport::Tls,
        (Some(named), _) => named,
        (None, false) => Transport::Udp,
    };
    let port = uri.port.unwrap_or(transport.default_port());
    let server_name = transport.is_secure().then(|| Arc::from(ip.to_string()));
    Some(SendTo::Address { transport, addr: SocketAddr::new(ip, port), server_name })
}
