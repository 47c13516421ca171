//! Who is shown to whom: a user's own names and numbers and no others, withheld
//! where it is asked for (RFC 3323), asserted where the trunk says so (RFC 3325).

mod world;

use std::sync::Arc;

use landline_call::tenancy::{Asserted, MediaPolicy, Number, NumberTarget, Tenancy};
use landline_call::{Input, Tenants};
use landline_region::{Personal, UserSid};
use landline_sip::{HeaderName, Method, Request, StatusCode, Transport};
use world::phone::sdp;
use world::{World, tenants};

const OUTSIDE: &str = "sip:+442071234567@acme.test";

/// Alice has a second number, and the trunk this policy.
fn acme(asserted: Asserted) -> Tenancy {
    let mut tenancy = tenants::acme();
    let trunk = Arc::make_mut(&mut tenancy.trunks[0]);
    (trunk.asserted, trunk.media) = (asserted, MediaPolicy::Rtp);
    tenancy.numbers.push(Arc::new(Number {
        e164: Personal::new("+353100000011".to_owned()),
        account: tenancy.accounts[0].sid,
        target: NumberTarget::User(UserSid::from_u128(1)),
    }));
    tenancy
}

fn set(world: &mut World, asserted: Asserted) {
    world.input(0, Input::Tenancy(Arc::new(Tenants::new(&acme(asserted)))));
}

fn carrier(world: &mut World) -> usize {
    let address = "10.9.0.1:5060".parse().unwrap();
    world.station("+15550100", "carrier.test", address, 0, Transport::Udp)
}

fn said(request: &Request, name: &HeaderName) -> Option<String> {
    Some(request.headers.get(name)?.to_str_lossy().into_owned())
}

/// What the other side is told of alice, who says this of herself.
fn told(
    world: &mut World,
    (alice, callee): (usize, usize),
    to: &str,
    says: &[(HeaderName, &str)],
) -> Request {
    let body = sdp("10.1.0.1", 4000, "");
    let mut request = world.invite_request(alice, to, Some(&body));
    for (name, value) in says {
        request.headers.push(name.clone(), *value);
    }
    let (key, _) = world.invite_by(alice, request);
    let invite = world.phones[callee].take(Method::Invite).expect("it rings");
    world.say(callee, &invite, 180);
    world.cancel(alice, key);
    world.wait(1);
    world.phones[alice].responses.clear();
    invite.1
}

#[test]
fn who_wants_to_be_private_is_shown_to_nobody_but_a_carrier_that_is_told() {
    let mut world = World::ie1(1);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let carrier = carrier(&mut world);
    let private = [(HeaderName::Privacy, "id")];
    let shown = told(&mut world, (alice, bob), "sip:bob@acme.test", &private);
    let text = String::from_utf8_lossy(&shown.to_bytes()).into_owned();
    assert!(!text.contains("alice") && !text.contains("353100000001"), "{text}");
    assert_eq!(shown.from().unwrap().uri.to_string(), "sip:anonymous@anonymous.invalid");
    for (asserted, is_told) in [
        (Asserted::Both, true),
        (Asserted::Out, true),
        (Asserted::In, false),
        (Asserted::None, false),
    ] {
        set(&mut world, asserted);
        let withheld = told(&mut world, (alice, carrier), OUTSIDE, &private);
        assert_eq!(withheld.from().unwrap().uri.to_string(), "sip:anonymous@anonymous.invalid");
        let number = said(&withheld, &HeaderName::PAssertedIdentity);
        assert_eq!(number.is_some_and(|it| it.contains("+353100000001")), is_told, "{asserted}");
        assert_eq!(said(&withheld, &HeaderName::Privacy).as_deref(), is_told.then_some("id"));
        let open = told(&mut world, (alice, carrier), OUTSIDE, &[(HeaderName::Privacy, "none")]);
        assert_eq!(open.from().unwrap().uri.to_string(), "sip:+353100000001@acme.test");
        assert_eq!(said(&open, &HeaderName::PAssertedIdentity).is_some(), is_told, "{asserted}");
        assert_eq!(said(&open, &HeaderName::Privacy), None);
    }
    // The account's own record says who called.
    let ledger = &world.proxies[0].ledger;
    assert!(ledger.calls().iter().all(|call| ledger.opened(*call).from.expose() == "alice"));
    world.assert_at_rest();
}

#[test]
fn a_user_is_shown_by_its_own_numbers_and_by_no_others() {
    let mut world = World::ie1(2);
    let [alice] = world.registered(["alice"]);
    let carrier = carrier(&mut world);
    set(&mut world, Asserted::Both);
    let default = "+353100000001";
    for (preferred, shown, refused) in [
        ("<sip:+353100000011@acme.test>", "+353100000011", 0),
        ("<tel:+353-10-0000011>", "+353100000011", 0),
        // Bob's, nobody's, a name, nonsense.
        ("<sip:+353100000002@acme.test>", default, 1),
        ("<tel:+15550199>", default, 1),
        ("<sip:bob@acme.test>", default, 1),
        ("<<<", default, 1),
    ] {
        let before = world.proxies[0].core.counters().identities_refused;
        let says = [(HeaderName::PPreferredIdentity, preferred)];
        let told = told(&mut world, (alice, carrier), OUTSIDE, &says);
        assert_eq!(told.from().unwrap().uri.user_decoded().unwrap(), shown, "{preferred}");
        assert!(said(&told, &HeaderName::PAssertedIdentity).unwrap().contains(shown));
        assert_eq!(said(&told, &HeaderName::PPreferredIdentity), None);
        assert_eq!(world.proxies[0].core.counters().identities_refused - before, refused);
    }
    // An identity that it asserts itself is nothing to anybody.
    let says = [(HeaderName::PAssertedIdentity, "<tel:+15550199>")];
    let told = told(&mut world, (alice, carrier), OUTSIDE, &says);
    assert!(!String::from_utf8_lossy(&told.to_bytes()).contains("15550199"));
    world.assert_at_rest();
}

