//! Session descriptions: who offers what, and what is refused.

mod world;

use landline_call::tenancy::{EncryptionPolicy, MediaPolicy};
use landline_control::{LegId, Protocol, SrtpSuite};
use landline_sip::{HeaderName, Method, Request, Transport};
use world::phone::sdp;
use world::{World, tenants};

fn body(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk";

fn sdes(ip: &str, tag: u32) -> String {
    sdp(
        ip,
        4000,
        &format!(
            "a=crypto:{tag} AES_CM_128_HMAC_SHA1_32 inline:{KEY}\r\n\
         a=crypto:{} AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31\r\n",
            tag + 1
        ),
    )
    .replace("RTP/AVP", "RTP/SAVP")
}

fn dtls(ip: &str, proto: &str, setup: &str) -> String {
    let print = ["AB"; 32].join(":");
    sdp(ip, 4000, &format!("a=fingerprint:sha-256 {print}\r\na=setup:{setup}\r\na=rtcp-mux\r\n"))
        .replace("RTP/AVP", proto)
}

fn webrtc(setup: &str) -> String {
    let ice = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=mid:0\r\n\
        a=candidate:1 1 UDP 2122260223 10.1.0.1 50000 typ host\r\na=extmap:1 urn:x\r\n";
    (dtls("0.0.0.0", "UDP/TLS/RTP/SAVPF", setup) + ice)
        .replace("m=audio 4000", "m=audio 9")
        .replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0\r\n")
}

/// A world whose acme has this encryption policy and alice, bob these media.
fn with_media(
    seed: u8,
    encryption: EncryptionPolicy,
    alice: MediaPolicy,
    bob: MediaPolicy,
) -> (World, [usize; 2]) {
    let mut world = World::new(seed);
    let tenancy = tenants::with_account(tenants::acme(), |it| it.encryption = encryption);
    let tenancy = tenants::with_user(tenancy, "alice", |it| it.media = alice);
    let tenancy = tenants::with_user(tenancy, "bob", |it| it.media = bob);
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let phones = world.registered(["alice", "bob"]);
    (world, phones)
}

#[test]
fn a_caller_without_an_offer_gets_one_and_answers_it_in_its_ack() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    let (key, rung) = world.phones[bob].take(Method::Invite).unwrap();
    assert!(body(&rung).contains("opus/48000/2"), "bob is offered what we know");
    let answer = sdp("10.1.0.2", 4000, "")
        .replace("0 8 101", "8 101")
        .replace("a=rtpmap:0 PCMU/8000\r\n", "");
    world.answer(bob, &(key, rung), &answer);
    let offer = String::from_utf8(world.phones[alice].responses[0].1.body.to_vec()).unwrap();
    assert!(offer.contains("m=audio") && offer.contains(" 8 101 "), "{offer}");
    assert!(world.proxies[0].relay.session().joined.is_none());
    let mut a = world.confirm(alice, &invite, Some(&sdp("10.1.0.1", 4000, "")));
    let session = world.proxies[0].relay.session();
    assert!(session.joined.is_some());
    assert_eq!(session.remotes.len(), 2);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn an_ack_without_the_answer_ends_the_call() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    world.pick_up(bob);
    world.confirm(alice, &invite, None);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    assert!(world.phones[bob].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "not_acceptable");
    world.assert_at_rest();
}

