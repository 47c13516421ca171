//! Softphones write to each other and watch each other; SIPp is a lamp and a
//! mailbox's owner.

mod support;

use std::path::Path;
use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::server::{Demo, User};
use support::sipp::{self, Sipp};
use support::{eventually, free_ports, have};

const SOON: Duration = Duration::from_secs(15);

fn desk(parent: &Path, demo: &Demo, user: &User, tone: u32, contacts: &str) -> Baresip {
    let options = Options { tone, contacts, ..Options::of(demo, "ie1", "udp", user) };
    Baresip::registered(parent, &options)
}

#[test]
fn baresip_writes_to_baresip_and_sees_that_it_is_there() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let [alice, bob] =
        ["alice-d", "bob-d"].map(|name| demo.add_user("acme.test", name, &["--media", "rtp"]));
    let before = demo.closed_calls("acme.test", 0).len();
    let knows_bob = "\"Bob\" <sip:bob-d@acme.test>;presence=p2p\n";
    let mut alice = desk(directory.path(), &demo, &alice, 500, knows_bob);
    // Its mailbox has nothing in it.
    eventually("alice's phone hears of its mailbox", SOON, || {
        alice.log().contains("Messages-Waiting: no").then_some(())
    });
    let knows_alice = "\"Alice\" <sip:alice-d@acme.test>;presence=p2p\n";
    let mut bob = desk(directory.path(), &demo, &bob, 900, knows_alice);
    eventually("alice sees that bob is there", SOON, || {
        alice.command("contacts", "");
        alice.shown().contains("Online").then_some(())
    });
    alice.command("contact_next", "");
    alice.command("message", "Meet me at nine");
    eventually("bob reads what alice wrote", SOON, || {
        let shown = bob.shown();
        (shown.contains("sip:alice-d@acme.test") && shown.contains("Meet me at nine")).then_some(())
    });
    bob.command("contact_next", "");
    bob.command("message", "Make it ten");
    eventually("alice reads what bob wrote", SOON, || {
        alice.shown().contains("Make it ten").then_some(())
    });
    assert_eq!(demo.closed_calls("acme.test", before).len(), before, "no record of it");
}

#[test]
fn linphone_and_baresip_write_to_each_other() {
    if !have(&[linphone::PROGRAM, baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let user = demo.add_user("acme.test", "desk", &["--media", "rtp"]);
    let knows_carol = "\"Carol\" <sip:carol@acme.test>;presence=p2p\n";
    let mut desk = desk(directory.path(), &demo, &user, 900, knows_carol);
    let written = demo.data.join("clients/linphone-carol@acme.test");
    let mut carol = Linphone::registered(directory.path(), &written, 500);
    carol.chat("sip:desk@acme.test", "Meet me at nine");
    eventually("baresip reads it", SOON, || desk.shown().contains("Meet me at nine").then_some(()));
    desk.command("contact_next", "");
    desk.command("message", "Make it ten");
    carol.says("Make it ten");
}

#[test]
fn sipp_writes_to_sipp_by_name_and_number() {
    let Some(office) = Office::start() else { return };
    for target in ["bob-s", "+35315550177"] {
        let mut takes = office.run("uas_message", office.port, &office.bob, "");
        office.run("uac_message", free_ports(2), &office.alice, target).succeeds();
        takes.succeeds();
    }
    office.run("uac_message_nobody", free_ports(2), &office.alice, "alice-s").succeeds();
}

#[test]
fn a_lamp_shows_a_colleagues_call_from_beginning_to_end() {
    let Some(office) = Office::start() else { return };
    let mut lamp = office.run("uac_blf", free_ports(2), &office.carol, "bob-s");
    let mut answers = office.run("uas_answer", office.port, &office.bob, "");
    // Its first notification says that there is no call: that has to come first.
    std::thread::sleep(Duration::from_secs(2));
    office.run("uac_call", free_ports(2), &office.alice, "bob-s").succeeds();
    answers.succeeds();
    lamp.succeeds();
}

#[test]
fn a_mailbox_tells_its_owner_and_what_there_is_not_is_named() {
    let Some(office) = Office::start() else { return };
    office.run("uac_mwi", free_ports(2), &office.carol, "carol-s").succeeds();
    office.run("uac_bad_event", free_ports(2), &office.carol, "bob-s").succeeds();
}

/// Three users of SIPp's; bob is registered.
struct Office {
    demo: Demo,
    directory: tempfile::TempDir,
    alice: User,
    bob: User,
    carol: User,
    port: u16,
}

impl Office {
    fn start() -> Option<Self> {
        if !have(&[sipp::PROGRAM]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let demo = Demo::start(directory.path());
        let number = ["--media", "rtp", "--number", "+35315550177"];
        let bob = demo.add_user("acme.test", "bob-s", &number);
        let [alice, carol] = ["alice-s", "carol-s"]
            .map(|name| demo.add_user("acme.test", name, &["--media", "rtp"]));
        let port = free_ports(2);
        let office = Self { demo, directory, alice, bob, carol, port };
        office.run("register", office.port, &office.bob, "").succeeds();
        Some(office)
    }

    fn run(&self, scenario: &str, local: u16, user: &User, target: &str) -> Sipp {
        let proxy = self.demo.sip("ie1", "udp");
        Sipp::of(self.directory.path(), scenario, local, proxy, user, target)
    }
}
