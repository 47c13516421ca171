//! Clients that keep several flows (RFC 5626): how they register, and by which
//! flow they are rung.

mod world;

use landline_call::binding::{Binding, BindingChange};
use landline_call::tenancy::Tenancy;
use landline_sip::{FlowId, HeaderName, Input, Method, Request, Response, StatusCode, Transport};
use world::phone::Phone;
use world::{World, tenants};

const PHONE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";
const EDGE: usize = 1;

/// A REGISTER of one flow of the device; every flow says the same Contact URI.
fn flow_request(world: &mut World, phone: usize, number: u32) -> Request {
    let mut request = world.register_request(phone, "3600");
    let user = world.phones[phone].user.clone();
    let contact = format!("<sip:{user}@10.9.9.9:5060;transport=tcp;ob>;{PHONE};reg-id={number}");
    request.headers.set(HeaderName::Contact, contact);
    request.headers.push(HeaderName::Supported, "path, outbound");
    request
}

fn register_flow(world: &mut World, phone: usize, number: u32) -> Response {
    let request = flow_request(world, phone, number);
    let response = world.ask(phone, request);
    assert_eq!(response.status, StatusCode::OK);
    response
}

/// Bob's device by two connections, and alice.
fn two_flows(world: &mut World) -> (usize, [usize; 2]) {
    let [alice] = world.registered(["alice"]);
    let first = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let second = world.phone_at("bob", "acme.test", 12, 0, Transport::Tls);
    register_flow(world, first, 1);
    world.wait(1);
    register_flow(world, second, 2);
    (alice, [first, second])
}

fn says(response: &Response, name: HeaderName, word: &str) -> bool {
    response.headers.tokens(&name).iter().any(|it| it == word)
}

fn stored(world: &World) -> Vec<&Binding> {
    let stored = world.proxies[0].stored.iter();
    let put = stored.filter_map(|it| match it {
        BindingChange::Put(binding) => Some(&**binding),
        BindingChange::Remove { .. } => None,
    });
    put.collect()
}

fn close(world: &mut World, phone: usize) {
    let Phone { address, proxy, .. } = world.phones[phone];
    let id = FlowId(world.flow_id(proxy, address));
    let now = world.now();
    world.proxies[0].endpoint.handle_input(now.instant, Input::FlowClosed(id));
    world.wait(1);
}

fn rings(world: &World, phones: [usize; 2]) -> [bool; 2] {
    phones.map(|phone| world.phones[phone].has_invite())
}

#[test]
fn the_registrar_says_that_it_keeps_the_flow() {
    let mut world = World::ie1(1);
    let bob = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let accepted = register_flow(&mut world, bob, 1);
    assert!(says(&accepted, HeaderName::Require, "outbound"));
    assert!(says(&accepted, HeaderName::Supported, "outbound"));
    assert!(*accepted.headers.get(&HeaderName::FlowTimer).unwrap() == "120");
    let contact = accepted.headers.get(&HeaderName::Contact).unwrap().to_str_lossy();
    assert!(contact.contains(";ob>") && contact.contains("reg-id=1"), "{contact}");

    // Over UDP the client knows best when its NAT forgets.
    let carol = world.phone("carol", 3);
    let accepted = register_flow(&mut world, carol, 1);
    assert!(says(&accepted, HeaderName::Require, "outbound"));
    assert!(!accepted.headers.contains(&HeaderName::FlowTimer));
    // Who registers without a flow is told nothing of flows.
    let request = world.register_request(carol, "600");
    let plain = world.ask(carol, request);
    assert!(!plain.headers.contains(&HeaderName::Require));
}

#[test]
fn flows_of_a_device_are_bindings_of_their_own_and_replace_each_its_former_one() {
    let mut world = World::ie1(2);
    let (_, [first, second]) = two_flows(&mut world);
    assert_eq!(world.proxies[0].core.bindings(), 3);
    let flows: Vec<_> = stored(&world).iter().filter_map(|it| it.reg_id).collect();
    assert_eq!(flows, [1, 2]);
    // The same flow by another connection.
    let again = world.phone_at("bob", "acme.test", 13, 0, Transport::Tls);
    register_flow(&mut world, again, 1);
    assert_eq!(world.proxies[0].core.bindings(), 3);
    // Taken away by its number, and the other one stays.
    let mut gone = flow_request(&mut world, second, 2);
    gone.headers.set(HeaderName::Expires, "0");
    let left = world.ask(second, gone);
    let left: Vec<_> = left.headers.values(&HeaderName::Contact).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].to_str_lossy().contains("reg-id=1"));
    let _ = first;
}

#[test]
fn a_device_with_two_flows_rings_once_and_by_the_later_one() {
    let mut world = World::ie1(3);
    let (alice, flows) = two_flows(&mut world);
    world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    assert_eq!(rings(&world, flows), [false, true]);
    world.pick_up(flows[1]);
    world.wait(40);
    assert_eq!(rings(&world, flows), [false, false]);
}

#[test]
fn a_flow_that_broke_is_passed_over() {
    let mut world = World::ie1(4);
    let (alice, flows) = two_flows(&mut world);
    close(&mut world, flows[1]);
    let (mut a, _) = world.call(alice, flows[0], "sip:bob@acme.test");
    world.hang_up(&mut a);
    // With none left it cannot be reached, whatever its Contact names.
    close(&mut world, flows[0]);
    world.dial(alice, "sip:bob@acme.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    world.assert_at_rest();
}

#[test]
fn a_flow_that_breaks_when_it_is_used_gives_way_to_the_other() {
    let mut world = World::ie1(5);
    let (alice, flows) = two_flows(&mut world);
    let broken = world.phones[flows[1]].address;
    world.broken.push(broken);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    assert_eq!(rings(&world, flows), [true, false]);
    world.pick_up(flows[0]);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].core.counters().flows_replaced, 1);
    assert_eq!(world.proxies[0].ledger.calls().len(), 1);
    world.assert_at_rest();
}

