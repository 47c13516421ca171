//! Calls that no phone begins: one party is rung, then the other.

mod world;

use landline_call::record::{LegRole, Step};
use landline_call::tenancy::RecordingPolicy;
use landline_call::{Input, StartCall};
use landline_control::Protocol;
use landline_region::{AccountSid, CallSid, Personal, UserSid};
use landline_sip::{HeaderName, Method};
use world::World;
use world::phone::sdp;
use world::tenants::{acme, with_user};

const SID: CallSid = CallSid::from_u128(77);
const ALICE: u128 = 1;

fn start(world: &mut World, from: u128, to: &str) {
    let call = StartCall {
        sid: SID,
        account: AccountSid::from_u128(1),
        from: UserSid::from_u128(from),
        to: Personal::new(to.to_owned()),
    };
    world.input(0, Input::StartCall(call));
    world.settle();
}

/// PCMU alone.
fn ulaw(ip: &str, port: u16) -> String {
    format!(
        "v=0\r\no=p 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

fn roles(world: &World) -> Vec<LegRole> {
    let opened = world.proxies[0].ledger.of(SID).filter_map(|it| match &it.step {
        Step::LegOpened(leg) => Some(leg.role),
        _ => None,
    });
    opened.collect()
}

#[test]
fn the_first_party_answers_then_the_second_rings_and_both_are_joined() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    start(&mut world, ALICE, "bob");
    let rung = world.phones[alice].take(Method::Invite).expect("alice rings first");
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:bob@acme.test");
    assert_eq!(rung.1.to().unwrap().uri.to_string(), "sip:alice@acme.test");
    assert!(world.phones[bob].take(Method::Invite).is_none(), "nobody else rings before");
    world.say(alice, &rung, 180);
    assert!(!world.proxies[0].ledger.last().rang, "the callee does not ring yet");

    let mut a = world.answer(alice, &rung, &sdp("10.1.0.1", 4000, ""));
    assert!(world.phones[alice].take_ack().is_some());
    let rung = world.phones[bob].take(Method::Invite).expect("then bob");
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:alice@acme.test");
    let offer = String::from_utf8_lossy(&rung.1.body).into_owned();
    assert!(offer.contains("RTP/AVP 0 8 101 "), "what alice has before what can be made: {offer}");
    assert!(!offer.contains("10.1.0.1"), "the media goes to the relay");
    world.say(bob, &rung, 180);
    assert!(world.proxies[0].ledger.last().rang && !world.proxies[0].ledger.last().answered);
    let b = world.answer(bob, &rung, &ulaw("10.1.0.2", 4000));
    assert!(world.phones[bob].take_ack().is_some());

    // The first is told what the second speaks.
    let told = world.answer_within(&a, Method::Invite, 200, Some(&ulaw("10.1.0.1", 4000)));
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(told.contains("RTP/AVP 0 ") && !told.contains("RTP/AVP 0 8 101 "), "{told}");
    assert!(world.phones[alice].take_ack().is_some());
    let session = world.proxies[0].relay.session();
    assert_eq!(session.joined.map(|(a, b)| (a.0, b.0)), Some((0, 1)));
    assert_eq!(session.remotes.len(), 2);

    world.hang_up(&mut a);
    assert!(world.phones[bob].take(Method::Bye).is_some());
    let summary = world.proxies[0].ledger.last();
    assert_eq!((summary.cause, summary.status), ("caller_hung_up", 200));
    assert!(summary.rang && summary.answered && summary.b_legs == 1);
    assert_eq!(roles(&world), [LegRole::A, LegRole::B]);
    let opened = world.proxies[0].ledger.opened(SID);
    assert_eq!((opened.from.expose().as_str(), opened.to.expose().as_str()), ("alice", "bob"));
    drop(b);
    world.assert_at_rest();
}

#[test]
fn a_first_party_that_does_not_answer_rings_nobody_else() {
    for (status, cause) in [(486, "busy"), (603, "declined"), (404, "not_found")] {
        let mut world = World::ie1(2);
        let [alice, bob] = world.registered(["alice", "bob"]);
        start(&mut world, ALICE, "bob");
        let rung = world.phones[alice].take(Method::Invite).unwrap();
        world.say(alice, &rung, status);
        assert!(world.phones[bob].take(Method::Invite).is_none());
        let summary = world.proxies[0].ledger.last();
        assert_eq!((summary.cause, summary.status), (cause, status));
        world.assert_at_rest();
    }
    let mut world = World::ie1(3);
    let [alice, bob] = world.registered(["alice", "bob"]);
    start(&mut world, ALICE, "bob");
    let rung = world.phones[alice].take(Method::Invite).unwrap();
    world.say(alice, &rung, 180);
    let flow = landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: landline_sip::Transport::Udp,
        local: world.phones[alice].address,
        remote: world.phones[alice].proxy,
        peer: None,
    };
    world.phones[alice].requests.push((Some(rung.0), flow, rung.1));
    world.wait(130);
    assert_eq!(world.phones[alice].others, ["cancelled"]);
    assert!(world.phones[bob].take(Method::Invite).is_none());
    assert_eq!(world.proxies[0].ledger.last().cause, "no_answer");
    world.assert_at_rest();
}

