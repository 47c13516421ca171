//! Calls that nobody takes: linphone and baresip leave messages, the owner's phone
//! shows that they wait, and they sound as they were said.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::{Demo, array, text};
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(20);
const BEEP: u32 = 1000;

#[test]
fn callers_leave_messages_that_sound_as_they_were_said_and_the_owner_is_told() {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM, "/usr/bin/curl"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    // Messages are recorded whatever becomes of other calls.
    demo.admin(&["account", "set", "acme.test", "--recording", "off"]);
    let user = demo.add_user("acme.test", "desk", &["--media", "rtp"]);
    let set = ["user", "set", "acme.test", "desk", "--voicemail", "on", "--ring-seconds", "5"];
    assert_eq!(demo.admin(&set)["voicemail"], "on");
    let caller = demo.add_user("acme.test", "mobile", &["--media", "dtls"]);
    // It rings, and nobody is there.
    let options = Options {
        answers: false,
        contacts: "\"Carol\" <sip:carol@acme.test>\n",
        ..Options::of(&demo, "ie1", "udp", &user)
    };
    let mut desk = Baresip::registered(directory.path(), &options);
    eventually("the desk's phone hears of its mailbox", SOON, || {
        desk.log().contains("Messages-Waiting: no").then_some(())
    });

    // A phone with keys in its description hears the prompt and the tone, and speaks.
    let written = demo.data.join("clients/linphone-carol@acme.test");
    let mut carol = Linphone::registered(directory.path(), &written, 500);
    carol.keep_to_pcmu();
    carol.dial("sip:desk@acme.test");
    eventually("linphone hears the tone", Duration::from_secs(40), || {
        hears_beep(&carol.samples()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(4));
    carol.hang_up();
    is_told(&desk, "the desk's lamp", "1/0");
    let messages = demo.admin(&["voicemail", "list", "acme.test", "desk"]);
    let [message] = array(&messages) else { panic!("{messages}") };
    assert_eq!((text(&message["from"]), &message["heard"]), ("carol", &false.into()));
    let duration = message["duration_ms"].as_u64().unwrap();
    assert!((3000..9000).contains(&duration), "{message}");
    let call = demo.admin(&["calls", "show", text(&message["call"])]);
    assert_eq!(text(&call["cause"]), "caller_hung_up");
    let leg = array(&call["legs"]).iter().find(|leg| leg["role"] == "a").unwrap();
    assert_eq!(leg["diverted_because"], "voicemail", "{call}");
    let recording = &array(&call["recordings"])[0];
    assert_eq!(recording["expected_packets"], recording["stored_packets"], "{call}");
    assert_eq!(recording["consent"]["by_policy"], false, "{call}");

    // By the API it is heard as it was said.
    let wav = directory.path().join("message.wav");
    fetch(&demo, text(&message["user"]), text(&message["sid"]), &wav);
    assert!(tone::same(tone::of_wav(&wav), 500), "{:?}", tone::of_wav(&wav));

    // Nothing of it is anywhere else.
    for region in ["us1", "au1"] {
        for name in [&message["sid"], &message["call"], &message["recording"]].map(text) {
            let holders = naming(&demo.data.join(region), name);
            assert!(holders.is_empty(), "{name} is in {holders:?}");
        }
    }
    assert!(!naming(&demo.data.join("ie1"), text(&message["sid"])).is_empty(), "it is at home");

    // Opus and DTLS, to a greeting of the user's own.
    let greeting = directory.path().join("greeting.wav");
    tone::Wav { rate: 8000, channels: 1, seconds: 3, peak: 9000.0 }.write(&greeting, 700);
    let put = ["voicemail", "greeting", "acme.test", greeting.to_str().unwrap(), "--user", "desk"];
    demo.admin(&put);
    std::thread::sleep(Duration::from_secs(1));
    let options = Options {
        encryption: Some("dtls_srtp"),
        codec: "opus",
        tone: 900,
        ..Options::of(&demo, "ie1", "udp", &caller)
    };
    let mut mobile = Baresip::registered(directory.path(), &options);
    mobile.dial("sip:desk@acme.test");
    mobile.expect("CALL_ESTABLISHED", SOON);
    eventually("baresip hears the greeting", SOON, || {
        tone::same(mobile.heard(), 700).then_some(())
    });
    std::thread::sleep(Duration::from_secs(6));
    mobile.hang_up();
    is_told(&desk, "two messages wait", "2/0");
    let messages = demo.admin(&["voicemail", "list", "acme.test", "desk"]);
    let newest = &array(&messages)[0];
    let file = directory.path().join("exported.wav");
    let (sid, file_name) = (text(&newest["sid"]), file.to_str().unwrap());
    demo.admin(&["voicemail", "export", "acme.test", sid, file_name]);
    assert!(tone::same(tone::of_wav(&file), 900), "{:?}", tone::of_wav(&file));

    // The owner listens: the oldest is linphone's, and it counts as heard then.
    desk.dial("sip:*97@acme.test");
    desk.expect("CALL_ESTABLISHED", SOON);
    for (what, hz) in [("linphone's message", 500), ("baresip's message", 900)] {
        eventually(what, SOON, || tone::same(desk.heard(), hz).then_some(()));
    }
    desk.expect("CALL_CLOSED", SOON);
    is_told(&desk, "both are heard", "0/2");
    let listened = eventually("a record of it", SOON, || {
        demo.closed_calls("acme.test", 1).into_iter().find(|call| call["to"] == "*97")
    });
    assert_eq!(listened["cause"], "voicemail", "{listened}");
    for message in array(&demo.admin(&["voicemail", "list", "acme.test", "desk"])) {
        let message = text(&message["sid"]);
        demo.admin(&["voicemail", "heard", "acme.test", message, "--not"]);
    }

    is_told(&desk, "both are new again", "2/0");
    demo.admin(&["voicemail", "heard", "acme.test", sid]);
    is_told(&desk, "one is heard", "1/1");
    demo.admin(&["voicemail", "remove", "acme.test", sid]);
    is_told(&desk, "and gone", "1/0");
    assert_eq!(array(&demo.admin(&["voicemail", "list", "acme.test", "desk"])).len(), 1);
}

/// What the owner's phone was told last.
#[track_caller]
fn is_told(desk: &Baresip, what: &str, counts: &str) {
    eventually(what, SOON, || {
        let log = desk.log();
        let last = log.rsplit("Voice-Message: ").next()?;
        last.starts_with(counts).then_some(())
    });
}

/// The files below that have these octets in them.
fn naming(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(naming(&path, name));
        } else {
            let octets = std::fs::read(&path).unwrap_or_default();
            if octets.windows(name.len()).any(|part| part == name.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// Anywhere in what was heard: a fifth of a second of the tone.
fn hears_beep(samples: &[i16]) -> bool {
    samples.chunks_exact(2000).any(|part| {
        let found = landline_media::audio::strongest_tone(part, 8000);
        found.is_some_and(|(hz, level)| (hz - f64::from(BEEP)).abs() < 12.0 && level > -25.0)
    })
}

/// As a program of the customer's would fetch it.
#[track_caller]
fn fetch(demo: &Demo, user: &str, message: &str, file: &Path) {
    let key = demo.admin(&["key", "create", "acme.test", "--role", "operator", "--name", "test"]);
    let account = demo.admin(&["account", "show", "acme.test"]);
    let regions = demo.admin(&["region", "list"]);
    let home = array(&regions).iter().find(|it| it["code"] == "ie1").unwrap().clone();
    let url = format!(
        "{}/2010-04-01/Accounts/{}/Users/{user}/Voicemail/{message}.wav",
        text(&home["console"]),
        text(&account["sid"])
    );
    let status = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "30", "--cacert"])
        .arg(demo.ca())
        .args(["--user", &format!("{}:{}", text(&key["sid"]), text(&key["secret"])), "--output"])
        .arg(file)
        .arg(&url)
        .status()
        .unwrap();
    assert!(status.success(), "{url}");
}
