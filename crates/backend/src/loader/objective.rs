//! The latency objective of a model. A missing one is guessed, and one that cannot be met is
//! refused.

use crate::repository::Slo;
use symphony_core::{Profile, Span};

/// The smallest guess.
const GUESS_LEAST: Span = Span::from_millis(100);
/// The guess as a multiple of the latency of one row: room to wait for a batch and to run it.
const GUESS_TIMES: u64 = 4;

/// The given objective, or a guess in whole milliseconds.
///
/// # Errors
/// The objective is smaller than the time of one row. The error holds both.
pub(super) fn objective(slo: Slo, plan: &Profile) -> Result<Span, (Span, Span)> {
    let least = plan.exec(1);
    match slo {
        Slo::Guess => {
            let guess = GUESS_LEAST.max(least.times(GUESS_TIMES));
            Ok(Span::from_millis(guess.0.div_ceil(1_000_000)))
        }
        Slo::Given(slo) if slo < least => Err((slo, least)),
        Slo::Given(slo) => Ok(slo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_guessed_kept_or_refused() {
        let us = Span::from_micros;
        for (given, one_row, expected) in [
            (Slo::Guess, us(900), Ok(us(100_000))),
            (Slo::Guess, us(30_100), Ok(us(121_000))),
            (Slo::Guess, us(25_000), Ok(us(100_000))),
            (Slo::Given(us(5_000)), us(5_000), Ok(us(5_000))),
            (Slo::Given(us(5_000)), us(5_001), Err((us(5_000), us(5_001)))),
        ] {
            let plan = Profile::from_table(vec![one_row]).unwrap();
            assert_eq!(objective(given, &plan), expected, "{given:?} {one_row}");
        }
    }
}
