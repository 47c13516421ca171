//! Sides that share no codec are joined all the same, and those that share one
//! are left alone.

mod world;

use std::time::Duration;

use landline_call::Input;
use landline_control::{Hello, LegId, RelayId, Spoken};
use landline_sip::{HeaderName, Method, Response, StatusCode};
use world::phone::{Leg, sdp, text};
use world::relay::FakeRelay;
use world::{World, tenants};

const A: LegId = LegId(0);
const B: LegId = LegId(1);

/// A description with these formats alone.
fn speaks(ip: &str, formats: &[(u8, &str)], more: &str) -> String {
    let numbers: Vec<_> = formats.iter().map(|(number, _)| number.to_string()).collect();
    let maps: String =
        formats.iter().map(|(number, map)| format!("a=rtpmap:{number} {map}\r\n")).collect();
    sdp(ip, 4000, more)
        .replace("0 8 101", &numbers.join(" "))
        .replace("a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n", &maps)
        .replace("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n", "")
}

const PHONE: [(u8, &str); 2] = [(0, "PCMU/8000"), (101, "telephone-event/8000")];
const OPUS: [(u8, &str); 2] = [(107, "opus/48000/2"), (110, "telephone-event/48000")];

fn phone(more: &str) -> String {
    speaks("10.1.0.1", &PHONE, more)
}

fn opus(more: &str) -> String {
    speaks("10.1.0.2", &OPUS, more)
}

fn formats(body: &str) -> &str {
    let line = body.lines().find(|it| it.starts_with("m=audio")).expect("audio");
    line.splitn(4, ' ').nth(3).unwrap()
}

fn spoken(world: &World, leg: LegId) -> &Spoken {
    &world.proxies[0].relay.session().spoken[&leg]
}

fn says(spoken: &Spoken) -> Vec<(u8, &str)> {
    spoken.says.iter().map(|it| (it.number, it.encoding.as_str())).collect()
}

/// A phone that has PCMU alone has called one that has Opus alone.
fn up(seed: u8) -> (World, Leg, Leg) {
    let mut world = World::ie1(seed);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&phone("")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let b = world.answer(bob, &rung, &opus(""));
    let a = world.confirm(alice, &invite, None);
    world.phones[bob].take_ack().expect("the ACK");
    (world, a, b)
}

#[test]
fn a_phone_and_one_with_another_codec_are_joined_and_each_is_answered_its_own() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&phone("a=ptime:30\r\n")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let offer = text(&rung.1.body);
    assert_eq!(formats(&offer), "0 101 8 9 96 97", "the caller's own first: {offer}");
    assert!(offer.contains("a=rtpmap:96 opus/48000/2\r\n"), "{offer}");
    assert!(offer.contains("a=rtpmap:97 telephone-event/48000\r\n"), "{offer}");
    world.answer(bob, &rung, &opus(""));
    let answer = text(&world.phones[alice].responses[0].1.body);
    assert_eq!(formats(&answer), "0 101", "{answer}");
    assert!(!answer.contains("opus"), "{answer}");
    let (of_a, of_b) = (spoken(&world, A), spoken(&world, B));
    assert_eq!(says(of_a)[..2], [(0, "PCMU"), (101, "TELEPHONE-EVENT")]);
    // By the number of its answer, as it should be, or of our offer.
    assert_eq!(says(of_b)[..2], [(107, "OPUS"), (110, "TELEPHONE-EVENT")]);
    assert!(says(of_b).contains(&(96, "OPUS")));
    assert_eq!(of_b.takes[0].number, 107);
    assert_eq!(of_a.takes[0].number, 0);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn where_there_is_a_codec_in_common_nothing_is_transcoded() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&phone("")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.answer(bob, &rung, &speaks("10.1.0.2", &PHONE, ""));
    assert_eq!(formats(&text(&world.phones[alice].responses[0].1.body)), "0 101");
    assert!(world.proxies[0].relay.session().spoken.is_empty());
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.phones[alice].take(Method::Invite).is_none(), "nobody is asked again");
    assert!(world.phones[bob].take(Method::Invite).is_none(), "nobody is asked again");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn who_answers_with_more_than_the_caller_has_is_kept_to_what_both_have() {
    let mut world = World::ie1(3);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&phone("")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let all = [PHONE[0], (96, "opus/48000/2"), PHONE[1]];
    world.answer(bob, &rung, &speaks("10.1.0.2", &all, ""));
    assert_eq!(formats(&text(&world.phones[alice].responses[0].1.body)), "0 101");
    // Should it speak Opus all the same, the relay knows what to do.
    assert_eq!(says(spoken(&world, B)), [(0, "PCMU"), (96, "OPUS"), (101, "TELEPHONE-EVENT")]);
    assert_eq!(says(spoken(&world, A)), [(0, "PCMU"), (101, "TELEPHONE-EVENT")]);
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.phones[bob].take(Method::Invite).is_none(), "nobody is asked again");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn what_no_relay_can_transcode_is_refused_as_ever() {
    let mut world = World::ie1(4);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let offer = speaks("10.1.0.1", &[(18, "G729/8000")], "");
    world.invite(alice, "sip:bob@acme.test", Some(&offer));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    assert_eq!(formats(&text(&rung.1.body)), "18 101", "keys go by INFO");
    world.answer(bob, &rung, &opus(""));
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
    assert!(world.phones[bob].take(Method::Bye).is_some());
}

