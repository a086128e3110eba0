//! What high requests need of a pool in which low ones are waiting: how many accelerators, and
//! batches of which size. Computed from measured rates, some times a second.

use super::rule::gathered;
use crate::profile::Profile;
use crate::request::Delays;
use crate::time::Span;

/// The high requests of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HighDemand<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) delays: &'a Delays,
    /// What the objective leaves for waiting and execution.
    pub(crate) budget: Span,
    /// Measured arrivals of rows.
    pub(crate) rows_per_ns: f64,
    /// The share of these that is not set aside for an early deadline.
    pub(crate) kept: f64,
}

/// What becomes of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// The batch that gathers in the time that its execution leaves.
    pub(crate) gathered: u32,
    /// The smallest batch with which the pool can serve all of them, `gathered` if none is.
    pub(crate) rows: u32,
}

impl HighDemand<'_> {
    fn gathered(&self) -> u32 {
        gathered(self.profile, self.delays, self.budget, self.rows_per_ns).max(1)
    }

    /// Accelerators kept busy by batches of `rows`.
    fn load(&self, rows: u32) -> f64 {
        let busy = self.profile.exec(rows) + self.delays.data.times(u64::from(rows));
        self.rows_per_ns * busy.0 as f64 / f64::from(rows)
    }
}

/// The needs of each model, in order, to the end of `out`; answers the accelerators that all of
/// them keep busy with the largest batches.
pub(crate) fn needs<'a>(
    demands: impl Iterator<Item = HighDemand<'a>> + Clone,
    accelerators: u32,
    out: &mut Vec<Need>,
) -> f64 {
    let start = out.len();
    let mut load = 0.0;
    for demand in demands.clone() {
        let gathered = demand.gathered();
        load += demand.kept * demand.load(gathered);
        out.push(Need { gathered, rows: gathered });
    }
    // The smallest common stretch between 1 and what gathers that the pool can carry.
    let n = f64::from(accelerators);
    let total = |stretch: f64, needs: &[Need]| -> f64 {
        let each = demands.clone().zip(needs);
        each.map(|(demand, need)| demand.load(stretched(need.gathered, stretch))).sum()
    };
    let (mut low, mut high) = (0.0, 1.0);
    if total(high, &out[start..]) >= n {
        return load;
    }
    if total(low, &out[start..]) <= n {
        high = low;
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if total(middle, &out[start..]) <= n { high = middle } else { low = middle }
    }
    for need in &mut out[start..] {
        need.rows = stretched(need.gathered, high);
    }
    load
}

/// Halvings of the stretch: enough for batches of thousands.
const STEPS: u32 = 12;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `full`")]
fn stretched(full: u32, stretch: f64) -> u32 {
    1 + (stretch * f64::from(full.saturating_sub(1))).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rates: &[f64], accelerators: u32) -> (f64, Vec<Need>) {
        let ms = Span::from_millis_f64;
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let delays = Delays::default();
        let demand = |rate: &f64| HighDemand {
            profile: &profile,
            delays: &delays,
            budget: ms(25.0),
            rows_per_ns: rate / 1e9,
            kept: 1.0,
        };
        let mut out = Vec::new();
        let load = needs(rates.iter().map(demand), accelerators, &mut out);
        (load, out)
    }

    #[test]
    fn needs_grow_with_the_load_until_nothing_more_gathers() {
        // Ten rows gather in 10 ms and run for 15: 1.5 accelerators.
        let (load, needs) = of(&[1000.0], 2);
        assert!((load - 1.5).abs() < 1e-9);
        // 5 rows in 10 ms are one batch every 5 ms on two accelerators.
        assert_eq!(needs, [Need { gathered: 10, rows: 5 }]);
        assert_eq!(of(&[1000.0], 1).1, [Need { gathered: 10, rows: 10 }], "more than there is");
        assert_eq!(of(&[1000.0], 100).1, [Need { gathered: 10, rows: 1 }], "one row does");
        assert_eq!(of(&[0.0], 1).1, [Need { gathered: 1, rows: 1 }]);
        assert_eq!(of(&[], 1), (0.0, vec![]));
    }
}
