//! Reliable provisional responses (RFC 3262), towards callers and callees, and
//! where only one of them has them.

mod world;

use landline_call::tenancy::CallsFrom;
use landline_sip::{
    ClientKey, Dialog, HeaderName, Method, RAck, Request, Response, ServerKey, StatusCode,
    Transport,
};
use world::phone::{Leg, sdp, text};
use world::{World, tenants};

type Rung = (ServerKey, Request);

/// A caller's INVITE with this header field.
fn dial(
    world: &mut World,
    caller: usize,
    to: &str,
    option: (HeaderName, &str),
    offers: bool,
) -> Request {
    let body = sdp(&world.phones[caller].address.ip().to_string(), 4000, "");
    let body = offers.then_some(body.as_str());
    let mut request = world.invite_request(caller, to, body);
    request.headers.push(option.0, option.1);
    world.invite_by(caller, request).1
}

fn requires(world: &mut World, caller: usize) -> Request {
    dial(world, caller, "sip:bob@acme.test", (HeaderName::Require, "100rel"), true)
}

fn supports(world: &mut World, caller: usize) -> Request {
    dial(world, caller, "sip:bob@acme.test", (HeaderName::Supported, "100rel"), true)
}

/// What a callee says before it answers; reliably, with a number.
fn say(world: &mut World, phone: usize, rung: &Rung, status: u16, rseq: u32, body: &str) {
    let status = StatusCode::new(status).unwrap();
    let mut response = Response::for_request(&rung.1, status).with_to_tag(&format!("tag-{phone}"));
    response.headers.push(HeaderName::Contact, world.phones[phone].contact());
    if rseq > 0 {
        response.headers.push(HeaderName::Require, "100rel");
        response.headers.push(HeaderName::RSeq, rseq.to_string());
    }
    if !body.is_empty() {
        response.set_body("application/sdp", body.to_owned());
    }
    world.respond(phone, rung.0, response);
}

/// The provisional responses that a caller has heard and not looked at, but 100.
fn heard(world: &mut World, caller: usize) -> Vec<Response> {
    let all = std::mem::take(&mut world.phones[caller].responses);
    let (provisional, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|it| it.1.status.is_provisional());
    world.phones[caller].responses = rest;
    let provisional = provisional.into_iter().map(|it| it.1);
    provisional.filter(|it| it.status != StatusCode::TRYING).collect()
}

fn one(world: &mut World, caller: usize) -> Response {
    let mut heard = heard(world, caller);
    assert_eq!(heard.len(), 1, "one provisional response");
    heard.remove(0)
}

fn prack_for(invite: &Request, said: &Response) -> Request {
    let rack = RAck { rseq: said.rseq().unwrap().unwrap(), cseq: said.cseq().unwrap() };
    let mut dialog = Dialog::uac(invite, said).unwrap();
    dialog.request(Method::Prack).with_header(HeaderName::RAck, rack.to_string())
}

fn acknowledge(world: &mut World, caller: usize, invite: &Request, said: &Response) -> ClientKey {
    let key = world.send_request(caller, prack_for(invite, said));
    world.settle();
    key
}

/// What came of a PRACK.
fn outcome(world: &mut World, caller: usize, prack: ClientKey) -> u16 {
    let responses = &mut world.phones[caller].responses;
    let at = responses.iter().position(|it| it.0 == prack).expect("an answer to the PRACK");
    responses.remove(at).1.status.code()
}

/// The callee takes its PRACK and answers it; which response it is for.
fn takes_prack(world: &mut World, phone: usize) -> RAck {
    let (key, prack) = world.phones[phone].take(Method::Prack).expect("a PRACK");
    let rack = prack.rack().unwrap();
    let response = Response::for_request(&prack, StatusCode::OK);
    world.respond(phone, key, response);
    rack
}

fn up(seed: u8) -> (World, usize, usize) {
    let mut world = World::ie1(seed);
    let [alice, bob] = world.registered(["alice", "bob"]);
    (world, alice, bob)
}

