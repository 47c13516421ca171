//! Transfers, blind and attended: who talks to whom after them, what each of
//! the three is told, and what the records say.

mod world;

use landline_call::Input;
use landline_call::record::{LegRole, Party, Step};
use landline_call::tenancy::{CallsFrom, Tenancy};
use landline_control::{
    Direction, Event, FromRelay, KeyAndSalt, KeyPair, LegId, LegKeys, Op, Protocol, RelayId,
    SrtpSuite,
};
use landline_region::{CallSid, TrunkSid, UserSid};
use landline_sip::{HeaderName, Method, Request, Response, StatusCode};
use world::phone::{Leg, sdp, text};
use world::tenants::{acme, globex};
use world::{World, up_recorded};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

/// Alice and bob talk, carol is there; by whom alice was called, or whom she
/// called, is for the test.
fn three(seed: u8) -> (World, Leg, Leg) {
    let mut world = World::ie1(seed);
    let [alice, bob, _] = world.registered(["alice", "bob", "carol"]);
    let (a, b) = world.call(alice, bob, "sip:bob@acme.test");
    (world, a, b)
}

fn description(phone: usize) -> String {
    sdp(&format!("10.1.0.{}", phone + 1), 4000, "")
}

fn refer_request(leg: &mut Leg, to: &str) -> Request {
    let mut request = leg.dialog.request(Method::Refer);
    request.headers.push(HeaderName::ReferTo, to);
    request
}

fn send(world: &mut World, leg: &Leg, request: Request) -> Response {
    world.phones[leg.phone].responses.clear();
    world.send_request(leg.phone, request);
    world.settle();
    world.phones[leg.phone].take_final().expect("an answer")
}

fn refer(world: &mut World, leg: &mut Leg, to: &str) -> Response {
    let request = refer_request(leg, to);
    send(world, leg, request)
}

/// The next report: its state, and the status line in it.
fn report(world: &mut World, leg: &Leg) -> (String, String) {
    let notify = world.answer_within(leg, Method::Notify, 200, None);
    let said = |name: HeaderName| notify.headers.get(&name).unwrap().to_str_lossy().into_owned();
    assert!(said(HeaderName::Event).starts_with("refer;id="), "{}", said(HeaderName::Event));
    assert_eq!(said(HeaderName::ContentType), "message/sipfrag;version=2.0");
    let state = said(HeaderName::SubscriptionState);
    let state = state.split(';').next().unwrap().to_owned();
    (state, text(&notify.body).trim_end().to_owned())
}

fn told(state: &str, status: &str) -> (String, String) {
    (state.to_owned(), format!("SIP/2.0 {status}"))
}

/// Carol's phone says so, and rings on.
fn rings(world: &mut World) {
    let at = world.phones[CAROL].requests.len();
    let invite = world.phones[CAROL].requests[at - 1].clone();
    world.say(CAROL, &(invite.0.unwrap(), invite.2), 180);
}

/// The guest takes the offer that brings it to the target.
fn goes_over(world: &mut World, leg: &Leg) -> Request {
    let offer = world.answer_within(leg, Method::Invite, 200, Some(&description(leg.phone)));
    assert!(world.phones[leg.phone].take_ack().is_some(), "the guest's ACK");
    offer
}

fn user(sid: u128) -> Party {
    Party::User(UserSid::from_u128(sid))
}

/// To whom each side of the relay's one session sends.
fn joined(world: &World) -> Vec<String> {
    let relay = &world.proxies[0].relay;
    assert_eq!(relay.sessions(), 1, "of one call");
    let session = relay.session();
    assert!(session.joined.is_some());
    let mut remotes: Vec<_> = session.remotes.values().map(|it| it.rtp.to_string()).collect();
    remotes.sort();
    remotes
}

