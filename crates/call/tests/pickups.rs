//! Calls that a colleague takes: by INVITE with Replaces (RFC 3891), or by a code
//! that is dialled (RFC 5359 §2.16).

mod world;

use std::sync::Arc;
use std::time::Duration;

use landline_call::record::{DivertReason, LegRole, Party, Step};
use landline_call::tenancy::{MediaPolicy, Tenancy};
use landline_call::{Input, Tenants};
use landline_control::{FromRelay, RelayId};
use landline_region::{CallSid, TrunkSid, UserSid};
use landline_sip::{Dialog, HeaderName, Method, Request, Response};
use world::parking::{ALICE, BOB, CAROL, LINES, description, goes_over, joined};
use world::phone::{Leg, sdp, text};
use world::tenants::{account, acme, user};
use world::{World, up_recorded};

fn there(seed: u8) -> World {
    let mut world = World::ie1(seed);
    world.registered(["alice", "bob", "carol"]);
    world
}

/// This phone's dialog, as its other side knows it.
fn name_of(leg: &Leg) -> String {
    let of = |party: &landline_sip::NameAddr| party.tag().unwrap().to_owned();
    let (ours, theirs) = (of(leg.dialog.remote()), of(leg.dialog.local()));
    format!("{};to-tag={ours};from-tag={theirs}", leg.dialog.call_id().to_str_lossy())
}

/// Of a phone that rings.
fn name_of_ringing(phone: usize, rung: &Request) -> String {
    let (call_id, from) = (rung.call_id().unwrap().to_str_lossy().into_owned(), rung.from());
    format!("{call_id};to-tag={};from-tag=tag-{phone}", from.unwrap().tag().unwrap())
}

fn replacing(world: &mut World, phone: usize, name: &str, body: Option<&str>) -> Request {
    let request = world.invite_request(phone, "sip:bob@acme.test", body);
    let request = request.with_header(HeaderName::Replaces, name);
    let request = request.with_header(HeaderName::Require, "replaces");
    world.invite_by(phone, request).1
}

/// What it is answered, finally.
fn refused(world: &mut World, phone: usize, name: &str) -> u16 {
    replacing(world, phone, name, Some(&description(phone)));
    let response = world.phones[phone].take_final().expect("an answer");
    assert!(response.headers.contains(&HeaderName::Warning), "{}", response.status);
    response.status.code()
}

/// Alice calls bob, whose phone rings.
fn rings(world: &mut World) -> (Request, (landline_sip::ServerKey, Request)) {
    let (_, invite) = world.dial(ALICE, "sip:bob@acme.test");
    let rung = world.phones[BOB].take(Method::Invite).expect("bob rings");
    world.say(BOB, &rung, 180);
    let flow = flow_of(world);
    world.phones[BOB].requests.push((Some(rung.0), flow, rung.1.clone()));
    (invite, rung)
}

fn flow_of(world: &World) -> landline_sip::Flow {
    let phone = &world.phones[BOB];
    landline_sip::Flow {
        id: landline_sip::FlowId(0),
        transport: phone.transport,
        local: phone.address,
        remote: phone.proxy,
        peer: None,
    }
}

fn taken(world: &World, call: CallSid) -> Vec<(UserSid, DivertReason)> {
    let events = world.proxies[0].ledger.of(call);
    let taken = events.filter_map(|it| match &it.step {
        Step::LegDiverted { by, reason, .. } => Some((*by, *reason)),
        _ => None,
    });
    taken.collect()
}

fn sid(user: u128) -> UserSid {
    UserSid::from_u128(user)
}

