//! Who is put on hold hears music: what the relay is told to play, and until when.

mod world;

use landline_call::tenancy::{Account, HoldMusic};
use landline_control::{Direction, LegId, Op, Play, Sound};
use landline_region::SoundSid;
use landline_sip::Method;
use world::phone::{Leg, ip, sdp, text};
use world::{World, tenants};

fn up(seed: u8, change: impl Fn(&mut Account)) -> (World, Leg, Leg) {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, tenants::with_account(tenants::acme(), change), |_| {});
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (a, b) = world.call(alice, bob, "sip:bob@acme.test");
    (world, a, b)
}

fn built_in(account: &mut Account) {
    account.hold_music = HoldMusic::BuiltIn;
}

/// One side describes itself anew, the other answers; what that one was offered,
/// and what the first one was answered.
fn changes(
    world: &mut World,
    x: &mut Leg,
    y: &Leg,
    method: &Method,
    [wanted, answered]: [&str; 2],
) -> [String; 2] {
    let offer = sdp(ip(x), 4000, &format!("a={wanted}\r\n"));
    world.within(x, method.clone(), Some(&offer));
    let reply = sdp(ip(y), 4000, &format!("a={answered}\r\n"));
    let asked = world.answer_within(y, method.clone(), 200, Some(&reply));
    let response = world.phones[x.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    if *method == Method::Invite {
        assert!(world.phones[y.phone].take_ack().is_some());
        world.ack(x, response.cseq().unwrap().number, None);
    }
    [text(&asked.body), text(&response.body)]
}

/// What the relay was told of what it plays.
fn played(world: &World) -> Vec<Op> {
    let ops = world.proxies[0].relay.ops.iter().map(|(_, op)| op.clone());
    ops.filter(|op| matches!(op, Op::Play(..) | Op::Hush(_))).collect()
}

fn plays(leg: u16, sound: Sound) -> Op {
    Op::Play(LegId(leg), Box::new(Play { sounds: vec![sound], repeats: true }))
}

#[test]
fn who_is_held_either_way_hears_the_tune_until_the_other_comes_back() {
    for method in [Method::Invite, Method::Update] {
        for holder in [0, 1] {
            for hold in ["sendonly", "inactive"] {
                let (mut world, a, b) = up(1, built_in);
                let (mut x, mut y) = if holder == 0 { (a, b) } else { (b, a) };
                let held = 1 - holder;
                let both = changes(&mut world, &mut x, &y, &method, [hold, "recvonly"]);
                assert!(both[0].contains("a=sendonly\r\n"), "it is spoken for: {}", both[0]);
                let told = if hold == "sendonly" { "recvonly" } else { "inactive" };
                assert!(both[1].contains(&format!("a={told}\r\n")), "{}", both[1]);
                assert_eq!(played(&world), [plays(held, Sound::Tune)]);
                let remotes = &world.proxies[0].relay.session().remotes;
                assert_eq!(remotes[&LegId(held)].direction, Direction::SendOnly);

                // The same once more is no news, and the held one may say that it is there.
                let offer = sdp(ip(&x), 4000, &format!("a={hold}\r\n"));
                world.within(&mut x, Method::Update, Some(&offer));
                assert_eq!(world.phones[x.phone].take_final().unwrap().status.code(), 200);
                let offer = sdp(ip(&y), 4000, "");
                world.within(&mut y, Method::Update, Some(&offer));
                let asked = world.answer_within(
                    &x,
                    Method::Update,
                    200,
                    Some(&sdp(ip(&x), 4000, &format!("a={hold}\r\n"))),
                );
                assert!(text(&asked.body).contains("a=sendrecv\r\n"));
                let answer = world.phones[y.phone].take_final().unwrap();
                assert!(text(&answer.body).contains("a=sendonly\r\n"), "{}", text(&answer.body));
                assert_eq!(played(&world).len(), 1);

                changes(&mut world, &mut x, &y, &method, ["sendrecv", "sendrecv"]);
                assert_eq!(played(&world)[1..], [Op::Hush(LegId(held))]);
                world.hang_up(&mut x);
                world.assert_at_rest();
            }
        }
    }
}

#[test]
fn who_holds_in_turn_hears_nothing_and_hears_again_once_the_other_is_held_alone() {
    let (mut world, mut a, mut b) = up(2, built_in);
    changes(&mut world, &mut a, &b, &Method::Invite, ["sendonly", "recvonly"]);
    let offer = sdp(ip(&b), 4000, "a=sendonly\r\n");
    world.within(&mut b, Method::Invite, Some(&offer));
    world.answer_within(&a, Method::Invite, 200, Some(&sdp(ip(&a), 4000, "a=inactive\r\n")));
    assert!(world.phones[a.phone].take_ack().is_some());
    let response = world.phones[b.phone].take_final().unwrap();
    world.ack(&b, response.cseq().unwrap().number, None);
    assert_eq!(played(&world), [plays(1, Sound::Tune), Op::Hush(LegId(1))]);
    changes(&mut world, &mut a, &b, &Method::Invite, ["sendrecv", "sendonly"]);
    assert_eq!(played(&world)[2..], [plays(0, Sound::Tune)]);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn an_account_may_have_its_own_or_none() {
    let sound = SoundSid::from_u128(7);
    let own = |account: &mut Account| {
        (account.hold_music, account.hold_sound) = (HoldMusic::Own, Some(sound));
    };
    let (mut world, mut a, b) = up(3, own);
    changes(&mut world, &mut a, &b, &Method::Invite, ["sendonly", "recvonly"]);
    assert_eq!(played(&world), [plays(1, Sound::Own(sound))]);

    let (mut world, mut a, b) = up(4, |account| account.hold_music = HoldMusic::Off);
    let both = changes(&mut world, &mut a, &b, &Method::Invite, ["inactive", "inactive"]);
    assert!(both[0].contains("a=inactive\r\n"), "as it came: {}", both[0]);
    assert_eq!(played(&world), []);
}

#[test]
fn a_hold_that_the_other_side_refuses_plays_nothing() {
    let (mut world, mut a, b) = up(5, built_in);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 488, None);
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 488);
    assert_eq!(played(&world), []);
}

#[test]
fn the_next_process_knows_that_there_is_music_to_be_ended() {
    let (mut world, mut a, b) = up(6, built_in);
    changes(&mut world, &mut a, &b, &Method::Invite, ["inactive", "recvonly"]);
    world.proxy_dies(0);
    world.settle();
    world.wait(5);
    // What was said before may not have been heard.
    let again = [plays(1, Sound::Tune), Op::Hush(LegId(0)), plays(1, Sound::Tune)];
    assert_eq!(played(&world), again);
    changes(&mut world, &mut a, &b, &Method::Invite, ["sendrecv", "sendrecv"]);
    assert_eq!(played(&world)[3..], [Op::Hush(LegId(1))]);

    // That there is none any more may not have been heard either.
    world.proxy_dies(0);
    world.settle();
    world.wait(5);
    assert_eq!(played(&world)[4..], [Op::Hush(LegId(0)), Op::Hush(LegId(1))]);
    world.hang_up(&mut a);
    world.assert_at_rest();
}
