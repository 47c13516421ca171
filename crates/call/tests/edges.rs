//! Accounts whose home is another region: us1 is the edge, ie1 the home.

mod world;

use std::net::SocketAddr;

use landline_call::record::{CallEvent, LegRole, Step};
use landline_call::tenancy::{EdgePolicy, Tenancy};
use landline_region::CallSid;
use landline_sip::{HeaderName, Method, NameAddr, StatusCode, Transport};
use world::ledger::Ledger;
use world::phone::{Leg, sdp};
use world::{World, tenants};

const HOME: usize = 0;
const EDGE: usize = 1;

fn two_regions(seed: u8) -> World {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, tenants::globex(), |_| {});
    world.share_directory();
    world
}

/// Alice at home, bob registered through the other region.
fn both_ways(seed: u8) -> (World, usize, usize) {
    let mut world = two_regions(seed);
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 2, EDGE, Transport::Udp);
    world.register(bob);
    (world, alice, bob)
}

#[test]
fn a_phone_registers_through_the_wrong_region() {
    let (world, _, _) = both_ways(1);
    assert_eq!(world.proxies[HOME].core.bindings(), 2);
    assert_eq!(world.proxies[EDGE].core.bindings(), 0);
    assert!(world.proxies[EDGE].stored.is_empty());
    let kept = world.proxies[HOME].stored.last().unwrap();
    let landline_call::binding::BindingChange::Put(binding) = kept else { panic!() };
    assert_eq!(binding.edge_region.unwrap().as_str(), "us1");
    let path = NameAddr::parse(binding.path[0].expose()).unwrap();
    assert_eq!(path.uri.host.to_string(), "10.0.2.1");
    assert!(path.uri.params.contains("lr") && path.uri.params.contains("ob"));
    let token = path.uri.user_decoded().unwrap().into_owned();
    assert!(!token.contains("10.1.0.2") && !token.contains("bob"), "{token}");
}

#[test]
fn what_a_caller_adds_does_not_keep_a_call_from_a_phone_that_is_away() {
    let (mut world, alice, bob) = both_ways(20);
    let body = sdp("10.1.0.1", 4000, "");
    let mut invite = world.invite_request(alice, "sip:bob@acme.test", Some(&body));
    invite.headers.push(HeaderName::Subject, "private matter");
    invite.headers.push(HeaderName::Priority, "urgent");
    world.send_request(alice, invite.clone());
    world.settle();
    let challenge = world.phones[alice].take_final().unwrap();
    let proven = world.phones[alice].proven(&invite, &challenge, 1);
    world.send_request(alice, proven);
    world.settle();
    // What nobody declared would be stopped at the border, and the call with it.
    let (_, rung) = world.phones[bob].take(Method::Invite).expect("bob's phone rings");
    assert!(rung.headers.get(&HeaderName::Subject).is_none());
}

#[test]
fn it_is_called_and_calls_and_its_media_and_records_stay_at_home() {
    let (mut world, alice, bob) = both_ways(2);
    let (mut a, b) = world.call(alice, bob, "sip:bob@acme.test");
    assert!(b.invite.headers.values(&HeaderName::RecordRoute).count() == 2);
    // In-dialog both ways, through the edge.
    let offer = sdp("10.1.0.1", 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp("10.1.0.2", 4000, "a=recvonly\r\n")));
    assert!(world.phones[bob].take_ack().is_some(), "the ACK finds its way");
    let response = world.phones[alice].take_final().unwrap();
    world.ack(&a, response.cseq().unwrap().number, None);
    let mut b = b;
    world.hang_up(&mut b);
    assert!(world.phones[alice].take(Method::Bye).is_some());

    let (_, invite) = world.dial(bob, "sip:alice@acme.test");
    world.pick_up(alice);
    let mut from_bob = world.confirm(bob, &invite, None);
    assert_eq!(world.proxies[HOME].core.live().count(), 1);
    world.hang_up(&mut from_bob);

    let calls = world.proxies[HOME].ledger.calls();
    assert_eq!(calls.len(), 2);
    // Bob's leg alone went by the other region, called and calling.
    let ledger = &world.proxies[HOME].ledger;
    assert_eq!(by_edges(ledger, calls[0]), [(LegRole::B, "us1")]);
    assert_eq!(by_edges(ledger, calls[1]), [(LegRole::A, "us1")]);
    let opened = world.proxies[HOME].ledger.opened(world.proxies[HOME].ledger.calls()[0]);
    assert_eq!(opened.home_region.as_str(), "ie1");
    assert!(world.proxies[EDGE].ledger.events.is_empty());
    assert!(world.proxies[EDGE].relay.ops.is_empty());
    world.assert_at_rest();
}