#[test]
fn a_carriers_word_for_who_calls_is_believed_where_its_trunk_says_so() {
    let mut world = World::ie1(3);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    let asserts = (HeaderName::PAssertedIdentity, "<tel:+442071111111>");
    for (asserted, privacy, shown) in [
        (Asserted::Both, None, "+442071111111"),
        (Asserted::In, None, "+442071111111"),
        (Asserted::Out, None, "+15550100"),
        (Asserted::None, None, "+15550100"),
        (Asserted::Both, Some("id"), "anonymous"),
        (Asserted::None, Some("user;id"), "anonymous"),
        (Asserted::Both, Some("none"), "+442071111111"),
    ] {
        set(&mut world, asserted);
        let body = sdp("10.9.0.1", 6000, "");
        let mut request = world.invite_request(carrier, "sip:+353100000002@10.0.1.1", Some(&body));
        request.headers.push(asserts.0.clone(), asserts.1);
        if let Some(privacy) = privacy {
            request.headers.push(HeaderName::Privacy, privacy);
        }
        let key = world.send_request(carrier, request);
        world.settle();
        let rung = world.phones[bob].take(Method::Invite).expect("bob rings");
        world.say(bob, &rung, 180);
        let from = rung.1.from().unwrap().uri.user_decoded().unwrap().into_owned();
        assert_eq!(from, shown, "{asserted} {privacy:?}");
        let ledger = &world.proxies[0].ledger;
        let call = *ledger.calls().last().unwrap();
        assert_eq!(ledger.opened(call).from.expose(), shown);
        if shown == "anonymous" {
            let text = String::from_utf8_lossy(&rung.1.to_bytes()).into_owned();
            assert!(!text.contains("4420711") && !text.contains("1555"), "{text}");
        }
        world.cancel(carrier, key);
        world.wait(1);
    }
    world.assert_at_rest();
}

/// What a carrier says of its callers is never taken for a user of ours.
#[test]
fn a_carriers_caller_is_shown_as_no_colleague() {
    let mut world = World::ie1(5);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    for (said, shown, recorded) in [
        ("<sip:alice@acme.test>", "sip:anonymous@acme.test", "anonymous"),
        ("\"CEO\" <sip:alice@x.example>", "sip:anonymous@acme.test", "anonymous"),
        ("<sip:1001@acme.test>", "sip:1001@unknown.invalid", "1001@unknown.invalid"),
        ("<sip:02071111111@x.example>", "sip:02071111111@unknown.invalid", ""),
        ("<sip:00442071111111@x.example>", "sip:+442071111111@acme.test", "+442071111111"),
        ("<sip:442071111111@x.example>", "sip:+442071111111@acme.test", "+442071111111"),
    ] {
        set(&mut world, Asserted::Both);
        let body = sdp("10.9.0.1", 6000, "");
        let mut request = world.invite_request(carrier, "sip:+353100000002@10.0.1.1", Some(&body));
        request.headers.push(HeaderName::PAssertedIdentity, said);
        let key = world.send_request(carrier, request);
        world.settle();
        let rung = world.phones[bob].take(Method::Invite).expect("bob rings");
        world.say(bob, &rung, 180);
        assert_eq!(rung.1.from().unwrap().uri.to_string(), shown, "{said}");
        let ledger = &world.proxies[0].ledger;
        let call = *ledger.calls().last().unwrap();
        if !recorded.is_empty() {
            assert_eq!(ledger.opened(call).from.expose(), recorded, "{said}");
        }
        world.cancel(carrier, key);
        world.wait(1);
    }
    world.assert_at_rest();
}

#[test]
fn a_message_may_be_private_too() {
    let mut world = World::ie1(4);
    let [alice, bob] = world.registered(["alice", "bob"]);
    for (privacy, is_shown) in [("id", false), ("none", true)] {
        let request = world.phones[alice]
            .request(Method::Message, "sip:bob@acme.test")
            .with_header(HeaderName::Privacy, privacy)
            .with_body("text/plain", "hello");
        world.phones[alice].responses.clear();
        world.send_request(alice, request.clone());
        world.settle();
        let challenge = world.phones[alice].take_final().unwrap();
        let proven = world.phones[alice].proven(&request, &challenge, 1);
        world.send_request(alice, proven);
        world.settle();
        let (key, message) = world.phones[bob].take(Method::Message).expect("bob is written to");
        let text = String::from_utf8_lossy(&message.to_bytes()).into_owned();
        assert_eq!(text.contains("sip:alice@acme.test"), is_shown, "{text}");
        let taken = landline_sip::Response::for_request(&message, StatusCode::OK);
        world.respond(bob, key, taken);
        assert_eq!(world.phones[alice].take_final().unwrap().status, StatusCode::OK);
    }
    world.assert_at_rest();
}
