//! A measured model in the simulator: batches vary as widely as was measured, and the scheduler that
//! serves knows as much of it.

use anyhow::Result;
use std::sync::Arc;
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{Delays, Objective, Profile, Slowdown, Span};
use symphony_sim::bound::bound;
use symphony_sim::goodput::{BOUND_SLACK, Goodput, OfferedLoad, Search, run_at};
use symphony_sim::{Delay, Network, PolicyKind, Scenario};
use symphony_workload::Process;

/// Requests of one simulated run: enough to tell one per cent of them from two.
const REQUESTS: f64 = 10_000.0;

/// A run lasts for so many times its objective, at least.
const OBJECTIVES: f64 = 10.0;

/// The queue's bound plays no part: what is late is dropped long before.
const QUEUE_MAX: u32 = 1_000_000;

/// A model with one objective, in a pool of its own.
#[derive(Clone, Debug)]
pub(crate) struct MeasuredModel {
    /// What batches take: means, and how far they spread.
    pub(crate) profile: Arc<Profile>,
    pub(crate) objective: Span,
    pub(crate) accelerators: u32,
    pub(crate) mode: Mode,
    /// What surrounds an execution.
    pub(crate) delays: Delays,
}

impl MeasuredModel {
    /// The highest rate of requests of one row, Poisson, of which 99 % are answered in time.
    ///
    /// # Errors
    /// The load cannot be simulated.
    pub(crate) fn goodput(&self) -> Result<f64> {
        let most = bound(&self.profile, self.objective, self.accelerators);
        let search = Search {
            scenario: &self.scenario(most),
            load: &OfferedLoad::new(&[1.0], Process::Poisson),
            policies: &[policy(self.mode)],
            seeds: &[1],
            rate_max: most * BOUND_SLACK,
            threads: 1,
        };
        Ok(search.run(|_| {})?.first().map_or(0.0, Goodput::median))
    }

    /// The share of the requests that are late or dropped at such a rate, Poisson.
    ///
    /// # Errors
    /// The load cannot be simulated.
    pub(crate) fn bad_share(&self, rate: f64) -> Result<f64> {
        let load = OfferedLoad::new(&[1.0], Process::Poisson);
        let report = run_at(&self.scenario(rate), &load, &policy(self.mode), rate, 1)?;
        Ok(report.models.first().map_or(0.0, symphony_sim::ModelReport::bad_share))
    }

    /// Long enough for requests at such a rate to tell something.
    fn scenario(&self, rate: f64) -> Scenario {
        let measured_s = (REQUESTS / rate.max(1.0)).max(OBJECTIVES * self.objective.as_secs_f64());
        let seconds = |seconds: f64| Span::from_millis_f64(seconds * 1e3);
        let terms = ModelTerms {
            profile: Arc::clone(&self.profile),
            objective: Objective::Slo(self.objective),
            queue_max: QUEUE_MAX,
            loss_weight: 1.0,
            lane_of: None,
        };
        let (warmup, time) = (seconds(measured_s / 5.0), seconds(measured_s));
        let mut scenario = Scenario::ideal(vec![terms], self.accelerators, warmup, time);
        spread_times(&mut scenario, typical_spread(&self.profile));
        scenario.network = Network {
            control: Delay::Constant(self.delays.control),
            data: Delay::Constant(self.delays.data),
            response: Delay::Constant(self.delays.response),
        };
        scenario.noise.timer = Delay::Constant(self.delays.jitter);
        scenario
    }
}

/// Has batches take the times of their profiles on average, and spread so far.
pub(crate) fn spread_times(scenario: &mut Scenario, spread: f64) {
    let variance = spread * spread;
    scenario.execution_sigma = variance.ln_1p().sqrt();
    // The simulator's times are log-normal, and what they are drawn around is their median.
    let median = Span::from_millis_f64(1e3 / (1.0 + variance).sqrt());
    let median = Slowdown::of(median, Span::from_secs(1));
    for model in &mut scenario.models {
        let profile = Profile::clone(&model.actual);
        let slowdown = median.times(profile.slowdown());
        model.actual = Arc::new(profile.at_slowdown(slowdown));
    }
}

/// How far times spread, whatever the batch: the median over its sizes.
pub(crate) fn typical_spread(profile: &Profile) -> f64 {
    let mut spreads: Vec<f64> = (1..=profile.rows_max()).map(|b| profile.spread(b)).collect();
    spreads.sort_by(f64::total_cmp);
    spreads.get(spreads.len() / 2).copied().unwrap_or(0.0)
}

fn policy(mode: Mode) -> PolicyKind {
    match mode {
        Mode::Adaptive => PolicyKind::Adaptive,
        Mode::Consolidate => PolicyKind::Consolidate,
        Mode::Eager => PolicyKind::Eager,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(spread: f64) -> MeasuredModel {
        let ms = Span::from_millis;
        let profile = Profile::linear(ms(1), ms(5), 16).unwrap().with_spread(&[(1, spread)]);
        MeasuredModel {
            profile: Arc::new(profile),
            objective: ms(25),
            accelerators: 2,
            mode: Mode::Adaptive,
            delays: Delays { response: ms(1), ..Delays::default() },
        }
    }

    #[test]
    fn times_that_vary_cost_goodput_and_bad_requests() {
        let [steady, varying] = [0.0, 0.3].map(model);
        assert_eq!(typical_spread(&varying.profile), 0.3);
        let goodput = [&steady, &varying].map(|model| model.goodput().unwrap());
        assert!(goodput[0] > 1.05 * goodput[1] && goodput[1] > 0.0, "{goodput:?}");
        let bad = [&steady, &varying].map(|model| model.bad_share(0.9 * goodput[0]).unwrap());
        assert!(bad[0] < 0.01 && bad[0] < bad[1], "{bad:?}");
    }

    #[test]
    fn times_are_spread_around_their_mean() {
        let scenario = model(0.3).scenario(1000.0);
        let mean = scenario.models[0].actual.exec(5).as_millis_f64()
            * (scenario.execution_sigma.powi(2) / 2.0).exp();
        assert!((mean - 10.0).abs() < 1e-3, "{mean}");
        assert_eq!(scenario.delays().response, Span::from_millis(1));
    }
}