#[test]
fn early_media_is_joined_and_the_answer_stays_the_same() {
    let mut world = World::ie1(3);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let (key, rung) = world.phones[bob].take(Method::Invite).unwrap();
    let early =
        landline_sip::Response::for_request(&rung, landline_sip::StatusCode::SESSION_PROGRESS)
            .with_to_tag(&format!("tag-{bob}"))
            .with_header(HeaderName::Contact, world.phones[bob].contact())
            .with_body("application/sdp", sdp("10.1.0.2", 4000, ""));
    world.respond(bob, key, early);
    let progress = world.phones[alice].responses.remove(0).1;
    assert_eq!(progress.status.code(), 183);
    assert!(world.proxies[0].relay.session().joined.is_some());
    world.answer(bob, &(key, rung), &sdp("10.1.0.2", 4000, ""));
    let answer = world.phones[alice].responses[0].1.clone();
    assert_eq!(answer.body, progress.body);
    assert_eq!(answer.to().unwrap().tag(), progress.to().unwrap().tag());
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn plain_rtp_is_refused_where_encryption_is_required() {
    let required = EncryptionPolicy::Required;
    let (mut world, [alice, _]) = with_media(4, required, MediaPolicy::Auto, MediaPolicy::Auto);
    world.dial(alice, "sip:bob@acme.test");
    let refused = world.phones[alice].take_final().unwrap();
    assert_eq!(refused.status.code(), 488);
    let warning = refused.headers.get(&HeaderName::Warning).unwrap().to_str_lossy().into_owned();
    assert!(warning.starts_with("399 ") && warning.contains("encryption"), "{warning}");
    assert_eq!(world.proxies[0].ledger.last().cause, "not_acceptable");
    assert_eq!(world.proxies[0].core.counters().encryption_missing, 1);
    world.assert_at_rest();
}

#[test]
fn plain_rtp_passes_where_account_or_user_allow_it() {
    for (seed, encryption, policy) in [
        (5, EncryptionPolicy::Optional, MediaPolicy::Auto),
        (6, EncryptionPolicy::Required, MediaPolicy::Rtp),
    ] {
        let (mut world, [alice, bob]) = with_media(seed, encryption, policy, policy);
        let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
        world.hang_up(&mut a);
        world.assert_at_rest();
    }
}

#[test]
fn an_sdes_offer_is_answered_by_its_own_tag_with_a_padded_key() {
    let (mut world, [alice, bob]) =
        with_media(7, EncryptionPolicy::Required, MediaPolicy::Sdes, MediaPolicy::Rtp);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&sdes("10.1.0.1", 4)));
    assert!(body(&world.phones[bob].requests[0].2).contains("m=audio 20004 RTP/AVP 0 8 101"));
    world.pick_up(bob);
    let answer = String::from_utf8(world.phones[alice].responses[0].1.body.to_vec()).unwrap();
    assert!(answer.contains("RTP/SAVP 0 8 101"), "{answer}");
    let key = answer.lines().find(|it| it.starts_with("a=crypto")).unwrap();
    // Of the two offered, the one whose suite we have.
    assert!(key.starts_with("a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:"), "{key}");
    let session = world.proxies[0].relay.session();
    let pair = session.remotes[&LegId(0)].sdes.clone().unwrap();
    assert_eq!((pair.send.tag, pair.receive.tag), (5, 5));
    assert_eq!(pair.receive.suite, SrtpSuite::AesCm128HmacSha1_80);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
}

