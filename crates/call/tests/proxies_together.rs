//! Proxies of one region: one dies, or is cut off, and another goes on with its
//! calls. Each call has one record with one end, whoever writes it and whoever's
//! ledger comes first.

mod world;

use std::time::Duration;

use landline_call::record::{CallEvent, Step};
use landline_call::{Input, Replica};
use landline_control::RelayId;
use landline_region::{CallSid, UnixMillis};
use landline_sip::Method;
use world::World;
use world::phone::{Leg, ip, sdp};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A call that is up at the first proxy, and held by the others.
fn up_with(seed: u8, proxies: u8) -> (World, Leg, Leg) {
    let mut world = World::ie1_together(seed, proxies);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (a, b) = world.call(alice, bob, "sip:bob@acme.test");
    world.settle();
    for other in 1..usize::from(proxies) {
        assert_eq!(world.proxies[other].core.replicas(), 1);
    }
    (world, a, b)
}

fn up(seed: u8) -> (World, Leg, Leg) {
    up_with(seed, 2)
}

fn call(world: &World) -> CallSid {
    world.proxies[A].ledger.calls()[0]
}

fn dies(world: &mut World) -> UnixMillis {
    world.proxy_halts(A);
    world.go_by(B);
    world.now().unix
}

/// What the region's database makes of the ledgers, in this order.
fn record(world: &World, order: &[usize]) -> Vec<CallEvent> {
    let mut record: Vec<CallEvent> = Vec::new();
    for proxy in order {
        for event in world.proxies[*proxy].ledger.of(call(world)) {
            let next = record.last().map_or(0, |last| last.sequence + 1);
            let closed = record.iter().find_map(|it| match &it.step {
                Step::Closed(closed) => Some(closed.cause.name()),
                _ => None,
            });
            let is_known = record.contains(event);
            assert!(is_known || closed != Some("lost"), "it would be set aside: {event:?}");
            if event.sequence >= next && closed.is_none() {
                record.push(event.clone());
            }
        }
    }
    record
}

