//! Calls between accounts of two regions: acme.test at home in ie1, globex.test
//! in us1. Each region relays, records and writes down its own half.

mod world;

use landline_call::Input;
use landline_call::directory::Directory;
use landline_call::record::{CallDirection, CallEvent, LegRole, Party, Step};
use landline_call::tenancy::{
    Account, CallsFrom, HoldMusic, NumberTarget, RecordingPolicy, Tenancy,
};
use landline_control::{Op, Protocol, SrtpSuite};
use landline_region::egress::{Declared, Gate, Verdict};
use landline_region::{JoinToken, Personal, TrunkSid, UserSid};
use landline_sip::{HeaderName, Method, Response, StatusCode, Transport};
use std::sync::Arc;
use world::phone::{ip, sdp, text};
use world::{World, tenants};

const IE1: usize = 0;
const US1: usize = 1;
const ERIN: &str = "+12125550142";

/// globex takes calls from whoever `policy` names; erin has a number.
fn globex(policy: CallsFrom) -> Tenancy {
    let mut tenancy = tenants::with_account(tenants::globex(), |it| {
        it.calls_from = policy;
        it.recording = RecordingPolicy::All;
    });
    tenancy.numbers.push(Arc::new(landline_call::tenancy::Number {
        e164: Personal::new(ERIN.to_owned()),
        account: tenancy.accounts[0].sid,
        target: NumberTarget::User(UserSid::from_u128(11)),
    }));
    tenancy
}

fn regions(seed: u8, policy: CallsFrom) -> World {
    let mut world = World::new(seed);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, globex(policy), |_| {});
    world.share_directory();
    world
}

/// Alice of acme in ie1, erin of globex in us1, both registered at home.
fn alice_and_erin(seed: u8) -> (World, usize, usize) {
    let mut world = regions(seed, CallsFrom::Any);
    let [alice] = world.registered(["alice"]);
    let erin = at_us1(&mut world, "erin", 11);
    (world, alice, erin)
}

fn at_us1(world: &mut World, user: &str, number: u8) -> usize {
    let phone = world.phone_at(user, "globex.test", number, US1, Transport::Udp);
    world.register(phone);
    phone
}

fn join_of(world: &World, proxy: usize) -> JoinToken {
    let mut joined =
        world.proxies[proxy].ledger.events.iter().filter_map(|event| match event.step {
            Step::Joined(join) => Some(join),
            _ => None,
        });
    joined.next_back().expect("a joined call")
}

/// The steps of the last call of a region.
fn steps(world: &World, proxy: usize) -> Vec<&CallEvent> {
    let ledger = &world.proxies[proxy].ledger;
    ledger.of(*ledger.calls().last().expect("a call")).collect()
}

fn party(world: &World, proxy: usize, role: LegRole) -> Party {
    let mut legs = steps(world, proxy).into_iter().filter_map(|event| match &event.step {
        Step::LegOpened(leg) if leg.role == role => Some(leg.party),
        _ => None,
    });
    legs.next_back().expect("such a leg")
}

/// The INVITEs that went from one region to the other.
fn crossing_invites(world: &World) -> Vec<&String> {
    world.crossed.iter().filter(|text| text.starts_with("INVITE ")).collect()
}

#[test]
fn each_region_has_its_own_call_and_both_records_have_one_token() {
    let (mut world, alice, erin) = alice_and_erin(1);
    let (mut a, b) = world.call(alice, erin, "sip:erin@globex.test");
    // Who hears whom: each relay joins its own phone to the other relay.
    for (proxy, phone, other) in [(IE1, alice, 2), (US1, erin, 1)] {
        let session = world.proxies[proxy].relay.session();
        assert!(session.joined.is_some());
        let remotes: Vec<_> = session.remotes.values().map(|it| it.rtp.ip().to_string()).collect();
        assert!(remotes.contains(&world.phones[phone].address.ip().to_string()), "{remotes:?}");
        assert!(remotes.contains(&format!("10.0.{other}.9")), "{remotes:?}");
        let away = session.remotes.values().find(|it| it.rtp.ip().to_string().starts_with("10.0"));
        let keys = away.unwrap().sdes.as_ref().expect("SRTP between the relays");
        assert_eq!(keys.send.suite, SrtpSuite::AeadAes128Gcm);
        assert!(away.unwrap().rtcp_mux);
    }
    // Each by its own account's policy: acme records nothing, globex all.
    assert!(!world.proxies[IE1].relay.session().is_recording);
    assert!(world.proxies[US1].relay.session().is_recording);
    assert_eq!(b.invite.from().unwrap().uri.to_string(), "sip:alice@acme.test");
    world.hang_up(&mut a);
    assert!(world.phones[erin].take(Method::Bye).is_some());

    assert_eq!(join_of(&world, IE1), join_of(&world, US1));
    let (home, away) = (&world.proxies[IE1].ledger, &world.proxies[US1].ledger);
    let (mine, theirs) = (home.opened(home.calls()[0]), away.opened(away.calls()[0]));
    assert_ne!(home.calls()[0], away.calls()[0]);
    assert_eq!(
        (mine.direction, theirs.direction),
        (CallDirection::Outbound, CallDirection::Inbound)
    );
    assert_eq!(mine.from.expose(), "alice");
    assert_eq!(mine.to.expose(), "erin@globex.test");
    assert_eq!(theirs.from.expose(), "alice@acme.test");
    assert_eq!(theirs.to.expose(), "erin");
    assert_eq!((mine.home_region.as_str(), theirs.home_region.as_str()), ("ie1", "us1"));
    assert_eq!(party(&world, IE1, LegRole::B), Party::Region("us1".parse().unwrap()));
    assert_eq!(party(&world, US1, LegRole::A), Party::Region("ie1".parse().unwrap()));
    assert_eq!(home.last().cause, "caller_hung_up");
    assert_eq!(away.last().cause, "caller_hung_up");
    assert_eq!(world.proxies[IE1].core.counters().region_calls_out, 1);
    assert_eq!(world.proxies[US1].core.counters().region_calls_in, 1);
    world.assert_at_rest();
}

