//! Events become rows: each once, a batch in one transaction.
//!
//! A call's row remembers the next sequence it waits for, so an event that is
//! shipped again after a crash is known by its number.

#[cfg(test)]
mod cost;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use landline_call::record::{CallEvent, Cause, Closed, LegClosed, LegOpened, Opened, Party, Step};
use landline_region::catalogue::sealed::{
    INDEX_PARTY, SEALED_CALL_KEY, SEALED_CALLEE, SEALED_CALLER, SEALED_SIP_CALL_ID,
};
use landline_region::{
    AccountSid, CallSid, JoinToken, LegSid, RegionCode, UnixMillis, VoicemailSid,
};
use sqlx::AssertSqlSafe;

use crate::call::Applied;
use crate::chain;
use crate::delivery::{self, Happened};
use crate::error::{Result, StoreError};
use crate::recording;
use crate::seal::{self, Sealer};
use crate::sql::{Row, Tx, Value, values};
use crate::store::{Store, now};
use crate::voicemail;
use crate::webhook::HookEvent;

const CALL_COLUMNS: &[&str] = &[
    "sid",
    "account",
    "direction",
    "party_from",
    "party_to",
    "from_index",
    "to_index",
    "opened_at",
    "home_region",
    "signalling_region",
    "storage_region",
    "proxy",
    "key_id",
    "contracting_entity",
    "recording",
    "consent_by_policy",
    "consent_granted_at",
];

/// What changes after the opening; the row's key first.
const PROGRESS_COLUMNS: &[&str] = &[
    "sid",
    "ringing_at",
    "answered_at",
    "answered_leg",
    "closed_at",
    "last_at",
    "next_sequence",
    "sip_status",
    "cause",
    "hung_up_by",
    "relay_id",
    "media_region",
    "retention_until",
    "join_token",
];

const LEG_COLUMNS: &[&str] = &[
    "sid",
    "call",
    "account",
    "role",
    "party_user",
    "party_trunk",
    "party_region",
    "sip_call_id",
    "media",
    "opened_at",
];

const LEG_CLOSED_COLUMNS: &[&str] = &[
    "sid",
    "closed_at",
    "sip_status",
    "codec",
    "mos_x100",
    "received_packets",
    "received_lost",
    "received_jitter_us",
    "sent_packets",
    "sent_lost",
    "sent_jitter_us",
    "stats",
];

/// A call as far as this batch knows it.
struct Progress {
    account: AccountSid,
    /// Opens when a leg must be sealed.
    sealer: Option<Arc<Sealer>>,
    next_sequence: u32,
    last_at: UnixMillis,
    ringing_at: Option<UnixMillis>,
    answered: Option<(UnixMillis, LegSid)>,
    closed: Option<(UnixMillis, Closed)>,
    join: Option<JoinToken>,
    /// By this batch or before it.
    is_closed: bool,
    /// Closed for a proxy that was taken for dead.
    is_lost: bool,
    /// The row's first columns, where this batch opens the call.
    opening: Option<Vec<Value>>,
    changed: bool,
}

impl Progress {
    /// Of a call that this event opens.
    fn begun(event: &CallEvent, sealer: Option<Arc<Sealer>>, opening: Vec<Value>) -> Self {
        Self {
            account: event.account,
            sealer,
            next_sequence: event.sequence + 1,
            last_at: event.at,
            ringing_at: None,
            answered: None,
            closed: None,
            join: None,
            is_closed: false,
            is_lost: false,
            opening: Some(opening),
            changed: true,
        }
    }

    /// Whether it tells of what came after the call was given up: a number
    /// that its end as lost took, or a later one.
    fn is_late(&self, event: &CallEvent) -> bool {
        let is_lost = |closed: &Closed| closed.cause == Cause::Lost;
        self.is_lost
            && event.sequence.saturating_add(1) >= self.next_sequence
            && !matches!(&event.step, Step::Closed(closed) if is_lost(closed))
    }
}