/// One end, and nothing left anywhere.
fn assert_one_end(world: &mut World, cause: &str) {
    world.run(Duration::from_secs(200));
    let proxies = world.proxies.len();
    let orders: &[&[usize]] = match proxies {
        2 => &[&[A, B], &[B, A]],
        _ => &[&[A, B, C], &[C, B, A], &[B, C, A]],
    };
    for order in orders {
        let record = record(world, order);
        let ends: Vec<_> = record
            .iter()
            .filter_map(|it| match &it.step {
                Step::Closed(closed) => Some(closed.cause.name()),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [cause], "{order:?}");
        let answered = record.iter().filter(|it| matches!(it.step, Step::Answered { .. }));
        assert_eq!(answered.count(), 1, "{order:?}");
    }
    assert_eq!(world.proxies[A].relay.sessions(), 0, "sessions left on the relay");
    for proxy in 0..proxies {
        let it = &world.proxies[proxy];
        assert_eq!(it.core.live().count(), 0, "{proxy}");
        for (what, count) in it.core.under_way() {
            assert_eq!(count, 0, "{proxy}: {what} left");
        }
        let counters = it.core.counters();
        let had = counters.calls_opened + counters.calls_restored;
        assert_eq!(had, counters.calls_closed + counters.calls_taken, "{proxy}");
    }
}

fn live(world: &World) -> Vec<usize> {
    world.proxies.iter().map(|it| it.core.live().count()).collect()
}

#[test]
fn a_bye_to_another_proxy_ends_the_call_with_its_whole_record() {
    for by_caller in [true, false] {
        let (mut world, a, b) = up(1);
        dies(&mut world);
        let (mut x, y) = if by_caller { (a, b) } else { (b, a) };
        world.hang_up(&mut x);
        assert!(world.phones[y.phone].take(Method::Bye).is_some(), "the other side's BYE");
        world.proxies[B].ledger.assert_closed();
        assert_one_end(&mut world, if by_caller { "caller_hung_up" } else { "callee_hung_up" });
    }
}

#[test]
fn a_change_that_comes_to_another_proxy_is_carried_out_there() {
    let (mut world, mut a, mut b) = up(2);
    dies(&mut world);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    // Where the call is reached from now on.
    let update = world.answer_within(&b, Method::Update, 200, None);
    assert!(update.body.is_empty());
    b.dialog.refresh_target(update.contacts().unwrap());
    assert!(b.dialog.remote_target().to_string().contains("10.0.2.1"));
    let reply = sdp(ip(&b), 4000, "a=recvonly\r\n");
    let asked = world.answer_within(&b, Method::Invite, 200, Some(&reply));
    assert!(String::from_utf8_lossy(&asked.body).contains("a=sendonly"));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.within(&mut b, Method::Info, Some("press"));
    world.answer_within(&a, Method::Info, 200, None);
    world.hang_up(&mut b);
    assert_one_end(&mut world, "callee_hung_up");
}

#[test]
fn when_the_lease_is_over_the_other_sees_to_the_call_by_itself() {
    let (mut world, a, mut b) = up(3);
    dies(&mut world);
    world.wait(2);
    assert_eq!(live(&world), [0, 0]);
    world.wait(2);
    assert_eq!(live(&world), [0, 1]);
    for leg in [&a, &b] {
        let told = world.answer_within(leg, Method::Update, 200, None);
        assert!(told.contacts().is_ok());
    }
    world.wait(20);
    world.hang_up(&mut b);
    assert_one_end(&mut world, "callee_hung_up");
}

#[test]
fn a_proxy_that_is_back_within_the_lease_keeps_its_calls() {
    let (mut world, mut a, _b) = up(4);
    let died_at = dies(&mut world);
    world.wait(2);
    world.proxy_returns(A, died_at);
    world.go_by(A);
    world.wait(60);
    assert_eq!(live(&world), [1, 0]);
    assert_eq!(world.proxies[B].core.replicas(), 1);
    world.hang_up(&mut a);
    world.settle();
    assert_eq!(world.proxies[B].core.replicas(), 0);
    assert_one_end(&mut world, "caller_hung_up");
}

#[test]
fn a_proxy_that_comes_back_leaves_a_call_to_who_has_it() {
    for ends_before in [true, false] {
        let (mut world, mut a, _b) = up(5);
        let died_at = dies(&mut world);
        world.wait(5);
        if ends_before {
            world.hang_up(&mut a);
            world.wait(1);
        }
        world.proxy_returns(A, died_at);
        world.wait(10);
        assert_eq!(live(&world)[A], 0);
        if !ends_before {
            assert_eq!(live(&world)[B], 1);
            assert_eq!(world.proxies[A].core.replicas(), 1, "the roles are the other way round");
            world.hang_up(&mut a);
        }
        assert_one_end(&mut world, "caller_hung_up");
    }
}

#[test]
fn each_in_turn_dies_and_the_other_goes_on() {
    let (mut world, mut a, _b) = up(6);
    for round in 0..6 {
        let (dead, other) = (round % 2, (round + 1) % 2);
        let died_at = world.now().unix;
        world.proxy_halts(dead);
        world.go_by(other);
        if round % 3 == 0 {
            world.within(&mut a, Method::Update, None);
            assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
        } else {
            world.wait(5);
        }
        assert_eq!(live(&world)[other], 1, "round {round}");
        world.wait(1);
        world.proxy_returns(dead, died_at);
        world.wait(5);
        assert_eq!((live(&world)[dead], live(&world)[other]), (0, 1), "round {round}");
        assert_eq!(world.proxies[dead].core.replicas(), 1, "round {round}");
    }
    world.hang_up(&mut a);
    assert_one_end(&mut world, "caller_hung_up");
}

#[test]
fn a_call_taken_from_a_proxy_that_lives_is_let_go_there() {
    let (mut world, mut a, _b) = up(7);
    world.go_by(B);
    world.within(&mut a, Method::Update, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    world.settle();
    assert_eq!(live(&world), [0, 1]);
    assert!(world.proxies[A].kept.is_empty());
    assert_eq!(world.proxies[A].core.replicas(), 1, "held for the one that has it now");
    world.hang_up(&mut a);
    assert!(world.proxies[A].ledger.closed(call(&world)).is_none(), "its end is the other's");
    assert_one_end(&mut world, "caller_hung_up");
}

#[test]
fn proxies_that_do_not_hear_each_other_leave_a_call_to_who_its_phones_reach() {
    let (mut world, mut a, mut b) = up(8);
    world.unlink();
    world.wait(10);
    assert_eq!(live(&world), [0, 1], "taken when the lease was over");
    // The phones have heard nothing of it, and the former has it back.
    world.within(&mut a, Method::Info, Some("press"));
    world.answer_within(&b, Method::Info, 200, None);
    world.settle();
    assert_eq!(live(&world), [1, 0]);
    world.wait(60);
    world.go_by(B);
    world.within(&mut b, Method::Info, Some("press"));
    world.answer_within(&a, Method::Info, 200, None);
    world.settle();
    assert_eq!(live(&world), [0, 1]);
    world.hang_up(&mut b);
    assert_one_end(&mut world, "callee_hung_up");
}

#[test]
fn a_call_that_another_ended_unheard_is_not_ended_twice() {
    let (mut world, mut a, mut b) = up(9);
    world.unlink();
    world.wait(10);
    world.go_by(B);
    world.hang_up(&mut a);
    world.wait(1);
    // The other phone still knows the former proxy, which nobody told.
    world.go_by(A);
    world.within(&mut b, Method::Bye, None);
    assert_one_end(&mut world, "caller_hung_up");
    assert!(world.proxies[A].ledger.closed(call(&world)).is_none());
}

#[test]
fn a_proxy_that_comes_back_and_can_ask_nobody_lets_the_relay_judge() {
    for by_the_former in [true, false] {
        let (mut world, mut a, mut b) = up(10);
        let died_at = dies(&mut world);
        world.wait(5);
        assert_eq!(live(&world), [0, 1]);
        world.unlink();
        world.proxy_returns(A, died_at);
        world.settle();
        assert_eq!(live(&world), [1, 0], "who adopts last has it");
        if by_the_former {
            world.go_by(A);
            world.hang_up(&mut a);
        } else {
            world.hang_up(&mut b);
        }
        let cause = if by_the_former { "caller_hung_up" } else { "callee_hung_up" };
        assert_one_end(&mut world, cause);
    }
}

#[test]
fn of_several_that_live_one_takes_the_call() {
    for seed in 11..17 {
        let (mut world, mut a, _b) = up_with(seed, 3);
        dies(&mut world);
        world.wait(10);
        assert_eq!(live(&world).iter().sum::<usize>(), 1);
        let (has, other) = if live(&world)[B] == 1 { (B, C) } else { (C, B) };
        assert_eq!(world.proxies[other].core.replicas(), 1, "held for the next death");
        // A request that comes to the other brings the call there.
        world.go_by(other);
        world.within(&mut a, Method::Update, None);
        assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
        world.settle();
        assert_eq!((live(&world)[has], live(&world)[other]), (0, 1));
        world.hang_up(&mut a);
        assert_one_end(&mut world, "caller_hung_up");
    }
}

#[test]
fn a_call_that_has_ended_on_the_relay_is_lost_when_its_proxy_was_last_heard() {
    let (mut world, _a, _b) = up(17);
    world.wait(10);
    let heard = dies(&mut world);
    world.proxies[A].relay.forget();
    world.run(Duration::from_secs(30));
    assert_eq!(world.proxies[B].ledger.events.last().unwrap().at, heard);
    assert_one_end(&mut world, "lost");
}

#[test]
fn who_knows_a_tag_and_no_more_takes_nothing_over() {
    let (mut world, a, _b) = up(18);
    world.go_by(B);
    let mut stranger = a.clone();
    let mut parts = stranger.dialog.parts();
    parts.call_id = "another".into();
    stranger.dialog = parts.into();
    world.within(&mut stranger, Method::Bye, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 481);
    assert_eq!(live(&world), [1, 0]);
}

#[test]
fn what_is_held_for_others_is_bounded() {
    let (mut world, _a, _b) = up(19);
    let kept = world.proxies[A].kept.values().next().unwrap().clone();
    let mut unreadable = kept.clone();
    unreadable.call = CallSid::from_u128(1);
    unreadable.state = vec![9, 9].into();
    let replica = Box::new(Replica { snapshot: unreadable, record: Vec::new() });
    world.input(B, Input::Replica { peer: world.peer(A), replica });
    assert_eq!(world.proxies[B].core.replicas(), 1);
    assert_eq!(world.proxies[B].core.counters().replicas_dropped, 1);
}

/// Both phones agree to where the media are now.
fn agree(world: &mut World, a: &Leg, b: &Leg) {
    for leg in [a, b] {
        let asked = world.answer_within(leg, Method::Invite, 200, Some(&sdp(ip(leg), 4000, "")));
        assert!(String::from_utf8_lossy(&asked.body).contains("c=IN IP4 10.0.52.9\r\n"));
        assert!(world.phones[leg.phone].take_ack().is_some());
    }
    world.settle();
}

/// The others lose the relay as well.
fn relay_dies(world: &mut World) {
    world.relay_halts("relay-1");
    for proxy in [A, B] {
        world.input(proxy, Input::RelayLost { relay: RelayId("relay-1".into()) });
    }
}

#[test]
fn a_machine_that_burns_with_proxy_and_relay_takes_no_call_with_it() {
    let (mut world, mut a, b) = up(20);
    world.add_relay("relay-2", 52);
    world.wait(10);
    let died_at = dies(&mut world);
    relay_dies(&mut world);
    world.wait(7);
    assert_eq!(live(&world), [0, 1]);
    agree(&mut world, &a, &b);
    world.wait(60);
    world.proxies[A].dead_relays.clear();
    world.proxy_returns(A, died_at);
    world.wait(5);
    assert_eq!(live(&world), [0, 1], "it is the other's");
    world.hang_up(&mut a);
    assert_one_end(&mut world, "caller_hung_up");
}

#[test]
fn a_call_that_a_living_proxy_moves_is_moved_by_that_one_alone() {
    let (mut world, mut a, mut b) = up(21);
    world.add_relay("relay-2", 52);
    world.wait(10);
    relay_dies(&mut world);
    world.run(Duration::from_millis(20));
    // A phone's word comes to the other proxy, which cannot know whose it is.
    world.go_by(B);
    world.within(&mut b, Method::Update, None);
    agree(&mut world, &a, &b);
    world.wait(30);
    assert_eq!(live(&world), [1, 0], "let go without a word");
    for leg in [&a, &b] {
        assert!(world.phones[leg.phone].take(Method::Bye).is_none());
        assert!(world.phones[leg.phone].take(Method::Invite).is_none());
    }
    assert_eq!(world.proxies[B].core.replicas(), 1, "held again");
    world.go_by(A);
    world.hang_up(&mut a);
    assert_one_end(&mut world, "caller_hung_up");
}

#[test]
fn a_proxy_that_seemed_to_live_is_not_waited_for_long() {
    let (mut world, mut a, mut b) = up(22);
    world.add_relay("relay-2", 52);
    world.wait(10);
    relay_dies(&mut world);
    // Nobody has heard of its death as the phone asks.
    world.linked = false;
    dies(&mut world);
    world.within(&mut b, Method::Update, None);
    assert_eq!(live(&world), [0, 1]);
    world.wait(11);
    agree(&mut world, &a, &b);
    world.hang_up(&mut a);
    assert_one_end(&mut world, "caller_hung_up");
}
