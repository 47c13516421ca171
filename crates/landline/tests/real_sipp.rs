//! SIPp as softphones and as a carrier: registration, call, cancel, busy, no
//! answer, re-INVITE, trunks. Each ends with the record in the home region's
//! database.

mod support;

use std::path::Path;

use serde_json::Value;
use support::server::{Demo, User, text};
use support::sipp::{self, Sipp};
use support::{free_ports, have};

/// A demo with two users whose policy allows SIPp's plain RTP.
struct Bench {
    demo: Demo,
    directory: tempfile::TempDir,
    caller: User,
    callee: User,
    proxy: String,
    /// The callee's port: where it registered from and takes calls.
    port: u16,
}

impl Bench {
    fn start() -> Option<Self> {
        Self::of(Demo::start)
    }

    fn of(demo: impl FnOnce(&Path) -> Demo) -> Option<Self> {
        if !have(&[sipp::PROGRAM]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let demo = demo(directory.path());
        let caller = demo.add_user("acme.test", "sipp-a", &["--media", "rtp"]);
        let callee =
            demo.add_user("acme.test", "sipp-b", &["--media", "rtp", "--number", "+35315550199"]);
        let proxy = demo.sip("ie1", "udp").to_owned();
        let port = free_ports(2);
        let bench = Self { demo, directory, caller, callee, proxy, port };
        bench.run("register", bench.port, &bench.callee, "").succeeds();
        Some(bench)
    }

    fn run(&self, scenario: &str, local: u16, user: &User, target: &str) -> Sipp {
        Sipp::of(self.directory.path(), scenario, local, &self.proxy, user, target)
    }

    /// Both ends by their scenarios; the record they leave.
    fn call(&self, caller: &str, callee: Option<&str>, target: &str) -> Value {
        let before = self.demo.closed_calls("acme.test", 0).len();
        let mut answering = callee.map(|scenario| self.run(scenario, self.port, &self.callee, ""));
        self.run(caller, free_ports(2), &self.caller, target).succeeds();
        if let Some(answering) = &mut answering {
            answering.succeeds();
        }
        let calls = self.demo.closed_calls("acme.test", before + 1);
        assert_eq!(calls.len(), before + 1, "one record an attempt");
        calls[0].clone()
    }
}

#[test]
fn a_call_is_answered_and_hung_up() {
    let Some(bench) = Bench::start() else { return };
    let record = bench.call("uac_call", Some("uas_answer"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("caller_hung_up", &200.into()));
    assert!(!record["answered_at"].is_null(), "{record}");

    // By number, and held and resumed on the way.
    let record = bench.call("uac_call", Some("uas_answer"), "+35315550199");
    assert_eq!(record["cause"], "caller_hung_up");
    let record = bench.call("uac_reinvite", Some("uas_reinvite"), "sipp-b");
    assert_eq!(record["cause"], "caller_hung_up");
}

#[test]
fn a_call_that_is_not_answered_says_why() {
    let Some(bench) = Bench::start() else { return };
    let record = bench.call("uac_cancel", Some("uas_ringing"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("caller_cancelled", &487.into()));
    let record = bench.call("uac_busy", Some("uas_busy"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("busy", &486.into()));
    assert!(record["answered_at"].is_null(), "{record}");
}

/// RFC 3665 §2.
#[test]
fn contacts_are_registered_listed_and_removed_and_a_wrong_password_is_refused() {
    let Some(bench) = Bench::start() else { return };
    let user = bench.demo.add_user("acme.test", "sipp-c", &["--media", "rtp"]);
    bench.run("registrations", free_ports(2), &user, "").succeeds();
    let stranger = User { password: "a-guess".into(), ..user };
    bench.run("register_wrong", free_ports(2), &stranger, "").succeeds();
}

/// RFC 3665 §3.6, but for the redirection, and §3.11.
#[test]
fn an_offer_may_come_in_the_200_and_its_answer_in_the_ack() {
    let Some(bench) = Bench::start() else { return };
    // What the caller takes is known once it has answered: the callee hears of it.
    let record = bench.call("uac_late_offer", Some("uas_guest"), "sipp-b");
    assert_eq!(record["cause"], "callee_hung_up");
    assert!(!record["answered_at"].is_null(), "{record}");
    let record = bench.call("uac_unavailable", Some("uas_unavailable"), "sipp-b");
    assert_eq!(record["sip_status"], 480, "{record}");
}

/// RFC 5359 §2.4: sipp-b goes over to sipp-c, and hangs up there.
#[test]
fn a_transfer_is_reported_to_who_asked_for_it() {
    let Some(bench) = Bench::start() else { return };
    let before = bench.demo.closed_calls("acme.test", 0).len();
    let target = bench.demo.add_user("acme.test", "sipp-c", &["--media", "rtp"]);
    let port = free_ports(2);
    bench.run("register", port, &target, "").succeeds();
    let mut answering = bench.run("uas_answer", port, &target, "");
    let mut guest = bench.run("uas_guest", bench.port, &bench.callee, "");
    bench.run("uac_refer", free_ports(2), &bench.caller, "sipp-b").succeeds();
    guest.succeeds();
    answering.succeeds();
    let calls = bench.demo.closed_calls("acme.test", before + 2);
    let causes: Vec<_> = calls[..2].iter().map(|it| text(&it["cause"])).collect();
    assert_eq!(causes, ["caller_hung_up", "transferred"]);
}

#[test]
fn a_callee_that_only_rings_is_cancelled_when_its_time_is_over() {
    let bench = Bench::of(|directory| {
        let mut demo = Demo::start(directory);
        demo.only("ie1", ("ring_timeout_seconds", "2"));
        demo
    });
    let Some(bench) = bench else { return };
    // Both are told why: the caller by a 480, the callee by a CANCEL.
    let record = bench.call("uac_no_answer", Some("uas_no_answer"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("no_answer", &480.into()));
    assert!(record["answered_at"].is_null(), "{record}");
}

/// Of the shortest session that there is (RFC 4028 §4): 90 s, of which the last
/// 30 are left out.
#[test]
fn a_session_is_refreshed_by_update_and_ends_when_its_refresher_is_silent() {
    let Some(bench) = Bench::start() else { return };
    // The callee leaves its side to us and is asked; the caller, who was refused
    // too short a time, was to ask and does not.
    let record = bench.call("uac_timer_silent", Some("uas_timer"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("signalling_lost", &200.into()));
}

/// RFC 3262, of one side alone each time.
#[test]
fn provisional_responses_are_reliable_for_the_side_that_wants_it() {
    let Some(bench) = Bench::start() else { return };
    let record = bench.call("uac_100rel", Some("uas_early"), "sipp-b");
    assert_eq!(record["cause"], "caller_hung_up");
    let record = bench.call("uac_early", Some("uas_100rel"), "sipp-b");
    assert_eq!(record["cause"], "caller_hung_up");
    let record = bench.call("uac_100rel", Some("uas_100rel"), "sipp-b");
    assert_eq!(record["cause"], "caller_hung_up");
    let record = bench.call("uac_100rel_silent", Some("uas_ringing"), "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("signalling_lost", &504.into()));
}

#[test]
fn plain_rtp_is_refused_where_encryption_is_required() {
    let Some(mut bench) = Bench::start() else { return };
    bench.caller = bench.demo.add_user("acme.test", "sipp-c", &["--media", "auto"]);
    let record = bench.call("uac_plain_refused", None, "sipp-b");
    assert_eq!((text(&record["cause"]), &record["sip_status"]), ("not_acceptable", &488.into()));
}

#[test]
fn a_trunk_takes_calls_out_with_digest_and_brings_calls_in() {
    let Some(bench) = Bench::start() else { return };
    let carrier = free_ports(2);
    let before = bench.demo.closed_calls("acme.test", 0).len();
    bench.demo.admin(&[
        "trunk",
        "add",
        "acme.test",
        "carrier",
        "--send-to",
        &format!("udp:127.0.0.1:{carrier}"),
        "--accept-from",
        "127.0.0.1/32",
        "--media",
        "rtp",
        "--username",
        "landline",
        "--password",
        "carrier-secret",
    ]);
    std::thread::sleep(std::time::Duration::from_secs(1));

    let mut taking = bench.run("uas_carrier", carrier, &bench.callee, "");
    let mut calling = bench.run("uac_trunk_out", free_ports(2), &bench.caller, "+442071838750");
    calling.succeeds();
    taking.succeeds();
    let calls = bench.demo.closed_calls("acme.test", before + 1);
    assert_eq!(
        (text(&calls[0]["direction"]), text(&calls[0]["cause"])),
        ("outbound", "callee_hung_up")
    );

    let mut answering = bench.run("uas_answer", bench.port, &bench.callee, "");
    bench.run("uac_trunk_in", carrier, &bench.caller, "+35315550199").succeeds();
    answering.succeeds();
    let calls = bench.demo.closed_calls("acme.test", before + 2);
    assert_eq!(
        (text(&calls[0]["direction"]), text(&calls[0]["cause"])),
        ("inbound", "caller_hung_up")
    );
}
