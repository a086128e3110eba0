//! Goodput: the highest offered rate at which every model still has at most 1 % bad requests.

use crate::{PolicyKind, Report, Scenario, run};
use std::sync::atomic::{AtomicUsize, Ordering};
use symphony_core::ModelId;
use symphony_workload::{Arrivals, Process, Stream, WorkloadError};

/// The largest share of late or dropped requests that any model may have.
pub const BAD_SHARE_MAX: f64 = 0.01;

/// The upper end of a search, as a multiple of the bound of any schedule. A finite run exceeds the
/// bound slightly, because its last batches end after the measured time.
pub const BOUND_SLACK: f64 = 1.05;

/// The bisection stops when its interval is this share of the rate.
const PRECISION: f64 = 0.002;

/// How a total rate is split over models, and the process of their arrivals.
#[derive(Clone, Debug)]
pub struct OfferedLoad {
    /// The streams. The rate of each is its weight in the total rate, which is never zero.
    pub streams: Vec<Stream>,
}

impl OfferedLoad {
    /// Makes one stream per model with these weights. Models of weight zero have none.
    #[must_use]
    pub fn new(weights: &[f64], process: Process) -> OfferedLoad {
        let streams = (0u32..)
            .zip(weights)
            .filter(|(_, weight)| **weight != 0.0)
            .map(|(number, weight)| Stream::steady(ModelId::first(number), process, *weight))
            .collect();
        OfferedLoad { streams }
    }

    /// The streams for a total of `rate` requests per second.
    #[must_use]
    pub fn at(&self, rate: f64) -> Vec<Stream> {
        let total: f64 = self.streams.iter().map(|stream| stream.rate).sum();
        let scaled =
            |stream: &Stream| Stream { rate: rate * stream.rate / total, ..stream.clone() };
        self.streams.iter().map(scaled).collect()
    }

    /// The requests per second of each of `models` models at a total of `rate`.
    #[must_use]
    pub fn rates(&self, rate: f64, models: usize) -> Vec<f64> {
        let mut rates = vec![0.0; models];
        for stream in self.at(rate) {
            if let Some(sum) = rates.get_mut(stream.model.index()) {
                *sum += stream.rate;
            }
        }
        rates
    }
}

/// Simulates one run at a total of `rate` requests per second.
///
/// # Errors
/// A stream cannot be generated.
pub fn run_at(
    scenario: &Scenario,
    load: &OfferedLoad,
    policy: &PolicyKind,
    rate: f64,
    seed: u64,
) -> Result<Report, WorkloadError> {
    let arrivals = Arrivals::new(&load.at(rate), seed)?;
    let mut policy = policy.build(scenario, &load.rates(rate, scenario.models.len()));
    Ok(run(scenario, &mut *policy, arrivals, seed))
}

/// The goodput searches of each policy with each seed. Every policy receives the same arrivals.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The pool.
    pub scenario: &'a Scenario,
    /// The load.
    pub load: &'a OfferedLoad,
    /// The policies.
    pub policies: &'a [PolicyKind],
    /// The seeds.
    pub seeds: &'a [u64],
    /// The highest rate to try, in requests per second.
    pub rate_max: f64,
    /// The number of searches that run at the same time; at least one.
    pub threads: usize,
}

/// The goodput of one policy in requests per second, for each seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Goodput {
    /// The goodput with each seed, in the order of the seeds.
    pub by_seed: Vec<f64>,
    /// The highest rate of the search.
    pub rate_max: f64,
}

impl Goodput {
    /// The median over the seeds. Of two in the middle, the lower one.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.by_seed.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    }

    /// The lowest and the highest goodput over the seeds.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let fold =
            |start, pick: fn(f64, f64) -> f64| self.by_seed.iter().copied().fold(start, pick);
        (fold(f64::INFINITY, f64::min), fold(0.0, f64::max))
    }

    /// The number of seeds with which every rate that was tried was held. Their goodput may be
    /// higher.
    #[must_use]
    pub fn held_all(&self) -> usize {
        let highest = self.rate_max * (1.0 - PRECISION);
        self.by_seed.iter().filter(|rate| **rate >= highest).count()
    }

    /// The number of seeds with which no rate was held, down to [`Goodput::rate_min`].
    #[must_use]
    pub fn held_nothing(&self) -> usize {
        self.by_seed.iter().filter(|rate| **rate <= 0.0).count()
    }

    /// The lowest rate of the search.
    #[must_use]
    pub fn rate_min(&self) -> f64 {
        self.rate_max * FLOOR
    }
}

impl Search<'_> {
    /// Runs the searches and returns the goodput of each policy, in order. `progress` is called
    /// after each simulated run, from any thread, with the share of the work that is done, 0 to 1.
    ///
    /// # Errors
    /// A stream cannot be generated.
    pub fn run(&self, progress: impl Fn(f64) + Sync) -> Result<Vec<Goodput>, WorkloadError> {
        let simulate = |policy, rate, seed| run_at(self.scenario, self.load, &policy, rate, seed);
        self.sought().run(simulate, progress)
    }

    fn sought(&self) -> Sought<'_> {
        let Search { policies, seeds, rate_max, threads, .. } = *self;
        Sought { policies, seeds, rate_max, threads }
    }
}

