//! Addresses of one device (RFC 5627): who is rung by them, and until when.

mod world;

use landline_call::tenancy::{CallsFrom, Tenancy};
use landline_sip::{HeaderName, Method, NameAddr, Request, Response, StatusCode, Transport};
use world::{World, tenants};

const DESK: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
const MOBILE: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";

fn device_request(world: &mut World, phone: usize, instance: &str) -> Request {
    let mut request = world.register_request(phone, "3600");
    let contact = format!("{};+sip.instance=\"<{instance}>\"", world.phones[phone].contact());
    request.headers.set(HeaderName::Contact, contact);
    request.headers.push(HeaderName::Supported, "gruu");
    request
}

/// The public address and a temporary one of the device that just registered.
struct Given {
    public: String,
    temporary: String,
}

fn given(accepted: &Response, instance: &str) -> Given {
    assert_eq!(accepted.status, StatusCode::OK);
    let contacts = accepted.headers.values(&HeaderName::Contact);
    let contacts = contacts.map(|it| NameAddr::parse(&it.to_str_lossy()).unwrap());
    let own = |it: &NameAddr| it.params.get_unquoted("+sip.instance").unwrap().contains(instance);
    let contact = contacts.into_iter().find(own).expect("the device's contact");
    let said = |name: &str| contact.params.get_unquoted(name).unwrap().into_owned();
    Given { public: said("pub-gruu"), temporary: said("temp-gruu") }
}

fn register_device(world: &mut World, phone: usize, instance: &str) -> Given {
    let request = device_request(world, phone, instance);
    given(&world.ask(phone, request), instance)
}

/// Alice, and bob with two devices.
fn two_devices(seed: u8) -> (World, usize, [usize; 2], [Given; 2]) {
    let mut world = World::ie1(seed);
    let [alice] = world.registered(["alice"]);
    let desk = world.phone("bob", 11);
    let mobile = world.phone("bob", 12);
    let given =
        [register_device(&mut world, desk, DESK), register_device(&mut world, mobile, MOBILE)];
    (world, alice, [desk, mobile], given)
}

fn rings(world: &World, phones: [usize; 2]) -> [bool; 2] {
    phones.map(|phone| world.phones[phone].has_invite())
}

fn refused(world: &mut World, caller: usize, address: &str) -> u16 {
    world.dial(caller, address);
    world.wait(1);
    world.phones[caller].take_final().expect("a refusal").status.code()
}

#[test]
fn a_device_is_given_an_address_of_its_own_and_another_each_time_that_names_nobody() {
    let (mut world, _, [desk, _], [given, _]) = two_devices(1);
    assert_eq!(given.public, format!("sip:bob@acme.test;gr={DESK}"));
    assert!(given.temporary.ends_with("@acme.test;gr"), "{}", given.temporary);
    assert!(!given.temporary.contains("bob") && !given.temporary.contains("f81d4fae"));
    let again = register_device(&mut world, desk, DESK);
    assert_eq!(again.public, given.public);
    assert_ne!(again.temporary, given.temporary);
    // Nothing of it is the same as before, but what every such address has.
    let user = |address: &str| address["sip:gr-".len()..address.find('@').unwrap()].to_owned();
    let (a, b) = (user(&again.temporary), user(&given.temporary));
    let same = a.bytes().zip(b.bytes()).filter(|(a, b)| a == b).count();
    assert!(same < a.len() / 4, "{a} {b}");
}

#[test]
fn who_does_not_ask_for_them_gets_none() {
    let mut world = World::ie1(2);
    let bob = world.phone("bob", 11);
    let mut request = device_request(&mut world, bob, DESK);
    request.headers.remove_all(&HeaderName::Supported);
    let plain = world.ask(bob, request);
    assert!(!String::from_utf8_lossy(&plain.to_bytes()).contains("-gruu"));
    // Nor a device whose name would not be one.
    let odd = device_request(&mut world, bob, "urn:x;y=\\\"z");
    assert!(!String::from_utf8_lossy(&world.ask(bob, odd).to_bytes()).contains("-gruu"));
}

#[test]
fn each_address_rings_exactly_its_device() {
    let (mut world, alice, phones, given) = two_devices(3);
    for (at, Given { public, temporary }) in given.iter().enumerate() {
        for address in [public, temporary] {
            let (_, invite) = world.dial(alice, address);
            world.wait(1);
            assert_eq!(rings(&world, phones), [at == 0, at == 1], "{address}");
            // It is told the contact that it registered (RFC 5627 §5.6).
            let rung = &world.phones[phones[at]].requests[0].2;
            assert_eq!(
                rung.uri.host.to_string(),
                world.phones[phones[at]].address.ip().to_string()
            );
            world.pick_up(phones[at]);
            let mut a = world.confirm(alice, &invite, None);
            world.hang_up(&mut a);
            world.phones[phones[at]].requests.clear();
        }
    }
    // The address of record rings both.
    world.dial(alice, "sip:bob@acme.test");
    world.wait(1);
    assert_eq!(rings(&world, phones), [true, true]);
}

