//! The registrar: who may register, for how long, how often.

mod world;

use std::sync::Arc;
use std::time::Duration;

use landline_call::binding::BindingChange;
use landline_call::{Input, Tenants};
use landline_sip::digest::Challenge;
use landline_sip::{HeaderName, Method, Response, StatusCode};
use world::phone::sdp;
use world::{World, tenants};

fn contacts(response: &Response) -> Vec<String> {
    let values = response.headers.values(&HeaderName::Contact);
    values.map(|it| it.to_str_lossy().into_owned()).collect()
}

#[test]
fn a_registration_is_challenged_by_both_algorithms_then_stored_then_accepted() {
    let mut world = World::ie1(1);
    let alice = world.phone("alice", 1);
    let request = world.register_request(alice, "600");
    world.send_request(alice, request.clone());
    world.settle();
    let challenge = world.phones[alice].take_final().unwrap();
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    let offered: Vec<_> = challenge
        .headers
        .all(&HeaderName::WwwAuthenticate)
        .map(|it| Challenge::parse(it).unwrap())
        .map(|it| (it.algorithm.as_str(), it.realm, it.qop, it.stale))
        .collect();
    let realm = || "acme.test".to_owned();
    assert_eq!(offered, [("SHA-256", realm(), true, false), ("MD5", realm(), true, false)]);

    let proven = world.phones[alice].proven(&request, &challenge, 1);
    world.send_request(alice, proven);
    world.settle();
    let accepted = world.phones[alice].take_final().unwrap();
    assert_eq!(accepted.status, StatusCode::OK);
    assert_eq!(contacts(&accepted), ["<sip:alice@10.1.0.1:5060>;expires=600"]);
    let [BindingChange::Put(binding)] = world.proxies[0].stored.as_slice() else { panic!() };
    assert_eq!(binding.contact_uri.expose(), "sip:alice@10.1.0.1:5060");
    assert_eq!(binding.received.remote.expose().to_string(), "10.1.0.1:5060");
    assert_eq!(world.proxies[0].core.bindings(), 1);
}

#[test]
fn nobody_learns_which_users_exist() {
    let mut world = World::ie1(2);
    let phones = [("alice", "wrong"), ("nobody", "wrong")];
    let answers = phones.map(|(user, password)| {
        let number = world.phones.len() as u8 + 1;
        let phone = world.phone(user, number);
        world.phones[phone].password = password.to_owned();
        let request = world.register_request(phone, "600");
        let response = world.ask(phone, request);
        let mut names: Vec<_> =
            response.headers.iter().map(|it| it.0.as_str().to_owned()).collect();
        names.sort();
        (response.status.code(), names)
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 401);
    assert_eq!(world.proxies[0].core.counters().auth_failures, 2);
}

#[test]
fn credentials_serve_once_and_a_stale_nonce_is_called_stale() {
    let mut world = World::ie1(3);
    let alice = world.phone("alice", 1);
    let request = world.register_request(alice, "600");
    world.send_request(alice, request.clone());
    world.settle();
    let challenge = world.phones[alice].take_final().unwrap();
    let is_stale = |response: &Response| {
        let value = response.headers.get(&HeaderName::WwwAuthenticate).expect("a challenge");
        Challenge::parse(value).unwrap().stale
    };
    let mut tries = Vec::new();
    for (nc, wait) in [(1, 0), (1, 0), (2, 0), (3, 301)] {
        world.wait(wait);
        let proven = world.phones[alice].proven(&request, &challenge, nc);
        world.send_request(alice, proven);
        world.settle();
        let response = world.phones[alice].take_final().unwrap();
        let refused = response.status == StatusCode::UNAUTHORIZED;
        tries.push((response.status.code(), refused && is_stale(&response)));
    }
    assert_eq!(tries, [(200, false), (401, true), (200, false), (401, true)]);
    assert_eq!(world.proxies[0].core.counters().auth_replays, 1);
}

#[test]
fn a_phone_with_a_wrong_password_is_shut_out_and_its_neighbours_are_not() {
    let mut world = World::ie1(4);
    let alice = world.phone("alice", 1);
    world.phones[alice].password = "wrong".into();
    for _ in 0..8 {
        let request = world.register_request(alice, "600");
        assert_eq!(world.ask(alice, request).status.code(), 401);
    }
    let request = world.register_request(alice, "600");
    assert_eq!(world.ask(alice, request).status.code(), 403);
    // Behind the same address.
    let bob = world.station(
        "bob",
        "acme.test",
        "10.1.0.1:5070".parse().unwrap(),
        0,
        landline_sip::Transport::Udp,
    );
    world.register(bob);
    world.phones[alice].password = tenants::PASSWORD.into();
    let request = world.register_request(alice, "600");
    assert_eq!(world.ask(alice, request).status.code(), 403, "the right password comes too late");
    world.wait(61);
    world.register(alice);
}

#[test]
fn contacts_are_added_refreshed_fetched_and_removed() {
    let mut world = World::ie1(5);
    let alice = world.phone("alice", 1);
    world.register(alice);
    let mut second = world.register_request(alice, "3600");
    second.headers.set(HeaderName::Contact, "<sip:alice@10.1.0.77:5062>;q=0.5;expires=120");
    assert_eq!(contacts(&world.ask(alice, second)).len(), 2);

    let mut fetch = world.register_request(alice, "3600");
    fetch.headers.remove_all(&HeaderName::Contact);
    let listed = contacts(&world.ask(alice, fetch));
    assert_eq!(listed[0], "<sip:alice@10.1.0.1:5060>;expires=3599");
    assert_eq!(listed[1], "<sip:alice@10.1.0.77:5062>;expires=119;q=0.500");

    let remove = world.register_request(alice, "0");
    assert_eq!(contacts(&world.ask(alice, remove)).len(), 1);
    let mut star = world.register_request(alice, "60");
    star.headers.set(HeaderName::Contact, "*");
    assert_eq!(world.ask(alice, star).status.code(), 400, "* wants Expires: 0");
    let mut star = world.register_request(alice, "0");
    star.headers.set(HeaderName::Contact, "*");
    let gone = world.ask(alice, star);
    assert_eq!((gone.status.code(), contacts(&gone).len()), (200, 0));
    assert_eq!(world.proxies[0].core.bindings(), 0);
    let removed = world.proxies[0].stored.iter();
    assert_eq!(removed.filter(|it| matches!(it, BindingChange::Remove { .. })).count(), 2);
}

#[test]
fn expiries_have_a_floor_a_ceiling_and_an_end() {
    let mut world = World::ie1(6);
    let alice = world.phone("alice", 1);
    let brief = world.register_request(alice, "10");
    let refused = world.ask(alice, brief);
    assert_eq!(refused.status.code(), 423);
    assert_eq!(refused.min_expires().unwrap(), Some(60));
    let long = world.register_request(alice, "999999");
    assert_eq!(contacts(&world.ask(alice, long)), ["<sip:alice@10.1.0.1:5060>;expires=7200"]);
    let short = world.register_request(alice, "60");
    world.ask(alice, short);
    assert_eq!(world.proxies[0].core.bindings(), 1);
    world.wait(7300);
    assert_eq!(world.proxies[0].core.bindings(), 0);
    assert_eq!(world.proxies[0].core.counters().bindings_expired, 1);
    assert!(matches!(world.proxies[0].stored.last(), Some(BindingChange::Remove { .. })));
}

#[test]
fn a_user_has_a_bounded_number_of_contacts() {
    let mut world = World::ie1(7);
    let alice = world.phone("alice", 1);
    let mut statuses = Vec::new();
    for port in 0..11 {
        let mut request = world.register_request(alice, "600");
        request.headers.set(HeaderName::Contact, format!("<sip:alice@10.1.0.1:{}>", 6000 + port));
        statuses.push(world.ask(alice, request).status.code());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 403]);
    // One that is there may still be refreshed.
    let mut request = world.register_request(alice, "600");
    request.headers.set(HeaderName::Contact, "<sip:alice@10.1.0.1:6003>");
    assert_eq!(world.ask(alice, request).status.code(), 200);
}

