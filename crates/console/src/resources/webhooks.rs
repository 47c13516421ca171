use std::sync::Arc;

use landline_region::{EventSid, Jurisdiction, Personal, Secret, WebhookSid};
use landline_store::{Delivery, HookEvent, NewWebhook, Webhook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneOrMany, Page, account_uri, list_query, page_of, rfc3339};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::webhook::Endpoint;

#[derive(Debug, Serialize, JsonSchema)]
pub struct WebhookPage {
    pub webhooks: Vec<WebhookView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct WebhookView {
    pub sid: String,
    pub account_sid: String,
    pub url: String,
    /// What it is told of.
    pub events: Vec<&'static str>,
    /// Where the account says that the address is: a country code of ISO 3166-1.
    pub country: String,
    pub created_at: String,
    /// Events that were received.
    pub delivered: u64,
    /// Events that were not queued because too many were waiting.
    pub dropped: u64,
    /// What events are signed with; shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub uri: String,
    pub subresource_uris: WebhookUris,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct WebhookUris {
    pub deliveries: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookNew {
    /// `https` alone, at a public address.
    #[schemars(length(max = 2048), regex(pattern = "^https://"))]
    pub url: String,
    pub events: OneOrMany,
    /// The country that the address is in, as `IE`. By naming it the account
    /// decides, as controller, that its events go there.
    #[schemars(regex(pattern = "^[A-Z]{2}$"))]
    pub country: String,
    /// Made and shown once when left out.
    #[schemars(length(min = 24, max = 128))]
    pub secret: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryPage {
    pub deliveries: Vec<DeliveryView>,
    #[serde(flatten)]
    pub page: Page,
}

/// An event that was not received yet, or never.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryView {
    /// What the event's `id` is.
    pub sid: String,
    pub event: &'static str,
    pub call_sid: String,
    pub recording_sid: Option<String>,
    /// `waiting`, or `failed` for good.
    pub status: &'static str,
    pub created_at: String,
    pub attempts: u32,
    pub next_attempt_at: Option<String>,
    pub given_up_at: Option<String>,
    /// Why the last attempt failed, as `status_503`, `timeout`, `tls`,
    /// `address_not_allowed` or `refused_country`.
    pub failure: Option<String>,
}

impl WebhookView {
    fn new(hook: &Webhook) -> Self {
        let uri = format!("{}/Webhooks/{}", account_uri(hook.account), hook.sid);
        Self {
            sid: hook.sid.to_string(),
            account_sid: hook.account.to_string(),
            url: hook.url.expose().clone(),
            events: hook.events.iter().map(|event| event.name()).collect(),
            country: hook.country.to_string(),
            created_at: hook.created_at.to_string(),
            delivered: hook.delivered,
            dropped: hook.dropped,
            secret: None,
            subresource_uris: WebhookUris { deliveries: format!("{uri}/Deliveries.json") },
            uri: format!("{uri}.json"),
        }
    }
}

impl DeliveryView {
    fn new(delivery: &Delivery) -> Self {
        Self {
            sid: delivery.sid.to_string(),
            event: delivery.event.name(),
            call_sid: delivery.call.to_string(),
            recording_sid: delivery.recording.map(|sid| sid.to_string()),
            status: if delivery.next_at.is_some() { "waiting" } else { "failed" },
            created_at: delivery.created_at.to_string(),
            attempts: delivery.attempts,
            next_attempt_at: rfc3339(delivery.next_at),
            given_up_at: rfc3339(delivery.given_up_at),
            failure: delivery.failure.clone(),
        }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (page_size, query) = list_query(&input)?;
    let mut hooks = app.store.webhook_page(input.account()?, &query).await?;
    let token = |last: &Webhook| cursor::write(last.created_at, last.sid);
    let page = page_of(&input, page_size, &mut hooks, token);
    Reply::json(&WebhookPage { webhooks: hooks.iter().map(WebhookView::new).collect(), page })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let hook = app.store.webhook_find(input.account()?, input.sid("webhook")?).await?;
    Reply::json(&WebhookView::new(&hook))
}

pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: WebhookNew = input.fields()?;
    let endpoint =
        Endpoint::parse(&new.url).map_err(|error| Problem::invalid("url", error.to_string()))?;
    if !app.webhooks.may_reach(&endpoint) {
        return Err(Problem::invalid("url", "this address is not public, and not sent to"));
    }
    let event = |name: &String| {
        name.parse::<HookEvent>().map_err(|error| Problem::invalid("events", error))
    };
    let wanted = "wanted a country code of ISO 3166-1, as IE";
    let country: Jurisdiction =
        new.country.parse().map_err(|_| Problem::invalid("country", wanted))?;
    let made = new.secret.is_none();
    let new = NewWebhook {
        url: Personal::new(new.url),
        secret: new.secret.map(Secret::new),
        events: new.events.texts().iter().map(event).collect::<Result<_, _>>()?,
        country,
    };
    let hook = app.store.webhook_create(input.account()?, &new).await?;
    let secret = made.then(|| hook.secret.expose().clone());
    let view = WebhookView { secret, ..WebhookView::new(&hook) };
    Reply::created(&view, &view.uri)
}

/// With all that waits for it.
pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    app.store.webhook_remove(input.account()?, input.sid("webhook")?).await?;
    Ok(Reply::nothing())
}

/// The newest first.
pub async fn deliveries(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (account, hook): (_, WebhookSid) = (input.account()?, input.sid("webhook")?);
    let given_up = match input.query.text("Status") {
        None => None,
        Some("waiting") => Some(false),
        Some("failed") => Some(true),
        Some(_) => return Err(Problem::invalid("Status", "wanted waiting or failed")),
    };
    app.store.webhook_find(account, hook).await?;
    let (page_size, query) = list_query::<EventSid>(&input)?;
    let mut found = app.store.delivery_page(account, hook, given_up, &query).await?;
    let token = |last: &Delivery| cursor::write(last.created_at, last.sid);
    let page = page_of(&input, page_size, &mut found, token);
    Reply::json(&DeliveryPage { deliveries: found.iter().map(DeliveryView::new).collect(), page })
}
