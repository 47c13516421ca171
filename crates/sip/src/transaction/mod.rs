//! The four transaction machines of RFC 3261 §17 as RFC 6026 corrected them.
//!
//! [`client`] holds INVITE and non-INVITE client transactions and the tries of
//! RFC 3263 behind each; [`server`] holds both kinds of server transactions.
//! Each is a slab with hash maps beside it; nothing a message brings about walks
//! more than one transaction.

pub(crate) mod candidates;
pub(crate) mod client;
pub(crate) mod forward;
pub(crate) mod key;
pub(crate) mod server;
pub(crate) mod timer;
