//! By how much more than its mean time a batch is counted for being in time: how sure a plan has to be,
//! which follows from what it risks.
//!
//! In: the spread of execution times, and how the model's load stands to its rows' cost. Out:
//! [`Margins`], as factors on a mean time. `docs/decisions/0024-varying-times.md` derives them.

use crate::slowdown::Slowdown;

/// How many times its mean a batch is counted, for each of four questions. All are one where times do
/// not vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margins {
    /// May one row more go into this batch?
    pub(crate) row: Slowdown,
    /// May the batch wait for one row more?
    pub(crate) wait: Slowdown,
    /// May it wait whatever that gains, as every batch does that is deferred fully, or leaves
    /// accelerators to others?
    pub(crate) defer: Slowdown,
    /// Could a request still be in time, with luck?
    pub(crate) luck: Slowdown,
}

/// The risk at which another row pays, where rows alone keep one accelerator busy.
const ROW_RISK: f64 = 0.1;
/// The risk at which waiting for another row pays, where rows alone keep half an accelerator busy.
const WAIT_RISK: f64 = 0.03;
/// Waiting delays the others by the time until the next row comes, as well as by its cost: that is
/// as much as rows are worth that keep half an accelerator busy.
const WAIT_MORE: f64 = 0.5;
/// Beyond even odds a row is left out in any case.
const RISK_MAX: f64 = 0.5;
/// Where a batch waits whatever that gains, it is the rule and no exception that it starts in the last
/// moment. So that hardly any is late, that is so many deviations before.
const DEFERRED_DEVIATIONS: f64 = 3.0;
/// A request is hopeless that only a batch would meet which is so many deviations faster than the
/// mean.
const LUCK_DEVIATIONS: f64 = 1.0;
/// A larger spread is counted as this: margins that are several times the mean would leave no
/// batches.
const SPREAD_MAX: f64 = 0.5;

impl Margins {
    /// What is certain needs no margin.
    pub(crate) const NONE: Margins = Margins {
        row: Slowdown::ONE,
        wait: Slowdown::ONE,
        defer: Slowdown::ONE,
        luck: Slowdown::ONE,
    };

    /// The margins of a model whose times have this spread and whose rows alone, without what each
    /// batch costs, keep `rows_busy` accelerators busy.
    ///
    /// One more row makes the batch longer by its cost, and each request of the batch a little more
    /// likely to be late. Requests come at a steady rate, so that adds up to the number of rows that
    /// come in that time, times the risk that the head is late. A row that is left out risks no more
    /// than a share of one request. So the risk that is worth taking falls with the rows that come
    /// while one runs: a large pool, where the next accelerator is free in a moment, plays safe, and
    /// one accelerator, where a row left behind waits for a whole batch, takes chances.
    pub(crate) fn new(spread: f64, rows_busy: f64) -> Margins {
        if spread <= 0.0 {
            return Margins::NONE;
        }
        let spread = spread.min(SPREAD_MAX);
        let above = |deviations: f64| Slowdown::ONE.scaled_by(1.0 + deviations * spread);
        let row = deviations_at((ROW_RISK / rows_busy).min(RISK_MAX));
        let wait = deviations_at(WAIT_RISK / (WAIT_MORE + rows_busy)).max(row);
        Margins {
            row: above(row),
            wait: above(wait),
            defer: above(skewed(DEFERRED_DEVIATIONS, spread).max(wait)),
            luck: above(-LUCK_DEVIATIONS),
        }
    }

    /// Only what is certain to be late counts as late.
    pub(crate) fn lucky(self) -> Margins {
        Margins { row: self.luck, wait: self.luck, defer: self.luck, ..self }
    }

    /// The mean counts.
    pub(crate) fn even(self) -> Margins {
        Margins { luck: self.luck, ..Margins::NONE }
    }
}

/// So many deviations of times that are skewed to the long side, as times are: of a log-normal variable,
/// near enough. It matters far out.
fn skewed(deviations: f64, spread: f64) -> f64 {
    deviations * (1.0 + deviations * spread / 2.0)
}

/// Risks, and how many standard deviations above its mean a normal variable is with that risk.
const NORMAL: [(f64, f64); 9] = [
    (0.5, 0.0),
    (0.309, 0.5),
    (0.159, 1.0),
    (0.0668, 1.5),
    (0.0228, 2.0),
    (0.00621, 2.5),
    (0.00135, 3.0),
    (0.000_233, 3.5),
    (0.000_031_7, 4.0),
];

/// How many deviations above the mean leave this risk: read from the table, between its entries by
/// the ratio of risks. The same on every machine.
fn deviations_at(risk: f64) -> f64 {
    let mut above = NORMAL[0];
    for below in NORMAL {
        if risk >= below.0 {
            // Between two entries the deviations follow the risk's logarithm. A ratio is near
            // enough to it where it is less than ten.
            let (whole, part) = (above.0 / below.0 - 1.0, above.0 / risk.min(above.0) - 1.0);
            let share = if whole > 0.0 { (part / whole).sqrt() } else { 0.0 };
            return above.1 + (below.1 - above.1) * share;
        }
        above = below;
    }
    above.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_times_need_no_margin() {
        assert_eq!(Margins::new(0.0, 5.0), Margins::NONE);
        assert_eq!(Margins::new(0.0, 0.0), Margins::NONE);
    }

    #[test]
    fn the_more_rows_come_while_one_runs_the_less_is_risked() {
        let deviations = |slowdown: Slowdown| ((slowdown.as_f64() - 1.0) * 100.0).round() / 10.0;
        let of = |rows_busy| {
            let Margins { row, wait, defer, luck } = Margins::new(0.1, rows_busy);
            [row, wait, defer, luck].map(deviations)
        };
        assert_eq!(of(0.0), [0.0, 1.6, 3.5, -1.0], "no load");
        assert_eq!(of(0.3), [0.4, 1.8, 3.5, -1.0], "one accelerator");
        assert_eq!(of(4.7), [2.1, 2.6, 3.5, -1.0], "eight");
        assert_eq!(of(17.0), [2.6, 2.9, 3.5, -1.0], "twenty-four");
        assert_eq!(Margins::new(9.0, 4.7), Margins::new(SPREAD_MAX, 4.7));
    }

    #[test]
    fn deviations_follow_the_normal_distribution() {
        for (risk, deviations) in
            [(0.4, 0.253), (0.2, 0.842), (0.05, 1.645), (0.01, 2.326), (0.002, 2.878)]
        {
            let found = deviations_at(risk);
            assert!((found - deviations).abs() < 0.12, "{found} for {risk}");
        }
        assert_eq!([deviations_at(1.0), deviations_at(0.0)], [0.0, 4.0]);
    }
}
