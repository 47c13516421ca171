//! Every way a call can end, and what is written down of it.

mod world;

use landline_call::tenancy::RecordingPolicy;
use landline_call::{Input, Log};
use landline_control::{Event, LegId, MediaFault, Op, RelayId};
use landline_sip::{HeaderName, Method};
use world::phone::{Leg, sdp};
use world::{World, tenants, up};

fn relay() -> RelayId {
    RelayId("relay-1".into())
}

/// Both phones were hung up, for this reason.
fn both_hung_up(world: &mut World, a: &Leg, b: &Leg) -> String {
    let reasons = [a, b].map(|leg| {
        let (_, bye) = world.phones[leg.phone].take(Method::Bye).expect("BYE");
        let reason = bye.headers.get(&HeaderName::Reason);
        reason.map(|it| it.to_str_lossy().into_owned()).unwrap_or_default()
    });
    assert_eq!(reasons[0], reasons[1]);
    reasons[0].clone()
}

#[test]
fn either_side_hangs_up_and_its_reason_goes_across() {
    let (mut world, a, mut b) = up(1);
    let mut bye = b.dialog.request(Method::Bye);
    bye.headers.push(HeaderName::Reason, "Q.850;cause=16;text=\"Normal call clearing\"");
    world.send_request(b.phone, bye);
    world.settle();
    let (_, passed) = world.phones[a.phone].take(Method::Bye).expect("BYE");
    let reason = passed.headers.get(&HeaderName::Reason).unwrap().to_str_lossy().into_owned();
    assert!(reason.starts_with("Q.850;cause=16"), "{reason}");
    assert_eq!(world.proxies[0].ledger.last().cause, "callee_hung_up");
    // What is still said in the ended dialog is told so.
    world.phones[b.phone].responses.clear();
    world.within(&mut b, Method::Options, None);
    assert_eq!(world.phones[b.phone].take_final().unwrap().status.code(), 481);
    world.assert_at_rest();
}

#[test]
fn lost_media_ends_the_call() {
    let (mut world, a, b) = up(2);
    world.happens(Event::Fault(LegId(1), MediaFault::MediaTimeout));
    assert!(both_hung_up(&mut world, &a, &b).contains("Media timeout"));
    assert_eq!(world.proxies[0].ledger.last().cause, "media_lost");
    world.assert_at_rest();
}

