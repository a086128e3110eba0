//! Random scenarios, so that no scheduler is judged only by the cases that it was made for. This
//! knows no policy.

use crate::Noise;
use crate::Scenario;
use crate::bound;
use crate::goodput::{BOUND_SLACK, Goodput, OfferedLoad, Search, run_at};
use crate::knobs::{FoundKnobs, KnobSearch};
use crate::policy::PolicyKind;
use std::ops::RangeInclusive;
use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{Objective, Profile, Span};
use symphony_workload::random::Random;
use symphony_workload::{Popularity, Process, WorkloadError};

/// A pool and its load: 1 to 8 models with `l(b) = alpha b + beta`, alpha 0.2 to 6 ms (small ones
/// more often), beta 1 to 10 times alpha, the objective 2.5 to 6 times `l(1)`; popularity Zipf 0 to
/// 1.2; gaps gamma distributed with a coefficient of variation of 0.5 to 3; 1 to 24 accelerators.
#[derive(Clone, Debug)]
pub struct RandomCase {
    /// The models, the most popular first.
    pub models: Vec<RandomModel>,
    /// The number of accelerators.
    pub accelerators: u32,
    /// The exponent of the Zipf popularity.
    pub zipf: f64,
    /// The coefficient of variation of the gaps between a model's requests.
    pub cv: f64,
    /// The share of each model in the requests; they add up to one.
    shares: Vec<f64>,
    seed: u64,
    execution_sigma: f64,
    noise: Noise,
}

/// A model with `l(b) = alpha b + beta`.
#[derive(Clone, Debug)]
pub struct RandomModel {
    /// Time per row.
    pub alpha: Span,
    /// Time per batch.
    pub beta: Span,
    /// The objective.
    pub slo: Span,
    profile: Arc<Profile>,
}

const ROWS_MAX: u32 = 64;
const WARMUP: Span = Span::from_secs(1);
/// The requests that a run needs of each model at the best goodput: enough that one bad request by
/// chance is far below the 1 % that is allowed.
const REQUESTS_MIN: f64 = 2000.0;
const SECONDS_MIN: f64 = 5.0;
/// Runs are repeated only when they have to be at least this many times as long.
const LONG_ENOUGH: f64 = 2.0;
/// The most repetitions, each with longer runs.
const LONGER_MAX: u32 = 3;
/// When no policy reaches this share of the rate-limited bound, runs are as long as if one did.
const SHARE_MIN: f64 = 0.01;

impl RandomCase {
    /// Draws case `number` of a seed. It does not depend on the other cases.
    ///
    /// # Errors
    /// None in these ranges: the check is the same as for any popularity.
    ///
    /// # Panics
    /// Never in these ranges: all profiles in them are valid.
    pub fn draw(seed: u64, number: u64) -> Result<RandomCase, WorkloadError> {
        let mut random = Random::numbered(seed, number);
        let mut between = |range: RangeInclusive<f64>| {
            range.start() + random.uniform() * (range.end() - range.start())
        };
        let count = whole(between(1.0..=8.0));
        let mut models = Vec::new();
        for _ in 0..count {
            let root = between(0.0..=1.0);
            let alpha = 0.2 + root * root * 5.8;
            let beta = alpha * between(1.0..=10.0);
            let slo = (alpha + beta) * between(2.5..=6.0);
            let [alpha, beta, slo] = [alpha, beta, slo].map(Span::from_millis_f64);
            let profile = Profile::linear(alpha, beta, ROWS_MAX).expect("a growing line is valid");
            models.push(RandomModel { alpha, beta, slo, profile: Arc::new(profile) });
        }
        let accelerators = whole(between(1.0..=24.0));
        let zipf = between(0.0..=1.2);
        let shares = Popularity::Zipf(zipf).shares(models.len())?;
        let cv = between(0.5..=3.0);
        Ok(RandomCase {
            models,
            accelerators,
            zipf,
            cv,
            shares,
            seed,
            execution_sigma: 0.0,
            noise: Noise::default(),
        })
    }

    /// The same with executions that [vary](Scenario::execution_sigma), and other noise.
    #[must_use]
    pub fn with_noise(self, execution_sigma: f64, noise: Noise) -> RandomCase {
        RandomCase { execution_sigma, noise, ..self }
    }