#[test]
fn a_device_that_comes_back_by_another_address_is_one_contact() {
    let mut world = World::ie1(8);
    let alice = world.phone("alice", 1);
    for port in [6000, 6001] {
        let mut request = world.register_request(alice, "600");
        let contact =
            format!("<sip:alice@10.1.0.1:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1");
        request.headers.set(HeaderName::Contact, contact);
        let listed = contacts(&world.ask(alice, request));
        let expected = format!(
            "<sip:alice@10.1.0.1:{port}>;expires=600;+sip.instance=\"<urn:uuid:1>\";reg-id=1"
        );
        assert_eq!(listed, [expected]);
    }
}

#[test]
fn an_overtaken_registration_changes_nothing() {
    let mut world = World::ie1(9);
    let alice = world.phone("alice", 1);
    world.register(alice);
    let request = world.register_request(alice, "600");
    world.send_request(alice, request.clone());
    world.settle();
    let challenge = world.phones[alice].take_final().unwrap();
    let mut late = world.phones[alice].proven(&request, &challenge, 1);
    late.headers.set(HeaderName::CSeq, "1 REGISTER");
    world.send_request(alice, late);
    world.settle();
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 500);
}

#[test]
fn a_user_registers_itself_alone() {
    let mut world = World::ie1(10);
    let alice = world.phone("alice", 1);
    let mut request = world.register_request(alice, "600");
    request.headers.set(HeaderName::To, "<sip:bob@acme.test>");
    assert_eq!(world.ask(alice, request).status.code(), 403);
    let mut request = world.register_request(alice, "600");
    request.headers.set(HeaderName::From, "<sip:bob@acme.test>;tag=x");
    assert_eq!(world.ask(alice, request).status.code(), 403);
}

#[test]
fn bindings_survive_a_restart_and_phones_are_reached_where_they_were() {
    let mut world = World::ie1(11);
    let [bob, alice] = world.registered(["bob", "alice"]);
    restart(&mut world);
    world.call(alice, bob, "sip:bob@acme.test");
}