#[derive(Default)]
struct Batch {
    calls: HashMap<CallSid, Progress>,
    /// In the order of their closing.
    closed: Vec<CallSid>,
    keys: Vec<Vec<Value>>,
    legs: Vec<Vec<Value>>,
    legs_closed: Vec<Vec<Value>>,
    /// Rare: a phone of the account that is in another region.
    edges: Vec<(CallSid, LegSid, RegionCode)>,
    /// Legs that are rung in somebody's stead, as the column has it.
    diverted: Vec<(CallSid, LegSid, String)>,
    /// Moves to other relays, as the column has them.
    moves: Vec<(CallSid, String)>,
    /// Calls that other proxies have by now.
    taken_over: Vec<(CallSid, String)>,
    /// Messages that callers leave, and those that were none.
    begun: Vec<voicemail::Begun>,
    dropped: Vec<(VoicemailSid, UnixMillis)>,
    /// Those that their owner has heard or removed by phone.
    listened: Vec<(AccountSid, VoicemailSid, UnixMillis, bool)>,
    /// Calls that were closed as lost before their messages were told of.
    late_messages: Vec<CallSid>,
    /// What webhooks may want to be told.
    happened: Vec<Happened>,
    applied: Applied,
}

impl Store {
    /// Writes events down, each once by `(call, sequence)`; events of one call
    /// come in the order of their sequence. All are written, or none.
    pub async fn apply_events(&self, events: &[CallEvent]) -> Result<Applied> {
        for event in events {
            self.check_event(event)?;
        }
        let sealers = self.sealers_of(events).await?;
        let mut tx = self.database().begin().await?;
        let mut batch =
            Batch { calls: self.known_calls(&mut tx, events).await?, ..Batch::default() };
        for event in events {
            batch.take(self, event, &sealers)?;
        }
        let applied = std::mem::take(&mut batch.applied);
        batch.write(self, &mut tx).await?;
        tx.commit().await?;
        let counts = &self.inner.counts;
        counts.events_applied.fetch_add(applied.applied as u64, Relaxed);
        counts.events_duplicate.fetch_add(applied.duplicates as u64, Relaxed);
        counts.events_orphaned.fetch_add(applied.orphans as u64, Relaxed);
        Ok(applied)
    }

    /// Refuses and counts an event that opens a call of another region.
    pub(crate) fn check_event(&self, event: &CallEvent) -> Result<()> {
        match &event.step {
            Step::Opened(opened) => {
                self.check_home(&format!("call {}", event.call), opened.home_region)
            }
            _ => Ok(()),
        }
    }