fn rung(world: &mut World, phone: usize) -> Rung {
    world.phones[phone].take(Method::Invite).expect("an INVITE")
}

fn plain(world: &World, phone: usize) -> String {
    sdp(&world.phones[phone].address.ip().to_string(), 4000, "")
}

fn hang_up(world: &mut World, mut a: Leg) {
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_caller_that_requires_it_gets_everything_reliably_from_a_callee_without_it() {
    let (mut world, alice, bob) = up(1);
    let invite = requires(&mut world, alice);
    let b = rung(&mut world, bob);
    assert!(b.1.headers.supports("100rel") && !b.1.headers.requires("100rel"));
    say(&mut world, bob, &b, 180, 0, "");
    let ringing = one(&mut world, alice);
    assert!(ringing.status == StatusCode::RINGING && ringing.headers.requires("100rel"));
    let rseq = ringing.rseq().unwrap().unwrap();
    // Again until it is acknowledged, and nothing else before.
    world.wait(4);
    let again = heard(&mut world, alice);
    assert!(again.len() == 3 && again.iter().all(|it| it.rseq() == Ok(Some(rseq))));
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 0, &body);
    assert!(heard(&mut world, alice).is_empty());
    let prack = acknowledge(&mut world, alice, &invite, &ringing);
    assert_eq!(outcome(&mut world, alice, prack), 200);
    let progress = one(&mut world, alice);
    assert_eq!(
        (progress.status, progress.rseq()),
        (StatusCode::SESSION_PROGRESS, Ok(Some(rseq + 1)))
    );
    assert!(text(&progress.body).contains("m=audio"));
    let prack = acknowledge(&mut world, alice, &invite, &progress);
    assert_eq!(outcome(&mut world, alice, prack), 200);
    world.wait(5);
    assert!(heard(&mut world, alice).is_empty());
    assert!(world.phones[bob].take(Method::Prack).is_none(), "it is nothing to bob");

    world.answer(bob, &b, &body);
    let answered = world.phones[alice].responses.last().unwrap().1.clone();
    assert!(answered.body.is_empty(), "the answer was in the 183");
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

#[test]
fn a_callee_that_wants_it_is_acknowledged_in_order_for_a_caller_without_it() {
    let (mut world, alice, bob) = up(2);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 5, &body);
    assert_eq!(takes_prack(&mut world, bob).to_string(), format!("5 {}", b.1.cseq().unwrap()));
    let progress = one(&mut world, alice);
    assert!(!progress.headers.requires("100rel") && progress.rseq() == Ok(None));
    assert!(text(&progress.body).contains("m=audio"));
    // The same again, and one too early.
    for rseq in [5, 7] {
        say(&mut world, bob, &b, 180, rseq, "");
        assert!(world.phones[bob].take(Method::Prack).is_none(), "{rseq}");
    }
    assert!(heard(&mut world, alice).is_empty());
    say(&mut world, bob, &b, 180, 6, "");
    assert_eq!(takes_prack(&mut world, bob).rseq, 6);
    assert_eq!(world.proxies[0].core.counters().pracks_sent, 2);
    // Its answer stands; and its next request has the next number.
    let mut leg = world.answer(bob, &b, "");
    let answered = world.phones[alice].responses.last().unwrap().1.clone();
    assert!(text(&answered.body).contains("m=audio"));
    let mut a = world.confirm(alice, &invite, None);
    assert!(world.proxies[0].relay.session().joined.is_some());
    world.within(&mut a, Method::Info, Some("press"));
    let (_, info) = world.phones[bob].take(Method::Info).expect("an INFO");
    assert_eq!(info.cseq().unwrap().number, b.1.cseq().unwrap().number + 3);
    world.hang_up(&mut leg);
    world.assert_at_rest();
}

