//! What is set up by the API: users, numbers, trunks, keys, policies; with
//! what was asked once done once, and what was changed meanwhile left alone.

use landline_store::{ApiRole, directory};
use serde_json::{Value, json};

use crate::on_both_engines;
use crate::support::{tone_file, uri};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A body that does not come.
struct Unsent;

impl http_body::Body for Unsent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

on_both_engines! {
    async fn users_numbers_and_trunks_come_and_go(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let (ie1, account) = (&world.ie1, world.acme.sid);
        let made = ie1.post(&uri(account, "/Users.json"), &key, "User=dave&Media=sdes&Number=%2B35315550100").await;
        let dave = made.expect(201);
        assert_eq!(made.headers["location"], dave["uri"].as_str().unwrap());
        assert_eq!((&dave["sip_uri"], &dave["media"]), (&"sip:dave@acme.test".into(), &"sdes".into()));
        assert_eq!(dave["password"].as_str().unwrap().len(), 20);
        let path = dave["uri"].as_str().unwrap();
        let shown = ie1.get(path, Some(&key)).await.expect(200);
        assert_eq!((&shown["number"], shown.get("password")), (&"+35315550100".into(), None));
        let changed = ie1.post(path, &key, "Recording=all&Number=").await.expect(200);
        assert_eq!((&changed["recording"], &changed["number"]), (&"all".into(), &Value::Null));

        let trunk = json!({
            "friendly_name": "carrier", "send_to": "udp:carrier.example:5060",
            "accept_from": ["192.0.2.0/24", "198.51.100.7"], "username": "acme", "password": "hunter22",
        });
        let trunk = ie1.post_json(&uri(account, "/Trunks.json"), &key, &trunk).await.expect(201);
        assert_eq!(trunk["accept_from"], json!(["192.0.2.0/24", "198.51.100.7/32"]));
        assert!(!trunk.to_string().contains("hunter22"));

        let number = json!({ "phone_number": "+35315550101", "trunk": "carrier" });
        let number = ie1.post_json(&uri(account, "/IncomingPhoneNumbers.json"), &key, &number).await.expect(201);
        assert_eq!(number["trunk_sid"], trunk["sid"]);
        assert!(!number["uri"].as_str().unwrap().contains("353"), "{number}");
        let in_use = trunk["uri"].as_str().unwrap();
        ie1.ask("DELETE", in_use, Some(&key), &[], "").await.problem(409, "conflict");
        for gone in [&number, &trunk, &dave] {
            let path = gone["uri"].as_str().unwrap();
            ie1.ask("DELETE", path, Some(&key), &[], "").await.expect(204);
            ie1.get(path, Some(&key)).await.problem(404, "not-found");
        }
        for (path, name) in [("/Users.json", "users"), ("/Trunks.json", "trunks"), ("/IncomingPhoneNumbers.json", "incoming_phone_numbers")] {
            let list = ie1.get(&uri(account, path), Some(&key)).await.expect(200);
            assert_eq!(list[name], json!([]), "{path}");
        }
    }

    async fn lists_come_in_pages_that_hold_everything_once(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let (ie1, account) = (&world.ie1, world.acme.sid);
        let new = |kind: &str, number: usize| match kind {
            "users" => json!({ "user": format!("user{number}") }),
            "trunks" => json!({ "friendly_name": format!("trunk{number}"), "send_to": "udp:c.example:5060" }),
            "keys" => json!({ "friendly_name": format!("key{number}"), "role": "read" }),
            _ => json!({ "phone_number": format!("+3531555{number:04}"), "user": "user1" }),
        };
        for (kind, path) in [
            ("users", "/Users.json"),
            ("trunks", "/Trunks.json"),
            ("incoming_phone_numbers", "/IncomingPhoneNumbers.json"),
            ("keys", "/Keys.json"),
        ] {
            let path = uri(account, path);
            let mut wanted = Vec::new();
            if kind == "keys" {
                wanted.push(key.sid.clone());
            }
            for number in 1..=7 {
                let made = ie1.post_json(&path, &key, &new(kind, number)).await.expect(201);
                wanted.push(made["sid"].as_str().unwrap().to_owned());
            }
            let (mut seen, mut next, mut pages) = (Vec::new(), Some(format!("{path}?PageSize=3")), 0);
            while let Some(at) = next {
                let page = ie1.get(&at, Some(&key)).await.expect(200);
                assert_eq!((&page["page_size"], &page["uri"]), (&json!(3), &json!(at)), "{kind}");
                seen.extend(page[kind].as_array().unwrap().iter().map(|it| it["sid"].as_str().unwrap().to_owned()));
                next = page["next_page_uri"].as_str().map(str::to_owned);
                pages += 1;
                // What comes meanwhile is on no later page.
                ie1.post_json(&path, &key, &new(kind, 10 + pages)).await.expect(201);
            }
            seen.sort();
            wanted.sort();
            assert_eq!((pages, seen), (3, wanted), "{kind}");
            ie1.get(&format!("{path}?PageToken=MTIz"), Some(&key)).await.problem(400, "bad-request");
        }
    }

    async fn routes_are_listed_in_the_order_in_which_they_are_looked_for(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let (ie1, account) = (&world.ie1, world.acme.sid);
        for (name, prefixes) in [("any", json!([])), ("dublin", json!(["+3531", "+3532"])), ("ireland", json!("+353"))] {
            let trunk = json!({ "friendly_name": name, "send_to": "udp:c.example:5060", "prefixes": prefixes });
            ie1.post_json(&uri(account, "/Trunks.json"), &key, &trunk).await.expect(201);
        }
        let routes = async |query: &str| {
            let list = ie1.get(&uri(account, &format!("/Routes.json{query}")), Some(&key)).await.expect(200);
            let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
            let rows = list["routes"].as_array().unwrap().clone();
            rows.iter().map(|row| (text(row, "prefix"), text(row, "friendly_name"))).collect::<Vec<_>>()
        };
        let row = |prefix: &str, name: &str| (prefix.to_owned(), name.to_owned());
        assert_eq!(routes("").await, [row("+3531", "dublin"), row("+3532", "dublin"), row("+353", "ireland"), row("+", "any")]);
        assert_eq!(routes("?To=%2B35321234567").await, [row("+3532", "dublin"), row("+353", "ireland"), row("+", "any")]);
        assert_eq!(routes("?To=%2B12125550100").await, [row("+", "any")]);
        ie1.get(&uri(account, "/Routes.json?To=bob"), Some(&key)).await.problem(400, "bad-request");
        let wrong = json!({ "friendly_name": "wrong", "send_to": "udp:c.example:5060", "prefixes": ["353"] });
        ie1.post_json(&uri(account, "/Trunks.json"), &key, &wrong).await.problem(400, "bad-request");
    }

    async fn what_is_wrong_is_named_by_its_field(world: World) {
        let key = world.key(ApiRole::Admin).await;
        for (path, body, field) in [
            ("/Users.json", json!({ "user": "dave", "media": "zrtp" }), "media"),
            ("/Users.json", json!({ "user": "dave", "number": "0123" }), "number"),
            ("/Users.json", json!({ "user": "dave", "password": "short" }), "password"),
            ("/Trunks.json", json!({ "friendly_name": "x", "send_to": "carrier" }), "send_to"),
            ("/Trunks.json", json!({ "friendly_name": "x", "send_to": "udp:h:1", "accept_from": "h" }), "accept_from"),
            ("/Trunks.json", json!({ "friendly_name": "x", "send_to": "udp:h:1", "username": "u" }), "password"),
            ("/IncomingPhoneNumbers.json", json!({ "phone_number": "+35312345" }), "user"),
            ("/Keys.json", json!({ "friendly_name": "x", "role": "root" }), "role"),
            (".json", json!({ "recording": "some" }), "recording"),
        ] {
            let answer = world.ie1.post_json(&uri(world.acme.sid, path), &key, &body).await;
            assert_eq!(answer.problem(400, "bad-request")["field"], field, "{body}");
        }
    }

    async fn a_request_that_is_sent_again_is_done_once(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let path = uri(world.acme.sid, "/Users.json");
        let body = json!({ "user": "dave" }).to_string();
        let headers = [JSON, ("idempotency-key", "one")];
        let first = world.ie1.ask("POST", &path, Some(&key), &headers, body.clone()).await;
        let again = world.ie1.ask("POST", &path, Some(&key), &headers, body.clone()).await;
        let (first, second) = (first.expect(201), again.expect(201));
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(first["sid"], second["sid"]);
        // A password is shown once, and is not kept to be shown again.
        assert!(first["password"].is_string() && second["password"].is_null());
        let users = world.ie1.store.user_list(world.acme.sid).await.unwrap();
        assert_eq!(users.len(), 1);

        let other = json!({ "user": "erin" }).to_string();
        world.ie1.ask("POST", &path, Some(&key), &headers, other.clone()).await.problem(409, "conflict");
        // Another key's names are its own.
        let another = world.key(ApiRole::Admin).await;
        world.ie1.ask("POST", &path, Some(&another), &headers, other).await.expect(201);
        // What was refused may be put right under the same name.
        let wrong = json!({ "user": "frank", "media": "zrtp" }).to_string();
        let named = [JSON, ("idempotency-key", "two")];
        world.ie1.ask("POST", &path, Some(&key), &named, wrong).await.problem(400, "bad-request");
        let right = json!({ "user": "frank" }).to_string();
        world.ie1.ask("POST", &path, Some(&key), &named, right).await.expect(201);
    }

    async fn a_change_meant_for_another_version_is_refused(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let path = uri(world.acme.sid, ".json");
        let etag = world.ie1.get(&path, Some(&key)).await.headers["etag"].to_str().unwrap().to_owned();
        let headers = [JSON, ("if-match", etag.as_str())];
        let change = |policy: &str| json!({ "edge_policy": policy }).to_string();
        world.ie1.ask("POST", &path, Some(&key), &headers, change("refuse")).await.expect(200);
        let late = world.ie1.ask("POST", &path, Some(&key), &headers, change("redirect")).await;
        late.problem(412, "changed");
        // The directory follows the account.
        let known = directory::read(&world.dir.path().join("directory.json")).unwrap();
        assert_eq!(known.accounts["acme.test"].edge_policy.name(), "refuse");
    }

    async fn numbers_reach_the_directory_as_tokens_and_have_one_owner(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let snapshot = world.dir.path().join("directory.json");
        let known = || directory::read(&snapshot).unwrap().numbers.len();
        let path = uri(world.acme.sid, "/Users.json");
        let dave = world.ie1.post(&path, &key, "User=dave&Number=%2B35315550100").await.expect(201);
        assert_eq!(known(), 1);
        let more = json!({ "phone_number": "+35315550101", "user": "dave" });
        let numbers = uri(world.acme.sid, "/IncomingPhoneNumbers.json");
        let more = world.ie1.post_json(&numbers, &key, &more).await.expect(201);
        assert_eq!(known(), 2);
        assert!(!std::fs::read_to_string(&snapshot).unwrap().contains("3531555"));

        let theirs = world.us1.key(&world.globex, ApiRole::Admin).await;
        let path = uri(world.globex.sid, "/Users.json");
        world.us1.post(&path, &theirs, "User=erin&Number=%2B35315550101").await.problem(409, "conflict");
        assert!(world.us1.store.user_list(world.globex.sid).await.unwrap().is_empty());

        world.ie1.ask("DELETE", more["uri"].as_str().unwrap(), Some(&key), &[], "").await.expect(204);
        assert_eq!(known(), 1);
        world.ie1.post(dave["uri"].as_str().unwrap(), &key, "Number=").await.expect(200);
        assert_eq!(known(), 0);
    }

    async fn a_change_that_the_directory_does_not_take_is_not_made(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let path = uri(world.acme.sid, ".json");
        let changed = world.ie1.post(&path, &key, "CallsFrom=region").await.expect(200);
        assert_eq!(changed["calls_from"], "region");
        let snapshot = world.dir.path().join("directory.json");
        let text = std::fs::read(&snapshot).unwrap();
        std::fs::write(&snapshot, "no directory").unwrap();
        let refused = world.ie1.post(&path, &key, "CallsFrom=any&EdgePolicy=refuse").await;
        assert_eq!(refused.status, 500, "{}", refused.text());
        std::fs::write(&snapshot, text).unwrap();
        let shown = world.ie1.get(&path, Some(&key)).await.expect(200);
        assert_eq!((&shown["calls_from"], &shown["edge_policy"]), (&"region".into(), &"forward".into()));
    }

    async fn music_on_hold_is_put_heard_and_taken_away(world: World) {
        let key = world.key(ApiRole::Admin).await;
        let (json, wav) =
            (uri(world.acme.sid, "/HoldMusic.json"), uri(world.acme.sid, "/HoldMusic.wav"));
        let account = uri(world.acme.sid, ".json");
        world.ie1.get(&json, Some(&key)).await.problem(404, "not-found");
        world.ie1.post(&account, &key, "HoldMusic=own").await.problem(400, "bad-request");
        let put = async |world: &crate::support::World, kind: &str, body: Vec<u8>| {
            world.ie1.ask("PUT", &wav, Some(&key), &[("content-type", kind)], body).await
        };
        put(&world, "audio/mpeg", tone_file(1)).await.problem(415, "media-type");
        put(&world, "audio/wav", b"no music".to_vec()).await.problem(400, "bad-request");
        put(&world, "audio/wav", tone_file(301)).await.problem(400, "bad-request");
        put(&world, "audio/wav", vec![0; (32 << 20) + 1]).await.problem(413, "too-large");

        let made = put(&world, "audio/wav", tone_file(2)).await.expect(200);
        assert_eq!((&made["duration_ms"], &made["storage_region"]), (&json!(2000), &json!("ie1")));
        assert_eq!(world.ie1.get(&account, Some(&key)).await.expect(200)["hold_music"], "own");
        assert_eq!(world.ie1.get(&json, Some(&key)).await.expect(200), made);
        let heard = world.ie1.get(&wav, Some(&key)).await;
        let reader = hound::WavReader::new(&heard.body[..]).unwrap();
        let rate = reader.spec().sample_rate;
        let samples: Vec<i16> = reader.into_samples::<i16>().map(Result::unwrap).collect();
        let (hz, _) = landline_media::audio::strongest_tone(&samples, rate).unwrap();
        assert!((hz - 700.0).abs() < 5.0, "{hz}");
        let read = world.key(ApiRole::Operator).await;
        let refused =
            world.ie1.ask("PUT", &wav, Some(&read), &[("content-type", "audio/wav")], tone_file(1));
        refused.await.problem(403, "forbidden");
        // Nobody waits for a file that is not going to be taken.
        let unsent = axum::body::Body::new(Unsent);
        let refused =
            world.ie1.ask("PUT", &wav, Some(&read), &[("content-type", "audio/wav")], unsent);
        let refused = tokio::time::timeout(std::time::Duration::from_secs(30), refused).await;
        refused.expect("an answer before the body").problem(403, "forbidden");

        world.ie1.ask("DELETE", &json, Some(&key), &[], "").await.expect(204);
        world.ie1.get(&wav, Some(&key)).await.problem(404, "not-found");
        assert_eq!(world.ie1.get(&account, Some(&key)).await.expect(200)["hold_music"], "built-in");
    }

    async fn a_key_is_made_used_and_revoked(world: World) {
        let admin = world.key(ApiRole::Admin).await;
        let new = json!({ "friendly_name": "Bob's laptop", "role": "read" });
        let made = world.ie1.post_json(&uri(world.acme.sid, "/Keys.json"), &admin, &new).await.expect(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let key = crate::support::Key { sid: text("sid"), secret: text("secret") };
        world.ie1.get(&uri(world.acme.sid, "/Usage.json"), Some(&key)).await.expect(200);
        let list = world.ie1.get(&uri(world.acme.sid, "/Keys.json"), Some(&admin)).await;
        assert!(!list.text().contains(&key.secret));
        world.ie1.ask("DELETE", &text("uri"), Some(&admin), &[], "").await.expect(204);
        world.ie1.get(&uri(world.acme.sid, "/Usage.json"), Some(&key)).await.problem(401, "unauthenticated");
    }

    async fn usage_is_counted_by_day_and_minute_begun(world: World) {
        // 2023-11-14T00:00:00Z and the day after.
        for (number, opened) in [(1, 1_699_920_000_000), (2, 1_699_920_060_000), (3, 1_700_006_400_000)] {
            world.ie1.call(&world.acme, number, opened, true).await;
        }
        world.ie1.call(&world.acme, 4, 1_700_006_400_000, false).await;
        let key = world.key(ApiRole::Auditor).await;
        let path = uri(world.acme.sid, "/Usage.json?StartDate=2023-11-14&EndDate=2023-11-15");
        let shown = world.ie1.get(&path, Some(&key)).await.expect(200);
        let rows: Vec<_> = shown["usage_records"].as_array().unwrap().iter().map(|row| {
            (row["start_date"].as_str().unwrap(), row["category"].as_str().unwrap(), row["calls"].as_u64(), row["minutes_begun"].as_u64(), row["duration_ms"].as_u64())
        }).collect();
        assert_eq!(rows, [
            ("2023-11-14", "calls-outbound", Some(2), Some(2), Some(2000)),
            ("2023-11-15", "calls-outbound", Some(2), Some(1), Some(1000)),
        ]);
        let path = uri(world.acme.sid, "/Usage.json?StartDate=2023-11-15&EndDate=2023-11-14");
        world.ie1.get(&path, Some(&key)).await.problem(400, "bad-request");
    }

    async fn the_audit_says_who_did_what_and_no_name_or_number(world: World) {
        let (admin, auditor) = (world.key(ApiRole::Admin).await, world.key(ApiRole::Auditor).await);
        let made = world.ie1.post(&uri(world.acme.sid, "/Users.json"), &admin, "User=dave").await.expect(201);
        world.ie1.get(&uri(world.acme.sid, "/Users/dave.json"), Some(&admin)).await.expect(200);
        world.ie1.ask("DELETE", made["uri"].as_str().unwrap(), Some(&admin), &[], "").await.expect(204);
        let mut rows = Vec::new();
        let mut next = Some(uri(world.acme.sid, "/Audit.json?PageSize=1"));
        // The list itself is written down, after what it shows.
        for _ in 0..3 {
            let page = world.ie1.get(&next.unwrap(), Some(&auditor)).await.expect(200);
            rows.extend(page["audit"].as_array().unwrap().clone());
            next = page["next_page_uri"].as_str().map(str::to_owned);
        }
        let shown: Vec<_> = rows.iter().map(|row| (row["operation"].as_str().unwrap(), row["subject"].as_str(), row["status"].as_u64())).collect();
        let dave = made["sid"].as_str();
        assert_eq!(shown, [("user_delete", dave, Some(204)), ("user_show", None, Some(200)), ("user_create", None, Some(201))]);
        assert!(rows.iter().all(|row| row["actor"] == admin.sid && row["source"] == "127.0.0.1"));
        assert!(!format!("{rows:?}").contains("dave"));
    }
}
