//! The queue of events: one row for each, taken by one, and bounded.

mod common;

use common::Region;
use common::receipts::{events, recorded, recorder, recording, sid};
use landline_call::tenancy::Account;
use landline_control::{Consent, LegId};
use landline_region::{Personal, UnixMillis};
use landline_store::{HookEvent, ListQuery, NewWebhook, Part, RecordingStart, Webhook};

async fn hook(region: &Region, account: &Account, events: &[HookEvent]) -> Webhook {
    let new = NewWebhook {
        url: Personal::new("https://hooks.acme.example/secret-path".to_owned()),
        secret: None,
        events: events.to_vec(),
        country: "IE".parse().unwrap(),
    };
    region.store.webhook_create(account.sid, &new).await.unwrap()
}

fn soon() -> UnixMillis {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(now.as_millis() as i64 + 60_000)
}

async fn waiting(region: &Region, hook: &Webhook) -> Vec<String> {
    let query = ListQuery { after: None, limit: 10_000 };
    let page = region.store.delivery_page(hook.account, hook.sid, Some(false), &query).await;
    let mut names: Vec<_> = page.unwrap().iter().map(|it| it.event.name().to_owned()).collect();
    names.sort();
    names
}

on_both_engines! {
    async fn an_event_is_queued_once_for_each_webhook_that_wants_it(region: Region) {
        let account = region.account().await;
        let all = hook(&region, &account, &HookEvent::ALL).await;
        let ends = hook(&region, &account, &[HookEvent::CallEnded]).await;
        let steps = events(&account, 1, false);
        region.store.apply_events(&steps).await.unwrap();
        // Shipped again after a crash, in part or in whole.
        region.store.apply_events(&steps[3..]).await.unwrap();
        region.store.apply_events(&steps).await.unwrap();
        assert_eq!(waiting(&region, &all).await, ["call.answered", "call.ended", "call.ringing", "call.started"]);
        assert_eq!(waiting(&region, &ends).await, ["call.ended"]);
        recorded(&region, &account, 2).await;
        assert_eq!(waiting(&region, &all).await.iter().filter(|it| *it == "recording.stored").count(), 1);
    }

    /// A call that goes to another relay is recorded in two parts; a relay that
    /// dies never ends its own.
    async fn a_recording_is_told_of_once_when_the_call_and_its_last_part_have_ended(region: Region) {
        let account = region.account().await;
        let all = hook(&region, &account, &[HookEvent::RecordingStored]).await;
        for (call, call_ends_first, first_dies) in [(1, true, false), (2, false, false), (3, false, true)] {
            let before = waiting(&region, &all).await.len();
            let steps = events(&account, call, true);
            let end = steps.len() - 1;
            region.store.apply_events(&steps[..end]).await.unwrap();
            let first = recorder(&region, &account, call).await;
            if !first_dies {
                first.sink().finish(recording(call)).await.unwrap();
            }
            let part = Part::of(recording(call), 1);
            let next = RecordingStart {
                part,
                call: sid(call),
                account: account.sid,
                consent: Consent { by_policy: true, granted_at: UnixMillis(0) },
                started_at: UnixMillis(4000),
                payload_types: Vec::new(),
            };
            first.sink().start(next).unwrap();
            first.sink().frame(part.sid(), LegId(0), 20, &[0x80; 172]).unwrap();
            if call_ends_first {
                // What the second relay has begun is in the database by then.
                for _ in 0..500 {
                    let known = region.store.recording_show(recording(call)).await;
                    if known.is_ok_and(|it| it.parts.len() == 2) {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                region.store.apply_events(&steps[end..]).await.unwrap();
                assert_eq!(waiting(&region, &all).await.len(), before, "its last part runs");
            }
            first.sink().finish(part.sid()).await.unwrap();
            if !call_ends_first {
                assert_eq!(waiting(&region, &all).await.len(), before, "the call goes on");
                region.store.apply_events(&steps[end..]).await.unwrap();
            }
            assert_eq!(waiting(&region, &all).await.len(), before + 1, "call {call}");
            first.shutdown().await;
        }
    }

    async fn what_is_due_is_taken_by_one_until_its_lease_is_over(region: Region) {
        let account = region.account().await;
        hook(&region, &account, &HookEvent::ALL).await;
        region.store.apply_events(&events(&account, 1, false)).await.unwrap();
        let (a, b) = tokio::join!(
            region.store.deliveries_claim(soon(), &[], 3),
            region.store.deliveries_claim(soon(), &[], 3),
        );
        let mut taken: Vec<_> = a.unwrap().into_iter().chain(b.unwrap()).collect();
        taken.extend(region.store.deliveries_claim(soon(), &[], 3).await.unwrap());
        let mut sids: Vec<_> = taken.iter().map(|it| it.sid).collect();
        sids.sort();
        sids.dedup();
        assert_eq!((sids.len(), taken.len()), (4, 4));
        assert!(region.store.deliveries_claim(soon(), &[], 3).await.unwrap().is_empty());
        // Whoever took it died: it comes back.
        region.tamper("UPDATE webhook_delivery SET next_at = 0").await;
        assert!(region.store.deliveries_claim(soon(), &[account.sid], 9).await.unwrap().is_empty());
        let again = region.store.deliveries_claim(soon(), &[], 9).await.unwrap();
        assert!(again.len() == 4 && again.iter().all(|it| it.attempts == 2), "{again:?}");
    }

    async fn a_queue_that_is_full_drops_and_counts(region: Region) {
        let account = region.account().await;
        let hook = hook(&region, &account, &HookEvent::ALL).await;
        let fill = format!(
            "INSERT INTO webhook_delivery (sid, webhook, account, event, call, created_at, attempts, next_at) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
             SELECT 'WE' || i, '{}', '{}', 'call.ended', 'CA', 0, 0, 0 FROM n",
            hook.sid, account.sid
        );
        assert_eq!(region.tamper(&fill).await, 9999);
        region.store.apply_events(&events(&account, 1, false)).await.unwrap();
        assert_eq!(region.store.webhook_find(account.sid, hook.sid).await.unwrap().dropped, 3);
        region.store.webhook_remove(account.sid, hook.sid).await.unwrap();
        assert!(region.store.deliveries_claim(soon(), &[], 9).await.unwrap().is_empty());
    }

    async fn url_and_secret_lie_sealed(region: Region) {
        let account = region.account().await;
        let made = hook(&region, &account, &HookEvent::ALL).await;
        let found = region.store.webhook_find(account.sid, made.sid).await.unwrap();
        assert_eq!(found.url.expose(), "https://hooks.acme.example/secret-path");
        assert_eq!(found.secret.expose(), made.secret.expose());
        let other = landline_region::AccountSid::from_u128(1);
        assert!(region.store.webhook_find(other, made.sid).await.is_err());
        if region.config.url.starts_with("sqlite") {
            let held = std::fs::read(region.path("region.db")).unwrap();
            let wal = std::fs::read(region.path("region.db-wal")).unwrap_or_default();
            for plain in ["hooks.acme.example", "secret-path", made.secret.expose().as_str()] {
                for file in [&held, &wal] {
                    assert!(!file.windows(plain.len()).any(|it| it == plain.as_bytes()), "{plain}");
                }
            }
        }
    }
}
