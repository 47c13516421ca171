//! The model can fail: what is broken on purpose is noticed, and by what.

use landline_sim::{Plan, Sabotage, Trouble, run};

/// What the model says of the first of some runs that it finds fault with.
fn noticed(sabotage: Sabotage, troubles: &[Trouble]) -> String {
    for seed in 0..40 {
        let plan = Plan::calm(seed);
        assert!(run(plan.clone(), false).is_well(), "seed {seed} is well without");
        let plan = Plan { sabotage: Some(sabotage), troubles: troubles.to_vec(), ..plan };
        let outcome = run(plan, false);
        if let Some(fault) = outcome.faults.first() {
            assert!(!outcome.recent.is_empty());
            return fault.what.clone();
        }
    }
    panic!("{sabotage:?} goes unnoticed");
}

#[test]
fn a_disk_that_acknowledges_before_it_has_written() {
    let said = noticed(Sabotage::DiskForgets, &[Trouble::PowerCut]);
    assert!(
        ["is lost", "no record", "without a record"].iter().any(|it| said.contains(it)),
        "{said}"
    );
}

#[test]
fn a_database_that_drops_an_event() {
    let said = noticed(Sabotage::DatabaseDrops, &[]);
    assert!(said.contains("is lost"), "{said}");
}

#[test]
fn a_database_that_takes_an_event_twice() {
    let said = noticed(Sabotage::DatabaseDoubles, &[Trouble::DatabaseLies]);
    assert!(said.contains("were written"), "{said}");
}

#[test]
fn a_relay_that_crosses_two_calls() {
    let said = noticed(Sabotage::RelayCrosses, &[]);
    assert!(said.contains("hears") || said.contains("does not hear"), "{said}");
}

#[test]
fn a_relay_that_loses_packets() {
    let said = noticed(Sabotage::RelayLoses, &[]);
    assert!(said.contains("does not hear"), "{said}");
}

#[test]
fn a_border_that_leaks() {
    let said = noticed(Sabotage::BorderLeaks, &[]);
    assert!(said.contains("may not cross") || said.contains("crosses"), "{said}");
}

#[test]
fn ports_that_are_not_given_back() {
    let said = noticed(Sabotage::PortsLeak, &[]);
    assert!(said.contains("ports left"), "{said}");
}