#[test]
fn nothing_crosses_but_what_the_call_needs() {
    let (mut world, alice, erin) = alice_and_erin(2);
    let mut invite = {
        let ip = world.phones[alice].address.ip().to_string();
        let body = sdp(&ip, 4000, "");
        world.invite_request(alice, "sip:erin@globex.test", Some(&body))
    };
    invite.headers.push(HeaderName::Subject, "private matter");
    invite.headers.push(HeaderName::parse("X-Customer"), "4711");
    // A caller's own token is none.
    invite.headers.push(HeaderName::parse("Landline-Join"), JoinToken::from_u128(1).to_string());
    let challenge = {
        world.send_request(alice, invite.clone());
        world.settle();
        world.phones[alice].take_final().unwrap()
    };
    let proven = world.phones[alice].proven(&invite, &challenge, 1);
    world.send_request(alice, proven.clone());
    world.settle();
    let rung = world.phones[erin].take(Method::Invite).unwrap();
    let response = Response::for_request(&rung.1, StatusCode::RINGING).with_to_tag("r");
    world.respond(erin, rung.0, response.with_header(HeaderName::Contact, "<sip:erin@10.1.0.11>"));
    let mut b = world.answer(erin, &rung, &sdp("10.1.0.11", 4000, ""));
    world.confirm(alice, &proven, None);
    let mut bye = b.dialog.request(Method::Bye);
    bye.headers.push(HeaderName::Reason, "SIP;cause=200;text=\"tell nobody\"");
    world.send_request(b.phone, bye);
    b.phone = erin;
    world.settle();

    assert!(world.crossed.len() >= 6, "{:?}", world.crossed);
    let sids: Vec<_> = [IE1, US1]
        .iter()
        .flat_map(|proxy| steps(&world, *proxy))
        .flat_map(|event| match &event.step {
            Step::LegOpened(leg) => vec![event.call.to_string(), leg.leg.to_string()],
            _ => vec![event.account.to_string()],
        })
        .collect();
    for text in &world.crossed {
        for trace in ["10.1.0.", "secret", "Phone/", "private", "4711", "tell nobody", "alice S"] {
            assert!(!text.contains(trace), "{trace} in {text}");
        }
        for sid in &sids {
            assert!(!text.contains(sid), "{sid} in {text}");
        }
        assert!(!text.contains(&JoinToken::from_u128(1).to_string()));
    }
    // Every header that a request carries across, and no other.
    let invite = crossing_invites(&world)[0].clone();
    let names: Vec<_> = invite
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        names,
        [
            "Via",
            "Max-Forwards",
            "From",
            "To",
            "Call-ID",
            "CSeq",
            "Contact",
            "Allow",
            "Accept",
            "Supported",
            "Session-Expires",
            "Landline-Join",
            "Content-Type",
            "Content-Length"
        ]
    );
    world.assert_at_rest();
}

#[test]
fn what_the_logs_say_names_nobody() {
    let (mut world, alice, erin) = alice_and_erin(3);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    world.hang_up(&mut a);
    for proxy in [IE1, US1] {
        let logs = &world.proxies[proxy].logs;
        let logged: String = logs.iter().map(|it| format!("{it}\n{it:?}\n")).collect();
        for trace in ["alice", "erin", "acme.test", "globex.test", "10.1.0."] {
            assert!(!logged.contains(trace), "{trace} in {logged}");
        }
    }
    let left = world.proxies[IE1].logs.iter().filter(|it| it.to_string().contains("leaves for"));
    assert_eq!(left.count(), 1);
}

