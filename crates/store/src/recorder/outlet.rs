//! The task that brings sealed chunks into the database, by way of the spool
//! while the database is away.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landline_control::{Consent, Recorded};
use landline_region::catalogue::sealed::SEALED_CALL_KEY;
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroize;

use super::Counts;
use super::spool::Spool;
use crate::apply::KEY_COLUMNS;
use crate::chunk::Chunk;
use crate::delivery;
use crate::error::{Result, StoreError};
use crate::recording::whole;
use crate::sql::{Tx, Value, values};
use crate::store::{Store, now};

/// Deliveries in one transaction.
const BATCH: usize = 64;
/// A database that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
pub enum Delivery {
    Start(Box<Start>),
    Chunk(Chunk),
    Finish(Finish),
    /// A further part of this recording, and which.
    Continue(Box<Start>, RecordingSid, u16),
}

#[derive(Serialize, Deserialize)]
pub struct Start {
    pub sid: RecordingSid,
    pub call: CallSid,
    pub account: AccountSid,
    pub consent: Consent,
    pub started_at: UnixMillis,
    pub key_id: String,
    /// Wrapped under the account's key on its way into the database; in the
    /// spool it lies under the spool's own seal.
    pub key: [u8; 32],
}

impl Drop for Start {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
pub struct Finish {
    pub recorded: Recorded,
    pub chunks: i64,
    pub duration_ms: u32,
    pub head: [u8; 32],
    pub finished_at: UnixMillis,
}

pub struct Outgoing {
    pub delivery: Delivery,
    /// To be told when the delivery is safe.
    pub reply: Option<(oneshot::Sender<Recorded>, Recorded)>,
}

/// The database cannot be reached now.
struct Away;

pub struct Outlet {
    store: Store,
    spool: Spool,
    counts: Arc<Counts>,
}

impl Outlet {
    pub fn new(store: Store, spool: Spool, counts: Arc<Counts>) -> Self {
        Self { store, spool, counts }
    }

    /// Until the sealing thread ends.
    pub async fn run(mut self, mut receiver: mpsc::Receiver<Outgoing>) {
        let (mut batch, mut pause) = (Vec::new(), FIRST_PAUSE);
        loop {
            // While the spool holds anything, what comes goes behind it.
            if !self.spool.is_empty() && batch.is_empty() {
                let next = tokio::time::timeout(pause, receiver.recv_many(&mut batch, BATCH));
                match (next.await, self.drain_spool().await) {
                    (Ok(0), _) => return,
                    (_, Ok(())) => pause = FIRST_PAUSE,
                    (_, Err(Away)) => pause = (pause * 2).min(LONGEST_PAUSE),
                }
            } else if batch.is_empty() && receiver.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            if batch.is_empty() {
                continue;
            }
            if self.spool.is_empty() && self.deliver(&batch).await.is_ok() {
                acknowledge(&mut batch);
            } else if self.spool.write(&batch) {
                let chunks = batch.iter().filter(|o| matches!(o.delivery, Delivery::Chunk(_)));
                self.counts.chunks_spooled.fetch_add(chunks.count() as u64, Relaxed);
                acknowledge(&mut batch);
            } else {
                // The spool is full or broken: hold the batch and let the
                // sealing thread feel it.
                tokio::time::sleep(pause).await;
                let _ = self.drain_spool().await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Brings what is spooled into the database.
    async fn drain_spool(&mut self) -> std::result::Result<(), Away> {
        loop {
            let deliveries = self.spool.read(BATCH);
            if deliveries.is_empty() {
                return Ok(());
            }
            let batch: Vec<Outgoing> =
                deliveries.into_iter().map(|delivery| Outgoing { delivery, reply: None }).collect();
            self.deliver(&batch).await?;
            self.spool.advance();
        }
    }

    /// What the database refuses for good is dropped and counted.
    async fn deliver(&self, batch: &[Outgoing]) -> std::result::Result<(), Away> {
        match self.insert_in_time(batch).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => return Err(self.failed(&error)),
            Err(error) => drop(self.failed(&error)),
        }
        for one in batch {
            match self.insert_in_time(std::slice::from_ref(one)).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(self.failed(&error)),
                Err(error) => {
                    self.counts.chunks_refused.fetch_add(1, Relaxed);
                    let recording = one.delivery.recording();
                    tracing::error!(%recording, %error, "the database refuses part of a recording");
                }
            }
        }
        Ok(())
    }

    fn failed(&self, error: &StoreError) -> Away {
        self.counts.database_failures.fetch_add(1, Relaxed);
        tracing::warn!(%error, "recordings cannot be brought into the database");
        Away
    }

    async fn insert_in_time(&self, batch: &[Outgoing]) -> Result<()> {
        let inserted = tokio::time::timeout(PATIENCE, self.insert(batch)).await;
        inserted.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))?;
        let chunks = batch.iter().filter(|o| matches!(o.delivery, Delivery::Chunk(_))).count();
        self.counts.chunks_stored.fetch_add(chunks as u64, Relaxed);
        Ok(())
    }

