//! Clusters whose processes fail: whatever a seed draws, nothing that has to be true is broken, and
//! few requests pay for it.

use symphony_sim::faults::{FaultCase, FaultKind, Survived, run, timeline};

/// What became of the requests of the first so many seeds.
fn survived(kind: FaultKind, seeds: u64) -> Survived {
    let mut all = Survived::default();
    for seed in 0..seeds {
        match run(&FaultCase::draw(seed, kind)) {
            Ok(survived) => all.add(&survived),
            Err(broken) => panic!("{broken}"),
        }
    }
    all
}

/// So many in a thousand requests.
#[track_caller]
fn at_most(thousandths: u64, count: u64, all: &Survived) {
    assert!(count * 1000 <= thousandths * all.requests, "{count}: {all:?}");
}

#[test]
fn nothing_is_broken_by_any_faults() {
    let all = survived(FaultKind::All, 10_000);
    assert!(all.faults > 20_000 && all.lost > 3000 && all.resubmitted > 3000, "{all:?}");
    at_most(30, all.requests - all.good, &all);
    at_most(2, all.timed_out, &all);
}

#[test]
fn what_a_lost_backend_ran_is_scheduled_again() {
    let all = survived(FaultKind::Backends, 1500);
    assert!(all.lost > 1000 && all.resubmitted > 1000, "{all:?}");
    at_most(5, all.failed, &all);
    at_most(1, all.timed_out, &all);
}

#[test]
fn the_next_scheduler_gets_what_is_alive() {
    let all = survived(FaultKind::Schedulers, 1500);
    // Those that were due before there was one.
    at_most(4, all.timed_out, &all);
    at_most(25, all.requests - all.good, &all);
}

#[test]
fn an_accelerator_that_is_lost_costs_what_it_ran() {
    let all = survived(FaultKind::Accelerators, 1500);
    assert!(all.lost > 300, "{all:?}");
    at_most(30, all.requests - all.good, &all);
}

#[test]
fn frontends_and_links_that_are_lost_cost_nobody_else() {
    let all = survived(FaultKind::Frontends, 1500);
    assert_eq!((all.lost, all.failed), (0, 0), "{all:?}");
    at_most(10, all.dropped, &all);
    let all = survived(FaultKind::Links, 1500);
    at_most(15, all.requests - all.good, &all);
}

/// Its accelerator is lost between the backend's first words to the scheduler and its welcome.
#[test]
fn an_accelerator_that_is_lost_before_its_backend_is_welcome_stays_out_of_the_pool() {
    let case = FaultCase::draw(104_063, FaultKind::All);
    assert!(timeline(&case).contains("LoseAccelerator"), "another case is drawn now");
    run(&case).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in 0..20 {
        let case = FaultCase::draw(seed, FaultKind::All);
        let told = timeline(&case);
        assert_eq!(told, timeline(&FaultCase::draw(seed, FaultKind::All)));
        let faults = told.lines().filter(|line| line.contains("--- ")).count() as u64;
        assert_eq!(run(&case).map(|survived| survived.faults), Ok(faults), "{told}");
    }
}
