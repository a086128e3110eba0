//! What batches of one model cost, and what becomes of it under a plan. Knows no other model.

use super::{ModelDemand, ModelPlan, PRICE};
use crate::sched::needs::HighDemand;
use crate::time::Span;

/// How far, in gathering times of its batches, a model opens its windows before a batch can no
/// longer grow, for one that keeps a single accelerator busy.
const EARLY_START: f64 = 1.5;
/// As long as a pool is not overloaded it is at least this far from it: a head is never dropped
/// for next to nothing.
const CALM_MIN: f64 = 0.2;
/// A head waits for its batch at most so many times as long as the batch takes to gather.
const WAIT_MAX: f64 = 1.5;
/// A batch this many times longer than another model can wait is one that leaves room for it.
const LEVEL_RATIO: f64 = 1.4;
/// How fast a model that loses more of its requests than the others gets ahead of them: by this
/// share of its objective per plan, if it loses all.
const FAIRNESS_GAIN: f64 = 0.1;
/// How far ahead at most, in objectives.
const ADVANCE_MAX: f64 = 2.0;
/// What is left of it with each plan, while nothing is lost.
const ADVANCE_KEPT: f64 = 0.9;
/// What the losses of all plans before count, each time a plan is made.
const LOSSES_KEPT: f64 = 0.95;
/// Fewer losses than this are nobody's disadvantage.
const LOSS_MIN: f64 = 1e-4;

/// One model of a pool.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) demand: ModelDemand,
    /// The line through its execution times, in ns.
    alpha: f64,
    beta: f64,
    /// By batch size, less one: the size up to it whose rows cost least. A table with steps has
    /// sizes that are worse than smaller ones.
    thriftiest: Vec<u32>,
    /// The largest batch worth waiting for at its rate.
    pub(super) full: u32,
    /// Recent requests and losses, older ones counting less, and up to which of each.
    pub(super) recent: f64,
    pub(super) lost: f64,
    counted: (u64, u64),
    /// How far it is ahead, in objectives.
    ahead: f64,
    pub(super) plan: ModelPlan,
}

impl Model {
    pub(super) fn new(demand: ModelDemand) -> Model {
        let mut model = Model {
            alpha: 0.0,
            beta: 0.0,
            thriftiest: Vec::new(),
            full: 1,
            recent: 0.0,
            lost: 0.0,
            counted: (demand.arrived, demand.dropped),
            ahead: 0.0,
            plan: ModelPlan::default(),
            demand,
        };
        model.fit();
        model
    }

    pub(super) fn note(&mut self, demand: ModelDemand) {
        let is_same = demand.profile.is(&self.demand.profile) && demand.data == self.demand.data;
        self.demand = demand;
        if !is_same {
            self.fit();
        }
    }

    pub(super) fn high_demand(&self) -> HighDemand<'_> {
        let ModelDemand { profile, data, room, high_per_ns, demoted, .. } = &self.demand;
        let kept = 1.0 - demoted;
        HighDemand { profile, data: *data, room: *room, rows_per_ns: *high_per_ns, kept }
    }

    pub(super) fn is_active(&self) -> bool {
        self.demand.is_present && self.demand.rows_per_ns > 0.0
    }

    pub(super) fn forget_losses(&mut self) {
        (self.recent, self.lost, self.ahead) = (0.0, 0.0, 0.0);
    }

    fn fit(&mut self) {
        let (alpha, beta) = self.demand.profile.fit();
        self.alpha = (alpha + self.demand.data).0 as f64;
        self.beta = beta.0 as f64;
        // Kept to be allocated once.
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

    /// How long a batch occupies an accelerator and its inputs' way, in ns.
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

    /// How long a batch of one can wait.
    pub(super) fn tolerance(&self) -> f64 {
        self.demand.room.0 as f64 - self.busy_with(1)
    }

    /// How long another model's batch may be before it is in the way.
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

    /// The same, where it has `share` accelerators to stagger its batches on.
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
        let (mut lowest, mut highest) =
            (1, self.demand.profile.rows_within(self.demand.room).max(1));
        while lowest < highest {
            let middle = lowest + (highest - lowest).div_ceil(2);
            if fits(middle) {
                lowest = middle;
            } else {
                highest = middle - 1;
            }
        }
        lowest
    }

    pub(super) fn stretched(&self, x: f64) -> f64 {
        1.0 + x * f64::from(self.full - 1)
    }

    /// The batch `b` that costs least, waiting and use together: the minimum of
    /// `(b - 1)/2 + r*l(b) + price * r*l(b)/b` for `l(b) = alpha b + beta`.
    pub(super) fn balanced(&self, price: f64) -> f64 {
        let rate = self.demand.rows_per_ns;
        let best = (price * rate * self.beta / (0.5 + rate * self.alpha)).sqrt();
        best.clamp(1.0, f64::from(self.full))
    }

    /// The size to start at, given what the fitted line says. Where the table has a step, that may
    /// lie just past it, or so little before its end that the rest of the step comes for nothing.
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

    /// Counts what came and was lost since the last plan, which so many usual plans are made in.
    pub(super) fn count_losses(&mut self, plans: i32) {
        let ModelDemand { arrived, dropped, is_present, .. } = self.demand;
        let before = std::mem::replace(&mut self.counted, (arrived, dropped));
        let kept = LOSSES_KEPT.powi(plans);
        self.recent = self.recent * kept + arrived.saturating_sub(before.0) as f64;
        self.lost = self.lost * kept + dropped.saturating_sub(before.1) as f64;
        if !is_present {
            self.forget_losses();
        }
    }

    /// Moves a model that loses more than the others ahead of them, until it does not.
    pub(super) fn follow_losses(&mut self, all: f64, plans: i32) {
        if all < LOSS_MIN {
            self.ahead *= ADVANCE_KEPT.powi(plans);
            return;
        }
        let own = self.lost / self.recent.max(1.0) * self.demand.weight;
        let gain = FAIRNESS_GAIN * f64::from(plans);
        self.ahead = (self.ahead + gain * (own - all)).clamp(0.0, ADVANCE_MAX);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    pub(super) fn decide(&self, stretch: f64, price: Option<f64>, calm: f64) -> ModelPlan {
        let credit = Span((self.ahead * self.demand.slo.0 as f64) as u64);
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
        let gathering = self.busy(needed) / self.load(needed).powi(2);
        let early_start = calm * EARLY_START * self.demand.dispersion.min(1.0) * gathering;
        let wait_max = WAIT_MAX * f64::from(threshold - 1) / rate;
        ModelPlan {
            is_overloaded: calm <= 0.0,
            target: rounded_up(needed),
            threshold,
            early_start: Span(early_start as u64),
            wait_max: Span(wait_max as u64),
            price: PRICE * calm.max(CALM_MIN),
            level: 0,
            credit,
            urgency: Span::ZERO,
            need: None,
        }
    }
}

/// Up to the next size, what is no more than an error of rounding left aside.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a batch size")]
fn rounded_up(rows: f64) -> u32 {
    (rows - 1e-9).ceil() as u32
}
