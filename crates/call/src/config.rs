//! What a core is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landline_region::egress::Gate;
use landline_region::{NumberKey, PseudonymKey, RegionCode};
use landline_sip::Transport;

use crate::call::SessionPolicy;
use crate::push::PushPolicy;

#[derive(Debug, Clone)]
pub struct CoreConfig {
    pub region: RegionCode,
    /// This proxy's name within its region, as configured; stands in records.
    pub proxy: String,
    /// Where clients and carriers reach us, one for each listener: our Contact
    /// towards whoever came by it.
    pub addresses: Vec<LocalAddress>,
    /// Where other regions' proxies reach us over mutual TLS: our Path URI, and
    /// our Contact towards them.
    pub inter_region: Option<(String, u16)>,
    /// Signs nonces, and the flow tokens in our Path and Record-Route URIs. The
    /// proxies of a region share it; kept across restarts, contacts that
    /// registered through us by UDP stay reachable.
    pub signing_key: [u8; 32],
    /// For the tokens that logs carry instead of names and addresses.
    pub pseudonyms: PseudonymKey,
    /// Finds other regions' numbers in the directory; `None` finds none.
    pub number_key: Option<NumberKey>,
    /// Asked before a call leaves for another region; `None` lets all leave that
    /// the directory leads there.
    pub egress: Option<Arc<Gate>>,
    /// How devices that sleep are woken; `None` wakes nobody.
    pub push: Option<PushPolicy>,
    /// Other proxies of the region go on with our calls, and we with theirs.
    pub has_peers: bool,
    /// Parties that share no codec are joined all the same: the relays transcode.
    pub transcoding: bool,
    /// What users dial for more than a call.
    pub codes: FeatureCodes,
    /// User-Agent and Server header of what the core sends.
    pub product: Option<String>,
    pub limits: CoreLimits,
    pub timers: CoreTimers,
}

impl CoreConfig {
    /// A configuration without addresses, limits and timers by default.
    pub fn new(region: RegionCode, proxy: impl Into<String>, pseudonyms: PseudonymKey) -> Self {
        Self {
            region,
            proxy: proxy.into(),
            addresses: Vec::new(),
            inter_region: None,
            signing_key: [0; 32],
            pseudonyms,
            number_key: None,
            egress: None,
            push: None,
            has_peers: false,
            transcoding: true,
            codes: FeatureCodes::default(),
            product: None,
            limits: CoreLimits::default(),
            timers: CoreTimers::default(),
        }
    }
}

impl CoreConfig {
    pub(crate) fn session_policy(&self) -> SessionPolicy {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let CoreTimers { session, min_session, .. } = self.timers;
        SessionPolicy { interval: seconds(session), least: seconds(min_session) }
    }
}

/// What is dialled for something else than a user or a number. Empty: nothing
/// is. A user's name comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureCodes {
    /// Takes a call that rings at a colleague's, whose name may follow.
    pub pickup: String,
    /// A call that is transferred there waits, under the number that follows or
    /// the first that is free; with a number dialled it is taken.
    pub park: String,
    /// Plays the caller's own messages.
    pub voicemail: String,
}

impl Default for FeatureCodes {
    fn default() -> Self {
        Self { pickup: "*8".to_owned(), park: "*7".to_owned(), voicemail: "*97".to_owned() }
    }
}

