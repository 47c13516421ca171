//! Events at a customer's own server: what they say, who signed them, what
//! happens when nobody listens, and where they never go.

use std::process::Stdio;
use std::time::Duration;

use landline_console::WebhookConfig;
use landline_region::egress::{Flow, Verdict};
use landline_store::ApiRole;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::receiver::{Heard, Receiver};
use crate::recordings::recorded;
use crate::support::{Engine, Key, Settings, World, uri};

/// 2023-11-14T00:00:00Z.
const MIDNIGHT: i64 = 1_699_920_000_000;
const EVERYTHING: [&str; 5] =
    ["call.started", "call.ringing", "call.answered", "call.ended", "recording.stored"];

/// A world whose regions trust its own authority and may send to this machine.
async fn world(change: impl FnOnce(&mut Settings)) -> World {
    let webhooks = WebhookConfig {
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        first_pause: Duration::from_millis(50),
        look_again: Duration::from_millis(20),
        ..WebhookConfig::default()
    };
    let mut settings = Settings { webhooks, ..Settings::default() };
    change(&mut settings);
    World::with(Engine::Sqlite, settings).await.unwrap()
}

/// The world's authority is made with the world: the consoles read it later.
fn trusting(settings: &mut Settings) {
    settings.trusts_own = true;
}

async fn hook(world: &World, key: &Key, url: &str, events: &[&str]) -> Value {
    let new = json!({ "url": url, "events": events, "country": "IE" });
    world.ie1.post_json(&uri(world.acme.sid, "/Webhooks.json"), key, &new).await.expect(201)
}

