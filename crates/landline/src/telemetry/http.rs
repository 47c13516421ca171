//! `/metrics` and `/health` on a local port.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use landline_region::egress::Refused;
use landline_store::Store;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::egress::coarse;

/// How long the database may take to say how many accounts there are.
const PATIENCE: Duration = Duration::from_secs(2);

/// One part's state: whether it is well, and what it says of itself.
type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = (bool, Value)> + Send>> + Send + Sync>;

/// The parts that `/health` asks, each by its name.
#[derive(Default)]
pub struct Health {
    probes: Vec<(&'static str, Probe)>,
}

impl Health {
    pub fn add<F>(&mut self, name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = (bool, Value)> + Send + 'static,
    {
        self.probes.push((name, Box::new(move || Box::pin(probe()))));
    }

    /// `{"status": "ok" | "failing", NAME: …}`, and whether every part is well.
    async fn report(&self) -> (bool, Value) {
        let mut fields = Map::new();
        let mut well = true;
        for (name, probe) in &self.probes {
            let (fine, value) = probe().await;
            well &= fine;
            fields.insert((*name).to_owned(), value);
        }
        let status = if well { "ok" } else { "failing" };
        fields.insert("status".to_owned(), Value::String(status.to_owned()));
        (well, Value::Object(fields))
    }
}

/// The listener. Ends when dropped.
pub struct Server {
    task: JoinHandle<()>,
}

struct Shared {
    registry: Registry,
    health: Health,
    readers: Readers,
}

/// Who reads what is served here.
pub enum Readers {
    /// Somebody within the region, who is told everything that is counted.
    Region,
    /// Somebody outside: aggregates alone, as the region's egress gate allows.
    Outside(Store),
}

impl Readers {
    /// What of the metrics they may see; `Err` says why nothing.
    async fn shown(&self, all: Vec<MetricFamily>) -> Result<Vec<MetricFamily>, Refused> {
        let Self::Outside(store) = self else { return Ok(all) };
        // A group that cannot be counted is none.
        let counted = tokio::time::timeout(PATIENCE, store.account_count()).await;
        let accounts = counted.ok().and_then(Result::ok).unwrap_or(0);
        store.gate().aggregate(accounts).map(|step| coarse(all, step))
    }
}

impl Server {
    pub async fn start(
        address: SocketAddr,
        registry: Registry,
        health: Health,
        readers: Readers,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("[telemetry]: {address} cannot be bound"))?;
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(report))
            .with_state(Arc::new(Shared { registry, health, readers }));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "metrics and health are no longer served");
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    let families = match shared.readers.shown(shared.registry.gather()).await {
        Ok(families) => families,
        Err(refused) => return (StatusCode::FORBIDDEN, refused.to_string()).into_response(),
    };
    match encoder.encode(&families, &mut text) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn report(State(shared): State<Arc<Shared>>) -> Response {
    let (well, report) = shared.health.report().await;
    // The parts say how many calls there are; outside only the verdict counts.
    let report = match shared.readers {
        Readers::Region => report,
        Readers::Outside(_) => json!({ "status": report["status"] }),
    };
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_part_that_fails_makes_the_whole_fail() {
        let mut health = Health::default();
        health.add("database", || async { (true, json!("ok")) });
        assert_eq!(health.report().await, (true, json!({"status": "ok", "database": "ok"})));
        health.add("relays", || async { (false, json!({"ie1-relay-1": "down"})) });
        let (well, report) = health.report().await;
        assert!(!well && report["status"] == "failing", "{report}");
    }

    #[tokio::test]
    async fn outside_the_region_metrics_of_few_accounts_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (region, ring) = ("ie1".parse().unwrap(), dir.path().join("keys"));
        landline_store::KeyRing::create(&ring, region).unwrap();
        let url = format!("sqlite:{}", dir.path().join("region.db").display());
        let egress = landline_region::egress::Declared { minimum_group: 2, ..Default::default() };
        let config = landline_store::StoreConfig {
            egress,
            ..landline_store::StoreConfig::new(url, region, ring)
        };
        let store = Store::open(&config).await.unwrap();
        let registry = Registry::new();
        let calls = prometheus::IntCounter::new("calls", "h").unwrap();
        calls.inc_by(3);
        registry.register(Box::new(calls)).unwrap();
        let readers = Readers::Outside(store.clone());
        for name in ["one", "two"] {
            let refused = readers.shown(registry.gather()).await.unwrap_err();
            assert_eq!(refused.reason(), "small_group");
            let new = landline_store::NewAccount::new(name, format!("{name}.test"), region);
            store.account_create(&new).await.unwrap();
        }
        let shown = readers.shown(registry.gather()).await.unwrap();
        assert_eq!(shown[0].get_metric()[0].get_counter().get_value(), 2.0);
        let inside = Readers::Region.shown(registry.gather()).await.unwrap();
        assert_eq!(inside[0].get_metric()[0].get_counter().get_value(), 3.0);
        assert!(store.gate().counted().iter().any(|it| it.verdict.name() == "small_group"));
    }
}
