//! A region's configuration: one TOML file, parsed and checked completely
//! before anything binds. `docs/configuration.md` explains every key; a test
//! holds the two together.

mod check;
mod load;
mod regions;
pub mod subprocessors;
mod value;
mod write;

use std::path::PathBuf;

use ipnet::IpNet;
use landline_region::{Jurisdiction, RegionCode};
use serde::{Deserialize, Serialize};

pub use check::CheckFiles;
pub use landline_proxy::HostPort;
pub use load::{ConfigError, Problem};
pub use regions::{RegionItem, Regions};
pub use value::{BindAddress, DatabaseUrl, PortRange, Transport};
pub use write::Draft;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub region: Region,
    /// Holds the ledger, and the spool of what the database has not taken yet.
    pub data_dir: PathBuf,
    pub database: Database,
    /// The region's master keys; made when the database is new.
    pub key_ring: PathBuf,
    pub directory: Directory,
    /// The authority that signed the mutual-TLS identities of every region.
    pub ca: PathBuf,
    pub proxy: Option<Proxy>,
    pub relay: Option<Relay>,
    /// The HTTPS API.
    pub console: Option<Console>,
    #[serde(default)]
    pub egress: Egress,
    /// Where `landline backup` writes; without it there are no backups.
    pub backup: Option<Backup>,
    #[serde(default)]
    pub telemetry: Telemetry,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub code: RegionCode,
    pub jurisdiction: Jurisdiction,
    /// Who contracts with this region's customers unless the account says otherwise.
    pub contracting_entity: String,
    /// How the region's data-protection officer is reached.
    pub data_protection_officer: Option<String>,
}

/// `url`, or `url_env` naming the variable that holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Option<DatabaseUrl>,
    pub url_env: Option<String>,
    /// The variable that holds the password of a `postgres:` URL.
    pub password_env: Option<String>,
    /// How long a closed call's record is kept.
    #[serde(default = "ninety")]
    pub retention_days: u32,
}

const fn ninety() -> u32 {
    90
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// This machine's copy of the global directory: accounts' domains and homes.
    pub snapshot: PathBuf,
    /// The list of all regions, entered into the snapshot at start.
    pub regions: PathBuf,
}

/// What may leave the region, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// The registry of sub-processors; without one there are none.
    pub subprocessors: Option<PathBuf>,
    /// Aggregates over fewer accounts stay in the region.
    pub minimum_group: u64,
    /// Countries that accounts' webhooks may be in; left out, any that the
    /// account names.
    pub account_countries: Option<Vec<Jurisdiction>>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            subprocessors: None,
            minimum_group: landline_region::egress::MINIMUM_GROUP,
            account_countries: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// In the region, and of this region alone.
    pub directory: PathBuf,
    /// The host name of the sub-processor that keeps the directory, where that
    /// is somebody else than the region.
    pub host: Option<String>,
    /// Older backups are removed by the next, but never the newest.
    #[serde(default = "thirty")]
    pub keep_days: u32,
}

const fn thirty() -> u32 {
    30
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    pub name: String,
    pub listen: Vec<Listen>,
    /// What clients are shown, and asked for; needed by `tls` and `wss` listeners.
    pub tls: Option<ClientTls>,
    /// Pages whose scripts may open a WebSocket; left out, those of the regions' consoles.
    pub origins: Option<Vec<String>>,
    /// What relays and other regions' proxies are shown.
    pub identity: KeyPair,
    pub inter_region: InterRegion,
    pub relays: Vec<RelayLink>,
    /// Where the region's other proxies connect.
    pub peering: Option<BindAddress>,
    /// The region's other proxies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerLink>,
    /// Authorities of carriers' TLS certificates, besides the operating system's.
    pub trunk_ca: Option<PathBuf>,
    /// How devices that sleep are woken.
    pub push: Option<Push>,
    /// DNS servers, instead of those in `/etc/resolv.conf`.
    #[serde(default)]
    pub dns_servers: Vec<BindAddress>,
    /// Parties that share no codec are joined all the same: the relays transcode.
    #[serde(default = "yes")]
    pub transcoding: bool,
    #[serde(default)]
    pub codes: Codes,
    #[serde(default)]
    pub voicemail: Voicemail,
    #[serde(default)]
    pub registrar: Registrar,
    #[serde(default)]
    pub limits: ProxyLimits,
}

const fn yes() -> bool {
    true
}

/// What mailboxes take.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Voicemail {
    /// The longest message.
    pub max_seconds: u32,
    /// Messages that one mailbox holds.
    pub max_messages: u32,
}

impl Default for Voicemail {
    fn default() -> Self {
        Self { max_seconds: 180, max_messages: 100 }
    }
}

/// What users dial for more than a call; empty turns it off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codes {
    pub pickup: String,
    pub park: String,
    /// Plays the caller's own messages.
    pub voicemail: String,
    /// How long a parked call waits before it rings where it came from.
    pub park_seconds: u32,
}

