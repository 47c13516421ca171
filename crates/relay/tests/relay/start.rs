//! A relay that cannot start says what is at fault.

use crate::support::{Authority, config, tls_files};
use landline_relay::{MediaAddress, Relay, RelayConfig};

async fn error(change: impl FnOnce(&mut RelayConfig)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&Authority::new(), directory.path());
    change(&mut config);
    Relay::start(config).await.expect_err("it must not start").to_string()
}

#[tokio::test]
async fn a_used_control_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let message = error(|config| config.control_listen = address).await;
    assert!(message.contains(&address.to_string()), "{message}");
}

#[tokio::test]
async fn a_media_address_that_is_not_ours_is_named() {
    let elsewhere = "192.0.2.7".parse().unwrap();
    let message = error(|config| config.media = vec![MediaAddress::direct(elsewhere)]).await;
    assert!(message.contains("192.0.2.7"), "{message}");
    let unspecified = "0.0.0.0".parse().unwrap();
    let message = error(|config| config.media = vec![MediaAddress::direct(unspecified)]).await;
    assert!(message.contains("0.0.0.0"), "{message}");
    assert!(error(|config| config.media.clear()).await.contains("media address"));
}

#[tokio::test]
async fn a_used_port_for_browsers_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let message = error(|config| (config.ice_port, config.shards) = (Some(port), Some(1))).await;
    assert!(message.contains("relay.ice_port"), "{message}");
    assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
    let message = error(|config| (config.ice_port, config.shards) = (Some(65_535), Some(2))).await;
    assert!(message.contains("relay.ice_port 65535"), "{message}");
}

#[tokio::test]
async fn browsers_have_ports_of_the_range_where_none_are_named() {
    let ports = crate::support::free_ports();
    let mut relays = Vec::new();
    let mut told = Vec::new();
    // The second one takes the next: the first has the first two.
    for _ in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(&Authority::new(), directory.path());
        (config.ice_port, config.ports) = (None, ports.clone());
        let relay = Relay::start(config).await.unwrap();
        told.extend(relay.ice_addrs().iter().map(|address| address.port() - ports.start()));
        relays.push(relay);
    }
    assert_eq!(told, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_missing_or_wrong_file_is_named() {
    let message = error(|config| std::fs::remove_file(&config.tls.key).unwrap()).await;
    assert!(message.contains("relay.key"), "{message}");
    let message = error(|config| std::fs::write(&config.tls.authorities, "junk").unwrap()).await;
    assert!(message.contains("ca.pem"), "{message}");
    let message = error(|config| std::fs::write(&config.tls.certificate, "").unwrap()).await;
    assert!(message.contains("relay.pem"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_another_region_is_refused() {
    let message = error(|config| {
        let directory = config.tls.certificate.parent().unwrap();
        tls_files(&Authority::new(), directory, "relay-1.us1.landline.internal");
    })
    .await;
    assert!(message.contains("relay.ie1.landline.internal"), "{message}");
}

#[tokio::test]
async fn a_port_range_without_a_pair_is_named() {
    let message = error(|config| config.ports = 5001..=5001).await;
    assert!(message.contains("5001-5001"), "{message}");
}

#[tokio::test]
async fn two_relays_share_a_registry_when_their_names_differ() {
    let registry = prometheus::Registry::new();
    let mut relays = Vec::new();
    for name in ["one", "two"] {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(&Authority::new(), directory.path());
        config.registry = registry.clone();
        config.name.0 = name.into();
        relays.push(Relay::start(config).await.unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let mut same = config(&Authority::new(), directory.path());
    same.registry = registry;
    same.name.0 = "two".into();
    assert!(Relay::start(same).await.is_err());
}
