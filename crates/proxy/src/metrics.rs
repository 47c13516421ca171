//! What a proxy counts. Labels are from closed sets and say nothing of persons.

use landline_sip::Transport;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::replica::Replication;

/// Methods that have a counter of their own; others count as `OTHER`.
const METHODS: [&str; 15] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "PRACK",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
    "MESSAGE",
    "PUBLISH",
    "OTHER",
];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];
pub(crate) const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            const LABELS: &'static [&'static str] = &[$($label),+];
        }
    };
}

causes! {
    /// Why something from or for the network was thrown away.
    Drop {
        ConnectionLimit = "connection_limit",
        SourceLimit = "source_limit",
        HandshakeFailed = "handshake_failed",
        HandshakeTimeout = "handshake_timeout",
        WrongRegion = "wrong_region",
        WrongSubprotocol = "wrong_subprotocol",
        WrongOrigin = "wrong_origin",
        Framing = "framing",
        Oversize = "oversize",
        SilentConnection = "silent_connection",
        UnfinishedMessage = "unfinished_message",
        IdleConnection = "idle_connection",
        Vanished = "vanished",
        SlowReader = "slow_reader",
        UdpKeepAlive = "udp_keep_alive",
        UdpNoise = "udp_noise",
        UdpReceiveFailed = "udp_receive_failed",
        UdpSendQueueFull = "udp_send_queue_full",
        UdpSendFailed = "udp_send_failed",
        NoFlow = "no_flow",
        NoRoute = "no_route",
        ConnectFailed = "connect_failed",
        RelayAway = "relay_away",
        RelayQueueFull = "relay_queue_full",
        ResolverBusy = "resolver_busy",
        JournalFull = "journal_full",
        BindingQueueFull = "binding_queue_full",
        PushQueueFull = "push_queue_full",
        OutgoingLimit = "outgoing_limit",
        KeptInRegion = "kept_in_region",
        PeerRefused = "peer_refused",
        SilentFlow = "silent_flow",
    }
}

causes! {
    /// Which part of the region's store failed.
    StoreFault {
        Tenancy = "tenancy",
        Bindings = "bindings",
        Ledger = "ledger",
        Shipping = "shipping",
        Directory = "directory",
    }
}

