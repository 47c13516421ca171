mod common;

use std::time::Duration;

use common::{at, contains, new_user, personal};
use landline_call::binding::{Binding, BindingChange, FlowTransport, Received};
use landline_call::tenancy::{
    CallsFrom, EdgePolicy, EncryptionPolicy, Forwarding, ForwardingChange, HoldMusic, MediaPolicy,
    NumberTarget, RecordingPolicy, TrunkCredentials, VoicemailPolicy,
};
use landline_control::Sound;
use landline_region::{Secret, UserSid};
use landline_store::{
    AccountChange, KeyRing, NewAccount, NewNumber, NewTrunk, Store, StoreConfig, StoreError,
    UserChange,
};

on_both_engines! {
    async fn a_database_of_another_region_is_refused_by_both_names(region: Region) {
        region.store.close().await;
        let us1 = "us1".parse().unwrap();
        KeyRing::create(&region.path("us1.keys"), us1).unwrap();
        let config = StoreConfig::new(region.config.url.clone(), us1, region.path("us1.keys"));
        let error = Store::open(&config).await.err().unwrap();
        assert!(matches!(error, StoreError::DatabaseOfAnotherRegion { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("ie1") && text.contains("us1"), "{text}");
        let config = StoreConfig { key_ring: region.path("us1.keys"), ..region.config.clone() };
        let text = Store::open(&config).await.err().unwrap().to_string();
        assert!(text.contains("ie1") && text.contains("us1.keys"), "{text}");
    }

    async fn a_database_opens_only_with_the_key_ring_it_was_made_with(region: Region) {
        let ie1 = region.config.region;
        KeyRing::create(&region.path("other.keys"), ie1).unwrap();
        let config = StoreConfig::new(region.config.url.clone(), ie1, region.path("other.keys"));
        let error = Store::open(&config).await.err().unwrap();
        assert!(matches!(error, StoreError::WrongKeyRing { .. }), "{error}");
        Store::open(&region.config).await.unwrap();
    }

    async fn an_account_of_another_region_is_refused_and_counted(region: Region) {
        let new = NewAccount::new("Globex", "globex.test", "us1".parse().unwrap());
        let error = region.store.account_create(&new).await.unwrap_err();
        assert!(matches!(error, StoreError::ForeignRecord { .. }), "{error}");
        assert_eq!(region.store.counters().foreign_records, 1);
        assert!(region.store.account_list().await.unwrap().is_empty());
    }

    async fn an_account_is_found_by_sid_and_domain_and_can_be_changed(region: Region) {
        let store = &region.store;
        let made = region.account().await;
        assert_eq!(store.account_find("ACME.test").await.unwrap(), made);
        assert_eq!(store.account_find(&made.sid.to_string()).await.unwrap(), made);
        assert_eq!(made.contracting_entity, "landline-ie1");
        let before = store.revision().await.unwrap();
        let change = AccountChange {
            edge_policy: Some(EdgePolicy::Redirect),
            recording: Some(RecordingPolicy::All),
            encryption: None,
            calls_from: Some(CallsFrom::Region),
            hold_music: Some(HoldMusic::Off),
            voicemail: Some(VoicemailPolicy::On),
        };
        let changed = store.account_set(made.sid, &change).await.unwrap();
        assert_eq!(changed.edge_policy, EdgePolicy::Redirect);
        assert_eq!(changed.recording, RecordingPolicy::All);
        assert_eq!(changed.encryption, EncryptionPolicy::Required);
        assert_eq!(made.calls_from, CallsFrom::None);
        assert_eq!(changed.calls_from, CallsFrom::Region);
        assert_eq!((made.hold_music, changed.hold_music), (HoldMusic::BuiltIn, HoldMusic::Off));
        assert_eq!(store.revision().await.unwrap(), before + 1);
        let again = NewAccount::new("Other", "Acme.Test", region.config.region);
        let error = store.account_create(&again).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert_eq!(store.revision().await.unwrap(), before + 1);
        let error = store.account_find("nobody.test").await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }

    async fn music_on_hold_is_sealed_replaced_and_taken_away(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let other = NewAccount::new("Other", "other.test", region.config.region);
        let other = store.account_create(&other).await.unwrap();
        let own = AccountChange { hold_music: Some(HoldMusic::Own), ..AccountChange::default() };
        let error = store.account_set(account.sid, &own).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { field: "hold_music", .. }), "{error}");

        let samples: Vec<i16> = (0..16_000).map(|n| (n % 251) as i16 * 100).collect();
        let first = store.hold_music_put(account.sid, &samples).await.unwrap();
        let known = store.account_find("acme.test").await.unwrap();
        assert_eq!((known.hold_music, known.hold_sound), (HoldMusic::Own, Some(first.sid)));
        assert_eq!(store.hold_music(account.sid).await.unwrap(), first);
        assert_eq!(first.duration_ms, 1000);
        assert_eq!(store.sound_samples(account.sid, first.sid).await.unwrap(), samples);
        let error = store.sound_samples(other.sid, first.sid).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "nobody else's: {error}");

        let before = store.revision().await.unwrap();
        let second = store.hold_music_put(account.sid, &samples[..8000]).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), before + 1, "the proxies are to know");
        assert!(store.sound_samples(account.sid, first.sid).await.is_err(), "it is gone");
        let off = AccountChange { hold_music: Some(HoldMusic::Off), ..AccountChange::default() };
        assert_eq!(store.account_set(account.sid, &off).await.unwrap().hold_sound, Some(second.sid));
        let own = store.account_set(account.sid, &own).await.unwrap();
        assert_eq!(own.hold_sound(), Some(Sound::Own(second.sid)));
        for bad in [vec![], vec![0; 1599], vec![0; 16_000 * 300 + 1]] {
            let error = store.hold_music_put(account.sid, &bad).await.unwrap_err();
            assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
        }

        store.hold_music_remove(account.sid).await.unwrap();
        let known = store.account_find("acme.test").await.unwrap();
        assert_eq!((known.hold_music, known.hold_sound), (HoldMusic::BuiltIn, None));
        let error = store.hold_music_remove(account.sid).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }

    async fn users_are_unique_by_name_and_change_one_thing_at_a_time(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let mut new = new_user("alice");
        new.number = Some(personal("+35312345678"));
        let alice = store.user_add(account.sid, &new).await.unwrap();
        let error = store.user_add(account.sid, &new_user("alice")).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert!(!error.to_string().contains("alice"), "{error}");
        let error = store.user_add(account.sid, &new_user("al ice")).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");

        let change = UserChange { media: Some(MediaPolicy::Webrtc), ..UserChange::default() };
        let changed = store.user_set(account.sid, "alice", &change).await.unwrap();
        assert_eq!(changed.media, MediaPolicy::Webrtc);
        assert_eq!(changed.number, alice.number);
        assert_eq!(changed.digest.sha256.expose(), alice.digest.sha256.expose());
        let change = UserChange {
            recording: Some(Some(RecordingPolicy::Off)),
            number: Some(Some(personal("+35387654321"))),
            ..UserChange::default()
        };
        let changed = store.user_set(account.sid, &alice.sid.to_string(), &change).await.unwrap();
        assert_eq!(changed.recording, Some(RecordingPolicy::Off));
        assert_eq!(changed.number, Some(personal("+35387654321")));
        assert_eq!(store.number_list(account.sid).await.unwrap().len(), 1);
        let change = UserChange { recording: Some(None), number: Some(None), ..UserChange::default() };
        let changed = store.user_set(account.sid, "alice", &change).await.unwrap();
        assert_eq!((changed.recording, changed.number), (None, None));
        assert!(store.number_list(account.sid).await.unwrap().is_empty());
    }

    async fn calls_are_sent_on_to_who_is_there_and_nobody_else_reads_where(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let alice = region.user(&account, "alice").await;
        region.user(&account, "bob").await;
        let set = async |forwarding: Forwarding| {
            let forwarding = ForwardingChange {
                always: Some(forwarding.always),
                busy: Some(forwarding.busy),
                no_answer: Some(forwarding.no_answer),
                unreachable: Some(forwarding.unreachable),
                ring: Some(forwarding.ring),
                do_not_disturb: Some(forwarding.do_not_disturb),
            };
            let change = UserChange { forwarding, ..UserChange::default() };
            store.user_set(account.sid, "alice", &change).await
        };
        let wanted = Forwarding {
            busy: Some(personal("bob")),
            no_answer: Some(personal("+353861234567")),
            ring: Some(Duration::from_secs(20)),
            do_not_disturb: true,
            ..Forwarding::default()
        };
        assert_eq!(set(wanted.clone()).await.unwrap().forwarding, wanted);
        let tenancy = store.tenancy().await.unwrap();
        let known = tenancy.users.iter().find(|user| user.sid == alice.sid).unwrap();
        assert_eq!(known.forwarding, wanted);
        let several = Forwarding {
            always: Some(personal("bob & +353861234567, bob")),
            ..Forwarding::default()
        };
        assert_eq!(set(several.clone()).await.unwrap().forwarding, several);
        // The mailbox takes what is sent there, alone.
        let there = |place| Forwarding { always: Some(personal(place)), ..Forwarding::default() };
        assert!(set(there("voicemail")).await.is_ok());
        let refused = set(there("bob, voicemail")).await.unwrap_err();
        assert!(refused.to_string().contains("voicemail stands alone"), "{refused}");
        set(wanted.clone()).await.unwrap();
        let many = ["bob"; 13].join(",");
        let lists = ["bob,", "bob&alice", "bob,,bob", "&", many.as_str()];
        let places = ["zoe", "alice", "+12", "", "00353861234567"];
        for place in places.iter().chain(&lists).map(|place| Some(personal(place))) {
            let error = set(Forwarding { always: place, ..Forwarding::default() }).await.unwrap_err();
            assert!(matches!(error, StoreError::Invalid { field: "forwarding", .. }), "{error}");
        }
        for seconds in [0, 4, 301] {
            let ring = Some(Duration::from_secs(seconds));
            let error = set(Forwarding { ring, ..Forwarding::default() }).await.unwrap_err();
            assert!(matches!(error, StoreError::Invalid { field: "forwarding", .. }), "{error}");
        }
        assert_eq!(store.user_find(account.sid, "alice").await.unwrap().forwarding, wanted);
        // What is not named stays.
        let forwarding = ForwardingChange { busy: Some(None), ..ForwardingChange::default() };
        let change = UserChange { forwarding, ..UserChange::default() };
        let changed = store.user_set(account.sid, "alice", &change).await.unwrap();
        assert_eq!(changed.forwarding, Forwarding { busy: None, ..wanted });
        let none = set(Forwarding::default()).await.unwrap();
        assert_eq!(none.forwarding, Forwarding::default());
    }

    async fn a_number_leads_to_one_place_in_the_region(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let alice = region.user(&account, "alice").await;
        let number = |text: &str, target| NewNumber { e164: personal(text), target };
        let to_alice = NumberTarget::User(alice.sid);
        store.number_add(account.sid, &number("+353111111", to_alice)).await.unwrap();
        let error = store.number_add(account.sid, &number("+353111111", to_alice)).await.unwrap_err();
        assert!(error.to_string().contains(&account.sid.to_string()), "{error}");
        assert!(!error.to_string().contains("353111111"), "{error}");
        let error = store.number_add(account.sid, &number("353", to_alice)).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
        let stranger = NumberTarget::User(UserSid::from_u128(1));
        let error = store.number_add(account.sid, &number("+353222222", stranger)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");

        let error = store.user_remove(account.sid, "alice", "operator").await.unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        store.number_remove(account.sid, "+353111111").await.unwrap();
        store.user_remove(account.sid, "alice", "operator").await.unwrap();
        assert!(store.user_list(account.sid).await.unwrap().is_empty());
    }

    async fn a_trunk_comes_back_as_it_was_added(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let new = NewTrunk {
            name: "carrier".to_owned(),
            send_to: "udp:carrier.example:5060".parse().unwrap(),
            prefixes: vec!["+353".to_owned(), "+441".to_owned()],
            asserted: Default::default(),
            accept_from: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            media: MediaPolicy::Rtp,
            credentials: Some(TrunkCredentials {
                username: personal("acme-trunk"),
                password: Secret::new("trunk:secret".to_owned()),
            }),
        };
        store.trunk_add(account.sid, &new).await.unwrap();
        let found = store.trunk_find(account.sid, "carrier").await.unwrap();
        assert_eq!(found.accept_from, new.accept_from);
        assert_eq!((&found.send_to, &found.prefixes), (&new.send_to, &new.prefixes));
        for wrong in ["353", "+", "+0", "+1 2", "+1234567890123456"] {
            let prefixes = vec![wrong.to_owned()];
            let wrong = NewTrunk { name: "other".to_owned(), prefixes, ..new.clone() };
            let error = store.trunk_add(account.sid, &wrong).await.unwrap_err();
            assert!(matches!(error, StoreError::Invalid { field: "prefixes", .. }), "{error}");
        }
        let credentials = found.credentials.unwrap();
        assert_eq!(credentials.username.expose(), "acme-trunk");
        assert_eq!(credentials.password.expose(), "trunk:secret");
        let error = store.trunk_add(account.sid, &new).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");

        let number = NewNumber { e164: personal("+353333333"), target: NumberTarget::Trunk(found.sid) };
        store.number_add(account.sid, &number).await.unwrap();
        assert!(matches!(
            store.trunk_remove(account.sid, "carrier").await,
            Err(StoreError::InUse { .. })
        ));
        store.number_remove(account.sid, "+353333333").await.unwrap();
        store.trunk_remove(account.sid, "carrier").await.unwrap();
        assert!(store.trunk_list(account.sid).await.unwrap().is_empty());
    }

    async fn the_tenancy_holds_everything_and_shares_what_did_not_change(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let mut new = new_user("alice");
        new.number = Some(personal("+353111111"));
        let alice = store.user_add(account.sid, &new).await.unwrap();
        region.user(&account, "bob").await;
        let first = store.tenancy().await.unwrap();
        assert_eq!((first.accounts.len(), first.users.len(), first.numbers.len()), (1, 2, 1));
        assert_eq!(first.numbers[0].target, NumberTarget::User(alice.sid));
        assert_eq!(first.revision, store.revision().await.unwrap());

        let change = UserChange { media: Some(MediaPolicy::Rtp), ..UserChange::default() };
        // Another process changes it.
        let other = Store::open(&region.config).await.unwrap();
        other.user_set(account.sid, "bob", &change).await.unwrap();
        let second = store.tenancy().await.unwrap();
        assert!(second.revision > first.revision);
        let user = |tenancy: &landline_call::tenancy::Tenancy, name: &str| {
            tenancy.users.iter().find(|user| user.name.expose() == name).unwrap().clone()
        };
        assert!(std::sync::Arc::ptr_eq(&user(&first, "alice"), &user(&second, "alice")));
        assert_eq!(user(&second, "bob").media, MediaPolicy::Rtp);

        other.number_remove(account.sid, "+353111111").await.unwrap();
        let third = store.tenancy().await.unwrap();
        assert_eq!(user(&third, "alice").number, None);
        assert!(third.numbers.is_empty());
    }

    async fn bindings_survive_a_restart_and_the_last_change_wins(region: Region) {
        let store = &region.store;
        let account = region.account().await;
        let alice = region.user(&account, "alice").await;
        let binding = |contact: &str, cseq: u32| Binding {
            user: alice.sid,
            account: account.sid,
            contact_uri: personal(contact),
            call_id: personal("call-id-7"),
            cseq,
            expires_at: at(3_600_000),
            q_x1000: 700,
            path: vec![personal("<sip:edge.us1.test;lr>")],
            instance: Some(personal("<urn:uuid:00000000-0000-0000-0000-000000000001>")),
            reg_id: None,
            user_agent: Some(personal("baresip v1.0")),
            received: Received {
                transport: FlowTransport::Wss,
                flow: u64::MAX,
                local: "[::1]:443".parse().unwrap(),
                remote: landline_region::Personal::new("192.0.2.7:40000".parse().unwrap()),
            },
            edge_region: Some("us1".parse().unwrap()),
            media: MediaPolicy::Webrtc,
            updated_at: at(0),
        };
        let put = |contact, cseq| BindingChange::Put(Box::new(binding(contact, cseq)));
        let remove = |contact| BindingChange::Remove { user: alice.sid, contact: personal(contact) };
        store
            .write_bindings(&[
                put("sip:a@192.0.2.7", 1),
                put("sip:a@192.0.2.7", 2),
                put("sip:b@192.0.2.7", 1),
                remove("sip:b@192.0.2.7"),
            ])
            .await
            .unwrap();
        let reopened = Store::open(&region.config).await.unwrap();
        assert_eq!(reopened.load_bindings().await.unwrap(), [binding("sip:a@192.0.2.7", 2)]);
        store.write_bindings(&[remove("sip:a@192.0.2.7"), put("sip:a@192.0.2.7", 3)]).await.unwrap();
        assert_eq!(store.load_bindings().await.unwrap()[0].cseq, 3);

        // Two flows of one device have one URI, and each is a binding.
        let flow = |number| {
            let flow = Binding { reg_id: Some(number), ..binding("sip:a@192.0.2.7", 4) };
            BindingChange::Put(Box::new(flow))
        };
        store.write_bindings(&[remove("sip:a@192.0.2.7"), flow(1), flow(2)]).await.unwrap();
        let kept = store.load_bindings().await.unwrap();
        let mut flows: Vec<_> = kept.iter().map(|it| it.reg_id).collect();
        flows.sort();
        assert_eq!(flows, [Some(1), Some(2)]);
        let first = kept.iter().find(|it| it.reg_id == Some(1)).unwrap();
        let gone = BindingChange::Remove { user: alice.sid, contact: first.key() };
        store.write_bindings(&[gone]).await.unwrap();
        assert_eq!(store.load_bindings().await.unwrap()[0].reg_id, Some(2));
        store.write_bindings(&[]).await.unwrap();
        store.user_remove(account.sid, "alice", "operator").await.unwrap();
        assert!(store.load_bindings().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn nothing_personal_lies_readable_in_the_files() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let mut new = new_user("alice.murphy");
    new.number = Some(personal("+35312345678"));
    region.store.user_add(account.sid, &new).await.unwrap();
    let files = common::files(region.dir.path());
    assert!(files.iter().any(|(_, bytes)| contains(bytes, "acme.test")), "the domain is public");
    for (path, bytes) in files {
        for secret in ["alice.murphy", "35312345678", "Acme Ltd", "0123456789abcdef", "feedfeed"] {
            assert!(!contains(&bytes, secret), "{secret} in {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_database_file_is_its_owners_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let region = common::Region::sqlite("ie1").await;
    assert_eq!(region.path("region.db").metadata().unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let region = common::Region::sqlite("ie1").await;
    let open = |url: &str| {
        let config = StoreConfig { url: url.to_owned(), ..region.config.clone() };
        async move { Store::open(&config).await.err().unwrap().to_string() }
    };
    assert!(open("mysql://x/y").await.contains("wanted `sqlite:PATH`"));
    assert!(open("sqlite:/nowhere/at/all.db").await.contains("/nowhere/at/all.db"));
    std::fs::write(region.path("text"), "this is no database at all, and long enough for it")
        .unwrap();
    let text = open(&format!("sqlite:{}", region.path("text").display())).await;
    assert!(text.contains("/text"), "{text}");
    let text = open("postgres://ann:secret@127.0.0.1:1/ie1?sslmode=disable").await;
    assert!(text.contains("ann@127.0.0.1:1/ie1") && !text.contains("secret"), "{text}");
}
