//! Proxy, relay, PostgreSQL and the process that is all of a region are killed
//! at any time while phones call, and each call that was placed has exactly one
//! record, closed, chained and with its recording.
//!
//! `LANDLINE_KILLS` says how often (6), `LANDLINE_KILL_CALLS` how many calls
//! SIPp holds meanwhile (30), `LANDLINE_KILL_SEED` repeats the order and the
//! pauses of a former run.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use landline::config::{Draft, PortRange};
use support::calling::{Calling, Random, seed, setting, settle};
use support::holding::Holding;
use support::postgres::Cluster;
use support::region::{Database, Region, write_regions};
use support::{eventually, free_ports, have, sipp};

const PAIRS: usize = 5;
/// After a death everything serves again within this.
const BACK: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_or_doubled_whatever_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(directory.path().join("ie1/database.sqlite"));
    let region = region(directory.path(), database, false);
    kill_and_settle(region, None, &["proxy", "relay", "both"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_or_doubled_when_all_of_a_region_is_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(directory.path().join("ie1/database.sqlite"));
    let region = region(directory.path(), database, true);
    kill_and_settle(region, None, &["up"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_or_doubled_when_the_database_is_killed_too() {
    let Some(cluster) = cluster() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = Database::Postgres(cluster.url("postgres"));
    let region = region(directory.path(), database, false);
    let whom = ["proxy", "relay", "both", "database", "database and proxy", "all"];
    kill_and_settle(region, Some(cluster), &whom).await;
}

fn cluster() -> Option<Cluster> {
    let cluster = Cluster::start(free_ports(1));
    if cluster.is_none() {
        have(&["/usr/lib/postgresql"]);
        eprintln!("SKIPPED: no PostgreSQL");
    }
    cluster
}

fn region(directory: &Path, database: Database, together: bool) -> Region {
    let base = free_ports(8);
    write_regions(directory, &[("ie1", "IE", base)]);
    // Ports rest after a call, and calls are many.
    let first = 40_000 + base / 8 % 16 * 1500;
    let ports = PortRange { first, last: first + 1499 };
    Region::on(directory, "ie1", "IE", base, (database, together), |draft| Draft { ports, ..draft })
}

async fn kill_and_settle(mut region: Region, cluster: Option<Cluster>, whom: &[&'static str]) {
    let kills: u32 = setting("LANDLINE_KILLS").unwrap_or(6);
    let seed = seed("LANDLINE_KILL_SEED");
    let calling = Calling::begin(&region.config, region.base, PAIRS, seed).await;
    let held: u32 = setting("LANDLINE_KILL_CALLS").unwrap_or(30);
    let (parent, config, base) = (region.directory.clone(), region.config.clone(), region.base);
    let holding = have(&[sipp::PROGRAM])
        .then(|| tokio::task::block_in_place(|| Holding::begin(&parent, &config, base, held)));
    let mut random = Random(seed);
    let (mut killed, mut away) = (BTreeMap::new(), Vec::new());
    let mut cluster = cluster;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.below(1800))).await;
        let victim = whom[random.below(whom.len() as u64) as usize];
        *killed.entry(victim).or_insert(0) += 1;
        // A death of any counts until it serves again.
        calling.disturbed();
        let pause = Duration::from_millis(random.below(1500));
        let died = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            die(victim, &mut region, cluster.as_ref(), pause);
            eventually("the proxy serves again", BACK, || region.is_healthy().then_some(()));
            (region, cluster, begun.elapsed())
        });
        let took;
        (region, cluster, took) = died.await.unwrap();
        away.push(took);
        calling.disturbed();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let placed = calling.end().await;
    let settled = tokio::task::spawn_blocking(move || {
        let held = holding.map(Holding::end).unwrap_or_default();
        let account = settle(&config, region.base + 5, &placed, &held);
        (account, region, cluster)
    });
    let (account, _region, _cluster) = settled.await.unwrap();
    away.sort();
    let middle = away.get(away.len() / 2).copied().unwrap_or_default();
    let worst = away.last().copied().unwrap_or_default();
    eprintln!(
        "killed {killed:?}; serving again after {middle:.1?}, at worst {worst:.1?}; {account:?}"
    );
    let met = account.answered > account.undisturbed;
    assert!(account.held == 0 || account.held_answered > 0, "{account:?}");
    assert!(account.undisturbed > 0 && met, "the deaths met no call, or all");
}

/// All at once. A proxy reads its accounts from the database when it starts, so
/// that comes back first; where it died alone it stays away for a while.
fn die(victim: &str, region: &mut Region, cluster: Option<&Cluster>, pause: Duration) {
    let is = |those: &[&str]| those.contains(&victim);
    let cluster = cluster.filter(|_| is(&["database", "database and proxy", "all"]));
    if let Some(cluster) = cluster {
        cluster.kill();
    }
    let proxy = is(&["proxy", "both", "up", "database and proxy", "all"]);
    region.dies(proxy, is(&["relay", "both", "all"]), || {
        if let Some(cluster) = cluster {
            std::thread::sleep(if proxy { Duration::ZERO } else { pause });
            cluster.resume();
        }
    });
}
