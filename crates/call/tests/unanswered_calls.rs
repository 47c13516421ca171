//! Calls that nobody answers, and why.

mod world;

use landline_call::Input;
use landline_sip::{HeaderName, Method};
use world::{World, tenants};

/// Cause and status of the last record, and that it is closed.
fn record(world: &World) -> (&'static str, u16) {
    let summary = world.proxies[0].ledger.last();
    (summary.cause, summary.status)
}

fn refused(world: &mut World, phone: usize, to: &str) -> landline_sip::Response {
    world.dial(phone, to);
    world.phones[phone].take_final().expect("a refusal")
}

#[test]
fn a_cancelled_call_stops_ringing() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 180);
    world.phones[bob].requests.push((Some(rung.0), flow(), rung.1));
    world.cancel(alice, key);
    assert_eq!(world.phones[bob].others, ["cancelled"]);
    assert_eq!(world.phones[alice].statuses(), [180, 487]);
    assert_eq!(record(&world), ("caller_cancelled", 487));
    world.assert_at_rest();
}

fn flow() -> landline_sip::Flow {
    landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: landline_sip::Transport::Udp,
        local: "10.1.0.2:5060".parse().unwrap(),
        remote: "10.0.1.1:5060".parse().unwrap(),
        peer: None,
    }
}

#[test]
fn refusals_reach_the_caller_and_the_record() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let cases = [
        (486, 486, "busy"),
        (600, 600, "busy"),
        (603, 603, "declined"),
        (480, 480, "unreachable"),
        (404, 404, "not_found"),
        (302, 480, "unreachable"),
        (401, 403, "forbidden"),
        (500, 500, "failed"),
    ];
    for (said, told, cause) in cases {
        world.dial(alice, "sip:bob@acme.test");
        let rung = world.phones[bob].take(Method::Invite).unwrap();
        world.say(bob, &rung, said);
        let response = world.phones[alice].take_final().unwrap();
        assert_eq!(response.status.code(), told, "{said}");
        assert_eq!(record(&world), (cause, told), "{said}");
        assert_eq!(response.headers.contains(&HeaderName::Reason), said != told, "{said}");
    }
    world.assert_at_rest();
}

#[test]
fn a_callees_reason_comes_back_to_the_caller() {
    let mut world = World::ie1(3);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let (key, invite) = world.phones[bob].take(Method::Invite).unwrap();
    let response =
        landline_sip::Response::for_request(&invite, landline_sip::StatusCode::BUSY_HERE)
            .with_to_tag("b")
            .with_header(HeaderName::Reason, "Q.850;cause=17;text=\"User busy\"")
            .with_header(HeaderName::Reason, "Preemption;cause=1");
    world.respond(bob, key, response);
    let response = world.phones[alice].take_final().unwrap();
    let reasons: Vec<_> = response
        .headers
        .values(&HeaderName::Reason)
        .map(|it| it.to_str_lossy().into_owned())
        .collect();
    assert_eq!(reasons, ["Q.850;cause=17;text=\"User busy\""]);
}

#[test]
fn a_callee_that_lets_it_ring_is_not_available() {
    let mut world = World::ie1(4);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 180);
    world.phones[bob].requests.push((Some(rung.0), flow(), rung.1));
    world.wait(61);
    assert_eq!(world.phones[alice].statuses(), [180, 480]);
    assert_eq!(world.phones[bob].others, ["cancelled"]);
    assert_eq!(record(&world), ("no_answer", 480));
    world.assert_at_rest();
}

#[test]
fn a_phone_that_is_gone_and_a_user_without_phone_are_unreachable() {
    let mut world = World::ie1(5);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let address = world.phones[bob].address;
    world.dead.push(address);
    world.dial(alice, "sip:bob@acme.test");
    world.wait(40);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    assert_eq!(record(&world), ("unreachable", 480));
    assert_eq!(refused(&mut world, alice, "sip:carol@acme.test").status.code(), 480);
    assert_eq!(record(&world), ("unreachable", 480));
    assert_eq!(world.proxies[0].ledger.last().b_legs, 0);
    world.assert_at_rest();
}

#[test]
fn nobody_of_that_name_is_a_record_too() {
    let mut world = World::ie1(6);
    let [alice] = world.registered(["alice"]);
    assert_eq!(refused(&mut world, alice, "sip:zoe@acme.test").status.code(), 404);
    assert_eq!(record(&world), ("not_found", 404));
    assert_eq!(world.proxies[0].ledger.calls().len(), 1);
    world.assert_at_rest();
}

#[test]
fn a_stranger_leaves_no_record() {
    let mut world = World::ie1(7);
    let mallory = world.phone("alice", 1);
    world.phones[mallory].password = "guess".into();
    let request = world.invite_request(mallory, "sip:bob@acme.test", None);
    assert_eq!(world.ask(mallory, request).status.code(), 407);
    assert!(world.proxies[0].ledger.events.is_empty());
    assert_eq!(world.proxies[0].core.counters().auth_failures, 1);
}

#[test]
fn a_user_calls_as_itself_alone() {
    let mut world = World::ie1(8);
    let [alice, _bob] = world.registered(["alice", "bob"]);
    let mut request = world.invite_request(alice, "sip:bob@acme.test", None);
    request.headers.set(HeaderName::From, "<sip:bob@acme.test>;tag=x");
    assert_eq!(world.ask(alice, request).status.code(), 403);
}

#[test]
fn without_a_relay_without_a_journal_and_with_a_silent_relay_there_is_no_call() {
    let mut world = World::ie1(9);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let relay = landline_control::RelayId("relay-1".into());
    world.input(0, Input::RelayLost { relay });
    let response = refused(&mut world, alice, "sip:bob@acme.test");
    assert_eq!(response.status.code(), 503);
    assert!(response.headers.contains(&HeaderName::RetryAfter));
    assert_eq!(record(&world), ("failed", 503));

    world.connect_relay(0);
    world.proxies[0].relay.full = true;
    assert_eq!(refused(&mut world, alice, "sip:bob@acme.test").status.code(), 503);
    world.proxies[0].relay.full = false;

    world.proxies[0].relay.silent = true;
    world.dial(alice, "sip:bob@acme.test");
    world.wait(10);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 503);
    world.proxies[0].relay.silent = false;

    world.proxies[0].journal_stuck = true;
    world.dial(alice, "sip:bob@acme.test");
    world.wait(5);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 503);
    assert!(world.phones[bob].take(Method::Invite).is_none(), "it rang without a record");
    world.assert_at_rest();
}

#[test]
fn calls_are_bounded_by_user() {
    let mut world = World::new(10);
    world.add_proxy("ie1", 1, tenants::acme(), |config| config.limits.calls_per_user = 2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let keys = [(); 2].map(|()| world.dial(alice, "sip:bob@acme.test").0);
    assert_eq!(refused(&mut world, alice, "sip:bob@acme.test").status.code(), 486);
    for key in keys {
        world.cancel(alice, key);
    }
    // A CANCEL waits for the 100.
    world.wait(1);
    world.phones[bob].requests.clear();
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    assert!(world.phones[bob].take(Method::Invite).is_some(), "there is room again");
    world.cancel(alice, key);
    assert_eq!(world.proxies[0].core.counters().calls_over_limit, 1);
}

#[test]
fn the_last_hop_is_the_last() {
    let mut world = World::ie1(11);
    let [alice, _bob] = world.registered(["alice", "bob"]);
    let mut request = world.invite_request(alice, "sip:bob@acme.test", None);
    request.headers.set(HeaderName::MaxForwards, "0");
    assert_eq!(world.ask(alice, request).status.code(), 483);
}
