//! `landline keep`: its proxy is killed, then replaced, under a call of two
//! baresips that are connected over TLS, and neither notices.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use landline::config::{Draft, Transport};
use support::baresip::{self, Baresip, Options};
use support::region::{Region, write_regions};
use support::server::{array, text};
use support::{eventually, free_ports, have, tone};

const DOMAIN: &str = "kept.test";
const PASSWORD: &str = "correct-horse-battery";
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_call_over_tls_goes_on_while_its_proxy_is_killed_and_replaced() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path();
    let base = free_ports(8);
    write_regions(parent, &[("ie1", "IE", base)]);
    let listen = [(Transport::Udp, base), (Transport::Tls, base + 1)];
    let listen = listen.map(|(transport, port)| (transport, ([127, 0, 0, 1], port).into()));
    let mut region =
        Region::with(parent, "ie1", "IE", base, |draft| Draft { listen: listen.into(), ..draft });
    region.proxy.end();
    region.proxy = region.role("keep");
    served(&region);

    let account = ["account", "create", "kept", "--domain", DOMAIN, "--region", "ie1"];
    region.admin(&account);
    for (user, media) in [("anna", "sdes"), ("ben", "dtls")] {
        region.admin(&["user", "add", DOMAIN, user, "--media", media, "--password", PASSWORD]);
    }
    std::thread::sleep(Duration::from_millis(1500));
    let proxy = format!("127.0.0.1:{}", base + 1);
    let ca = parent.join("pki/ca.pem");
    let mut anna = phone(parent, "anna", ("srtp-mand", 500), (&proxy, &ca));
    let mut ben = phone(parent, "ben", ("dtls_srtp", 900), (&proxy, &ca));

    anna.dial(&format!("sip:ben@{DOMAIN}"));
    anna.expect("CALL_ESTABLISHED", SOON);
    let begun = Instant::now();
    hear_each_other(&anna, &ben);
    let first = proxy_of(&region).unwrap();
    signal("-KILL", first);
    let second = another_proxy(&region, first);
    signal("-HUP", region.proxy.id());
    another_proxy(&region, second);
    // Long enough for a hole to show in what the relay counted.
    std::thread::sleep(Duration::from_secs(3));
    let lasted = begun.elapsed().as_secs();
    ben.hang_up();
    anna.expect("CALL_CLOSED", SOON);

    let record = &region.closed(1)[0];
    assert_eq!(record["cause"], "callee_hung_up", "{record}");
    for leg in array(&record["legs"]) {
        let packets = leg["stats"]["received"]["packets"].as_u64().unwrap();
        assert!(packets >= lasted * 45, "{packets} packets in {lasted} s: {leg}");
    }

    // The other way, over the connections by which they once registered.
    anna.forget();
    ben.forget();
    ben.dial(&format!("sip:anna@{DOMAIN}"));
    ben.expect("CALL_ESTABLISHED", SOON);
    hear_each_other(&anna, &ben);
    ben.hang_up();
    assert_eq!(text(&region.closed(2)[1]["cause"]), "caller_hung_up");
    for phone in [&anna, &ben] {
        assert_eq!(phone.log().matches("200 OK").count(), 1, "registered once: {}", phone.log());
    }
}

#[track_caller]
fn hear_each_other(anna: &Baresip, ben: &Baresip) {
    eventually("both hear each other", SOON, || {
        (tone::same(ben.heard(), 500) && tone::same(anna.heard(), 900)).then_some(())
    });
}

fn phone(
    parent: &Path,
    user: &str,
    (encryption, tone): (&str, u32),
    (proxy, ca): (&str, &Path),
) -> Baresip {
    let options = Options {
        user,
        domain: DOMAIN,
        password: PASSWORD,
        transport: "tls",
        proxy,
        encryption: Some(encryption),
        tone,
        codec: "pcmu",
        ca,
        answers: true,
        second: None,
        ice: None,
        contacts: "",
    };
    Baresip::registered(parent, &options)
}

/// The process that the keeper started.
fn proxy_of(region: &Region) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", region.proxy.id())).ok()?;
    let children = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find_map(|id| id.parse().ok())
}

#[track_caller]
fn another_proxy(region: &Region, former: u32) -> u32 {
    let next =
        eventually("another proxy", SOON, || proxy_of(region).filter(|next| *next != former));
    served(region);
    next
}

#[track_caller]
fn served(region: &Region) {
    eventually("the proxy serves", SOON, || region.is_healthy().then_some(()));
}

fn signal(which: &str, id: u32) {
    let sent = Command::new("kill").args([which, &id.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}
