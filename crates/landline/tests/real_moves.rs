//! Two relay processes in one region: the one that carries a call is killed,
//! stopped or drained, and both ends hear each other again; one record, and a
//! recording of both parts with its gap marked.
//!
//! `LANDLINE_MOVES` says how many calls are moved at least (12); the silence of
//! each is printed.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use landline::config::{BindAddress, Config, PortRange, RelayLink, Transport};
use landline_phone::{Call, MediaMode, Phone, PhoneConfig, Rollover};
use serde_json::Value;
use support::baresip::{self, Baresip, Options};
use support::browser::{self, Browser};
use support::process::Process;
use support::region::{Database, Region, http, write_regions};
use support::server::{PROGRAM, array, text};
use support::{eventually, free_ports, have, tone};

const DOMAIN: &str = "wander.test";
const PASSWORD: &str = "battery-staple";
const SOON: Duration = Duration::from_secs(20);
const NAMES: [&str; 2] = ["ie1-relay-1", "ie1-relay-2"];

/// A region whose proxy has two relays, each a process of its own.
struct Pair {
    region: Region,
    directory: PathBuf,
    relays: [Option<Process>; 2],
}

impl Pair {
    #[track_caller]
    fn start(parent: &Path) -> Self {
        let base = free_ports(14);
        write_regions(parent, &[("ie1", "IE", base)]);
        let first = 40_000 + base / 14 % 60 * 400;
        let relay_2 = parent.join("ie1/relay-2.toml");
        let place = (Database::create(parent, "ie1"), false);
        let mut region = Region::built(parent, "ie1", "IE", base, place, |mut draft| {
            draft.listen.push((Transport::Tls, ([127, 0, 0, 1], base + 10).into()));
            draft.listen.push((Transport::Wss, ([127, 0, 0, 1], base + 11).into()));
            draft.ports = PortRange { first, last: first + 199 };
            let mut config = draft.config();
            let second = RelayLink {
                name: NAMES[1].to_owned(),
                address: std::net::SocketAddr::from(([127, 0, 0, 1], base + 7)).into(),
            };
            config.proxy.as_mut().unwrap().relays.push(second);
            std::fs::create_dir_all(relay_2.parent().unwrap()).unwrap();
            std::fs::write(&relay_2, second_relay(&config, base).to_toml().unwrap()).unwrap();
            config
        });
        let directory = region.directory.clone();
        let first = region.relay.take();
        let mut pair = Self { region, directory, relays: [first, None] };
        pair.starts(1);
        pair.linked(2);
        pair
    }

    fn starts(&mut self, relay: usize) {
        let config = self.directory.join(["config.toml", "relay-2.toml"][relay]);
        let mut command = Command::new(PROGRAM);
        command.arg("relay").arg("--config").arg(config);
        let log = self.directory.join(format!("relay-{}.log", relay + 1));
        self.relays[relay] = Some(Process::start(&mut command, &log));
    }

    fn kills(&mut self, relay: usize) {
        self.relays[relay].as_mut().unwrap().kill();
    }