#[test]
fn a_number_of_another_region_is_found_by_its_token() {
    let (mut world, alice, erin) = alice_and_erin(4);
    let (mut a, b) = world.call(alice, erin, &format!("sip:{ERIN}@acme.test"));
    assert_eq!(b.invite.from().unwrap().uri.to_string(), "sip:+353100000001@acme.test");
    let invite = crossing_invites(&world)[0];
    assert!(invite.starts_with(&format!("INVITE sip:{ERIN}@globex.test ")), "{invite}");
    assert!(!invite.contains("alice"), "{invite}");
    world.hang_up(&mut a);
    assert_eq!(join_of(&world, IE1), join_of(&world, US1));
    world.assert_at_rest();
}

#[test]
fn local_numbers_come_first_then_the_directory_then_trunks() {
    let (mut world, alice, erin) = alice_and_erin(5);
    let [bob] = world.registered(["bob"]);
    // Somebody else's token for bob's number changes nothing.
    let mut directory = world.directory();
    let key = landline_region::NumberKey::new(&world::NUMBER_KEY);
    directory.numbers.insert(key.token("+353100000002"), "globex.test".into());
    world.set_directory(&directory);
    let carrier =
        world.station("carrier", "10.9.0.1", "10.9.0.1:5060".parse().unwrap(), IE1, Transport::Udp);
    world.dial(alice, "sip:+353100000002@acme.test");
    assert!(world.phones[bob].take(Method::Invite).is_some());
    world.dial(alice, &format!("sip:{ERIN}@acme.test"));
    assert!(world.phones[erin].take(Method::Invite).is_some());
    assert!(world.phones[carrier].take(Method::Invite).is_none());
    world.dial(alice, "sip:+12125550199@acme.test");
    assert!(world.phones[carrier].take(Method::Invite).is_some());
}

#[test]
fn a_number_whose_owner_takes_no_such_calls_goes_by_the_callers_own_trunk() {
    let mut world = regions(6, CallsFrom::None);
    let [alice] = world.registered(["alice"]);
    let carrier =
        world.station("carrier", "10.9.0.1", "10.9.0.1:5060".parse().unwrap(), IE1, Transport::Udp);
    world.dial(alice, &format!("sip:{ERIN}@acme.test"));
    assert!(world.phones[carrier].take(Method::Invite).is_some());
    assert!(world.crossed.is_empty());
}

#[test]
fn an_account_is_called_by_nobody_unless_it_says_so() {
    for policy in [CallsFrom::None, CallsFrom::Region] {
        let mut world = regions(7, policy);
        let [alice] = world.registered(["alice"]);
        let erin = at_us1(&mut world, "erin", 11);
        let request = world.invite_request(alice, "sip:erin@globex.test", None);
        assert_eq!(world.ask(alice, request).status.code(), 403);
        assert!(world.phones[erin].requests.is_empty());
        assert!(world.crossed.is_empty(), "refused before anything leaves");
        assert_eq!(world.proxies[IE1].ledger.last().cause, "forbidden");
        world.assert_at_rest();
    }
}

