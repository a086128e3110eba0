//! Executions that are interrupted now and then must not reduce the pool's peak by more than they take.

use std::sync::Arc;
use symphony_core::sched::{Mode, ModelTerms, Scheduler};
use symphony_core::{Objective, Profile, Span};
use symphony_sim::{Noise, Scenario, Tail, run};
use symphony_workload::{Arrivals, Process, Stream};

/// The good requests per second of a wide dense model on one accelerator, of whose batches this share
/// takes so many times as long.
fn good_rate(mode: Mode, share: f64, factor: f64, rate: f64) -> f64 {
    let ms = Span::from_millis_f64;
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(ms(0.444), ms(6.644), 32).expect("a profile")),
        objective: Objective::Slo(ms(29.4)),
        queue_max: 10_000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let ideal = Scenario::ideal(vec![terms], 1, Span::from_secs(1), Span::from_secs(20));
    let noise = Noise { tail: Some(Tail { share, factor }), ..Noise::default() };
    let scenario = Scenario { noise, ..ideal };
    let mut scheduler = Scheduler::new(mode, 1);
    let stream = Stream::steady(symphony_core::ModelId::first(0), Process::Poisson, rate);
    let arrivals = Arrivals::new(&[stream], 1).expect("a rate");
    run(&scenario, &mut scheduler, arrivals, 1).good_rate()
}

#[test]
fn interruptions_cost_no_more_than_a_sixth_beyond_the_time_that_they_take() {
    for mode in [Mode::Adaptive, Mode::Consolidate] {
        for rate in [600.0, 1200.0, 2400.0] {
            let undisturbed = good_rate(mode, 0.0, 1.0, rate);
            for (share, factor) in [(0.01, 3.0), (0.01, 10.0), (0.05, 3.0), (0.1, 2.0)] {
                let good = good_rate(mode, share, factor, rate);
                // The time, and the requests of the batches that wait behind a long one.
                let taken = 1.0 + 2.0 * share * (factor - 1.0);
                let least = undisturbed / taken * 5.0 / 6.0;
                assert!(
                    good >= least,
                    "{mode:?}: {good} of {undisturbed} at {rate} r/s, {share} of them {factor} times"
                );
            }
        }
    }
}