#[test]
fn a_colleague_takes_a_partys_place_by_naming_its_dialog() {
    for place_of in [ALICE, BOB] {
        let mut world = there(1);
        let (a, b) = world.call(ALICE, BOB, "sip:bob@acme.test");
        let (out, stays) = if place_of == ALICE { (a, b) } else { (b, a) };
        let invite = replacing(&mut world, CAROL, &name_of(&out), Some(&description(CAROL)));
        assert!(world.phones[out.phone].take(Method::Bye).is_none(), "nobody is hung up yet");
        let offer = goes_over(&mut world, &stays);
        assert!(offer.contains("a=sendrecv") && offer.contains("PCMU"), "{offer}");
        let mut c = world.confirm(CAROL, &invite, None);
        let bye = world.phones[out.phone].take(Method::Bye).expect("it makes room").1;
        let reason = bye.headers.get(&HeaderName::Reason).unwrap().to_str_lossy().into_owned();
        assert_eq!(reason, "SIP;cause=200;text=\"Call completed elsewhere\"");
        assert_eq!(joined(&world), [LINES[stays.phone], LINES[CAROL]]);

        let calls = world.proxies[0].ledger.calls();
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "open"]);
        let is = |phone: usize| Party::User(sid(phone as u128 + 1));
        let ends = [(LegRole::A, is(CAROL)), (LegRole::B, is(stays.phone))];
        assert_eq!(world.proxies[0].ledger.parties(calls[1]), ends);
        assert_eq!(taken(&world, calls[1]), [(sid(place_of as u128 + 1), DivertReason::Replaced)]);
        let opened = world.proxies[0].ledger.opened(calls[1]);
        let stayed = world.phones[stays.phone].user.clone();
        assert_eq!((opened.from.expose().as_str(), opened.to.expose()), ("carol", &stayed));

        // It is a call like any other: it outlives its proxy, and can be changed.
        world.proxy_dies(0);
        world.run(Duration::from_secs(2));
        let held = description(CAROL).replace("a=ptime:20", "a=sendonly");
        world.within(&mut c, Method::Invite, Some(&held));
        let heard =
            world.answer_within(&stays, Method::Invite, 200, Some(&description(stays.phone)));
        assert!(text(&heard.body).contains("a=sendonly"));
        world.phones[stays.phone].take_ack();
        let cseq = world.phones[CAROL].take_final().map(|it| it.cseq().unwrap().number);
        world.ack(&c, cseq.expect("200"), None);
        world.hang_up(&mut c);
        assert!(world.phones[stays.phone].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.causes(), ["transferred", "caller_hung_up"]);
        world.assert_at_rest_but_relay();
    }
}