/// One listener as its peers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    pub transport: Transport,
    /// What the listener is bound to; pairs a flow with its listener.
    pub local: SocketAddr,
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CoreLimits {
    /// Calls open in this core at one time.
    pub calls: usize,
    pub calls_per_account: usize,
    /// Calls a user or trunk has open as the caller.
    pub calls_per_user: usize,
    pub calls_per_trunk: usize,
    /// Calls that come from the accounts of one other region.
    pub calls_per_region: usize,
    /// Contacts a user may have registered.
    pub bindings_per_user: usize,
    pub bindings: usize,
    /// Length of one Contact URI, in octets.
    pub contact_length: usize,
    /// Branches of one call that ring at one time.
    pub branches: usize,
    /// Requests forwarded for other regions' accounts and not yet answered.
    pub forwards: usize,
    /// Sources and users whose failed authentications are remembered.
    pub throttled: usize,
    /// Failed authentications of one user from one source before both are shut
    /// out together for [`CoreTimers::throttle`].
    pub failures: u32,
    /// Nonces whose counts are remembered.
    pub nonces: usize,
    /// Calls of other proxies that are held for them.
    pub replicas: usize,
    /// Octets of SDP that are read.
    pub description: usize,
    /// Calls that are moved to another relay at one time.
    pub moves: usize,
    /// Calls of one account that wait to be taken at one time.
    pub parked_per_account: u16,
    /// Octets of one message's text that a connection brings; by datagrams a
    /// whole message has 1,300 (RFC 3428 §8).
    pub message: usize,
    /// Messages under way at one time, and those of one user.
    pub messages: usize,
    pub messages_per_user: usize,
    /// Subscriptions at one time: of all, of one account's users, of one user,
    /// and to one user.
    pub subscriptions: usize,
    pub subscriptions_per_account: usize,
    pub subscriptions_per_user: usize,
    pub watchers_per_user: usize,
    /// Messages that a mailbox holds.
    pub voicemails_per_user: u32,
}

impl Default for CoreLimits {
    fn default() -> Self {
        Self {
            calls: 20_000,
            calls_per_account: 5_000,
            calls_per_user: 16,
            calls_per_trunk: 2_000,
            calls_per_region: 5_000,
            bindings_per_user: 10,
            bindings: 1_000_000,
            contact_length: 1024,
            branches: 10,
            forwards: 50_000,
            throttled: 100_000,
            failures: 8,
            nonces: 200_000,
            replicas: 100_000,
            description: 16 * 1024,
            moves: 64,
            parked_per_account: 99,
            message: 16 * 1024,
            messages: 10_000,
            messages_per_user: 32,
            subscriptions: 100_000,
            subscriptions_per_account: 20_000,
            subscriptions_per_user: 200,
            watchers_per_user: 1000,
            voicemails_per_user: 100,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CoreTimers {
    /// How long callees may ring.
    pub no_answer: Duration,
    /// Longest duration of an answered call; `None` for no end.
    pub max_call: Option<Duration>,
    /// How long a relay may take to carry out a request.
    pub relay: Duration,
    /// How long the journal may take to confirm that a call was opened.
    pub journal: Duration,
    /// How long a restored call waits for its relay.
    pub adopt: Duration,
    /// How long another proxy of the region may be away before its calls are
    /// taken over; shorter than relays keep a proxy's sessions.
    pub lease: Duration,
    /// How long a call that another proxy took is held for the case that nobody
    /// else can be reached by its phones.
    pub let_go: Duration,
    /// How long the store may take to keep a registration.
    pub bindings: Duration,
    pub default_expiry: Duration,
    pub min_expiry: Duration,
    pub max_expiry: Duration,
    /// How long a nonce can be used.
    pub nonce: Duration,
    /// How long too many failed authentications shut a user out of a source,
    /// and how long they are remembered.
    pub throttle: Duration,
    /// How long an answered call whose relay is gone is kept without another.
    pub adrift: Duration,
    /// How long a parked call waits before it rings where it came from.
    pub parked: Duration,
    /// The longest message that a mailbox takes.
    pub message: Duration,
    /// In which time each side of an answered call is to give a sign of life
    /// (RFC 4028): what is asked of who leaves it to us, and the longest that
    /// others get.
    pub session: Duration,
    /// The shortest such time that is agreed to, at least 90 s.
    pub min_session: Duration,
}

impl Default for CoreTimers {
    fn default() -> Self {
        Self {
            no_answer: Duration::from_secs(60),
            max_call: None,
            relay: Duration::from_secs(4),
            journal: Duration::from_secs(4),
            adopt: Duration::from_secs(10),
            lease: Duration::from_secs(3),
            let_go: Duration::from_secs(3600),
            bindings: Duration::from_secs(4),
            default_expiry: Duration::from_secs(3600),
            min_expiry: Duration::from_secs(60),
            max_expiry: Duration::from_secs(7200),
            nonce: Duration::from_secs(300),
            throttle: Duration::from_secs(60),
            adrift: Duration::from_secs(6),
            parked: Duration::from_secs(120),
            message: Duration::from_secs(180),
            session: Duration::from_secs(1800),
            min_session: Duration::from_secs(90),
        }
    }
}
