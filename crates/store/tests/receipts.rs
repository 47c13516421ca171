//! Receipts: one for each closed call, whoever dies.

mod common;

use std::time::Duration;

use common::receipts::{
    ALWAYS, NEVER, checked, closed, events, recorded, recorder, recording, sid, speak,
};
use common::{at, eventually};
use landline_call::record::{CallEvent, LegRole, Party, Step};
use landline_control::{Consent, LegId, RelayId};
use landline_region::receipt::{CallFlow, Document, LegParty, RecordingState, Trust, verify};
use landline_region::{CallSid, LegSid, RegionCode, TrunkSid, UnixMillis};
use landline_store::{
    Issuer, IssuerConfig, Part, Recorder, RecorderConfig, RecordingStart, ResidencyCheck, Store,
    StoreError,
};

async fn trust(store: &Store) -> Trust {
    Trust { keys: vec![store.verifying_key().await.unwrap()] }
}

/// As who got the file sees it, who has nothing else than the region's key.
async fn sound(file: &impl serde::Serialize, store: &Store) -> bool {
    let document = Document::parse(&serde_json::to_string(file).unwrap()).unwrap();
    let verdict = verify(&document, &trust(store).await);
    assert!(verdict.faults.is_empty(), "{verdict:?}");
    verdict.is_sound()
}

/// Leads the call's B leg elsewhere, with no audio known of, and its legs by
/// these edges.
fn led(events: &mut Vec<CallEvent>, party: Party, edges: &[(LegRole, &str)]) {
    let call = events[0].call.as_u128();
    for event in events.iter_mut() {
        match &mut event.step {
            Step::LegOpened(leg) if leg.role == LegRole::B => leg.party = party,
            Step::LegClosed(leg) => leg.stats = None,
            _ => {}
        }
    }
    for (place, (role, edge)) in edges.iter().enumerate() {
        let leg = LegSid::from_u128(call * 10 + u128::from(*role == LegRole::B));
        let step = Step::LegByEdge { leg, edge: edge.parse().unwrap() };
        // One of them comes with a later batch than its leg.
        let event = CallEvent { step, ..events[0].clone() };
        events.insert(3 + 2 * place, event);
    }
    for (sequence, event) in (0..).zip(events.iter_mut()) {
        event.sequence = sequence;
    }
}

