//! Two regions in four processes, each with its own database: whatever one
//! region's account says and does is nowhere in the other's database, files,
//! logs and metrics.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use landline_phone::{MediaMode, Phone, PhoneConfig};
use landline_residency::{CanaryList, Scanner, Word, WordKind};
use support::baresip::{self, Baresip, Options};
use support::region::{Database, Region, http, write_regions};
use support::server::{array, text};
use support::{eventually, free_ports, have, tone};

const SOON: Duration = Duration::from_secs(15);

/// Words that belong to one region's account alone.
struct Canary {
    domain: &'static str,
    users: [&'static str; 2],
    numbers: [&'static str; 2],
    tones: [u32; 2],
}

const IE1: Canary = Canary {
    domain: "harbour-lane.test",
    users: ["siobhan.quill", "padraig.wren"],
    numbers: ["+353155501234", "+353155505678"],
    tones: [500, 900],
};
const US1: Canary = Canary {
    domain: "prairie-wind.test",
    users: ["dakota.birch", "wyatt.sable"],
    numbers: ["+12125550142", "+12125550187"],
    tones: [700, 1100],
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_one_regions_account_is_in_the_other_region() {
    let directory = tempfile::tempdir().unwrap();
    let (ie1_ports, us1_ports) = (free_ports(8), free_ports(8));
    write_regions(directory.path(), &[("ie1", "IE", ie1_ports), ("us1", "US", us1_ports)]);
    let ie1 = Region::start(directory.path(), "ie1", "IE", ie1_ports);
    let us1 = Region::start(directory.path(), "us1", "US", us1_ports);
    let (irish, american) = (ie1.people(&IE1), us1.people(&US1));
    tokio::time::sleep(Duration::from_secs(1)).await;

    talk(&ie1, &IE1, &irish).await;
    talk(&us1, &US1, &american).await;
    // And an Irish phone at the American edge: forwarded, kept nowhere.
    travel(&us1, &ie1, &IE1, &irish).await;

    for (region, calls) in [(&ie1, 2), (&us1, 1)] {
        region.recorded(calls);
    }
    ie1.holds_nothing_of(&US1, &american);
    us1.holds_nothing_of(&IE1, &irish);

    // The search finds what is there: a planted leak of each kind.
    ie1.finds_a_planted_leak(&US1);
}

/// Two accounts at home in two regions: two calls, two records, one token. What
/// a region knows of the other's caller or callee is the address he presented,
/// under seal in its own record of its own call.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_two_regions_call_each_other_and_share_a_token_alone() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ie1_ports, us1_ports) = (free_ports(8), free_ports(8));
    write_regions(directory.path(), &[("ie1", "IE", ie1_ports), ("us1", "US", us1_ports)]);
    let ie1 = Region::start(directory.path(), "ie1", "IE", ie1_ports);
    let us1 = Region::start(directory.path(), "us1", "US", us1_ports);
    let (irish, american) = (ie1.people(&IE1), us1.people(&US1));
    us1.admin(&["account", "set", US1.domain, "--calls-from", "any"]);
    tokio::time::sleep(Duration::from_millis(2500)).await;

    let mut siobhan = ie1.softphone(directory.path(), &IE1, &irish);
    let mut dakota = us1.softphone(directory.path(), &US1, &american);
    let by_address = format!("sip:{}@{}", US1.users[0], US1.domain);
    let by_number = format!("sip:{}@{}", US1.numbers[0], IE1.domain);
    for (dialled, caller_hangs_up) in [(by_address, true), (by_number, false)] {
        siobhan.dial(&dialled);
        siobhan.expect("CALL_ESTABLISHED", SOON);
        // What they heard in the call before is behind them then.
        std::thread::sleep(Duration::from_secs(2));
        eventually("both hear each other", SOON, || {
            let heard = (dakota.heard(), siobhan.heard());
            (tone::same(heard.0, IE1.tones[0]) && tone::same(heard.1, US1.tones[0])).then_some(())
        });
        let (first, other) = match caller_hangs_up {
            true => (&mut siobhan, &mut dakota),
            false => (&mut dakota, &mut siobhan),
        };
        first.hang_up();
        other.expect("CALL_CLOSED", SOON);
        siobhan.forget();
        dakota.forget();
    }
    // The other account takes no calls: refused, and nothing left the region.
    let refused =
        dial_refused(&us1, &US1, &american, &format!("sip:{}@{}", IE1.users[0], IE1.domain)).await;
    assert_eq!(refused, 403);

    let (mine, theirs) = (ie1.closed(2), us1.closed(3));
    let token = |call: &serde_json::Value| text(&call["join_token"]).to_owned();
    let joined: Vec<_> = theirs.iter().filter(|call| !call["join_token"].is_null()).collect();
    assert_eq!(joined.len(), 2, "{theirs:?}");
    for (own, other) in mine.iter().zip(&joined) {
        assert_eq!(token(own), token(other));
        assert_ne!(own["sid"], other["sid"]);
        for (call, region, away) in [(own, "ie1", "us1"), (*other, "us1", "ie1")] {
            for place in ["home_region", "signalling_region", "media_region", "storage_region"] {
                assert_eq!(call[place], region, "{place}");
            }
            let leg = array(&call["legs"]).iter().find(|leg| leg["party"] == away).unwrap();
            assert_eq!(leg["media"], "sdes", "{leg}");
            for leg in array(&call["legs"]) {
                assert!(leg["stats"]["received"]["packets"].as_u64() > Some(25), "{leg}");
            }
            assert_eq!(array(&call["recordings"]).len(), 1, "{call}");
        }
    }
    // The declared exception, and no more of it: the parties as presented.
    let presented: Vec<_> = joined.iter().map(|call| text(&call["from"])).collect();
    let caller = format!("{}@{}", IE1.users[0], IE1.domain);
    assert!(presented.contains(&caller.as_str()) && presented.contains(&IE1.numbers[0]));
    ie1.holds_nothing_of(&US1, &american);
    us1.holds_nothing_of(&IE1, &irish);
    report_delay(&ie1, &us1, &irish, &american).await;
}

/// Accounts of one region call each other by the region's own link: two calls
/// too, and nothing that the gate would count as leaving.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_one_region_call_each_other_without_leaving_it() {
    let directory = tempfile::tempdir().unwrap();
    let ports = free_ports(8);
    write_regions(directory.path(), &[("ie1", "IE", ports)]);
    let ie1 = Region::start(directory.path(), "ie1", "IE", ports);
    let (callers, called) = (ie1.people(&IE1), ie1.people(&US1));
    ie1.admin(&["account", "set", US1.domain, "--calls-from", "region"]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let [caller, _] = ie1.phones(&IE1, &callers).await;
    let [callee, _] = ie1.phones(&US1, &called).await;
    caller.register().await.unwrap();
    callee.register().await.unwrap();
    let call = caller.call(US1.numbers[0]).await.unwrap();
    call.answered(SOON).await.unwrap();
    let other = callee.next_call().await.unwrap();
    call.hears(US1.tones[0], SOON).await.unwrap();
    other.hears(IE1.tones[0], SOON).await.unwrap();
    call.hang_up().await.unwrap();
    other.ended(SOON).await.unwrap();
    let calls = ie1.closed(2);
    assert_eq!(calls[0]["join_token"], calls[1]["join_token"]);
    assert_ne!(calls[0]["account"], calls[1]["account"], "{calls:?}");
    let metrics = http(ie1.base + 5, "/metrics").unwrap();
    let left = metrics.lines().find(|line| {
        line.starts_with("landline_egress_total") && line.contains("inter_region_sip")
    });
    assert_eq!(left, None);
}

async fn dial_refused(region: &Region, canary: &Canary, passwords: &[String; 2], to: &str) -> u16 {
    let [_, caller] = region.phones(canary, passwords).await;
    let call = caller.call(to).await.unwrap();
    match call.answered(SOON).await {
        Err(landline_phone::PhoneError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    }
}

/// Prints what the second region adds to a call's set-up; loopback, so that it
/// is the work and not the distance.
async fn report_delay(ie1: &Region, us1: &Region, irish: &[String; 2], american: &[String; 2]) {
    let (third, password) = ("eoin.teal", "correct horse battery");
    ie1.admin(&["user", "add", IE1.domain, third, "--media", "dtls", "--password", password]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let [_, caller] = ie1.phones(&IE1, irish).await;
    let [_, abroad] = us1.phones(&US1, american).await;
    let server = ([127, 0, 0, 1], ie1.base).into();
    let neighbour = Phone::start(PhoneConfig {
        media: MediaMode::Dtls,
        ..PhoneConfig::new(third, IE1.domain, password, server)
    });
    let neighbour = neighbour.await.unwrap();
    for phone in [&caller, &abroad, &neighbour] {
        phone.register().await.unwrap();
    }
    let mut medians = Vec::new();
    let there = format!("sip:{}@{}", US1.users[1], US1.domain);
    for (callee, address) in [(&neighbour, third), (&abroad, there.as_str())] {
        let mut times = Vec::new();
        // Each takes ports that rest a while before they serve again.
        for _ in 0..4 {
            let begun = std::time::Instant::now();
            let call = caller.call(address).await.unwrap();
            call.answered(SOON).await.unwrap();
            times.push(begun.elapsed());
            let called = callee.next_call().await.unwrap();
            call.hang_up().await.unwrap();
            called.ended(SOON).await.unwrap();
        }
        times.sort();
        medians.push(times[times.len() / 2]);
    }
    eprintln!("set-up within a region {:?}, between two {:?}", medians[0], medians[1]);
}

/// Both users register, one calls the other, each hears the other's tone.
async fn talk(region: &Region, canary: &Canary, passwords: &[String; 2]) {
    let [caller, callee] = region.phones(canary, passwords).await;
    caller.register().await.unwrap();
    callee.register().await.unwrap();
    let call = caller.call(canary.numbers[1]).await.unwrap();
    call.answered(SOON).await.unwrap();
    let called = callee.next_call().await.unwrap();
    call.hears(canary.tones[1], SOON).await.unwrap();
    called.hears(canary.tones[0], SOON).await.unwrap();
    call.hang_up().await.unwrap();
    called.ended(SOON).await.unwrap();
}

async fn travel(edge: &Region, home: &Region, canary: &Canary, passwords: &[String; 2]) {
    let [traveller, _] = edge.phones(canary, passwords).await;
    let [_, homebody] = home.phones(canary, passwords).await;
    traveller.register().await.unwrap();
    homebody.register().await.unwrap();
    let call = homebody.call(canary.users[0]).await.unwrap();
    call.answered(SOON).await.unwrap();
    let called = traveller.next_call().await.unwrap();
    called.hears(canary.tones[1], SOON).await.unwrap();
    call.hears(canary.tones[0], SOON).await.unwrap();
    called.hang_up().await.unwrap();
    call.ended(SOON).await.unwrap();
}

impl Region {
    /// Makes the account and its users; their passwords.
    fn people(&self, canary: &Canary) -> [String; 2] {
        let name = canary.domain.trim_end_matches(".test");
        self.admin(&[
            "account",
            "create",
            name,
            "--domain",
            canary.domain,
            "--region",
            self.code,
            "--recording",
            "all",
        ]);
        [0, 1].map(|n| {
            let user = self.admin(&[
                "user",
                "add",
                canary.domain,
                canary.users[n],
                "--number",
                canary.numbers[n],
                "--media",
                "dtls",
            ]);
            text(&user["password"]).to_owned()
        })
    }

    async fn phones(&self, canary: &Canary, passwords: &[String; 2]) -> [Phone; 2] {
        let phone = |n: usize| {
            let server = ([127, 0, 0, 1], self.base).into();
            Phone::start(PhoneConfig {
                media: MediaMode::Dtls,
                tone: canary.tones[n],
                ..PhoneConfig::new(canary.users[n], canary.domain, &passwords[n], server)
            })
        };
        [phone(0).await.unwrap(), phone(1).await.unwrap()]
    }

    /// The first user's softphone, which answers by itself.
    fn softphone(&self, parent: &Path, canary: &Canary, passwords: &[String; 2]) -> Baresip {
        Baresip::registered(
            parent,
            &Options {
                user: canary.users[0],
                domain: canary.domain,
                password: &passwords[0],
                transport: "udp",
                proxy: &format!("127.0.0.1:{}", self.base),
                encryption: Some("dtls_srtp"),
                tone: canary.tones[0],
                codec: "pcmu",
                ca: &parent.join("pki/ca.pem"),
                answers: true,
                second: None,
                ice: None,
                contacts: "",
            },
        )
    }

    fn recorded(&self, calls: usize) {
        eventually(&format!("{calls} closed calls in {}", self.code), SOON, || {
            let listed = self.admin(&["calls", "list"]);
            let closed = array(&listed).iter().filter(|call| !call["closed_at"].is_null()).count();
            (closed == calls).then_some(())
        });
        let recordings = self.admin(&["recording", "list"]);
        assert_eq!(array(&recordings).len(), calls, "{recordings}");
    }

    fn holds_nothing_of(&self, canary: &Canary, passwords: &[String; 2]) {
        let scanner = Scanner::new(&canary.list(passwords)).unwrap();
        for (place, bytes) in self.everything() {
            let seen = scanner.sightings(&bytes);
            assert!(seen.is_empty(), "{place} of {} holds {seen:?}", self.code);
        }
    }

    fn finds_a_planted_leak(&self, canary: &Canary) {
        let scanner = Scanner::new(&canary.list(&[String::new(), String::new()])).unwrap();
        let planted = format!("x{}x", hex::encode(canary.users[1]));
        fs::write(self.directory.join("planted"), planted).unwrap();
        let found = self.everything().iter().any(|(place, bytes)| {
            place.ends_with("planted") && !scanner.sightings(bytes).is_empty()
        });
        assert!(found, "the search is blind");
    }

    /// Every file of the region, its logs, its metrics, its database as text.
    fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        files(&self.directory, &mut found);
        found.push(("proxy log".to_owned(), self.proxy.log().into_bytes()));
        if let Some(relay) = &self.relay {
            found.push(("relay log".to_owned(), relay.log().into_bytes()));
        }
        for port in [self.base + 5, self.base + 6] {
            found.extend(
                http(port, "/metrics").map(|text| (format!("metrics {port}"), text.into_bytes())),
            );
        }
        if let Database::Postgres(url) = &self.database {
            let dump = Command::new("pg_dump").arg(url).output().unwrap();
            assert!(dump.status.success(), "{dump:?}");
            found.push(("pg_dump".to_owned(), dump.stdout));
        }
        assert!(found.len() > 5, "{}", found.len());
        found
    }
}

impl Canary {
    /// A user's name, a number or a password, however it is written.
    fn list(&self, passwords: &[String; 2]) -> CanaryList {
        let word = |text: &str, kind| Word { what: text.to_owned(), text: text.to_owned(), kind };
        let secrets = passwords.iter().map(String::as_str).filter(|text| !text.is_empty());
        let texts = self.users.into_iter().chain(secrets);
        let mut words: Vec<_> = texts.map(|text| word(text, WordKind::Text)).collect();
        words.extend(self.numbers.map(|number| word(number, WordKind::Number)));
        let tones = self.tones.to_vec();
        let region = self.domain.to_owned();
        let canaries = vec![landline_residency::Canary { region, words, tones }];
        CanaryList { canaries, exceptions: Vec::new() }
    }
}

fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}
