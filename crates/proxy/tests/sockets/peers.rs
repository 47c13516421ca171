//! Proxies of one region tell each other of their calls: over mutual TLS, each by
//! a certificate of its own name, and without making any call wait.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use landline_call::PeerId;
use landline_call::tenancy::MediaPolicy;
use landline_control::{Framer, RelayId, encode};
use landline_proxy::{
    HostPort, PeerAddress, Proxy, ProxyHandle, RelayAddress, TlsFiles, Transport,
};
use landline_region::{CallSid, RegionCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::calls::{DOMAIN, Phone, target};
use crate::fake_relay::FakeRelay;
use crate::support::{Region, V4, World, metric, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// The words on the wire, as version 1 has them.
#[derive(Serialize, Deserialize)]
enum ToPeer {
    Hello(Greeting),
    Call { number: u64, state: Vec<u8>, record: Vec<Vec<u8>> },
    Gone(CallSid),
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
enum FromPeer {
    Hello(Greeting),
    Ack(u64),
    Pong,
    Carried(Vec<CallSid>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Greeting {
    version: u16,
    region: RegionCode,
    name: String,
    asks: bool,
}

fn greeting(name: &str) -> Greeting {
    Greeting { version: 1, region: "ie1".parse().unwrap(), name: name.to_owned(), asks: false }
}

/// A link to or from a proxy, framed.
struct Link<S> {
    stream: S,
    framer: Framer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn new(stream: S) -> Self {
        Self { stream, framer: Framer::default() }
    }

    async fn say(&mut self, message: impl Serialize) {
        let mut octets = Vec::new();
        encode(&message, &mut octets).unwrap();
        // A link that the other end has closed is looked at by reading.
        let _closed = self.stream.write_all(&octets).await;
    }

    /// `None` once the other end has closed it.
    async fn hear<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.framer.next().unwrap() {
                return Some(message);
            }
            let mut buffer = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("no word") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.framer.push(&buffer[..length]),
            }
        }
    }
}

/// Whether the proxy greets who comes with this certificate and these words.
async fn is_greeted(
    world: &World,
    address: SocketAddr,
    files: Option<&TlsFiles>,
    hello: Greeting,
) -> bool {
    let Some(stream) = world.connect(address, files).await else { return false };
    let mut link = Link::new(stream);
    link.say(ToPeer::Hello(hello)).await;
    matches!(link.hear().await, Some(FromPeer::Hello(theirs)) if theirs.name == "proxy-1")
}

/// The region's proxy-1, which expects proxy-2 at this address.
async fn proxy(
    region: &Region,
    peer: SocketAddr,
    relays: Vec<RelayAddress>,
) -> (ProxyHandle, prometheus::Registry) {
    let mut config = region.config();
    config.peering = Some(SocketAddr::new(V4, 0));
    config.peers =
        vec![PeerAddress { id: PeerId("proxy-2".to_owned()), address: HostPort::from(peer) }];
    config.relays = relays;
    let registry = config.registry.clone();
    (Proxy::start(config).await.unwrap(), registry)
}

fn second(world: &World) -> TlsFiles {
    world.issue("second", &["proxy.ie1.landline.internal", "proxy-2.ie1.landline.internal"])
}

fn nobody() -> SocketAddr {
    SocketAddr::new(V4, 9)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_regions_own_proxies_are_let_in() {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    let (proxy, metrics) = proxy(&region, nobody(), Vec::new()).await;
    let address = proxy.peering_address().unwrap();
    let issue = |stem: &str, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| format!("{name}.landline.internal")).collect();
        world.issue(stem, &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let other = issue("us1-2", &["proxy.us1", "proxy-2.us1"]);
    let relay = issue("relay", &["relay.ie1", "proxy-2.ie1"]);
    let nameless = issue("nameless", &["proxy.ie1"]);
    let unknown = issue("third", &["proxy.ie1", "proxy-3.ie1"]);
    let mixed = issue("mixed", &["proxy.ie1", "proxy.us1", "proxy-2.ie1"]);
    let right = second(&world);
    for (what, files, hello) in [
        ("another region's", &other, greeting("proxy-2")),
        ("a relay", &relay, greeting("proxy-2")),
        ("a proxy without the name", &nameless, greeting("proxy-2")),
        ("one that is not configured", &unknown, greeting("proxy-3")),
        ("one of two regions", &mixed, greeting("proxy-2")),
        ("another name than its own", &unknown, greeting("proxy-2")),
        ("a later version", &right, Greeting { version: 2, ..greeting("proxy-2") }),
        (
            "another region's word",
            &right,
            Greeting { region: "us1".parse().unwrap(), ..greeting("proxy-2") },
        ),
    ] {
        assert!(!is_greeted(&world, address, Some(files), hello).await, "{what}");
    }
    let drops = |cause| metric(&metrics, "sip_drops_total", &[("cause", cause)]);
    until("each is counted", || drops("peer_refused") == 8.0).await;

    assert!(!is_greeted(&world, address, None, greeting("proxy-2")).await, "no certificate");
    let elsewhere = World::new();
    let stranger = second(&elsewhere);
    assert!(!is_greeted(&world, address, Some(&stranger), greeting("proxy-2")).await);
    until("each is counted", || drops("handshake_failed") == 2.0).await;

    assert!(is_greeted(&world, address, Some(&right), greeting("proxy-2")).await);
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_a_link_and_nothing_else() {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    let (proxy, metrics) = proxy(&region, nobody(), Vec::new()).await;
    let (address, files) = (proxy.peering_address().unwrap(), second(&world));
    let call = |state: Vec<u8>| {
        let mut octets = Vec::new();
        encode(&ToPeer::Call { number: 1, state, record: Vec::new() }, &mut octets).unwrap();
        octets
    };
    let nonsense = [
        vec![0xff; 64],
        vec![0x7f, 0xff, 0xff, 0xff, 0],
        vec![0, 0, 0, 1, 99],
        call(Vec::new()),
        call(vec![0; 40_000]),
        call(vec![1; 20]),
    ];
    for octets in &nonsense {
        let mut link = Link::new(world.connect(address, Some(&files)).await.unwrap());
        link.say(ToPeer::Hello(greeting("proxy-2"))).await;
        assert!(matches!(link.hear().await, Some(FromPeer::Hello(_))));
        link.stream.write_all(octets).await.unwrap();
        while let Some(message) = link.hear::<FromPeer>().await {
            assert!(matches!(message, FromPeer::Pong | FromPeer::Ack(_)), "{message:?}");
        }
    }
    let refused = || metric(&metrics, "sip_drops_total", &[("cause", "peer_refused")]);
    until("each is counted", || refused() == nonsense.len() as f64).await;
    let mut link = Link::new(world.connect(address, Some(&files)).await.unwrap());
    link.say(ToPeer::Hello(greeting("proxy-2"))).await;
    assert!(matches!(link.hear().await, Some(FromPeer::Hello(_))));
    link.say(ToPeer::Ping).await;
    assert!(matches!(link.hear().await, Some(FromPeer::Pong)));
    assert_eq!(metric(&metrics, "replicas", &[]), 0.0);
    proxy.shutdown().await;
}

/// Answers the INVITE that ben has got, as it rings for anna.
async fn answered(anna: &mut Phone, ben: &mut Phone) -> (String, Duration) {
    anna.call(&format!("sip:ben@{DOMAIN}")).await;
    let invite = ben.request("INVITE ").await;
    let sdp = ben.sdp();
    let since = Instant::now();
    ben.answer(&invite, "200 OK", &sdp).await;
    let answered = anna.next_final().await;
    assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
    (answered, since.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_told_of_a_call_before_its_caller_and_makes_nobody_wait() {
    let world = World::new();
    let region = world.region("ie1", DOMAIN).await;
    for user in ["anna", "ben"] {
        region.add_user_with(DOMAIN, user, MediaPolicy::Rtp).await;
    }
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let control = HostPort::from(relay.address());
    tokio::spawn(relay.serve());
    // Accepts as a peer does; what it speaks here is the peers' own language.
    let peer = FakeRelay::new(&world, &second(&world)).await;
    let relays = vec![RelayAddress { id: RelayId("relay-1".to_owned()), control }];
    let starting = async { proxy(&region, peer.address(), relays).await };
    let answering = async {
        // First it asks what became of its calls.
        let (stream, _) = peer.listener.accept().await.unwrap();
        let mut link = Link::new(peer.acceptor.accept(stream).await.unwrap());
        let Some(ToPeer::Hello(hello)) = link.hear().await else { panic!("no greeting") };
        assert!(hello.asks);
        link.say(FromPeer::Hello(greeting("proxy-2"))).await;
        link.say(FromPeer::Carried(Vec::new())).await;
        link
    };
    let ((proxy, metrics), _asked) = tokio::join!(starting, answering);
    until("the relay is there", || proxy.status().relays_connected == 1).await;
    let address = proxy.address(Transport::Udp).unwrap();
    let tls = world.client_tls();
    let mut anna = Phone::start(Transport::Udp, address, &tls, "anna").await;
    let mut ben = Phone::start(Transport::Udp, address, &tls, "ben").await;
    let (stream, _) = peer.listener.accept().await.unwrap();
    let mut link = Link::new(peer.acceptor.accept(stream).await.unwrap());
    let Some(ToPeer::Hello(hello)) = link.hear().await else { panic!("no greeting") };
    assert_eq!((hello.name.as_str(), hello.asks), ("proxy-1", false));
    link.say(FromPeer::Hello(greeting("proxy-2"))).await;
    until("the peer is there", || metric(&metrics, "peers_connected", &[]) == 1.0).await;

    // It says nothing: the caller waits a moment and no longer.
    let (first, waited) = answered(&mut anna, &mut ben).await;
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    let late = || metric(&metrics, "replication_faults_total", &[("kind", "late")]);
    until("it is counted", || late() == 1.0).await;
    let alone = || metric(&metrics, "calls_not_replicated", &[]);
    until("the call is known to be alone", || alone() == 1.0).await;
    anna.ack(&first, &target(&first), 2).await;
    let number = loop {
        match link.hear().await.expect("the link stands") {
            ToPeer::Call { number, state, record } => {
                assert!(!state.is_empty() && record.len() >= 3, "the record from its beginning");
                break number;
            }
            ToPeer::Ping => link.say(FromPeer::Pong).await,
            ToPeer::Hello(_) | ToPeer::Gone(_) => panic!("no call yet"),
        }
    };
    link.say(FromPeer::Ack(number)).await;
    until("the call is held", || alone() == 0.0).await;

    // Nor does one that is gone.
    drop(link);
    drop(peer);
    until("the peer is gone", || metric(&metrics, "peers_connected", &[]) == 0.0).await;
    until("the call is alone again", || alone() == 1.0).await;
    assert_eq!(late(), 1.0);
    proxy.shutdown().await;
}
