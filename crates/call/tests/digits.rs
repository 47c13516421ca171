//! Keys between a side that says them by INFO and one that has them in its media.

mod world;

use landline_control::{Event, Key, LegId, Op};
use landline_sip::{HeaderName, Method};
use world::phone::{Leg, ip, sdp, text};
use world::{World, up};

const RELAY: &str = "application/dtmf-relay";
const FIVE: &str = "Signal=5\r\nDuration=240\r\n";

/// A call whose caller has no events in its media, and takes INFO if it says so.
fn without_events(seed: u8, takes_info: bool) -> (World, Leg, Leg) {
    let mut world = World::ie1(seed);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let offer = plain("10.1.0.1");
    let mut request = world.invite_request(alice, "sip:bob@acme.test", Some(&offer));
    let more = if takes_info { ", INFO" } else { "" };
    request.headers.set(HeaderName::Allow, format!("INVITE, ACK, BYE, CANCEL{more}"));
    let (_, invite) = world.invite_by(alice, request);
    let asked = world.phones[bob].take(Method::Invite).unwrap();
    let offered = text(&asked.1.body).contains("telephone-event/8000");
    assert_eq!(offered, takes_info, "{}", text(&asked.1.body));
    let reply = match offered {
        true => sdp("10.1.0.2", 4000, ""),
        false => plain("10.1.0.2"),
    };
    let b = world.answer(bob, &asked, &reply);
    let a = world.confirm(alice, &invite, None);
    assert!(world.phones[bob].take_ack().is_some());
    (world, a, b)
}

/// Without events.
fn plain(ip: &str) -> String {
    let all = sdp(ip, 4000, "").replace("RTP/AVP 0 8 101", "RTP/AVP 0 8");
    all.replace("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n", "")
}

fn says(world: &mut World, leg: &mut Leg, kind: &str, body: &str) {
    let mut info = leg.dialog.request(Method::Info);
    info.set_body(kind, body.to_owned());
    world.phones[leg.phone].responses.clear();
    world.send_request(leg.phone, info);
    world.settle();
}

/// What the relay was told of keys.
fn keys(world: &World) -> Vec<Op> {
    let ops = world.proxies[0].relay.ops.iter().map(|(_, op)| op.clone());
    ops.filter(|op| matches!(op, Op::Press(..) | Op::TellKeys(_))).collect()
}

fn presses(world: &mut World, leg: u16, event: u8) {
    world.happens(Event::Key(LegId(leg), Key { event, duration_ms: 200 }));
}

#[test]
fn a_key_by_info_is_pressed_towards_who_has_events() {
    let (mut world, mut a, b) = without_events(1, true);
    let before = keys(&world).len();
    says(&mut world, &mut a, RELAY, FIVE);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    assert!(world.phones[b.phone].take(Method::Info).is_none(), "it hears it in its media");
    says(&mut world, &mut a, "application/dtmf", "#");
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    let pressed = [(5, 240), (11, 160)]
        .map(|(event, duration_ms)| Op::Press(LegId(1), Key { event, duration_ms }));
    assert_eq!(keys(&world)[before..], pressed);

    says(&mut world, &mut a, RELAY, "Signal=Z");
    let refused = world.phones[a.phone].take_final().unwrap();
    assert_eq!(refused.status.code(), 400);
    assert!(refused.headers.contains(&HeaderName::Warning));
    let counters = world.proxies[0].core.counters();
    assert_eq!((counters.keys_to_events, counters.keys_refused), (2, 1));
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_key_in_the_media_goes_by_info_to_who_has_no_events() {
    let (mut world, mut a, b) = without_events(2, true);
    assert_eq!(keys(&world), [Op::TellKeys(LegId(1))], "the relay is to tell");
    presses(&mut world, 1, 10);
    let asked = world.answer_within(&a, Method::Info, 200, None);
    assert_eq!(text(&asked.body), "Signal=*\r\nDuration=200\r\n");
    let kind = asked.headers.get(&HeaderName::ContentType).unwrap().to_str_lossy().into_owned();
    assert_eq!(kind, RELAY);

    // After a change it is told again: a description ends it.
    let hold = plain(ip(&a)) + "a=sendonly\r\n";
    world.within(&mut a, Method::Update, Some(&hold));
    world.answer_within(&b, Method::Update, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    assert_eq!(keys(&world), [Op::TellKeys(LegId(1)), Op::TellKeys(LegId(1))]);

    // The next process knows of it, too.
    world.proxy_dies(0);
    world.settle();
    world.wait(5);
    let resume = plain(ip(&a));
    world.within(&mut a, Method::Update, Some(&resume));
    world.answer_within(&b, Method::Update, 200, Some(&sdp(ip(&b), 4000, "")));
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    assert_eq!(keys(&world).len(), 3);

    // Nobody who is asked too much is asked for ever.
    for _ in 0..40 {
        presses(&mut world, 1, 1);
    }
    let infos = std::iter::from_fn(|| world.phones[a.phone].take(Method::Info)).count();
    assert_eq!(infos, 16);
    assert_eq!(world.proxies[0].core.counters().keys_refused, 24);
    presses(&mut world, 1, 16);
    assert_eq!(world.proxies[0].core.counters().keys_refused, 25, "no key of a telephone");
    world.hang_up(&mut a);
    world.run(std::time::Duration::from_secs(40));
    world.assert_at_rest();
}

#[test]
fn who_answers_without_events_hears_keys_by_info_and_the_caller_is_told_it_may_press_them() {
    let mut world = World::ie1(3);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let asked = world.phones[bob].take(Method::Invite).unwrap();
    let b = world.answer(bob, &asked, &plain("10.1.0.2"));
    let answer = text(&world.phones[alice].responses.last().unwrap().1.body);
    assert!(answer.contains("telephone-event/8000"), "{answer}");
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.phones[bob].take_ack().is_some());
    assert_eq!(keys(&world), [Op::TellKeys(LegId(0))]);
    presses(&mut world, 0, 0);
    let asked = world.answer_within(&b, Method::Info, 200, None);
    assert_eq!(text(&asked.body), "Signal=0\r\nDuration=200\r\n");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn between_sides_that_agree_and_in_packages_they_pass() {
    // Neither has events.
    let (mut world, mut a, mut b) = without_events(4, false);
    assert_eq!(keys(&world), []);
    says(&mut world, &mut a, RELAY, FIVE);
    let passed = world.answer_within(&b, Method::Info, 200, None);
    assert_eq!(text(&passed.body), FIVE);
    // Who says them so hears them so, whatever else it could.
    says(&mut world, &mut b, RELAY, FIVE);
    world.answer_within(&a, Method::Info, 200, None);

    let (mut world, mut a, mut b) = up(5);
    says(&mut world, &mut b, RELAY, FIVE);
    assert_eq!(world.phones[b.phone].take_final().unwrap().status.code(), 200);
    assert_eq!(keys(&world).len(), 1, "alice has events");
    says(&mut world, &mut a, RELAY, FIVE);
    world.answer_within(&b, Method::Info, 200, None);
    assert_eq!(keys(&world).len(), 1, "bob says them by INFO himself");
    // Another body is none of ours.
    says(&mut world, &mut a, "text/plain", FIVE);
    world.answer_within(&b, Method::Info, 200, None);
}
