//! Softphones transfer calls, judged by the tone that each of the two who are
//! left hears: it is the other's, and no more the one's who has gone.

mod support;

use std::path::Path;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::{Demo, array, text};
use support::{eventually, have, tone};

const SOON: Duration = Duration::from_secs(15);
const RTP: (&str, Option<&str>) = ("rtp", None);
const SDES: (&str, Option<&str>) = ("sdes", Some("srtp-mand"));
const DTLS: (&str, Option<&str>) = ("dtls", Some("dtls_srtp"));

fn phone(
    parent: &Path,
    demo: &Demo,
    name: &str,
    (policy, encryption): (&str, Option<&str>),
    tone: u32,
) -> Baresip {
    let user = demo.add_user("acme.test", name, &["--media", policy]);
    let options = Options { encryption, tone, ..Options::of(demo, "ie1", "udp", &user) };
    Baresip::registered(parent, &options)
}

/// Who transfers, who stays, who is the target, and how each protects its media.
#[test]
fn baresip_sends_its_caller_or_callee_to_another_and_those_two_hear_each_other() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    for (n, (caller_transfers, guest, target)) in
        [(true, SDES, DTLS), (false, DTLS, RTP), (true, RTP, SDES)].into_iter().enumerate()
    {
        let start = |role: &str, protection, tone| {
            phone(directory.path(), &demo, &format!("{role}{n}"), protection, tone)
        };
        let mut alice = start("alice", SDES, 500);
        let mut bob = start("bob", guest, 900);
        let mut carol = start("carol", target, 1300);
        let before = demo.closed_calls("acme.test", 0).len();
        match caller_transfers {
            true => alice.dial(&format!("sip:bob{n}@acme.test")),
            false => bob.dial(&format!("sip:alice{n}@acme.test")),
        }
        eventually("alice and bob hear each other", SOON, || {
            (tone::same(alice.heard(), 900) && tone::same(bob.heard(), 500)).then_some(())
        });

        alice.command("transfer", &format!("sip:carol{n}@acme.test"));
        carol.expect("CALL_ESTABLISHED", SOON);
        // Told that it worked, it hangs up by itself.
        alice.expect("CALL_CLOSED", SOON);
        let samples = bob.samples();
        eventually("bob and carol hear each other", SOON, || {
            let bob_hears = tone::same(bob.heard_after(samples), 1300);
            (bob_hears && tone::same(carol.heard(), 900)).then_some(())
        });
        carol.hang_up();
        bob.expect("CALL_CLOSED", SOON);

        let calls = demo.closed_calls("acme.test", before + 2);
        let shown: Vec<_> =
            calls[..2].iter().map(|it| demo.admin(&["calls", "show", text(&it["sid"])])).collect();
        let of = |cause: &str| shown.iter().find(|it| it["cause"] == cause).expect(cause);
        let second = of("callee_hung_up");
        assert_eq!(text(&of("transferred")["legs"][0]["role"]), "a");
        let ends = (text(&second["from"]), text(&second["to"]));
        assert_eq!(ends, (&*format!("alice{n}"), &*format!("carol{n}")), "{second}");
        for leg in shown.iter().flat_map(|it| array(&it["legs"])) {
            assert!(leg["stats"]["received"]["packets"].as_u64() > Some(25), "{leg}");
        }
    }
}

/// linphone talks to another linphone, asks a softphone while that one waits, and
/// connects the two (RFC 5589 §7, by REFER with Replaces).
#[test]
fn linphone_connects_the_two_whom_it_talks_to() {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let open = |name: &str, tone| {
        let written = demo.data.join(format!("clients/linphone-{name}@acme.test"));
        Linphone::registered(directory.path(), &written, tone)
    };
    let (mut carol, mut bob) = (open("carol", 500), open("bob", 900));
    let mut lab = phone(directory.path(), &demo, "lab", SDES, 1300);
    bob.keep_to_pcmu();
    let before = demo.closed_calls("acme.test", 0).len();
    carol.dial("sip:bob@acme.test");
    eventually("bob hears carol", SOON, || tone::same(bob.heard(), 500).then_some(()));
    carol.types("pause");
    carol.dial("sip:lab@acme.test");
    lab.expect("CALL_ESTABLISHED", SOON);
    eventually("lab hears carol", SOON, || tone::same(lab.heard(), 500).then_some(()));

    carol.types("transfer 1 --to-call 2");
    eventually("bob and lab hear each other", SOON, || {
        (tone::same(bob.heard(), 1300) && tone::same(lab.heard(), 900)).then_some(())
    });
    bob.hang_up();
    lab.expect("CALL_CLOSED", SOON);
    let calls = demo.closed_calls("acme.test", before + 3);
    let mut causes: Vec<_> = calls[..3]
        .iter()
        .map(|it| demo.admin(&["calls", "show", text(&it["sid"])])["cause"].to_string())
        .collect();
    causes.sort();
    assert_eq!(causes, ["\"caller_hung_up\"", "\"transferred\"", "\"transferred\""]);
}
