//! The mailbox in the web phone, in headless Chromium: a softphone leaves a message,
//! and its owner finds, hears and deletes it without a command line.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::browser;
use support::server::{Demo, User, array, text};
use support::webphone::WebPhone;
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(30);
const CURL: &str = "/usr/bin/curl";
/// What the caller says, and what the owner said as a greeting.
const CALLER: u32 = 900;
const OWNER: u32 = 500;

#[test]
fn a_message_is_counted_listed_played_and_deleted_in_the_page_of_its_owner_alone() {
    let axe = format!("{}/axe-core/axe.min.js", browser::PACKAGES);
    if !have(&[browser::PROGRAM, browser::CERTUTIL, baresip::PROGRAM, CURL, &axe]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (alice, bob) = (demo.user("acme.test", "alice"), demo.user("acme.test", "bob"));
    let set = ["user", "set", "acme.test", "alice", "--voicemail", "on", "--ring-seconds", "5"];
    assert_eq!(demo.admin(&set)["voicemail"], "on");
    let mobile = demo.add_user("acme.test", "mobile", &["--media", "dtls"]);
    let options = Options {
        encryption: Some("dtls_srtp"),
        codec: "opus",
        tone: CALLER,
        ..Options::of(&demo, "ie1", "udp", &mobile)
    };
    let mut mobile = Baresip::registered(directory.path(), &options);
    let page = |region: &str| text(&demo.info["regions"][region]["phone"]).to_owned();
    let owner = WebPhone::signed_in(directory.path(), &page("ie1"), demo.ca(), &alice, OWNER);
    owner.expect_text("#mailbox-count", "No new messages");
    owner.expect_text("#mailbox", "No messages.");
    owner.expect_text("#greeting-state", "usual greeting");

    owner.click("#greet");
    owner.expect_text("#greeting-state", "Recording");
    std::thread::sleep(Duration::from_secs(3));
    owner.click("#greet");
    owner.expect_text("#greeting-state", "your own greeting");

    mobile.dial("sip:alice@acme.test");
    mobile.expect("CALL_ESTABLISHED", SOON);
    eventually("the caller hears the owner's greeting", SOON, || {
        tone::same(mobile.heard(), OWNER).then_some(())
    });
    std::thread::sleep(Duration::from_secs(7));
    mobile.hang_up();
    owner.expect_text("#mailbox-count", "1 new message");
    assert_eq!(owner.text("#mailbox-badge"), "1");
    owner.expect_text(".message", "mobile");
    owner.expect_text(".message", "New");
    owner.until("the call card gone", "document.querySelector('.call') === null");
    owner.click("#open-mailbox");
    owner.inspect("voicemail-1-new");
    let messages = demo.admin(&["voicemail", "list", "acme.test", "alice"]);
    let [message] = array(&messages) else { panic!("{messages}") };
    let sid = text(&message["sid"]);

    // Another region's page knows that it waits, and not what it is.
    let abroad = WebPhone::open(directory.path(), "abroad", &page("us1"), demo.ca(), 700);
    abroad.sign_in(&alice, &alice.password);
    abroad.expect_text("#mailbox-count", "1 new message");
    abroad.expect_text("#mailbox-home", "home region");
    assert_eq!(abroad.js("document.querySelectorAll('.message').length"), 0);
    abroad.click("#sign-out");
    // Nobody else's has it, whatever they ask for.
    let other = WebPhone::signed_in(directory.path(), &page("ie1"), demo.ca(), &bob, 1100);
    assert_eq!(other.js("document.getElementById('mailbox').hidden"), true);
    let place = page("ie1").replace("/phone/", "/v1/phone/acme.test/voicemail");
    let (sound, file) = (format!("{place}/{sid}.wav"), directory.path().join("fetched.wav"));
    let wrong = User { password: "guess".to_owned(), ..demo.user("acme.test", "alice") };
    let abroad =
        sound.replace(&page("ie1").replace("/phone/", ""), &page("us1").replace("/phone/", ""));
    for (who, url, status) in [
        (&bob, &sound, "404"),
        (&wrong, &sound, "401"),
        (&alice, &abroad, "421"),
        (&alice, &sound, "200"),
    ] {
        assert_eq!(fetched(&demo, who, url, &file), status, "{} {url}", who.name);
    }
    assert!(tone::same(tone::of_wav(&file), CALLER), "{:?}", tone::of_wav(&file));

    // Played, it is what was said, and is heard from then on.
    owner.click(".message [data-deed=play]");
    owner.until("it plays", "document.querySelector('.message audio').currentTime > 0.5");
    std::fs::write(&file, owner.played()).unwrap();
    assert!(tone::same(tone::of_wav(&file), CALLER), "{:?}", tone::of_wav(&file));
    owner.expect_text("#mailbox-count", "No new messages");
    owner.expect_text(".message", "heard");
    assert_eq!(owner.text("#mailbox-badge"), "");
    let messages = demo.admin(&["voicemail", "list", "acme.test", "alice"]);
    assert_eq!(array(&messages)[0]["heard"], true);
    owner.inspect("voicemail-2-heard");

    // By phone, and who called is called back.
    owner.click("#listen");
    owner.hears(CALLER);
    owner.click("[data-deed=end]");
    owner.until("the call card gone", "document.querySelector('.call') === null");
    mobile.forget();
    owner.click(".message [data-deed=call-back]");
    mobile.expect("CALL_ESTABLISHED", SOON);
    owner.expect_call("talking");
    owner.click("[data-deed=end]");
    owner.until("the call card gone", "document.querySelector('.call') === null");

    // By the keyboard alone, once it has the focus.
    owner.js("document.querySelector('.message [data-deed=delete]').focus()");
    owner.key("Enter");
    owner.expect_text("#forget-what", "mobile");
    owner.inspect("voicemail-3-delete");
    owner.click("#forget .danger");
    owner.expect_text("#mailbox", "No messages.");
    let messages = demo.admin(&["voicemail", "list", "acme.test", "alice"]);
    assert_eq!(array(&messages).len(), 0, "{messages}");
    assert_eq!(fetched(&demo, &alice, &sound, &file), "404");
    owner.click("#ungreet");
    owner.expect_text("#greeting-state", "usual greeting");
}

/// By a program that knows HTTP Digest of itself; the status.
#[track_caller]
fn fetched(demo: &Demo, user: &User, url: &str, file: &Path) -> String {
    let output = Command::new(CURL)
        .args(["--silent", "--show-error", "--max-time", "30", "--digest", "--cacert"])
        .arg(demo.ca())
        .args(["--user", &format!("{}:{}", user.name, user.password), "--output"])
        .arg(file)
        .args(["--write-out", "%{http_code}", url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
