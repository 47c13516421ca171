//! Video between browsers, and nowhere else.

mod world;

use landline_call::tenancy::MediaPolicy;
use landline_control::{LegId, VideoType};
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
    let types = world.proxies[0].relay.session().video.get(&LegId(leg))?;
    Some(types.iter().map(|VideoType { number, repeats }| (*number, *repeats)).collect())
}

/// Alice offers video, and bob answers so.
fn called(seed: u8, answer: &str) -> (World, Leg, Leg, String) {
    let (mut world, [alice, bob]) = with_media(seed, MediaPolicy::Webrtc);
    let offer = browser(1, "actpass", OFFERED);
    let (_, invite) = world.invite(alice, "sip:bob@acme.test", Some(&offer));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    let b = world.answer(bob, &rung, &browser(2, "active", answer));
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