    /// All in one transaction. Done again after a doubtful commit it changes
    /// nothing.
    async fn insert(&self, batch: &[Outgoing]) -> Result<()> {
        let (mut keys, mut starts) = (Vec::new(), Vec::new());
        let (mut chunks, mut ends) = (Vec::new(), Vec::new());
        for outgoing in batch {
            match &outgoing.delivery {
                Delivery::Start(start) => {
                    self.start_rows(start, None, &mut keys, &mut starts).await?;
                }
                Delivery::Continue(start, whole, segment) => {
                    let part = Some((*whole, *segment));
                    self.start_rows(start, part, &mut keys, &mut starts).await?;
                }
                Delivery::Chunk(chunk) => chunks.push(chunk.row()),
                Delivery::Finish(finish) => ends.push(finish_row(finish)),
            }
        }
        let mut tx = self.store.database().begin().await?;
        let finished = ends.len();
        write(&mut tx, keys, starts, chunks, ends).await?;
        if finished > 0 {
            let finished = batch.iter().filter_map(|outgoing| match &outgoing.delivery {
                Delivery::Finish(finish) => Some(finish.recorded.sid.to_string()),
                _ => None,
            });
            let happened = whole(&mut tx, self.store.database(), "sid", finished.collect()).await?;
            delivery::enqueue(&mut tx, self.store.database(), &happened).await?;
        }
        tx.commit().await
    }

    async fn start_rows(
        &self,
        start: &Start,
        part_of: Option<(RecordingSid, u16)>,
        keys: &mut Vec<Vec<Value>>,
        starts: &mut Vec<Vec<Value>>,
    ) -> Result<()> {
        let sealer = self.store.account_sealer(start.account).await?;
        let wrapped = sealer.seal(&SEALED_CALL_KEY, &start.key_id, &start.key);
        let key_id = start.key_id.as_str();
        keys.push(values![key_id, start.call, start.account, wrapped, now()]);
        let region = self.store.region();
        starts.push(values![
            start.sid,
            start.call,
            start.account,
            region,
            region,
            key_id,
            start.consent.by_policy,
            start.consent.granted_at,
            start.started_at,
            0_i64,
            0_i64,
            0_i64,
            0_i64,
            part_of.map(|(whole, _)| whole),
            i64::from(part_of.map_or(0, |(_, segment)| segment)),
        ]);
        Ok(())
    }
}

impl Delivery {
    fn recording(&self) -> RecordingSid {
        match self {
            Self::Start(start) | Self::Continue(start, ..) => start.sid,
            Self::Chunk(chunk) => chunk.recording,
            Self::Finish(finish) => finish.recorded.sid,
        }
    }
}

fn acknowledge(batch: &mut Vec<Outgoing>) {
    for (reply, recorded) in batch.drain(..).filter_map(|outgoing| outgoing.reply) {
        let _ = reply.send(recorded);
    }
}

async fn write(
    tx: &mut Tx,
    keys: Vec<Vec<Value>>,
    starts: Vec<Vec<Value>>,
    chunks: Vec<Vec<Value>>,
    ends: Vec<Vec<Value>>,
) -> Result<()> {
    const START: &[&str] = &[
        "sid",
        "call",
        "account",
        "home_region",
        "storage_region",
        "key_id",
        "consent_by_policy",
        "consent_granted_at",
        "started_at",
        "expected_packets",
        "stored_packets",
        "chunks",
        "duration_ms",
        "whole",
        "segment",
    ];
    const END: &[&str] = &[
        "sid",
        "finished_at",
        "expected_packets",
        "stored_packets",
        "chunks",
        "duration_ms",
        "head",
    ];
    let once = "ON CONFLICT DO NOTHING";
    tx.insert_many("call_key", KEY_COLUMNS, once, keys).await?;
    tx.insert_many("recording", START, once, starts).await?;
    tx.insert_many("recording_chunk", Chunk::COLUMNS, once, chunks).await?;
    tx.update_many("recording", 1, END, ends).await.map(drop)
}

fn finish_row(finish: &Finish) -> Vec<Value> {
    values![
        finish.recorded.sid,
        finish.finished_at,
        finish.recorded.expected_packets,
        finish.recorded.stored_packets,
        finish.chunks,
        finish.duration_ms,
        finish.head,
    ]
}
