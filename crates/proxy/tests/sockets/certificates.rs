//! Who is shown which certificate, and who is known by his own.

use std::time::{Duration, Instant};

use landline_call::tenancy::MediaPolicy;
use landline_proxy::{ClientCertificates, Limits, Proxy, ProxyHandle, Transport};
use landline_store::NewTrunk;
use rustls::pki_types::ServerName;

use crate::support::{Client, Region, World, metric, until};

const DOMAIN: &str = "acme.test";

struct Scene {
    world: World,
    region: Region,
    proxy: ProxyHandle,
    registry: prometheus::Registry,
}

/// Clients may show a certificate, or have to.
async fn scene(required: bool) -> Scene {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    let mut config = region.config();
    config.limits = Limits { shutdown: Duration::from_millis(300), ..Limits::default() };
    let registry = config.registry.clone();
    let tls = config.client_tls.as_mut().unwrap();
    tls.others = vec![world.issue("other", &["sip.other.test", "*.wild.test"])];
    tls.clients = Some(ClientCertificates { authorities: world.authorities.clone(), required });
    let proxy = Proxy::start(config).await.unwrap();
    Scene { world, region, proxy, registry }
}

impl Scene {
    async fn shown_for(&self, name: &'static str) -> Vec<u8> {
        let address = self.proxy.address(Transport::Wss).unwrap();
        let name = ServerName::try_from(name).unwrap();
        Client::certificate_for(address, &self.world.client_tls(), name).await
    }

    fn counted(&self, name: &str) -> f64 {
        metric(&self.registry, name, &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for_and_a_renewed_one() {
    let scene = scene(false).await;
    let first = scene.shown_for("localhost").await;
    let other = scene.shown_for("sip.other.test").await;
    assert_ne!(first, other);
    assert_eq!(scene.shown_for("pbx.wild.test").await, other);
    assert_eq!(scene.shown_for("127.0.0.1").await, first);

    let wss = scene.proxy.address(Transport::Wss).unwrap();
    let mut phone = Client::connect(Transport::Wss, wss, &scene.world.client_tls()).await;
    assert!(phone.register("alice", DOMAIN, 300).await.starts_with("SIP/2.0 200"));
    scene.world.issue("other", &["sip.other.test"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.shown_for("sip.other.test").await == other {
        assert!(Instant::now() < deadline, "the former certificate is still shown");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Who is connected does not notice.
    assert!(phone.register("alice", DOMAIN, 300).await.starts_with("SIP/2.0 200"));
    scene.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_certificate_where_one_is_required() {
    let scene = scene(true).await;
    let tls = scene.proxy.address(Transport::Tls).unwrap();
    let mut stranger = Client::connect(Transport::Tls, tls, &scene.world.client_tls()).await;
    assert_eq!(stranger.receive().await, None);
    let elsewhere = World::new();
    let forged = elsewhere.issue("forged", &["localhost"]);
    let both = {
        let mut config = (*scene.world.tls_of(&forged)).clone();
        config.alpn_protocols.clear();
        std::sync::Arc::new(config)
    };
    let mut stranger = Client::connect(Transport::Tls, tls, &both).await;
    assert_eq!(stranger.receive().await, None);
    until("both are counted", || {
        metric(&scene.registry, "sip_drops_total", &[("cause", "handshake_failed")]) == 2.0
    })
    .await;

    let own = scene.world.tls_of(&scene.world.issue("phone", &["phone.acme.test"]));
    let mut phone = Client::connect(Transport::Tls, tls, &own).await;
    assert!(phone.register("alice", DOMAIN, 300).await.starts_with("SIP/2.0 200"));
    assert_eq!(scene.counted("sip_client_certificates_total"), 1.0);
    // A browser has none to show.
    let wss = scene.proxy.address(Transport::Wss).unwrap();
    let mut page = Client::connect(Transport::Wss, wss, &scene.world.client_tls()).await;
    assert!(page.register("bob", DOMAIN, 300).await.starts_with("SIP/2.0 200"));
    scene.proxy.shutdown().await;
}

/// A call in from a carrier: not challenged, and there is no such number.
const KNOWN: &str = "SIP/2.0 404";

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_is_known_by_its_certificate_and_its_connection_reused() {
    let scene = scene(false).await;
    let account = scene.region.store.account_find(DOMAIN).await.unwrap();
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let trunk = NewTrunk {
        name: "carrier".to_owned(),
        send_to: format!("tls:localhost:{closed}").parse().unwrap(),
        prefixes: Vec::new(),
        asserted: Default::default(),
        accept_from: Vec::new(),
        media: MediaPolicy::Rtp,
        credentials: None,
    };
    scene.region.store.trunk_add(account.sid, &trunk).await.unwrap();
    let tls = scene.proxy.address(Transport::Tls).unwrap();
    // Carrier and stranger say the same of themselves.
    let ask = async |client: &mut Client, method: &str| {
        let contact = "Contact: <sip:carrier@localhost;transport=tls>\r\n";
        let text = client.text(method, "+15551234567", "localhost", contact);
        let own = format!("Via: SIP/2.0/TLS {}", client.local);
        let text = text.replace(&own, &format!("Via: SIP/2.0/TLS localhost:{closed}"));
        let text = text.replace(";rport", ";rport;alias");
        let to = format!("{method} sip:+15550000000@{DOMAIN} ");
        let text = text.replace(&format!("{method} sip:localhost "), &to);
        client.send(&text).await;
        loop {
            let answer = client.receive().await.expect("the connection was closed");
            if !answer.starts_with("SIP/2.0 1") {
                return answer;
            }
        }
    };
    let own = scene.world.tls_of(&scene.world.issue("carrier", &["localhost"]));
    let mut carrier = Client::connect(Transport::Tls, tls, &own).await;
    // The trunk takes effect within a second.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = ask(&mut carrier, "INVITE").await;
        if answer.starts_with(KNOWN) {
            break;
        }
        assert!(Instant::now() < deadline, "the carrier is never known: {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Now that there is the trunk, it is whose certificate it is that counts.
    let mut stranger = Client::connect(Transport::Tls, tls, &scene.world.client_tls()).await;
    assert!(!ask(&mut stranger, "INVITE").await.starts_with(KNOWN));
    let another = scene.world.tls_of(&scene.world.issue("another", &["another.test"]));
    let mut another = Client::connect(Transport::Tls, tls, &another).await;
    assert!(!ask(&mut another, "INVITE").await.starts_with(KNOWN));
    assert_eq!(scene.counted("sip_connections_reused_total"), 1.0);
    scene.proxy.shutdown().await;
}