#[test]
fn the_callees_home_asks_again() {
    // ie1's directory is older than the account's decision.
    let mut world = regions(8, CallsFrom::None);
    let mut directory = world.directory();
    directory.accounts.get_mut("globex.test").unwrap().calls_from = CallsFrom::Any;
    world.set_directory(&directory);
    let [alice] = world.registered(["alice"]);
    let erin = at_us1(&mut world, "erin", 11);
    let (_, _) = world.dial(alice, "sip:erin@globex.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 403);
    assert!(world.phones[erin].requests.is_empty());
    assert_eq!(world.proxies[IE1].ledger.last().cause, "forbidden");
    assert!(world.proxies[US1].ledger.events.is_empty());
    assert_eq!(world.proxies[US1].core.counters().region_calls_refused, 1);
    // Nor does it tell who exists there.
    world.dial(alice, "sip:nobody@globex.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 403);
    world.assert_at_rest();
}

#[test]
fn an_account_of_the_same_region_is_called_the_same_way() {
    let mut acme = tenants::with_account(tenants::acme(), |_| {});
    let mut more = globex(CallsFrom::Region);
    let globex = Arc::make_mut(&mut more.accounts[0]);
    globex.home_region = "ie1".parse().unwrap();
    acme.accounts.append(&mut more.accounts);
    acme.users.append(&mut more.users);
    acme.numbers.append(&mut more.numbers);
    let mut world = World::new(9);
    world.add_proxy("ie1", 1, acme, |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let erin = world.phone_at("erin", "globex.test", 11, IE1, Transport::Udp);
    world.register(erin);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    world.hang_up(&mut a);
    let ledger = &world.proxies[IE1].ledger;
    let calls = ledger.calls();
    assert_eq!(calls.len(), 2);
    let accounts: Vec<_> = calls.iter().map(|it| ledger.of(*it).next().unwrap().account).collect();
    assert_ne!(accounts[0], accounts[1]);
    world.assert_at_rest();
}

#[test]
fn who_is_held_across_regions_hears_what_its_own_home_plays() {
    let music = |account: &mut Account| account.hold_music = HoldMusic::BuiltIn;
    for (seed, hold) in [(14, "sendonly"), (15, "inactive")] {
        let mut world = World::new(seed);
        world.add_proxy("ie1", 1, tenants::with_account(tenants::acme(), music), |_| {});
        let us1 = tenants::with_account(tenants::globex(), |it| {
            (it.calls_from, it.hold_music) = (CallsFrom::Any, HoldMusic::BuiltIn);
        });
        world.add_proxy("us1", 2, us1, |_| {});
        world.share_directory();
        let [alice] = world.registered(["alice"]);
        let erin = at_us1(&mut world, "erin", 11);
        let (a, b) = world.call(alice, erin, "sip:erin@globex.test");
        for (mut holder, held, home) in [(a.clone(), b.clone(), US1), (b, a, IE1)] {
            let before: Vec<usize> = [IE1, US1].map(|it| played(&world, it).len()).to_vec();
            let offer = sdp(ip(&holder), 4000, &format!("a={hold}\r\n"));
            world.within(&mut holder, Method::Update, Some(&offer));
            let answer = sdp(ip(&held), 4000, "a=recvonly\r\n");
            let asked = world.answer_within(&held, Method::Update, 200, Some(&answer));
            assert!(text(&asked.body).contains("a=sendonly\r\n"), "its home speaks for it");
            assert_eq!(world.phones[holder.phone].take_final().unwrap().status.code(), 200);
            for proxy in [IE1, US1] {
                let new = &played(&world, proxy)[before[proxy]..];
                assert_eq!(new.len(), usize::from(proxy == home), "{hold} {proxy}: {new:?}");
                assert!(new.iter().all(|op| matches!(op, Op::Play(..))), "{new:?}");
            }
            let offer = sdp(ip(&holder), 4000, "");
            world.within(&mut holder, Method::Update, Some(&offer));
            let answer = sdp(ip(&held), 4000, "");
            world.answer_within(&held, Method::Update, 200, Some(&answer));
            assert_eq!(world.phones[holder.phone].take_final().unwrap().status.code(), 200);
            assert!(matches!(played(&world, home)[..], [.., Op::Hush(_)]));
        }
    }
}

/// What a region's relay was told of what it plays.
fn played(world: &World, proxy: usize) -> Vec<Op> {
    let ops = world.proxies[proxy].relay.ops.iter().map(|(_, op)| op.clone());
    ops.filter(|op| matches!(op, Op::Play(..) | Op::Hush(_))).collect()
}

#[test]
fn hold_and_codecs_pass_across() {
    let (mut world, alice, erin) = alice_and_erin(10);
    let body = "v=0\r\no=phone 1 1 IN IP4 10.1.0.1\r\ns=-\r\nc=IN IP4 10.1.0.1\r\nt=0 0\r\n\
                m=audio 4000 RTP/AVP 96 9 0\r\na=rtpmap:96 opus/48000/2\r\n\
                a=fmtp:96 useinbandfec=1\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n";
    let (_, invite) = world.invite(alice, "sip:erin@globex.test", Some(body));
    let rung = world.phones[erin].take(Method::Invite).unwrap();
    let offered = String::from_utf8_lossy(&rung.1.body).into_owned();
    assert!(offered.contains("opus/48000/2") && offered.contains("useinbandfec=1"), "{offered}");
    assert!(offered.contains("m=audio") && offered.contains(" 96 9 0 8 101\r\n"), "{offered}");
    let answer = body.replace("10.1.0.1", "10.1.0.11").replace(" 96 9 0", " 96");
    let b = world.answer(erin, &rung, &answer);
    let mut a = world.confirm(alice, &invite, None);
    for proxy in [IE1, US1] {
        for remote in world.proxies[proxy].relay.session().remotes.values() {
            assert_eq!(remote.payload_types.len(), 1, "{:?}", remote.payload_types);
        }
    }
    world.phones[erin].take_ack();

    // Hold by the caller, in the codec that was agreed.
    let hold = body.replace(" 96 9 0", " 96") + "a=sendonly\r\n";
    world.within(&mut a, Method::Invite, Some(&hold));
    let held =
        world.answer_within(&b, Method::Invite, 200, Some(&(answer.clone() + "a=recvonly\r\n")));
    assert!(String::from_utf8_lossy(&held.body).contains("a=sendonly"));
    let response = world.phones[alice].take_final().unwrap();
    assert!(String::from_utf8_lossy(&response.body).contains("a=recvonly"));
    world.ack(&a, response.cseq().unwrap().number, None);
    assert!(world.phones[erin].take_ack().is_some());
    // And back by the callee.
    let mut b = b;
    world.within(&mut b, Method::Invite, Some(&answer));
    let resumed = world.answer_within(&a, Method::Invite, 200, Some(body));
    assert!(String::from_utf8_lossy(&resumed.body).contains("a=sendrecv"));
    let response = world.phones[erin].take_final().unwrap();
    world.ack(&b, response.cseq().unwrap().number, None);
    // The callee hangs up.
    world.hang_up(&mut b);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    for proxy in [IE1, US1] {
        assert_eq!(world.proxies[proxy].ledger.last().cause, "callee_hung_up");
    }
    world.assert_at_rest();
}

#[test]
fn an_offer_in_the_answer_works_across() {
    let (mut world, alice, erin) = alice_and_erin(11);
    let (_, invite) = world.invite(alice, "sip:erin@globex.test", None);
    world.pick_up(erin);
    let mut a = world.confirm(alice, &invite, Some(&sdp("10.1.0.1", 4000, "")));
    for proxy in [IE1, US1] {
        assert!(world.proxies[proxy].relay.session().joined.is_some());
    }
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn busy_refused_unregistered_unknown_and_unanswered_are_told_by_the_callees_home() {
    let cases = [
        (Some(486), "erin", (486, "busy"), (486, "busy")),
        (Some(603), "erin", (603, "declined"), (603, "declined")),
        (None, "frank", (480, "unreachable"), (480, "unreachable")),
        (None, "nobody", (404, "not_found"), (404, "not_found")),
    ];
    for (said, callee, caller, home) in cases {
        let (mut world, alice, erin) = alice_and_erin(12);
        world.dial(alice, &format!("sip:{callee}@globex.test"));
        if let Some(status) = said {
            let rung = world.phones[erin].take(Method::Invite).unwrap();
            world.say(erin, &rung, status);
        }
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), caller.0, "{callee}");
        let told = world.proxies[IE1].ledger.last();
        assert_eq!((told.status, told.cause), caller, "{callee}");
        let told = world.proxies[US1].ledger.last();
        assert_eq!((told.status, told.cause), home, "{callee}");
        assert_eq!(join_of(&world, IE1), join_of(&world, US1));
        world.assert_at_rest();
    }
}

#[test]
fn nobody_answers_and_both_records_say_so() {
    let (mut world, alice, erin) = alice_and_erin(13);
    world.dial(alice, "sip:erin@globex.test");
    let rung = world.phones[erin].requests[0].clone();
    world.say(erin, &(rung.0.unwrap(), rung.2.clone()), 180);
    assert!(world.phones[alice].statuses().contains(&180));
    world.wait(64);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 480);
    for proxy in [IE1, US1] {
        let last = world.proxies[proxy].ledger.last();
        assert_eq!((last.cause, last.rang), ("no_answer", true), "{proxy}");
    }
    assert_eq!(world.phones[erin].others, ["cancelled"]);
    world.assert_at_rest();
}

#[test]
fn a_cancel_reaches_the_other_regions_phone() {
    let (mut world, alice, erin) = alice_and_erin(14);
    let (key, _) = world.dial(alice, "sip:erin@globex.test");
    world.wait(1);
    world.cancel(alice, key);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 487);
    assert_eq!(world.phones[erin].others, ["cancelled"]);
    for proxy in [IE1, US1] {
        assert_eq!(world.proxies[proxy].ledger.last().cause, "caller_cancelled");
    }
    world.assert_at_rest();
}

