//! Who hears whom through a relay, and from which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::support::browser::{Browser, described};
use crate::support::proxy::describe;
use crate::support::{
    A, B, C, Phone, Proxy, TestRelay, local, relay, relay_with, remote, rtcp, rtp, spec,
};
use landline_control::{
    DtlsRole, Event, IpFamily, LegId, LegLocal, MediaFault, Op, Outcome, Protocol, Remote, SdesKey,
    SdesPair, SessionId, SrtpSuite,
};
use landline_media::{Component, DtlsBackend, RtpInfo};
use landline_relay::MediaAddress;
use tokio::net::UdpSocket;
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Two phones joined by session 1.
struct Call {
    relay: TestRelay,
    proxy: Proxy,
    a: Phone,
    b: Phone,
    at_a: LegLocal,
    at_b: LegLocal,
}

async fn call(a: Protocol, b: Protocol, mux: bool) -> Call {
    call_of(a, b, mux, DtlsRole::Server).await
}

async fn call_of(a: Protocol, b: Protocol, mux: bool, relay_role: DtlsRole) -> Call {
    call_by(DtlsBackend::Dimpl, a, b, mux, relay_role).await
}

async fn call_by(
    backend: DtlsBackend,
    a: Protocol,
    b: Protocol,
    mux: bool,
    relay_role: DtlsRole,
) -> Call {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let (mut spec_a, mut spec_b) = (spec(a), spec(b));
    (spec_a.rtcp_mux, spec_b.rtcp_mux) = (mux, mux);
    let locals = proxy.opened(1, &[(A, spec_a), (B, spec_b)]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let host = Ipv4Addr::LOCALHOST.into();
    let make = |protocol| Phone::shaking_hands_by(backend, host, protocol, mux);
    let (mut a, mut b) = (make(a).await, make(b).await);
    proxy
        .changed(
            1,
            vec![
                describe(A, a.describe(&at_a, relay_role)),
                describe(B, b.describe(&at_b, relay_role)),
                Op::Join(A, B),
            ],
        )
        .await;
    a.learn(&at_a, relay_role).await;
    b.learn(&at_b, relay_role).await;
    a.connect().await;
    b.connect().await;
    Call { relay, proxy, a, b, at_a, at_b }
}

impl Call {
    /// Each hears exactly what the other says, from the relay's address.
    async fn talk(&mut self) {
        for n in 1..20 {
            let (from_a, from_b) = (rtp(0xa, n), rtp(0xb, n));
            self.a.say(Component::Rtp, &from_a).await;
            let heard = self.b.hear().await;
            assert_eq!(heard.packet, from_a);
            assert_eq!(heard.from, self.at_b.rtp);
            self.b.say(Component::Rtp, &from_b).await;
            let heard = self.a.hear().await;
            assert_eq!(heard.packet, from_b);
            assert_eq!(heard.from, self.at_a.rtp);
        }
    }

    async fn report(&mut self, by: Component) {
        let (from_a, from_b) = (rtcp(0xa, 1), rtcp(0xb, 1));
        self.a.say(Component::Rtcp, &from_a).await;
        let heard = self.b.hear().await;
        assert_eq!((heard.packet, heard.by), (from_a, by));
        self.b.say(Component::Rtcp, &from_b).await;
        let heard = self.a.hear().await;
        assert_eq!((heard.packet, heard.by), (from_b, by));
        let expected = if by == Component::Rtp { self.at_a.rtp } else { self.at_a.rtcp };
        assert_eq!(heard.from, expected);
    }
}

#[tokio::test]
async fn plain_rtp_passes_unchanged_both_ways_from_the_relays_address() {
    let mut call = call(Protocol::Rtp, Protocol::Rtp, false).await;
    call.talk().await;
    let Outcome::Closed { legs, recording } = call.proxy.close(1).await else { panic!() };
    assert_eq!(recording, None);
    assert_eq!(legs.iter().map(|(leg, _)| *leg).collect::<Vec<_>>(), [A, B]);
    for (_, stats) in &legs {
        assert_eq!((stats.received.packets, stats.sent.packets), (19, 19));
        assert_eq!(stats.received.lost, 0);
    }
    assert_eq!(call.relay.metric("packets_total", Some("received")), 38.0);
    assert_eq!(call.relay.metric("packets_total", Some("sent")), 38.0);
    assert_eq!(call.relay.metric("sessions", None), 0.0);
    assert_eq!(call.relay.metric("legs", None), 0.0);
}

#[tokio::test]
async fn rtp_and_sdes_hear_each_other() {
    call(Protocol::Rtp, Protocol::Sdes, false).await.talk().await;
}

/// An SDES phone that is webrtc-srtp, and a plain one on the other side.
struct Oracle {
    socket: UdpSocket,
    at_a: LegLocal,
    described: Remote,
    theirs: webrtc_srtp::context::Context,
    ours: webrtc_srtp::context::Context,
    b: Phone,
    from_b: Remote,
}

impl Oracle {
    async fn facing_plain(proxy: &mut Proxy, suite: SrtpSuite, profile: ProtectionProfile) -> Self {
        let mut sdes = spec(Protocol::Sdes);
        sdes.suites = vec![suite];
        let locals = proxy.opened(1, &[(A, sdes), (B, spec(Protocol::Rtp))]).await;
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut b = Phone::new(Protocol::Rtp).await;
        b.learn(&at_b, DtlsRole::Server).await;
        let send = at_a.sdes[0].clone();
        let key_and_salt: Vec<u8> = (0..suite.key_and_salt_len() as u8).collect();
        let receive = SdesKey { tag: 1, suite, key_and_salt };
        let oracle = |key: &SdesKey| {
            let (key, salt) = key.key_and_salt.split_at(16);
            webrtc_srtp::context::Context::new(key, salt, profile, None, None).unwrap()
        };
        let (theirs, ours) = (oracle(&receive), oracle(&send));
        let mut described = remote(socket.local_addr().unwrap(), socket.local_addr().unwrap());
        described.sdes = Some(SdesPair { send, receive });
        let from_b = b.describe(&at_b, DtlsRole::Server);
        Self { socket, at_a, described, theirs, ours, b, from_b }
    }
}

/// The far end of the SDES leg is webrtc-srtp: it reads what the relay
/// protects, and the relay reads what it does.
#[tokio::test]
async fn an_independent_srtp_implementation_is_heard_and_hears() {
    for (suite, profile) in [
        (SrtpSuite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
        (SrtpSuite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    ] {
        let relay = relay().await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let far = Oracle::facing_plain(&mut proxy, suite, profile).await;
        let Oracle { socket, at_a, described, mut theirs, mut ours, mut b, from_b } = far;
        let ops = vec![describe(A, described), describe(B, from_b), Op::Join(A, B)];
        proxy.changed(1, ops).await;
        for n in 1..10 {
            let protected = theirs.encrypt_rtp(&rtp(0xa, n)).unwrap();
            socket.send_to(&protected, at_a.rtp).await.unwrap();
            assert_eq!(b.hear().await.packet, rtp(0xa, n));
            b.say(Component::Rtp, &rtp(0xb, n)).await;
            let mut buffer = [0; 2048];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            assert_eq!(from, at_a.rtp);
            assert_eq!(ours.decrypt_rtp(&buffer[..length]).unwrap(), rtp(0xb, n));
        }
    }
}

#[tokio::test]
async fn sdes_and_dtls_hear_each_other() {
    call(Protocol::Sdes, Protocol::Dtls, true).await.talk().await;
}

#[tokio::test]
async fn dtls_and_rtp_hear_each_other_in_either_role() {
    for role in [DtlsRole::Server, DtlsRole::Client] {
        call_of(Protocol::Dtls, Protocol::Rtp, true, role).await.talk().await;
    }
}

#[tokio::test]
async fn two_dtls_phones_hear_each_other() {
    call(Protocol::Dtls, Protocol::Dtls, true).await.talk().await;
}

#[tokio::test]
async fn rtcp_passes_on_its_own_port() {
    call(Protocol::Rtp, Protocol::Rtp, false).await.report(Component::Rtcp).await;
    call(Protocol::Sdes, Protocol::Rtp, false).await.report(Component::Rtcp).await;
}

#[tokio::test]
async fn rtcp_passes_muxed() {
    let mut call = call(Protocol::Rtp, Protocol::Sdes, true).await;
    call.talk().await;
    call.report(Component::Rtp).await;
}

#[tokio::test]
async fn media_flows_over_ipv6_too() {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let relay = relay_with(|config| config.media.push(MediaAddress::direct(v6))).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut over_v6 = spec(Protocol::Rtp);
    over_v6.family = IpFamily::V6;
    let locals = proxy.opened(1, &[(A, over_v6), (B, spec(Protocol::Rtp))]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    assert!(at_a.rtp.is_ipv6() && at_b.rtp.is_ipv4());
    let mut a = Phone::at(v6, Protocol::Rtp, false).await;
    let mut b = Phone::new(Protocol::Rtp).await;
    a.learn(&at_a, DtlsRole::Server).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let ops = vec![
        describe(A, a.describe(&at_a, DtlsRole::Server)),
        describe(B, b.describe(&at_b, DtlsRole::Server)),
        Op::Join(A, B),
    ];
    proxy.changed(1, ops).await;
    a.say(Component::Rtp, &rtp(1, 1)).await;
    assert_eq!(b.hear().await.packet, rtp(1, 1));
    b.say(Component::Rtp, &rtp(2, 1)).await;
    assert_eq!(a.hear().await.from, at_a.rtp);
}

#[tokio::test]
async fn the_advertised_address_may_differ_from_the_bound_one() {
    let told = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let relay = relay_with(|config| config.media[0].advertise = told).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    let at_a = local(&locals, A);
    assert_eq!((at_a.rtp.ip(), at_a.rtcp.ip()), (told, told));
    assert_eq!((at_a.rtp.port() % 2, at_a.rtcp.port()), (0, at_a.rtp.port() + 1));
}

#[tokio::test]
async fn a_strangers_packets_neither_pass_nor_take_the_call_over() {
    for protocol in [Protocol::Rtp, Protocol::Sdes] {
        let mut call = call(protocol, Protocol::Rtp, false).await;
        call.talk().await;
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for n in 20..40 {
            stranger.send_to(&rtp(0xbad, n), call.at_a.rtp).await.unwrap();
        }
        call.relay.metric_reaches("drops_total", None, 20.0).await;
        assert!(call.b.hears_nothing().await);
        call.b.say(Component::Rtp, &rtp(0xb, 21)).await;
        assert_eq!(call.a.hear().await.packet, rtp(0xb, 21));
        let Outcome::Closed { legs, .. } = call.proxy.close(1).await else { panic!() };
        assert_eq!(legs[0].1.dropped.iter().map(|(_, n)| n).sum::<u64>(), 20);
        assert_eq!(legs[0].1.faults, []);
    }
}

/// A browser's way: checks, handshake and all before anybody is joined, as
/// early branches do it.
#[tokio::test]
async fn an_ice_peer_is_heard_from_the_address_it_proved_and_from_no_other() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut spec_a = spec(Protocol::Rtp);
    (spec_a.ice, spec_a.rtcp_mux) = (true, true);
    let locals = proxy.opened(1, &[(A, spec_a), (B, spec(Protocol::Rtp))]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let mut b = Phone::new(Protocol::Rtp).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let (browser, stranger) = (Browser::new().await, Browser::new().await);
    browser.prove(&at_a).await;
    let from_b = b.describe(&at_b, DtlsRole::Server);
    proxy.changed(1, vec![describe(A, described()), describe(B, from_b), Op::Join(A, B)]).await;
    browser.prove(&at_a).await;
    stranger.say(at_a.rtp, &rtp(0xbad, 1)).await;
    relay.metric_reaches("drops_total", Some("ice_unknown_source"), 1.0).await;
    browser.say(at_a.rtp, &rtp(0xa, 1)).await;
    assert_eq!(b.hear().await.packet, rtp(0xa, 1));
    b.say(Component::Rtp, &rtp(0xb, 1)).await;
    assert_eq!(browser.hear().await, (rtp(0xb, 1), at_a.rtp));
}

#[tokio::test]
async fn a_branch_shakes_hands_before_it_is_joined() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut spec_b = spec(Protocol::Dtls);
    spec_b.rtcp_mux = true;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec_b)]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let mut a = Phone::new(Protocol::Rtp).await;
    let mut b = Phone::at(Ipv4Addr::LOCALHOST.into(), Protocol::Dtls, true).await;
    a.learn(&at_a, DtlsRole::Server).await;
    let from_b = b.describe(&at_b, DtlsRole::Server);
    proxy.changed(1, vec![describe(B, from_b)]).await;
    b.learn(&at_b, DtlsRole::Server).await;
    b.connect().await;
    b.say(Component::Rtp, &rtp(0xb, 1)).await;
    relay.metric_reaches("drops_total", Some("unjoined"), 1.0).await;
    let from_a = a.describe(&at_a, DtlsRole::Server);
    proxy.changed(1, vec![describe(A, from_a), Op::Join(A, B)]).await;
    b.say(Component::Rtp, &rtp(0xb, 2)).await;
    assert_eq!(a.hear().await.packet, rtp(0xb, 2));
}

#[tokio::test]
async fn a_certificate_that_was_not_signalled_is_a_fault_and_is_not_heard() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut spec_b = spec(Protocol::Dtls);
    spec_b.rtcp_mux = true;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec_b)]).await;
    let at_b = local(&locals, B);
    let mut b = Phone::at(Ipv4Addr::LOCALHOST.into(), Protocol::Dtls, true).await;
    let mut described = b.describe(&at_b, DtlsRole::Server);
    described.dtls.as_mut().unwrap().fingerprints[0].digest[0] ^= 1;
    proxy.changed(1, vec![describe(B, described), Op::Join(A, B)]).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let fault = async {
        loop {
            let (_, event) = proxy.event().await;
            if let Event::Fault(leg, fault) = event {
                return (leg, fault);
            }
        }
    };
    let shake = async {
        loop {
            b.hears_nothing().await;
        }
    };
    let (leg, fault) = tokio::select! { fault = fault => fault, () = shake => unreachable!() };
    assert_eq!((leg, fault), (B, MediaFault::DtlsFingerprintMismatch));
}