#[test]
fn a_side_that_holds_may_be_silent() {
    let (mut world, mut a, b) = up(3);
    let offer = sdp("10.1.0.1", 4000, "a=inactive\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp("10.1.0.2", 4000, "a=inactive\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    world.ack(&a, response.cseq().unwrap().number, None);
    world.happens(Event::Fault(LegId(0), MediaFault::MediaTimeout));
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_lost_relay_ends_its_calls_with_a_record() {
    let (mut world, a, b) = up(4);
    world.proxies[0].relay = world::relay::FakeRelay::new(1);
    world.input(0, Input::RelayLost { relay: relay() });
    // None takes its place in time.
    world.wait(7);
    both_hung_up(&mut world, &a, &b);
    assert_eq!(world.proxies[0].ledger.last().cause, "lost");
    assert!(world.proxies[0].logs.contains(&Log::RelayLost { relay: relay(), calls: 1 }));
    world.assert_at_rest();
}

#[test]
fn administrators_end_one_call_and_a_shutdown_all() {
    let (mut world, a, b) = up(5);
    let sid = world.proxies[0].core.live().next().unwrap().sid;
    world.input(0, Input::HangUp(sid));
    world.settle();
    both_hung_up(&mut world, &a, &b);
    assert_eq!(world.proxies[0].ledger.last().cause, "hung_up_by_admin");

    let (mut world, a, b) = up(6);
    let (alice, bob) = (a.phone, b.phone);
    let (_, _) = world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    world.input(0, Input::Shutdown);
    world.settle();
    both_hung_up(&mut world, &a, &b);
    assert!(world.phones[bob].others.contains(&"cancelled".to_owned()));
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    world.dial(alice, "sip:bob@acme.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 503);
    world.assert_at_rest();
}

#[test]
fn a_caller_that_never_acknowledges_is_hung_up() {
    let mut world = World::ie1(7);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    world.pick_up(bob);
    world.wait(40);
    assert!(world.phones[bob].take(Method::Bye).is_some());
    assert!(world.phones[alice].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "signalling_lost");
    assert_eq!(world.proxies[0].core.counters().ack_timeouts, 1);
    world.assert_at_rest();
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut world = World::ie1(8);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let mut b = world.pick_up(bob);
    world.hang_up(&mut b);
    assert!(world.phones[alice].take(Method::Bye).is_none(), "no BYE before the ACK");
    world.confirm(alice, &invite, None);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn a_cancel_that_crosses_the_answer_still_ends_the_call() {
    let mut world = World::ie1(9);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    let (server, rung) = world.phones[bob].take(Method::Invite).unwrap();
    // Bob answers in the moment alice gives up.
    let contact = world.phones[bob].contact();
    let mut dialog = landline_sip::Dialog::uas(&rung, "b", contact).unwrap();
    dialog.confirm();
    let mut response = dialog.respond(&rung, landline_sip::StatusCode::OK);
    response.set_body("application/sdp", sdp("10.1.0.2", 4000, ""));
    let answer = landline_sip::Input::Respond { key: server, response };
    let cancel = landline_sip::Input::Cancel { key, reason: None };
    world.phone_input(alice, cancel);
    world.phone_input(bob, answer);
    world.settle();
    assert_eq!(world.phones[alice].statuses().last(), Some(&487));
    assert!(world.phones[bob].take_ack().is_some());
    assert!(world.phones[bob].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_cancelled");
    world.assert_at_rest();
}

#[test]
fn the_longest_call_has_an_end() {
    let mut world = World::new(10);
    world.add_proxy("ie1", 1, tenants::acme(), |config| {
        config.timers.max_call = Some(std::time::Duration::from_secs(300));
    });
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (a, b) = world.call(alice, bob, "sip:bob@acme.test");
    world.wait(299);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.wait(2);
    both_hung_up(&mut world, &a, &b);
    world.assert_at_rest();
}

#[test]
fn a_call_is_recorded_when_either_party_or_the_account_says_so() {
    let all = Some(RecordingPolicy::All);
    let off = Some(RecordingPolicy::Off);
    for (account, alice, bob, recorded) in [
        (RecordingPolicy::Off, None, None, false),
        (RecordingPolicy::Off, all, None, true),
        (RecordingPolicy::Off, None, all, true),
        (RecordingPolicy::All, None, None, true),
        (RecordingPolicy::All, off, off, false),
        (RecordingPolicy::All, off, None, true),
    ] {
        let mut world = World::new(11);
        let tenancy = tenants::with_account(tenants::acme(), |it| it.recording = account);
        let tenancy = tenants::with_user(tenancy, "alice", |it| it.recording = alice);
        let tenancy = tenants::with_user(tenancy, "bob", |it| it.recording = bob);
        world.add_proxy("ie1", 1, tenancy, |_| {});
        let phones = world.registered(["alice", "bob"]);
        let (mut a, _) = world.call(phones[0], phones[1], "sip:bob@acme.test");
        let asked = world.proxies[0].relay.ops.iter().any(|it| matches!(it.1, Op::Record));
        assert_eq!(asked, recorded, "{account} {alice:?} {bob:?}");
        world.hang_up(&mut a);
        let ledger = &world.proxies[0].ledger;
        let call = ledger.calls()[0];
        assert_eq!(ledger.opened(call).recording.is_some(), recorded);
        assert_eq!(ledger.closed(call).unwrap().recorded.is_some(), recorded);
        world.assert_at_rest();
    }
}

#[test]
fn a_relay_that_does_not_close_does_not_keep_the_record_open() {
    let (mut world, mut a, _b) = up(12);
    world.proxies[0].relay.silent = true;
    world.within(&mut a, Method::Bye, None);
    assert_eq!(world.proxies[0].ledger.last().cause, "open");
    assert!(world.phones[a.phone].take_final().is_none(), "its end is not written yet");
    world.wait(1);
    let answer = world.phones[a.phone].take_final().expect("its BYE is answered");
    assert_eq!(answer.status.code(), 200);
    world.wait(5);
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
    world.proxies[0].relay = world::relay::FakeRelay::new(1);
    world.assert_at_rest();
}

#[test]
fn a_phone_whose_connection_is_gone_is_hung_up_over_its_next_one() {
    let mut world = World::ie1(13);
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 7, 0, landline_sip::Transport::Tls);
    world.register(bob);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    let closed = world.flow_id("10.0.1.1:5061".parse().unwrap(), "10.1.0.7:5060".parse().unwrap());
    world.input(0, Input::Sip(landline_sip::Event::FlowClosed(landline_sip::FlowId(closed))));
    assert_eq!(world.proxies[0].core.live().count(), 1, "a lost connection ends no call");
    // The same device, back on another connection.
    let again = world.station(
        "bob",
        "acme.test",
        "10.1.0.7:5099".parse().unwrap(),
        0,
        landline_sip::Transport::Tls,
    );
    world.register(again);
    world.dead.push("10.1.0.7:5060".parse().unwrap());
    world.hang_up(&mut a);
    assert!(world.phones[again].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn an_answer_is_on_disk_before_the_caller_hears_of_it() {
    let mut world = World::ie1(31);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.proxies[0].journal_stuck = true;
    world.pick_up(bob);
    assert!(world.proxies[0].ledger.last().answered, "it is on its way to the disk");
    assert!(world.phones[alice].take_final().is_none(), "and not there yet");
    // A disk that fails ends no call that has a record.
    world.wait(5);
    let mut a = world.confirm(alice, &invite, None);
    assert_eq!(world.proxies[0].core.counters().journal_failures, 1);
    world.within(&mut a, Method::Bye, None);
    assert!(world.phones[bob].take(Method::Bye).is_some(), "the other side hears at once");
    assert!(world.phones[alice].take_final().is_none());
    world.wait(1);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 200);
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
    world.assert_at_rest();
}