impl Default for Codes {
    fn default() -> Self {
        let codes = landline_call::FeatureCodes::default();
        Self {
            pickup: codes.pickup,
            park: codes.park,
            voicemail: codes.voicemail,
            park_seconds: 120,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub transport: Transport,
    pub address: BindAddress,
    /// What peers are told instead of `address`; needed when that is `0.0.0.0` or `::`.
    pub advertise: Option<HostPort>,
}

/// The operator's gateway to push services (RFC 8599).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// `https`, at a sub-processor listed for `push`.
    pub url: String,
    /// Names the variable that holds what signs the requests.
    pub secret_env: String,
    /// As `pn-provider` names them.
    pub providers: Vec<String>,
    /// Networks that may be sent to although they are not public.
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// Authorities of the gateway's certificate, besides the operating system's. PEM.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// PEM, the leaf first: for who asks for no other's name.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
    /// Authorities of the certificates that clients may show on `tls` listeners.
    pub client_ca: Option<PathBuf>,
    /// Nobody comes in by a `tls` listener without one.
    #[serde(default)]
    pub require_client_certificate: bool,
    /// Shown to who asks for one of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<KeyPair>,
}

impl From<KeyPair> for ClientTls {
    fn from(KeyPair { certificate, key }: KeyPair) -> Self {
        let (client_ca, require_client_certificate) = (None, false);
        Self { certificate, key, client_ca, require_client_certificate, also: Vec::new() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterRegion {
    pub address: BindAddress,
    pub advertise: Option<HostPort>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayLink {
    pub name: String,
    pub address: HostPort,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerLink {
    pub name: String,
    pub address: HostPort,
}

/// RFC 3261 §10.3: what the registrar grants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registrar {
    pub min_expires_seconds: u32,
    pub default_expires_seconds: u32,
    pub max_expires_seconds: u32,
    pub max_contacts_per_user: u32,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            min_expires_seconds: 60,
            default_expires_seconds: 3600,
            max_expires_seconds: 7200,
            max_contacts_per_user: 10,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyLimits {
    pub max_calls: u32,
    pub max_connections: u32,
    /// How long a callee may ring before the caller gets 480.
    pub ring_timeout_seconds: u32,
    /// In which time each side of an answered call is to be refreshed
    /// (RFC 4028).
    pub session_expires_seconds: u32,
    /// The shortest such time that a client gets.
    pub min_session_expires_seconds: u32,
    /// How long another proxy of the region may give no sign of life before its
    /// open calls are closed as lost.
    pub abandoned_after_minutes: u32,
    /// How long messages may keep waiting to be read before a part of the new
    /// requests gets 503.
    pub longest_wait_milliseconds: u32,
    /// Calls to these are never refused for that.
    pub emergency_numbers: Vec<String>,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            max_calls: 20_000,
            max_connections: 20_000,
            ring_timeout_seconds: 60,
            session_expires_seconds: 1800,
            min_session_expires_seconds: 90,
            abandoned_after_minutes: 360,
            longest_wait_milliseconds: 50,
            emergency_numbers: landline_proxy::Limits::default().emergency_numbers,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    pub name: String,
    /// Where proxies of the region connect.
    pub control: BindAddress,
    pub identity: KeyPair,
    pub media: Vec<Media>,
    pub ports: PortRange,
    /// UDP port of all browsers, and the next ones: one for each shard.
    pub ice_port: Option<u16>,
    /// TCP port for browsers whose network lets no UDP out.
    pub tcp_port: Option<u16>,
    /// With peers that offer it.
    #[serde(default = "yes")]
    pub dtls_1_3: bool,
    /// How packets come from the kernel and go to it.
    #[serde(default)]
    pub engine: Engine,
    /// Threads that carry media; 0 takes one for each processor.
    #[serde(default)]
    pub shards: u16,
    #[serde(default)]
    pub limits: RelayLimits,
    #[serde(default)]
    pub timeouts: RelayTimeouts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    #[default]
    Epoll,
    IoUring,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    pub address: std::net::IpAddr,
    /// The address in SDP; needed behind one-to-one NAT and with `0.0.0.0` or `::`.
    pub advertise: Option<std::net::IpAddr>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayLimits {
    pub max_sessions: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { max_sessions: 5_000 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayTimeouts {
    /// Silence of both sides after which a call is ended.
    pub media_seconds: u32,
    /// How long a port rests after its call, so that stale RTP finds nobody.
    pub port_quarantine_seconds: u32,
}

impl Default for RelayTimeouts {
    fn default() -> Self {
        Self { media_seconds: 60, port_quarantine_seconds: 5 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Where it listens. TLS only.
    pub address: BindAddress,
    /// What customers' programs are shown.
    pub tls: KeyPair,
    #[serde(default)]
    pub limits: ConsoleLimits,
    #[serde(default)]
    pub webhooks: Webhooks,
    #[serde(default)]
    pub phone: Phone,
}

/// The page that an account's users call with, at `/phone/`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phone {
    /// Where browsers reach SIP in this region, as `wss://sip.ie1.example`; left
    /// out, the `wss` listeners of this file's [proxy]; without any, no phone.
    pub edges: Option<Vec<String>>,
}

/// How accounts' own addresses are told of events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Networks that may be sent to although they are not public.
    pub allow: Vec<IpNet>,
    /// Authorities of receivers' certificates, besides the operating system's. PEM.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleLimits {
    pub max_connections: u32,
    /// Of one key, in the long run; more gets 429.
    pub requests_per_second: u32,
    /// Of one key, at once after a pause.
    pub burst: u32,
}

impl Default for ConsoleLimits {
    fn default() -> Self {
        Self { max_connections: 1000, requests_per_second: 20, burst: 60 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where `landline up` and `landline proxy` serve `/metrics` and `/health`;
    /// nowhere when left out.
    pub address: Option<BindAddress>,
    /// The same for `landline relay`, which may run beside the proxy.
    pub relay_address: Option<BindAddress>,
    /// Who reads the metrics.
    pub scope: Scope,
    /// As `info`, or by module as `info,landline_proxy=debug`.
    pub log_level: String,
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            address: None,
            relay_address: None,
            scope: Scope::Region,
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Somebody within the region: everything that is counted.
    Region,
    /// Somebody outside: aggregates over enough accounts, in coarse steps.
    Outside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}
