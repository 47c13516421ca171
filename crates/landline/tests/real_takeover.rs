//! Proxies are killed under answered calls, and the calls go on: they are heard,
//! held and hung up as if nothing had happened, and so their records say.
//!
//! The next process goes on with them, or another proxy of the region does; where
//! the relay died as well, by another relay.
//!
//! `LANDLINE_TAKEOVERS` says how often a proxy is killed under calls (3).

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use landline::config::{BindAddress, PeerLink, PortRange, RelayLink};
use landline_phone::{Call, MediaMode, Phone, PhoneConfig};
use serde_json::Value;
use support::process::Process;
use support::region::{Database, Region, http, write_regions};
use support::server::{self, PROGRAM, array, text};
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
    let kills = kills();
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(8);
    write_regions(directory.path(), &[("ie1", "IE", base)]);
    let mut region = Region::start(directory.path(), "ie1", "IE", base);
    let server = ([127, 0, 0, 1], region.base).into();
    let pairs = pairs(&region, &[server; 2 * CALLERS.len()]).await;
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

fn kills() -> u32 {
    std::env::var("LANDLINE_TAKEOVERS").ok().and_then(|it| it.parse().ok()).unwrap_or(3)
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

/// Each phone has a server of its own.
async fn pairs(region: &Region, servers: &[SocketAddr]) -> Vec<Pair> {
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
            let server = servers[2 * nth + usize::from(side == "b")];
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

/// A phone's one address for its proxies, as a virtual IP has it: what the phone
/// sends goes to the proxy that serves now, what any proxy sends comes back.
async fn floating(proxies: [u16; 2], serving: Arc<AtomicU16>) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut phone, mut buffer) = (None, vec![0; 65_536]);
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let to = match proxies.contains(&from.port()) {
                true => phone,
                false => {
                    phone = Some(from);
                    Some(([127, 0, 0, 1], serving.load(Relaxed)).into())
                }
            };
            if let Some(to) = to {
                let _ = socket.send_to(&buffer[..length], to).await;
            }
        }
    });
    address
}

/// One region with two proxies, one relay and one database.
struct Together {
    region: Region,
    second: Process,
    second_config: PathBuf,
    bases: [u16; 2],
}

impl Together {
    fn start(directory: &Path) -> Self {
        let bases = [free_ports(8), free_ports(8)];
        write_regions(directory, &[("ie1", "IE", bases[0])]);
        // Both names in one certificate, since both processes are of one machine.
        let mut command = Command::new(PROGRAM);
        command.args(["pki", "init", "--region", "ie1"]);
        command.args(["--proxy", "ie1-proxy-1", "--proxy", "ie1-proxy-2"]);
        assert!(command.arg(directory.join("pki")).output().unwrap().status.success());
        let database = Database::create(directory, "ie1");
        let mut second = None;
        let region = Region::built(directory, "ie1", "IE", bases[0], (database, false), |draft| {
            let address = |port| BindAddress(([127, 0, 0, 1], port).into());
            let link = |number: usize| PeerLink {
                name: format!("ie1-proxy-{}", number + 1),
                address: SocketAddr::from(([127, 0, 0, 1], bases[number] + 7)).into(),
            };
            let mut config = draft.config();
            let mut other = config.clone();
            let proxy = config.proxy.as_mut().unwrap();
            (proxy.peering, proxy.peers) = (Some(address(bases[0] + 7)), vec![link(1)]);
            let proxy = other.proxy.as_mut().unwrap();
            proxy.name = link(1).name;
            (proxy.peering, proxy.peers) = (Some(address(bases[1] + 7)), vec![link(0)]);
            proxy.listen[0].address = address(bases[1]);
            proxy.inter_region.address = address(bases[1] + 3);
            other.relay = None;
            other.key_ring = "../ie1/keys.json".into();
            other.telemetry.address = Some(address(bases[1] + 5));
            other.telemetry.relay_address = None;
            second = Some(other);
            config
        });
        let home = directory.join("second");
        fs::create_dir_all(&home).unwrap();
        let second_config = home.join("config.toml");
        fs::write(&second_config, second.unwrap().to_toml().unwrap()).unwrap();
        let second = proxy_process(&second_config);
        let together = Self { region, second, second_config, bases };
        together.is_up(1);
        together
    }

    fn process(&mut self, number: usize) -> &mut Process {
        if number == 0 { &mut self.region.proxy } else { &mut self.second }
    }

    fn restarts(&mut self, number: usize) {
        match number {
            0 => self.region.proxy = self.region.role("proxy"),
            _ => self.second = proxy_process(&self.second_config),
        }
        self.is_up(number);
    }

