//! Every case of RFC 4475, octet for octet, by UDP: what its section 3 asks
//! for, from a server that wants to know first who asks (RFC 3261 §8.2).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use landline_proxy::{Limits, Proxy, ProxyHandle, Transport};
use landline_sip::Method;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{Client, PASSWORD, PATIENCE, World, credentials};

/// A file of `testdata/sip/torture`, and the status that it gets; 0 is none.
/// Section and meaning of each stand in `landline-sip`'s test of the same name.
const ANSWERS: [(&str, u16); 49] = [
    ("odd-white-space", 481),
    ("wide-character-range", 407),
    ("percent-escapes", 404),
    ("escaped-null", 401),
    ("percent-that-escapes-nothing", 407),
    ("no-space-after-display", 407),
    ("long-values", 407),
    ("trailing-octets", 401),
    ("semicolon-in-user", 407),
    ("unknown-transports", 407),
    ("multipart-binary", 407),
    ("utf8-reason", 0),
    ("empty-reason", 0),
    ("extra-separators", 400),
    ("length-too-large", 400),
    ("negative-length", 400),
    ("overlarge-scalars-request", 400),
    ("overlarge-scalars-response", 0),
    ("open-quote", 400),
    ("brackets-around-uri", 400),
    ("space-in-uri", 400),
    ("spaces-in-start-line", 400),
    ("trailing-space-start-line", 400),
    ("headers-in-request-uri", 400),
    ("date-not-gmt", 400),
    ("bare-contact-with-headers", 400),
    ("space-inside-brackets", 400),
    ("unquoted-display", 400),
    ("unknown-version", 505),
    ("cseq-method-differs", 400),
    ("cseq-method-differs-unknown", 400),
    ("overlarge-status", 0),
    ("bare-cookie-branch", 407),
    ("headers-missing", 400),
    ("unknown-scheme-opaque", 416),
    ("unknown-scheme-hierarchical", 416),
    ("unknown-schemes-in-headers", 401),
    ("unknown-extensions-required", 407),
    ("unknown-content-type", 407),
    ("unknown-auth-scheme", 401),
    ("single-headers-repeated", 400),
    ("two-lengths", 400),
    ("broadcast-response", 0),
    ("zero-hops", 407),
    ("contact-header-param", 401),
    ("contact-uri-param", 401),
    ("contact-with-escaped-headers", 401),
    ("accept-without-sdp", 407),
    ("rfc2543-invite", 407),
];

struct Scene {
    world: World,
    proxy: ProxyHandle,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let region = world.region("ie1", "landline.example").await;
        let mut config = region.config();
        config.limits = Limits { shutdown: Duration::from_millis(300), ..Limits::default() };
        let proxy = Proxy::start(config).await.unwrap();
        Self { world, proxy }
    }

    /// Sends from an address of its own: the messages name no port and no
    /// `rport`, so that answers go to port 5060 of where they came from (RFC 3261
    /// §18.2.2).
    async fn sender(&self, number: u8) -> UdpSocket {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let own = SocketAddr::new(Ipv4Addr::new(127, 100 + number, high, low).into(), 5060);
        let socket = UdpSocket::bind(own).await.unwrap();
        socket.connect(self.proxy.address(Transport::Udp).unwrap()).await.unwrap();
        socket
    }

    async fn serves(&self) {
        let udp = self.proxy.address(Transport::Udp).unwrap();
        let mut phone = Client::connect(Transport::Udp, udp, &self.world.client_tls()).await;
        let response = phone.register("alice", "landline.example", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{response}");
    }
}

fn octets(name: &str) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sip/torture");
    std::fs::read(directory.join(format!("{name}.sip"))).unwrap()
}

async fn answer(socket: &UdpSocket, patience: Duration) -> Option<String> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = timeout(patience, socket.recv(&mut buffer)).await.ok()?.unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !text.starts_with("SIP/2.0 1") {
            return Some(text);
        }
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_torture_message_gets_its_answer_on_the_wire() {
    let scene = Scene::new().await;
    let mut wrong = Vec::new();
    for (number, (name, expected)) in ANSWERS.into_iter().enumerate() {
        let socket = scene.sender(number as u8).await;
        socket.send(&octets(name)).await.unwrap();
        let patience = if expected == 0 { Duration::from_millis(200) } else { PATIENCE };
        let got = answer(&socket, patience).await.map_or(0, |it| status(&it));
        if got != expected {
            wrong.push((name, expected, got));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    scene.serves().await;
}

/// What is asked only of who may call: method, hops, extensions, and a body
/// that is understood.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_of_ours_sends_is_refused_for_what_is_wrong_with_it() {
    let scene = Scene::new().await;
    for (number, (name, expected, says)) in [
        ("unknown-extensions-required", 420, "Unsupported: "),
        ("unknown-content-type", 415, "Accept: application/sdp"),
        ("wide-character-range", 405, "Allow: "),
        ("accept-without-sdp", 406, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = scene.sender(100 + number as u8).await;
        let text = octets(name);
        let asked = from_alice(&text, "");
        socket.send(&asked).await.unwrap();
        let challenge = answer(&socket, PATIENCE).await.unwrap();
        assert_eq!(status(&challenge), 407, "{name}: {challenge}");
        let line = String::from_utf8_lossy(&text);
        let mut words = line.split(' ');
        let (method, uri) = (words.next().unwrap(), words.next().unwrap());
        let method = Method::parse(method).unwrap();
        let proof = credentials(&challenge, &method, uri, "alice", "landline.example", PASSWORD);
        socket.send(&from_alice(&text, &proof)).await.unwrap();
        let refused = loop {
            let next = answer(&socket, PATIENCE).await.unwrap();
            if status(&next) != 407 {
                break next;
            }
        };
        assert!(
            (status(&refused), refused.contains(says)) == (expected, true),
            "{name}: {refused}"
        );
    }
}

/// The same with alice as its sender, another transaction, and her proof.
fn from_alice(octets: &[u8], proof: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(octets);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let line = |line: &str| {
        let name = line.split(':').next().unwrap().trim().to_ascii_lowercase();
        match name.as_str() {
            "from" | "f" => "From: <sip:alice@landline.example>;tag=9".to_owned(),
            "via" | "v" => {
                line.replace("branch=z9hG4bK", &format!("branch=z9hG4bK{}", proof.len()))
            }
            _ => line.to_owned(),
        }
    };
    let head: Vec<_> = head.split("\r\n").map(line).collect();
    format!("{}\r\n{proof}\r\n{body}", head.join("\r\n")).into_bytes()
}
