//! Calls that nobody takes: the callee's mailbox answers, plays, records and ends.

mod world;

use std::time::Duration;

use landline_call::record::{DivertReason, Step};
use landline_call::tenancy::{Forwarding, Tenancy, User, VoicemailPolicy};
use landline_call::{Input, Tenants};
use landline_control::{Event, Key, LegId, MediaFault, Op, Play, RelayId, Sound};
use landline_region::{Personal, SoundSid, UserSid};
use landline_sip::{Dialog, HeaderName, Method, RAck, Request, Response, ServerKey, StatusCode};
use world::phone::{Leg, sdp, text};
use world::{World, tenants};

const HASH: Key = Key { event: 11, duration_ms: 160 };

/// Acme, where bob has a mailbox.
fn acme(change: impl Fn(&mut User)) -> Tenancy {
    tenants::with_user(tenants::acme(), "bob", |user| {
        user.mailbox.policy = Some(VoicemailPolicy::On);
        change(user);
    })
}

fn with_mailbox(seed: u8, change: impl Fn(&mut User)) -> World {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, acme(change), |_| {});
    world.share_directory();
    world
}

fn set(world: &mut World, change: impl Fn(&mut User)) {
    world.input(0, Input::Tenancy(Tenants::new(&acme(change)).into()));
    world.settle();
}

fn place(name: &str) -> Option<Personal<String>> {
    Some(Personal::new(name.to_owned()))
}

/// The relay has played all that it was to play.
fn played(world: &mut World) {
    world.happens(Event::Played(LegId(0)));
}

fn rung(world: &mut World, phone: usize) -> (ServerKey, Request) {
    world.phones[phone].take(Method::Invite).expect("it rings")
}

/// Alice calls bob, who is busy, and hears his mailbox.
fn in_mailbox(world: &mut World) -> Leg {
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = rung(world, bob);
    world.say(bob, &first, 486);
    world.confirm(alice, &invite, None)
}

/// What the relay was told but for addresses and keys.
fn told(world: &World) -> Vec<Op> {
    let ops = world.proxies[0].relay.ops.iter().map(|(_, op)| op.clone());
    ops.filter(|op| matches!(op, Op::Play(..) | Op::Note(..) | Op::Record | Op::Join(..))).collect()
}

fn plays(sounds: &[Sound]) -> Op {
    Op::Play(LegId(0), Box::new(Play { sounds: sounds.to_vec(), repeats: false }))
}

/// The steps of the last call that are of its message and its end.
fn steps(world: &World) -> Vec<String> {
    let ledger = &world.proxies[0].ledger;
    let last = *ledger.calls().last().unwrap();
    let of = |step: &Step| match step {
        Step::LegDiverted { by, reason: DivertReason::Voicemail, .. } => {
            assert_eq!(*by, UserSid::from_u128(2));
            Some("mailbox".to_owned())
        }
        Step::Answered { .. } => Some("answered".to_owned()),
        Step::MessageBegun { user, .. } => {
            assert_eq!(*user, UserSid::from_u128(2));
            Some("begun".to_owned())
        }
        Step::MessageDropped { .. } => Some("dropped".to_owned()),
        Step::Closed(closed) => Some(format!("{} {}", closed.cause, closed.sip_status)),
        _ => None,
    };
    ledger.of(last).filter_map(|event| of(&event.step)).collect()
}

#[test]
fn who_hears_busy_leaves_a_message_after_the_tone() {
    let mut world = with_mailbox(1, |_| {});
    let mut a = in_mailbox(&mut world);
    assert_eq!(told(&world), [plays(&[Sound::Greeting(None), Sound::Beep])]);
    played(&mut world);
    let recorded = told(&world).pop();
    assert!(matches!(&recorded, Some(Op::Note(LegId(0), it)) if !it.consent.by_policy));
    world.wait(5);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
    let summary = world.proxies[0].ledger.last();
    assert_eq!((summary.b_legs, summary.answered), (1, true));
    let counters = world.proxies[0].core.counters();
    assert_eq!((counters.voicemails_begun, counters.voicemails_left), (1, 1));
    assert_eq!((counters.mailboxes_reached, counters.voicemails_dropped), (1, 0));
    world.assert_at_rest();
}

