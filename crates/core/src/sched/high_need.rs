//! What high requests need of a pool in which low ones wait: how many accelerators, and batches of
//! which size.
//!
//! In: measured rates of the high requests of each model. Out: a [`HighNeed`] for each. Computed for
//! the whole pool, with its plan.

use super::margins::Margins;
use super::message::HighNeed;
use super::timing::Timing;
use crate::profile::Profile;
use crate::request::Delays;
use crate::time::Span;

/// Halvings of the stretch: enough for batches of thousands.
const STEPS: u32 = 12;

/// The high requests of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HighDemand<'a> {
    pub(crate) profile: &'a Profile,
    /// Data delay per row.
    pub(crate) data: Span,
    /// What the objective leaves for waiting and execution.
    pub(crate) room: Span,
    /// Measured arrivals of rows.
    pub(crate) rows_per_ns: f64,
    /// The share of them that is demoted.
    pub(crate) demoted: f64,
}

impl HighDemand<'_> {
    fn timing(&self) -> Timing<'_> {
        let delays = Delays { data: self.data, ..Delays::default() };
        Timing { profile: self.profile, delays, margins: Margins::NONE }
    }

    fn gathered(&self) -> u32 {
        self.timing().gathered(self.room, self.rows_per_ns).max(1)
    }

    /// Accelerators kept busy by batches of `rows`.
    fn load(&self, rows: u32) -> f64 {
        let busy = self.timing().busy(rows);
        self.rows_per_ns * busy.0 as f64 / f64::from(rows)
    }
}

/// Puts the need of each model, in order, in place of what `out` holds. Returns how many accelerators
/// all models keep busy with the largest batches that gather, demoted requests left out.
pub(crate) fn high_needs<'a>(
    demands: impl Iterator<Item = HighDemand<'a>> + Clone,
    accelerators: u32,
    out: &mut Vec<HighNeed>,
) -> f64 {
    out.clear();
    let mut load = 0.0;
    for demand in demands.clone() {
        let gathered = demand.gathered();
        load += (1.0 - demand.demoted) * demand.load(gathered);
        out.push(HighNeed { gathered, rows: gathered });
    }
    // The smallest stretch, common to all models, between one row and what gathers, that the pool can
    // carry.
    let n = f64::from(accelerators);
    let total = |stretch: f64, needs: &[HighNeed]| -> f64 {
        let each = demands.clone().zip(needs);
        each.map(|(demand, need)| demand.load(stretched(need.gathered, stretch))).sum()
    };
    let (mut low, mut high) = (0.0, 1.0);
    if total(high, out) >= n {
        return load;
    }
    if total(low, out) <= n {
        high = low;
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if total(middle, out) <= n { high = middle } else { low = middle }
    }
    for need in out {
        need.rows = stretched(need.gathered, high);
    }
    load
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `full`")]
fn stretched(full: u32, stretch: f64) -> u32 {
    1 + (stretch * f64::from(full.saturating_sub(1))).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rates: &[f64], accelerators: u32) -> (f64, Vec<HighNeed>) {
        let ms = Span::from_millis_f64;
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let demand = |rate: &f64| HighDemand {
            profile: &profile,
            data: Span::ZERO,
            room: ms(25.0),
            rows_per_ns: rate / 1e9,
            demoted: 0.0,
        };
        let mut out = Vec::new();
        let load = high_needs(rates.iter().map(demand), accelerators, &mut out);
        (load, out)
    }

    #[test]
    fn needs_grow_with_the_load_until_nothing_more_gathers() {
        // Ten rows gather in 10 ms and run for 15: 1.5 accelerators.
        let (load, needs) = of(&[1000.0], 2);
        assert!((load - 1.5).abs() < 1e-9);
        // 5 rows in 10 ms are one batch every 5 ms on two accelerators.
        assert_eq!(needs, [HighNeed { gathered: 10, rows: 5 }]);
        assert_eq!(of(&[1000.0], 1).1, [HighNeed { gathered: 10, rows: 10 }], "more than there is");
        assert_eq!(of(&[1000.0], 100).1, [HighNeed { gathered: 10, rows: 1 }], "one row does");
        assert_eq!(of(&[0.0], 1).1, [HighNeed { gathered: 1, rows: 1 }]);
        assert_eq!(of(&[], 1), (0.0, vec![]));
    }
}