#[tokio::test]
async fn a_sessions_first_media_is_told_to_the_proxy() {
    let mut call = call(Protocol::Rtp, Protocol::Rtp, false).await;
    call.a.say(Component::Rtp, &rtp(1, 1)).await;
    assert_eq!(call.proxy.event().await, (SessionId(1), Event::MediaStarted(A)));
    call.b.say(Component::Rtp, &rtp(2, 1)).await;
    assert_eq!(call.proxy.event().await, (SessionId(1), Event::MediaStarted(B)));
}

#[tokio::test]
async fn a_silent_peer_is_reported_once_and_the_call_goes_on() {
    let relay = relay_with(|config| config.media_timeout = Duration::from_millis(150)).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let (mut a, mut b) = (Phone::new(Protocol::Rtp).await, Phone::new(Protocol::Rtp).await);
    a.learn(&at_a, DtlsRole::Server).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let ops = vec![
        describe(A, remote(a.address(), a.rtcp_address())),
        describe(B, remote(b.address(), b.rtcp_address())),
        Op::Join(A, B),
    ];
    proxy.changed(1, ops).await;
    a.say(Component::Rtp, &rtp(1, 1)).await;
    assert_eq!(proxy.event().await, (SessionId(1), Event::MediaStarted(A)));
    let mut faults = [proxy.event().await, proxy.event().await];
    faults.sort_by_key(|(_, event)| matches!(event, Event::Fault(B, _)));
    let timeout = MediaFault::MediaTimeout;
    assert_eq!(faults, [A, B].map(|leg| (SessionId(1), Event::Fault(leg, timeout))));
    assert_eq!(relay.metric("media_faults_total", Some("media_timeout")), 2.0);
    a.say(Component::Rtp, &rtp(1, 2)).await;
    assert_eq!(b.hear().await.packet, rtp(1, 1));
    assert_eq!(b.hear().await.packet, rtp(1, 2));
}

