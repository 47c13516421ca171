//! The web phone that the console serves, in headless Chromium: used by mouse
//! and keys, judged by the tones each end hears.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::baresip::{self, Baresip, Options};
use support::browser;
use support::cable::Cable;
use support::linphone::{self, Linphone};
use support::server::{Demo, User, array, text};
use support::webphone::WebPhone;
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(30);
/// Longer than the 0 is pressed for a plus.
const LONG: Duration = Duration::from_millis(800);

#[test]
fn two_users_call_by_the_dial_pad_and_hear_each_other() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let before = demo.closed_calls("acme.test", 0).len();
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let calling = phone(directory.path(), &demo, "ie1", &alice, 500);
    // acme lives in ie1; bob opened the page of us1.
    let called = phone(directory.path(), &demo, "us1", &bob, 900);
    assert_eq!(calling.text("#home-region"), "ie1 · Ireland");
    assert_eq!(called.text("#home-region"), "ie1 · Ireland");
    assert_eq!(called.text("#edge-region"), "us1 · United States");

    calling.press_mouse("#keys [data-key='0']", LONG);
    for digit in bob.number.trim_start_matches('+').chars() {
        calling.click(&format!("#keys [data-key='{digit}']"));
    }
    calling.click("#call");
    called.expect_call("incoming");
    called.expect_text(".call .who", "alice");
    called.click("[data-deed=answer]");
    calling.expect_call("talking");
    called.expect_call("talking");
    calling.hears(900);
    called.hears(500);
    for phone in [&calling, &called] {
        phone.expect_text(".call .where", "This call is in ie1 · Ireland");
        phone.expect_text(".call .quality", "MOS 4");
    }
    called.click("[data-deed=end]");
    calling.expect_text("#recent", "Outgoing");
    let shown = recorded(&demo, before + 1, "callee_hung_up");
    assert_eq!(shown["media_region"], "ie1", "{shown}");
}

#[test]
fn the_page_and_a_softphone_call_each_other() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let desk = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let before = demo.closed_calls("acme.test", 0).len();
    let mut desk = softphone(directory.path(), &demo, &desk, 900);
    let page = phone(directory.path(), &demo, "ie1", &demo.user("acme.test", "carol"), 500);

    page.fill("#target", "desk");
    page.key("Enter");
    page.expect_call("talking");
    talk(&page, &desk);

    page.click("[data-deed=keys]");
    for key in ["4", "2"] {
        page.click(&format!(".call [data-key='{key}']"));
    }
    page.expect_text(".pressed", "42");

    page.click("[data-deed=mute]");
    eventually("silence of who is muted", SOON, || desk.heard().is_none().then_some(()));
    page.click("[data-deed=mute]");
    talk(&page, &desk);

    page.click("[data-deed=hold]");
    page.expect_text(".call .doing", "On hold");
    eventually("silence while on hold", SOON, || page.heard().is_none().then_some(()));
    page.click("[data-deed=hold]");
    page.expect_text(".call .doing", "Talking");
    page.hears(900);
    page.click("[data-deed=end]");
    desk.expect("CALL_CLOSED", SOON);
    let shown = recorded(&demo, before + 1, "caller_hung_up");
    let pressed = &shown["legs"][0]["stats"]["received"]["dtmf_events"];
    assert_eq!(pressed, 2, "{shown}");

    desk.forget();
    desk.dial("sip:carol@acme.test");
    page.expect_call("incoming");
    page.click("[data-state=incoming] [data-deed=answer]");
    page.expect_call("talking");
    talk(&page, &desk);
    desk.hang_up();
    page.expect_text("#recent", "Incoming");
    recorded(&demo, before + 2, "caller_hung_up");
}

#[test]
fn what_is_wrong_at_sign_in_is_said_with_what_to_do() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let alice = demo.user("acme.test", "alice");
    let address = page(&demo, "ie1");
    let page = WebPhone::open(directory.path(), "alice", address, demo.ca(), 500);
    let nowhere = User { domain: "nowhere.test".to_owned(), ..demo.user("acme.test", "alice") };
    page.sign_in(&nowhere, "x");
    page.expect_text("#notice", "no account with the domain nowhere.test");
    page.sign_in(&alice, "wrong");
    page.expect_text("#notice", "alice@acme.test and the password do not fit");
    assert_eq!(page.js("document.activeElement.id"), "password");
    page.sign_in(&alice, &alice.password);
    page.until("being signed in", "!document.getElementById('phone').hidden");

    page.fill("#target", "nobody-here");
    page.key("Enter");
    page.expect_text("#notice", "There is no nobody-here");
    page.allow_microphone(address, false);
    page.fill("#target", "bob");
    page.key("Enter");
    page.expect_text("#notice", "allow the microphone, and try again");
    // The address outlives the page, the password does not.
    let stored =
        page.js("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])");
    assert_eq!(stored, "[{\"landline.address\":\"alice@acme.test\"},{},\"\"]");
    page.send("Page.reload", serde_json::json!({}));
    page.until("the page anew", "document.activeElement?.id === 'password'");
    assert_eq!(page.js("document.getElementById('address').value"), "alice@acme.test");
    assert_eq!(page.js("document.getElementById('password').value"), "");
}