/// The searches of each policy with each seed, for anything that can be simulated, such as recorded
/// requests.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// The policies.
    pub policies: &'a [PolicyKind],
    /// The seeds.
    pub seeds: &'a [u64],
    /// The highest rate to try, in requests per second.
    pub rate_max: f64,
    /// The number of searches that run at the same time; at least one.
    pub threads: usize,
}

impl Sought<'_> {
    /// Runs the searches and returns the goodput of each policy, in order. `simulate` makes one run
    /// of a policy at a rate with a seed. `progress` is called after each run with the share of the
    /// work that is done, 0 to 1. Both are called from any thread.
    ///
    /// # Errors
    /// The first error that `simulate` returned, in the order of policies and seeds.
    pub fn run<E: Send>(
        &self,
        simulate: impl Fn(PolicyKind, f64, u64) -> Result<Report, E> + Sync,
        progress: impl Fn(f64) + Sync,
    ) -> Result<Vec<Goodput>, E> {
        let jobs = self.policies.len() * self.seeds.len();
        let (next, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let worker = || {
            let mut results = Vec::new();
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    return results;
                }
                let (policy, seed) = (job / self.seeds.len(), job % self.seeds.len());
                let held = |rate| {
                    let report = simulate(self.policies[policy], rate, self.seeds[seed])?;
                    let runs = runs.fetch_add(1, Ordering::Relaxed) + 1;
                    progress((runs as f64 / (jobs * RUNS_TYPICAL) as f64).min(1.0));
                    Ok(report.worst_bad_share() <= BAD_SHARE_MAX)
                };
                results.push((job, bisect(self.rate_max, held)));
            }
        };
        let mut results = side_by_side(self.threads.clamp(1, jobs.max(1)), worker);
        results.sort_unstable_by_key(|(job, _)| *job);
        let results = results.into_iter().map(|(_, result)| result);
        let by_seed = results.collect::<Result<Vec<_>, _>>()?;
        let goodput =
            |by_seed: &[f64]| Goodput { by_seed: by_seed.to_vec(), rate_max: self.rate_max };
        Ok(by_seed.chunks(self.seeds.len().max(1)).map(goodput).collect())
    }
}

/// Runs `worker` on each of this many threads and joins the results.
#[expect(clippy::disallowed_methods, reason = "whole searches run side by side; each run replays")]
fn side_by_side<T: Send>(threads: usize, worker: impl Fn() -> Vec<T> + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&worker)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|result| result.expect("a simulation does not panic")).collect()
    })
}

/// The number of runs that a bisection typically needs.
const RUNS_TYPICAL: usize = 10;

/// The lowest rate of a search, as a share of the highest. It ends the search for a policy that
/// holds no rate.
const FLOOR: f64 = 1e-3;

/// Finds the highest rate up to `rate_max` for which `held` is true, by bisection.
fn bisect<E>(rate_max: f64, held: impl Fn(f64) -> Result<bool, E>) -> Result<f64, E> {
    let (mut low, mut high) = (0.0, rate_max);
    while high - low > PRECISION * high && high > rate_max * FLOOR {
        let middle = (low + high) / 2.0;
        if held(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// The fewest accelerators, up to `accelerators_max`, with which every model has at most 1 % bad
/// requests with every seed. `None` when even all of them are too few. `simulate` makes one run on
/// a number of accelerators with a seed.
///
/// # Errors
/// The first error that `simulate` returned.
pub fn fewest_accelerators<E>(
    seeds: &[u64],
    accelerators_max: u32,
    simulate: impl Fn(u32, u64) -> Result<Report, E>,
) -> Result<Option<u32>, E> {
    let held = |accelerators| {
        for &seed in seeds {
            if simulate(accelerators, seed)?.worst_bad_share() > BAD_SHARE_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // Double first: runs with far too many accelerators are slow.
    let (mut failed, mut tried) = (0, 1.min(accelerators_max));
    while !held(tried)? {
        if tried >= accelerators_max {
            return Ok(None);
        }
        (failed, tried) = (tried, tried.saturating_mul(2).min(accelerators_max));
    }
    while tried - failed > 1 {
        let middle = failed + (tried - failed) / 2;
        if held(middle)? { tried = middle } else { failed = middle }
    }
    Ok(Some(tried))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64) -> Goodput {
        let rate = bisect(1000.0, |rate| Ok::<_, ()>(rate <= limit)).unwrap();
        Goodput { by_seed: vec![rate], rate_max: 1000.0 }
    }

    #[test]
    fn a_search_says_when_it_found_no_limit() {
        for (limit, all, nothing) in [(1e9, 1, 0), (700.0, 0, 0), (990.0, 0, 0), (0.5, 0, 1)] {
            let found = found(limit);
            assert_eq!((found.held_all(), found.held_nothing()), (all, nothing), "{limit}");
            assert!(nothing == 1 || all == 1 || (found.median() / limit - 1.0).abs() < 0.003);
        }
        assert_eq!(found(0.5).rate_min(), 1.0);
    }
}
