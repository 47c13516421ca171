//! Registration over every transport, and what stays of it.

use std::time::Duration;

use landline_proxy::Transport;

use crate::support::{Client, PASSWORD, World, metric, until};

async fn registers_over(transport: Transport) {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let proxy = region.start().await;
    let tls = world.client_tls();
    for (known, address) in proxy.addresses().to_vec() {
        if known != transport {
            continue;
        }
        let mut phone = Client::connect(transport, address, &tls).await;
        let response = phone.register("alice", "acme.test", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{address}: {response}");
        assert!(response.contains(&phone.contact("alice")), "{address}: {response}");
    }
    let mut other = Client::connect(transport, proxy.address(transport).unwrap(), &tls).await;
    let contacts = other.fetch("alice", "acme.test").await;
    assert_eq!(contacts.join(", ").matches("sip:alice@").count(), 2, "IPv4 and IPv6: {contacts:?}");
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_over_udp() {
    registers_over(Transport::Udp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_over_tcp() {
    registers_over(Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_over_tls() {
    registers_over(Transport::Tls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_registers_over_ws() {
    registers_over(Transport::Ws).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_registers_over_wss() {
    registers_over(Transport::Wss).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_challenged_again_and_counted() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let config = region.config();
    let registry = config.registry.clone();
    let proxy = landline_proxy::Proxy::start(config).await.unwrap();
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &world.client_tls()).await;
    let contact = format!("Contact: <{}>\r\n", phone.contact("alice"));
    let refused = phone.register_with("alice", "acme.test", "wrong", &contact).await;
    assert!(refused.starts_with("SIP/2.0 401"), "{refused}");
    let accepted = phone.register_with("alice", "acme.test", PASSWORD, &contact).await;
    assert!(accepted.starts_with("SIP/2.0 200"), "{accepted}");
    proxy.shutdown().await;
    assert!(metric(&registry, "call_events_total", &[("event", "auth_failures")]) >= 1.0);
    assert_eq!(metric(&registry, "sip_requests_received_total", &[("method", "REGISTER")]), 4.0);
    assert_eq!(metric(&registry, "sip_responses_sent_total", &[("class", "2xx")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_bindings() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let tls = world.client_tls();
    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &tls).await;
    let contact = phone.contact("alice");
    assert!(phone.register("alice", "acme.test", 300).await.starts_with("SIP/2.0 200"));
    proxy.shutdown().await;

    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut other = Client::connect(Transport::Udp, udp, &tls).await;
    let contacts = other.fetch("alice", "acme.test").await;
    assert!(contacts.iter().any(|known| known.contains(&contact)), "{contacts:?}");
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_contact_outlives_a_restart_too() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let tls = world.client_tls();
    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut phone = Client::connect(Transport::Udp, udp, &tls).await;
    assert!(phone.register("alice", "acme.test", 300).await.starts_with("SIP/2.0 200"));
    assert!(phone.register("alice", "acme.test", 0).await.starts_with("SIP/2.0 200"));
    proxy.shutdown().await;

    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let mut other = Client::connect(Transport::Udp, udp, &tls).await;
    assert_eq!(other.fetch("alice", "acme.test").await, Vec::<String>::new());
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_phones_register_at_one_time() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let tls = world.client_tls();
    let proxy = region.start().await;
    let udp = proxy.address(Transport::Udp).unwrap();
    let phones = (0..8).map(|_| {
        let tls = tls.clone();
        tokio::spawn(async move {
            let mut phone = Client::connect(Transport::Udp, udp, &tls).await;
            for _ in 0..20 {
                let response = phone.register("bob", "acme.test", 300).await;
                assert!(response.starts_with("SIP/2.0 200"), "{response}");
            }
        })
    });
    for phone in phones.collect::<Vec<_>>() {
        phone.await.unwrap();
    }
    proxy.shutdown().await;
}

/// RFC 5626 §4.4.1: who was told a Flow-Timer is heard in that time, or gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_keep_alives_stop_is_gone() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let mut config = region.config();
    config.limits.flow = Duration::from_secs(2);
    let registry = config.registry.clone();
    let proxy = landline_proxy::Proxy::start(config).await.unwrap();
    let tcp = proxy.address(Transport::Tcp).unwrap();
    let tls = world.client_tls();
    let mut plain = Client::connect(Transport::Tcp, tcp, &tls).await;
    assert!(plain.register("bob", "acme.test", 300).await.starts_with("SIP/2.0 200"));
    let mut phone = Client::connect(Transport::Tcp, tcp, &tls).await;
    let contact = phone.contact("alice");
    let instance = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";
    let headers = format!(
        "Contact: <{contact}>;reg-id=1;+sip.instance=\"<{instance}>\"\r\n\
         Supported: path, outbound\r\n"
    );
    let accepted = phone.register_with("alice", "acme.test", PASSWORD, &headers).await;
    assert!(accepted.contains("Flow-Timer: 120"), "{accepted}");
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        phone.send("\r\n\r\n").await;
    }
    let silent = || metric(&registry, "sip_drops_total", &[("cause", "silent_flow")]);
    assert_eq!(silent(), 0.0, "it is heard");
    until("the silent flow is closed", || silent() == 1.0).await;
    // Who promised nothing may be silent for longer.
    assert!(plain.register("bob", "acme.test", 300).await.starts_with("SIP/2.0 200"));
    proxy.shutdown().await;
}