/// baresip 1.0 does not go on writing down what it hears after hold.
#[test]
fn whom_the_page_takes_off_hold_hears_it_again() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL, linphone::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let written = demo.data.join("clients/linphone-bob@acme.test");
    let mut bob = Linphone::registered(directory.path(), &written, 900);
    bob.keep_to_pcmu();
    let page = phone(directory.path(), &demo, "ie1", &demo.user("acme.test", "carol"), 500);
    page.fill("#target", "bob");
    page.key("Enter");
    page.expect_call("talking");
    page.hears(900);
    eventually("linphone hears the page", SOON, || tone::same(bob.heard(), 500).then_some(()));

    page.click("[data-deed=hold]");
    page.expect_text(".call .doing", "On hold");
    eventually("silence while on hold", SOON, || page.heard().is_none().then_some(()));
    page.click("[data-deed=hold]");
    page.expect_text(".call .doing", "Talking");
    page.hears(900);
    let heard = bob.samples().len();
    eventually("linphone hears the page again", SOON, || {
        let later = bob.samples().len() > heard + 2 * 8000;
        (later && tone::same(bob.heard(), 500)).then_some(())
    });
    page.click("[data-deed=end]");
}

#[test]
fn who_has_a_keyboard_alone_signs_in_calls_and_answers() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let open = |user: &User, tone| {
        let page =
            WebPhone::open(directory.path(), &user.name, page(&demo, "ie1"), demo.ca(), tone);
        page.keys(&format!("{}@{}", user.name, user.domain));
        page.key("Tab");
        page.keys(&user.password);
        page.key("Enter");
        page.until("being signed in", "document.activeElement.id === 'target'");
        page
    };
    let (calling, called) = (open(&alice, 500), open(&bob, 900));
    calling.keys("bob");
    calling.key("Enter");
    called.expect_call("incoming");
    tab_to(&called, "Answer");
    called.key("Enter");
    calling.expect_call("talking");
    calling.hears(900);
    called.hears(500);
    // The keypad takes the keyboard's digits; Escape puts it away.
    tab_to(&calling, "Keypad");
    calling.key(" ");
    calling.keys("7");
    calling.expect_text(".pressed", "7");
    calling.key("Escape");
    tab_to(&calling, "Mute");
    calling.key(" ");
    calling.expect_text(".call .doing", "muted");
    tab_to(&calling, "Hang up");
    calling.key("Enter");
    called.expect_text("#recent", "alice");
}

#[test]
fn a_call_is_handed_on_at_once_and_after_talking_first() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let open = |name, tone| colleague(directory.path(), &demo, name, tone);
    let (alice, bob, carol) = (open("alice", 500), open("bob", 900), open("carol", 1300));

    // At once: alice hands bob on to carol.
    alice.fill("#target", "bob");
    alice.key("Enter");
    bob.expect_call("incoming");
    bob.click("[data-deed=answer]");
    alice.hears(900);
    alice.click("[data-deed=transfer]");
    alice.fill("#transfer-target", "carol");
    alice.key("Enter");
    carol.expect_call("incoming");
    carol.click("[data-deed=answer]");
    alice.expect_text("#notice", "bob is connected with carol.");
    bob.hears(1300);
    carol.hears(900);
    carol.click("[data-deed=end]");
    bob.expect_text("#recent", "alice");
    for page in [&alice, &bob, &carol] {
        page.until("no call", "document.querySelector('.call') === null");
    }

    // After talking: bob waits while alice asks carol.
    alice.fill("#target", "bob");
    alice.key("Enter");
    bob.expect_call("incoming");
    bob.click("[data-deed=answer]");
    alice.hears(900);
    alice.click("[data-deed=transfer]");
    alice.fill("#transfer-target", "carol");
    alice.click("#transfer-ask");
    carol.expect_call("incoming");
    carol.click("[data-deed=answer]");
    carol.hears(500);
    bob.expect_text(".call .doing", "put you on hold");
    alice.click("[data-held=false] [data-deed=transfer]:not(:disabled)");
    alice.click("#transfer-calls button");
    bob.hears(1300);
    carol.hears(900);
    alice.until("no call", "document.querySelector('.call') === null");
}

