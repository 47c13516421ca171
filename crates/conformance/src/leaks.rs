//! Planted leaks: every form of one region's canaries in every kind of place
//! of another, and live on the wire between them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use landline_residency::{
    Hit, PlaceKind, Planted, Report, Scanner, Search, audio_leaks, plant_in_database,
    scan_database, text_leaks,
};

use crate::cast::{self, BETWEEN, Cast};
use crate::judge;
use crate::net::{Network, run};
use crate::process::{Process, eventually};
use crate::region::{Region, Shared};
use crate::wire::{self, Taps};

/// Whose canaries leak, and into which region.
const VICTIM: &str = "ie1";
const HOLDER: &str = "au1";

/// What surrounds a planted leak, of what really lies there.
const CONTEXT: u64 = 16 << 10;

/// An unused port of the holder's, for connections that should not be.
const SIDE_DOOR: u16 = 5999;

/// The leak's canary, and the leak.
type Leak = (String, Planted);

pub fn plant(
    scanner: &Scanner,
    shared: &Shared<'_>,
    network: &Network,
    regions: &[Region<'_>],
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    let holder = regions.iter().find(|it| it.code() == HOLDER).context("no holder")?;
    let leaks = leaks()?;
    let planted = directory.join("planted");
    fs::create_dir_all(&planted)?;
    for kind in PlaceKind::ALL {
        let hits = match kind {
            PlaceKind::Capture | PlaceKind::Decrypted => continue,
            PlaceKind::Database => in_database(scanner, holder, &planted, &leaks)?,
            _ => in_files(scanner, holder, kind, &planted, &leaks)?,
        };
        let each_in_a_file = kind != PlaceKind::Database;
        tally(report, kind, &leaks, |n, leak| {
            hits.iter().any(|hit| is(hit, leak) && (!each_in_a_file || hit.name == name(kind, n)))
        });
    }
    on_the_wire(scanner, shared, network, &planted, &leaks, report)
}

fn leaks() -> Result<Vec<Leak>> {
    let cast = Cast::of(VICTIM).context("no victim")?;
    let list = cast::canaries();
    let canary = list.canaries.iter().find(|it| it.region == VICTIM).context("no canary")?;
    let mut leaks = Vec::new();
    for word in canary.words.iter().filter(|word| word.what.starts_with("caller's")) {
        leaks.extend(text_leaks(word).into_iter().map(|leak| (word.what.clone(), leak)));
    }
    for person in &cast.people[..2] {
        let what = format!("tone of {} Hz", person.tone);
        leaks.extend(audio_leaks(person.tone).into_iter().map(|leak| (what.clone(), leak)));
    }
    Ok(leaks)
}

fn is(hit: &Hit, (what, leak): &Leak) -> bool {
    hit.canary == VICTIM
        && hit.what == *what
        && hit.encoding.starts_with(&leak.expected)
        && hit.exception.is_none()
}

fn tally(
    report: &mut Report,
    kind: PlaceKind,
    leaks: &[Leak],
    mut found: impl FnMut(usize, &Leak) -> bool,
) {
    let entry = report.planted.entry(kind.name().to_owned()).or_default();
    let mut missed = Vec::new();
    for (n, leak) in leaks.iter().enumerate() {
        entry.0 += 1;
        if found(n, leak) {
            entry.1 += 1;
        } else {
            missed.push(format!("{} as {} in {}", leak.0, leak.1.form, kind.name()));
        }
    }
    report.missed.extend(missed);
}

fn name(kind: PlaceKind, n: usize) -> String {
    format!("planted {} {n}", kind.name())
}

/// Each leak in the middle of what lies in such a place.
fn in_files(
    scanner: &Scanner,
    holder: &Region<'_>,
    kind: PlaceKind,
    planted: &Path,
    leaks: &[Leak],
) -> Result<Vec<Hit>> {
    let around = surroundings(holder, kind)?;
    let mut search = Search::new(scanner, &cast::canaries().exceptions);
    let path = planted.join("file");
    for (n, (_, leak)) in leaks.iter().enumerate() {
        // Anywhere, odd and even.
        let at = (n * 7919 + 13) % (around.len() + 1);
        let (before, after) = around.split_at(at);
        fs::write(&path, [before, &leak.octets, after].concat())?;
        search.file(HOLDER, kind, &name(kind, n), &path)?;
    }
    fs::remove_file(path)?;
    Ok(search.hits)
}

/// The beginning of something real of this kind; nothing, where there is none.
fn surroundings(holder: &Region<'_>, kind: PlaceKind) -> Result<Vec<u8>> {
    let first_in = |name: &str| -> Option<PathBuf> {
        let entries = fs::read_dir(holder.directory.join(name)).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| path.is_file())
    };
    let of = |name: &str| Some(holder.directory.join(name));
    let path = match kind {
        PlaceKind::Metrics => {
            return Ok(holder.pages.first().map(|page| page.1.clone()).unwrap_or_default());
        }
        PlaceKind::Listing => {
            return Ok(holder.listings.first().map(|it| it.1.clone()).unwrap_or_default());
        }
        PlaceKind::DatabaseFile => of("database.sqlite"),
        PlaceKind::Ledger => first_in("ledger"),
        PlaceKind::Spool => first_in("spool"),
        PlaceKind::Log => of(&format!("{}.log", holder.signalling())),
        PlaceKind::CoreDump => holder.cores.first().map(|(_, path)| path.clone()),
        PlaceKind::Temporary => first_in("tmp"),
        PlaceKind::Directory => of("../shared/directory.json"),
        _ => of("config.toml"),
    };
    let mut octets = Vec::new();
    if let Some(path) = path.filter(|path| path.exists()) {
        fs::File::open(path)?.take(CONTEXT).read_to_end(&mut octets)?;
    }
    Ok(octets)
}

