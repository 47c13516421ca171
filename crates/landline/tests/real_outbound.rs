//! baresip keeps two flows to its proxy (RFC 5626): it rings once, and both
//! flows are kept open.

mod support;

use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::region::http;
use support::server::{Demo, text};
use support::{eventually, have, tone};

#[test]
fn a_phone_with_two_flows_rings_once_and_asks_where_it_is_seen() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let calling = demo.add_user("acme.test", "calling", &["--media", "rtp"]);
    let called = demo.add_user("acme.test", "called", &["--media", "rtp"]);
    let mut caller = Baresip::registered(
        directory.path(),
        &Options { tone: 500, ..Options::of(&demo, "ie1", "udp", &calling) },
    );
    let mut callee = Baresip::registered(
        directory.path(),
        &Options {
            tone: 900,
            second: Some(demo.sip("ie1", "udp")),
            ..Options::of(&demo, "ie1", "tcp", &called)
        },
    );
    eventually("both flows are registered", Duration::from_secs(10), || {
        (callee.log().matches("200 OK").count() >= 2).then_some(())
    });

    caller.dial("sip:called@acme.test");
    caller.expect("CALL_ESTABLISHED", Duration::from_secs(10));
    eventually("both hear each other", Duration::from_secs(12), || {
        (tone::same(callee.heard(), 500) && tone::same(caller.heard(), 900)).then_some(())
    });
    caller.hang_up();
    callee.expect("CALL_CLOSED", Duration::from_secs(5));
    let calls = demo.closed_calls("acme.test", 1);
    let shown = demo.admin(&["calls", "show", text(&calls[0]["sid"])]);
    let legs = support::server::array(&shown["legs"]);
    assert_eq!(legs.len(), 2, "one leg of the caller, one of the device: {shown}");

    // It asks twice a minute.
    let sip: std::net::SocketAddr = demo.sip("ie1", "udp").parse().unwrap();
    eventually("baresip's flow over UDP is kept open by STUN", Duration::from_secs(45), || {
        let metrics = http(sip.port() + 6, "/metrics")?;
        let line = metrics.lines().find(|it| it.contains("stun_answered_total{"))?;
        let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (count > 0.0).then_some(())
    });
}
