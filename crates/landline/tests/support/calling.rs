//! Phones that call each other without end, and the account of every call they
//! placed: exactly one record each, whatever happened meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use landline_phone::{Call, CallState, MediaMode, Phone, PhoneConfig};
use serde_json::Value;

use super::eventually;
use super::holding::Held;
use super::region::http;
use super::server::{PROGRAM, admin, array, text};

pub const DOMAIN: &str = "steady.test";
pub const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(60);

/// Records that are looked at one by one.
const MATCHED: usize = 5000;

/// What a caller saw of a call it placed.
pub struct Placed {
    call_id: String,
    rang: bool,
    answered: bool,
    talked: Duration,
    /// Nothing died from the INVITE to the end.
    undisturbed: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Account {
    pub placed: usize,
    pub answered: usize,
    pub undisturbed: usize,
    pub cut_short: u32,
    /// Of them by SIPp.
    pub held: usize,
    pub held_answered: usize,
    pub records: usize,
    /// Have none, for they were not let in.
    pub refused: usize,
    pub taken_twice: u32,
    pub causes: BTreeMap<String, u32>,
}

/// Pairs of phones that call each other until they are told to stop.
pub struct Calling {
    stop: Arc<AtomicBool>,
    deaths: Arc<Mutex<u64>>,
    placed: Arc<Mutex<Vec<Placed>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Calling {
    /// Makes the account and its users, registers the phones and begins.
    pub async fn begin(config: &Path, server: u16, pairs: usize, seed: u64) -> Self {
        let phones = people(config, server, pairs).await;
        let mut calling = Self {
            stop: Arc::default(),
            deaths: Arc::default(),
            placed: Arc::default(),
            callers: Vec::new(),
        };
        for (pair, phones) in phones.into_iter().enumerate() {
            let random = Random(seed ^ (pair as u64 + 1) << 32 | 1);
            let (stop, deaths) = (calling.stop.clone(), calling.deaths.clone());
            let calls = keep_calling(phones, pair, random, stop, deaths, calling.placed.clone());
            calling.callers.push(tokio::spawn(calls));
        }
        calling
    }

    /// Call it when something dies, and again when it serves again.
    pub fn disturbed(&self) {
        *self.deaths.lock().unwrap() += 1;
    }

    pub fn placed(&self) -> usize {
        self.placed.lock().unwrap().len()
    }

    pub async fn end(self) -> Vec<Placed> {
        self.stop.store(true, Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        std::mem::take(&mut *self.placed.lock().unwrap())
    }
}

/// Both phones of each pair, registered.
async fn people(config: &Path, server: u16, pairs: usize) -> Vec<[Phone; 2]> {
    let create = ["account", "create", "steady", "--domain", DOMAIN, "--region", "ie1"];
    let configured = |arguments: &[&str]| admin(arguments, "--config", config);
    configured(&[&create[..], &["--recording", "all"]].concat());
    for pair in 0..pairs {
        for side in ["a", "b"] {
            let name = format!("{side}{pair}");
            let add = ["user", "add", DOMAIN, &name, "--media", "sdes", "--password", PASSWORD];
            configured(&add);
        }
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut phones = Vec::new();
    for pair in 0..pairs {
        let phone = |side: &str| {
            let name = format!("{side}{pair}");
            Phone::start(PhoneConfig {
                media: MediaMode::Sdes,
                ..PhoneConfig::new(&name, DOMAIN, PASSWORD, ([127, 0, 0, 1], server).into())
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
        let acknowledged = end(&call).await;
        let alive = before.is_multiple_of(2) && before == *deaths.lock().unwrap();
        let undisturbed = alive && acknowledged;
        let call_id = call.call_id().to_owned();
        placed.lock().unwrap().push(Placed { call_id, rang, answered, talked, undisturbed });
    }
    answering.abort();
}

/// Whether the BYE was acknowledged because the end is on disk. On a disk that
/// stalls it is so in any case, shortly before the phone would repeat it.
async fn end(call: &Call) -> bool {
    let begun = Instant::now();
    let _ = call.hang_up().await;
    let took = begun.elapsed();
    let _ = call.ended(Duration::from_secs(3)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    took < Duration::from_millis(350)
}

/// Matches every call that was placed to its record. `metrics` is the port of
/// the proxy's telemetry.
pub fn settle(config: &Path, metrics: u16, placed: &[Placed], held: &[Held]) -> Account {
    let admin = |arguments: &[&str]| admin(arguments, "--config", config);
    // The ledger ships what it has; what died with its process is closed by the
    // one that takes its place.
    eventually("the ledger is shipped", SOON, || {
        let metrics = http(metrics, "/metrics")?;
        let pending = metrics.lines().find(|line| line.contains("ledger_pending{"))?;
        pending.ends_with(" 0").then_some(())
    });
    // The relay has a port of its own, or shares the process.
    let spool = |port| {
        let metrics = http(port, "/metrics")?;
        let spool = metrics.lines().find(|line| line.contains("recorder_spool_octets{"))?;
        Some(spool.ends_with(" 0"))
    };
    eventually("the spool is stored", SOON, || {
        spool(metrics + 1).or_else(|| spool(metrics)).filter(|empty| *empty)
    });
    let records = eventually("every record is closed", SOON, || {
        let listed = admin(&["calls", "list", "--limit", "100000"]);
        array(&listed).iter().all(|call| !call["closed_at"].is_null()).then_some(listed)
    });
    // Nothing was set aside as refused.
    let refused = config.with_file_name("ledger").join("refused");
    assert!(!refused.exists(), "the ledger set events aside");
    let checked = admin(&["ledger", "check"]);
    let checked = &array(&checked)[0];
    assert_eq!(checked["ok"], true, "{checked}");
    assert_eq!((&checked["open"], &checked["chained"]), (&0.into(), &checked["closed"]));

    let opened = checked["opened"].as_u64().unwrap() as usize;
    let mut account = Account { records: opened, ..Account::default() };
    if opened > MATCHED {
        // Too many to look at each; where nothing died, their number will do:
        // one for each call that rang, none for some that were not let in.
        account.refused = (placed.len() + held.len()).checked_sub(opened).expect("one of each");
        let silent = placed.iter().filter(|call| !call.rang).count()
            + held.iter().filter(|call| !call.rang && !call.answered).count();
        let refused = account.refused;
        assert!(refused <= silent, "{refused} have no record, {silent} never rang: {checked}");
        count(&mut account, placed, held);
        return account;
    }
    let by_call_id = whole_records(config, &records, &mut account);
    let held_ids = held.iter().map(|call| call.call_id.as_str());
    let known: BTreeSet<&str> =
        placed.iter().map(|call| call.call_id.as_str()).chain(held_ids).collect();
    for call_id in by_call_id.keys() {
        assert!(known.contains(call_id.as_str()), "nobody placed {call_id}");
    }
    for (nth, call) in placed.iter().enumerate().filter(|(_, call)| call.rang) {
        let record = by_call_id.get(&call.call_id);
        let record = record.unwrap_or_else(|| panic!("no record of call {nth}: {}", call.call_id));
        *account.causes.entry(text(&record["cause"]).to_owned()).or_insert(0) += 1;
        if !call.answered {
            continue;
        }
        assert!(!record["answered_at"].is_null(), "answered, and its record says no: {record}");
        account.cut_short += u32::from(record["cause"] == "lost");
        if call.undisturbed {
            whole_as_it_was(call, record);
        }
    }
    for call in held.iter().filter(|call| call.rang || call.answered) {
        let record = by_call_id.get(&call.call_id);
        let record = record.unwrap_or_else(|| panic!("no record of {call:?}"));
        assert!(
            !call.answered || !record["answered_at"].is_null(),
            "answered, and its record says no: {record}"
        );
    }
    count(&mut account, placed, held);
    account
}

fn count(account: &mut Account, placed: &[Placed], held: &[Held]) {
    account.held = held.len();
    account.held_answered = held.iter().filter(|call| call.answered).count();
    account.placed = placed.len();
    account.answered = placed.iter().filter(|call| call.answered).count();
    account.undisturbed = placed.iter().filter(|call| call.answered && call.undisturbed).count();
}

/// Each record by the Call-ID that its caller gave it.
fn whole_records(config: &Path, records: &Value, account: &mut Account) -> BTreeMap<String, Value> {
    let mut by_call_id: BTreeMap<String, Value> = BTreeMap::new();
    for record in array(records) {
        let whole = admin(&["calls", "show", text(&record["sid"])], "--config", config);
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
        account.taken_twice += 1;
        by_call_id.insert(call_id, second);
    }
    by_call_id
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

/// An HTTPS request; the status, and how long to wait where it says so.
pub fn api(
    ca: &Path,
    port: u16,
    key: &str,
    arguments: &[&str],
    path: &str,
) -> (u16, Option<String>) {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code} %header{retry-after}", "--user", key, "--cacert"])
        .arg(ca)
        .args(arguments)
        .arg(format!("https://localhost:{port}{path}"))
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, after) = answer.split_once(' ').unwrap();
    (status.parse().unwrap(), (!after.is_empty()).then(|| after.to_owned()))
}

pub fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What an environment variable says, or the time: printed, so that a run can
/// be repeated.
pub fn seed(name: &str) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting(name).unwrap_or(u64::from(now.subsec_nanos()) | 1);
    eprintln!("{name}={seed}");
    seed
}

/// A run of the binary that must succeed.
#[track_caller]
pub fn landline(arguments: &[&str]) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Xorshift: enough to choose by, and the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
