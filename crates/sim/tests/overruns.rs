//! Measured overruns of executions must not reduce the pool's peak.

use std::sync::Arc;
use symphony_core::sched::{Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{ModelId, Objective, Profile, Span, Time};
use symphony_sim::{Contender, Scenario, run};
use symphony_workload::{Arrivals, Process, Stream};

/// A scheduler that has measured overruns.
struct Measured {
    scheduler: Scheduler,
    overrun: Span,
}

impl Policy for Measured {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        let added = match event {
            Event::AddModel { model, .. } => Some(model),
            _ => None,
        };
        self.scheduler.on_event(now, event, todo);
        if let Some(model) = added {
            let overrun = Event::SetOverrun { model, overrun: self.overrun };
            self.scheduler.on_event(now, overrun, todo);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.scheduler.settle(now, todo);
    }

    fn next_wake(&self) -> Option<Time> {
        self.scheduler.next_wake()
    }
}

impl Contender for Measured {}

/// The good requests per second of a wide dense model on one accelerator.
fn good_rate(overrun_ms: f64, rate: f64) -> f64 {
    let ms = Span::from_millis_f64;
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(ms(0.444), ms(6.644), 32).expect("a profile")),
        objective: Objective::Slo(ms(29.4)),
        queue_max: 10_000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let scenario = Scenario::ideal(vec![terms], 1, Span::from_secs(1), Span::from_secs(10));
    let scheduler = Scheduler::new(Mode::Consolidate, 1);
    let mut policy = Measured { scheduler, overrun: ms(overrun_ms) };
    let stream = Stream::steady(ModelId::first(0), Process::Poisson, rate);
    let arrivals = Arrivals::new(&[stream], 1).expect("a rate");
    run(&scenario, &mut policy, arrivals, 1).good_rate()
}

#[test]
fn no_measured_overrun_costs_more_than_a_sixth_of_the_good_requests() {
    for rate in [600.0, 1200.0, 2400.0] {
        let undisturbed = good_rate(0.0, rate);
        for overrun_ms in [2.0, 8.0, 15.0, 20.0, 25.0, 1000.0] {
            let good = good_rate(overrun_ms, rate);
            let least = undisturbed * 5.0 / 6.0;
            assert!(good >= least, "{good} of {undisturbed} at {rate} r/s, overrun {overrun_ms}");
        }
    }
}
