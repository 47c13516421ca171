//! The port that legs with ICE share: who has proved his address is heard by his
//! own leg, and nobody else is.

use std::time::{Duration, Instant};

use crate::support::browser::{Browser, THEIRS, check, credentials, described};
use crate::support::proxy::describe;
use crate::support::{
    A, B, Phone, Proxy, TestRelay, local, relay_with, remote, rtcp, rtp, spec, until,
};
use landline_control::{
    DtlsRole, IceCredentials, IpFamily, LegLocal, LegSpec, Op, Outcome, Protocol, Refusal,
};
use landline_media::Component;
use landline_media::stun::{BINDING, Class, Message, Writer};
use landline_relay::{MediaAddress, RelayConfig};
use tokio::net::UdpSocket;

/// Longer than `address_quiet` of these tests.
const QUIET: Duration = Duration::from_millis(1600);

async fn one_shard() -> TestRelay {
    with(|_| {}).await
}

async fn with(change: impl FnOnce(&mut RelayConfig)) -> TestRelay {
    relay_with(|config| {
        config.shards = Some(1);
        config.address_quiet = Duration::from_millis(1500);
        change(config);
    })
    .await
}

/// A session of a leg with ICE that is joined to a phone.
struct Call {
    session: u64,
    at_a: LegLocal,
    b: Phone,
}

impl Call {
    async fn new(proxy: &mut Proxy, session: u64) -> Self {
        Self::of(proxy, session, browsers(Protocol::Rtp)).await
    }

    async fn of(proxy: &mut Proxy, session: u64, spec_a: LegSpec) -> Self {
        let legs = [(A, spec_a), (B, spec(Protocol::Rtp))];
        let locals = proxy.opened(session, &legs).await;
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        let mut b = Phone::new(Protocol::Rtp).await;
        b.learn(&at_b, DtlsRole::Server).await;
        let from_b = b.describe(&at_b, DtlsRole::Server);
        let ops = vec![describe(A, described()), describe(B, from_b), Op::Join(A, B)];
        proxy.changed(session, ops).await;
        Self { session, at_a, b }
    }

    fn ice(&self) -> &IceCredentials {
        self.at_a.ice.as_ref().unwrap()
    }

    /// Each hears the other.
    async fn talk(&mut self, browser: &Browser, n: u16) {
        let (ours, theirs) = (0xa00 + self.session as u32, 0xb00 + self.session as u32);
        browser.say(self.at_a.rtp, &rtp(ours, n)).await;
        assert_eq!(self.b.hear().await.packet, rtp(ours, n));
        self.b.say(Component::Rtp, &rtp(theirs, n)).await;
        assert_eq!(browser.hear().await, (rtp(theirs, n), self.at_a.rtp));
    }
}

fn browsers(protocol: Protocol) -> LegSpec {
    LegSpec { ice: true, rtcp_mux: true, ..spec(protocol) }
}

impl TestRelay {
    async fn dropped(&self, cause: &str, times: f64) {
        self.metric_reaches("drops_total", Some(cause), times).await;
        assert_eq!(self.metric("drops_total", Some(cause)), times, "{cause}");
    }

    async fn knows(&self, addresses: f64) {
        until(|| self.metric("ice_addresses", None) == addresses).await;
    }
}

#[tokio::test]
async fn calls_share_a_port_and_do_not_hear_each_other() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut calls = Vec::new();
    for session in 1..=3 {
        let call = Call::new(&mut proxy, session).await;
        let browser = Browser::new().await;
        browser.prove(&call.at_a).await;
        assert_eq!((call.at_a.rtp, call.at_a.rtcp), (relay.handle.ice_addrs()[0], call.at_a.rtp));
        calls.push((call, browser));
    }
    assert_eq!(relay.handle.ice_addrs().len(), 1);
    for n in 1..10 {
        for (call, browser) in &mut calls {
            call.talk(browser, n).await;
        }
    }
    for (call, browser) in &mut calls {
        browser.say(call.at_a.rtp, &rtcp(1, 1)).await;
        assert_eq!(call.b.hear().await.packet, rtcp(1, 1));
        assert!(browser.hears_nothing().await && call.b.hears_nothing().await);
    }
    // The phones have their ports, the browsers none.
    relay.metric_reaches("port_pairs", Some("used"), 3.0).await;
    assert_eq!(relay.metric("port_pairs", Some("used")), 3.0);
    assert_eq!(relay.metric("ice_legs", None), 3.0);
    relay.knows(3.0).await;
    assert_eq!(relay.metric("drops_total", None), 0.0);
}

