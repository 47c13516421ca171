//! The conformance run behind `cargo xtask residency`: three regions, each in
//! a network namespace of its own, joined by a router where everything is
//! captured; calls, failures, overload, a restart, kills; then a search of
//! everything that every region holds for what is another's, and leaks planted
//! to show that the search would have found one.
//!
//! All processes run below one `unshare`d process and network namespace: when
//! it ends, however it ends, the kernel ends them and removes the namespaces.

mod api;
mod cast;
mod evidence;
mod judge;
mod leaks;
mod memory;
mod net;
mod overload;
mod process;
mod receiver;
mod region;
mod script;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use landline_residency::{Report, Scanner, Search};

use cast::Cast;
use net::Network;
use receiver::Receiver;
use region::{Region, Shared};

#[derive(Parser)]
#[command(name = "landline-conformance")]
pub struct Arguments {
    /// The program under test.
    #[arg(long, value_name = "FILE")]
    landline: PathBuf,
    /// A PostgreSQL database of its own for a region, reached by a Unix
    /// socket; SQLite where none is given.
    #[arg(long = "postgres", value_name = "REGION=URL")]
    postgres: Vec<String>,
    /// Fewer calls, crash dumps of one region, no overload.
    #[arg(long)]
    reduced: bool,
    /// Where report.md and report.json are written.
    #[arg(long, value_name = "DIR")]
    report: PathBuf,
    /// Keep what the regions leave behind here, captures and keys included.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Read the processes' memory also where the kernel would write crash dumps.
    #[arg(long)]
    read_memory: bool,
    /// Set by the program itself, within the namespaces.
    #[arg(long, hide = true)]
    inside: bool,
    /// Fetches a page from within a region's namespace.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    fetch: Option<String>,
}

/// Nothing takes longer than this, whatever hangs.
const LONGEST: Duration = Duration::from_secs(170);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if let Some(address) = &arguments.fetch {
        net::fetch(address).map(|()| true)
    } else if arguments.inside {
        inside(&arguments)
    } else {
        programs(&arguments.landline).map_err(Into::into).and_then(|()| enter())
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(if error.is::<Impossible>() { 3 } else { 2 })
        }
    }
}

/// What this machine lacks or forbids.
#[derive(Debug)]
struct Impossible(String);

impl std::error::Error for Impossible {}

impl std::fmt::Display for Impossible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is run, beside the program under test.
const PROGRAMS: [&str; 9] =
    ["unshare", "nsenter", "setpriv", "ip", "dumpcap", "tshark", "sqlite3", "openssl", "curl"];

