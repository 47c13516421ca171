use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landline_control::RelayId;
use landline_region::RegionCode;

use crate::recording::RecordingSink;
use crate::sounds::SoundSource;

/// Everything a relay is told at its start. [`RelayConfig::new`] fills in what
/// has a default.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Unique within the region.
    pub name: RelayId,
    pub region: RegionCode,
    /// Where proxies connect. Port 0 takes any; see `RelayHandle::control_addr`.
    pub control_listen: SocketAddr,
    pub tls: TlsFiles,
    /// At least one; a leg gets the first of its family that has a free port.
    pub media: Vec<MediaAddress>,
    /// Legs take an even port for RTP and the next for RTCP out of these, but for
    /// those with ICE.
    pub ports: RangeInclusive<u16>,
    /// UDP port of all legs with ICE that the first shard has; the next shard's is
    /// the next, on each media address. 0 takes any, and `None` the first of
    /// `ports` that are free.
    pub ice_port: Option<u16>,
    /// TCP port for the connections of peers whose network lets no UDP out
    /// (RFC 6544), on each media address. 0 takes any.
    pub stream_port: Option<u16>,
    /// DTLS 1.3 with peers that offer it; without, 1.2 for all.
    pub dtls_1_3: bool,
    pub engine: Engine,
    /// Shard threads; `None` takes one for each core the process may use.
    pub shards: Option<usize>,
    pub limits: Limits,
    /// Silence of a leg's peer after which the fault is reported.
    pub media_timeout: Duration,
    /// How long after a description plain RTP may still move to where it
    /// really comes from.
    pub latch_window: Duration,
    /// How long a port stays unused after its leg, so that late packets of one
    /// call cannot be heard in another.
    pub port_quarantine: Duration,
    /// How long nothing authentic may have come from an address of a leg with ICE
    /// before another such leg's peer may have it. Longer than the pause between
    /// two of a browser's checks, which prove its consent (RFC 7675 §5.1).
    pub address_quiet: Duration,
    /// How long sessions outlive the connection of their proxy.
    pub proxy_grace: Duration,
    /// The longest sleep between two looks at the sockets under load. Zero
    /// turns wake-up coalescing off.
    pub coalesce: Duration,
    /// Where recordings go. Without one, a recorded call counts what it would
    /// have recorded and stores nothing.
    pub recordings: Option<Arc<dyn RecordingSink>>,
    /// Where the accounts' own sounds come from. Without one, none of them is
    /// played.
    pub sounds: Option<Arc<dyn SoundSource>>,
    /// Metrics are registered here, labelled by region and relay.
    pub registry: prometheus::Registry,
}

impl RelayConfig {
    /// A relay with one media address and defaults for the rest.
    pub fn new(name: RelayId, region: RegionCode, tls: TlsFiles, media: MediaAddress) -> Self {
        Self {
            name,
            region,
            control_listen: SocketAddr::new(media.bind, 0),
            tls,
            media: vec![media],
            ports: 30_000..=49_999,
            ice_port: None,
            stream_port: None,
            dtls_1_3: true,
            engine: Engine::default(),
            shards: None,
            limits: Limits::default(),
            media_timeout: Duration::from_secs(60),
            latch_window: Duration::from_secs(3),
            port_quarantine: Duration::from_secs(5),
            address_quiet: Duration::from_secs(10),
            proxy_grace: Duration::from_secs(30),
            coalesce: Duration::from_millis(1),
            recordings: None,
            sounds: None,
            registry: prometheus::Registry::new(),
        }
    }

    /// How many shards there will be.
    pub(crate) fn shard_count(&self) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        self.shards.unwrap_or_else(available).max(1)
    }
}

/// How packets come from the kernel and go to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// A system call for each.
    #[default]
    Epoll,
    /// One for all that come in a round, and one for all that go. Wants Linux 6.1, and
    /// is denied in many containers.
    IoUring,
}

