//! The web phone's files and where it connects.

use std::path::Path;

use landline_call::directory::AccountEntry;
use landline_call::tenancy::EdgePolicy;
use landline_store::directory;

use crate::support::{Engine, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_talk_to_its_origin_and_the_edge_and_run_nothing_inline() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let page = world.ie1.get("/phone/", None).await;
    assert_eq!((page.status.as_u16(), page.text()), (200, "<!doctype html>".into()));
    let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    let policy = header("content-security-policy");
    let rules: Vec<&str> = policy.split("; ").collect();
    assert!(rules.contains(&"default-src 'none'"), "{policy}");
    assert!(rules.contains(&"connect-src 'self' wss://sip.example:8443"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    // What was fetched with the user's proof is played from the page's own memory.
    assert!(rules.contains(&"media-src blob:"), "{policy}");
    assert!(header("permissions-policy").contains("camera=()"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");

    let known = [("if-none-match", page.headers["etag"].to_str().unwrap())];
    let again = world.ie1.ask("GET", "/phone/", None, &known, "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let script = world.ie1.get("/phone/phone.js", None).await;
    assert_eq!(script.headers["content-type"], "text/javascript");
    let moved = world.ie1.get("/phone", None).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.headers["location"]),
        (308, &"/phone/".parse().unwrap())
    );
    let refused = world.ie1.ask("POST", "/phone/", None, &[], "x").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.headers["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    for path in
        ["/phone/none.js", "/phone/../phone/phone.js", "/phone/phone.js/", "/phone/%70hone.js"]
    {
        world.ie1.get(path, None).await.problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_told_its_home_and_the_edge_of_this_console() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let at_home = world.ie1.get("/v1/phone?Domain=ACME.test", None).await;
    at_home.expect(200);
    let place = at_home.json();
    assert_eq!(place["domain"], "acme.test");
    assert_eq!(
        (&place["home"]["region"], &place["home"]["jurisdiction"]),
        (&"ie1".into(), &"IE".into())
    );
    assert_eq!(place["home"]["phone_url"], format!("{}/phone/", world.ie1.base_url()));
    assert_eq!(place["edge"]["wss"], serde_json::json!(["wss://sip.example:8443"]));
    assert_eq!(place["voicemail_code"], "*97");
    // Elsewhere too: an edge forwards.
    let abroad = world.us1.get("/v1/phone?Domain=acme.test", None).await.json();
    assert_eq!(
        (&abroad["home"]["region"], &abroad["edge"]["region"]),
        (&"ie1".into(), &"us1".into())
    );
    assert_eq!(abroad["edge"]["serves"], true);
    // Nothing of the account but its home is told.
    assert!(
        !at_home.text().contains("AC") && !at_home.text().contains(&world.acme.sid.to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_edges_do_not_forward_is_served_at_home_alone() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    let snapshot = world.dir.path().join("directory.json");
    confine(&world, &snapshot);
    let place = |answer: crate::support::Answer| answer.json()["edge"]["serves"].clone();
    let mut abroad = place(world.us1.get("/v1/phone?Domain=acme.test", None).await);
    for _ in 0..100 {
        if abroad == false {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        abroad = place(world.us1.get("/v1/phone?Domain=acme.test", None).await);
    }
    assert_eq!(abroad, false);
    assert_eq!(place(world.ie1.get("/v1/phone?Domain=acme.test", None).await), true);
}

/// Only its home region takes the account's phones.
fn confine(world: &World, snapshot: &Path) {
    let entry = AccountEntry {
        sid: world.acme.sid,
        home_region: world.ie1.code,
        edge_policy: EdgePolicy::Refuse,
        calls_from: Default::default(),
    };
    directory::account_add(world.ie1.store.gate(), snapshot, "acme.test", entry).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_domain_is_named_as_such_and_guessing_is_slow() {
    let world = World::new(Engine::Sqlite).await.unwrap();
    world.ie1.get("/v1/phone?Domain=nobody.test", None).await.problem(404, "unknown-domain");
    for query in ["", "?Domain=", &format!("?Domain={}", "x".repeat(254))] {
        let problem = world.ie1.get(&format!("/v1/phone{query}"), None).await;
        assert_eq!(problem.problem(400, "bad-request")["field"], "Domain");
    }
    let mut slowed = false;
    for _ in 0..60 {
        slowed |= world.ie1.get("/v1/phone?Domain=guess.test", None).await.status == 429;
    }
    assert!(slowed);
}
