//! One user with several phones.

mod world;

use landline_sip::{HeaderName, Method};
use world::World;
use world::phone::sdp;

/// Alice, and bob's two phones with these priorities.
fn two_phones(seed: u8, q: [&str; 2]) -> (World, usize, [usize; 2]) {
    let mut world = World::ie1(seed);
    let [alice] = world.registered(["alice"]);
    let phones = [(2, q[0]), (3, q[1])].map(|(number, q)| {
        let phone = world.phone("bob", number);
        let mut request = world.register_request(phone, "3600");
        let contact = format!("<{}>;q={q}", world.phones[phone].contact().uri);
        request.headers.set(HeaderName::Contact, contact);
        request.headers.set(HeaderName::CallId, format!("bob-{number}"));
        assert_eq!(world.ask(phone, request).status.code(), 200);
        phone
    });
    (world, alice, phones)
}

fn put_back(
    world: &mut World,
    phone: usize,
    rung: (landline_sip::ServerKey, landline_sip::Request),
) {
    let flow = landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: landline_sip::Transport::Udp,
        local: world.phones[phone].address,
        remote: world.phones[phone].proxy,
        peer: None,
    };
    world.phones[phone].requests.push((Some(rung.0), flow, rung.1));
}

#[test]
fn all_phones_ring_and_the_first_to_answer_silences_the_others() {
    let (mut world, alice, [one, two]) = two_phones(1, ["1.0", "1.0"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    for phone in [one, two] {
        let rung = world.phones[phone].take(Method::Invite).expect("rings");
        world.say(phone, &rung, 180);
        put_back(&mut world, phone, rung);
    }
    world.pick_up(two);
    let mut a = world.confirm(alice, &invite, None);
    assert_eq!(world.phones[one].others, ["cancelled"]);
    let joined = world.proxies[0].relay.session().joined.unwrap();
    assert_eq!((joined.0.0, joined.1.0), (0, 2));
    assert_eq!(world.phones[alice].statuses(), [180], "each status once");
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].ledger.last().b_legs, 2);
    world.assert_at_rest();
}

#[test]
fn the_others_hear_that_the_call_was_completed_elsewhere() {
    let (mut world, alice, [one, two]) = two_phones(2, ["1.0", "1.0"]);
    world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[one].take(Method::Invite).unwrap();
    world.say(one, &rung, 180);
    // A phone that answers its INVITE after all, its 200 crossing the CANCEL.
    world.pick_up(two);
    let late = world.answer(one, &rung, &sdp("10.1.0.2", 4000, ""));
    assert!(world.phones[one].take_ack().is_some(), "a late 200 is acknowledged");
    let (_, bye) = world.phones[one].take(Method::Bye).expect("and hung up");
    let reason = bye.headers.get(&HeaderName::Reason).unwrap().to_str_lossy().into_owned();
    assert_eq!(reason, "SIP;cause=200;text=\"Call completed elsewhere\"");
    assert_eq!(world.proxies[0].core.counters().late_answers, 1);
    drop(late);
}

