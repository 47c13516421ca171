//! Video between browsers, and nowhere else.

mod world;

use landline_call::tenancy::{MediaPolicy, RecordingPolicy};
use landline_control::{Direction, LegId, VideoType};
use landline_sip::{Method, Request};
use world::phone::{Leg, sdp, text};
use world::{World, tenants};

/// What a browser says: sound, and beside it these lines.
fn browser(host: u8, setup: &str, video: &str) -> String {
    let print = ["AB"; 32].join(":");
    let keys = format!(
        "a=fingerprint:sha-256 {print}\r\na=setup:{setup}\r\na=rtcp-mux\r\n\
         a=ice-ufrag:abc{host}\r\na=ice-pwd:0123456789012345678901\r\na=mid:0\r\n"
    );
    let group = if video.contains("a=mid:1") { "0 1" } else { "0" };
    (sdp("0.0.0.0", 9, &keys) + video)
        .replace("RTP/AVP", "UDP/TLS/RTP/SAVPF")
        .replace("t=0 0\r\n", &format!("t=0 0\r\na=group:BUNDLE {group}\r\n"))
}

const OFFERED: &str = "m=video 9 RTP/AVP 96 97 98 99 35\r\na=mid:1\r\na=rtcp-mux\r\na=sendrecv\r\n\
    a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 transport-cc\r\n\
    a=rtcp-fb:* ccm fir\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP9/90000\r\n\
    a=fmtp:98 profile-id=0\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\na=rtpmap:35 flexfec-03/90000\r\n\
    a=ssrc:7 cname:x\r\na=msid:s t\r\n";

/// VP9 is all that the two have in common, whatever this one has besides.
const ANSWERED: &str = "m=video 9 RTP/AVP 98 99 97 120\r\na=mid:1\r\na=rtcp-mux\r\na=recvonly\r\n\
    a=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\na=rtcp-fb:98 nack pli\r\na=rtpmap:99 rtx/90000\r\n\
    a=fmtp:99 apt=98\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:120 AV1/90000\r\n";

fn body(request: &Request) -> String {
    text(&request.body)
}

/// The lines of the description's video.
fn video(description: &str) -> Vec<&str> {
    description.lines().skip_while(|line| !line.starts_with("m=video")).collect()
}

fn with_media(seed: u8, bob: MediaPolicy) -> (World, [usize; 2]) {
    let mut world = World::new(seed);
    let tenancy = tenants::with_user(tenants::acme(), "alice", |it| it.media = MediaPolicy::Webrtc);
    let tenancy = tenants::with_user(tenancy, "bob", |it| it.media = bob);
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let phones = world.registered(["alice", "bob"]);
    (world, phones)
}

fn told(world: &World, leg: u16) -> Option<Vec<(u8, bool)>> {
    let (_, types) = world.proxies[0].relay.session().video.get(&LegId(leg))?;
    Some(types.iter().map(|VideoType { number, repeats }| (*number, *repeats)).collect())
}

/// Which way the relay lets the video of each side go.
fn ways(world: &World) -> [Direction; 2] {
    [0, 1].map(|leg| world.proxies[0].relay.session().video[&LegId(leg)].0)
}

/// Alice offers video, and bob answers so.
fn called(seed: u8, answer: &str) -> (World, Leg, Leg, String) {
    let (offer, answer) = (browser(1, "actpass", OFFERED), browser(2, "active", answer));
    said(with_media(seed, MediaPolicy::Webrtc), &offer, &answer)
}

fn said(
    (mut world, [alice, bob]): (World, [usize; 2]),
    offer: &str,
    answer: &str,
) -> (World, Leg, Leg, String) {
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(offer));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let b = world.answer(bob, &rung, answer);
    let answered = text(&world.phones[alice].responses[0].1.body);
    let a = world.confirm(alice, &invite, None);
    (world, a, b, answered)
}