#[test]
fn another_microphone_and_speaker_are_taken_while_talking() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let open = |name, tone| colleague(directory.path(), &demo, name, tone);
    let (page, other) = (open("alice", 500), open("bob", 900));
    page.fill("#target", "bob");
    page.key("Enter");
    other.expect_call("incoming");
    other.click("[data-deed=answer]");
    other.hears(500);
    let used = "witnessed.connections.at(-1).getSenders()[0].track.getSettings().deviceId";
    let before = page.js(used);
    page.click("#open-settings");
    page.until("the devices", "document.getElementById('microphone').options.length > 2");
    let chosen = |role: &str, but: &Value| {
        // A list opens outside the page, where no mouse of ours gets: the choice
        // is made as the browser makes it.
        page.js(&format!(
            "(() => {{ const list = document.getElementById({role:?});
            const other = [...list.options].findLast(({{ value }}) => value && value !== {but});
            list.value = other.value;
            list.dispatchEvent(new Event('change', {{ bubbles: true }}));
            return other.value; }})()"
        ))
    };
    let microphone = chosen("microphone", &before);
    assert_ne!(microphone, before);
    let speaker = chosen("speaker", &Value::String(String::new()));
    page.until("the other microphone", &format!("{used} === {microphone}"));
    page.until(
        "the other speaker",
        &format!("document.querySelector('.call audio').sinkId === {speaker}"),
    );
    page.click("#settings .main-button");
    other.hears(500);
    page.hears(900);
    // A microphone that was changed while muted says nothing.
    page.click("[data-deed=mute]");
    eventually("silence of who is muted", SOON, || other.heard().is_none().then_some(()));
    page.click("#open-settings");
    let another = chosen("microphone", &microphone);
    page.until("another microphone", &format!("{used} === {another}"));
    page.click("#settings .main-button");
    assert_eq!(other.heard(), None);
    page.click("[data-deed=mute]");
    other.hears(500);
    page.click("[data-deed=end]");
}

#[test]
fn who_looks_elsewhere_is_notified_of_a_call() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let open = |name, tone| colleague(directory.path(), &demo, name, tone);
    let (page, other) = (open("alice", 500), open("bob", 900));
    page.allow("notifications", self::page(&demo, "ie1"), true);
    let shown = || page.js("witnessed.notifications.join()");
    // Whoever looks at the page is not told twice.
    other.fill("#target", "alice");
    other.key("Enter");
    page.expect_call("incoming");
    other.click("[data-deed=end]");
    page.expect_text("#recent", "Missed");
    assert_eq!(shown(), "");
    page.look_away();
    other.fill("#target", "alice");
    other.key("Enter");
    page.expect_call("incoming");
    assert_eq!(shown(), "bob is calling");
    other.click("[data-deed=end]");
}

/// Goes on by the Tab key until the focus is on what has this name.
#[track_caller]
fn tab_to(page: &WebPhone, name: &str) {
    for _ in 0..60 {
        page.key("Tab");
        let focused = page.js("(() => { const it = document.activeElement;
            const outline = getComputedStyle(it).outlineStyle;
            return { name: it.innerText ?? '', seen: outline !== 'none' }; })()");
        if text(&focused["name"]).trim() == name {
            assert_eq!(focused["seen"], true, "the focus on {name} cannot be seen");
            return;
        }
    }
    panic!("no {name} within 60 tabs");
}

