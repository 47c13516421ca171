//! The region's PostgreSQL fails in every way that it can while phones call:
//! calls and registrations go on, what needs the database says 503 and when to
//! come back, and afterwards each call has its one record.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use landline::config::{Draft, PortRange};
use landline_phone::{MediaMode, Phone, PhoneConfig};
use support::calling::{Account, Calling, DOMAIN, api, seed, settle};
use support::postgres::Cluster;
use support::process::Process;
use support::region::{Database, Region, write_regions};
use support::server::{PROGRAM, text};
use support::{eventually, free_ports, have};

const NAME: &str = "postgres";
const SOON: Duration = Duration::from_secs(60);
/// How long the database is out of order: longer than calls last and than the
/// ledger gathers.
const OUTAGE: Duration = Duration::from_secs(4);

/// A region on a PostgreSQL of its own, its API, and phones that call.
struct Bench {
    cluster: Cluster,
    replica: Option<Cluster>,
    region: Region,
    console: Process,
    calling: Calling,
    ca: PathBuf,
    key: String,
    users: String,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn start(replicated: bool) -> Option<Self> {
        if !have(&["/usr/bin/curl"]) {
            return None;
        }
        let bench = tokio::task::spawn_blocking(move || Self::place(replicated)).await.unwrap();
        let (directory, cluster, replica, region) = bench?;
        let seed = seed("LANDLINE_DATABASE_SEED");
        let calling = Calling::begin(&region.config, region.base, 4, seed).await;
        let key = region.admin(&["key", "create", DOMAIN, "--role", "admin", "--name", "test"]);
        let account = region.admin(&["account", "show", DOMAIN]);
        let console = region.role("console");
        let bench = Self {
            ca: directory.path().join("pki/ca.pem"),
            key: format!("{}:{}", text(&key["sid"]), text(&key["secret"])),
            users: format!("/2010-04-01/Accounts/{}/Users.json", text(&account["sid"])),
            cluster,
            replica,
            region,
            console,
            calling,
            _directory: directory,
        };
        eventually("the API answers", SOON, || (bench.read().0 == 200).then_some(()));
        bench.calls_go_on(4).await;
        Some(bench)
    }

    fn place(replicated: bool) -> Option<(tempfile::TempDir, Cluster, Option<Cluster>, Region)> {
        let Some(cluster) = Cluster::start(free_ports(1)) else {
            have(&["/usr/lib/postgresql"]);
            eprintln!("SKIPPED: no PostgreSQL");
            return None;
        };
        let replica = replicated.then(|| cluster.replica(free_ports(1)));
        let mut url = cluster.url(NAME);
        if let Some(replica) = &replica {
            cluster.replicate();
            let hosts = format!("127.0.0.1:{},127.0.0.1:{}", cluster.port, replica.port);
            url = url.replace(&format!("127.0.0.1:{}", cluster.port), &hosts);
        }
        let directory = tempfile::tempdir().unwrap();
        let base = free_ports(8);
        write_regions(directory.path(), &[("ie1", "IE", base)]);
        let first = 40_000 + base / 8 % 50 * 400;
        let change = |draft: Draft| Draft {
            ports: PortRange { first, last: first + 399 },
            console: Some(([127, 0, 0, 1], base + 7).into()),
            ..draft
        };
        let database = (Database::Postgres(url), false);
        let region = Region::on(directory.path(), "ie1", "IE", base, database, change);
        Some((directory, cluster, replica, region))
    }

    fn read(&self) -> (u16, Option<String>) {
        api(&self.ca, self.region.base + 7, &self.key, &[], &self.users)
    }

    fn write(&self, user: &str) -> (u16, Option<String>) {
        let (name, media) = (format!("User={user}"), "Media=sdes");
        let fields = ["--data-urlencode", &name, "--data-urlencode", media];
        api(&self.ca, self.region.base + 7, &self.key, &fields, &self.users)
    }