/// The proxy's metrics, children cached: a label look-up costs six times an
/// increment.
pub(crate) struct Metrics {
    requests: Vec<IntCounter>,
    responses: Vec<IntCounter>,
    drops: Vec<IntCounter>,
    store_faults: Vec<IntCounter>,
    connections: Vec<IntGauge>,
    accepted: Vec<IntCounter>,
    pub(crate) inbox_depth: IntGauge,
    pub(crate) batch: Histogram,
    pub(crate) refused_part: Gauge,
    pub(crate) stun_answered: IntCounter,
    pub(crate) certificates_shown: IntCounter,
    pub(crate) connections_reused: IntCounter,
    pub(crate) resolutions: IntCounter,
    pub(crate) resolution_failures: IntCounter,
    pub(crate) database_up: IntGauge,
    pub(crate) ledger_pending: IntGauge,
    pub(crate) journal_waits: IntCounter,
    pub(crate) bindings_written: IntCounter,
    pub(crate) relays_connected: IntGauge,
    pub(crate) tenancy_revision: IntGauge,
    pub(crate) directory_version: IntGauge,
    pub(crate) transactions: IntGauge,
    pub(crate) calls_open: IntGauge,
    pub(crate) calls_unbalanced: IntGauge,
    pub(crate) calls_abandoned: IntCounter,
    pub(crate) bindings: IntGauge,
    peers_connected: IntGauge,
    calls_alone: IntGauge,
    replicas: IntGauge,
    /// What of replication came to nothing, by why.
    replication_faults: IntCounterVec,
    pub(crate) driver_busy_seconds: Gauge,
    /// Counters of the pure machines, by their own names.
    pub(crate) sip: IntCounterVec,
    pub(crate) parse_errors: IntCounterVec,
    pub(crate) call: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(
        registry: &Registry,
        region: &str,
        proxy: &str,
    ) -> Result<Self, prometheus::Error> {
        let make = Maker { registry, region, proxy };
        let requests =
            make.counters("sip_requests_received_total", "SIP requests received", "method")?;
        let responses = make.counters("sip_responses_sent_total", "SIP responses sent", "class")?;
        let drops = make.counters("sip_drops_total", "What was thrown away, by cause", "cause")?;
        let faults = make.counters("store_faults_total", "Failed uses of the store", "part")?;
        let connections = make.gauges("sip_connections", "Open connections", "transport")?;
        let accepted =
            make.counters("sip_connections_total", "Connections let in or opened", "transport")?;
        let transports = || TRANSPORTS.iter().map(|transport| label(*transport));
        Ok(Self {
            requests: METHODS.iter().map(|name| requests.with_label_values(&[name])).collect(),
            responses: CLASSES.iter().map(|name| responses.with_label_values(&[name])).collect(),
            drops: Drop::LABELS.iter().map(|name| drops.with_label_values(&[name])).collect(),
            store_faults: StoreFault::LABELS
                .iter()
                .map(|name| faults.with_label_values(&[name]))
                .collect(),
            connections: transports().map(|name| connections.with_label_values(&[name])).collect(),
            accepted: transports().map(|name| accepted.with_label_values(&[name])).collect(),
            inbox_depth: make.gauge("sip_inbox_depth", "Messages waiting for the driver")?,
            batch: make.batch()?,
            refused_part: make.float_gauge(
                "refused_part",
                "Part of new requests refused because messages wait too long, 0 to 1",
            )?,
            stun_answered: make.counter(
                "stun_answered_total",
                "Clients on UDP told where they are seen, which keeps their way open",
            )?,
            certificates_shown: make.counter(
                "sip_client_certificates_total",
                "Connections whose client proved by certificate who it is",
            )?,
            connections_reused: make.counter(
                "sip_connections_reused_total",
                "Connections of others that our requests go over, too (RFC 5923)",
            )?,
            resolutions: make.counter("dns_resolutions_total", "Next hops looked up")?,
            resolution_failures: make
                .counter("dns_failures_total", "Next hops that no address was found for")?,
            database_up: make.gauge("store_database_up", "1 while the region database answers")?,
            ledger_pending: make.gauge("ledger_pending", "Call events not yet in the database")?,
            journal_waits: make.counter(
                "journal_waits_total",
                "Times the network had to wait because the journal was behind",
            )?,
            bindings_written: make.counter("bindings_written_total", "Binding changes stored")?,
            relays_connected: make.gauge("relays_connected", "Relays with a control connection")?,
            tenancy_revision: make.gauge("tenancy_revision", "Revision of the accounts in use")?,
            directory_version: make
                .gauge("directory_version", "Version of the directory in use")?,
            transactions: make.gauge("sip_transactions", "Open SIP transactions")?,
            calls_open: make.gauge("calls_open", "Calls opened and not closed")?,
            calls_unbalanced: make.gauge(
                "calls_unbalanced",
                "Calls opened less those closed less those open: 0, or a record was lost",
            )?,
            calls_abandoned: make.counter(
                "calls_abandoned_total",
                "Calls of dead proxies that this one closed as lost",
            )?,
            bindings: make.gauge("bindings", "Registered contacts")?,
            peers_connected: make
                .gauge("peers_connected", "Other proxies of the region that hold our calls")?,
            calls_alone: make.gauge(
                "calls_not_replicated",
                "Answered calls that no other proxy of the region holds as they are now",
            )?,
            replicas: make.gauge("replicas", "Calls of other proxies that are held for them")?,
            replication_faults: make.counters(
                "replication_faults_total",
                "Calls that no peer was told of in time (late), whose state is too long for a \
                 message (oversize), and links that too much waited for (overrun)",
                "kind",
            )?,
            driver_busy_seconds: make
                .float_gauge("driver_busy_seconds", "Time the driver worked since its start")?,
            sip: make.counters("sip_events_total", "What the SIP machine counted", "event")?,
            parse_errors: make.counters(
                "sip_parse_errors_total",
                "SIP messages that could not be read",
                "kind",
            )?,
            call: make.counters("call_events_total", "What the call machine counted", "event")?,
        })
    }

