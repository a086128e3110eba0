//! How large the batches of a pool have to be for its load.
//!
//! In: the models that requests arrive for, and how many accelerators serve. Out: [`BatchSizes`], the
//! same three numbers for all models.

use super::model::PlannedModel;
use super::search::smallest;
use super::sizes::BatchSizes;

/// Accelerators are planned to be busy for this share of the time, where the load allows it. The
/// rest is what lets a batch start without waiting.
const USE_MAX: f64 = 0.86;

/// A pool passes from serving everybody to serving as many as possible while the load grows by this
/// share over what can be served.
const OVERLOAD_WIDTH: f64 = 0.05;

/// A single accelerator runs down a backlog only by batches that are this much larger than the load needs.
const BACKLOG_ALONE: f64 = 1.5;

/// No nanosecond of an accelerator is worth more nanoseconds of waiting.
const PRICE_MAX: f64 = 1e6;

/// The load of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLoad<'a> {
    pub(super) models: &'a [Option<PlannedModel>],
    /// Indices of those that requests arrive for.
    pub(super) active: &'a [usize],
    pub(super) accelerators: f64,
    /// Batches per nanosecond that the matcher can be asked for.
    pub(super) batches_per_ns_max: f64,
}

/// Finds the largest batch of each model that its rate and its part of the accelerators allow.
pub(super) fn find_full_batches(
    models: &mut [Option<PlannedModel>],
    active: &[usize],
    accelerators: f64,
) {
    let load = |model: &PlannedModel| model.load(f64::from(model.gathered()));
    let all: f64 = active.iter().filter_map(|at| models[*at].as_ref()).map(load).sum();
    for at in active {
        if let Some(model) = &mut models[*at] {
            model.full = model.full_batch(accelerators * load(model) / all);
        }
    }
}

impl<'a> PoolLoad<'a> {
    pub(super) fn sizes(&self) -> BatchSizes {
        BatchSizes {
            stretch: self.needed_stretch(),
            price: self.price_of_use(),
            calm: self.calm(),
            backlog: if self.accelerators > 1.0 { 1.0 } else { BACKLOG_ALONE },
        }
    }

    fn active(&self) -> impl Iterator<Item = &'a PlannedModel> {
        let PoolLoad { models, active, .. } = *self;
        active.iter().filter_map(|at| models[*at].as_ref())
    }

    fn needed_stretch(&self) -> f64 {
        let excess = |x| self.excess(self.accelerators, |model| model.stretched(x));
        smallest((0.0, 1.0), excess).unwrap_or(1.0)
    }

    fn price_of_use(&self) -> Option<f64> {
        let use_max = USE_MAX * self.accelerators;
        let excess = |price: f64| self.excess(use_max, |model| model.balanced(price));
        let (mut low, mut high) = (0.0, 1.0);
        while high < PRICE_MAX && excess(high) > 0.0 {
            (low, high) = (high, PRICE_MAX.min(4.0 * high));
        }
        smallest((low, high), excess)
    }

    /// How much more these batch sizes ask for than there is, as a share of it: of so many
    /// accelerators, or of the batches that the matcher can be asked for.
    fn excess(&self, accelerators: f64, rows: impl Fn(&PlannedModel) -> f64) -> f64 {
        let (mut busy, mut batches) = (0.0, 0.0);
        for model in self.active() {
            let rows = rows(model);
            let batches_per_ns = model.demand.rows_per_ns / rows;
            busy += batches_per_ns * model.busy(rows);
            batches += batches_per_ns;
        }
        f64::max(busy / accelerators, batches / self.batches_per_ns_max) - 1.0
    }

    /// Best effort drops nothing, however much there is of it, and is no overload of the others.
    fn calm(&self) -> f64 {
        let bound = self.active().filter(|model| !model.demand.is_soft);
        let busy = bound.map(|model| model.load(f64::from(model.full))).sum::<f64>();
        (1.0 - (busy / self.accelerators - 1.0) / OVERLOAD_WIDTH).clamp(0.0, 1.0)
    }
}
