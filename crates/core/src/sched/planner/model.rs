//! One model as the planner sees it: what its batches cost, and what becomes of it under a plan. Knows
//! no other model.

use super::losses::Losses;
use super::sizes::BatchSizes;
use crate::sched::high_need::HighDemand;
use crate::sched::message::{DROP_PRICE, ModelDemand, ModelPlan};
use crate::sched::timing::largest;
use crate::time::Span;

/// How long before its frontrun a batch may start, in times that a batch gathers, for a model that
/// keeps a single accelerator busy.
const EARLY_START: f64 = 1.5;
/// A pool that is not overloaded counts as at least this far from it: a head is never dropped for
/// next to nothing.
const CALM_MIN: f64 = 0.2;
/// A head waits at most so many times as long as its batch takes to gather.
const WAIT_MAX: f64 = 1.5;
/// A batch this many times longer than another model can wait leaves room for that model.
const LEVEL_RATIO: f64 = 1.4;

/// One model of a pool.
#[derive(Clone, Debug)]
pub(super) struct PlannedModel {
    pub(super) demand: ModelDemand,
    /// The line through its execution times, in ns: per row, and per batch.
    alpha: f64,
    beta: f64,
    /// By batch size, less one: the size up to it whose rows cost least. A profile with steps has
    /// sizes that are worse than smaller ones.
    thriftiest: Vec<u32>,
    /// Its full batch: the largest that is worth waiting for at its rate.
    pub(super) full: u32,
    pub(super) losses: Losses,
    pub(super) plan: ModelPlan,
}

impl PlannedModel {
    pub(super) fn new(demand: ModelDemand) -> PlannedModel {
        let mut model = PlannedModel {
            alpha: 0.0,
            beta: 0.0,
            thriftiest: Vec::new(),
            full: 1,
            losses: Losses::new(demand.arrived, demand.dropped),
            plan: ModelPlan::default(),
            demand,
        };
        model.fit();
        model
    }

    pub(super) fn note(&mut self, demand: ModelDemand) {
        let before = std::mem::replace(&mut self.demand, demand);
        let ModelDemand { profile, data, .. } = &self.demand;
        if profile.is(&before.profile) && *data == before.data {
            return;
        }
        if !profile.is_table_of(&before.profile) {
            return self.fit();
        }
        // All times are scaled alike, and to all rows the same is added: the same sizes are thrifty.
        let slower = profile.slowdown().as_f64() / before.profile.slowdown().as_f64();
        self.alpha = (self.alpha - before.data.0 as f64) * slower + data.0 as f64;
        self.beta *= slower;
    }