#[test]
fn a_blind_transfer_joins_the_other_party_with_the_target() {
    for by in [ALICE, BOB] {
        let (mut world, a, b) = three(1);
        let (mut by, guest) = if by == ALICE { (a, b) } else { (b, a) };
        let accepted = refer(&mut world, &mut by, "<sip:carol@acme.test>");
        assert_eq!(accepted.status, StatusCode::ACCEPTED);
        assert!(accepted.headers.contains(&HeaderName::Contact));
        assert_eq!(report(&mut world, &by), told("active", "100 Trying"));

        // The target sees who is going to talk, and by whom it was sent.
        let rung = world.phones[CAROL].take(Method::Invite).expect("carol rings");
        let user = |leg: &Leg| world.phones[leg.phone].user.clone();
        let from = rung.1.from().unwrap().uri.to_string();
        assert_eq!(from, format!("sip:{}@acme.test", user(&guest)));
        let referred_by = rung.1.headers.get(&HeaderName::ReferredBy).unwrap().to_str_lossy();
        assert_eq!(referred_by, format!("<sip:{}@acme.test>", user(&by)));
        world.say(CAROL, &rung, 180);
        assert!(world.phones[guest.phone].requests.is_empty(), "nobody disturbs the guest");
        assert_eq!(world.proxies[0].relay.sessions(), 2, "the first call's media go on");

        let mut c = world.answer(CAROL, &rung, &description(CAROL));
        assert!(world.phones[CAROL].take_ack().is_some());
        let offer = goes_over(&mut world, &guest);
        assert!(text(&offer.body).contains("PCMU"));
        assert_eq!(report(&mut world, &by), told("terminated", "200 OK"));
        world.hang_up(&mut by);

        let mut expected = [guest.phone, CAROL].map(|it| format!("10.1.0.{}:4000", it + 1));
        expected.sort();
        assert_eq!(joined(&world), expected);
        assert!(world.phones[guest.phone].requests.is_empty(), "the guest stays");
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);

        world.hang_up(&mut c);
        assert!(world.phones[guest.phone].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "callee_hung_up"]);
        assert_eq!(world.proxies[0].core.counters().transfers, 1);
        world.assert_at_rest();
    }
}

