//! baresip calls baresip through Landline: every transport, every pairing of
//! media protection, judged by the tones each end hears.

mod support;

use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::server::{Demo, User, text};
use support::{eventually, have, tone};

/// How a softphone protects its media: the user's policy and baresip's name.
const RTP: (&str, Option<&str>) = ("rtp", None);
const SDES: (&str, Option<&str>) = ("sdes", Some("srtp-mand"));
const DTLS: (&str, Option<&str>) = ("dtls", Some("dtls_srtp"));

#[test]
fn calls_over_udp_with_every_pairing_of_protection() {
    let pairs = [(RTP, RTP), (SDES, SDES), (DTLS, DTLS), (DTLS, SDES), (SDES, RTP), (RTP, DTLS)];
    everybody_hears_everybody("udp", &pairs);
}

#[test]
fn calls_over_tcp() {
    everybody_hears_everybody("tcp", &[(SDES, DTLS), (RTP, SDES)]);
}

#[test]
fn calls_over_tls() {
    everybody_hears_everybody("tls", &[(DTLS, DTLS), (SDES, SDES)]);
}

type Protection = (&'static str, Option<&'static str>);

fn everybody_hears_everybody(transport: &str, pairs: &[(Protection, Protection)]) {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    for (number, (caller, callee)) in pairs.iter().enumerate() {
        let name = |role: &str| format!("{role}{number}");
        let calling = demo.add_user("acme.test", &name("caller"), &["--media", caller.0]);
        let called = demo.add_user("acme.test", &name("callee"), &["--media", callee.0]);
        one_call(&demo, transport, (&calling, caller.1), (&called, callee.1));
    }
}

fn one_call(
    demo: &Demo,
    transport: &str,
    (calling, calling_encryption): (&User, Option<&str>),
    (called, called_encryption): (&User, Option<&str>),
) {
    let what = format!("{calling_encryption:?} to {called_encryption:?} over {transport}");
    let before = demo.closed_calls("acme.test", 0).len();
    let options = |user, encryption, tone| Options {
        encryption,
        tone,
        ..Options::of(demo, "ie1", transport, user)
    };
    let parent = demo.data.parent().unwrap();
    let mut caller = Baresip::registered(parent, &options(calling, calling_encryption, 500));
    let mut callee = Baresip::registered(parent, &options(called, called_encryption, 900));

    caller.dial(&format!("sip:{}@{}", called.name, called.domain));
    caller.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    eventually(&format!("{what}: both hear each other"), Duration::from_secs(12), || {
        (tone::same(callee.heard(), 500) && tone::same(caller.heard(), 900)).then_some(())
    });
    caller.hang_up();
    callee.expect("CALL_CLOSED", Duration::from_secs(5));

    let calls = demo.closed_calls("acme.test", before + 1);
    let shown = demo.admin(&["calls", "show", text(&calls[0]["sid"])]);
    assert_eq!(shown["cause"], "caller_hung_up", "{what}: {shown}");
    for leg in support::server::array(&shown["legs"]) {
        // Loopback hides missing relaying: the relay must have seen both ways.
        assert!(leg["stats"]["received"]["packets"].as_u64() > Some(25), "{what}: {leg}");
    }
}

/// It does not multiplex RTCP, so the relay has two ports for it as ever.
#[test]
fn a_softphone_with_ice_has_ports_of_its_own_and_is_heard() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let Some(host) = support::own_address() else {
        eprintln!("SKIPPED: the machine has no address but loopback");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::at(directory.path(), &host);
    let desk = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let ivy = demo.add_user("acme.test", "ivy", &["--media", "webrtc"]);
    let plain = Options {
        encryption: Some("srtp-mand"),
        tone: 500,
        ..Options::of(&demo, "ie1", "udp", &desk)
    };
    let with_ice = Options {
        encryption: Some("dtls_srtp"),
        tone: 900,
        ice: Some(&host),
        ..Options::of(&demo, "ie1", "udp", &ivy)
    };
    let mut plain = Baresip::registered(directory.path(), &plain);
    let mut with_ice = Baresip::registered(directory.path(), &with_ice);
    for target in ["sip:ivy@acme.test", "sip:desk@acme.test"] {
        let (caller, callee) = match target.contains("ivy") {
            true => (&mut plain, &mut with_ice),
            false => (&mut with_ice, &mut plain),
        };
        caller.dial(target);
        caller.expect("CALL_ESTABLISHED", Duration::from_secs(10));
        let tones = if target.contains("ivy") { (500, 900) } else { (900, 500) };
        eventually(&format!("{target}: both hear each other"), Duration::from_secs(12), || {
            let heard = (callee.heard(), caller.heard());
            (tone::same(heard.0, tones.0) && tone::same(heard.1, tones.1)).then_some(())
        });
        caller.hang_up();
        callee.expect("CALL_CLOSED", Duration::from_secs(5));
        caller.forget();
        callee.forget();
        let checked = with_ice.log().matches("connectivity check is complete").count();
        assert!(checked > 0 && !with_ice.log().contains("check failed"), "{}", with_ice.log());
    }
}

