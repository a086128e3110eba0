//! How many times longer executions take than a table says: a ratio in fixed point, so that every
//! machine computes the same. Knows nothing of what is measured or why.

use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A ratio of execution times: [`Slowdown::ONE`] is as fast as the table, 2 takes twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slowdown(u32);

/// Bits after the binary point.
const FRACTION: u32 = 16;

impl Slowdown {
    /// As fast as the table says.
    pub const ONE: Slowdown = Slowdown(1 << FRACTION);
    /// The least that a plan counts with: a quarter of the table's times.
    pub const PLANNED_MIN: Slowdown = Slowdown(1 << (FRACTION - 2));
    /// The most that a plan counts with: eight times the table's times.
    pub const PLANNED_MAX: Slowdown = Slowdown(8 << FRACTION);

    /// The ratio of two times, rounded down and at most what can be represented; a `table` of zero
    /// counts as a nanosecond.
    #[must_use]
    pub fn of(measured: Span, table: Span) -> Slowdown {
        // Division by a 128-bit number is slow and needed only for spans of days.
        match measured.0.checked_mul(1 << FRACTION) {
            Some(scaled) => saturated(scaled / table.0.max(1)),
            None => {
                let scaled = u128::from(measured.0) << FRACTION;
                saturated(u64::try_from(scaled / u128::from(table.0.max(1))).unwrap_or(u64::MAX))
            }
        }
    }

    /// How long an execution of the table takes at this slowdown, rounded up.
    #[must_use]
    #[inline]
    pub fn stretch(self, table: Span) -> Span {
        if self == Slowdown::ONE {
            return table;
        }
        let up = (1 << FRACTION) - 1;
        // Arithmetic with 128-bit numbers is slow and needed only for spans of hours.
        match table.0.checked_mul(self.0.into()).and_then(|product| product.checked_add(up)) {
            Some(product) => Span(product >> FRACTION),
            None => {
                let product = u128::from(table.0) * u128::from(self.0) + u128::from(up);
                Span(u64::try_from(product >> FRACTION).unwrap_or(u64::MAX))
            }
        }
    }

    /// The longest execution of the table that fits `budget` at this slowdown: the exact inverse of
    /// [`stretch`](Slowdown::stretch).
    #[must_use]
    #[inline]
    pub fn shrink(self, budget: Span) -> Span {
        if self == Slowdown::ONE {
            return budget;
        }
        let divisor = self.0.max(1);
        // As above.
        match budget.0.checked_mul(1 << FRACTION) {
            Some(scaled) => Span(scaled / u64::from(divisor)),
            None => {
                let scaled = u128::from(budget.0) << FRACTION;
                Span(u64::try_from(scaled / u128::from(divisor)).unwrap_or(u64::MAX))
            }
        }
    }

    /// Both slowdowns together, rounded down.
    #[must_use]
    pub fn times(self, other: Slowdown) -> Slowdown {
        saturated((u64::from(self.0) * u64::from(other.0)) >> FRACTION)
    }

    /// This slowdown with the other taken out, rounded down.
    #[must_use]
    pub fn over(self, other: Slowdown) -> Slowdown {
        saturated((u64::from(self.0) << FRACTION) / u64::from(other.0.max(1)))
    }

    /// Half of the way from here to one, rounded down.
    #[must_use]
    pub fn halfway_to_one(self) -> Slowdown {
        Slowdown(u32::midpoint(self.0, Slowdown::ONE.0))
    }

    /// This fraction of it, rounded down.
    #[must_use]
    pub fn scaled(self, numerator: u32, denominator: u32) -> Slowdown {
        saturated(u64::from(self.0) * u64::from(numerator) / u64::from(denominator.max(1)))
    }

    /// So many times it, rounded to the nearest; what is not positive counts as nothing.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    pub fn scaled_by(self, factor: f64) -> Slowdown {
        Slowdown((f64::from(self.0) * factor + 0.5) as u32)
    }

    /// Its representation; a greater slowdown has a greater one.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The slowdown with this representation.
    pub(crate) fn from_bits(bits: u32) -> Slowdown {
        Slowdown(bits)
    }

    /// For display and metrics.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Slowdown::ONE.0)
    }
}

fn saturated(ratio: u64) -> Slowdown {
    Slowdown(u32::try_from(ratio).unwrap_or(u32::MAX))
}

impl Default for Slowdown {
    fn default() -> Slowdown {
        Slowdown::ONE
    }
}

impl fmt::Display for Slowdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slowdowns() -> impl Strategy<Value = Slowdown> {
        prop_oneof![Just(Slowdown::ONE), (1u32..=8 << FRACTION).prop_map(Slowdown)]
    }

    proptest! {
        /// What fits a shrunk budget fits the budget once stretched, and nothing longer does.
        #[test]
        fn shrinking_is_the_inverse_of_stretching(
            slowdown in slowdowns(),
            budget in prop_oneof![0u64..1 << 40, any::<u64>()],
        ) {
            let table = slowdown.shrink(Span(budget));
            prop_assert!(slowdown.stretch(table) <= Span(budget));
            let longer = Span(table.0.saturating_add(1));
            prop_assert!(longer == table || slowdown.stretch(longer) > Span(budget));
        }

        /// Stretching by one slowdown after the other never takes less than by both together.
        #[test]
        fn a_slowdown_on_top_of_another_is_not_underestimated(a in slowdowns(), b in slowdowns(), span in 0u64..1 << 40) {
            let both = a.times(b).stretch(Span(span));
            prop_assert!(b.stretch(a.stretch(Span(span))) >= both);
        }
    }

    #[test]
    fn ratios_read_back() {
        let ms = Span::from_millis;
        assert_eq!(Slowdown::of(ms(6), ms(6)), Slowdown::ONE);
        assert_eq!(Slowdown::of(ms(9), ms(6)).to_string(), "1.500");
        assert_eq!(Slowdown::of(ms(9), ms(6)).stretch(ms(10)), ms(15));
        assert_eq!(
            Slowdown::of(ms(9), ms(6)).over(Slowdown::of(ms(3), ms(6))).to_string(),
            "3.000"
        );
        assert_eq!(Slowdown::of(ms(9), ms(6)).halfway_to_one().to_string(), "1.250");
        assert_eq!(Slowdown::of(ms(8), ms(2)).scaled(9, 8).to_string(), "4.500");
        assert_eq!(Slowdown::of(Span::MAX, Span::ZERO).stretch(Span::MAX), Span::MAX);
    }
}