#[test]
fn a_call_outlives_the_connection_to_the_server() {
    if !have(&[browser::PROGRAM, browser::CERTUTIL]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(directory.path());
    let edge = demo.sip("ie1", "wss").trim_start_matches("wss://").parse().unwrap();
    let cable = Cable::to(edge);
    // The page is told of the cable in place of the edge.
    let config = demo.data.join("ie1/config.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let edges = format!("[console.phone]\nedges = [\"wss://127.0.0.1:{}\"]\n", cable.port());
    assert!(written.contains("[console.phone]\n"), "{written}");
    std::fs::write(&config, written.replace("[console.phone]\n", &edges)).unwrap();
    demo.only("ie1", ("log_level", "\"info\""));
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let page = phone(directory.path(), &demo, "ie1", &alice, 500);
    let other = phone(directory.path(), &demo, "ie1", &bob, 900);
    page.fill("#target", "bob");
    page.key("Enter");
    other.expect_call("incoming");
    other.click("[data-deed=answer]");
    page.hears(900);

    cable.cut();
    page.expect_text("#status", "Reconnecting");
    other.expect_text("#status", "Reconnecting");
    page.expect_text("#notice", "connection to the server is lost");
    page.hears(900);
    other.hears(500);
    cable.mend();
    page.expect_text("#status", "alice@acme.test");
    other.expect_text("#status", "bob@acme.test");
    // What the other side does reaches the page by its new connection.
    other.click("[data-deed=hold]:not(:disabled)");
    page.expect_text(".call .doing", "put you on hold");
    page.hears_music(&other);
    other.click("[data-deed=hold]:not(:disabled)");
    page.hears_from(&other, 900);
    other.hears_from(&page, 500);
    other.click("[data-deed=end]");
    page.expect_text("#recent", "bob");
}

/// With `LANDLINE_SCREENSHOTS` naming a directory the pictures stay there.
#[test]
fn every_view_is_accessible_and_fits_a_small_screen() {
    let axe = format!("{}/axe-core/axe.min.js", browser::PACKAGES);
    if !have(&[browser::PROGRAM, browser::CERTUTIL, &axe]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let page = WebPhone::open(directory.path(), "alice", page(&demo, "us1"), demo.ca(), 500);
    page.inspect("1-sign-in");
    page.sign_in(&alice, "wrong");
    page.expect_text("#notice", "do not fit");
    page.inspect("2-wrong-password");
    page.sign_in(&alice, &alice.password);
    page.until("being signed in", "!document.getElementById('phone').hidden");
    page.inspect("3-signed-in");
    let other = phone(directory.path(), &demo, "ie1", &bob, 900);
    other.fill("#target", "alice");
    other.key("Enter");
    page.expect_call("incoming");
    page.inspect("4-incoming");
    page.click("[data-deed=answer]");
    page.expect_text(".call .quality", "MOS");
    page.inspect("5-talking");
    page.click("[data-deed=keys]");
    page.click(".call [data-key='5']");
    page.inspect("6-keypad");
    page.click("[data-deed=keys]");
    page.click("[data-deed=transfer]");
    page.inspect("7-transfer");
    page.click("#transfer-close");
    page.click("#open-settings");
    page.inspect("8-settings");
    page.click("#settings .main-button");
    page.click("[data-deed=end]");
    page.expect_text("#recent", "bob");
    page.until("the call gone", "document.querySelector('.call') === null");
    page.inspect("9-recent");
}

/// Each hears the other.
#[track_caller]
fn talk(page: &WebPhone, desk: &Baresip) {
    page.hears(900);
    eventually("the softphone hears the page", SOON, || {
        tone::same(desk.heard(), 500).then_some(())
    });
}

#[track_caller]
fn phone(parent: &Path, demo: &Demo, region: &str, user: &User, tone: u32) -> WebPhone {
    WebPhone::signed_in(parent, page(demo, region), demo.ca(), user, tone)
}

/// A user of acme, signed in at its home region.
#[track_caller]
fn colleague(parent: &Path, demo: &Demo, name: &str, tone: u32) -> WebPhone {
    phone(parent, demo, "ie1", &demo.user("acme.test", name), tone)
}

/// The page's address at a region's console.
fn page<'a>(demo: &'a Demo, region: &str) -> &'a str {
    text(&demo.info["regions"][region]["phone"])
}

/// The record of the latest of so many calls, by both of its legs' statistics.
#[track_caller]
fn recorded(demo: &Demo, calls: usize, cause: &str) -> Value {
    let closed = demo.closed_calls("acme.test", calls);
    let shown = demo.admin(&["calls", "show", text(&closed[0]["sid"])]);
    assert_eq!(shown["cause"], cause, "{shown}");
    for leg in array(&shown["legs"]) {
        assert!(leg["stats"]["received"]["packets"].as_u64() > Some(0), "{leg}");
    }
    shown
}

fn softphone(parent: &Path, demo: &Demo, user: &User, tone: u32) -> Baresip {
    let options =
        Options { encryption: Some("srtp-mand"), tone, ..Options::of(demo, "ie1", "tls", user) };
    Baresip::registered(parent, &options)
}
