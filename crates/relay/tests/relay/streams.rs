//! Connections for media (RFC 6544): who cannot send by UDP is heard, and nobody
//! gets more than a moment who is not a leg's peer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::browser::{check, described};
use crate::support::proxy::describe;
use crate::support::{
    A, B, PATIENCE, Phone, Proxy, TestRelay, local, relay_with, rtp, spec, until,
};
use landline_control::{DtlsRole, IceCredentials, LegLocal, Op, Protocol};
use landline_media::Component;
use landline_media::stun::{BINDING, Class, Message, Writer};
use landline_relay::{MediaAddress, RelayConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// A leg with ICE, joined to a phone.
struct Call {
    relay: TestRelay,
    proxy: Proxy,
    at_a: LegLocal,
    b: Phone,
}

impl Call {
    async fn new() -> Self {
        Self::of(|config| config.stream_port = Some(0)).await
    }

    async fn of(configure: impl FnOnce(&mut RelayConfig)) -> Self {
        let relay = relay_with(configure).await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let mut spec_a = spec(Protocol::Rtp);
        (spec_a.ice, spec_a.rtcp_mux) = (true, true);
        let locals = proxy.opened(1, &[(A, spec_a), (B, spec(Protocol::Rtp))]).await;
        assert_eq!(proxy.streams, relay.handle.stream_addrs(), "the proxy is told");
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        let mut b = Phone::new(Protocol::Rtp).await;
        b.learn(&at_b, DtlsRole::Server).await;
        let from_b = b.describe(&at_b, DtlsRole::Server);
        let ops = vec![describe(A, described()), describe(B, from_b), Op::Join(A, B)];
        proxy.changed(1, ops).await;
        Self { relay, proxy, at_a, b }
    }

    fn ice(&self) -> &IceCredentials {
        self.at_a.ice.as_ref().unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.relay.handle.stream_addrs()[0]
    }

    async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address()).await.unwrap())
    }

    /// A connection that proved whose it is, and was nominated.
    async fn connected(&self) -> Connection {
        let mut connection = self.connect().await;
        connection.say(&check(self.ice(), "brow")).await;
        let answer = connection.hear().await.expect("an answer to the check");
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.class, Class::Success);
        assert_eq!(answer.mapped, Some(connection.0.local_addr().unwrap()));
        assert!(answer.is_authentic(&self.ice().pwd));
        connection
    }

    /// Each hears the other, this one by its connection.
    async fn talk(&mut self, connection: &mut Connection, n: u16) {
        connection.say(&rtp(0xa, n)).await;
        assert_eq!(self.b.hear().await.packet, rtp(0xa, n));
        self.b.say(Component::Rtp, &rtp(0xb, n)).await;
        assert_eq!(connection.hear().await, Some(rtp(0xb, n)));
    }

    async fn refused(&self, reason: &str, times: f64) {
        self.relay.metric_reaches("refused_streams_total", Some(reason), times).await;
    }
}

struct Connection(TcpStream);

impl Connection {
    async fn say(&mut self, packet: &[u8]) {
        self.write(&framed(packet)).await;
    }

    async fn write(&mut self, octets: &[u8]) {
        // The relay may have closed it.
        let _ = self.0.write_all(octets).await;
    }

    /// The next packet; `None` once the relay has closed the connection.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let length = self.0.read_u16().await.ok()?;
            let mut packet = vec![0; usize::from(length)];
            self.0.read_exact(&mut packet).await.ok()?;
            Some(packet)
        };
        timeout(PATIENCE, read).await.expect("a packet, or the end")
    }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

