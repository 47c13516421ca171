//! Who comes in: TLS, keys, regions, accounts, roles, rates.

use std::io::{Read, Write};

use axum::body::Body;
use axum::http::Request;
use landline_console::Limits;
use landline_console::route::{Audit, ROUTES, Who};
use landline_store::{ApiRole, AuditFilter};

use crate::on_both_engines;
use crate::support::{Engine, Key, World, uri};

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_no_way_in() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let mut stream = std::net::TcpStream::connect(world.ie1.address).unwrap();
    stream.write_all(b"GET /v1/region HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // A TLS alert, and not a word of HTTP.
    assert!(!answer.starts_with(b"HTTP") && answer.len() < 16, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_comes_in_by_both_versions_of_http_and_trusts_the_certificate() {
    let Some(curl) = ["/usr/bin/curl"].into_iter().find(|it| std::path::Path::new(it).exists())
    else {
        return eprintln!("SKIPPED: no curl");
    };
    let world = World::new(Engine::Sqlite).await.unwrap();
    let key = world.key(ApiRole::Read).await;
    let url = format!("{}{}", world.ie1.base_url(), uri(world.acme.sid, ".json"));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = tokio::process::Command::new(curl)
            .args(["--silent", "--show-error", "--noproxy", "*", flag, "--cacert"])
            .arg(&world.ie1.ca)
            .args(["--user", &format!("{}:{}", key.sid, key.secret)])
            .args(["--write-out", "\n%{http_code} %{http_version}", &url])
            .output()
            .await
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.ends_with(&format!("200 {version}")), "{shown} {output:?}");
        assert!(shown.contains("acme.test"), "{shown}");
    }
}

