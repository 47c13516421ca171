//! One call's rows against its receipt.

use landline_region::RecordingSid;
use landline_region::UnixMillis;
use landline_region::catalogue::sealed::{INDEX_PARTY, SEALED_CALLEE, SEALED_CALLER};
use landline_region::merkle::Sha256;
use landline_region::receipt::{CallKey, Deletion, Receipt, Recording, RecordingState};

use super::super::facts::Facts;
use super::Check;
use crate::chain::record_hash;
use crate::error::{Result, StoreError};
use crate::part::Part;
use crate::seal::Sealer;
use crate::sql::Row;

/// As many parts of a recording as are looked for where one denies being one.
const PARTS: u16 = 64;

impl Check<'_> {
    pub(super) async fn call(&mut self, receipt: &Receipt, facts: &Facts) -> Result<()> {
        let at = format!("call {}", receipt.call);
        let Some(row) = facts.call(receipt.call) else {
            return self.gone(&at, receipt, facts).await;
        };
        if self.deletion_of_record(receipt).is_some() {
            self.found.fault(&at, "its deletion is stated, and its record is there");
        }
        if let Err(error) = self.record(&at, receipt, row, facts) {
            self.found.unless_away(&at, error)?;
        }
        for (part, region) in receipt.touched() {
            if region != self.region() {
                self.found.fault(&at, format!("{part} in region {region}"));
            }
        }
        if let Err(error) = self.keys(&at, receipt, row, facts).await {
            self.found.unless_away(&at, error)?;
        }
        for recording in &receipt.recordings {
            self.recording(receipt, recording).await?;
        }
        Ok(())
    }

    /// A record that is not there was deleted by a statement, or removed.
    async fn gone(&mut self, at: &str, receipt: &Receipt, facts: &Facts) -> Result<()> {
        match self.deletion_of_record(receipt) {
            None => self.found.fault(at, "its record was removed"),
            Some(deletion) if !deletion.is_of(receipt) => {
                self.found.fault(at, "another record than its own was deleted in its place");
            }
            Some(_) if !facts.legs(receipt.call).is_empty() => {
                self.found.fault(at, "its record was deleted, and legs of it are there");
            }
            Some(_) => self.found.deleted += 1,
        }
        for recording in &receipt.recordings {
            self.recording(receipt, recording).await?;
        }
        Ok(())
    }

    fn deletion_of_record(&self, receipt: &Receipt) -> Option<&Deletion> {
        self.deletions.get(&receipt.call)?.iter().find(|it| it.record.is_some())
    }

    pub(super) fn deletion_of(&self, receipt: &Receipt, sid: RecordingSid) -> Option<&Deletion> {
        let of_call = self.deletions.get(&receipt.call)?;
        of_call.iter().find(|it| it.recording.as_ref().is_some_and(|it| it.sid == sid))
    }

    fn record(&mut self, at: &str, receipt: &Receipt, row: &Row, facts: &Facts) -> Result<()> {
        let Sha256(previous) = receipt.record.previous;
        let hash = record_hash(row.int("hash_version")?, &previous, row, facts.legs(receipt.call))?;
        if Sha256(hash) != receipt.record.hash {
            self.found.fault(at, "its record or a leg was changed, added or removed");
        }
        for recording in facts.recordings(receipt.call) {
            if recording.parse("account").ok() != Some(receipt.account) {
                self.found.fault(at, "a recording of it is said to be another account's");
            }
            if !is_its_own(recording, row)? {
                self.found.fault(at, "a recording is said to be a part of another than it is");
            }
        }
        let (region, issued_at) = (self.region(), receipt.issued_at);
        let mut now = facts.statement(row, region, issued_at, receipt.log_index)?;
        forgive_erasure(&mut now, receipt, facts);
        forgive_fields(&mut now, receipt);
        for (now, then) in now.recordings.iter_mut().zip(&receipt.recordings) {
            // What is left of it is looked at with its chunks.
            if now.sid == then.sid && self.deletion_of(receipt, now.sid).is_some() {
                forgive_deletion(now, then);
            }
        }
        self.found.grown += forgive_growth(&mut now.recordings, &receipt.recordings);
        for name in differences(&now, receipt) {
            self.found.fault(at, format!("`{name}` is not what its receipt says"));
        }
        Ok(())
    }

    /// A key that is there opens; one that is not was destroyed.
    async fn keys(&mut self, at: &str, receipt: &Receipt, row: &Row, facts: &Facts) -> Result<()> {
        let recordings =
            receipt.recordings.iter().filter_map(|recording| recording.stored.as_ref());
        let named = recordings.map(|stored| &stored.key).chain([&receipt.key]);
        let mut erased = false;
        for CallKey { id, .. } in named {
            let Some(key) = facts.key(id) else {
                erased = true;
                continue;
            };
            if key.parse("call").ok() != Some(receipt.call)
                || key.parse("account").ok() != Some(receipt.account)
            {
                self.found.fault(at, format!("key {id} is another call's or account's"));
            }
            let wrapped = key.bytes_or_null("wrapped")?;
            match self.store.opened_key(receipt.account, id, wrapped).await {
                Ok(sealer) if *id == receipt.key.id => self.indexes(at, receipt, row, &sealer)?,
                Ok(_) => {}
                Err(StoreError::KeyDestroyed { .. }) => erased = true,
                Err(error) => self.found.unless_away(at, error)?,
            }
        }
        self.found.erased += u64::from(erased);
        Ok(())
    }

    /// Look-up keys lead to the parties that the record names.
    fn indexes(&mut self, at: &str, receipt: &Receipt, row: &Row, sealer: &Sealer) -> Result<()> {
        let (sid, account) = (receipt.call.to_string(), receipt.account.to_string());
        let columns = [
            ("party_from", &SEALED_CALLER, "from_index"),
            ("party_to", &SEALED_CALLEE, "to_index"),
        ];
        for (column, what, index) in columns {
            let party = row.bytes(column).and_then(|sealed| sealer.open_text(what, &sid, &sealed));
            let wanted = party.map(|party| self.store.keys().index(&INDEX_PARTY, &account, &party));
            match wanted {
                Ok(wanted) if row.bytes(index).is_ok_and(|index| index == wanted) => {}
                Ok(_) => self.found.fault(at, format!("`{index}` leads to another party")),
                Err(error) => self.found.unless_away(at, error)?,
            }
        }
        Ok(())
    }
}

