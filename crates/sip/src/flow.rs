//! Where messages come from and where they go: flows, destinations, targets.
//!
//! The shell owns the sockets. It names each UDP listener and each TCP, TLS or
//! WebSocket connection by a [`FlowId`]; the endpoint speaks of nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Transport, Uri};

/// One UDP listener, or one TCP, TLS or WebSocket connection. Never reused
/// while the endpoint lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// A two-way path to one peer. Over UDP it is the listener together with the
/// peer's address, so many flows share a [`FlowId`] there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub id: FlowId,
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The name the peer proved by a client certificate: a region's code
    /// between regions, nothing for phones and carriers.
    pub peer: Option<Arc<str>>,
}

/// Where the transaction user wants a request sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// Over exactly this flow: a registered phone behind NAT, RFC 5626.
    Flow(Flow),
    /// To one address. `server_name` is what a TLS peer must prove.
    Address { transport: Transport, addr: SocketAddr, server_name: Option<Arc<str>> },
    /// To another region's proxy over mTLS with our region's identity.
    Region { region: Arc<str>, host: String, port: u16 },
    /// To whatever RFC 3263 finds for it: numeric hosts are taken as they are,
    /// names come back through [`Output::Resolve`](crate::Output::Resolve).
    Uri(Uri),
}

/// Where the shell has to send bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendTo {
    Flow(Flow),
    /// The shell uses an open connection to this address or opens one; over
    /// UDP it uses the listener of the address's family.
    Address {
        transport: Transport,
        addr: SocketAddr,
        server_name: Option<Arc<str>>,
    },
    Region {
        region: Arc<str>,
        host: String,
        port: u16,
    },
}

impl SendTo {
    /// The transport of the bytes; between regions it is TLS always.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) => flow.transport,
            Self::Address { transport, .. } => *transport,
            Self::Region { .. } => Transport::Tls,
        }
    }
}

/// One place RFC 3263 found for a URI, in the order to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub transport: Transport,
    pub addr: SocketAddr,
    pub server_name: Option<Arc<str>>,
}

impl From<Target> for SendTo {
    fn from(target: Target) -> Self {
        let Target { transport, addr, server_name } = target;
        Self::Address { transport, addr, server_name }
    }
}
