//! The times that rivals plan batches with.

use crate::Scenario;
use std::sync::Arc;
use symphony_core::{Profile, Span};

/// What one row, two rows and so on of each model take, by the models' numbers.
pub(crate) type PlannedTimes = Vec<Arc<Profile>>;

/// The time that batches keep so many standard deviations beyond their median.
pub(crate) fn percentiles(scenario: &Scenario, sigmas: f64) -> PlannedTimes {
    let factor = libm::exp(sigmas * scenario.execution_sigma);
    let of = |sim: &crate::SimModel| {
        Arc::new(stretched(&sim.actual, sim.terms.profile.rows_max(), |_| factor))
    };
    scenario.models.iter().map(of).collect()
}

/// So many times the profile that schedulers are told.
pub(crate) fn multiples(scenario: &Scenario, factor: f64) -> PlannedTimes {
    let of = |sim: &crate::SimModel| {
        let told = &sim.terms.profile;
        Arc::new(stretched(told, told.rows_max(), |_| factor))
    };
    scenario.models.iter().map(of).collect()
}

/// A profile of up to so many rows with every time multiplied by a factor for its batch size. Larger
/// batches take no less.
pub(super) fn stretched(profile: &Profile, rows_max: u32, factor: impl Fn(u32) -> f64) -> Profile {
    let mut longest = Span(1);
    let table = (1..=rows_max).map(|rows| {
        let exec = Span::from_millis_f64(profile.exec(rows).as_millis_f64() * factor(rows));
        longest = longest.max(exec);
        longest
    });
    Profile::from_table(table.collect()).expect("it grows from one")
}
