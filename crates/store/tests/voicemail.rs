//! Messages in mailboxes: there when their call is over, counted with their user,
//! and gone with what was recorded of them.

mod common;

use common::receipts::{NEVER, checked, events, recorder, recording, sid};
use common::{at, eventually};
use landline_call::record::{CallEvent, Cause, Closed, Step};
use landline_call::tenancy::{Account, User, VoicemailPolicy};
use landline_control::Consent;
use landline_region::receipt::DeletionReason;
use landline_region::{UnixMillis, UserSid, VoicemailSid};
use landline_store::{AccountChange, DeletedBy, StoreError, UserChange};

fn message(call: u128) -> VoicemailSid {
    VoicemailSid::from_u128(call)
}

fn by() -> DeletedBy {
    DeletedBy { reason: DeletionReason::Request, actor: "AK1".to_owned() }
}

/// A call that went to the mailbox: the tone was heard two seconds before its end.
fn left(account: &Account, user: UserSid, call: u128, cause: Cause) -> Vec<CallEvent> {
    let mut events = events(account, call, false);
    let recording = recording(call);
    let begun = Step::MessageBegun { message: message(call), user, recording };
    let at = events[5].at;
    let template = events[5].clone();
    events.insert(5, CallEvent { at, step: begun, ..template });
    for (sequence, event) in events.iter_mut().enumerate() {
        event.sequence = sequence as u32;
        if let Step::Closed(closed) = &mut event.step {
            *closed = Closed { cause, ..closed.clone() };
        }
    }
    events
}

/// And what was recorded of it, two seconds.
async fn with_audio(region: &common::Region, account: &Account, user: UserSid, call: u128) {
    let recorder = recorder(region, account, call).await;
    recorder.sink().finish(recording(call)).await.unwrap();
    recorder.shutdown().await;
    let events = left(account, user, call, Cause::CallerHungUp);
    region.store.apply_events(&events).await.unwrap();
}

async fn counts(region: &common::Region, user: &User) -> (u32, u32) {
    let tenancy = region.store.tenancy().await.unwrap();
    let known = tenancy.users.iter().find(|it| it.sid == user.sid).unwrap();
    (known.mailbox.new, known.mailbox.old)
}

