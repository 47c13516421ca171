//! A user's own mailbox, by the password of the user's phone.

use landline_media::audio::strongest_tone;
use landline_region::UserSid;
use landline_sip::Method;
use landline_sip::digest::{self, Algorithm, Challenge, Credentials};
use landline_store::{ApiRole, AuditFilter};
use serde_json::json;

use crate::on_both_engines;
use crate::support::{Answer, Engine, Region, World, tone_file, uri};
use crate::voicemail::left;

/// What a phone's user does, and nobody's key.
struct Phone<'a> {
    region: &'a Region,
    name: &'a str,
    password: String,
}

impl Phone<'_> {
    async fn challenge(&self, method: &str, path: &str) -> Challenge {
        let answer = self.region.ask(method, path, None, &[], "").await;
        answer.problem(401, "unauthenticated");
        challenge_of(&answer)
    }

    fn proof(&self, challenge: &Challenge, method: &str, path: &str, count: u32) -> String {
        let method = Method::parse(method).unwrap();
        let challenges = std::slice::from_ref(challenge);
        let (name, password) = (self.name, &self.password);
        let given = digest::answer(challenges, &method, path, name, password, count, "c").unwrap();
        format!("Digest {}", given.to_string().trim_start_matches("Digest "))
    }

    async fn with(
        &self,
        proof: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Answer {
        let headers = [("authorization", proof), ("content-type", kind)];
        self.region.ask(method, path, None, &headers, body).await
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        let challenge = self.challenge(method, path).await;
        self.with(&self.proof(&challenge, method, path, 1), method, path, kind, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", Vec::new()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", Vec::new()).await
    }

    async fn heard(&self, path: &str, heard: &str) -> Answer {
        let body = json!({ "heard": heard }).to_string().into_bytes();
        self.send("POST", path, "application/json", body).await
    }
}

fn challenge_of(answer: &Answer) -> Challenge {
    let value = answer.headers["www-authenticate"].to_str().unwrap();
    let challenge = Challenge::parse(&value.into()).unwrap();
    assert_eq!((challenge.realm.as_str(), challenge.algorithm), ("acme.test", Algorithm::Sha256));
    challenge
}

async fn user<'a>(world: &'a World, name: &'a str) -> (Phone<'a>, UserSid) {
    let admin = world.key(ApiRole::Admin).await;
    let path = uri(world.acme.sid, "/Users.json");
    let made = world.ie1.post(&path, &admin, &format!("User={name}")).await.expect(201);
    let password = made["password"].as_str().unwrap().to_owned();
    let sid = made["sid"].as_str().unwrap().parse().unwrap();
    (Phone { region: &world.ie1, name, password }, sid)
}

const LIST: &str = "/v1/phone/acme.test/voicemail.json";
const MESSAGES: &str = "/v1/phone/acme.test/voicemail";
const GREETING: &str = "/v1/phone/acme.test/greeting.wav";

