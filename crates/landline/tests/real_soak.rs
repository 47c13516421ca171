//! Calls for as long as one likes: memory, descriptors, ports and sessions of
//! each process stay flat, and all come back when the calls are over.
//!
//! `LANDLINE_SOAK_SECONDS` says how long (20), `LANDLINE_SOAK_PAIRS` how many
//! pairs of phones talk and are recorded (10), `LANDLINE_SOAK_CALLS` how many
//! calls SIPp holds (60), `LANDLINE_SOAK_JSON` where the figures go.
//! `cargo xtask soak` sets them.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use landline::config::{Draft, PortRange};
use serde_json::{Value, json};
use support::calling::{Calling, seed, setting, settle};
use support::holding::Holding;
use support::region::{Database, Region, http, write_regions};
use support::{eventually, free_ports, have, sipp};

const SOON: Duration = Duration::from_secs(60);

/// Two of each leg, for five seconds of talk and as many of rest, and as many
/// again for the pairs of phones.
const PORTS_A_CALL: u32 = 50;

/// What may grow over the measured time, whichever is more: in the measure's
/// own unit, or by this part of its mean. Memory in kB: allocators and caches
/// settle for some minutes.
const ALLOWED: [(&str, f64, f64); 5] = [
    ("rss_kb", 12_288.0, 0.10),
    ("descriptors", 24.0, 0.05),
    ("sockets", 24.0, 0.05),
    ("sessions", 24.0, 0.10),
    ("heap_kb", 8_192.0, 0.10),
];

/// Of one process at one moment, as [`ALLOWED`] has them.
type Sample = [f64; 5];

#[tokio::test(flavor = "multi_thread")]
async fn memory_descriptors_and_ports_stay_flat_and_come_back() {
    let seconds: u64 = setting("LANDLINE_SOAK_SECONDS").unwrap_or(20);
    let pairs: usize = setting("LANDLINE_SOAK_PAIRS").unwrap_or(10);
    let calls: u32 = setting("LANDLINE_SOAK_CALLS").unwrap_or(60);
    let directory = tempfile::tempdir().unwrap();
    let region = region(directory.path(), calls);
    let calling =
        Calling::begin(&region.config, region.base, pairs, seed("LANDLINE_SOAK_SEED")).await;
    let idle = samples(&region);
    let holding = have(&[sipp::PROGRAM]).then(|| {
        let (config, base) = (&region.config, region.base);
        tokio::task::block_in_place(|| Holding::begin(directory.path(), config, base, calls))
    });
    let (begun, mut taken) = (Instant::now(), Vec::new());
    let every = Duration::from_millis((seconds * 1000 / 400).clamp(250, 15_000));
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(every).await;
        taken.push((begun.elapsed().as_secs_f64(), samples(&region)));
    }
    print_table(&judged(&taken, &taken.last().unwrap().1));
    let placed = calling.end().await;
    let over = tokio::task::spawn_blocking(move || {
        let held = holding.map(Holding::end).unwrap_or_default();
        let account = settle(&region.config, region.base + 5, &placed, &held);
        // Sessions close with their calls; ports rest for a while.
        let after = eventually("everything is given back", SOON, || {
            let after = samples(&region);
            let back = |(now, then): (&Sample, &Sample)| now[3] == 0.0 && now[1] <= then[1] + 24.0;
            after.iter().zip(&idle).all(back).then_some(after)
        });
        (account, after)
    });
    let (account, after) = over.await.unwrap();
    let rows = judged(&taken, &after);
    print_table(&rows);
    eprintln!("{seconds} s; {account:?}");
    if let Some(file) = std::env::var_os("LANDLINE_SOAK_JSON") {
        let report = json!({
            "seconds": seconds,
            "pairs": pairs,
            "held_at_once": calls,
            "placed": account.placed,
            "placed_by_sipp": account.held,
            "records": account.records,
            "refused": account.refused,
            "measures": rows,
        });
        std::fs::write(file, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
    }
    let grown: Vec<&Value> = rows.iter().filter(|row| row["flat"] == false).collect();
    assert!(grown.is_empty(), "these grow: {grown:?}");
    assert_eq!(account.cut_short, 0, "{account:?}");
    assert!(account.held_answered * 10 >= account.held * 9, "{account:?}");
}

