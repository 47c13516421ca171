//! Proxies are killed under answered calls, and the calls go on: they are heard,
//! held and hung up as if nothing had happened, and so their records say.
//!
//! `LANDLINE_TAKEOVERS` says how often a proxy is killed under calls (3).

mod support;

use std::time::{Duration, Instant};

use landline_phone::{Call, MediaMode, Phone, PhoneConfig};
use serde_json::Value;
use support::region::{Region, http, write_regions};
use support::server::array;
use support::{eventually, free_ports};

const DOMAIN: &str = "steady.test";
const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(30);
/// What each phone plays: the first caller's, and each next one's above it.
const CALLERS: [u32; 3] = [440, 620, 770];
const CALLEES: [u32; 3] = [1000, 1250, 1500];

/// Both ends of a call that is up.
struct Pair {
    caller: (Phone, Call),
    callee: (Phone, Call),
    tones: [u32; 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_calls_go_on_over_the_death_of_their_proxy() {
    let kills: u32 =
        std::env::var("LANDLINE_TAKEOVERS").ok().and_then(|it| it.parse().ok()).unwrap_or(3);
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(8);
    write_regions(directory.path(), &[("ie1", "IE", base)]);
    let mut region = Region::start(directory.path(), "ie1", "IE", base);
    let pairs = pairs(&region).await;
    let begun = Instant::now();
    for pair in &pairs {
        pair.is_heard().await;
    }

    let mut back = Vec::new();
    for kill in 0..kills {
        let died = Instant::now();
        region = tokio::task::spawn_blocking(move || {
            region.dies(true, false, || ());
            eventually("the proxy serves again", SOON, || region.is_healthy().then_some(()));
            region
        })
        .await
        .unwrap();
        back.push(died.elapsed());
        // One holds and resumes, so that its re-INVITEs meet the new process.
        let pair = &pairs[kill as usize % pairs.len()];
        pair.caller.1.hold().await.unwrap();
        pair.caller.1.hears_nothing(SOON).await.unwrap();
        pair.caller.1.resume().await.unwrap();
        for pair in &pairs {
            pair.is_heard().await;
        }
    }
    let ages: Vec<u64> = ends(&pairs, begun).await;
    let records = tokio::task::spawn_blocking(move || {
        let records = region.closed(pairs_len());
        let checked = region.admin(&["ledger", "check"]);
        assert_eq!(array(&checked)[0]["ok"], true, "{checked}");
        let metrics = http(region.base + 5, "/metrics").unwrap();
        assert!(metrics.contains("calls_restored"), "{metrics}");
        records
    })
    .await
    .unwrap();
    for (nth, record) in records.iter().enumerate() {
        let by = if nth == 1 { "callee_hung_up" } else { "caller_hung_up" };
        assert_eq!(record["cause"], by, "{record}");
        assert!(seconds(record) + 1 >= ages[nth], "{record} lasted {} s", ages[nth]);
        let recording = &array(&record["recordings"])[0];
        assert_eq!(recording["expected_packets"], recording["stored_packets"], "{record}");
        let stored = recording["stored_packets"].as_u64().unwrap();
        // Two directions of fifty packets a second, less what set-up and hold
        // take: a hole as long as a death would show.
        assert!(stored >= ages[nth] * 70, "{stored} packets in {} s: {record}", ages[nth]);
    }
    back.sort();
    eprintln!("{kills} kills under {} calls, all went on; back after {back:?}", records.len());
}

fn pairs_len() -> usize {
    CALLERS.len()
}

fn seconds(record: &Value) -> u64 {
    record["duration"].as_u64().or_else(|| record["duration_seconds"].as_u64()).unwrap_or_else(
        || {
            let at = |name: &str| record[name].as_str().map(str::to_owned);
            let (from, to) = (at("answered_at").unwrap(), at("closed_at").unwrap());
            unix(&to) - unix(&from)
        },
    )
}

/// Of `2026-01-02T03:04:05.678Z`, within a day.
fn unix(time: &str) -> u64 {
    let clock = time.split('T').nth(1).unwrap();
    let parts: Vec<u64> = clock[..8].split(':').map(|it| it.parse().unwrap()).collect();
    parts[0] * 3600 + parts[1] * 60 + parts[2]
}

/// The second call is hung up by its callee. Gives how long each lasted.
async fn ends(pairs: &[Pair], begun: Instant) -> Vec<u64> {
    let mut ages = Vec::new();
    for (nth, pair) in pairs.iter().enumerate() {
        let (first, second) = match nth {
            1 => (&pair.callee.1, &pair.caller.1),
            _ => (&pair.caller.1, &pair.callee.1),
        };
        ages.push(begun.elapsed().as_secs());
        first.hang_up().await.unwrap();
        second.ended(SOON).await.unwrap();
    }
    ages
}

impl Pair {
    /// Each hears the other's tone, from now on.
    async fn is_heard(&self) {
        let [caller, callee] = self.tones;
        self.callee.1.hears(caller, SOON).await.unwrap();
        self.caller.1.hears(callee, SOON).await.unwrap();
    }
}

async fn pairs(region: &Region) -> Vec<Pair> {
    let account = ["account", "create", "steady", "--domain", DOMAIN, "--region", "ie1"];
    region.admin(&[&account[..], &["--recording", "all"]].concat());
    let modes = ["sdes", "dtls", "sdes"];
    for (nth, media) in modes.iter().enumerate() {
        for side in ["a", "b"] {
            let name = format!("{side}{nth}");
            region.admin(&["user", "add", DOMAIN, &name, "--media", media, "--password", PASSWORD]);
        }
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut pairs = Vec::new();
    for (nth, media) in modes.iter().enumerate() {
        let phone = |side: &str, tone: u32| {
            let server = ([127, 0, 0, 1], region.base).into();
            let name = format!("{side}{nth}");
            let media = if *media == "dtls" { MediaMode::Dtls } else { MediaMode::Sdes };
            let config = PhoneConfig::new(&name, DOMAIN, PASSWORD, server);
            Phone::start(PhoneConfig { media, tone, ..config })
        };
        let tones = [CALLERS[nth], CALLEES[nth]];
        let (a, b) = (phone("a", tones[0]).await.unwrap(), phone("b", tones[1]).await.unwrap());
        a.register().await.unwrap();
        b.register().await.unwrap();
        let caller = a.call(&format!("b{nth}")).await.unwrap();
        let callee = b.next_call().await.unwrap();
        caller.answered(SOON).await.unwrap();
        pairs.push(Pair { caller: (a, caller), callee: (b, callee), tones });
    }
    pairs
}
