//! Kamailio as the carrier of a trunk: a call goes out through it and comes
//! back in, so both ways of the trunk are crossed by one call.

mod support;

use std::process::Command;
use std::time::Duration;

use support::process::Process;
use support::server::{Demo, text};
use support::sipp::{self, Sipp};
use support::{eventually, free_ports, have};

const KAMAILIO: &str = "/usr/sbin/kamailio";

#[test]
fn a_call_goes_out_to_kamailio_and_comes_back_in() {
    if !have(&[KAMAILIO, sipp::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let carrier = free_ports(2);
    let callee = free_ports(2);
    let proxy = demo.sip("ie1", "udp").to_owned();
    let (ours, _) = proxy.rsplit_once(':').unwrap();
    let caller = demo.add_user("acme.test", "out", &["--media", "rtp"]);
    let called =
        demo.add_user("globex.test", "in", &["--media", "rtp", "--number", "+12125550199"]);
    // acme's calls go out by Kamailio, which hands them to globex's region.
    demo.admin(&[
        "trunk",
        "add",
        "acme.test",
        "kamailio",
        "--send-to",
        &format!("udp:127.0.0.1:{carrier}"),
        "--media",
        "rtp",
    ]);
    demo.admin(&[
        "trunk",
        "add",
        "globex.test",
        "kamailio",
        "--send-to",
        &format!("udp:127.0.0.1:{carrier}"),
        "--accept-from",
        "127.0.0.1/32",
        "--media",
        "rtp",
    ]);
    let configuration = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/kamailio/carrier.cfg");
    let _carrier = Process::start(
        Command::new(KAMAILIO)
            .args(["-DD", "-E", "-f", configuration, "-l", &format!("udp:{ours}:{carrier}")])
            .args(["-A", &format!("NEXT=\"sip:{}\"", demo.sip("us1", "udp"))])
            .arg("-w")
            .arg(directory.path())
            .arg("-Y")
            .arg(directory.path()),
        &directory.path().join("kamailio.log"),
    );
    std::thread::sleep(Duration::from_secs(1));

    let run = |scenario: &str, local, proxy: &str, user: &support::server::User, target: &str| {
        Sipp::of(directory.path(), scenario, local, proxy, user, target)
    };
    let us1 = demo.sip("us1", "udp").to_owned();
    run("register", callee, &us1, &called, "").succeeds();
    let mut answering = run("uas_answer", callee, &us1, &called, "");
    let outbound = demo.closed_calls("acme.test", 0).len();
    let inbound = demo.closed_calls("globex.test", 0).len();
    run("uac_call", free_ports(2), &proxy, &caller, "+12125550199").succeeds();
    answering.succeeds();

    // Each side's record is in its own region's database.
    let out = demo.closed_calls("acme.test", outbound + 1);
    let back = eventually("the record of the other side", Duration::from_secs(5), || {
        Some(demo.closed_calls("globex.test", inbound + 1))
    });
    assert_eq!((text(&out[0]["direction"]), text(&out[0]["home_region"])), ("outbound", "ie1"));
    assert_eq!((text(&back[0]["direction"]), text(&back[0]["home_region"])), ("inbound", "us1"));
    assert_eq!(out[0]["cause"], "caller_hung_up");
    assert_eq!(back[0]["cause"], "caller_hung_up");
}
