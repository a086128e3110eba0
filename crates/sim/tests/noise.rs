//! Noise is the same for every policy, and costs as much as it says.

use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{ModelId, Objective, Profile, Span, Time};
use symphony_sim::goodput::{OfferedLoad, run_at};
use symphony_sim::{
    Bimodal, Delay, Noise, Observed, PolicyKind, Scenario, Spells, Strikes, Tail, run_observed,
};
use symphony_workload::{Arrivals, Process, Stream};

/// One model with `l(b) = 1.053 b + 5.072 ms`, an objective of 25 ms and batches of so many rows.
fn scenario(rows_max: u32, accelerators: u32) -> Scenario {
    let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(alpha, beta, rows_max).expect("valid profile")),
        objective: Objective::Slo(Span::from_millis(25)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    Scenario::ideal(vec![terms], accelerators, Span::from_millis(500), Span::from_secs(10))
}

fn policies(names: &str) -> impl Iterator<Item = PolicyKind> {
    names.split(' ').map(|name| name.parse().expect("a policy"))
}

/// When each batch began and ended.
fn batches(scenario: &Scenario, policy: PolicyKind, rate: f64) -> Vec<(Time, Time)> {
    let stream = Stream::steady(ModelId::first(0), Process::Poisson, rate);
    let arrivals = Arrivals::new(&[stream], 5).expect("a rate");
    let mut policy = policy.build(scenario, &[rate]);
    let mut batches = Vec::new();
    run_observed(scenario, &mut *policy, arrivals, 5, |observed| {
        if let Observed::Started { begin, end, .. } = observed {
            batches.push((begin, end));
        }
    });
    batches
}

#[test]
fn noise_is_the_same_for_every_policy() {
    let spells =
        |strikes| Spells { per_second: 1.0, length: Span::from_millis(100), factor: 2.0, strikes };
    let kinds = [
        Noise { tail: Some(Tail { share: 0.05, factor: 2.0 }), ..Noise::default() },
        Noise { bimodal: Some(Bimodal { share: 0.5, factor: 0.4 }), ..Noise::default() },
        Noise { spells: vec![spells(Strikes::One), spells(Strikes::All)], ..Noise::default() },
        Noise { first_batch: Some(2.0), ..Noise::default() },
    ];
    let quiet = batches(&scenario(1, 4), PolicyKind::Eager, 20.0);
    for noise in kinds {
        // Requests that run alone start at once under each of these rules.
        let noisy = Scenario { noise, execution_sigma: 0.1, ..scenario(1, 4) };
        let first = batches(&noisy, PolicyKind::Eager, 20.0);
        assert!(first != quiet, "{:?}", noisy.noise);
        for policy in policies("timeout:0 fixed:1:1:1 shepherd orloj adaptive") {
            let other = batches(&noisy, policy, 20.0);
            assert!(other == first, "{policy}: {:?}", noisy.noise);
        }
    }
}

#[test]
fn nothing_waits_while_accelerators_are_idle() {
    for accelerators in [1, 8, 1000] {
        let scenario = scenario(16, accelerators);
        let of = |policy: PolicyKind| batches(&scenario, policy, 20.0);
        let eager = of(PolicyKind::Eager);
        assert!(of(PolicyKind::Orloj { sure: 0 }) == eager, "{accelerators} accelerators");
        assert!(of(PolicyKind::Orloj { sure: 95 }) == eager, "{accelerators} accelerators");
    }
}

#[test]
fn late_timers_hold_up_what_waits_and_nothing_else() {
    let timer = Delay::Constant(Span::from_millis(1));
    let late = Scenario { noise: Noise { timer, ..Noise::default() }, ..scenario(16, 4) };
    let begins = |scenario: &Scenario, policy: &str| -> Vec<Time> {
        let policy = policy.parse().expect("a policy");
        batches(scenario, policy, 20.0).into_iter().map(|(begin, _)| begin).collect()
    };
    // Without a wish to wait nothing is woken.
    assert_eq!(begins(&late, "eager"), begins(&scenario(16, 4), "eager"));
    // A time-out passes unnoticed for a millisecond.
    let (on_time, waited) = (begins(&scenario(16, 4), "timeout:5"), begins(&late, "timeout:5"));
    let delayed = on_time.iter().filter(|time| waited.contains(&(**time + Span::from_millis(1))));
    let (delayed, all) = (delayed.count(), on_time.len());
    assert!(delayed * 10 > all * 9, "{delayed} of {all}");
}

/// The share of bad requests.
fn bad(scenario: &Scenario, policy: PolicyKind, rate: f64) -> f64 {
    let load = OfferedLoad::new(&[1.0], Process::Poisson);
    run_at(scenario, &load, &policy, rate, 3).expect("a rate").worst_bad_share()
}

#[test]
fn a_scheduler_made_for_distributions_loses_less_to_them() {
    let early = Noise { bimodal: Some(Bimodal { share: 0.5, factor: 0.4 }), ..Noise::default() };
    let one = Scenario { execution_sigma: 0.1, ..scenario(64, 1) };
    let eight = Scenario { noise: early, ..scenario(64, 8) };
    for (scenario, rate) in [(one, 380.0), (eight, 7000.0)] {
        let orloj = bad(&scenario, PolicyKind::Orloj { sure: 0 }, rate);
        assert!(orloj < 0.02, "{orloj}");
        for policy in policies("eager clockwork shepherd timeout:2") {
            let other = bad(&scenario, policy, rate);
            assert!(other > 1.5 * orloj, "{policy}: {other}, orloj {orloj}");
        }
    }
}

#[test]
fn where_times_are_certain_it_holds_what_an_eager_scheduler_does() {
    // That holds 381 and 5 009 r/s.
    for (accelerators, rate) in [(1, 380.0), (8, 5000.0)] {
        let scenario = scenario(64, accelerators);
        let orloj = bad(&scenario, PolicyKind::Orloj { sure: 0 }, rate);
        assert!(orloj < 0.01, "{orloj} on {accelerators}");
    }
}
