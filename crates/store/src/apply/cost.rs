//! What residency costs here: the processor time of a call's record and of a
//! recorded minute, plain, sealed, chained and with receipts, in one process and
//! one run. Measurements, not run by default:
//! `cargo test --release -p landline-store --lib cost -- --ignored --nocapture`.

use std::time::Instant;

use landline_call::record::{CallDirection, Cause, LegRole};
use landline_control::{Protocol, RelayId, StreamStats};
use landline_region::{Personal, RecordingSid, UserSid};

use super::*;
use crate::chunk::{self, Chunk};
use crate::{KeyRing, NewAccount, StoreConfig};

const MEASURED: bool = !cfg!(debug_assertions);
const ROUNDS: u128 = if MEASURED { 7 } else { 1 };
/// Calls that the ledger ships together.
const BATCH: u128 = 100;
const CALLS: u128 = if MEASURED { 2000 } else { BATCH };

/// Of the whole process, all threads, in microseconds; told in steps of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() * 10_000.0
}

struct Region {
    store: Store,
    account: AccountSid,
    _dir: tempfile::TempDir,
}

impl Region {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (region, keys) = ("ie1".parse().unwrap(), dir.path().join("keys"));
        KeyRing::create(&keys, region).unwrap();
        let url = format!("sqlite:{}", dir.path().join("region.db").display());
        let store = Store::open(&StoreConfig::new(url, region, keys)).await.unwrap();
        let account = store.account_create(&NewAccount::new("Acme", "acme.test", region)).await;
        Self { store, account: account.unwrap().sid, _dir: dir }
    }

    /// An answered call of two legs: what is shipped when it rings, and at its end.
    fn events(&self, call: u128) -> [Vec<CallEvent>; 2] {
        let leg = |role: LegRole| LegSid::from_u128(call * 2 + u128::from(role == LegRole::B));
        let personal = |text: &str| Personal::new(text.to_owned());
        let leg_opened = |role| {
            Step::LegOpened(LegOpened {
                leg: leg(role),
                role,
                party: Party::User(UserSid::from_u128(5)),
                sip_call_id: personal("a84b4c76e66710@pc33.atlanta.example.com"),
                media: Some(Protocol::Dtls),
            })
        };
        let received =
            StreamStats { packets: 9000, lost: 3, jitter_us: 1200, ..Default::default() };
        let stats = landline_control::LegStats { received, ..Default::default() };
        let leg_closed = |role| {
            let stats = Some(stats.clone());
            Step::LegClosed(LegClosed { leg: leg(role), sip_status: 200, stats })
        };
        let region = self.store.region();
        let steps = vec![
            Step::Opened(Opened {
                direction: CallDirection::Internal,
                from: personal("alice.murphy"),
                to: personal("+35312345678"),
                home_region: region,
                signalling_region: region,
                contracting_entity: "landline-ie1".to_owned(),
                proxy: "proxy-1".to_owned(),
                recording: None,
            }),
            leg_opened(LegRole::A),
            leg_opened(LegRole::B),
            Step::Ringing,
            Step::Answered { leg: leg(LegRole::B) },
            leg_closed(LegRole::A),
            leg_closed(LegRole::B),
            Step::Closed(Closed {
                cause: Cause::CalleeHungUp,
                sip_status: 200,
                relay: Some(RelayId("relay-1".to_owned())),
                media_region: Some(region),
                recorded: None,
            }),
        ];
        let event = |(sequence, step): (usize, Step)| CallEvent {
            call: CallSid::from_u128(call),
            account: self.account,
            sequence: sequence as u32,
            at: UnixMillis(1_763_812_800_000 + sequence as i64 * 1000),
            step,
        };
        let mut begun: Vec<CallEvent> = steps.into_iter().enumerate().map(event).collect();
        let ended = begun.split_off(4);
        [begun, ended]
    }

    /// Ships what each call begins with, then what it ends with.
    async fn ship(&self, calls: std::ops::Range<u128>, how: How) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for call in calls {
            let [first, last] = self.events(call);
            begun.extend(first);
            ended.extend(last);
        }
        for events in [begun, ended] {
            match how {
                How::Chained => drop(self.store.apply_events(&events).await.unwrap()),
                _ => self.unchained(&events, how).await,
            }
        }
    }

    async fn unchained(&self, events: &[CallEvent], how: How) {
        let store = &self.store;
        let sealers = store.sealers_of(events).await.unwrap();
        let mut tx = store.database().begin().await.unwrap();
        let calls = store.known_calls(&mut tx, events).await.unwrap();
        let mut batch = Batch { calls, ..Batch::default() };
        for event in events {
            match how {
                How::Plain => batch.take_plain(store, event, &sealers),
                _ => batch.take(store, event, &sealers).unwrap(),
            }
        }
        batch.write_rows(store, &mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// The same rows without seals, keyed indexes and keys.
    Plain,
    Sealed,
    /// As it is.
    Chained,
}

impl Batch {
    fn take_plain(
        &mut self,
        store: &Store,
        event: &CallEvent,
        sealers: &HashMap<AccountSid, Arc<Sealer>>,
    ) {
        let octets = |text: &Personal<String>| text.expose().as_bytes().to_vec();
        match &event.step {
            Step::Opened(opened) => {
                let (from, to) = (octets(&opened.from), octets(&opened.to));
                let opening = values![
                    event.call,
                    event.account,
                    opened.direction.name(),
                    from.clone(),
                    to.clone(),
                    from,
                    to,
                    event.at,
                    opened.home_region,
                    opened.signalling_region,
                    store.region(),
                    opened.proxy.as_str(),
                    "KY00000000000000000000000000000000",
                    opened.contracting_entity.as_str(),
                    opened.recording.map(|(sid, _)| sid),
                    None::<bool>,
                    None::<UnixMillis>,
                ];
                self.happened.push(happened(event, HookEvent::CallStarted));
                self.calls.insert(event.call, Progress::begun(event, None, opening));
            }
            Step::LegOpened(leg) => {
                let row = values![
                    leg.leg,
                    event.call,
                    event.account,
                    leg.role.name(),
                    Some(UserSid::from_u128(5)),
                    None::<landline_region::TrunkSid>,
                    None::<RegionCode>,
                    octets(&leg.sip_call_id),
                    leg.media.map(landline_control::Protocol::name),
                    event.at,
                ];
                self.legs.push(row);
                self.calls.get_mut(&event.call).unwrap().next_sequence += 1;
            }
            _ => self.take(store, event, sealers).unwrap(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_calls_record_costs() {
    let regions = [Region::new().await, Region::new().await, Region::new().await];
    let hows = [How::Plain, How::Sealed, How::Chained];
    let mut spent: [Vec<f64>; 4] = Default::default();
    for round in 0..=ROUNDS {
        for (place, (region, how)) in regions.iter().zip(hows).enumerate() {
            let begun = cpu();
            for batch in 0..CALLS / BATCH {
                let first = round * CALLS + batch * BATCH + 1;
                region.ship(first..first + BATCH, how).await;
            }
            let used = cpu() - begun;
            // The first round warms up.
            if round > 0 {
                spent[place].push(used / CALLS as f64);
            }
        }
        let begun = cpu();
        let mut issued = 0;
        loop {
            let more = regions[2].store.receipts_issue(UnixMillis(i64::MIN)).await.unwrap();
            issued += more.issued as u128;
            if !more.full {
                break;
            }
        }
        assert_eq!(issued, CALLS);
        if round > 0 {
            spent[3].push((cpu() - begun) / CALLS as f64);
        }
    }
    assert!(regions[2].store.residency_check(&[]).await.unwrap().is_sound());
    let [plain, sealed, chained, receipts] = spent.map(median);
    println!("a call, microseconds of processor time, median of {ROUNDS} rounds of {CALLS} calls:");
    println!("  plain {plain:.0}");
    println!("  sealed {sealed:.0} (+{:.0})", sealed - plain);
    println!("  sealed and chained {chained:.0} (+{:.0})", chained - sealed);
    println!("  with its receipt {:.0} (+{receipts:.0})", chained + receipts);
    println!("  all together / plain: {:.2}", (chained + receipts) / plain);
}

/// Both sides' packets of a minute in chunks of a second: 100 a second of 172
/// octets.
const CHUNKS: i64 = 60;
const MINUTES: u128 = if MEASURED { 40 } else { 1 };

fn second() -> Vec<u8> {
    let mut plain = Vec::new();
    for packet in 0..100_u16 {
        let leg = landline_control::LegId(packet % 2);
        chunk::push_packet(&mut plain, leg, u32::from(packet) * 10, &[0x80; 172]);
    }
    plain
}

fn of_minute(recording: RecordingSid, plain: &[u8], sealer: Option<&Sealer>) -> Vec<Vec<Value>> {
    let mut head = chunk::origin(recording);
    let mut rows = Vec::new();
    for sequence in 0..CHUNKS {
        let first_ms = sequence as u32 * 1000;
        let empty = Chunk {
            recording,
            sequence,
            first_ms,
            last_ms: first_ms + 990,
            packets: 100,
            dropped: 0,
            sealed: Vec::new(),
            hash: [0; 32],
        };
        let chunk = match sealer {
            Some(sealer) => empty.seal(sealer, plain, &head),
            None => Chunk { sealed: plain.to_vec(), ..empty },
        };
        head = chunk.hash;
        rows.push(chunk.row());
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recorded_minute_costs() {
    let regions = [Region::new().await, Region::new().await];
    let (mut spent, plain): ([Vec<f64>; 2], _) = (Default::default(), second());
    let mut alone = Vec::new();
    for round in 0..=ROUNDS {
        for (place, region) in regions.iter().enumerate() {
            let sealer = region.store.account_sealer(region.account).await.unwrap();
            let mut used = 0.0;
            for minute in 0..MINUTES {
                let sid = RecordingSid::from_u128(round * MINUTES + minute + 1);
                recording_row(region, sid, &sealer).await;
                let (begun, clock) = (cpu(), Instant::now());
                let sealer = (place == 1).then_some(&*sealer);
                let rows = of_minute(sid, &plain, sealer);
                if place == 1 && round > 0 {
                    alone.push(clock.elapsed().as_secs_f64() * 1e6);
                }
                let mut tx = region.store.database().begin().await.unwrap();
                let once = "ON CONFLICT DO NOTHING";
                let written = tx.insert_many("recording_chunk", Chunk::COLUMNS, once, rows).await;
                assert_eq!(written.unwrap(), CHUNKS as u64);
                tx.commit().await.unwrap();
                used += cpu() - begun;
            }
            if round > 0 {
                spent[place].push(used / MINUTES as f64);
            }
        }
    }
    let [plain, sealed] = spent.map(median);
    println!(
        "a recorded minute, both sides, microseconds of processor time, median of {ROUNDS} rounds of {MINUTES}:"
    );
    println!("  plain {plain:.0}, sealed and chained {sealed:.0}: {:.2} times", sealed / plain);
    println!("  to seal and to hash alone, by the clock: {:.0}", median(alone));
}

async fn recording_row(region: &Region, sid: RecordingSid, sealer: &Sealer) {
    let call = CallSid::from_u128(sid.as_u128());
    let (key_id, _, key) = region.store.new_call_key(call, region.account, sealer);
    let mut tx = region.store.database().begin().await.unwrap();
    tx.insert_many("call_key", KEY_COLUMNS, "", vec![key]).await.unwrap();
    let code = region.store.region();
    let insert = "INSERT INTO recording (sid, call, account, home_region, storage_region, key_id, \
                  consent_by_policy, consent_granted_at, started_at, expected_packets, \
                  stored_packets, chunks, duration_ms) \
                  VALUES ($1, $2, $3, $4, $4, $5, 1, 0, 0, 0, 0, 0, 0)";
    tx.execute(insert, values![sid, call, region.account, code, key_id]).await.unwrap();
    tx.commit().await.unwrap();
}
