//! Devices that sleep until they are woken (RFC 8599): who is asked to wake
//! them, and when they ring.

mod world;

use std::sync::Arc;

use landline_call::tenancy::Forwarding;
use landline_call::{Input, PushPolicy, StartCall, Tenants};
use landline_region::{AccountSid, CallSid, Personal, UserSid};
use landline_sip::{HeaderName, Method, Request, StatusCode, Transport};
use world::{World, tenants};

const TOKEN: &str = "00fc13adff78512";

/// A region whose gateway speaks to two services.
fn world(seed: u8) -> World {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, tenants::acme(), |config| {
        let providers = vec!["apns".to_owned(), "fcm".to_owned()];
        config.push = Some(PushPolicy { providers });
    });
    world.share_directory();
    world
}

fn push_request(world: &mut World, phone: usize, provider: &str) -> Request {
    let mut request = world.register_request(phone, "3600");
    let address = world.phones[phone].address;
    let more = match provider {
        "" => ";pn-provider".to_owned(),
        _ => format!(";pn-provider={provider};pn-prid={TOKEN};pn-param=acme.phone"),
    };
    let contact = format!("<sip:bob@{address};transport=tls{more}>");
    request.headers.set(HeaderName::Contact, contact);
    request
}

fn wakes_up(world: &mut World, phone: usize) {
    let request = push_request(world, phone, "apns");
    assert_eq!(world.ask(phone, request).status, StatusCode::OK);
}

/// Alice, and bob's mobile, which registered a while ago.
fn asleep(seed: u8) -> (World, usize, usize) {
    let mut world = world(seed);
    let [alice] = world.registered(["alice"]);
    let mobile = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    wakes_up(&mut world, mobile);
    world.wait(600);
    (world, alice, mobile)
}

fn caps(world: &mut World, phone: usize, provider: &str) -> (u16, Option<String>) {
    let request = push_request(world, phone, provider);
    let response = world.ask(phone, request);
    let caps = response.headers.get(&HeaderName::parse("Feature-Caps"));
    (response.status.code(), caps.map(|it| it.to_str_lossy().into_owned()))
}

#[test]
fn a_client_is_told_by_which_services_it_may_be_woken() {
    let mut world = world(1);
    let bob = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let told = |services: &str| Some(format!("*;+sip.pns=\"{services}\""));
    assert_eq!(caps(&mut world, bob, "fcm"), (200, told("fcm")));
    assert_eq!(caps(&mut world, bob, ""), (200, told("apns,fcm")));
    assert_eq!(caps(&mut world, bob, "carrierpigeon"), (555, None));
    // Where nobody is woken, it is nobody's matter.
    let mut plain = World::ie1(2);
    let bob = plain.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    assert_eq!(caps(&mut plain, bob, "carrierpigeon"), (200, None));
}

#[test]
fn a_call_waits_until_the_device_is_awake_and_rings_it_then() {
    let (mut world, alice, mobile) = asleep(3);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.wait(5);
    let [wake] = world.proxies[0].wakes.as_slice() else { panic!() };
    assert_eq!(
        (wake.target.provider.as_str(), wake.target.prid.expose().as_str()),
        ("apns", TOKEN)
    );
    assert_eq!(wake.target.param.as_ref().unwrap().expose(), "acme.phone");
    assert!(!format!("{wake:?}").contains(TOKEN), "{wake:?}");
    assert!(!world.phones[mobile].has_invite(), "it sleeps");
    assert!(world.phones[alice].take_final().is_none(), "and the caller waits");

    wakes_up(&mut world, mobile);
    let rung = world.phones[mobile].take(Method::Invite).expect("it is awake");
    world.say(mobile, &rung, 180);
    assert!(world.phones[alice].statuses().contains(&180));
    let ip = "10.1.0.11";
    world.answer(mobile, &rung, &world::phone::sdp(ip, 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].wakes.len(), 1);
    let counters = world.proxies[0].core.counters();
    assert_eq!((counters.wakes_asked, counters.wakes_answered), (1, 1));
    world.assert_at_rest();
}