    /// So many more calls are answered and over.
    async fn calls_go_on(&self, more: usize) {
        let (before, deadline) = (self.calling.placed(), tokio::time::Instant::now() + SOON);
        while self.calling.placed() < before + more {
            assert!(tokio::time::Instant::now() < deadline, "calls stand still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A phone that was there before the outage registers anew.
    async fn registers(&self, who: &str) {
        let server = ([127, 0, 0, 1], self.region.base).into();
        let phone = PhoneConfig::new(who, DOMAIN, "correct horse battery", server);
        let phone = Phone::start(PhoneConfig { media: MediaMode::Sdes, ..phone }).await.unwrap();
        phone.register().await.unwrap();
        phone.unregister().await.unwrap();
    }

    /// The database is out of order as `fail` says, until `mend`.
    async fn through(&self, fail: impl FnOnce(&Self), mend: impl FnOnce(&Self)) {
        fail(self);
        let until = tokio::time::Instant::now() + OUTAGE;
        self.calls_go_on(8).await;
        self.registers("a0").await;
        tokio::time::sleep_until(until).await;
        tokio::task::block_in_place(|| mend(self));
        self.calls_go_on(4).await;
    }

    /// Every call that was placed has its record.
    async fn settle(self) -> Account {
        let Self { calling, region, cluster, replica, console, _directory, .. } = self;
        let placed = calling.end().await;
        let settled = tokio::task::spawn_blocking(move || {
            let account = settle(&region.config, region.base + 5, &placed, &[]);
            drop((region, console, cluster, replica, _directory));
            account
        });
        let account = settled.await.unwrap();
        eprintln!("{account:?}");
        assert_eq!(account.cut_short, 0, "an outage of the database ends no call: {account:?}");
        assert_eq!(account.answered, account.placed, "{account:?}");
        account
    }
}

fn says_later((status, after): (u16, Option<String>)) {
    assert_eq!(status, 503);
    let after = after.expect("Retry-After");
    assert!(after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_database_is_killed_and_comes_back() {
    let Some(bench) = Bench::start(false).await else { return };
    let kill = |bench: &Bench| {
        bench.cluster.kill();
        tokio::task::block_in_place(|| {
            says_later(bench.read());
            says_later(bench.write("nobody"));
        });
    };
    bench.through(kill, |bench| bench.cluster.resume()).await;
    tokio::task::block_in_place(|| {
        eventually("the API answers", SOON, || (bench.read().0 == 200).then_some(()));
        assert_eq!(bench.write("somebody").0, 201);
    });
    bench.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_database_only_reads() {
    let Some(bench) = Bench::start(false).await else { return };
    let only_read = |bench: &Bench, on: &str| {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        bench.cluster.ask(NAME, &set);
        bench.cluster.ask(NAME, "SELECT pg_reload_conf()");
    };
    let fail = |bench: &Bench| {
        only_read(bench, "on");
        tokio::task::block_in_place(|| {
            eventually("nothing is written", SOON, || {
                (bench.write("nobody").0 == 503).then_some(())
            });
            says_later(bench.write("nobody"));
        });
    };
    bench.through(fail, |bench| only_read(bench, "off")).await;
    tokio::task::block_in_place(|| {
        eventually("it is written again", SOON, || {
            (bench.write("somebody").0 == 201).then_some(())
        });
    });
    bench.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_database_does_not_answer() {
    let Some(bench) = Bench::start(false).await else { return };
    // Whoever wants to read or write records or registrations waits.
    let lock = "BEGIN; LOCK TABLE call, binding IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(6)";
    let held = std::cell::RefCell::new(None);
    let fail = |bench: &Bench| drop(held.replace(Some(bench.cluster.hold(NAME, lock))));
    bench
        .through(fail, |_| held.take().into_iter().for_each(support::postgres::Session::end))
        .await;
    bench.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_connections_are_lost_again_and_again() {
    let Some(bench) = Bench::start(false).await else { return };
    let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'landline'";
    let mut lost = 0;
    for _ in 0..10 {
        lost += bench.cluster.ask(NAME, cut).parse::<u32>().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(lost >= 10, "{lost}");
    bench.registers("a0").await;
    bench.calls_go_on(4).await;
    bench.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_takes_over_and_lacks_nothing() {
    let Some(bench) = Bench::start(true).await else { return };
    let replica = |bench: &Bench| bench.replica.as_ref().unwrap().port;
    let port = replica(&bench);
    let kill = |bench: &Bench| {
        bench.cluster.kill();
        tokio::task::block_in_place(|| says_later(bench.write("nobody")));
    };
    bench.through(kill, |bench| bench.replica.as_ref().unwrap().promote()).await;
    tokio::task::block_in_place(|| {
        eventually("the replica serves", SOON, || (bench.write("somebody").0 == 201).then_some(()));
        // The former primary comes back and takes itself for one: it stays alone.
        bench.cluster.resume();
    });
    let (before, count) = ("SELECT COUNT(*) FROM call", |bench: &Bench| {
        bench.cluster.ask(NAME, "SELECT COUNT(*) FROM call").parse::<u32>().unwrap()
    });
    let stale = count(&bench);
    bench.calls_go_on(6).await;
    // Who starts now goes by the timeline, not by the order of the hosts.
    let listed = bench.region.admin(&["calls", "list", "--limit", "10000"]);
    let there = bench.replica.as_ref().unwrap().ask(NAME, before).parse::<u32>().unwrap();
    assert!(there > stale && listed.as_array().unwrap().len() as u32 > stale, "{there} {stale}");
    assert_eq!(count(&bench), stale, "something was written to the former primary");
    eprintln!("promoted the replica on port {port}");
    bench.settle().await;
}

#[test]
fn a_backup_of_a_replica_is_a_backup_of_its_primary() {
    let Some(primary) = Cluster::start(free_ports(1)) else { return };
    let replica = primary.replica(free_ports(1));
    primary.replicate();
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(8);
    write_regions(directory.path(), &[("ie1", "IE", base)]);
    let database = (Database::Postgres(primary.url(NAME)), false);
    let region = Region::on(directory.path(), "ie1", "IE", base, database, |draft| draft);
    let create = ["account", "create", "steady", "--domain", DOMAIN, "--region", "ie1"];
    region.admin(&create);
    let text_of = std::fs::read_to_string(&region.config).unwrap();
    let backup = "\n[backup]\ndirectory = \"backup\"\n";
    std::fs::write(&region.config, text_of.clone() + backup).unwrap();
    let made = region.admin(&["backup"]);
    let rows = made[0]["rows"].clone();
    assert!(rows.as_u64() > Some(3), "{made}");
    replica.promote();
    let moved = text_of.replace(&primary.port.to_string(), &replica.port.to_string()) + backup;
    std::fs::write(&region.config, moved).unwrap();
    let drilled = Command::new(PROGRAM)
        .args(["restore", "--drill", "--json", "--config"])
        .arg(&region.config)
        .output()
        .unwrap();
    assert!(drilled.status.success(), "{}", String::from_utf8_lossy(&drilled.stderr));
}
