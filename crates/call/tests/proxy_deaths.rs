//! Answered calls go on when their proxy dies and comes back, whatever was under
//! way; what was not answered is lost, and ends in a defined way.

mod world;

use std::time::Duration;

use landline_call::record::Step;
use landline_call::{Input, StartCall};
use landline_control::{Event, FromRelay, LegId, MediaFault, Op, RelayId};
use landline_region::{AccountSid, CallSid, Personal, UnixMillis, UserSid};
use landline_sip::{Dialog, Method};
use world::phone::{Leg, ip, sdp, text};
use world::{World, tenants, up, up_recorded};

/// One side holds, the other hears of it and agrees.
fn hold(world: &mut World, x: &mut Leg, y: &Leg, method: Method) {
    let offer = sdp(ip(x), 4000, "a=sendonly\r\n");
    world.within(x, method.clone(), Some(&offer));
    let reply = sdp(ip(y), 4000, "a=recvonly\r\n");
    world.answer_within(y, method.clone(), 200, Some(&reply));
    let response = world.phones[x.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    if method == Method::Invite {
        assert!(world.phones[y.phone].take_ack().is_some());
        world.ack(x, response.cseq().unwrap().number, None);
    }
}

/// Who hung up, with which status, and how many steps the record has.
fn end(world: &World) -> (String, u16, usize) {
    let ledger = &world.proxies[0].ledger;
    let call = *ledger.calls().last().unwrap();
    let last = ledger.last();
    (last.cause.to_owned(), last.status, ledger.of(call).count())
}

#[test]
fn a_call_ends_as_if_its_proxy_had_never_died() {
    for by_caller in [true, false] {
        let ends = [false, true].map(|dies| {
            let (mut world, a, b) = up(1);
            if dies {
                world.proxy_dies(0);
                world.settle();
            }
            world.wait(20);
            let (mut x, y) = if by_caller { (a, b) } else { (b, a) };
            world.hang_up(&mut x);
            assert!(world.phones[y.phone].take(Method::Bye).is_some(), "the other side's BYE");
            world.assert_at_rest();
            end(&world)
        });
        assert_eq!(ends[0], ends[1]);
        assert_eq!(ends[0].0, if by_caller { "caller_hung_up" } else { "callee_hung_up" });
    }
}

#[test]
fn a_call_is_held_resumed_and_ended_across_any_number_of_deaths() {
    for method in [Method::Invite, Method::Update] {
        let (mut world, mut a, mut b) = up(2);
        world.proxy_dies(0);
        world.settle();
        hold(&mut world, &mut a, &b, method.clone());
        world.proxy_dies(0);
        world.settle();
        hold(&mut world, &mut b, &a, method.clone());
        world.proxy_dies(0);
        world.proxy_dies(0);
        world.settle();
        world.within(&mut b, Method::Info, Some("press"));
        world.answer_within(&a, Method::Info, 200, None);
        assert_eq!(world.phones[b.phone].take_final().unwrap().status.code(), 200);
        world.hang_up(&mut a);
        world.assert_at_rest();
        assert_eq!(end(&world).0, "caller_hung_up");
    }
}

#[test]
fn nobody_hears_of_a_death_between_two_requests() {
    let (mut world, a, b) = up(3);
    let ops = world.proxies[0].relay.ops.len();
    world.proxy_dies_for(0, Duration::from_secs(5));
    world.wait(60);
    for leg in [&a, &b] {
        let phone = &world.phones[leg.phone];
        assert!(phone.requests.iter().all(|it| it.2.method == Method::Ack), "{}", phone.user);
    }
    // But for music, which may have been on when the process went.
    let since = &world.proxies[0].relay.ops[ops..];
    let is_quiet = since.iter().all(|(_, op)| matches!(op, Op::Hush(_)));
    assert!(is_quiet, "the media was not touched: {since:?}");
    assert_eq!(world.proxies[0].core.live().count(), 1);
}

#[test]
fn a_caller_whose_200_died_with_the_proxy_gets_it_from_the_next() {
    for lost in [true, false] {
        let mut world = World::ie1(4);
        let [alice, bob] = world.registered(["alice", "bob"]);
        let (_, invite) = world.dial(alice, "sip:bob@acme.test");
        let a = world.phones[alice].address;
        if lost {
            world.dead.push(a);
        }
        let mut b = world.pick_up(bob);
        world.proxy_dies(0);
        world.settle();
        world.dead.clear();
        world.wait(5);
        let mut a = world.confirm(alice, &invite, None);
        assert!(world.phones[alice].take_final().is_none());
        // Acknowledged, it is not sent any more, and the call goes on.
        world.wait(40);
        assert_eq!(world.proxies[0].core.live().count(), 1);
        assert!(world.phones[alice].take(Method::Bye).is_none());
        world.within(&mut b, Method::Info, Some("press"));
        world.answer_within(&a, Method::Info, 200, None);
        world.hang_up(&mut a);
        world.assert_at_rest();
        assert_eq!(end(&world).0, "caller_hung_up");
    }
}

#[test]
fn a_caller_that_leaves_the_offer_to_us_gives_its_answer_to_the_next_proxy() {
    let mut world = World::ie1(5);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    let _b = world.pick_up(bob);
    world.proxy_dies(0);
    world.settle();
    world.wait(1);
    let mut a = world.confirm(alice, &invite, Some(&sdp("10.1.0.1", 4000, "")));
    assert!(world.proxies[0].relay.session().joined.is_some(), "both hear each other");
    world.proxy_dies(0);
    world.settle();
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_callee_whose_ack_was_lost_with_the_proxy_gets_one() {
    let mut world = World::ie1(6);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let ringing = world.phones[bob].take(Method::Invite).unwrap();
    let contact = world.phones[bob].contact();
    let dialog = Dialog::uas(&ringing.1, "tag-1", contact).unwrap();
    let mut response = dialog.respond(&ringing.1, landline_sip::StatusCode::OK);
    response.set_body("application/sdp", sdp("10.1.0.2", 4000, ""));
    // Until the answer is on disk the callee hears nothing.
    let b = world.phones[bob].address;
    world.phone_input(bob, landline_sip::Input::Respond { key: ringing.0, response });
    world.dead.push(b);
    world.settle();
    world.proxy_dies(0);
    world.settle();
    world.dead.clear();
    world.wait(8);
    assert!(world.phones[bob].take_ack().is_some(), "an ACK for the 200 that came again");
    let mut a = world.confirm(alice, &invite, None);
    world.wait(40);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn what_was_not_answered_is_lost_and_asked_for_again_it_is_another_call() {
    let mut world = World::ie1(7);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    world.proxy_dies(0);
    world.proxies[0].relay.forget();
    world.settle();
    assert_eq!(world.proxies[0].ledger.last().cause, "lost");
    assert!(!world.proxies[0].ledger.last().answered);
    let ringing = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &ringing, 486);
    world.register(bob);
    let (mut a, _b) = world.call(alice, bob, "sip:bob@acme.test");
    assert_eq!(world.proxies[0].ledger.calls().len(), 2);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_request_of_a_dialog_that_nobody_knows_gets_481() {
    let (mut world, mut a, _b) = up(8);
    world.proxies[0].kept.clear();
    world.proxy_dies(0);
    world.proxies[0].relay.forget();
    world.settle();
    for method in [Method::Bye, Method::Update, Method::Info] {
        world.within(&mut a, method, None);
        assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 481);
    }
    world.assert_at_rest();
    assert_eq!(end(&world).0, "lost");
}

#[test]
fn a_bye_while_the_relay_is_away_ends_the_session_when_it_is_back() {
    let (mut world, mut a, _b) = up(9);
    let relay = world.proxies[0].relay.sessions();
    assert_eq!(relay, 1);
    world.proxies[0].relay.silent = true;
    world.proxy_dies(0);
    world.within(&mut a, Method::Bye, None);
    assert_eq!(world.proxies[0].ledger.last().cause, "open", "the relay has not counted yet");
    world.proxies[0].relay.silent = false;
    world.connect_relay(0);
    world.wait(15);
    world.assert_at_rest_but_relay();
    assert_eq!(end(&world).0, "caller_hung_up");
}

#[test]
fn a_call_whose_session_is_gone_ends_when_it_was_last_known_to_live() {
    for away in [false, true] {
        let (mut world, mut a, mut b) = up(10);
        world.wait(10);
        let died_at = world.now().unix;
        world.proxies[0].relay.forget();
        world.proxies[0].relay.silent = away;
        world.proxy_dies_for(0, Duration::from_secs(30));
        world.wait(20);
        assert_eq!(end(&world).0, "lost");
        let closed = world.proxies[0].ledger.events.last().unwrap().at;
        assert_eq!(closed, died_at);
        for leg in [&mut a, &mut b] {
            assert!(world.phones[leg.phone].take(Method::Bye).is_some(), "both are told");
        }
        world.assert_at_rest();
    }
}

#[test]
fn a_fault_of_the_media_while_nobody_listened_is_heard() {
    let (mut world, _a, _b) = up(11);
    world.proxy_dies(0);
    world.settle();
    let session = world.proxies[0].relay.session_id();
    let fault = Event::Fault(LegId(0), MediaFault::MediaTimeout);
    let message = FromRelay::Event(session, fault);
    world.input(0, Input::Relay { relay: RelayId("relay-1".into()), message });
    world.assert_at_rest();
    assert_eq!(end(&world).0, "media_lost");
}

#[test]
fn a_call_that_another_proxy_took_is_let_go_without_a_word() {
    let (mut world, a, b) = up(12);
    let session = world.proxies[0].relay.session_id();
    let message = FromRelay::Taken(session);
    world.input(0, Input::Relay { relay: RelayId("relay-1".into()), message });
    world.wait(100);
    assert_eq!(world.proxies[0].core.live().count(), 0);
    assert!(world.proxies[0].kept.is_empty());
    assert_eq!(world.proxies[0].ledger.last().cause, "open", "its end is the other's to write");
    for leg in [a, b] {
        assert!(world.phones[leg.phone].take(Method::Bye).is_none());
    }
    for (what, count) in world.proxies[0].core.under_way() {
        assert_eq!(count, 0, "{what} left");
    }
}

#[test]
fn the_longest_duration_is_counted_from_the_answer() {
    let mut world = World::new(13);
    let longest = Some(Duration::from_secs(60));
    world.add_proxy("ie1", 1, tenants::acme(), |config| config.timers.max_call = longest);
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.call(alice, bob, "sip:bob@acme.test");
    world.wait(40);
    world.proxy_dies(0);
    world.wait(25);
    assert_eq!(end(&world).0, "hung_up_by_admin");
}

#[test]
fn a_call_of_somebody_who_is_gone_is_closed() {
    let (mut world, _a, _b) = up(14);
    world.proxies[0].tenancy.users.retain(|user| user.name.expose() != "bob");
    world.proxy_dies(0);
    world.wait(1);
    // The store ends its legs with it.
    assert_eq!(end(&world).0, "lost");
    assert_eq!(world.proxies[0].core.counters().calls_unrestorable, 1);
    assert!(world.proxies[0].kept.is_empty());
}

#[test]
fn a_call_of_ours_goes_on_as_well() {
    let mut world = World::ie1(15);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let tenancy = tenants::acme();
    let sid = |name: &str| -> UserSid {
        tenancy.users.iter().find(|user| user.name.expose() == name).unwrap().sid
    };
    let account: AccountSid = tenancy.accounts[0].sid;
    let start = StartCall {
        sid: CallSid::from_u128(77),
        account,
        from: sid("alice"),
        to: Personal::new("bob".to_owned()),
    };
    world.input(0, Input::StartCall(start));
    world.settle();
    let mut a = world.pick_up(alice);
    let b = world.pick_up(bob);
    // Both are told what the other speaks, before the death or after it.
    world.proxy_dies(0);
    world.wait(2);
    while let Some((key, request)) = world.phones[alice].take(Method::Invite) {
        let mut response = a.dialog.respond(&request, landline_sip::StatusCode::OK);
        response.set_body("application/sdp", sdp(ip(&a), 4000, ""));
        world.respond(alice, key, response);
    }
    world.wait(40);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.hang_up(&mut a);
    assert!(world.phones[b.phone].take(Method::Bye).is_some());
    world.wait(100);
    assert_eq!(end(&world).0, "caller_hung_up");
}

#[test]
fn a_snapshot_shows_nothing_of_whom_it_is_of() {
    let (world, _a, _b) = up(16);
    let snapshot = world.proxies[0].kept.values().next().unwrap();
    let shown = format!("{snapshot:?}");
    assert!(shown.starts_with("Snapshot(CA") && !shown.contains("alice"), "{shown}");
    eprintln!("{} octets", snapshot.state.expose().len());
}

/// The proxy and its relay die together, and the proxy is back after this time.
fn both_die(world: &mut World, away: u64) -> UnixMillis {
    let died_at = world.now().unix;
    world.relay_halts("relay-1");
    world.proxy_dies_for(0, Duration::from_secs(away));
    died_at
}

/// Both phones are asked to go to where the media are now.
fn agree(world: &mut World, a: &Leg, b: &Leg, relay: &str) {
    for leg in [a, b] {
        let asked = world.answer_within(leg, Method::Invite, 200, Some(&sdp(ip(leg), 4000, "")));
        assert!(text(&asked.body).contains(relay), "{}", text(&asked.body));
        assert!(world.phones[leg.phone].take_ack().is_some());
    }
    world.settle();
}

fn moves(world: &World) -> Vec<(String, String)> {
    let moved = world.proxies[0].ledger.events.iter().filter_map(|event| match &event.step {
        Step::Moved { from, to } => Some((from.0.clone(), to.0.clone())),
        _ => None,
    });
    moved.collect()
}

#[test]
fn a_call_whose_relay_died_with_its_proxy_goes_on_by_another() {
    let (mut world, mut a, b) = up_recorded(17);
    world.add_relay("relay-2", 52);
    world.wait(10);
    both_die(&mut world, 2);
    world.wait(4);
    agree(&mut world, &a, &b, "c=IN IP4 10.0.52.9\r\n");
    assert_eq!(moves(&world), [("relay-1".into(), "relay-2".into())]);
    let session = world.proxies[0].others[&RelayId("relay-2".into())].session();
    assert_eq!(session.joined, Some((LegId(0), LegId(1))));
    assert!(session.is_recording && session.segments > 0, "a further part");
    // It lives through another death, and ends when it is hung up.
    world.proxy_dies(0);
    world.wait(60);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    hold(&mut world, &mut a, &b, Method::Invite);
    let ended_at = world.now().unix;
    world.hang_up(&mut a);
    world.assert_at_rest();
    assert_eq!(end(&world).0, "caller_hung_up");
    assert_eq!(world.proxies[0].ledger.calls().len(), 1);
    assert!(world.proxies[0].ledger.events.last().unwrap().at >= ended_at);
}

#[test]
fn a_relay_that_restarted_with_the_proxy_takes_its_calls_again() {
    let (mut world, mut a, b) = up(18);
    both_die(&mut world, 2);
    world.wait(1);
    world.proxies[0].dead_relays.clear();
    world.relay_links(0, "relay-1", 2);
    world.settle();
    agree(&mut world, &a, &b, "c=IN IP4 10.0.1.9\r\n");
    assert_eq!(moves(&world), [("relay-1".into(), "relay-1".into())]);
    world.wait(60);
    world.hang_up(&mut a);
    world.assert_at_rest();
    assert_eq!(end(&world).0, "caller_hung_up");
}

#[test]
fn without_another_relay_the_call_is_lost_when_its_own_was_last_there() {
    let (mut world, a, b) = up(19);
    world.wait(10);
    let died_at = both_die(&mut world, 5);
    world.wait(9);
    assert_eq!(end(&world).0, "open", "its relay may yet come");
    world.wait(2);
    assert_eq!(end(&world).0, "lost");
    assert_eq!(world.proxies[0].ledger.events.last().unwrap().at, died_at);
    for leg in [&a, &b] {
        assert!(world.phones[leg.phone].take(Method::Bye).is_some(), "both are told");
    }
    world.assert_at_rest();
}

#[test]
fn a_relay_that_comes_and_takes_nothing_ends_the_call_when_it_was_last_up() {
    let (mut world, _a, _b) = up(20);
    world.add_relay("relay-2", 52);
    let relay_2 = RelayId("relay-2".into());
    world.proxies[0].others.get_mut(&relay_2).unwrap().full = true;
    let died_at = both_die(&mut world, 5);
    world.wait(15);
    assert_eq!(end(&world).0, "lost");
    assert_eq!(world.proxies[0].ledger.events.last().unwrap().at, died_at);
    world.assert_at_rest();
}

#[test]
fn a_phone_that_is_gone_with_proxy_and_relay_ends_the_call() {
    let (mut world, a, b) = up(21);
    world.add_relay("relay-2", 52);
    both_die(&mut world, 1);
    world.wait(4);
    world.answer_within(&a, Method::Invite, 200, Some(&sdp(ip(&a), 4000, "")));
    let b = world.phones[b.phone].address;
    world.dead.push(b);
    world.wait(60);
    assert_eq!(end(&world).0, "signalling_lost");
    assert!(world.phones[a.phone].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn nobody_is_called_back_who_heard_nothing_for_minutes() {
    let (mut world, a, _b) = up(22);
    world.add_relay("relay-2", 52);
    let died_at = both_die(&mut world, 180);
    world.wait(15);
    assert_eq!(end(&world).0, "lost");
    assert_eq!(world.proxies[0].ledger.events.last().unwrap().at, died_at);
    assert!(world.phones[a.phone].take(Method::Invite).is_none());
    world.assert_at_rest();
}

#[test]
fn a_session_that_a_living_relay_has_closed_is_nowhere_else() {
    let (mut world, a, _b) = up(23);
    world.add_relay("relay-2", 52);
    world.proxies[0].relay.forget();
    world.proxy_dies_for(0, Duration::from_secs(2));
    world.wait(15);
    assert_eq!(end(&world).0, "lost", "somebody closed it");
    assert!(world.phones[a.phone].take(Method::Invite).is_none());
    world.assert_at_rest();
}
