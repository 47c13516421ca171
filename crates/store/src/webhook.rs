//! Webhooks: where an account of this region wants to be told of events.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landline_region::catalogue::sealed::{SEALED_WEBHOOK_SECRET, SEALED_WEBHOOK_URL};
use landline_region::{AccountSid, Jurisdiction, Personal, Secret, UnixMillis, WebhookSid};

use crate::error::{Result, StoreError};
use crate::list::ListQuery;
use crate::seal;
use crate::sql::{Row, values};
use crate::store::{Store, entropy, now};

/// What an account can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookEvent {
    CallStarted,
    CallRinging,
    CallAnswered,
    CallEnded,
    RecordingStored,
}

impl HookEvent {
    pub const ALL: [Self; 5] = [
        Self::CallStarted,
        Self::CallRinging,
        Self::CallAnswered,
        Self::CallEnded,
        Self::RecordingStored,
    ];
    pub const NAMES: [&'static str; 5] =
        ["call.started", "call.ringing", "call.answered", "call.ended", "recording.stored"];

    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HookEvent {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|event| event.name() == text).ok_or_else(|| {
            let found: String = text.chars().take(32).collect();
            format!("`{found}` is none of {}", Self::NAMES.join(", "))
        })
    }
}

#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Checked by who takes it from the account: `https`, with a host.
    pub url: Personal<String>,
    /// `None`: one is made.
    pub secret: Option<Secret<String>>,
    pub events: Vec<HookEvent>,
    /// Where the account says that the address is.
    pub country: Jurisdiction,
}

#[derive(Debug, Clone)]
pub struct Webhook {
    pub sid: WebhookSid,
    pub account: AccountSid,
    pub url: Personal<String>,
    pub secret: Secret<String>,
    pub events: Vec<HookEvent>,
    pub country: Jurisdiction,
    pub created_at: UnixMillis,
    /// Events that were received.
    pub delivered: u64,
    /// Events that were not queued because too many were waiting.
    pub dropped: u64,
}

/// An account has no more webhooks than this.
const MAX_WEBHOOKS: i64 = 10;

impl Store {
    pub async fn webhook_create(&self, account: AccountSid, new: &NewWebhook) -> Result<Webhook> {
        let sealer = self.account_sealer(account).await?;
        let mut events = new.events.clone();
        events.sort_unstable();
        events.dedup();
        if events.is_empty() {
            let problem = format!("wanted some of {}", HookEvent::NAMES.join(", "));
            return Err(StoreError::Invalid { field: "events", problem });
        }
        let secret = match &new.secret {
            Some(given) => checked_secret(given)?,
            None => Secret::new(format!("whsec_{}", URL_SAFE_NO_PAD.encode(seal::random::<32>()))),
        };
        let hook = Webhook {
            sid: WebhookSid::new(&mut entropy()),
            account,
            url: new.url.clone(),
            secret,
            events,
            country: new.country,
            created_at: now(),
            delivered: 0,
            dropped: 0,
        };
        let sid = hook.sid.to_string();
        let names: Vec<&str> = hook.events.iter().map(|event| event.name()).collect();
        let mut tx = self.database().begin().await?;
        let count = "SELECT COUNT(*) AS hooks FROM webhook WHERE account = $1";
        let row = tx.row(count, values![account]).await?;
        if row.map_or(Ok(0), |row| row.int("hooks"))? >= MAX_WEBHOOKS {
            return Err(StoreError::InUse {
                what: format!("every webhook that account {account} may have"),
                next: format!("there are {MAX_WEBHOOKS}; remove one first"),
            });
        }
        tx.execute(
            "INSERT INTO webhook (sid, account, url, secret, events, country, created_at, \
             delivered, dropped) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0)",
            values![
                hook.sid,
                account,
                sealer.seal(&SEALED_WEBHOOK_URL, &sid, hook.url.expose().as_bytes()),
                sealer.seal(&SEALED_WEBHOOK_SECRET, &sid, hook.secret.expose().as_bytes()),
                names.join(" "),
                hook.country.to_string(),
                hook.created_at,
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(hook)
    }

    pub async fn webhook_page(
        &self,
        account: AccountSid,
        query: &ListQuery<WebhookSid>,
    ) -> Result<Vec<Webhook>> {
        let last = query.after.map(|(at, sid)| (at, sid.into()));
        let hooks = "SELECT * FROM webhook";
        let rows = self.page(hooks, "", "sid", account, last, query.limit).await?;
        let mut hooks = Vec::with_capacity(rows.len());
        for row in &rows {
            hooks.push(self.webhook_of(row).await?);
        }
        Ok(hooks)
    }

    pub async fn webhook_find(&self, account: AccountSid, hook: WebhookSid) -> Result<Webhook> {
        let select = "SELECT * FROM webhook WHERE sid = $1 AND account = $2";
        let row = self.database().row(select, values![hook, account]).await?;
        self.webhook_of(&row.ok_or_else(|| unknown(account, hook))?).await
    }

    /// With all that waits for it.
    pub async fn webhook_remove(&self, account: AccountSid, hook: WebhookSid) -> Result<()> {
        let mut tx = self.database().begin().await?;
        let delete = "DELETE FROM webhook_delivery WHERE webhook = $1 AND account = $2";
        tx.execute(delete, values![hook, account]).await?;
        let delete = "DELETE FROM webhook WHERE sid = $1 AND account = $2";
        if tx.execute(delete, values![hook, account]).await? == 0 {
            return Err(unknown(account, hook));
        }
        tx.commit().await
    }

    async fn webhook_of(&self, row: &Row) -> Result<Webhook> {
        let (sid, account): (WebhookSid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let sealer = self.account_sealer(account).await?;
        let name = sid.to_string();
        let url = sealer.open_text(&SEALED_WEBHOOK_URL, &name, &row.bytes("url")?)?;
        let secret = sealer.open_text(&SEALED_WEBHOOK_SECRET, &name, &row.bytes("secret")?)?;
        Ok(Webhook {
            sid,
            account,
            url: Personal::new(url),
            secret: Secret::new(secret),
            events: events_of(&row.text("events")?),
            country: row.parse("country")?,
            created_at: row.time("created_at")?,
            delivered: row.unsigned("delivered")?,
            dropped: row.unsigned("dropped")?,
        })
    }
}

/// What a later version may have written beside is left out.
pub(crate) fn events_of(text: &str) -> Vec<HookEvent> {
    text.split(' ').filter_map(|name| name.parse().ok()).collect()
}

fn checked_secret(secret: &Secret<String>) -> Result<Secret<String>> {
    let text = secret.expose();
    if (24..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(secret.clone());
    }
    let problem = "wanted 24 to 128 visible ASCII characters".to_owned();
    Err(StoreError::Invalid { field: "secret", problem })
}

fn unknown(account: AccountSid, hook: WebhookSid) -> StoreError {
    StoreError::NotFound {
        what: format!("webhook {hook} in account {account}"),
        next: "the list of webhooks shows those there are".to_owned(),
    }
}
