use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a console does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    #[error("{address} cannot be bound: {error}")]
    Bind { address: SocketAddr, error: std::io::Error },
    #[error("`{0}` cannot be an address of the web phone: wanted wss://HOST or wss://HOST:PORT")]
    Edge(String),
    #[error("the push gateway's URL: {problem}")]
    PushGateway { problem: String },
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("directory {}: {problem}", path.display())]
    Directory { path: PathBuf, problem: String },
}