/// A phone may send from another port than it listens on. What it may do does
/// not hang on whether we were started since it registered.
#[test]
fn a_phone_sends_within_a_call_from_another_port_before_and_after_a_restart() {
    for restarted in [false, true] {
        let mut world = World::ie1(17);
        let [bob, alice] = world.registered(["bob", "alice"]);
        if restarted {
            restart(&mut world);
        }
        let (a, mut b) = world.call(alice, bob, "sip:bob@acme.test");
        let far = another_socket(&mut world, "bob", "10.1.0.9:5062");
        b.phone = far;
        world.within(&mut b, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
        let challenged = world.phones[far].take_final().unwrap();
        assert_eq!(challenged.status.code(), 407, "another machine has to prove itself");

        b.phone = another_socket(&mut world, "bob", "10.1.0.1:5062");
        world.within(&mut b, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
        world.answer_within(&a, Method::Invite, 200, Some(&sdp("10.1.0.2", 4000, "")));
        let held = world.phones[b.phone].take_final().unwrap();
        assert_eq!(held.status.code(), 200, "restarted: {restarted}");
        world.ack(&b, held.cseq().unwrap().number, None);
        assert!(world.phones[a.phone].take_ack().is_some());
        world.hang_up(&mut b);
        assert!(world.phones[a.phone].take(Method::Bye).is_some(), "restarted: {restarted}");
        assert_eq!(world.proxies[0].core.counters().dialog_challenges, 1);
        world.assert_at_rest();
    }
}

fn another_socket(world: &mut World, user: &str, address: &str) -> usize {
    world.station(user, "acme.test", address.parse().unwrap(), 0, landline_sip::Transport::Udp)
}

/// The first proxy starts anew with the bindings it had stored.
fn restart(world: &mut World) {
    let kept: Vec<_> = world.proxies[0]
        .stored
        .drain(..)
        .filter_map(|it| match it {
            BindingChange::Put(binding) => Some(*binding),
            BindingChange::Remove { .. } => None,
        })
        .collect();
    let mut fresh = World::ie1(12);
    std::mem::swap(&mut world.proxies[0].core, &mut fresh.proxies[0].core);
    world.input(0, Input::Tenancy(Arc::new(Tenants::new(&tenants::acme()))));
    assert_eq!(world.proxies[0].core.bindings(), 0);
    let bindings = kept.len();
    world.input(0, Input::Bindings(kept));
    assert_eq!(world.proxies[0].core.bindings(), bindings);
}

#[test]
fn a_failing_store_is_counted_and_the_phone_registered_all_the_same() {
    let mut world = World::ie1(13);
    world.proxies[0].store_fails = true;
    let alice = world.phone("alice", 1);
    world.register(alice);
    assert_eq!(world.proxies[0].core.counters().bindings_store_failed, 1);
    assert_eq!(world.proxies[0].core.bindings(), 1);
}

#[test]
fn a_domain_nobody_has_is_not_found() {
    let mut world = World::ie1(14);
    let stranger = world.phone_at("mallory", "nowhere.test", 1, 0, landline_sip::Transport::Udp);
    let request = world.register_request(stranger, "600");
    let response = world.ask(stranger, request);
    assert_eq!(response.status.code(), 404);
    assert!(response.headers.contains(&HeaderName::Warning));
    assert_eq!(world.proxies[0].core.counters().unknown_domains, 1);
    assert!(world.proxies[0].ledger.events.is_empty());
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let mut world = World::ie1(15);
    let alice = world.phone("alice", 1);
    let ping = world.phones[alice].request(Method::Options, "sip:acme.test");
    let pong = world.ask(alice, ping);
    assert_eq!(pong.status.code(), 200);
    for name in [HeaderName::Allow, HeaderName::Accept, HeaderName::Supported] {
        assert!(pong.headers.contains(&name), "{}", name.as_str());
    }
    let mut statuses = Vec::new();
    for method in [Method::Notify, Method::Publish] {
        let request = world.phones[alice].request(method, "sip:bob@acme.test");
        let response = world.ask(alice, request);
        assert!(response.headers.contains(&HeaderName::Allow));
        statuses.push(response.status.code());
    }
    assert_eq!(statuses, [405, 405]);
    let mut needy = world.register_request(alice, "600");
    needy.headers.push(HeaderName::Require, "path, eventlist, precondition");
    let refused = world.ask(alice, needy);
    assert_eq!(refused.status.code(), 420);
    assert!(*refused.headers.get(&HeaderName::Unsupported).unwrap() == "eventlist, precondition");
    let bye = world.phones[alice].request(Method::Bye, "sip:bob@acme.test");
    assert_eq!(world.ask(alice, bye).status.code(), 481);
}

#[test]
fn a_removed_user_can_no_longer_prove_itself() {
    let mut world = World::ie1(16);
    let [alice] = world.registered(["alice"]);
    let mut tenancy = tenants::acme();
    tenancy.users.retain(|user| user.name.expose() != "alice");
    world.input(0, Input::Tenancy(Arc::new(Tenants::new(&tenancy))));
    world.run(Duration::from_secs(1));
    let request = world.register_request(alice, "600");
    assert_eq!(world.ask(alice, request).status.code(), 401);
}
