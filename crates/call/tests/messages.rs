//! Messages between users (RFC 3428): within an account, between accounts of two
//! regions, behind an edge, and within a call.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use landline_call::directory::InterRegionAddress;
use landline_call::tenancy::{CallsFrom, Tenancy};
use landline_region::JoinToken;
use landline_region::egress::{Declared, Gate};
use landline_sip::{
    Destination, Flow, FlowId, HeaderName, Method, Request, Response, ServerKey, StatusCode,
    Transport,
};
use world::phone::{Phone, text};
use world::{World, tenants, up};

const IE1: usize = 0;
const US1: usize = 1;
const WORDS: &str = "Grüße, meet me at nine";

/// With credentials, as soon as they are asked for.
fn write_as(world: &mut World, from: usize, request: Request) {
    world.phones[from].responses.clear();
    world.send_request(from, request.clone());
    world.settle();
    let challenge = world.phones[from].take_final().expect("a challenge");
    assert_eq!(challenge.status.code(), 407);
    let proven = world.phones[from].proven(&request, &challenge, 1);
    world.send_request(from, proven);
    world.settle();
}

fn write(world: &mut World, from: usize, to: &str, words: &str) {
    let request = world.phones[from].request(Method::Message, to);
    write_as(world, from, request.with_body("text/plain;charset=utf-8", words.to_owned()));
}

/// However large it is.
fn by_datagram(world: &mut World, from: usize, request: Request) {
    let Phone { address, proxy, .. } = world.phones[from];
    let transport = Transport::Udp;
    let flow = Flow { id: FlowId(0), transport, local: address, remote: proxy, peer: None };
    let key = world.phones[from].key();
    let destination = Destination::Flow(flow);
    world.phone_input(from, landline_sip::Input::Request { key, request, destination });
    world.settle();
}

fn took(world: &mut World, phone: usize) -> (ServerKey, Request) {
    world.phones[phone].take(Method::Message).expect("a message")
}

fn say(world: &mut World, phone: usize, asked: &(ServerKey, Request), status: u16) {
    let response = Response::for_request(&asked.1, StatusCode::new(status).unwrap());
    world.respond(phone, asked.0, response.with_to_tag("m"));
}

fn told(world: &mut World, phone: usize) -> Response {
    world.phones[phone].take_final().expect("an answer")
}

fn warning(response: &Response) -> String {
    let warning = response.headers.get(&HeaderName::Warning);
    warning.map_or(String::new(), |it| it.to_str_lossy().into_owned())
}

/// acme at home in ie1, globex in us1, each open to the other.
fn regions(seed: u8, policy: CallsFrom) -> World {
    let open = |tenancy: Tenancy| tenants::with_account(tenancy, |it| it.calls_from = policy);
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, open(tenants::acme()), |_| {});
    world.add_proxy("us1", 2, open(tenants::globex()), |_| {});
    world.share_directory();
    world
}

fn alice_and_erin(seed: u8, policy: CallsFrom) -> (World, usize, usize) {
    let mut world = regions(seed, policy);
    let [alice] = world.registered(["alice"]);
    let erin = world.phone_at("erin", "globex.test", 11, US1, Transport::Udp);
    world.register(erin);
    (world, alice, erin)
}

#[test]
fn a_message_reaches_every_phone_and_the_first_that_takes_it_answers() {
    let mut world = World::ie1(1);
    let [alice, desk, mobile, carol] = world.registered(["alice", "bob", "bob", "carol"]);
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    let at_desk = took(&mut world, desk);
    let at_mobile = took(&mut world, mobile);
    for (_, message) in [&at_desk, &at_mobile] {
        assert_eq!(text(&message.body), WORDS);
        let kind = message.headers.get(&HeaderName::ContentType).unwrap();
        assert_eq!(kind.to_str_lossy(), "text/plain;charset=utf-8");
        assert_eq!(message.from().unwrap().uri.to_string(), "sip:alice@acme.test");
        assert_eq!(message.to().unwrap().uri.to_string(), "sip:bob@acme.test");
        // RFC 3428 §4: no Contact; and nothing that proves or places the sender.
        let all = String::from_utf8_lossy(&message.to_bytes()).into_owned();
        for trace in ["Contact", "Authorization", "10.1.0.1:", "secret-version"] {
            assert!(!all.contains(trace), "{trace} in {all}");
        }
    }
    say(&mut world, desk, &at_desk, 486);
    assert!(world.phones[alice].responses.is_empty(), "the other phone may take it yet");
    say(&mut world, mobile, &at_mobile, 202);
    assert_eq!(told(&mut world, alice).status.code(), 202);
    assert!(world.phones[carol].take(Method::Message).is_none());
    let counters = world.proxies[IE1].core.counters();
    assert_eq!(
        (counters.messages, counters.messages_delivered, counters.messages_failed),
        (1, 1, 0)
    );
    // By number, too; and no record is opened for it.
    write(&mut world, alice, "sip:+353100000003@acme.test", WORDS);
    let at_carol = took(&mut world, carol);
    say(&mut world, carol, &at_carol, 200);
    assert_eq!(told(&mut world, alice).status.code(), 200);
    assert!(world.proxies[IE1].ledger.events.is_empty());
    world.assert_at_rest();
}