#[test]
fn who_takes_a_place_without_an_offer_gets_one() {
    let (mut world, a, b) = up_recorded(2);
    let carol = world.registered(["carol"])[0];
    let invite = replacing(&mut world, carol, &name_of(&b), None);
    goes_over(&mut world, &a);
    let response = world.phones[carol].take_final().expect("200");
    assert!(text(&response.body).contains("m=audio"));
    let dialog = Dialog::uac(&invite, &response).unwrap();
    let mut c = Leg { phone: carol, dialog, invite: invite.clone() };
    world.ack(&c, invite.cseq().unwrap().number, Some(&description(carol)));
    world.wait(1);
    assert_eq!(joined(&world), [LINES[ALICE], LINES[CAROL]]);
    assert!(world.proxies[0].relay.session().is_recording, "as it was before");
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn a_party_that_will_not_come_over_leaves_the_call_as_it_is() {
    let mut world = there(3);
    let (mut a, b) = world.call(ALICE, BOB, "sip:bob@acme.test");
    replacing(&mut world, CAROL, &name_of(&b), Some(&description(CAROL)));
    world.answer_within(&a, Method::Invite, 488, None);
    assert_eq!(world.phones[CAROL].take_final().expect("an answer").status.code(), 488);
    assert!(world.phones[BOB].take(Method::Bye).is_none());
    assert_eq!(joined(&world), LINES[..2]);
    // And who takes it back, too.
    let request = world.invite_request(CAROL, "sip:bob@acme.test", Some(&description(CAROL)));
    let request = request.with_header(HeaderName::Replaces, name_of(&b));
    let (key, _) = world.invite_by(CAROL, request);
    world.run(Duration::from_millis(300));
    world.cancel(CAROL, key);
    assert_eq!(world.phones[CAROL].take_final().expect("an answer").status.code(), 487);
    world.hang_up(&mut a);
    assert_eq!(world.proxies[0].ledger.causes()[0], "caller_hung_up");
    world.assert_at_rest();
}

#[test]
fn what_cannot_be_replaced_is_refused_by_the_rfcs_status() {
    let mut world = World::new(4);
    world.add_proxy("ie1", 1, two_accounts(), |_| {});
    world.share_directory();
    world.registered(["alice", "bob", "carol"]);
    let eve = world.phone_at("eve", "evil.test", 4, 0, landline_sip::Transport::Udp);
    world.register(eve);
    let carrier = world.station(
        "carrier",
        "acme.test",
        "10.9.0.1:5060".parse().unwrap(),
        0,
        landline_sip::Transport::Udp,
    );

    // One that is not answered yet.
    let (invite, rung) = rings(&mut world);
    let tag = |response: &Response| response.to().unwrap().tag().unwrap().to_owned();
    let ringing = world.phones[ALICE].responses.iter().find(|it| it.1.status.code() == 180);
    let callers = format!(
        "{};to-tag={};from-tag={}",
        invite.call_id().unwrap().to_str_lossy(),
        tag(&ringing.unwrap().1),
        invite.from().unwrap().tag().unwrap()
    );
    assert_eq!(refused(&mut world, CAROL, &callers), 481, "a caller's own early dialog");
    let early = name_of_ringing(BOB, &rung.1);
    assert_eq!(refused(&mut world, eve, &early), 403, "another account's");
    world.phones[BOB].take(Method::Invite);
    let b = world.answer(BOB, &rung, &description(BOB));
    let mut a = world.confirm(ALICE, &invite, None);

    let up = name_of(&b);
    assert_eq!(refused(&mut world, CAROL, &format!("{up};early-only")), 486);
    assert_eq!(refused(&mut world, eve, &up), 403);
    assert_eq!(refused(&mut world, CAROL, &up.replace("to-tag=", "to-tag=0")), 481);
    assert_eq!(refused(&mut world, CAROL, &up.replace("tag-1", "tag-2")), 481);
    assert_eq!(refused(&mut world, CAROL, "nothing-of-the-kind"), 400);
    let twice = world
        .invite_request(CAROL, "sip:bob@acme.test", Some(&description(CAROL)))
        .with_header(HeaderName::Replaces, up.clone())
        .with_header(HeaderName::Replaces, early);
    world.phones[CAROL].responses.clear();
    world.send_request(CAROL, twice);
    world.settle();
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 400);
    let and_join = world
        .invite_request(CAROL, "sip:bob@acme.test", Some(&description(CAROL)))
        .with_header(HeaderName::Replaces, up.clone())
        .with_header(HeaderName::parse("Join"), up.clone());
    world.invite_by(CAROL, and_join);
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 400);
    // Join alone is an extension that is not there (RFC 3911).
    let join = world
        .invite_request(CAROL, "sip:bob@acme.test", Some(&description(CAROL)))
        .with_header(HeaderName::parse("Join"), up.clone())
        .with_header(HeaderName::Require, "join");
    world.invite_by(CAROL, join);
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 420);
    // A carrier takes over nothing.
    let carried = world
        .invite_request(carrier, "sip:+353100000002@10.0.1.1", Some(&description(CAROL)))
        .with_header(HeaderName::Replaces, up.clone());
    world.send_request(carrier, carried);
    world.settle();
    assert_eq!(world.phones[carrier].take_final().unwrap().status.code(), 403);

    assert_eq!(joined(&world), LINES[..2], "nothing of it moved anything");
    world.hang_up(&mut a);
    assert_eq!(refused(&mut world, CAROL, &up), 481, "it is forgotten");
    world.assert_at_rest();
}

