//! The whole test run.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::postgres::Cluster;
use crate::{cargo, deny, execute, tidy, tools};

/// The regions that get a PostgreSQL cluster of their own.
const REGIONS: [&str; 3] = ["us1", "ie1", "au1"];

#[derive(Args)]
pub struct Options {
    /// Only the tests whose name contains this.
    filter: Option<String>,
    /// Leave out formatting, lints and house rules.
    #[arg(long)]
    quick: bool,
}

pub fn run_checks() -> Result<()> {
    tidy::run()?;
    deny::run_if_installed()?;
    execute(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    execute(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

pub fn run(options: &Options) -> Result<()> {
    let mut summary = Vec::new();
    let mut step = |name: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let begun = Instant::now();
        eprintln!("── {name}");
        let result = work();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        summary.push(format!("{name}: {outcome} ({} s)", begun.elapsed().as_secs()));
        result
    };

    step("tools", &mut || {
        tools::install()?;
        tools::cargo_tool("cargo-nextest")
    })?;
    if !options.quick {
        step("tidy, deny, format, lints", &mut run_checks)?;
    }
    let mut clusters = Vec::new();
    step("databases", &mut || {
        for region in REGIONS {
            clusters.extend(Cluster::start(region)?.map(|cluster| (region, cluster)));
        }
        Ok(())
    })?;
    step("build", &mut || execute(cargo().args(["nextest", "run", "--workspace", "--no-run"])))?;

    let mut tests = cargo();
    tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(&options.filter);
    for (region, cluster) in &clusters {
        tests.env(format!("LANDLINE_TEST_POSTGRES_{}", region.to_uppercase()), cluster.url());
    }
    if let Some((_, cluster)) = clusters.first() {
        tests.env("LANDLINE_TEST_POSTGRES", cluster.url());
    }
    if tools::complete() {
        // With everything installed, a test that skips itself is a failure.
        tests.env("LANDLINE_REQUIRE_TOOLS", "1");
    }
    eprintln!("── {}\n── tests", summary.join("\n── "));
    execute(&mut tests)
}