    /// Read before the transaction begins, which would otherwise hold one
    /// connection while it waits for another.
    async fn sealers_of(&self, events: &[CallEvent]) -> Result<HashMap<AccountSid, Arc<Sealer>>> {
        let mut sealers = HashMap::new();
        for event in events {
            if sealers.contains_key(&event.account) {
                continue;
            }
            match self.account_sealer(event.account).await {
                Ok(sealer) => drop(sealers.insert(event.account, sealer)),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sealers)
    }

    async fn known_calls(
        &self,
        tx: &mut Tx,
        events: &[CallEvent],
    ) -> Result<HashMap<CallSid, Progress>> {
        let mut sids: Vec<String> = events.iter().map(|event| event.call.to_string()).collect();
        sids.sort_unstable();
        sids.dedup();
        let lock =
            if self.database().is_postgres() { "ORDER BY c.sid FOR UPDATE OF c" } else { "" };
        let select = format!(
            "SELECT c.sid, c.account, c.key_id, c.next_sequence, c.last_at, c.ringing_at, \
             c.answered_at, c.answered_leg, c.closed_at, c.cause, c.join_token, k.wrapped FROM call c \
             LEFT JOIN call_key k ON k.key_id = c.key_id WHERE {} {lock}",
            self.database().among("c.sid", 1)
        );
        let rows = tx.rows(AssertSqlSafe(select), values![sids]).await?;
        let mut calls = HashMap::with_capacity(rows.len());
        for row in &rows {
            calls.insert(row.parse("sid")?, self.progress_of(row)?);
        }
        Ok(calls)
    }

    fn progress_of(&self, row: &Row) -> Result<Progress> {
        let account = row.parse("account")?;
        let key_id = row.text("key_id")?;
        let wrapped = row.bytes_or_null("wrapped")?.filter(|wrapped| !wrapped.is_empty());
        let sealer = match (self.cached_sealer(account), wrapped) {
            (Some(of_account), Some(wrapped)) => {
                Some(self.call_sealer(account, &of_account, &key_id, &wrapped)?)
            }
            _ => None,
        };
        let answered_at = row.time_or_null("answered_at")?;
        Ok(Progress {
            account,
            sealer: sealer.map(Arc::new),
            next_sequence: u32::try_from(row.int("next_sequence")?).unwrap_or(u32::MAX),
            last_at: row.time("last_at")?,
            ringing_at: row.time_or_null("ringing_at")?,
            answered: answered_at.zip(row.parse_or_null("answered_leg")?),
            closed: None,
            join: row.parse_or_null("join_token")?,
            is_closed: row.int_or_null("closed_at")?.is_some(),
            is_lost: row.text_or_null("cause")?.as_deref() == Some(Cause::Lost.name()),
            opening: None,
            changed: false,
        })
    }

    /// Opens a call's key and gives what seals with it.
    pub(crate) fn call_sealer(
        &self,
        account: AccountSid,
        of_account: &Sealer,
        key_id: &str,
        wrapped: &[u8],
    ) -> Result<Sealer> {
        let key =
            crate::store::key_bytes(account, of_account.open(&SEALED_CALL_KEY, key_id, wrapped)?)?;
        Ok(Sealer::new(&key, self.region(), account))
    }

    /// Makes a key for a call or its recording: its name, what seals with it,
    /// and its row.
    pub(crate) fn new_call_key(
        &self,
        call: CallSid,
        account: AccountSid,
        of_account: &Sealer,
    ) -> (String, Sealer, Vec<Value>) {
        let key_id = format!("KY{}", hex::encode(seal::random::<16>()));
        let key = seal::random_key();
        let wrapped = of_account.seal(&SEALED_CALL_KEY, &key_id, &key[..]);
        let row = values![key_id.as_str(), call, account, wrapped, now()];
        (key_id, Sealer::new(&key, self.region(), account), row)
    }
}

pub(crate) const KEY_COLUMNS: &[&str] = &["key_id", "call", "account", "wrapped", "created_at"];

impl Batch {
    fn take(
        &mut self,
        store: &Store,
        event: &CallEvent,
        sealers: &HashMap<AccountSid, Arc<Sealer>>,
    ) -> Result<()> {
        if let Step::Opened(opened) = &event.step
            && !self.calls.contains_key(&event.call)
        {
            match sealers.get(&event.account) {
                Some(sealer) => self.open(store, event, opened, sealer),
                None => self.applied.orphans += 1,
            }
            return Ok(());
        }
        let Some(call) = self.calls.get_mut(&event.call) else {
            self.applied.orphans += 1;
            return Ok(());
        };
        if call.is_late(event) {
            match self.message(event) {
                // What somebody said to a mailbox is no part of the record.
                true => {
                    self.applied.applied += 1;
                    self.late_messages.push(event.call);
                }
                false => self.applied.late.push(event.clone()),
            }
            return Ok(());
        }
        if event.sequence < call.next_sequence {
            self.applied.duplicates += 1;
            return Ok(());
        }
        if call.is_closed {
            self.applied.orphans += 1;
            return Ok(());
        }
        call.changed = true;
        call.next_sequence = event.sequence + 1;
        call.last_at = call.last_at.max(event.at);
        self.applied.applied += 1;
        match &event.step {
            Step::Opened(_) => {}
            Step::Joined(join) => call.join = Some(*join),
            Step::LegByEdge { leg, edge } => self.edges.push((event.call, *leg, *edge)),
            Step::LegDiverted { leg, by, reason } => {
                self.diverted.push((event.call, *leg, format!("{by} {reason}")));
            }
            Step::Moved { from, to } => {
                self.moves.push((event.call, format!("{} {from} {to}", event.at.0)));
            }
            Step::TakenOver { proxy } => self.taken_over.push((event.call, proxy.clone())),
            Step::MessageBegun { .. }
            | Step::MessageDropped { .. }
            | Step::MessageHeard { .. }
            | Step::MessageRemoved { .. } => drop(self.message(event)),
            Step::Ringing => {
                if call.ringing_at.is_none() {
                    call.ringing_at = Some(event.at);
                    self.happened.push(happened(event, HookEvent::CallRinging));
                }
            }
            Step::Answered { leg } => {
                if call.answered.is_none() {
                    call.answered = Some((event.at, *leg));
                    self.happened.push(happened(event, HookEvent::CallAnswered));
                }
            }
            Step::LegOpened(leg) => self.legs.push(leg_row(event, leg, call)?),
            Step::LegClosed(leg) => self.legs_closed.push(leg_closed_row(event.at, leg)),
            Step::Closed(closed) => {
                call.is_closed = true;
                call.is_lost = closed.cause == Cause::Lost;
                call.closed = Some((event.at, closed.clone()));
                self.closed.push(event.call);
                self.happened.push(happened(event, HookEvent::CallEnded));
            }
        }
        Ok(())
    }

