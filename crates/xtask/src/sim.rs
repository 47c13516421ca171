//! The simulated cluster, seed by seed.

use anyhow::Result;

use crate::{cargo, execute};

#[derive(clap::Args)]
pub struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step of that one.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// A line of JSON for each run, and one for all.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "-p", "landline-sim", "--"]);
    match options.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => {
            let (seeds, from) = (options.seeds.to_string(), options.from.to_string());
            command.args(["--seeds", &seeds, "--from", &from])
        }
    };
    command.args(options.trace.then_some("--trace"));
    command.args(options.json.then_some("--json"));
    execute(&mut command)
}