    fn is_up(&self, number: usize) {
        eventually("a proxy is healthy", SOON, || {
            let health = http(self.bases[number] + 5, "/health");
            health.is_some_and(|it| it.contains(" 200 ")).then_some(())
        });
    }

    fn metric(&self, number: usize, name: &str) -> Option<f64> {
        let metrics = http(self.bases[number] + 5, "/metrics")?;
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// This proxy could go on with so many calls of the other.
    fn holds(&self, number: usize, calls: usize) {
        eventually("the other proxy's calls are held", SOON, || {
            let held = self.metric(number, "landline_proxy_replicas{");
            (held == Some(calls as f64)).then_some(())
        });
    }

    /// Nothing is open, and nothing was set aside, at neither.
    fn is_whole(&self) {
        for config in [&self.region.config, &self.second_config] {
            let checked = server::admin(&["ledger", "check"], "--config", config);
            assert_eq!(array(&checked)[0]["ok"], true, "{checked}");
            assert_eq!(array(&checked)[0]["open"], 0, "{checked}");
        }
        for number in [0, 1] {
            let unbalanced = self.metric(number, "landline_proxy_calls_unbalanced{");
            assert_eq!(unbalanced, Some(0.0), "proxy {number}");
        }
    }
}

fn proxy_process(config: &Path) -> Process {
    let mut command = Command::new(PROGRAM);
    command.arg("proxy").arg("--config").arg(config);
    Process::start(&mut command, &config.with_file_name("proxy.log"))
}

/// What blocks is done apart from the phones.
async fn apart<R: Send + 'static>(
    mut together: Together,
    act: impl FnOnce(&mut Together) -> R + Send + 'static,
) -> (Together, R) {
    let done = tokio::task::spawn_blocking(move || {
        let result = act(&mut together);
        (together, result)
    });
    done.await.unwrap()
}

