//! Two regions: what comes to the wrong one is carried home, and only proven
//! proxies speak for a region.

use std::net::SocketAddr;
use std::time::Duration;

use landline_proxy::{Proxy, ProxyHandle, TlsFiles, Transport};
use landline_region::egress::{Counted, Flow, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Region, World, metric, until};

struct Pair {
    world: World,
    home: ProxyHandle,
    edge: ProxyHandle,
    home_metrics: prometheus::Registry,
    edge_metrics: prometheus::Registry,
    regions: [Region; 2],
}

/// acme.test lives in ie1, globex.test in us1.
async fn pair() -> Pair {
    let world = World::new();
    let regions =
        [world.region("ie1", "acme.test").await, world.region("us1", "globex.test").await];
    let (ie1, us1) = (regions[0].config(), regions[1].config());
    let (home_metrics, edge_metrics) = (ie1.registry.clone(), us1.registry.clone());
    let home = Proxy::start(ie1).await.unwrap();
    let edge = Proxy::start(us1).await.unwrap();
    world.announce(&regions[0], &home);
    world.announce(&regions[1], &edge);
    let version = |registry| metric(registry, "directory_version", &[]);
    until("both follow the directory", || {
        version(&home_metrics) == version(&edge_metrics) && version(&home_metrics) >= 6.0
    })
    .await;
    Pair { world, home, edge, home_metrics, edge_metrics, regions }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_at_home_through_another_regions_proxy() {
    let pair = pair().await;
    let tls = pair.world.client_tls();
    for transport in [Transport::Udp, Transport::Tls, Transport::Wss] {
        let edge = pair.edge.address(transport).unwrap();
        let mut phone = Client::connect(transport, edge, &tls).await;
        let response = phone.register("alice", "acme.test", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{transport}: {response}");
        let home = pair.home.address(Transport::Udp).unwrap();
        let mut other = Client::connect(Transport::Udp, home, &tls).await;
        let contacts = other.fetch("alice", "acme.test").await.join(", ");
        assert!(contacts.contains(&phone.contact("alice")), "{transport}: {contacts}");
    }
    assert_eq!(pair.regions[1].store.load_bindings().await.unwrap(), []);
    assert_eq!(pair.regions[0].store.load_bindings().await.unwrap().len(), 3);
    let connections = metric(&pair.home_metrics, "sip_connections", &[("transport", "tls")]);
    assert_eq!(connections, 1.0, "one inter-region connection carries them all");
    for (region, peer) in [(0, "us1"), (1, "ie1")] {
        let counted = pair.regions[region].store.gate().counted();
        let passed = |it: &Counted| it.destination == peer && it.verdict == Verdict::Passed;
        assert!(counted.iter().any(passed), "the gate counts what goes to {peer}: {counted:?}");
    }
    pair.edge.shutdown().await;
    pair.home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_home_region_is_away_its_accounts_are_refused_and_others_served() {
    let pair = pair().await;
    let tls = pair.world.client_tls();
    pair.home.shutdown().await;
    let edge = pair.edge.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, edge, &tls).await;
    let response = phone.request("REGISTER", "alice", "acme.test", "").await;
    assert!(response.starts_with("SIP/2.0 5"), "{response}");
    let mut phone = Client::connect(Transport::Udp, edge, &tls).await;
    let response = phone.register("alice", "globex.test", 300).await;
    assert!(response.starts_with("SIP/2.0 200"), "{response}");
    until("the connection that failed is counted", || {
        metric(&pair.edge_metrics, "sip_drops_total", &[("cause", "connect_failed")]) >= 1.0
    })
    .await;
    pair.edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proxys_certificate_opens_the_inter_region_listener() {
    let pair = pair().await;
    let address = pair.home.inter_region_address().unwrap();
    for (stem, name) in [
        ("relay", "relay.us1.landline.internal"),
        ("phone", "phone.example"),
        ("garbled", "proxy.nowhere.landline.internal"),
    ] {
        let files = pair.world.issue(stem, &[name]);
        assert!(!is_heard(&pair.world, address, Some(&files)).await, "{name}");
    }
    let two = ["proxy.us1.landline.internal", "proxy.au1.landline.internal"];
    let files = pair.world.issue("two", &two);
    assert!(!is_heard(&pair.world, address, Some(&files)).await, "two regions at once");
    let drops = |cause| metric(&pair.home_metrics, "sip_drops_total", &[("cause", cause)]);
    until("each is counted", || drops("wrong_region") == 4.0).await;

    assert!(!is_heard(&pair.world, address, None).await, "no certificate");
    let elsewhere = World::new();
    let stranger = elsewhere.issue("us1", &["proxy.us1.landline.internal"]);
    assert!(!is_heard(&pair.world, address, Some(&stranger)).await, "another authority");
    until("each is counted", || drops("handshake_failed") == 2.0).await;

    // The region's own: accounts of one region call each other over this link.
    for (stem, name) in
        [("good", "proxy.us1.landline.internal"), ("own", "proxy.ie1.landline.internal")]
    {
        let files = pair.world.issue(stem, &[name]);
        assert!(is_heard(&pair.world, address, Some(&files)).await, "{name}");
    }
    pair.edge.shutdown().await;
    pair.home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_leads_to_another_region_gets_nothing() {
    let pair = pair().await;
    // ie1's entry names a proxy of au1.
    let other = pair.world.region("au1", "southern.test").await;
    let config = other.config();
    let other_metrics = config.registry.clone();
    let stranger = Proxy::start(config).await.unwrap();
    let misled = Region { code: pair.regions[0].code, ..other };
    pair.world.announce(&misled, &stranger);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let edge = pair.edge.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, edge, &pair.world.client_tls()).await;
    let response = phone.request("REGISTER", "alice", "acme.test", "").await;
    assert!(response.starts_with("SIP/2.0 5"), "{response}");
    assert!(metric(&pair.edge_metrics, "sip_drops_total", &[("cause", "connect_failed")]) >= 1.0);
    let received = metric(&other_metrics, "sip_requests_received_total", &[]);
    assert_eq!(received, 0.0, "nothing of the account reached the other region");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_a_region_that_is_not_declared_stays_and_is_counted() {
    let world = World::new();
    // us1 declares ie1 and itself; the directory leads to au1 all the same.
    let regions =
        [world.region("au1", "southern.test").await, world.region("us1", "globex.test").await];
    let (au1, us1) = (regions[0].config(), regions[1].config());
    let (home_metrics, edge_metrics) = (au1.registry.clone(), us1.registry.clone());
    let home = Proxy::start(au1).await.unwrap();
    world.announce(&regions[0], &home);
    let edge = Proxy::start(us1).await.unwrap();
    let udp = edge.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    let response = phone.request("REGISTER", "alice", "southern.test", "").await;
    assert!(response.starts_with("SIP/2.0 5"), "{response}");
    assert!(metric(&edge_metrics, "sip_drops_total", &[("cause", "kept_in_region")]) >= 1.0);
    assert_eq!(metric(&home_metrics, "sip_connections_total", &[("transport", "tls")]), 0.0);
    assert_eq!(metric(&home_metrics, "sip_requests_received_total", &[]), 0.0);
    let counted = regions[1].store.gate().counted();
    let refused = |it: &&Counted| it.verdict == Verdict::Refused("unknown_region");
    let line = counted.iter().find(refused).unwrap();
    assert_eq!((line.flow, line.destination.as_str()), (Flow::InterRegionSip, "undeclared"));
    edge.shutdown().await;
    home.shutdown().await;
}

/// Whether a keep-alive is answered to a holder of this certificate.
async fn is_heard(world: &World, address: SocketAddr, files: Option<&TlsFiles>) -> bool {
    let Some(mut stream) = world.connect(address, files).await else {
        return false;
    };
    let _closed = stream.write_all(b"\r\n\r\n").await;
    let mut answer = [0; 2];
    let read = tokio::time::timeout(Duration::from_secs(3), stream.read_exact(&mut answer)).await;
    matches!(read, Ok(Ok(_))) && answer == *b"\r\n"
}
