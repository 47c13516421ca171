//! Everything has a limit, and each refusal says which.

use std::time::Duration;

use crate::support::proxy::describe;
use crate::support::{A, B, Proxy, free_ports, local, relay, relay_with, remote, spec};
use landline_control::{IpFamily, LegId, Op, Outcome, Protocol, Refusal};

#[tokio::test]
async fn no_ports_is_a_refusal_that_leaves_nothing_behind() {
    let relay = relay_with(|config| {
        let first = *free_ports().start();
        config.ports = first..=first + 5;
        config.port_quarantine = Duration::ZERO;
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    let refused = proxy.open(2, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    assert_eq!(refused, Outcome::Refused(Refusal::NoPorts));
    assert_eq!(relay.handle.sessions(), 1);
    assert_eq!(relay.metric("refusals_total", Some("no_ports")), 1.0);
    proxy.opened(2, &[(A, spec(Protocol::Rtp))]).await;
}

#[tokio::test]
async fn a_port_is_not_used_again_before_its_quarantine_is_over() {
    let relay = relay_with(|config| {
        let first = *free_ports().start();
        config.ports = first..=first + 1;
        config.port_quarantine = Duration::from_millis(1200);
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let before = proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    proxy.close(1).await;
    let refused = proxy.open(2, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(refused, Outcome::Refused(Refusal::NoPorts));
    relay.metric_reaches("port_pairs", Some("quarantined"), 1.0).await;
    tokio::time::sleep(Duration::from_millis(1220)).await;
    let after = proxy.opened(2, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(local(&before, A).rtp, local(&after, A).rtp);
    relay.metric_reaches("port_pairs", Some("used"), 1.0).await;
}

#[tokio::test]
async fn ports_that_others_hold_are_skipped() {
    let ports = free_ports();
    let first = *ports.start();
    let taken = std::net::UdpSocket::bind(("127.0.0.1", first + 1)).unwrap();
    let relay = relay_with(|config| config.ports = first..=first + 3).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(local(&locals, A).rtp.port(), first + 2);
    drop(taken);
}

#[tokio::test]
async fn sessions_and_legs_beyond_their_limits_are_refused() {
    let relay = relay_with(|config| {
        config.limits.sessions = 2;
        config.limits.legs_per_session = 2;
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let three: Vec<_> = (0..3).map(|leg| (LegId(leg), spec(Protocol::Rtp))).collect();
    assert_eq!(proxy.open(1, &three).await, Outcome::Refused(Refusal::Full));
    proxy.opened(1, &three[..2]).await;
    proxy.opened(2, &three[..1]).await;
    assert_eq!(proxy.open(3, &three[..1]).await, Outcome::Refused(Refusal::Full));
    proxy.close(2).await;
    proxy.opened(3, &three[..1]).await;
}

#[tokio::test]
async fn what_is_unknown_or_there_already_is_refused() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    let refused = |refusal| Outcome::Refused(refusal);
    let exists = proxy.open(1, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(exists, refused(Refusal::Exists));
    let unknown = proxy.change(2, vec![Op::Join(A, B)]).await;
    assert_eq!(unknown, refused(Refusal::UnknownSession));
    let nobody = LegId(9);
    for op in [
        Op::Join(A, nobody),
        Op::Restart(nobody),
        Op::Remove(nobody),
        describe(nobody, remote("127.0.0.1:9".parse().unwrap(), "127.0.0.1:10".parse().unwrap())),
    ] {
        assert_eq!(proxy.change(1, vec![op]).await, refused(Refusal::UnknownLeg(nobody)));
    }
    assert_eq!(proxy.change(1, vec![Op::Join(A, A)]).await, refused(Refusal::UnknownLeg(A)));
    proxy.changed(1, vec![Op::Remove(B)]).await;
    let again = proxy.change(1, vec![Op::Add(B, spec(Protocol::Rtp))]).await;
    assert_eq!(again, refused(Refusal::Exists), "statistics name one leg");
}

#[tokio::test]
async fn a_family_without_an_address_is_refused() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut v6 = spec(Protocol::Rtp);
    v6.family = IpFamily::V6;
    assert_eq!(proxy.open(1, &[(A, v6)]).await, Outcome::Refused(Refusal::NoFamily));
}

#[tokio::test]
async fn a_description_that_does_not_fit_is_refused_and_what_came_before_stays() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Sdes))]).await;
    let plain = remote("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:40001".parse().unwrap());
    let outcome = proxy.change(1, vec![describe(A, plain.clone()), describe(B, plain)]).await;
    assert!(matches!(outcome, Outcome::Refused(Refusal::BadRemote(_))), "{outcome:?}");
    assert!(matches!(proxy.close(1).await, Outcome::Closed { .. }));
}