#[test]
fn a_public_address_outlives_the_registration_and_a_temporary_one_does_not() {
    let (mut world, alice, [desk, _], [given, _]) = two_devices(4);
    // A refresh ends none of them.
    register_device(&mut world, desk, DESK);
    world.dial(alice, &given.temporary);
    world.wait(1);
    let invite = world.phones[desk].take(Method::Invite).expect("the former one still leads there");
    world.say(desk, &invite, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    // The phone starts anew: another Call-ID.
    let mut anew = device_request(&mut world, desk, DESK);
    anew.headers.set(HeaderName::CallId, "after-a-restart");
    let later = super_given(&mut world, desk, anew);
    assert_eq!(refused(&mut world, alice, &given.temporary), 404);
    let mut gone = device_request(&mut world, desk, DESK);
    gone.headers.set(HeaderName::CallId, "after-a-restart");
    gone.headers.set(HeaderName::Expires, "0");
    assert_eq!(world.ask(desk, gone).status, StatusCode::OK);
    assert_eq!(refused(&mut world, alice, &later.temporary), 404);
    assert_eq!(refused(&mut world, alice, &given.public), 480);
    world.assert_at_rest();
}

fn super_given(world: &mut World, phone: usize, request: Request) -> Given {
    given(&world.ask(phone, request), DESK)
}

#[test]
fn a_temporary_address_cannot_be_made_up() {
    let (mut world, alice, phones, [given, _]) = two_devices(5);
    let (start, end) = given.temporary.split_once('@').unwrap();
    for at in (7..start.len()).step_by(11) {
        let mut forged = start.as_bytes().to_vec();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        let forged = format!("{}@{end}", String::from_utf8(forged).unwrap());
        assert_eq!(refused(&mut world, alice, &forged), 404, "{at}");
    }
    for made_up in ["sip:gr-@acme.test;gr", "sip:gr-00@acme.test;gr", "sip:bob@acme.test;gr"] {
        assert_eq!(refused(&mut world, alice, made_up), 404);
    }
    assert_eq!(refused(&mut world, alice, "sip:nobody@acme.test;gr=urn:uuid:1"), 404);
    assert_eq!(refused(&mut world, alice, "sip:bob@acme.test;gr=urn:uuid:1"), 480);
    assert_eq!(rings(&world, phones), [false, false]);
}

#[test]
fn a_phone_may_have_its_address_as_contact_and_is_reached_within_the_call() {
    let (mut world, alice, [desk, _], [given, _]) = two_devices(6);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[desk].take(Method::Invite).unwrap();
    let contact = format!("<{}>", given.public);
    let more = [(HeaderName::Contact, contact.as_str())];
    let body = world::phone::sdp("10.1.0.11", 4000, "");
    let b = world.answer_saying(desk, &rung, &body, &more);
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.phones[desk].take_ack().is_some(), "the ACK finds the phone");
    let hold = world::phone::sdp("10.1.0.1", 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&hold));
    world.answer_within(&b, Method::Invite, 200, Some(&body));
    let held = world.phones[alice].take_final().unwrap();
    world.ack(&a, held.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    assert!(world.phones[desk].take(Method::Bye).is_some(), "and so does the BYE");
    world.assert_at_rest();
}

#[test]
fn a_call_is_transferred_to_one_device() {
    let (mut world, alice, phones, [given, _]) = two_devices(7);
    let carol = world.phone("carol", 3);
    world.register(carol);
    let (mut a, c) = world.call(alice, carol, "sip:carol@acme.test");
    let mut refer = a.dialog.request(Method::Refer);
    refer.headers.push(HeaderName::ReferTo, format!("<{}>", given.public));
    world.phones[alice].responses.clear();
    world.send_request(alice, refer);
    world.settle();
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 202);
    world.wait(1);
    assert_eq!(rings(&world, phones), [true, false]);
    let _ = c;
}

/// Globex, whose calls acme takes, is at home in the other region.
#[test]
fn another_account_rings_one_device_by_its_address() {
    let mut world = World::new(8);
    let open = |tenancy: Tenancy| {
        tenants::with_account(tenancy, |account| account.calls_from = CallsFrom::Any)
    };
    world.add_proxy("ie1", 1, open(tenants::acme()), |_| {});
    world.add_proxy("us1", 2, open(tenants::globex()), |_| {});
    world.share_directory();
    let phones = [11, 12].map(|number| world.phone("bob", number));
    register_device(&mut world, phones[0], DESK);
    let Given { public, temporary } = register_device(&mut world, phones[1], MOBILE);
    let caller = tenants::globex().users[0].name.expose().clone();
    let caller = world.phone_at(&caller, "globex.test", 20, 1, Transport::Udp);
    world.register(caller);
    for address in [public, temporary] {
        world.dial(caller, &address);
        world.wait(1);
        assert_eq!(rings(&world, phones), [false, true], "{address}");
        let invite = world.phones[phones[1]].take(Method::Invite).unwrap();
        world.say(phones[1], &invite, 486);
        world.wait(1);
    }
}