#[test]
fn what_is_said_beside_the_text_goes_with_it() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let request = world.phones[alice]
        .request(Method::Message, "sip:bob@acme.test")
        .with_header(HeaderName::Date, "Mon, 23 Nov 2026 10:00:00 GMT")
        .with_header(HeaderName::Expires, "600")
        .with_header(HeaderName::Subject, "lunch")
        .with_header(HeaderName::parse("X-Own"), "4711")
        .with_body("message/cpim", "From: <im:alice@acme.test>\r\n\r\n");
    write_as(&mut world, alice, request);
    let (_, message) = took(&mut world, bob);
    for (name, value) in [
        (HeaderName::Date, "Mon, 23 Nov 2026 10:00:00 GMT"),
        (HeaderName::Expires, "600"),
        (HeaderName::Subject, "lunch"),
        (HeaderName::ContentType, "message/cpim"),
    ] {
        assert_eq!(message.headers.get(&name).unwrap().to_str_lossy(), value);
    }
    assert!(!message.headers.contains(&HeaderName::parse("X-Own")));
}

#[test]
fn where_nobody_is_a_message_is_refused_and_not_kept() {
    let mut world = World::ie1(3);
    let [alice] = world.registered(["alice"]);
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    let refused = told(&mut world, alice);
    assert_eq!(refused.status.code(), 480);
    assert!(warning(&refused).contains("messages are not kept"), "{}", warning(&refused));
    // And none comes when he registers.
    let [bob] = world.registered(["bob"]);
    assert!(world.phones[bob].take(Method::Message).is_none());
    for nobody in ["sip:nobody@acme.test", "sip:+353999@acme.test", "sip:bob@nowhere.test"] {
        write(&mut world, alice, nobody, WORDS);
        assert_eq!(told(&mut world, alice).status.code(), 404, "{nobody}");
    }
    assert_eq!(world.proxies[IE1].core.counters().messages_refused, 4);
    world.assert_at_rest();
}

#[test]
fn the_best_of_the_refusals_is_told() {
    for (said, status) in [
        ([480, 415], 415),
        ([503, 480], 480),
        ([403, 603], 603),
        ([405, 501], 480),
        ([407, 500], 403),
        ([302, 408], 480),
    ] {
        let mut world = World::ie1(4);
        let [alice, desk, mobile] = world.registered(["alice", "bob", "bob"]);
        write(&mut world, alice, "sip:bob@acme.test", WORDS);
        for (phone, status) in [desk, mobile].into_iter().zip(said) {
            let asked = took(&mut world, phone);
            say(&mut world, phone, &asked, status);
        }
        let response = told(&mut world, alice);
        assert_eq!(response.status.code(), status, "{said:?}");
        assert!(!response.headers.contains(&HeaderName::Contact), "{said:?}");
        world.assert_at_rest();
    }
}

#[test]
fn a_phone_that_is_silent_does_not_keep_the_sender_waiting() {
    let mut world = World::ie1(5);
    let [alice, bob] = world.registered(["alice", "bob"]);
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    let asked = took(&mut world, bob);
    world.wait(19);
    assert!(world.phones[alice].take_final().is_none());
    world.wait(2);
    assert_eq!(told(&mut world, alice).status.code(), 480);
    say(&mut world, bob, &asked, 200);
    assert!(world.phones[alice].take_final().is_none(), "one answer");
    let counters = world.proxies[IE1].core.counters();
    assert_eq!((counters.messages_late, counters.messages_failed), (1, 1));
    world.assert_at_rest();
}

#[test]
fn a_user_writes_in_its_own_name_with_its_own_password() {
    let mut world = World::ie1(6);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let mut forged = world.phones[alice].request(Method::Message, "sip:bob@acme.test");
    forged.headers.set(HeaderName::From, "<sip:carol@acme.test>;tag=x");
    write_as(&mut world, alice, forged.with_body("text/plain", WORDS));
    assert_eq!(told(&mut world, alice).status.code(), 403);
    world.phones[alice].password = "wrong".into();
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    assert_eq!(told(&mut world, alice).status.code(), 407);
    assert!(world.phones[bob].take(Method::Message).is_none());
}

