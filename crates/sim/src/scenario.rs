//! What is simulated, except for the policy and the arrivals: models, accelerators, and how far the
//! world differs from what the scheduler is told.

use crate::delay::Delay;
use crate::drift::Drift;
use crate::mix::Mix;
use crate::noise::Noise;
use crate::sizes::Sizes;
use crate::split::Split;
use std::sync::Arc;
use symphony_core::sched::{LOW_SHARE_DEFAULT, ModelTerms};
use symphony_core::{Delays, Profile, Span};
use symphony_workload::random::Random;

/// A pool with its models, and what is measured.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The models, by number.
    pub models: Vec<SimModel>,
    /// The number of accelerators, which are all of one kind; at least one.
    pub accelerators: u32,
    /// The time before measuring begins.
    pub warmup: Span,
    /// Requests that arrive during this time are measured until their outcome.
    pub measured: Span,
    /// How long messages take.
    pub network: Network,
    /// The spread of execution times: the time of each batch is its profile's time multiplied by a
    /// log-normal factor with this sigma (about the relative standard deviation). The profile's
    /// time is the median; the mean is longer, by 0.5 % at 0.1 and 2 % at 0.2. Zero for none.
    pub execution_sigma: f64,
    /// What else machines do to execution times and timers.
    pub noise: Noise,
    /// The error of the scheduler's clock estimate.
    pub clock_error: ClockError,
    /// How execution times change during the run.
    pub drift: Drift,
    /// Whether our own rules follow measured execution times. Rivals never do.
    pub adapt_profile: bool,
    /// The share that our own rules keep for low requests that wait.
    pub low_priority_share: f64,
    /// How our own scheduler is split into shards and a matcher that send each other messages;
    /// `None` for one party without messages. Rivals are never split.
    pub split: Option<Split>,
}

/// A model: what the scheduler is told about it, and how it really runs.
#[derive(Clone, Debug)]
pub struct SimModel {
    /// What the scheduler is told.
    pub terms: ModelTerms,
    /// How long batches really take, before [`Scenario::execution_sigma`]. It must cover the
    /// batches of the profile in `terms`.
    pub actual: Arc<Profile>,
    /// The requests that differ from the others.
    pub mix: Mix,
    /// What requests of different sizes cost; `None` where all are alike. With sizes, the profiles in
    /// `terms` and `actual` are those of the largest.
    pub sizes: Option<Sizes>,
}

/// How long messages take. The scheduler is told the [planning value](Delay::planned) of each
/// delay, as the live system tells it what it measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Network {
    /// From the scheduler to the accelerator, and back.
    pub control: Delay,
    /// Until the accelerator has the input of a row.
    pub data: Delay,
    /// From the end of execution until the client has the answer.
    pub response: Delay,
}

/// The difference between the deadline that the scheduler sees and the true one. Machines send each
/// other remaining budgets, less the estimated time of the transfer; this is the error of that
/// estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockError {
    /// By how many nanoseconds all deadlines seem later than they are.
    pub offset_ns: i64,
    /// The standard deviation of a normal error of each request.
    pub sigma: Span,
}

impl Scenario {
    /// A scenario in which everything is as the scheduler is told: no delays, no spread, no clock
    /// error.
    #[must_use]
    pub fn ideal(
        models: Vec<ModelTerms>,
        accelerators: u32,
        warmup: Span,
        measured: Span,
    ) -> Scenario {
        let ideal = |terms: ModelTerms| SimModel {
            actual: Arc::clone(&terms.profile),
            terms,
            mix: Mix::default(),
            sizes: None,
        };
        Scenario {
            models: models.into_iter().map(ideal).collect(),
            accelerators,
            warmup,
            measured,
            network: Network::default(),
            execution_sigma: 0.0,
            noise: Noise::default(),
            clock_error: ClockError::default(),
            drift: Drift::default(),
            adapt_profile: true,
            split: None,
            low_priority_share: LOW_SHARE_DEFAULT,
        }
    }

    /// The delays that the scheduler is told.
    #[must_use]
    pub fn delays(&self) -> Delays {
        let Network { control, data, response } = self.network;
        Delays {
            control: control.planned(),
            data: data.planned(),
            response: response.planned(),
            jitter: self.noise.timer.planned(),
        }
    }

    /// What a scheduler is told of a profile: its means, and the spread that measuring it showed. A
    /// profile that knows its own spread is left as it is.
    #[must_use]
    pub fn told(&self, profile: &Arc<Profile>) -> Arc<Profile> {
        if self.execution_sigma <= 0.0 || profile.spread(1) > 0.0 {
            return Arc::clone(profile);
        }
        Arc::new(Profile::clone(profile).with_spread(&[(1, self.execution_sigma)]))
    }
}

impl ClockError {
    /// Whether the clock is exact.
    pub(crate) fn is_none(self) -> bool {
        self == ClockError::default()
    }

    /// Draws the error of one request, in nanoseconds.
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    pub(crate) fn draw(self, random: &mut Random) -> i64 {
        let spread = (self.sigma.0 as f64 * random.normal()) as i64;
        self.offset_ns.saturating_add(spread)
    }
}