#[tokio::test]
async fn a_peer_without_udp_talks_by_its_connection_and_moves_to_udp_and_back() {
    let mut call = Call::new().await;
    let mut connection = call.connected().await;
    for n in 1..20 {
        call.talk(&mut connection, n).await;
    }
    // Cut anywhere, and several at once.
    let several = [framed(&rtp(0xa, 20)), framed(&[]), framed(&rtp(0xa, 21))].concat();
    for part in several.chunks(7) {
        connection.write(part).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(call.b.hear().await.packet, rtp(0xa, 20));
    assert_eq!(call.b.hear().await.packet, rtp(0xa, 21));

    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(&check(call.ice(), "brow"), call.at_a.rtp).await.unwrap();
    let mut buffer = [0; 2048];
    timeout(PATIENCE, udp.recv_from(&mut buffer)).await.expect("an answer").unwrap();
    call.b.say(Component::Rtp, &rtp(0xb, 22)).await;
    let (length, _) = timeout(PATIENCE, udp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], rtp(0xb, 22), "the network lets UDP through again");

    connection.say(&check(call.ice(), "brow")).await;
    connection.hear().await.expect("an answer");
    call.talk(&mut connection, 23).await;
    assert_eq!(call.relay.metric("streams", None), 1.0);

    // The connection breaks: what was proven before serves.
    drop(connection);
    until(|| call.relay.metric("streams", None) == 0.0).await;
    call.b.say(Component::Rtp, &rtp(0xb, 24)).await;
    let (length, _) = timeout(PATIENCE, udp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], rtp(0xb, 24));
    let mut again = call.connected().await;
    call.talk(&mut again, 25).await;
    call.proxy.close(1).await;
    assert_eq!(again.hear().await, None, "it ends with its leg");
    until(|| call.relay.metric("streams", None) == 0.0).await;
    assert_eq!(call.relay.metric("refused_streams_total", None), 0.0);
}

#[tokio::test]
async fn connections_name_the_leg_by_its_credentials_before_and_after_a_restart() {
    let mut call = Call::new().await;
    let former = call.ice().clone();
    let locals = call.proxy.changed(1, vec![Op::Restart(A)]).await;
    let renewed = local(&locals, A).ice.unwrap();
    assert_ne!(renewed, former);
    let mut old = call.connected().await;
    call.talk(&mut old, 1).await;
    call.at_a.ice = Some(renewed);
    let mut new = call.connected().await;
    call.talk(&mut new, 2).await;
}

#[tokio::test]
async fn who_is_no_legs_peer_is_closed_and_counted() {
    let mut call = Call::new().await;
    let ice = call.ice().clone();
    let nobody = IceCredentials { ufrag: "nobody".into(), pwd: ice.pwd.clone() };
    let guess = IceCredentials { ufrag: ice.ufrag.clone(), pwd: "guess".into() };
    let response = Writer::new(Class::Success, BINDING, [7; 12]).integrity(&ice.pwd).finish();
    let other_peer = check(&ice, "somebody");
    let hostile: [(&str, Vec<u8>); 9] = [
        ("not_a_check", b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec()),
        ("not_a_check", vec![0xff; 600]),
        ("not_a_check", framed(&rtp(1, 1))),
        ("not_a_check", framed(&[0; 20])),
        ("not_a_check", framed(&response)),
        ("not_a_check", [&1500_u16.to_be_bytes()[..], &[0; 1400]].concat()),
        ("unknown_leg", framed(&check(&nobody, "brow"))),
        ("unproven", framed(&check(&guess, "brow"))),
        ("unproven", framed(&other_peer)),
    ];
    let mut times = std::collections::BTreeMap::<_, f64>::new();
    for (reason, octets) in hostile {
        let mut connection = call.connect().await;
        connection.write(&octets).await;
        while connection.hear().await.is_some() {}
        *times.entry(reason).or_default() += 1.0;
        call.refused(reason, times[reason]).await;
    }
    let mut gone = call.connect().await;
    gone.write(&[0]).await;
    drop(gone);
    call.refused("gone", 1.0).await;

    // Within a connection that was let in: it ends, and the leg lives.
    let mut connection = call.connected().await;
    call.talk(&mut connection, 1).await;
    connection.write(&[0xff; 64]).await;
    while connection.hear().await.is_some() {}
    call.refused("framing", 1.0).await;
    let mut again = call.connected().await;
    call.talk(&mut again, 2).await;
    // Nor does it keep more than a few of one leg: the longest quiet has to go.
    let mut others = [call.connected().await, call.connected().await, call.connected().await];
    let mut one_more = call.connected().await;
    assert_eq!(again.hear().await, None);
    call.talk(&mut one_more, 3).await;
    assert_eq!(call.relay.metric("streams", None), 4.0);
    // Proof from each makes it the one that is spoken to.
    others[0].say(&check(&ice, "brow")).await;
    others[0].hear().await.expect("an answer");
    call.talk(&mut others[0], 4).await;
}

