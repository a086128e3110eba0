//! The latency objective of a model: guessed where none is given, refused where it cannot be met.

use crate::repository::Slo;
use symphony_core::{Profile, Span};

/// The least that is guessed.
const GUESS_LEAST: Span = Span::from_millis(100);
/// How many times one row's latency is guessed: room to wait for a batch, and to run it.
const GUESS_TIMES: u64 = 4;

/// The objective that was given, or a guess rounded up to whole milliseconds.
///
/// # Errors
/// The objective, and the time of one row alone, which is more.
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