/// What the record says of other regions' proxies that legs went by.
fn by_edges(ledger: &Ledger, call: CallSid) -> Vec<(LegRole, &str)> {
    let role_of = |sid| {
        ledger.of(call).find_map(|event| match &event.step {
            Step::LegOpened(leg) if leg.leg == sid => Some(leg.role),
            _ => None,
        })
    };
    let by_edge = |event: &CallEvent| match &event.step {
        Step::LegByEdge { leg, edge } => Some((role_of(*leg)?, *edge)),
        _ => None,
    };
    let found: Vec<_> = ledger.of(call).filter_map(by_edge).collect();
    found
        .into_iter()
        .map(|(role, edge)| (role, if edge == "us1".parse().unwrap() { "us1" } else { "?" }))
        .collect()
}

#[test]
fn the_edge_writes_nothing_of_it_anywhere() {
    let (mut world, alice, bob) = both_ways(3);
    let (mut a, _b) = world.call(alice, bob, "sip:bob@acme.test");
    world.hang_up(&mut a);
    let logged: String = world.proxies[EDGE].logs.iter().map(|it| format!("{it} {it:?}")).collect();
    for trace in ["bob", "alice", "acme", "10.1.0.2"] {
        assert!(!logged.contains(trace), "{trace} in {logged}");
    }
    world.assert_at_rest();
}

#[test]
fn a_cancel_goes_through_the_edge_in_both_directions() {
    let (mut world, alice, bob) = both_ways(4);
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    world.cancel(alice, key);
    assert_eq!(world.phones[bob].others, ["cancelled"]);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 487);

    let (key, _) = world.dial(bob, "sip:alice@acme.test");
    world.wait(1);
    world.cancel(bob, key);
    assert_eq!(world.phones[alice].others, ["cancelled"]);
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 487);
    world.assert_at_rest();
}

#[test]
fn an_account_may_want_its_clients_redirected_or_refused() {
    let mut world = World::new(5);
    world.add_proxy("us1", 2, tenants::globex(), |_| {});
    world.edge_policy("acme.test", EdgePolicy::Redirect);
    let bob = world.phone("bob", 2);
    let request = world.register_request(bob, "600");
    let moved = world.ask(bob, request);
    assert_eq!(moved.status.code(), 302);
    let contact = moved.headers.get(&HeaderName::Contact).unwrap().to_str_lossy().into_owned();
    assert_eq!(contact, "<sip:ie1.example:5061;transport=tls>");
    world.edge_policy("acme.test", EdgePolicy::Refuse);
    let request = world.register_request(bob, "600");
    assert_eq!(world.ask(bob, request).status.code(), 403);
}

#[test]
fn a_home_that_does_not_answer_is_told_as_such() {
    let mut world = two_regions(6);
    let address = world.proxies[HOME].inter_region;
    world.dead.push(address);
    let bob = world.phone_at("bob", "acme.test", 2, EDGE, Transport::Udp);
    let request = world.register_request(bob, "600");
    world.send_request(bob, request);
    world.settle();
    let response = world.phones[bob].take_final().unwrap();
    assert_eq!(response.status.code(), 503);
    assert_eq!(world.proxies[EDGE].core.counters().forwards_failed, 1);
    world.assert_at_rest();
}

/// A request with this Route, straight from `from` to the edge.
fn through(world: &mut World, from: usize, route: &str, method: Method) -> u16 {
    let request = world.phones[from]
        .request(method, "sip:bob@10.1.0.2")
        .with_header(HeaderName::Route, route);
    world.phones[from].responses.clear();
    world.send_request(from, request);
    world.settle();
    world.phones[from].take_final().unwrap().status.code()
}

