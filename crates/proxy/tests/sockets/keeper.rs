//! A proxy is replaced under its clients' connections, and they do not notice.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use landline_call::tenancy::MediaPolicy;
use landline_control::RelayId;
use landline_proxy::{
    HostPort, Keeper, KeeperConfig, KeeperHandle, Limits, ListenerConfig, Origins, Proxy,
    ProxyConfig, ProxyHandle, RelayAddress, Transport,
};

use crate::calls::{DOMAIN, Phone};
use crate::fake_relay::FakeRelay;
use crate::support::{Client, PATIENCE, Region, World, metric, until};

const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

struct Scene {
    world: World,
    region: Region,
    keeper: KeeperHandle,
    socket: PathBuf,
}

async fn scene(limits: Limits) -> Scene {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    for user in ["anna", "udp", "tcp", "tls", "ws", "wss"] {
        region.add_user_with(DOMAIN, user, MediaPolicy::Rtp).await;
    }
    let config = region.config();
    let socket = world.dir.path().join("keeper.sock");
    let keeper = KeeperConfig {
        region: config.region,
        socket: socket.clone(),
        listeners: config.listeners,
        client_tls: config.client_tls,
        origins: Origins::Any,
        limits,
    };
    let keeper = Keeper::start(keeper).await.unwrap();
    Scene { world, region, keeper, socket }
}

impl Scene {
    fn config(&self) -> ProxyConfig {
        let bound = self.keeper.addresses().iter();
        let listeners = bound.map(|(transport, local)| ListenerConfig::new(*transport, *local));
        ProxyConfig {
            keeper: Some(self.socket.clone()),
            listeners: listeners.collect(),
            ..self.region.config()
        }
    }

    async fn proxy(&self) -> ProxyHandle {
        let proxy = Proxy::start(self.with_relay().await).await.unwrap();
        until("the relay is there", || proxy.status().relays_connected == 1).await;
        proxy
    }

    /// With a relay of its own.
    async fn with_relay(&self) -> ProxyConfig {
        let files = self.world.issue("r", &["relay.ie1.landline.internal"]);
        let relay = FakeRelay::new(&self.world, &files).await;
        let id = RelayId("relay-1".to_owned());
        let relays = vec![RelayAddress { id, control: HostPort::from(relay.address()) }];
        tokio::spawn(relay.serve());
        ProxyConfig { relays, ..self.config() }
    }

    fn address(&self, transport: Transport) -> std::net::SocketAddr {
        self.keeper.addresses().iter().find(|(known, _)| *known == transport).unwrap().1
    }

    async fn phone(&self, transport: Transport, user: &str) -> Phone {
        let tls = self.world.client_tls();
        Phone::start(transport, self.address(transport), &tls, user).await
    }
}

fn name(transport: Transport) -> String {
    transport.as_str().to_ascii_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_replaced_and_no_connection_is_lost() {
    let scene = scene(Limits::default()).await;
    let former = scene.proxy().await;
    let mut phones = Vec::new();
    for transport in TRANSPORTS {
        phones.push(scene.phone(transport, &name(transport)).await);
    }
    former.hand_over().await;

    // What is sent meanwhile is answered by the next one.
    let Some(waiting) = phones.last_mut() else { unreachable!() };
    let ping = waiting.client.text("OPTIONS", "wss", DOMAIN, "");
    waiting.client.send(ping).await;
    assert!(waiting.client.is_silent().await);
    let next = scene.proxy().await;
    assert!(waiting.client.receive().await.unwrap().starts_with("SIP/2.0 "));

    for (transport, phone) in TRANSPORTS.into_iter().zip(&mut phones) {
        let user = name(transport);
        let contacts = phone.client.fetch(&user, DOMAIN).await;
        assert_eq!(contacts.len(), 1, "{transport}: still registered, over the same connection");
        // A call finds the phone by the connection it registered by.
        let mut anna = scene.phone(Transport::Udp, "anna").await;
        anna.call(&format!("sip:{user}@{DOMAIN}")).await;
        let invite = phone.request("INVITE").await;
        assert!(invite.contains("Content-Type: application/sdp"), "{transport}: {invite}");
    }
    next.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_connection_is_answered_while_its_proxy_is_replaced() {
    let scene = scene(Limits::default()).await;
    let former = scene.proxy().await;
    let mut phone = scene.phone(Transport::Tls, "tls").await;
    let replaced = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        former.hand_over().await;
        scene.proxy().await
    };
    let mut replaced = pin!(replaced);
    let (mut asked, mut answered) = (0, 0);
    let next = loop {
        let question = phone.client.text("OPTIONS", "tls", DOMAIN, "");
        phone.client.send(question).await;
        asked += 1;
        tokio::select! {
            next = &mut replaced => break next,
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    };
    while answered < asked {
        let answer = phone.client.receive().await.expect("the connection is kept");
        assert!(answer.starts_with("SIP/2.0 "), "{answer}");
        answered += 1;
    }
    next.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_dies_takes_no_connection_with_it() {
    let scene = scene(Limits::default()).await;
    let process = tokio::runtime::Runtime::new().unwrap();
    let former = process.spawn(Proxy::start(scene.with_relay().await)).await.unwrap().unwrap();
    let mut phone = scene.phone(Transport::Tls, "tls").await;
    // Its tasks die at once: nobody is told anything.
    tokio::task::spawn_blocking(|| process.shutdown_timeout(PATIENCE)).await.unwrap();
    drop(former);
    let next = scene.proxy().await;
    assert_eq!(phone.client.fetch("tls", DOMAIN).await.len(), 1);
    next.shutdown().await;
    // A proxy that stops for good lets its clients go.
    assert_eq!(phone.client.receive().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_keeper_throws_away_is_counted_by_its_proxy() {
    let scene = scene(Limits::default()).await;
    let config = scene.config();
    let registry = config.registry.clone();
    let proxy = Proxy::start(config).await.unwrap();
    let address = scene.address(Transport::Tcp);
    let mut stranger = Client::connect(Transport::Tcp, address, &scene.world.client_tls()).await;
    until("the connection is counted", || {
        metric(&registry, "sip_connections", &[("transport", "tcp")]) == 1.0
    })
    .await;
    stranger.send(b"\x16\x03\x01\0\xff\0\x80\xff\r\n\r\n").await;
    while stranger.receive().await.is_some() {}
    until("what was thrown away is counted", || {
        metric(&registry, "sip_drops_total", &[("cause", "framing")]) == 1.0
            && metric(&registry, "sip_connections", &[("transport", "tcp")]) == 0.0
    })
    .await;
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_other_listeners_or_without_a_keeper_says_so() {
    let scene = scene(Limits::default()).await;
    let mut config = scene.config();
    config.listeners[0].bind.set_port(1);
    let error = Proxy::start(config).await.err().unwrap().to_string();
    assert!(error.contains("does not hold the udp listener on 127.0.0.1:1"), "{error}");
    let mut config = scene.config();
    config.keeper = Some(scene.world.dir.path().join("nobody.sock"));
    let error = Proxy::start(config).await.err().unwrap().to_string();
    assert!(error.contains("nobody.sock") && error.contains("No such file"), "{error}");
}