#[test]
fn every_way_not_to_be_reached_leads_to_the_mailbox() {
    let dnd = |user: &mut User| user.forwarding.do_not_disturb = true;
    let always = |user: &mut User| user.forwarding.always = place("voicemail");
    let to_carol = |user: &mut User| user.forwarding.no_answer = place("carol");
    let ring = Some(Duration::from_secs(10));
    let brief = |user: &mut User| user.forwarding.ring = ring;

    // Nobody is rung at all.
    for change in [&dnd as &dyn Fn(&mut User), &always] {
        let mut world = with_mailbox(2, change);
        let [alice, bob] = world.registered(["alice", "bob"]);
        let (_, invite) = world.dial(alice, "sip:bob@acme.test");
        let mut a = world.confirm(alice, &invite, None);
        assert!(world.phones[bob].take(Method::Invite).is_none());
        world.hang_up(&mut a);
        assert_eq!(steps(&world), ["mailbox", "answered", "caller_hung_up 200"]);
        world.assert_at_rest();
    }
    // No phone is there.
    let mut world = with_mailbox(3, |_| {});
    let [alice] = world.registered(["alice"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let mut a = world.confirm(alice, &invite, None);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "caller_hung_up 200"]);
    world.assert_at_rest();
    // It rang for long enough; and so it did where it went on from there.
    for (change, last) in [(&brief as &dyn Fn(&mut User), 1), (&to_carol, 2)] {
        let mut world = with_mailbox(4, |user| {
            brief(user);
            change(user);
        });
        let phones = world.registered(["alice", "bob", "carol"]);
        let (_, invite) = world.dial(phones[0], "sip:bob@acme.test");
        world.wait(11);
        if last == 2 {
            world.wait(61);
        }
        assert_eq!(world.phones[phones[last]].others, ["cancelled"]);
        let mut a = world.confirm(phones[0], &invite, None);
        world.hang_up(&mut a);
        assert_eq!(steps(&world), ["mailbox", "answered", "caller_hung_up 200"]);
        world.assert_at_rest();
    }
}

#[test]
fn who_has_no_mailbox_is_as_busy_as_ever() {
    let mut world = World::ie1(5);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status, StatusCode::BUSY_HERE);
    // Nor does a call end there that is refused for another reason.
    let mut world = with_mailbox(5, |_| {});
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 488);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 488);
    world.assert_at_rest();
}

#[test]
fn a_full_mailbox_takes_no_more() {
    let full = |user: &mut User| (user.mailbox.new, user.mailbox.old) = (60, 40);
    let mut world = with_mailbox(6, full);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    world.say(bob, &first, 486);
    let refused = world.phones[alice].take_final().unwrap();
    assert_eq!(refused.status, StatusCode::BUSY_HERE);
    let warning = refused.headers.get(&HeaderName::Warning).unwrap().to_str_lossy().into_owned();
    assert!(warning.contains("The mailbox is full"), "{warning}");
    assert_eq!(world.proxies[0].core.counters().mailboxes_full, 1);
    assert_eq!(steps(&world), ["busy 486"]);
    world.assert_at_rest();
}

#[test]
fn what_is_too_short_or_was_never_begun_is_no_message() {
    let mut world = with_mailbox(7, |_| {});
    let mut a = in_mailbox(&mut world);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "caller_hung_up 200"]);
    assert!(!told(&world).iter().any(|op| matches!(op, Op::Note(..))));

    let mut world = with_mailbox(8, |_| {});
    let mut a = in_mailbox(&mut world);
    played(&mut world);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "dropped", "caller_hung_up 200"]);
    assert_eq!(world.proxies[0].core.counters().voicemails_dropped, 1);
    world.assert_at_rest();
}

#[test]
fn the_longest_message_and_the_hash_key_end_it() {
    for by in ["time", "media", "info"] {
        let mut world = with_mailbox(9, |_| {});
        let mut a = in_mailbox(&mut world);
        played(&mut world);
        world.wait(4);
        match by {
            "time" => {
                world.wait(175);
                assert!(world.phones[a.phone].take(Method::Bye).is_none(), "not before its time");
                world.wait(2);
            }
            "media" => world.happens(Event::Key(LegId(0), HASH)),
            _ => {
                let mut info = a.dialog.request(Method::Info);
                info.set_body("application/dtmf-relay", "Signal=#\r\nDuration=160\r\n");
                world.send_request(a.phone, info);
                world.settle();
            }
        }
        let (key, bye) = world.phones[a.phone].take(Method::Bye).expect("it is hung up");
        world.respond(a.phone, key, Response::for_request(&bye, StatusCode::OK));
        world.settle();
        assert_eq!(steps(&world), ["mailbox", "answered", "begun", "voicemail 200"], "{by}");
        world.assert_at_rest();
    }
}

