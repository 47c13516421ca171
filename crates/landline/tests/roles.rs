//! Proxy and relay as processes of their own: how they find each other, what
//! their health says, how they end.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Regions, Running, command, get, landline};

#[test]
fn health_follows_the_relay_and_sigterm_ends_each_process_in_order() {
    let regions = Regions::new();
    regions.make_certificates();
    let port = regions.health_port();

    let proxy = start(&regions, "proxy");
    let alone = eventually(port, |answer| answer.contains("relay_links"));
    assert!(alone.starts_with("HTTP/1.1 503"), "{alone}");
    assert!(alone.contains(r#""relay_links":{"configured":1,"connected":0}"#), "{alone}");
    assert!(
        alone.contains(r#""database":"ok""#) && alone.contains(r#""status":"failing""#),
        "{alone}"
    );

    let relay = start(&regions, "relay");
    eventually(port + 1, |answer| answer.starts_with("HTTP/1.1 200"));
    let linked = eventually(port, |answer| answer.starts_with("HTTP/1.1 200"));
    assert!(linked.contains(r#""connected":1"#), "{linked}");
    assert!(get(port, "/metrics").unwrap().contains("us1"));

    assert_eq!(relay.stop(), Some(0));
    eventually(port, |answer| answer.starts_with("HTTP/1.1 503"));
    assert_eq!(proxy.stop(), Some(0));
}

#[test]
fn a_taken_port_or_directory_is_named() {
    let regions = Regions::new();
    regions.make_certificates();
    let port = regions.health_port() - 6;
    let taken = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let refused = landline(&["up", "--config", &regions.config("us1")]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains(&format!("udp listener cannot be bound to 127.0.0.1:{port}")),
        "{}",
        refused.err
    );
    drop(taken);

    let first = start(&regions, "up");
    eventually(regions.health_port(), |answer| answer.starts_with("HTTP/1.1 200"));
    let second = landline(&["up", "--config", &regions.config("us1")]);
    assert!(second.code == 1 && second.err.contains("another process uses"), "{}", second.err);
    assert_eq!(first.stop(), Some(0));
}

#[test]
fn a_certificate_of_another_region_is_refused_at_the_start() {
    let regions = Regions::new();
    regions.make_certificates();
    for kind in ["pem", "key"] {
        let name = format!("proxy.{kind}");
        std::fs::copy(regions.dir("ie1").join(&name), regions.dir("us1").join(&name)).unwrap();
    }
    let refused = landline(&["proxy", "--config", &regions.config("us1")]);
    assert_eq!(refused.code, 1);
    for wanted in ["proxy.pem", "proxy.ie1.landline.internal", "proxy.us1.landline.internal"] {
        assert!(refused.err.contains(wanted), "{}", refused.err);
    }
}

fn start(regions: &Regions, role: &str) -> Running {
    let child = command()
        .args([role, "--config", &regions.config("us1")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

/// The first `/health` that is as wanted.
fn eventually(port: u16, wanted: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        match get(port, "/health") {
            Some(answer) if wanted(&answer) => return answer,
            seen => assert!(begun.elapsed() < Duration::from_secs(15), "{seen:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
