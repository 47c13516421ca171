//! Parties that are parked (RFC 5359 §2.15), and what they outlive: half an hour,
//! their relay, their proxy.

mod world;

use std::time::Duration;

use landline_call::record::{CallDirection, Step};
use landline_call::tenancy::HoldMusic;
use landline_call::{CoreConfig, Input};
use landline_control::{FromRelay, Op, RelayId};
use landline_region::CallSid;
use landline_sip::{HeaderName, Method, StatusCode, Transport};
use world::World;
use world::parking::{
    ALICE, BOB, CAROL, LINES, description, goes_over, joined, parked, refer, report,
};
use world::phone::{Leg, text};
use world::relay::FakeRelay;
use world::tenants::{acme, with_account};

fn there(seed: u8) -> World {
    let mut world = World::ie1(seed);
    world.registered(["alice", "bob", "carol"]);
    world
}

/// Who waits hears music, and may for an hour.
fn patient(seed: u8, proxies: u8) -> World {
    patient_for(seed, proxies, Duration::from_secs(3600))
}

fn patient_for(seed: u8, proxies: u8, parked: Duration) -> World {
    let mut world = World::new(seed);
    for number in 1..=proxies {
        let music = |account: &mut landline_call::tenancy::Account| {
            account.hold_music = HoldMusic::BuiltIn;
        };
        let patient = |config: &mut CoreConfig| {
            config.timers.parked = parked;
            config.proxy = format!("proxy-{number}");
            config.signing_key = [1; 32];
            config.pseudonyms = landline_region::PseudonymKey::new(&[1; 32]);
            config.has_peers = proxies > 1;
        };
        world.add_proxy("ie1", number, with_account(acme(), music), patient);
    }
    world.together = proxies > 1;
    world.share_directory();
    for proxy in 1..usize::from(proxies) {
        world.link(proxy);
    }
    world.registered(["alice", "bob", "carol"]);
    world
}

fn id(name: &str) -> RelayId {
    RelayId(name.into())
}

fn waits() -> String {
    description(BOB).replace("a=ptime:20", "a=recvonly")
}

/// Bob goes where he is asked to, and is to be quiet there, too.
fn bob_moves(world: &mut World, b: &Leg) {
    let offer = world.answer_within(b, Method::Invite, 200, Some(&waits()));
    assert!(text(&offer.body).contains("a=sendonly"), "{}", text(&offer.body));
    assert!(world.phones[BOB].take_ack().is_some());
    world.settle();
}

/// Carol takes the call that waits, talks to bob and is hung up by him.
fn carol_takes(world: &mut World, b: &mut Leg, code: &str) {
    let taking = world.dial(CAROL, &format!("sip:{code}@acme.test")).1;
    let offer = goes_over(world, b);
    assert!(offer.contains("a=sendrecv"), "{offer}");
    world.confirm(CAROL, &taking, None);
    world.hang_up(b);
    assert!(world.phones[CAROL].take(Method::Bye).is_some(), "carol is hung up");
}

fn played(relay: &FakeRelay) -> Vec<&'static str> {
    let ops = relay.ops.iter().filter_map(|(_, op)| match op {
        Op::Play(..) => Some("plays"),
        Op::Hush(_) => Some("is quiet"),
        _ => None,
    });
    ops.collect()
}

fn parked_call(world: &World) -> CallSid {
    world.proxies[0].ledger.calls()[1]
}

#[test]
fn a_parked_call_waits_until_somebody_takes_it() {
    for (by, code, told) in [(CAROL, "*7", "Parked at *71"), (ALICE, "*742", "Parked at *742")] {
        let mut world = there(9);
        let (_, mut b, said) = parked(&mut world, code);
        assert_eq!(said, told);
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
        world.wait(30);
        assert!(world.phones[BOB].requests.is_empty(), "bob waits");
        // Nothing waits elsewhere, and that place is taken.
        world.dial(CAROL, "sip:*750@acme.test");
        assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 404);

        let taking = world.dial(by, &format!("sip:{}@acme.test", &told[10..])).1;
        let mut c = world.confirm(by, &taking, None);
        let offer = goes_over(&mut world, &b);
        assert!(offer.contains("a=sendrecv"), "{offer}");
        assert_eq!(
            joined(&world),
            if by == CAROL { [LINES[1], LINES[2]] } else { [LINES[0], LINES[1]] }
        );
        world.proxy_dies(0);
        world.run(Duration::from_secs(2));
        let (side, cause) =
            if by == CAROL { (&mut c, "callee_hung_up") } else { (&mut b, "caller_hung_up") };
        world.hang_up(side);
        assert_eq!(world.proxies[0].ledger.causes()[1], cause);
        world.assert_at_rest_but_relay();
    }
}