#[test]
fn the_hash_key_skips_the_greeting() {
    let own = SoundSid::from_u128(9);
    let mut world = with_mailbox(10, |user| user.mailbox.greeting = Some(own));
    let mut a = in_mailbox(&mut world);
    world.happens(Event::Key(LegId(0), HASH));
    let expected = [plays(&[Sound::Greeting(Some(own)), Sound::Beep]), plays(&[Sound::Beep])];
    assert_eq!(told(&world), expected);
    played(&mut world);
    world.wait(3);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
    world.assert_at_rest();
}

#[test]
fn a_caller_who_offers_nothing_hears_the_greeting_once_it_has_answered() {
    let mut world = with_mailbox(11, |_| {});
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    let first = rung(&mut world, bob);
    world.say(bob, &first, 600);
    let offer = text(&world.phones[alice].responses.last().unwrap().1.body);
    assert!(offer.contains("opus/48000/2") && offer.contains("PCMU/8000"), "{offer}");
    assert_eq!(told(&world), []);
    let mut a = world.confirm(alice, &invite, Some(&sdp("10.1.0.1", 4000, "")));
    assert_eq!(told(&world), [plays(&[Sound::Greeting(None), Sound::Beep])]);
    played(&mut world);
    world.wait(3);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
    world.assert_at_rest();
}

#[test]
fn a_codec_that_cannot_be_recorded_leaves_the_caller_as_busy_as_before() {
    let mut world = with_mailbox(12, |_| {});
    let [alice, bob] = world.registered(["alice", "bob"]);
    let offer = sdp("10.1.0.1", 4000, "").replace("RTP/AVP 0 8 101", "RTP/AVP 18 101");
    world.invite(alice, "sip:bob@acme.test", Some(&offer));
    let first = rung(&mut world, bob);
    world.say(bob, &first, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status, StatusCode::BUSY_HERE);
    world.assert_at_rest();
}

#[test]
fn a_change_of_the_callers_is_answered_here() {
    let mut world = with_mailbox(13, |_| {});
    let mut a = in_mailbox(&mut world);
    played(&mut world);
    for (method, more) in [(Method::Invite, "a=sendonly\r\n"), (Method::Update, "")] {
        let offer = sdp("10.1.0.1", 4002, more);
        world.phones[a.phone].responses.clear();
        world.within(&mut a, method.clone(), Some(&offer));
        let answer = world.phones[a.phone].take_final().unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{method}");
        let expected = if more.is_empty() { "sendrecv" } else { "recvonly" };
        let body = text(&answer.body);
        assert!(body.contains(&format!("a={expected}")), "{body}");
        if method == Method::Invite {
            world.ack(&a, answer.cseq().unwrap().number, None);
        }
    }
    let remote = &world.proxies[0].relay.session().remotes[&LegId(0)];
    assert_eq!(remote.rtp.port(), 4002);
    assert_eq!(told(&world).len(), 2, "nothing is played or recorded anew");
    world.wait(2);
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn what_was_said_is_kept_when_the_relay_or_the_proxy_dies() {
    let mut world = with_mailbox(14, |_| {});
    let a = in_mailbox(&mut world);
    played(&mut world);
    world.wait(10);
    world.relay_halts("relay-1");
    world.input(0, Input::RelayLost { relay: RelayId("relay-1".into()) });
    world.settle();
    assert!(world.phones[a.phone].take(Method::Bye).is_some(), "it is not left in silence");
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "lost 200"]);

    let mut world = with_mailbox(15, |_| {});
    let mut a = in_mailbox(&mut world);
    played(&mut world);
    world.wait(10);
    world.proxy_dies(0);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "lost 0"]);
    world.phones[a.phone].responses.clear();
    let bye = a.dialog.request(Method::Bye);
    world.send_request(a.phone, bye);
    world.settle();
    let answer = world.phones[a.phone].take_final().unwrap();
    assert_eq!(answer.status, StatusCode::CALL_DOES_NOT_EXIST);
}