#[test]
fn a_proxy_that_is_told_not_to_offers_nothing_more_than_the_caller() {
    let mut world = World::new(5);
    world.add_proxy("ie1", 1, tenants::acme(), |config| config.transcoding = false);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.invite(alice, "sip:bob@acme.test", Some(&phone("")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    assert_eq!(formats(&text(&rung.1.body)), "0 101");
    world.answer(bob, &rung, &opus(""));
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
}

#[test]
fn early_media_is_transcoded_and_the_answer_stays_the_same() {
    let mut world = World::ie1(6);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&phone("")));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let early = Response::for_request(&rung.1, StatusCode::SESSION_PROGRESS)
        .with_to_tag(&format!("tag-{bob}"))
        .with_header(HeaderName::Contact, world.phones[bob].contact())
        .with_body("application/sdp", opus(""));
    world.respond(bob, rung.0, early);
    let progress = world.phones[alice].responses.remove(0).1;
    assert_eq!((progress.status.code(), formats(&text(&progress.body))), (183, "0 101"));
    assert_eq!(spoken(&world, B).takes[0].encoding, "OPUS");
    world.answer(bob, &rung, &opus(""));
    assert_eq!(world.phones[alice].responses[0].1.body, progress.body);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn hold_and_resume_from_either_side_keep_each_to_its_codec() {
    let (mut world, mut a, mut b) = up(7);
    for (word, reply) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv")] {
        world.within(&mut a, Method::Invite, Some(&phone(&format!("a={word}\r\n"))));
        let reply_sdp = opus(&format!("a={reply}\r\n"));
        let asked = world.answer_within(&b, Method::Invite, 200, Some(&reply_sdp));
        assert_eq!(formats(&text(&asked.body)), "0 101 8 9 96 97");
        let response = world.phones[a.phone].take_final().unwrap();
        assert_eq!(formats(&text(&response.body)), "0 101");
        world.ack(&a, response.cseq().unwrap().number, None);
        assert_eq!(spoken(&world, B).takes[0].encoding, "OPUS");
    }
    for (word, reply) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv")] {
        world.within(&mut b, Method::Invite, Some(&opus(&format!("a={word}\r\n"))));
        let reply_sdp = phone(&format!("a={reply}\r\n"));
        let asked = world.answer_within(&a, Method::Invite, 200, Some(&reply_sdp));
        assert!(formats(&text(&asked.body)).starts_with("107 110 9 0 8"), "{asked:?}");
        let response = world.phones[b.phone].take_final().unwrap();
        assert_eq!(formats(&text(&response.body)), "107 110");
        world.ack(&b, response.cseq().unwrap().number, None);
        assert_eq!(spoken(&world, A).takes[0].encoding, "PCMU");
    }
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_change_to_a_codec_in_common_ends_the_transcoding() {
    let (mut world, mut a, b) = up(8);
    let both = [(111, "opus/48000/2"), PHONE[0], PHONE[1]];
    world.within(&mut a, Method::Invite, Some(&speaks("10.1.0.1", &both, "")));
    world.answer_within(&b, Method::Invite, 200, Some(&opus("")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(formats(&text(&response.body)), "107");
    world.ack(&a, response.cseq().unwrap().number, None);
    assert!(world.proxies[0].relay.session().spoken.is_empty());
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_transcoded_call_goes_over_to_another_relay() {
    let (mut world, mut a, b) = up(9);
    let second = RelayId("relay-2".into());
    world.proxies[0].others.insert(second.clone(), FakeRelay::new(52));
    let region = world.proxies[0].region;
    let hello = Hello { version: 1, region, name: "relay-2".into(), incarnation: 1 };
    world.input(0, Input::RelayConnected { relay: second.clone(), hello });
    world.proxies[0].dead_relays.push(RelayId("relay-1".into()));
    world.input(0, Input::RelayLost { relay: RelayId("relay-1".into()) });
    world.run(Duration::from_millis(50));
    let asked = world.answer_within(&a, Method::Invite, 200, Some(&phone("")));
    assert!(formats(&text(&asked.body)).contains(" 0 "), "{}", text(&asked.body));
    let asked = world.answer_within(&b, Method::Invite, 200, Some(&opus("")));
    assert!(text(&asked.body).contains("opus/48000/2"));
    world.settle();
    let session = world.proxies[0].others[&second].session();
    assert_eq!(session.joined, Some((A, B)));
    assert_eq!(session.spoken[&A].takes[0].encoding, "PCMU");
    assert_eq!(session.spoken[&B].takes[0].encoding, "OPUS");
    assert!(world.phones[a.phone].take(Method::Invite).is_none(), "nobody is asked again");
    assert!(world.phones[b.phone].take(Method::Invite).is_none(), "nobody is asked again");
    world.hang_up(&mut a);
    world.run(Duration::from_secs(1));
    world.assert_at_rest();
}

#[test]
fn a_caller_without_an_offer_may_answer_with_what_the_callee_lacks() {
    let mut world = World::ie1(10);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.answer(bob, &rung, &opus(""));
    let offer = text(&world.phones[alice].responses[0].1.body);
    assert!(formats(&offer).starts_with("107 110 9 0 8"), "{offer}");
    let mut a = world.confirm(alice, &invite, Some(&phone("")));
    assert_eq!(spoken(&world, A).takes[0].encoding, "PCMU");
    assert_eq!(spoken(&world, B).takes[0].encoding, "OPUS");
    world.hang_up(&mut a);
}
