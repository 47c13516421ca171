//! Session timers (RFC 4028): each side of a call has its own, refreshes end at
//! the proxy, and a side that is silent ends the call.

mod world;

use std::time::Duration;

use landline_control::RelayId;
use landline_sip::{HeaderName, Headers, Method, Request, StatusCode, Transport};
use world::phone::{Leg, ip, sdp, text, version};
use world::{World, tenants};

const EXPIRES: HeaderName = HeaderName::SessionExpires;

/// What is said of the session: interval and refresher.
fn session(headers: &Headers) -> String {
    headers.session_expires().unwrap().map_or("none".into(), |it| it.to_string())
}

/// Alice's INVITE, with timers unless `expires` is empty.
fn invite(world: &mut World, alice: usize, expires: &str) -> Request {
    let body = sdp("10.1.0.1", 4000, "");
    let mut request = world.invite_request(alice, "sip:bob@acme.test", Some(&body));
    if !expires.is_empty() {
        request.headers.push(HeaderName::Supported, "timer");
        request.headers.push(EXPIRES, expires);
    }
    world.invite_by(alice, request).1
}

/// Alice asks for one interval, and bob's answer says another; what she was told.
fn call(world: &mut World, [alice, bob]: [usize; 2], sides: [&str; 2]) -> (Leg, Leg, String) {
    let proven = invite(world, alice, sides[0]);
    let rung = world.phones[bob].take(Method::Invite).expect("an INVITE");
    let body = sdp("10.1.0.2", 4000, "");
    let said = [(EXPIRES, sides[1]), (HeaderName::Require, "timer")];
    let said = if sides[1].is_empty() { &said[..0] } else { &said[..] };
    let b = world.answer_saying(bob, &rung, &body, said);
    let told = world.phones[alice].responses.last().map(|it| it.1.headers.clone()).unwrap();
    let a = world.confirm(alice, &proven, None);
    assert!(world.phones[bob].take_ack().is_some(), "the callee's ACK");
    (a, b, session(&told))
}

/// In one region.
fn up(seed: u8, sides: [&str; 2]) -> (World, Leg, Leg, String) {
    let mut world = World::ie1(seed);
    let phones = world.registered(["alice", "bob"]);
    let (a, b, told) = call(&mut world, phones, sides);
    (world, a, b, told)
}

/// The phone keeps its session alive; what it was sent.
fn refreshed(world: &mut World, leg: &Leg, answer: &str) -> Headers {
    world.reply_within(leg, Method::Update, 200, &[(EXPIRES, answer)]).headers
}

fn is_asked(world: &World, leg: &Leg) -> bool {
    let requests = &world.phones[leg.phone].requests;
    requests.iter().any(|it| it.2.method != Method::Ack)
}

fn has_ended(world: &mut World, cause: &str, legs: [&Leg; 2]) {
    world.settle();
    for leg in legs {
        let bye = world.phones[leg.phone].take(Method::Bye);
        let (_, bye) = bye.unwrap_or_else(|| panic!("no BYE for {}", leg.phone));
        assert!(bye.headers.reason_header().is_some_and(|it| it.cause == Some(408)));
    }
    assert_eq!(world.proxies[0].ledger.last().cause, cause);
    assert_eq!(world.proxies[0].core.live().count(), 0);
}