on_both_engines! {
    async fn users_find_their_own_messages_and_nobody_elses(world: World) {
        let ((bob, bob_sid), (carol, _)) = (user(&world, "bob").await, user(&world, "carol").await);
        let admin = world.key(ApiRole::Admin).await;
        let empty = bob.get(LIST).await.expect(200);
        assert_eq!((&empty["enabled"], &empty["messages"]), (&json!(false), &json!([])));
        world.ie1.post(&uri(world.acme.sid, "/Users/bob.json"), &admin, "Voicemail=on").await.expect(200);
        left(&world, bob_sid, 1).await;
        let message = left(&world, bob_sid, 2).await;
        let listed = bob.get(LIST).await.expect(200);
        assert_eq!((&listed["enabled"], &listed["new_messages"]), (&json!(true), &json!(2)));
        assert_eq!(listed["storage_region"], "ie1");
        let newest = &listed["messages"][0];
        assert_eq!((&newest["sid"], &newest["from"]), (&json!(message), &json!("alice.murphy")));

        let (one, sound) = (format!("{MESSAGES}/{message}.json"), format!("{MESSAGES}/{message}.wav"));
        let heard = bob.get(&sound).await;
        let samples: Vec<i16> = hound::WavReader::new(heard.body.as_slice()).unwrap()
            .into_samples().map(Result::unwrap).collect();
        let (hz, _) = strongest_tone(&samples[4000..12_000], 8000).unwrap();
        assert!((hz - 440.0).abs() < 5.0, "the caller: {hz}");

        // Another user of the account is as far from it as a stranger is.
        assert_eq!(carol.get(LIST).await.expect(200)["messages"], json!([]));
        carol.get(&sound).await.problem(404, "not-found");
        carol.heard(&one, "on").await.problem(404, "not-found");
        carol.delete(&one).await.problem(404, "not-found");
        for unknown in [format!("{MESSAGES}/VMie1{:032x}", 9), format!("{MESSAGES}/x")] {
            bob.delete(&format!("{unknown}.json")).await.problem(404, "not-found");
            bob.get(&format!("{unknown}.wav")).await.problem(404, "not-found");
        }

        bob.heard(&one, "perhaps").await.problem(400, "bad-request");
        assert_eq!(bob.heard(&one, "on").await.expect(200)["heard"], true);
        assert_eq!(bob.get(LIST).await.expect(200)["old_messages"], 1);
        bob.delete(&one).await.expect(204);
        bob.get(&sound).await.problem(404, "not-found");
        assert_eq!(bob.get(LIST).await.expect(200)["new_messages"], 1);

        // The region's log says who did it; the statement of the deletion too.
        let audit = world.ie1.store.audit_list(world.acme.sid, &AuditFilter::default()).await.unwrap();
        let deeds: Vec<_> = audit.iter()
            .filter(|it| it.actor == bob_sid.to_string() && it.subject == Some(message.to_string()))
            .map(|it| (it.operation.as_str(), it.role.as_str(), it.status)).collect();
        assert!(deeds.contains(&("phone_voicemail_delete", "user", Some(204))), "{deeds:?}");
        assert!(deeds.contains(&("phone_voicemail_media", "user", Some(200))), "{deeds:?}");
    }

    async fn a_user_puts_hears_and_removes_the_own_greeting(world: World) {
        let (bob, bob_sid) = user(&world, "bob").await;
        bob.get(GREETING).await.problem(404, "not-found");
        bob.send("PUT", GREETING, "audio/mpeg", tone_file(1)).await.problem(415, "media-type");
        bob.send("PUT", GREETING, "audio/wav", b"none".to_vec()).await.problem(400, "bad-request");
        bob.send("PUT", GREETING, "audio/wav", tone_file(2)).await.expect(204);
        let stored = world.ie1.store.greeting(world.acme.sid, Some(bob_sid)).await.unwrap();
        assert_eq!(stored.duration_ms, 2000);
        let heard = bob.get(GREETING).await;
        let reader = hound::WavReader::new(&heard.body[..]).unwrap();
        let rate = reader.spec().sample_rate;
        let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
        let (hz, _) = strongest_tone(&samples, rate).unwrap();
        assert!((hz - 700.0).abs() < 5.0, "{hz}");
        assert_eq!(bob.get(LIST).await.expect(200)["own_greeting"], true);
        bob.delete(GREETING).await.expect(204);
        assert_eq!(bob.get(LIST).await.expect(200)["own_greeting"], false);
    }

    async fn a_key_a_replay_and_a_removed_user_are_refused(world: World) {
        let (bob, _) = user(&world, "bob").await;
        // An administrator's key is none here.
        let admin = world.key(ApiRole::Admin).await;
        world.ie1.get(LIST, Some(&admin)).await.problem(401, "unauthenticated");
        let challenge = bob.challenge("GET", LIST).await;
        let proof = bob.proof(&challenge, "GET", LIST, 1);
        let send = async |proof: &str, path| bob.with(proof, "GET", path, "", Vec::new()).await;
        send(&proof, LIST).await.expect(200);
        // The same proof again, and for something else.
        let again = send(&proof, LIST).await;
        again.problem(401, "unauthenticated");
        assert!(challenge_of(&again).stale);
        let elsewhere = send(&proof, GREETING).await;
        elsewhere.problem(401, "unauthenticated");
        assert!(!challenge_of(&elsewhere).stale);
        send(&bob.proof(&challenge, "GET", LIST, 2), LIST).await.expect(200);
        // MD5 is not taken, although the secret for it is there.
        let weak = Challenge { algorithm: Algorithm::Md5, ..challenge.clone() };
        send(&bob.proof(&weak, "GET", LIST, 3), LIST).await.problem(401, "unauthenticated");
        // By the sid in place of the name.
        let forged = Credentials { username: "US".into(), ..Credentials::parse(&proof.as_str().into()).unwrap() };
        send(&format!("Digest {}", forged.to_string().trim_start_matches("Digest ")), LIST).await
            .problem(401, "unauthenticated");
        world.ie1.ask("DELETE", &uri(world.acme.sid, "/Users/bob.json"), Some(&admin), &[], "").await.expect(204);
        send(&bob.proof(&challenge, "GET", LIST, 4), LIST).await.problem(401, "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_region_names_the_home_and_reads_nothing() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let abroad = world.us1.get(LIST, None).await;
    assert_eq!(abroad.problem(421, "wrong-region")["home_region"], "ie1");
    world
        .ie1
        .get("/v1/phone/nobody.test/voicemail.json", None)
        .await
        .problem(404, "unknown-domain");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_passwords_must_wait() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let (bob, _) = user(&world, "bob").await;
    let guesser = Phone { region: &world.ie1, name: "bob", password: "guess".to_owned() };
    let mut refused = 0;
    for _ in 0..30 {
        let challenge = world.ie1.ask("GET", LIST, None, &[], "").await;
        if challenge.status == 429 {
            break;
        }
        let proof = guesser.proof(&challenge_of(&challenge), "GET", LIST, 1);
        guesser.with(&proof, "GET", LIST, "", Vec::new()).await.problem(401, "unauthenticated");
        refused += 1;
    }
    assert!((10..15).contains(&refused), "{refused}");
    let waits = bob.region.ask("GET", LIST, None, &[], "").await;
    waits.problem(429, "too-many-requests");
    assert!(waits.headers.contains_key("retry-after"));
}
