//! Who may control a relay, and what becomes of sessions without their proxy.

use std::time::Duration;

use crate::support::{A, Authority, B, Proxy, TestRelay, relay, relay_with, spec, until};
use landline_control::{
    FromRelay, LegId, MediaFault, Outcome, Protocol, Refusal, SessionId, TakenOver, ToRelay,
    VERSION,
};

#[tokio::test]
async fn the_relay_greets_with_its_name_and_answers_pings() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let hello = proxy.relay.clone().unwrap();
    assert_eq!((hello.version, hello.region.as_str()), (VERSION, "ie1"));
    assert_eq!(hello.name, "relay-1");
    proxy.send(&ToRelay::Ping(77)).await;
    assert_eq!(proxy.receive().await, Some(FromRelay::Pong(77)));
}

#[tokio::test]
async fn a_peer_of_another_region_is_refused_and_counted() {
    let relay = relay().await;
    for names in [&["proxy.us1.landline.internal"][..], &["proxy.example.com"]] {
        let address = relay.handle.control_addr();
        let mut peer = Proxy::tls(address, &relay.authority, names).await.unwrap();
        peer.hello("proxy", "ie1", VERSION, 1).await;
        assert_eq!(peer.receive().await, None, "not even a greeting");
    }
    relay.metric_reaches("refused_peers_total", Some("us1"), 1.0).await;
    relay.metric_reaches("refused_peers_total", Some("unclear"), 1.0).await;
    relay.metric_reaches("control_errors_total", Some("peer_region"), 2.0).await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_of_our_authority_is_refused() {
    let relay = relay().await;
    let address = relay.handle.control_addr();
    let config = crate::support::proxy::client_config(&relay.authority).with_no_client_auth();
    if let Ok(mut peer) = Proxy::with_config(address, config).await {
        assert!(peer.is_closed().await);
    }
    let stranger = TestIdentity::of_another_authority();
    let config = crate::support::proxy::client_config(&relay.authority)
        .with_client_auth_cert(stranger.chain, stranger.key)
        .unwrap();
    if let Ok(mut peer) = Proxy::with_config(address, config).await {
        assert!(peer.is_closed().await);
    }
    relay.metric_reaches("control_errors_total", Some("tls"), 2.0).await;
}

struct TestIdentity {
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
}

impl TestIdentity {
    fn of_another_authority() -> Self {
        use rustls::pki_types::pem::PemObject;
        let identity = Authority::new().issue(&["proxy.ie1.landline.internal"]);
        let certificate = identity.certificate.as_bytes();
        Self {
            chain: vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate).unwrap()],
            key: rustls::pki_types::PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        }
    }
}

async fn silent_peer(relay: &TestRelay) -> Proxy {
    let address = relay.handle.control_addr();
    Proxy::tls(address, &relay.authority, &["proxy.ie1.landline.internal"]).await.unwrap()
}

#[tokio::test]
async fn a_greeting_of_another_version_or_region_closes_the_connection() {
    let relay = relay().await;
    for (region, version, reason) in
        [("ie1", VERSION + 1, "version"), ("us1", VERSION, "hello_region")]
    {
        let mut peer = silent_peer(&relay).await;
        peer.hello("proxy", region, version, 1).await;
        assert!(matches!(peer.receive().await, Some(FromRelay::Hello(_))), "tells its own");
        assert!(peer.is_closed().await);
        relay.metric_reaches("control_errors_total", Some(reason), 1.0).await;
    }
}