/// A copy of the region's database with a table that should not be.
fn in_database(
    scanner: &Scanner,
    holder: &Region<'_>,
    planted: &Path,
    leaks: &[Leak],
) -> Result<Vec<Hit>> {
    let url = match holder.database_url().strip_prefix("sqlite:") {
        Some(path) => {
            let copy = planted.join("database.sqlite");
            run(Command::new("sqlite3").arg(path).arg(format!(".backup '{}'", copy.display())))?;
            format!("sqlite:{}", copy.display())
        }
        None => {
            // Beside the region's own, in its cluster.
            let url = &holder.database;
            run(Command::new("psql").args(["-qc", "create database planted"]).arg(url))?;
            let (base, options) = url.split_once('?').unwrap_or((url.as_str(), ""));
            let (server, _) = base.rsplit_once('/').context("a database's URL")?;
            format!("{server}/planted?{options}")
        }
    };
    let octets: Vec<Vec<u8>> = leaks.iter().map(|(_, leak)| leak.octets.clone()).collect();
    let mut search = Search::new(scanner, &cast::canaries().exceptions);
    plant_in_database(&url, &octets)?;
    scan_database(&mut search, HOLDER, &url)?;
    Ok(search.hits)
}

/// Datagrams from one region to another, and a TLS connection that nobody
/// declared, captured as everything else was.
fn on_the_wire(
    scanner: &Scanner,
    shared: &Shared<'_>,
    network: &Network,
    planted: &Path,
    leaks: &[Leak],
    report: &mut Report,
) -> Result<()> {
    let taps = Taps::start(network, planted)?;
    let keys = planted.join("tls-secrets");
    let to = SocketAddr::new(network.site(HOLDER)?.address, SIDE_DOOR);
    let pki = shared.directory.join("pki");
    let openssl = |region: &str, mode: &str| -> Result<Command> {
        let mut command = network.site(region)?.namespace.command("openssl");
        let own = pki.join(region).join("proxy");
        command.arg(mode).arg("-quiet").arg("-CAfile").arg(pki.join("ca.pem"));
        command.arg("-cert").arg(own.with_extension("pem"));
        command.arg("-key").arg(own.with_extension("key"));
        Ok(command)
    };
    let mut server = openssl(HOLDER, "s_server")?;
    server.args(["-accept", &SIDE_DOOR.to_string(), "-Verify", "1"]);
    let server = Process::start(&mut server, &planted.join("s_server.words"))?;
    std::thread::sleep(Duration::from_millis(400));
    let all = planted.join("all");
    let octets: Vec<&[u8]> = leaks.iter().map(|(_, leak)| &leak.octets[..]).collect();
    fs::write(&all, octets.join(&b"\n"[..]))?;
    let mut client = openssl(VICTIM, "s_client")?;
    client.arg("-connect").arg(to.to_string()).arg("-keylogfile").arg(&keys);
    let mut client =
        client.stdin(fs::File::open(&all)?).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    send(network, to, leaks)?;
    // The server says what it heard: when that is all, all is captured.
    let heard = planted.join("s_server.words");
    let wanted = all.metadata()?.len();
    eventually("the planted connection is read", Duration::from_secs(15), || {
        (heard.metadata().ok()?.len() >= wanted).then_some(())
    })?;
    client.kill()?;
    client.wait()?;
    drop(server);
    taps.stop()?;

    let mut search = Search::new(scanner, &cast::canaries().exceptions);
    let capture = wire::file(planted, VICTIM);
    let lines = judge::link(&mut search, network, VICTIM, &capture)?;
    let undeclared: BTreeSet<_> =
        lines.iter().filter(|line| !line.declared).map(|line| line.what.clone()).collect();
    report.fact(
        undeclared.len() >= 2,
        format!("{} planted flows between regions were called undeclared", undeclared.len()),
    );
    let streams = landline_residency::decrypted_streams(&capture, &keys, &[SIDE_DOOR])?;
    for stream in &streams {
        let name = judge::tls(VICTIM, HOLDER, SIDE_DOOR);
        search.octets(BETWEEN, PlaceKind::Decrypted, &name, &stream.from_client);
    }
    for kind in [PlaceKind::Capture, PlaceKind::Decrypted] {
        tally(report, kind, leaks, |_, leak| {
            search.hits.iter().any(|hit| hit.place == kind && is(hit, leak))
        });
    }
    Ok(())
}

/// Every leak as datagrams from the victim's region, by bash's `/dev/udp`.
fn send(network: &Network, to: SocketAddr, leaks: &[Leak]) -> Result<()> {
    let namespace = &network.site(VICTIM)?.namespace;
    let mut script = format!("exec 3>/dev/udp/{}/{}\n", to.ip(), to.port());
    for (_, leak) in leaks {
        for datagram in leak.octets.chunks(1200) {
            let escaped: String = datagram.iter().map(|octet| format!("\\x{octet:02x}")).collect();
            // One write, one datagram; after an ICMP error it is sent again.
            let print = format!("printf '{escaped}' >&3");
            script.push_str(&format!("{print} 2>/dev/null || {print}\n"));
        }
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), script)?;
    run(namespace.command("bash").arg(file.path()))
}
