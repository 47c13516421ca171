//! A browser calls and is called: Chromium with JsSIP over WSS, DTLS-SRTP with
//! ICE, judged by the tones each end hears.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::baresip::{self, Baresip, Options};
use support::browser::{self, Browser, Manner};
use support::server::{Demo, User, array, text};
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_browser_calls_a_softphone_and_is_called() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let phone = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let before = demo.closed_calls("acme.test", 0).len();
    let mut desk = baresip(directory.path(), &demo, &phone, "srtp-mand", 900);
    let carol = demo.user("acme.test", "carol");
    let mut page = Browser::registered(directory.path(), &demo, "ie1", &carol, 500);

    page.dial("desk");
    page.expect("established", SOON);
    talk(&page, &desk);
    page.keys("42");
    page.expect("pressed", SOON);
    page.hang_up();
    desk.expect("CALL_CLOSED", SOON);
    page.expect("ended", SOON);
    let shown = recorded(&demo, before + 1, "caller_hung_up");
    let pressed = &shown["legs"][0]["stats"]["received"]["dtmf_events"];
    assert_eq!(pressed, 2, "{shown}");

    // A page that was loaded anew is rung at its new connection.
    page.reload();
    desk.forget();
    desk.dial("sip:carol@acme.test");
    desk.expect("CALL_ESTABLISHED", SOON);
    page.expect("established", SOON);
    talk(&page, &desk);
    // Held and resumed: the page's library offers anew, twice, and once more.
    page.hold();
    page.expect("held", SOON);
    page.resume();
    page.expect("resumed", SOON);
    page.update();
    page.expect("updated", SOON);
    talk(&page, &desk);
    desk.hang_up();
    page.expect("ended", SOON);
    recorded(&demo, before + 2, "caller_hung_up");
}

/// Each hears the other.
#[track_caller]
fn talk(page: &Browser, desk: &Baresip) {
    page.hears(900);
    eventually("the softphone hears the browser", SOON, || {
        tone::same(desk.heard(), 500).then_some(())
    });
}

#[test]
fn two_browsers_of_two_edges_talk_and_one_hangs_up() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let before = demo.closed_calls("acme.test", 0).len();
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let mut calling = Browser::registered(directory.path(), &demo, "ie1", &alice, 500);
    // acme lives in ie1; bob's browser is at us1's edge.
    let mut called = Browser::registered(directory.path(), &demo, "us1", &bob, 900);

    calling.dial("bob");
    calling.expect("established", SOON);
    called.expect("established", SOON);
    calling.hears(900);
    called.hears(500);
    called.hang_up();
    calling.expect("ended", SOON);
    recorded(&demo, before + 1, "callee_hung_up");
}

/// A browser with a peculiarity, and a softphone with SDES, which calls and is
/// called; each time the browser says of its connection what is expected.
#[track_caller]
fn talk_both_ways(manner: &Manner, expected: impl Fn(&Value)) {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let phone = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let mut desk = baresip(directory.path(), &demo, &phone, "srtp-mand", 900);
    let carol = demo.user("acme.test", "carol");
    let mut page = Browser::with(directory.path(), &demo, "ie1", &carol, 500, manner);
    page.dial("desk");
    page.expect("established", SOON);
    talk(&page, &desk);
    expected(&page.statistics());
    page.hang_up();
    page.expect("ended", SOON);
    desk.expect("CALL_CLOSED", SOON);
    desk.forget();
    desk.dial("sip:carol@acme.test");
    desk.expect("CALL_ESTABLISHED", SOON);
    page.expect("established", SOON);
    talk(&page, &desk);
    expected(&page.statistics());
}

#[test]
fn a_browser_whose_network_has_no_udp_talks_over_tcp() {
    let manner = Manner { options: "&only=tcp", ..Manner::default() };
    talk_both_ways(&manner, |said| assert_eq!(said["protocol"], "tcp", "{said}"));
}

#[test]
fn a_browser_that_offers_dtls_1_3_gets_it() {
    talk_both_ways(&Manner::default(), |said| assert_eq!(said["tls"], "FEFC", "{said}"));
}

#[test]
fn a_browser_that_trickles_and_changes_its_network_stays_in_its_call() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let manner = Manner { options: "&early=1", ..Manner::default() };
    let mut calling = Browser::with(directory.path(), &demo, "ie1", &alice, 500, &manner);
    let mut called = Browser::with(directory.path(), &demo, "ie1", &bob, 900, &manner);
    calling.dial("bob");
    calling.expect("established", SOON);
    called.expect("established", SOON);
    for _ in 0..2 {
        calling.hears(900);
        called.hears(500);
        let before = calling.statistics()["port"].clone();
        calling.restart();
        calling.expect("restarted", SOON);
        eventually("another source port", SOON, || {
            (calling.statistics()["port"] != before).then_some(())
        });
        calling.forget();
        called.forget();
    }
    calling.hears(900);
    called.hears(500);
    called.hang_up();
    calling.expect("ended", SOON);
}