#[test]
fn an_answer_waits_until_the_one_before_is_acknowledged() {
    let (mut world, alice, bob) = up(3);
    let invite = supports(&mut world, alice);
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    // Ringing alone need not be reliable.
    say(&mut world, bob, &b, 180, 0, "");
    assert!(!one(&mut world, alice).headers.requires("100rel"));
    say(&mut world, bob, &b, 183, 1, &body);
    takes_prack(&mut world, bob);
    let progress = one(&mut world, alice);
    assert!(progress.headers.requires("100rel"));
    world.answer(bob, &b, &body);
    assert!(world.phones[bob].take_ack().is_some());
    assert!(world.phones[alice].take_final().is_none(), "not before the PRACK");
    assert!(!world.proxies[0].ledger.last().answered);
    let prack = acknowledge(&mut world, alice, &invite, &progress);
    assert_eq!(outcome(&mut world, alice, prack), 200);
    let a = world.confirm(alice, &invite, None);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    hang_up(&mut world, a);
}

#[test]
fn a_callee_that_answers_otherwise_than_before_is_told_on() {
    let (mut world, alice, bob) = up(4);
    let invite = supports(&mut world, alice);
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 0, &body);
    let progress = one(&mut world, alice);
    acknowledge(&mut world, alice, &invite, &progress);
    world.phones[alice].responses.clear();
    world.answer(bob, &b, &body.replace("0 8 101", "8"));
    let a = world.confirm(alice, &invite, None);
    let asked = world.answer_within(&a, Method::Invite, 491, None);
    assert!(text(&asked.body).contains("RTP/AVP 8 0 9 "), "{}", text(&asked.body));
    hang_up(&mut world, a);
}

#[test]
fn a_caller_that_acknowledges_nothing_gets_504() {
    for answers in [false, true] {
        let (mut world, alice, bob) = up(5);
        supports(&mut world, alice);
        let b = rung(&mut world, bob);
        let body = plain(&world, bob);
        say(&mut world, bob, &b, 183, 0, &body);
        if answers {
            world.answer(bob, &b, &body);
        }
        world.wait(31);
        assert_eq!(heard(&mut world, alice).len(), 6, "sent again five times");
        assert!(world.phones[alice].take_final().is_none());
        world.wait(2);
        let refused = world.phones[alice].take_final().unwrap();
        assert_eq!(refused.status, StatusCode::SERVER_TIMEOUT);
        match answers {
            true => assert!(world.phones[bob].take(Method::Bye).is_some()),
            false => assert_eq!(world.phones[bob].others, ["cancelled"]),
        }
        let last = world.proxies[0].ledger.last();
        assert_eq!((last.cause, last.status), ("signalling_lost", 504));
        world.assert_at_rest();
    }
}