/// A part's sid follows from the recording's that its call names.
fn is_its_own(recording: &Row, call: &Row) -> Result<bool> {
    let sid: RecordingSid = recording.parse("sid")?;
    let whole: Option<RecordingSid> = recording.parse_or_null("whole")?;
    let Ok(segment) = u16::try_from(recording.int("segment")?) else { return Ok(false) };
    let named: Option<RecordingSid> = call.parse_or_null("recording")?;
    Ok(match (whole, named) {
        (Some(whole), _) => Part::of(whole, segment).sid() == sid && named == Some(whole),
        (None, Some(named)) => {
            segment == 0 && !(1..=PARTS).any(|n| Part::of(named, n).sid() == sid)
        }
        (None, None) => segment == 0,
    })
}

/// With a key goes the time of its making.
fn forgive_erasure(now: &mut Receipt, receipt: &Receipt, facts: &Facts) {
    let forgive = |now: &mut CallKey, created_at: Option<UnixMillis>| {
        if facts.key(&now.id).is_none() {
            now.created_at = created_at;
        }
    };
    forgive(&mut now.key, receipt.key.created_at);
    for (now, then) in now.recordings.iter_mut().zip(&receipt.recordings) {
        if let (Some(now), Some(then)) = (&mut now.stored, &then.stored) {
            forgive(&mut now.key, then.key.created_at);
        }
    }
}

/// How much there was of a recording without an end was known by its chunks.
fn forgive_deletion(now: &mut Recording, then: &Recording) {
    if then.state == RecordingState::Finished {
        return;
    }
    now.state = then.state;
    match (&mut now.stored, &then.stored) {
        (Some(stored), Some(before)) => {
            stored.finished_at = before.finished_at;
            stored.duration_ms = before.duration_ms;
            stored.expected_packets = before.expected_packets;
            stored.stored_packets = before.stored_packets;
            (stored.chunks, stored.head) = (before.chunks, before.head);
        }
        (stored, before) => stored.clone_from(before),
    }
}

/// What a way out may carry is declared anew with each version; the receipt
/// says what was declared when it was issued.
fn forgive_fields(now: &mut Receipt, receipt: &Receipt) {
    for (now, then) in now.egress.lines.iter_mut().zip(&receipt.egress.lines) {
        now.fields.clone_from(&then.fields);
    }
    if !receipt.egress.reported {
        now.egress = receipt.egress.clone();
    }
}

/// A recording that had no end when the receipt was issued may have more
/// chunks and an end by now; that they follow on what the receipt covers is
/// checked with the chunks. Gives how many did.
fn forgive_growth(now: &mut [Recording], receipt: &[Recording]) -> u64 {
    let mut grown = 0;
    for (now, then) in now.iter_mut().zip(receipt) {
        if now == then || then.state == RecordingState::Finished || now.sid != then.sid {
            continue;
        }
        match (&mut now.stored, &then.stored) {
            (Some(stored), Some(before)) if stored.chunks >= before.chunks => {
                stored.finished_at = before.finished_at;
                stored.duration_ms = before.duration_ms;
                stored.expected_packets = before.expected_packets;
                stored.stored_packets = before.stored_packets;
                (stored.chunks, stored.head) = (before.chunks, before.head);
            }
            (stored, None) => *stored = None,
            _ => continue,
        }
        now.state = then.state;
        grown += 1;
    }
    grown
}

/// The names of the members in which two statements differ.
fn differences(now: &Receipt, receipt: &Receipt) -> Vec<String> {
    if now == receipt {
        return Vec::new();
    }
    let fields = |receipt| match serde_json::to_value(receipt) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (now, then) = (fields(now), fields(receipt));
    then.iter()
        .filter(|(name, value)| now.get(*name) != Some(value))
        .map(|(n, _)| n.clone())
        .collect()
}