#[test]
fn a_call_that_the_api_starts_rings_one_phone_then_the_other_and_both_hear() {
    if !have(&[baresip::PROGRAM, "/usr/bin/curl"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let first = demo.add_user("acme.test", "first", &["--media", "sdes"]);
    let second = demo.add_user("acme.test", "second", &["--media", "dtls", "--record", "all"]);
    let before = demo.closed_calls("acme.test", 0).len();
    let phone = |user, encryption, tone| {
        let options = Options {
            encryption: Some(encryption),
            tone,
            ..Options::of(&demo, "ie1", "udp", user)
        };
        Baresip::registered(directory.path(), &options)
    };
    let mut first = phone(&first, "srtp-mand", 500);
    let mut second = phone(&second, "dtls_srtp", 900);

    let key = demo.admin(&["key", "create", "acme.test", "--role", "operator", "--name", "crm"]);
    let calls = format!("/2010-04-01/Accounts/{}/Calls.json", text(&key["account"]));
    let started = api(&demo, &key, &calls, &["From=first", "To=second"]);
    // Its record is there at once; phones that answer by themselves are quick.
    assert!(["queued", "in-progress"].contains(&text(&started["status"])), "{started}");
    first.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    second.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    eventually("both hear each other", Duration::from_secs(15), || {
        (tone::same(second.heard(), 500) && tone::same(first.heard(), 900)).then_some(())
    });
    let ended = api(&demo, &key, text(&started["uri"]), &["Status=completed"]);
    assert_eq!(text(&ended["status"]), "completed", "{ended}");
    for phone in [&mut first, &mut second] {
        phone.expect("CALL_CLOSED", Duration::from_secs(5));
    }
    let call = demo.closed_calls("acme.test", before + 1);
    let shown = demo.admin(&["calls", "show", text(&call[0]["sid"])]);
    assert_eq!(text(&shown["sid"]), text(&started["sid"]));
    assert_eq!((text(&shown["from"]), text(&shown["to"])), ("first", "second"));
    let legs = support::server::array(&shown["legs"]);
    assert_eq!(legs.iter().map(|leg| text(&leg["role"])).collect::<Vec<_>>(), ["a", "b"]);
    for leg in legs {
        assert!(leg["stats"]["received"]["packets"].as_u64() > Some(25), "{leg}");
    }
    assert!(started["recording_sid"].is_string() || ended["recording_sid"].is_string(), "{ended}");
}

/// Posts a form to the demo's API.
fn api(demo: &Demo, key: &serde_json::Value, path: &str, form: &[&str]) -> serde_json::Value {
    let base = text(&demo.info["regions"]["ie1"]["console"]);
    let mut curl = std::process::Command::new("/usr/bin/curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]).arg(demo.ca());
    curl.args(["--user", &format!("{}:{}", text(&key["sid"]), text(&key["secret"]))]);
    for field in form {
        curl.args(["--data", field]);
    }
    let output = curl.arg(format!("{base}{path}")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_phone_at_the_wrong_regions_edge_calls_and_is_called() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    // acme lives in ie1; the traveller registers by us1's proxy.
    let traveller = demo.add_user("acme.test", "traveller", &["--media", "sdes"]);
    let home = demo.add_user("acme.test", "homebody", &["--media", "sdes"]);
    let before = demo.closed_calls("acme.test", 0).len();
    let away = Options {
        encryption: Some("srtp-mand"),
        tone: 500,
        ..Options::of(&demo, "us1", "udp", &traveller)
    };
    let at_home = Options {
        encryption: Some("srtp-mand"),
        tone: 900,
        ..Options::of(&demo, "ie1", "udp", &home)
    };
    let mut away = Baresip::registered(directory.path(), &away);
    let mut at_home = Baresip::registered(directory.path(), &at_home);

    away.dial("sip:homebody@acme.test");
    away.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    eventually("both hear each other", Duration::from_secs(12), || {
        (tone::same(at_home.heard(), 500) && tone::same(away.heard(), 900)).then_some(())
    });
    away.hang_up();
    at_home.expect("CALL_CLOSED", Duration::from_secs(5));
    demo.closed_calls("acme.test", before + 1);

    at_home.forget();
    away.forget();
    at_home.dial("sip:traveller@acme.test");
    at_home.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    at_home.hang_up();
    away.expect("CALL_CLOSED", Duration::from_secs(5));

    let calls = demo.closed_calls("acme.test", before + 2);
    for call in &calls[..2] {
        let shown = demo.admin(&["calls", "show", text(&call["sid"])]);
        assert_eq!((text(&shown["home_region"]), text(&shown["media_region"])), ("ie1", "ie1"));
    }
    // The edge wrote nothing down: the region's database holds no call of acme.
    let elsewhere = support::server::admin(
        &["calls", "list"],
        "--config",
        &demo.data.join("us1").join("config.toml"),
    );
    let mine = |call: &&serde_json::Value| call["account"] == calls[0]["account"];
    assert_eq!(support::server::array(&elsewhere).iter().filter(mine).count(), 0);
}