#[test]
fn a_caller_who_falls_silent_is_hung_up() {
    let mut world = with_mailbox(16, |_| {});
    let a = in_mailbox(&mut world);
    played(&mut world);
    world.wait(30);
    world.happens(Event::Fault(LegId(0), MediaFault::MediaTimeout));
    let (key, bye) = world.phones[a.phone].take(Method::Bye).expect("it is hung up");
    world.respond(a.phone, key, Response::for_request(&bye, StatusCode::OK));
    world.settle();
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "media_lost 200"]);
    world.assert_at_rest();
}

#[test]
fn a_message_is_for_whom_was_called_and_not_for_who_stood_in() {
    let mut world = World::new(17);
    let carol_too =
        tenants::with_user(acme(|user| user.forwarding.busy = place("carol")), "carol", |user| {
            user.mailbox.policy = Some(VoicemailPolicy::On);
            user.forwarding = Forwarding { do_not_disturb: true, ..Forwarding::default() };
        });
    world.add_proxy("ie1", 1, carol_too, |_| {});
    world.share_directory();
    let mut a = in_mailbox(&mut world);
    played(&mut world);
    world.wait(2);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
    world.assert_at_rest();
}

#[test]
fn a_mailbox_tells_its_owner_of_what_came_and_went() {
    let mut world = with_mailbox(18, |user| user.mailbox.old = 2);
    let [bob] = world.registered(["bob"]);
    let subscribe = world.phones[bob]
        .request(Method::Subscribe, "sip:bob@acme.test")
        .with_header(HeaderName::Event, "message-summary")
        .with_header(HeaderName::Expires, "600");
    assert_eq!(world.ask(bob, subscribe).status, StatusCode::OK);
    let mut heard = Vec::new();
    for counts in [None, Some((1, 2)), Some((1, 2)), Some((0, 3))] {
        if let Some((new, old)) = counts {
            set(&mut world, |user| (user.mailbox.new, user.mailbox.old) = (new, old));
            world.wait(2);
        }
        while let Some((key, notify)) = world.phones[bob].take(Method::Notify) {
            world.respond(bob, key, Response::for_request(&notify, StatusCode::OK));
            world.settle();
            heard.push(text(&notify.body).lines().collect::<Vec<_>>().join(" "));
        }
    }
    let account = "Message-Account: sip:bob@acme.test";
    let said = |waiting: &str, counts: &str| {
        format!("Messages-Waiting: {waiting} {account} Voice-Message: {counts} (0/0)")
    };
    assert_eq!(heard, [said("no", "0/2"), said("yes", "1/2"), said("no", "0/3")]);
}

/// Where bob's phone sends it on to, nobody is rung: the mailbox has the call.
#[test]
fn a_phone_s_redirection_to_somebody_who_is_away_leads_to_the_mailbox() {
    let mut world = World::new(19);
    let carol_too = tenants::with_user(acme(|_| {}), "carol", |user| {
        user.mailbox.policy = Some(VoicemailPolicy::On);
        user.forwarding = Forwarding { do_not_disturb: true, ..Forwarding::default() };
    });
    world.add_proxy("ie1", 1, carol_too, |_| {});
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let first = rung(&mut world, bob);
    let response = Response::for_request(&first.1, StatusCode::MOVED_TEMPORARILY)
        .with_to_tag("b")
        .with_header(HeaderName::Contact, "<sip:carol@acme.test>");
    world.respond(bob, first.0, response);
    let mut a = world.confirm(alice, &invite, None);
    played(&mut world);
    world.wait(2);
    world.hang_up(&mut a);
    assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
    world.assert_at_rest();
}

