//! Signalling sockets, TLS, WebSocket and DNS around the SIP and call machines.
//!
//! [`Proxy::start`] binds the listeners and starts one driver task, which alone
//! owns the machines. Connections, relay links, look-ups and the store run
//! beside it and speak to it through bounded queues.

mod admission;
mod advertise;
mod bindings;
mod config;
mod connect;
mod driver;
mod driver_thread;
mod error;
mod inbox;
mod journal;
mod keeper;
mod listen;
mod mailboxes;
mod metrics;
mod mirror;
mod origin;
mod pace;
mod proxy;
mod relay_link;
/// What proxies of a region tell each other, for simulations of them.
#[doc(hidden)]
pub mod replica;
mod replica_link;
mod resolve;
mod shared;
mod sockets;
mod stream;
mod sweeper;
mod tls;
mod udp;
mod upkeep;
mod websocket;
mod wire;

pub use config::{
    ClientCertificates, ClientTls, DnsConfig, HostPort, InterRegionListener, InvalidHostPort,
    Limits, ListenerConfig, PeerAddress, ProxyConfig, Push, RegionIdentity, RelayAddress, TlsFiles,
};
pub use error::StartError;
pub use keeper::{Keeper, KeeperConfig, KeeperHandle};
pub use landline_sip::Transport;
pub use origin::{InvalidOrigin, Origin, Origins};
pub use proxy::{Proxy, ProxyHandle, ProxyStatus};
pub use tls::reveal_session_secrets;
