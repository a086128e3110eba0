//! What each latency objective costs in goodput: the measured profile in the simulator, with the
//! scheduler that serves.

use crate::measured_model::MeasuredModel;
use crate::simulate::workers;
use anyhow::Result;
use comfy_table::Table;
use std::sync::Arc;
use symphony_backend::profiling::Measured;
use symphony_client::table::{percent, table, titles};
use symphony_core::sched::Mode;
use symphony_core::{Delays, Span};

/// The objectives that are tried, as multiples of the time of one row. Below the first, hardly a
/// request has time to wait for another.
const FACTORS: [f64; 11] = [1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0];

/// An objective of so many times the largest batch gains nothing over a shorter one.
const LARGEST_MAX: u64 = 4;

/// The share of the highest goodput that is worth a shorter objective.
const WORTHWHILE: f64 = 0.9;

/// What is asked: a model's goodput on so many accelerators that are scheduled so.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectiveQuestion<'a> {
    pub(super) measured: &'a Measured,
    pub(super) accelerators: u32,
    pub(super) mode: Mode,
}

/// What one objective gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ObjectivePoint {
    objective: Span,
    /// The largest batch that runs within it.
    rows: u32,
    /// Requests of one row per second, of which 99 % are answered in time.
    goodput: f64,
}

impl ObjectiveQuestion<'_> {
    /// The goodput of a range of objectives, and of the model's own where it has one.
    ///
    /// # Errors
    /// A load cannot be simulated.
    pub(super) fn points(&self, own: Option<Span>) -> Result<Vec<ObjectivePoint>> {
        let objectives = self.objectives(own);
        workers::each(&objectives, "trying objectives", |&objective| self.point(objective))
    }

    fn objectives(&self, own: Option<Span>) -> Vec<Span> {
        let plan = &self.measured.plan;
        let one_row = plan.exec(1).as_millis_f64();
        let largest = plan.exec(plan.rows_max()).times(LARGEST_MAX);
        let tried = FACTORS.map(|factor| rounded_up(one_row * factor));
        // The last of them is the first that leaves nothing to gain.
        let beyond = tried.iter().position(|span| *span >= largest).unwrap_or(tried.len());
        let mut objectives: Vec<Span> = tried.into_iter().take(beyond + 1).chain(own).collect();
        objectives.sort_unstable();
        objectives.dedup();
        objectives
    }

    fn point(&self, objective: Span) -> Result<ObjectivePoint> {
        let ObjectiveQuestion { measured, accelerators, mode } = *self;
        let profile = Arc::clone(&measured.plan);
        let rows = profile.rows_within(objective);
        let delays = Delays::default();
        let model = MeasuredModel { profile, objective, accelerators, mode, delays };
        Ok(ObjectivePoint { objective, rows, goodput: model.goodput()? })
    }
}

/// The next number of milliseconds with two digits: what somebody would write down.
fn rounded_up(ms: f64) -> Span {
    let unit = 10f64.powf(ms.max(1e-3).log10().floor() - 1.0);
    // A hundredth of a unit is not worth the next one.
    Span::from_millis_f64((ms / unit - 0.01).ceil() * unit)
}

/// The points as a table.
pub(super) fn shown(points: &[ObjectivePoint]) -> Table {
    let most = most(points);
    let row = |point: &ObjectivePoint| {
        vec![
            point.objective.as_millis_f64().to_string(),
            point.rows.to_string(),
            format!("{:.1}", point.goodput),
            percent(if most > 0.0 { point.goodput / most } else { 0.0 }),
        ]
    };
    let columns = titles(["slo_ms", "largest batch", "goodput r/s", "% of the most"]);
    table(columns, points.iter().map(row).collect())
}

/// What an objective could be: the shortest that gives most of the goodput there is.
pub(super) fn suggestion(points: &[ObjectivePoint]) -> String {
    let most = most(points);
    let enough = |point: &&ObjectivePoint| most > 0.0 && point.goodput >= WORTHWHILE * most;
    match points.iter().find(enough) {
        None => "no objective can be suggested: none that was tried holds any load".to_owned(),
        Some(point) => format!(
            "suggested: slo_ms = {} in its model.toml, the shortest with {:.0} % of the most \
             ({:.1} of {most:.1} r/s)",
            point.objective.as_millis_f64(),
            100.0 * WORTHWHILE,
            point.goodput
        ),
    }
}

fn most(points: &[ObjectivePoint]) -> f64 {
    points.iter().map(|point| point.goodput).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::Profile;
    use symphony_sim::bound::bound;
    use symphony_sim::goodput::BOUND_SLACK;

    fn measured() -> Measured {
        let plan = Profile::linear(Span::from_millis(1), Span::from_millis(5), 16).unwrap();
        Measured::known(&Arc::new(plan))
    }

    #[test]
    fn a_longer_objective_gives_more_until_it_gives_no_more() {
        let measured = measured();
        let question =
            ObjectiveQuestion { measured: &measured, accelerators: 2, mode: Mode::Adaptive };
        let own = Span::from_millis(25);
        let points = question.points(Some(own)).unwrap();
        let objectives: Vec<f64> =
            points.iter().map(|point| point.objective.as_millis_f64()).collect();
        assert_eq!(objectives, [9.0, 12.0, 18.0, 24.0, 25.0, 36.0, 48.0, 72.0, 96.0]);
        assert!(points.windows(2).all(|pair| pair[0].rows <= pair[1].rows));
        // With 9 ms one row waits for hardly another; batches of 16 rows take 21 ms.
        let (first, last) = (points[0], points[points.len() - 1]);
        assert!(first.goodput > 0.0 && last.goodput > 2.0 * first.goodput, "{points:?}");
        assert!(last.goodput <= bound(&measured.plan, last.objective, 2) * BOUND_SLACK);
        let text = shown(&points).to_string();
        assert_eq!(text.lines().count(), 2 + points.len());
        assert!(suggestion(&points).starts_with("suggested: slo_ms = "));
    }

    #[test]
    fn the_shortest_objective_that_gives_most_of_it_is_suggested() {
        let point =
            |ms, goodput| ObjectivePoint { objective: Span::from_millis(ms), rows: 1, goodput };
        let points = [point(10, 10.0), point(20, 89.0), point(40, 91.0), point(80, 100.0)];
        assert!(suggestion(&points).contains("slo_ms = 40 "), "{}", suggestion(&points));
        assert!(suggestion(&[point(10, 0.0)]).starts_with("no objective"));
    }

    #[test]
    fn objectives_have_two_digits() {
        for (ms, expected) in
            [(0.123, 0.13), (9.0, 9.0), (9.01, 9.1), (100.4, 110.0), (99.9, 100.0)]
        {
            assert_eq!(rounded_up(ms), Span::from_millis_f64(expected), "{ms}");
        }
    }
}
