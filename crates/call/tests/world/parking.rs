//! Parties that are parked, and who takes them.

use landline_sip::{HeaderName, Method, Response, StatusCode};

use super::World;
use super::phone::{Leg, sdp, text};

pub const ALICE: usize = 0;
pub const BOB: usize = 1;
pub const CAROL: usize = 2;
pub const LINES: [&str; 3] = ["10.1.0.1:4000", "10.1.0.2:4000", "10.1.0.3:4000"];

pub fn description(phone: usize) -> String {
    sdp(&format!("10.1.0.{}", phone + 1), 4000, "")
}

pub fn goes_over(world: &mut World, leg: &Leg) -> String {
    let offer = world.answer_within(leg, Method::Invite, 200, Some(&description(leg.phone)));
    assert!(world.phones[leg.phone].take_ack().is_some(), "its ACK");
    text(&offer.body)
}

/// To whom each side of the relay's one session sends.
pub fn joined(world: &World) -> Vec<String> {
    let relay = &world.proxies[0].relay;
    assert_eq!(relay.sessions(), 1, "of one call");
    let session = relay.session();
    let (one, two) = session.joined.expect("joined");
    let mut remotes: Vec<_> =
        [one, two].iter().map(|leg| session.remotes[leg].rtp.to_string()).collect();
    remotes.sort();
    remotes
}

pub fn refer(world: &mut World, leg: &mut Leg, to: &str) -> Response {
    let mut request = leg.dialog.request(Method::Refer);
    request.headers.push(HeaderName::ReferTo, to);
    world.phones[leg.phone].responses.clear();
    world.send_request(leg.phone, request);
    world.settle();
    world.phones[leg.phone].take_final().expect("an answer")
}

pub fn report(world: &mut World, leg: &Leg) -> String {
    let notify = world.answer_within(leg, Method::Notify, 200, None);
    text(&notify.body).trim_end().to_owned()
}

/// Alice parks bob; where he waits is what she is told.
pub fn parked(world: &mut World, code: &str) -> (Leg, Leg, String) {
    let (mut a, b) = world.call(ALICE, BOB, "sip:bob@acme.test");
    let accepted = refer(world, &mut a, &format!("<sip:{code}@acme.test>"));
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert_eq!(report(world, &a), "SIP/2.0 100 Trying");
    let waits = description(BOB).replace("a=ptime:20", "a=recvonly");
    let offer = world.answer_within(&b, Method::Invite, 200, Some(&waits));
    assert!(text(&offer.body).contains("a=sendonly"), "{}", text(&offer.body));
    assert!(world.phones[BOB].take_ack().is_some());
    let told = world.answer_within(&a, Method::Message, 200, None);
    assert_eq!(report(world, &a), "SIP/2.0 200 OK");
    world.hang_up(&mut a);
    (a, b, text(&told.body))
}
