//! The same from either way in which packets come from the kernel and go to it.

use std::net::UdpSocket;
use std::time::Duration;

use landline_control::{DtlsRole, Op, Protocol};
use landline_media::{Component, RtpInfo};
use landline_relay::{Engine, Relay, RelayConfig, StartError};

use crate::support::proxy::describe;
use crate::support::{
    A, Authority, B, Phone, Proxy, TestRelay, config, free_ports, local, relay_with, rtcp, rtp,
    spec, until,
};

/// Those that the machine has.
async fn engines() -> Vec<Engine> {
    let mut engines = vec![Engine::Epoll];
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&Authority::new(), directory.path());
    config.engine = Engine::IoUring;
    match Relay::start(config).await {
        Ok(_) => engines.push(Engine::IoUring),
        Err(error @ StartError::Engine(_)) => eprintln!("without io_uring: {error}"),
        Err(error) => panic!("{error}"),
    }
    engines
}
const ROLE: DtlsRole = DtlsRole::Server;

async fn relay_by(engine: Engine, change: impl FnOnce(&mut RelayConfig)) -> TestRelay {
    relay_with(|config| {
        config.engine = engine;
        config.shards = Some(1);
        change(config);
    })
    .await
}

/// Two phones that are joined.
async fn join(proxy: &mut Proxy, session: u64, protocols: [Protocol; 2]) -> [Phone; 2] {
    let locals = proxy.opened(session, &[(A, spec(protocols[0])), (B, spec(protocols[1]))]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let (mut a, mut b) = (Phone::new(protocols[0]).await, Phone::new(protocols[1]).await);
    let (of_a, of_b) = (a.describe(&at_a, ROLE), b.describe(&at_b, ROLE));
    proxy.changed(session, vec![describe(A, of_a), describe(B, of_b), Op::Join(A, B)]).await;
    a.learn(&at_a, ROLE).await;
    b.learn(&at_b, ROLE).await;
    a.connect().await;
    b.connect().await;
    [a, b]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_says_which_it_is_and_counts_what_it_carries() {
    for engine in engines().await {
        let relay = relay_by(engine, |_| {}).await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        for (session, protocols) in
            [(1, [Protocol::Rtp, Protocol::Sdes]), (2, [Protocol::Dtls, Protocol::Rtp])]
        {
            let [mut a, mut b] = join(&mut proxy, session, protocols).await;
            for n in 1..30 {
                a.say(Component::Rtp, &rtp(0xa, n)).await;
                assert_eq!(b.hear().await.packet, rtp(0xa, n));
                b.say(Component::Rtcp, &rtcp(0xb, u32::from(n))).await;
                assert_eq!(a.hear().await.packet, rtcp(0xb, u32::from(n)));
            }
        }
        assert_eq!(relay.metric("engine", Some(engine.name())), 1.0);
        assert_eq!(relay.metric("engine", None), 1.0);
        relay.metric_reaches("packets_total", Some("sent"), 4.0 * 29.0).await;
        assert_eq!(relay.metric("drops_total", Some("send_failed")), 0.0, "{engine:?}");
        assert_eq!(relay.metric("drops_total", Some("receive_failed")), 0.0, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ports_end_is_its_end() {
    for engine in engines().await {
        let relay = relay_by(engine, |config| {
            let first = *free_ports().start();
            config.ports = first..=first + 1;
            config.port_quarantine = Duration::ZERO;
        })
        .await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        for session in 1..30 {
            let locals = proxy.opened(session, &[(A, spec(Protocol::Rtp))]).await;
            let at = local(&locals, A);
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            stranger.send_to(&rtp(1, 1), at.rtp).unwrap();
            proxy.close(session).await;
            // Nobody is there any more, and somebody else may be.
            until(|| UdpSocket::bind(at.rtp).is_ok() && UdpSocket::bind(at.rtcp).is_ok()).await;
        }
        assert_eq!(relay.handle.sessions(), 0);
    }
}

/// More than there are buffers, to one port while another call goes on.
#[tokio::test(flavor = "multi_thread")]
async fn who_floods_a_port_keeps_nobody_else_from_being_heard() {
    for engine in engines().await {
        let relay = relay_by(engine, |_| {}).await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let [mut a, mut b] = join(&mut proxy, 1, [Protocol::Sdes, Protocol::Rtp]).await;
        let flooded = proxy.opened(2, &[(A, spec(Protocol::Sdes))]).await;
        let target = local(&flooded, A).rtp;
        let flood = std::thread::spawn(move || {
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            for n in 0..60_000u16 {
                let _ = stranger.send_to(&rtp(2, n), target);
            }
        });
        let mut heard = Vec::new();
        let mut said = 0;
        while said < 100 || !flood.is_finished() {
            said += 1;
            a.say(Component::Rtp, &rtp(0xa, said)).await;
            heard.push(RtpInfo::parse(&b.hear().await.packet).unwrap().sequence);
        }
        flood.join().unwrap();
        assert_eq!(heard, (1..=said).collect::<Vec<_>>(), "{engine:?}");
        relay.metric_reaches("packets_total", Some("received"), 1_500.0).await;
        // The flooded port itself is heard again, once the flood is gone.
        let mut before = -1.0;
        while before != relay.metric("packets_total", Some("received")) {
            before = relay.metric("packets_total", Some("received"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let received = relay.metric("packets_total", Some("received"));
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        until(|| {
            stranger.send_to(&rtp(2, 1), target).unwrap();
            relay.metric("packets_total", Some("received")) > received
        })
        .await;
    }
}

/// As many as wait where a shard was busy with something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_to_many_ports_is_taken_whole() {
    for engine in engines().await {
        let relay = relay_by(engine, |_| {}).await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let mut targets = Vec::new();
        for session in 1..=40 {
            let locals = proxy.opened(session, &[(A, spec(Protocol::Rtp))]).await;
            targets.push(local(&locals, A).rtp);
        }
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..50 {
            for target in &targets {
                stranger.send_to(&rtp(3, n), *target).unwrap();
            }
        }
        relay.metric_reaches("packets_total", Some("received"), 2_000.0).await;
        assert_eq!(relay.metric("packets_total", Some("received")), 2_000.0, "{engine:?}");
    }
}
