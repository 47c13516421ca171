//! Calls between users of one account.

mod world;

use landline_control::Op;
use landline_sip::{HeaderName, Method};
use world::World;

#[test]
fn a_call_is_answered_talks_and_is_hung_up() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[bob].take(Method::Invite).expect("bob rings");
    world.say(bob, &rung, 180);
    assert_eq!(world.phones[alice].statuses(), [180]);
    let _b = world.answer(bob, &rung, &world::phone::sdp("10.1.0.2", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.phones[bob].take_ack().is_some());

    let session = world.proxies[0].relay.session();
    assert_eq!(session.joined.map(|(a, b)| (a.0, b.0)), Some((0, 1)));
    assert_eq!(session.remotes.len(), 2);

    world.hang_up(&mut a);
    assert!(world.phones[bob].take(Method::Bye).is_some());
    let summary = world.proxies[0].ledger.last();
    assert_eq!((summary.cause, summary.status), ("caller_hung_up", 200));
    assert!(summary.rang && summary.answered && summary.b_legs == 1);
    world.assert_at_rest();
}

/// The window in which media may come from behind a NAT begins with the answer.
#[test]
fn a_caller_who_hears_of_the_answer_late_is_expected_anew() {
    let joins = |world: &World| {
        let ops = &world.proxies[0].relay.ops;
        ops.iter().filter(|(_, op)| matches!(op, Op::Join(..))).count()
    };
    for (seconds, expected) in [(1, 1), (4, 2)] {
        let mut world = World::ie1(7);
        let [alice, bob] = world.registered(["alice", "bob"]);
        let (_, invite) = world.dial(alice, "sip:bob@acme.test");
        let rung = world.phones[bob].take(Method::Invite).expect("bob rings");
        world.answer(bob, &rung, &world::phone::sdp("10.1.0.2", 4000, ""));
        world.wait(seconds);
        assert_eq!(joins(&world), 1);
        world.confirm(alice, &invite, None);
        assert_eq!(joins(&world), expected, "after {seconds} s");
    }
}

#[test]
fn nothing_of_one_side_reaches_the_other() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, sent) = world.dial(alice, "sip:bob@acme.test");
    let (_, received) = world.phones[bob].take(Method::Invite).expect("bob rings");
    let text = String::from_utf8_lossy(&received.to_bytes()).into_owned();
    for secret in ["10.1.0.1", "secret", "Authorization", "phone 1 1"] {
        assert!(!text.contains(secret), "{secret} leaks:\n{text}");
    }
    assert_ne!(received.call_id().unwrap(), sent.call_id().unwrap());
    assert_ne!(received.from().unwrap().tag(), sent.from().unwrap().tag());
    assert_eq!(received.headers.values(&HeaderName::Via).count(), 1);
    assert_eq!(received.from().unwrap().uri.to_string(), "sip:alice@acme.test");
    // The media is to go to the relay.
    assert!(text.contains("c=IN IP4 10.0.1.9"), "{text}");
}
