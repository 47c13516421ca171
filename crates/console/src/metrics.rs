use landline_region::RegionCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What the console counts. Labels are names of routes and outcomes: no
/// account, no person.
#[derive(Clone)]
pub struct Metrics {
    pub connections: IntGauge,
    connections_ended: IntCounterVec,
    requests: IntCounterVec,
    pub audit_failures: IntCounter,
    webhooks: IntCounterVec,
}

impl Metrics {
    pub fn new(registry: &Registry, region: RegionCode) -> prometheus::Result<Self> {
        let opts =
            |name: &str, help: &str| Opts::new(name, help).const_label("region", region.as_str());
        let metrics = Self {
            connections: IntGauge::with_opts(opts(
                "landline_console_connections",
                "Connections to the HTTPS API.",
            ))?,
            connections_ended: IntCounterVec::new(
                opts(
                    "landline_console_connections_refused_total",
                    "Connections to the HTTPS API that came to nothing, by cause.",
                ),
                &["cause"],
            )?,
            requests: IntCounterVec::new(
                opts("landline_console_requests_total", "Requests by route and status."),
                &["operation", "status"],
            )?,
            audit_failures: IntCounter::with_opts(opts(
                "landline_console_audit_failures_total",
                "Requests refused because they could not be written into the audit.",
            ))?,
            webhooks: IntCounterVec::new(
                opts(
                    "landline_console_webhook_attempts_total",
                    "Attempts to tell webhooks of events, by outcome; given_up counts events.",
                ),
                &["outcome"],
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_ended.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.audit_failures.clone()))?;
        registry.register(Box::new(metrics.webhooks.clone()))?;
        Ok(metrics)
    }

    pub fn webhook(&self, outcome: &str) {
        self.webhooks.with_label_values(&[outcome]).inc();
    }

    pub fn refused(&self, cause: &str) {
        self.connections_ended.with_label_values(&[cause]).inc();
    }

    pub fn answered(&self, operation: &str, status: u16) {
        self.requests.with_label_values(&[operation, &status.to_string()]).inc();
    }
}