#[test]
fn a_parked_call_that_nobody_takes_rings_where_it_came_from() {
    let mut world = there(10);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(125);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings");
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:bob@acme.test");
    world.say(ALICE, &rung, 180);
    world.answer(ALICE, &rung, &description(ALICE));
    goes_over(&mut world, &b);
    assert_eq!(joined(&world), LINES[..2]);
    world.hang_up(&mut b);
    world.assert_at_rest();
    // While it rings there, another may still take it; and if nobody does, it ends.
    for takes in [true, false] {
        let mut world = there(11);
        let (_, mut b, _) = parked(&mut world, "*7");
        world.wait(125);
        let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings");
        world.say(ALICE, &rung, 180);
        if takes {
            let taking = world.dial(CAROL, "sip:*71@acme.test").1;
            world.confirm(CAROL, &taking, None);
            goes_over(&mut world, &b);
            assert_eq!(joined(&world), LINES[1..]);
            world.hang_up(&mut b);
        } else {
            world.wait(65);
            assert!(world.phones[BOB].take(Method::Bye).is_some(), "bob is hung up");
            assert_eq!(world.proxies[0].ledger.causes()[1], "no_answer");
        }
        world.assert_at_rest();
    }
}

#[test]
fn a_place_to_park_has_room_for_one_and_who_waits_may_leave() {
    let mut world = there(12);
    let (_, mut b, _) = parked(&mut world, "*71");
    let (mut a, c) = world.call(ALICE, CAROL, "sip:carol@acme.test");
    assert_eq!(refer(&mut world, &mut a, "<sip:*71@acme.test>").status.code(), 486);
    for nowhere in ["*70", "*7100", "*7x"] {
        let to = format!("<sip:{nowhere}@acme.test>");
        assert_eq!(refer(&mut world, &mut a, &to).status.code(), 400, "{nowhere}");
    }
    // The next that is free; whoever will not wait stays with who wanted it.
    assert_eq!(refer(&mut world, &mut a, "<sip:*7@acme.test>").status.code(), 202);
    report(&mut world, &a);
    world.answer_within(&c, Method::Invite, 488, None);
    assert_eq!(report(&mut world, &a), "SIP/2.0 488 Not Acceptable Here");
    world.hang_up(&mut a);
    world.hang_up(&mut b);
    assert_eq!(world.proxies[0].ledger.causes()[1], "caller_cancelled");
    world.dial(CAROL, "sip:*71@acme.test");
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 404);
    world.assert_at_rest();
}

/// Whoever waits hears music until somebody takes the call.
#[test]
fn who_is_parked_hears_music() {
    let mut world = World::new(14);
    let music = |account: &mut landline_call::tenancy::Account| {
        account.hold_music = landline_call::tenancy::HoldMusic::BuiltIn;
    };
    world.add_proxy("ie1", 1, world::tenants::with_account(acme(), music), |_| {});
    world.share_directory();
    world.registered(["alice", "bob", "carol"]);
    let (_, mut b, _) = parked(&mut world, "*7");
    let played = |world: &World| -> Vec<&'static str> {
        let ops = world.proxies[0].relay.ops.iter();
        ops.filter_map(|(_, op)| match op {
            Op::Play(..) => Some("plays"),
            Op::Hush(_) => Some("is quiet"),
            _ => None,
        })
        .collect()
    };
    assert_eq!(played(&world), ["plays"]);
    let taking = world.dial(CAROL, "sip:*71@acme.test").1;
    world.confirm(CAROL, &taking, None);
    goes_over(&mut world, &b);
    assert_eq!(played(&world), ["plays", "is quiet"]);
    assert_eq!(joined(&world), LINES[1..]);
    world.hang_up(&mut b);
    world.assert_at_rest();
}

