//! Calls whose relay dies, is cut off, or is to be emptied, go over to another.

mod world;

use std::time::Duration;

use landline_call::record::Step;
use landline_call::tenancy::{Account, HoldMusic};
use landline_call::{Input, Log};
use landline_control::{
    Direction, Event, FromRelay, Hello, KeyAndSalt, KeyPair, LegId, LegKeys, LegStats, Op, Play,
    Protocol, RelayId, SessionId, Sound, SrtpSuite, StreamStats,
};
use landline_sip::Method;
use world::phone::{Leg, ip, sdp, text, version};
use world::relay::FakeRelay;
use world::{World, tenants, up, up_recorded};

fn id(name: &str) -> RelayId {
    RelayId(name.into())
}

fn plain(leg: &Leg) -> String {
    sdp(ip(leg), 4000, "")
}

impl World {
    fn relay_comes(&mut self, name: &str, number: u8) {
        self.proxies[0].others.entry(id(name)).or_insert_with(|| FakeRelay::new(number));
        self.connected(name, 1);
    }

    fn connected(&mut self, name: &str, incarnation: u64) {
        self.proxies[0].dead_relays.retain(|it| *it != id(name));
        let region = self.proxies[0].region;
        let hello = Hello { version: 1, region, name: name.into(), incarnation };
        self.input(0, Input::RelayConnected { relay: id(name), hello });
    }

    fn relay_dies(&mut self, name: &str) {
        self.proxies[0].dead_relays.push(id(name));
        self.input(0, Input::RelayLost { relay: id(name) });
        self.run(Duration::from_millis(50));
    }

    fn drains(&mut self, name: &str) {
        let message = FromRelay::Draining;
        self.input(0, Input::Relay { relay: id(name), message });
        self.run(Duration::from_millis(50));
    }

    fn other(&self, name: &str) -> &FakeRelay {
        &self.proxies[0].others[&id(name)]
    }

    /// A side agrees to go where it is asked to; what it was offered.
    fn agrees(&mut self, leg: &Leg) -> String {
        let asked = self.answer_within(leg, Method::Invite, 200, Some(&plain(leg)));
        assert!(self.phones[leg.phone].take_ack().is_some(), "the ACK");
        text(&asked.body)
    }

    fn is_asked(&self, leg: &Leg) -> bool {
        let requests = &self.phones[leg.phone].requests;
        requests.iter().any(|(_, _, request)| request.method == Method::Invite)
    }

    fn moves(&self) -> Vec<(String, String)> {
        let moved = self.proxies[0].ledger.events.iter().filter_map(|event| match &event.step {
            Step::Moved { from, to } => Some((from.0.clone(), to.0.clone())),
            _ => None,
        });
        moved.collect()
    }

    fn counters(&self) -> landline_call::Counters {
        self.proxies[0].core.counters().clone()
    }

    /// Both sides were told of `relay-2` and agree; the call is there.
    fn moves_to_the_second(&mut self, a: &Leg, b: &Leg) -> [String; 2] {
        let told = [self.agrees(a), self.agrees(b)];
        self.settle();
        for offer in &told {
            assert!(offer.contains("c=IN IP4 10.0.52.9\r\n"), "{offer}");
        }
        let session = self.other("relay-2").session();
        assert_eq!(session.joined, Some((LegId(0), LegId(1))));
        assert_eq!(self.moves().last(), Some(&("relay-1".into(), "relay-2".into())));
        told
    }

    fn ends(mut self, leg: &mut Leg, cause: &str) {
        self.hang_up(leg);
        self.run(Duration::from_secs(1));
        assert_eq!(self.proxies[0].ledger.last().cause, cause);
        self.assert_at_rest();
    }
}

