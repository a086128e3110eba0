//! Execution times drift away from the profiles. Plans follow, for the affected model or the one
//! affected accelerator, and stay the same when nothing changes.

use std::sync::Arc;
use symphony_core::sched::{Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{AcceleratorId, ModelId, Objective, Profile, Slowdown, Span, Time};
use symphony_sim::{Change, Contender, Drift, Observed, Scenario, run_observed};
use symphony_workload::{Arrivals, Process, Stream};

/// A pool whose executions drift.
struct Case {
    models: u32,
    accelerators: u32,
    /// Requests per second in total.
    rate: f64,
    seconds: u64,
    sigma: f64,
    changes: Vec<Change>,
    follows: bool,
}

/// What happened in each second.
struct Seen {
    /// The share of the requests that arrived in each second and were late or dropped.
    bad: Vec<f64>,
    /// The first model's slowdown, whenever it changed.
    model_slowdowns: Vec<(Time, Slowdown)>,
    /// The accelerators' slowdowns, whenever one changed.
    accelerator_slowdowns: Vec<(Time, Vec<Slowdown>)>,
    /// The batches that started on the first accelerator, by second.
    first: Vec<u32>,
}

/// A scheduler whose estimates are recorded.
struct Watched {
    scheduler: Scheduler,
    accelerators: u32,
    model_slowdowns: Vec<(Time, Slowdown)>,
    accelerator_slowdowns: Vec<(Time, Vec<Slowdown>)>,
}

impl Policy for Watched {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        self.scheduler.on_event(now, event, todo);
        let slowdown =
            self.scheduler.stats(ModelId::first(0)).map_or(Slowdown::ONE, |stats| stats.slowdown);
        if self.model_slowdowns.last().is_none_or(|(_, last)| *last != slowdown) {
            self.model_slowdowns.push((now, slowdown));
        }
        let accelerator_slowdowns =
            (0..self.accelerators).map(|id| self.scheduler.accelerator_slowdown(AcceleratorId(id)));
        let moved = self
            .accelerator_slowdowns
            .last()
            .is_none_or(|(_, last)| !last.iter().copied().eq(accelerator_slowdowns.clone()));
        if moved {
            self.accelerator_slowdowns.push((now, accelerator_slowdowns.collect()));
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.scheduler.settle(now, todo);
    }

    fn next_wake(&self) -> Option<Time> {
        self.scheduler.next_wake()
    }
}

impl Contender for Watched {
    fn follows(&self) -> bool {
        self.scheduler.follows()
    }
}

fn run(mode: Mode, case: &Case) -> Seen {
    let ms = Span::from_millis_f64;
    let profile = Arc::new(Profile::linear(ms(1.053), ms(5.072), 64).expect("a profile"));
    let terms = ModelTerms {
        profile,
        objective: Objective::Slo(ms(25.0)),
        queue_max: 10_000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let models = vec![terms; case.models as usize];
    let seconds = usize::try_from(case.seconds).expect("few");
    let scenario = Scenario {
        execution_sigma: case.sigma,
        drift: Drift { changes: case.changes.clone() },
        ..Scenario::ideal(models, case.accelerators, Span::ZERO, Span::from_secs(case.seconds))
    };
    let mut scheduler = Scheduler::new(mode, case.accelerators);
    if !case.follows {
        scheduler = scheduler.with_fixed_profiles();
    }
    let accelerators = case.accelerators;
    let mut policy =
        Watched { scheduler, accelerators, model_slowdowns: vec![], accelerator_slowdowns: vec![] };
    let stream = |model| {
        Stream::steady(ModelId::first(model), Process::Poisson, case.rate / f64::from(case.models))
    };
    let streams: Vec<_> = (0..case.models).map(stream).collect();
    let arrivals = Arrivals::new(&streams, 1).expect("rates");
    let [mut offered, mut bad, mut first] = [(); 3].map(|()| vec![0u32; seconds]);
    let second = |time: Time| usize::try_from(time.0 / 1_000_000_000).expect("few");
    run_observed(&scenario, &mut policy, arrivals, 1, |observed| match observed {
        Observed::Arrived { now, .. } => offered[second(now)] += 1,
        Observed::Dropped { request, .. } | Observed::Answered { request, late: true, .. } => {
            bad[second(request.arrival)] += 1;
        }
        Observed::Started { now, start, .. } if start.accelerator.0 == 0 => {
            first[second(now).min(seconds - 1)] += 1;
        }
        _ => {}
    });
    let share = |(bad, offered): (u32, u32)| f64::from(bad) / f64::from(offered.max(1));
    Seen {
        bad: bad.into_iter().zip(offered).map(share).collect(),
        model_slowdowns: policy.model_slowdowns,
        accelerator_slowdowns: policy.accelerator_slowdowns,
        first,
    }
}

fn step(at_s: u64, factor: f64, accelerators: Option<&[u32]>) -> Change {
    let at = Time(Span::from_secs(at_s).0);
    Change { at, factor, over: Span::ZERO, accelerators: accelerators.map(<[u32]>::to_vec) }
}

const MODES: [Mode; 3] = [Mode::Consolidate, Mode::Adaptive, Mode::Eager];

/// One model on eight accelerators, at a rate that they can serve.
fn usual() -> Case {
    Case {
        models: 1,
        accelerators: 8,
        rate: 3500.0,
        seconds: 20,
        sigma: 0.05,
        changes: vec![],
        follows: true,
    }
}

impl Seen {
    /// The first model's slowdowns between two times.
    fn model_slowdowns(&self, from_s: f64, to_s: f64) -> Vec<f64> {
        let first = self.model_slowdowns.partition_point(|(at, _)| at.as_secs_f64() <= from_s) - 1;
        let model_slowdowns =
            self.model_slowdowns[first..].iter().take_while(|(at, _)| at.as_secs_f64() < to_s);
        model_slowdowns.map(|(_, slowdown)| slowdown.as_f64()).collect()
    }

    /// An accelerator's slowdowns between two times.
    fn accelerator_slowdowns(&self, number: usize, from_s: f64, to_s: f64) -> Vec<f64> {
        let first =
            self.accelerator_slowdowns.partition_point(|(at, _)| at.as_secs_f64() <= from_s) - 1;
        let accelerator_slowdowns = self.accelerator_slowdowns[first..]
            .iter()
            .take_while(|(at, _)| at.as_secs_f64() < to_s);
        accelerator_slowdowns
            .map(|(_, accelerator_slowdowns)| accelerator_slowdowns[number].as_f64())
            .collect()
    }

    #[track_caller]
    fn check_bad(&self, seconds: std::ops::Range<usize>, most: f64) {
        let worst = self.bad[seconds].iter().copied().fold(0.0, f64::max);
        assert!(worst <= most, "{worst} bad in a second: {:?}", self.bad);
    }
}

#[track_caller]
fn check_within(values: &[f64], low: f64, high: f64) {
    assert!(values.iter().all(|value| (low..=high).contains(value)), "{values:?}");
}

#[test]
fn nothing_moves_while_executions_take_what_the_profile_says() {
    for mode in MODES {
        for models in [1, 10] {
            let seen = run(mode, &Case { models, sigma: 0.0, rate: 2500.0, ..usual() });
            assert_eq!(
                (seen.model_slowdowns.len(), seen.accelerator_slowdowns.len()),
                (1, 1),
                "{mode:?} {models}"
            );
        }
    }
}

#[test]
fn spread_alone_moves_next_to_nothing() {
    for mode in MODES {
        let seen = run(mode, &Case { sigma: 0.1, rate: 3000.0, seconds: 120, ..usual() });
        assert_eq!(
            seen.accelerator_slowdowns.len(),
            1,
            "{mode:?}: {:?}",
            seen.accelerator_slowdowns
        );
        check_within(&seen.model_slowdowns(1.0, 120.0), 0.97, 1.03);
        assert!(seen.model_slowdowns.len() <= 8, "{mode:?}: {:?}", seen.model_slowdowns);
    }
}

#[test]
fn a_step_on_one_accelerator_is_its_own() {
    for mode in MODES {
        for models in [1, 10] {
            let changes = vec![step(5, 2.0, Some(&[2])), step(12, 1.0, Some(&[2]))];
            let rate = if models == 1 { 3500.0 } else { 2000.0 };
            let seen = run(mode, &Case { models, rate, changes, seconds: 60, ..usual() });
            check_within(&seen.accelerator_slowdowns(2, 5.4, 12.0), 1.8, 2.4);
            // An accelerator that is not needed cannot show that it is fast again, so its slowdown
            // is forgotten.
            check_within(&seen.accelerator_slowdowns(2, 50.0, 60.0), 1.0, 1.0);
            for other in [0, 1, 3, 7] {
                check_within(&seen.accelerator_slowdowns(other, 0.0, 60.0), 1.0, 1.0);
            }
            // The models' plans do not change.
            check_within(&seen.model_slowdowns(5.0, 60.0), 0.95, 1.05);
            seen.check_bad(6..60, 0.01);
        }
    }
}

#[test]
fn a_step_on_all_is_the_models() {
    for mode in MODES {
        let changes = vec![step(5, 1.5, None), step(12, 1.0, None)];
        let case = Case { rate: 1500.0, changes, ..usual() };
        let seen = run(mode, &case);
        check_within(&seen.model_slowdowns(5.5, 12.0), 1.5 * 0.95, 1.5 * 1.05);
        check_within(&seen.model_slowdowns(13.5, 20.0), 0.95, 1.05);
        (0..8).for_each(|number| {
            check_within(&seen.accelerator_slowdowns(number, 5.5, 20.0), 1.0, 1.0)
        });
        seen.check_bad(6..20, 0.01);
        let fixed = run(mode, &Case { follows: false, ..case });
        assert!(fixed.bad[6] > 0.01, "{mode:?}: nothing to follow: {:?}", fixed.bad);
    }
}

#[test]
fn slow_drifts_are_followed() {
    let ramp = |at_s, factor| Change { over: Span::from_secs(60), ..step(at_s, factor, None) };
    for mode in MODES {
        let changes = vec![ramp(5, 1.3), ramp(65, 0.7)];
        let case = Case { rate: 3000.0, seconds: 130, changes, ..usual() };
        let seen = run(mode, &case);
        seen.check_bad(1..130, 0.01);
        check_within(&seen.model_slowdowns(64.0, 66.0), 1.3 * 0.95, 1.3 * 1.05);
        check_within(&seen.model_slowdowns(129.0, 130.0), 0.7 * 0.95, 0.7 * 1.05);
        assert!(seen.model_slowdowns.len() < 80, "{:?}", seen.model_slowdowns);
        let fixed = run(mode, &Case { follows: false, ..case });
        assert!(fixed.bad[64] > 0.1, "{mode:?}: nothing to follow: {:?}", fixed.bad);
    }
}

#[test]
fn at_low_load_a_slow_accelerator_is_left_alone_and_tried_again() {
    // Two accelerators are enough for this load, and the first is always the first choice.
    for mode in MODES {
        let changes = vec![step(5, 3.0, Some(&[0])), step(40, 1.0, Some(&[0]))];
        let seen = run(mode, &Case { rate: 250.0, seconds: 80, changes, ..usual() });
        check_within(&seen.accelerator_slowdowns(0, 10.0, 11.0), 2.0, 3.6);
        let batches = |seconds: std::ops::Range<usize>| seen.first[seconds].iter().sum::<u32>();
        assert!(batches(6..12) * 10 < batches(0..5), "{mode:?}: {:?}", seen.first);
        assert!(batches(75..80) * 2 > batches(0..5), "{mode:?}: {:?}", seen.first);
        let bad = seen.bad.iter().sum::<f64>() / seen.bad.len() as f64;
        assert!(bad < 0.005, "{mode:?}: {bad}: {:?}", seen.bad);
    }
}

#[test]
fn an_accelerator_on_which_nothing_is_in_time_gets_nothing() {
    for mode in MODES {
        let changes = vec![step(3, 6.0, Some(&[0]))];
        let seen = run(mode, &Case { rate: 3000.0, seconds: 10, changes, ..usual() });
        // A request alone takes 6 ms, and 36 ms there.
        assert_eq!(seen.first[5..9].iter().sum::<u32>(), 0, "{mode:?}: {:?}", seen.first);
        seen.check_bad(4..10, 0.01);
    }
}

#[test]
fn accelerators_that_slow_down_one_after_the_other_are_a_drift_in_the_end() {
    for mode in MODES {
        let changes = (0..8).map(|number| step(3 + 2 * u64::from(number), 1.5, Some(&[number])));
        let case = Case { rate: 1500.0, seconds: 30, changes: changes.collect(), ..usual() };
        let seen = run(mode, &case);
        check_within(&seen.model_slowdowns(22.0, 30.0), 1.5 * 0.95, 1.5 * 1.05);
        (0..8).for_each(|number| {
            check_within(&seen.accelerator_slowdowns(number, 22.0, 30.0), 1.0, 1.0)
        });
        seen.check_bad(20..30, 0.01);
    }
}

#[test]
fn of_two_accelerators_the_slower_one_lags_and_alone_none_does() {
    for mode in MODES {
        let changes = vec![step(5, 2.0, Some(&[1]))];
        let case = Case { accelerators: 2, rate: 400.0, changes, ..usual() };
        let seen = run(mode, &case);
        check_within(&seen.accelerator_slowdowns(1, 7.0, 20.0), 1.7, 2.4);
        check_within(&seen.accelerator_slowdowns(0, 7.0, 20.0), 1.0, 1.0);
        let changes = vec![step(5, 1.5, None)];
        let seen = run(mode, &Case { accelerators: 1, rate: 60.0, changes, ..case });
        assert_eq!(seen.accelerator_slowdowns.len(), 1, "{mode:?}");
        check_within(&seen.model_slowdowns(7.0, 20.0), 1.5 * 0.95, 1.5 * 1.05);
    }
}

#[test]
fn a_model_that_became_too_slow_for_its_objective_recovers() {
    for mode in MODES {
        let changes = vec![step(3, 6.0, None), step(8, 1.0, None)];
        let seen = run(mode, &Case { rate: 1000.0, changes, ..usual() });
        assert!(seen.bad[6] > 0.9, "{mode:?}: {:?}", seen.bad);
        seen.check_bad(10..20, 0.01);
    }
}
