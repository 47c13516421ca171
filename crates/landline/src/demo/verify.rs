//! Where a call's record and recording lie: at home, and nowhere else; and
//! whether its receipt says so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use landline_region::receipt::{Document, Receipt, Trust, verify};
use landline_region::{CallSid, RecordingSid, UnixMillis};
use landline_store::{CallFilter, CallRecord, RecordingRecord, Store, StoreError};

use super::call::Call;
use super::cast::Account;
use crate::admin::recorded_tones;

/// How long a record may take from the call's end into the database.
const WRITING: Duration = Duration::from_secs(10);

/// What the three databases say of one call.
#[derive(Debug, Default)]
pub struct Evidence {
    pub record: Option<CallSid>,
    pub recording: Option<RecordingSid>,
    /// What the recording's two channels hold, in Hz: caller, callee.
    pub recorded_hz: Vec<Option<f64>>,
    /// Regions other than the home that hold the record or the recording.
    pub elsewhere: Vec<String>,
    /// What the region states of the call.
    pub receipt: Option<Receipt>,
    /// What is missing, if anything is.
    pub problem: Option<String>,
}

impl Evidence {
    pub fn is_well(&self) -> bool {
        self.problem.is_none() && self.elsewhere.is_empty()
    }
}

/// Looks for every account's call since `begun` in every region's database.
pub async fn search_all(
    stores: &BTreeMap<&'static str, Store>,
    accounts: &[Account],
    calls: &[Call],
    begun: UnixMillis,
) -> Vec<Evidence> {
    let searches: Vec<_> = accounts
        .iter()
        .zip(calls)
        .map(|(account, call)| {
            let (stores, account, call) = (stores.clone(), account.clone(), call.clone());
            tokio::spawn(async move {
                let mut evidence = Evidence::default();
                let looked = look(&stores, &account, &call, begun, &mut evidence).await;
                evidence.problem = looked.err();
                evidence
            })
        })
        .collect();
    let mut found = Vec::new();
    for search in searches {
        found.push(search.await.unwrap_or_else(|error| Evidence {
            problem: Some(error.to_string()),
            ..Evidence::default()
        }));
    }
    found
}

async fn look(
    stores: &BTreeMap<&'static str, Store>,
    account: &Account,
    call: &Call,
    begun: UnixMillis,
    evidence: &mut Evidence,
) -> Result<(), String> {
    let home = stores
        .get(account.home_region.as_str())
        .ok_or_else(|| format!("region {} does not run", account.home_region))?;
    let (record, recording) = written(home, account, begun, evidence).await?;
    for (code, store) in stores.iter().filter(|(code, _)| **code != account.home_region) {
        if holds(store, record.sid, recording.sid).await.map_err(shown)? {
            evidence.elsewhere.push((*code).to_owned());
        }
    }
    evidence.receipt = Some(receipt(home, record.sid).await?);
    let tones = recorded_tones(home, recording.sid).await.map_err(|error| format!("{error:#}"))?;
    let wanted = [call.caller.sent_hz, call.callee.sent_hz];
    let matches = tones.len() == 2
        && tones.iter().zip(wanted).all(|(heard, sent)| heard.is_some_and(|hz| near(hz, sent)));
    evidence.recorded_hz = tones;
    match matches {
        true => Ok(()),
        false => Err("the recording does not hold the two tones".to_owned()),
    }
}

/// The closed record and the finished recording, as soon as they are there.
async fn written(
    home: &Store,
    account: &Account,
    begun: UnixMillis,
    evidence: &mut Evidence,
) -> Result<(CallRecord, RecordingRecord), String> {
    let patience = Instant::now();
    loop {
        let filter =
            CallFilter { account: Some(account.sid), since: Some(begun), ..Default::default() };
        let calls = home.call_list(&filter).await.map_err(shown)?;
        let call = calls.into_iter().find(|call| call.answered_at.is_some());
        let recording = match &call {
            Some(call) => home.recording_of(call.sid).await.map_err(shown)?,
            None => None,
        };
        evidence.record = call.as_ref().map(|call| call.sid);
        evidence.recording = recording.as_ref().map(|recording| recording.sid);
        let missing = match (&call, &recording) {
            (None, _) => "no record of an answered call",
            (Some(call), _) if call.closed_at.is_none() => "the record is not closed",
            (_, None) => "no recording",
            (_, Some(recording)) if recording.finished_at.is_none() => {
                "the recording is not finished"
            }
            (_, Some(recording)) if recording.stored_packets < recording.expected_packets => {
                "the recording misses packets"
            }
            _ => "",
        };
        match (call, recording) {
            (Some(call), Some(recording)) if missing.is_empty() => return Ok((call, recording)),
            _ if patience.elapsed() > WRITING => {
                return Err(format!(
                    "{missing} in {} after {} s",
                    account.home_region,
                    WRITING.as_secs()
                ));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The call's receipt, as soon as it is issued and if it says that no other
/// region had part in the call.
async fn receipt(home: &Store, call: CallSid) -> Result<Receipt, String> {
    let patience = Instant::now();
    while home.receipt_of(call).await.map_err(shown)?.is_none() {
        if patience.elapsed() > WRITING {
            return Err(format!("no receipt after {} s", WRITING.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let file = home.receipt_file(call).await.map_err(shown)?;
    let receipt = file.evidence.receipt.body.clone();
    // As who has the file and the region's public key, and nothing else.
    let trust = Trust { keys: vec![home.verifying_key().await.map_err(shown)?] };
    let verdict = verify(&Document::Receipt(Box::new(file)), &trust);
    if !verdict.is_sound() {
        return Err(format!("the receipt is not sound: {}", verdict.faults.join("; ")));
    }
    match receipt.touched().into_iter().find(|(_, region)| *region != home.region()) {
        Some((part, region)) => Err(format!("the receipt names {region} for its {part}")),
        None => Ok(receipt),
    }
}

/// Whether a database knows the call or the recording by any of its tables.
async fn holds(store: &Store, call: CallSid, recording: RecordingSid) -> Result<bool, StoreError> {
    let recorded = match store.recording_show(recording).await {
        Ok(_) => true,
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    Ok(recorded || store.holds(call).await? || store.recording_of(call).await?.is_some())
}

fn shown(error: StoreError) -> String {
    error.to_string()
}

/// Tones are found to within a few Hz.
pub fn near(heard: f64, sent: f64) -> bool {
    (heard - sent).abs() < 12.0
}