#[test]
fn a_caller_at_the_wrong_edge_still_calls_from_home() {
    // Alice is in the US: us1 forwards to ie1, and ie1 calls globex in us1.
    let mut world = regions(15, CallsFrom::Any);
    let alice = world.phone_at("alice", "acme.test", 1, US1, Transport::Udp);
    world.register(alice);
    let erin = at_us1(&mut world, "erin", 11);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    world.hang_up(&mut a);
    assert!(world.phones[erin].take(Method::Bye).is_some());
    assert_eq!(world.proxies[IE1].ledger.calls().len(), 1);
    assert_eq!(world.proxies[US1].ledger.calls().len(), 1);
    assert_eq!(join_of(&world, IE1), join_of(&world, US1));
    world.assert_at_rest();
}

#[test]
fn a_client_cannot_call_as_a_region() {
    let mut world = regions(16, CallsFrom::Any);
    let alice = world.phone_at("alice", "acme.test", 1, US1, Transport::Udp);
    world.register(alice);
    // To ie1, by the edge, with a token and somebody else's name.
    let join = JoinToken::from_u128(5).to_string();
    for from in ["<sip:erin@globex.test>;tag=1", "<sip:x@nowhere.test>;tag=1"] {
        let mut request = world.invite_request(alice, "sip:bob@acme.test", None);
        request.headers.push(HeaderName::parse("Landline-Join"), join.as_str());
        request.headers.set(HeaderName::From, from);
        world.phones[alice].responses.clear();
        world.send_request(alice, request);
        world.settle();
        let status = world.phones[alice].take_final().unwrap().status.code();
        assert_eq!(status, 407, "{from}");
    }
    assert!(world.crossed.iter().all(|text| !text.contains(&join)));
    assert!(world.proxies[IE1].ledger.events.is_empty());
}