/// The deliveries of a webhook, once as many as wanted stand so.
async fn deliveries(
    world: &World,
    key: &Key,
    hook: &Value,
    status: &str,
    count: usize,
) -> Vec<Value> {
    let path = hook["subresource_uris"]["deliveries"].as_str().unwrap();
    let mut shown = Value::Null;
    for _ in 0..400 {
        let path = format!("{path}?Status={status}");
        shown = world.ie1.get(&path, Some(key)).await.expect(200);
        let found = shown["deliveries"].as_array().unwrap();
        if found.len() == count && found.iter().all(|it| it["failure"].is_string()) {
            return found.clone();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("wanted {count} {status}: {shown}");
}

/// The signature as OpenSSL computes it from what was received.
async fn openssl_agrees(heard: &Heard, secret: &str) -> bool {
    let header = heard.header("landline-signature");
    let (time, signature) = header.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let mut openssl = tokio::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("{time}.{}", heard.body);
    let mut input = openssl.stdin.take().unwrap();
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    let output = openssl.wait_with_output().await.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let seconds: u64 = time.parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(seconds) < 60, "signed at {seconds}");
    shown.trim().ends_with(signature.strip_prefix("v1=").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_signed_and_without_names_numbers_or_times() {
    let world = world(trusting).await;
    let receiver = Receiver::start(&world.certificate("receiver"), &[]).await;
    let key = world.key(ApiRole::Admin).await;
    let made = hook(&world, &key, &receiver.url(), &EVERYTHING).await;
    let secret = made["secret"].as_str().unwrap();
    let shown = world.ie1.get(made["uri"].as_str().unwrap(), Some(&key)).await;
    assert!(!shown.text().contains(secret), "a secret is shown once");

    let call = world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let recording = recorded(&world, &world.acme, 7).await;
    let heard = receiver.hears(4).await;
    let mut events: Vec<_> = heard.iter().map(|it| it.json()["event"].clone()).collect();
    events.sort_by_key(|event| event.to_string());
    assert_eq!(events, ["call.answered", "call.ended", "call.started", "recording.stored"]);
    for it in &heard {
        assert!(openssl_agrees(it, secret).await, "{it:?}");
        assert!(
            !openssl_agrees(&Heard { body: format!("{} ", it.body), ..it.clone() }, secret).await
        );
        let body = it.json();
        assert_eq!(it.path, "/events?of=acme");
        assert_eq!(
            (body["id"].as_str(), &body["call_sid"]),
            (Some(it.header("landline-event-id")), &json!(call.to_string()))
        );
        assert_eq!((&body["region"], &body["direction"]), (&json!("ie1"), &json!("outbound-dial")));
        let all = format!("{it:?}");
        for secret in ["alice", "murphy", "3531555", "secret-call-id", "192.0.2", "2023", "169992"]
        {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
        assert!(
            body["from_token"].as_str().unwrap().len() == 33
                && body["from_token"] != body["to_token"]
        );
        let ended = body["event"] == "call.ended";
        assert_eq!(body["cause"], if ended { json!("hung_up_by_admin") } else { Value::Null });
        let stored = body["event"] == "recording.stored";
        assert_eq!(
            body["recording_sid"],
            if stored { json!(recording.to_string()) } else { Value::Null }
        );
    }
    // Another account's events are not told, and what was received is not kept.
    world.us1.call(&world.globex, 9, MIDNIGHT, true).await;
    for attempt in 0.. {
        let shown = world.ie1.get(made["uri"].as_str().unwrap(), Some(&key)).await.expect(200);
        if shown["delivered"] == 4 {
            break;
        }
        assert!(attempt < 200, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let path = made["subresource_uris"]["deliveries"].as_str().unwrap();
    let left = world.ie1.get(path, Some(&key)).await.expect(200);
    assert_eq!((&left["deliveries"], receiver.heard().len()), (&json!([]), 4));
    let passed = world.ie1.store.gate().counted();
    let passed = passed.iter().find(|it| it.flow == Flow::Webhook).unwrap();
    assert_eq!(
        (passed.destination.as_str(), passed.verdict, passed.count),
        ("account", Verdict::Passed, 4)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_is_sent_again_by_the_same_id_until_it_is_taken() {
    let world = world(trusting).await;
    let receiver = Receiver::start(&world.certificate("receiver"), &[503, 302, 404]).await;
    let key = world.key(ApiRole::Admin).await;
    let made = hook(&world, &key, &receiver.url(), &["call.ended"]).await;
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let waiting = deliveries(&world, &key, &made, "waiting", 1).await;
    assert!(waiting[0]["failure"].as_str().unwrap().starts_with("status_"), "{waiting:?}");
    let heard = receiver.hears(4).await;
    let ids: Vec<_> = heard.iter().map(|it| it.header("landline-event-id")).collect();
    assert_eq!(ids, [waiting[0]["sid"].as_str().unwrap(); 4]);
    assert!(heard.iter().all(|it| it.body == heard[0].body && it.path != "/elsewhere"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.heard().len(), 4, "what was taken is sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_restart() {
    let mut world = world(trusting).await;
    let files = world.certificate("receiver");
    let address = Receiver::start(&files, &[]).await.address;
    let key = world.key(ApiRole::Admin).await;
    let made =
        hook(&world, &key, &format!("https://{address}/"), &["call.started", "call.ended"]).await;
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let waiting = deliveries(&world, &key, &made, "waiting", 2).await;
    assert!(waiting.iter().all(|it| it["failure"] == "connect"), "{waiting:?}");
    world.ie1.restart().await;
    let receiver = Receiver::at(address, &files, &[]).await;
    let heard = receiver.hears(2).await;
    for it in &heard {
        assert!(waiting.iter().any(|wanted| wanted["sid"] == it.json()["id"]), "{it:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_old_is_given_up_and_shown() {
    let world = world(|settings| {
        settings.trusts_own = true;
        settings.webhooks.give_up_after = Duration::from_millis(300);
    })
    .await;
    let receiver = Receiver::start(&world.certificate("receiver"), &[500; 50]).await;
    let key = world.key(ApiRole::Admin).await;
    let made = hook(&world, &key, &receiver.url(), &["call.ended"]).await;
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let failed = deliveries(&world, &key, &made, "failed", 1).await;
    assert_eq!(
        (&failed[0]["failure"], &failed[0]["next_attempt_at"]),
        (&json!("status_500"), &Value::Null)
    );
    assert!(failed[0]["given_up_at"].is_string() && failed[0]["attempts"].as_u64() >= Some(2));
    assert_eq!(failed[0]["attempts"], receiver.heard().len());
    assert_eq!(given_up(&world), 1.0);
}

fn given_up(world: &World) -> f64 {
    let families = world.ie1.registry.gather();
    let family = families.iter().find(|it| it.name() == "landline_console_webhook_attempts_total");
    let metric = family
        .unwrap()
        .get_metric()
        .iter()
        .find(|it| it.get_label().iter().any(|label| label.value() == "given_up"));
    metric.map_or(0.0, |metric| metric.get_counter().get_value())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_not_public_are_not_sent_to() {
    let world = world(|settings| {
        settings.trusts_own = true;
        settings.webhooks.allow.clear();
    })
    .await;
    let receiver = Receiver::start(&world.certificate("receiver"), &[]).await;
    let key = world.key(ApiRole::Admin).await;
    let path = uri(world.acme.sid, "/Webhooks.json");
    let port = receiver.address.port();
    for url in
        ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "[fe80::1]"]
    {
        let url = format!("https://{url}:{port}/");
        let new = json!({ "url": url, "events": "call.ended", "country": "IE" });
        let problem = world.ie1.post_json(&path, &key, &new).await.problem(400, "bad-request");
        assert_eq!(problem["field"], "url", "{url}");
    }
    // A name that leads there is found out when it is looked up.
    let made = hook(&world, &key, &format!("https://localhost:{port}/"), &["call.ended"]).await;
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let waiting = deliveries(&world, &key, &made, "waiting", 1).await;
    assert_eq!(waiting[0]["failure"], "address_not_allowed");
    assert!(receiver.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_prove_itself_is_told_nothing() {
    // The system's authorities do not know the receiver's.
    let strangers = world(|_| ()).await;
    let receiver = Receiver::start(&strangers.certificate("receiver"), &[]).await;
    let key = strangers.key(ApiRole::Admin).await;
    let made = hook(&strangers, &key, &receiver.url(), &["call.ended"]).await;
    strangers.ie1.call(&strangers.acme, 7, MIDNIGHT, true).await;
    let waiting = deliveries(&strangers, &key, &made, "waiting", 1).await;
    assert_eq!((&waiting[0]["failure"], receiver.heard().len()), (&json!("tls"), 0));
    // A certificate for 127.0.0.1 is none for localhost.
    let friends = world(trusting).await;
    let receiver = Receiver::start(&friends.certificate("receiver"), &[]).await;
    let key = friends.key(ApiRole::Admin).await;
    let url = format!("https://localhost:{}/", receiver.address.port());
    let made = hook(&friends, &key, &url, &["call.ended"]).await;
    friends.ie1.call(&friends.acme, 7, MIDNIGHT, true).await;
    let waiting = deliveries(&friends, &key, &made, "waiting", 1).await;
    assert_eq!((&waiting[0]["failure"], receiver.heard().len()), (&json!("tls"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_country_that_is_not_allowed_stays_and_is_counted() {
    let world = world(|settings| {
        settings.trusts_own = true;
        settings.account_countries = Some(vec!["IE", "FR"]);
    })
    .await;
    let receiver = Receiver::start(&world.certificate("receiver"), &[]).await;
    let key = world.key(ApiRole::Admin).await;
    let new = json!({ "url": receiver.url(), "events": ["call.ended"], "country": "US" });
    let path = uri(world.acme.sid, "/Webhooks.json");
    let made = world.ie1.post_json(&path, &key, &new).await.expect(201);
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    let failed = deliveries(&world, &key, &made, "failed", 1).await;
    assert_eq!((&failed[0]["failure"], receiver.heard().len()), (&json!("refused_country"), 0));
    let counted = world.ie1.store.gate().counted();
    let refused = counted.iter().find(|it| it.flow == Flow::Webhook).unwrap();
    assert_eq!((refused.verdict, refused.count), (Verdict::Refused("country"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_webhook_is_named_and_one_that_is_removed_hears_nothing() {
    let world = world(trusting).await;
    let key = world.key(ApiRole::Admin).await;
    let path = uri(world.acme.sid, "/Webhooks.json");
    for (change, field) in [
        (json!({ "url": "http://a.example/" }), "url"),
        (json!({ "url": "https://u:p@a.example/" }), "url"),
        (json!({ "events": ["call.sneezed"] }), "events"),
        (json!({ "events": [] }), "events"),
        (json!({ "country": "Ireland" }), "country"),
        (json!({ "secret": "short" }), "secret"),
    ] {
        let mut new =
            json!({ "url": "https://a.example/", "events": "call.ended", "country": "IE" });
        new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problem = world.ie1.post_json(&path, &key, &new).await.problem(400, "bad-request");
        assert_eq!(problem["field"], field, "{new}");
    }
    let receiver = Receiver::start(&world.certificate("receiver"), &[500; 9]).await;
    let form = format!(
        "Url={}&Events=call.started&Events=call.ended&Country=IE",
        receiver.url().replace('&', "%26")
    );
    let made = world.ie1.post(&path, &key, &form).await.expect(201);
    assert_eq!(made["events"], json!(["call.started", "call.ended"]));
    world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
    receiver.hears(2).await;
    let at = made["uri"].as_str().unwrap();
    world.ie1.ask("DELETE", at, Some(&key), &[], "").await.expect(204);
    world.ie1.get(at, Some(&key)).await.problem(404, "not-found");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let heard = receiver.heard().len();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(receiver.heard().len(), heard);
}