#[test]
fn only_the_home_region_may_use_a_path() {
    let (mut world, _, bob) = both_ways(7);
    let kept = world.proxies[HOME].stored.last().unwrap();
    let landline_call::binding::BindingChange::Put(binding) = kept else { panic!() };
    let path = binding.path[0].expose().clone();
    let mallory = world.phone_at("mallory", "acme.test", 66, EDGE, Transport::Udp);
    assert_eq!(through(&mut world, mallory, &path, Method::Invite), 403);
    assert!(world.phones[bob].take(Method::Invite).is_none());
    assert_eq!(world.proxies[EDGE].core.counters().peer_violations, 1);
    // A token that was tampered with is none.
    let forged = path.replacen('1', "2", 3);
    assert_ne!(through(&mut world, mallory, &forged, Method::Invite), 200);
    assert!(world.phones[bob].take(Method::Invite).is_none());
}

#[test]
fn a_region_sends_for_accounts_of_the_other_alone() {
    // au1 believes that acme is at home in us1, where it is not.
    let mut world = World::new(8);
    world.add_proxy("us1", 2, tenants::globex(), |_| {});
    world.add_proxy("au1", 3, Tenancy::default(), |_| {});
    world.share_directory();
    let wrong = world.proxies[0].inter_region;
    world.edge_policy("acme.test", EdgePolicy::Forward);
    let bob = world.phone_at("bob", "acme.test", 2, 1, Transport::Udp);
    let mut directory = landline_call::directory::Directory::default();
    let account = tenants::acme().accounts[0].clone();
    let entry = landline_call::directory::AccountEntry {
        home_region: "us1".parse().unwrap(),
        edge_policy: EdgePolicy::Forward,
        ..account.as_ref().into()
    };
    directory.accounts.insert("acme.test".into(), entry);
    directory.regions.insert(
        "us1".parse().unwrap(),
        landline_call::directory::RegionEntry {
            jurisdiction: "US".parse().unwrap(),
            proxies: vec![landline_call::directory::InterRegionAddress {
                host: wrong.ip().to_string(),
                port: wrong.port(),
            }],
            public_uri: None,
            console: None,
        },
    );
    world.input(1, landline_call::Input::Directory(directory.into()));
    let request = world.register_request(bob, "600");
    world.send_request(bob, request);
    world.settle();
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 403);
    assert_eq!(world.proxies[0].core.counters().peer_violations, 1);
}

#[test]
fn a_clients_own_path_is_not_believed() {
    let mut world = two_regions(9);
    let [alice] = world.registered(["alice"]);
    let bob = world.phone("bob", 2);
    let mut request = world.register_request(bob, "600");
    request.headers.push(HeaderName::Path, "<sip:10.66.0.1:5060;lr>");
    assert_eq!(world.ask(bob, request).status.code(), 200);
    world.dial(alice, "sip:bob@acme.test");
    let (_, rung) = world.phones[bob].take(Method::Invite).expect("over its own flow");
    assert!(!rung.headers.contains(&HeaderName::Route));
}

#[test]
fn hops_and_loops_end_at_the_edge() {
    let mut world = two_regions(10);
    let bob = world.phone_at("bob", "acme.test", 2, EDGE, Transport::Udp);
    let mut spent = world.register_request(bob, "600");
    spent.headers.set(HeaderName::MaxForwards, "0");
    world.send_request(bob, spent);
    world.settle();
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 483);
    let own: SocketAddr = world.proxies[EDGE].inter_region;
    let looped = world
        .register_request(bob, "600")
        .with_header(HeaderName::Via, format!("SIP/2.0/TLS {own};branch=z9hG4bKold"));
    world.send_request(bob, looped);
    world.settle();
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 482);
}

/// Who says keys by INFO hears them so from then on.
fn says_a_key(world: &mut World, leg: &mut Leg) {
    let mut info = leg.dialog.request(Method::Info);
    info.set_body("application/dtmf-relay", "Signal=1");
    world.send_request(leg.phone, info);
    world.settle();
    assert_eq!(world.phones[leg.phone].take_final().unwrap().status.code(), 200);
}

