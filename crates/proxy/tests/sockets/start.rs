//! A proxy that cannot start says which listener or file is at fault.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use landline_proxy::{ListenerConfig, Proxy, ProxyConfig, StartError, Transport};

use crate::support::{Region, V4, World};

async fn scene() -> (World, Region) {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    (world, region)
}

async fn refusal(config: ProxyConfig) -> StartError {
    match Proxy::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_port_is_named() {
    let (_world, region) = scene().await;
    let udp = UdpSocket::bind((V4, 0)).unwrap();
    let tcp = TcpListener::bind((V4, 0)).unwrap();
    for (transport, address) in [
        (Transport::Udp, udp.local_addr().unwrap()),
        (Transport::Tcp, tcp.local_addr().unwrap()),
        (Transport::Wss, tcp.local_addr().unwrap()),
    ] {
        let mut config = region.config();
        config.listeners.push(ListenerConfig::new(transport, address));
        let error = refusal(config).await.to_string();
        let wanted = format!("the {} listener cannot be bound to {address}", transport.uri_param());
        let wanted = wanted.replace("the ws ", "the wss ");
        assert!(error.starts_with(&wanted), "{error}");
        assert!(error.contains("in use"), "{error}");
    }
    let mut config = region.config();
    let taken = tcp.local_addr().unwrap();
    config.inter_region.as_mut().unwrap().bind = taken;
    let error = refusal(config).await.to_string();
    assert!(
        error.contains("inter-region listener") && error.contains(&taken.to_string()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_is_named_by_its_file() {
    let (world, region) = scene().await;
    let other = world.issue("other", &["localhost"]);
    let garbage = world.dir.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let empty = world.dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = world.dir.path().join("missing.pem");

    for (certificate, key, culprit, problem) in [
        (&missing, &region.client_tls.key, "missing.pem", "no such file"),
        (&empty, &region.client_tls.key, "empty.pem", "certificate"),
        (&garbage, &region.client_tls.key, "garbage.pem", "cannot be read"),
        (&region.client_tls.certificate, &other.key, "other.key", "does not belong"),
        (&region.client_tls.certificate, &missing, "missing.pem", "no such file"),
    ] {
        let mut config = region.config();
        let files = &mut config.client_tls.as_mut().unwrap().files;
        files.certificate = certificate.clone();
        files.key = key.clone();
        let error = refusal(config).await.to_string();
        assert!(error.contains(culprit) && error.contains(problem), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_of_another_region_is_refused_at_start() {
    let (world, region) = scene().await;
    let mut config = region.config();
    config.identity.files = world.issue("us1", &["proxy.us1.landline.internal"]);
    let error = refusal(config).await.to_string();
    assert!(error.contains("proxy.us1.landline.internal"), "{error}");
    assert!(error.contains("not for proxy.ie1.landline.internal"), "{error}");
    // No relay would let it go by its name.
    let mut config = region.config();
    config.identity.files = world
        .issue("other-proxy", &["proxy.ie1.landline.internal", "proxy-2.ie1.landline.internal"]);
    let error = refusal(config).await.to_string();
    assert!(error.contains("not for proxy-1.ie1.landline.internal"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_listener_without_a_certificate_and_no_listener_are_refused() {
    let (_world, region) = scene().await;
    let mut config = region.config();
    config.client_tls = None;
    let error = refusal(config).await.to_string();
    assert!(error.contains("the tls listener on 127.0.0.1:0 needs a certificate"), "{error}");
    let mut config = region.config();
    config.listeners.clear();
    assert!(matches!(refusal(config).await, StartError::NoListener));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_directory_is_named() {
    let (world, region) = scene().await;
    let path = world.dir.path().join("broken.json");
    std::fs::write(&path, "{").unwrap();
    let mut config = region.config();
    config.directory = path;
    let error = refusal(config).await.to_string();
    assert!(error.contains("broken.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_and_a_shutdown_leave_the_ports_free() {
    let (_world, region) = scene().await;
    let proxy = region.start().await;
    let addresses: Vec<(Transport, SocketAddr)> = proxy.addresses().to_vec();
    proxy.shutdown().await;
    let mut config = region.config();
    config.listeners =
        addresses.iter().map(|(kind, address)| ListenerConfig::new(*kind, *address)).collect();
    let again = Proxy::start(config).await.unwrap();
    assert_eq!(again.addresses(), addresses);
    again.shutdown().await;
}
