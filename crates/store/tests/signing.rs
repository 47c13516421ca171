//! The region's signing key, and the next ones.

mod common;

use common::receipts::{NEVER, checked, closed, sid};
use landline_region::UnixMillis;
use landline_region::receipt::{Document, SigningKey, Trust, Verdict, VerifyingKey, verify};
use landline_store::Store;

fn seen(file: &impl serde::Serialize, key: VerifyingKey) -> Verdict {
    let document = Document::parse(&serde_json::to_string(file).unwrap()).unwrap();
    verify(&document, &Trust { keys: vec![key] })
}

on_both_engines! {
    async fn receipts_hold_whichever_of_the_regions_keys_is_pinned(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        closed(&region, &account, 1..=2).await;
        store.receipts_issue(NEVER).await.unwrap();
        let first = store.verifying_key().await.unwrap();
        let old = store.receipt_file(sid(1)).await.unwrap();
        assert!(old.key_changes.is_empty());

        let second = store.signing_key_rotate().await.unwrap().key;
        closed(&region, &account, 3..=3).await;
        store.receipts_issue(NEVER).await.unwrap();
        let third = store.signing_key_rotate().await.unwrap().key;
        closed(&region, &account, 4..=4).await;
        store.receipts_issue(NEVER).await.unwrap();
        assert_eq!(store.verifying_key().await.unwrap(), third);
        let keys = store.signing_keys().await.unwrap();
        assert_eq!(keys.iter().map(|it| it.key).collect::<Vec<_>>(), [first, second, third]);
        assert_eq!(keys[0].until, keys[1].since);
        assert!(keys[2].until.is_none());

        // What was handed out before still holds by the key of then.
        assert!(seen(&old, first).is_sound());
        let heads = [old.tree_head.clone()];
        let signers = [first, first, second, third];
        for (call, signer) in (1..).zip(signers) {
            let file = store.receipt_file(sid(call)).await.unwrap();
            assert_eq!(file.evidence.receipt.key_id, signer.id());
            assert_eq!(file.tree_head.key_id, third.id());
            for pinned in [first, second, third] {
                let verdict = seen(&file, pinned);
                assert!(verdict.is_sound(), "call {call} by {}: {verdict:?}", pinned.id());
            }
            let stranger = SigningKey::from_seed(region.config.region, &[9; 32]).verifying_key();
            let verdict = seen(&file, stranger);
            assert!(!verdict.is_sound() && !verdict.faults.is_empty(), "{verdict:?}");
        }
        let report = store.residency_report(account.sid, UnixMillis(0), UnixMillis(1 << 50)).await;
        let report = report.unwrap();
        assert_eq!(report.receipts.len(), 4);
        for pinned in [first, second, third] {
            assert!(seen(&report, pinned).is_sound(), "{:?}", seen(&report, pinned));
        }
        let found = checked(&region, &heads).await;
        assert!(found.is_sound() && found.receipts == 4, "{found:?}");
    }

    async fn a_change_of_key_that_the_former_key_did_not_sign_ties_nothing(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        closed(&region, &account, 1..=1).await;
        store.receipts_issue(NEVER).await.unwrap();
        let first = store.verifying_key().await.unwrap();
        let second = store.signing_key_rotate().await.unwrap().key;
        closed(&region, &account, 2..=2).await;
        store.receipts_issue(NEVER).await.unwrap();
        let file = store.receipt_file(sid(2)).await.unwrap();

        let mut without = file.clone();
        without.key_changes.clear();
        assert!(!seen(&without, first).is_sound(), "nothing ties the new key to the old");
        assert!(seen(&without, second).is_sound());
        let mut forged = file.clone();
        let stranger = SigningKey::from_seed(region.config.region, &[9; 32]);
        forged.key_changes[0].statement.body.next = stranger.verifying_key().to_hex();
        assert!(!seen(&forged, first).is_sound());
        let mut elsewhere = file.clone();
        elsewhere.key_changes[0].inclusion.path.pop();
        assert!(!seen(&elsewhere, first).is_sound());

        // The former key signs no later entry, even of who still has it.
        let seed_of_former = store.receipt_file(sid(1)).await.unwrap();
        let mut late = file;
        late.evidence = seed_of_former.evidence;
        late.evidence.receipt.body.log_index = late.tree_head.body.tree_size - 1;
        assert!(!seen(&late, first).is_sound());
    }

    async fn a_key_that_the_log_does_not_certify_is_found(region: Region) {
        let account = region.account().await;
        closed(&region, &account, 1..=1).await;
        region.store.receipts_issue(NEVER).await.unwrap();
        region.store.signing_key_rotate().await.unwrap();
        assert!(checked(&region, &[]).await.is_sound());
        for (change, back) in [
            ("UPDATE receipt_log SET key_generation = 0", "UPDATE receipt_log SET key_generation = 1"),
            ("UPDATE signing_key SET generation = 2", "UPDATE signing_key SET generation = 1"),
            ("UPDATE signing_key SET created_at = created_at + 1", "UPDATE signing_key SET created_at = created_at - 1"),
        ] {
            region.tamper(change).await;
            assert!(!checked(&region, &[]).await.is_sound(), "{change}");
            region.tamper(back).await;
            assert!(checked(&region, &[]).await.is_sound(), "{back}");
        }
        region.tamper("UPDATE signing_key SET salt = NULL").await;
        assert!(!checked(&region, &[]).await.is_sound());
    }
}

/// A process that runs on signs with the new key, and so does one that starts.
#[tokio::test]
async fn every_process_of_the_region_signs_with_the_new_key() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let other = Store::open(&region.config).await.unwrap();
    closed(&region, &account, 1..=1).await;
    other.receipts_issue(NEVER).await.unwrap();
    let next = region.store.signing_key_rotate().await.unwrap().key;
    for (call, store) in [(2, &other), (3, &region.store)] {
        closed(&region, &account, call..=call).await;
        store.receipts_issue(NEVER).await.unwrap();
        let receipt = store.receipt_of(sid(call)).await.unwrap().unwrap();
        assert_eq!(receipt.key_id, next.id());
    }
    let late = Store::open(&region.config).await.unwrap();
    assert_eq!(late.verifying_key().await.unwrap(), next);
    // What the former keys were derived from is gone.
    region.store.signing_key_rotate().await.unwrap();
    let salts =
        region.texts("SELECT CAST(generation AS TEXT) FROM signing_key WHERE salt IS NOT NULL");
    assert_eq!(salts.await, ["2"]);
    assert!(checked(&region, &[]).await.is_sound());
}