/// A proxy's sessions hang on its name: a new incarnation of it closes them.
#[tokio::test]
async fn a_proxy_that_claims_another_name_than_its_certificates_is_refused() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "one", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    let address = relay.handle.control_addr();
    let own = ["proxy.ie1.landline.internal", "two.ie1.landline.internal"];
    for claimed in ["one", "", "two.ie1"] {
        let mut peer = Proxy::tls(address, &relay.authority, &own).await.unwrap();
        peer.hello(claimed, "ie1", VERSION, 2).await;
        assert!(matches!(peer.receive().await, Some(FromRelay::Hello(_))), "tells its own");
        assert!(peer.is_closed().await, "{claimed}");
    }
    relay.metric_reaches("control_errors_total", Some("hello_name"), 3.0).await;
    assert!(matches!(proxy.close(1).await, Outcome::Closed { .. }), "nobody closed it before");
    let mut peer = Proxy::tls(address, &relay.authority, &own).await.unwrap();
    peer.hello("two", "ie1", VERSION, 2).await;
    assert!(matches!(peer.receive().await, Some(FromRelay::Hello(_))));
    peer.opened(1, &[(A, spec(Protocol::Rtp))]).await;
}

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "good", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    for octets in [&[0xff; 64][..], &[0, 0, 0, 3, 9, 9, 9]] {
        let mut peer = silent_peer(&relay).await;
        peer.send_raw(octets).await;
        assert!(peer.is_closed().await);
        let mut peer = Proxy::connect(&relay, "bad", 1).await;
        peer.send_raw(octets).await;
        assert!(peer.is_closed().await);
    }
    relay.metric_reaches("control_errors_total", Some("malformed"), 4.0).await;
    let mut peer = silent_peer(&relay).await;
    peer.send(&ToRelay::Ping(1)).await;
    assert!(peer.is_closed().await, "a request before the greeting");
    relay.metric_reaches("control_errors_total", Some("out_of_order"), 1.0).await;
    assert!(matches!(proxy.close(1).await, Outcome::Closed { .. }));
}

#[tokio::test]
async fn proxies_do_not_see_each_others_sessions() {
    let relay = relay().await;
    let mut one = Proxy::connect(&relay, "one", 1).await;
    let mut two = Proxy::connect(&relay, "two", 1).await;
    let of_one = one.opened(5, &[(A, spec(Protocol::Rtp))]).await;
    let of_two = two.opened(5, &[(A, spec(Protocol::Rtp))]).await;
    assert_ne!(of_one[0].1.rtp, of_two[0].1.rtp);
    assert_eq!(relay.handle.sessions(), 2);
    assert!(matches!(one.close(5).await, Outcome::Closed { .. }));
    assert_eq!(one.close(5).await, Outcome::Refused(Refusal::UnknownSession));
    assert!(matches!(two.close(5).await, Outcome::Closed { .. }));
}

#[tokio::test]
async fn sessions_outlive_their_proxys_connection_by_the_grace_time() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    drop(proxy);
    until(|| relay.metric("control_connections", None) == 0.0).await;
    assert_eq!(relay.handle.sessions(), 1);
    until(|| relay.handle.sessions() == 0).await;
    assert_eq!(relay.metric("orphaned_sessions_total", None), 1.0);
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    assert_eq!(proxy.close(1).await, Outcome::Refused(Refusal::UnknownSession));
}

#[tokio::test]
async fn a_proxy_that_comes_back_in_time_keeps_its_sessions() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    drop(proxy);
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(matches!(proxy.close(1).await, Outcome::Closed { .. }));
}

#[tokio::test]
async fn what_a_new_incarnation_does_not_adopt_of_the_former_is_closed() {
    let relay = relay_with(|config| config.proxy_grace = Duration::from_secs(1)).await;
    let mut former = Proxy::connect(&relay, "proxy", 1).await;
    let mut other = Proxy::connect(&relay, "other", 1).await;
    other.opened(9, &[(A, spec(Protocol::Rtp))]).await;
    for session in 0..4 {
        former.opened(session, &[(A, spec(Protocol::Rtp))]).await;
    }
    let mut present = Proxy::connect(&relay, "proxy", 2).await;
    assert!(former.is_closed().await);
    assert_eq!(present.adopt(2, 2).await, adopted(&[A]));
    until(|| relay.handle.sessions() == 2).await;
    assert_eq!(present.close(1).await, Outcome::Refused(Refusal::UnknownSession));
    assert!(matches!(present.close(2).await, Outcome::Closed { .. }));
    assert!(matches!(other.close(9).await, Outcome::Closed { .. }));
    assert_eq!(relay.metric("orphaned_sessions_total", None), 3.0);
    assert_eq!(relay.metric("adopted_sessions_total", None), 1.0);
}

fn without_faults(legs: &[LegId]) -> Vec<(LegId, Vec<MediaFault>)> {
    legs.iter().map(|leg| (*leg, Vec::new())).collect()
}

fn adopted(legs: &[LegId]) -> Outcome {
    Outcome::Adopted(without_faults(legs))
}