#[test]
fn a_region_speaks_for_its_own_accounts_alone() {
    // us1 takes acme for its own account and calls globex of au1 in its name.
    let mut world = World::new(17);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, globex(CallsFrom::Any), |_| {});
    world.share_directory();
    let [alice] = world.registered(["alice"]);
    let mut directory = world.directory();
    directory.accounts.get_mut("acme.test").unwrap().home_region = "us1".parse().unwrap();
    world.input(US1, Input::Directory(Arc::new(directory)));
    world.dial(alice, "sip:erin@globex.test");
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 403);
    assert_eq!(world.proxies[US1].core.counters().peer_violations, 1);
    assert!(world.proxies[US1].ledger.events.is_empty());
}

/// ie1 has a trunk of its own that would take any number.
fn with_carrier(world: &mut World) -> usize {
    let address = "10.9.0.1:5060".parse().unwrap();
    world.station("carrier", "10.9.0.1", address, IE1, Transport::Udp)
}

#[test]
fn a_dead_region_is_told_as_such_and_no_trunk_takes_its_place() {
    for dialled in ["sip:erin@globex.test".to_owned(), format!("sip:{ERIN}@acme.test")] {
        let (mut world, alice, _) = alice_and_erin(18);
        let carrier = with_carrier(&mut world);
        let address = world.proxies[US1].inter_region;
        world.dead.push(address);
        world.dial(alice, &dialled);
        let told = world.phones[alice].take_final().unwrap();
        assert_eq!(told.status.code(), 503, "{dialled}");
        let reason = told.headers.get(&HeaderName::Reason).unwrap().to_str_lossy().into_owned();
        assert_eq!(reason, "SIP;cause=503;text=\"Region unreachable\"");
        assert!(told.headers.contains(&HeaderName::RetryAfter));
        assert_eq!(world.proxies[IE1].ledger.last().cause, "unreachable");
        assert!(world.phones[carrier].requests.is_empty());
        world.assert_at_rest();
    }
}

#[test]
fn the_next_proxy_of_a_region_takes_over_from_a_dead_one() {
    let (mut world, alice, erin) = alice_and_erin(19);
    let mut directory = world.directory();
    let proxies = &mut directory.regions.get_mut(&"us1".parse().unwrap()).unwrap().proxies;
    let dead =
        landline_call::directory::InterRegionAddress { host: "10.0.2.66".into(), port: 7061 };
    proxies.insert(0, dead);
    world.dead.push("10.0.2.66:7061".parse().unwrap());
    world.set_directory(&directory);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    world.hang_up(&mut a);
    assert_eq!(world.proxies[IE1].ledger.last().cause, "caller_hung_up");
    world.assert_at_rest();
}

#[test]
fn a_bye_whose_connection_to_the_other_region_broke_goes_by_a_new_one() {
    let (mut world, alice, erin) = alice_and_erin(26);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    let far = world.proxies[US1].inter_region;
    world.broken.push(far);
    world.hang_up(&mut a);
    assert!(world.broken.is_empty(), "it went another way");
    assert!(world.phones[erin].take(Method::Bye).is_some());
    assert_eq!(world.proxies[US1].ledger.last().cause, "caller_hung_up");
    world.assert_at_rest();
}

#[test]
fn a_busy_callee_is_not_tried_by_the_regions_other_proxies() {
    let (mut world, alice, erin) = alice_and_erin(20);
    let mut directory = world.directory();
    let proxies = &mut directory.regions.get_mut(&"us1".parse().unwrap()).unwrap().proxies;
    proxies.push(proxies[0].clone());
    world.set_directory(&directory);
    world.dial(alice, "sip:erin@globex.test");
    let rung = world.phones[erin].take(Method::Invite).unwrap();
    world.say(erin, &rung, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 486);
    assert!(world.phones[erin].take(Method::Invite).is_none());
    assert_eq!(crossing_invites(&world).len(), 1);
    world.assert_at_rest();
}