/// Alice called out, and parks whom she called: her account goes on paying.
#[test]
fn who_was_called_by_a_trunk_is_parked_in_an_outbound_call() {
    let mut world = there(15);
    let at = "10.9.0.1:5060".parse().unwrap();
    let carrier = world.station("carrier", "acme.test", at, 0, Transport::Udp);
    let (_, invite) = world.dial(ALICE, "sip:+353111111111@acme.test");
    let rung = world.phones[carrier].take(Method::Invite).expect("the trunk's INVITE");
    let line = world::phone::sdp("10.9.0.1", 4000, "");
    let b = world.answer(carrier, &rung, &line);
    let mut a = world.confirm(ALICE, &invite, None);
    world.phones[carrier].take_ack();
    refer(&mut world, &mut a, "<sip:*7@acme.test>");
    report(&mut world, &a);
    let waits = line.replace("a=ptime:20", "a=recvonly");
    world.answer_within(&b, Method::Invite, 200, Some(&waits));
    world.answer_within(&a, Method::Message, 200, None);
    world.hang_up(&mut a);
    let direction = |world: &World, n: usize| {
        let ledger = &world.proxies[0].ledger;
        ledger.opened(ledger.calls()[n]).direction
    };
    assert_eq!([0, 1].map(|n| direction(&world, n)), [CallDirection::Outbound; 2]);
}

/// By UPDATE where the session expires, and by OPTIONS where it does not.
#[test]
fn who_is_parked_is_refreshed_and_asked_whether_he_is_there() {
    let mut world = patient(16, 1);
    let (_, mut b, _) = parked(&mut world, "*7");
    for _ in 0..2 {
        world.wait(901);
        world.reply_within(&b, Method::Options, 200, &[]);
    }
    carol_takes(&mut world, &mut b, "*71");
    world.assert_at_rest();
    // He has gone without a word.
    let mut world = patient(17, 1);
    let (_, b, _) = parked(&mut world, "*7");
    world.wait(901);
    world.answer_within(&b, Method::Options, 481, None);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "signalling_lost"]);
    world.dial(CAROL, "sip:*71@acme.test");
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 404);
    world.assert_at_rest();
}

/// Whose session expires and who takes no UPDATE is offered what he has: he goes on
/// listening.
#[test]
fn who_is_parked_and_knows_no_update_is_refreshed_by_what_he_has() {
    let mut world = patient(26, 1);
    let expires = [
        (HeaderName::SessionExpires, "600;refresher=uac"),
        (HeaderName::Require, "timer"),
        (HeaderName::Allow, "INVITE, ACK, BYE, CANCEL"),
    ];
    let (_, invite) = world.dial(ALICE, "sip:bob@acme.test");
    let rung = world.phones[BOB].take(Method::Invite).expect("bob rings");
    let mut b = world.answer_saying(BOB, &rung, &description(BOB), &expires);
    let mut a = world.confirm(ALICE, &invite, None);
    world.phones[BOB].take_ack();
    refer(&mut world, &mut a, "<sip:*7@acme.test>");
    report(&mut world, &a);
    let agrees = |world: &mut World, b: &Leg| {
        let (key, asked) = world.phones[BOB].take(Method::Invite).expect("a re-INVITE");
        let mut said = b.dialog.respond(&asked, StatusCode::OK);
        said.set_body("application/sdp", waits());
        expires.iter().for_each(|(name, value)| said.headers.push(name.clone(), *value));
        world.respond(BOB, key, said);
        assert!(world.phones[BOB].take_ack().is_some());
        text(&asked.body)
    };
    agrees(&mut world, &b);
    world.answer_within(&a, Method::Message, 200, None);
    report(&mut world, &a);
    world.hang_up(&mut a);
    for _ in 0..3 {
        world.wait(301);
        let offered = agrees(&mut world, &b);
        assert!(offered.contains("a=sendonly"), "{offered}");
    }
    assert_eq!(played(&world.proxies[0].relay), ["plays"]);
    assert_eq!(world.proxies[0].core.counters().sessions_refreshed, 3);
    carol_takes(&mut world, &mut b, "*71");
    world.assert_at_rest();
}

