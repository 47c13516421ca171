//! A fixed set of seeds, a few fresh ones, and each that once failed.

use std::time::{SystemTime, UNIX_EPOCH};

use landline_sim::{Outcome, Plan, run};

fn well(plan: Plan) -> Outcome {
    let seed = plan.seed;
    let outcome = run(plan, false);
    let (faults, recent) = (&outcome.faults, outcome.recent.join("\n"));
    assert!(
        outcome.is_well(),
        "seed {seed}: {faults:#?}\n{recent}\nlook at it: cargo xtask sim --seed {seed} --trace"
    );
    outcome
}

#[test]
fn a_fixed_set_of_seeds_holds() {
    let outcomes: Vec<_> = (0..60).map(|seed| well(Plan::of(seed))).collect();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    // Enough happened for it to mean something.
    assert!(sum(|it| it.answered) > 500, "{} calls answered", sum(|it| it.answered));
    assert!(sum(|it| it.proxy_deaths) > 20 && sum(|it| it.relay_deaths) > 20);
    assert!(sum(|it| it.parked) > 30 && sum(|it| it.taken) > 10);
    assert!(sum(|it| it.crossed) > 500 && sum(|it| it.words_heard) > 50_000);
}

#[test]
fn a_few_fresh_seeds_hold() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = (1 << 32) + since.as_secs() * 2;
    println!("fresh seeds from {first}");
    (first..first + 2).for_each(|seed| drop(well(Plan::of(seed))));
}

#[test]
fn a_cluster_that_nothing_happens_to_serves_every_call() {
    for seed in 0..6 {
        let outcome = well(Plan::calm(seed));
        assert_eq!(outcome.lost, 0);
        assert!(outcome.answered > 3, "seed {seed}: {} answered", outcome.answered);
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 14, 159] {
        let (first, second) = (run(Plan::of(seed), false), run(Plan::of(seed), false));
        assert_eq!((first.digest, first.steps), (second.digest, second.steps), "seed {seed}");
    }
    assert_ne!(run(Plan::of(1), false).digest, run(Plan::of(2), false).digest);
}

/// A colleague whose phone is in another region, called with a Subject: the
/// INVITE was stopped at the border.
#[test]
fn seed_7_rings_a_phone_that_is_away() {
    well(Plan::of(7));
}

/// The wall clock stepped back during calls: their records ended before they began.
#[test]
fn seed_25_measures_calls_by_the_clock_that_does_not_jump() {
    well(Plan::of(25));
}

/// A power cut left half of the checkpoint, which is not synced: its last number
/// was another, and the rest of the segment was passed over.
#[test]
fn seed_48_reads_no_half_checkpoint() {
    well(Plan::of(48));
}

/// Links to relays break and stand again: what the proxy gave up must not stay
/// on the relay for ever.
#[test]
fn seed_44_leaves_no_session_behind_a_broken_link() {
    well(Plan::of(44));
}

/// A BYE to another region went into a connection that nobody held any more.
#[test]
fn seed_211_hangs_up_over_a_new_connection() {
    well(Plan::of(211));
}

/// A 200, damaged on its way, came again and seemed to be a second
/// phone's; the BYE for that one ended the call.
#[test]
fn seeds_201417_and_300271_survive_an_answer_that_comes_again_damaged() {
    [201_417, 300_271].into_iter().for_each(|seed| drop(well(Plan::of(seed))));
}

/// A BYE and the 481 to a change that it crossed.
#[test]
fn seed_100458_says_who_hung_up() {
    well(Plan::of(100_458));
}

/// A response whose second Via was damaged crossed without any.
#[test]
fn seed_100548_answers_the_way_the_request_came() {
    well(Plan::of(100_548));
}

/// Both phones of a held call were gone, and neither knew of session timers.
#[test]
fn seed_567_ends_a_held_call_that_nobody_is_in_any_more() {
    well(Plan::of(567));
}

/// A proxy whose clock was two hours fast had numbered a record's steps by it, and
/// the end that the next owner wrote was dropped as an earlier one.
#[test]
fn seed_1042_numbers_by_the_relay_where_there_is_one() {
    well(Plan::of(1042));
}
