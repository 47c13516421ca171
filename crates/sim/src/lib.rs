//! A whole cluster in one process under a virtual clock, from one seed.
//!
//! Two regions with proxies, relays, ledgers and databases, phones behind NATs,
//! and strangers. What is real: `sip::Endpoint`, `call::Core`, the control
//! messages in their frames, the relay's core with `media::Leg`, and the
//! ledger's files. What stands in for the rest (network, disks, databases,
//! people) fails in every way it can, and a model says what must hold
//! whatever happens. One seed replays one run exactly.

mod chance;
mod chaos;
mod check;
mod cx;
mod database;
mod disk;
mod journal;
mod model;
mod phone;
mod plan;
mod proxy;
mod relay;
mod stranger;
mod stream;
mod tenants;
mod trace;
mod world;

pub use model::Fault;
pub use plan::{Plan, Sabotage, Trouble};

use world::World;

/// What a run came to.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Outcome {
    pub seed: u64,
    /// Of everything that happened; equal for equal runs.
    pub digest: String,
    pub steps: u64,
    pub simulated_seconds: u64,
    pub calls: u64,
    pub answered: u64,
    /// Calls that were cut short by a death.
    pub lost: u64,
    /// Calls that outlived their proxy.
    pub restored: u64,
    /// And went on with another.
    pub taken_over: u64,
    /// Parties that were parked, and taken by somebody.
    pub parked: u64,
    pub taken: u64,
    pub words_heard: u64,
    pub crossed: u64,
    pub proxy_deaths: u64,
    pub relay_deaths: u64,
    pub database_deaths: u64,
    pub troubles: u64,
    pub faults: Vec<Fault>,
    /// The last remarks, where something is at fault.
    pub recent: Vec<String>,
}

impl Outcome {
    pub fn is_well(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Runs a plan to its end; `aloud` prints every step.
pub fn run(plan: Plan, aloud: bool) -> Outcome {
    let mut world = World::new(plan, aloud);
    world.run();
    let cx = &world.cx;
    let rows = || cx.databases.iter().flat_map(|database| database.calls.values());
    let is_lost = |row: &&database::Row| {
        let closed = row.closed.as_ref();
        closed.is_some_and(|(_, it)| it.cause == landline_call::record::Cause::Lost)
    };
    Outcome {
        seed: cx.plan.seed,
        digest: format!("{:016x}", cx.trace.digest()),
        steps: cx.trace.steps,
        simulated_seconds: cx.at().as_secs(),
        calls: rows().count() as u64,
        answered: rows().filter(|row| row.answered.is_some()).count() as u64,
        lost: rows().filter(is_lost).count() as u64,
        restored: cx.model.restored,
        taken_over: cx.model.taken_over,
        parked: cx.model.parked,
        taken: cx.model.taken,
        words_heard: cx.model.words_heard,
        crossed: cx.model.crossed,
        proxy_deaths: cx.model.proxy_deaths,
        relay_deaths: cx.model.relay_deaths,
        database_deaths: cx.model.database_deaths,
        troubles: cx.model.struck,
        faults: cx.model.faults.clone(),
        recent: match cx.model.faults.is_empty() {
            true => Vec::new(),
            false => cx.trace.recent().cloned().collect(),
        },
    }
}
