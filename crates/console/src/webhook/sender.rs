//! The task that takes what is due and sends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use landline_region::egress::{Destination, Flow};
use landline_region::{AccountSid, UnixMillis};
use landline_store::{Delivery, Store, StoreError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::WebhookConfig;
use super::client::{Client, Endpoint};
use super::event::{CARRIED, EventBody, signature};
use crate::metrics::Metrics;
use crate::time::wall_clock;
use crate::{RegionInfo, StartError};

/// Attempts at one time, of one account and in all.
const OF_ACCOUNT: usize = 4;
const AT_ONCE: usize = 32;
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Sends what the database's queue holds.
pub struct Sender {
    region: RegionInfo,
    store: Store,
    client: Client,
    config: WebhookConfig,
    metrics: Metrics,
}

/// What came of an attempt.
enum Outcome {
    Received,
    /// Tried again later, or given up when it is too old.
    Failed(String),
    /// No attempt is of use: given up at once.
    Refused(String),
    /// Its webhook is gone: there is nobody to tell.
    Moot,
}

impl Sender {
    pub fn new(
        region: RegionInfo,
        store: Store,
        config: WebhookConfig,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        Ok(Self { region, store, client: Client::new(&config)?, config, metrics })
    }

    /// Until it is dropped. What is under way then is taken up by the next
    /// sender when its lease is over.
    pub async fn run(self: Arc<Self>) {
        let mut under_way: JoinSet<AccountSid> = JoinSet::new();
        let mut accounts: HashMap<AccountSid, usize> = HashMap::new();
        loop {
            let before = under_way.len();
            while let Some(ended) = under_way.try_join_next() {
                if let Ok(account) = ended {
                    release(&mut accounts, account);
                }
            }
            if under_way.is_empty() {
                accounts.clear();
            }
            let taken = self.take(&mut under_way, &mut accounts).await;
            if taken == 0 && under_way.len() == before {
                sleep(self.config.look_again).await;
            } else {
                // What ends makes room; what fails comes back by itself.
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn take(
        self: &Arc<Self>,
        under_way: &mut JoinSet<AccountSid>,
        accounts: &mut HashMap<AccountSid, usize>,
    ) -> usize {
        let free = AT_ONCE.saturating_sub(under_way.len());
        if free == 0 {
            return 0;
        }
        let busy: Vec<AccountSid> =
            accounts.iter().filter(|(_, count)| **count >= OF_ACCOUNT).map(|(it, _)| *it).collect();
        let lease = wall_clock().plus(self.config.attempt + Duration::from_secs(20));
        let limit = u32::try_from(free.min(OF_ACCOUNT)).unwrap_or(1);
        let claimed = match self.store.deliveries_claim(lease, &busy, limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "events for webhooks wait");
                return 0;
            }
        };
        let count = claimed.len();
        for delivery in claimed {
            *accounts.entry(delivery.account).or_default() += 1;
            let sender = Arc::clone(self);
            under_way.spawn(async move {
                sender.deliver(&delivery).await;
                delivery.account
            });
        }
        count
    }

    async fn deliver(&self, delivery: &Delivery) {
        let outcome = match self.attempt(delivery).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // The lease's end brings it back.
                tracing::warn!(event = %delivery.sid, %error, "an event for a webhook waits");
                return self.metrics.webhook("failed");
            }
        };
        let written = match outcome {
            Outcome::Received => {
                self.metrics.webhook("delivered");
                self.store.delivery_done(delivery).await
            }
            Outcome::Moot => {
                self.metrics.webhook("moot");
                self.store.delivery_done(delivery).await
            }
            Outcome::Refused(why) => {
                self.metrics.webhook("refused");
                self.give_up(delivery, &why).await
            }
            Outcome::Failed(why) => {
                self.metrics.webhook("failed");
                match self.next(delivery) {
                    None => self.give_up(delivery, &why).await,
                    next => self.store.delivery_failed(delivery, &why, next).await,
                }
            }
        };
        if let Err(error) = written {
            tracing::warn!(event = %delivery.sid, %error, "what came of an event is not written down");
        }
    }

    async fn give_up(&self, delivery: &Delivery, why: &str) -> Result<(), StoreError> {
        self.metrics.webhook("given_up");
        tracing::warn!(webhook = %delivery.webhook, event = %delivery.sid, why, "an event is given up");
        self.store.delivery_failed(delivery, why, None).await
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<Outcome, StoreError> {
        let hook = match self.store.webhook_find(delivery.account, delivery.webhook).await {
            Ok(hook) => hook,
            Err(StoreError::NotFound { .. }) => return Ok(Outcome::Moot),
            Err(error) => return Err(error),
        };
        let to = Destination::Account(delivery.account, hook.country);
        if let Err(refused) = self.store.gate().decide(Flow::Webhook, &to, CARRIED) {
            return Ok(Outcome::Refused(format!("refused_{}", refused.reason())));
        }
        let Ok(endpoint) = Endpoint::parse(hook.url.expose()) else {
            return Ok(Outcome::Refused("url".to_owned()));
        };
        let Some(told) = self.store.delivery_told(delivery).await? else {
            // A recording may be in the database before its call's record is.
            return Ok(Outcome::Failed("no_record".to_owned()));
        };
        let body = EventBody::new(self.region.code, delivery, &told);
        let Ok(body) = serde_json::to_string(&body) else {
            return Ok(Outcome::Refused("body".to_owned()));
        };
        let signature = signature(hook.secret.expose(), wall_clock().0 / 1000, &body);
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("user-agent", format!("Landline/{}", env!("CARGO_PKG_VERSION"))),
            ("landline-event-id", delivery.sid.to_string()),
            ("landline-signature", signature),
        ];
        let sent = timeout(self.config.attempt, self.client.post(&endpoint, &headers, body)).await;
        Ok(match sent {
            Ok(Ok(())) => Outcome::Received,
            Ok(Err(failure)) => Outcome::Failed(failure.name()),
            Err(_) => Outcome::Failed(super::client::Failure::Timeout.name()),
        })
    }

    /// When to try again; `None` where the event is too old for that.
    fn next(&self, delivery: &Delivery) -> Option<UnixMillis> {
        let exponent = delivery.attempts.saturating_sub(1).min(16);
        let pause = self.config.first_pause.saturating_mul(4_u32.saturating_pow(exponent));
        let pause = pause.min(LONGEST_PAUSE);
        // Up to an eighth more, so that what failed together does not come
        // back together.
        let spread = pause.mul_f64(delivery.sid.as_u128() as u8 as f64 / 2048.0);
        let next = wall_clock().plus(pause + spread);
        (next < delivery.created_at.plus(self.config.give_up_after)).then_some(next)
    }

    /// Whether a URL may be sent to as far as it says itself.
    pub fn may_reach(&self, endpoint: &Endpoint) -> bool {
        endpoint.ip().is_none_or(|ip| self.client.may_reach(ip))
    }
}

fn release(accounts: &mut HashMap<AccountSid, usize>, account: AccountSid) {
    if let Some(count) = accounts.get_mut(&account) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            accounts.remove(&account);
        }
    }
}
