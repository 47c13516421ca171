//! Calls that a colleague takes, with real phones: by a code, where they were
//! parked, and by the name of the dialog that a lamp shows. Who talks to whom then
//! is judged by the tone that each hears.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::{Demo, User, array, text};
use support::sipp::{self, Sipp};
use support::{eventually, free_ports, have, tone};

const SOON: Duration = Duration::from_secs(15);

fn phone(parent: &Path, demo: &Demo, user: &User, answers: bool, tone: u32) -> Baresip {
    let encryption = Some("srtp-mand");
    let options = Options { encryption, tone, answers, ..Options::of(demo, "ie1", "udp", user) };
    Baresip::registered(parent, &options)
}

fn sdes(demo: &Demo, name: &str) -> User {
    demo.add_user("acme.test", name, &["--media", "sdes"])
}

/// The newest record, with its legs.
fn record(demo: &Demo, wanted: usize) -> Value {
    let calls = demo.closed_calls("acme.test", wanted);
    demo.admin(&["calls", "show", text(&calls[0]["sid"])])
}

/// RFC 5359 §2.16, by a code.
#[test]
fn a_call_that_rings_at_a_colleagues_is_taken_by_a_code_and_both_hear_each_other() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let users = ["amy", "ben", "cat"].map(|name| sdes(&demo, name));
    let [amy, ben, cat] = &users;
    let mut amy = phone(directory.path(), &demo, amy, true, 500);
    let mut ben = phone(directory.path(), &demo, ben, false, 900);
    let mut cat = phone(directory.path(), &demo, cat, true, 1300);
    for code in ["*8ben", "*8"] {
        let before = demo.closed_calls("acme.test", 0).len();
        let (heard, taken) = (amy.samples(), cat.samples());
        amy.dial("sip:ben@acme.test");
        ben.expect("CALL_INCOMING", SOON);
        amy.expect("CALL_RINGING", SOON);
        cat.dial(&format!("sip:{code}@acme.test"));
        cat.expect("CALL_ESTABLISHED", SOON);
        amy.expect("CALL_ESTABLISHED", SOON);
        ben.expect("CALL_CLOSED", SOON);
        eventually("both hear each other", SOON, || {
            let both =
                tone::same(amy.heard_after(heard), 1300) && tone::same(cat.heard_after(taken), 500);
            both.then_some(())
        });
        cat.hang_up();
        amy.expect("CALL_CLOSED", SOON);
        cat.expect("CALL_CLOSED", SOON);
        let shown = record(&demo, before + 1);
        let legs = array(&shown["legs"]);
        assert_eq!((text(&shown["to"]), text(&shown["cause"])), ("ben", "callee_hung_up"));
        let (rung, took) = (&legs[1], &legs[2]);
        assert_eq!((text(&took["role"]), text(&took["diverted_because"])), ("b", "pickup"));
        assert_eq!(took["diverted_by"], rung["party"], "{shown}");
    }
}

/// RFC 5359 §2.15.
#[test]
fn a_parked_party_is_taken_by_another_and_both_hear_each_other() {
    if !have(&[baresip::PROGRAM, linphone::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let written = demo.data.join("clients/linphone-bob@acme.test");
    let mut bob = Linphone::registered(directory.path(), &written, 900);
    bob.keep_to_pcmu();
    let mut amy = phone(directory.path(), &demo, &sdes(&demo, "amy"), true, 500);
    let mut cat = phone(directory.path(), &demo, &sdes(&demo, "cat"), true, 1300);
    let before = demo.closed_calls("acme.test", 0).len();
    amy.dial("sip:bob@acme.test");
    amy.expect("CALL_ESTABLISHED", SOON);
    eventually("they talk", SOON, || {
        (tone::same(bob.heard(), 500) && tone::same(amy.heard(), 900)).then_some(())
    });
    amy.command("transfer", "sip:*7@acme.test");
    // Told that it worked, it hangs up by itself.
    amy.expect("CALL_CLOSED", SOON);
    // Nobody is there to be heard.
    std::thread::sleep(Duration::from_secs(2));
    let quiet = bob.samples().len();
    cat.dial("sip:*71@acme.test");
    cat.expect("CALL_ESTABLISHED", SOON);
    eventually("bob and cat hear each other", SOON, || {
        let later = bob.samples().get(quiet..)?.to_vec();
        let bob_hears = later.len() > 16_000 && tone::same(tone::dominant(&later, 8000), 1300);
        (bob_hears && tone::same(cat.heard(), 900)).then_some(())
    });
    cat.hang_up();
    cat.expect("CALL_CLOSED", SOON);
    let shown = record(&demo, before + 2);
    let ends = (text(&shown["from"]), text(&shown["to"]), text(&shown["cause"]));
    assert_eq!(ends, ("amy", "*71", "callee_hung_up"), "{shown}");
}

/// RFC 3891 and RFC 5359 §2.16: SIPp sees by the dialog package what calls a
/// colleague has, and takes the one that rings, and the one that is up.
#[test]
fn a_call_is_taken_by_the_name_that_a_lamp_shows() {
    if !have(&[baresip::PROGRAM, sipp::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let [amy, ben, dan] = ["amy", "ben", "dan"].map(|name| sdes(&demo, name));
    let taker = demo.add_user("acme.test", "sipp-t", &["--media", "rtp"]);
    let mut amy = phone(directory.path(), &demo, &amy, true, 500);
    let mut rings = phone(directory.path(), &demo, &ben, false, 900);
    let mut talks = phone(directory.path(), &demo, &dan, true, 1300);
    let proxy = demo.sip("ie1", "udp").to_owned();
    for (whose, event, calls, cause, why) in [
        ("ben", "CALL_RINGING", 1, "callee_hung_up", "pickup"),
        ("dan", "CALL_ESTABLISHED", 2, "caller_hung_up", "replaced"),
    ] {
        let before = demo.closed_calls("acme.test", 0).len();
        amy.forget();
        amy.dial(&format!("sip:{whose}@acme.test"));
        amy.expect(event, SOON);
        std::thread::sleep(Duration::from_millis(500));
        let mut takes =
            Sipp::of(directory.path(), "uac_pickup", free_ports(2), &proxy, &taker, whose);
        let other = if whose == "ben" { &mut rings } else { &mut talks };
        other.expect("CALL_CLOSED", SOON);
        takes.succeeds();
        amy.expect("CALL_CLOSED", SOON);
        let closed = demo.closed_calls("acme.test", before + calls);
        let shown: Vec<_> = closed[..calls]
            .iter()
            .map(|it| demo.admin(&["calls", "show", text(&it["sid"])]))
            .collect();
        let taken = shown.iter().find(|it| it["cause"] == cause).expect(cause);
        let legs = array(&taken["legs"]);
        assert!(legs.iter().any(|leg| leg["diverted_because"] == why), "{taken}");
    }
}
