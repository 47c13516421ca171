//! A call that is parked outlives its proxy and its relay: who waits hears music
//! on, and whoever takes the call is heard, judged by tones.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::baresip::{self, Baresip, Options};
use support::linphone::{self, Linphone};
use support::region::{Region, http, write_regions};
use support::server::{array, text};
use support::{eventually, free_ports, have, tone};

const DOMAIN: &str = "park.test";
const PASSWORD: &str = "correct-horse-battery";
const SOON: Duration = Duration::from_secs(15);
/// Half a second of 8 kHz.
const SHORT: usize = 4000;

#[test]
fn who_is_parked_waits_over_the_death_of_the_proxy_and_is_taken_from_the_next() {
    if !have(&[baresip::PROGRAM, linphone::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path());
    office.parks_bob();
    for _ in 0..2 {
        office.region.dies(true, false, || ());
        let region = &office.region;
        eventually("the proxy serves again", SOON, || region.is_healthy().then_some(()));
        office.bob_hears_music();
    }
    let metrics = http(office.region.base + 5, "/metrics").unwrap();
    assert!(metrics.contains("calls_restored"), "{metrics}");
    office.cat_takes_bob();
}

#[test]
fn who_is_parked_goes_to_another_relay_as_his_own_dies_and_is_taken_there() {
    if !have(&[baresip::PROGRAM, linphone::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path());
    office.parks_bob();
    // The one relay there is, and another process in its place.
    office.region.dies(false, true, || ());
    office.bob_hears_music();
    let record = office.cat_takes_bob();
    let media = array(&record["legs"]);
    assert!(media.iter().all(|leg| leg["stats"]["received"]["packets"].as_u64() > Some(25)));
}

struct Office {
    region: Region,
    amy: Baresip,
    bob: Linphone,
    cat: Baresip,
}

impl Office {
    fn open(parent: &Path) -> Self {
        let base = free_ports(8);
        write_regions(parent, &[("ie1", "IE", base)]);
        let region = Region::start(parent, "ie1", "IE", base);
        let account = ["account", "create", "park", "--domain", DOMAIN, "--region", "ie1"];
        region.admin(&account);
        for name in ["amy", "bob", "cat"] {
            region.admin(&["user", "add", DOMAIN, name, "--media", "sdes", "--password", PASSWORD]);
        }
        std::thread::sleep(Duration::from_millis(1500));
        let proxy = format!("127.0.0.1:{base}");
        let ca = parent.join("pki/ca.pem");
        let phone = |user, tone| {
            Baresip::registered(
                parent,
                &Options {
                    user,
                    domain: DOMAIN,
                    password: PASSWORD,
                    transport: "udp",
                    proxy: &proxy,
                    encryption: Some("srtp-mand"),
                    tone,
                    codec: "pcmu",
                    ca: &ca,
                    answers: true,
                    second: None,
                    ice: None,
                    contacts: "",
                },
            )
        };
        let (amy, cat) = (phone("amy", 500), phone("cat", 1300));
        let written = parent.join("linphone-bob");
        std::fs::write(&written, linphone_file(&proxy)).unwrap();
        let home = parent.join("bob");
        std::fs::create_dir_all(&home).unwrap();
        let mut bob = Linphone::registered(&home, &written, 900);
        bob.keep_to_pcmu();
        Self { region, amy, bob, cat }
    }

    /// Amy calls bob, and parks him.
    fn parks_bob(&mut self) {
        self.amy.dial(&format!("sip:bob@{DOMAIN}"));
        self.amy.expect("CALL_ESTABLISHED", SOON);
        eventually("they talk", SOON, || {
            (tone::same(self.bob.heard(), 500) && tone::same(self.amy.heard(), 900)).then_some(())
        });
        self.amy.command("transfer", &format!("sip:*71@{DOMAIN}"));
        self.amy.expect("CALL_CLOSED", SOON);
        self.bob_hears_music();
    }

    /// From now on: something, and not amy.
    fn bob_hears_music(&self) {
        let before = self.bob.samples().len();
        eventually("bob hears music", SOON, || {
            let later = self.bob.samples().get(before + SHORT..)?.to_vec();
            let is_loud = later.iter().any(|sample| sample.unsigned_abs() > 500);
            let is_amy = tone::same(tone::dominant(&later, 8000), 500);
            (later.len() > 3 * SHORT && is_loud && !is_amy).then_some(())
        });
    }

    /// The record of their call.
    fn cat_takes_bob(&mut self) -> Value {
        let before = self.bob.samples().len();
        self.cat.dial(&format!("sip:*71@{DOMAIN}"));
        self.cat.expect("CALL_ESTABLISHED", SOON);
        eventually("bob and cat hear each other", SOON, || {
            let later = self.bob.samples().get(before..)?.to_vec();
            let last = later.get(later.len().checked_sub(2 * SHORT)?..)?;
            let bob_hears = tone::same(tone::dominant(last, 8000), 1300);
            (bob_hears && tone::same(self.cat.heard(), 900)).then_some(())
        });
        self.cat.hang_up();
        self.cat.expect("CALL_CLOSED", SOON);
        let mut records = self.region.closed(2);
        let second = records.pop().unwrap();
        let ends = (text(&second["from"]), text(&second["to"]), text(&second["cause"]));
        assert_eq!(ends, ("amy", "*71", "callee_hung_up"), "{second}");
        assert_eq!(records[0]["cause"], "transferred", "{}", records[0]);
        let checked = self.region.admin(&["ledger", "check"]);
        assert_eq!(array(&checked)[0]["ok"], true, "{checked}");
        second
    }
}

fn linphone_file(proxy: &str) -> String {
    format!(
        "[sip]\nsip_port=-1\nsip_tcp_port=0\nsip_tls_port=0\nmedia_encryption=srtp\ndefault_proxy=0\n\n\
         [rtp]\naudio_rtp_port=-1\n\n\
         [auth_info_0]\nusername=bob\nrealm={DOMAIN}\ndomain={DOMAIN}\npasswd={PASSWORD}\n\n\
         [proxy_0]\nreg_proxy=<sip:{proxy};transport=udp>\nreg_route=<sip:{proxy};transport=udp>\n\
         reg_identity=<sip:bob@{DOMAIN}>\nreg_expires=300\nreg_sendregister=1\n"
    )
}