#[test]
fn the_new_call_has_a_record_of_its_own_in_the_name_of_who_transfers() {
    let (mut world, mut a, b) = three(2);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    world.pick_up(CAROL);
    goes_over(&mut world, &b);
    let ledger = &world.proxies[0].ledger;
    let [first, second] = ledger.calls().try_into().unwrap();
    assert_eq!(
        world.proxies[0].ledger.parties(first),
        [(LegRole::A, user(1)), (LegRole::B, user(2))]
    );
    let mut legs = world.proxies[0].ledger.parties(second);
    legs.sort_by_key(|it| it.0 == LegRole::B);
    assert_eq!(legs, [(LegRole::A, user(2)), (LegRole::B, user(3))]);
    let opened = ledger.opened(second);
    assert_eq!((opened.from.expose().as_str(), opened.to.expose().as_str()), ("alice", "carol"));
    assert!(ledger.last().answered);
    // Who asked does not hang up: it is done for him.
    world.wait(3);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
    let mut b = b;
    // The BYE of the guest goes on from the dialog that it always had.
    world.hang_up(&mut b);
    assert!(world.phones[CAROL].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_hung_up"]);
    world.assert_at_rest();
}

#[test]
fn a_target_that_fails_leaves_the_call_as_it_was() {
    for (status, said) in [(486, "486 Busy Here"), (603, "603 Decline"), (404, "404 Not Found")] {
        let (mut world, mut a, mut b) = three(3);
        refer(&mut world, &mut a, "<sip:carol@acme.test>");
        report(&mut world, &a);
        let rung = world.phones[CAROL].take(Method::Invite).unwrap();
        world.say(CAROL, &rung, status);
        assert_eq!(report(&mut world, &a), told("terminated", said));
        assert!(world.phones[BOB].requests.is_empty());
        assert_eq!(joined(&world), ["10.1.0.1:4000", "10.1.0.2:4000"]);
        // And may be tried again, and changed.
        refer(&mut world, &mut a, "<sip:carol@acme.test>");
        report(&mut world, &a);
        let rung = world.phones[CAROL].take(Method::Invite).unwrap();
        world.say(CAROL, &rung, 480);
        report(&mut world, &a);
        world.within(&mut b, Method::Update, Some(&description(BOB).replace("4000", "4400")));
        assert_eq!(world.phones[BOB].take_final().unwrap().status, StatusCode::OK);
        world.hang_up(&mut b);
        assert!(world.phones[ALICE].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.causes()[0], "callee_hung_up");
        assert_eq!(world.proxies[0].core.counters().transfers_failed, 2);
        world.assert_at_rest();
    }
}

#[test]
fn what_the_user_may_not_call_he_may_not_transfer_to() {
    let targets = [
        ("<sip:nobody@acme.test>", "404 Not Found"),
        ("<tel:+4930123456>", "404 Not Found"),
        ("<sip:mallory@evil.example>", "404 Not Found"),
        ("<sip:dave@acme.test>", "480 Temporarily Unavailable"),
    ];
    for (to, said) in targets {
        let mut tenancy = acme();
        std::sync::Arc::make_mut(&mut tenancy.trunks[0]).prefixes = vec!["+1".into()];
        let mut world = World::new(4);
        world.add_proxy("ie1", 1, tenancy, |_| {});
        let [alice, bob] = world.registered(["alice", "bob"]);
        let (mut a, mut b) = world.call(alice, bob, "sip:bob@acme.test");
        assert_eq!(refer(&mut world, &mut a, to).status, StatusCode::ACCEPTED);
        assert_eq!(report(&mut world, &a), told("active", "100 Trying"), "{to}");
        assert_eq!(report(&mut world, &a), told("terminated", said), "{to}");
        assert_eq!(world.proxies[0].ledger.calls().len(), 2, "the attempt is on record");
        assert_eq!(joined(&world), ["10.1.0.1:4000", "10.1.0.2:4000"]);
        world.hang_up(&mut b);
        world.assert_at_rest();
    }
}

#[test]
fn a_transferred_call_out_of_the_account_pays_and_shows_as_the_user() {
    let mut tenancy = acme();
    std::sync::Arc::make_mut(&mut tenancy.trunks[0]).prefixes = vec!["+49".into()];
    let mut world = World::new(5);
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let [alice, bob] = world.registered(["alice", "bob"]);
    let carrier = world.station(
        "carrier",
        "carrier.test",
        "10.9.0.1:5060".parse().unwrap(),
        0,
        landline_sip::Transport::Udp,
    );
    let (mut a, b) = world.call(alice, bob, "sip:bob@acme.test");
    refer(&mut world, &mut a, "<tel:+49-30-123456>");
    let rung = world.phones[carrier].take(Method::Invite).expect("the carrier is called");
    assert_eq!(rung.1.from().unwrap().uri.user_decoded().unwrap(), "+353100000001", "alice's");
    assert!(rung.1.headers.get(&HeaderName::ReferredBy).is_none());
    let mut c = world.answer(carrier, &rung, &sdp("10.9.0.1", 4000, ""));
    goes_over(&mut world, &b);
    let ledger = &world.proxies[0].ledger;
    let [_, second] = ledger.calls().try_into().unwrap();
    let opened = ledger.opened(second);
    assert_eq!(opened.direction.name(), "outbound");
    assert_eq!(opened.to.expose(), "+4930123456");
    assert!(
        world.proxies[0]
            .ledger
            .parties(second)
            .contains(&(LegRole::B, Party::Trunk(TrunkSid::from_u128(9))))
    );
    // A carrier transfers nobody's calls.
    let refused = refer(&mut world, &mut c, "<sip:alice@acme.test>");
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.headers.contains(&HeaderName::Warning));
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn a_refer_that_makes_no_sense_is_refused_with_its_fault_named() {
    let (mut world, mut a, b) = three(6);
    let mut none = refer_request(&mut a, "<sip:x@acme.test>");
    none.headers.remove_all(&HeaderName::ReferTo);
    let mut two = refer_request(&mut a, "<sip:carol@acme.test>");
    two.headers.push(HeaderName::ReferTo, "<sip:bob@acme.test>");
    let faults = [
        (none, "Refer-To is missing"),
        (two, "Refer-To"),
        (refer_request(&mut a, "<sip:alice@acme.test>"), "Refer-To is who sent it"),
        (refer_request(&mut a, "<sip:carol@acme.test;method=BYE>"), "another method"),
        (refer_request(&mut a, "<mailto:carol@acme.test>"), "who can be called"),
        (refer_request(&mut a, "<sip:acme.test>"), "who can be called"),
    ];
    for (request, fault) in faults {
        let response = send(&mut world, &a, request);
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{fault}");
        let warning = response.headers.get(&HeaderName::Warning);
        let warning = warning.unwrap_or(&response.reason).to_str_lossy();
        assert!(warning.contains(fault), "{warning}");
    }
    assert_eq!(world.proxies[0].ledger.calls().len(), 1);
    assert_eq!(world.proxies[0].core.counters().transfers_refused, 5);
    // Outside a call it refers nobody.
    let stray = world.phones[ALICE].request(Method::Refer, "sip:bob@acme.test");
    let refused = world.ask(ALICE, stray);
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.headers.contains(&HeaderName::Warning));
    let mut b = b;
    world.hang_up(&mut b);
    world.assert_at_rest();
}

