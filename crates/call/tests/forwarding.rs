//! Calls that go on to somebody else in a user's stead.

mod world;

use std::time::Duration;

use landline_call::tenancy::{CallsFrom, Forwarding, RecordingPolicy, Tenancy};
use landline_call::{Input, Tenants};
use landline_region::{Personal, UserSid};
use landline_sip::{
    HeaderName, Headers, Method, Request, Response, ServerKey, StatusCode, Transport,
};
use world::phone::sdp;
use world::{World, tenants};

const MOBILE: &str = "+442071234567";

fn to(place: &str) -> Option<Personal<String>> {
    Some(Personal::new(place.to_owned()))
}

/// Acme, with these settings of these users.
fn acme(settings: &[(&str, Forwarding)]) -> Tenancy {
    settings.iter().fold(tenants::acme(), |tenancy, (name, forwarding)| {
        tenants::with_user(tenancy, name, |user| user.forwarding = forwarding.clone())
    })
}

fn set(world: &mut World, settings: &[(&str, Forwarding)]) {
    world.input(0, Input::Tenancy(Tenants::new(&acme(settings)).into()));
}

fn carrier(world: &mut World) -> usize {
    world.station("+15550100", "carrier.test", "10.9.0.1:5060".parse().unwrap(), 0, Transport::Udp)
}

fn values(headers: &Headers, name: &HeaderName) -> Vec<String> {
    headers.values(name).map(|it| it.to_str_lossy().into_owned()).collect()
}

fn record(world: &World) -> (&'static str, u16) {
    let summary = world.proxies[0].ledger.last();
    (summary.cause, summary.status)
}

/// It rang here; the phone still holds the transaction.
fn rung(world: &mut World, phone: usize) -> (ServerKey, Request) {
    world.phones[phone].take(Method::Invite).expect("it rings")
}

#[test]
fn all_calls_go_elsewhere_and_no_phone_of_the_user_rings() {
    let mut world = World::ie1(1);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    set(&mut world, &[("bob", Forwarding { always: to("carol"), ..Forwarding::default() })]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    assert!(world.phones[bob].take(Method::Invite).is_none());
    let rung = rung(&mut world, carol);
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:alice@acme.test");
    assert_eq!(rung.1.to().unwrap().uri.to_string(), "sip:carol@acme.test");
    let diversion = values(&rung.1.headers, &HeaderName::Diversion);
    assert_eq!(diversion, ["<sip:bob@acme.test>;reason=unconditional"]);
    let history = values(&rung.1.headers, &HeaderName::HistoryInfo);
    let expected =
        ["<sip:bob@acme.test>;index=1", "<sip:carol@acme.test;cause=302>;index=1.1;mp=1"];
    assert_eq!(history, expected);
    world.answer(carol, &rung, &sdp("10.1.0.3", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    let ledger = &world.proxies[0].ledger;
    assert_eq!(ledger.opened(ledger.calls()[0]).to.expose(), "bob", "as it was dialled");
    assert_eq!(record(&world), ("caller_hung_up", 200));
    world.assert_at_rest();
}

#[test]
fn each_way_to_fail_leads_to_its_own_place() {
    let mut world = World::ie1(2);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let busy = Forwarding { busy: to("carol"), ..Forwarding::default() };
    let no_answer = Forwarding { no_answer: to("+353100000003"), ..Forwarding::default() };
    let unreachable = Forwarding { unreachable: to("carol"), ..Forwarding::default() };
    let cases = [
        (486, &busy, "user-busy"),
        (600, &busy, "user-busy"),
        (603, &busy, "user-busy"),
        (480, &unreachable, "unavailable"),
        (503, &unreachable, "unavailable"),
    ];
    for (said, forwarding, reason) in cases {
        set(&mut world, &[("bob", forwarding.clone())]);
        world.phones[alice].responses.clear();
        let (_, invite) = world.dial(alice, "sip:bob@acme.test");
        let first = rung(&mut world, bob);
        world.say(bob, &first, said);
        let next = rung(&mut world, carol);
        let diversion = values(&next.1.headers, &HeaderName::Diversion);
        assert_eq!(diversion, [format!("<sip:bob@acme.test>;reason={reason}")], "{said}");
        assert_eq!(world.phones[alice].statuses(), [181], "{said}");
        world.answer(carol, &next, &sdp("10.1.0.3", 4000, ""));
        let mut a = world.confirm(alice, &invite, None);
        world.hang_up(&mut a);
        assert_eq!(record(&world), ("caller_hung_up", 200), "{said}");
    }
    // Another reason leads nowhere.
    for (said, forwarding) in [(486, &unreachable), (486, &no_answer), (480, &busy)] {
        set(&mut world, &[("bob", forwarding.clone())]);
        world.dial(alice, "sip:bob@acme.test");
        let first = rung(&mut world, bob);
        world.say(bob, &first, said);
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), said);
        assert!(world.phones[carol].take(Method::Invite).is_none());
    }
    world.assert_at_rest();
}

#[test]
fn who_does_not_answer_in_time_is_stood_in_for_by_number() {
    let mut world = World::ie1(3);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let ring = Some(Duration::from_secs(12));
    let forwarding = Forwarding { no_answer: to("+353100000003"), ring, ..Forwarding::default() };
    set(&mut world, &[("bob", forwarding)]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 180);
    world.phones[bob].requests.push((Some(first.0), flow(), first.1));
    world.wait(11);
    assert!(world.phones[carol].take(Method::Invite).is_none(), "not before the time");
    world.wait(2);
    assert_eq!(world.phones[bob].others, ["cancelled"]);
    let next = rung(&mut world, carol);
    let diversion = values(&next.1.headers, &HeaderName::Diversion);
    assert_eq!(diversion, ["<sip:bob@acme.test>;reason=no-answer"]);
    world.answer(carol, &next, &sdp("10.1.0.3", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].ledger.last().b_legs, 2);
    world.assert_at_rest();
}

fn flow() -> landline_sip::Flow {
    landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: Transport::Udp,
        local: "10.1.0.2:5060".parse().unwrap(),
        remote: "10.0.1.1:5060".parse().unwrap(),
        peer: None,
    }
}

