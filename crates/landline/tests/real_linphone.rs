//! Linphone, with the configuration that the demo writes for it, calls and is
//! called, judged by the tones each end hears.

mod support;

use std::path::Path;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::{Demo, User, array, text};
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(10);
/// How the softphone that linphone talks to protects its media.
const DESK: &str = "sdes";

#[test]
fn linphone_with_the_demos_configuration_calls_and_is_called() {
    let Some((directory, demo, mut desk)) = office() else { return };
    let written = demo.data.join("clients/linphone-carol@acme.test");
    calls_and_is_called(directory.path(), &demo, &mut desk, &written, "dtls");
}

#[test]
fn linphone_speaks_sdes_too() {
    let Some((directory, demo, mut desk)) = office() else { return };
    let written = demo.data.join("clients/linphone-carol@acme.test");
    let text = std::fs::read_to_string(&written).unwrap();
    let changed = text.replace("media_encryption=dtls", "media_encryption=srtp");
    assert_ne!(text, changed);
    std::fs::write(&written, changed).unwrap();
    calls_and_is_called(directory.path(), &demo, &mut desk, &written, "sdes");
}

/// Its checks come through, and each hears the other, whoever calls. It does not
/// multiplex RTCP unless it is told to, so its leg has two ports of its own.
#[test]
fn linphone_with_ice_calls_and_is_called() {
    with_ice("dtls", "", 2);
}

/// SDES is offered without ICE: it is the caller's to want it.
#[test]
fn linphone_with_ice_and_sdes_calls_and_is_called() {
    with_ice("srtp", "", 1);
}

/// Multiplexed, it comes in by the port that all such legs share.
#[test]
fn linphone_with_ice_and_one_port_calls_and_is_called() {
    with_ice("dtls", "rtcp_mux=1\n", 2);
}

fn with_ice(protection: &str, rtp: &str, connected: usize) {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM]) {
        return;
    }
    // It makes no candidate of a loopback address.
    let Some(host) = support::own_address() else {
        eprintln!("SKIPPED: the machine has no address but loopback");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::at(directory.path(), &host);
    let mut desk = softphone(directory.path(), &demo);
    let written = demo.data.join("clients/linphone-carol@acme.test");
    let text = std::fs::read_to_string(&written).unwrap();
    let changed = text
        .replace("media_encryption=dtls", &format!("media_encryption={protection}"))
        .replace("[rtp]\n", &format!("[rtp]\n{rtp}"))
        .replace("reg_expires=300", "reg_expires=300\nnat_policy_ref=checks");
    std::fs::write(&written, format!("{changed}\n{ICE}")).unwrap();
    let named = if protection == "srtp" { "sdes" } else { protection };
    let carol = calls_and_is_called(directory.path(), &demo, &mut desk, &written, named);
    let trace = carol.trace();
    let calls = trace.matches("ICE state is IceStateHostConnection").count();
    assert!(calls >= connected, "checks came through in {calls} calls of {connected}");
    assert!(!trace.contains("IceStateFailed"), "and failed in none");
}

/// No STUN server: the relay is where its candidates say, and sees where we are.
const ICE: &str = "[net]\nnat_policy_ref=checks\n\n[nat_policy_0]\nref=checks\nprotocols=ice\n";

fn calls_and_is_called(
    directory: &Path,
    demo: &Demo,
    desk: &mut Baresip,
    configuration: &Path,
    protection: &str,
) -> Linphone {
    let before = demo.closed_calls("acme.test", 0).len();
    let mut carol = Linphone::registered(directory, configuration, 500);
    carol.dial("sip:desk@acme.test");
    desk.expect("CALL_ESTABLISHED", SOON);
    talk(&carol, desk);
    carol.hang_up();
    desk.expect("CALL_CLOSED", SOON);
    recorded(demo, before + 1, protection);

    carol.forget();
    desk.forget();
    desk.dial("sip:carol@acme.test");
    desk.expect("CALL_ESTABLISHED", SOON);
    talk(&carol, desk);
    desk.hang_up();
    carol.says("Call 2 with sip:desk@acme.test ended");
    recorded(demo, before + 2, protection);
    carol
}

/// A demo, and a softphone to talk to.
fn office() -> Option<(tempfile::TempDir, Demo, Baresip)> {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM]) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let desk = softphone(directory.path(), &demo);
    Some((directory, demo, desk))
}

fn softphone(directory: &Path, demo: &Demo) -> Baresip {
    let user: User = demo.add_user("acme.test", "desk", &["--media", DESK]);
    let options = Options {
        encryption: Some("srtp-mand"),
        tone: 900,
        ..Options::of(demo, "ie1", "udp", &user)
    };
    Baresip::registered(directory, &options)
}

/// Each hears the other.
#[track_caller]
fn talk(carol: &Linphone, desk: &Baresip) {
    eventually("linphone and the softphone hear each other", SOON, || {
        (tone::same(carol.heard(), 900) && tone::same(desk.heard(), 500)).then_some(())
    });
}

/// The latest record: linphone's leg protected so, the softphone's as ever.
#[track_caller]
fn recorded(demo: &Demo, calls: usize, protection: &str) {
    let closed = demo.closed_calls("acme.test", calls);
    let shown = demo.admin(&["calls", "show", text(&closed[0]["sid"])]);
    assert_eq!(shown["cause"], "caller_hung_up", "{shown}");
    // Loopback hides missing relaying: the relay must have seen both ways.
    for leg in array(&shown["legs"]) {
        assert!(leg["stats"]["received"]["packets"].as_u64() > Some(0), "{leg}");
    }
    let others = array(&shown["legs"]).iter().filter(|leg| leg["media"] != protection).count();
    assert_eq!(others, usize::from(protection != DESK), "{shown}");
}