/// Two proxies, and calls of phones that follow the port.
async fn talking(directory: &Path) -> (Together, Arc<AtomicU16>, Vec<Pair>) {
    let path = directory.to_owned();
    let together = tokio::task::spawn_blocking(move || Together::start(&path)).await.unwrap();
    let serving = Arc::new(AtomicU16::new(together.bases[0]));
    let mut servers = Vec::new();
    for _ in 0..2 * CALLERS.len() {
        servers.push(floating(together.bases, Arc::clone(&serving)).await);
    }
    let pairs = pairs(&together.region, &servers).await;
    (together, serving, pairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_proxy_goes_on_with_the_calls_of_a_dead_one() {
    let kills = kills();
    let directory = tempfile::tempdir().unwrap();
    let (together, serving, pairs) = talking(directory.path()).await;
    let begun = Instant::now();
    for pair in &pairs {
        pair.is_heard().await;
    }
    let mut served = Vec::new();
    let mut together = together;
    for kill in 0..kills {
        let (dead, other) = (kill as usize % 2, (kill as usize + 1) % 2);
        let took;
        (together, took) = apart(together, move |it| {
            it.holds(other, CALLERS.len());
            it.process(dead).kill();
            Instant::now()
        })
        .await;
        serving.store(together.bases[other], Relaxed);
        // Before anybody could know of the death.
        let pair = &pairs[kill as usize % pairs.len()];
        pair.callee.1.hold().await.unwrap();
        served.push(took.elapsed());
        pair.callee.1.hears_nothing(SOON).await.unwrap();
        pair.callee.1.resume().await.unwrap();
        for pair in &pairs {
            pair.is_heard().await;
        }
        (together, ()) = apart(together, move |it| {
            // The others are seen to when the lease is over.
            eventually("every call is the other's", SOON, || {
                let open = it.metric(other, "landline_proxy_calls_open{");
                (open == Some(CALLERS.len() as f64)).then_some(())
            });
            it.restarts(dead);
        })
        .await;
        for pair in &pairs {
            pair.is_heard().await;
        }
    }
    let ages = ends(&pairs, begun).await;
    let (_together, records) = apart(together, |it| {
        let records = it.region.closed(CALLERS.len());
        it.is_whole();
        records
    })
    .await;
    for (nth, record) in records.iter().enumerate() {
        let by = if nth == 1 { "callee_hung_up" } else { "caller_hung_up" };
        assert_eq!(text(&record["cause"]), by, "{record}");
        assert!(seconds(record) + 1 >= ages[nth], "{record} lasted {} s", ages[nth]);
        let recording = &array(&record["recordings"])[0];
        assert_eq!(recording["expected_packets"], recording["stored_packets"], "{record}");
        assert!(recording["stored_packets"].as_u64().unwrap() >= ages[nth] * 70, "{record}");
    }
    served.sort();
    eprintln!("{kills} kills, each call went on; a re-INVITE was answered after {served:?}");
}

/// The last proxy's work is done by the other while it is away, and it writes no
/// end of its own when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_end_at_another_proxy_end_once() {
    let directory = tempfile::tempdir().unwrap();
    let (together, serving, pairs) = talking(directory.path()).await;
    let (together, ()) = apart(together, |it| {
        it.holds(1, CALLERS.len());
        it.process(0).kill();
    })
    .await;
    serving.store(together.bases[1], Relaxed);
    let begun = Instant::now();
    ends(&pairs, begun).await;
    let (_together, ()) = apart(together, |it| {
        let causes = |it: &Together| -> Vec<String> {
            let records = it.region.closed(CALLERS.len());
            records.iter().map(|it| text(&it["cause"]).to_owned()).collect()
        };
        let wanted = ["caller_hung_up", "callee_hung_up", "caller_hung_up"];
        assert_eq!(causes(it), wanted);
        it.restarts(0);
        it.holds(1, 0);
        assert_eq!(causes(it), wanted);
        it.is_whole();
    })
    .await;
}

/// A region whose proxy has two relays; the second is given besides.
fn with_second_relay(directory: &Path) -> (Region, Process) {
    let base = free_ports(9);
    write_regions(directory, &[("ie1", "IE", base)]);
    let mut second = None;
    let place = (Database::create(directory, "ie1"), false);
    let region = Region::built(directory, "ie1", "IE", base, place, |draft| {
        let address = |port| BindAddress(([127, 0, 0, 1], port).into());
        let mut config = draft.config();
        let mut other = config.clone();
        let name = "ie1-relay-2".to_owned();
        let link = SocketAddr::from(([127, 0, 0, 1], base + 7)).into();
        config.proxy.as_mut().unwrap().relays.push(RelayLink { name: name.clone(), address: link });
        other.data_dir = "data-2".into();
        other.proxy = None;
        let relay = other.relay.as_mut().unwrap();
        (relay.name, relay.control) = (name, address(base + 7));
        let first = relay.ports.last + 1;
        relay.ports = PortRange { first, last: first + 49 };
        other.telemetry.relay_address = Some(address(base + 8));
        second = Some(other);
        config
    });
    let config = region.directory.join("relay-2.toml");
    fs::write(&config, second.unwrap().to_toml().unwrap()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("relay").arg("--config").arg(&config);
    let relay = Process::start(&mut command, &region.directory.join("relay-2.log"));
    let linked = |wanted: &str| {
        let health = http(base + 5, "/health")?;
        health.replace(' ', "").contains(wanted).then_some(())
    };
    eventually("both relays are linked", SOON, || linked("\"connected\":2"));
    (region, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_by_another_relay_when_proxy_and_relay_die_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let started = tokio::task::spawn_blocking(move || with_second_relay(&path)).await;
    let (mut region, relay_2) = started.unwrap();
    let server = ([127, 0, 0, 1], region.base).into();
    let pairs = pairs(&region, &[server; 2 * CALLERS.len()]).await;
    let begun = Instant::now();
    for pair in &pairs {
        pair.is_heard().await;
    }
    let died = Instant::now();
    region = tokio::task::spawn_blocking(move || {
        region.proxy.kill();
        region.relay.as_mut().unwrap().kill();
        region.proxy = region.role("proxy");
        // Those that the first relay carried are told to go elsewhere.
        eventually("the calls are moved", SOON, || {
            let metrics = http(region.base + 5, "/metrics")?;
            let moved = metrics.lines().find(|it| it.contains("calls_moved"))?;
            (!moved.ends_with(" 0")).then_some(())
        });
        region
    })
    .await
    .unwrap();
    for pair in &pairs {
        pair.is_heard().await;
    }
    eprintln!("each end heard the other again after {:?}", died.elapsed());
    let ages = ends(&pairs, begun).await;
    let records = tokio::task::spawn_blocking(move || {
        let records = region.closed(pairs_len());
        let checked = region.admin(&["ledger", "check"]);
        assert_eq!(array(&checked)[0]["ok"], true, "{checked}");
        assert_eq!(array(&checked)[0]["open"], 0, "{checked}");
        drop(relay_2);
        records
    })
    .await
    .unwrap();
    let mut moved = 0;
    for (nth, record) in records.iter().enumerate() {
        let by = if nth == 1 { "callee_hung_up" } else { "caller_hung_up" };
        assert_eq!(record["cause"], by, "{record}");
        assert!(seconds(record) + 1 >= ages[nth], "{record} lasted {} s", ages[nth]);
        let recordings = array(&record["recordings"]);
        assert_eq!(recordings.len(), 1, "{record}");
        let moves = array(&record["moves"]).len();
        assert_eq!(array(&recordings[0]["gaps"]).len(), moves, "{record}");
        moved += moves;
    }
    assert!(moved > 0, "{records:?}");
}