#[test]
fn a_browser_gets_an_ice_lite_answer_and_a_phone_its_own_offer() {
    let (mut world, [alice, bob]) =
        with_media(8, EncryptionPolicy::Required, MediaPolicy::Webrtc, MediaPolicy::Dtls);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&webrtc("actpass")));
    let (key, rung) = world.phones[bob].take(Method::Invite).unwrap();
    let offer = body(&rung);
    assert!(
        offer.contains("UDP/TLS/RTP/SAVP 0 8 101") && offer.contains("a=setup:actpass"),
        "{offer}"
    );
    assert!(!offer.contains("ice") && !offer.contains("extmap"), "{offer}");
    world.answer(bob, &(key, rung), &dtls("10.1.0.2", "UDP/TLS/RTP/SAVP", "active"));
    let answer = String::from_utf8(world.phones[alice].responses[0].1.body.to_vec()).unwrap();
    for line in [
        "a=ice-lite",
        "a=ice-ufrag:",
        "a=ice-pwd:",
        "a=candidate:1 1 UDP",
        "a=rtcp-mux",
        "a=setup:passive",
        "a=fingerprint:sha-256 01:01:",
        "a=mid:0",
        "a=group:BUNDLE 0",
    ] {
        assert!(answer.contains(line), "{line} is missing:\n{answer}");
    }
    let session = world.proxies[0].relay.session();
    let a = &session.remotes[&LegId(0)];
    assert_eq!(a.ice.as_ref().unwrap().ufrag, "abcd");
    assert!(a.rtcp_mux);
    let b = session.remotes[&LegId(1)].dtls.clone().unwrap();
    assert_eq!(b.role, landline_control::DtlsRole::Server);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_phone_that_refuses_one_protection_is_offered_the_next_and_then_never_the_plain() {
    let (mut world, [alice, bob]) =
        with_media(9, EncryptionPolicy::Required, MediaPolicy::Rtp, MediaPolicy::Auto);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = world.phones[bob].take(Method::Invite).unwrap();
    assert!(body(&first.1).contains("UDP/TLS/RTP/SAVP "));
    world.say(bob, &first, 488);
    let second = world.phones[bob].take(Method::Invite).expect("another offer");
    assert!(body(&second.1).contains("RTP/SAVP 0") && body(&second.1).contains("a=crypto:1 "));
    let answer =
        sdp("10.1.0.2", 4000, &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"))
            .replace("RTP/AVP", "RTP/SAVP");
    world.answer(bob, &second, &answer);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.phones[bob].requests.clear();

    // The next call begins with what worked.
    world.dial(alice, "sip:bob@acme.test");
    let third = world.phones[bob].take(Method::Invite).unwrap();
    assert!(body(&third.1).contains("a=crypto:1 "));
    world.say(bob, &third, 488);
    let fourth = world.phones[bob].take(Method::Invite).unwrap();
    assert!(body(&fourth.1).contains("UDP/TLS/RTP/SAVP "));
    world.say(bob, &fourth, 488);
    assert!(world.phones[bob].take(Method::Invite).is_none(), "plain RTP was offered");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
    assert_eq!(world.proxies[0].ledger.last().cause, "not_acceptable");
    world.assert_at_rest();
}

#[test]
fn an_answer_without_the_keys_it_owes_is_hung_up() {
    let (mut world, [alice, bob]) =
        with_media(10, EncryptionPolicy::Required, MediaPolicy::Rtp, MediaPolicy::Sdes);
    world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.answer(bob, &rung, &sdp("10.1.0.2", 4000, "").replace("RTP/AVP", "RTP/SAVP"));
    assert!(world.phones[bob].take_ack().is_some());
    assert!(world.phones[bob].take(Method::Bye).is_some());
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
    world.assert_at_rest();
}

#[test]
fn web_sockets_are_offered_what_browsers_speak() {
    let mut world = World::ie1(11);
    let [alice] = world.registered(["alice"]);
    let dave = world.phone_at("dave", "acme.test", 7, 0, Transport::Ws);
    world.register(dave);
    world.dial(alice, "sip:dave@acme.test");
    let (_, rung) = world.phones[dave].take(Method::Invite).expect("over its own connection");
    let offer = body(&rung);
    for line in ["UDP/TLS/RTP/SAVPF", "a=ice-lite", "a=setup:actpass", "a=mid:0", "a=rtcp-mux\r\n"]
    {
        assert!(offer.contains(line), "{line} is missing:\n{offer}");
    }
    let spec = &world.proxies[0].relay.session().specs[&LegId(1)];
    assert_eq!((spec.protocol, spec.ice, spec.rtcp_mux), (Protocol::Dtls, true, true));
    // One port for all of it: there is no second component, nor may it be wished for.
    assert!(offer.contains("a=rtcp-mux-only\r\n"), "{offer}");
    let candidates = offer.lines().filter(|line| line.starts_with("a=candidate:"));
    assert_eq!(candidates.count(), 1, "{offer}");
}

#[test]
fn a_phone_with_a_browsers_profile_has_a_second_port() {
    for (seed, is_muxed) in [(31, false), (32, true)] {
        let (mut world, [alice, bob]) =
            with_media(seed, EncryptionPolicy::Optional, MediaPolicy::Rtp, MediaPolicy::Webrtc);
        world.dial(alice, "sip:bob@acme.test");
        let (key, rung) = world.phones[bob].take(Method::Invite).unwrap();
        let offer = body(&rung);
        assert!(offer.contains("a=rtcp-mux\r\n") && !offer.contains("rtcp-mux-only"), "{offer}");
        assert!(offer.contains("a=candidate:1 2 UDP"), "{offer}");
        let answer = webrtc("active").replace("0.0.0.0", "10.1.0.2");
        let answer = match is_muxed {
            true => answer,
            false => answer.replace("a=rtcp-mux\r\n", ""),
        };
        world.answer(bob, &(key, rung), &answer);
        let session = world.proxies[0].relay.session();
        let spec = &session.specs[&LegId(1)];
        assert_eq!((spec.ice, spec.rtcp_mux), (true, false), "the relay has both ports");
        let told = &session.remotes[&LegId(1)];
        assert_eq!((told.rtcp_mux, told.ice.is_some()), (is_muxed, true));
    }
}

#[test]
fn a_web_socket_client_that_answers_without_ice_or_apart_is_told_what_is_needed() {
    let without_ice = dtls("10.1.0.2", "UDP/TLS/RTP/SAVPF", "active");
    let apart = webrtc("active").replace("a=rtcp-mux\r\n", "");
    for (seed, answer) in [(33, without_ice), (35, apart)] {
        let mut world = World::ie1(seed);
        let [alice] = world.registered(["alice"]);
        let dave = world.phone_at("dave", "acme.test", 7, 0, Transport::Ws);
        world.register(dave);
        world.dial(alice, "sip:dave@acme.test");
        let rung = world.phones[dave].take(Method::Invite).unwrap();
        world.answer(dave, &rung, &answer);
        assert!(world.phones[dave].take(Method::Bye).is_some());
        let refused = world.phones[alice].take_final().unwrap();
        assert_eq!(refused.status.code(), 488);
        let warning = refused.headers.get(&HeaderName::Warning).unwrap();
        let warning = warning.to_str_lossy().into_owned();
        assert!(warning.contains("ICE is required") && warning.contains("rtcp-mux"), "{warning}");
        world.assert_at_rest();
    }
}

#[test]
fn who_gives_up_ice_within_a_call_gets_ports() {
    let (mut world, [alice, bob]) =
        with_media(34, EncryptionPolicy::Required, MediaPolicy::Auto, MediaPolicy::Rtp);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&webrtc("actpass")));
    world.pick_up(bob);
    let mut a = world.confirm(alice, &invite, None);
    let first = world.proxies[0].relay.session().specs[&LegId(0)].clone();
    assert!(first.ice && first.rtcp_mux);
    let plainer = dtls("10.1.0.1", "UDP/TLS/RTP/SAVPF", "actpass");
    world.within(&mut a, Method::Invite, Some(&plainer));
    let response = world.phones[alice].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    let session = world.proxies[0].relay.session();
    assert_eq!(session.joined, Some((LegId(2), LegId(1))));
    assert!(!session.specs[&LegId(2)].ice && !session.specs.contains_key(&LegId(0)));
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
}