#[test]
fn what_nobody_declared_is_left_off_at_the_edge_and_the_call_goes_on() {
    let (mut world, alice, bob) = both_ways(21);
    let (mut a, b) = world.call(alice, bob, "sip:bob@acme.test");
    let mut b = b;
    says_a_key(&mut world, &mut a);
    let keys = "Signal=5\r\nDuration=160\r\n";
    let mut info = b.dialog.request(Method::Info);
    info.headers.push(HeaderName::Subject, "private matter");
    info.headers.push(HeaderName::parse("X-Customer"), "4711");
    info.set_body("application/dtmf-relay", keys);
    world.send_request(bob, info);
    world.settle();
    let passed = world.answer_within(&a, Method::Info, 200, None);
    assert_eq!(String::from_utf8_lossy(&passed.body), keys);
    assert!(!String::from_utf8_lossy(&passed.to_bytes()).contains("4711"));
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 200);
    assert_eq!(world.proxies[EDGE].core.counters().headers_withheld, 2);

    let mut note = b.dialog.request(Method::Info);
    note.set_body("text/plain", "meet me at nine");
    world.send_request(bob, note);
    world.settle();
    let refused = world.phones[bob].take_final().unwrap();
    assert_eq!(refused.status.code(), 415);
    assert!(refused.headers.contains(&HeaderName::Accept));
    assert!(!world.crossed.iter().any(|text| text.contains("nine") || text.contains("4711")));
    world.hang_up(&mut a);
}

#[test]
fn a_response_whose_vias_were_damaged_goes_back_the_way_the_request_came() {
    let (mut world, alice, bob) = both_ways(22);
    let (mut a, mut b) = world.call(alice, bob, "sip:bob@acme.test");
    says_a_key(&mut world, &mut b);
    let mut info = a.dialog.request(Method::Info);
    info.set_body("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    world.send_request(alice, info);
    world.settle();
    let (key, asked) = world.phones[bob].take(Method::Info).unwrap();
    let mut response = b.dialog.respond(&asked, StatusCode::OK);
    let own = response.headers.remove_first_value(&HeaderName::Via).unwrap();
    assert_eq!(response.headers.remove_all(&HeaderName::Via), 1);
    response.headers.push_front(HeaderName::Via, own);
    response.headers.push(HeaderName::parse("VEa"), "SIP/2.0/TLS h;branch=z9hG4bKx");
    world.respond(bob, key, response);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 200);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[HOME].ledger.last().cause, "caller_hung_up");
}

/// RFC 3608: a phone that honours it comes by the same edge for its calls.
#[test]
fn an_edge_tells_whoever_registers_by_which_way_to_come_again() {
    let mut world = two_regions(23);
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 2, EDGE, Transport::Udp);
    let request = world.register_request(bob, "600");
    let accepted = world.ask(bob, request);
    let routes: Vec<_> = accepted.headers.values(&HeaderName::ServiceRoute).collect();
    let [route] = routes.as_slice() else { panic!("{routes:?}") };
    assert_eq!(route.to_str_lossy(), "<sip:10.0.2.1:5060;transport=udp;lr>");

    let body = sdp("10.1.0.2", 4000, "");
    let mut invite = world.invite_request(bob, "sip:alice@acme.test", Some(&body));
    invite.headers.push(HeaderName::Route, route.clone());
    let (_, invite) = world.invite_by(bob, invite);
    let a = world.pick_up(alice);
    assert!(!a.invite.headers.contains(&HeaderName::Route), "nobody else's matter");
    let mut b = world.confirm(bob, &invite, None);
    world.hang_up(&mut b);

    // At home there is one way alone; and a certificate is for a name.
    let request = world.register_request(alice, "600");
    assert!(!world.ask(alice, request).headers.contains(&HeaderName::ServiceRoute));
    let tls = world.phone_at("bob", "acme.test", 3, EDGE, Transport::Tls);
    let request = world.register_request(tls, "600");
    assert!(!world.ask(tls, request).headers.contains(&HeaderName::ServiceRoute));
    world.assert_at_rest();
}
