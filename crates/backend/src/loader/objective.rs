//! What a model's requests are promised: the latency objective that `model.toml` states, if it can be
//! met, or best effort; and how many of them may wait for it.

use crate::profiling::p95_of;
use crate::repository::{QUEUE_MAX_DEFAULT, Slo};
use symphony_core::{Objective, Profile, Span};

/// Without an objective a queue may hold what is served in this time. More would wait for longer
/// than most clients do.
const QUEUE_TIME: Span = Span::from_secs(30);

/// And at least so many requests, however slow the model is.
const QUEUE_MAX_LEAST: u32 = 64;

/// The objective that is stated, or best effort.
///
/// # Errors
/// The objective is smaller than what one row takes, but for one time in twenty. The error holds both.
pub(super) fn objective(slo: Slo, plan: &Profile) -> Result<Objective, (Span, Span)> {
    let least = p95_of(plan, 1);
    match slo {
        Slo::Unstated => Ok(Objective::soft(plan.exec(1))),
        Slo::QueueTimeout(timeout) => Ok(Objective::Slo(timeout + p95_of(plan, plan.rows_max()))),
        Slo::Given(slo) if slo < least => Err((slo, least)),
        Slo::Given(slo) => Ok(Objective::Slo(slo)),
    }
}

/// The bound on queued requests where none is set. Without an objective nothing else keeps a queue
/// short: it holds as many requests of one row as so many accelerators serve in half a minute.
pub(super) fn queue_max_default(objective: Objective, plan: &Profile, accelerators: usize) -> u32 {
    if !objective.is_soft() {
        return QUEUE_MAX_DEFAULT;
    }
    let rows = plan.thrifty();
    let batches = QUEUE_TIME.0 / plan.exec(rows).0.max(1);
    let served = batches.saturating_mul(u64::from(rows)).saturating_mul(accelerators as u64);
    u32::try_from(served).unwrap_or(u32::MAX).clamp(QUEUE_MAX_LEAST, QUEUE_MAX_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_kept_refused_or_best_effort() {
        let us = Span::from_micros;
        for (given, one_row, expected) in [
            (Slo::Unstated, us(900), Ok(Objective::Soft(us(100_000)))),
            (Slo::Unstated, us(30_100), Ok(Objective::Soft(us(121_000)))),
            (Slo::Unstated, us(25_000), Ok(Objective::Soft(us(100_000)))),
            (Slo::QueueTimeout(us(100)), us(5_000), Ok(Objective::Slo(us(5_100)))),
            (Slo::Given(us(5_000)), us(5_000), Ok(Objective::Slo(us(5_000)))),
            (Slo::Given(us(5_000)), us(5_001), Err((us(5_000), us(5_001)))),
        ] {
            let plan = Profile::from_table(vec![one_row]).unwrap();
            assert_eq!(objective(given, &plan), expected, "{given:?} {one_row}");
        }
    }

    #[test]
    fn one_row_has_to_be_in_time_as_a_rule_and_not_only_on_average() {
        let ms = Span::from_millis;
        let plan = Profile::from_table(vec![ms(10)]).unwrap().with_spread(&[(1, 0.2)]);
        let least = objective(Slo::Given(ms(11)), &plan).unwrap_err().1;
        assert!((ms(13)..ms(14)).contains(&least), "{least}");
        assert_eq!(objective(Slo::Given(ms(14)), &plan), Ok(Objective::Slo(ms(14))));
    }

    #[test]
    fn a_queue_without_an_objective_holds_what_is_served_in_half_a_minute() {
        let ms = Span::from_millis;
        let bound = |objective, row: Span, accelerators| {
            let plan = Profile::linear(row, Span::ZERO, 8).unwrap();
            queue_max_default(objective, &plan, accelerators)
        };
        let soft = Objective::Soft(ms(100));
        assert_eq!(bound(Objective::Slo(ms(100)), ms(20), 1), 10_000);
        assert_eq!(bound(soft, ms(20), 1), 1_500);
        assert_eq!(bound(soft, ms(20), 2), 3_000);
        assert_eq!(bound(soft, ms(1), 1), 10_000);
        assert_eq!(bound(soft, ms(10_000), 1), 64);
    }
}
