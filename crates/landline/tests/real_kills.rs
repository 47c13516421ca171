//! Proxy and relay are killed at any time while phones call, and each call that
//! was placed has exactly one record, closed, chained and with its recording.
//!
//! `LANDLINE_KILLS` says how often (8), `LANDLINE_KILL_SEED` repeats the order
//! and the pauses of a former run.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use landline::config::{Draft, PortRange};
use landline_phone::{Call, CallState, MediaMode, Phone, PhoneConfig};
use serde_json::Value;
use support::region::{Region, http, write_regions};
use support::server::{array, text};
use support::{eventually, free_ports};

const DOMAIN: &str = "steady.test";
const PASSWORD: &str = "correct horse battery";
const PAIRS: usize = 5;
const SOON: Duration = Duration::from_secs(30);
/// After a death everything serves again within this.
const BACK: Duration = Duration::from_secs(15);

/// What a caller saw of a call it placed.
struct Placed {
    call_id: String,
    rang: bool,
    answered: bool,
    talked: Duration,
    /// Proxy and relay lived from the INVITE to the end.
    undisturbed: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_or_doubled_whatever_is_killed() {
    let kills: u32 = setting("LANDLINE_KILLS").unwrap_or(8);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("LANDLINE_KILL_SEED").unwrap_or(u64::from(now.subsec_nanos()) | 1);
    eprintln!("LANDLINE_KILLS={kills} LANDLINE_KILL_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(8);
    write_regions(directory.path(), &[("ie1", "IE", base)]);
    let first = 40_000 + base / 8 % 50 * 400;
    // Ports rest after a call, and calls are many.
    let ports = PortRange { first, last: first + 399 };
    let mut region =
        Region::with(directory.path(), "ie1", "IE", base, |draft| Draft { ports, ..draft });
    let phones = people(&region).await;

    let (stop, deaths) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0_u64)));
    let placed = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = phones
        .into_iter()
        .enumerate()
        .map(|(pair, phones)| {
            let (stop, deaths, placed) = (stop.clone(), deaths.clone(), placed.clone());
            let random = Random(seed ^ (pair as u64 + 1) << 32 | 1);
            tokio::spawn(keep_calling(phones, pair, random, stop, deaths, placed))
        })
        .collect();

    let mut random = Random(seed);
    let mut killed = BTreeMap::new();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.below(1800))).await;
        let whom = ["proxy", "relay", "both"][random.below(3) as usize];
        *killed.entry(whom).or_insert(0) += 1;
        *deaths.lock().unwrap() += 1;
        region = tokio::task::spawn_blocking(move || {
            if whom != "relay" {
                region.proxy_dies();
            }
            if whom != "proxy" {
                region.relay_dies();
            }
            eventually("the proxy serves again", BACK, || region.is_healthy().then_some(()));
            region
        })
        .await
        .unwrap();
        // A death of either counts until it serves again.
        *deaths.lock().unwrap() += 1;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let placed = std::mem::take(&mut *placed.lock().unwrap());
    tokio::task::spawn_blocking(move || settle_accounts(&region, &placed, &killed)).await.unwrap();
}