#[test]
fn a_moved_account_is_not_followed_on_a_peers_word() {
    // ie1's directory still has globex in us1; us1 knows better.
    let mut world = World::new(21);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, Tenancy::default(), |_| {});
    let mut moved = globex(CallsFrom::Any);
    Arc::make_mut(&mut moved.accounts[0]).home_region = "au1".parse().unwrap();
    world.add_proxy("au1", 3, moved, |_| {});
    world.share_directory();
    let mut stale = world.directory();
    stale.accounts.get_mut("globex.test").unwrap().home_region = "us1".parse().unwrap();
    let carrier = with_carrier(&mut world);
    let [alice] = world.registered(["alice"]);
    world.input(IE1, Input::Directory(Arc::new(stale)));
    for dialled in ["sip:erin@globex.test".to_owned(), format!("sip:{ERIN}@acme.test")] {
        world.dial(alice, &dialled);
        let told = world.phones[alice].take_final().unwrap();
        assert_eq!(told.status.code(), 480);
        let reason = told.headers.get(&HeaderName::Reason).unwrap().to_str_lossy().into_owned();
        assert!(reason.starts_with("SIP;cause=410"), "{reason}");
        assert_eq!(world.proxies[IE1].ledger.last().cause, "unreachable");
    }
    assert!(world.proxies[US1].ledger.events.is_empty());
    assert_eq!(world.proxies[US1].core.counters().region_calls_refused, 2);
    assert!(world.phones[carrier].requests.is_empty());
    world.assert_at_rest();
}

#[test]
fn a_moved_number_is_not_found_at_its_former_owner() {
    let (mut world, alice, erin) = alice_and_erin(22);
    let carrier = with_carrier(&mut world);
    let mut without = globex(CallsFrom::Any);
    without.numbers.clear();
    let tenants = landline_call::Tenants::new(&without);
    world.input(US1, Input::Tenancy(Arc::new(tenants)));
    world.dial(alice, &format!("sip:{ERIN}@acme.test"));
    assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 404);
    assert!(world.phones[erin].requests.is_empty());
    assert!(world.phones[carrier].requests.is_empty());
    for proxy in [IE1, US1] {
        assert_eq!(world.proxies[proxy].ledger.last().cause, "not_found");
    }
    world.assert_at_rest();
}

#[test]
fn nobody_calls_out_by_a_trunk_of_another_regions_account() {
    let mut theirs = globex(CallsFrom::Any);
    let sid = TrunkSid::from_u128(99);
    let mut trunk = (*tenants::acme().trunks[0]).clone();
    (trunk.sid, trunk.account) = (sid, theirs.accounts[0].sid);
    theirs.trunks.push(Arc::new(trunk));
    Arc::make_mut(&mut theirs.numbers[0]).target = NumberTarget::Trunk(sid);
    let mut world = World::new(23);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    world.add_proxy("us1", 2, theirs, |_| {});
    world.share_directory();
    let address = "10.9.0.1:5060".parse().unwrap();
    let carrier = world.station("carrier", "10.9.0.1", address, US1, Transport::Udp);
    let [alice] = world.registered(["alice"]);
    for dialled in [format!("sip:{ERIN}@acme.test"), "sip:+12125550999@globex.test".to_owned()] {
        world.dial(alice, &dialled);
        assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 404, "{dialled}");
    }
    assert!(world.phones[carrier].requests.is_empty());
    world.assert_at_rest();
}

#[test]
fn without_a_directory_calls_stay_within_the_account_and_its_trunks() {
    let (mut world, alice, _) = alice_and_erin(24);
    let [bob] = world.registered(["bob"]);
    let carrier = with_carrier(&mut world);
    world.input(IE1, Input::Directory(Arc::new(Directory::default())));
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    world.hang_up(&mut a);
    world.dial(alice, &format!("sip:{ERIN}@acme.test"));
    let (key, invite) = world.phones[carrier].take(Method::Invite).expect("the account's trunk");
    world.say(carrier, &(key, invite), 486);
    assert_eq!(world.phones[alice].take_final().map(|it| it.status.code()), Some(486));
    world.dial(alice, "sip:erin@globex.test");
    assert_eq!(world.phones[alice].take_final().map(|it| it.status.code()), Some(404));
    assert!(world.crossed.is_empty());
    world.assert_at_rest();
}