#[test]
fn only_its_caller_acknowledges_and_only_what_was_sent() {
    let (mut world, alice, bob) = up(6);
    let mallory = world.phone("mallory", 66);
    let invite = requires(&mut world, alice);
    let b = rung(&mut world, bob);
    say(&mut world, bob, &b, 180, 0, "");
    let ringing = one(&mut world, alice);
    // From elsewhere it would have to be proven.
    let prack = acknowledge(&mut world, mallory, &invite, &ringing);
    assert_eq!(outcome(&mut world, mallory, prack), 407);
    let mut other = prack_for(&invite, &ringing);
    other.headers.set(HeaderName::RAck, "1 1 INVITE");
    let prack = world.send_request(alice, other);
    world.settle();
    assert_eq!(outcome(&mut world, alice, prack), 481);
    let mut unreadable = prack_for(&invite, &ringing);
    unreadable.headers.remove_all(&HeaderName::RAck);
    let prack = world.send_request(alice, unreadable);
    world.settle();
    assert_eq!(outcome(&mut world, alice, prack), 400);
    // None of them has stopped it.
    world.wait(1);
    assert!(!heard(&mut world, alice).is_empty());
    for expected in [200, 481] {
        let prack = acknowledge(&mut world, alice, &invite, &ringing);
        assert_eq!(outcome(&mut world, alice, prack), expected);
    }
    assert_eq!(world.proxies[0].core.counters().pracks_unmatched, 2);
    let body = plain(&world, bob);
    world.answer(bob, &b, &body);
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

#[test]
fn an_offer_in_a_prack_is_answered_and_the_callee_told_when_the_call_is_up() {
    let (mut world, alice, bob) = up(7);
    let invite = supports(&mut world, alice);
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 0, &body);
    let progress = one(&mut world, alice);
    // She moves her media, and will only speak.
    let offer = sdp("10.1.0.1", 4400, "a=sendonly\r\n");
    let prack = prack_for(&invite, &progress).with_body("application/sdp", offer);
    let prack = world.send_request(alice, prack);
    world.settle();
    let responses = &mut world.phones[alice].responses;
    let at = responses.iter().position(|it| it.0 == prack).expect("an answer to the PRACK");
    let answer = responses.remove(at).1;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(text(&answer.body).contains("a=recvonly"), "{}", text(&answer.body));
    let remotes = &world.proxies[0].relay.session().remotes;
    assert!(remotes.values().any(|it| it.rtp.to_string() == "10.1.0.1:4400"), "the relay knows");
    let held = plain(&world, bob);
    let b = world.answer(bob, &b, &held);
    let told = world.phones[alice].responses.iter().find(|it| it.1.status == StatusCode::OK);
    assert!(told.expect("200").1.body.is_empty(), "it has its answer");
    let a = world.confirm(alice, &invite, None);
    world.phones[bob].take_ack();
    let heard = world.answer_within(
        &b,
        Method::Invite,
        200,
        Some(&held.replace("a=ptime:20", "a=recvonly")),
    );
    assert!(text(&heard.body).contains("a=sendonly"), "{}", text(&heard.body));
    hang_up(&mut world, a);
}

#[test]
fn an_offer_in_a_prack_that_the_session_cannot_serve_is_refused() {
    let (mut world, alice, bob) = up(17);
    let invite = supports(&mut world, alice);
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 0, &body);
    let progress = one(&mut world, alice);
    let offer = sdp("10.1.0.1", 4400, "").replace("RTP/AVP", "UDP/TLS/RTP/SAVP");
    let prack = prack_for(&invite, &progress).with_body("application/sdp", offer);
    let prack = world.send_request(alice, prack);
    world.settle();
    assert_eq!(outcome(&mut world, alice, prack), 488);
    // It is acknowledged all the same, and the call goes on.
    world.wait(10);
    assert!(heard(&mut world, alice).is_empty());
    world.answer(bob, &b, &body);
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

/// RFC 3262 §5: the offer comes in the first reliable response, the answer in its
/// PRACK.
#[test]
fn a_caller_without_an_offer_gets_one_before_the_answer_and_hears_the_callee() {
    for option in [(HeaderName::Require, "100rel"), (HeaderName::Supported, "100rel")] {
        let (mut world, alice, bob) = up(8);
        let invite = dial(&mut world, alice, "sip:bob@acme.test", option.clone(), false);
        let b = rung(&mut world, bob);
        let body = plain(&world, bob);
        say(&mut world, bob, &b, 183, 0, &body);
        let progress = one(&mut world, alice);
        assert!(progress.headers.requires("100rel"));
        assert!(text(&progress.body).contains("m=audio"), "{}", text(&progress.body));
        assert!(world.proxies[0].relay.session().joined.is_none(), "nobody is heard yet");
        let answer = sdp("10.1.0.1", 4000, "");
        let prack = prack_for(&invite, &progress).with_body("application/sdp", answer);
        let prack = world.send_request(alice, prack);
        world.settle();
        assert_eq!(outcome(&mut world, alice, prack), 200);
        assert!(world.proxies[0].relay.session().joined.is_some(), "she hears bob's phone");
        world.answer(bob, &b, &body);
        let told = world.phones[alice].responses.iter().find(|it| it.1.status == StatusCode::OK);
        assert!(told.expect("200").1.body.is_empty(), "all is said");
        let a = world.confirm(alice, &invite, None);
        assert_eq!(world.proxies[0].relay.session().remotes.len(), 2);
        hang_up(&mut world, a);
    }
}

