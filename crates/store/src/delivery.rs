//! Events on their way to webhooks: queued in the transaction of the change
//! they tell of, taken by whoever sends them, and kept until they were
//! received or given up.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use landline_call::record::{CallDirection, Cause};
use landline_region::catalogue::fields::{CALLEE, CALLER};
use landline_region::{
    AccountSid, CallSid, EventSid, Personal, RecordingSid, Token, UnixMillis, WebhookSid,
};
use sqlx::AssertSqlSafe;

use crate::call::MAX_LIMIT;
use crate::error::{Result, StoreError};
use crate::list::ListQuery;
use crate::sql::{Database, Row, Tx, Value, values};
use crate::store::{Store, now};
use crate::webhook::{HookEvent, events_of};

/// A webhook for which so many events wait gets no more: they are dropped, and
/// counted in its row.
const MAX_WAITING: i64 = 10_000;

/// Something that a webhook may want to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happened {
    pub account: AccountSid,
    pub event: HookEvent,
    pub call: CallSid,
    pub recording: Option<RecordingSid>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub sid: EventSid,
    pub webhook: WebhookSid,
    pub account: AccountSid,
    pub event: HookEvent,
    pub call: CallSid,
    pub recording: Option<RecordingSid>,
    pub created_at: UnixMillis,
    /// Begun so far, the present one included.
    pub attempts: u32,
    /// `None`: given up.
    pub next_at: Option<UnixMillis>,
    pub given_up_at: Option<UnixMillis>,
    /// Why the last attempt failed: words from a closed set, nothing of the
    /// receiver's.
    pub failure: Option<String>,
}

/// What an event tells: no time, number or name.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub direction: CallDirection,
    /// Stand for the parties, equal for equal ones within the account.
    pub from: Option<Token>,
    pub to: Option<Token>,
    /// Of a call that has ended.
    pub cause: Option<Cause>,
    pub sip_status: Option<u16>,
}

const COLUMNS: &[&str] = &[
    "sid",
    "webhook",
    "account",
    "event",
    "call",
    "recording",
    "created_at",
    "attempts",
    "next_at",
];

/// Queues what the webhooks of the accounts want to be told. Done again it
/// changes nothing: an event has one sid for each webhook.
pub(crate) async fn enqueue(tx: &mut Tx, database: &Database, happened: &[Happened]) -> Result<()> {
    if happened.is_empty() {
        return Ok(());
    }
    let accounts: BTreeSet<String> = happened.iter().map(|it| it.account.to_string()).collect();
    let select = format!(
        "SELECT w.sid, w.account, w.events, (SELECT COUNT(*) FROM webhook_delivery d \
         WHERE d.webhook = w.sid AND d.next_at IS NOT NULL) AS waiting FROM webhook w WHERE {} \
         ORDER BY w.sid",
        database.among("w.account", 1)
    );
    let accounts: Vec<String> = accounts.into_iter().collect();
    let (at, mut queued) = (now(), Vec::new());
    for row in tx.rows(AssertSqlSafe(select), values![accounts]).await? {
        let (hook, account): (WebhookSid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let events = events_of(&row.text("events")?);
        let free = usize::try_from(MAX_WAITING - row.int("waiting")?).unwrap_or(0);
        let wanted = |it: &&Happened| it.account == account && events.contains(&it.event);
        let wanted: Vec<&Happened> = happened.iter().filter(wanted).collect();
        let dropped = wanted.len().saturating_sub(free);
        queued.extend(wanted.into_iter().take(free).map(|it| queued_row(hook, it, at)));
        if dropped > 0 {
            let update = "UPDATE webhook SET dropped = dropped + $2 WHERE sid = $1";
            tx.execute(update, values![hook, dropped as u64]).await?;
            tracing::warn!(webhook = %hook, dropped, "too many events wait for a webhook");
        }
    }
    tx.insert_many("webhook_delivery", COLUMNS, "ON CONFLICT DO NOTHING", queued).await.map(drop)
}

fn queued_row(hook: WebhookSid, it: &Happened, at: UnixMillis) -> Vec<Value> {
    let (event, none) = (it.event.name(), 0_i64);
    values![event_sid(hook, it), hook, it.account, event, it.call, it.recording, at, none, at]
}

/// The same event has the same sid, however often it is written down.
fn event_sid(hook: WebhookSid, it: &Happened) -> EventSid {
    let recording = it.recording.map(|sid| sid.to_string()).unwrap_or_default();
    let text = format!("{hook}\0{}\0{}\0{recording}", it.event, it.call);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_ref()[..16]);
    EventSid::from_u128(u128::from_be_bytes(half))
}

