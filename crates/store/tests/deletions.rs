//! What is deleted lawfully is stated in the log; what is deleted otherwise is
//! found.

mod common;

use common::receipts::{ALWAYS, NEVER, checked, closed, recorded, recorder, recording, sid};
use common::{at, eventually};
use landline_region::UnixMillis;
use landline_region::receipt::{DeletionReason, Document, Trust, Verdict, verify};
use landline_store::{DeletedBy, Retention, Swept};

fn by_key() -> DeletedBy {
    DeletedBy { reason: DeletionReason::Request, actor: "AK1".to_owned() }
}

async fn verdict(region: &common::Region, file: &impl serde::Serialize) -> Verdict {
    let trust = Trust { keys: vec![region.store.verifying_key().await.unwrap()] };
    verify(&Document::parse(&serde_json::to_string(file).unwrap()).unwrap(), &trust)
}

fn says(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line.contains(wanted))
}

on_both_engines! {
    async fn a_deleted_recording_is_no_tampering_and_its_receipt_says_who_deleted_it(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        for call in 1..=3 {
            recorded(&region, &account, call).await;
        }
        store.receipts_issue(NEVER).await.unwrap();
        let before = store.receipt_file(sid(1)).await.unwrap();
        let deleted = store.recording_delete(account.sid, recording(1), &by_key()).await.unwrap();
        let again = store.recording_delete(account.sid, recording(1), &by_key()).await.unwrap();
        assert_eq!(deleted.deleted_at, again.deleted_at, "once is enough");
        let erasure = DeletedBy { reason: DeletionReason::Erasure, actor: "operator".to_owned() };
        store.recording_delete(account.sid, recording(2), &erasure).await.unwrap();

        let found = checked(&region, std::slice::from_ref(&before.tree_head)).await;
        assert!(found.is_sound(), "{found:?}");
        assert_eq!((found.deleted, found.recordings, found.receipts), (2, 1, 3));
        let file = store.receipt_file(sid(1)).await.unwrap();
        let seen = verdict(&region, &file).await;
        assert!(seen.is_sound(), "{seen:?}");
        assert!(says(&seen.stated, &format!("recording {}", recording(1))));
        assert!(says(&seen.stated, "request, by AK1"), "{seen:?}");
        let stored = file.evidence.receipt.body.recordings[0].stored.as_ref().unwrap();
        assert!(says(&seen.stated, &format!("chunks hashing to {}, was deleted", stored.head)));
        let report = store.residency_report(account.sid, UnixMillis(0), at(1 << 40)).await.unwrap();
        assert_eq!(report.deletions.len(), 2);
        let seen = verdict(&region, &report).await;
        assert!(seen.is_sound() && says(&seen.stated, "erasure, by operator"), "{seen:?}");

        // Neither another call's deletion nor a changed one is believed.
        let mut swapped = file.clone();
        swapped.deletions = report.deletions[1..].to_vec();
        assert!(says(&verdict(&region, &swapped).await.faults, "does not hold"));
        let mut changed = file.clone();
        changed.deletions[0].statement.body.by = "operator".to_owned();
        assert!(says(&verdict(&region, &changed).await.faults, "was changed"));
        let mut moved = file;
        moved.deletions[0].inclusion = report.deletions[1].inclusion.clone();
        assert!(says(&verdict(&region, &moved).await.faults, "not that entry"));
    }

    async fn a_recording_that_is_deleted_without_a_statement_is_found(region: Region) {
        let account = region.account().await;
        for call in 1..=2 {
            recorded(&region, &account, call).await;
        }
        region.store.receipts_issue(NEVER).await.unwrap();
        region.store.recording_delete(account.sid, recording(1), &by_key()).await.unwrap();
        assert!(checked(&region, &[]).await.is_sound());

        // As the API's own deletion looks, but for the log.
        let chunks = format!("DELETE FROM recording_chunk WHERE recording = '{}'", recording(2));
        region.tamper(&chunks).await;
        assert!(says_of(&checked(&region, &[]).await, "it has 0 chunks"));
        let mark = format!("UPDATE recording SET deleted_at = 5 WHERE sid = '{}'", recording(2));
        region.tamper(&mark).await;
        assert!(says_of(&checked(&region, &[]).await, "no statement in the log"));
        // The statement of another recording's deletion is not this one's.
        let forged = format!(
            "UPDATE log_statement SET subject = '{}', call = '{}', body = REPLACE(REPLACE(body, '{}', '{}'), '{}', '{}')",
            recording(2), sid(2), recording(1), recording(2), sid(1), sid(2)
        );
        assert_eq!(region.tamper(&forged).await, 1);
        let found = checked(&region, &[]).await;
        assert!(says_of(&found, "did not sign"), "{found:?}");
    }

    async fn what_was_changed_before_it_was_deleted_is_found(region: Region) {
        let account = region.account().await;
        recorded(&region, &account, 1).await;
        region.store.receipts_issue(NEVER).await.unwrap();
        region.tamper("DELETE FROM recording_chunk WHERE sequence > 0").await;
        region.store.recording_delete(account.sid, recording(1), &by_key()).await.unwrap();
        let found = checked(&region, &[]).await;
        assert!(says_of(&found, "was not what its receipt names"), "{found:?}");
        let file = region.store.receipt_file(sid(1)).await.unwrap();
        assert!(says(&verdict(&region, &file).await.faults, "something else than the receipt"));
    }

    async fn a_recording_that_was_never_finished_and_one_before_its_receipt(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        // Its relay died; deleted before and after the receipt.
        for call in [1, 2] {
            let recorder = recorder(&region, &account, call).await;
            recorder.shutdown().await;
            store.apply_events(&common::receipts::events(&account, call, true)).await.unwrap();
        }
        store.recording_delete(account.sid, recording(1), &by_key()).await.unwrap();
        assert_eq!(store.receipts_issue(ALWAYS).await.unwrap().issued, 2);
        store.recording_delete(account.sid, recording(2), &by_key()).await.unwrap();
        for call in [1, 2] {
            let seen = verdict(&region, &store.receipt_file(sid(call)).await.unwrap()).await;
            assert!(seen.is_sound(), "{call}: {seen:?}");
        }
        let found = checked(&region, &[]).await;
        assert!(found.is_sound() && found.deleted == 2, "{found:?}");
    }

    async fn what_was_kept_for_long_enough_goes_with_a_statement_and_its_receipt_stays(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        recorded(&region, &account, 1).await;
        closed(&region, &account, 2..=4).await;
        store.receipts_issue(NEVER).await.unwrap();
        // One has no receipt yet: it stays until it has.
        closed(&region, &account, 5..=5).await;
        let kept = store.receipt_file(sid(1)).await.unwrap();
        assert_eq!(store.retention_sweep(UnixMillis(0)).await.unwrap(), Swept::default());
        let used = store.usage(account.sid, UnixMillis(0), UnixMillis(i64::MAX)).await.unwrap();
        assert!(used.iter().map(|day| day.calls).sum::<u64>() == 5, "{used:?}");
        let until = store.call_show(sid(2)).await.unwrap().retention_until.unwrap();
        let swept = store.retention_sweep(UnixMillis(until.0 + 1)).await.unwrap();
        assert_eq!((swept.calls, swept.recordings, swept.full), (2, 1, false));
        let still = store.usage(account.sid, UnixMillis(0), UnixMillis(i64::MAX)).await.unwrap();
        assert_eq!(still, used, "a bill outlives the records");
        assert!(store.call_show(sid(1)).await.is_err() && store.call_show(sid(2)).await.is_err());
        for table in ["call_leg", "call_key", "recording", "recording_chunk"] {
            let column = if table == "recording_chunk" { "recording" } else { "call" };
            let call = if table == "recording_chunk" { recording(1).to_string() } else { sid(1).to_string() };
            let gone = format!("DELETE FROM {table} WHERE {column} = '{call}'");
            assert_eq!(region.tamper(&gone).await, 0, "{table} held more of it");
        }
        let heads = [kept.tree_head.clone()];
        let found = checked(&region, &heads).await;
        assert!(found.is_sound(), "{found:?}");
        // Two records and a recording.
        assert_eq!((found.deleted, found.receipts), (3, 4));
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 5);
        let seen = verdict(&region, &store.receipt_file(sid(1)).await.unwrap()).await;
        assert!(seen.is_sound() && says(&seen.stated, "retention, by retention"), "{seen:?}");

        // The records behind the gap are still chained to those before.
        let hide = "DELETE FROM log_statement WHERE chain_position = 2";
        let moved = "UPDATE call SET direction = 'inbound' WHERE chain_position = 3";
        for (change, says) in [(moved, "changed after it was closed"), (hide, "was removed")] {
            assert_eq!(region.tamper(change).await, 1);
            let found = checked(&region, &heads).await;
            assert!(says_of(&found, says), "{change}: {found:?}");
        }
    }

    async fn a_record_that_is_removed_without_a_statement_is_found(region: Region) {
        let account = region.account().await;
        closed(&region, &account, 1..=3).await;
        region.store.receipts_issue(NEVER).await.unwrap();
        let until = region.store.call_show(sid(1)).await.unwrap().retention_until.unwrap();
        region.store.retention_sweep(UnixMillis(until.0 + 1)).await.unwrap();
        assert!(checked(&region, &[]).await.is_sound());
        region.tamper(&format!("DELETE FROM call_leg WHERE call = '{}'", sid(2))).await;
        region.tamper(&format!("DELETE FROM call WHERE sid = '{}'", sid(2))).await;
        let found = checked(&region, &[]).await;
        assert!(says_of(&found, "its record was removed"), "{found:?}");
    }
}

fn says_of(found: &landline_store::ResidencyCheck, wanted: &str) -> bool {
    found.faults.iter().any(|fault| fault.problem.contains(wanted))
}

#[tokio::test]
async fn the_task_deletes_what_is_old_and_stops_when_told() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    // Old ones: their events are of 2023.
    closed(&region, &account, 1..=70).await;
    region.store.receipts_issue(NEVER).await.unwrap();
    let task = Retention::start(region.store.clone(), std::time::Duration::from_secs(3600));
    let store = region.store.clone();
    eventually("all are gone", || async {
        store.call_list(&Default::default()).await.unwrap().is_empty()
    })
    .await;
    task.shutdown().await;
    let found = checked(&region, &[]).await;
    assert!(found.is_sound() && found.deleted == 70, "{found:?}");
}
