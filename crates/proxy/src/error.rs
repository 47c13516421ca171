use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use landline_sip::Transport;

/// Why a proxy did not start. Each names the listener, file or part at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the {} listener cannot be bound to {address}: {source}", transport.as_str().to_ascii_lowercase())]
    Listener { transport: Transport, address: SocketAddr, source: io::Error },
    #[error("the inter-region listener cannot be bound to {address}: {source}")]
    InterRegionListener { address: SocketAddr, source: io::Error },
    #[error("the listener for the region's other proxies cannot be bound to {address}: {source}")]
    PeerListener { address: SocketAddr, source: io::Error },
    #[error(
        "the {} listener on {address} needs an advertised address: the machine has none to tell",
        transport.as_str().to_ascii_lowercase()
    )]
    NoAdvertisedAddress { transport: Transport, address: SocketAddr },
    #[error(
        "the {} listener on {address} needs a certificate and key for clients",
        transport.as_str().to_ascii_lowercase()
    )]
    NoCertificate { transport: Transport, address: SocketAddr },
    #[error("the keeper at {path}: {problem}")]
    Keeper { path: PathBuf, problem: String },
    #[error(
        "the keeper does not hold the {} listener on {address}: its listeners are those of the \
         configuration it was started with",
        transport.as_str().to_ascii_lowercase()
    )]
    KeeperListens { transport: Transport, address: SocketAddr },
    #[error("no listener is configured")]
    NoListener,
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    #[error("{path} is a certificate for {found}, not for {wanted}")]
    WrongIdentity { path: PathBuf, wanted: String, found: String },
    #[error("the region database cannot be read: {0}")]
    Store(#[source] landline_store::StoreError),
    #[error("the call ledger in {path} cannot be opened: {problem}")]
    Ledger { path: PathBuf, problem: String },
    #[error("the directory {path} cannot be read: {problem}")]
    Directory { path: PathBuf, problem: String },
    #[error("names cannot be looked up: {0}")]
    Dns(String),
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the driver's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    #[error("the system's randomness cannot be read")]
    Randomness,
}