/// His own refreshes and changes end here: he is answered, and stays quiet.
#[test]
fn who_is_parked_may_refresh_and_change_his_side() {
    let mut world = patient(18, 1);
    let (_, mut b, _) = parked(&mut world, "*7");
    let moved = description(BOB).replace("4000", "4002");
    world.within(&mut b, Method::Invite, Some(&moved));
    let said = world.phones[BOB].take_final().expect("an answer");
    assert_eq!(said.status, StatusCode::OK);
    assert!(text(&said.body).contains("a=sendonly"), "{}", text(&said.body));
    world.ack(&b, said.cseq().unwrap().number, None);
    // Without an offer he gets one.
    world.within(&mut b, Method::Invite, None);
    let said = world.phones[BOB].take_final().expect("an answer");
    assert!(text(&said.body).contains("a=sendonly"), "{}", text(&said.body));
    world.ack(&b, said.cseq().unwrap().number, Some(&waits()));
    let session = world.proxies[0].relay.session();
    let heard: Vec<_> = session.remotes.values().map(|it| it.rtp.to_string()).collect();
    assert_eq!(heard, [LINES[BOB]]);
    assert_eq!(played(&world.proxies[0].relay), ["plays"]);
    let refresh = "600;refresher=uac";
    let mut update = b.dialog.request(Method::Update);
    update.headers.push(HeaderName::Supported, "timer");
    update.headers.push(HeaderName::SessionExpires, refresh);
    world.send_request(BOB, update);
    world.settle();
    let said = world.phones[BOB].take_final().expect("an answer");
    assert_eq!(said.status, StatusCode::OK);
    assert_eq!(said.headers.session_expires().unwrap().unwrap().to_string(), refresh);

    // He was to do so again, and did not.
    world.wait(590);
    assert!(world.phones[BOB].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "signalling_lost"]);
    world.assert_at_rest();
}

#[test]
fn who_is_parked_goes_to_another_relay_and_hears_music_there() {
    for how in ["dies", "drains"] {
        let mut world = patient(19, 1);
        let (_, mut b, _) = parked(&mut world, "*7");
        world.add_relay("relay-2", 52);
        match how {
            "dies" => {
                world.relay_halts("relay-1");
                world.input(0, Input::RelayLost { relay: id("relay-1") });
            }
            _ => {
                world.input(0, Input::Relay { relay: id("relay-1"), message: FromRelay::Draining })
            }
        }
        // Nobody gets half of it meanwhile.
        world.run(Duration::from_millis(50));
        world.dial(CAROL, "sip:*71@acme.test");
        assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 503, "{how}");
        bob_moves(&mut world, &b);
        let relay = &world.proxies[0].others[&id("relay-2")];
        assert_eq!((relay.sessions(), played(relay)), (1, vec!["plays"]), "{how}");
        assert_eq!(world.proxies[0].relay.sessions(), 0, "{how}");
        let moved = |it: &Step| matches!(it, Step::Moved { .. });
        let ledger = &world.proxies[0].ledger;
        assert_eq!(ledger.of(parked_call(&world)).filter(|it| moved(&it.step)).count(), 1);

        let taking = world.dial(CAROL, "sip:*71@acme.test").1;
        goes_over(&mut world, &b);
        world.confirm(CAROL, &taking, None);
        let session = world.proxies[0].others[&id("relay-2")].session();
        assert!(session.joined.is_some(), "{how}: they talk");
        world.hang_up(&mut b);
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_hung_up"]);
        world.assert_at_rest();
    }
}

/// Who rings because nobody took it rings again by another relay.
#[test]
fn a_relay_that_dies_as_a_parked_call_rings_back_ends_neither() {
    let mut world = there(20);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(125);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings");
    world.say(ALICE, &rung, 180);
    world.add_relay("relay-2", 52);
    world.relay_halts("relay-1");
    world.input(0, Input::RelayLost { relay: id("relay-1") });
    world.run(Duration::from_millis(50));
    assert_eq!(world.phones[ALICE].others, ["cancelled"]);
    bob_moves(&mut world, &b);
    world.wait(2);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings again");
    world.answer(ALICE, &rung, &description(ALICE));
    goes_over(&mut world, &b);
    world.hang_up(&mut b);
    world.assert_at_rest();
}

#[test]
fn a_parked_call_outlives_its_proxy() {
    let mut world = patient(21, 1);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.proxy_dies(0);
    world.run(Duration::from_secs(2));
    assert!(world.phones[BOB].requests.is_empty(), "bob hears nothing of it");
    // Its place is taken, and known.
    world.register(ALICE);
    world.register(CAROL);
    let (mut a, _) = world.call(ALICE, CAROL, "sip:carol@acme.test");
    assert_eq!(refer(&mut world, &mut a, "<sip:*71@acme.test>").status.code(), 486);
    world.hang_up(&mut a);
    world.phones[CAROL].take(Method::Bye);
    // He is looked after as before.
    world.wait(901);
    world.reply_within(&b, Method::Options, 200, &[]);
    world.proxy_dies(0);
    world.run(Duration::from_secs(2));
    world.register(CAROL);
    carol_takes(&mut world, &mut b, "*71");
    let causes = world.proxies[0].ledger.causes();
    assert_eq!(causes, ["transferred", "caller_hung_up", "caller_hung_up"]);
    world.assert_at_rest_but_relay();
    assert_eq!(world.proxies[0].relay.sessions(), 0);
}

