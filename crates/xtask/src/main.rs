//! `cargo xtask …`: everything the workspace needs done to itself.

mod bench;
mod conformance_page;
mod deny;
mod personal;
mod postgres;
mod residency;
mod residency_page;
mod sim;
mod soak;
mod test;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, tests and measures the workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, start private databases, run everything.
    Test(test::Options),
    /// Install what the tests need (as root), or say what is missing.
    Tools,
    /// House rules: rooms, purity, file lengths.
    Tidy,
    /// Run the fuzz targets on mutated inputs.
    Fuzz {
        /// Mutated inputs for each target.
        #[arg(long, default_value_t = 1_000_000)]
        inputs: u64,
    },
    /// Run the Criterion benches, or the comparison with other servers.
    Bench(bench::Options),
    /// Run three regions in network namespaces and search everything they hold
    /// for what is another's; the report is target/residency/report.md.
    Residency(residency::Options),
    /// Calls for as long as one likes: fails when memory, descriptors, ports or
    /// sessions grow, or a call is without its record.
    Soak(soak::Options),
    /// Run a simulated cluster, seed by seed, and name the seeds that fail.
    Sim(sim::Options),
    /// Bans, licences, sources and, where the database is there, advisories.
    Deny,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Tools => tools::install(),
        Task::Tidy => tidy::run(),
        Task::Fuzz { inputs } => fuzz(inputs),
        Task::Bench(options) => bench::run(&options),
        Task::Residency(options) => residency::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Deny => deny::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(inputs: u64) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--release", "-p", "landline-fuzz", "--", "--nocapture"])
        .env("LANDLINE_FUZZ_INPUTS", inputs.to_string());
    execute(&mut command)
}

/// The workspace's root.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path.pop();
    path
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn execute(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("could not start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}
