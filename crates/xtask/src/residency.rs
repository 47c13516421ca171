//! The conformance run: builds what it runs, gives it databases, and says
//! where its report is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::postgres::Cluster;
use crate::{cargo, execute, tools};

const REGIONS: [&str; 3] = ["us1", "ie1", "au1"];

#[derive(Args)]
pub struct Options {
    /// What the regions keep their records in.
    #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
    database: Engine,
    /// Fewer calls and crash dumps, as among the tests.
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

/// This program lies in `target/debug`.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("no target directory")?.to_owned())
}
