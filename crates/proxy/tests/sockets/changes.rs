//! What administrators change under a running proxy takes effect within a second.

use std::time::{Duration, Instant};

use landline_proxy::{Proxy, Transport};

use crate::support::{Client, World, metric, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_can_register_within_a_second() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    let before = phone.register("carol", "acme.test", 300).await;
    assert!(!before.starts_with("SIP/2.0 200"), "{before}");

    region.add_user("acme.test", "carol").await;
    let added = Instant::now();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    loop {
        let response = phone.register("carol", "acme.test", 300).await;
        if response.starts_with("SIP/2.0 200") {
            break;
        }
        assert!(added.elapsed() < Duration::from_secs(1), "{response}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_is_known_within_a_second() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    region.add_account("globex.test").await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    let response = phone.register("alice", "globex.test", 300).await;
    assert!(response.starts_with("SIP/2.0 200"), "{response}");
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_directory_leaves_the_former_one_in_use() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let config = region.config();
    let registry = config.registry.clone();
    let proxy = Proxy::start(config).await.unwrap();
    std::fs::write(world.directory(), "{ broken").unwrap();
    until("the broken file is noticed", || {
        metric(&registry, "store_faults_total", &[("part", "directory")]) >= 1.0
    })
    .await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    let response = phone.register("alice", "acme.test", 300).await;
    assert!(response.starts_with("SIP/2.0 200"), "{response}");
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_proxy_goes_on_with_what_it_knows() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let config = region.config();
    let registry = config.registry.clone();
    let proxy = Proxy::start(config).await.unwrap();
    assert!(proxy.status().database_up);
    region.store.close().await;
    until("the loss is seen", || !proxy.status().database_up).await;
    assert!(metric(&registry, "store_faults_total", &[("part", "tenancy")]) >= 1.0);
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    // Who it is is still known; whether a registration that is not stored is
    // accepted is the registrar's decision, but it is answered.
    let response = phone.register("alice", "acme.test", 300).await;
    assert!(response.starts_with("SIP/2.0 "), "{response}");
    assert!(!response.starts_with("SIP/2.0 404"), "{response}");
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_reaches_new_connections() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let proxy = region.start().await;
    let address = proxy.address(Transport::Tls).unwrap();
    let before = Client::certificate(address, &world.client_tls()).await;
    let stem = region.client_tls.certificate.file_stem().unwrap().to_str().unwrap().to_owned();
    world.issue(&stem, &["localhost", "127.0.0.1", "::1"]);
    let deadline = Instant::now() + Duration::from_secs(7);
    while Client::certificate(address, &world.client_tls()).await == before {
        assert!(Instant::now() < deadline, "the former certificate is still shown");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    proxy.shutdown().await;
}
