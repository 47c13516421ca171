use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use landline_region::RecordingSid;
use landline_store::{RecordingFilter, RecordingRecord, StoreError};
use serde_json::{Value, json};

use super::Place;
use super::calls::time;
use crate::cli::RecordingVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: RecordingVerb, style: Style) -> Result<String> {
    match verb {
        RecordingVerb::List { account, limit } => {
            let (stores, account) = place.scope(account.as_deref()).await?;
            let mut rows = Vec::new();
            for (region, store) in stores {
                let filter = RecordingFilter { account, limit: Some(limit), ..Default::default() };
                for recording in store.recording_list(&filter).await? {
                    let mut row = shown(&recording);
                    row["region"] = Value::String(region.to_string());
                    rows.push((recording.started_at, row));
                }
            }
            rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            let rows = rows.into_iter().map(|(_, row)| row).take(limit as usize).collect();
            let columns = [
                "started_at",
                "duration_ms",
                "expected_packets",
                "stored_packets",
                "region",
                "call",
                "sid",
            ];
            Ok(Table::new(&columns, rows, "no recordings").render(style))
        }
        RecordingVerb::Export { recording, file } => {
            let answer = export(place, recording, &file).await?;
            Ok(card(&answer, style))
        }
    }
}

pub fn shown(recording: &RecordingRecord) -> Value {
    json!({
        "sid": recording.sid.to_string(),
        "call": recording.call.to_string(),
        "account": recording.account.to_string(),
        "started_at": recording.started_at.to_string(),
        "finished_at": time(recording.finished_at),
        "duration_ms": recording.duration_ms,
        "expected_packets": recording.expected_packets,
        "stored_packets": recording.stored_packets,
        "chunks": recording.chunks,
        "key_id": recording.key_id,
        "consent": {
            "by_policy": recording.consent.by_policy,
            "granted_at": recording.consent.granted_at.to_string(),
        },
    })
}
async fn export(_: &Place, _: RecordingSid, _: &Path) -> Result<Value> {
    Err(anyhow!("not built yet"))
}
