//! Delays as scenarios give them: a median and a spread.

use symphony_core::Span;
use symphony_sim::Delay;

/// A log-normal delay, or a constant one where there is no spread.
pub(super) fn delay(median: Span, sigma: f64) -> Delay {
    if sigma == 0.0 { Delay::Constant(median) } else { Delay::LogNormal { median, sigma } }
}

/// The spread of a delay; zero where it is constant.
pub(super) fn sigma(delay: Delay) -> f64 {
    match delay {
        Delay::LogNormal { sigma, .. } => sigma,
        Delay::Constant(_) | Delay::Tailed { .. } => 0.0,
    }
}

/// The median of a delay.
pub(super) fn median(delay: Delay) -> Span {
    match delay {
        Delay::Constant(span) => span,
        Delay::LogNormal { median, .. } => median,
        Delay::Tailed { usual, .. } => usual,
    }
}
