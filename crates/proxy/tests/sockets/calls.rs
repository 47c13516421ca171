//! Calls as far as signalling goes: relay, journal and database behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use landline_call::record::Cause;
use landline_call::tenancy::MediaPolicy;
use landline_control::RelayId;
use landline_proxy::{
    ClientCertificates, HostPort, Proxy, ProxyConfig, ProxyHandle, RelayAddress, Transport,
};
use landline_sip::Method;
use landline_store::{CallFilter, CallRecord, NewTrunk};

use crate::fake_relay::FakeRelay;
use crate::support::{Client, PASSWORD, Region, World, until};

pub const DOMAIN: &str = "acme.test";

struct Scene {
    world: World,
    region: Region,
    proxy: ProxyHandle,
}

/// A region with a relay, and the users anna and ben, who speak plain RTP.
async fn scene() -> Scene {
    scene_of(|_, _| ()).await
}

/// The same, configured otherwise.
async fn scene_of(configure: impl FnOnce(&World, &mut ProxyConfig)) -> Scene {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    for user in ["anna", "ben"] {
        region.add_user_with(DOMAIN, user, MediaPolicy::Rtp).await;
    }
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let mut config = region.config();
    config.limits.shutdown = std::time::Duration::from_secs(4);
    config.relays = vec![RelayAddress {
        id: RelayId("relay-1".to_owned()),
        control: HostPort::from(relay.address()),
    }];
    configure(&world, &mut config);
    tokio::spawn(relay.serve());
    let proxy = Proxy::start(config).await.unwrap();
    until("the relay is there", || proxy.status().relays_connected == 1).await;
    Scene { world, region, proxy }
}

impl Scene {
    async fn phone(&self, transport: Transport, user: &str) -> Phone {
        let address = self.proxy.address(transport).unwrap();
        Phone::start(transport, address, &self.world.client_tls(), user).await
    }

    async fn records(&self) -> Vec<CallRecord> {
        self.region.store.call_list(&CallFilter::default()).await.unwrap()
    }
}

pub struct Phone {
    pub client: Client,
    transport: Transport,
    user: String,
}

impl Phone {
    /// Registered over a connection of its own.
    pub async fn start(
        transport: Transport,
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        user: &str,
    ) -> Self {
        let mut client = Client::connect(transport, address, tls).await;
        let response = client.register(user, DOMAIN, 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{response}");
        Self { client, transport, user: user.to_owned() }
    }

    pub fn sdp(&self) -> String {
        let local = self.client.local;
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
            local.port()
        )
    }

    fn invite(&self, to: &str, cseq: u32, headers: &str) -> String {
        let Self { client, transport, user } = self;
        let (local, contact, body) = (client.local, client.contact(user), self.sdp());
        format!(
            "INVITE {to} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK-invite-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag=caller\r\n\
             To: <{to}>\r\n\
             Call-ID: {}@call\r\n\
             CSeq: {cseq} INVITE\r\n\
             Contact: <{contact}>\r\n\
             {headers}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            local.port(),
            body.len()
        )
    }

    /// Sends an INVITE with credentials.
    pub async fn call(&mut self, to: &str) {
        let first = self.invite(to, 1, "");
        self.client.send(first).await;
        let challenge = self.next_final().await;
        assert!(challenge.starts_with("SIP/2.0 407"), "{challenge}");
        self.ack(&challenge, to, 1).await;
        let credentials = crate::support::credentials(
            &challenge,
            &Method::Invite,
            to,
            &self.user,
            DOMAIN,
            PASSWORD,
        );
        let second = self.invite(to, 2, &credentials);
        self.client.send(second).await;
    }

    pub async fn ack(&mut self, response: &str, uri: &str, cseq: u32) {
        let local = self.client.local;
        let text = format!(
            "ACK {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{} {local};branch=z9hG4bK-{}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n{}\r\n{}\r\n{}\r\nCSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n",
            self.transport,
            if response.starts_with("SIP/2.0 2") { "ack" } else { "invite" },
            line(response, "From"),
            line(response, "To"),
            line(response, "Call-ID"),
        );
        self.client.send(text).await;
    }

    pub async fn next_final(&mut self) -> String {
        loop {
            let message = self.client.receive().await.expect("closed");
            if !message.starts_with("SIP/2.0 1") {
                return message;
            }
        }
    }

