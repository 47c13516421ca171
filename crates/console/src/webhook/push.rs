//! Has a push service wake a device (RFC 8599): by a gateway of the operator's,
//! which speaks the services' own protocols and holds their keys.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use landline_call::Wake;
use landline_region::Secret;
use landline_region::catalogue::fields::{PUSH_TOKEN, SID};
use landline_region::egress::{Carried, Destination, Flow, Form, Gate};
use prometheus::{IntCounterVec, Opts, Registry};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::WebhookConfig;
use super::client::{Client, Endpoint};
use super::event::signature;
use crate::StartError;
use crate::time::wall_clock;

/// Messages under way at one time.
const AT_ONCE: usize = 64;
/// A caller waits meanwhile.
const ATTEMPT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// What the egress gate is asked for: the fields of [`Message`].
const CARRIED: &[Carried] = &[(&SID, Form::Bare), (&PUSH_TOKEN, Form::Bare)];

/// The operator's gateway to push services.
#[derive(Debug, Clone)]
pub struct PushGateway {
    /// `https`; its host stands in the registry of sub-processors for `push`.
    pub url: String,
    /// Signs what is sent there.
    pub secret: Secret<String>,
    /// Networks and authorities as of webhooks.
    pub reach: WebhookConfig,
}

/// Sends what the calls ask for.
pub struct PushSender {
    client: Client,
    endpoint: Endpoint,
    secret: Secret<String>,
    gate: Arc<Gate>,
    outcomes: IntCounterVec,
}

/// Nobody's name and number, and no time: the device asks by registering.
#[derive(Serialize)]
struct Message<'a> {
    id: String,
    event: &'static str,
    region: String,
    account_sid: String,
    call_sid: String,
    pn_provider: &'a str,
    pn_prid: &'a str,
    pn_param: Option<&'a str>,
}

impl PushSender {
    pub fn new(
        gateway: &PushGateway,
        gate: Arc<Gate>,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let endpoint = Endpoint::parse(&gateway.url)
            .map_err(|error| StartError::PushGateway { problem: error.to_string() })?;
        let opts = Opts::new("landline_push_total", "Devices to be woken, by outcome.")
            .const_label("region", gate.region().as_str());
        let outcomes = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(outcomes.clone()))?;
        let client = Client::new(&gateway.reach)?;
        Ok(Self { client, endpoint, secret: gateway.secret.clone(), gate, outcomes })
    }

    /// Until nobody orders any more.
    pub async fn run(self, mut orders: mpsc::Receiver<Wake>) {
        let sender = Arc::new(self);
        let mut under_way = JoinSet::new();
        while let Some(wake) = orders.recv().await {
            while under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            while under_way.try_join_next().is_some() {}
            let sender = Arc::clone(&sender);
            under_way.spawn(async move {
                let outcome = sender.send(&wake).await;
                if outcome != "delivered" {
                    tracing::warn!(call = %wake.call, outcome, "a device is not woken");
                }
                sender.outcomes.with_label_values(&[outcome.as_str()]).inc();
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn send(&self, wake: &Wake) -> String {
        let to = Destination::Party(self.endpoint.host());
        if let Err(refused) = self.gate.decide(Flow::Push, &to, CARRIED) {
            return format!("refused_{}", refused.reason());
        }
        let Some(body) = body(wake) else { return "body".to_owned() };
        let mut outcome = String::new();
        for attempt in 0..ATTEMPTS {
            sleep(PAUSE * attempt).await;
            let signed = signature(self.secret.expose(), wall_clock().0 / 1000, &body);
            let headers = [
                ("content-type", "application/json".to_owned()),
                ("user-agent", format!("Landline/{}", env!("CARGO_PKG_VERSION"))),
                ("landline-signature", signed),
            ];
            let sent = self.client.post(&self.endpoint, &headers, body.clone());
            outcome = match timeout(ATTEMPT, sent).await {
                Ok(Ok(())) => return "delivered".to_owned(),
                Ok(Err(failure)) => failure.name(),
                Err(_) => super::client::Failure::Timeout.name(),
            };
        }
        outcome
    }
}

fn body(wake: &Wake) -> Option<String> {
    let mut id = [0; 16];
    rand::fill(&mut id).ok()?;
    let message = Message {
        id: hex::encode(id),
        event: "call.incoming",
        region: wake.region.to_string(),
        account_sid: wake.account.to_string(),
        call_sid: wake.call.to_string(),
        pn_provider: &wake.target.provider,
        pn_prid: wake.target.prid.expose(),
        pn_param: wake.target.param.as_ref().map(|param| param.expose().as_str()),
    };
    serde_json::to_string(&message).ok()
}
