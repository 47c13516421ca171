//! Calls that are sent on: SIPp sends them away, baresip stands in, and who
//! called hears who stands in.

mod support;

use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::server::{Demo, User, array, text};
use support::sipp::{self, Sipp};
use support::{eventually, free_ports, have, tone};

#[test]
fn who_is_busy_or_sends_a_call_on_is_stood_in_for_and_both_hear() {
    if !have(&[baresip::PROGRAM, sipp::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let calling = demo.add_user("acme.test", "calling", &["--media", "dtls"]);
    let busy = demo.add_user("acme.test", "busy", &["--media", "rtp"]);
    let stand_in = demo.add_user("acme.test", "standin", &["--media", "sdes"]);
    let proxy = demo.sip("ie1", "udp").to_owned();
    let port = free_ports(2);
    let away = |scenario: &str| {
        let keys = [
            ("user", busy.name.as_str()),
            ("password", &busy.password),
            ("domain", &busy.domain),
            ("target", &stand_in.name),
        ];
        Sipp::start(directory.path(), scenario, port, &proxy, 1, &keys)
    };
    away("register").succeeds();
    let mut caller =
        Baresip::registered(directory.path(), &options(&demo, &calling, "dtls_srtp", 500));
    let mut callee =
        Baresip::registered(directory.path(), &options(&demo, &stand_in, "srtp-mand", 900));

    // By the phone itself, and by what is set for the user.
    for (scenario, reason) in [("uas_moved", "deflection"), ("uas_busy", "user-busy")] {
        if reason == "user-busy" {
            let set = ["user", "set", "acme.test", "busy", "--forward-busy", "standin"];
            let shown = demo.admin(&set);
            assert_eq!(shown["forward_busy"], "standin", "{shown}");
            // "Take effect within a second" is the promise.
            std::thread::sleep(Duration::from_secs(1));
        }
        let before = demo.closed_calls("acme.test", 0).len();
        let (heard, answered) = (caller.samples(), callee.samples());
        let mut sends_on = away(scenario);
        caller.dial("sip:busy@acme.test");
        caller.expect("CALL_ESTABLISHED", Duration::from_secs(10));
        sends_on.succeeds();
        eventually(&format!("{reason}: both hear each other"), Duration::from_secs(12), || {
            let both = tone::same(callee.heard_after(answered), 500)
                && tone::same(caller.heard_after(heard), 900);
            both.then_some(())
        });
        caller.hang_up();
        callee.expect("CALL_CLOSED", Duration::from_secs(5));

        let calls = demo.closed_calls("acme.test", before + 1);
        assert_eq!(calls.len(), before + 1, "one record for all of it");
        let shown = demo.admin(&["calls", "show", text(&calls[0]["sid"])]);
        let (of_busy, of_stand_in) = (user_sid(&demo, "busy"), user_sid(&demo, "standin"));
        let leg = |party: &str| {
            let leg = array(&shown["legs"]).iter().find(|leg| leg["party"] == party);
            leg.unwrap_or_else(|| panic!("no leg of {party}: {shown}")).clone()
        };
        assert_eq!((text(&shown["to"]), text(&shown["cause"])), ("busy", "caller_hung_up"));
        assert!(leg(&of_busy)["diverted_by"].is_null(), "{shown}");
        assert_eq!(leg(&of_stand_in)["diverted_by"], of_busy.as_str(), "{shown}");
        assert_eq!(leg(&of_stand_in)["diverted_because"], reason, "{shown}");
    }
}

fn user_sid(demo: &Demo, user: &str) -> String {
    let users = demo.admin(&["user", "list", "acme.test"]);
    let found = array(&users).iter().find(|it| it["user"] == user).unwrap();
    text(&found["sid"]).to_owned()
}

fn options<'a>(demo: &'a Demo, user: &'a User, encryption: &'static str, tone: u32) -> Options<'a> {
    Options { encryption: Some(encryption), tone, ..Options::of(demo, "ie1", "udp", user) }
}
