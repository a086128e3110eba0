//! Goodput: the highest offered rate at which every model still has at most 1 % bad requests.

use crate::{Report, Scenario, run};
use symphony_core::ModelId;
use symphony_core::sched::Policy;
use symphony_workload::{Arrivals, Process, Stream, WorkloadError};

/// The share of late or dropped requests that no model may pass.
pub const BAD_SHARE_MAX: f64 = 0.01;

/// Bisection stops when the interval is this share of the rate.
const PRECISION: f64 = 0.002;

/// How a total rate is split over models, and what their arrivals look like.
#[derive(Clone, Debug)]
pub struct Load {
    /// Weight of each model in the total rate.
    pub weights: Vec<f64>,
    /// The arrival process of each.
    pub process: Process,
}

impl Load {
    /// The streams for a total of `rate` requests per second.
    #[must_use]
    pub fn streams(&self, rate: f64) -> Vec<Stream> {
        let total: f64 = self.weights.iter().sum();
        (0u32..)
            .zip(&self.weights)
            .map(|(number, weight)| Stream {
                model: ModelId(number),
                process: self.process,
                rate: rate * weight / total,
            })
            .collect()
    }
}

/// One run at a total of `rate` requests per second.
///
/// # Errors
/// A model's share of the rate is not positive.
pub fn run_at<P: Policy>(
    scenario: &Scenario,
    load: &Load,
    policy: impl Fn() -> P,
    rate: f64,
    seed: u64,
) -> Result<Report, WorkloadError> {
    let arrivals = Arrivals::new(&load.streams(rate), seed)?;
    Ok(run(scenario, &mut policy(), arrivals))
}

/// The goodput for one seed, by bisection between zero and `rate_max` requests per second.
///
/// # Errors
/// A model's weight or `rate_max` is not positive.
pub fn goodput<P: Policy>(
    scenario: &Scenario,
    load: &Load,
    policy: impl Fn() -> P,
    rate_max: f64,
    seed: u64,
) -> Result<f64, WorkloadError> {
    let (mut held, mut failed) = (0.0, rate_max);
    while failed - held > PRECISION * failed {
        let rate = (held + failed) / 2.0;
        let report = run_at(scenario, load, &policy, rate, seed)?;
        if report.worst_bad_share() <= BAD_SHARE_MAX {
            held = rate;
        } else {
            failed = rate;
        }
    }
    Ok(held)
}