#[test]
fn a_relay_that_dies_ends_its_own_regions_half_and_the_other_is_told() {
    let (mut world, alice, erin) = alice_and_erin(25);
    let (_a, _b) = world.call(alice, erin, "sip:erin@globex.test");
    world.input(US1, Input::RelayLost { relay: landline_control::RelayId("relay-1".into()) });
    // None takes its place in time.
    world.wait(7);
    assert!(world.phones[alice].take(Method::Bye).is_some());
    assert!(world.phones[erin].take(Method::Bye).is_some());
    assert_eq!(world.proxies[US1].ledger.last().cause, "lost");
    assert_eq!(world.proxies[IE1].ledger.last().cause, "callee_hung_up");
    // No relay of the other region stands in for it.
    world.dial(alice, "sip:erin@globex.test");
    let told = world.phones[alice].take_final().unwrap();
    assert_eq!(told.status.code(), 503);
    assert_eq!(world.proxies[US1].ledger.last().cause, "failed");
}

#[test]
fn no_plain_rtp_goes_between_regions() {
    let (mut world, alice, erin) = alice_and_erin(26);
    let (mut a, _) = world.call(alice, erin, "sip:erin@globex.test");
    for text in crossing_invites(&world) {
        assert!(
            text.contains("RTP/SAVP ") && text.contains("a=crypto:1 AEAD_AES_128_GCM"),
            "{text}"
        );
    }
    let protocols: Vec<_> = world.proxies[US1].relay.session().specs.values().collect();
    assert!(protocols.iter().any(|it| it.protocol == Protocol::Sdes));
    world.hang_up(&mut a);
    world.assert_at_rest();
}

#[test]
fn the_egress_gate_has_the_last_word() {
    let declared = |codes: &[&str]| Declared {
        regions: codes.iter().map(|code| code.parse().unwrap()).collect(),
        ..Declared::default()
    };
    let gate = |codes: &[&str]| Arc::new(Gate::new("ie1".parse().unwrap(), declared(codes)));
    for (known, status) in [(&["ie1", "us1"][..], 200), (&["ie1"][..], 403)] {
        let gate = gate(known);
        let mut world = World::new(27);
        let asked = gate.clone();
        world.add_proxy("ie1", 1, tenants::acme(), |config| config.egress = Some(asked));
        world.add_proxy("us1", 2, globex(CallsFrom::Any), |_| {});
        world.share_directory();
        let [alice] = world.registered(["alice"]);
        let erin = at_us1(&mut world, "erin", 11);
        let (_, invite) = world.dial(alice, "sip:erin@globex.test");
        let counted = gate.counted();
        if status == 403 {
            assert_eq!(world.phones[alice].take_final().unwrap().status.code(), 403);
            assert!(world.crossed.is_empty() && world.phones[erin].requests.is_empty());
            assert_eq!(world.proxies[IE1].ledger.last().cause, "forbidden");
            assert_eq!(counted.len(), 1, "{counted:?}");
            assert_eq!(counted[0].verdict, Verdict::Refused("unknown_region"));
        } else {
            world.pick_up(erin);
            let mut a = world.confirm(alice, &invite, None);
            world.hang_up(&mut a);
            assert!(counted.is_empty(), "what passes is counted where it is sent: {counted:?}");
        }
        world.assert_at_rest();
    }
}

#[test]
fn a_client_behind_an_edge_is_no_region_whatever_it_says() {
    let mut world = regions(40, CallsFrom::Any);
    let [bob] = world.registered(["bob"]);
    world.proxies[IE1].tenancy = tenants::acme();
    let mut open = tenants::acme();
    Arc::make_mut(&mut open.accounts[0]).calls_from = CallsFrom::Any;
    world.input(IE1, Input::Tenancy(Arc::new(landline_call::Tenants::new(&open))));
    // Alice travels, and has a way of her own through us1.
    let alice = world.phone_at("alice", "acme.test", 33, US1, Transport::Udp);
    world.register(alice);
    let kept = world.proxies[IE1].stored.last().unwrap();
    let landline_call::binding::BindingChange::Put(binding) = kept else { panic!() };
    let path = binding.path[0].expose().clone();
    // As erin, who is at home in us1, and of whom us1 would speak so.
    let body = sdp("10.1.0.33", 4000, "");
    let mut invite = world.invite_request(alice, "sip:bob@acme.test", Some(&body));
    invite.headers.set(HeaderName::From, "<sip:erin@globex.test>;tag=forged");
    invite.headers.push(HeaderName::parse("Landline-Join"), JoinToken::from_u128(7).to_string());
    invite.headers.push(HeaderName::Route, path);
    world.phones[alice].responses.clear();
    world.send_request(alice, invite);
    world.settle();
    assert!(!world.phones[bob].has_invite(), "bob's phone rings for a forger");
    assert!(world.phones[alice].take_final().unwrap().status.code() >= 400);
    assert_eq!(world.proxies[IE1].core.counters().region_calls_in, 0);
}
