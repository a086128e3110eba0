//! Requests of different sizes: every rule gives each its one outcome, and lanes that follow cost and
//! load hold what no rule without them does.

use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{Objective, Profile, SizedProfile, Span};
use symphony_sim::goodput::{OfferedLoad, run_at};
use symphony_sim::{Delay, DrawnSizes, Report, Scenario, Sizes, Split};
use symphony_workload::Process;

/// A text encoder with `l(b, s) = 0.0020566 s b + 5.072` ms for up to 512 tokens, four times the longest
/// text as its objective, on eight accelerators.
fn scenario(seconds: u64) -> Scenario {
    let line = |size: u64| {
        let alpha = Span::from_millis_f64(2.0566e-3 * size as f64);
        (size, Profile::linear(alpha, Span::from_millis_f64(5.072), 64).expect("a profile"))
    };
    let costs = SizedProfile::new(vec![line(1), line(512)]).expect("sizes that grow");
    let largest = costs.at(512);
    let objective = Objective::Slo(largest.exec(1).times(4));
    let profile = Arc::new(largest);
    let terms =
        ModelTerms { profile, objective, queue_max: u32::MAX, loss_weight: 1.0, lane_of: None };
    let mut scenario =
        Scenario::ideal(vec![terms], 8, Span::from_secs(3), Span::from_secs(seconds));
    let drawn = DrawnSizes::log_normal(40.0, 400.0);
    scenario.models[0].sizes = Some(Sizes { costs: Arc::new(costs), drawn });
    scenario
}

fn run(scenario: &Scenario, policy: &str, rate: f64) -> Report {
    let load = OfferedLoad::new(&[1.0], Process::Poisson);
    let policy = policy.parse().expect("a policy");
    run_at(scenario, &load, &policy, rate, 7).expect("a load")
}

#[test]
fn every_rule_gives_each_request_one_outcome() {
    let mut scenario = scenario(1);
    let rules = ["", "/padded", "/equal", "/buckets", "/borders:64:128"];
    for split in [None, Some(Split { shards: 3, message: Delay::Constant(Span::ZERO) })] {
        scenario.split = split;
        for mode in ["adaptive", "consolidate", "eager"] {
            for rule in rules {
                let policy = format!("{mode}{rule}");
                let report = run(&scenario, &policy, 3000.0);
                let model = &report.models[0];
                let dropped: u64 = model.dropped.iter().sum();
                assert_eq!(model.offered, model.good + model.late + dropped, "{policy}");
                assert!(model.offered > 2500 && model.good > 0, "{policy}: {model:?}");
            }
        }
    }
    scenario.split = None;
    let rival = run(&scenario, "nexus", 3000.0);
    assert!(rival.models[0].good > 0, "a rival pads all to the bound");
}

#[test]
fn lanes_hold_what_padding_to_the_bound_and_equal_sizes_do_not() {
    let scenario = scenario(3);
    let bad = |policy: &str, rate: f64| run(&scenario, policy, rate).worst_bad_share();
    let rate = 2.5 * 5400.0;
    assert!(bad("adaptive/padded", 5000.0) < 0.01);
    assert!(bad("adaptive", rate) < 0.001, "{}", bad("adaptive", rate));
    for rule in ["adaptive/padded", "adaptive/equal"] {
        assert!(bad(rule, rate) > 0.3, "{rule}: {}", bad(rule, rate));
    }
}

#[test]
fn split_and_whole_deal_requests_alike() {
    let mut scenario = scenario(1);
    let whole = run(&scenario, "adaptive", 8000.0);
    scenario.split = Some(Split { shards: 2, message: Delay::Constant(Span::ZERO) });
    let split = run(&scenario, "adaptive", 8000.0);
    assert_eq!(whole.models[0].good, split.models[0].good);
}