#[test]
fn what_is_too_large_is_refused_on_the_way_in_and_on_the_way_out() {
    let mut world = World::ie1(7);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let long = "x".repeat(1300);
    let request = world.phones[alice].request(Method::Message, "sip:bob@acme.test");
    world.send_request(alice, request.clone());
    world.settle();
    let challenge = told(&mut world, alice);
    let proven = world.phones[alice].proven(&request, &challenge, 1);
    by_datagram(&mut world, alice, proven.with_body("text/plain", long.clone()));
    assert_eq!(told(&mut world, alice).status.code(), 413);
    // By a connection it comes in, and goes on by connections alone.
    let dave = world.phone_at("dave", "acme.test", 40, IE1, Transport::Tls);
    let carol = world.phone_at("carol", "acme.test", 41, IE1, Transport::Tls);
    world.register(dave);
    world.register(carol);
    write(&mut world, dave, "sip:bob@acme.test", &long);
    assert_eq!(told(&mut world, dave).status.code(), 413);
    assert!(world.phones[bob].take(Method::Message).is_none());
    write(&mut world, dave, "sip:carol@acme.test", &long);
    let asked = took(&mut world, carol);
    assert_eq!(text(&asked.1.body), long);
    say(&mut world, carol, &asked, 200);
    assert_eq!(told(&mut world, dave).status.code(), 200);
    write(&mut world, dave, "sip:carol@acme.test", &"x".repeat(16 * 1024 + 1));
    assert_eq!(told(&mut world, dave).status.code(), 413);
    world.assert_at_rest();
}

#[test]
fn a_user_has_a_bounded_number_of_messages_under_way() {
    let mut world = World::new(8);
    world.add_proxy("ie1", 1, tenants::acme(), |config| config.limits.messages_per_user = 2);
    world.share_directory();
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    for _ in 0..2 {
        write(&mut world, alice, "sip:bob@acme.test", WORDS);
    }
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    let refused = told(&mut world, alice);
    assert_eq!(refused.status.code(), 503);
    assert!(refused.headers.contains(&HeaderName::RetryAfter));
    write(&mut world, carol, "sip:bob@acme.test", WORDS);
    while let Some(asked) = world.phones[bob].take(Method::Message) {
        say(&mut world, bob, &asked, 200);
    }
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    assert!(world.phones[bob].take(Method::Message).is_some());
    world.assert_at_rest();
}

#[test]
fn a_message_goes_to_the_home_region_of_whom_it_is_for_and_to_no_other() {
    let (mut world, alice, erin) = alice_and_erin(9, CallsFrom::Any);
    world.add_proxy("au1", 3, Tenancy::default(), |_| {});
    world.share_directory();
    let request = world.phones[alice]
        .request(Method::Message, "sip:erin@globex.test")
        .with_header(HeaderName::Subject, "private matter")
        .with_header(HeaderName::parse("Landline-Join"), JoinToken::from_u128(1).to_string());
    write_as(&mut world, alice, request.with_body("text/plain", WORDS));
    let asked = took(&mut world, erin);
    assert_eq!(text(&asked.1.body), WORDS);
    assert_eq!(asked.1.from().unwrap().uri.to_string(), "sip:alice@acme.test");
    say(&mut world, erin, &asked, 200);
    assert_eq!(told(&mut world, alice).status.code(), 200);
    let sent = world.crossed.iter().filter(|it| it.starts_with("MESSAGE ")).count();
    assert_eq!(sent, 1);
    for crossed in &world.crossed {
        for trace in
            ["10.1.0.", "secret", "private", "alice S", &JoinToken::from_u128(1).to_string()]
        {
            assert!(!crossed.contains(trace), "{trace} in {crossed}");
        }
    }
    let counters = |proxy: usize| world.proxies[proxy].core.counters();
    assert_eq!((counters(IE1).messages_out, counters(US1).messages_in), (1, 1));
    for proxy in [IE1, US1] {
        let logs = &world.proxies[proxy].logs;
        let logged: String = logs.iter().map(|it| format!("{it}\n{it:?}\n")).collect();
        for trace in ["alice", "erin", "globex.test", "nine"] {
            assert!(!logged.contains(trace), "{trace} in {logged}");
        }
    }
    world.assert_at_rest();
}

#[test]
fn an_account_that_takes_no_calls_of_others_takes_no_messages() {
    let (mut world, alice, erin) = alice_and_erin(10, CallsFrom::Region);
    write(&mut world, alice, "sip:erin@globex.test", WORDS);
    assert_eq!(told(&mut world, alice).status.code(), 403);
    assert!(world.phones[erin].take(Method::Message).is_none());
    assert!(!world.crossed.iter().any(|it| it.starts_with("MESSAGE ")));
}