#[test]
fn a_second_party_that_refuses_ends_the_call_of_the_first() {
    for (status, cause) in [(486, "busy"), (488, "not_acceptable")] {
        let mut world = World::ie1(4);
        let [alice, bob] = world.registered(["alice", "bob"]);
        start(&mut world, ALICE, "bob");
        world.pick_up(alice);
        let rung = world.phones[bob].take(Method::Invite).unwrap();
        world.say(bob, &rung, status);
        assert!(world.phones[alice].take(Method::Bye).is_some(), "{status}");
        let summary = world.proxies[0].ledger.last();
        assert_eq!((summary.cause, summary.status, summary.answered), (cause, status, false));
        world.assert_at_rest();
    }
}

#[test]
fn a_first_party_that_does_not_wait_takes_the_second_ring_back() {
    let mut world = World::ie1(5);
    let [alice, bob] = world.registered(["alice", "bob"]);
    start(&mut world, ALICE, "bob");
    let mut a = world.pick_up(alice);
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 180);
    let flow = landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: landline_sip::Transport::Udp,
        local: world.phones[bob].address,
        remote: world.phones[bob].proxy,
        peer: None,
    };
    world.phones[bob].requests.push((Some(rung.0), flow, rung.1));
    world.hang_up(&mut a);
    assert_eq!(world.phones[bob].others, ["cancelled"]);
    let summary = world.proxies[0].ledger.last();
    assert_eq!((summary.cause, summary.status, summary.answered), ("caller_cancelled", 487, false));
    world.assert_at_rest();
}

#[test]
fn an_administrator_ends_it_at_every_stage() {
    for stage in 0..3 {
        let mut world = World::ie1(6);
        let [alice, bob] = world.registered(["alice", "bob"]);
        start(&mut world, ALICE, "bob");
        if stage > 0 {
            world.pick_up(alice);
        }
        if stage > 1 {
            world.pick_up(bob);
        }
        world.input(0, Input::HangUp(SID));
        world.settle();
        let byes: Vec<_> =
            [alice, bob].map(|phone| world.phones[phone].take(Method::Bye).is_some()).into();
        assert_eq!(byes, [stage > 0, stage > 1], "{stage}");
        assert_eq!(world.proxies[0].ledger.last().cause, "hung_up_by_admin");
        world.wait(200);
        world.assert_at_rest();
    }
}