on_both_engines! {
    async fn each_closed_call_has_one_receipt_that_anybody_can_check(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        recorded(&region, &account, 1).await;
        closed(&region, &account, 2..=5).await;
        let error = store.receipt_file(sid(1)).await.unwrap_err().to_string();
        assert!(error.contains("it is issued when"), "{error}");
        assert_eq!(store.receipts_issue(NEVER).await.unwrap().issued, 5);
        assert_eq!(store.receipts_issue(ALWAYS).await.unwrap().issued, 0, "and never again");

        let ie1 = region.config.region;
        let record = store.call_show(sid(1)).await.unwrap();
        let file = store.receipt_file(sid(1)).await.unwrap();
        assert!(sound(&file, store).await);
        let receipt = &file.evidence.receipt.body;
        assert_eq!((receipt.call, receipt.account, receipt.region), (sid(1), account.sid, ie1));
        assert!(receipt.touched().iter().all(|(_, region)| *region == ie1), "{receipt:?}");
        assert_eq!(receipt.regions.media, Some(ie1));
        assert_eq!((receipt.proxy.as_str(), receipt.relay.as_deref()), ("proxy-1", Some("relay-1")));
        assert_eq!((receipt.opened_at, Some(receipt.closed_at)), (record.opened_at, record.closed_at));
        assert_eq!(Some(receipt.record.hash.0), record.hash);
        assert_eq!((receipt.record.position, receipt.record.legs), (1, 2));
        assert_eq!(receipt.key.id, record.key_id);
        let stored = receipt.recordings[0].stored.as_ref().unwrap();
        assert_eq!(receipt.recordings[0].state, RecordingState::Finished);
        assert_eq!((stored.stored_packets, stored.storage_region), (100, ie1));
        assert_eq!(stored.key.id, record.recordings[0].key_id);
        assert_ne!(stored.key.id, receipt.key.id);

        // Names and numbers are in no receipt.
        for call in 1..=5 {
            let file = store.receipt_file(sid(call)).await.unwrap();
            assert!(sound(&file, store).await);
            let text = serde_json::to_string(&file).unwrap();
            for secret in ["alice", "35312345678", "secret-call-id", "192.0.2.7", "Acme", "acme"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
        let found = checked(&region, &[file.tree_head]).await;
        let expected = ResidencyCheck {
            receipts: 5, recordings: 1, chunks: found.chunks, tree_heads: 1, ..Default::default()
        };
        assert_eq!(found, expected);
        assert!(found.chunks >= 2);
    }

    async fn a_receipt_says_what_left_the_region_for_its_call(region: Region) {
        let account = region.account().await;
        let (store, au1) = (&region.store, "au1".parse().unwrap());
        let trunk = TrunkSid::from_u128(9);
        // Within the region; out by a trunk from a phone that is in au1, and
        // moves to us1; to an account of au1 that never answers.
        closed(&region, &account, 1..=1).await;
        let mut by_trunk = events(&account, 2, false);
        let edges = [(LegRole::A, "au1"), (LegRole::A, "us1")];
        led(&mut by_trunk, Party::Trunk(trunk), &edges);
        let (begun, rest) = by_trunk.split_at(4);
        store.apply_events(begun).await.unwrap();
        store.apply_events(rest).await.unwrap();
        store.apply_events(begun).await.unwrap();
        let mut abroad = events(&account, 3, false);
        abroad.retain(|event| !matches!(event.step, Step::Answered { .. }));
        led(&mut abroad, Party::Region(au1), &[]);
        store.apply_events(&abroad).await.unwrap();
        assert_eq!(store.receipts_issue(NEVER).await.unwrap().issued, 3);

        let trunk = trunk.to_string();
        let wanted = [
            vec![],
            vec![
                (CallFlow::InterRegionSip, "au1", LegParty::User),
                (CallFlow::InterRegionSip, "us1", LegParty::User),
                (CallFlow::TrunkSip, &trunk, LegParty::Trunk),
                (CallFlow::TrunkMedia, &trunk, LegParty::Trunk),
            ],
            vec![(CallFlow::InterRegionSip, "au1", LegParty::Account)],
        ];
        for (call, wanted) in (1..).zip(wanted) {
            let file = store.receipt_file(sid(call)).await.unwrap();
            assert!(sound(&file, store).await);
            let egress = &file.evidence.receipt.body.egress;
            let lines: Vec<_> =
                egress.lines.iter().map(|it| (it.flow, it.to.as_str(), it.party)).collect();
            assert!(egress.reported);
            assert_eq!(lines, wanted, "call {call}");
        }
        let (from, to) = (UnixMillis(0), UnixMillis(i64::MAX >> 11));
        let report = store.residency_report(account.sid, from, to).await.unwrap();
        assert!(sound(&report, store).await);
        let report = &report.report.body;
        assert_eq!((report.egress_lines, report.egress_unreported), (5, 0));
        assert_eq!(report.egress.len(), 5);
        assert!(report.other_regions.is_empty(), "they were not touched by others: {report:?}");
        assert!(checked(&region, &[]).await.is_sound());

        // The lines are the record's: neither can be changed without the other.
        for change in [
            "UPDATE call_leg SET edge_regions = 'au1' WHERE edge_regions IS NOT NULL",
            "UPDATE call_leg SET party_region = 'us1' WHERE party_region IS NOT NULL",
            "UPDATE call_leg SET party_trunk = NULL WHERE party_trunk IS NOT NULL",
        ] {
            assert_eq!(region.tamper(change).await, 1, "{change}");
            let found = checked(&region, &[]).await;
            let says = |what: &str| found.faults.iter().any(|it| it.problem.contains(what));
            assert!(says("`egress` is not what") && says("a leg was changed"), "{found:?}");
        }
    }

    async fn a_receipt_waits_for_the_recordings_end_and_not_for_ever(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        // 1: was to be recorded, and nothing came. 2: its recording runs. 3: never answered.
        store.apply_events(&events(&account, 1, true)).await.unwrap();
        let running = recorder(&region, &account, 2).await;
        store.apply_events(&events(&account, 2, true)).await.unwrap();
        let mut refused = events(&account, 3, true);
        refused.remove(4);
        (0..).zip(&mut refused).for_each(|(sequence, event)| event.sequence = sequence);
        store.apply_events(&refused).await.unwrap();
        eventually("chunks are stored", || async {
            store.recording_show(recording(2)).await.is_ok_and(|record| record.chunks > 0)
        }).await;
        assert_eq!(store.receipts_issue(NEVER).await.unwrap().issued, 1);
        assert!(store.receipt_of(sid(3)).await.unwrap().unwrap().body.recordings.is_empty());
        assert_eq!(checked(&region, &[]).await.waiting, 2);

        assert_eq!(store.receipts_issue(ALWAYS).await.unwrap().issued, 2);
        let state = async |call| {
            let receipt = store.receipt_of(sid(call)).await.unwrap().unwrap();
            receipt.body.recordings[0].state
        };
        assert_eq!(state(1).await, RecordingState::Missing);
        assert_eq!(state(2).await, RecordingState::Unfinished);
        let before = checked(&region, &[]).await;
        assert!(before.is_sound() && before.grown == 0, "{before:?}");

        // More of it arrives after all: no second receipt, and no fault.
        speak(&running, 2, 100..200);
        running.sink().finish(recording(2)).await.unwrap();
        running.shutdown().await;
        let late = recorder(&region, &account, 1).await;
        late.sink().finish(recording(1)).await.unwrap();
        late.shutdown().await;
        assert_eq!(store.receipts_issue(ALWAYS).await.unwrap().issued, 0);
        let after = checked(&region, &[]).await;
        assert!(after.is_sound() && after.grown == 2, "{after:?}");
        // What the receipt covered stays covered.
        let change = format!("UPDATE recording_chunk SET last_ms = last_ms + 1 WHERE sequence = 0 AND recording = '{}'", recording(2));
        region.tamper(&change).await;
        assert!(!checked(&region, &[]).await.is_sound());
    }

    async fn a_receipt_names_every_part_of_a_recording(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        let dead = recorder(&region, &account, 1).await;
        eventually("its chunks are stored", || async {
            store.recording_show(recording(1)).await.is_ok_and(|record| record.chunks > 0)
        }).await;
        let part = Part::of(recording(1), 1);
        let next = Recorder::start(store.clone(), RecorderConfig::new(region.path("next"))).unwrap();
        let begun = RecordingStart {
            part,
            call: sid(1),
            account: account.sid,
            consent: Consent { by_policy: true, granted_at: at(0) },
            started_at: at(5000),
            payload_types: Vec::new(),
        };
        next.sink().start(begun).unwrap();
        next.sink().frame(part.sid(), LegId(0), 0, &[0x80; 172]).unwrap();
        next.sink().finish(part.sid()).await.unwrap();
        let mut told = events(&account, 1, true);
        let relay = |n: u8| RelayId(format!("relay-{n}"));
        let moved = Step::Moved { from: relay(1), to: relay(2) };
        told.insert(5, CallEvent { step: moved, ..told[4].clone() });
        (0..).zip(&mut told).for_each(|(sequence, event)| event.sequence = sequence);
        store.apply_events(&told).await.unwrap();
        assert_eq!(store.receipts_issue(ALWAYS).await.unwrap().issued, 1);
        let receipt = store.receipt_of(sid(1)).await.unwrap().unwrap();
        let stated: Vec<_> =
            receipt.body.recordings.iter().map(|it| (it.sid, it.state)).collect();
        assert_eq!(stated, [
            (recording(1), RecordingState::Unfinished),
            (part.sid(), RecordingState::Finished),
        ]);
        assert!(checked(&region, &[]).await.is_sound());
        let moves = store.call_show(sid(1)).await.unwrap().moves;
        assert_eq!((moves.len(), &moves[0].from, &moves[0].to), (1, &relay(1), &relay(2)));
        dead.shutdown().await;
        next.shutdown().await;
        assert!(checked(&region, &[]).await.is_sound());
        // Neither may a part deny what it belongs to, nor the record its moves.
        for change in [
            format!("UPDATE recording SET whole = NULL, segment = 0 WHERE sid = '{}'", part.sid()),
            format!("UPDATE recording SET whole = '{}' WHERE sid = '{}'", recording(2), part.sid()),
        ] {
            region.tamper(&change).await;
            assert!(!checked(&region, &[]).await.is_sound(), "{change}");
        }
        let back = format!("UPDATE recording SET whole = '{}', segment = 1 WHERE sid = '{}'", recording(1), part.sid());
        region.tamper(&back).await;
        assert!(checked(&region, &[]).await.is_sound());
        region.tamper("UPDATE call SET moves = NULL").await;
        assert!(!checked(&region, &[]).await.is_sound());
    }

    async fn issuers_side_by_side_and_killed_at_any_point_leave_one_receipt_a_call(region: Region) {
        let account = region.account().await;
        let config = IssuerConfig { every: Duration::from_millis(1), ..IssuerConfig::default() };
        let other = Store::open(&region.config).await.unwrap();
        for round in 0..6_u128 {
            let issuers = [region.store.clone(), other.clone(), region.store.clone()]
                .map(|store| Issuer::start(store, config.clone()));
            closed(&region, &account, round * 10 + 1..=round * 10 + 10).await;
            match round % 2 {
                // Dropped in the middle of whatever they do.
                0 => drop(issuers),
                _ => for issuer in issuers { issuer.shutdown().await },
            }
        }
        let last = Issuer::start(other.clone(), config);
        last.shutdown().await;
        let found = checked(&region, &[]).await;
        assert!(found.is_sound(), "{found:?}");
        assert_eq!((found.receipts, found.waiting), (60, 0));
        other.close().await;
    }

    async fn an_issuer_cut_off_at_every_point_loses_nothing(region: Region) {
        let account = region.account().await;
        for call in 1..=12_u128 {
            closed(&region, &account, call..=call).await;
            // The future is dropped wherever it is: its transaction with it.
            let patience = Duration::from_micros(100 * call as u64);
            let _ = tokio::time::timeout(patience, region.store.receipts_issue(NEVER)).await;
        }
        while region.store.receipts_issue(NEVER).await.unwrap().issued > 0 {}
        let found = checked(&region, &[]).await;
        assert!(found.is_sound(), "{found:?}");
        assert_eq!((found.receipts, found.waiting), (12, 0));
    }

    async fn a_report_lists_every_call_of_the_period_and_is_checked_alone(region: Region) {
        let account = region.account().await;
        let store = &region.store;
        let nothing = store.residency_report(account.sid, NEVER, ALWAYS).await.unwrap_err();
        assert!(matches!(nothing, StoreError::NotFound { .. }), "{nothing}");
        for batch in [1..=3, 4..=6, 7..=8] {
            closed(&region, &account, batch).await;
            store.receipts_issue(NEVER).await.unwrap();
        }
        closed(&region, &account, 9..=9).await;
        let open = &events(&account, 10, false)[..3];
        store.apply_events(open).await.unwrap();

        let (from, to) = (at(500_000), at(2_000_000));
        let file = store.residency_report(account.sid, from, to).await.unwrap();
        assert!(sound(&file, store).await);
        let report = &file.report.body;
        assert_eq!((report.closed, report.receipts, report.waiting, report.open), (5, 4, 1, 1));
        assert!(report.other_regions.is_empty());
        let calls: Vec<CallSid> = file.receipts.iter().map(|e| e.receipt.body.call).collect();
        assert_eq!(calls, [5, 6, 7, 8].map(sid));
        assert_eq!(file.earlier_head.unwrap().body.tree_size, 3);
        assert_eq!(file.tree_head.body.tree_size, 8);

        let other = landline_region::AccountSid::from_u128(404);
        let file = store.residency_report(other, from, to).await.unwrap();
        assert!(sound(&file, store).await && file.receipts.is_empty());
    }

    async fn a_destroyed_key_leaves_every_hash_in_place(region: Region) {
        let account = region.account().await;
        recorded(&region, &account, 1).await;
        closed(&region, &account, 2..=3).await;
        region.store.receipts_issue(NEVER).await.unwrap();
        region.tamper(&format!("DELETE FROM call_key WHERE call = '{}'", sid(2))).await;
        let found = checked(&region, &[]).await;
        assert!(found.is_sound() && found.erased == 1, "{found:?}");
        region.tamper("DELETE FROM account_key").await;
        // Another process: this one may still hold the account's key.
        let store = Store::open(&region.config).await.unwrap();
        let found = store.residency_check(&[]).await.unwrap();
        assert!(found.is_sound() && found.erased == 3, "{found:?}");
        store.close().await;
    }

    async fn a_record_that_makes_no_receipt_does_not_hold_up_the_others(region: Region) {
        let account = region.account().await;
        closed(&region, &account, 1..=3).await;
        region.tamper(&format!("UPDATE call SET media_region = 'nowhere' WHERE sid = '{}'", sid(1))).await;
        let issued = region.store.receipts_issue(NEVER).await.unwrap();
        assert_eq!((issued.issued, issued.refused), (2, 1));
        assert_eq!(region.store.receipts_issue(NEVER).await.unwrap().refused, 0, "not at once again");
        let error = region.store.receipt_file(sid(1)).await.unwrap_err().to_string();
        assert!(error.contains("tampered"), "{error}");
        let found = checked(&region, &[]).await;
        assert!(found.faults.iter().any(|fault| fault.problem.contains("makes no receipt")), "{found:?}");
    }

    async fn how_a_record_was_hashed_is_part_of_its_hash(region: Region) {
        let account = region.account().await;
        closed(&region, &account, 1..=1).await;
        let whole = region.store.call_chain_verify().await.unwrap();
        for version in [1, 2, 4] {
            region.tamper(&format!("UPDATE call SET hash_version = {version}")).await;
            assert!(region.store.call_chain_verify().await.is_err(), "{version}");
        }
        region.tamper("UPDATE call SET hash_version = 3").await;
        assert_eq!(region.store.call_chain_verify().await.unwrap(), whole);
    }
}

#[tokio::test]
async fn a_head_of_another_region_or_key_is_no_head_of_this_one() {
    let region = common::Region::sqlite("ie1").await;
    let other = common::Region::sqlite("us1").await;
    for region in [&region, &other] {
        let account = region.account().await;
        closed(region, &account, 1..=2).await;
        region.store.receipts_issue(NEVER).await.unwrap();
    }
    let code: RegionCode = "us1".parse().unwrap();
    let file = other.store.receipt_file(sid(1)).await.unwrap();
    assert_eq!(file.tree_head.body.region, code);
    let found = checked(&region, &[file.tree_head]).await;
    assert!(found.faults[0].problem.contains("did not sign"), "{found:?}");
}

#[tokio::test]
async fn while_the_database_is_away_receipts_wait() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    closed(&region, &account, 1..=2).await;
    let away = Store::open(&region.config).await.unwrap();
    away.close().await;
    let config = IssuerConfig { every: Duration::from_millis(1), ..IssuerConfig::default() };
    let issuer = Issuer::start(away, config.clone());
    eventually("failures are counted", || async { issuer.counters().database_failures > 1 }).await;
    issuer.shutdown().await;
    let issuer = Issuer::start(region.store.clone(), config);
    eventually("both are issued", || async { issuer.counters().issued == 2 }).await;
    issuer.shutdown().await;
    assert!(checked(&region, &[]).await.is_sound());
}