#[test]
fn video_is_declined_line_by_line() {
    let mut world = World::ie1(12);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let offer = sdp("10.1.0.1", 4000, "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n")
        .replace("m=audio", "m=application 5000 UDP/BFCP *\r\nm=audio");
    world.invite(alice, "sip:bob@acme.test", Some(&offer));
    assert!(!body(&world.phones[bob].requests[0].2).contains("video"));
    world.pick_up(bob);
    let answer = String::from_utf8(world.phones[alice].responses[0].1.body.to_vec()).unwrap();
    let lines: Vec<_> = answer.lines().filter(|it| it.starts_with("m=")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "m=application 0 UDP/BFCP *");
    assert!(lines[1].starts_with("m=audio 200"));
    assert_eq!(lines[2], "m=video 0 RTP/AVP 96");
}

#[test]
fn unknown_codecs_pass_with_their_numbers_and_parameters() {
    let mut world = World::ie1(13);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let offer = sdp("10.1.0.1", 4000, "a=rtpmap:117 exotic/16000/3\r\na=fmtp:117 mode=2;x\r\n")
        .replace("0 8 101", "117 0 8 101");
    world.invite(alice, "sip:bob@acme.test", Some(&offer));
    let (key, rung) = world.phones[bob].take(Method::Invite).unwrap();
    let offered = body(&rung);
    assert!(offered.contains("RTP/AVP 117 0 8 101") && offered.contains("a=ptime:20"), "{offered}");
    assert!(offered.contains("a=rtpmap:117 exotic/16000/3\r\na=fmtp:117 mode=2;x"), "{offered}");
    // Bob wants it by another number.
    let answer = sdp("10.1.0.2", 4000, "a=rtpmap:120 exotic/16000/3\r\n").replace("0 8 101", "120");
    world.answer(bob, &(key, rung), &answer);
    let answer = String::from_utf8(world.phones[alice].responses[0].1.body.to_vec()).unwrap();
    assert!(answer.contains("RTP/AVP 120 101\r\n"), "keys go by INFO: {answer}");
}

#[test]
fn what_is_no_session_description_is_refused() {
    let mut world = World::ie1(14);
    let [alice, _bob] = world.registered(["alice", "bob"]);
    let mut odd = world.invite_request(alice, "sip:bob@acme.test", None);
    odd.set_body("text/plain", "hello");
    let refused = world.ask(alice, odd);
    assert_eq!(refused.status.code(), 415);
    assert!(*refused.headers.get(&HeaderName::Accept).unwrap() == "application/sdp");
    for (offer, status) in [
        ("v=0\r\nnonsense".to_owned(), 400),
        (sdp("10.1.0.1", 0, ""), 488),
        (sdp("10.1.0.1", 4000, "").replace("RTP/AVP 0 8 101", "TCP/MSRP *"), 488),
        (sdp("10.1.0.1", 4000, "").replace("RTP/AVP 0 8 101", "RTP/AVP 101"), 488),
    ] {
        world.invite(alice, "sip:bob@acme.test", Some(&offer));
        let refused = world.phones[alice].take_final().unwrap();
        assert_eq!(refused.status.code(), status, "{offer}");
        assert!(refused.headers.contains(&HeaderName::Warning));
    }
    world.assert_at_rest();
}

#[test]
fn tls_phones_without_a_policy_are_offered_encryption() {
    let mut world = World::ie1(15);
    let [alice] = world.registered(["alice"]);
    let dave = world.phone_at("dave", "acme.test", 7, 0, Transport::Tls);
    world.register(dave);
    world.dial(alice, "sip:dave@acme.test");
    let (_, rung) = world.phones[dave].take(Method::Invite).unwrap();
    assert!(body(&rung).contains("UDP/TLS/RTP/SAVP "));
    assert!(rung.contacts().is_ok_and(|it| format!("{it:?}").contains("List")));
}
