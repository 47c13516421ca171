//! From a call's rows to what its receipt says. Issuing and checking come by
//! the same way.

use std::collections::HashMap;

use landline_call::record::LegRole;
use landline_region::merkle::Sha256;
use landline_region::receipt::{
    CallKey, Consent, Egress, LegWay, Receipt, ReceiptType, Record, Recording, RecordingState,
    Regions, StoredRecording,
};
use landline_region::{CallSid, LegSid, RecordingSid, RegionCode, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::chain::{grouped, hash_column};
use crate::chunk;
use crate::error::{Result, StoreError};
use crate::sql::{Database, Row, Tx, Value, values};

/// Records hashed so or later say by which edges their legs went.
const EDGES_SINCE: i64 = 3;

/// Rows are read within a transaction or beside any.
pub enum Reader<'a> {
    Tx(&'a mut Tx),
    Database(&'a Database),
}

impl Reader<'_> {
    pub async fn rows(&mut self, sql: String, values: Vec<Value>) -> Result<Vec<Row>> {
        match self {
            Self::Tx(tx) => tx.rows(AssertSqlSafe(sql), values).await,
            Self::Database(database) => database.rows(AssertSqlSafe(sql), values).await,
        }
    }
}

/// All that the tables hold of some calls, but for the chunks' octets.
pub struct Facts {
    calls: HashMap<CallSid, Row>,
    legs: HashMap<CallSid, Vec<Row>>,
    recordings: HashMap<CallSid, Vec<Row>>,
    /// Those that calls and recordings name, by their names.
    keys: HashMap<String, Row>,
    /// Of recordings without an end: what there is of them.
    parts: HashMap<RecordingSid, Part>,
}

/// The stored part of a recording that was not finished.
struct Part {
    chunks: u64,
    packets: u64,
    dropped: u64,
    last_ms: u64,
    head: Sha256,
}

impl Facts {
    pub async fn gather(
        database: &Database,
        reader: &mut Reader<'_>,
        calls: &[CallSid],
    ) -> Result<Self> {
        let sids: Vec<String> = calls.iter().map(CallSid::to_string).collect();
        let select = |what: &str, column: &str, order: &str| {
            format!("SELECT * FROM {what} WHERE {} {order}", database.among(column, 1))
        };
        let mut by_sid = HashMap::with_capacity(calls.len());
        for row in reader.rows(select("call", "sid", ""), values![sids.clone()]).await? {
            by_sid.insert(row.parse("sid")?, row);
        }
        let legs = reader.rows(select("call_leg", "call", "ORDER BY sid"), values![sids.clone()]);
        let legs = grouped(legs.await?)?;
        let order = "ORDER BY started_at, sid";
        let rows = reader.rows(select("recording", "call", order), values![sids]).await?;
        let (mut parts, mut recordings) = (HashMap::new(), HashMap::<CallSid, Vec<Row>>::new());
        for row in rows {
            if row.int_or_null("finished_at")?.is_none() {
                let sid = row.parse("sid")?;
                parts.insert(sid, part(reader, sid).await?);
            }
            recordings.entry(row.parse("call")?).or_default().push(row);
        }
        let mut keys = HashMap::new();
        let named = by_sid.values().chain(recordings.values().flatten());
        let named = named.map(|row: &Row| row.text("key_id")).collect::<Result<Vec<_>>>()?;
        for row in reader.rows(select("call_key", "key_id", ""), values![named]).await? {
            keys.insert(row.text("key_id")?, row);
        }
        Ok(Self { calls: by_sid, legs, recordings, keys, parts })
    }

    pub fn call(&self, call: CallSid) -> Option<&Row> {
        self.calls.get(&call)
    }

    /// In the order of their sids.
    pub fn legs(&self, call: CallSid) -> &[Row] {
        self.legs.get(&call).map_or(&[], Vec::as_slice)
    }

    pub fn recordings(&self, call: CallSid) -> &[Row] {
        self.recordings.get(&call).map_or(&[], Vec::as_slice)
    }

    pub fn key(&self, id: &str) -> Option<&Row> {
        self.keys.get(id)
    }

    /// What a receipt of this call, issued by `region` at this time and as this
    /// entry of the log, says.
    pub fn statement(
        &self,
        row: &Row,
        region: RegionCode,
        issued_at: UnixMillis,
        log_index: u64,
    ) -> Result<Receipt> {
        let call: CallSid = row.parse("sid")?;
        let consent = match (
            row.int_or_null("consent_by_policy")?,
            row.time_or_null("consent_granted_at")?,
        ) {
            (Some(by_policy), Some(granted_at)) => {
                Some(Consent { by_policy: by_policy == 1, granted_at })
            }
            _ => None,
        };
        Ok(Receipt {
            r#type: ReceiptType::V1,
            region,
            log_index,
            issued_at,
            call,
            account: row.parse("account")?,
            contracting_entity: row.text("contracting_entity")?,
            opened_at: row.time("opened_at")?,
            answered_at: row.time_or_null("answered_at")?,
            closed_at: row.time("closed_at")?,
            regions: Regions {
                home: row.parse("home_region")?,
                signalling: row.parse("signalling_region")?,
                media: row.parse_or_null("media_region")?,
                storage: row.parse("storage_region")?,
            },
            proxy: row.text("proxy")?,
            relay: row.text_or_null("relay_id")?,
            consent,
            key: self.call_key(row.text("key_id")?)?,
            record: Record {
                position: row.unsigned("chain_position")?,
                previous: Sha256(hash_column(row, "previous_hash")?),
                hash: Sha256(hash_column(row, "hash")?),
                legs: self.legs(call).len() as u64,
            },
            recordings: self.recordings_stated(call, row)?,
            egress: self.egress(call, row, region)?,
        })
    }

    /// What left the region, as the record of the call and its legs says.
    fn egress(&self, call: CallSid, row: &Row, home: RegionCode) -> Result<Egress> {
        if row.int("hash_version")? < EDGES_SINCE {
            return Ok(Egress::unreported());
        }
        let answered: Option<LegSid> = row.parse_or_null("answered_leg")?;
        let way = |leg: &Row| {
            let talked = answered.is_some()
                && (leg.text("role")? == LegRole::A.name()
                    || leg.parse_or_null("sid")? == answered);
            let edges = leg.text_or_null("edge_regions")?.unwrap_or_default();
            let edges = edges.split(' ').filter(|edge| !edge.is_empty()).map(|edge| {
                edge.parse().map_err(|_| StoreError::Column {
                    column: "call_leg.edge_regions".to_owned(),
                    problem: "it does not name regions".to_owned(),
                })
            });
            Ok(LegWay {
                trunk: leg.parse_or_null("party_trunk")?,
                region: leg.parse_or_null("party_region")?,
                edges: edges.collect::<Result<_>>()?,
                // Where the relay did not say, who answered was spoken to.
                media: leg.int_or_null("sent_packets")?.map_or(talked, |sent| sent > 0),
            })
        };
        let ways = self.legs(call).iter().map(way).collect::<Result<Vec<_>>>()?;
        Ok(Egress::of(home, &ways))
    }

    fn call_key(&self, id: String) -> Result<CallKey> {
        let created_at = self.key(&id).map(|row| row.time("created_at")).transpose()?;
        Ok(CallKey { id, created_at })
    }

    /// Those that are there; and the one that was to be made, if it is not.
    fn recordings_stated(&self, call: CallSid, row: &Row) -> Result<Vec<Recording>> {
        let mut stated = Vec::new();
        for recording in self.recordings(call) {
            stated.push(self.recording_stated(recording)?);
        }
        // What was never answered was never to be recorded.
        if row.int_or_null("answered_at")?.is_some()
            && let Some(sid) = row.parse_or_null::<RecordingSid>("recording")?
            && !stated.iter().any(|recording| recording.sid == sid)
        {
            stated.push(Recording { sid, state: RecordingState::Missing, stored: None });
        }
        Ok(stated)
    }

    fn recording_stated(&self, row: &Row) -> Result<Recording> {
        let sid: RecordingSid = row.parse("sid")?;
        let mut stored = StoredRecording {
            home_region: row.parse("home_region")?,
            storage_region: row.parse("storage_region")?,
            key: self.call_key(row.text("key_id")?)?,
            consent: Consent {
                by_policy: row.int("consent_by_policy")? == 1,
                granted_at: row.time("consent_granted_at")?,
            },
            started_at: row.time("started_at")?,
            finished_at: row.time_or_null("finished_at")?,
            duration_ms: row.unsigned("duration_ms")?,
            expected_packets: row.unsigned("expected_packets")?,
            stored_packets: row.unsigned("stored_packets")?,
            chunks: row.unsigned("chunks")?,
            head: Sha256(chunk::origin(sid)),
        };
        let state = match self.parts.get(&sid) {
            None => {
                stored.head = Sha256(hash_column(row, "head")?);
                RecordingState::Finished
            }
            Some(part) => {
                // The row's own counts are nothing before its end.
                stored.chunks = stored.chunks.saturating_add(part.chunks);
                stored.stored_packets = stored.stored_packets.saturating_add(part.packets);
                stored.expected_packets = (stored.expected_packets)
                    .saturating_add(part.packets)
                    .saturating_add(part.dropped);
                stored.duration_ms = stored.duration_ms.saturating_add(part.last_ms);
                stored.head = part.head;
                RecordingState::Unfinished
            }
        };
        Ok(Recording { sid, state, stored: Some(stored) })
    }
}

/// What is stored of a recording, from its first chunk on without a gap.
async fn part(reader: &mut Reader<'_>, recording: RecordingSid) -> Result<Part> {
    let select = "SELECT sequence, packets, dropped, last_ms, hash FROM recording_chunk \
                  WHERE recording = $1 ORDER BY sequence";
    let head = Sha256(chunk::origin(recording));
    let mut part = Part { chunks: 0, packets: 0, dropped: 0, last_ms: 0, head };
    for row in reader.rows(select.to_owned(), values![recording]).await? {
        if row.unsigned("sequence")? != part.chunks {
            break;
        }
        part.chunks += 1;
        part.packets = part.packets.saturating_add(row.unsigned("packets")?);
        part.dropped = part.dropped.saturating_add(row.unsigned("dropped")?);
        part.last_ms = part.last_ms.max(row.unsigned("last_ms")?);
        part.head = Sha256(hash_column(&row, "hash")?);
    }
    Ok(part)
}