on_both_engines! {
    async fn a_key_opens_its_account_by_either_scheme_until_it_is_revoked(world: World) {
        let path = uri(world.acme.sid, ".json");
        let key = world.key(ApiRole::Read).await;
        let shown = world.ie1.get(&path, Some(&key)).await.expect(200);
        assert_eq!((&shown["domain"], &shown["home_region"]), (&"acme.test".into(), &"ie1".into()));
        let bearer = Request::get(&path).header("authorization", key.bearer()).body(Body::empty());
        world.ie1.send(bearer.unwrap()).await.expect(200);

        let listed = world.ie1.store.key_list(world.acme.sid).await.unwrap();
        assert!(listed[0].last_used_at.is_some());
        world.ie1.store.key_revoke(world.acme.sid, key.sid.parse().unwrap()).await.unwrap();
        world.ie1.get(&path, Some(&key)).await.problem(401, "unauthenticated");
    }

    async fn a_wrong_secret_or_none_is_401_and_says_how(world: World) {
        let path = uri(world.acme.sid, ".json");
        let key = world.key(ApiRole::Read).await;
        let wrong = Key { secret: "x".repeat(43), ..key.clone() };
        let other = world.key(ApiRole::Read).await;
        let crossed = Key { secret: other.secret, ..key };
        for key in [None, Some(&wrong), Some(&crossed)] {
            let answer = world.ie1.get(&path, key).await;
            answer.problem(401, "unauthenticated");
            let ways: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
            assert_eq!(ways.len(), 2, "{ways:?}");
        }
    }

    async fn a_key_or_an_account_of_another_region_is_told_its_home(world: World) {
        let at_home = world.us1.base_url();
        let theirs = world.us1.key(&world.globex, ApiRole::Read).await;
        let ours = world.key(ApiRole::Read).await;
        // The account alone is enough, whoever asks and without a key as well.
        let path = uri(world.globex.sid, "/Calls.json");
        for key in [None, Some(&theirs), Some(&ours)] {
            let problem = world.ie1.get(&path, key).await.problem(421, "wrong-region");
            assert_eq!((&problem["home_region"], &problem["base_url"]), (&"us1".into(), &at_home.clone().into()));
            assert_eq!(problem["location"], format!("{at_home}{path}"));
        }
        // And so is the key.
        let path = uri(world.acme.sid, "/Calls.json");
        let problem = world.ie1.get(&path, Some(&theirs)).await.problem(421, "wrong-region");
        assert_eq!((&problem["home_region"], &problem["base_url"]), (&"us1".into(), &at_home.into()));
        // There it opens what it is for.
        world.us1.get(&uri(world.globex.sid, "/Calls.json"), Some(&theirs)).await.expect(200);
    }

    async fn a_key_of_another_account_finds_nothing(world: World) {
        let snapshot = world.dir.path().join("directory.json");
        let other = world.ie1.account(&snapshot, "Other", "other.test").await;
        let key = world.ie1.key(&other, ApiRole::Operator).await;
        let call = world.ie1.call(&world.acme, 1, 1_700_000_000_000, true).await;
        for rest in [".json", "/Calls.json", &format!("/Calls/{call}.json")] {
            world.ie1.get(&uri(world.acme.sid, rest), Some(&key)).await.problem(404, "not-found");
        }
        // Nor by way of its own account.
        let through = uri(other.sid, &format!("/Calls/{call}.json"));
        world.ie1.get(&through, Some(&key)).await.problem(404, "not-found");
    }

    async fn every_route_is_open_to_its_roles_alone_and_what_is_refused_is_written_down(world: World) {
        let nobody = format!("{:032x}", 0xdead);
        for role in ApiRole::ALL {
            let key = world.key(role).await;
            for route in ROUTES {
                let Who::Keys(roles) = route.who else { continue };
                let path = route.path.replace("{account}", &world.acme.sid.to_string());
                let path = path.replace("{call}", &format!("CA{nobody}"));
                let path = path.replace("{recording}", &format!("RE{nobody}"));
                let path = path.replace(['{', '}'], "");
                let answer = world.ie1.ask(route.method.as_str(), &path, Some(&key), &[], "").await;
                let may = roles.contains(&role);
                let refused = answer.status == 403;
                assert_eq!(refused, !may, "{role} {}: {}", route.operation, answer.text());
                assert!(answer.status.as_u16() < 500, "{role} {}: {}", route.operation, answer.text());
                let without = world.ie1.ask(route.method.as_str(), &path, None, &[], "").await;
                assert_eq!(without.status, 401, "{}", route.operation);
                if route.audit == Audit::No {
                    continue;
                }
                let written = AuditFilter { limit: Some(1000), ..AuditFilter::default() };
                let written = world.ie1.store.audit_list(world.acme.sid, &written).await.unwrap();
                let row = written.iter().find(|row| row.actor == key.sid && row.operation == route.operation);
                let row = row.unwrap_or_else(|| panic!("{role} {} is in no audit", route.operation));
                assert_eq!(row.status, Some(answer.status.as_u16()), "{}", route.operation);
                assert_eq!(row.source.expose(), "127.0.0.1");
            }
        }
    }

    async fn what_is_garbage_or_too_large_is_refused_by_name(world: World) {
        let key = world.key(ApiRole::Operator).await;
        let call = world.ie1.call(&world.acme, 1, 1_700_000_000_000, false).await;
        let path = uri(world.acme.sid, &format!("/Calls/{call}.json"));
        let json = [("content-type", "application/json")];
        for (headers, body, status, kind) in [
            (&json[..], "{", 400, "bad-request"),
            (&json[..], "[]", 400, "bad-request"),
            (&json[..], "\u{0}", 400, "bad-request"),
            (&json[..], "{\"status\": 7}", 400, "bad-request"),
            (&json[..], "{\"status\": \"completed\", \"twiml\": \"\"}", 400, "bad-request"),
            (&json[..], "{\"status\": \"ringing\"}", 400, "bad-request"),
            (&[("content-type", "text/xml")][..], "<x/>", 415, "media-type"),
            (&[][..], "Status=completed", 415, "media-type"),
        ] {
            let answer = world.ie1.ask("POST", &path, Some(&key), headers, body).await;
            answer.problem(status, kind);
        }
        let large = vec![b'x'; (64 << 10) + 1];
        let answer = world.ie1.ask("POST", &path, Some(&key), &json, large).await;
        answer.problem(413, "too-large");
        for path in ["/", "/2010-04-01", "/2010-04-01/Accounts/AC1.json", "/%ff", "//", "/openapi.json/"] {
            world.ie1.get(path, Some(&key)).await.problem(404, "not-found");
        }
        let answer = world.ie1.ask("DELETE", &uri(world.acme.sid, "/Usage.json"), Some(&key), &[], "").await;
        answer.problem(405, "method");
        assert_eq!(answer.headers["allow"], "GET, HEAD");
        let broken = world.ie1.get(&uri(world.acme.sid, "/Calls.json?Form=1"), Some(&key)).await;
        assert!(broken.problem(400, "bad-request")["detail"].as_str().unwrap().contains("`Form`"));
        assert!(world.ie1.calls.hung_up.lock().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_waits_and_others_do_not() {
    let limits = Limits { requests_per_second: 1, burst: 3, ..Limits::default() };
    let world = World::with_limits(Engine::Sqlite, limits).await.unwrap();
    let (busy, idle) = (world.key(ApiRole::Read).await, world.key(ApiRole::Read).await);
    let path = uri(world.acme.sid, ".json");
    let mut refused = None;
    for _ in 0..5 {
        let answer = world.ie1.get(&path, Some(&busy)).await;
        refused = refused.or((answer.status == 429).then_some(answer));
    }
    let refused = refused.expect("five at once are more than three");
    refused.problem(429, "too-many-requests");
    assert_eq!(refused.headers["retry-after"], "1");
    world.ie1.get(&path, Some(&idle)).await.expect(200);
}

/// No route is outside the rate of a key, whatever its role may do there.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_counts_towards_its_keys_rate() {
    let limits = Limits { requests_per_second: 1, burst: 1, ..Limits::default() };
    let world = World::with_limits(Engine::Sqlite, limits).await.unwrap();
    for role in ApiRole::ALL {
        let key = world.key(role).await;
        for route in ROUTES.iter().filter(|route| matches!(route.who, Who::Keys(_))) {
            let path = route.path.replace("{account}", &world.acme.sid.to_string());
            let path = path.replace(['{', '}'], "");
            // One may pass, where a second has gone by.
            let mut statuses = Vec::new();
            for _ in 0..2 {
                let answer = world.ie1.ask(route.method.as_str(), &path, Some(&key), &[], "").await;
                statuses.push(answer.status.as_u16());
            }
            assert!(statuses.contains(&429), "{role} {}: {statuses:?}", route.operation);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_secrets_is_shut_out_for_a_while() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let key = world.key(ApiRole::Read).await;
    let path = uri(world.acme.sid, ".json");
    let wrong = Key { secret: "guess".to_owned(), ..key.clone() };
    for _ in 0..10 {
        world.ie1.get(&path, Some(&wrong)).await.problem(401, "unauthenticated");
    }
    let answer = world.ie1.get(&path, Some(&key)).await;
    answer.problem(429, "too-many-requests");
    assert!(answer.headers.contains_key("retry-after"));
}