#[tokio::test]
async fn joining_anew_changes_the_partner() {
    let mut call = call(Protocol::Rtp, Protocol::Rtp, false).await;
    call.talk().await;
    let locals = call.proxy.changed(1, vec![Op::Add(C, spec(Protocol::Sdes))]).await;
    let at_c = local(&locals, C);
    let mut c = Phone::new(Protocol::Sdes).await;
    c.learn(&at_c, DtlsRole::Server).await;
    let described = describe(C, c.describe(&at_c, DtlsRole::Server));
    call.proxy.changed(1, vec![described, Op::Join(A, C)]).await;
    call.a.say(Component::Rtp, &rtp(0xa, 30)).await;
    assert_eq!(c.hear().await.packet, rtp(0xa, 30));
    c.say(Component::Rtp, &rtp(0xc, 1)).await;
    assert_eq!(call.a.hear().await.packet, rtp(0xc, 1));
    call.b.say(Component::Rtp, &rtp(0xb, 30)).await;
    assert!(call.a.hears_nothing().await && call.b.hears_nothing().await);
    call.relay.metric_reaches("drops_total", Some("unjoined"), 1.0).await;

    call.proxy.changed(1, vec![Op::Remove(B)]).await;
    let Outcome::Closed { legs, .. } = call.proxy.close(1).await else { panic!() };
    let received: Vec<_> = legs.iter().map(|(leg, stats)| (*leg, stats.received.packets)).collect();
    assert_eq!(received, [(A, 20), (B, 20), (C, 1)], "removed legs are in the statistics");
}

