//! `landline-sim`: runs seeds, and says which fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use landline_sim::{Fault, Outcome, Plan, run};
use serde_json::json;

#[derive(Parser)]
#[command(name = "landline-sim", about = "Runs a simulated cluster, seed by seed")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print every step of the run.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// A line of JSON for each run, and one for all.
    #[arg(long)]
    json: bool,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Default, serde::Serialize)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    simulated_hours: f64,
    calls: u64,
    answered: u64,
    cut_short: u64,
    restored: u64,
    taken_over: u64,
    parked: u64,
    taken: u64,
    proxy_deaths: u64,
    relay_deaths: u64,
    database_deaths: u64,
    troubles: u64,
    words_heard: u64,
    crossed: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if !outcome.is_well() {
            self.failed.push(outcome.seed);
        }
        self.simulated_hours += outcome.simulated_seconds as f64 / 3600.0;
        self.calls += outcome.calls;
        self.answered += outcome.answered;
        self.cut_short += outcome.lost;
        self.restored += outcome.restored;
        self.taken_over += outcome.taken_over;
        self.parked += outcome.parked;
        self.taken += outcome.taken;
        self.proxy_deaths += outcome.proxy_deaths;
        self.relay_deaths += outcome.relay_deaths;
        self.database_deaths += outcome.database_deaths;
        self.troubles += outcome.troubles;
        self.words_heard += outcome.words_heard;
        self.crossed += outcome.crossed;
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("landline-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every run was well.
fn work(arguments: &Arguments) -> Result<bool> {
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.clamp(1, 64) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = one(seed, arguments.trace);
                    let mut sum = sum.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    sum.add(&outcome);
                    report(arguments, &outcome, &sum);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    sum.failed.sort_unstable();
    let took = begun.elapsed().as_secs_f64();
    match arguments.json {
        true => println!("{}", json!({ "sum": sum, "seconds": took })),
        false => println!(
            "{} runs, {:.1} simulated hours in {took:.0} s: {} calls, {} answered, {} cut short, {} taken up, {} by another proxy; {} parked, {} of them taken; \
             {} deaths of proxies, {} of relays, {} of databases; failed: {:?}",
            sum.runs,
            sum.simulated_hours,
            sum.calls,
            sum.answered,
            sum.cut_short,
            sum.restored,
            sum.taken_over,
            sum.parked,
            sum.taken,
            sum.proxy_deaths,
            sum.relay_deaths,
            sum.database_deaths,
            sum.failed
        ),
    }
    Ok(sum.failed.is_empty())
}

/// A run that panics has failed as well.
fn one(seed: u64, aloud: bool) -> Outcome {
    let ran = catch_unwind(AssertUnwindSafe(|| run(Plan::of(seed), aloud)));
    ran.unwrap_or_else(|_| Outcome {
        seed,
        faults: vec![Fault { step: 0, what: "it panicked".to_owned() }],
        ..Outcome::default()
    })
}

fn report(arguments: &Arguments, outcome: &Outcome, sum: &Sum) {
    if arguments.json {
        return println!("{}", json!(outcome));
    }
    if !outcome.is_well() || arguments.seed.is_some() {
        let Outcome { seed, digest, steps, .. } = outcome;
        println!("seed {seed}: {steps} steps, digest {digest}, {} calls", outcome.calls);
        for Fault { step, what } in &outcome.faults {
            println!("  at step {step}: {what}");
        }
        if !outcome.is_well() && arguments.seed.is_none() {
            println!("  look at it: cargo xtask sim --seed {seed} --trace");
        }
    } else if sum.runs.is_multiple_of(50) {
        println!("{} runs, {} calls, {} failed", sum.runs, sum.calls, sum.failed.len());
    }
}