    /// False where the event tells of none.
    fn message(&mut self, event: &CallEvent) -> bool {
        match &event.step {
            Step::MessageBegun { message, user, recording } => self.begun.push(voicemail::Begun {
                sid: *message,
                account: event.account,
                user: *user,
                call: event.call,
                recording: *recording,
                at: event.at,
            }),
            Step::MessageDropped { message } => self.dropped.push((*message, event.at)),
            Step::MessageHeard { message } => {
                self.listened.push((event.account, *message, event.at, false));
            }
            Step::MessageRemoved { message } => {
                self.listened.push((event.account, *message, event.at, true));
            }
            _ => return false,
        }
        true
    }

    fn open(&mut self, store: &Store, event: &CallEvent, opened: &Opened, of_account: &Sealer) {
        let (key_id, sealer, key_row) = store.new_call_key(event.call, event.account, of_account);
        let (sid, account) = (event.call.to_string(), event.account.to_string());
        let (from, to) = (opened.from.expose(), opened.to.expose());
        let consent = opened.recording.map(|(_, consent)| consent);
        let opening = values![
            event.call,
            event.account,
            opened.direction.name(),
            sealer.seal(&SEALED_CALLER, &sid, from.as_bytes()),
            sealer.seal(&SEALED_CALLEE, &sid, to.as_bytes()),
            store.keys().index(&INDEX_PARTY, &account, from),
            store.keys().index(&INDEX_PARTY, &account, to),
            event.at,
            opened.home_region,
            opened.signalling_region,
            store.region(),
            opened.proxy.as_str(),
            key_id.as_str(),
            opened.contracting_entity.as_str(),
            opened.recording.map(|(sid, _)| sid),
            consent.map(|consent| consent.by_policy),
            consent.map(|consent| consent.granted_at),
        ];
        self.keys.push(key_row);
        self.happened.push(happened(event, HookEvent::CallStarted));
        self.applied.applied += 1;
        let progress = Progress::begun(event, Some(Arc::new(sealer)), opening);
        self.calls.insert(event.call, progress);
    }

    async fn write(self, store: &Store, tx: &mut Tx) -> Result<()> {
        let closed = self.write_rows(store, tx).await?;
        match closed.is_empty() {
            true => Ok(()),
            false => chain::extend(tx, store.database(), &closed).await,
        }
    }