/// One To tag has one session description (RFC 3261 §13.2.1).
#[test]
fn who_heard_the_callee_first_hears_the_mailbox_in_another_dialog() {
    for (seed, is_reliable, offers) in [(20, false, true), (21, true, true), (22, true, false)] {
        let mut world = with_mailbox(seed, |_| {});
        let [alice, bob] = world.registered(["alice", "bob"]);
        let body = sdp("10.1.0.1", 4000, "");
        let offer = offers.then_some(body.as_str());
        let mut request = world.invite_request(alice, "sip:bob@acme.test", offer);
        if is_reliable {
            request.headers.push(HeaderName::Supported, "100rel");
        }
        let (_, invite) = world.invite_by(alice, request);
        let first = rung(&mut world, bob);
        let mut said = Response::for_request(&first.1, StatusCode::SESSION_PROGRESS)
            .with_to_tag(&format!("tag-{bob}"));
        said.headers.push(HeaderName::Contact, world.phones[bob].contact());
        said.set_body("application/sdp", sdp("10.1.0.2", 4000, ""));
        world.respond(bob, first.0, said);
        let heard = &world.phones[alice].responses;
        let progress = heard.iter().find(|it| it.1.status == StatusCode::SESSION_PROGRESS);
        let progress = progress.expect("183").1.clone();
        assert!(text(&progress.body).contains("m=audio"));
        if is_reliable {
            let rack =
                RAck { rseq: progress.rseq().unwrap().unwrap(), cseq: progress.cseq().unwrap() };
            let mut prack = Dialog::uac(&invite, &progress)
                .unwrap()
                .request(Method::Prack)
                .with_header(HeaderName::RAck, rack.to_string());
            if !offers {
                prack.set_body("application/sdp", body.clone());
            }
            let prack = world.send_request(alice, prack);
            world.settle();
            world.phones[alice].responses.retain(|it| it.0 != prack);
        }
        world.say(bob, &first, 486);
        let heard = &world.phones[alice].responses;
        let answer = heard.iter().find(|it| it.1.status == StatusCode::OK).expect("200").1.clone();
        assert!(text(&answer.body).contains("m=audio"), "{is_reliable} {offers}");
        let tag = |said: &Response| said.to().unwrap().tag().unwrap().to_owned();
        assert_ne!(tag(&answer), tag(&progress), "{is_reliable} {offers}");
        let mut a = world.confirm(alice, &invite, (!offers).then_some(body.as_str()));
        let greeting = plays(&[Sound::Greeting(None), Sound::Beep]);
        assert!(told(&world).contains(&greeting), "{is_reliable} {offers}");
        played(&mut world);
        world.wait(2);
        world.hang_up(&mut a);
        assert_eq!(steps(&world), ["mailbox", "answered", "begun", "caller_hung_up 200"]);
        world.assert_at_rest();
    }
}

#[test]
fn what_became_of_the_call_is_said_where_the_mailbox_does_not_take_it() {
    let quiet = |user: &mut User| user.forwarding.do_not_disturb = true;
    let full = |user: &mut User| {
        quiet(user);
        user.mailbox.new = 100;
    };
    let offer = sdp("10.1.0.1", 4000, "");
    let odd = offer.replace("RTP/AVP 0 8 101", "RTP/AVP 18 101");
    type Case<'a> = (&'a dyn Fn(&mut User), &'a str, &'a str);
    let cases: [Case; 2] =
        [(&full, &offer, "The mailbox is full"), (&quiet, &odd, "The user takes no calls")];
    for (seed, (change, offer, expected)) in (23..).zip(cases) {
        let mut world = with_mailbox(seed, change);
        let [alice] = world.registered(["alice"]);
        world.invite(alice, "sip:bob@acme.test", Some(offer));
        let refused = world.phones[alice].take_final().unwrap();
        assert_eq!(refused.status, StatusCode::BUSY_HERE, "{expected}");
        let warning = refused.headers.get(&HeaderName::Warning).unwrap().to_str_lossy();
        assert!(warning.contains(expected), "{warning}");
        assert_eq!(steps(&world), ["busy 486"]);
        world.assert_at_rest();
    }
}

#[test]
fn a_mailbox_is_not_transferred() {
    let mut world = with_mailbox(25, |_| {});
    let mut a = in_mailbox(&mut world);
    let mut refer = a.dialog.request(Method::Refer);
    refer.headers.push(HeaderName::ReferTo, "<sip:carol@acme.test>");
    world.phones[a.phone].responses.clear();
    world.send_request(a.phone, refer);
    world.settle();
    let answer = world.phones[a.phone].take_final().unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    world.hang_up(&mut a);
    world.assert_at_rest();
}