    pub(super) fn high_demand(&self) -> HighDemand<'_> {
        let ModelDemand { profile, data, room, high_per_ns, demoted, .. } = &self.demand;
        let (data, room, rows_per_ns) = (*data, *room, *high_per_ns);
        HighDemand { profile, data, room, rows_per_ns, demoted: *demoted }
    }

    pub(super) fn is_active(&self) -> bool {
        self.demand.is_present && self.demand.rows_per_ns > 0.0
    }

    /// Counts what came and was lost since the last plan, in the time of so many usual plans.
    pub(super) fn count_losses(&mut self, plans: u32) {
        let ModelDemand { arrived, dropped, is_present, .. } = self.demand;
        self.losses.count(arrived, dropped, plans);
        if !is_present {
            self.losses.forget();
        }
    }

    fn fit(&mut self) {
        let (alpha, beta) = self.demand.profile.fit();
        self.alpha = (alpha + self.demand.data).0 as f64;
        self.beta = beta.0 as f64;
        // Taken out to be allocated once.
        let mut thriftiest = std::mem::take(&mut self.thriftiest);
        thriftiest.clear();
        let (mut best, mut least) = (1, f64::INFINITY);
        thriftiest.extend((1..=self.demand.profile.rows_max()).map(|rows| {
            let cost = self.row_cost(rows);
            if cost <= least {
                (best, least) = (rows, cost);
            }
            best
        }));
        self.thriftiest = thriftiest;
    }

    /// How long each row of a batch occupies an accelerator, in ns.
    fn row_cost(&self, rows: u32) -> f64 {
        self.busy_with(rows) / f64::from(rows)
    }

    /// The size up to `rows` whose rows cost least.
    fn thriftiest(&self, rows: u32) -> u32 {
        self.thriftiest.get(rows as usize - 1).copied().unwrap_or(rows)
    }

    /// How long a batch occupies an accelerator and the way of its inputs, in ns.
    fn busy_with(&self, rows: u32) -> f64 {
        let ModelDemand { profile, data, .. } = &self.demand;
        (profile.exec(rows) + data.times(u64::from(rows))).0 as f64
    }

    /// The same for a mean batch, which may be between two sizes.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a batch size")]
    pub(super) fn busy(&self, rows: f64) -> f64 {
        let below = rows.floor().max(1.0);
        let low = self.busy_with(below as u32);
        if rows <= below {
            return low;
        }
        low + (self.busy_with(below as u32 + 1) - low) * (rows - below)
    }

    /// Accelerators that batches of `rows` keep busy at the measured rate.
    pub(super) fn load(&self, rows: f64) -> f64 {
        if !self.is_active() {
            return 0.0;
        }
        self.demand.rows_per_ns * self.busy(rows) / rows
    }

    /// How long a batch of one row can wait, in ns.
    pub(super) fn tolerance(&self) -> f64 {
        self.demand.room.0 as f64 - self.busy_with(1)
    }

    /// How long another model's batch may be before it is in the way, in ns.
    pub(super) fn forbearance(&self) -> f64 {
        LEVEL_RATIO * self.tolerance()
    }

    /// The largest batch that gathers, and runs, within the objective.
    pub(super) fn gathered(&self) -> u32 {
        self.largest(|rows| {
            self.busy_with(rows) + f64::from(rows) / self.demand.rows_per_ns
                <= self.demand.room.0 as f64
        })
    }

    /// The largest batch that also leaves time to stagger batches on `share` accelerators.
    pub(super) fn full_batch(&self, share: f64) -> u32 {
        let room = self.demand.room.0 as f64;
        let staggered = 1.0 + 1.0 / share.max(2.0);
        let largest = self.largest(|rows| {
            let busy = self.busy_with(rows);
            busy * staggered <= room && busy + f64::from(rows - 1) / self.demand.rows_per_ns <= room
        });
        self.thriftiest(largest)
    }

    /// The largest batch size that fits; at least one.
    fn largest(&self, fits: impl Fn(u32) -> bool) -> u32 {
        largest(1, self.demand.profile.rows_within(self.demand.room).max(1), fits)
    }

    /// The batch between one row (0) and the full batch (1).
    pub(super) fn stretched(&self, stretch: f64) -> f64 {
        1.0 + stretch * f64::from(self.full - 1)
    }

    /// The batch `b` that costs least, waiting and use together: the minimum of
    /// `(b - 1)/2 + r*l(b) + price * r*l(b)/b` for `l(b) = alpha b + beta`.
    pub(super) fn balanced(&self, price: f64) -> f64 {
        let rate = self.demand.rows_per_ns;
        let best = (price * rate * self.beta / (0.5 + rate * self.alpha)).sqrt();
        best.clamp(1.0, f64::from(self.full))
    }

    /// The size to start at, where the fitted line says `rows`. In a profile with steps that size may
    /// lie just past a step, or just before its end, where the rest of the step costs nothing.
    fn stepped(&self, rows: u32, price: f64) -> u32 {
        let thrifty = self.thriftiest(rows);
        if thrifty < rows {
            return thrifty;
        }
        let rate = self.demand.rows_per_ns;
        let cost = |rows: u32| {
            f64::from(rows - 1) / 2.0
                + rate * self.busy_with(rows)
                + price * rate * self.row_cost(rows)
        };
        let wider = rows..=self.full.min(rows * 2);
        wider.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(rows)
    }

    /// Its plan, but for what depends on the other models: level and urgency.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    pub(super) fn decide(&self, sizes: &BatchSizes) -> ModelPlan {
        let &BatchSizes { stretch, price, calm, backlog } = sizes;
        let credit = Span((self.losses.credit() * self.demand.slo.0 as f64) as u64);
        let rate = self.demand.rows_per_ns;
        if !self.is_active() {
            return ModelPlan { credit, ..ModelPlan::default() };
        }
        let needed = self.stretched(stretch);
        let threshold = price.map_or(self.full, |price| {
            let rows = rounded_up(self.balanced(price));
            self.stepped(rows, price)
        });
        // `l/load` is how long a batch gathers: the distance between batches of this model.
        let load = self.load(needed);
        let gathering = self.busy(needed) / (load * load);
        let early_start = calm * EARLY_START * self.demand.dispersion.min(1.0) * gathering;
        let wait_max = WAIT_MAX * f64::from(threshold - 1) / rate;
        ModelPlan {
            is_overloaded: calm <= 0.0,
            target: rounded_up(1.0 + backlog * (needed - 1.0)),
            threshold,
            early_start: Span(early_start as u64),
            wait_max: Span(wait_max as u64),
            price: DROP_PRICE * calm.max(CALM_MIN),
            credit,
            ..ModelPlan::default()
        }
    }
}

/// The next batch size, unless the number exceeds one only by an error of rounding.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a batch size")]
fn rounded_up(rows: f64) -> u32 {
    (rows - 1e-9).ceil() as u32
}