#[test]
fn a_call_that_the_api_starts_wakes_whom_it_is_for() {
    let (mut world, alice, mobile) = asleep(13);
    let call = StartCall {
        sid: CallSid::from_u128(77),
        account: AccountSid::from_u128(1),
        from: UserSid::from_u128(1),
        to: Personal::new("bob".to_owned()),
    };
    world.input(0, Input::StartCall(call));
    world.settle();
    let first = world.phones[alice].take(Method::Invite).expect("alice rings first");
    world.answer(alice, &first, &world::phone::sdp("10.1.0.1", 4000, ""));
    world.wait(2);
    assert_eq!(world.proxies[0].wakes.len(), 1);
    wakes_up(&mut world, mobile);
    let rung = world.phones[mobile].take(Method::Invite).expect("it is awake");
    let mut b = world.answer(mobile, &rung, &world::phone::sdp("10.1.0.11", 4000, ""));
    world.hang_up(&mut b);
    assert!(world.proxies[0].ledger.last().answered);
    world.assert_at_rest();
}

#[test]
fn a_device_that_comes_by_another_connection_is_the_one_that_was_woken() {
    let (mut world, alice, _) = asleep(4);
    world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    // Another of bob's does not stand for it.
    let desk = world.phone("bob", 12);
    world.register(desk);
    assert!(!world.phones[desk].has_invite());
    let again = world.phone_at("bob", "acme.test", 13, 0, Transport::Tls);
    wakes_up(&mut world, again);
    assert!(world.phones[again].has_invite());
    world.wait(1);
    let rings = world.phones.iter().filter(|it| it.has_invite()).count();
    assert_eq!(rings, 1, "it rings once");
}

#[test]
fn whoever_is_there_rings_meanwhile_and_the_one_who_answers_has_the_call() {
    let (mut world, alice, mobile) = asleep(5);
    let desk = world.phone("bob", 12);
    world.register(desk);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    assert!(world.phones[desk].has_invite());
    assert_eq!(world.proxies[0].wakes.len(), 1);
    world.pick_up(desk);
    let mut a = world.confirm(alice, &invite, None);
    wakes_up(&mut world, mobile);
    world.wait(1);
    assert!(!world.phones[mobile].has_invite(), "too late");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn one_who_is_busy_ends_nothing_for_the_one_who_wakes_up() {
    let (mut world, alice, mobile) = asleep(6);
    let desk = world.phone("bob", 12);
    world.register(desk);
    world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[desk].take(Method::Invite).unwrap();
    world.say(desk, &rung, 486);
    world.wait(2);
    assert!(world.phones[alice].take_final().is_none());
    wakes_up(&mut world, mobile);
    let rung = world.phones[mobile].take(Method::Invite).expect("it rings");
    world.say(mobile, &rung, 486);
    world.wait(1);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    world.assert_at_rest();
}

#[test]
fn who_is_never_woken_cannot_be_reached_and_a_caller_may_give_up() {
    let (mut world, alice, mobile) = asleep(7);
    world.dial(alice, "sip:bob@acme.test");
    world.wait(59);
    assert!(world.phones[alice].take_final().is_none());
    world.wait(3);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    assert_eq!(world.proxies[0].ledger.last().cause, "unreachable");
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    world.wait(2);
    world.cancel(alice, key);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 487);
    wakes_up(&mut world, mobile);
    world.wait(1);
    assert!(!world.phones[mobile].has_invite());
    world.assert_at_rest();
}

#[test]
fn a_user_whose_device_sleeps_on_is_stood_in_for() {
    let (mut world, alice, _) = asleep(8);
    let carol = world.phone("carol", 14);
    world.register(carol);
    let mut tenancy = tenants::acme();
    for user in &mut tenancy.users {
        if user.name.expose() == "bob" {
            let unreachable = Some(Personal::new("carol".to_owned()));
            let forwarding = Forwarding { unreachable, ..Forwarding::default() };
            Arc::make_mut(user).forwarding = forwarding;
        }
    }
    world.input(0, Input::Tenancy(Arc::new(Tenants::new(&tenancy))));
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.wait(61);
    let rung = world.phones[carol].take(Method::Invite).expect("carol rings");
    assert!(rung.1.headers.contains(&HeaderName::Diversion));
    world.answer(carol, &rung, &world::phone::sdp("10.1.0.14", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn who_has_just_registered_is_awake() {
    let mut world = world(9);
    let [alice] = world.registered(["alice"]);
    let mobile = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    wakes_up(&mut world, mobile);
    world.wait(2);
    world.call(alice, mobile, "sip:bob@acme.test");
    assert!(world.proxies[0].wakes.is_empty());
}