on_both_engines! {
    async fn a_message_is_there_when_its_call_is_over_and_not_before(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        let events = left(&account, bob.sid, 1, Cause::CallerHungUp);
        let revision = store.revision().await.unwrap();
        store.apply_events(&events[..6]).await.unwrap();
        assert_eq!(store.voicemail_list(account.sid, bob.sid).await.unwrap(), []);
        assert_eq!(counts(&region, &bob).await, (0, 0));
        store.apply_events(&events[6..]).await.unwrap();
        // Shipped once more after a crash, it is the same.
        store.apply_events(&events).await.unwrap();
        let messages = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        let [it] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((it.sid, it.user, it.call), (message(1), bob.sid, sid(1)));
        assert_eq!(it.from.as_ref().unwrap().expose(), "alice.murphy");
        assert_eq!((it.left_at, it.duration_ms), (events[5].at, 2000));
        assert_eq!((it.heard_at, it.cut_short), (None, false));
        assert_eq!(counts(&region, &bob).await, (1, 0));
        assert!(store.revision().await.unwrap() > revision, "the proxies look");
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 1);
    }

    async fn what_was_too_short_and_what_was_cut_off(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        // Dropped: nobody sees it, and what was recorded of it goes.
        let recorder = recorder(&region, &account, 1).await;
        recorder.sink().finish(recording(1)).await.unwrap();
        recorder.shutdown().await;
        let mut events = left(&account, bob.sid, 1, Cause::CallerHungUp);
        let closed = events.pop().unwrap();
        let step = Step::MessageDropped { message: message(1) };
        events.push(CallEvent { step, ..closed.clone() });
        events.push(CallEvent { sequence: closed.sequence + 1, ..closed });
        store.apply_events(&events).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (0, 0));
        assert_eq!(store.voicemail_sweep().await.unwrap(), 1);
        assert_eq!(store.voicemail_sweep().await.unwrap(), 0);
        let gone = store.recording_show(recording(1)).await.unwrap();
        assert!(gone.deleted_at.is_some());

        // The proxy died: what is stored counts, and it is marked.
        let recorder = common::receipts::recorder(&region, &account, 2).await;
        recorder.sink().finish(recording(2)).await.unwrap();
        recorder.shutdown().await;
        let mut events = left(&account, bob.sid, 2, Cause::Lost);
        for event in &mut events[6..] {
            event.at = events_at(event.at);
        }
        store.apply_events(&events).await.unwrap();
        let messages = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        assert_eq!((messages.len(), messages[0].cut_short), (1, true));
        assert_eq!(messages[0].duration_ms, 1980, "as much as there is");
    }

    async fn hearing_and_removing_are_counted_and_deletion_is_stated(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        for call in 1..=3 {
            with_audio(&region, &account, bob.sid, call).await;
        }
        assert_eq!(counts(&region, &bob).await, (3, 0));
        let listed = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        let sids: Vec<_> = listed.iter().map(|it| it.sid).collect();
        assert_eq!(sids, [message(3), message(2), message(1)], "the newest first");
        let heard = store.voicemail_heard(account.sid, message(1), true).await.unwrap();
        assert!(heard.heard_at.is_some());
        let again = store.voicemail_heard(account.sid, message(1), true).await.unwrap();
        assert_eq!(again.heard_at, heard.heard_at);
        assert_eq!(counts(&region, &bob).await, (2, 1));
        store.voicemail_heard(account.sid, message(1), false).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (3, 0));

        store.receipts_issue(NEVER).await.unwrap();
        store.voicemail_remove(account.sid, message(2), &by()).await.unwrap();
        let gone = store.voicemail_show(account.sid, message(2)).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
        assert!(store.recording_show(recording(2)).await.unwrap().deleted_at.is_some());
        // The other way round: with the recording goes the message.
        store.recording_delete(account.sid, recording(3), &by()).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (1, 0));
        let found = checked(&region, &[]).await;
        assert!(found.is_sound(), "{found:?}");
        assert_eq!((found.deleted, found.recordings), (2, 1));

        // Another account's message is none of ours.
        let other = landline_store::NewAccount::new("Other", "other.test", account.home_region);
        let other = store.account_create(&other).await.unwrap();
        let foreign = store.voicemail_show(other.sid, message(1)).await;
        assert!(matches!(foreign, Err(StoreError::NotFound { .. })));
    }

    async fn a_phone_plays_what_is_new_first_and_of_all_the_oldest(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let (bob, carol) = (region.user(&account, "bob").await, region.user(&account, "carol").await);
        for call in 1..=4 {
            with_audio(&region, &account, bob.sid, call).await;
        }
        store.voicemail_heard(account.sid, message(1), true).await.unwrap();
        store.voicemail_remove(account.sid, message(3), &by()).await.unwrap();
        let played = store.voicemail_to_play(account.sid, bob.sid).await.unwrap();
        let mut listed = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        listed.sort_by_key(|it| (it.heard_at.is_some(), it.left_at, it.sid));
        let shown = |it: &landline_store::VoicemailToPlay| (it.sid, it.recording, it.is_new);
        let listed: Vec<_> =
            listed.iter().map(|it| (it.sid, it.recording, it.heard_at.is_none())).collect();
        assert_eq!(played.iter().map(shown).collect::<Vec<_>>(), listed);
        assert_eq!(listed.last().unwrap().0, message(1), "what was heard comes last");
        assert_eq!(store.voicemail_to_play(account.sid, carol.sid).await.unwrap(), []);
    }

    async fn what_its_owner_hears_and_removes_by_phone_is_written_by_that_call(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        with_audio(&region, &account, bob.sid, 1).await;
        with_audio(&region, &account, bob.sid, 2).await;
        let mut steps = events(&account, 9, false);
        let closed = steps.pop().unwrap();
        for step in [
            Step::MessageHeard { message: message(1) },
            Step::MessageRemoved { message: message(2) },
            // Of one that is gone there is nothing to say.
            Step::MessageHeard { message: message(2) },
            Step::MessageRemoved { message: message(77) },
        ] {
            let sequence = steps.len() as u32;
            steps.push(CallEvent { sequence, step, ..closed.clone() });
        }
        steps.push(CallEvent { sequence: steps.len() as u32, ..closed });
        store.apply_events(&steps).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (0, 1));
        let messages = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        assert_eq!((messages.len(), messages[0].sid), (1, message(1)));
        assert!(messages[0].heard_at.is_some());
        assert_eq!(store.voicemail_sweep().await.unwrap(), 1);
        assert!(store.recording_show(recording(2)).await.unwrap().deleted_at.is_some());
    }

    async fn with_its_user_and_with_its_call_a_message_goes(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let [bob, carol] = ["bob", "carol"].map(|name| region.user(&account, name));
        let (bob, carol) = (bob.await, carol.await);
        store.greeting_put(account.sid, Some(bob.sid), &[100; 16_000]).await.unwrap();
        with_audio(&region, &account, bob.sid, 1).await;
        with_audio(&region, &account, carol.sid, 2).await;
        store.receipts_issue(NEVER).await.unwrap();
        store.user_remove(account.sid, "bob", "operator").await.unwrap();
        let gone = store.greeting(account.sid, Some(bob.sid)).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })));
        let unseen = store.voicemail_show(account.sid, message(1)).await;
        assert!(matches!(unseen, Err(StoreError::NotFound { .. })));
        assert_eq!(store.voicemail_sweep().await.unwrap(), 1);
        assert!(store.recording_show(recording(1)).await.unwrap().deleted_at.is_some());

        assert_eq!(counts(&region, &carol).await, (1, 0));
        store.retention_sweep(UnixMillis(i64::MAX)).await.unwrap();
        assert_eq!(counts(&region, &carol).await, (0, 0));
        assert_eq!(store.voicemail_list(account.sid, carol.sid).await.unwrap(), []);
        // A caller who still speaks when the user goes has spoken to nobody.
        let events = left(&account, UserSid::from_u128(999), 5, Cause::CallerHungUp);
        store.apply_events(&events).await.unwrap();
        eventually("it is swept", || async {
            store.voicemail_sweep().await.unwrap() == 0
        }).await;
    }

    async fn what_policy_has_recorded_stays_when_its_message_goes(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        for call in 1..=3 {
            let recorder = recorder(&region, &account, call).await;
            recorder.sink().finish(recording(call)).await.unwrap();
            recorder.shutdown().await;
            let mut events = left(&account, bob.sid, call, Cause::CallerHungUp);
            if let Step::Opened(opened) = &mut events[0].step {
                let consent = Consent { by_policy: true, granted_at: at(0) };
                opened.recording = Some((recording(call), consent));
            }
            if call == 1 {
                // Too short.
                let closed = events.pop().unwrap();
                let step = Step::MessageDropped { message: message(1) };
                events.push(CallEvent { step, ..closed.clone() });
                events.push(CallEvent { sequence: closed.sequence + 1, ..closed });
            }
            store.apply_events(&events).await.unwrap();
        }
        store.voicemail_remove(account.sid, message(2), &by()).await.unwrap();
        store.user_remove(account.sid, "bob", "operator").await.unwrap();
        assert_eq!(store.voicemail_sweep().await.unwrap(), 2);
        assert_eq!(store.voicemail_sweep().await.unwrap(), 0);
        for call in 1..=3 {
            let kept = store.recording_show(recording(call)).await.unwrap();
            assert_eq!(kept.deleted_at, None, "{call}");
            let gone = store.voicemail_show(account.sid, message(call)).await;
            assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
        }
    }

    async fn what_is_not_stored_yet_is_deleted_when_it_comes(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        store.apply_events(&today(left(&account, bob.sid, 1, Cause::CallerHungUp))).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (1, 0));
        // Its recording is due, and the call says so.
        let call = store.call_show(sid(1)).await.unwrap();
        assert_eq!(call.recording, Some(recording(1)));
        store.voicemail_remove(account.sid, message(1), &by()).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (0, 0));
        assert_eq!(store.voicemail_list(account.sid, bob.sid).await.unwrap(), []);
        assert_eq!(store.voicemail_sweep().await.unwrap(), 0, "it is still to come");
        let recorder = recorder(&region, &account, 1).await;
        recorder.sink().finish(recording(1)).await.unwrap();
        recorder.shutdown().await;
        assert_eq!(store.voicemail_sweep().await.unwrap(), 1);
        assert!(store.recording_show(recording(1)).await.unwrap().deleted_at.is_some());
        assert_eq!(store.voicemail_sweep().await.unwrap(), 0);
    }

    async fn a_message_of_which_nothing_is_stored_does_not_count(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        store.apply_events(&today(left(&account, bob.sid, 1, Cause::Lost))).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (0, 0));
        // It was in the relay's spool.
        let recorder = recorder(&region, &account, 1).await;
        recorder.sink().finish(recording(1)).await.unwrap();
        recorder.shutdown().await;
        assert_eq!(store.voicemail_sweep().await.unwrap(), 0);
        let messages = store.voicemail_list(account.sid, bob.sid).await.unwrap();
        assert_eq!((messages.len(), messages[0].cut_short), (1, true));
        assert_eq!(counts(&region, &bob).await, (1, 0));
        // Over before a second, by whatever fault.
        let mut events = left(&account, bob.sid, 2, Cause::Failed);
        let begun = events[5].at;
        for event in &mut events[6..] {
            event.at = UnixMillis(begun.0 + 900);
        }
        store.apply_events(&events).await.unwrap();
        assert_eq!(counts(&region, &bob).await, (1, 0));
        // Nothing ever came of it.
        let events = left(&account, bob.sid, 3, Cause::Lost);
        store.apply_events(&events).await.unwrap();
        assert_eq!(store.voicemail_sweep().await.unwrap(), 2);
        assert_eq!(counts(&region, &bob).await, (1, 0));
    }

    async fn what_was_said_after_another_proxy_gave_the_call_up_is_kept(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        let recorder = recorder(&region, &account, 1).await;
        recorder.sink().finish(recording(1)).await.unwrap();
        recorder.shutdown().await;
        let events = left(&account, bob.sid, 1, Cause::CallerHungUp);
        let mut lost = events.last().unwrap().clone();
        lost.sequence = 5;
        if let Step::Closed(closed) = &mut lost.step {
            closed.cause = Cause::Lost;
        }
        store.apply_events(&events[..5]).await.unwrap();
        store.apply_events(&[lost]).await.unwrap();
        let applied = store.apply_events(&events[5..]).await.unwrap();
        assert_eq!(applied.late.len(), events.len() - 6, "the record stays as it is");
        assert_eq!(counts(&region, &bob).await, (1, 0));
        assert_eq!(store.call_chain_verify().await.unwrap().calls, 1);
    }

    async fn a_user_follows_the_account_and_greetings_are_sealed(region: Region) {
        let (store, account) = (&region.store, region.account().await);
        let bob = region.user(&account, "bob").await;
        assert!(!bob.has_mailbox(&account), "off unless somebody says so");
        let on = AccountChange { voicemail: Some(VoicemailPolicy::On), ..AccountChange::default() };
        let account = store.account_set(account.sid, &on).await.unwrap();
        assert!(bob.has_mailbox(&account));
        let set = async |policy| {
            let change = UserChange { voicemail: Some(policy), ..UserChange::default() };
            store.user_set(account.sid, "bob", &change).await.unwrap()
        };
        assert!(!set(Some(VoicemailPolicy::Off)).await.has_mailbox(&account));
        assert!(set(None).await.has_mailbox(&account));

        let (short, long) = (vec![700; 8000], vec![900; 16_000]);
        let of_all = store.greeting_put(account.sid, None, &short).await.unwrap();
        let own = store.greeting_put(account.sid, Some(bob.sid), &long).await.unwrap();
        let tenancy = store.tenancy().await.unwrap();
        assert_eq!(tenancy.accounts[0].mailbox.greeting, Some(of_all.sid));
        assert_eq!(tenancy.users[0].mailbox.greeting, Some(own.sid));
        assert_eq!(store.sound_samples(account.sid, own.sid).await.unwrap(), long);
        assert_eq!(store.greeting(account.sid, None).await.unwrap(), of_all);
        store.greeting_remove(account.sid, Some(bob.sid)).await.unwrap();
        let again = store.greeting_remove(account.sid, Some(bob.sid)).await;
        assert!(matches!(again, Err(StoreError::NotFound { .. })));
        assert_eq!(store.tenancy().await.unwrap().users[0].mailbox.greeting, None);
        assert_eq!(store.greeting(account.sid, None).await.unwrap(), of_all, "another's stays");
    }
}

/// The same, an hour ago.
fn today(mut events: Vec<CallEvent>) -> Vec<CallEvent> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let shift = now.as_millis() as i64 - 3_600_000 - events[0].at.0;
    for event in &mut events {
        event.at = UnixMillis(event.at.0 + shift);
    }
    events
}

/// Nobody knows when the end was.
fn events_at(_: UnixMillis) -> UnixMillis {
    at(205_000)
}
