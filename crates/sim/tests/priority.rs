//! Two classes of requests: high ones are served as if there were no low ones, as long as they fit,
//! and low ones get the rest, but at least their share.

use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{Class, ModelId, Objective, Profile, Span};
use symphony_sim::{Delay, Mix, PolicyKind, Report, RequestCounts, Scenario, Split, run};
use symphony_workload::{Arrivals, Process, Stream};

/// One model of a case: `l(b) = alpha b + beta`, objective, share of low requests, rate.
struct Model {
    line_ms: (f64, f64),
    slo_ms: f64,
    low_share: f64,
    rate: f64,
}

const RESNET: (f64, f64) = (1.053, 5.072);

fn resnet(low_share: f64, rate: f64) -> Model {
    Model { line_ms: RESNET, slo_ms: 25.0, low_share, rate }
}

fn profile((alpha, beta): (f64, f64)) -> Profile {
    let ms = Span::from_millis_f64;
    Profile::linear(ms(alpha), ms(beta), 64).expect("valid profile")
}

fn simulate(
    models: &[Model],
    accelerators: u32,
    low_priority_share: f64,
    split: Option<Split>,
) -> Report {
    let ms = Span::from_millis_f64;
    let terms = |model: &Model| ModelTerms {
        profile: Arc::new(profile(model.line_ms)),
        objective: Objective::Slo(ms(model.slo_ms)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let (warmup, measured) = (Span::from_secs(2), Span::from_secs(8));
    let terms = models.iter().map(terms).collect();
    let mut scenario = Scenario::ideal(terms, accelerators, warmup, measured);
    scenario.low_priority_share = low_priority_share;
    scenario.split = split;
    for (sim, model) in scenario.models.iter_mut().zip(models) {
        sim.mix = Mix { low_share: model.low_share, tight: None };
    }
    let streams: Vec<_> = (0u32..)
        .zip(models)
        .map(|(id, model)| Stream::steady(ModelId::first(id), Process::Poisson, model.rate))
        .collect();
    let mut policy = PolicyKind::Consolidate.build(&scenario, &[]);
    let arrivals = Arrivals::new(&streams, 11).expect("valid streams");
    run(&scenario, &mut *policy, arrivals, 11)
}

fn of(report: &Report, class: Class) -> RequestCounts {
    let mut sum = RequestCounts::default();
    for model in &report.models {
        sum.offered += model.classes[class as usize].offered;
        sum.good += model.classes[class as usize].good;
    }
    sum
}

/// Checks that the bad share of high requests is at most `high_bad` percent and that low ones get
/// at least `low_good` requests per second, both with one shard for all models and with a shard for
/// each.
#[track_caller]
fn check(models: &[Model], accelerators: u32, high_bad: f64, low_good: f64) {
    let shards = u32::try_from(models.len()).expect("a few models");
    let message = Delay::Constant(Span::from_micros(5));
    let split = Some(Split { shards, message }).filter(|_| shards > 1);
    for split in std::iter::once(None).chain(split.map(Some)) {
        let report = simulate(models, accelerators, 0.05, split);
        let (high, low) = (of(&report, Class::High), of(&report, Class::Low));
        let good = low.good as f64 / report.measured.as_secs_f64();
        let bad = 100.0 * high.bad_share();
        let is_kept = bad <= high_bad && good >= low_good;
        assert!(is_kept, "high {bad:.2} % bad, low {good:.0} r/s, {split:?}");
    }
}

#[test]
fn high_requests_keep_their_objective_and_low_ones_get_what_is_left() {
    // One model. The pool can serve 5300 r/s.
    check(&[resnet(0.3, 5000.0)], 8, 0.1, 1450.0);
    check(&[resnet(0.5, 8000.0)], 8, 0.1, 1500.0);
    check(&[resnet(0.9, 16_000.0)], 8, 0.1, 3900.0);
    check(&[resnet(0.5, 26_000.0)], 24, 0.1, 4200.0);
    check(&[resnet(0.5, 560.0)], 1, 1.0, 150.0);
    // A model for each class. What is left of the accelerators shrinks with each model's batches.
    check(&[resnet(0.0, 2650.0), resnet(1.0, 5300.0)], 8, 0.1, 2500.0);
    check(&[resnet(0.0, 4770.0), resnet(1.0, 5300.0)], 8, 0.5, 600.0);
    check(&[resnet(0.0, 15_600.0), resnet(1.0, 17_400.0)], 24, 0.1, 1500.0);
    check(&[resnet(0.0, 190.0), resnet(1.0, 375.0)], 1, 1.0, 100.0);
    // The batches of low requests are longer than the objective of the high ones.
    let long = Model { line_ms: (5.09, 18.368), slo_ms: 150.0, low_share: 1.0, rate: 1760.0 };
    check(&[resnet(0.0, 2650.0), long], 8, 0.1, 400.0);
}

/// Checks that low requests get at least `share` of what high ones get when high requests alone
/// exceed the pool.
#[track_caller]
fn check_share(models: &[Model], accelerators: u32, share: f64) {
    let report = simulate(models, accelerators, share, None);
    let (high, low) = (of(&report, Class::High), of(&report, Class::Low));
    assert!(high.bad_share() > 0.2, "not an overload");
    // The share is one of time, and low batches are slightly smaller than high ones.
    let got = low.good as f64 / high.good as f64;
    assert!(got >= 0.8 * share, "{got:.3} of what high requests get, {share} was promised");
    assert!(
        got <= 2.0 * share + 0.02,
        "{got:.3} of what high requests get, for a share of {share}"
    );
}

#[test]
fn low_requests_get_their_share_where_high_ones_would_take_everything() {
    for share in [0.0, 0.05, 0.2] {
        check_share(&[resnet(0.5, 16_000.0)], 8, share);
        check_share(&[resnet(0.5, 52_000.0)], 24, share);
        check_share(&[resnet(0.0, 8000.0), resnet(1.0, 5300.0)], 8, share);
    }
}

#[test]
fn all_low_is_as_good_as_all_high() {
    for rate in [2000.0, 5200.0, 8000.0] {
        let good = |low_share| simulate(&[resnet(low_share, rate)], 8, 0.05, None).good_rate();
        assert!((good(1.0) - good(0.0)).abs() < 1e-9, "at {rate} r/s");
    }
}
