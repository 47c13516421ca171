mod common;

use std::time::{Duration, Instant};

use common::{at, contains, eventually, personal};
use landline_call::Snapshot;
use landline_call::record::{CallDirection, CallEvent, Cause, Closed, Opened, Step};
use landline_call::tenancy::Account;
use landline_region::{CallSid, Personal};
use landline_store::{AppendError, CallFilter, CallState, KeptCall, Ledger, LedgerConfig, Store};

fn event(account: &Account, call: u128, sequence: u32, step: Step) -> CallEvent {
    CallEvent {
        call: CallSid::from_u128(call),
        account: account.sid,
        sequence,
        at: at(i64::from(sequence) * 1000),
        step,
    }
}

fn opened(account: &Account, call: u128) -> CallEvent {
    let opened = Opened {
        direction: CallDirection::Internal,
        from: personal("alice.murphy"),
        to: personal("+35312345678"),
        home_region: account.home_region,
        signalling_region: account.home_region,
        contracting_entity: "landline-ie1".to_owned(),
        proxy: "proxy-1".to_owned(),
        recording: None,
    };
    event(account, call, 0, Step::Opened(opened))
}

fn closed(account: &Account, call: u128, sequence: u32) -> CallEvent {
    let closed = Closed {
        cause: Cause::CallerHungUp,
        sip_status: 200,
        relay: None,
        media_region: None,
        recorded: None,
    };
    event(account, call, sequence, Step::Closed(closed))
}

async fn away(region: &common::Region) -> Store {
    let store = Store::open(&region.config).await.unwrap();
    store.close().await;
    store
}

fn config(region: &common::Region) -> LedgerConfig {
    LedgerConfig::new(region.path("ledger"))
}