#[tokio::test]
async fn a_browser_shakes_hands_and_is_heard_on_the_shared_port() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let legs = [(A, browsers(Protocol::Dtls)), (B, spec(Protocol::Rtp))];
    let locals = proxy.opened(1, &legs).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let mut b = Phone::new(Protocol::Rtp).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let mut a = Phone::at("127.0.0.1".parse().unwrap(), Protocol::Dtls, true).await;
    let mut from_a = a.describe(&at_a, DtlsRole::Server);
    from_a.ice = Some(credentials());
    let from_b = b.describe(&at_b, DtlsRole::Server);
    proxy.changed(1, vec![describe(A, from_a), describe(B, from_b), Op::Join(A, B)]).await;
    a.prove(at_a.rtp, &check(at_a.ice.as_ref().unwrap(), THEIRS)).await;
    a.learn(&at_a, DtlsRole::Server).await;
    a.connect().await;
    assert!(a.say(Component::Rtp, &rtp(0xa, 1)).await);
    assert_eq!(b.hear().await.packet, rtp(0xa, 1));
    assert!(a.say(Component::Rtcp, &rtcp(0xa, 1)).await);
    assert_eq!(b.hear().await.packet, rtcp(0xa, 1));
    b.say(Component::Rtp, &rtp(0xb, 1)).await;
    assert_eq!(a.hear().await.packet, rtp(0xb, 1));
    b.say(Component::Rtcp, &rtcp(0xb, 1)).await;
    let heard = a.hear().await;
    assert_eq!((heard.packet, heard.by), (rtcp(0xb, 1), Component::Rtp));
}

#[tokio::test]
async fn what_comes_from_an_unproven_address_is_dropped_and_counted() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let (browser, stranger) = (Browser::new().await, Browser::new().await);
    browser.prove(&call.at_a).await;
    let hello = [&[22, 254, 253][..], &[0; 60]].concat();
    let indication = Writer::new(Class::Indication, BINDING, [7; 12]).finish();
    let response = Writer::new(Class::Success, BINDING, [7; 12]).finish();
    let octets =
        [rtp(0xbad, 1), rtcp(0xbad, 1), hello, indication, response, vec![], vec![0xff; 9]];
    for packet in &octets {
        stranger.say(call.at_a.rtp, packet).await;
    }
    relay.dropped("ice_unknown_source", octets.len() as f64).await;
    assert!(call.b.hears_nothing().await && stranger.hears_nothing().await);
    // Where it is proven, the same is the leg's to judge.
    browser.say(call.at_a.rtp, &octets[3]).await;
    call.talk(&browser, 1).await;
    relay.dropped("ice_unknown_source", octets.len() as f64).await;
    relay.knows(1.0).await;
}

#[tokio::test]
async fn a_check_that_is_not_authentic_binds_nothing() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let stranger = Browser::new().await;
    let ice = call.ice().clone();
    for ufrag in ["nobody", "", &ice.ufrag[1..], &format!("{}0", ice.ufrag)] {
        let guess = IceCredentials { ufrag: ufrag.into(), pwd: ice.pwd.clone() };
        stranger.say(call.at_a.rtp, &check(&guess, THEIRS)).await;
    }
    relay.dropped("ice_unknown_ufrag", 4.0).await;
    assert!(stranger.hears_nothing().await, "who guesses is told nothing");

    let guess = IceCredentials { ufrag: ice.ufrag.clone(), pwd: "guess".into() };
    let wrong = [check(&guess, THEIRS), check(&ice, "somebody")];
    for (n, packet) in (1..).zip(&wrong) {
        stranger.say(call.at_a.rtp, packet).await;
        let (answer, _) = stranger.hear().await;
        assert!(answer.len() < packet.len(), "nobody is sent more than he sent");
        assert_eq!(Message::parse(&answer).unwrap().error_code, Some(401));
        relay.dropped("stun_integrity", f64::from(n)).await;
    }
    stranger.say(call.at_a.rtp, &rtp(0xbad, 1)).await;
    relay.dropped("ice_unknown_source", 1.0).await;
    assert!(call.b.hears_nothing().await);
    call.b.say(Component::Rtp, &rtp(0xb, 1)).await;
    assert!(stranger.hears_nothing().await);
    relay.knows(0.0).await;
}

