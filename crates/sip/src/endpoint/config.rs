use std::net::SocketAddr;
use std::time::Duration;

use crate::{Limits, Transport};

/// Where this endpoint can be reached; what its Via headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    pub local: SocketAddr,
    /// Host and port as peers see them.
    pub advertised: (String, u16),
}

#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// May be empty, for a client that only opens connections.
    pub listeners: Vec<Listener>,
    /// Round-trip estimate, RFC 3261 §17.1.1.1. All timers derive from it.
    pub t1: Duration,
    /// Longest interval between retransmissions.
    pub t2: Duration,
    /// How long a message can stay in the network.
    pub t4: Duration,
    /// Limits of the parser.
    pub limits: Limits,
    /// Most transactions alive, client and server together. The last tenth is
    /// kept for requests inside dialogs, so that a flood of new ones does not
    /// keep calls from ending.
    pub max_transactions: usize,
    /// How long messages may keep waiting to be read before new requests are
    /// refused: see [`crate::Endpoint::message_waited`].
    pub longest_wait: Duration,
    /// Calls to these are emergency calls, which overload does not refuse.
    pub emergency_numbers: Vec<String>,
    /// User-Agent of requests that have none.
    pub user_agent: Option<String>,
    /// Server header of the responses the endpoint makes itself.
    pub server: Option<String>,
    /// Answer to the source port even without `rport` (RFC 3581 asks for the
    /// port in the Via then, as RFC 3261 §18.2.2 does).
    pub force_rport: bool,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            limits: Limits::default(),
            max_transactions: 200_000,
            longest_wait: Duration::from_millis(50),
            emergency_numbers: ["112", "911", "999", "000"].map(str::to_owned).into(),
            user_agent: None,
            server: None,
            force_rport: false,
        }
    }
}

impl EndpointConfig {
    /// Timers B, F, H, J, L and M, and D over unreliable transports (the RFC
    /// wants at least 32 s there, which this is with the default T1).
    pub(crate) fn lifetime(&self) -> Duration {
        self.t1 * 64
    }
}
