//! Calls that change while they last: hold, resume, other codecs, collisions.

mod world;

use landline_control::{Direction, LegId, RelayId};
use landline_sip::{HeaderName, Method};
use world::phone::{Leg, ip, sdp, text, version};
use world::{World, up};

#[test]
fn either_side_holds_and_resumes_and_the_other_hears_of_it() {
    for holder in [0, 1] {
        let (mut world, a, b) = up(1);
        let (mut x, y) = if holder == 0 { (a, b) } else { (b, a) };
        let mut versions = Vec::new();
        for (wanted, answered) in
            [("sendonly", "recvonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")]
        {
            let offer = sdp(ip(&x), 4000, &format!("a={wanted}\r\n"));
            world.within(&mut x, Method::Invite, Some(&offer));
            let reply = sdp(ip(&y), 4000, &format!("a={answered}\r\n"));
            let asked = world.answer_within(&y, Method::Invite, 200, Some(&reply));
            assert!(text(&asked.body).contains(&format!("a={wanted}\r\n")));
            versions.push(version(&text(&asked.body)));
            assert!(world.phones[y.phone].take_ack().is_some());
            let response = world.phones[x.phone].take_final().unwrap();
            assert_eq!(response.status.code(), 200);
            assert!(text(&response.body).contains(&format!("a={answered}\r\n")));
            let cseq = response.cseq().unwrap().number;
            world.ack(&x, cseq, None);
        }
        // Of the first description that was sent to it, of this one, and on.
        assert_eq!(versions.windows(2).filter(|it| it[1] == it[0] + 1).count(), 2, "{versions:?}");
        world.hang_up(&mut x);
        world.assert_at_rest();
    }
}

#[test]
fn the_relay_knows_who_may_send() {
    let (mut world, mut a, b) = up(2);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let session = world.proxies[0].relay.session();
    assert_eq!(session.remotes[&LegId(0)].direction, Direction::ReceiveOnly);
    assert_eq!(session.remotes[&LegId(1)].direction, Direction::SendOnly);
}

