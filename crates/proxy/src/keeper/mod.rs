//! Sockets and connections in a process of their own, so that a proxy can be
//! restarted and upgraded under them and no client notices.
//!
//! The keeper binds a proxy's client listeners, does TLS and WebSocket, and
//! hands whole messages to the proxy over a Unix socket; the UDP sockets it
//! hands over themselves. While no proxy is there, datagrams wait in the
//! kernel and connections are not read. The next proxy is told of every
//! connection that is up, by the name the former one knew it by.

mod descriptors;
mod frame;
mod hub;
mod link;

pub(crate) use frame::Frame;
pub use hub::{Keeper, KeeperConfig, KeeperHandle};
pub(crate) use link::{KeeperLink, Kept, KeptListeners};