#[test]
fn a_dead_phone_beside_an_answering_one_is_no_harm() {
    let (mut world, alice, [one, two]) = two_phones(7, ["1.0", "1.0"]);
    let address = world.phones[one].address;
    world.dead.push(address);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[two].take(Method::Invite).unwrap();
    world.say(two, &rung, 180);
    world.wait(40);
    world.answer(two, &rung, &sdp("10.1.0.3", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
    world.assert_at_rest();
}

#[test]
fn a_phone_about_to_be_offered_otherwise_is_spared_when_another_answers() {
    let (mut world, alice, [one, two]) = two_phones(8, ["1.0", "1.0"]);
    let mut tenancy = world::tenants::acme();
    tenancy = world::tenants::with_user(tenancy, "bob", |it| {
        it.media = landline_call::tenancy::MediaPolicy::Auto;
    });
    tenancy = world::tenants::with_account(tenancy, |it| {
        it.encryption = landline_call::tenancy::EncryptionPolicy::Optional;
    });
    world.input(0, landline_call::Input::Tenancy(landline_call::Tenants::new(&tenancy).into()));
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = world.phones[one].take(Method::Invite).unwrap();
    let second = world.phones[two].take(Method::Invite).unwrap();
    // Both say so in the same moment.
    let refused = landline_sip::Response::for_request(
        &first.1,
        landline_sip::StatusCode::NOT_ACCEPTABLE_HERE,
    )
    .with_to_tag("one");
    let respond = landline_sip::Input::Respond { key: first.0, response: refused };
    world.phone_input(one, respond);
    let mut dialog =
        landline_sip::Dialog::uas(&second.1, "two", world.phones[two].contact()).unwrap();
    dialog.confirm();
    let mut answer = dialog.respond(&second.1, landline_sip::StatusCode::OK);
    answer.set_body("application/sdp", sdp("10.1.0.3", 4000, ""));
    world.phone_input(two, landline_sip::Input::Respond { key: second.0, response: answer });
    world.settle();
    assert!(world.phones[one].take(Method::Invite).is_none(), "it rings again");
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn phones_of_lower_priority_ring_after_those_of_higher() {
    let (mut world, alice, [low, high]) = two_phones(3, ["0.5", "1.0"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    assert!(world.phones[low].take(Method::Invite).is_none());
    let rung = world.phones[high].take(Method::Invite).unwrap();
    world.say(high, &rung, 486);
    assert_eq!(world.phones[alice].statuses(), Vec::<u16>::new());
    world.pick_up(low);
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn the_best_of_the_refusals_is_told() {
    for (said, told) in [([480, 486], 486), ([486, 480], 486), ([404, 500], 404), ([480, 503], 480)]
    {
        let (mut world, alice, phones) = two_phones(4, ["1.0", "1.0"]);
        world.dial(alice, "sip:bob@acme.test");
        for (phone, status) in phones.into_iter().zip(said) {
            let rung = world.phones[phone].take(Method::Invite).unwrap();
            assert!(world.phones[alice].take_final().is_none());
            world.say(phone, &rung, status);
        }
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), told, "{said:?}");
        world.assert_at_rest();
    }
}

#[test]
fn one_phone_can_decline_for_all() {
    let (mut world, alice, [one, two]) = two_phones(5, ["1.0", "1.0"]);
    world.dial(alice, "sip:bob@acme.test");
    let other = world.phones[two].take(Method::Invite).unwrap();
    world.say(two, &other, 180);
    put_back(&mut world, two, other);
    let rung = world.phones[one].take(Method::Invite).unwrap();
    world.say(one, &rung, 603);
    assert_eq!(world.phones[two].others, ["cancelled"]);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 603);
    world.assert_at_rest();
}

#[test]
fn early_media_of_one_and_the_answer_of_another_are_two_dialogs() {
    let (mut world, alice, [one, two]) = two_phones(6, ["1.0", "1.0"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let (key, rung) = world.phones[one].take(Method::Invite).unwrap();
    let early =
        landline_sip::Response::for_request(&rung, landline_sip::StatusCode::SESSION_PROGRESS)
            .with_to_tag("early")
            .with_header(HeaderName::Contact, world.phones[one].contact())
            .with_body("application/sdp", sdp("10.1.0.2", 4000, ""));
    world.respond(one, key, early);
    let (_, progress) = world.phones[alice].responses.remove(0);
    assert_eq!(progress.status.code(), 183);
    assert!(!progress.body.is_empty());
    let joined = world.proxies[0].relay.session().joined.unwrap();
    assert_eq!((joined.0.0, joined.1.0), (0, 1));

    world.pick_up(two);
    let answer = world.phones[alice].responses[0].1.clone();
    assert_ne!(answer.to().unwrap().tag(), progress.to().unwrap().tag());
    let mut a = world.confirm(alice, &invite, None);
    let joined = world.proxies[0].relay.session().joined.unwrap();
    assert_eq!((joined.0.0, joined.1.0), (0, 2));
    world.hang_up(&mut a);
    world.phones[one].requests.clear();
    world.assert_at_rest();
}