    /// Counts a message by its first octets, parsed or not.
    pub(crate) fn received(&self, message: &[u8]) {
        if message.starts_with(b"SIP/") {
            return;
        }
        let method = message.split(|&octet| octet == b' ').next().unwrap_or_default();
        let index =
            METHODS.iter().position(|name| name.as_bytes() == method).unwrap_or(METHODS.len() - 1);
        self.requests[index].inc();
    }

    /// Counts what is sent, if it is a response.
    pub(crate) fn sent(&self, message: &[u8]) {
        let class = message.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.first());
        let index = class.and_then(|digit| usize::from(*digit).checked_sub(usize::from(b'1')));
        if let Some(counter) = index.and_then(|index| self.responses.get(index)) {
            counter.inc();
        }
    }

    pub(crate) fn drop(&self, cause: Drop) {
        self.drops[cause as usize].inc();
    }

    /// What was thrown away so far, by the cause's place.
    pub(crate) fn drops(&self) -> Vec<u64> {
        self.drops.iter().map(IntCounter::get).collect()
    }

    /// What a keeper threw away.
    pub(crate) fn dropped_elsewhere(&self, cause: u64, count: u64) {
        let cause = usize::try_from(cause).ok().and_then(|cause| self.drops.get(cause));
        if let Some(counter) = cause {
            counter.inc_by(count);
        }
    }

    /// What was told to peers, and is held for them.
    pub(crate) fn replicated(&self, replication: &Replication, held: usize) {
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.peers_connected.set(level(replication.peers()));
        self.calls_alone.set(level(replication.alone()));
        self.replicas.set(level(held));
        let faults = [
            ("late", replication.late),
            ("oversize", replication.oversize),
            ("overrun", replication.overrun),
        ];
        for (kind, count) in faults {
            let counter = self.replication_faults.with_label_values(&[kind]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn store_fault(&self, part: StoreFault) {
        self.store_faults[part as usize].inc();
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(&self, transport: Transport) -> Counted {
        let index = TRANSPORTS.iter().position(|known| *known == transport).unwrap_or_default();
        self.accepted[index].inc();
        self.connections[index].inc();
        Counted(self.connections[index].clone())
    }
}

pub(crate) struct Counted(IntGauge);

impl std::ops::Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A transport as labels and configuration write it.
pub(crate) fn label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    }
}

struct Maker<'a> {
    registry: &'a Registry,
    region: &'a str,
    proxy: &'a str,
}

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("landline_proxy_{name}"), help)
            .const_label("region", self.region)
            .const_label("proxy", self.proxy)
    }

    fn register<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(self.opts(name, help), &[label])?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(self.opts(name, help), &[label])?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(self.opts(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(self.opts(name, help))?)
    }

    fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::with_opts(self.opts(name, help))?)
    }

    fn batch(&self) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(
            self.opts("driver_batch_messages", "Messages taken by the driver at one waking"),
        )
        .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        self.register(Histogram::with_opts(opts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_proxies_share_a_registry_and_messages_count_by_kind() {
        let registry = Registry::new();
        let ie1 = Metrics::new(&registry, "ie1", "proxy-1").unwrap();
        let _us1 = Metrics::new(&registry, "us1", "proxy-1").unwrap();
        ie1.received(b"REGISTER sip:acme.test SIP/2.0\r\n");
        ie1.received(b"\0\0\0");
        ie1.received(b"SIP/2.0 200 OK\r\n");
        ie1.sent(b"SIP/2.0 401 Unauthorized\r\n");
        ie1.sent(b"SIP/2.0 ");
        assert_eq!((ie1.requests[4].get(), ie1.requests[14].get()), (1, 1));
        assert_eq!(ie1.requests.iter().map(IntCounter::get).sum::<u64>(), 2);
        assert_eq!((ie1.responses[3].get(), ie1.responses[1].get()), (1, 0));
    }
}