#[tokio::test]
async fn a_new_description_moves_the_media() {
    let mut call = call(Protocol::Rtp, Protocol::Rtp, false).await;
    call.talk().await;
    let mut elsewhere = Phone::new(Protocol::Rtp).await;
    elsewhere.learn(&call.at_b, DtlsRole::Server).await;
    let described = elsewhere.describe(&call.at_b, DtlsRole::Server);
    call.proxy.changed(1, vec![describe(B, described)]).await;
    call.a.say(Component::Rtp, &rtp(0xa, 30)).await;
    assert_eq!(elsewhere.hear().await.packet, rtp(0xa, 30));
    assert!(call.b.hears_nothing().await);
}

#[tokio::test]
async fn garbage_on_a_media_port_is_counted_and_ends_nothing() {
    let mut call = call(Protocol::Rtp, Protocol::Sdes, false).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let junk: [&[u8]; 6] = [&[], &[0], &[22; 40], &[0x80], &[0xff; 1400], &[0x80; 2040]];
    let targets: [SocketAddr; 4] = [call.at_a.rtp, call.at_a.rtcp, call.at_b.rtp, call.at_b.rtcp];
    for target in targets {
        for octets in junk {
            stranger.send_to(octets, target).await.unwrap();
        }
    }
    call.relay.metric_reaches("drops_total", None, 24.0).await;
    assert_eq!(call.relay.metric("drops_total", Some("too_long")), 4.0);
    call.talk().await;
}

