//! A user listens to the own mailbox by phone.

mod world;

use landline_call::record::Step;
use landline_call::{Input, StoredMessage};
use landline_control::{Event, Key, LegId, Op, Sound};
use landline_region::{RecordingSid, VoicemailSid};
use landline_sip::{Method, Response, StatusCode};
use world::World;
use world::phone::Leg;

fn played(world: &mut World) {
    world.happens(Event::Played(LegId(0)));
}

fn presses(world: &mut World, event: u8) {
    world.happens(Event::Key(LegId(0), Key { event, duration_ms: 160 }));
}

fn stored(number: u128, is_new: bool) -> StoredMessage {
    let (sid, recording) = (VoicemailSid::from_u128(number), RecordingSid::from_u128(number));
    StoredMessage { sid, recording, is_new }
}

/// Bob dials the code, and this is what his mailbox holds.
fn listens(seed: u8, messages: Option<Vec<StoredMessage>>) -> (World, Leg) {
    let mut world = World::ie1(seed);
    let [bob] = world.registered(["bob"]);
    let (_, invite) = world.dial(bob, "sip:*97@acme.test");
    let leg = world.confirm(bob, &invite, None);
    let [call] = world.proxies[0].listening[..] else { panic!("nobody was asked") };
    world.input(0, Input::Messages { call, messages });
    world.settle();
    (world, leg)
}

/// What was played, in order: messages by number.
fn heard(world: &World) -> Vec<String> {
    let ops = world.proxies[0].relay.ops.iter().filter_map(|(_, op)| match op {
        Op::Play(_, play) => play.sounds.last().copied(),
        _ => None,
    });
    ops.map(|sound| match sound {
        Sound::Message(recording) => recording.as_u128().to_string(),
        Sound::NoMessages => "none".to_owned(),
        Sound::NoMoreMessages => "no more".to_owned(),
        other => format!("{other:?}"),
    })
    .collect()
}

fn steps(world: &World) -> Vec<String> {
    let ledger = &world.proxies[0].ledger;
    let last = *ledger.calls().last().unwrap();
    let of = |step: &Step| match step {
        Step::MessageHeard { message } => Some(format!("heard {}", message.as_u128())),
        Step::MessageRemoved { message } => Some(format!("removed {}", message.as_u128())),
        Step::MessageBegun { .. } => Some("begun".to_owned()),
        Step::Closed(closed) => Some(closed.cause.to_string()),
        _ => None,
    };
    ledger.of(last).filter_map(|event| of(&event.step)).collect()
}

#[track_caller]
fn is_hung_up(world: &mut World, leg: &Leg) {
    let (key, bye) = world.phones[leg.phone].take(Method::Bye).expect("it is hung up");
    world.respond(leg.phone, key, Response::for_request(&bye, StatusCode::OK));
    world.settle();
    world.assert_at_rest();
}

#[test]
fn messages_are_heard_one_after_the_other_and_the_call_ends_by_itself() {
    let (mut world, leg) = listens(1, Some(vec![stored(1, true), stored(2, false)]));
    assert_eq!(heard(&world), ["1"]);
    played(&mut world);
    assert_eq!(heard(&world), ["1", "2"]);
    played(&mut world);
    assert_eq!(heard(&world), ["1", "2", "no more"]);
    assert!(world.phones[leg.phone].take(Method::Bye).is_none());
    played(&mut world);
    is_hung_up(&mut world, &leg);
    // What was heard before stays as it was.
    assert_eq!(steps(&world), ["heard 1", "voicemail"]);
    assert_eq!(world.proxies[0].core.counters().mailboxes_listened, 1);
}

#[test]
fn keys_play_again_remove_and_go_on() {
    let all = (1..=4).map(|number| stored(number, true)).collect();
    let (mut world, leg) = listens(2, Some(all));
    presses(&mut world, 1);
    assert_eq!(heard(&world), ["1", "1"]);
    presses(&mut world, 11);
    presses(&mut world, 7);
    assert_eq!(heard(&world), ["1", "1", "2", "3"]);
    presses(&mut world, 5);
    presses(&mut world, 3);
    assert_eq!(heard(&world), ["1", "1", "2", "3", "4"]);
    played(&mut world);
    presses(&mut world, 7);
    played(&mut world);
    is_hung_up(&mut world, &leg);
    assert_eq!(steps(&world), ["removed 2", "removed 3", "heard 4", "voicemail"]);
    assert_eq!(heard(&world).last().unwrap(), "no more");
}

#[test]
fn an_empty_mailbox_says_so_and_one_that_cannot_be_read_hangs_up() {
    let (mut world, leg) = listens(3, Some(Vec::new()));
    assert_eq!(heard(&world), ["none"]);
    played(&mut world);
    is_hung_up(&mut world, &leg);
    assert_eq!(steps(&world), ["voicemail"]);

    let (mut world, leg) = listens(4, None);
    is_hung_up(&mut world, &leg);
    assert_eq!(steps(&world), ["failed"]);

    // The database says nothing at all.
    let mut world = World::ie1(5);
    let [bob] = world.registered(["bob"]);
    let (_, invite) = world.dial(bob, "sip:*97@acme.test");
    let leg = world.confirm(bob, &invite, None);
    world.wait(11);
    is_hung_up(&mut world, &leg);
    assert_eq!(steps(&world), ["failed"]);
}

#[test]
fn who_hangs_up_keeps_what_was_not_heard() {
    let (mut world, mut leg) = listens(6, Some(vec![stored(1, true), stored(2, true)]));
    played(&mut world);
    world.hang_up(&mut leg);
    assert_eq!(steps(&world), ["heard 1", "caller_hung_up"]);
    world.assert_at_rest();
}
