mod common;

use common::{at, contains, personal};
use landline_call::record::{
    CallDirection, CallEvent, Cause, Closed, HungUpBy, LegClosed, LegOpened, LegRole, Opened,
    Party, Step,
};
use landline_call::tenancy::Account;
use landline_control::{Consent, LegStats, Protocol, RelayId, StreamStats};
use landline_region::{AccountSid, CallSid, LegSid, RecordingSid, RegionCode, UnixMillis, UserSid};
use landline_store::{Applied, CallFilter, CallState, NewAccount, Readable, Store, StoreError};

fn leg(call: u128, role: LegRole) -> LegSid {
    LegSid::from_u128(call * 10 + if role == LegRole::A { 0 } else { 1 })
}

fn opened(home: RegionCode) -> Opened {
    Opened {
        direction: CallDirection::Internal,
        from: personal("alice.murphy"),
        to: personal("+35312345678"),
        home_region: home,
        signalling_region: home,
        contracting_entity: "landline-ie1".to_owned(),
        proxy: "proxy-1".to_owned(),
        recording: Some((
            RecordingSid::from_u128(9),
            Consent { by_policy: true, granted_at: at(0) },
        )),
    }
}

fn stats() -> LegStats {
    LegStats {
        received: StreamStats { packets: 500, lost: 3, jitter_us: 1200, ..StreamStats::default() },
        sent: StreamStats { packets: 501, ..StreamStats::default() },
        codec: Some("OPUS".to_owned()),
        mos_x100: Some(431),
        ..LegStats::default()
    }
}

/// An answered call from its opening to its end.
fn events(account: &Account, call: u128) -> Vec<CallEvent> {
    let leg_opened = |role| {
        Step::LegOpened(LegOpened {
            leg: leg(call, role),
            role,
            party: Party::User(UserSid::from_u128(5)),
            sip_call_id: personal("secret-call-id@192.0.2.7"),
            media: Some(Protocol::Dtls),
        })
    };
    let leg_closed = |role| {
        Step::LegClosed(LegClosed { leg: leg(call, role), sip_status: 200, stats: Some(stats()) })
    };
    let closed = Closed {
        cause: Cause::CalleeHungUp,
        sip_status: 200,
        relay: Some(RelayId("relay-1".to_owned())),
        media_region: Some(account.home_region),
        recorded: None,
    };
    let steps = vec![
        Step::Opened(opened(account.home_region)),
        leg_opened(LegRole::A),
        leg_opened(LegRole::B),
        Step::Ringing,
        Step::Answered { leg: leg(call, LegRole::B) },
        leg_closed(LegRole::A),
        leg_closed(LegRole::B),
        Step::Closed(closed),
    ];
    let event = |(sequence, step): (usize, Step)| CallEvent {
        call: CallSid::from_u128(call),
        account: account.sid,
        sequence: sequence as u32,
        at: at(1000 * sequence as i64),
        step,
    };
    steps.into_iter().enumerate().map(event).collect()
}

