use anyhow::{Result, anyhow};
use landline_call::record::Party;
use landline_control::{LegStats, Protocol, StreamStats};
use landline_region::UnixMillis;
use landline_store::{CallFilter, CallRecord, LegRecord, Readable};
use serde_json::{Value, json};

use super::Place;
use super::recording;
use crate::cli::CallsVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: CallsVerb, style: Style) -> Result<String> {
    match verb {
        CallsVerb::List { account, limit } => {
            let (stores, account) = place.scope(account.as_deref()).await?;
            let mut calls = Vec::new();
            for (_, store) in stores {
                let filter = CallFilter { account, limit: Some(limit), ..CallFilter::default() };
                calls.extend(store.call_list(&filter).await?);
            }
            calls.sort_by_key(|call| std::cmp::Reverse(call.opened_at));
            calls.truncate(limit as usize);
            let rows = calls.iter().map(summary).collect();
            let mut columns = vec![
                "opened_at",
                "from",
                "to",
                "cause",
                "duration_ms",
                "home_region",
                "recording",
                "sid",
            ];
            if calls.iter().any(|call| call.personal != Readable::Yes) {
                columns.insert(3, "personal_data");
            }
            Ok(Table::new(&columns, rows, "no calls").render(style))
        }
        CallsVerb::Show { call } => {
            for (_, store) in place.stores().await? {
                if store.holds(call).await? {
                    return Ok(card(&whole(&store.call_show(call).await?), style));
                }
            }
            Err(anyhow!(
                "no call {call} in {}; a call's record lies in its account's home region alone",
                place.shown()
            ))
        }
    }
}

fn summary(call: &CallRecord) -> Value {
    let duration = call.answered_at.zip(call.closed_at).map(|(from, to)| to.0 - from.0);
    json!({
        "sid": call.sid.to_string(),
        "account": call.account.to_string(),
        "direction": call.direction.name(),
        "from": call.from.as_ref().map(|from| from.expose()),
        "to": call.to.as_ref().map(|to| to.expose()),
        // Why both may be missing: a record outlives the keys of its persons.
        "personal_data": call.personal.name(),
        "opened_at": call.opened_at.to_string(),
        "ringing_at": time(call.ringing_at),
        "answered_at": time(call.answered_at),
        "closed_at": time(call.closed_at),
        "duration_ms": duration,
        "cause": call.cause.map(|cause| cause.name()),
        "sip_status": call.sip_status,
        "hung_up_by": call.hung_up_by.map(|by| by.name()),
        "home_region": call.home_region.to_string(),
        "signalling_region": call.signalling_region.to_string(),
        "media_region": call.media_region.map(|region| region.to_string()),
        "storage_region": call.storage_region.to_string(),
        // Its sid is known from the start; what was never answered was never recorded.
        "recording": call.answered_at.and(call.recording).map(|sid| sid.to_string()),
    })
}

fn whole(call: &CallRecord) -> Value {
    let mut shown = summary(call);
    let more = json!({
        "proxy": call.proxy,
        "relay": call.relay.as_ref().map(|relay| relay.to_string()),
        "moves": call.moves.iter().map(|moved| json!({
            "at": moved.at.to_string(),
            "from": moved.from.to_string(),
            "to": moved.to.to_string(),
        })).collect::<Vec<_>>(),
        "contracting_entity": call.contracting_entity,
        "retention_until": time(call.retention_until),
        "key_id": call.key_id,
        "join_token": call.join.map(|join| join.to_string()),
        "previous_hash": call.previous_hash.map(hex::encode),
        "hash": call.hash.map(hex::encode),
        "legs": call.legs.iter().map(leg).collect::<Vec<_>>(),
        "recordings": call.recordings.iter().map(recording::shown).collect::<Vec<_>>(),
    });
    if let (Some(fields), Value::Object(more)) = (shown.as_object_mut(), more) {
        fields.extend(more);
    }
    shown
}

fn leg(leg: &LegRecord) -> Value {
    let party = match leg.party {
        Party::User(sid) => Some(sid.to_string()),
        Party::Trunk(sid) => Some(sid.to_string()),
        Party::Region(region) => Some(region.to_string()),
        _ => None,
    };
    json!({
        "sid": leg.sid.to_string(),
        "role": leg.role.name(),
        "party": party,
        "sip_call_id": leg.sip_call_id.as_ref().map(|id| id.expose()),
        "media": leg.media.map(Protocol::name),
        "diverted_by": leg.diverted.map(|(by, _)| by.to_string()),
        "diverted_because": leg.diverted.map(|(_, reason)| reason.name()),
        "opened_at": leg.opened_at.to_string(),
        "closed_at": time(leg.closed_at),
        "sip_status": leg.sip_status,
        "stats": leg.stats.as_ref().map(stats),
    })
}

fn stats(stats: &LegStats) -> Value {
    let stream = |stream: &StreamStats| {
        json!({
            "packets": stream.packets,
            "octets": stream.octets,
            "lost": stream.lost,
            "jitter_us": stream.jitter_us,
            "rtcp_packets": stream.rtcp_packets,
            "dtmf_events": stream.dtmf_events,
        })
    };
    let dropped: serde_json::Map<String, Value> =
        stats.dropped.iter().map(|(cause, count)| (cause.clone(), json!(count))).collect();
    json!({
        "codec": stats.codec,
        "mos": stats.mos_x100.map(|mos| f64::from(mos) / 100.0),
        "received": stream(&stats.received),
        "sent": stream(&stats.sent),
        "dropped": dropped,
        "faults": stats.faults.iter().map(|fault| format!("{fault:?}")).collect::<Vec<_>>(),
    })
}

pub fn time(at: Option<UnixMillis>) -> Option<String> {
    at.map(|at| at.to_string())
}