#[tokio::test]
async fn whoever_comes_while_all_places_are_taken_takes_that_of_the_longest_silent() {
    let mut call = Call::of(|config| {
        config.stream_port = Some(0);
        config.limits.strangers = 4;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(call.connect().await);
    }
    let mut connection = call.connected().await;
    call.talk(&mut connection, 1).await;
    assert_eq!(silent[0].hear().await, None);
    call.refused("too_many", 1.0).await;
    // The others have their time yet.
    silent[3].say(&check(&call.ice().clone(), "brow")).await;
    silent[3].hear().await.expect("an answer");
    call.talk(&mut silent[3], 2).await;
}

#[tokio::test]
async fn one_port_serves_both_families_of_addresses() {
    let media = |bind: &str, advertise: &str| MediaAddress {
        bind: bind.parse().unwrap(),
        advertise: advertise.parse().unwrap(),
    };
    let port = TcpListener::bind("[::]:0").await.unwrap().local_addr().unwrap().port();
    let mut call = Call::of(|config| {
        config.stream_port = Some(port);
        config.media = vec![media("0.0.0.0", "127.0.0.1"), media("::", "::1")];
    })
    .await;
    let addresses = call.relay.handle.stream_addrs().to_vec();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for (n, address) in (1..).zip(addresses) {
        let mut connection = Connection(TcpStream::connect(address).await.unwrap());
        connection.say(&check(&call.ice().clone(), "brow")).await;
        connection.hear().await.expect("an answer to the check");
        call.talk(&mut connection, n).await;
    }
}

#[tokio::test]
async fn strangers_that_say_nothing_are_few_and_soon_gone() {
    let mut call = Call::new().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(call.connect().await);
    }
    call.refused("too_many_from_source", 8.0).await;
    assert_eq!(call.relay.metric("refused_streams_total", Some("too_many_from_source")), 8.0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    call.refused("late", 32.0).await;
    for connection in &mut silent {
        assert_eq!(connection.hear().await, None);
    }
    let mut connection = call.connected().await;
    call.talk(&mut connection, 1).await;
}

#[tokio::test]
async fn a_slow_reader_misses_old_media_and_nobody_waits_for_it() {
    let mut call = Call::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Connection(socket.connect(call.address()).await.unwrap());
    slow.say(&check(call.ice(), "brow")).await;
    slow.hear().await.expect("an answer");
    let long = |n: u16| [rtp(0xb, n), vec![n as u8; 1000]].concat();
    let mut n = 0;
    while call.relay.metric("drops_total", Some("stream_full")) < 200.0 {
        n += 1;
        call.b.say(Component::Rtp, &long(n)).await;
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(n < 20_000, "nothing is ever dropped");
    }
    // Heard all the same, while it does not read.
    slow.say(&rtp(0xa, 1)).await;
    assert_eq!(call.b.hear().await.packet, rtp(0xa, 1));
    // What waits gets too old to be of use.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stalled = n;
    // What it reads in the end are whole packets, in their order, soon the present.
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| *last <= stalled) {
        n += 1;
        call.b.say(Component::Rtp, &long(n)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let packet = slow.hear().await.expect("a packet");
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        assert_eq!(packet, long(number));
        heard.push(number);
    }
    assert!(heard.is_sorted());
    let old = heard.iter().filter(|number| **number <= stalled).count();
    assert!(old < 40, "{old} packets of the past");
}
