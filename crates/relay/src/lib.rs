//! The media relay: ports, shards, the recording tap and the control server.
//!
//! [`Relay::start`] binds everything and returns a [`RelayHandle`]. Proxies of
//! the same region connect to the control server over mutual TLS and open
//! sessions with the messages of `landline-control`. Each session lives on one
//! shard: a thread with its own sockets, legs and timers, which drives
//! `landline-media` and shares nothing with the others while packets flow.
//! [`RelayCore`] is the same without threads and sockets.

mod config;
mod core;
mod ice_ports;
mod metrics;
mod owner;
mod ports;
mod recording;
mod relay;
mod server;
mod shard;
mod shared;
mod sounds;
mod streams;
mod tls;

pub use config::{Engine, Limits, MediaAddress, RelayConfig, StartError, TlsFiles};
pub use core::{ProxyLink, RelayCore};
pub use landline_store::{Full, Part, RecordingStart};
pub use recording::RecordingSink;
pub use relay::{Relay, RelayHandle};
pub use shard::Network;
pub use sounds::{Loading, SoundSource};