#[test]
fn video_passes_between_browsers_in_the_bundle_of_the_sound() {
    let (mut world, [alice, bob]) = with_media(1, MediaPolicy::Webrtc);
    world.invite(alice, "sip:bob@acme.test", Some(&browser(1, "actpass", OFFERED)));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let offer = body(&rung.1);
    assert!(offer.contains("a=group:BUNDLE 0 1\r\n"), "{offer}");
    let lines = video(&offer);
    assert_eq!(lines[0], "m=video 0 UDP/TLS/RTP/SAVPF 96 97 98 99", "{offer}");
    for line in [
        "a=bundle-only",
        "a=mid:1",
        "a=sendrecv",
        "a=rtcp-mux",
        "a=rtpmap:98 VP9/90000",
        "a=fmtp:97 apt=96",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:98 ccm fir",
    ] {
        assert!(lines.contains(&line), "{line} is missing:\n{offer}");
    }
    for foreign in ["extmap", "transport-cc", "ssrc", "msid", "flexfec"] {
        assert!(!offer.contains(foreign), "{foreign}:\n{offer}");
    }

    let b = world.answer(bob, &rung, &browser(2, "active", ANSWERED));
    let answer = text(&world.phones[alice].responses[0].1.body);
    let port = answer.split("m=audio ").nth(1).unwrap().split(' ').next().unwrap();
    let lines = video(&answer);
    assert_eq!(lines[0], format!("m=video {port} UDP/TLS/RTP/SAVPF 98 99"), "one transport");
    assert!(lines.contains(&"a=recvonly") && lines.contains(&"a=mid:1"), "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
    for leg in [0, 1] {
        assert_eq!(told(&world, leg), Some(vec![(98, false), (99, true)]));
        let sound = &world.proxies[0].relay.session().remotes[&LegId(leg)].payload_types;
        assert!(sound.iter().all(|kind| kind.number < 96 || kind.number > 99), "{sound:?}");
    }
    drop(b);
}

#[test]
fn video_is_declined_where_the_other_side_is_no_browser_or_does_not_want_it() {
    let (mut world, [alice, bob]) = with_media(2, MediaPolicy::Rtp);
    world.invite(alice, "sip:bob@acme.test", Some(&browser(1, "actpass", OFFERED)));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    assert!(!body(&rung.1).contains("video"), "{}", body(&rung.1));
    world.answer(bob, &rung, &sdp("10.1.0.2", 4000, ""));
    let answer = text(&world.phones[alice].responses[0].1.body);
    assert_eq!(video(&answer)[0], "m=video 0 UDP/TLS/RTP/SAVPF 96 97 98 99 35", "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0\r\n"), "{answer}");
    assert_eq!(told(&world, 0), Some(Vec::new()));
    assert_eq!(told(&world, 1), None, "there never was any");

    let declined = "m=video 0 RTP/AVP 96\r\na=mid:1\r\n";
    let other = "m=video 9 RTP/AVP 120\r\na=mid:1\r\na=rtpmap:120 AV1/90000\r\na=rtcp-mux\r\n";
    let repeats =
        "m=video 9 RTP/AVP 97\r\na=mid:1\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";
    for (seed, answer) in [(3, declined), (4, other), (5, repeats)] {
        let (world, _, _, answered) = called(seed, answer);
        assert!(video(&answered)[0].starts_with("m=video 0 "), "{answered}");
        assert_eq!(told(&world, 0), Some(Vec::new()));
    }
}

#[test]
fn a_hold_holds_the_video_and_a_new_camera_is_offered_to_the_other_side() {
    let (mut world, mut a, mut b, _) = called(6, &ANSWERED.replace("recvonly", "sendrecv"));
    let held = browser(1, "actpass", OFFERED).replace("a=sendrecv", "a=sendonly");
    world.within(&mut a, Method::Invite, Some(&held));
    let reply = browser(2, "active", ANSWERED);
    let asked = text(&world.answer_within(&b, Method::Invite, 200, Some(&reply)).body);
    let lines = video(&asked);
    assert!(lines.contains(&"a=sendonly") && !lines.contains(&"a=bundle-only"), "{asked}");
    assert!(!lines[0].starts_with("m=video 0"), "it is known by now: {asked}");
    let response = world.phones[a.phone].take_final().unwrap();
    let answer = text(&response.body);
    assert!(video(&answer).contains(&"a=recvonly"), "{answer}");
    let cseq = response.cseq().unwrap().number;
    world.ack(&a, cseq, None);
    let _ = world.phones[b.phone].take_ack();

    // The other side takes its picture away, and this one hears of it.
    let without = browser(2, "actpass", "m=video 0 RTP/AVP 96\r\na=mid:1\r\n");
    world.within(&mut b, Method::Invite, Some(&without));
    let reply = browser(1, "active", "m=video 0 RTP/AVP 96\r\na=mid:1\r\n");
    let asked = text(&world.answer_within(&a, Method::Invite, 200, Some(&reply)).body);
    assert!(video(&asked)[0].starts_with("m=video 0 "), "{asked}");
    assert_eq!((told(&world, 0), told(&world, 1)), (Some(Vec::new()), Some(Vec::new())));
}

#[test]
fn video_outlives_the_proxy_that_agreed_on_it() {
    let (mut world, mut a, b, answered) = called(7, &ANSWERED.replace("recvonly", "sendrecv"));
    world.proxy_dies(0);
    world.settle();
    // The same again is no news to the other side, and nothing is taken away.
    world.within(&mut a, Method::Invite, Some(&browser(1, "actpass", OFFERED)));
    assert!(world.phones[b.phone].take(Method::Invite).is_none());
    let response = world.phones[a.phone].take_final().unwrap();
    assert_eq!(video(&text(&response.body))[0], video(&answered)[0]);
    assert_eq!(told(&world, 0), Some(vec![(98, false), (99, true)]));
}

