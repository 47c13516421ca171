use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use landline_call::{FeatureCodes, PeerId, PushPolicy, Wake};
use landline_control::RelayId;
use landline_region::RegionCode;
use landline_sip::Transport;
use landline_store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::origin::Origins;

/// Everything one proxy process of one region needs. Complete before anything
/// is bound.
pub struct ProxyConfig {
    /// The process's name within its region, as `proxy-1`.
    pub name: String,
    pub region: RegionCode,
    /// Where clients and carriers reach this proxy.
    pub listeners: Vec<ListenerConfig>,
    /// The Unix socket of the [`crate::Keeper`] that holds the listeners; `None`:
    /// they are the proxy's own.
    pub keeper: Option<PathBuf>,
    /// For the `tls` and `wss` listeners.
    pub client_tls: Option<ClientTls>,
    /// Pages that may open a WebSocket.
    pub origins: Origins,
    /// Who this process is towards other regions and towards its relays.
    pub identity: RegionIdentity,
    /// Where proxies of other regions reach this one; `None`: they cannot.
    pub inter_region: Option<InterRegionListener>,
    pub relays: Vec<RelayAddress>,
    /// Where the region's other proxies tell this one of their calls.
    pub peering: Option<SocketAddr>,
    /// The region's other proxies, which are told of this one's calls.
    pub peers: Vec<PeerAddress>,
    pub store: Store,
    /// The folder of the call ledger.
    pub ledger: PathBuf,
    /// The directory snapshot.
    pub directory: PathBuf,
    pub dns: DnsConfig,
    /// Authorities that carriers' TLS certificates may come from, besides
    /// those of the operating system.
    pub trunk_authorities: Option<PathBuf>,
    /// Parties that share no codec are joined all the same: the relays transcode.
    pub transcoding: bool,
    /// What users dial for more than a call.
    pub codes: FeatureCodes,
    /// How devices that sleep are woken; `None` wakes nobody.
    pub push: Option<Push>,
    pub limits: Limits,
    /// Metrics are registered here, with the constant labels `region` and `proxy`.
    pub registry: prometheus::Registry,
}

#[derive(Debug, Clone)]
pub struct ListenerConfig {
    pub transport: Transport,
    /// Port 0 takes a free one; see [`crate::ProxyHandle::address`].
    pub bind: SocketAddr,
    /// What Via, Contact and Record-Route say instead of the bound address.
    pub advertised: Option<HostPort>,
}

impl ListenerConfig {
    pub const fn new(transport: Transport, bind: SocketAddr) -> Self {
        Self { transport, bind, advertised: None }
    }
}

/// Where other regions' proxies come in, over mutual TLS.
#[derive(Debug, Clone)]
pub struct InterRegionListener {
    pub bind: SocketAddr,
    /// As the directory names it; the bound address where that is not set.
    pub advertised: Option<HostPort>,
}

/// A certificate chain, the end entity's first, and its key; both PEM. Changed
/// files are taken up without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What clients are shown, and asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Shown to who names no server, or one that no certificate is for.
    pub files: TlsFiles,
    /// Each shown to who asks for one of its names (RFC 6066 §3).
    pub others: Vec<TlsFiles>,
    /// On `tls` listeners; browsers on `wss` ones have none to show.
    pub clients: Option<ClientCertificates>,
}

/// Certificates of clients and carriers (RFC 5922).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Who may have issued them.
    pub authorities: PathBuf,
    /// Nobody comes in without one.
    pub required: bool,
}

impl From<TlsFiles> for ClientTls {
    fn from(files: TlsFiles) -> Self {
        Self { files, others: Vec::new(), clients: None }
    }
}

/// The certificate for `proxy.<region>.landline.internal`, and the authorities
/// that certificates of proxies and relays must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionIdentity {
    pub files: TlsFiles,
    pub authorities: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAddress {
    pub id: RelayId,
    /// Its control listener.
    pub control: HostPort,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its configured name, which its certificate is for.
    pub id: PeerId,
    pub address: HostPort,
}

/// Who has push services wake devices.
#[derive(Debug, Clone)]
pub struct Push {
    pub policy: PushPolicy,
    /// Asks them. What finds it full is dropped and counted.
    pub orders: mpsc::Sender<Wake>,
}

