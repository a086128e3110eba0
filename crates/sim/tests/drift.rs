//! Execution times that drift away from the profiles: plans follow, for the model or for the one
//! accelerator that it concerns, and stand still when nothing moves.

use std::sync::Arc;
use symphony_core::sched::{Actions, Event, ModelTerms, Policy, Rule, Scheduler};
use symphony_core::{AcceleratorId, ModelId, Pace, Profile, Span, Time};
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

/// What happened, by second.
struct Seen {
    /// Share of the requests that arrived in each second and were late or dropped.
    bad: Vec<f64>,
    /// The first model's pace whenever it moved.
    paces: Vec<(Time, Pace)>,
    /// The accelerators' lags whenever one moved.
    lags: Vec<(Time, Vec<Pace>)>,
}

/// A scheduler whose estimates are watched.
struct Watched {
    scheduler: Scheduler,
    accelerators: u32,
    paces: Vec<(Time, Pace)>,
    lags: Vec<(Time, Vec<Pace>)>,
}

impl Policy for Watched {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        self.scheduler.on_event(now, event, todo);
        let pace = self.scheduler.stats(ModelId(0)).map_or(Pace::ONE, |stats| stats.pace);
        if self.paces.last().is_none_or(|(_, last)| *last != pace) {
            self.paces.push((now, pace));
        }
        let lags = (0..self.accelerators).map(|id| self.scheduler.lag(AcceleratorId(id)));
        let moved = self.lags.last().is_none_or(|(_, last)| !last.iter().copied().eq(lags.clone()));
        if moved {
            self.lags.push((now, lags.collect()));
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

fn run(rule: Rule, case: &Case) -> Seen {
    let ms = Span::from_millis_f64;
    let profile = Arc::new(Profile::linear(ms(1.053), ms(5.072), 64).expect("a profile"));
    let terms = ModelTerms { profile, slo: ms(25.0), queue_max: 10_000, priority: 5 };
    let models = vec![terms; case.models as usize];
    let seconds = usize::try_from(case.seconds).expect("few");
    let scenario = Scenario {
        execution_sigma: case.sigma,
        drift: Drift { changes: case.changes.clone() },
        ..Scenario::ideal(models, case.accelerators, Span::ZERO, Span::from_secs(case.seconds))
    };
    let mut scheduler = Scheduler::new(rule, case.accelerators);
    if !case.follows {
        scheduler = scheduler.with_fixed_profiles();
    }
    let accelerators = case.accelerators;
    let mut policy = Watched { scheduler, accelerators, paces: vec![], lags: vec![] };
    let stream = |model| {
        Stream::steady(ModelId(model), Process::Poisson, case.rate / f64::from(case.models))
    };
    let streams: Vec<_> = (0..case.models).map(stream).collect();
    let arrivals = Arrivals::new(&streams, 1).expect("rates");
    let (mut offered, mut bad) = (vec![0u32; seconds], vec![0u32; seconds]);
    let second = |time: Time| usize::try_from(time.0 / 1_000_000_000).expect("few");
    run_observed(&scenario, &mut policy, arrivals, 1, |observed| match observed {
        Observed::Arrived { now, .. } => offered[second(now)] += 1,
        Observed::Dropped { request, .. } | Observed::Answered { request, late: true, .. } => {
            bad[second(request.arrival)] += 1;
        }
        _ => {}
    });
    let share = |(bad, offered): (u32, u32)| f64::from(bad) / f64::from(offered.max(1));
    Seen {
        bad: bad.into_iter().zip(offered).map(share).collect(),
        paces: policy.paces,
        lags: policy.lags,
    }
}

fn step(at_s: u64, factor: f64, accelerators: Option<&[u32]>) -> Change {
    let at = Time(Span::from_secs(at_s).0);
    Change { at, factor, over: Span::ZERO, accelerators: accelerators.map(<[u32]>::to_vec) }
}

fn show(name: &str, seen: &Seen) {
    println!("== {name}");
    let bad: Vec<_> = seen.bad.iter().map(|b| format!("{:.1}", b * 100.0)).collect();
    println!("bad {}", bad.join(" "));
    println!("paces {}", seen.paces.len());
    for (t, p) in seen.paces.iter().take(40) {
        print!("{:.3}:{p} ", t.as_secs_f64());
    }
    println!();
    println!("lags {}", seen.lags.len());
    for (t, p) in seen.lags.iter().take(60) {
        print!(
            "{:.3}:{} ",
            t.as_secs_f64(),
            p.iter().map(|p| format!("{:.2}", p.as_f64())).collect::<Vec<_>>().join("/")
        );
    }
    println!();
}

#[test]
fn look() {
    for rule in [Rule::Deferred, Rule::Eager] {
        for (models, rate) in [(1, 4000.0), (10, 2800.0)] {
            for follows in [false, true] {
                let base = |changes, rate, seconds| Case {
                    models,
                    accelerators: 8,
                    rate,
                    seconds,
                    sigma: 0.05,
                    changes,
                    follows,
                };
                let n = format!("{rule:?} {models} models follows {follows}");
                show(
                    &format!("steady {n}"),
                    &run(rule, &Case { sigma: 0.1, ..base(vec![], rate, 60) }),
                );
                show(
                    &format!("one {n}"),
                    &run(
                        rule,
                        &base(vec![step(5, 2.0, Some(&[0])), step(15, 1.0, Some(&[0]))], rate, 20),
                    ),
                );
                show(
                    &format!("all {n}"),
                    &run(
                        rule,
                        &base(vec![step(5, 1.5, None), step(15, 1.0, None)], rate / 2.7, 20),
                    ),
                );
                show(
                    &format!("ramp {n}"),
                    &run(
                        rule,
                        &base(
                            vec![
                                Change { over: Span::from_secs(60), ..step(5, 1.3, None) },
                                Change { over: Span::from_secs(60), ..step(65, 0.7, None) },
                            ],
                            rate * 0.75,
                            140,
                        ),
                    ),
                );
            }
        }
    }
}