#[test]
fn a_user_without_a_phone_is_stood_in_for_at_once() {
    let mut world = World::ie1(4);
    let [alice, carol] = world.registered(["alice", "carol"]);
    let forwarding = Forwarding { unreachable: to("carol"), ..Forwarding::default() };
    set(&mut world, &[("bob", forwarding)]);
    world.dial(alice, "sip:bob@acme.test");
    let next = rung(&mut world, carol);
    world.say(carol, &next, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    assert_eq!(record(&world), ("busy", 486));
    world.assert_at_rest();
}

#[test]
fn who_is_not_to_be_disturbed_is_busy_or_stood_in_for() {
    let mut world = World::ie1(5);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let quiet = Forwarding { do_not_disturb: true, ..Forwarding::default() };
    set(&mut world, &[("bob", quiet.clone())]);
    world.dial(alice, "sip:bob@acme.test");
    let refusal = world.phones[alice].take_final().unwrap();
    assert_eq!(refusal.status.code(), 486);
    assert!(refusal.headers.contains(&HeaderName::Warning));
    assert_eq!(record(&world), ("busy", 486));
    set(&mut world, &[("bob", Forwarding { busy: to("carol"), ..quiet })]);
    world.dial(alice, "sip:bob@acme.test");
    let next = rung(&mut world, carol);
    let diversion = values(&next.1.headers, &HeaderName::Diversion);
    assert_eq!(diversion, ["<sip:bob@acme.test>;reason=do-not-disturb"]);
    world.say(carol, &next, 486);
    assert!(world.phones[bob].take(Method::Invite).is_none());
    world.assert_at_rest();
}

#[test]
fn a_circle_ends() {
    let mut world = World::ie1(6);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let always = |place| Forwarding { always: to(place), ..Forwarding::default() };
    set(&mut world, &[("bob", always("carol")), ("carol", always("bob"))]);
    world.dial(alice, "sip:bob@acme.test");
    let refusal = world.phones[alice].take_final().unwrap();
    assert_eq!(refusal.status.code(), 480);
    assert!(refusal.headers.contains(&HeaderName::Warning));
    // Busy in a circle: each rings once.
    let busy = |place| Forwarding { busy: to(place), ..Forwarding::default() };
    set(&mut world, &[("bob", busy("carol")), ("carol", busy("bob"))]);
    world.dial(alice, "sip:bob@acme.test");
    for phone in [bob, carol] {
        let next = rung(&mut world, phone);
        world.say(phone, &next, 486);
    }
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    assert!(world.phones[bob].take(Method::Invite).is_none());
    assert_eq!(world.proxies[0].core.counters().diversions_refused, 1);
    world.assert_at_rest();
}

#[test]
fn a_call_is_sent_on_twice_and_says_so() {
    let mut world = World::ie1(7);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let busy = Forwarding { busy: to("carol"), ..Forwarding::default() };
    let away = Forwarding { always: to(MOBILE), ..Forwarding::default() };
    set(&mut world, &[("bob", busy), ("carol", away)]);
    let carrier = carrier(&mut world);
    world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 486);
    assert!(world.phones[carol].take(Method::Invite).is_none());
    let out = rung(&mut world, carrier);
    assert_eq!(out.1.uri.user_decoded().unwrap(), MOBILE);
    // Numbers alone, and the account's last word answers for the call.
    assert_eq!(out.1.from().unwrap().uri.to_string(), "sip:+353100000001@acme.test");
    let asserted = values(&out.1.headers, &HeaderName::PAssertedIdentity);
    assert_eq!(asserted, ["<sip:+353100000003@acme.test>"]);
    let diversion = values(&out.1.headers, &HeaderName::Diversion);
    let expected = [
        "<sip:+353100000003@acme.test>;reason=unconditional",
        "<sip:+353100000002@acme.test>;reason=user-busy",
    ];
    assert_eq!(diversion, expected);
    let history = values(&out.1.headers, &HeaderName::HistoryInfo);
    let last = format!("<sip:{MOBILE}@acme.test;cause=302>;index=1.1.1;mp=1.1");
    assert_eq!((history.len(), &history[2]), (3, &last));
    let text = String::from_utf8_lossy(&out.1.to_bytes()).into_owned();
    for name in ["alice", "bob", "carol"] {
        assert!(!text.contains(name), "a user's name goes to the carrier:\n{text}");
    }
    world.say(carrier, &out, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    world.assert_at_rest();
}

#[test]
fn a_carriers_call_goes_back_out_under_its_callers_number() {
    let mut world = World::ie1(8);
    let carrier = carrier(&mut world);
    let away = Forwarding { unreachable: to(MOBILE), ..Forwarding::default() };
    set(&mut world, &[("bob", away)]);
    let body = sdp("10.9.0.1", 4000, "");
    let request = world.invite_request(carrier, "sip:+353100000002@10.0.1.1:5060", Some(&body));
    world.phones[carrier].responses.clear();
    world.send_request(carrier, request);
    world.settle();
    let out = rung(&mut world, carrier);
    assert_eq!(out.1.from().unwrap().uri.to_string(), "sip:+15550100@acme.test");
    let asserted = values(&out.1.headers, &HeaderName::PAssertedIdentity);
    assert_eq!(asserted, ["<sip:+353100000002@acme.test>"]);
    let ledger = &world.proxies[0].ledger;
    assert_eq!(ledger.opened(ledger.calls()[0]).direction.name(), "inbound");
    world.say(carrier, &out, 486);
    world.assert_at_rest();
}

/// A phone that was told by its own menu where calls are to go.
fn redirect(world: &mut World, phone: usize, rung: &(ServerKey, Request), contacts: &[&str]) {
    let mut response =
        Response::for_request(&rung.1, StatusCode::MOVED_TEMPORARILY).with_to_tag("b");
    for contact in contacts {
        response.headers.push(HeaderName::Contact, (*contact).to_owned());
    }
    world.respond(phone, rung.0, response);
}

#[test]
fn a_phone_sends_a_call_on_to_where_its_user_may_call() {
    let mut world = World::ie1(9);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let carrier = carrier(&mut world);
    let cases = [
        ("<sip:carol@acme.test>", carol),
        ("<sip:+353100000003@192.0.2.9>;q=0.5", carol),
        ("<tel:+44-207-123-4567>", carrier),
    ];
    for (contact, there) in cases {
        world.dial(alice, "sip:bob@acme.test");
        let first = rung(&mut world, bob);
        redirect(&mut world, bob, &first, &["<sip:anybody@203.0.113.7>", contact]);
        let next = rung(&mut world, there);
        let diversion = values(&next.1.headers, &HeaderName::Diversion);
        assert!(diversion[0].ends_with(";reason=deflection"), "{contact}: {diversion:?}");
        world.say(there, &next, 486);
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    }
    // To hosts of its own choice, to nobody, and back to itself.
    let nowhere: [&[&str]; 4] =
        [&["<sip:anybody@203.0.113.7>"], &[], &["<sip:zoe@acme.test>"], &["<sip:bob@acme.test>"]];
    for contacts in nowhere {
        world.dial(alice, "sip:bob@acme.test");
        let first = rung(&mut world, bob);
        redirect(&mut world, bob, &first, contacts);
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480, "{contacts:?}");
        assert_eq!(record(&world), ("unreachable", 480));
    }
    world.assert_at_rest();
}

