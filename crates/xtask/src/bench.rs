//! Measurements: Criterion for the pure crates, whole servers beside their
//! peers for the rest.

use anyhow::{Context, Result};
use clap::Args;
use std::process::Command;

use crate::{cargo, execute, root};

#[derive(Args)]
pub struct Options {
    /// Compare whole servers: Landline, Kamailio and rtpengine in one run.
    #[arg(long)]
    peers: bool,
    /// Passed on: a Criterion filter, or the parts of the comparison.
    arguments: Vec<String>,
}

pub fn run_criterion(arguments: &[String]) -> Result<()> {
    execute(cargo().args(["bench", "-p", "landline-benches", "--"]).args(arguments))
}

pub fn run(options: &Options) -> Result<()> {
    if !options.peers {
        return run_criterion(&options.arguments);
    }
    execute(cargo().args([
        "build",
        "--release",
        "-p",
        "landline",
        "-p",
        "landline-benches",
        "--bins",
    ]))?;
    let peers = root().join("benches/peers");
    execute(Command::new(peers.join("beside.sh")).current_dir(&peers).args(&options.arguments))
        .context("benches/peers/install.sh installs Kamailio and rtpengine")
}