#[tokio::test]
async fn an_address_goes_to_another_leg_by_a_valid_check_once_it_is_quiet_and_not_before() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut first = Call::new(&mut proxy, 1).await;
    let mut second = Call::new(&mut proxy, 2).await;
    let browser = Browser::new().await;
    browser.prove(&first.at_a).await;
    first.talk(&browser, 1).await;
    // The second leg's credentials from there, as if in its name.
    browser.say(second.at_a.rtp, &check(second.ice(), THEIRS)).await;
    relay.dropped("ice_address_in_use", 1.0).await;
    assert!(browser.hears_nothing().await);
    first.talk(&browser, 2).await;

    tokio::time::sleep(QUIET).await;
    let guess = IceCredentials { pwd: "guess".into(), ..second.ice().clone() };
    browser.say(second.at_a.rtp, &check(&guess, THEIRS)).await;
    browser.hear().await;
    relay.dropped("stun_integrity", 1.0).await;
    first.talk(&browser, 3).await;

    // A check is a sign of life as well.
    tokio::time::sleep(QUIET).await;
    browser.prove(&first.at_a).await;
    browser.say(second.at_a.rtp, &check(second.ice(), THEIRS)).await;
    relay.dropped("ice_address_in_use", 2.0).await;

    tokio::time::sleep(QUIET).await;
    browser.prove(&second.at_a).await;
    second.talk(&browser, 4).await;
    assert!(first.b.hears_nothing().await);
    // Nor does the first leg speak to where its peer is no more.
    first.b.say(Component::Rtp, &rtp(0xb01, 5)).await;
    relay.dropped("partner_not_ready", 1.0).await;
    assert!(browser.hears_nothing().await);
    relay.knows(1.0).await;
    let elsewhere = Browser::new().await;
    elsewhere.prove(&first.at_a).await;
    first.talk(&elsewhere, 6).await;
    second.talk(&browser, 7).await;
}

#[tokio::test]
async fn a_call_outlives_a_restart_and_a_change_of_network_on_its_port() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let mut other = Call::new(&mut proxy, 2).await;
    let (browser, bystander) = (Browser::new().await, Browser::new().await);
    browser.prove(&call.at_a).await;
    bystander.prove(&other.at_a).await;
    call.talk(&browser, 1).await;
    // The same credentials from another network.
    let roaming = Browser::new().await;
    roaming.prove(&call.at_a).await;
    call.talk(&roaming, 2).await;
    let before = call.at_a.clone();
    let renewed = local(&proxy.changed(1, vec![Op::Restart(A)]).await, A);
    assert_eq!((renewed.rtp, renewed.rtcp), (before.rtp, before.rtcp));
    assert_ne!(renewed.ice, before.ice);
    // Until the peer has heard of the new ones, the former are answered to.
    roaming.prove(&before).await;
    call.talk(&roaming, 3).await;
    let again = Browser::new().await;
    again.prove(&renewed).await;
    call.talk(&again, 4).await;
    other.talk(&bystander, 5).await;
    relay.knows(4.0).await;
}

#[tokio::test]
async fn a_leg_that_is_over_leaves_nothing_behind() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut first = Call::new(&mut proxy, 1).await;
    let browser = Browser::new().await;
    browser.prove(&first.at_a).await;
    first.talk(&browser, 1).await;
    proxy.changed(1, vec![Op::Restart(A)]).await;
    proxy.close(1).await;
    browser.say(first.at_a.rtp, &rtp(0xa01, 2)).await;
    relay.dropped("ice_unknown_source", 1.0).await;
    browser.say(first.at_a.rtp, &check(first.ice(), THEIRS)).await;
    relay.dropped("ice_unknown_ufrag", 1.0).await;
    assert!(browser.hears_nothing().await);
    relay.knows(0.0).await;
    assert_eq!(relay.metric("ice_legs", None), 0.0);
    // Its address is free at once for the next call.
    let mut second = Call::new(&mut proxy, 2).await;
    browser.prove(&second.at_a).await;
    second.talk(&browser, 3).await;
}