fn two_accounts() -> Tenancy {
    let mut tenancy = acme();
    let evil = account(7, "evil.test", "ie1");
    let mut eve = user(&evil, "eve", 71);
    eve.media = MediaPolicy::Rtp;
    tenancy.accounts.push(evil);
    tenancy.users.push(Arc::new(eve));
    tenancy
}

/// By the dialog's name either way round, by the code with a name or a number
/// after it, and by the code alone.
#[test]
fn a_ringing_call_is_taken_by_its_dialogs_name_or_by_a_code() {
    for how in ["dialog", "turned", "*8bob", "*8+353100000002", "*8"] {
        let mut world = there(5);
        let (invite, rung) = rings(&mut world);
        let name = name_of_ringing(BOB, &rung.1);
        let taking = match how {
            "dialog" => replacing(&mut world, CAROL, &name, Some(&description(CAROL))),
            "turned" => {
                let turned = name.replace("to-tag", "x").replace("from-tag", "to-tag");
                let turned = turned.replace("x=", "from-tag=");
                replacing(&mut world, CAROL, &turned, Some(&description(CAROL)))
            }
            code => world.dial(CAROL, &format!("sip:{code}@acme.test")).1,
        };
        assert_eq!(world.phones[BOB].others, ["cancelled"], "{how}");
        let mut c = world.confirm(CAROL, &taking, None);
        let mut a = world.confirm(ALICE, &invite, None);
        assert_eq!(joined(&world), [LINES[ALICE], LINES[CAROL]], "{how}");

        assert_eq!(refused(&mut world, CAROL, &name), 603, "bob's phone rings no more");

        let call = world.proxies[0].ledger.calls()[0];
        let is = |user| Party::User(sid(user));
        let legs = [(LegRole::A, is(1)), (LegRole::B, is(2)), (LegRole::B, is(3))];
        assert_eq!(world.proxies[0].ledger.parties(call), legs);
        assert_eq!(taken(&world, call), [(sid(2), DivertReason::PickedUp)]);

        // Either side may hold, and the call outlives its proxy.
        world.proxy_dies(0);
        world.run(Duration::from_secs(2));
        let held = description(CAROL).replace("a=ptime:20", "a=sendonly");
        world.within(&mut c, Method::Invite, Some(&held));
        world.answer_within(&a, Method::Invite, 200, Some(&description(ALICE)));
        world.phones[ALICE].take_ack();
        let cseq = world.phones[CAROL].take_final().map(|it| it.cseq().unwrap().number);
        world.ack(&c, cseq.expect("200"), None);
        let (by, cause, other) = match how {
            "*8" => (&mut c, "callee_hung_up", ALICE),
            _ => (&mut a, "caller_hung_up", CAROL),
        };
        world.hang_up(by);
        assert!(world.phones[other].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.causes(), [cause]);
        world.assert_at_rest_but_relay();
    }
}