    /// The rate that [`bound::rate_limited`] gives, in requests per second.
    #[must_use]
    pub fn rate_limited(&self) -> f64 {
        let mix = self.models.iter().zip(&self.shares);
        let mix: Vec<_> = mix.map(|(model, &share)| (&*model.profile, model.slo, share)).collect();
        bound::rate_limited(&mix, self.accelerators)
    }

    /// The goodput of every policy on the same requests. The first seed is the case's own; the
    /// others follow it.
    ///
    /// # Errors
    /// The rate of a model cannot be simulated.
    pub fn goodput(
        &self,
        policies: &[PolicyKind],
        seeds: u32,
    ) -> Result<Vec<Goodput>, WorkloadError> {
        let seeds: Vec<u64> = (0..u64::from(seeds)).map(|k| self.seed.wrapping_add(k)).collect();
        let mut seconds = self.seconds(self.rate_limited());
        let mut found = self.search(policies, &seeds, seconds)?;
        for _ in 0..LONGER_MAX {
            let lowest = self.rate_limited() * SHARE_MIN;
            let needed = self.seconds(found.iter().map(Goodput::median).fold(lowest, f64::max));
            if needed <= seconds * LONG_ENOUGH {
                break;
            }
            seconds = needed;
            found = self.search(policies, &seeds, seconds)?;
        }
        Ok(found)
    }

    /// The knobs of the fixed rule that hold most in this case, with one seed of requests.
    ///
    /// # Errors
    /// The rate of a model cannot be simulated.
    pub fn knobs(&self, tries: u32) -> Result<FoundKnobs, WorkloadError> {
        let scenario = self.scenario(self.seconds(self.rate_limited()));
        let rows_max = KnobSearch::rows_max(scenario.models.iter().map(|sim| &sim.terms));
        let (seeds, rate_max) = ([self.seed], self.bound() * BOUND_SLACK);
        let search = KnobSearch { seeds: &seeds, rate_max, rows_max, margin_max: 2.0, tries };
        let load = OfferedLoad::new(&self.shares, Process::Gamma { cv: self.cv });
        search.run(|policy, rate, seed| run_at(&scenario, &load, &policy, rate, seed), || {})
    }

    fn search(
        &self,
        policies: &[PolicyKind],
        seeds: &[u64],
        seconds: f64,
    ) -> Result<Vec<Goodput>, WorkloadError> {
        let load = OfferedLoad::new(&self.shares, Process::Gamma { cv: self.cv });
        let (scenario, rate_max) = (self.scenario(seconds), self.bound() * BOUND_SLACK);
        let (scenario, load) = (&scenario, &load);
        Search { scenario, load, policies, seeds, rate_max, threads: 1 }.run(|_| {})
    }

    /// How long the least popular model must be measured at a rate, in seconds.
    fn seconds(&self, rate: f64) -> f64 {
        let least = self.shares.iter().copied().fold(1.0, f64::min);
        (REQUESTS_MIN / (least * rate)).max(SECONDS_MIN)
    }

    fn scenario(&self, seconds: f64) -> Scenario {
        let terms = |model: &RandomModel| ModelTerms {
            profile: Arc::clone(&model.profile),
            objective: Objective::Slo(model.slo),
            queue_max: u32::MAX,
            loss_weight: 1.0,
            lane_of: None,
        };
        let measured = Span::from_millis_f64(seconds * 1e3);
        let models = self.models.iter().map(terms).collect();
        let ideal = Scenario::ideal(models, self.accelerators, WARMUP, measured);
        let noise = self.noise.clone();
        Scenario { execution_sigma: self.execution_sigma, noise, ..ideal }
    }

    /// The rate that no schedule can exceed: every model always runs the largest batch within its
    /// objective.
    fn bound(&self) -> f64 {
        let per_request = |(model, share): (&RandomModel, &f64)| {
            share
                * match self.noise.bimodal {
                    Some(bimodal) => bimodal.seconds_per_row(&model.profile, model.slo),
                    None => 1.0 / bound::bound(&model.profile, model.slo, 1),
                }
        };
        let work: f64 = self.models.iter().zip(&self.shares).map(per_request).sum();
        f64::from(self.accelerators) / work
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(number: f64) -> u32 {
    number.round() as u32
}