/// Whatever their clocks say, nobody is given a number that another may use.
#[tokio::test]
async fn who_takes_a_session_over_gets_numbers_far_from_all_others() {
    let relay = relay().await;
    let mut one = Proxy::connect(&relay, "one", 1).await;
    let mut two = Proxy::connect(&relay, "two", 1).await;
    one.opened(5, &[(A, spec(Protocol::Rtp))]).await;
    let taken = |step| Outcome::TakenOver(TakenOver { legs: without_faults(&[A]), step });
    assert_eq!(two.take_over(5, 5, 3_600_000).await, taken(3_600_000));
    assert_eq!(one.receive().await, Some(FromRelay::Taken(SessionId(5))));
    assert_eq!(one.take_over(5, 5, 9).await, taken(3_700_000));
    assert_eq!(one.take_over(5, 5, 3_700_004).await, taken(3_700_004));
    assert_eq!(two.receive().await, Some(FromRelay::Taken(SessionId(5))));
    assert_eq!(two.take_over(5, 5, 3_600_003).await, taken(3_800_004));
}

#[tokio::test]
async fn a_session_is_whose_who_adopted_it_last_and_the_former_is_told() {
    let relay = relay().await;
    let mut one = Proxy::connect(&relay, "one", 1).await;
    let mut two = Proxy::connect(&relay, "two", 1).await;
    one.opened(5, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    // Session and call have to belong together.
    assert_eq!(two.adopt(5, 6).await, Outcome::Refused(Refusal::UnknownSession));
    assert_eq!(two.adopt(6, 5).await, Outcome::Refused(Refusal::UnknownSession));
    assert_eq!(two.adopt(5, 5).await, adopted(&[A, B]));
    assert_eq!(one.receive().await, Some(FromRelay::Taken(SessionId(5))));
    assert_eq!(one.close(5).await, Outcome::Refused(Refusal::UnknownSession));
    // Asked twice it is the same, and tells nobody.
    assert_eq!(two.adopt(5, 5).await, adopted(&[A, B]));
    assert_eq!(one.adopt(5, 5).await, adopted(&[A, B]));
    assert_eq!(two.receive().await, Some(FromRelay::Taken(SessionId(5))));
    assert!(matches!(one.close(5).await, Outcome::Closed { legs, .. } if legs.len() == 2));
    assert_eq!(relay.handle.sessions(), 0);
}

#[tokio::test]
async fn a_session_of_one_that_went_away_is_kept_for_who_adopts_it() {
    let relay = relay_with(|config| config.proxy_grace = Duration::from_secs(1)).await;
    let mut one = Proxy::connect(&relay, "one", 1).await;
    one.opened(5, &[(A, spec(Protocol::Rtp))]).await;
    one.opened(6, &[(A, spec(Protocol::Rtp))]).await;
    drop(one);
    let mut two = Proxy::connect(&relay, "two", 1).await;
    assert_eq!(two.adopt(5, 5).await, adopted(&[A]));
    until(|| relay.handle.sessions() == 1).await;
    assert!(matches!(two.close(5).await, Outcome::Closed { .. }));
}

#[tokio::test]
async fn a_draining_relay_says_so_and_opens_nothing_more() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    relay.handle.drain();
    assert_eq!(proxy.receive().await, Some(FromRelay::Draining));
    let refused = proxy.open(2, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(refused, Outcome::Refused(Refusal::Draining));
    assert!(matches!(proxy.close(1).await, Outcome::Closed { .. }));
    let mut late = Proxy::connect(&relay, "late", 1).await;
    assert_eq!(late.receive().await, Some(FromRelay::Draining));
    relay.handle.resume();
    assert_eq!(late.receive().await, Some(FromRelay::Resumed));
    late.opened(1, &[(A, spec(Protocol::Rtp))]).await;
}

#[tokio::test]
async fn proxies_beyond_the_limit_are_refused() {
    let relay = relay_with(|config| config.limits.proxies = 1).await;
    let mut first = Proxy::connect(&relay, "one", 1).await;
    let mut second = Proxy::connect(&relay, "two", 1).await;
    assert!(second.is_closed().await);
    relay.metric_reaches("control_errors_total", Some("too_many_proxies"), 1.0).await;
    first.opened(1, &[(A, spec(Protocol::Rtp))]).await;
}

#[tokio::test]
async fn a_shut_down_relay_closes_its_connections_and_its_port() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    proxy.opened(SessionId(1).0, &[(A, spec(Protocol::Rtp))]).await;
    let address = relay.handle.control_addr();
    relay.handle.shutdown().await;
    assert!(proxy.is_closed().await);
    assert!(tokio::net::TcpListener::bind(address).await.is_ok());
}