#[test]
fn music_on_hold_goes_on_at_the_relay_that_the_call_moves_to() {
    let mut world = World::new(61);
    let built_in = |account: &mut Account| account.hold_music = HoldMusic::BuiltIn;
    world.add_proxy("ie1", 1, tenants::with_account(tenants::acme(), built_in), |_| {});
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (mut a, b) = world.call(alice, bob, "sip:bob@acme.test");
    let inactive = sdp(ip(&a), 4000, "a=inactive\r\n");
    world.within(&mut a, Method::Update, Some(&inactive));
    let recvonly = sdp(ip(&b), 4000, "a=recvonly\r\n");
    world.answer_within(&b, Method::Update, 200, Some(&recvonly));
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 200);
    world.relay_comes("relay-2", 52);
    world.drains("relay-1");
    for (leg, says, told) in [(&a, "inactive", "recvonly"), (&b, "recvonly", "sendonly")] {
        let reply = sdp(ip(leg), 4000, &format!("a={says}\r\n"));
        let asked = world.answer_within(leg, Method::Invite, 200, Some(&reply));
        assert!(text(&asked.body).contains(&format!("a={told}\r\n")), "{}", text(&asked.body));
    }
    world.settle();
    let ops = world.other("relay-2").ops.iter().map(|(_, op)| op);
    let played: Vec<_> = ops.filter(|op| matches!(op, Op::Play(..) | Op::Hush(_))).collect();
    let tune = Play { sounds: vec![Sound::Tune], repeats: true };
    assert_eq!(played, [&Op::Play(LegId(1), Box::new(tune))]);
}