#[test]
fn all_phones_of_the_first_party_ring_and_the_one_that_answers_is_the_callers() {
    let mut world = World::ie1(7);
    let [bob] = world.registered(["bob"]);
    let phones = [(2, "one"), (3, "two"), (4, "three")].map(|(number, id)| {
        let phone = world.phone("alice", number);
        let mut request = world.register_request(phone, "3600");
        request.headers.set(HeaderName::CallId, id);
        assert_eq!(world.ask(phone, request).status.code(), 200);
        phone
    });
    start(&mut world, ALICE, "bob");
    let rung = phones.map(|phone| world.phones[phone].take(Method::Invite).expect("rings"));
    world.say(phones[0], &rung[0], 486);
    let mut a = world.answer(phones[2], &rung[2], &sdp("10.1.0.4", 4000, ""));
    // One that answered at the same time is hung up.
    let late = world.answer(phones[1], &rung[1], &sdp("10.1.0.3", 4000, ""));
    assert!(world.phones[phones[1]].take(Method::Bye).is_some());
    world.pick_up(bob);
    world.answer_within(&a, Method::Invite, 200, Some(&sdp("10.1.0.4", 4000, "")));
    assert_eq!(world.proxies[0].relay.session().joined.map(|(a, b)| (a.0, b.0)), Some((2, 3)));
    world.hang_up(&mut a);
    assert!(world.phones[bob].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
    assert_eq!(roles(&world), [LegRole::A, LegRole::A, LegRole::A, LegRole::B]);
    drop(late);
    world.assert_at_rest();
}

#[test]
fn what_leads_nowhere_is_closed_at_once_and_rings_nobody() {
    for (to, cause, status) in
        [("nobody", "not_found", 404), ("carol", "unreachable", 480), ("alice", "busy", 486)]
    {
        let mut world = World::ie1(8);
        let [alice] = world.registered(["alice"]);
        start(&mut world, ALICE, to);
        assert!(world.phones[alice].take(Method::Invite).is_none(), "{to}");
        let summary = world.proxies[0].ledger.last();
        assert_eq!((summary.cause, summary.status), (cause, status), "{to}");
        world.assert_at_rest();
    }
    // A user of nobody's, and a sid that is in use.
    let mut world = World::ie1(9);
    let [alice] = world.registered(["alice"]);
    start(&mut world, 999, "bob");
    assert!(world.proxies[0].ledger.calls().is_empty());
    world.registered(["bob"]);
    start(&mut world, ALICE, "bob");
    start(&mut world, ALICE, "bob");
    assert_eq!(world.proxies[0].core.counters().starts_refused, 2);
    assert!(world.phones[alice].take(Method::Invite).is_some());
    assert!(world.phones[alice].take(Method::Invite).is_none());
}

#[test]
fn a_number_leads_to_the_carrier_with_the_first_partys_number() {
    let mut world = World::ie1(10);
    let [alice] = world.registered(["alice"]);
    let carrier = world.station(
        "carrier",
        "carrier.test",
        ([10, 9, 0, 1], 5060).into(),
        0,
        landline_sip::Transport::Udp,
    );
    start(&mut world, ALICE, "+35315550000");
    let rung = world.phones[alice].take(Method::Invite).unwrap();
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:+35315550000@acme.test");
    world.answer(alice, &rung, &sdp("10.1.0.1", 4000, ""));
    let (_, invite) = world.phones[carrier].take(Method::Invite).expect("the carrier's turn");
    let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
    assert!(
        text.contains("sip:+35315550000@10.9.0.1") && text.contains("sip:+353100000001@"),
        "{text}"
    );
    assert!(!text.contains("alice"), "a user's name is no business of a carrier: {text}");
}

#[test]
fn it_is_recorded_where_either_party_or_the_account_says_so() {
    for name in ["alice", "bob"] {
        let mut world = World::new(11);
        let tenancy = with_user(acme(), name, |user| user.recording = Some(RecordingPolicy::All));
        world.add_proxy("ie1", 1, tenancy, |_| {});
        world.share_directory();
        let [alice, bob] = world.registered(["alice", "bob"]);
        start(&mut world, ALICE, "bob");
        world.pick_up(alice);
        world.pick_up(bob);
        assert!(world.proxies[0].relay.session().is_recording, "{name}");
        assert!(world.proxies[0].ledger.opened(SID).recording.is_some());
    }
}

#[test]
fn a_first_party_without_the_kind_of_media_is_offered_another() {
    let mut world = World::ie1(12);
    let [dave, bob] = world.registered(["dave", "bob"]);
    start(&mut world, 4, "bob");
    let rung = world.phones[dave].take(Method::Invite).unwrap();
    let offer = String::from_utf8_lossy(&rung.1.body).into_owned();
    assert!(offer.contains("UDP/TLS/RTP/SAVP") && !offer.contains("RTP/AVP"), "{offer}");
    world.say(dave, &rung, 488);
    let rung = world.phones[dave].take(Method::Invite).expect("another way");
    assert!(String::from_utf8_lossy(&rung.1.body).contains("RTP/SAVP"));
    let key =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    let body = sdp("10.1.0.1", 4000, key).replace("RTP/AVP", "RTP/SAVP");
    world.answer(dave, &rung, &body);
    world.pick_up(bob);
    let leg = world.proxies[0].ledger.of(SID).find_map(|it| match &it.step {
        Step::LegOpened(leg) if leg.role == LegRole::A => leg.media,
        _ => None,
    });
    assert!(matches!(leg, Some(Protocol::Dtls | Protocol::Sdes)), "{leg:?}");
    assert!(world.proxies[0].relay.session().joined.is_some());
}