/// With ports for the calls, and for those of the calls before that rest.
fn region(directory: &Path, calls: u32) -> Region {
    let base = free_ports(8);
    write_regions(directory, &[("ie1", "IE", base)]);
    let first = 40_000 + base / 8 % 8 * 3000;
    let ports = match u16::try_from(calls * PORTS_A_CALL).unwrap_or(u16::MAX) {
        0..=3000 => PortRange { first, last: first + 2999 },
        many => PortRange { first: 40_000, last: 40_000 + many.min(25_000) },
    };
    let database = match std::env::var("LANDLINE_SOAK_POSTGRES") {
        Ok(url) => Database::Postgres(url),
        Err(_) => Database::Sqlite(directory.join("ie1/database.sqlite")),
    };
    let change = |draft: Draft| Draft { ports, ..draft };
    Region::on(directory, "ie1", "IE", base, (database, false), change)
}

/// The proxy's and the relay's.
fn samples(region: &Region) -> [Sample; 2] {
    let relay = region.relay.as_ref().unwrap().id();
    [
        sample(region.proxy.id(), region.base + 5, "calls_open{"),
        sample(relay, region.base + 6, "relay_sessions{"),
    ]
}

fn sample(process: u32, telemetry: u16, sessions: &str) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss = rss.trim().trim_end_matches(" kB").parse().unwrap();
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let targets: Vec<_> = open.filter_map(|it| std::fs::read_link(it.path()).ok()).collect();
    let is_socket = |target: &&std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
    let sockets = targets.iter().filter(is_socket).count();
    let metrics = http(telemetry, "/metrics").unwrap_or_default();
    let gauge = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let heap = gauge("landline_heap_allocated_octets{") / 1024.0;
    [rss, targets.len() as f64, sockets as f64, gauge(sessions), heap]
}

/// The line through the samples after the first third, in which caches fill.
fn judged(taken: &[(f64, [Sample; 2])], after: &[Sample; 2]) -> Vec<Value> {
    let steady = &taken[taken.len() / 3..];
    let window = steady.last().unwrap().0 - steady[0].0;
    let mut rows = Vec::new();
    for (process, name) in ["proxy", "relay"].into_iter().enumerate() {
        for (measure, (what, least, part)) in ALLOWED.into_iter().enumerate() {
            let points: Vec<(f64, f64)> =
                steady.iter().map(|(at, sample)| (*at, sample[process][measure])).collect();
            let mean = points.iter().map(|(_, value)| value).sum::<f64>() / points.len() as f64;
            let grown = slope(&points) * window;
            rows.push(json!({
                "process": name,
                "measure": what,
                "first": points[0].1,
                "mean": mean.round(),
                "last": points.last().unwrap().1,
                "most": points.iter().map(|(_, value)| *value).fold(0.0, f64::max),
                "grown_in_window": grown.round(),
                "grown_an_hour": (slope(&points) * 3600.0).round(),
                "window_seconds": window.round(),
                "allowed": least.max(part * mean).round(),
                "after": after[process][measure],
                "flat": grown <= least.max(part * mean),
            }));
        }
    }
    rows
}

/// Least squares, a second.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if under == 0.0 { 0.0 } else { over / under }
}

fn print_table(rows: &[Value]) {
    let columns = [
        "process",
        "measure",
        "first",
        "mean",
        "last",
        "most",
        "grown_in_window",
        "allowed",
        "after",
    ];
    eprintln!("{}", columns.map(|column| format!("{column:>15}")).join(" "));
    for row in rows {
        let cell = |column: &str| match &row[column] {
            Value::String(text) => format!("{text:>15}"),
            value => format!("{:>15}", value.as_f64().unwrap_or_default()),
        };
        eprintln!("{}", columns.map(cell).join(" "));
    }
}

#[test]
fn what_grows_is_found() {
    let sample =
        |second: f64| [1e5 + 200.0 * second, 50.0 + second, 40.0, 10.0 + second % 2.0, 2e4];
    let taken: Vec<_> = (0..300).map(f64::from).map(|at| (at, [sample(at), sample(0.0)])).collect();
    let rows = judged(&taken, &[sample(0.0), sample(0.0)]);
    let grows = |row: &&Value| row["flat"] == false;
    let found: Vec<_> = rows.iter().filter(grows).map(|row| row["measure"].clone()).collect();
    assert_eq!(found, ["rss_kb", "descriptors"], "{rows:?}");
}