/// The callee only rings, and answers before the PRACK is there.
#[test]
fn the_answer_waits_for_the_caller_s_word_on_our_offer() {
    let (mut world, alice, bob) = up(18);
    let required = (HeaderName::Require, "100rel");
    let invite = dial(&mut world, alice, "sip:bob@acme.test", required, false);
    let b = rung(&mut world, bob);
    say(&mut world, bob, &b, 180, 0, "");
    let ringing = one(&mut world, alice);
    assert!(text(&ringing.body).contains("m=audio"));
    let body = plain(&world, bob);
    world.answer(bob, &b, &body);
    assert!(world.phones[alice].statuses().iter().all(|it| *it != 200), "not before the PRACK");
    let answer = sdp("10.1.0.1", 4000, "");
    let prack = prack_for(&invite, &ringing).with_body("application/sdp", answer);
    let prack = world.send_request(alice, prack);
    world.settle();
    assert_eq!(outcome(&mut world, alice, prack), 200);
    assert!(world.proxies[0].relay.session().joined.is_some());
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

#[test]
fn a_prack_that_leaves_our_offer_unanswered_ends_the_call() {
    let (mut world, alice, bob) = up(19);
    let required = (HeaderName::Require, "100rel");
    let invite = dial(&mut world, alice, "sip:bob@acme.test", required, false);
    let b = rung(&mut world, bob);
    say(&mut world, bob, &b, 180, 0, "");
    let ringing = one(&mut world, alice);
    let prack = acknowledge(&mut world, alice, &invite, &ringing);
    assert_eq!(outcome(&mut world, alice, prack), 488);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
    world.assert_at_rest();
}

#[test]
fn of_two_phones_one_is_heard_early_and_the_other_answers() {
    let (mut world, alice, first) = up(9);
    let second = world.phone("bob", 3);
    world.register(second);
    let invite = supports(&mut world, alice);
    let (b, c) = (rung(&mut world, first), rung(&mut world, second));
    let bodies = [plain(&world, first), plain(&world, second)];
    say(&mut world, first, &b, 183, 1, &bodies[0]);
    say(&mut world, second, &c, 183, 9, &bodies[1]);
    assert_eq!(takes_prack(&mut world, first).rseq, 1);
    assert_eq!(takes_prack(&mut world, second).rseq, 9);
    let progress = one(&mut world, alice);
    // The second said it all before.
    world.answer(second, &c, "");
    assert!(world.phones[alice].take_final().is_none());
    // Alice acknowledges in the dialog that she knows, and hears of another.
    let prack = acknowledge(&mut world, alice, &invite, &progress);
    assert_eq!(outcome(&mut world, alice, prack), 200);
    let answered = world.phones[alice].responses.last().unwrap().1.clone();
    assert_ne!(answered.to().unwrap().tag(), progress.to().unwrap().tag());
    assert!(text(&answered.body).contains("m=audio"));
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

#[test]
fn a_call_that_is_given_up_leaves_nothing_to_acknowledge() {
    let (mut world, alice, bob) = up(10);
    let invite = requires(&mut world, alice);
    let b = rung(&mut world, bob);
    say(&mut world, bob, &b, 180, 0, "");
    let ringing = one(&mut world, alice);
    say(&mut world, bob, &b, 486, 0, "");
    let refused = world.phones[alice].take_final().unwrap();
    assert_eq!(refused.status.code(), 486);
    world.wait(20);
    assert!(heard(&mut world, alice).is_empty());
    let prack = acknowledge(&mut world, alice, &invite, &ringing);
    assert_eq!(outcome(&mut world, alice, prack), 481);
    world.assert_at_rest();
}

#[test]
fn an_early_dialog_of_a_callee_takes_its_requests() {
    let (mut world, alice, bob) = up(11);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let b = rung(&mut world, bob);
    let body = plain(&world, bob);
    say(&mut world, bob, &b, 183, 1, &body);
    takes_prack(&mut world, bob);
    let contact = world.phones[bob].contact();
    let dialog = Dialog::uas(&b.1, &format!("tag-{bob}"), contact).unwrap();
    let mut leg = Leg { phone: bob, dialog, invite: b.1.clone() };
    world.within(&mut leg, Method::Update, Some(&body));
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 491, "not now");
    world.within(&mut leg, Method::Update, None);
    assert_eq!(world.phones[bob].take_final().unwrap().status.code(), 200);
    heard(&mut world, alice);
    world.answer(bob, &b, &body);
    let a = world.confirm(alice, &invite, None);
    hang_up(&mut world, a);
}

#[test]
fn it_gets_through_the_edge_of_another_region_both_ways() {
    let mut world = World::new(12);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, tenants::globex(), |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 2, 1, Transport::Udp);
    world.register(bob);
    for (caller, callee, to) in [(alice, bob, "bob"), (bob, alice, "alice")] {
        let required = (HeaderName::Require, "100rel");
        let to = format!("sip:{to}@acme.test");
        let invite = dial(&mut world, caller, &to, required, true);
        let b = rung(&mut world, callee);
        let body = plain(&world, callee);
        // Its Record-Route is the way that the PRACK goes.
        let routes: Vec<_> = b.1.headers.all(&HeaderName::RecordRoute).cloned().collect();
        let mut said = Response::for_request(&b.1, StatusCode::SESSION_PROGRESS)
            .with_to_tag(&format!("tag-{callee}"));
        assert_eq!(said.headers.all(&HeaderName::RecordRoute).count(), routes.len());
        said.headers.push(HeaderName::Contact, world.phones[callee].contact());
        said.headers.push(HeaderName::Require, "100rel");
        said.headers.push(HeaderName::RSeq, "17");
        said.set_body("application/sdp", body.clone());
        world.respond(callee, b.0, said);
        assert_eq!(takes_prack(&mut world, callee).rseq, 17);
        let progress = one(&mut world, caller);
        let prack = acknowledge(&mut world, caller, &invite, &progress);
        assert_eq!(outcome(&mut world, caller, prack), 200);
        world.answer(callee, &b, &body);
        let mut a = world.confirm(caller, &invite, None);
        world.hang_up(&mut a);
        world.settle();
    }
    let crossed = world.crossed.iter().filter(|it| it.starts_with("PRACK "));
    assert!(crossed.count() >= 2);
    world.assert_at_rest();
}

#[test]
fn between_the_home_regions_of_two_accounts_it_is_reliable_too() {
    let mut world = World::new(13);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    let open = tenants::with_account(tenants::globex(), |it| it.calls_from = CallsFrom::Any);
    world.add_proxy("us1", 2, open, |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let erin = world.phone_at("erin", "globex.test", 11, 1, Transport::Udp);
    world.register(erin);
    let (_, invite) = world.dial(alice, "sip:erin@globex.test");
    let b = rung(&mut world, erin);
    let body = plain(&world, erin);
    say(&mut world, erin, &b, 183, 0, &body);
    assert!(text(&one(&mut world, alice).body).contains("m=audio"));
    assert!(world.crossed.iter().any(|it| it.starts_with("PRACK ")));
    world.answer(erin, &b, &body);
    let mut a = world.confirm(alice, &invite, None);
    for proxy in &world.proxies {
        assert!(proxy.relay.session().joined.is_some());
        assert_eq!(proxy.core.live().count(), 1);
    }
    world.hang_up(&mut a);
    world.assert_at_rest();
}
