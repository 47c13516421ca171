//! A registered contact as the registrar holds it and the store keeps it.

use std::net::SocketAddr;

use landline_region::{AccountSid, Personal, RegionCode, UnixMillis, UserSid};

use crate::tenancy::{MediaPolicy, UnknownName, named};

/// One contact of one user (RFC 3261 §10.3), told from the others by its [`Binding::key`].
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    pub user: UserSid,
    pub account: AccountSid,
    /// As the client wrote it in its Contact.
    pub contact_uri: Personal<String>,
    pub call_id: Personal<String>,
    pub cseq: u32,
    pub expires_at: UnixMillis,
    /// The Contact's `q` in thousandths, 0 to 1000; 1000 where it had none.
    pub q_x1000: u16,
    /// Path header values, topmost first (RFC 3327).
    pub path: Vec<Personal<String>>,
    /// `+sip.instance` (RFC 5626 §4.1).
    pub instance: Option<Personal<String>>,
    /// Which of the device's flows it is, where the device keeps several
    /// (RFC 5626 §4.2); never without an instance.
    pub reg_id: Option<u32>,
    pub user_agent: Option<Personal<String>>,
    pub received: Received,
    /// The region whose proxy took the REGISTER, where it was not ours.
    pub edge_region: Option<RegionCode>,
    /// What [`MediaPolicy::Auto`] comes to for this contact.
    pub media: MediaPolicy,
    pub updated_at: UnixMillis,
}

impl Binding {
    /// What tells the contacts of one user apart: a flow of a device is known by
    /// its number there, whatever its URI is (RFC 5626 §6), anything else by its
    /// URI (RFC 3261 §10.3).
    pub fn key(&self) -> Personal<String> {
        match (&self.instance, self.reg_id) {
            (Some(instance), Some(flow)) => Personal::new(format!("{flow};{}", instance.expose())),
            _ => self.contact_uri.clone(),
        }
    }
}

/// The flow the REGISTER came by. After a restart a connection's flow is gone
/// and only a UDP one can be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub transport: FlowTransport,
    pub flow: u64,
    pub local: SocketAddr,
    pub remote: Personal<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowTransport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

named!(FlowTransport { Udp = "udp", Tcp = "tcp", Tls = "tls", Ws = "ws", Wss = "wss" });

/// What the registrar asks the store to do.
#[derive(Debug, Clone, PartialEq)]
pub enum BindingChange {
    /// Adds the binding or replaces the one of the same user and key.
    Put(Box<Binding>),
    Remove {
        user: UserSid,
        /// Its [`Binding::key`].
        contact: Personal<String>,
    },
}
