//! What is simulated, apart from the policy and the arrivals: models, accelerators, and how far
//! the world is from what the scheduler is told about it.

use crate::drift::Drift;
use crate::mix::Mix;
use crate::split::Split;
use std::sync::Arc;
use symphony_core::sched::{LOW_SHARE_DEFAULT, ModelTerms};
use symphony_core::{Delays, Profile, Span};
use symphony_workload::random::Random;

/// A pool, its models, and what is measured.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The models, by number.
    pub models: Vec<SimModel>,
    /// How many accelerators there are, all of one kind; at least one.
    pub accelerators: u32,
    /// Time before measuring begins.
    pub warmup: Span,
    /// Requests that arrive during this time are measured, to their end.
    pub measured: Span,
    /// How long messages take.
    pub network: Network,
    /// Spread of execution times: each batch takes its profile's time multiplied by a log-normal
    /// factor with this sigma (about the relative standard deviation). Zero for none.
    pub execution_sigma: f64,
    /// How wrong the scheduler's clock estimate is.
    pub clock_error: ClockError,
    /// How execution times change while it runs.
    pub drift: Drift,
    /// Whether the scheduler's own rules follow measured execution times. Its rivals never do.
    pub adapt_profile: bool,
    /// What the scheduler's own policies keep for low requests that wait.
    pub low_priority_share: f64,
    /// How the scheduler's own rules are split over shards and a matcher that send each other
    /// messages; `None` for one party, which needs none. Its rivals are never split.
    pub split: Option<Split>,
}

/// A model: what the scheduler is told, and what really runs.
#[derive(Clone, Debug)]
pub struct SimModel {
    /// What the scheduler is told.
    pub terms: ModelTerms,
    /// How long batches really take (before [`Scenario::execution_sigma`]). Must cover the
    /// batches of the terms' profile.
    pub actual: Arc<Profile>,
    /// Which of its requests are not like the others.
    pub mix: Mix,
}

/// How long messages take. The scheduler is told each delay's
/// [planning value](Delay::planned), as the live system tells it what it measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Network {
    /// Scheduler to accelerator and back.
    pub control: Delay,
    /// Per row: until the accelerator has its input.
    pub data: Delay,
    /// From the end of execution until the client has the answer.
    pub response: Delay,
}

/// How long a message takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always as long.
    Constant(Span),
    /// Log-normal: a long tail where `sigma` is large.
    LogNormal {
        /// Half of the messages take no longer.
        median: Span,
        /// Standard deviation of the logarithm, 0 to 5.
        sigma: f64,
    },
    /// Mostly `usual`; a share of the messages, `tail`.
    Tailed {
        /// What most messages take.
        usual: Span,
        /// What the others take.
        tail: Span,
        /// How many they are, 0 to 1.
        share: f64,
    },
}

/// How far the deadline that the scheduler sees is from the true one. Between machines only
/// remaining budgets travel, less the estimated time on the way: this is that estimate's error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockError {
    /// By how many nanoseconds all deadlines look later than they are.
    pub offset_ns: i64,
    /// Standard deviation of a normal error per request.
    pub sigma: Span,
}

/// Standard deviations from the median to the 99th percentile of a normal distribution.
const P99_SIGMAS: f64 = 2.326_347_874;
/// The same for the 95th percentile.
const P95_SIGMAS: f64 = 1.644_853_627;

impl Scenario {
    /// A scenario in which everything is as the scheduler is told: no delays, no spread, no
    /// clock error.
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
        };
        Scenario {
            models: models.into_iter().map(ideal).collect(),
            accelerators,
            warmup,
            measured,
            network: Network::default(),
            execution_sigma: 0.0,
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
            jitter: Span::ZERO,
        }
    }

    /// How much longer than planned a scheduler is told that a model's batches run: the 99th
    /// percentile of the longest batch that its objective allows. One that follows measured
    /// times plans with their 95th percentile, whatever profile it was told.
    #[must_use]
    pub fn overrun(&self, model: &SimModel, follows: bool) -> Span {
        let longest = |profile: &Profile| {
            profile.exec(model.terms.profile.rows_within(model.terms.slo)).as_millis_f64()
        };
        let planned = match follows {
            true => longest(&model.actual) * libm::exp(P95_SIGMAS * self.execution_sigma),
            false => longest(&model.terms.profile),
        };
        let p99 = longest(&model.actual) * libm::exp(P99_SIGMAS * self.execution_sigma);
        Span::from_millis_f64((p99 - planned).max(0.0))
    }
}

impl Default for Delay {
    fn default() -> Delay {
        Delay::Constant(Span::ZERO)
    }
}

impl Delay {
    /// What the scheduler plans with: the 99th percentile.
    #[must_use]
    pub fn planned(self) -> Span {
        match self {
            Delay::Constant(span) => span,
            Delay::LogNormal { median, sigma } => stretched(median, P99_SIGMAS * sigma),
            Delay::Tailed { usual, tail, share } => {
                if share > 0.01 {
                    tail
                } else {
                    usual
                }
            }
        }
    }

    /// What one message takes.
    pub(crate) fn draw(self, random: &mut Random) -> Span {
        match self {
            Delay::Constant(span) => span,
            Delay::LogNormal { median, sigma } => stretched(median, sigma * random.normal()),
            Delay::Tailed { usual, tail, share } => {
                if random.uniform() <= share {
                    tail
                } else {
                    usual
                }
            }
        }
    }
}

impl ClockError {
    /// The errors of the requests of one run; `None` when there are none.
    pub(crate) fn is_none(self) -> bool {
        self == ClockError::default()
    }

    /// One request's error in nanoseconds.
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    pub(crate) fn draw(self, random: &mut Random) -> i64 {
        let spread = (self.sigma.0 as f64 * random.normal()) as i64;
        self.offset_ns.saturating_add(spread)
    }
}

/// The span multiplied by `e` to the power of `exponent`.
pub(crate) fn stretched(span: Span, exponent: f64) -> Span {
    if exponent == 0.0 {
        return span;
    }
    Span::from_millis_f64(span.as_millis_f64() * libm::exp(exponent))
}
