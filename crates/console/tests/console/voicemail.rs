use landline_call::record::{CallEvent, Step};
use landline_media::audio::strongest_tone;
use landline_region::{CallSid, UserSid, VoicemailSid};
use landline_store::ApiRole;
use serde_json::json;

use crate::on_both_engines;
use crate::recordings::recorded;
use crate::support::{World, events, tone_file, uri};

const OPENED: i64 = 1_700_000_000_000;

/// A message of two seconds at 440 Hz.
pub async fn left(world: &World, user: UserSid, number: u128) -> VoicemailSid {
    let recording = recorded(world, &world.acme, number).await;
    let message = VoicemailSid::from_u128(number);
    let mut steps = events(&world.acme, number, OPENED + number as i64 * 1000, true);
    let closed = steps.pop().unwrap();
    let begun = Step::MessageBegun { message, user, recording };
    let at = steps.last().unwrap().at;
    steps.push(CallEvent { step: begun, at, ..closed.clone() });
    steps.push(CallEvent { sequence: closed.sequence + 1, ..closed });
    world.ie1.store.apply_events(&steps).await.unwrap();
    message
}

on_both_engines! {
    async fn a_mailbox_is_listed_heard_and_emptied(world: World) {
        let (admin, operator) = (world.key(ApiRole::Admin).await, world.key(ApiRole::Operator).await);
        let made = world.ie1.post(&uri(world.acme.sid, "/Users.json"), &admin, "User=bob").await.expect(201);
        world.ie1.post(&uri(world.acme.sid, "/Users.json"), &admin, "User=carol").await.expect(201);
        let bob: UserSid = made["sid"].as_str().unwrap().parse().unwrap();
        assert_eq!((&made["voicemail"], &made["new_messages"]), (&json!(null), &json!(0)));
        let account = uri(world.acme.sid, ".json");
        assert_eq!(world.ie1.get(&account, Some(&admin)).await.expect(200)["voicemail"], "off");
        world.ie1.post(&account, &admin, "Voicemail=maybe").await.problem(400, "bad-request");
        assert_eq!(world.ie1.post(&account, &admin, "Voicemail=on").await.expect(200)["voicemail"], "on");
        let user = uri(world.acme.sid, "/Users/bob.json");
        world.ie1.post(&user, &admin, "Voicemail=maybe").await.problem(400, "bad-request");
        assert_eq!(world.ie1.post(&user, &admin, "Voicemail=off").await.expect(200)["voicemail"], "off");
        assert_eq!(world.ie1.post(&user, &admin, "Voicemail=").await.expect(200)["voicemail"], json!(null));
        let sent = world.ie1.post(&user, &admin, "ForwardAlways=voicemail").await.expect(200);
        assert_eq!(sent["forward_always"], "voicemail");

        left(&world, bob, 1).await;
        let second = left(&world, bob, 2).await;
        let list = uri(world.acme.sid, "/Users/bob/Voicemail.json");
        for role in [ApiRole::Admin, ApiRole::Auditor] {
            let key = world.key(role).await;
            world.ie1.get(&list, Some(&key)).await.problem(403, "forbidden");
        }
        let listed = world.ie1.get(&list, Some(&operator)).await.expect(200);
        assert_eq!((&listed["new_messages"], &listed["old_messages"]), (&json!(2), &json!(0)));
        let newest = &listed["voicemail"][0];
        assert_eq!(newest["sid"], second.to_string());
        assert_eq!((&newest["from"], &newest["heard"]), (&json!("alice.murphy"), &json!(false)));
        assert_eq!(newest["call_sid"], CallSid::from_u128(2).to_string());
        let path = newest["uri"].as_str().unwrap();
        assert_eq!(world.ie1.get(path, Some(&operator)).await.expect(200), *newest);

        let heard = world.ie1.get(newest["media_url"].as_str().unwrap(), Some(&operator)).await;
        assert_eq!(heard.headers["content-length"], heard.body.len().to_string());
        let mut wav = hound::WavReader::new(heard.body.as_slice()).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, 8000));
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        let (hz, _) = strongest_tone(&samples[4000..12_000], 8000).unwrap();
        assert!((hz - 440.0).abs() < 5.0, "the caller: {hz}");

        world.ie1.post(path, &operator, "Heard=perhaps").await.problem(400, "bad-request");
        let read = world.key(ApiRole::Read).await;
        world.ie1.post(path, &read, "Heard=on").await.problem(403, "forbidden");
        let marked = world.ie1.post(path, &operator, "Heard=on").await.expect(200);
        assert_eq!((&marked["heard"], marked["heard_at"].is_string()), (&json!(true), true));
        let listed = world.ie1.get(&list, Some(&operator)).await.expect(200);
        assert_eq!((&listed["new_messages"], &listed["old_messages"]), (&json!(1), &json!(1)));
        // In nobody else's mailbox.
        let others = path.replace(&bob.to_string(), "carol");
        world.ie1.get(&others, Some(&operator)).await.problem(404, "not-found");
        world.ie1.ask("DELETE", &others, Some(&operator), &[], "").await.problem(404, "not-found");

        world.ie1.ask("DELETE", path, Some(&operator), &[], "").await.expect(204);
        world.ie1.get(path, Some(&operator)).await.problem(404, "not-found");
        let of_call = uri(world.acme.sid, &format!("/Calls/{}/Recordings.json", CallSid::from_u128(2)));
        let page = world.ie1.get(&of_call, Some(&operator)).await.expect(200);
        assert_eq!(page["recordings"], json!([]), "with what was recorded of it");
        let shown = world.ie1.get(&user, Some(&admin)).await.expect(200);
        assert_eq!((&shown["new_messages"], &shown["old_messages"]), (&json!(1), &json!(0)));
    }

    async fn greetings_are_put_heard_and_taken_away(world: World) {
        let key = world.key(ApiRole::Admin).await;
        world.ie1.post(&uri(world.acme.sid, "/Users.json"), &key, "User=bob").await.expect(201);
        for place in ["/Greeting", "/Users/bob/Greeting"] {
            let (json, wav) = (
                uri(world.acme.sid, &format!("{place}.json")),
                uri(world.acme.sid, &format!("{place}.wav")),
            );
            world.ie1.get(&json, Some(&key)).await.problem(404, "not-found");
            world.ie1.ask("DELETE", &json, Some(&key), &[], "").await.problem(404, "not-found");
            let put = async |kind: &str, body: Vec<u8>| {
                world.ie1.ask("PUT", &wav, Some(&key), &[("content-type", kind)], body).await
            };
            put("audio/mpeg", tone_file(1)).await.problem(415, "media-type");
            put("audio/wav", b"no greeting".to_vec()).await.problem(400, "bad-request");
            let made = put("audio/wav", tone_file(2)).await.expect(200);
            assert_eq!((&made["duration_ms"], &made["storage_region"]), (&json!(2000), &json!("ie1")));
            assert_eq!(made["user_sid"].is_null(), place == "/Greeting");
            assert_eq!(world.ie1.get(&json, Some(&key)).await.expect(200), made);
            let heard = world.ie1.get(&wav, Some(&key)).await;
            let reader = hound::WavReader::new(&heard.body[..]).unwrap();
            let rate = reader.spec().sample_rate;
            let samples: Vec<i16> = reader.into_samples::<i16>().map(Result::unwrap).collect();
            let (hz, _) = strongest_tone(&samples, rate).unwrap();
            assert!((hz - 700.0).abs() < 5.0, "{hz}");
            world.ie1.ask("DELETE", &json, Some(&key), &[], "").await.expect(204);
            world.ie1.get(&wav, Some(&key)).await.problem(404, "not-found");
        }
        world.ie1.get(&uri(world.acme.sid, "/Users/nobody/Greeting.json"), Some(&key)).await.problem(404, "not-found");
    }
}