impl Store {
    /// Takes what is due, the most overdue first, and leaves out accounts that
    /// are busy. Nobody else gets it before `lease`: whoever dies while sending
    /// leaves it to the next.
    pub async fn deliveries_claim(
        &self,
        lease: UnixMillis,
        busy: &[AccountSid],
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let busy: Vec<String> = busy.iter().map(AccountSid::to_string).collect();
        let select = format!(
            "SELECT * FROM webhook_delivery WHERE next_at <= $1 AND NOT ({}) \
             ORDER BY next_at, sid LIMIT {}",
            self.database().among("account", 2),
            limit.clamp(1, MAX_LIMIT)
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![now(), busy]).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut claimed = Vec::with_capacity(rows.len());
        let mut tx = self.database().begin().await?;
        for row in &rows {
            let mut delivery = delivery_of(row)?;
            let update = "UPDATE webhook_delivery SET next_at = $3, attempts = attempts + 1 \
                          WHERE sid = $1 AND next_at = $2";
            let values = values![delivery.sid, delivery.next_at, lease];
            if tx.execute(update, values).await? == 1 {
                delivery.attempts += 1;
                claimed.push(delivery);
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// It was received: nothing of it is kept but the count.
    pub async fn delivery_done(&self, delivery: &Delivery) -> Result<()> {
        let mut tx = self.database().begin().await?;
        let delete = "DELETE FROM webhook_delivery WHERE sid = $1";
        if tx.execute(delete, values![delivery.sid]).await? == 1 {
            let update = "UPDATE webhook SET delivered = delivered + 1 WHERE sid = $1";
            tx.execute(update, values![delivery.webhook]).await?;
        }
        tx.commit().await
    }

    /// It was not received, and is tried again at `next`, or never.
    pub async fn delivery_failed(
        &self,
        delivery: &Delivery,
        failure: &str,
        next: Option<UnixMillis>,
    ) -> Result<()> {
        let given_up = if next.is_none() { Some(now()) } else { None };
        let mut tx = self.database().begin().await?;
        let update = "UPDATE webhook_delivery SET failure = $2, next_at = $3, given_up_at = $4 \
                      WHERE sid = $1";
        tx.execute(update, values![delivery.sid, failure, next, given_up]).await?;
        tx.commit().await
    }

    /// Those of a webhook that wait, or that were given up, or both.
    pub async fn delivery_page(
        &self,
        account: AccountSid,
        hook: WebhookSid,
        given_up: Option<bool>,
        query: &ListQuery<EventSid>,
    ) -> Result<Vec<Delivery>> {
        let select = format!(
            "SELECT * FROM (SELECT * FROM webhook_delivery WHERE webhook = '{hook}' AND {}) AS d",
            match given_up {
                Some(true) => "next_at IS NULL",
                Some(false) => "next_at IS NOT NULL",
                None => "1 = 1",
            }
        );
        let last = query.after.map(|(at, sid)| (at, sid.into()));
        let rows = self.page(&select, "d.", "sid", account, last, query.limit).await?;
        rows.iter().map(delivery_of).collect()
    }

    /// Removes what was given up before `before`.
    pub async fn deliveries_expire(&self, before: UnixMillis) -> Result<u64> {
        let delete = "DELETE FROM webhook_delivery WHERE next_at IS NULL AND given_up_at < $1";
        self.database().execute(delete, values![before]).await
    }

    /// What the event tells, from the call's record; `None` where that is gone.
    pub async fn delivery_told(&self, delivery: &Delivery) -> Result<Option<Told>> {
        let (call, _) = match self.call_alone(delivery.call).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = self.pseudonym_key();
        // Of the account and no other: nobody can compare whom two accounts know.
        let token = |class, party: Option<&Personal<String>>| {
            party.map(|it| key.token(class, &format!("{}\0{}", delivery.account, it.expose())))
        };
        let ended = delivery.event == HookEvent::CallEnded;
        Ok(Some(Told {
            direction: call.direction,
            // One class for both: a party is the same on either side.
            from: token(CALLER.class, call.from.as_ref()),
            to: token(CALLEE.class, call.to.as_ref()),
            cause: call.cause.filter(|_| ended),
            sip_status: call.sip_status.filter(|_| ended),
        }))
    }
}

fn delivery_of(row: &Row) -> Result<Delivery> {
    Ok(Delivery {
        sid: row.parse("sid")?,
        webhook: row.parse("webhook")?,
        account: row.parse("account")?,
        event: row.parse("event")?,
        call: row.parse("call")?,
        recording: row.parse_or_null("recording")?,
        created_at: row.time("created_at")?,
        attempts: u32::try_from(row.int("attempts")?).unwrap_or(u32::MAX),
        next_at: row.time_or_null("next_at")?,
        given_up_at: row.time_or_null("given_up_at")?,
        failure: row.text_or_null("failure")?,
    })
}
