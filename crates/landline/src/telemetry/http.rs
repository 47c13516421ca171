//! `/metrics` and `/health` on a local port.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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
}

impl Server {
    pub async fn start(address: SocketAddr, registry: Registry, health: Health) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("[telemetry]: {address} cannot be bound"))?;
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(report))
            .with_state(Arc::new(Shared { registry, health }));
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
    match encoder.encode(&shared.registry.gather(), &mut text) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn report(State(shared): State<Arc<Shared>>) -> Response {
    let (well, report) = shared.health.report().await;
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn one_part_that_fails_makes_the_whole_fail() {
        let mut health = Health::default();
        health.add("database", || async { (true, json!("ok")) });
        assert_eq!(health.report().await, (true, json!({"status": "ok", "database": "ok"})));
        health.add("relays", || async { (false, json!({"ie1-relay-1": "down"})) });
        let (well, report) = health.report().await;
        assert!(!well && report["status"] == "failing", "{report}");
    }
}