#[test]
fn a_call_that_was_picked_up_moves_to_another_relay() {
    let mut world = there(6);
    let (invite, _) = rings(&mut world);
    let taking = world.dial(CAROL, "sip:*8bob@acme.test").1;
    let mut c = world.confirm(CAROL, &taking, None);
    let a = world.confirm(ALICE, &invite, None);
    world.add_relay("relay-2", 52);
    let relay = RelayId("relay-1".into());
    world.input(0, Input::Relay { relay, message: FromRelay::Draining });
    world.run(Duration::from_millis(50));
    for leg in [&a, &c] {
        let offer = goes_over(&mut world, leg);
        assert!(offer.contains("c=IN IP4 10.0.52.9"), "{offer}");
    }
    world.settle();
    let session = world.proxies[0].others[&RelayId("relay-2".into())].session();
    assert!(session.joined.is_some());
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn a_carriers_call_is_picked_up_too() {
    let mut world = there(7);
    let address = "10.9.0.1:5060".parse().unwrap();
    let carrier = world.station("carrier", "acme.test", address, 0, landline_sip::Transport::Udp);
    let body = sdp("10.9.0.1", 6000, "");
    let invite = world.invite_request(carrier, "sip:+353100000002@10.0.1.1", Some(&body));
    world.send_request(carrier, invite.clone());
    world.settle();
    let rung = world.phones[BOB].take(Method::Invite).expect("bob rings");
    world.say(BOB, &rung, 180);
    let taking = world.dial(CAROL, "sip:*8@acme.test").1;
    let mut c = world.confirm(CAROL, &taking, None);
    world.confirm(carrier, &invite, None);
    assert_eq!(joined(&world), [LINES[CAROL], "10.9.0.1:6000"]);
    let call = world.proxies[0].ledger.calls()[0];
    let trunk = Party::Trunk(TrunkSid::from_u128(9));
    assert_eq!(world.proxies[0].ledger.parties(call)[0], (LegRole::A, trunk));
    world.hang_up(&mut c);
    world.assert_at_rest();
}

#[test]
fn who_cannot_take_a_call_is_told_and_it_rings_on() {
    let mut world = there(8);
    for (code, status) in [("*8", 480), ("*8bob", 480), ("*8nobody", 404), ("*75", 404)] {
        world.dial(CAROL, &format!("sip:{code}@acme.test"));
        let response = world.phones[CAROL].take_final().expect("an answer");
        assert_eq!(response.status.code(), status, "{code}");
    }
    let (invite, rung) = rings(&mut world);
    // Without an offer, and with one that has nothing in common.
    let name = name_of_ringing(BOB, &rung.1);
    replacing(&mut world, CAROL, &name, None);
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 488);
    let video = "v=0\r\no=p 1 1 IN IP4 10.1.0.3\r\ns=-\r\nc=IN IP4 10.1.0.3\r\nt=0 0\r\n\
                 m=video 4000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
    replacing(&mut world, CAROL, &name, Some(video));
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 488);
    // Nobody answers his own call.
    world.phones[ALICE].responses.clear();
    world.dial(ALICE, "sip:*8@acme.test");
    assert_eq!(world.phones[ALICE].take_final().unwrap().status.code(), 480);
    // She thinks better of it, while the relay takes its time.
    world.proxies[0].relay.silent = true;
    let (key, _) = world.dial(CAROL, "sip:*8@acme.test");
    world.run(Duration::from_millis(300));
    world.cancel(CAROL, key);
    assert_eq!(world.phones[CAROL].take_final().unwrap().status.code(), 487);
    world.proxies[0].relay.silent = false;
    world.wait(1);
    assert!(world.phones[BOB].others.is_empty(), "bob's phone rings on");
    world.phones[BOB].take(Method::Invite);
    world.answer(BOB, &rung, &description(BOB));
    let mut a = world.confirm(ALICE, &invite, None);
    assert_eq!(joined(&world), LINES[..2]);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn nobody_wears_a_call_out_by_trying_to_take_it() {
    let mut world = there(9);
    rings(&mut world);
    // She thinks better of it each time, while the relay takes its time.
    world.proxies[0].relay.silent = true;
    for attempt in 0..9 {
        let (key, _) = world.dial(CAROL, "sip:*8@acme.test");
        world.run(Duration::from_millis(240));
        world.cancel(CAROL, key);
        let status = world.phones[CAROL].take_final();
        let status = status.unwrap_or_else(|| panic!("attempt {attempt}")).status.code();
        assert_eq!(status, if attempt < 8 { 487 } else { 486 }, "attempt {attempt}");
    }
}

/// A user whose name begins with a code is called by it.
#[test]
fn a_users_name_comes_before_a_code() {
    let mut world = there(13);
    let mut tenancy = acme();
    let account = tenancy.accounts[0].clone();
    let mut star = user(&account, "*8", 5);
    star.media = MediaPolicy::Rtp;
    tenancy.users.push(Arc::new(star));
    world.input(0, Input::Tenancy(Arc::new(Tenants::new(&tenancy))));
    world.proxies[0].tenancy = tenancy;
    let star = world.registered(["*8"])[0];
    world.call(CAROL, star, "sip:*8@acme.test");
}