/// It rings where it came from when its time is over, as the one whom it came from
/// knew it.
#[test]
fn a_parked_call_rings_back_by_the_next_proxy_in_its_time() {
    let mut world = there(22);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(60);
    world.proxy_dies(0);
    world.register(ALICE);
    world.wait(55);
    assert!(world.phones[ALICE].take(Method::Invite).is_none(), "it is not time yet");
    world.wait(10);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings");
    assert_eq!(rung.1.from().unwrap().uri.to_string(), "sip:bob@acme.test");
    world.say(ALICE, &rung, 180);
    // And if it dies once more it rings anew.
    world.proxy_dies(0);
    world.register(ALICE);
    world.wait(3);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings again");
    world.answer(ALICE, &rung, &description(ALICE));
    goes_over(&mut world, &b);
    assert_eq!(joined(&world), LINES[..2]);
    world.hang_up(&mut b);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_hung_up"]);
    world.assert_at_rest_but_relay();
}

#[test]
fn who_waited_with_a_former_proxy_may_leave() {
    let mut world = there(23);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.proxy_dies(0);
    world.run(Duration::from_secs(2));
    world.hang_up(&mut b);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_cancelled"]);
    world.assert_at_rest_but_relay();
}

/// Its proxy does not come back: another has it, under the same number.
#[test]
fn a_parked_call_is_taken_at_another_proxy_when_its_own_has_died() {
    let mut world = patient(24, 2);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(3);
    assert_eq!(world.proxies[1].core.replicas(), 1);
    world.proxy_halts(0);
    world.go_by(1);
    world.wait(5);
    assert_eq!(world.proxies[1].core.live().count(), 1);
    assert!(world.phones[BOB].take(Method::Update).is_some(), "where to reach it now");
    world.register(CAROL);
    carol_takes(&mut world, &mut b, "*71");
    let ends = world.proxies[1].ledger.of(parked_call(&world));
    let ends: Vec<_> = ends
        .filter_map(|it| match &it.step {
            Step::Closed(closed) => Some(closed.cause.name()),
            _ => None,
        })
        .collect();
    assert_eq!(ends, ["caller_hung_up"]);
    assert_eq!(world.proxies[0].relay.sessions(), 0);
}

/// A proxy that was taken for dead as the call rings back rings nobody any more:
/// the call rings again where it is now.
#[test]
fn a_call_that_another_proxy_takes_as_it_rings_back_rings_there_alone() {
    let mut world = patient_for(26, 2, Duration::from_secs(120));
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(125);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings");
    world.say(ALICE, &rung, 180);
    assert!(world.phones[ALICE].others.is_empty());
    world.unlink();
    world.go_by(1);
    world.register(ALICE);
    world.wait(10);
    assert_eq!(world.proxies[0].core.live().count(), 0);
    assert_eq!(world.phones[ALICE].others, ["cancelled"]);
    assert_eq!(world.proxies[1].core.live().count(), 1);
    let rung = world.phones[ALICE].take(Method::Invite).expect("alice rings again");
    world.answer(ALICE, &rung, &description(ALICE));
    goes_over(&mut world, &b);
    world.hang_up(&mut b);
    assert_eq!(world.proxies[0].relay.sessions(), 0);
}

/// Nothing but bob and what another proxy holds is left of it.
#[test]
fn a_parked_call_outlives_its_proxy_and_its_relay_at_once() {
    let mut world = patient(25, 2);
    let (_, mut b, _) = parked(&mut world, "*7");
    world.wait(3);
    world.add_relay("relay-2", 52);
    world.relay_halts("relay-1");
    world.proxy_halts(0);
    world.input(1, Input::RelayLost { relay: id("relay-1") });
    world.go_by(1);
    world.wait(8);
    world.phones[BOB].take(Method::Update);
    bob_moves(&mut world, &b);
    world.register(CAROL);
    carol_takes(&mut world, &mut b, "*71");
    assert_eq!(world.proxies[0].others[&id("relay-2")].sessions(), 0);
}
