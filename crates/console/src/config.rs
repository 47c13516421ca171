use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use landline_call::StartCall;
use landline_region::{CallSid, Jurisdiction, RegionCode};
use landline_store::Store;
use prometheus::Registry;

use crate::webhook::WebhookConfig;

/// What a console needs to serve one region.
pub struct ConsoleConfig {
    pub region: RegionInfo,
    pub listen: SocketAddr,
    pub tls: TlsFiles,
    pub store: Store,
    /// The directory's snapshot: which region is home to which account.
    pub directory: PathBuf,
    /// The region's calls, where the proxy that carries them is at hand.
    pub calls: Option<Arc<dyn CallControl>>,
    pub limits: Limits,
    pub webhooks: WebhookConfig,
    /// The web phone at `/phone/`; without one there is none.
    pub phone: Option<Phone>,
    pub registry: Registry,
}

/// A page that registers users and calls.
#[derive(Debug, Clone)]
pub struct Phone {
    pub files: Vec<PhoneFile>,
    /// Where browsers reach SIP in this region, as `wss://sip.ie1.example`, the
    /// first to be tried first. Nothing else may the page connect to.
    pub edges: Vec<String>,
    /// What a user dials to listen to the own mailbox, as `*97`; `None` where nothing
    /// does it.
    pub voicemail_code: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct PhoneFile {
    /// Below `/phone/`; `index.html` is the page itself.
    pub path: &'static str,
    pub media_type: &'static str,
    pub bytes: &'static [u8],
}

/// What the region says of itself.
#[derive(Debug, Clone)]
pub struct RegionInfo {
    pub code: RegionCode,
    pub jurisdiction: Jurisdiction,
    pub contracting_entity: String,
    /// How the region's data-protection officer is reached.
    pub data_protection_officer: Option<String>,
}

#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time; one more is closed at once.
    pub connections: usize,
    /// Requests a second that a key may make in the long run.
    pub requests_per_second: u32,
    /// And at once after a pause.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1000, requests_per_second: 20, burst: 60 }
    }
}

/// What the API does to calls that are under way.
pub trait CallControl: Send + Sync {
    /// Asks for the call's end; `false` where nobody takes the request. The
    /// record shows when it is over.
    fn hang_up(&self, call: CallSid) -> bool;

    /// Asks for a call; `false` as above. What comes of it shows in its record,
    /// which is there before anybody is rung.
    fn start(&self, call: StartCall) -> bool;
}