fn programs(landline: &Path) -> Result<(), Impossible> {
    if !landline.exists() {
        let missing = format!("{} is missing: `cargo build -p landline`", landline.display());
        return Err(Impossible(missing));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &&str| std::env::split_paths(&path).any(|it| it.join(program).exists());
    match PROGRAMS.iter().find(|program| !is_there(program)) {
        Some(program) => {
            Err(Impossible(format!("{program} is missing: `cargo xtask tools` installs it")))
        }
        None => Ok(()),
    }
}

/// Runs this program again in namespaces of its own, which end with it.
fn enter() -> Result<bool> {
    // Whatever ends this process ends the run.
    let mut unshare = Command::new("setpriv");
    unshare.args(["--pdeathsig", "KILL", "unshare"]);
    if !net::is_root() {
        // A user namespace makes its creator root of what it holds.
        unshare.args(["--user", "--map-root-user"]);
    }
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    unshare.args(namespaces);
    let possible = Command::new("unshare")
        .args(if net::is_root() { &[][..] } else { &["--user", "--map-root-user"][..] })
        .args(namespaces)
        .arg("true")
        .output()
        .context("unshare (util-linux) cannot be started")?;
    if !possible.status.success() {
        return Err(Impossible(format!(
            "namespaces are not permitted here: {}\nrun as root, or allow unprivileged user \
             namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0)",
            String::from_utf8_lossy(&possible.stderr).trim()
        ))
        .into());
    }
    let mut child = unshare
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .spawn()?;
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.code() {
                Some(0) => Ok(true),
                Some(1) => Ok(false),
                _ => bail!("the run ended with {status}"),
            };
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("the run took longer than {} s and was ended", LONGEST.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn inside(arguments: &Arguments) -> Result<bool> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("another TLS provider is installed already");
    }
    let temporary = tempfile::Builder::new().prefix("landline-residency-").tempdir()?;
    let directory = match &arguments.keep {
        Some(keep) => {
            std::fs::create_dir_all(keep)?;
            keep.canonicalize()?
        }
        None => temporary.path().to_owned(),
    };
    let report = run(arguments, &directory)?;
    report.write(&arguments.report)?;
    println!("{}", report.markdown());
    println!("{}", arguments.report.join("report.md").display());
    Ok(report.passed)
}

/// Says what is being done, and how long it took.
struct Clock(Instant);

impl Clock {
    fn say(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

fn run(arguments: &Arguments, directory: &Path) -> Result<Report> {
    let clock = Clock(Instant::now());
    clock.say("namespaces, a router, three regions");
    let network = Network::build(&Cast::ALL.map(|cast| cast.region))?;
    let shared = Shared::create(arguments, directory, &network)?;
    let captures = directory.join("captures");
    std::fs::create_dir_all(&captures)?;
    let taps = wire::Taps::start(&network, &captures)?;
    let receiver = Receiver::start(&shared.directory.join("pki").join(region::CUSTOMERS))?;
    let mut regions = Vec::new();
    for cast in Cast::ALL {
        regions.push(Region::start(&shared, cast)?);
    }
    clock.say("registrations, calls, failures");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    let played = regions.iter().try_for_each(api::name_a_webhook).and_then(|()| {
        runtime.block_on(script::play(&mut regions, arguments.reduced, &mut report))
    });
    let played = played.and_then(|()| {
        clock.say("what is handed out, backups, crash dumps");
        let (mut recordings, mut receipts) = (0, 0);
        regions.iter_mut().try_for_each(|region| {
            let exported = region.hand_out()?;
            recordings += exported.0;
            receipts += exported.1;
            region.back_up()?;
            let told = receiver.heard_from(region.code());
            report.fact(!told.is_empty(), format!("{} sent {} events", region.code(), told.len()));
            region.handed_out.extend(told.into_iter().map(|event| ("event".to_owned(), event)));
            region.close(!arguments.reduced || region.code() == "us1")
        })?;
        let text = format!("{recordings} recordings exported, {receipts} receipts verified");
        report.fact(recordings > 0 && receipts > 0, text);
        anyhow::Ok(())
    });
    if let Err(error) = played {
        let logs = directory.display();
        return Err(error.context(format!("the regions' logs lie below {logs} (--keep DIR)")));
    }
    drop(runtime);
    taps.stop()?;

    clock.say("the search");
    let mut list = cast::canaries();
    regions.iter().for_each(|region| cast::add_keys(&mut list, region.code(), &region.keys));
    let scanner = Scanner::new(&list)?;
    let mut search = Search::new(&scanner, &list.exceptions);
    let mut facts = std::mem::take(&mut report.facts);
    let flows = judge::everything(&mut search, &shared, &regions, &captures, &mut facts)?;
    let mut report = Report::of(&search, scanner.needles(), &list.exceptions);
    report.facts = facts;
    report.flows = flows;
    judge::not_blind(&mut report);
    judge::nothing_declared_in_vain(&mut report);

    clock.say("planted leaks");
    leaks::plant(&scanner, &shared, &network, &regions, directory, &mut report)?;
    report.fact(true, format!("the run took {} s", clock.0.elapsed().as_secs()));
    clock.say("done");
    report.judge();
    Ok(report)
}