    /// The calls that were closed, in the order of their closing: not chained yet.
    async fn write_rows(self, store: &Store, tx: &mut Tx) -> Result<Vec<CallSid>> {
        let (mut fresh, mut changed) = (Vec::new(), Vec::new());
        for (sid, mut call) in self.calls {
            if !call.changed {
                continue;
            }
            let opening = call.opening.take();
            let progress = progress_row(sid, &call, store);
            match opening {
                Some(mut row) => {
                    row.extend(progress.into_iter().skip(1));
                    fresh.push(row);
                }
                None => changed.push(progress),
            }
        }
        let columns: Vec<&str> =
            CALL_COLUMNS.iter().chain(&PROGRESS_COLUMNS[1..]).copied().collect();
        tx.insert_many("call_key", KEY_COLUMNS, "", self.keys).await?;
        tx.insert_many("call", &columns, "", fresh).await?;
        tx.update_many("call", 1, PROGRESS_COLUMNS, changed).await?;
        tx.insert_many("call_leg", LEG_COLUMNS, "ON CONFLICT (sid) DO NOTHING", self.legs).await?;
        tx.update_many("call_leg", 1, LEG_CLOSED_COLUMNS, self.legs_closed).await?;
        for (call, leg, edge) in self.edges {
            // After those of a batch before, apart from them by a space.
            let update = "UPDATE call_leg SET edge_regions = COALESCE(edge_regions || ' ', '') \
                          || $3 WHERE sid = $1 AND call = $2";
            tx.execute(update, values![leg, call, edge]).await?;
        }
        for (call, leg, diverted) in self.diverted {
            let update = "UPDATE call_leg SET diverted = $3 WHERE sid = $1 AND call = $2";
            tx.execute(update, values![leg, call, diverted]).await?;
        }
        for (call, moved) in self.moves {
            let update = "UPDATE call SET moves = COALESCE(moves || ';', '') || $2 WHERE sid = $1";
            tx.execute(update, values![call, moved]).await?;
        }
        for (call, proxy) in self.taken_over {
            tx.execute("UPDATE call SET proxy = $2 WHERE sid = $1", values![call, proxy]).await?;
        }
        for begun in &self.begun {
            voicemail::begin(tx, begun).await?;
        }
        for (message, at) in self.dropped {
            voicemail::drop_message(tx, message, at).await?;
        }
        for (account, message, at, is_removed) in self.listened {
            voicemail::listened(tx, account, message, at, is_removed).await?;
        }
        let over = self.closed.iter().chain(&self.late_messages);
        voicemail::finish(tx, store.database(), over.map(CallSid::to_string).collect()).await?;
        delivery::enqueue(tx, store.database(), &self.happened).await?;
        if !self.closed.is_empty() {
            close_legs(store, tx, &self.closed).await?;
            let closed = self.closed.iter().map(CallSid::to_string).collect();
            let stored = recording::whole(tx, store.database(), "call", closed).await?;
            delivery::enqueue(tx, store.database(), &stored).await?;
        }
        Ok(self.closed)
    }
}

fn happened(event: &CallEvent, what: HookEvent) -> Happened {
    Happened { account: event.account, event: what, call: event.call, recording: None }
}

/// A leg that reported no end of its own ended with its call.
async fn close_legs(store: &Store, tx: &mut Tx, closed: &[CallSid]) -> Result<()> {
    let update = format!(
        "UPDATE call_leg SET closed_at = (SELECT c.closed_at FROM call c WHERE c.sid = call) \
         WHERE closed_at IS NULL AND {}",
        store.database().among("call", 1)
    );
    let sids: Vec<String> = closed.iter().map(CallSid::to_string).collect();
    tx.execute(AssertSqlSafe(update), values![sids]).await.map(drop)
}

fn progress_row(sid: CallSid, call: &Progress, store: &Store) -> Vec<Value> {
    let closed = call.closed.as_ref();
    let end = closed.map(|(at, _)| *at);
    let closed = closed.map(|(_, closed)| closed);
    values![
        sid,
        call.ringing_at,
        call.answered.map(|(at, _)| at),
        call.answered.map(|(_, leg)| leg),
        end,
        call.last_at,
        call.next_sequence,
        closed.map(|closed| closed.sip_status),
        closed.map(|closed| closed.cause.name()),
        closed.map(|closed| closed.cause.hung_up_by().name()),
        closed.and_then(|closed| closed.relay.as_ref()).map(|relay| relay.0.clone()),
        closed.and_then(|closed| closed.media_region),
        end.map(|end| end.plus(store.inner.retention)),
        call.join,
    ]
}

fn leg_row(event: &CallEvent, leg: &LegOpened, call: &Progress) -> Result<Vec<Value>> {
    let sealer = call
        .sealer
        .as_ref()
        .ok_or_else(|| StoreError::KeyDestroyed { what: "call_key", account: call.account })?;
    let (user, trunk, region) = match leg.party {
        Party::User(user) => (Some(user), None, None),
        Party::Trunk(trunk) => (None, Some(trunk), None),
        Party::Region(region) => (None, None, Some(region)),
        Party::Unknown => (None, None, None),
    };
    let sip_call_id = leg.sip_call_id.expose().as_bytes();
    Ok(values![
        leg.leg,
        event.call,
        event.account,
        leg.role.name(),
        user,
        trunk,
        region,
        sealer.seal(&SEALED_SIP_CALL_ID, &leg.leg.to_string(), sip_call_id),
        leg.media.map(landline_control::Protocol::name),
        event.at,
    ])
}

/// The name comes out of a peer's SDP: what no database column takes, a NUL
/// above all, must not hold up the ledger.
fn codec_name(codec: &str) -> String {
    codec.chars().filter(char::is_ascii_graphic).take(32).collect()
}

fn leg_closed_row(at: UnixMillis, leg: &LegClosed) -> Vec<Value> {
    let stats = leg.stats.as_ref();
    let received = stats.map(|stats| stats.received);
    let sent = stats.map(|stats| stats.sent);
    values![
        leg.leg,
        at,
        leg.sip_status,
        stats.and_then(|stats| stats.codec.as_deref()).map(codec_name),
        stats.and_then(|stats| stats.mos_x100),
        received.map(|stream| stream.packets),
        received.map(|stream| stream.lost),
        received.map(|stream| stream.jitter_us),
        sent.map(|stream| stream.packets),
        sent.map(|stream| stream.lost),
        sent.map(|stream| stream.jitter_us),
        stats.and_then(|stats| postcard::to_stdvec(stats).ok()),
    ]
}