#[test]
fn each_side_is_refreshed_by_us_at_half_its_own_interval() {
    let (mut world, mut a, b, told) = up(1, ["600", "400;refresher=uac"]);
    assert_eq!(told, "600;refresher=uas");
    assert_eq!(session(&b.invite.headers), "1800");
    assert!(b.invite.headers.supports("timer") && b.invite.headers.min_se() == Ok(None));
    let mut times = [Vec::new(), Vec::new()];
    for second in 1..=1250 {
        world.wait(1);
        for (leg, terms) in [(&a, "600;refresher=uac"), (&b, "400;refresher=uac")] {
            if is_asked(&world, leg) {
                assert_eq!(session(&refreshed(&mut world, leg, terms)), terms);
                times[leg.phone].push(second);
            }
        }
    }
    let every = |times: &[u32], interval: u32| {
        let dues = (1..).map(|n| n * interval).take_while(|due| *due < 1250);
        times.iter().zip(dues.clone()).all(|(at, due)| at.abs_diff(due) < 10)
            && times.len() == dues.count()
    };
    assert!(every(&times[0], 300) && every(&times[1], 200), "{times:?}");
    assert_eq!(world.proxies[0].core.counters().sessions_refreshed, 4 + 6);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn a_phone_without_update_is_offered_what_it_has() {
    let mut world = World::ie1(2);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let proven = invite(&mut world, alice, "");
    let rung = world.phones[bob].take(Method::Invite).expect("an INVITE");
    let body = sdp("10.1.0.2", 4000, "");
    let said =
        [(EXPIRES, "600;refresher=uac"), (HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, INFO")];
    let b = world.answer_saying(bob, &rung, &body, &said);
    world.confirm(alice, &proven, None);
    assert!(world.phones[bob].take_ack().is_some());
    let ops = world.proxies[0].relay.ops.len();
    let first = version(&text(&rung.1.body));
    for _ in 0..2 {
        world.wait(301);
        let (key, asked) = world.phones[bob].take(Method::Invite).expect("a re-INVITE");
        assert_eq!(session(&asked.headers), "600;refresher=uac");
        assert_eq!(version(&text(&asked.body)), first, "nothing of ours has changed");
        assert_eq!(text(&asked.body), text(&rung.1.body));
        let mut response = b.dialog.respond(&asked, StatusCode::OK);
        response.headers.push(EXPIRES, "600;refresher=uac");
        response.set_body("application/sdp", body.clone());
        world.respond(bob, key, response);
        assert!(world.phones[bob].take_ack().is_some());
    }
    assert!(world.phones[alice].take(Method::Invite).is_none(), "it is nothing to alice");
    assert!(world.proxies[0].relay.ops.len() >= ops);
    assert_eq!(world.proxies[0].core.live().count(), 1);
}

#[test]
fn a_side_that_refreshes_keeps_the_call_and_the_other_hears_nothing() {
    let (mut world, mut a, b, told) = up(3, ["90;refresher=uac", ""]);
    assert_eq!(told, "90;refresher=uac");
    let body = sdp(ip(&a), 4000, "");
    for (method, body) in [(Method::Update, None), (Method::Invite, Some(body.as_str()))] {
        for _ in 0..3 {
            world.wait(59);
            let mut request = a.dialog.request(method.clone());
            request.headers.push(HeaderName::Supported, "timer");
            request.headers.push(EXPIRES, "90;refresher=uac");
            if let Some(body) = body {
                request.set_body("application/sdp", body.to_owned());
            }
            world.phones[a.phone].responses.clear();
            world.send_request(a.phone, request);
            world.settle();
            let response = world.phones[a.phone].take_final().unwrap();
            assert_eq!(session(&response.headers), "90;refresher=uac");
            if method == Method::Invite {
                world.ack(&a, response.cseq().unwrap().number, None);
            }
            assert!(!is_asked(&world, &b));
        }
    }
    world.wait(59);
    assert!(!is_asked(&world, &a) && !is_asked(&world, &b));
    world.wait(2);
    has_ended(&mut world, "signalling_lost", [&a, &b]);
    assert_eq!(world.proxies[0].core.counters().sessions_expired, 1);
    world.assert_at_rest();
}

#[test]
fn a_silent_refresher_on_either_side_ends_the_call_before_the_interval_does() {
    for (sides, seconds) in [
        (["90;refresher=uac", ""], 60),
        (["", "90;refresher=uas"], 60),
        (["1800;refresher=uac", "300;refresher=uas"], 268),
    ] {
        let (mut world, a, b, _) = up(4, sides);
        world.wait(seconds - 1);
        assert_eq!(world.proxies[0].core.live().count(), 1);
        world.wait(2);
        has_ended(&mut world, "signalling_lost", [&a, &b]);
        world.assert_at_rest();
    }
}

/// What it answers is of no account, but for one answer.
#[test]
fn a_side_without_timers_is_asked_whether_it_is_there() {
    let (mut world, mut a, b, told) = up(5, ["", ""]);
    assert_eq!(told, "none");
    for status in [200, 405, 401, 500] {
        world.wait(898);
        assert!(!is_asked(&world, &a) && !is_asked(&world, &b));
        world.wait(4);
        for leg in [&a, &b] {
            let asked = world.reply_within(leg, Method::Options, status, &[]);
            assert_eq!(session(&asked.headers), "none");
        }
        assert_eq!(world.proxies[0].core.live().count(), 1, "after {status}");
    }
    world.hang_up(&mut a);
    world.assert_at_rest();

    let (mut world, a, b, _) = up(17, ["", ""]);
    world.wait(902);
    world.reply_within(&b, Method::Options, 200, &[]);
    world.reply_within(&a, Method::Options, 481, &[]);
    world.settle();
    assert!(world.phones[b.phone].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "signalling_lost");
    world.assert_at_rest();
}

/// Nobody misses the media of who is on hold.
#[test]
fn a_held_call_whose_phones_are_gone_ends() {
    let (mut world, mut a, b, _) = up(18, ["", ""]);
    world.wait(100);
    let offer = sdp(ip(&a), 4000, "a=inactive\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    let (key, asked) = world.phones[b.phone].take(Method::Invite).expect("a re-INVITE");
    let mut response = b.dialog.respond(&asked, StatusCode::OK);
    response.set_body("application/sdp", sdp(ip(&b), 4000, "a=inactive\r\n"));
    world.respond(b.phone, key, response);
    let answered = world.phones[a.phone].take_final().unwrap();
    world.ack(&a, answered.cseq().unwrap().number, None);
    world.wait(890);
    assert!(!is_asked(&world, &a) && !is_asked(&world, &b), "both were heard of since");
    world.wait(60);
    for leg in [&a, &b] {
        assert!(world.phones[leg.phone].take(Method::Options).is_some());
    }
    assert_eq!(world.proxies[0].core.live().count(), 0);
    assert_eq!(world.proxies[0].ledger.last().cause, "signalling_lost");
}

#[test]
fn a_side_that_is_gone_is_found_out_by_its_refresh() {
    for (status, cause) in [(481, "signalling_lost"), (0, "signalling_lost")] {
        let (mut world, a, b, _) = up(6, ["", "600;refresher=uac"]);
        world.wait(301);
        if status == 0 {
            world.wait(40);
            world.phones[b.phone].requests.retain(|it| it.2.method == Method::Bye);
        } else {
            world.reply_within(&b, Method::Update, status, &[]);
        }
        world.settle();
        assert!(world.phones[a.phone].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.last().cause, cause);
        world.assert_at_rest();
    }
}

#[test]
fn a_refresh_that_is_refused_is_tried_again_until_it_is_too_late() {
    let (mut world, a, b, _) = up(7, ["", "90;refresher=uac"]);
    world.wait(46);
    for _ in 0..3 {
        world.reply_within(&b, Method::Update, 500, &[]);
        assert_eq!(world.proxies[0].core.live().count(), 1);
        world.wait(5);
    }
    has_ended(&mut world, "signalling_lost", [&a, &b]);
    // One that only does not know UPDATE is asked otherwise at once.
    let (mut world, _, b, _) = up(8, ["", "90;refresher=uac"]);
    world.wait(46);
    world.reply_within(&b, Method::Update, 405, &[]);
    assert!(world.phones[b.phone].take(Method::Invite).is_some(), "a re-INVITE");
    // And one that wants longer, longer.
    let (mut world, _, b, _) = up(9, ["", "90;refresher=uac"]);
    world.wait(46);
    world.reply_within(&b, Method::Update, 422, &[(HeaderName::MinSe, "200")]);
    let (_, again) = world.phones[b.phone].take(Method::Update).expect("another UPDATE");
    assert_eq!(session(&again.headers), "200;refresher=uac");
    assert_eq!(again.headers.min_se(), Ok(Some(200)));
}

#[test]
fn an_interval_too_small_is_refused_by_us_and_lengthened_for_the_callee() {
    let mut world = World::new(10);
    world.add_proxy("ie1", 1, tenants::acme(), |config| {
        config.timers.min_session = Duration::from_secs(200);
    });
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    invite(&mut world, alice, "199");
    let refused = world.phones[alice].take_final().unwrap();
    assert_eq!(refused.status, StatusCode::SESSION_INTERVAL_TOO_SMALL);
    assert_eq!(refused.headers.min_se(), Ok(Some(200)));
    assert!(world.proxies[0].ledger.calls().is_empty() && !world.phones[bob].has_invite());

    let proven = invite(&mut world, alice, "200");
    let first = world.phones[bob].take(Method::Invite).expect("an INVITE");
    assert_eq!(first.1.headers.min_se(), Ok(Some(200)));
    let mut refusal =
        landline_sip::Response::for_request(&first.1, StatusCode::SESSION_INTERVAL_TOO_SMALL)
            .with_to_tag("brief");
    refusal.headers.push(HeaderName::MinSe, "7200");
    world.respond(bob, first.0, refusal);
    let again = world.phones[bob].take(Method::Invite).expect("another INVITE");
    assert_eq!(session(&again.1.headers), "7200");
    assert_eq!(again.1.headers.min_se(), Ok(Some(7200)));
    assert_eq!(again.1.call_id(), first.1.call_id());
    world.answer(bob, &again, &sdp("10.1.0.2", 4000, ""));
    let mut a = world.confirm(alice, &proven, None);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn within_a_call_too_small_an_interval_is_refused_and_the_session_stays() {
    let (mut world, mut a, b, _) = up(11, ["90;refresher=uac", ""]);
    world.wait(30);
    let mut update = a.dialog.request(Method::Update);
    update.headers.push(HeaderName::Supported, "timer");
    update.headers.push(EXPIRES, "60;refresher=uac");
    world.phones[a.phone].responses.clear();
    world.send_request(a.phone, update);
    world.settle();
    let refused = world.phones[a.phone].take_final().unwrap();
    assert_eq!(refused.headers.min_se(), Ok(Some(90)));
    world.wait(31);
    has_ended(&mut world, "signalling_lost", [&a, &b]);
}

#[test]
fn changes_and_moves_of_the_call_keep_the_session() {
    let (mut world, mut a, b, _) = up(12, ["", "600;refresher=uas"]);
    // A change that alice wants reaches bob with his session's terms.
    world.wait(400);
    let offer = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.within(&mut a, Method::Invite, Some(&offer));
    let (key, asked) = world.phones[b.phone].take(Method::Invite).expect("a re-INVITE");
    assert_eq!(session(&asked.headers), "600;refresher=uas");
    let mut response = b.dialog.respond(&asked, StatusCode::OK);
    response.headers.push(EXPIRES, "600;refresher=uas");
    response.set_body("application/sdp", sdp(ip(&b), 4000, "a=recvonly\r\n"));
    world.respond(b.phone, key, response);
    let answered = world.phones[a.phone].take_final().unwrap();
    world.ack(&a, answered.cseq().unwrap().number, None);
    // It has refreshed it; so has the move to another relay.
    for wait in [400, 500] {
        world.wait(wait);
        assert_eq!(world.proxies[0].core.live().count(), 1);
        if wait == 400 {
            world.add_relay("relay-2", 9);
            let relay = RelayId("relay-1".into());
            world.proxies[0].dead_relays.push(relay.clone());
            world.input(0, landline_call::Input::RelayLost { relay });
            world.wait(1);
            for leg in [&a, &b] {
                let (key, asked) = world.phones[leg.phone].take(Method::Invite).expect("a move");
                let expected = if leg.phone == b.phone { "600;refresher=uas" } else { "none" };
                assert_eq!(session(&asked.headers), expected);
                let mut response = leg.dialog.respond(&asked, StatusCode::OK);
                if leg.phone == b.phone {
                    response.headers.push(EXPIRES, "600;refresher=uas");
                }
                response.set_body("application/sdp", sdp(ip(leg), 4000, ""));
                world.respond(leg.phone, key, response);
            }
        }
    }
    world.wait(100);
    has_ended(&mut world, "signalling_lost", [&a, &b]);
}

#[test]
fn sessions_go_on_when_their_proxy_dies() {
    // We refresh alice, bob refreshes himself.
    let (mut world, mut a, b, _) = up(13, ["600", "300;refresher=uas"]);
    world.wait(200);
    world.proxy_dies(0);
    world.settle();
    world.wait(99);
    assert!(!is_asked(&world, &a), "not before its time");
    world.wait(2);
    assert_eq!(session(&refreshed(&mut world, &a, "600;refresher=uac")), "600;refresher=uac");
    // Bob has his whole time again: his refresh may have died with the proxy.
    world.wait(150);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.wait(20);
    has_ended(&mut world, "signalling_lost", [&a, &b]);
    a.dialog.request(Method::Info);
    world.assert_at_rest();

    // One that is overdue when the proxy comes back is refreshed, and not given up.
    let (mut world, mut a, _, _) = up(14, ["600", ""]);
    world.proxy_dies_for(0, Duration::from_secs(590));
    world.run(Duration::from_millis(50));
    refreshed(&mut world, &a, "600;refresher=uac");
    world.wait(200);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn who_stands_in_for_a_dead_proxy_refreshes_its_sessions() {
    let mut world = World::ie1_together(15, 2);
    let phones = world.registered(["alice", "bob"]);
    let (a, b, _) = call(&mut world, phones, ["600", "400;refresher=uas"]);
    world.settle();
    world.proxy_halts(0);
    world.go_by(1);
    world.wait(5);
    assert_eq!(world.proxies[1].core.live().count(), 1);
    // Both are told where they reach the call now: a refresh, too.
    for (leg, terms) in [(&a, "600;refresher=uac"), (&b, "400;refresher=uas")] {
        assert_eq!(session(&refreshed(&mut world, leg, terms)), terms);
    }
    world.wait(301);
    refreshed(&mut world, &a, "600;refresher=uac");
    world.wait(75);
    for leg in [&a, &b] {
        assert!(world.phones[leg.phone].take(Method::Bye).is_some());
    }
    assert_eq!(world.proxies[1].ledger.last().cause, "signalling_lost");
}

#[test]
fn refreshes_cross_the_edge_of_another_region() {
    let mut world = World::new(16);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, tenants::globex(), |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let bob = world.phone_at("bob", "acme.test", 2, 1, Transport::Udp);
    world.register(bob);
    let (mut a, b, _) = call(&mut world, [alice, bob], ["", "600;refresher=uac"]);
    world.wait(301);
    assert_eq!(session(&refreshed(&mut world, &b, "600;refresher=uac")), "600;refresher=uac");
    let crossed = world.crossed.iter().filter(|it| it.starts_with("UPDATE "));
    assert!(crossed.clone().count() > 0 && crossed.clone().all(|it| it.contains("refresher=uac")));
    world.hang_up(&mut a);
    world.assert_at_rest();
}