#[test]
fn a_call_whose_relay_dies_goes_over_to_another_and_stays_one_record() {
    let (mut world, mut a, b) = up(1);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    assert!(world.is_asked(&a) && world.is_asked(&b), "both at once");
    let told = world.moves_to_the_second(&a, &b);
    // Each had one description of ours before (RFC 3264 §8).
    assert_eq!(told.map(|it| version(&it)), [2, 2]);
    let session = world.other("relay-2").session();
    assert_eq!(session.remotes[&LegId(0)].rtp.to_string(), "10.1.0.1:4000");
    assert_eq!(session.remotes[&LegId(1)].rtp.to_string(), "10.1.0.2:4000");
    let log = &world.proxies[0].logs;
    assert!(log.iter().any(|it| matches!(it, Log::CallMoved { to, .. } if *to == id("relay-2"))));
    assert_eq!(world.proxies[0].ledger.calls().len(), 1);
    let call = world.proxies[0].ledger.calls()[0];
    // Later changes are carried as ever.
    world.within(&mut a, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.hang_up(&mut a);
    world.run(Duration::from_secs(1));
    let closed = world.proxies[0].ledger.closed(call).unwrap();
    assert_eq!(closed.relay, Some(id("relay-2")));
    assert_eq!(closed.cause.name(), "caller_hung_up");
    world.assert_at_rest();
}

#[test]
fn what_a_call_did_on_both_relays_is_summed_and_the_recording_goes_on() {
    let (mut world, mut a, b) = up_recorded(2);
    world.relay_comes("relay-2", 52);
    let heard = |packets| LegStats {
        received: StreamStats { packets, ..StreamStats::default() },
        ..LegStats::default()
    };
    let session = world.proxies[0].relay.session_id();
    for packets in [40, 100] {
        let legs = vec![(LegId(0), heard(packets)), (LegId(1), heard(packets + 1))];
        let message = FromRelay::Counted(vec![(session, legs), (SessionId(9999), Vec::new())]);
        world.input(0, Input::Relay { relay: id("relay-1"), message });
    }
    world.relay_dies("relay-1");
    world.moves_to_the_second(&a, &b);
    let session = world.other("relay-2").session();
    assert_eq!((session.is_recording, session.segments), (true, 1));
    world.proxies[0].others.get_mut(&id("relay-2")).unwrap().figures = heard(7);
    world.hang_up(&mut a);
    world.run(Duration::from_secs(1));
    let mut received: Vec<_> = world.proxies[0]
        .ledger
        .events
        .iter()
        .filter_map(|it| {
            let Step::LegClosed(leg) = &it.step else { return None };
            Some(leg.stats.as_ref()?.received.packets)
        })
        .collect();
    received.sort_unstable();
    assert_eq!(received, [107, 108]);
    world.assert_at_rest();
}

#[test]
fn hold_stays_hold() {
    let (mut world, mut a, b) = up(3);
    world.within(&mut a, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    world.ack(&a, response.cseq().unwrap().number, None);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let held = sdp(ip(&a), 4000, "a=sendonly\r\n");
    let asked = world.answer_within(&a, Method::Invite, 200, Some(&held));
    assert!(text(&asked.body).contains("a=recvonly\r\n"), "{}", text(&asked.body));
    let reply = sdp(ip(&b), 4000, "a=recvonly\r\n");
    let asked = world.answer_within(&b, Method::Invite, 200, Some(&reply));
    assert!(text(&asked.body).contains("a=sendonly\r\n"), "{}", text(&asked.body));
    world.settle();
    let session = world.other("relay-2").session();
    assert_eq!(session.remotes[&LegId(0)].direction, Direction::ReceiveOnly);
    assert_eq!(session.remotes[&LegId(1)].direction, Direction::SendOnly);
    assert!(!world.is_asked(&a) && !world.is_asked(&b), "neither learnt anything new");
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn webrtc_gets_new_credentials_and_another_fingerprint() {
    let mut world = World::ie1(4);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let dtls = |ip: &str, setup: &str| {
        let more = format!(
            "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\na=rtcp-mux\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            ["AB"; 32].join(":")
        );
        sdp(ip, 4000, &more).replace("RTP/AVP", "UDP/TLS/RTP/SAVPF")
    };
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&dtls("10.1.0.1", "actpass")));
    let b = world.pick_up(bob);
    let a = world.confirm(alice, &invite, None);
    world.phones[bob].take_ack();
    let before = world.proxies[0].relay.session().remotes[&LegId(0)].clone();
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let reply = dtls("10.1.0.1", "active");
    let asked = world.answer_within(&a, Method::Invite, 200, Some(&reply));
    let offer = text(&asked.body);
    assert!(offer.contains("a=setup:actpass\r\n") && offer.contains("a=ice-ufrag:"), "{offer}");
    assert!(offer.contains(&format!("a=fingerprint:sha-256 {}", ["34"; 32].join(":"))), "{offer}");
    world.agrees(&b);
    world.settle();
    let after = world.other("relay-2").session().remotes[&LegId(0)].clone();
    assert_eq!(after.dtls.as_ref().unwrap().fingerprints, before.dtls.unwrap().fingerprints);
    let mut a = a;
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_collision_is_waited_out_on_either_side() {
    for first in [0, 1] {
        let (mut world, mut a, b) = up(5);
        world.relay_comes("relay-2", 52);
        world.relay_dies("relay-1");
        let (x, y) = if first == 0 { (a.clone(), &b) } else { (b.clone(), &a) };
        // Its own re-INVITE crosses ours: both are told to wait.
        let mut asking = x.clone();
        world.within(&mut asking, Method::Invite, Some(&plain(&x)));
        assert_eq!(world.phones[x.phone].take_final().unwrap().status.code(), 491);
        world.answer_within(&x, Method::Invite, 491, None);
        world.agrees(y);
        assert!(world.moves().is_empty());
        world.wait(5);
        world.agrees(&x);
        world.settle();
        assert_eq!(world.moves().len(), 1);
        a.dialog = if first == 0 { asking.dialog } else { a.dialog };
        world.ends(&mut a, "caller_hung_up");
    }
}

#[test]
fn a_side_that_will_not_move_has_no_media_and_the_call_ends() {
    let (mut world, a, b) = up(6);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.agrees(&a);
    world.answer_within(&b, Method::Invite, 488, None);
    world.settle();
    assert!(world.phones[a.phone].take(Method::Bye).is_some());
    assert!(world.phones[b.phone].take(Method::Bye).is_some());
    assert_eq!(world.proxies[0].ledger.last().cause, "media_lost");
    world.assert_at_rest();
}

#[test]
fn a_side_that_does_not_answer_ends_the_call() {
    let (mut world, a, b) = up(7);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.agrees(&a);
    let _ = b;
    world.wait(40);
    assert_eq!(world.proxies[0].ledger.last().cause, "signalling_lost");
    assert!(world.phones[a.phone].take(Method::Bye).is_some());
    world.assert_at_rest();
}

#[test]
fn without_another_relay_the_call_is_kept_for_a_while() {
    let (mut world, mut a, b) = up(8);
    world.relay_dies("relay-1");
    world.wait(3);
    assert!(!world.is_asked(&a));
    // The same relay, as another process.
    world.proxies[0].relay = FakeRelay::new(1);
    world.connected("relay-1", 2);
    world.run(Duration::from_millis(300));
    world.agrees(&a);
    world.agrees(&b);
    world.settle();
    assert_eq!(world.moves(), [("relay-1".into(), "relay-1".into())]);
    world.wait(20);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_call_that_no_relay_takes_ends_with_a_record() {
    let (mut world, a, b) = up(9);
    world.relay_dies("relay-1");
    world.wait(5);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.wait(2);
    assert_eq!(world.proxies[0].ledger.last().cause, "lost");
    assert_eq!(world.counters().calls_adrift, 1);
    for leg in [&a, &b] {
        let (_, bye) = world.phones[leg.phone].take(Method::Bye).unwrap();
        assert!(text(&bye.to_bytes()).contains("Media relay lost"));
    }
    world.assert_at_rest();
}

#[test]
fn a_relay_that_was_only_out_of_reach_keeps_its_calls() {
    let (mut world, mut a, _) = up(10);
    world.relay_dies("relay-1");
    world.wait(1);
    world.connected("relay-1", 1);
    world.wait(10);
    assert!(!world.is_asked(&a) && world.moves().is_empty());
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_relay_that_comes_back_is_rid_of_the_calls_that_left_or_ended() {
    let (mut world, mut a, b) = up(11);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.moves_to_the_second(&a, &b);
    assert_eq!(world.proxies[0].relay.sessions(), 1, "it knows nothing of that");
    world.connected("relay-1", 1);
    world.settle();
    assert_eq!(world.proxies[0].relay.sessions(), 0);
    world.ends(&mut a, "caller_hung_up");

    let (mut world, mut a, _) = up(12);
    world.relay_dies("relay-1");
    world.hang_up(&mut a);
    world.run(Duration::from_secs(1));
    world.connected("relay-1", 1);
    world.assert_at_rest();
}

#[test]
fn a_link_that_broke_for_a_moment_asks_again_for_what_was_to_be_closed() {
    let (mut world, mut a, _) = up(13);
    world.proxies[0].dead_relays.push(id("relay-1"));
    world.within(&mut a, Method::Bye, None);
    world.connected("relay-1", 1);
    world.settle();
    assert_eq!(world.proxies[0].relay.sessions(), 0);
    assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
    assert_eq!(world.counters().relays_relinked, 1);
    world.assert_at_rest();
}

#[test]
fn hanging_up_in_the_middle_of_a_move_ends_both_sessions() {
    for agreed in [0, 1] {
        let (mut world, mut a, b) = up(14);
        world.relay_comes("relay-2", 52);
        world.relay_dies("relay-1");
        if agreed == 1 {
            world.agrees(&b);
        }
        world.hang_up(&mut a);
        world.settle();
        assert_eq!(world.other("relay-2").sessions(), 0);
        assert!(world.phones[b.phone].take(Method::Bye).is_some());
        assert_eq!(world.proxies[0].ledger.last().cause, "caller_hung_up");
        if agreed == 0 && world.is_asked(&b) {
            world.answer_within(&b, Method::Invite, 200, Some(&plain(&b)));
        }
        world.phones[a.phone].requests.clear();
        world.assert_at_rest();
    }
}

#[test]
fn a_change_under_way_gives_way_and_may_be_asked_again() {
    let (mut world, mut a, b) = up(15);
    world.relay_comes("relay-2", 52);
    world.within(&mut a, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
    world.relay_dies("relay-1");
    assert_eq!(world.phones[a.phone].take_final().unwrap().status.code(), 491);
    world.agrees(&a);
    // Bob's former offer is taken back first.
    world.wait(1);
    let offer = world.agrees(&b);
    assert!(offer.contains("10.0.52.9") && offer.contains("a=sendrecv\r\n"), "{offer}");
    world.settle();
    assert_eq!(world.moves().len(), 1);
    world.within(&mut a, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    world.ack(&a, response.cseq().unwrap().number, None);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_change_that_both_agreed_to_holds_though_the_relay_never_heard_of_it() {
    let (mut world, mut a, b) = up(16);
    world.relay_comes("relay-2", 52);
    world.within(&mut a, Method::Invite, Some(&sdp("10.1.0.1", 4000, "a=sendonly\r\n")));
    world.proxies[0].dead_relays.push(id("relay-1"));
    world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    world.phones[b.phone].take_ack().unwrap();
    world.input(0, Input::RelayLost { relay: id("relay-1") });
    world.settle();
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(response.status.code(), 200);
    // Alice is asked once she has acknowledged (RFC 3261 §14.1).
    assert!(world.is_asked(&b) && !world.is_asked(&a));
    world.ack(&a, response.cseq().unwrap().number, None);
    let held = sdp(ip(&a), 4000, "a=sendonly\r\n");
    world.answer_within(&a, Method::Invite, 200, Some(&held));
    let asked =
        world.answer_within(&b, Method::Invite, 200, Some(&sdp(ip(&b), 4000, "a=recvonly\r\n")));
    assert!(text(&asked.body).contains("a=sendonly\r\n"));
    world.settle();
    assert_eq!(world.moves().len(), 1);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn when_the_successor_dies_too_the_next_takes_over() {
    let (mut world, mut a, b) = up(17);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let first = world.agrees(&a);
    world.relay_comes("relay-3", 53);
    world.relay_dies("relay-2");
    world.run(Duration::from_millis(300));
    let told = [world.agrees(&a), world.agrees(&b)];
    world.settle();
    assert!(told.iter().all(|it| it.contains("10.0.53.9")), "{told:?}");
    assert!(version(&told[0]) > version(&first));
    assert_eq!(world.moves(), [("relay-1".into(), "relay-3".into())]);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_relay_that_refuses_or_is_silent_is_passed_over() {
    for silent in [false, true] {
        let (mut world, mut a, b) = up(18);
        world.relay_comes("relay-2", 52);
        let second = world.proxies[0].others.get_mut(&id("relay-2")).unwrap();
        (second.silent, second.full) = (silent, !silent);
        world.relay_comes("relay-3", 53);
        world.relay_dies("relay-1");
        world.wait(5);
        assert!(world.agrees(&a).contains("10.0.53.9"));
        assert!(world.agrees(&b).contains("10.0.53.9"));
        world.settle();
        assert_eq!(world.moves().len(), 1);
        world.proxies[0].others.get_mut(&id("relay-2")).unwrap().silent = false;
        world.ends(&mut a, "caller_hung_up");
    }
}

#[test]
fn a_relay_is_emptied_and_no_call_is_dropped() {
    let (mut world, mut a, b) = up(19);
    world.relay_comes("relay-2", 52);
    world.drains("relay-1");
    // One after the other: what the first may still refuse the second need not undo.
    assert!(world.is_asked(&a) && !world.is_asked(&b));
    assert!(world.agrees(&a).contains("10.0.52.9"));
    assert_eq!(world.proxies[0].relay.sessions(), 1, "made before it is broken");
    world.agrees(&b);
    world.settle();
    assert_eq!(world.proxies[0].relay.sessions(), 0);
    assert_eq!(world.moves().len(), 1);
    assert_eq!(world.other("relay-2").renewed(), [(0, 1), (1, 1)]);
    // A new call goes to the other as well.
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn who_refuses_to_leave_a_draining_relay_stays_there() {
    for refuses in [0, 1] {
        let (mut world, mut a, b) = up(20);
        world.relay_comes("relay-2", 52);
        world.drains("relay-1");
        if refuses == 0 {
            world.answer_within(&a, Method::Invite, 488, None);
        } else {
            let away = version(&world.agrees(&a));
            world.answer_within(&b, Method::Invite, 488, None);
            // Alice comes back.
            let back = world.agrees(&a);
            assert!(back.contains("10.0.1.9") && version(&back) > away, "{back}");
            let renewed = world.proxies[0].relay.renewed();
            assert_eq!(renewed, [(0, 1)], "it had other keys meanwhile");
        }
        world.wait(5);
        assert_eq!((world.moves().len(), world.counters().moves_refused), (0, 1));
        assert_eq!(world.other("relay-2").sessions(), 0);
        assert_eq!(world.proxies[0].relay.sessions(), 1);
        world.ends(&mut a, "caller_hung_up");
    }
}

#[test]
fn a_drain_without_another_relay_waits_for_one_and_can_be_taken_back() {
    let (mut world, mut a, b) = up(21);
    world.drains("relay-1");
    world.wait(30);
    assert_eq!(world.proxies[0].core.live().count(), 1);
    world.relay_comes("relay-2", 52);
    world.wait(2);
    world.agrees(&a);
    world.agrees(&b);
    world.settle();
    assert_eq!(world.moves().len(), 1);
    world.ends(&mut a, "caller_hung_up");

    let (mut world, mut a, _) = up(22);
    world.drains("relay-1");
    world.input(0, Input::Relay { relay: id("relay-1"), message: FromRelay::Resumed });
    world.relay_comes("relay-2", 52);
    world.wait(10);
    assert!(!world.is_asked(&a) && world.moves().is_empty());
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_call_answered_on_a_draining_relay_leaves_it_then() {
    let mut world = World::ie1(23);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.relay_comes("relay-2", 52);
    world.drains("relay-1");
    let b = world.pick_up(bob);
    world.phones[bob].take_ack();
    assert!(!world.is_asked(&b));
    let mut a = world.confirm(alice, &invite, None);
    world.run(Duration::from_millis(50));
    world.agrees(&a);
    world.agrees(&b);
    world.settle();
    assert_eq!(world.moves().len(), 1);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_relay_that_dies_before_anything_rings_is_replaced_unnoticed() {
    let mut world = World::ie1(24);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.proxies[0].relay.silent = true;
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.settle();
    let b = world.pick_up(bob);
    assert!(text(&b.invite.body).contains("10.0.52.9"));
    let mut a = world.confirm(alice, &invite, None);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_relay_that_dies_while_it_rings_ends_the_attempt() {
    let mut world = World::ie1(25);
    let [alice, bob] = world.registered(["alice", "bob"]);
    world.dial(alice, "sip:bob@acme.test");
    let invite = world.phones[bob].requests[0].clone();
    world.say(bob, &(invite.0.unwrap(), invite.2), 180);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.settle();
    let response = world.phones[alice].take_final().unwrap();
    assert_eq!(response.status.code(), 503);
    assert!(world.phones[bob].others.contains(&"cancelled".to_owned()));
    world.assert_at_rest();
}

#[test]
fn a_relay_that_dies_as_the_call_is_answered_costs_no_call() {
    let mut world = World::ie1(26);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    world.relay_comes("relay-2", 52);
    world.proxies[0].dead_relays.push(id("relay-1"));
    let b = world.pick_up(bob);
    world.phones[bob].take_ack();
    assert!(world.phones[alice].take_final().is_none(), "the relay has not joined them");
    world.input(0, Input::RelayLost { relay: id("relay-1") });
    world.settle();
    let mut a = world.confirm(alice, &invite, None);
    world.run(Duration::from_millis(300));
    world.moves_to_the_second(&a, &b);
    world.ends(&mut a, "caller_hung_up");
}

/// Alice leaves the offer to us: her answer is in the ACK, and the relay dies
/// before it.
#[test]
fn an_answer_that_comes_late_is_for_the_next_relay() {
    let mut world = World::ie1(27);
    let [alice, bob] = world.registered(["alice", "bob"]);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", None);
    let b = world.pick_up(bob);
    world.phones[bob].take_ack();
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let mut a = world.confirm(alice, &invite, Some(&sdp("10.1.0.1", 4000, "")));
    world.run(Duration::from_millis(300));
    world.moves_to_the_second(&a, &b);
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn many_calls_move_in_order_and_a_few_at_a_time() {
    const CALLS: usize = 12;
    let mut world = World::new(28);
    world.add_proxy("ie1", 1, world::tenants::acme(), |config| config.limits.moves = 3);
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let mut calls: Vec<_> =
        (0..CALLS).map(|_| world.call(alice, bob, "sip:bob@acme.test")).collect();
    world.relay_comes("relay-2", 52);
    world.relay_comes("relay-3", 53);
    world.relay_dies("relay-1");
    let opened =
        |world: &World| world.other("relay-2").sessions() + world.other("relay-3").sessions();
    assert_eq!(opened(&world), 3, "no more at a time");
    let mut rounds = 0;
    while world.moves().len() < CALLS {
        rounds += 1;
        assert!(rounds < 20);
        for (a, b) in &calls {
            for leg in [a, b] {
                while world.phones[leg.phone].requests.iter().any(|(_, _, it)| {
                    it.method == Method::Invite && it.call_id() == leg.invite.call_id()
                }) {
                    world.answer_of_call(leg);
                }
            }
        }
        world.run(Duration::from_millis(10));
        assert!(opened(&world) <= world.moves().len() + 3);
    }
    // The load is spread.
    assert_eq!(world.other("relay-2").sessions(), CALLS / 2);
    for (a, _) in &mut calls {
        world.hang_up(a);
    }
    world.assert_at_rest();
}

#[test]
fn sides_that_are_slow_do_not_hold_up_the_others() {
    let mut world = World::new(29);
    world.add_proxy("ie1", 1, world::tenants::acme(), |config| config.limits.moves = 1);
    world.share_directory();
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let _slow = world.call(alice, bob, "sip:bob@acme.test");
    let _quick = world.call(alice, carol, "sip:carol@acme.test");
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    assert!(world.phones[carol].take(Method::Invite).is_none());
    world.run(Duration::from_millis(450));
    assert!(world.phones[carol].take(Method::Invite).is_some());
}

/// Its second session is made of the first one's legs: the same numbers.
#[test]
fn nothing_is_asked_of_a_relay_that_is_gone() {
    let (mut world, mut a, b) = up(30);
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let asked = world.proxies[0].relay.ops.len();
    world.moves_to_the_second(&a, &b);
    assert_eq!(world.proxies[0].relay.ops.len(), asked);
    let joined = world.other("relay-2").ops.iter().filter(|it| matches!(it.1, Op::Join(..)));
    assert_eq!(joined.count(), 1);
    world.ends(&mut a, "caller_hung_up");
}

impl World {
    /// The phone answers the re-INVITE of this one of its calls.
    fn answer_of_call(&mut self, leg: &Leg) {
        let requests = &mut self.phones[leg.phone].requests;
        let at = requests.iter().position(|(_, _, it)| {
            it.method == Method::Invite && it.call_id() == leg.invite.call_id()
        });
        let (key, _, request) = requests.remove(at.unwrap());
        let mut response = leg.dialog.respond(&request, landline_sip::StatusCode::OK);
        response.set_body("application/sdp", plain(leg));
        self.respond(leg.phone, key.unwrap(), response);
    }
}

/// Keys that nothing else looks like.
const OCTETS: [u8; 30] = *b"keys-that-must-be-nowhere-else";

fn keys(number: u8, sent: &[u32]) -> LegKeys {
    let mut octets = OCTETS.to_vec();
    octets[0] = number;
    let key = KeyAndSalt::new(octets);
    let pair = KeyPair { suite: SrtpSuite::AesCm128HmacSha1_80, send: key.clone(), receive: key };
    LegKeys { protocol: Protocol::Sdes, rtp: Some(pair), rtcp: None, sent: sent.to_vec() }
}

impl World {
    fn keyed(&mut self, relay: &str, session: SessionId, leg: u16, keys: LegKeys) {
        let event = Event::Keyed(LegId(leg), Box::new(keys));
        let message = FromRelay::Event(session, event);
        self.input(0, Input::Relay { relay: id(relay), message });
    }
}

#[test]
fn another_relay_is_given_the_keys_that_were_told_last_and_what_was_sent_under_them() {
    let (mut world, mut a, b) = up(1);
    let first = world.proxies[0].relay.session_id();
    world.keyed("relay-1", first, 0, keys(1, &[7]));
    world.keyed("relay-1", first, 1, keys(2, &[8]));
    world.keyed("relay-1", first, 0, keys(3, &[9]));
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    let given = &world.other("relay-2").resumed;
    assert_eq!(*given, [(LegId(0), keys(3, &[9])), (LegId(1), keys(2, &[8]))]);
    world.moves_to_the_second(&a, &b);
    let second = world.other("relay-2").session_id();
    // One leg's peer has made a handshake since, the other's has not.
    world.keyed("relay-2", second, 0, keys(4, &[10]));
    world.keyed("relay-2", second, 1, keys(2, &[8, 11]));
    world.keyed("relay-1", first, 1, keys(5, &[12]));
    let kept = world.proxies[0].kept.values();
    for state in kept.map(|snapshot| snapshot.state.expose()) {
        assert!(!state.windows(20).any(|it| *it == OCTETS[5..25]), "keys were kept");
    }
    world.relay_comes("relay-3", 53);
    world.relay_dies("relay-2");
    let given = &world.other("relay-3").resumed;
    assert_eq!(*given, [(LegId(0), keys(4, &[10])), (LegId(1), keys(2, &[8, 11]))]);
    world.agrees(&a);
    world.agrees(&b);
    world.settle();
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_relay_that_a_call_did_not_stay_on_has_sent_under_its_keys_as_well() {
    let (mut world, mut a, b) = up(1);
    let first = world.proxies[0].relay.session_id();
    world.keyed("relay-1", first, 0, keys(1, &[7]));
    world.relay_comes("relay-2", 52);
    world.relay_dies("relay-1");
    world.agrees(&a);
    let second = world.other("relay-2").session_id();
    world.keyed("relay-2", second, 0, keys(1, &[7, 8]));
    world.relay_comes("relay-3", 53);
    world.relay_dies("relay-2");
    world.run(Duration::from_millis(500));
    assert_eq!(world.other("relay-3").resumed, [(LegId(0), keys(1, &[7, 8]))]);
    for leg in [&a, &b] {
        while world.is_asked(leg) {
            world.agrees(leg);
        }
    }
    world.settle();
    world.ends(&mut a, "caller_hung_up");
}

#[test]
fn a_proxy_that_takes_a_call_up_has_its_keys_once_the_relay_has_told_them_again() {
    for is_told in [false, true] {
        let (mut world, mut a, b) = up(1);
        let session = world.proxies[0].relay.session_id();
        world.keyed("relay-1", session, 0, keys(1, &[7]));
        world.proxy_dies(0);
        world.settle();
        if is_told {
            world.keyed("relay-1", session, 0, keys(1, &[7]));
        }
        world.relay_comes("relay-2", 52);
        world.relay_dies("relay-1");
        let given = world.other("relay-2").resumed.clone();
        let told = vec![(LegId(0), keys(1, &[7]))];
        assert_eq!(given, if is_told { told } else { Vec::new() });
        world.moves_to_the_second(&a, &b);
        world.ends(&mut a, "caller_hung_up");
    }
}