#[tokio::test]
async fn many_calls_at_once_do_not_mix() {
    let relay = relay_with(|config| config.ports = 40_000..=40_399).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut calls = Vec::new();
    for session in 0..20 {
        let locals =
            proxy.opened(session, &[(A, spec(Protocol::Rtp)), (B, spec(Protocol::Rtp))]).await;
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        let (mut a, mut b) = (Phone::new(Protocol::Rtp).await, Phone::new(Protocol::Rtp).await);
        a.learn(&at_a, DtlsRole::Server).await;
        b.learn(&at_b, DtlsRole::Server).await;
        let ops = vec![
            describe(A, a.describe(&at_a, DtlsRole::Server)),
            describe(LegId(1), b.describe(&at_b, DtlsRole::Server)),
            Op::Join(A, B),
        ];
        proxy.changed(session, ops).await;
        calls.push((a, b));
    }
    for n in 1..50 {
        for (call, (a, _)) in calls.iter_mut().enumerate() {
            a.say(Component::Rtp, &rtp(call as u32, n)).await;
        }
    }
    for (call, (_, b)) in calls.iter_mut().enumerate() {
        for n in 1..50 {
            assert_eq!(b.hear().await.packet, rtp(call as u32, n));
        }
    }
}

/// The far end keeps its rollover counter over new keys, as libsrtp does, and
/// has counted two wraps by the time it gets to this relay.
#[tokio::test]
async fn who_comes_from_another_relay_after_a_wrap_hears_and_is_heard() {
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let profile = ProtectionProfile::Aes128CmHmacSha1_80;
    let far = Oracle::facing_plain(&mut proxy, suite, profile).await;
    let Oracle { socket, at_a, described, mut theirs, mut ours, mut b, from_b } = far;
    for index in (0..1u32 << 17).step_by(30_000).chain([1 << 17]) {
        theirs.encrypt_rtp(&rtp(0xa, index as u16)).unwrap();
        // What it would hear had the stream stayed what it was: nothing.
        let _ = ours.encrypt_rtp(&rtp(0xb, index as u16)).unwrap();
    }
    let ops = vec![
        describe(A, described),
        describe(B, from_b),
        Op::Renew(A),
        Op::Renew(B),
        Op::Join(A, B),
    ];
    proxy.changed(1, ops).await;
    let mut first = None;
    for n in 10..20 {
        let protected = theirs.encrypt_rtp(&rtp(0xa, n)).unwrap();
        socket.send_to(&protected, at_a.rtp).await.unwrap();
        assert_eq!(b.hear().await.packet, rtp(0xa, n), "a plain stream keeps its name");
        b.say(Component::Rtp, &rtp(0xb, n)).await;
        let mut buffer = [0; 2048];
        let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
        let heard = ours.decrypt_rtp(&buffer[..length]).unwrap();
        assert_eq!(heard[12..], rtp(0xb, n)[12..]);
        let info = RtpInfo::parse(&heard).unwrap();
        let (ssrc, sequence) = *first.get_or_insert((info.ssrc, info.sequence));
        assert_ne!(info.ssrc, 0xb);
        assert_eq!((info.ssrc, info.sequence), (ssrc, sequence + n - 10));
    }
}