on_both_engines! {
    async fn a_call_is_open_before_it_rings_and_closed_with_everything_known(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let events = events(&account, 1);
        let call = CallSid::from_u128(1);
        // Event by event, as a slow call is shipped.
        store.apply_events(&events[..1]).await.unwrap();
        assert!(store.holds(call).await.unwrap());
        let open = store.open_calls(Some("proxy-1")).await.unwrap();
        assert_eq!((open.len(), open[0].sid, open[0].next_sequence), (1, call, 1));
        assert!(store.open_calls(Some("proxy-2")).await.unwrap().is_empty());
        for event in &events[1..] {
            store.apply_events(std::slice::from_ref(event)).await.unwrap();
        }
        assert!(store.open_calls(None).await.unwrap().is_empty());

        let record = store.call_show(call).await.unwrap();
        assert_eq!(record.personal, Readable::Yes);
        assert_eq!(record.from, Some(personal("alice.murphy")));
        assert_eq!(record.to, Some(personal("+35312345678")));
        assert_eq!(record.opened_at, at(0));
        assert_eq!(record.ringing_at, Some(at(3000)));
        assert_eq!(record.answered_at, Some(at(4000)));
        assert_eq!(record.answered_leg, Some(leg(1, LegRole::B)));
        assert_eq!(record.closed_at, Some(at(7000)));
        assert_eq!((record.sip_status, record.cause), (Some(200), Some(Cause::CalleeHungUp)));
        assert_eq!(record.hung_up_by, Some(HungUpBy::Callee));
        assert_eq!(record.relay, Some(RelayId("relay-1".to_owned())));
        assert_eq!(record.media_region, Some(region.config.region));
        assert_eq!(record.storage_region, region.config.region);
        assert_eq!(record.recording, Some(RecordingSid::from_u128(9)));
        assert_eq!(record.retention_until, Some(at(7000).plus(region.config.retention)));
        let roles: Vec<LegRole> = record.legs.iter().map(|leg| leg.role).collect();
        assert_eq!(roles, [LegRole::A, LegRole::B]);
        assert_eq!(record.legs[0].stats, Some(stats()));
        assert_eq!(record.legs[1].sip_call_id, Some(personal("secret-call-id@192.0.2.7")));
        assert_eq!(record.legs[1].media, Some(Protocol::Dtls));
        assert_eq!(record.legs[1].closed_at, Some(at(6000)));
    }

    async fn events_shipped_twice_change_nothing(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let events = events(&account, 1);
        let all = Applied { applied: 8, ..Applied::default() };
        assert_eq!(store.apply_events(&events).await.unwrap(), all);
        let before = store.call_show(CallSid::from_u128(1)).await.unwrap();
        let again = Applied { duplicates: 8, ..Applied::default() };
        assert_eq!(store.apply_events(&events).await.unwrap(), again);
        assert_eq!(store.call_show(CallSid::from_u128(1)).await.unwrap(), before);
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 1);

        // What comes after the end, or without a beginning, is counted.
        let late = CallEvent { sequence: 8, step: Step::Ringing, ..events[0].clone() };
        let stray = CallEvent { call: CallSid::from_u128(77), ..events[3].clone() };
        let applied = store.apply_events(&[late, stray]).await.unwrap();
        assert_eq!(applied, Applied { orphans: 2, ..Applied::default() });
        assert_eq!(store.call_show(CallSid::from_u128(1)).await.unwrap(), before);
    }

    async fn a_call_of_another_region_is_refused_whole_and_counted(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let mut batch = events(&account, 1);
        let mut foreign = events(&account, 2);
        let Step::Opened(opened) = &mut foreign[0].step else { panic!() };
        opened.home_region = "us1".parse().unwrap();
        batch.extend(foreign);
        let error = store.apply_events(&batch).await.unwrap_err();
        assert!(matches!(error, StoreError::ForeignRecord { .. }), "{error}");
        assert_eq!(store.counters().foreign_records, 1);
        assert!(!store.holds(CallSid::from_u128(1)).await.unwrap());
        let unknown = Account { sid: AccountSid::from_u128(404), ..account };
        let applied = store.apply_events(&events(&unknown, 3)).await.unwrap();
        assert_eq!(applied.orphans, 8);
    }

    async fn calls_are_listed_newest_first_by_account_time_and_state(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        for call in 1..=3 {
            let mut events = events(&account, call);
            if call == 3 {
                events.truncate(2);
            }
            for event in &mut events {
                event.at = UnixMillis(event.at.0 + 100_000 * call as i64);
            }
            store.apply_events(&events).await.unwrap();
        }
        let list = |filter: CallFilter| async move {
            let calls = store.call_list(&filter).await.unwrap();
            calls.iter().map(|call| call.sid.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(list(CallFilter::default()).await, [3, 2, 1]);
        let filter = CallFilter { state: CallState::Open, ..CallFilter::default() };
        assert_eq!(list(filter).await, [3]);
        let filter = CallFilter {
            state: CallState::Closed,
            account: Some(account.sid),
            since: Some(at(200_000)),
            limit: Some(5),
        };
        assert_eq!(list(filter).await, [2]);
        let filter = CallFilter { account: Some(AccountSid::from_u128(1)), ..CallFilter::default() };
        assert_eq!(list(filter).await, []);
    }

    async fn a_changed_or_removed_record_breaks_the_chain_by_name(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        for call in 1..=4 {
            store.apply_events(&events(&account, call)).await.unwrap();
        }
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 4);
        let counts = store.call_counts().await.unwrap();
        assert_eq!((counts.opened, counts.closed), (4, 4));
        let sid = |call| CallSid::from_u128(call).to_string();
        let broken = async || store.call_chain_verify().await.unwrap_err().to_string();

        region.tamper(&format!("UPDATE call SET closed_at = closed_at + 1 WHERE sid = '{}'", sid(2))).await;
        let error = broken().await;
        assert!(error.contains(&sid(2)) && error.contains("changed"), "{error}");
        region.tamper(&format!("UPDATE call SET closed_at = closed_at - 1 WHERE sid = '{}'", sid(2))).await;
        region.tamper(&format!("UPDATE call_leg SET sip_status = 486 WHERE sid = '{}'", leg(3, LegRole::B))).await;
        assert!(broken().await.contains(&sid(3)));
        region.tamper(&format!("UPDATE call_leg SET sip_status = 200 WHERE sid = '{}'", leg(3, LegRole::B))).await;
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 4);

        region.tamper(&format!("DELETE FROM call_leg WHERE call = '{}'", sid(3))).await;
        region.tamper(&format!("DELETE FROM call WHERE sid = '{}'", sid(3))).await;
        let error = broken().await;
        assert!(error.contains(&sid(4)) && error.contains("removed"), "{error}");
        region.tamper(&format!("DELETE FROM call_leg WHERE call = '{}'", sid(4))).await;
        region.tamper(&format!("DELETE FROM call WHERE sid = '{}'", sid(4))).await;
        assert!(broken().await.contains("removed"));
    }

    async fn two_proxies_close_calls_at_once_on_one_chain(region: Region) {
        let account = region.account().await;
        let other = Store::open(&region.config).await.unwrap();
        let run = |store: Store, calls: std::ops::Range<u128>| {
            let account = account.clone();
            tokio::spawn(async move {
                for call in calls {
                    store.apply_events(&events(&account, call)).await.unwrap();
                }
            })
        };
        let (one, two) = (run(region.store.clone(), 1..20), run(other, 101..120));
        one.await.unwrap();
        two.await.unwrap();
        assert_eq!(region.store.call_chain_verify().await.unwrap().calls, 38);
    }

    async fn a_leg_without_an_end_of_its_own_ends_with_its_call(region: Region) {
        let account = region.account().await;
        let mut events = events(&account, 1);
        events.remove(6);
        region.store.apply_events(&events).await.unwrap();
        let record = region.store.call_show(CallSid::from_u128(1)).await.unwrap();
        assert_eq!(record.legs[1].closed_at, Some(at(7000)));
        assert_eq!(region.store.call_chain_verify().await.unwrap().calls, 1);
    }

    async fn what_a_peer_calls_its_codec_cannot_stop_the_shipping(region: Region) {
        let account = region.account().await;
        let mut events = events(&account, 1);
        let Step::LegClosed(leg) = &mut events[5].step else { panic!() };
        leg.stats.as_mut().unwrap().codec = Some("OP\0US\u{7f}\u{e9}".repeat(1000));
        region.store.apply_events(&events).await.unwrap();
        assert!(region.store.open_calls(None).await.unwrap().is_empty());
    }

    async fn a_record_is_listed_and_shown_after_its_key_was_destroyed(region: Region) {
        let erased = region.account().await;
        let new = NewAccount::new("Other Ltd", "other.test", region.config.region);
        let other = region.store.account_create(&new).await.unwrap();
        region.store.apply_events(&events(&erased, 1)).await.unwrap();
        for call in [2, 3, 4] {
            region.store.apply_events(&events(&other, call)).await.unwrap();
        }
        let tamper = async |sql: String| assert_eq!(region.tamper(&sql).await, 1, "{sql}");
        let call = CallSid::from_u128;
        tamper(format!("DELETE FROM account_key WHERE account = '{}'", erased.sid)).await;
        tamper(format!("DELETE FROM call_key WHERE call = '{}'", call(2))).await;
        tamper(format!("UPDATE call SET party_from = party_to WHERE sid = '{}'", call(3))).await;

        // Another process: this one may still hold the account's key.
        let store = Store::open(&region.config).await.unwrap();
        let mut listed = store.call_list(&CallFilter::default()).await.unwrap();
        listed.sort_by_key(|record| record.sid);
        let (alice, number) = (Some(personal("alice.murphy")), Some(personal("+35312345678")));
        let wanted = [
            (Readable::Erased, None, None),
            (Readable::Erased, None, None),
            (Readable::Damaged, None, number.clone()),
            (Readable::Yes, alice, number),
        ];
        for (number, (record, wanted)) in (1..).zip(listed.iter().zip(wanted)) {
            assert_eq!(record.sid, call(number));
            assert_eq!((record.personal, record.from.clone(), record.to.clone()), wanted);
            // What is no personal data stays.
            assert_eq!((record.cause, record.closed_at), (Some(Cause::CalleeHungUp), Some(at(7000))));
        }
        let shown = store.call_show(call(1)).await.unwrap();
        assert_eq!(shown.personal, Readable::Erased);
        assert_eq!(shown.legs.len(), 2);
        assert!(shown.legs.iter().all(|leg| leg.sip_call_id.is_none()));
        assert!(shown.legs[1].stats.is_some());
        assert_eq!(store.call_show(call(3)).await.unwrap().personal, Readable::Damaged);
        store.close().await;
    }

    async fn a_call_of_another_region_is_not_held(region: Region) {
        let error = region.store.call_show(CallSid::from_u128(1)).await.unwrap_err();
        assert!(error.to_string().contains("home region"), "{error}");
        assert!(!region.store.holds(CallSid::from_u128(1)).await.unwrap());
    }
}

#[tokio::test]
async fn who_called_whom_does_not_lie_readable_in_the_files() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    region.store.apply_events(&events(&account, 1)).await.unwrap();
    for (path, bytes) in common::files(region.dir.path()) {
        for secret in ["alice.murphy", "35312345678", "secret-call-id", "192.0.2.7"] {
            assert!(!contains(&bytes, secret), "{secret} in {}", path.display());
        }
    }
}
