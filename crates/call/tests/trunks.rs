//! Calls in from a carrier and out to it.

mod world;

use landline_control::LegId;
use landline_sip::digest::{Algorithm, Challenge, Credentials, ha1, verify};
use landline_sip::{HeaderName, Method, Response, StatusCode, Transport};
use world::phone::sdp;
use world::{World, tenants};

fn carrier(world: &mut World) -> usize {
    world.station("+15550100", "carrier.test", "10.9.0.1:5060".parse().unwrap(), 0, Transport::Udp)
}

/// The carrier calls; it is not challenged.
fn incoming(world: &mut World, carrier: usize, to: &str) -> landline_sip::Request {
    let request = world.invite_request(carrier, to, Some(&sdp("10.9.0.1", 4000, "")));
    world.phones[carrier].responses.clear();
    world.send_request(carrier, request.clone());
    world.settle();
    request
}

#[test]
fn a_carrier_reaches_a_number_of_the_account_without_a_password() {
    let mut world = World::ie1(1);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    let invite = incoming(&mut world, carrier, "sip:+353100000002@10.0.1.1:5060");
    let (key, rung) = world.phones[bob].take(Method::Invite).expect("bob rings");
    assert_eq!(rung.from().unwrap().uri.to_string(), "sip:+15550100@acme.test");
    assert!(!String::from_utf8_lossy(&rung.to_bytes()).contains("carrier.test"));
    world.answer(bob, &(key, rung), &sdp("10.1.0.1", 4000, ""));
    let mut a = world.confirm(carrier, &invite, None);
    world.hang_up(&mut a);
    let ledger = &world.proxies[0].ledger;
    let opened = ledger.opened(ledger.calls()[0]);
    assert_eq!(opened.direction.name(), "inbound");
    assert_eq!(opened.from.expose(), "+15550100");
    world.assert_at_rest();
}