/// The phones are told where the other relay is, and nothing of other keys: they
/// take no new ones, and make no new handshake.
#[tokio::test]
async fn a_leg_goes_on_with_the_keys_that_it_had_on_another_relay() {
    let kinds = [
        (Protocol::Sdes, DtlsBackend::Dimpl),
        (Protocol::Dtls, DtlsBackend::Dimpl),
        (Protocol::Dtls, DtlsBackend::Dimpl13),
    ];
    for (protocol, backend) in kinds {
        let mut call = call_by(backend, protocol, Protocol::Rtp, false, DtlsRole::Server).await;
        call.talk().await;
        call.proxy.changed(1, Vec::new()).await;
        let (keys, _) = call.proxy.keys[&(SessionId(1), A)].clone();
        assert!(!call.proxy.keys.contains_key(&(SessionId(1), B)), "it has none");
        let relay = relay().await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let legs = [(A, spec(protocol)), (B, spec(Protocol::Rtp))];
        let locals = proxy.resumed(1, &legs, vec![(A, keys.clone())]).await;
        let (mut at_a, at_b) = (local(&locals, A), local(&locals, B));
        let ops = vec![
            describe(A, call.a.describe(&at_a, DtlsRole::Server)),
            describe(B, call.b.describe(&at_b, DtlsRole::Server)),
            Op::Join(A, B),
        ];
        proxy.changed(1, ops).await;
        at_a.fingerprint.clone_from(&call.at_a.fingerprint);
        call.a.learn(&at_a, DtlsRole::Server).await;
        call.b.learn(&at_b, DtlsRole::Server).await;
        for n in 100..110 {
            call.a.say(Component::Rtp, &rtp(0xa, n)).await;
            assert_eq!(call.b.hear().await.packet, rtp(0xa, n), "{protocol:?}");
            call.b.say(Component::Rtp, &rtp(0xb, n)).await;
            let heard = call.a.hear().await.packet;
            assert_eq!(heard[12..], rtp(0xb, n)[12..], "{protocol:?}");
            let ssrc = RtpInfo::parse(&heard).unwrap().ssrc;
            assert!(!keys.sent.contains(&ssrc) && keys.sent.contains(&0xb));
        }
        // Who takes the session over has to be told them.
        let mut other = Proxy::connect(&relay, "other", 1).await;
        assert!(matches!(other.adopt(1, 1).await, Outcome::Adopted(_)));
        other.changed(1, Vec::new()).await;
        let (told, _) = &other.keys[&(SessionId(1), A)];
        assert!(told.are_of(&keys), "{protocol:?}");
        assert!(keys.sent.iter().all(|ssrc| told.sent.contains(ssrc)));
        assert!(told.sent.len() > keys.sent.len());
    }
}