#[test]
fn browsers_come_in_by_one_port_however_many_they_are() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let pages = [("ada", 500), ("ben", 900), ("cleo", 700), ("dan", 1100)];
    let mut pages = pages.map(|(name, tone)| {
        let user = demo.add_user("acme.test", name, &["--media", "webrtc"]);
        Browser::registered(directory.path(), &demo, "ie1", &user, tone)
    });
    let [ada, ben, cleo, dan] = &mut pages;
    ada.dial("ben");
    cleo.dial("dan");
    for page in [&mut *ada, &mut *ben, &mut *cleo, &mut *dan] {
        page.expect("established", SOON);
    }
    for (page, tone) in [(&*ada, 900), (&*ben, 500), (&*cleo, 1100), (&*dan, 700)] {
        page.hears(tone);
    }
    let far = pages.each_mut().map(|page| page.statistics()["far"].as_u64().unwrap());
    assert_eq!(far, [far[0]; 4], "both sides of both calls");
    let gauge = |name: &str, label: &str| demo.relay_gauge("ie1", name, label);
    eventually("the gauges", SOON, || (gauge("ice_legs", "") == 4.0).then_some(()));
    assert_eq!(gauge("port_pairs", "state=\"used\""), 0.0);
    assert!(gauge("ice_addresses", "") >= 4.0);
    pages[0].hang_up();
    pages[2].hang_up();
    eventually("nobody is left", SOON, || {
        (gauge("ice_legs", "") == 0.0 && gauge("ice_addresses", "") == 0.0).then_some(())
    });
}

/// Of the three colours, the one that is seen.
#[track_caller]
fn sees(page: &Browser, name: &str, strongest: usize) {
    eventually(&format!("{name} sees the other's colour"), SOON, || {
        let seen = page.seen()?;
        let others = (0..3).filter(|n| *n != strongest);
        others.map(|n| seen[n]).all(|other| seen[strongest] > other + 100).then_some(())
    });
}

#[test]
fn two_browsers_see_and_hear_each_other_and_the_record_is_of_the_sound() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let before = demo.closed_calls("acme.test", 0).len();
    // Who is recorded is not seen.
    let off = ["--media", "webrtc", "--record", "off"];
    let [alice, bob] = ["ruby", "blue"].map(|name| demo.add_user("acme.test", name, &off));
    let [red, blue] =
        ["&colour=red", "&colour=blue"].map(|options| Manner { options, ..Manner::default() });
    let mut calling = Browser::with(directory.path(), &demo, "ie1", &alice, 500, &red);
    let mut called = Browser::with(directory.path(), &demo, "ie1", &bob, 900, &blue);
    calling.dial("blue");
    calling.expect("established", SOON);
    called.expect("established", SOON);
    for _ in 0..2 {
        sees(&calling, "ruby", 2);
        sees(&called, "blue", 0);
        calling.hears(900);
        called.hears(500);
        // And again after ICE and the descriptions began anew.
        calling.restart();
        calling.expect("restarted", SOON);
        calling.forget();
        called.forget();
    }
    sees(&calling, "ruby", 2);
    sees(&called, "blue", 0);
    eventually("seconds of pictures", SOON, || {
        let said = called.statistics();
        let frames = |of: &str, what: &str| said[of][what].as_u64();
        let flows = frames("video", "framesDecoded") > Some(40)
            && frames("sent", "framesEncoded") > Some(40)
            && said["video"]["frameHeight"] == 480;
        flows.then_some(())
    });
    called.hang_up();
    calling.expect("ended", SOON);
    let shown = recorded(&demo, before + 1, "callee_hung_up");
    for leg in array(&shown["legs"]) {
        // Sound has fifty packets a second; the picture many more.
        let received = &leg["stats"]["received"];
        let [octets, packets] = ["octets", "packets"].map(|it| received[it].as_u64().unwrap());
        assert!(packets > 0 && octets < packets * 200, "{leg}");
        assert_eq!(leg["stats"]["codec"], "OPUS", "{leg}");
    }
}

#[test]
fn a_browsers_video_is_declined_where_a_softphone_answers_and_both_hear() {
    let manner = Manner { options: "&colour=red", ..Manner::default() };
    talk_both_ways(&manner, |said| {
        assert!(said["sound"]["packetsReceived"].as_u64().unwrap() > 0, "{said}");
        for (of, what) in [("video", "framesDecoded"), ("sent", "packetsSent")] {
            // There are figures of a stream that has been, and none of one declined.
            let is_none = said[of].as_object().unwrap().is_empty();
            assert!(is_none || said[of][what].as_u64().unwrap() == 0, "{said}");
        }
    });
}

/// The record of the latest of so many calls, by both of its legs' statistics.
#[track_caller]
fn recorded(demo: &Demo, calls: usize, cause: &str) -> Value {
    let closed = demo.closed_calls("acme.test", calls);
    let shown = demo.admin(&["calls", "show", text(&closed[0]["sid"])]);
    assert_eq!(shown["cause"], cause, "{shown}");
    assert_eq!(shown["media_region"], "ie1", "{shown}");
    for leg in array(&shown["legs"]) {
        assert!(leg["stats"]["received"]["packets"].as_u64() > Some(0), "{leg}");
    }
    shown
}

fn baresip(parent: &Path, demo: &Demo, user: &User, encryption: &str, tone: u32) -> Baresip {
    let options =
        Options { encryption: Some(encryption), tone, ..Options::of(demo, "ie1", "tls", user) };
    Baresip::registered(parent, &options)
}