/// A gateway may have all its calls at one address; then only the relay's port
/// tells them apart.
#[test]
fn a_carrier_with_ice_has_ports_for_each_of_its_calls() {
    let mut world = World::ie1(11);
    let [_bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    let more = "a=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
    let offer = sdp("10.9.0.1", 4000, more);
    let to = "sip:+353100000002@10.0.1.1:5060";
    let request = world.invite_request(carrier, to, Some(&offer));
    world.send_request(carrier, request);
    world.settle();
    let spec = &world.proxies[0].relay.session().specs[&LegId(0)];
    assert_eq!((spec.ice, spec.rtcp_mux), (true, false));
}

#[test]
fn a_carrier_that_takes_up_ice_within_a_call_has_ports_still() {
    let mut world = World::ie1(13);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    let invite = incoming(&mut world, carrier, "sip:+353100000002@10.0.1.1:5060");
    world.pick_up(bob);
    let mut a = world.confirm(carrier, &invite, None);
    // Other keys want another leg of the relay's.
    let more = "a=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk\r\n";
    let offer = sdp("10.9.0.1", 4000, more).replace("RTP/AVP", "RTP/SAVP");
    world.within(&mut a, Method::Invite, Some(&offer));
    let response = world.phones[carrier].take_final().unwrap();
    assert_eq!(response.status, StatusCode::OK);
    let spec = &world.proxies[0].relay.session().specs[&LegId(2)];
    assert_eq!((spec.ice, spec.rtcp_mux), (true, false));
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn carriers_write_numbers_in_many_ways() {
    let mut world = World::ie1(2);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    for to in [
        "sip:353100000002@10.0.1.1",
        "sip:00353100000002@10.0.1.1:5060;user=phone",
        "sip:+353-1-000-00002@acme.test",
        "tel:+353100000002",
    ] {
        incoming(&mut world, carrier, to);
        let rung = world.phones[bob].take(Method::Invite).unwrap_or_else(|| panic!("{to}"));
        world.say(bob, &rung, 486);
        assert_eq!(world.phones[carrier].take_final().unwrap().status.code(), 486);
    }
    world.assert_at_rest();
}

#[test]
fn a_carrier_reaches_nothing_else() {
    let mut world = World::ie1(3);
    let [bob] = world.registered(["bob"]);
    let carrier = carrier(&mut world);
    for to in ["sip:bob@acme.test", "sip:+15550199@10.0.1.1", "sip:+353199999999@acme.test"] {
        incoming(&mut world, carrier, to);
        assert_eq!(world.phones[carrier].take_final().unwrap().status.code(), 404, "{to}");
    }
    assert!(world.phones[bob].take(Method::Invite).is_none());
    assert_eq!(world.proxies[0].ledger.calls().len(), 3);
    world.assert_at_rest();
}

#[test]
fn a_strangers_call_is_challenged_and_a_user_behind_a_carriers_address_too() {
    let mut world = World::ie1(4);
    let [_bob] = world.registered(["bob"]);
    let stranger =
        world.station("+1", "carrier.test", "10.8.0.1:5060".parse().unwrap(), 0, Transport::Udp);
    let request = world.invite_request(stranger, "sip:+353100000002@acme.test", None);
    world.send_request(stranger, request);
    world.settle();
    assert_eq!(world.phones[stranger].take_final().unwrap().status.code(), 407);
    let alice =
        world.station("alice", "acme.test", "10.9.0.7:5060".parse().unwrap(), 0, Transport::Udp);
    let request = world.invite_request(alice, "sip:+353100000002@acme.test", None);
    world.send_request(alice, request);
    world.settle();
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 407);
    assert!(world.proxies[0].ledger.events.is_empty());
}

#[test]
fn a_number_of_nobody_goes_out_by_the_trunk_with_digest_towards_it() {
    let mut world = World::ie1(5);
    let [alice] = world.registered(["alice"]);
    let carrier = carrier(&mut world);
    let (_, invite) = world.dial(alice, "sip:+442071234567@acme.test;user=phone");
    let (key, first) = world.phones[carrier].take(Method::Invite).expect("the carrier is called");
    assert_eq!(first.uri.user_decoded().unwrap(), "+442071234567");
    assert_eq!(first.from().unwrap().uri.to_string(), "sip:+353100000001@acme.test");
    assert!(first.headers.contains(&HeaderName::PAssertedIdentity));
    let text = String::from_utf8_lossy(&first.to_bytes()).into_owned();
    assert!(!text.contains("alice"), "a user's name goes to the carrier:\n{text}");

    let challenge = Challenge {
        realm: "carrier.test".into(),
        nonce: "abc".into(),
        algorithm: Algorithm::Md5,
        qop: true,
        stale: false,
        opaque: None,
    };
    let refusal = Response::for_request(&first, StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        .with_to_tag("c")
        .with_header(HeaderName::ProxyAuthenticate, challenge.to_string());
    world.respond(carrier, key, refusal);
    let second = world.phones[carrier].take(Method::Invite).expect("it is proven");
    let proof = second.1.headers.get(&HeaderName::ProxyAuthorization).expect("credentials");
    let credentials = Credentials::parse(proof).unwrap();
    assert!(!second.1.headers.contains(&HeaderName::Authorization));
    let secret = ha1(Algorithm::Md5, "acme-trunk", "carrier.test", "trunk secret");
    assert!(verify(&credentials, &secret, &Method::Invite));
    assert_eq!(second.1.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    assert_eq!(second.1.call_id().unwrap(), first.call_id().unwrap());

    let mut b = world.answer(carrier, &second, &sdp("10.9.0.1", 4000, ""));
    world.confirm(alice, &invite, None);
    world.hang_up(&mut b);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    let summary = world.proxies[0].ledger.last();
    assert_eq!((summary.cause, summary.b_legs), ("callee_hung_up", 1));
    let ledger = &world.proxies[0].ledger;
    assert_eq!(ledger.opened(ledger.calls()[0]).direction.name(), "outbound");
    world.assert_at_rest();
}

#[test]
fn a_carrier_that_never_believes_us_is_asked_no_more() {
    let mut world = World::ie1(6);
    let [alice] = world.registered(["alice"]);
    let carrier = carrier(&mut world);
    world.dial(alice, "sip:+442071234567@acme.test");
    let mut asked = 0;
    while let Some((key, invite)) = world.phones[carrier].take(Method::Invite) {
        asked += 1;
        assert!(asked < 10);
        let refusal = Response::for_request(&invite, StatusCode::UNAUTHORIZED)
            .with_to_tag("c")
            .with_header(HeaderName::WwwAuthenticate, "Digest realm=\"c\", nonce=\"1\"");
        world.respond(carrier, key, refusal);
    }
    assert_eq!(asked, 2);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 403);
    world.assert_at_rest();
}

#[test]
fn without_a_trunk_a_number_of_nobody_leads_nowhere() {
    let mut world = World::new(7);
    let mut tenancy = tenants::acme();
    tenancy.trunks.clear();
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:+442071234567@acme.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 404);
    // A number of the account is its user's, however it is written.
    for to in ["sip:+353100000002@acme.test", "tel:+353-1-0000-0002"] {
        world.dial(alice, to);
        let rung = world.phones[bob].take(Method::Invite).unwrap_or_else(|| panic!("{to}"));
        world.say(bob, &rung, 486);
        world.phones[alice].take_final();
    }
    world.assert_at_rest();
}

#[test]
fn a_number_goes_out_by_the_trunk_with_the_longest_prefix_and_by_no_other() {
    let mut world = World::new(31);
    let mut tenancy = tenants::acme();
    let carrier = tenancy.trunks[0].clone();
    tenancy.trunks = [(1, "10.9.0.1", "+353"), (2, "10.9.0.2", "+3531"), (3, "10.9.0.3", "+44")]
        .map(|(sid, host, prefix)| {
            std::sync::Arc::new(landline_call::tenancy::Trunk {
                sid: landline_region::TrunkSid::from_u128(sid),
                name: format!("carrier-{sid}"),
                send_to: format!("udp:{host}:5060").parse().unwrap(),
                prefixes: vec![prefix.to_owned()],
                asserted: Default::default(),
                ..(*carrier).clone()
            })
        })
        .into();
    world.add_proxy("ie1", 1, tenancy, |_| {});
    world.share_directory();
    let carriers = ["10.9.0.1", "10.9.0.2", "10.9.0.3"].map(|ip| {
        let address = format!("{ip}:5060").parse().unwrap();
        world.station("carrier", "carrier.test", address, 0, Transport::Udp)
    });
    let [alice] = world.registered(["alice"]);
    for (number, by) in [("+353211234567", 0), ("+35315551234", 1), ("+442071234567", 2)] {
        let (key, _) = world.dial(alice, &format!("sip:{number}@acme.test"));
        for (nth, carrier) in carriers.iter().enumerate() {
            let rung = world.phones[*carrier].take(Method::Invite);
            assert_eq!(rung.is_some(), nth == by, "{number} at carrier {nth}");
            if let Some(rung) = rung {
                world.say(*carrier, &rung, 486);
            }
        }
        let _ = key;
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    }
    world.dial(alice, "sip:+12125550100@acme.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 404);
    world.assert_at_rest();
}
