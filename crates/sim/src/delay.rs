//! How long messages take: constant, with a log-normal tail, or with a few slow ones.

use symphony_core::Span;
use symphony_workload::random::Random;

/// Standard deviations from the median to the 95th percentile of a normal distribution.
pub(crate) const P95_SIGMAS: f64 = 1.644_853_627;

/// Standard deviations from the median to the 99th percentile of a normal distribution.
pub(crate) const P99_SIGMAS: f64 = 2.326_347_874;

/// How long a message takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// The same for every message.
    Constant(Span),
    /// Log-normal, with a long tail when `sigma` is large.
    LogNormal {
        /// The median.
        median: Span,
        /// The standard deviation of the logarithm, 0 to 5.
        sigma: f64,
    },
    /// `usual` for most messages, `tail` for a share of them.
    Tailed {
        /// The delay of most messages.
        usual: Span,
        /// The delay of the others.
        tail: Span,
        /// The share of the others, 0 to 1.
        share: f64,
    },
}

impl Default for Delay {
    fn default() -> Delay {
        Delay::Constant(Span::ZERO)
    }
}

impl Delay {
    /// The delay that the scheduler plans with: the 99th percentile.
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

    /// Draws the delay of one message.
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

/// The span multiplied by `e` to the power of `exponent`.
pub(crate) fn stretched(span: Span, exponent: f64) -> Span {
    if exponent == 0.0 {
        return span;
    }
    Span::from_millis_f64(span.as_millis_f64() * libm::exp(exponent))
}
