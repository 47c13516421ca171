//! Calls for minutes or hours, and what grows meanwhile.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::postgres::Cluster;
use crate::{cargo, execute, tools};

#[derive(Args)]
pub struct Options {
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Pairs of phones that talk and are recorded.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pairs: u32,
    /// Calls that SIPp holds besides.
    #[arg(long, value_name = "N", default_value_t = 200)]
    calls: u32,
    /// On a private PostgreSQL instead of SQLite.
    #[arg(long)]
    postgres: bool,
    /// Put the figures into this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    tools::install()?;
    let mut soak = cargo();
    soak.args(["test", "-p", "landline", "--test", "real_soak", "--", "--nocapture", "--exact"])
        .arg("memory_descriptors_and_ports_stay_flat_and_come_back")
        .env("LANDLINE_SOAK_SECONDS", (options.minutes * 60).to_string())
        .env("LANDLINE_SOAK_PAIRS", options.pairs.to_string())
        .env("LANDLINE_SOAK_CALLS", options.calls.to_string())
        .env("LANDLINE_REQUIRE_TOOLS", "1");
    if let Some(file) = &options.json {
        soak.env("LANDLINE_SOAK_JSON", std::path::absolute(file)?);
    }
    let cluster = match options.postgres {
        true => Some(Cluster::start("soak")?.context("PostgreSQL is not installed")?),
        false => None,
    };
    if let Some(cluster) = &cluster {
        soak.env("LANDLINE_SOAK_POSTGRES", format!("{}/postgres?sslmode=disable", cluster.url()));
    }
    execute(&mut soak)
}