#[tokio::test]
async fn addresses_are_limited_and_a_call_has_two_all_the_same() {
    let relay = with(|config| config.limits.ice_peers = 20).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut greedy = Call::new(&mut proxy, 1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        let browser = Browser::new().await;
        browser.prove(&greedy.at_a).await;
        others.push(browser);
    }
    // Sixteen of one leg: the one that was proven longest ago had to go.
    relay.knows(16.0).await;
    others[0].say(greedy.at_a.rtp, &rtp(0xa01, 1)).await;
    relay.dropped("ice_unknown_source", 1.0).await;
    greedy.talk(&others[19], 2).await;

    let second = Call::new(&mut proxy, 2).await;
    for _ in 0..4 {
        Browser::new().await.prove(&second.at_a).await;
    }
    relay.knows(20.0).await;
    // Who comes late is heard, and may go to another network. More he may not.
    let mut third = Call::new(&mut proxy, 3).await;
    for n in 3..5 {
        let late = Browser::new().await;
        late.prove(&third.at_a).await;
        third.talk(&late, n).await;
    }
    relay.knows(22.0).await;
    let late = Browser::new().await;
    late.say(third.at_a.rtp, &check(third.ice(), THEIRS)).await;
    relay.dropped("ice_too_many_addresses", 1.0).await;
    assert!(late.hears_nothing().await);
    greedy.talk(&others[19], 5).await;
    proxy.close(2).await;
    relay.knows(18.0).await;
    late.prove(&third.at_a).await;
    third.talk(&late, 6).await;
    // The statistics of the call itself say why it was mute.
    let Outcome::Closed { legs, .. } = proxy.close(3).await else { panic!("it was open") };
    let dropped = &legs.iter().find(|(leg, _)| *leg == A).unwrap().1.dropped;
    assert_eq!(dropped, &[("ice_too_many_addresses".to_owned(), 1)]);
}

#[tokio::test]
async fn who_has_described_nothing_has_few_addresses() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, browsers(Protocol::Rtp))]).await;
    let at_a = local(&locals, A);
    for _ in 0..4 {
        Browser::new().await.prove(&at_a).await;
    }
    let fifth = Browser::new().await;
    fifth.say(at_a.rtp, &check(at_a.ice.as_ref().unwrap(), THEIRS)).await;
    relay.dropped("ice_too_many_addresses", 1.0).await;
    assert!(fifth.hears_nothing().await);
    proxy.changed(1, vec![describe(A, described())]).await;
    fifth.prove(&at_a).await;
    relay.knows(5.0).await;
}

