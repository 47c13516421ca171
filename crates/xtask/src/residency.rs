//! The conformance run: builds what it runs, gives it databases, and says
//! where its report is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::postgres::Cluster;
use crate::{cargo, execute, tools};

const REGIONS: [&str; 3] = ["us1", "ie1", "au1"];

#[derive(Args)]
pub struct Options {
    /// What the regions keep their records in.
    #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
    database: Engine,
    /// Fewer calls, as in `cargo xtask test`.
    #[arg(long)]
    reduced: bool,
    /// Keep what the regions leave behind here, captures and TLS secrets included.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    Sqlite,
    Postgres,
}

pub fn run(options: &Options) -> Result<()> {
    tools::install()?;
    let target = target()?;
    execute(cargo().args(["build", "-p", "landline", "-p", "landline-conformance", "--bins"]))?;
    let mut clusters = Vec::new();
    let mut command = Command::new(target.join("debug/landline-conformance"));
    command.arg("--landline").arg(target.join("debug/landline"));
    command.arg("--report").arg(target.join("residency"));
    if options.reduced {
        command.arg("--reduced");
    }
    if let Some(keep) = &options.keep {
        command.arg("--keep").arg(keep);
    }
    if options.database == Engine::Postgres {
        for region in REGIONS {
            let cluster = Cluster::start(region)?.context("PostgreSQL is not installed")?;
            command.arg("--postgres").arg(format!("{region}={}", cluster.by_socket("postgres")));
            clusters.push(cluster);
        }
    }
    execute(&mut command)
}

/// As part of a test run: skipped, loudly, where it cannot run, unless it is
/// said that nothing may be skipped.
pub fn run_if_possible() -> Result<()> {
    if let Err(problem) = possible() {
        if std::env::var_os("LANDLINE_REQUIRE_TOOLS").is_some() {
            return Err(problem.context("the conformance run is required and cannot run"));
        }
        eprintln!("SKIPPED: the conformance run: {problem:#}");
        return Ok(());
    }
    run(&Options { database: Engine::Sqlite, reduced: true, keep: None })
}

fn possible() -> Result<()> {
    for program in ["tshark", "dumpcap", "sqlite3", "ip", "openssl", "curl"] {
        let there = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if there.is_err() {
            bail!("{program} is missing: `cargo xtask tools` installs it");
        }
    }
    let mut unshare = Command::new("unshare");
    if !tools::is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare.args(["--net", "--pid", "--fork", "--mount-proc", "true"]).output()?;
    if !output.status.success() {
        bail!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// This program lies in `target/debug`.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("no target directory")?.to_owned())
}
