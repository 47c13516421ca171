//! Events on their way to the addresses that accounts named.
//!
//! The region's database holds the queue. Whoever runs a console takes what is
//! due, asks the egress gate, and sends it: signed, over checked TLS, to a
//! public address and to no other.

mod address;
mod client;
mod event;
mod push;
mod sender;

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use address::is_public;
pub use client::Endpoint;
pub use push::{PushGateway, PushSender};
pub use sender::Sender;

/// How events are sent.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Networks that may be sent to although they are not public.
    pub allow: Vec<IpNet>,
    /// Authorities of receivers' certificates, besides the operating system's. PEM.
    pub authorities: Option<PathBuf>,
    /// How long one attempt may take, from the look-up of its host on.
    pub attempt: Duration,
    /// The pause after the first failure; each that follows is four times as
    /// long, up to an hour.
    pub first_pause: Duration,
    /// So old an event is given up.
    pub give_up_after: Duration,
    /// How often the queue is looked at.
    pub look_again: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            authorities: None,
            attempt: Duration::from_secs(10),
            first_pause: Duration::from_secs(5),
            give_up_after: Duration::from_secs(24 * 3600),
            look_again: Duration::from_millis(500),
        }
    }
}