impl Engine {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

/// The relay's identity on the control connection, as PEM files. The
/// certificate's name is `<relay>.<region>.landline.internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its intermediates.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authorities that sign the proxies' certificates.
    pub authorities: PathBuf,
}

/// A local address for media, and what peers are told in its place when there
/// is address translation in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaAddress {
    pub bind: IpAddr,
    pub advertise: IpAddr,
}

impl MediaAddress {
    /// An address that peers reach as it is.
    pub fn direct(address: IpAddr) -> Self {
        Self { bind: address, advertise: address }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Over the whole relay.
    pub sessions: usize,
    /// Legs of one session at a time.
    pub legs_per_session: usize,
    /// Proxies that are connected or within their grace time.
    pub proxies: usize,
    /// Requests waiting for one shard.
    pub commands_per_shard: usize,
    /// Messages waiting for one control connection; one more closes it.
    pub messages_per_connection: usize,
    /// Connections for media that have not said whose they are.
    pub strangers: usize,
    /// Of them, those of one host or IPv6 network.
    pub strangers_per_source: usize,
    /// Addresses that peers with ICE have proved, of one shard on one media
    /// address. A leg gets two beyond.
    pub ice_peers: usize,
    /// Packets within a second from each of those addresses.
    pub ice_packets: u32,
    /// Octets of sounds that are kept encoded, to be played.
    pub sound_octets: usize,
    /// How long they are: those that were taken away are forgotten by then.
    pub sound_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 5_000,
            legs_per_session: 16,
            proxies: 64,
            commands_per_shard: 1_024,
            messages_per_connection: 16_384,
            strangers: 4_096,
            strangers_per_source: 32,
            ice_peers: 32_768,
            ice_packets: 2_000,
            sound_octets: 64 << 20,
            sound_time: Duration::from_secs(15 * 60),
        }
    }
}

/// Why a relay did not start. Each names what is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("control address {address}: {source}")]
    ControlAddress { address: SocketAddr, source: io::Error },
    #[error("media address {address}: {source}")]
    MediaAddress { address: IpAddr, source: io::Error },
    #[error("address {address} for connections of media: {source}")]
    StreamAddress { address: SocketAddr, source: io::Error },
    #[error(
        "UDP address {address} for browsers and others with ICE (relay.ice_port and on, one for \
         each shard): {source}"
    )]
    IceAddress { address: SocketAddr, source: io::Error },
    #[error("relay.ice_port {first}: {shards} shards want a port each, and 65535 is the last")]
    IcePorts { first: u16, shards: usize },
    #[error(
        "port range {first}-{last} (relay.ports) has none on {address} for browsers and others \
         with ICE, who want one for each of {shards} shards; relay.ice_port may name others: \
         {source}"
    )]
    NoIcePort { address: IpAddr, first: u16, last: u16, shards: usize, source: io::Error },
    #[error("no media address is configured")]
    NoMediaAddress,
    #[error("media address {0} is unspecified; name the address that peers are told")]
    UnspecifiedAdvertised(IpAddr),
    #[error("media address {bind} and the address told to peers, {advertise}, are of two families")]
    MixedFamilies { bind: IpAddr, advertise: IpAddr },
    #[error(
        "port range {first}-{last} has no pair of an even port above 1023 and the next: \
         as 30000-49999"
    )]
    PortRange { first: u16, last: u16 },
    #[error("{path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error("{path}: the certificate names no host of region {region}, as {example}")]
    CertificateRegion { path: PathBuf, region: RegionCode, example: String },
    #[error("a metric could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error(
        "relay.engine \"io_uring\" wants Linux 6.1 and leave to use it, which containers often \
         lack and the sysctl kernel.io_uring_disabled takes away: {0}; \"epoll\" does without"
    )]
    Engine(io::Error),
    #[error("a shard could not start: {0}")]
    Shard(io::Error),
    #[error("the DTLS identity could not be made: {0}")]
    Identity(String),
    #[error("the operating system gave no randomness")]
    Randomness,
}