/// The newest segment that holds records.
fn newest_segment(region: &common::Region) -> std::path::PathBuf {
    let mut segments: Vec<_> = common::files(&region.path("ledger"))
        .into_iter()
        .filter(|(path, octets)| path.extension().is_some_and(|e| e == "seg") && octets.len() > 44)
        .map(|(path, _)| path)
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

on_both_engines! {
    async fn what_is_appended_comes_into_the_database(region: Region) {
        let account = region.account().await;
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        for call in 1..=250 {
            let answer = ledger.append(vec![opened(&account, call), closed(&account, call, 1)]);
            answer.await.unwrap().unwrap();
        }
        ledger.flush().await.unwrap();
        let filter = CallFilter { state: CallState::Closed, limit: Some(1000), ..Default::default() };
        assert_eq!(region.store.call_list(&filter).await.unwrap().len(), 250);
        let counters = ledger.counters();
        assert_eq!((counters.appended, counters.shipped, counters.pending), (500, 500, 0));
        assert!(counters.fsyncs <= 250);
        let found = landline_store::ledger::inspect(&config(&region).dir).unwrap();
        assert_eq!((found.damaged, found.torn_octets), (0, 0));
        ledger.close().await;
    }

    async fn an_event_that_the_database_refuses_is_set_aside_and_the_rest_shipped(region: Region) {
        let account = region.account().await;
        let refused = CallSid::from_u128(2);
        match region.config.url.starts_with("sqlite") {
            true => region.tamper(&format!("CREATE TRIGGER refuse BEFORE INSERT ON call WHEN NEW.sid = '{refused}' BEGIN SELECT RAISE(ABORT, 'no'); END")).await,
            false => region.tamper(&format!("ALTER TABLE call ADD CHECK (sid <> '{refused}')")).await,
        };
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        let calls = (1..=3).flat_map(|call| [opened(&account, call), closed(&account, call, 1)]);
        ledger.append(calls.collect()).await.unwrap().unwrap();
        ledger.flush().await.unwrap();
        let listed = region.store.call_list(&CallFilter::default()).await.unwrap();
        let sids: Vec<u128> = listed.iter().map(|call| call.sid.as_u128()).collect();
        assert!(sids.len() == 2 && !sids.contains(&2), "{sids:?}");
        let counters = ledger.counters();
        // The end of a call that is not there is an orphan, and no refusal.
        assert_eq!((counters.set_aside, counters.shipped, counters.pending), (1, 5, 0));
        ledger.close().await;

        // It is kept, sealed, and not sent again.
        let aside = config(&region).dir.join("refused");
        let found = landline_store::ledger::inspect(&aside).unwrap();
        assert_eq!((found.records, found.damaged, found.torn_octets), (1, 0, 0));
        for (path, octets) in common::files(&aside) {
            for secret in ["alice.murphy", "35312345678"] {
                assert!(!contains(&octets, secret), "{secret} in {}", path.display());
            }
        }
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        ledger.append(vec![opened(&account, 4)]).await.unwrap().unwrap();
        ledger.flush().await.unwrap();
        assert_eq!((ledger.counters().set_aside, ledger.counters().shipped), (0, 1));
        ledger.close().await;
    }

    async fn calls_of_a_dead_proxy_are_closed_as_lost_at_the_last_proven_time(region: Region) {
        let account = region.account().await;
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        assert!(ledger.sweep_lost("proxy-1").await.unwrap().is_empty());
        let ringing = event(&account, 1, 1, Step::Ringing);
        ledger.append(vec![opened(&account, 1), ringing]).await.unwrap().unwrap();
        ledger.append(vec![opened(&account, 2), closed(&account, 2, 1)]).await.unwrap().unwrap();
        ledger.alive(at(42_000));
        ledger.append(Vec::new()).await.unwrap().unwrap();
        ledger.flush().await.unwrap();
        ledger.close().await;

        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        // Must not overwrite the proof.
        ledger.alive(at(99_000));
        assert!(ledger.sweep_lost("proxy-2").await.unwrap().is_empty());
        ledger.close().await;
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        let lost = ledger.sweep_lost("proxy-1").await.unwrap();
        assert_eq!(lost.len(), 1);
        let record = region.store.call_show(CallSid::from_u128(1)).await.unwrap();
        assert_eq!((record.cause, record.closed_at), (Some(Cause::Lost), Some(at(42_000))));
        assert!(region.store.open_calls(None).await.unwrap().is_empty());
        assert!(ledger.sweep_lost("proxy-1").await.unwrap().is_empty());
        assert_eq!(region.store.call_chain_verify().await.unwrap().calls, 2);
        ledger.close().await;
    }

    async fn calls_of_a_proxy_that_never_comes_back_are_closed_by_another(region: Region) {
        let account = region.account().await;
        let dead = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        dead.append(vec![opened(&account, 1)]).await.unwrap().unwrap();
        dead.flush().await.unwrap();
        region.store.proxy_alive("proxy-1", at(42_000)).await.unwrap();
        let other = LedgerConfig { dir: region.path("other"), ..config(&region) };
        let other = Ledger::open(other, region.store.clone()).await.unwrap();

        // It gave a sign of life since, and nobody sweeps his own.
        assert!(other.sweep_abandoned("proxy-2", at(42_000)).await.unwrap().is_empty());
        assert!(other.sweep_abandoned("proxy-1", at(50_000)).await.unwrap().is_empty());
        let lost = other.sweep_abandoned("proxy-2", at(50_000)).await.unwrap();
        assert_eq!(lost.len(), 1);
        let record = region.store.call_show(CallSid::from_u128(1)).await.unwrap();
        assert_eq!((record.cause, record.closed_at), (Some(Cause::Lost), Some(at(42_000))));
        assert_eq!((other.counters().calls_opened, other.counters().calls_closed), (0, 1));

        // It lived after all: what it has to tell is kept, and changes nothing.
        let ringing = event(&account, 1, 1, Step::Ringing);
        dead.append(vec![ringing, closed(&account, 1, 2)]).await.unwrap().unwrap();
        dead.flush().await.unwrap();
        assert_eq!((dead.counters().set_aside, dead.counters().shipped), (2, 1));
        let aside = landline_store::ledger::inspect(&region.path("ledger/refused")).unwrap();
        assert_eq!(aside.records, 2);
        assert_eq!(region.store.call_show(CallSid::from_u128(1)).await.unwrap().cause, Some(Cause::Lost));
        assert_eq!(region.store.call_chain_verify().await.unwrap().calls, 1);
        dead.close().await;
        other.close().await;
    }

    async fn a_call_that_another_proxy_took_over_is_left_to_it(region: Region) {
        let account = region.account().await;
        let first = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        let calls = [1, 2];
        for call in calls {
            let state = vec![kept(&account, call, 1)];
            first.append_with(vec![opened(&account, call)], state).await.unwrap().unwrap();
        }
        first.flush().await.unwrap();
        first.close().await;
        region.store.proxy_alive("proxy-1", at(1_000)).await.unwrap();
        let second = LedgerConfig { dir: region.path("second"), ..config(&region) };
        let second = Ledger::open(second, region.store.clone()).await.unwrap();
        region.store.proxy_alive("proxy-2", at(60_000)).await.unwrap();
        let taken = |call, sequence, proxy: &str| {
            event(&account, call, sequence, Step::TakenOver { proxy: proxy.to_owned() })
        };
        // With the record so far, of which the database has a part.
        for call in calls {
            let ringing = event(&account, call, 1, Step::Ringing);
            let record = vec![opened(&account, call), ringing, taken(call, 40, "proxy-2")];
            second.append(record).await.unwrap().unwrap();
        }
        second.flush().await.unwrap();
        let abandoned = second.sweep_abandoned("proxy-3", at(50_000)).await.unwrap();
        assert!(abandoned.is_empty(), "its new owner lives: {abandoned:?}");

        // Back again it has heard of one, and of the other the relay is the judge;
        // the end that it writes for want of an answer is not the call's.
        let first = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        first.spare([CallSid::from_u128(1)].into());
        assert!(first.sweep_lost("proxy-1").await.unwrap().is_empty());
        assert_eq!(left(&first), [(2, 1, "alice.murphy in 2 at 1".to_owned())]);
        let lost = CallEvent { step: Step::Closed(Closed::lost(true)), ..closed(&account, 2, 1) };
        first.append(vec![lost]).await.unwrap().unwrap();
        first.flush().await.unwrap();
        assert_eq!(region.store.open_calls(Some("proxy-2")).await.unwrap().len(), 2);
        for call in calls {
            second.append(vec![closed(&account, call, 41)]).await.unwrap().unwrap();
        }
        second.flush().await.unwrap();
        for call in calls {
            let record = region.store.call_show(CallSid::from_u128(call)).await.unwrap();
            assert_eq!((record.cause, record.proxy.as_str()), (Some(Cause::CallerHungUp), "proxy-2"));
        }
        assert_eq!(first.counters().set_aside + second.counters().set_aside, 0);
        assert_eq!(region.store.call_chain_verify().await.unwrap().calls, 2);
        first.close().await;
        second.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_database_stops_no_call_and_loses_no_record() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), away(&region).await).await.unwrap();
    for call in 1..=3 {
        ledger.append(vec![opened(&account, call)]).await.unwrap().unwrap();
    }
    eventually("a failure is counted", || async { ledger.counters().ship_failures > 0 }).await;
    assert_eq!(ledger.counters().pending, 3);
    ledger.close().await;
    for (path, octets) in common::files(&region.path("ledger")) {
        for secret in ["alice.murphy", "35312345678"] {
            assert!(!contains(&octets, secret), "{secret} in {}", path.display());
        }
    }

    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    // What was never shipped counts as lost too.
    let lost = ledger.sweep_lost("proxy-1").await.unwrap();
    assert_eq!(lost.len(), 3);
    assert_eq!(ledger.counters().pending, 0);
    let filter = CallFilter { state: CallState::Closed, ..CallFilter::default() };
    assert_eq!(region.store.call_list(&filter).await.unwrap().len(), 3);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_crash_cut_off_is_cut_and_the_rest_shipped() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), away(&region).await).await.unwrap();
    for call in 1..=3 {
        ledger.append(vec![opened(&account, call)]).await.unwrap().unwrap();
    }
    ledger.close().await;
    let segment = newest_segment(&region);
    let octets = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &octets[..octets.len() - 5]).unwrap();

    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    ledger.flush().await.unwrap();
    assert!(ledger.counters().torn_octets > 0);
    for (call, held) in [(1, true), (2, true), (3, false)] {
        assert_eq!(region.store.holds(CallSid::from_u128(call)).await.unwrap(), held);
    }
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_middle_is_set_aside_and_the_rest_shipped() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), away(&region).await).await.unwrap();
    for call in 1..=3 {
        ledger.append(vec![opened(&account, call)]).await.unwrap().unwrap();
    }
    ledger.close().await;
    let segment = newest_segment(&region);
    let mut octets = std::fs::read(&segment).unwrap();
    let middle = 44 + (octets.len() - 44) / 2;
    octets[middle] ^= 0xff;
    std::fs::write(&segment, &octets).unwrap();

    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    ledger.flush().await.unwrap();
    for (call, held) in [(1, true), (2, false), (3, true)] {
        assert_eq!(region.store.holds(CallSid::from_u128(call)).await.unwrap(), held);
    }
    assert!(ledger.counters().damaged > 0);
    assert_eq!(std::fs::read(segment.with_extension("damaged")).unwrap(), octets);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ledger_refuses_openings_before_closings() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let config = LedgerConfig { limit: 8 << 10, ..config(&region) };
    let ledger = Ledger::open(config.clone(), away(&region).await).await.unwrap();
    let mut calls = 0;
    while ledger.append(vec![opened(&account, calls + 1)]).await.unwrap().is_ok() {
        calls += 1;
        assert!(calls < 1000);
    }
    assert!(calls > 10, "{calls}");
    let answer = ledger.append(vec![closed(&account, 1, 1)]).await.unwrap();
    assert_eq!(answer, Ok(()));
    // Among others that open calls, the closing is still written.
    let mixed = vec![opened(&account, calls + 2), closed(&account, 2, 1)];
    assert_eq!(ledger.append(mixed).await.unwrap(), Err(AppendError::Full));
    let mut refused = ledger.append(vec![closed(&account, 3, 1)]).await.unwrap();
    for call in 4..calls {
        refused = refused.and(ledger.append(vec![closed(&account, call, 1)]).await.unwrap());
    }
    assert_eq!(refused, Err(AppendError::Full));
    let counters = ledger.counters();
    assert!(counters.octets <= 8 << 10 && counters.refused > 0, "{counters:?}");
    ledger.close().await;

    // Shipped segments make room again.
    let ledger = Ledger::open(config, region.store.clone()).await.unwrap();
    ledger.flush().await.unwrap();
    let closed = region.store.call_show(CallSid::from_u128(2)).await.unwrap();
    assert!(closed.closed_at.is_some());
    assert!(!region.store.holds(CallSid::from_u128(calls + 2)).await.unwrap());
    ledger.append(vec![opened(&account, 5000)]).await.unwrap().unwrap();
    ledger.flush().await.unwrap();
    eventually("old segments are removed", || async { ledger.counters().octets < 1000 }).await;
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_another_region_does_not_enter_the_ledger() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    let foreign = Account { home_region: "us1".parse().unwrap(), ..account };
    let answer = ledger.append(vec![opened(&foreign, 1)]).await.unwrap();
    assert!(matches!(answer, Err(AppendError::Foreign(_))), "{answer:?}");
    assert_eq!(region.store.counters().foreign_records, 1);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_share_a_ledger() {
    let region = common::Region::sqlite("ie1").await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    let error = Ledger::open(config(&region), region.store.clone()).await.err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    let clone = ledger.clone();
    ledger.close().await;
    let answer = clone.append(Vec::new()).await;
    assert!(matches!(answer, Ok(Err(AppendError::Closed)) | Err(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_together_share_an_fsync() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    let answers: Vec<_> =
        (1..=2000).map(|call| ledger.append(vec![opened(&account, call)])).collect();
    let begin = Instant::now();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let counters = ledger.counters();
    assert!(counters.fsyncs < 500, "{counters:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    ledger.close().await;
}

fn kept(account: &Account, call: u128, sequence: u32) -> KeptCall {
    KeptCall::State(Snapshot {
        call: CallSid::from_u128(call),
        account: account.sid,
        sequence,
        at: at(sequence.into()),
        state: Personal::new(format!("alice.murphy in {call} at {sequence}").into_bytes()),
    })
}

/// Of the calls that a run left, by number: the next step, and the state's words.
fn left(ledger: &Ledger) -> Vec<(u128, u32, String)> {
    let mut left: Vec<_> = ledger
        .kept()
        .into_iter()
        .map(|it| {
            let words = String::from_utf8(it.state.expose().clone()).unwrap();
            (it.call.as_u128(), it.sequence, words)
        })
        .collect();
    left.sort();
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_call_is_kept_from_run_to_run_and_is_not_lost() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    let events = (1..=4).map(|call| opened(&account, call)).collect();
    ledger.append(events).await.unwrap().unwrap();
    let before = ledger.counters();
    for call in [1, 2, 3] {
        let ringing = event(&account, call, 1, Step::Ringing);
        ledger.append_with(vec![ringing], vec![kept(&account, call, 2)]).await.unwrap().unwrap();
    }
    let counters = ledger.counters();
    assert_eq!(counters.fsyncs - before.fsyncs, 3, "one for the event and the state");
    assert_eq!(counters.appended - before.appended, 3, "a state is no event");
    // A later state replaces the former; an end and a farewell end it.
    ledger.append_with(Vec::new(), vec![kept(&account, 1, 5)]).await.unwrap().unwrap();
    ledger.append(vec![closed(&account, 2, 2)]).await.unwrap().unwrap();
    let gone = vec![KeptCall::Gone(CallSid::from_u128(3))];
    ledger.append_with(Vec::new(), gone).await.unwrap().unwrap();
    ledger.flush().await.unwrap();
    ledger.close().await;
    for (path, octets) in common::files(&region.path("ledger")) {
        assert!(!contains(&octets, "alice.murphy"), "in {}", path.display());
    }

    // Several runs: each takes it from the one before, from whose files nothing
    // is left once they are shipped.
    for _ in 0..3 {
        let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
        let lost = ledger.sweep_lost("proxy-1").await.unwrap();
        assert!(lost.iter().all(|event| event.call != CallSid::from_u128(1)));
        assert_eq!(left(&ledger), [(1, 5, "alice.murphy in 1 at 5".to_owned())]);
        assert!(left(&ledger).is_empty(), "once");
        ledger.flush().await.unwrap();
        ledger.close().await;
    }
    let open = region.store.open_calls(None).await.unwrap();
    assert_eq!(open.iter().map(|call| call.sid.as_u128()).collect::<Vec<_>>(), [1]);
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    ledger.append(vec![closed(&account, 1, 5)]).await.unwrap().unwrap();
    ledger.close().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    assert!(ledger.sweep_lost("proxy-1").await.unwrap().is_empty());
    assert!(left(&ledger).is_empty());
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_call_goes_on_after_the_last_step_that_was_written() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    ledger
        .append_with(vec![opened(&account, 1)], vec![kept(&account, 1, 1)])
        .await
        .unwrap()
        .unwrap();
    ledger.append(vec![event(&account, 1, 1, Step::Ringing)]).await.unwrap().unwrap();
    ledger.flush().await.unwrap();
    ledger.close().await;
    let ledger = Ledger::open(config(&region), region.store.clone()).await.unwrap();
    assert!(ledger.sweep_lost("proxy-1").await.unwrap().is_empty());
    assert_eq!(left(&ledger), [(1, 2, "alice.murphy in 1 at 1".to_owned())]);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_any_number_of_segments() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let small = LedgerConfig { limit: 64 * 1024, ..config(&region) };
    let ledger = Ledger::open(small.clone(), region.store.clone()).await.unwrap();
    ledger
        .append_with(vec![opened(&account, 1)], vec![kept(&account, 1, 1)])
        .await
        .unwrap()
        .unwrap();
    // Segments of 8 KiB.
    for call in 2..150 {
        let events = vec![opened(&account, call), closed(&account, call, 1)];
        while ledger.append(events.clone()).await.unwrap().is_err() {
            ledger.flush().await.unwrap();
        }
    }
    ledger.flush().await.unwrap();
    ledger.close().await;
    let first = landline_store::ledger::inspect(&small.dir).unwrap();
    assert!(first.records < 150, "the first segments are gone");
    let ledger = Ledger::open(small, region.store.clone()).await.unwrap();
    assert!(ledger.sweep_lost("proxy-1").await.unwrap().is_empty());
    assert_eq!(left(&ledger).len(), 1);
    ledger.close().await;
}