/// Where names are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DnsConfig {
    /// `/etc/resolv.conf` and `/etc/hosts`.
    #[default]
    System,
    /// These servers and `/etc/hosts`.
    Servers(Vec<SocketAddr>),
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time, all transports together.
    pub connections: usize,
    /// Connections at one time from one IP address. An office behind NAT is one.
    pub connections_per_source: usize,
    /// Connections of ours at one time, to carriers, phones and other regions.
    pub outgoing_connections: usize,
    /// TCP accept to the end of the TLS and WebSocket handshakes; also the time
    /// an outgoing connection may take.
    pub handshake: Duration,
    /// From the end of the handshakes to the first whole message.
    pub first_message: Duration,
    /// From a message's first octet to its last.
    pub whole_message: Duration,
    /// A connection without traffic is closed after this; above the longest
    /// registration, so that a quiet phone keeps its way in.
    pub idle: Duration,
    /// A connection whose client was told a Flow-Timer of 120 s (RFC 5626 §4.4.1)
    /// is gone when it has been silent for so long: that time, and what the
    /// network may take.
    pub flow: Duration,
    /// A WebSocket that says nothing for so long is sent a ping (RFC 6455
    /// §5.5.2): what lies between keeps it open, and who does not answer three
    /// of them is gone.
    pub ping: Duration,
    /// How long a peer may leave written octets unread.
    pub write: Duration,
    /// Messages waiting to be written to one connection.
    pub write_queue: usize,
    /// Octets waiting to be written to one connection.
    pub write_queue_octets: usize,
    /// Messages from connections waiting for the driver.
    pub inbox: usize,
    /// DNS questions asked at one time.
    pub resolutions: usize,
    /// SIP transactions at one time.
    pub transactions: usize,
    /// How long messages may keep waiting to be read before new requests are
    /// refused.
    pub longest_wait: Duration,
    /// Calls to these are never refused for that.
    pub emergency_numbers: Vec<String>,
    /// Calls at one time.
    pub calls: usize,
    /// How long a parked call waits before it rings where it came from.
    pub parked: Duration,
    /// The longest message that a mailbox takes, and how many it holds.
    pub longest_message: Duration,
    pub voicemails_per_user: u32,
    /// How long callees may ring.
    pub ring: Duration,
    /// In which time each side of an answered call is refreshed (RFC 4028), and
    /// the shortest such time that clients get.
    pub session: Duration,
    pub min_session: Duration,
    /// What the registrar grants (RFC 3261 §10.3): a shorter registration gets
    /// 423, a longer one is cut.
    pub min_expiry: Duration,
    pub default_expiry: Duration,
    pub max_expiry: Duration,
    /// Contacts one user may have registered.
    pub contacts_per_user: usize,
    pub message: landline_sip::Limits,
    /// How long another proxy of the region may give no sign of life before its
    /// calls are closed as lost.
    pub abandoned_after: Duration,
    /// How long [`crate::ProxyHandle::shutdown`] waits for calls to end in order.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let endpoint = landline_sip::EndpointConfig::default();
        Self {
            longest_wait: endpoint.longest_wait,
            emergency_numbers: endpoint.emergency_numbers,
            connections: 20_000,
            connections_per_source: 1_000,
            outgoing_connections: 10_000,
            handshake: Duration::from_secs(10),
            first_message: Duration::from_secs(30),
            whole_message: Duration::from_secs(15),
            idle: Duration::from_secs(2 * 3600),
            flow: Duration::from_secs(130),
            ping: Duration::from_secs(30),
            write: Duration::from_secs(20),
            write_queue: 256,
            write_queue_octets: 1024 * 1024,
            inbox: 4096,
            resolutions: 256,
            transactions: 200_000,
            calls: 20_000,
            ring: Duration::from_secs(60),
            parked: Duration::from_secs(120),
            longest_message: Duration::from_secs(180),
            voicemails_per_user: 100,
            session: Duration::from_secs(1800),
            min_session: Duration::from_secs(90),
            min_expiry: Duration::from_secs(60),
            default_expiry: Duration::from_secs(3600),
            max_expiry: Duration::from_secs(7200),
            contacts_per_user: 10,
            message: landline_sip::Limits::default(),
            abandoned_after: Duration::from_secs(6 * 3600),
            shutdown: Duration::from_secs(5),
        }
    }
}

/// A host name or address, and a port; IPv6 in brackets when written down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl HostPort {
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse::<IpAddr>().ok()?, self.port))
    }
}

impl TryFrom<String> for HostPort {
    type Error = InvalidHostPort;

    fn try_from(text: String) -> Result<Self, InvalidHostPort> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host and port: wanted HOST:PORT, as `sip.ie1.example:5061`")]
pub struct InvalidHostPort(String);

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(v6) => {
                    v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?
                }
                None => Some(host).filter(|name| {
                    !name.is_empty()
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                })?,
            };
            let port = port.parse().ok().filter(|&port| port != 0)?;
            Some(Self { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| InvalidHostPort(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_parse_and_print_alike() {
        for good in ["relay-1:7000", "10.0.0.1:5060", "[2001:db8::1]:5061"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for bad in ["", "host", "host:0", "host:70000", ":5060", "2001:db8::1:5060", "a b:1"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }
}