/// Nothing comes back by the later flow, and it is a long time until that shows.
#[test]
fn a_silent_flow_gives_way_to_the_other_with_the_same_request() {
    let mut world = World::ie1(6);
    let [alice] = world.registered(["alice"]);
    let flows = [11, 12].map(|number| world.phone("bob", number));
    register_flow(&mut world, flows[0], 1);
    world.wait(1);
    register_flow(&mut world, flows[1], 2);
    let silent = world.phones[flows[1]].address;
    world.dead.push(silent);
    world.dial(alice, "sip:bob@acme.test");
    world.wait(33);
    assert_eq!(rings(&world, flows), [true, false]);
    // A phone that heard it by the first flow after all knows it again.
    let (_, invite) = world.phones[flows[0]].take(Method::Invite).unwrap();
    assert_eq!(invite.cseq().unwrap().number, 1);
    assert_eq!(world.proxies[0].core.counters().flows_replaced, 1);
}

#[test]
fn what_rang_by_one_flow_is_not_rung_by_the_other() {
    let mut world = World::ie1(7);
    let (alice, flows) = two_flows(&mut world);
    world.dial(alice, "sip:bob@acme.test");
    let invite = world.phones[flows[1]].take(Method::Invite).unwrap();
    world.say(flows[1], &invite, 180);
    world.say(flows[1], &invite, 408);
    world.wait(1);
    assert_eq!(rings(&world, flows), [false, false]);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
}

#[test]
fn any_other_answer_speaks_for_the_device() {
    let mut world = World::ie1(8);
    let (alice, flows) = two_flows(&mut world);
    world.dial(alice, "sip:bob@acme.test");
    let invite = world.phones[flows[1]].take(Method::Invite).unwrap();
    world.say(flows[1], &invite, 486);
    world.wait(1);
    assert_eq!(rings(&world, flows), [false, false]);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
}

/// Bob's device by the other region's proxy and at home.
fn by_edge_and_home(seed: u8) -> (World, usize, [usize; 2]) {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, Tenancy::default(), |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let home = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let away = world.phone_at("bob", "acme.test", 12, EDGE, Transport::Tls);
    register_flow(&mut world, home, 1);
    world.wait(1);
    let accepted = register_flow(&mut world, away, 2);
    assert!(says(&accepted, HeaderName::Require, "outbound"));
    (world, alice, [home, away])
}

#[test]
fn an_edge_says_that_a_flow_is_gone_and_the_other_one_is_taken() {
    let (mut world, alice, flows) = by_edge_and_home(9);
    for call in 1..=2 {
        let broken = world.phones[flows[1]].address;
        world.broken.push(broken);
        let (mut a, _) = world.call(alice, flows[0], "sip:bob@acme.test");
        world.hang_up(&mut a);
        // From then on it is known.
        assert_eq!(world.proxies[EDGE].core.counters().flows_failed, 1, "call {call}");
    }
    assert!(world.crossed.iter().any(|it| it.starts_with("SIP/2.0 430 Flow Failed")));
    world.broken.clear();
    // Until the client says that it is there.
    register_flow(&mut world, flows[1], 2);
    let (mut a, _) = world.call(alice, flows[1], "sip:bob@acme.test");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn an_edge_out_of_reach_for_one_call_says_nothing_of_the_flow_there() {
    let (mut world, alice, flows) = by_edge_and_home(12);
    let edge = world.proxies[EDGE].inter_region;
    world.dead.push(edge);
    let (mut a, _) = world.call(alice, flows[0], "sip:bob@acme.test");
    world.hang_up(&mut a);
    world.dead.clear();
    let (mut a, _) = world.call(alice, flows[1], "sip:bob@acme.test");
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_client_hears_of_an_unreachable_home_and_not_of_a_failed_flow() {
    let (mut world, alice, flows) = by_edge_and_home(10);
    let (_, mut b) = world.call(alice, flows[1], "sip:bob@acme.test");
    let home = world.proxies[0].inter_region;
    world.dead.push(home);
    world.within(&mut b, Method::Info, None);
    world.wait(1);
    assert_eq!(world.phones[flows[1]].take_final().unwrap().status.code(), 503);
}

#[test]
fn a_proxy_in_between_that_keeps_no_flows_is_told_of() {
    let mut world = World::ie1(11);
    let bob = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let via = "SIP/2.0/TLS 10.7.7.7;branch=z9hG4bKfar";
    let request = flow_request(&mut world, bob, 1).with_header(HeaderName::Via, via);
    assert_eq!(world.ask(bob, request).status.code(), 439);
    // Who does not know of flows itself is taken without one.
    let mut request = flow_request(&mut world, bob, 1).with_header(HeaderName::Via, via);
    request.headers.remove_all(&HeaderName::Supported);
    let accepted = world.ask(bob, request);
    assert_eq!(accepted.status.code(), 200);
    assert!(!accepted.headers.contains(&HeaderName::Require));
    assert_eq!(stored(&world)[0].reg_id, None);
}

#[test]
fn flows_are_registered_one_by_one() {
    let mut world = World::ie1(12);
    let bob = world.phone_at("bob", "acme.test", 11, 0, Transport::Tls);
    let mut request = flow_request(&mut world, bob, 1);
    request.headers.push(HeaderName::Contact, format!("<sip:bob@10.9.9.8>;{PHONE};reg-id=2"));
    assert_eq!(world.ask(bob, request).status.code(), 400);
}