#[tokio::test]
async fn media_addresses_of_one_family_have_as_many_browsers_each() {
    let relay = with(|config| {
        config.media.push(MediaAddress::direct("127.0.0.2".parse().unwrap()));
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut at = Vec::new();
    for session in 1..=4 {
        let mut call = Call::new(&mut proxy, session).await;
        let browser = Browser::new().await;
        browser.prove(&call.at_a).await;
        call.talk(&browser, 1).await;
        at.push(call.at_a.rtp);
    }
    let ports = relay.handle.ice_addrs();
    assert_eq!(at, [ports[0], ports[1], ports[0], ports[1]]);
    // The next one takes the place of who left.
    proxy.close(2).await;
    proxy.close(4).await;
    for session in 5..=6 {
        assert_eq!(Call::new(&mut proxy, session).await.at_a.rtp, ports[1]);
    }
}

/// What the kernel gives depends on its settings, and on who asks.
#[tokio::test]
async fn the_room_of_shared_sockets_is_told() {
    let relay = one_shard().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = socket2::SockRef::from(&socket);
    socket.set_recv_buffer_size(2 << 20).unwrap();
    socket.set_send_buffer_size(2 << 20).unwrap();
    let given = [socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()];
    let told = ["receive", "send"].map(|it| relay.metric("ice_buffer_octets", Some(it)) as usize);
    assert!(told[0] == given[0] || told[0] == 4 << 20, "{told:?} {given:?}");
    assert_eq!(told[1], given[1]);
}

#[tokio::test]
async fn the_port_is_there_in_both_families() {
    let relay = with(|config| {
        config.media.push(MediaAddress::direct("::1".parse().unwrap()));
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    assert_eq!(relay.handle.ice_addrs().len(), 2);
    let v6 = LegSpec { family: IpFamily::V6, ..browsers(Protocol::Rtp) };
    let mut sixth = Call::of(&mut proxy, 1, v6).await;
    let mut fourth = Call::new(&mut proxy, 2).await;
    assert!(sixth.at_a.rtp.is_ipv6() && fourth.at_a.rtp.is_ipv4());
    let (by_6, by_4) = (Browser::at("[::1]:0").await, Browser::new().await);
    by_6.prove(&sixth.at_a).await;
    by_4.prove(&fourth.at_a).await;
    sixth.talk(&by_6, 1).await;
    fourth.talk(&by_4, 2).await;
    // What was proven on one is not proven on the other.
    by_4.say(fourth.at_a.rtp, &check(sixth.ice(), THEIRS)).await;
    relay.dropped("ice_unknown_ufrag", 1.0).await;
}

#[tokio::test]
async fn each_shard_has_a_port_and_knows_its_own_legs() {
    let relay = with(|config| config.shards = Some(2)).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut calls = [Call::new(&mut proxy, 1).await, Call::new(&mut proxy, 2).await];
    let mut ports = calls.each_ref().map(|call| call.at_a.rtp);
    assert_ne!(ports[0], ports[1]);
    for (n, call) in (1..).zip(&mut calls) {
        let browser = Browser::new().await;
        browser.prove(&call.at_a).await;
        call.talk(&browser, n).await;
        browser.say(ports[1], &check(call.ice(), THEIRS)).await;
        relay.dropped("ice_unknown_ufrag", f64::from(n)).await;
        ports.swap(0, 1);
    }
}

#[tokio::test]
async fn legs_that_are_not_found_by_ice_alone_have_ports_of_their_own() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    // A phone with ICE and a second component.
    let spec_a = LegSpec { rtcp_mux: false, ..browsers(Protocol::Rtp) };
    let mut call = Call::of(&mut proxy, 1, spec_a).await;
    assert_eq!(call.at_a.rtcp.port(), call.at_a.rtp.port() + 1);
    let browser = Browser::new().await;
    browser.prove(&call.at_a).await;
    call.talk(&browser, 1).await;
    // It multiplexes after all.
    browser.say(call.at_a.rtp, &rtcp(1, 1)).await;
    assert_eq!(call.b.hear().await.packet, rtcp(1, 1));
    call.b.say(Component::Rtcp, &rtcp(2, 1)).await;
    assert_eq!(browser.hear().await, (rtcp(2, 1), call.at_a.rtp));
    relay.metric_reaches("port_pairs", Some("used"), 2.0).await;
    assert_eq!(relay.metric("ice_legs", None), 0.0);

    // Who is on the shared port and says nothing of ICE would never be heard.
    proxy.opened(2, &[(A, browsers(Protocol::Rtp))]).await;
    let plain = remote("127.0.0.1:4000".parse().unwrap(), "127.0.0.1:4000".parse().unwrap());
    let outcome = proxy.change(2, vec![describe(A, plain)]).await;
    assert!(matches!(outcome, Outcome::Refused(Refusal::BadRemote(_))), "{outcome:?}");
}

#[tokio::test]
async fn browsers_are_served_where_there_are_no_ports() {
    let relay = with(|config| {
        let first = *config.ports.start();
        config.ports = first..=first + 1;
    })
    .await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    // Others on the machine may have the one pair already.
    proxy.open(1, &[(A, spec(Protocol::Rtp))]).await;
    let refused = proxy.open(2, &[(A, spec(Protocol::Rtp))]).await;
    assert_eq!(refused, Outcome::Refused(Refusal::NoPorts));
    for session in 3..9 {
        let two = [(A, browsers(Protocol::Rtp)), (B, browsers(Protocol::Rtp))];
        let locals = proxy.opened(session, &two).await;
        let ops = vec![describe(A, described()), describe(B, described()), Op::Join(A, B)];
        proxy.changed(session, ops).await;
        let (caller, callee) = (Browser::new().await, Browser::new().await);
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        caller.prove(&at_a).await;
        callee.prove(&at_b).await;
        caller.say(at_a.rtp, &rtp(session as u32, 1)).await;
        assert_eq!(callee.hear().await, (rtp(session as u32, 1), at_a.rtp));
    }
    assert_eq!(relay.metric("ice_legs", None), 12.0);
}

#[tokio::test]
async fn a_flood_is_counted_and_the_call_goes_on() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let browser = Browser::new().await;
    browser.prove(&call.at_a).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let guess = IceCredentials { ufrag: "0123456789abcdef".into(), pwd: "guess".into() };
    let packets = [check(&guess, THEIRS), rtp(0xbad, 1), vec![0x16; 200]];
    for n in 1..50 {
        for packet in packets.iter().cycle().take(30) {
            stranger.send_to(packet, call.at_a.rtp).await.unwrap();
        }
        call.talk(&browser, n).await;
    }
    relay.dropped("ice_unknown_ufrag", 490.0).await;
    relay.dropped("ice_unknown_source", 980.0).await;
    relay.knows(1.0).await;
}

#[tokio::test]
async fn who_sends_without_measure_is_cut_off_before_others_are() {
    let relay = with(|config| config.limits.ice_packets = 100).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut loud = Call::new(&mut proxy, 1).await;
    let mut other = Call::new(&mut proxy, 2).await;
    let (browser, bystander) = (Browser::new().await, Browser::new().await);
    browser.prove(&loud.at_a).await;
    bystander.prove(&other.at_a).await;
    loud.talk(&browser, 1).await;
    let began = Instant::now();
    // What is valid and what is not count alike.
    let packets = [rtp(0xa01, 2), check(loud.ice(), THEIRS), vec![0xff; 9]];
    for n in 0..100 {
        for packet in &packets {
            browser.say(loud.at_a.rtp, packet).await;
        }
        if n % 20 == 0 {
            other.talk(&bystander, n).await;
        }
    }
    let seconds = began.elapsed().as_secs() + 2;
    let least = 300_u64.saturating_sub(100 * seconds);
    relay.metric_reaches("drops_total", Some("ice_too_fast"), least.max(1) as f64).await;
    assert!(least > 0, "the machine was too slow to send too fast");
    assert_eq!(relay.metric("drops_total", Some("ice_unknown_source")), 0.0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    while !browser.hears_nothing().await {}
    while !loud.b.hears_nothing().await {}
    loud.talk(&browser, 500).await;
    other.talk(&bystander, 500).await;
    let Outcome::Closed { legs, .. } = proxy.close(1).await else { panic!("it was open") };
    let dropped = &legs.iter().find(|(leg, _)| *leg == A).unwrap().1.dropped;
    assert!(dropped.iter().any(|(cause, n)| cause == "ice_too_fast" && *n >= least), "{dropped:?}");
}

/// As many as the socket has room for, which are more than one look takes.
#[tokio::test]
async fn what_waited_for_a_stalled_shard_is_all_taken() {
    // It sleeps for so long between any two looks.
    let relay = with(|config| config.coalesce = Duration::from_millis(300)).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let browser = Browser::new().await;
    browser.prove(&call.at_a).await;
    call.talk(&browser, 1).await;
    // The kernel counts some 770 octets for each.
    let room = relay.metric("ice_buffer_octets", Some("receive")) as usize / 800;
    let waiting = room.min(2_000);
    assert!(waiting > 512, "{waiting}");
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..waiting - 1 {
        stranger.send_to(&rtp(0xbad, 1), call.at_a.rtp).await.unwrap();
    }
    browser.say(call.at_a.rtp, &rtp(0xa01, 2)).await;
    assert_eq!(call.b.hear().await.packet, rtp(0xa01, 2));
    relay.dropped("ice_unknown_source", (waiting - 1) as f64).await;
}

/// With the fragment alone, as somebody has it who saw a check pass.
#[tokio::test]
async fn who_has_seen_a_fragment_can_neither_take_the_call_nor_have_others_told_of_it() {
    let relay = one_shard().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let mut call = Call::new(&mut proxy, 1).await;
    let (browser, stranger) = (Browser::new().await, Browser::new().await);
    browser.prove(&call.at_a).await;
    let guess = IceCredentials { ufrag: call.ice().ufrag.clone(), pwd: "guess".into() };
    let packet = check(&guess, THEIRS);
    let began = Instant::now();
    for n in 1..=500 {
        stranger.say(call.at_a.rtp, &packet).await;
        if n % 20 == 0 {
            call.talk(&browser, n).await;
        }
    }
    relay.dropped("stun_integrity", 500.0).await;
    let seconds = began.elapsed().as_secs() + 1;
    let mut answers = 0;
    while !stranger.hears_nothing().await {
        answers += 1;
    }
    assert!(answers <= 20 * seconds, "{answers} answers in {seconds} seconds");
    stranger.say(call.at_a.rtp, &rtp(0xbad, 1)).await;
    relay.dropped("ice_unknown_source", 1.0).await;
    call.talk(&browser, 501).await;
    relay.knows(1.0).await;
}