#[test]
fn a_number_that_means_sound_never_means_video() {
    // On both lines of the offer, then on both of the answer.
    let both = OFFERED.replace("AVP 96", "AVP 0 96") + "a=rtpmap:0 VP8/90000\r\n";
    let media = with_media(8, MediaPolicy::Webrtc);
    let answer = ANSWERED.replace("AVP 98", "AVP 0 98") + "a=rtpmap:0 VP8/90000\r\n";
    let (offer, answer) = (browser(1, "actpass", &both), browser(2, "active", &answer));
    let (world, _, b, _) = said(media, &offer, &answer);
    let asked = body(&b.invite);
    assert_eq!(video(&asked)[0], "m=video 0 UDP/TLS/RTP/SAVPF 96 97 98 99", "{asked}");
    for leg in [0, 1] {
        assert_eq!(told(&world, leg), Some(vec![(98, false), (99, true)]));
    }

    let answer = browser(2, "active", ANSWERED)
        .replace("SAVPF 0 8 101\r\n", "SAVPF 0 98\r\na=rtpmap:98 telephone-event/8000\r\n");
    let offer = browser(1, "actpass", OFFERED);
    let (world, _, _, answered) = said(with_media(9, MediaPolicy::Webrtc), &offer, &answer);
    assert!(video(&answered)[0].starts_with("m=video 0 "), "{answered}");
    assert_eq!((told(&world, 0), told(&world, 1)), (Some(Vec::new()), Some(Vec::new())));
}

#[test]
fn video_is_declined_in_a_call_that_is_recorded() {
    let mut world = World::new(10);
    let tenancy = tenants::with_user(tenants::acme(), "alice", |it| it.media = MediaPolicy::Webrtc);
    let tenancy = tenants::with_user(tenancy, "bob", |it| {
        it.media = MediaPolicy::Webrtc;
        it.recording = Some(RecordingPolicy::All);
    });
    world.add_proxy("ie1", 1, tenancy, |_| {});
    let phones = world.registered(["alice", "bob"]);
    let offer = browser(1, "actpass", OFFERED);
    let (mut world, mut a, b, answered) = said((world, phones), &offer, &browser(2, "active", ""));
    assert!(!body(&b.invite).contains("video"), "{}", body(&b.invite));
    assert!(video(&answered)[0].starts_with("m=video 0 "), "{answered}");
    assert_eq!((told(&world, 0), told(&world, 1)), (Some(Vec::new()), None));

    // Nor is it later.
    let offer = browser(1, "actpass", &OFFERED.replace("AVP 96", "AVP 98"));
    world.within(&mut a, Method::Invite, Some(&offer));
    assert!(world.phones[b.phone].take(Method::Invite).is_none());
    let answer = text(&world.phones[a.phone].take_final().unwrap().body);
    assert!(video(&answer)[0].starts_with("m=video 0 "), "{answer}");
}

#[test]
fn another_codec_under_the_same_number_is_told_to_the_other_side() {
    let (mut world, mut a, b, _) = called(11, &ANSWERED.replace("recvonly", "sendrecv"));
    let other = OFFERED.replace("a=rtpmap:98 VP9/90000", "a=rtpmap:98 H264/90000");
    world.within(&mut a, Method::Invite, Some(&browser(1, "actpass", &other)));
    let reply = browser(2, "active", &ANSWERED.replace("98 VP9", "98 H264"));
    let asked = text(&world.answer_within(&b, Method::Invite, 200, Some(&reply)).body);
    assert!(video(&asked).contains(&"a=rtpmap:98 H264/90000"), "{asked}");
}

#[test]
fn video_goes_its_own_way() {
    // No microphone, but a camera; the other side has no camera.
    let offer = browser(1, "actpass", OFFERED).replace("a=ptime:20", "a=recvonly");
    let answer = browser(2, "active", ANSWERED);
    let (world, ..) = said(with_media(12, MediaPolicy::Webrtc), &offer, &answer);
    let sound = world.proxies[0].relay.session().remotes[&LegId(0)].direction;
    assert_eq!(sound, Direction::SendOnly);
    assert_eq!(ways(&world), [Direction::ReceiveOnly, Direction::SendOnly]);

    let (world, ..) = called(13, &ANSWERED.replace("recvonly", "inactive"));
    assert_eq!(ways(&world), [Direction::Inactive; 2]);
}

#[test]
fn video_that_would_bear_the_sound_is_declined() {
    let offer = browser(1, "actpass", OFFERED).replace("BUNDLE 0 1", "BUNDLE 1 0");
    let answer = browser(2, "active", "");
    let (_, _, b, answered) = said(with_media(14, MediaPolicy::Webrtc), &offer, &answer);
    assert!(!body(&b.invite).contains("video"), "{}", body(&b.invite));
    assert!(video(&answered)[0].starts_with("m=video 0 "), "{answered}");
    assert!(answered.contains("a=group:BUNDLE 0\r\n"), "{answered}");
}