    fn signals(&self, relay: usize, signal: &str) {
        let id = self.relays[relay].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// So many relays have their links up.
    #[track_caller]
    fn linked(&self, wanted: usize) {
        eventually(&format!("{wanted} relay links"), SOON, || {
            let health = http(self.region.base + 5, "/health")?;
            health.replace(' ', "").contains(&format!("\"connected\":{wanted}")).then_some(())
        });
    }

    fn account(&self, users: &[(&str, &str)]) {
        let admin = |arguments: &[&str]| drop(self.region.admin(arguments));
        admin(&[
            "account",
            "create",
            "wander",
            "--domain",
            DOMAIN,
            "--region",
            "ie1",
            "--recording",
            "all",
        ]);
        for (user, media) in users {
            admin(&["user", "add", DOMAIN, user, "--media", media, "--password", PASSWORD]);
        }
        std::thread::sleep(Duration::from_millis(1500));
    }

    async fn phone(&self, user: &str, media: MediaMode, tone: u32) -> Phone {
        self.phone_with(user, |config| (config.media, config.tone) = (media, tone)).await
    }

    async fn phone_with(&self, user: &str, change: impl FnOnce(&mut PhoneConfig)) -> Phone {
        let server = ([127, 0, 0, 1], self.region.base).into();
        let mut config = PhoneConfig::new(user, DOMAIN, PASSWORD, server);
        change(&mut config);
        let phone = Phone::start(config).await.unwrap();
        phone.register().await.unwrap();
        phone
    }

    fn baresip(&self, parent: &Path, user: &str, encryption: &str, tone: u32) -> Baresip {
        Baresip::registered(
            parent,
            &Options {
                user,
                domain: DOMAIN,
                password: PASSWORD,
                transport: "udp",
                proxy: &format!("127.0.0.1:{}", self.region.base),
                encryption: Some(encryption),
                tone,
                codec: "pcmu",
                ca: &parent.join("pki/ca.pem"),
                answers: true,
                second: None,
                ice: None,
                contacts: "",
            },
        )
    }

    fn page(&self, parent: &Path, user: &str, tone: u32) -> Browser {
        let user = support::server::User {
            name: user.to_owned(),
            domain: DOMAIN.to_owned(),
            password: PASSWORD.to_owned(),
            number: String::new(),
        };
        let wss = format!("wss://localhost:{}", self.region.base + 11);
        Browser::at(parent, &parent.join("pki/ca.pem"), &wss, &user, tone)
    }

    /// The relay that carries all there is.
    #[track_caller]
    fn carrying(&self) -> usize {
        eventually("a relay carries the call", SOON, || {
            (0..2).find(|relay| self.sessions(*relay) > Some(0))
        })
    }

    fn sessions(&self, relay: usize) -> Option<u64> {
        let health = http(self.region.base + [6, 8][relay], "/health")?.replace(' ', "");
        let (_, rest) = health.split_once("\"sessions\":")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// The one call's record and the caller's and callee's tone in the first and
    /// last second of its recording.
    #[track_caller]
    fn told(&self, parent: &Path, calls: usize) -> (Value, [[Option<f64>; 2]; 2]) {
        let record = self.region.closed(calls).pop().unwrap();
        let sid = text(&record["recording"]).to_owned();
        let recordings = array(&record["recordings"]);
        assert_eq!(recordings.len(), 1, "{record}");
        assert_eq!(recordings[0]["sid"], sid.as_str());
        let wav = parent.join(format!("{sid}.wav"));
        self.region.admin(&["recording", "export", &sid, wav.to_str().unwrap()]);
        let bytes = std::fs::read(&wav).unwrap();
        let rate = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
        let frames: Vec<[i16; 2]> = bytes[44..]
            .chunks_exact(4)
            .map(|it| [i16::from_le_bytes([it[0], it[1]]), i16::from_le_bytes([it[2], it[3]])])
            .collect();
        let second = rate as usize * 5 / 4;
        let ends = [&frames[..second], &frames[frames.len() - second..]];
        let tones = ends.map(|part| {
            [0, 1].map(|channel| {
                let samples: Vec<i16> = part.iter().map(|it| it[channel]).collect();
                tone::dominant(&samples, rate)
            })
        });
        (record, tones)
    }

    #[track_caller]
    fn is_whole(&self) {
        let checked = self.region.admin(&["ledger", "check"]);
        assert_eq!(array(&checked)[0]["ok"], true, "{checked}");
    }
}

fn has_browser() -> bool {
    have(&[browser::PROGRAM, browser::CERTUTIL, browser::PACKAGES])
}

fn second_relay(config: &Config, base: u16) -> Config {
    let mut config = config.clone();
    config.data_dir = "data-2".into();
    config.proxy = None;
    let relay = config.relay.as_mut().unwrap();
    relay.name = NAMES[1].to_owned();
    relay.control = BindAddress(([127, 0, 0, 1], base + 7).into());
    relay.ports = PortRange { first: relay.ports.first + 200, last: relay.ports.last + 200 };
    config.telemetry.relay_address = Some(BindAddress(([127, 0, 0, 1], base + 8).into()));
    config
}

/// Watches one end: the longest time without a packet from the relay.
struct Silence {
    longest_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Silence {
    fn of(call: Arc<Call>) -> Self {
        let (longest_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watched = Self { longest_us: longest_us.clone(), stop: stop.clone() };
        tokio::spawn(async move {
            let (mut packets, mut since) = (call.heard().packets, Instant::now());
            while !stop.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let now = call.heard().packets;
                let silence = since.elapsed().as_micros() as u64;
                longest_us.fetch_max(silence, Relaxed);
                if now != packets {
                    (packets, since) = (now, Instant::now());
                }
            }
        });
        watched
    }

    /// The longest so far, and from here on anew.
    fn take(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, Relaxed))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_whichever_relay_dies_and_their_silence_is_short() {
    const CALLS: usize = 6;
    let wanted: usize =
        std::env::var("LANDLINE_MOVES").ok().and_then(|it| it.parse().ok()).unwrap_or(12);
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(directory.path());
    let names: Vec<_> = (0..CALLS).flat_map(|n| [format!("a{n}"), format!("b{n}")]).collect();
    let users: Vec<_> = names.iter().map(|name| (name.as_str(), "auto")).collect();
    pair.account(&users);
    let mut calls = Vec::new();
    for n in 0..CALLS {
        let media = [MediaMode::Sdes, MediaMode::Dtls][n % 2];
        let caller = pair.phone(&format!("a{n}"), media, 500).await;
        let callee = pair.phone(&format!("b{n}"), media, 900).await;
        let call = caller.call(&format!("b{n}")).await.unwrap();
        call.answered(SOON).await.unwrap();
        let called = callee.next_call().await.unwrap();
        let (call, called) = (Arc::new(call), Arc::new(called));
        let ears = [Silence::of(call.clone()), Silence::of(called.clone())];
        calls.push((call, called, ears, (caller, callee)));
    }
    for (call, called, ..) in &calls {
        call.hears(900, SOON).await.unwrap();
        called.hears(500, SOON).await.unwrap();
    }
    let mut silences = Vec::new();
    let mut dies = 0;
    while silences.len() < 2 * wanted {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let carried = pair.sessions(dies).unwrap() as usize;
        calls.iter().flat_map(|it| &it.2).for_each(|ear| {
            ear.take();
        });
        pair.kills(dies);
        tokio::time::sleep(Duration::from_millis(3500)).await;
        for (call, called, ..) in &calls {
            call.hears(900, SOON).await.unwrap();
            called.hears(500, SOON).await.unwrap();
        }
        let mut taken: Vec<_> = calls.iter().flat_map(|it| &it.2).map(Silence::take).collect();
        taken.sort();
        silences.extend(taken.split_off(taken.len() - 2 * carried));
        pair.starts(dies);
        pair.linked(2);
        dies = 1 - dies;
    }
    let moved = silences.len() / 2;
    for (call, called, ..) in &calls {
        call.hang_up().await.unwrap();
        called.ended(SOON).await.unwrap();
    }
    tokio::task::spawn_blocking(move || {
        let records = pair.region.closed(CALLS);
        let moves: usize = records.iter().map(|it| array(&it["moves"]).len()).sum();
        assert_eq!(moves, moved, "{records:?}");
        for record in &records {
            assert_eq!(record["cause"], "caller_hung_up");
            let recording = &array(&record["recordings"])[0];
            let gaps = array(&recording["gaps"]).len();
            assert_eq!(gaps, array(&record["moves"]).len(), "{record}");
        }
        pair.is_whole();
    })
    .await
    .unwrap();
    silences.sort();
    let at = |part: f64| silences[((silences.len() - 1) as f64 * part) as usize];
    eprintln!(
        "{moved} calls moved; silence at each end: p50 {:?}, p99 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_is_left_and_one_that_is_drained_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(directory.path());
    pair.account(&[("ann", "sdes"), ("ben", "sdes")]);
    let ann = pair.phone("ann", MediaMode::Sdes, 500).await;
    let ben = pair.phone("ben", MediaMode::Sdes, 900).await;
    let call = ann.call("ben").await.unwrap();
    call.answered(SOON).await.unwrap();
    let called = ben.next_call().await.unwrap();
    call.hears(900, SOON).await.unwrap();
    called.hears(500, SOON).await.unwrap();
    // Stopped: its sockets stand, and nothing comes out of them.
    let stopped = pair.carrying();
    pair.signals(stopped, "-STOP");
    let other = 1 - stopped;
    eventually("the other relay has the call", SOON, || {
        (pair.sessions(other) == Some(1)).then_some(())
    });
    call.hears(900, SOON).await.unwrap();
    called.hears(500, SOON).await.unwrap();
    pair.signals(stopped, "-CONT");
    eventually("the stopped one gave its session back", SOON, || {
        (pair.sessions(stopped) == Some(0)).then_some(())
    });
    // And back, by an administrator's word.
    pair.linked(2);
    let (call, called) = (Arc::new(call), Arc::new(called));
    let ears = [Silence::of(call.clone()), Silence::of(called.clone())];
    let drained = pair.region.admin(&["relay", "drain", NAMES[other], "--limit", "20"]);
    assert_eq!((&drained["empty"], &drained["sessions"]), (&true.into(), &0.into()));
    assert_eq!((pair.sessions(other), pair.sessions(stopped)), (Some(0), Some(1)));
    call.hears(900, SOON).await.unwrap();
    called.hears(500, SOON).await.unwrap();
    eprintln!("drained with {:?} of silence", ears.iter().map(Silence::take).max());
    // It stays drained over a restart, until it is taken back.
    pair.kills(other);
    pair.starts(other);
    pair.linked(2);
    let resumed = pair.region.admin(&["relay", "resume", NAMES[other]]);
    assert_eq!(resumed["was_draining"], true);
    call.hang_up().await.unwrap();
    called.ended(SOON).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let (record, tones) = pair.told(directory.path(), 1);
        let moves: Vec<_> =
            array(&record["moves"]).iter().map(|it| text(&it["to"]).to_owned()).collect();
        assert_eq!(moves, [NAMES[other], NAMES[stopped]]);
        for [caller, callee] in tones {
            assert!(tone::same(caller, 500) && tone::same(callee, 900), "{tones:?}");
        }
        for leg in array(&record["legs"]) {
            assert!(leg["stats"]["received"]["packets"].as_u64() > Some(100), "{leg}");
        }
        pair.is_whole();
    })
    .await
    .unwrap();
}

/// Ten seconds before its sequence numbers wrap.
const LATE: u16 = 65_036;
/// Packets by which both have wrapped, wherever they were first heard.
const WRAPPED: u64 = 550;

async fn wrapped(calls: &[&Call]) {
    let deadline = Instant::now() + 3 * SOON;
    while calls.iter().any(|call| call.heard().packets < WRAPPED) {
        assert!(Instant::now() < deadline, "a stream ended before it wrapped");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One phone keeps its rollover counters over the new keys, as libsrtp's
/// `srtp_update` does, the other begins anew, as baresip does; each goes on with
/// its own key, and so with its counter, as it sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_sequence_numbers_wrapped_before_a_move_hears_and_is_heard_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(directory.path());
    let kinds = [("a", "b", MediaMode::Sdes), ("c", "d", MediaMode::Dtls)];
    pair.account(&[("a", "sdes"), ("b", "sdes"), ("c", "dtls"), ("d", "dtls"), ("e", "sdes")]);
    let mut phones = Vec::new();
    let mut calls = Vec::new();
    let late = |media, tone, rollover| {
        move |config: &mut PhoneConfig| {
            (config.media, config.tone, config.rollover) = (media, tone, rollover);
            config.first_sequence = Some(LATE);
        }
    };
    for (caller, callee, media) in kinds {
        let from = pair.phone_with(caller, late(media, 500, Rollover::Kept)).await;
        let to = pair.phone_with(callee, late(media, 900, Rollover::Zero)).await;
        let call = from.call(callee).await.unwrap();
        call.answered(SOON).await.unwrap();
        calls.push((call, to.next_call().await.unwrap()));
        phones.push((from, to));
    }
    let all: Vec<_> = calls.iter().flat_map(|(call, called)| [call, called]).collect();
    wrapped(&all).await;
    for relay in [0, 1] {
        pair.kills(relay);
        eventually("the other relay has the calls", SOON, || {
            (pair.sessions(1 - relay) == Some(2)).then_some(())
        });
        for (call, called) in &calls {
            call.hears(900, SOON).await.unwrap();
            called.hears(500, SOON).await.unwrap();
        }
        pair.starts(relay);
        pair.linked(2);
    }
    for (call, called) in &calls {
        call.hang_up().await.unwrap();
        called.ended(SOON).await.unwrap();
    }
    tokio::task::spawn_blocking(move || {
        let (_, tones) = pair.told(directory.path(), 2);
        for [caller, callee] in tones {
            assert!(tone::same(caller, 500) && tone::same(callee, 900), "{tones:?}");
        }
        pair.is_whole();
    })
    .await
    .unwrap();
}

#[test]
fn softphones_hear_each_other_again_after_their_relay_was_killed() {
    if !have(&[baresip::PROGRAM]) {
        return;
    }
    for (encryption, media) in [("srtp-mand", "sdes"), ("dtls_srtp", "dtls")] {
        let directory = tempfile::tempdir().unwrap();
        let mut pair = Pair::start(directory.path());
        pair.account(&[("ann", media), ("ben", media)]);
        let mut ann = pair.baresip(directory.path(), "ann", encryption, 500);
        let mut ben = pair.baresip(directory.path(), "ben", encryption, 900);
        ann.dial(&format!("sip:ben@{DOMAIN}"));
        ann.expect("CALL_ESTABLISHED", SOON);
        eventually("both hear each other", SOON, || {
            (tone::same(ben.heard(), 500) && tone::same(ann.heard(), 900)).then_some(())
        });
        let carries = pair.carrying();
        // A relay stores about a second at a time: what it had not is in the gap.
        std::thread::sleep(Duration::from_secs(3));
        pair.kills(carries);
        let before = [ann.samples(), ben.samples()];
        eventually("the other relay has the call", SOON, || {
            (pair.sessions(1 - carries) == Some(1)).then_some(())
        });
        // baresip takes no new keys within a call: it hears what is protected with
        // those that it had, and decodes nothing else.
        eventually(&format!("both hear each other again ({encryption})"), SOON, || {
            let heard = [ann.heard_after(before[0]), ben.heard_after(before[1])];
            (tone::same(heard[0], 900) && tone::same(heard[1], 500)).then_some(())
        });
        ann.hang_up();
        ben.expect("CALL_CLOSED", SOON);
        // What the second relay recorded it decrypted with the new keys.
        let (record, tones) = pair.told(directory.path(), 1);
        assert_eq!(array(&record["moves"]).len(), 1, "{record}");
        assert_eq!(array(&record["recordings"][0]["gaps"]).len(), 1, "{record}");
        for [caller, callee] in tones {
            assert!(tone::same(caller, 500) && tone::same(callee, 900), "{encryption} {tones:?}");
        }
    }
}

#[test]
fn a_browser_is_heard_again_after_its_relay_was_killed() {
    if !has_browser() || !have(&[baresip::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(directory.path());
    pair.account(&[("carol", "webrtc"), ("desk", "sdes")]);
    let mut desk = pair.baresip(directory.path(), "desk", "srtp-mand", 900);
    let mut page = pair.page(directory.path(), "carol", 500);
    page.dial("desk");
    page.expect("established", SOON);
    page.hears(900);
    eventually("the softphone hears the browser", SOON, || {
        tone::same(desk.heard(), 500).then_some(())
    });
    let carries = pair.carrying();
    std::thread::sleep(Duration::from_secs(3));
    pair.kills(carries);
    eventually("the other relay has the call", SOON, || {
        (pair.sessions(1 - carries) == Some(1)).then_some(())
    });
    std::thread::sleep(Duration::from_secs(4));
    page.forget();
    page.hears(900);
    page.hang_up();
    desk.expect("CALL_CLOSED", SOON);
    let (record, tones) = pair.told(directory.path(), 1);
    assert_eq!(array(&record["moves"]).len(), 1, "{record}");
    for [caller, callee] in tones {
        assert!(tone::same(caller, 500) && tone::same(callee, 900), "{tones:?}");
    }
}