#[test]
fn a_message_that_the_egress_gate_refuses_stays_in_its_region() {
    let mut world = World::new(11);
    let declared = Declared { regions: ["ie1".parse().unwrap()].into(), ..Declared::default() };
    let gate = Arc::new(Gate::new("ie1".parse().unwrap(), declared));
    world.add_proxy("ie1", 1, tenants::acme(), |config| config.egress = Some(gate));
    let open = tenants::with_account(tenants::globex(), |it| it.calls_from = CallsFrom::Any);
    world.add_proxy("us1", 2, open, |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    write(&mut world, alice, "sip:erin@globex.test", WORDS);
    assert_eq!(told(&mut world, alice).status.code(), 403);
    assert!(world.crossed.is_empty());
    assert_eq!(world.proxies[IE1].core.counters().messages_kept_in, 1);
    world.assert_at_rest();
}

#[test]
fn the_next_proxy_of_a_region_takes_what_a_dead_one_cannot() {
    let (mut world, alice, erin) = alice_and_erin(12, CallsFrom::Any);
    let dead: SocketAddr = "10.0.99.1:7061".parse().unwrap();
    world.dead.push(dead);
    let mut directory = world.directory();
    let us1 = directory.regions.get_mut(&"us1".parse().unwrap()).unwrap();
    us1.proxies.insert(0, InterRegionAddress { host: "10.0.99.1".into(), port: 7061 });
    world.set_directory(&directory);
    write(&mut world, alice, "sip:erin@globex.test", WORDS);
    let asked = took(&mut world, erin);
    say(&mut world, erin, &asked, 200);
    assert_eq!(told(&mut world, alice).status.code(), 200);
    let other = world.proxies[US1].inter_region;
    world.dead.push(other);
    write(&mut world, alice, "sip:erin@globex.test", WORDS);
    assert_eq!(told(&mut world, alice).status.code(), 503);
    world.assert_at_rest();
}

#[test]
fn a_traveller_writes_and_is_written_to_through_an_edge() {
    let mut world = regions(13, CallsFrom::None);
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 2, US1, Transport::Udp);
    world.register(bob);
    write(&mut world, alice, "sip:bob@acme.test", WORDS);
    let asked = took(&mut world, bob);
    assert_eq!(text(&asked.1.body), WORDS);
    say(&mut world, bob, &asked, 200);
    assert_eq!(told(&mut world, alice).status.code(), 200);
    write(&mut world, bob, "sip:alice@acme.test", WORDS);
    let asked = took(&mut world, alice);
    say(&mut world, alice, &asked, 200);
    assert_eq!(told(&mut world, bob).status.code(), 200);
    assert_eq!(world.proxies[US1].core.counters().messages, 0, "the edge carries it alone");
    let logs = &world.proxies[US1].logs;
    let logged: String = logs.iter().map(|it| format!("{it}\n{it:?}\n")).collect();
    assert!(!logged.contains("bob") && !logged.contains("nine"), "{logged}");
    world.assert_at_rest();
}

#[test]
fn within_a_call_a_message_is_the_other_sides() {
    let (mut world, mut a, b) = up(14);
    let mut message = a.dialog.request(Method::Message);
    message.set_body("text/html", "<b>hi</b>");
    world.phones[a.phone].responses.clear();
    world.send_request(a.phone, message);
    world.settle();
    let passed = world.answer_within(&b, Method::Message, 200, None);
    assert_eq!(text(&passed.body), "<b>hi</b>");
    assert_eq!(passed.headers.get(&HeaderName::ContentType).unwrap().to_str_lossy(), "text/html");
    assert_eq!(told(&mut world, a.phone).status.code(), 200);
    let mut long = a.dialog.request(Method::Message);
    long.set_body("text/plain", "x".repeat(1300));
    by_datagram(&mut world, a.phone, long);
    assert_eq!(told(&mut world, a.phone).status.code(), 413);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn within_a_call_to_another_region_a_message_crosses_with_it() {
    let (mut world, alice, erin) = alice_and_erin(15, CallsFrom::Any);
    let (mut a, mut b) = world.call(alice, erin, "sip:erin@globex.test");
    let mut message = b.dialog.request(Method::Message);
    message.set_body("text/plain", WORDS);
    world.send_request(erin, message);
    world.settle();
    let passed = world.answer_within(&a, Method::Message, 200, None);
    assert_eq!(text(&passed.body), WORDS);
    assert_eq!(told(&mut world, erin).status.code(), 200);
    b.phone = erin;
    world.hang_up(&mut a);
    world.assert_at_rest();
}
