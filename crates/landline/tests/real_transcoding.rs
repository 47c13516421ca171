//! Softphones that share no codec hear each other all the same.

mod support;

use std::path::Path;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::server::{Demo, array, text};
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(15);

const RTP: (&str, Option<&str>) = ("rtp", None);
const SDES: (&str, Option<&str>) = ("sdes", Some("srtp-mand"));
const DTLS: (&str, Option<&str>) = ("dtls", Some("dtls_srtp"));

const PCMU: (&str, &str) = ("PCMU", "pcmu");
const PCMA: (&str, &str) = ("PCMA", "pcma");
const G722: (&str, &str) = ("G722", "G722/16000/1");
const OPUS: (&str, &str) = ("OPUS", "opus/48000/2");

type Protection = (&'static str, Option<&'static str>);
/// Its name, and what baresip calls it.
type Codec = (&'static str, &'static str);

fn phone(
    parent: &Path,
    demo: &Demo,
    name: &str,
    (policy, encryption): Protection,
    (_, codec): Codec,
    tone: u32,
) -> Baresip {
    let more = ["--media", policy, "--record", "all"];
    let user = demo.add_user("acme.test", name, &more);
    let options = Options { encryption, tone, codec, ..Options::of(demo, "ie1", "udp", &user) };
    Baresip::registered(parent, &options)
}

#[test]
fn phones_that_share_no_codec_hear_each_other() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let pairs = [
        ((RTP, PCMU), (RTP, OPUS)),
        ((SDES, OPUS), (DTLS, PCMA)),
        ((RTP, G722), (SDES, PCMA)),
        ((DTLS, G722), (RTP, OPUS)),
    ];
    for (n, ((guard, codec), (other_guard, other))) in pairs.into_iter().enumerate() {
        let what = format!("{} to {}", codec.0, other.0);
        let parent = directory.path();
        let before = demo.closed_calls("acme.test", 0).len();
        let mut caller = phone(parent, &demo, &format!("caller{n}"), guard, codec, 500);
        let mut callee = phone(parent, &demo, &format!("callee{n}"), other_guard, other, 900);
        caller.dial(&format!("sip:callee{n}@acme.test"));
        caller.expect("CALL_ESTABLISHED", SOON);
        eventually(&format!("{what}: both hear each other"), SOON, || {
            (tone::same(callee.heard(), 500) && tone::same(caller.heard(), 900)).then_some(())
        });
        caller.hang_up();
        callee.expect("CALL_CLOSED", SOON);

        let calls = demo.closed_calls("acme.test", before + 1);
        let shown = demo.admin(&["calls", "show", text(&calls[0]["sid"])]);
        assert_eq!(shown["cause"], "caller_hung_up", "{what}: {shown}");
        let legs = array(&shown["legs"]);
        let codecs: Vec<_> = legs.iter().map(|leg| text(&leg["stats"]["codec"])).collect();
        assert_eq!(codecs, [codec.0, other.0], "{what}: each its own: {shown}");
        for leg in legs {
            assert!(leg["stats"]["received"]["packets"].as_u64() > Some(25), "{what}: {leg}");
            assert!(leg["stats"]["sent"]["packets"].as_u64() > Some(25), "{what}: {leg}");
        }
        recorded(&demo, parent, &what, text(&shown["sid"]));
    }
}

/// Each party is heard in its own channel, whatever it spoke.
fn recorded(demo: &Demo, parent: &Path, what: &str, call: &str) {
    let recording = eventually("the recording", SOON, || {
        let all = demo.admin(&["recording", "list"]);
        array(&all).iter().find(|it| text(&it["call"]) == call).cloned()
    });
    let file = parent.join(format!("{call}.wav"));
    demo.admin(&["recording", "export", text(&recording["sid"]), file.to_str().unwrap()]);
    let mut wav = hound::WavReader::open(&file).unwrap();
    let rate = wav.spec().sample_rate;
    let samples: Vec<i16> = wav.samples::<i16>().map(Result::unwrap).collect();
    for (channel, sent) in [(0, 500), (1, 900)] {
        let own: Vec<i16> = samples.iter().skip(channel).step_by(2).copied().collect();
        let heard = tone::dominant(&own, rate);
        assert!(tone::same(heard, sent), "{what}: channel {channel} has {heard:?}");
    }
}
