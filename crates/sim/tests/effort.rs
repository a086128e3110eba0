//! Models without an objective: served at full throughput and in order, and after those with one.

use std::sync::Arc;
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{ModelId, Objective, Profile, Span, Time};
use symphony_sim::{Delay, Observed, PolicyKind, Report, Scenario, Split, run_observed};
use symphony_workload::{Arrivals, Process, Stream};

const ACCELERATORS: u32 = 8;

const SLO: Objective = Objective::Slo(Span::from_millis(25));
const SOFT: Objective = Objective::Soft(Span::from_millis(100));

/// Models with these objectives and requests per second; every one has `l(b) = 1.053 b + 5.072 ms`.
#[derive(Clone, Copy)]
struct Case<'a> {
    mode: Mode,
    models: &'a [(Objective, f64)],
    split: Option<Split>,
}

fn profile() -> Profile {
    let us = Span::from_micros;
    Profile::linear(us(1053), us(5072), 64).expect("valid profile")
}

/// Runs a case for six seconds of arrivals, and until every request has its outcome.
fn simulate(case: &Case<'_>, observe: impl FnMut(Observed<'_>)) -> Report {
    let terms = |&(objective, _): &(Objective, f64)| ModelTerms {
        profile: Arc::new(profile()),
        objective,
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let terms = case.models.iter().map(terms).collect();
    let (warmup, measured) = (Span::from_secs(1), Span::from_secs(5));
    let mut scenario = Scenario::ideal(terms, ACCELERATORS, warmup, measured);
    scenario.split = case.split;
    let stream = |(id, &(_, rate)): (u32, &(Objective, f64))| {
        Stream::steady(ModelId::first(id), Process::Poisson, rate)
    };
    let streams: Vec<_> = (0u32..).zip(case.models).map(stream).collect();
    let policy = match case.mode {
        Mode::Adaptive => PolicyKind::Adaptive,
        Mode::Consolidate => PolicyKind::Consolidate,
        Mode::Eager => PolicyKind::Eager,
    };
    let mut policy = policy.build(&scenario, &[]);
    let arrivals = Arrivals::new(&streams, 11).expect("valid streams");
    run_observed(&scenario, &mut *policy, arrivals, 11, observe)
}

fn dropped(report: &Report, model: usize) -> u64 {
    report.models[model].dropped.iter().sum()
}

#[test]
fn a_model_with_an_objective_keeps_it_beside_an_overload_without() {
    let message = Delay::Constant(Span::from_micros(5));
    for split in [None, Some(Split { shards: 2, message })] {
        for mode in [Mode::Adaptive, Mode::Consolidate] {
            let models = [(SLO, 4700.0), (SOFT, 6000.0)];
            let report = simulate(&Case { mode, models: &models, split }, |_| {});
            let bad = 100.0 * report.models[0].bad_share();
            assert!(bad < 0.5, "{}: {bad:.2} % bad, {split:?}", mode.name());
            assert_eq!(dropped(&report, 1), 0, "{}: best effort was dropped", mode.name());
        }
    }
}

#[test]
fn alone_it_is_served_in_order_and_at_full_throughput() {
    let thrifty = profile().thrifty();
    let batch = profile().exec(thrifty).as_secs_f64();
    let most = f64::from(ACCELERATORS * thrifty) / batch;
    for mode in [Mode::Adaptive, Mode::Consolidate, Mode::Eager] {
        let models = [(SOFT, 4000.0), (SOFT, 8000.0)];
        let (mut requests, mut ended, mut newest) = (0u32, Time::ZERO, [Time::ZERO; 2]);
        let report = simulate(&Case { mode, models: &models, split: None }, |seen| {
            let Observed::Started { start, requests: batch, end, .. } = seen else { return };
            requests += u32::try_from(batch.len()).expect("few");
            ended = ended.max(end);
            for request in batch {
                let newest = &mut newest[start.model.index()];
                assert!(request.arrival >= *newest, "{}: out of order", mode.name());
                *newest = request.arrival;
            }
        });
        let served = f64::from(requests) / ended.as_secs_f64();
        assert!(served > 0.98 * most, "{}: {served:.0} of {most:.0} r/s", mode.name());
        assert_eq!(dropped(&report, 0) + dropped(&report, 1), 0, "{}", mode.name());
        let waits = [0, 1].map(|model| report.models[model].latency(0.5).as_secs_f64());
        assert!((waits[0] / waits[1] - 1.0).abs() < 0.05, "{}: {waits:?}", mode.name());
    }
}
