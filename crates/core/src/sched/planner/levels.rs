//! Priority levels: models whose batches run longer than another model can wait leave accelerators
//! free for it.
//!
//! In: planned models. Out: the level of each, and for each level how many batches it and the higher
//! ones may run together before they are urgent.

use super::model::PlannedModel;
use crate::sched::message::LEVELS;

/// Added before a number of accelerators for full batches is rounded down.
const ROUNDING: f64 = 0.25;

/// What tight models may want at one time: so many standard deviations above their mean, and so many
/// accelerators more.
const WANTED_DEVIATIONS: f64 = 5.0;
const WANTED_MORE: f64 = 3.0;

/// The levels of a pool.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    limits: [u32; LEVELS],
    /// The longest wait that each model tolerates, and its index, shortest first. It is kept so that
    /// a plan allocates nothing.
    order: Vec<(f64, usize)>,
}

impl Levels {
    pub(super) fn new() -> Levels {
        Levels { limits: [u32::MAX; LEVELS], order: Vec::new() }
    }

    pub(super) fn limits(&self) -> &[u32; LEVELS] {
        &self.limits
    }

    /// Gives each model its level. What a level and the higher ones may run is what their full
    /// batches keep busy, or what the lower levels are sure not to want, if that is more.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    pub(super) fn assign(
        &mut self,
        models: &mut [Option<PlannedModel>],
        stretch: f64,
        accelerators: f64,
    ) {
        self.limits = [u32::MAX; LEVELS];
        let present = models.iter().enumerate().filter_map(|(at, model)| {
            let model = model.as_ref().filter(|model| model.demand.is_present)?;
            // Nothing is promised for best effort that others could make impossible, and what it
            // may take is the matcher's business.
            if model.demand.is_soft {
                return None;
            }
            Some((model.tolerance(), at))
        });
        self.order.clear();
        self.order.extend(present);
        self.order.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let (mut level, mut tightest) = (0u8, f64::INFINITY);
        for place in 0..self.order.len() {
            let at = self.order[place].1;
            let Some(model) = &models[at] else { continue };
            let (forbearance, length) = (model.forbearance(), model.busy(model.stretched(stretch)));
            tightest = tightest.min(forbearance);
            // A single accelerator cannot be both left free and used.
            if accelerators > 1.0 && length > tightest && usize::from(level) + 1 < LEVELS {
                level += 1;
                tightest = forbearance;
                let spare = accelerators - self.wanted_before(models, place);
                let needed = self.needed_from(models, place);
                self.limits[usize::from(level)] = needed.max(spare as u32);
            }
            if let Some(model) = &mut models[at] {
                model.plan.level = level;
            }
        }
    }

    /// Accelerators that the models before this place of the order may want at one time, even if
    /// each of their requests ran alone.
    fn wanted_before(&self, models: &[Option<PlannedModel>], place: usize) -> f64 {
        let before = self.order[..place].iter().filter_map(|(_, at)| models[*at].as_ref());
        let (busy, spread) = before.fold((0.0, 0.0), |(busy, spread), model| {
            let load = model.load(1.0);
            (busy + load, spread + load * model.demand.dispersion.max(1.0))
        });
        busy + WANTED_DEVIATIONS * f64::sqrt(spread) + WANTED_MORE
    }

    /// Accelerators that the models from this place of the order on keep busy in full batches.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn needed_from(&self, models: &[Option<PlannedModel>], place: usize) -> u32 {
        let from = self.order[place..].iter().filter_map(|(_, at)| models[*at].as_ref());
        let busy: f64 = from.map(|model| model.load(f64::from(model.full))).sum();
        (busy + ROUNDING) as u32
    }
}