    pub async fn answer(&mut self, request: &str, status: &str, body: &str) {
        let vias: String = request
            .lines()
            .filter(|line| line.starts_with("Via: "))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let to = line(request, "To");
        let to = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag=callee") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = self.client.contact(&self.user);
        let text = format!(
            "SIP/2.0 {status}\r\n{vias}{}\r\n{to}\r\n{}\r\n{}\r\nContact: <{contact}>\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            line(request, "From"),
            line(request, "Call-ID"),
            line(request, "CSeq"),
            body.len(),
        );
        self.client.send(text).await;
    }

    /// The next request of this method, whatever comes before it.
    pub async fn request(&mut self, method: &str) -> String {
        loop {
            let message = self.client.receive().await.expect("closed");
            if message.starts_with(method) {
                return message;
            }
        }
    }
}

fn line<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find(|line| line.starts_with(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no {name}: {message}"))
}

/// The Contact's URI: where requests inside the dialog go.
pub fn target(response: &str) -> String {
    let contact = line(response, "Contact");
    contact.split(['<', '>']).nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hangs_up_and_closes_the_record() {
    for transports in [
        [Transport::Udp, Transport::Udp],
        [Transport::Tcp, Transport::Wss],
        [Transport::Ws, Transport::Tls],
    ] {
        let scene = scene().await;
        let mut anna = scene.phone(transports[0], "anna").await;
        let mut ben = scene.phone(transports[1], "ben").await;
        anna.call(&format!("sip:ben@{DOMAIN}")).await;
        let invite = ben.request("INVITE ").await;
        assert!(invite.contains("m=audio 20002 "), "media by the relay: {invite}");
        ben.answer(&invite, "180 Ringing", "").await;
        let sdp = ben.sdp();
        ben.answer(&invite, "200 OK", &sdp).await;
        let answered = anna.next_final().await;
        assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
        assert!(answered.contains("m=audio 20000 "), "media by the relay: {answered}");
        anna.ack(&answered, &target(&answered), 2).await;
        ben.request("ACK ").await;
        until("the call is open", || scene.proxy.status().calls_open == 1).await;
        assert!(scene.records().await[0].closed_at.is_none());

        let Scene { world, region, proxy } = scene;
        let stopping = tokio::spawn(proxy.shutdown());
        for phone in [&mut anna, &mut ben] {
            let bye = phone.request("BYE ").await;
            phone.answer(&bye, "200 OK", "").await;
        }
        stopping.await.unwrap();
        let records = region.store.call_list(&CallFilter::default()).await.unwrap();
        let [record] = records.as_slice() else {
            panic!("{} records", records.len());
        };
        assert!(record.answered_at.is_some() && record.closed_at.is_some());
        drop(world);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hangs_up_and_the_record_says_so() {
    let scene = scene().await;
    let mut anna = scene.phone(Transport::Udp, "anna").await;
    let mut ben = scene.phone(Transport::Tls, "ben").await;
    anna.call(&format!("sip:ben@{DOMAIN}")).await;
    let invite = ben.request("INVITE ").await;
    let sdp = ben.sdp();
    ben.answer(&invite, "200 OK", &sdp).await;
    let answered = anna.next_final().await;
    anna.ack(&answered, &target(&answered), 2).await;
    ben.request("ACK ").await;
    let bye = format!(
        "BYE {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK-bye;rport\r\nMax-Forwards: 70\r\n\
         {}\r\n{}\r\n{}\r\nCSeq: 3 BYE\r\nContent-Length: 0\r\n\r\n",
        target(&answered),
        anna.client.local,
        line(&answered, "From"),
        line(&answered, "To"),
        line(&answered, "Call-ID"),
    );
    anna.client.send(bye).await;
    assert!(anna.next_final().await.starts_with("SIP/2.0 200"));
    let bye = ben.request("BYE ").await;
    ben.answer(&bye, "200 OK", "").await;
    for _ in 0..100 {
        if scene.records().await.first().is_some_and(|record| record.closed_at.is_some()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let records = scene.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].cause, Some(Cause::CallerHungUp));
    scene.proxy.shutdown().await;
}

impl Scene {
    async fn add_trunk(&self, transport: &str, port: u16) {
        let account = self.region.store.account_find(DOMAIN).await.unwrap();
        let trunk = NewTrunk {
            name: "carrier".to_owned(),
            send_to: format!("{transport}:localhost:{port}").parse().unwrap(),
            prefixes: Vec::new(),
            asserted: Default::default(),
            accept_from: Vec::new(),
            media: MediaPolicy::Rtp,
            credentials: None,
        };
        self.region.store.trunk_add(account.sid, &trunk).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_hangs_up_on_the_request_fails_the_call_at_once() {
    let scene = scene().await;
    let carrier = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    scene.add_trunk("tcp", carrier.local_addr().unwrap().port()).await;
    let mut anna = scene.phone(Transport::Udp, "anna").await;
    anna.call(&format!("sip:+15551234567@{DOMAIN}")).await;
    let (mut stream, _) = carrier.accept().await.unwrap();
    let mut invite = [0; 2048];
    let length = tokio::io::AsyncReadExt::read(&mut stream, &mut invite).await.unwrap();
    assert!(invite[..length].starts_with(b"INVITE sip:+15551234567@"));
    // It closes without an answer.
    drop((stream, carrier));
    let started = std::time::Instant::now();
    let failed = anna.next_final().await;
    assert!(failed.starts_with("SIP/2.0 5") || failed.starts_with("SIP/2.0 4"), "{failed}");
    assert!(started.elapsed() < std::time::Duration::from_secs(3), "{:?}", started.elapsed());
    scene.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_refuses_the_connection_fails_the_call_at_once() {
    let scene = scene().await;
    // Bound and closed again: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.add_trunk("tcp", closed.port()).await;
    let mut anna = scene.phone(Transport::Udp, "anna").await;
    let started = std::time::Instant::now();
    anna.call(&format!("sip:+15551234567@{DOMAIN}")).await;
    let failed = anna.next_final().await;
    assert!(failed.starts_with("SIP/2.0 5") || failed.starts_with("SIP/2.0 4"), "{failed}");
    assert!(started.elapsed() < std::time::Duration::from_secs(3), "{:?}", started.elapsed());
    scene.proxy.shutdown().await;
}

/// RFC 5923: where the carrier listens nobody could be reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_a_carrier_by_the_connection_that_the_carrier_opened() {
    let scene = scene_of(|world, config| {
        let clients =
            ClientCertificates { authorities: world.authorities.clone(), required: false };
        config.client_tls.as_mut().unwrap().clients = Some(clients);
    })
    .await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    scene.add_trunk("tls", closed).await;
    let tls = scene.proxy.address(Transport::Tls).unwrap();
    let mut anna = scene.phone(Transport::Udp, "anna").await;
    // Before: there is no way to it.
    anna.call(&format!("sip:+15551234567@{DOMAIN}")).await;
    let failed = anna.next_final().await;
    assert!(!failed.starts_with("SIP/2.0 2"), "{failed}");

    let hello = |client: &mut Client| {
        let text = client.text("OPTIONS", "+15551234567", "localhost", "");
        let own = format!("Via: SIP/2.0/TLS {}", client.local);
        let text = text.replace(&own, &format!("Via: SIP/2.0/TLS localhost:{closed}"));
        text.replace(";rport", ";rport;alias")
    };
    // Who cannot prove to be that host is not called for saying so.
    let elsewhere = scene.world.tls_of(&scene.world.issue("another", &["another.test"]));
    let mut pretender = Client::connect(Transport::Tls, tls, &elsewhere).await;
    let text = hello(&mut pretender);
    pretender.send(&text).await;
    assert!(pretender.receive().await.unwrap().starts_with("SIP/2.0 "));
    let own = scene.world.tls_of(&scene.world.issue("carrier", &["localhost"]));
    let mut carrier = Client::connect(Transport::Tls, tls, &own).await;
    let text = hello(&mut carrier);
    carrier.send(&text).await;
    assert!(carrier.receive().await.unwrap().starts_with("SIP/2.0 "));

    let mut ben = scene.phone(Transport::Udp, "ben").await;
    ben.call(&format!("sip:+15551234567@{DOMAIN}")).await;
    let invite = carrier.receive().await.expect("the connection was closed");
    assert!(invite.starts_with("INVITE sip:+15551234567@"), "{invite}");
    assert!(pretender.is_silent().await);
    scene.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_asks_is_shown_who_calls() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let scene = scene_of(|world, config| {
        config.trunk_authorities = Some(world.authorities.clone());
    })
    .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    scene.add_trunk("tls", listener.local_addr().unwrap().port()).await;
    let carrier = scene.world.acceptor(&scene.world.issue("carrier", &["localhost"]));
    let mut anna = scene.phone(Transport::Udp, "anna").await;
    anna.call(&format!("sip:+15551234567@{DOMAIN}")).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = carrier.accept(stream).await.expect("it shows no certificate");
    let own = CertificateDer::from_pem_file(&scene.region.client_tls.certificate).unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], own);
    let mut invite = [0; 2048];
    let length = tokio::io::AsyncReadExt::read(&mut stream, &mut invite).await.unwrap();
    assert!(invite[..length].starts_with(b"INVITE sip:+15551234567@"));
    scene.proxy.shutdown().await;
}