/// Both phones of each pair, registered.
async fn people(region: &Region) -> Vec<[Phone; 2]> {
    region.admin(&[
        "account",
        "create",
        "steady",
        "--domain",
        DOMAIN,
        "--region",
        "ie1",
        "--recording",
        "all",
    ]);
    let mut phones = Vec::new();
    for pair in 0..PAIRS {
        for side in ["a", "b"] {
            let name = format!("{side}{pair}");
            let add = ["user", "add", DOMAIN, &name, "--media", "sdes", "--password", PASSWORD];
            region.admin(&add);
        }
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for pair in 0..PAIRS {
        let phone = |side: &str| {
            let server = ([127, 0, 0, 1], region.base).into();
            let name = format!("{side}{pair}");
            Phone::start(PhoneConfig {
                media: MediaMode::Sdes,
                ..PhoneConfig::new(&name, DOMAIN, PASSWORD, server)
            })
        };
        let pair = [phone("a").await.unwrap(), phone("b").await.unwrap()];
        for phone in &pair {
            phone.register().await.unwrap();
        }
        phones.push(pair);
    }
    phones
}

async fn keep_calling(
    [caller, callee]: [Phone; 2],
    pair: usize,
    mut random: Random,
    stop: Arc<AtomicBool>,
    deaths: Arc<Mutex<u64>>,
    placed: Arc<Mutex<Vec<Placed>>>,
) {
    let to = format!("b{pair}");
    // Its calls end by the caller's BYE, or are forgotten with the phone.
    let answering = tokio::spawn(async move { while callee.next_call().await.is_some() {} });
    while !stop.load(Relaxed) {
        let before = *deaths.lock().unwrap();
        let Ok(call) = caller.call(&to).await else { break };
        let answered = call.answered(Duration::from_secs(5)).await.is_ok();
        let rang = answered || matches!(call.state(), CallState::Ringing { .. });
        let begun = Instant::now();
        if answered {
            tokio::time::sleep(Duration::from_millis(200 + random.below(1500))).await;
        }
        let talked = begun.elapsed();
        end(&call).await;
        let undisturbed = before.is_multiple_of(2) && before == *deaths.lock().unwrap();
        let call_id = call.call_id().to_owned();
        placed.lock().unwrap().push(Placed { call_id, rang, answered, talked, undisturbed });
    }
    answering.abort();
}

/// A phone takes its call for ended when the BYE is out: the proxy has it a
/// while later.
async fn end(call: &Call) {
    let _ = call.hang_up().await;
    let _ = call.ended(Duration::from_secs(3)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
}

fn settle_accounts(region: &Region, placed: &[Placed], killed: &BTreeMap<&str, u32>) {
    // The ledger ships what it has; what died with its process is closed by the
    // one that takes its place.
    eventually("the ledger is shipped", SOON, || {
        let metrics = http(region.base + 5, "/metrics")?;
        let pending = metrics.lines().find(|line| line.contains("ledger_pending{"))?;
        pending.ends_with(" 0").then_some(())
    });
    let records = eventually("every record is closed", SOON, || {
        let listed = region.admin(&["calls", "list", "--limit", "100000"]);
        array(&listed).iter().all(|call| !call["closed_at"].is_null()).then_some(listed)
    });
    let checked = region.admin(&["ledger", "check"]);
    let checked = &array(&checked)[0];
    assert_eq!(checked["ok"], true, "{checked}");
    assert_eq!((&checked["open"], &checked["chained"]), (&0.into(), &checked["closed"]));

    let mut by_call_id: BTreeMap<String, Value> = BTreeMap::new();
    let (mut again, mut cut_short) = (0, 0);
    for record in array(&records) {
        let whole = region.admin(&["calls", "show", text(&record["sid"])]);
        let caller = array(&whole["legs"]).iter().find(|leg| leg["role"] == "a").unwrap();
        let call_id = text(&caller["sip_call_id"]).to_owned();
        let Some(other) = by_call_id.remove(&call_id) else {
            by_call_id.insert(call_id, whole);
            continue;
        };
        // The proxy died before it answered the INVITE, and the phone sent it
        // again to the next one: that is another call, and the first was lost.
        let (first, second) = if is_attempt(&other) { (other, whole) } else { (whole, other) };
        assert!(is_attempt(&first), "two records of {call_id}: {first} {second}");
        again += 1;
        by_call_id.insert(call_id, second);
    }
    let known: BTreeSet<&str> = placed.iter().map(|call| call.call_id.as_str()).collect();
    for call_id in by_call_id.keys() {
        assert!(known.contains(call_id.as_str()), "nobody placed {call_id}");
    }
    let mut causes = BTreeMap::new();
    for (nth, call) in placed.iter().enumerate().filter(|(_, call)| call.rang) {
        let record = by_call_id.get(&call.call_id);
        let record = record.unwrap_or_else(|| panic!("no record of call {nth}: {}", call.call_id));
        *causes.entry(text(&record["cause"]).to_owned()).or_insert(0) += 1;
        if !call.answered {
            continue;
        }
        assert!(!record["answered_at"].is_null(), "answered, and its record says no: {record}");
        cut_short += u32::from(record["cause"] == "lost");
        if call.undisturbed {
            whole_as_it_was(call, record);
        }
    }
    let answered = placed.iter().filter(|call| call.answered).count();
    let undisturbed = placed.iter().filter(|call| call.answered && call.undisturbed).count();
    eprintln!(
        "killed {killed:?}; {} calls placed, {answered} answered, of them {undisturbed} undisturbed \
         and {cut_short} cut short; {} records, {again} INVITEs taken twice; {causes:?}",
        placed.len(),
        array(&records).len(),
    );
    assert!(undisturbed > 0 && answered > undisturbed, "the deaths met no call, or all");
}

/// Nobody answered it before its proxy died.
fn is_attempt(record: &Value) -> bool {
    record["cause"] == "lost" && record["answered_at"].is_null()
}

fn whole_as_it_was(call: &Placed, record: &Value) {
    assert_eq!(record["cause"], "caller_hung_up", "{record}");
    let recording = &array(&record["recordings"])[0];
    assert_eq!(recording["expected_packets"], recording["stored_packets"], "{record}");
    let stored = recording["stored_packets"].as_u64().unwrap();
    // Two directions of fifty packets a second, less what set-up takes.
    let spoken = call.talked.as_millis() as u64 / 10;
    assert!(stored + 30 >= spoken, "{stored} packets of {spoken} are stored: {record}");
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Xorshift: enough to choose by, and the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
