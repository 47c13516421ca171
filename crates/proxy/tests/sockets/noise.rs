//! What is no SIP, too much of it, or too slow: answered or closed, counted.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landline_proxy::{Limits, Proxy, ProxyHandle, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Client, World, metric, until};

const STREAMS: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

struct Scene {
    world: World,
    proxy: ProxyHandle,
    registry: prometheus::Registry,
}

impl Scene {
    async fn new(limits: Limits) -> Self {
        let world = World::new();
        let region = world.region("ie1", "acme.test").await;
        let mut config = region.config();
        config.limits = limits;
        let registry = config.registry.clone();
        let proxy = Proxy::start(config).await.unwrap();
        Self { world, proxy, registry }
    }

    async fn connect(&self, transport: Transport) -> Client {
        let address = self.proxy.address(transport).unwrap();
        Client::connect(transport, address, &self.world.client_tls()).await
    }

    fn drops(&self, cause: &str) -> f64 {
        metric(&self.registry, "sip_drops_total", &[("cause", cause)])
    }

    /// Whether the proxy still serves.
    async fn serves(&self) {
        let response = self.connect(Transport::Udp).await.register("alice", "acme.test", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{response}");
    }
}

fn quick() -> Limits {
    Limits { shutdown: Duration::from_millis(300), ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_crlf_is_answered_with_one() {
    let scene = Scene::new(quick()).await;
    for transport in [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
        let mut phone = scene.connect(transport).await;
        phone.send("\r\n\r\n").await;
        assert_eq!(phone.receive().await.as_deref(), Some("\r\n"), "{transport}");
        let response = phone.register("alice", "acme.test", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{transport}: {response}");
    }
    let mut phone = scene.connect(Transport::Udp).await;
    phone.send("\r\n\r\n").await;
    assert!(phone.is_silent().await);
    until("the keep-alive is counted", || scene.drops("udp_keep_alive") == 1.0).await;
}

/// RFC 5626 §4.4.2: a client on UDP hears by STUN that its way in is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_udp_is_told_where_it_is_seen() {
    let scene = Scene::new(quick()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let proxy = scene.proxy.address(Transport::Udp).unwrap();
    let request = b"\0\x01\0\0\x21\x12\xa4\x42transaction1";
    socket.send_to(request, proxy).unwrap();
    let mut answer = [0; 64];
    let (length, _) = tokio::task::block_in_place(|| socket.recv_from(&mut answer)).unwrap();
    assert_eq!((length, &answer[..4], &answer[8..20]), (32, &[1, 1, 0, 12][..], &request[8..]));
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!(port, socket.local_addr().unwrap().port());
    // Nothing but a question is answered.
    socket.send_to(&answer[..length], proxy).unwrap();
    until("it is counted", || scene.drops("udp_noise") == 1.0).await;
    assert_eq!(metric(&scene.registry, "stun_answered_total", &[]), 1.0);
    scene.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_a_connection_and_harms_nobody() {
    let scene = Scene::new(quick()).await;
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut stranger = scene.connect(transport).await;
        stranger.send([0x16, 3, 1, 0, 0xff, 0, 0x80, 0xff, b'\r', b'\n', b'\r', b'\n']).await;
        while stranger.receive().await.is_some() {}
    }
    until("both are counted", || scene.drops("framing") == 2.0).await;
    let mut stranger = scene.connect(Transport::Udp).await;
    for garbage in [&[0xff, 0xfe, 0][..], b"\x80\0\0\x01abc", &[0; 1200]] {
        stranger.send(garbage).await;
    }
    until("noise is counted", || {
        scene.drops("udp_noise") == 2.0 && scene.drops("udp_keep_alive") == 1.0
    })
    .await;
    for transport in [Transport::Ws, Transport::Wss] {
        let mut stranger = scene.connect(transport).await;
        stranger.send("no SIP at all").await;
        stranger.send([0xff, 0xfe, 0xfd]).await;
        let response = stranger.register("alice", "acme.test", 300).await;
        assert!(response.starts_with("SIP/2.0 200"), "{transport}: {response}");
    }
    scene.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_answered_400() {
    let scene = Scene::new(quick()).await;
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws] {
        let mut phone = scene.connect(transport).await;
        let text = phone.text("OPTIONS", "alice", "acme.test", "");
        let without = text.replace("CSeq: ", "CSeq: nonsense ");
        phone.send(without).await;
        let response = phone.receive().await.unwrap();
        assert!(response.starts_with("SIP/2.0 400"), "{transport}: {response}");
    }
    until("they are counted", || metric(&scene.registry, "sip_parse_errors_total", &[]) >= 4.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_or_ends_the_connection() {
    let scene = Scene::new(quick()).await;
    for transport in STREAMS {
        let mut phone = scene.connect(transport).await;
        let padding = format!("Subject: {}\r\n", "x".repeat(100 * 1024));
        let text = phone.text("OPTIONS", "alice", "acme.test", &padding);
        phone.send(text).await;
        let answer = phone.receive().await;
        let fits = answer.as_ref().is_none_or(|answer| answer.starts_with("SIP/2.0 "));
        assert!(fits, "{transport}: {answer:?}");
    }
    until("all are counted", || scene.drops("framing") + scene.drops("oversize") == 4.0).await;
    let mut phone = scene.connect(Transport::Udp).await;
    let padding = format!("Subject: {}\r\n", "x".repeat(60 * 1024));
    let text = phone.text("OPTIONS", "alice", "acme.test", &padding);
    phone.send(text).await;
    let answer = phone.receive().await.unwrap();
    assert!(answer.starts_with("SIP/2.0 4") || answer.starts_with("SIP/2.0 5"), "{answer}");
    scene.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_a_message_is_closed() {
    let limits = Limits {
        handshake: Duration::from_millis(300),
        first_message: Duration::from_millis(300),
        whole_message: Duration::from_millis(300),
        ..quick()
    };
    let scene = Scene::new(limits).await;
    let mut silent = scene.connect(Transport::Tcp).await;
    // Keep-alives alone do not make a client.
    silent.send("\r\n\r\n").await;
    assert_eq!(silent.receive().await.as_deref(), Some("\r\n"));
    assert_eq!(silent.receive().await, None);
    assert_eq!(scene.drops("silent_connection"), 1.0);

    let mut slow = scene.connect(Transport::Tls).await;
    assert!(slow.request("OPTIONS", "alice", "acme.test", "").await.starts_with("SIP/2.0 "));
    slow.send("OPTIONS sip:acme.test SIP/2.0\r\nVia: ").await;
    assert_eq!(slow.receive().await, None);
    assert_eq!(scene.drops("unfinished_message"), 1.0);

    let tls = scene.proxy.address(Transport::Tls).unwrap();
    let mut no_handshake = TcpStream::connect(tls).await.unwrap();
    assert_eq!(no_handshake.read(&mut [0; 16]).await.unwrap_or(0), 0);
    until("the handshake is counted", || scene.drops("handshake_timeout") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_hold_so_many_connections_and_no_more() {
    let limits = Limits { connections_per_source: 3, ..quick() };
    let scene = Scene::new(limits).await;
    let address = scene.proxy.address(Transport::Tcp).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut phone = scene.connect(Transport::Tcp).await;
        phone.send("\r\n\r\n").await;
        assert!(phone.receive().await.is_some());
        held.push(phone);
    }
    let mut fourth = TcpStream::connect(address).await.unwrap();
    assert_eq!(fourth.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(scene.drops("source_limit"), 1.0);
    held.pop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = scene.connect(Transport::Tcp).await;
    again.send("\r\n\r\n").await;
    assert!(again.receive().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed() {
    let limits =
        Limits { write: Duration::from_millis(500), write_queue_octets: 64 * 1024, ..quick() };
    let scene = Scene::new(limits).await;
    let address = scene.proxy.address(Transport::Tcp).unwrap();
    let mut deaf = TcpStream::connect(address).await.unwrap();
    let mut teller = scene.connect(Transport::Tcp).await;
    let flood = async {
        loop {
            let text = teller.text("OPTIONS", "alice", "acme.test", "");
            if deaf.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flood).await.expect("it was never closed");
    assert!(scene.drops("slow_reader") >= 1.0);
    // New requests may be refused until the flood has been worked off.
    let mut phone = scene.connect(Transport::Udp).await;
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while !phone.request("REGISTER", "alice", "acme.test", "").await.contains(" 401 ") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    patience.await.expect("it serves no more");
    scene.serves().await;
}

/// A WebSocket handshake (RFC 6455 §4.1), with such header lines besides.
fn handshake(address: SocketAddr, subprotocol: &str, more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_without_the_sip_subprotocol_is_refused() {
    let scene = Scene::new(quick()).await;
    let address = scene.proxy.address(Transport::Ws).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = handshake(address, "chat", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    until("it is counted", || scene.drops("wrong_subprotocol") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_websocket_is_pinged_and_one_that_never_answers_is_closed() {
    let limits = Limits { ping: Duration::from_millis(200), ..Limits::default() };
    let scene = Scene::new(limits).await;
    let address = scene.proxy.address(Transport::Ws).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = handshake(address, "sip", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // Until it is closed: who reads and says nothing is gone.
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut heard))
        .await
        .expect("it was never closed")
        .unwrap();
    let pings = heard.windows(2).filter(|frame| *frame == [0x89, 0]).count();
    assert_eq!(pings, 3, "{heard:02x?}");
    until("it is counted", || scene.drops("vanished") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_frames_end_their_own_websocket_and_nothing_else() {
    let scene = Scene::new(quick()).await;
    let address = scene.proxy.address(Transport::Ws).unwrap();
    let long = [&b"\x89\xfe\0\x7e\0\0\0\0"[..], &[0; 126]].concat();
    let frames: [(&str, &[u8]); 9] = [
        ("not masked", b"\x81\x02hi"),
        ("a reserved bit", b"\xc1\x80\0\0\0\0"),
        ("a reserved opcode", b"\x83\x80\0\0\0\0"),
        ("a ping that is too long", &long),
        ("a ping in fragments", b"\x09\x80\0\0\0\0"),
        ("a rest without a beginning", b"\x80\x80\0\0\0\0"),
        ("a beginning within a message", b"\x01\x80\0\0\0\0\x01\x80\0\0\0\0"),
        ("text that is no UTF-8", b"\x81\x82\0\0\0\0\xff\xfe"),
        ("sixteen exabytes", b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
    ];
    for (nth, (what, frame)) in frames.into_iter().enumerate() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = handshake(address, "sip", "");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        stream.write_all(frame).await.unwrap();
        let mut heard = Vec::new();
        let end = stream.read_to_end(&mut heard);
        let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
        assert!(ended.is_ok(), "{what}: it was never closed");
        until(&format!("{what} is counted"), || {
            scene.drops("framing") + scene.drops("oversize") == (nth + 1) as f64
        })
        .await;
    }
    scene.serves().await;
}

const CROWD: &str = "LANDLINE_TEST_CROWD";
const CROWD_SIZE: usize = 10_000;

/// The other end of the next test, which starts it in a process of its own: both
/// ends together are more files than one may have open. Alone it greets nobody.
#[test]
fn a_crowd_that_says_hello_and_nothing_more() {
    use std::io::{Read, Write};
    let Ok(address) = std::env::var(CROWD) else { return };
    let address: SocketAddr = address.parse().unwrap();
    let request = handshake(address, "sip", "");
    let mut crowd = Vec::with_capacity(CROWD_SIZE);
    for _ in 0..CROWD_SIZE {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        crowd.push(stream);
    }
    // Until the test ends this process, or is no more.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Of this process, in octets.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_take_little_and_the_next_is_served() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if limit.is_some_and(|most| most < CROWD_SIZE as u64 + 500) {
        eprintln!("skipped: no process may have {CROWD_SIZE} files open here");
        return;
    }
    let most = rustix::process::Rlimit { current: limit, maximum: limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        connections_per_source: CROWD_SIZE,
        connections: CROWD_SIZE + 1,
        first_message: hour,
        ping: hour,
        ..quick()
    };
    let scene = Scene::new(limits).await;
    scene.serves().await;
    let before = resident();
    let address = scene.proxy.address(Transport::Ws).unwrap();
    let mut crowd = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "noise::a_crowd_that_says_hello_and_nothing_more"])
        .env(CROWD, address.to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let open = || metric(&scene.registry, "sip_connections", &[("transport", "ws")]);
    let patience = std::time::Instant::now() + Duration::from_secs(120);
    while open() < CROWD_SIZE as f64 {
        assert!(crowd.try_wait().unwrap().is_none(), "only {} came", open());
        assert!(std::time::Instant::now() < patience, "only {} came", open());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let each = resident().saturating_sub(before) / CROWD_SIZE;
    assert!(each < 32 * 1024, "an idle connection takes {each} octets");
    scene.serves().await;
    // From another address: the one more that all together may be.
    let next = tokio::net::TcpSocket::new_v4().unwrap();
    next.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut next = next.connect(address).await.unwrap();
    next.write_all(handshake(address, "sip", "").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    next.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    // And one too many.
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
    // They vanish at one time.
    crowd.kill().unwrap();
    crowd.wait().unwrap();
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while open() > 1.0 {
        assert!(std::time::Instant::now() < patience, "{} are left", open());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.serves().await;
}

/// The scene lets in pages of `https://phone.test`.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_opens_no_websocket() {
    let scene = Scene::new(quick()).await;
    let address = scene.proxy.address(Transport::Ws).unwrap();
    let opened = async |origin: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = handshake(address, "sip", origin);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    assert_eq!(opened("Origin: https://phone.test\r\n").await, "HTTP/1.1 101");
    assert_eq!(opened("").await, "HTTP/1.1 101");
    for other in ["https://phone.test.evil.test", "http://phone.test", "null"] {
        let header = format!("Origin: {other}\r\n");
        assert_eq!(opened(&header).await, "HTTP/1.1 403", "{other}");
    }
    until("they are counted", || scene.drops("wrong_origin") == 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_in_part_and_the_proxy_serves_as_before_when_it_is_over() {
    let limits = Limits { longest_wait: Duration::from_millis(10), ..quick() };
    let scene = Scene::new(limits).await;
    let refused = || metric(&scene.registry, "refused_part", &[]);
    let shed = || metric(&scene.registry, "sip_events_total", &[("event", "shed")]);
    let address = scene.proxy.address(Transport::Udp).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    // More than any proxy reads: its socket's buffer stays full.
    let floods: Vec<_> = (0..2).map(|from| flood(address, from, Arc::clone(&stop))).collect();
    until("a part of the flood is refused", || refused() > 0.0 && shed() > 100.0).await;
    // Who is refused hears so, and when to come back.
    until("the stranger is refused", || stranger_is_refused(address)).await;
    stop.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    until("nothing is refused any more", || refused() == 0.0).await;
    scene.serves().await;
}

fn flood(address: SocketAddr, from: usize, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let _full = socket.send_to(invite(from, number).as_bytes(), address);
        }
    })
}

fn stranger_is_refused(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let number = usize::from(socket.local_addr().unwrap().port());
    socket.send_to(invite(9, number).as_bytes(), address).unwrap();
    let mut buffer = [0; 2000];
    let Ok(length) = socket.recv(&mut buffer) else { return false };
    let answer = String::from_utf8_lossy(&buffer[..length]);
    answer.starts_with("SIP/2.0 503") && answer.contains("\r\nRetry-After: ")
}

fn invite(from: usize, number: usize) -> String {
    format!(
        "INVITE sip:bob@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{from}x{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:eve@acme.test>;tag={number}\r\nTo: <sip:bob@acme.test>\r\n\
         Call-ID: {from}-{number}@flood\r\nCSeq: 1 INVITE\r\nContact: <sip:eve@127.0.0.1>\r\nContent-Length: 0\r\n\r\n"
    )
}