#[test]
fn one_transfer_or_change_at_a_time() {
    let (mut world, mut a, mut b) = three(7);
    let hold = description(ALICE).replace("a=ptime:20", "a=sendonly");
    world.within(&mut a, Method::Invite, Some(&hold));
    // While bob is asked about the hold neither of them transfers.
    for leg in [&mut a, &mut b] {
        assert_eq!(refer(&mut world, leg, "<sip:carol@acme.test>").status.code(), 491);
    }
    let held = description(BOB).replace("a=ptime:20", "a=recvonly");
    world.answer_within(&b, Method::Invite, 200, Some(&held));
    let cseq = world.phones[ALICE].take_final().map(|it| it.cseq().unwrap().number);
    let cseq = cseq.unwrap_or_else(|| a.dialog.local_cseq() - 1);
    assert_eq!(refer(&mut world, &mut b, "<sip:carol@acme.test>").status.code(), 491, "no ACK yet");
    world.ack(&a, cseq, None);
    world.phones[BOB].take_ack();

    assert_eq!(refer(&mut world, &mut a, "<sip:carol@acme.test>").status.code(), 202);
    for leg in [&mut a, &mut b] {
        assert_eq!(refer(&mut world, leg, "<sip:carol@acme.test>").status.code(), 491);
    }
    // A party that was on hold is not any more when it is connected.
    let rung = world.phones[CAROL].take(Method::Invite).unwrap();
    assert!(!text(&rung.1.body).contains("a=recvonly"), "{}", text(&rung.1.body));
    let mut c = world.answer(CAROL, &rung, &description(CAROL));
    let offer = goes_over(&mut world, &b);
    assert!(text(&offer.body).contains("a=sendrecv"), "{}", text(&offer.body));
    let session = world.proxies[0].relay.session();
    for leg in [LegId(0), LegId(1)] {
        assert_eq!(session.remotes[&leg].direction, Direction::SendReceive);
    }
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn reports_are_left_out_where_nobody_wants_them() {
    let (mut world, mut a, b) = three(8);
    let mut request = refer_request(&mut a, "<sip:carol@acme.test>");
    request.headers.push(HeaderName::ReferSub, "false");
    request.headers.push(HeaderName::Require, "norefersub");
    let accepted = send(&mut world, &a, request);
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert_eq!(accepted.headers.get(&HeaderName::ReferSub).unwrap().to_str_lossy(), "false");
    let mut c = world.pick_up(CAROL);
    goes_over(&mut world, &b);
    assert!(world.phones[ALICE].take(Method::Notify).is_none());
    world.wait(3);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert!(world.phones[ALICE].take(Method::Notify).is_none());
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn who_transfers_need_not_wait_for_the_target() {
    // It answers.
    let (mut world, mut a, b) = three(9);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let rung = world.phones[CAROL].take(Method::Invite).unwrap();
    world.hang_up(&mut a);
    assert!(world.phones[BOB].requests.is_empty(), "bob waits");
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
    let mut c = world.answer(CAROL, &rung, &description(CAROL));
    goes_over(&mut world, &b);
    assert_eq!(joined(&world), ["10.1.0.2:4000", "10.1.0.3:4000"]);
    world.hang_up(&mut c);
    assert!(world.phones[BOB].take(Method::Bye).is_some());
    world.assert_at_rest();
    // It does not: nobody is left for bob to talk to.
    let (mut world, mut a, _b) = three(10);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let rung = world.phones[CAROL].take(Method::Invite).unwrap();
    world.hang_up(&mut a);
    world.say(CAROL, &rung, 486);
    assert!(world.phones[BOB].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "busy"]);
    world.assert_at_rest();
    // Bob does not wait.
    let (mut world, mut a, mut b) = three(11);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    rings(&mut world);
    world.hang_up(&mut a);
    world.hang_up(&mut b);
    assert_eq!(world.phones[CAROL].others, ["cancelled"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_cancelled"]);
    world.assert_at_rest();
}

#[test]
fn a_party_that_hangs_up_ends_the_transfer_with_the_call() {
    // While the target rings.
    let (mut world, mut a, mut b) = three(12);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    rings(&mut world);
    world.hang_up(&mut b);
    assert_eq!(world.phones[CAROL].others, ["cancelled"]);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["callee_hung_up", "caller_cancelled"]);
    world.assert_at_rest();
    // While it is asked over.
    let (mut world, mut a, mut b) = three(13);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    world.pick_up(CAROL);
    let asked = world.phones[BOB].take(Method::Invite).expect("bob is asked over");
    world.hang_up(&mut b);
    world.say(BOB, &asked, 487);
    assert!(world.phones[CAROL].take(Method::Bye).is_some());
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["callee_hung_up", "caller_cancelled"]);
    world.assert_at_rest();
}

#[test]
fn a_party_that_will_not_go_over_stays_where_it_is() {
    let (mut world, mut a, mut b) = three(14);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    report(&mut world, &a);
    world.pick_up(CAROL);
    world.answer_within(&b, Method::Invite, 488, None);
    assert_eq!(report(&mut world, &a), told("terminated", "488 Not Acceptable Here"));
    assert!(world.phones[CAROL].take(Method::Bye).is_some());
    assert_eq!(joined(&world), ["10.1.0.1:4000", "10.1.0.2:4000"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["open", "not_acceptable"]);
    world.hang_up(&mut b);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn a_collision_with_the_guest_is_waited_out() {
    let (mut world, mut a, b) = three(15);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let mut c = world.pick_up(CAROL);
    world.answer_within(&b, Method::Invite, 491, None);
    world.wait(5);
    goes_over(&mut world, &b);
    world.wait(3);
    assert_eq!(joined(&world).len(), 2);
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn a_target_that_hangs_up_at_once_sends_the_guest_back() {
    let (mut world, mut a, mut b) = three(16);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    report(&mut world, &a);
    let mut c = world.pick_up(CAROL);
    let asked = world.phones[BOB].take(Method::Invite).expect("bob is asked over");
    world.hang_up(&mut c);
    assert_eq!(report(&mut world, &a).0, "terminated");
    // Bob has taken it by then, and is brought back.
    let mut response = b.dialog.respond(&asked.1, StatusCode::OK);
    response.set_body("application/sdp", description(BOB));
    world.respond(BOB, asked.0, response);
    world.wait(1);
    goes_over(&mut world, &b);
    assert_eq!(joined(&world), ["10.1.0.1:4000", "10.1.0.2:4000"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["open", "callee_hung_up"]);
    world.hang_up(&mut b);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn a_recorded_call_goes_on_being_recorded() {
    let (mut world, mut a, b) = up_recorded(17);
    let [carol] = world.registered(["carol"]);
    assert_eq!(carol, CAROL);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let mut c = world.pick_up(CAROL);
    goes_over(&mut world, &b);
    world.wait(3);
    let session = world.proxies[0].relay.session();
    assert!(session.is_recording);
    let ledger = &world.proxies[0].ledger;
    let recordings: Vec<_> =
        ledger.calls().iter().map(|it| ledger.opened(*it).recording.unwrap().0).collect();
    assert_ne!(recordings[0], recordings[1], "each call has its own");
    assert_eq!(session.recording, Some(recordings[1]));
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn a_proxy_that_dies_before_the_target_answers_leaves_the_first_call() {
    let (mut world, mut a, mut b) = three(18);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    rings(&mut world);
    world.proxy_dies(0);
    world.wait(3);
    assert_eq!(world.proxies[0].ledger.causes(), ["open", "lost"]);
    world.within(&mut a, Method::Update, Some(&description(ALICE).replace("4000", "4400")));
    assert_eq!(world.phones[ALICE].take_final().unwrap().status, StatusCode::OK);
    world.hang_up(&mut b);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["callee_hung_up", "lost"]);
}

#[test]
fn a_proxy_that_dies_as_the_guest_is_asked_leaves_the_first_call() {
    let (mut world, mut a, mut b) = three(19);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    world.pick_up(CAROL);
    assert!(world.phones[BOB].take(Method::Invite).is_some(), "bob is asked over");
    world.proxy_dies(0);
    world.wait(3);
    assert_eq!(world.proxies[0].ledger.causes(), ["open", "lost"]);
    world.hang_up(&mut b);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["callee_hung_up", "lost"]);
}

#[test]
fn a_proxy_that_dies_with_both_calls_kept_goes_on_with_the_new_one() {
    let (mut world, mut a, b) = three(20);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let mut c = world.pick_up(CAROL);
    goes_over(&mut world, &b);
    // Alice has not hung up yet: both calls are on disk, with bob in each.
    assert_eq!(world.proxies[0].kept.len(), 2);
    world.proxy_dies(0);
    world.wait(3);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
    assert!(world.phones[ALICE].take(Method::Bye).is_some());
    assert!(world.phones[BOB].requests.iter().all(|it| it.2.method != Method::Bye));
    world.hang_up(&mut c);
    assert!(world.phones[BOB].take(Method::Bye).is_some(), "bob is in the new call");
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "callee_hung_up"]);
    world.assert_at_rest();
}

#[test]
fn a_transferred_call_outlives_its_proxy_and_may_be_transferred_again() {
    let (mut world, mut a, mut b) = three(21);
    let desk = world.phone("alice", 4);
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let mut c = world.pick_up(CAROL);
    goes_over(&mut world, &b);
    world.wait(3);
    world.proxy_dies(0);
    world.register(desk);
    let accepted = refer(&mut world, &mut c, "<sip:alice@acme.test>");
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    let invite = world.phones[desk].take(Method::Invite).expect("alice's other phone rings");
    assert_eq!(invite.1.from().unwrap().uri.user_decoded().unwrap(), "bob");
    world.answer(desk, &invite, &sdp("10.1.0.4", 4000, ""));
    goes_over(&mut world, &b);
    world.wait(3);
    assert_eq!(joined(&world), ["10.1.0.2:4000", "10.1.0.4:4000"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "transferred", "open"]);
    world.hang_up(&mut b);
    world.assert_at_rest();
}

/// Some phones take no new keys within a call: the guest's go with it.
#[test]
fn the_guests_keys_go_over_with_it() {
    let (mut world, mut a, b) = three(22);
    let session = world.proxies[0].relay.session_id();
    for leg in [0, 1] {
        let key = KeyAndSalt::new(vec![leg as u8; 30]);
        let suite = SrtpSuite::AesCm128HmacSha1_80;
        let pair = KeyPair { suite, send: key.clone(), receive: key };
        let sent = vec![7 + u32::from(leg)];
        let keys = LegKeys { protocol: Protocol::Sdes, rtp: Some(pair), rtcp: None, sent };
        let event = Event::Keyed(LegId(leg), Box::new(keys));
        let message = FromRelay::Event(session, event);
        world.input(0, Input::Relay { relay: RelayId("relay-1".into()), message });
    }
    refer(&mut world, &mut a, "<sip:carol@acme.test>");
    let resumed: Vec<_> =
        world.proxies[0].relay.resumed.iter().map(|(leg, keys)| (leg.0, &keys.sent)).collect();
    assert_eq!(resumed, [(0, &vec![8])], "bob's, and none of alice's");
    let mut c = world.pick_up(CAROL);
    goes_over(&mut world, &b);
    world.hang_up(&mut c);
    world.assert_at_rest();
}

/// Alice talks to bob, and by a second call to carol.
fn consulting(seed: u8) -> (World, [Leg; 2], Leg, Leg) {
    let (mut world, a, b) = three(seed);
    let (second, c) = world.call(ALICE, CAROL, "sip:carol@acme.test");
    (world, [a, second], b, c)
}

/// The dialog as its own party names it, in a Refer-To. Some phones name whom
/// they called, others the Contact that they were given.
fn replacing(to: &str, leg: &Leg) -> String {
    let id = leg.dialog.id();
    format!(
        "<{to}?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3D{}>",
        id.call_id.to_str_lossy().replace('@', "%40"),
        id.remote_tag.to_str_lossy(),
        id.local_tag.to_str_lossy(),
    )
}

#[test]
fn an_attended_transfer_joins_the_other_parties_of_two_calls() {
    for names_contact in [false, true] {
        attended(names_contact);
    }
}

fn attended(names_contact: bool) {
    let (mut world, [mut first, second], b, mut c) = consulting(23);
    let contact = second.dialog.remote_target().to_string();
    assert!(!contact.contains('@'), "{contact}");
    let to = if names_contact { &contact } else { "sip:carol@acme.test" };
    let to = replacing(to, &second);
    assert_eq!(refer(&mut world, &mut first, &to).status, StatusCode::ACCEPTED);
    assert_eq!(report(&mut world, &first), told("active", "100 Trying"));
    assert!(world.phones[CAROL].take(Method::Invite).is_none(), "one after the other");
    let offer = goes_over(&mut world, &b);
    assert!(text(&offer.body).contains("a=sendrecv"));
    goes_over(&mut world, &c);
    assert_eq!(report(&mut world, &first), told("terminated", "200 OK"));
    // Alice may talk on for a moment, and nobody hears her any more.
    let ops = &world.proxies[0].relay.ops;
    let removed = ops.iter().filter(|(_, op)| matches!(op, Op::Remove(_))).count();
    assert_eq!(removed, 2, "{ops:?}");
    world.wait(3);
    // Both of alice's dialogs are ended for her.
    for _ in 0..2 {
        assert!(world.phones[ALICE].take(Method::Bye).is_some());
    }
    assert_eq!(joined(&world), ["10.1.0.2:4000", "10.1.0.3:4000"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "transferred", "open"]);
    let ledger = &world.proxies[0].ledger;
    let third = ledger.calls()[2];
    assert_eq!(
        world.proxies[0].ledger.parties(third),
        [(LegRole::A, user(2)), (LegRole::B, user(3))]
    );
    let opened = ledger.opened(third);
    assert_eq!((opened.from.expose().as_str(), opened.to.expose().as_str()), ("alice", "carol"));
    assert!(ledger.last().answered);
    world.hang_up(&mut c);
    assert!(world.phones[BOB].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "transferred", "callee_hung_up"]);
    world.assert_at_rest();
}

#[test]
fn an_attended_transfer_that_one_party_refuses_leaves_both_calls() {
    for refuses in [BOB, CAROL] {
        let (mut world, [mut first, mut second], mut b, c) = consulting(24);
        refer(&mut world, &mut first, &replacing("sip:carol@acme.test", &second));
        report(&mut world, &first);
        if refuses == CAROL {
            goes_over(&mut world, &b);
        }
        let leg = if refuses == BOB { &b } else { &c };
        world.answer_within(leg, Method::Invite, 488, None);
        assert_eq!(report(&mut world, &first), told("terminated", "488 Not Acceptable Here"));
        if refuses == CAROL {
            // Bob had gone over, and comes back.
            goes_over(&mut world, &b);
        }
        assert_eq!(world.proxies[0].ledger.causes(), ["open", "open", "not_acceptable"]);
        world.hang_up(&mut second);
        assert!(world.phones[CAROL].take(Method::Bye).is_some());
        assert_eq!(joined(&world), ["10.1.0.1:4000", "10.1.0.2:4000"]);
        world.hang_up(&mut b);
        assert!(world.phones[ALICE].take(Method::Bye).is_some());
        world.assert_at_rest();
    }
}

#[test]
fn a_dialog_that_is_not_the_users_own_is_no_dialog() {
    let (mut world, [mut first, second], mut b, c) = consulting(25);
    let unknown = replacing("sip:carol@acme.test", &second).replace("from-tag%3D", "from-tag%3Dx");
    // Carol's own leg of the call is hers.
    for to in [unknown, replacing("sip:carol@acme.test", &c)] {
        assert_eq!(refer(&mut world, &mut first, &to).status, StatusCode::ACCEPTED);
        assert_eq!(report(&mut world, &first), told("active", "100 Trying"));
        let (state, said) = report(&mut world, &first);
        assert_eq!((state.as_str(), &said[..11]), ("terminated", "SIP/2.0 481"), "{said}");
    }
    let to = replacing("sip:bob@acme.test", &first);
    let itself = refer(&mut world, &mut first, &to);
    assert_eq!(itself.status, StatusCode::BAD_REQUEST);
    let broken = refer(&mut world, &mut first, "<sip:carol@acme.test?Replaces=nothing>");
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.proxies[0].relay.sessions(), 2, "both calls go on");
    world.hang_up(&mut b);
    let mut second = second;
    world.hang_up(&mut second);
    world.assert_at_rest();
}

#[test]
fn who_transfers_may_hang_up_both_calls_at_once() {
    let (mut world, [mut first, mut second], b, mut c) = consulting(26);
    refer(&mut world, &mut first, &replacing("sip:carol@acme.test", &second));
    world.hang_up(&mut second);
    world.hang_up(&mut first);
    goes_over(&mut world, &b);
    goes_over(&mut world, &c);
    assert_eq!(joined(&world), ["10.1.0.2:4000", "10.1.0.3:4000"]);
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "transferred", "open"]);
    world.hang_up(&mut c);
    assert!(world.phones[BOB].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn a_user_of_another_account_is_transferred_by_its_home_and_transfers_none_of_ours() {
    let mut world = World::new(27);
    let mut tenancy = acme();
    open_to_all(&mut tenancy);
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let mut tenancy = globex();
    open_to_all(&mut tenancy);
    world.add_proxy("us1", 2, tenancy, |_| {});
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let erin = world.phone_at("erin", "globex.test", 3, 1, landline_sip::Transport::Udp);
    world.register(erin);
    let (mut a, mut e) = world.call(alice, erin, "sip:erin@globex.test");
    world.wait(1);
    refer(&mut world, &mut a, "<sip:bob@acme.test>");
    world.pick_up(bob);
    // What changed of the codecs and addresses is for erin's home to say to her.
    world.wait(1);
    if world.phones[erin].requests.iter().any(|it| it.2.method == Method::Invite) {
        goes_over(&mut world, &e);
    }
    world.wait(3);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
    let calls = world.proxies[0].ledger.calls();
    let token = |call: CallSid| {
        let mut events = world.proxies[0].ledger.of(call);
        events.find_map(|it| match it.step {
            Step::Joined(token) => Some(token),
            _ => None,
        })
    };
    assert!(token(calls[0]).is_some() && token(calls[0]) == token(calls[1]));
    assert_eq!(world.crossed.iter().filter(|it| it.starts_with("REFER")).count(), 0);
    world.hang_up(&mut e);
    assert!(world.phones[bob].take(Method::Bye).is_some());
    world.assert_at_rest();
}

fn open_to_all(tenancy: &mut Tenancy) {
    for account in &mut tenancy.accounts {
        std::sync::Arc::make_mut(account).calls_from = CallsFrom::Any;
    }
}