#[test]
fn a_new_address_is_for_the_relay_alone() {
    let (mut world, mut a, b) = up(3);
    let offer = sdp("10.1.0.99", 4444, "");
    world.within(&mut a, Method::Invite, Some(&offer));
    assert!(world.phones[b.phone].take(Method::Invite).is_none());
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    let remote = &world.proxies[0].relay.session().remotes[&LegId(0)];
    assert_eq!(remote.rtp.to_string(), "10.1.0.99:4444");
    // Nothing of ours has changed, and so its version has not.
    assert_eq!(version(&text(&response.body)), 1);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn other_codecs_are_carried_across() {
    let (mut world, a, mut b) = up(4);
    let offer = sdp(ip(&b), 4000, "").replace("0 8 101", "8");
    world.within(&mut b, Method::Invite, Some(&offer));
    let reply = sdp(ip(&a), 4000, "").replace("0 8 101", "8");
    let asked = world.answer_within(&a, Method::Invite, 200, Some(&reply));
    assert!(text(&asked.body).contains("RTP/AVP 8 "), "and what can be made of it");
    let response = world.phones[b.phone].take_final().unwrap();
    assert!(text(&response.body).contains("RTP/AVP 8\r\n"));
    let remote = &world.proxies[0].relay.session().remotes[&LegId(0)];
    assert_eq!(remote.payload_types.len(), 1);
}

#[test]
fn a_refused_change_leaves_the_call_as_it_was() {
    let (mut world, mut a, b) = up(5);
    let ops = world.proxies[0].relay.ops.len();
    let offer = sdp(ip(&a), 4000, "a=inactive\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 488, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 488);
    assert_eq!(world.proxies[0].relay.ops.len(), ops);
    // And it may be tried again.
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=inactive\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn update_is_carried_as_update_without_an_ack() {
    let (mut world, mut a, b) = up(6);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Update, Some(&offer));
    world.answer_within(&b, Method::Update, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    assert!(text(&response.body).contains("a=recvonly"));
    // Without an offer it only says where the peer is.
    world.within(&mut a, Method::Update, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    assert!(world.phones[b.phone].take(Method::Update).is_none());
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn both_at_once_is_a_collision_and_one_after_the_other_an_overlap() {
    let (mut world, mut a, mut b) = up(7);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    // Bob asks while he is asked.
    let other = sdp(ip(&b), 4000, "a=sendonly\r\n");
    let key = world.within(&mut b, Method::Invite, Some(&other));
    let glare = world.phones[b.phone].take_final().unwrap();
    assert_eq!(glare.status.code(), 491);
    let _ = key;
    // Alice asks again before she is answered.
    world.within(&mut a, Method::Update, Some(&offer));
    let overlap = world.phones[a.phone].take_final().unwrap();
    assert_eq!(overlap.status.code(), 500);
    let wait: u32 = overlap
        .headers
        .get(&HeaderName::RetryAfter)
        .and_then(|it| it.to_str_lossy().parse().ok())
        .expect("Retry-After");
    assert!(wait <= 10);
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_collision_at_the_other_side_comes_back_to_who_asked() {
    let (mut world, mut a, b) = up(8);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 491, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 491);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_change_without_an_offer_gets_ours_and_the_other_side_hears_what_came_of_it() {
    let (mut world, mut a, b) = up(9);
    world.within(&mut a, Method::Invite, None);
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    assert!(text(&response.body).contains("m=audio"));
    world.ack(&a, response.cseq().unwrap().number, Some(&sdp(ip(&a), 4000, "a=recvonly\r\n")));
    // Ours collides first, and is tried again.
    world.answer_within(&b, Method::Invite, 491, None);
    world.wait(5);
    let asked =
        world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=sendonly\r\n")));
    assert!(text(&asked.body).contains("a=recvonly"));
    assert!(world.phones[b.phone].take_ack().is_some());
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_cancelled_change_is_undone() {
    let (mut world, mut a, b) = up(10);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    let key = world.within(&mut a, Method::Invite, Some(&offer));
    world.wait(1);
    world.cancel(a.phone, key);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 487);
    // Bob's answer crosses the CANCEL: he is told how it stays.
    if world.phones[b.phone].take(Method::Invite).is_some() {
        world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    }
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_side_that_lost_the_dialog_ends_the_call() {
    let (mut world, mut a, b) = up(11);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 481, None);
    assert!(world.phones[a.phone].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "signalling_lost");
    world.assert_at_rest();
}

#[test]
fn a_bye_that_crosses_its_own_481_is_who_hung_up() {
    let (mut world, mut a, mut b) = up(13);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    // The record waits for the relay's figures meanwhile.
    world.proxies[0].dead_relays.push(RelayId("relay-1".into()));
    world.answer_within(&b, Method::Invite, 481, None);
    world.within(&mut b, Method::Bye, None);
    assert_eq!(world.phones[b.phone].take_final().unwrap().status.code(), 200);
    world.wait(10);
    assert_eq!(world.proxies[0].ledger.last().cause, "callee_hung_up");
}

#[test]
fn info_passes_and_options_is_answered_here() {
    let (mut world, mut a, b) = up(12);
    let mut info = a.dialog.request(Method::Info);
    info.headers.push(HeaderName::parse("Info-Package"), "dtmf");
    info.headers.push(HeaderName::UserAgent, "Phone/secret-version");
    info.set_body("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    world.phones[a.phone].responses.clear();
    world.send_request(a.phone, info);
    world.settle();
    let passed = world.answer_within(&b, Method::Info, 200, None);
    assert_eq!(text(&passed.body), "Signal=5\r\nDuration=160\r\n");
    assert!(passed.headers.contains(&HeaderName::parse("Info-Package")));
    assert!(!text(&passed.to_bytes()).contains("secret"));
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    world.within(&mut a, Method::Options, None);
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    assert!(response.headers.contains(&HeaderName::Allow));
    world.within(&mut a, Method::Publish, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 405);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn whoever_knows_the_tags_is_not_yet_the_peer() {
    let (mut world, a, b) = up(13);
    let mallory = world.phone("mallory", 66);
    let mut forged = a.dialog.clone();
    let bye = forged.request(Method::Bye);
    world.send_request(mallory, bye);
    world.settle();
    assert_eq!(world.phones[mallory].take_final().unwrap().status.code(), 407);
    assert!(world.phones[b.phone].take(Method::Bye).is_none());
    assert_eq!(world.proxies[0].core.counters().dialog_challenges, 1);

    // Alice herself, behind another NAT binding, proves who she is.
    let elsewhere = world.phone("alice", 77);
    let bye = forged.request(Method::Bye);
    assert_eq!(world.ask(elsewhere, bye).status.code(), 200);
    assert!(world.phones[b.phone].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn a_request_that_goes_back_in_order_is_refused() {
    let (mut world, mut a, _b) = up(14);
    let mut old = a.dialog.request(Method::Options);
    old.headers.set(HeaderName::CSeq, "1 OPTIONS");
    world.phones[a.phone].responses.clear();
    world.send_request(a.phone, old);
    world.settle();
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 500);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn other_keys_or_another_protection_move_to_a_leg_of_their_own() {
    let (mut world, mut a, _b) = up(15);
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk";
    let offer = sdp(ip(&a), 4000, &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n"))
        .replace("RTP/AVP", "RTP/SAVP");
    world.within(&mut a, Method::Invite, Some(&offer));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    assert!(text(&response.body).contains("a=crypto:1 "));
    let session = world.proxies[0].relay.session();
    assert_eq!(session.joined, Some((LegId(2), LegId(1))));
    assert!(!session.specs.contains_key(&LegId(0)), "the former leg is given back");
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

/// A conference that a phone mixes (RFC 5359 §2.10, RFC 4579 §5): it has both calls
/// at once, each a session of its own, and says so in its Contact.
#[test]
fn a_phone_mixes_two_calls_of_its_own() {
    let mut world = World::ie1(30);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (mut with_bob, b) = world.call(alice, bob, "sip:bob@acme.test");
    let change = |world: &mut World, leg: &mut Leg, other: &Leg, port: u16, direction: &str| {
        let answer = if direction == "sendonly" { "recvonly" } else { "sendrecv" };
        let mut request = leg.dialog.request(Method::Invite);
        let contact = format!("{};isfocus", world.phones[leg.phone].contact());
        request.headers.set(HeaderName::Contact, contact);
        let body = sdp("10.1.0.1", port, &format!("a={direction}\r\n"));
        request.set_body("application/sdp", body);
        let cseq = request.cseq().unwrap().number;
        world.phones[leg.phone].responses.clear();
        world.send_request(leg.phone, request);
        world.settle();
        let ip = format!("10.1.0.{}", other.phone + 1);
        let body = sdp(&ip, 4000, &format!("a={answer}\r\n"));
        let heard = world.answer_within(other, Method::Invite, 200, Some(&body));
        world.phones[other.phone].take_ack();
        assert!(text(&heard.body).contains(&format!("a={direction}")), "{}", text(&heard.body));
        world.ack(leg, cseq, None);
    };
    change(&mut world, &mut with_bob, &b, 4000, "sendonly");
    let (_, invite) = world.invite(alice, "sip:carol@acme.test", Some(&sdp("10.1.0.1", 4002, "")));
    let c = world.pick_up(carol);
    let mut with_carol = world.confirm(alice, &invite, None);
    world.phones[carol].take_ack();
    change(&mut world, &mut with_bob, &b, 4000, "sendrecv");
    assert_eq!(world.proxies[0].relay.sessions(), 2);
    // One of the two leaves, and the other call goes on.
    world.hang_up(&mut with_carol);
    assert!(world.phones[c.phone].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].relay.sessions(), 1);
    world.hang_up(&mut with_bob);
    world.assert_at_rest();
}