#[test]
fn one_phone_sends_a_call_on_and_the_other_rings_on_beside_it() {
    let mut world = World::ie1(10);
    let [alice, carol] = world.registered(["alice", "carol"]);
    let [one, two] = [4, 5].map(|number| {
        let phone = world.phone("bob", number);
        let mut request = world.register_request(phone, "3600");
        request.headers.set(HeaderName::CallId, format!("bob-{number}"));
        assert_eq!(world.ask(phone, request).status.code(), 200);
        phone
    });
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, one);
    let second = rung(&mut world, two);
    world.say(two, &second, 180);
    redirect(&mut world, one, &first, &["<sip:carol@acme.test>"]);
    let third = rung(&mut world, carol);
    world.say(carol, &third, 180);
    world.phones[carol].requests.push((Some(third.0), flow(), third.1));
    world.answer(two, &second, &sdp("10.1.0.3", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    assert_eq!(world.phones[carol].others, ["cancelled"]);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_trunk_sends_nobody_anywhere() {
    let mut world = World::ie1(11);
    let [alice, carol] = world.registered(["alice", "carol"]);
    let carrier = carrier(&mut world);
    world.dial(alice, &format!("sip:{MOBILE}@acme.test"));
    let out = rung(&mut world, carrier);
    redirect(&mut world, carrier, &out, &["<sip:carol@acme.test>"]);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    assert!(world.phones[carol].take(Method::Invite).is_none());
    world.assert_at_rest();
}

#[test]
fn a_caller_who_gives_up_ends_it_where_it_rings_then() {
    let mut world = World::ie1(12);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let busy = Forwarding { busy: to("carol"), ..Forwarding::default() };
    set(&mut world, &[("bob", busy)]);
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 486);
    let next = rung(&mut world, carol);
    world.say(carol, &next, 180);
    world.phones[carol].requests.push((Some(next.0), flow(), next.1));
    world.cancel(alice, key);
    assert_eq!(world.phones[carol].others, ["cancelled"]);
    assert_eq!(record(&world), ("caller_cancelled", 487));
    world.assert_at_rest();
}

#[test]
fn another_region_is_told_nothing_of_who_sent_a_call_on() {
    let mut world = World::new(13);
    let mut there = tenants::globex();
    there = tenants::with_account(there, |account| account.calls_from = CallsFrom::Any);
    there = tenants::with_user(there, "erin", |user| {
        user.number = to("+15550111");
    });
    there.numbers.push(std::sync::Arc::new(landline_call::tenancy::Number {
        e164: Personal::new("+15550111".to_owned()),
        account: there.accounts[0].sid,
        target: landline_call::tenancy::NumberTarget::User(UserSid::from_u128(11)),
    }));
    let away = Forwarding { always: to("+15550111"), ..Forwarding::default() };
    world.add_proxy("ie1", 1, acme(&[("bob", away)]), |_| {});
    world.add_proxy("us1", 2, there, |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let erin = world.phone_at("erin", "globex.test", 11, 1, Transport::Udp);
    world.register(erin);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let next = rung(&mut world, erin);
    for name in [HeaderName::Diversion, HeaderName::HistoryInfo] {
        assert!(!next.1.headers.contains(&name));
    }
    assert!(!world.crossed.iter().any(|text| text.contains("bob")), "{:?}", world.crossed);
    world.answer(erin, &next, &sdp("10.2.0.11", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    // Both records have the token.
    for proxy in [0, 1] {
        let events = &world.proxies[proxy].ledger.events;
        let is_join = |step: &_| matches!(step, landline_call::record::Step::Joined(_));
        assert_eq!(events.iter().filter(|it| is_join(&it.step)).count(), 1);
    }
    world.assert_at_rest();
}

fn reason(invite: &Request) -> Vec<String> {
    values(&invite.headers, &HeaderName::Diversion)
}

/// Find-me (RFC 5359 §2.12): one after the other, and then two at once.
#[test]
fn who_does_not_answer_is_looked_for_in_one_place_after_the_other() {
    let mut world = World::ie1(20);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let mobile =
        world.station("carrier", "acme.test", "10.9.0.1:5060".parse().unwrap(), 0, Transport::Udp);
    let ring = Some(Duration::from_secs(10));
    let no_answer = to("carol, nobody-there , alice&+353861234567");
    set(&mut world, &[("bob", Forwarding { no_answer, ring, ..Forwarding::default() })]);
    let caller =
        world.station("trunk", "acme.test", "10.9.0.2:5060".parse().unwrap(), 0, Transport::Udp);
    let body = sdp("10.9.0.2", 6000, "");
    let invite = world.invite_request(caller, "sip:+353100000002@10.0.1.1", Some(&body));
    world.send_request(caller, invite.clone());
    world.settle();
    let first = rung(&mut world, bob);
    world.say(bob, &first, 180);
    world.wait(11);
    let second = rung(&mut world, carol);
    assert_eq!(reason(&second.1), ["<sip:bob@acme.test>;reason=no-answer"]);
    let places = world.proxies[0].relay.session().specs.len();
    assert_eq!(places, 2, "bob's at the relay is given back");
    world.say(carol, &second, 180);
    assert!(!world.phones[alice].has_invite(), "not before carol had her time");
    // A decline of hers is not bob's; the next two ring together.
    world.say(carol, &second, 603);
    let third = rung(&mut world, alice);
    world.say(alice, &third, 180);
    let outside = rung(&mut world, mobile);
    assert!(outside.1.uri.to_string().contains("+353861234567"));
    let mut answered = world.answer(mobile, &outside, &sdp("10.9.0.1", 7000, ""));
    assert_eq!(world.phones[alice].others.len(), 1, "alice's phone is cancelled or told");
    world.confirm(caller, &invite, None);
    world.hang_up(&mut answered);
    assert_eq!(record(&world).0, "callee_hung_up");
    world.assert_at_rest();
}

/// A user who stands for several: they ring at once, and who is busy or declines
/// says it for himself.
#[test]
fn a_group_rings_at_once_and_its_own_forwarding_follows() {
    let mut world = World::ie1(21);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let ring = Some(Duration::from_secs(10));
    let group = Forwarding {
        always: to("bob&carol"),
        ring,
        no_answer: to("alice"),
        ..Forwarding::default()
    };
    let own = Forwarding { busy: to("dave"), no_answer: to("dave"), ..Forwarding::default() };
    set(&mut world, &[("dave", group), ("bob", own.clone()), ("carol", own)]);
    let (_, invite) = world.dial(alice, "sip:dave@acme.test");
    let both = [bob, carol].map(|phone| rung(&mut world, phone));
    for invite in &both {
        assert_eq!(reason(&invite.1), ["<sip:dave@acme.test>;reason=unconditional"]);
    }
    world.say(bob, &both[0], 603);
    assert!(world.phones[carol].others.is_empty(), "carol's phone rings on");
    world.answer(carol, &both[1], &sdp("10.1.0.3", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();

    // Nobody has time: the group's own stand-in, and not one of theirs.
    world.dial(bob, "sip:dave@acme.test");
    let ringing = rung(&mut world, carol);
    world.say(carol, &ringing, 486);
    let own = world.phones[bob].take(Method::Invite).expect("bob is one of them");
    world.say(bob, &own, 486);
    let stand_in = rung(&mut world, alice);
    assert_eq!(reason(&stand_in.1), ["<sip:dave@acme.test>;reason=no-answer"]);
    world.say(alice, &stand_in, 486);
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 486);
    world.assert_at_rest();
}

/// What the account wants of all is nothing; of the two who ring, one wants it.
#[test]
fn who_answers_of_several_decides_on_the_recording() {
    for (answers, is_recorded) in [("bob", true), ("carol", false)] {
        let mut world = World::ie1(24);
        let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
        let group = Forwarding { always: to("carol&bob&carol"), ..Forwarding::default() };
        let tenancy = tenants::with_user(acme(&[("dave", group)]), "bob", |user| {
            user.recording = Some(RecordingPolicy::All);
        });
        world.input(0, Input::Tenancy(Tenants::new(&tenancy).into()));
        let (_, invite) = world.dial(alice, "sip:dave@acme.test");
        let both = [bob, carol].map(|phone| rung(&mut world, phone));
        assert!(world.phones[carol].take(Method::Invite).is_none(), "named twice, rung once");
        let (phone, rung) = if answers == "bob" { (bob, &both[0]) } else { (carol, &both[1]) };
        world.answer(phone, rung, &sdp("10.1.0.9", 4000, ""));
        let mut a = world.confirm(alice, &invite, None);
        assert_eq!(world.proxies[0].relay.session().is_recording, is_recorded, "{answers}");
        world.hang_up(&mut a);
        world.assert_at_rest();
    }
}

/// Lists that name lists are followed no further than it takes to find somebody.
#[test]
fn lists_that_name_each_other_end() {
    let mut world = World::ie1(22);
    let [alice, _] = world.registered(["alice", "bob"]);
    let all = |names: &str| Forwarding { always: to(names), ..Forwarding::default() };
    set(
        &mut world,
        &[
            ("bob", all("carol&dave,carol,dave")),
            ("carol", all("bob,dave&bob,dave")),
            ("dave", all("carol,bob&carol,bob,carol")),
        ],
    );
    world.dial(alice, "sip:bob@acme.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    world.assert_at_rest();
}
