//! Music on hold, as linphone hears it when baresip puts it there: the built-in
//! one, and the account's own.

mod support;

use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::Demo;
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn who_is_on_hold_hears_the_accounts_music_until_the_other_comes_back() {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let user = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let options = Options {
        encryption: Some("srtp-mand"),
        tone: 900,
        ..Options::of(&demo, "ie1", "udp", &user)
    };
    let mut desk = Baresip::registered(directory.path(), &options);
    let written = demo.data.join("clients/linphone-carol@acme.test");
    let mut carol = Linphone::registered(directory.path(), &written, 500);
    carol.keep_to_pcmu();
    let file = directory.path().join("music.wav");
    // As somebody would have it.
    tone::Wav { rate: 44_100, channels: 2, seconds: 10, peak: 9000.0 }.write(&file, 1370);
    let shown = demo.admin(&["account", "show", "acme.test"]);
    assert_eq!(shown["hold_music"], "built-in");

    for music in ["built-in", "own"] {
        if music == "own" {
            let set = demo.admin(&["account", "music", "acme.test", file.to_str().unwrap()]);
            assert_eq!(set["hold_music"], "own", "{set}");
            // "Take effect within a second" is the promise.
            std::thread::sleep(Duration::from_secs(1));
        }
        carol.forget();
        carol.dial("sip:desk@acme.test");
        desk.expect("CALL_ESTABLISHED", SOON);
        hears(&carol, "who it called", |heard| tone::same(heard, 900));
        desk.command("hold", "");
        match music {
            "own" => hears(&carol, "the account's music", |heard| tone::same(heard, 1370)),
            // Note after note, and none of them the desk's.
            _ => {
                hears(&carol, "the tune", |heard| heard.is_some_and(|hz| hz < 800.0));
                let before = carol.samples().len();
                eventually("three seconds of it", SOON, || {
                    (carol.samples().len() > before + 24_000).then_some(())
                });
                let tune = carol.samples().split_off(before);
                for second in tune.chunks_exact(8000) {
                    let heard = tone::dominant(second, 8000);
                    assert!(heard.is_some_and(|hz| hz < 800.0), "{heard:?}");
                }
            }
        }
        desk.command("resume", "");
        hears(&carol, "who it called, again", |heard| tone::same(heard, 900));
        carol.hang_up();
        desk.expect("CALL_CLOSED", SOON);
        let closed = demo.closed_calls("acme.test", 1);
        assert_eq!(closed[0]["cause"], "caller_hung_up", "{}", closed[0]);
    }
}

#[track_caller]
fn hears(phone: &Linphone, what: &str, is: impl Fn(Option<f64>) -> bool) {
    eventually(&format!("linphone hears {what}"), SOON, || is(phone.heard()).then_some(()));
}
