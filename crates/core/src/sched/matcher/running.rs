//! What runs: batches that were granted or sent and have not ended, by model, priority level and
//! tier; and which closed models wait for their last.

use super::accelerator::Granted;
use crate::ids::ModelId;
use crate::sched::drift::UsualRatio;
use crate::sched::message::{LEVELS, Tier};
use std::collections::VecDeque;

/// What the matcher knows of one model beside its candidate.
#[derive(Clone, Copy, Debug, Default)]
struct MatchedModel {
    /// The generation of the model that has this place.
    of: u32,
    running: u32,
    /// Its shard has reported it closed.
    is_closed: bool,
    usual: UsualRatio,
}

impl MatchedModel {
    /// The place of a model of which nothing is known yet.
    fn of(model: ModelId) -> MatchedModel {
        MatchedModel { of: model.generation(), ..MatchedModel::default() }
    }
}

/// Counts of running batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    models: Vec<MatchedModel>,
    by_level: [u32; LEVELS],
    /// Batches of the lower tiers.
    low: u32,
    /// How many models are closed and not forgotten.
    closed: usize,
    /// Closed models of which nothing runs; some may stand here twice.
    ended: VecDeque<ModelId>,
}

impl Running {
    /// Batches of a model.
    #[cfg(test)]
    pub(super) fn of_model(&self, model: ModelId) -> u32 {
        let known = self.models.get(model.index());
        known.filter(|known| known.of == model.generation()).map_or(0, |known| known.running)
    }

    /// Gives a model its place if the model before it is gone; returns whether it has its place now. A model that
    /// had the place before has not.
    #[inline]
    pub(super) fn admit(&mut self, model: ModelId) -> bool {
        let known = self.known(model);
        if model.is_later_than(known.of) && known.running == 0 && !known.is_closed {
            *known = MatchedModel::of(model);
        }
        known.of == model.generation()
    }

    /// Batches by priority level.
    #[inline]
    pub(super) fn by_level(&self) -> &[u32; LEVELS] {
        &self.by_level
    }

    /// Batches of the lower tiers.
    #[inline]
    pub(super) fn low(&self) -> u32 {
        self.low
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_level.iter().all(|running| *running == 0)
    }

    /// How long executions of a model usually take at the moment.
    #[inline]
    pub(super) fn usual_of(&mut self, model: ModelId) -> &mut UsualRatio {
        &mut self.known(model).usual
    }

    /// A batch was granted.
    #[inline]
    pub(super) fn add(&mut self, granted: Granted) {
        let Granted { model, level, tier, .. } = granted;
        self.known(model).running += 1;
        self.by_level[usize::from(level)] += 1;
        self.low += u32::from(tier != Tier::High);
    }

    /// A granted batch has ended, or was never sent.
    #[inline]
    pub(super) fn remove(&mut self, granted: Granted) {
        let Granted { model, level, tier, .. } = granted;
        let known = &mut self.models[model.index()];
        known.running -= 1;
        if known.is_closed && known.running == 0 {
            self.ended.push_back(model);
        }
        self.by_level[usize::from(level)] -= 1;
        self.low -= u32::from(tier != Tier::High);
    }

    /// A model takes no more requests, and has none.
    pub(super) fn close(&mut self, model: ModelId) {
        if !self.admit(model) {
            return;
        }
        let known = self.known(model);
        let is_news = !std::mem::replace(&mut known.is_closed, true);
        let runs = known.running > 0;
        self.closed += usize::from(is_news);
        if is_news && !runs {
            self.ended.push_back(model);
        }
    }

    /// Whether a closed model waits for its last batch.
    pub(super) fn has_closed(&self) -> bool {
        self.closed > 0
    }

    /// Forgets a closed model of which nothing runs, and returns it, until there is none.
    #[inline]
    pub(super) fn forget_ended(&mut self) -> Option<ModelId> {
        while let Some(model) = self.ended.pop_front() {
            let known = &mut self.models[model.index()];
            if known.is_closed && known.running == 0 {
                *known = MatchedModel::of(model.next_generation());
                self.closed -= 1;
                return Some(model);
            }
        }
        None
    }

    #[inline]
    fn known(&mut self, model: ModelId) -> &mut MatchedModel {
        if self.models.len() <= model.index() {
            self.models.resize_with(model.index() + 1, MatchedModel::default);
        }
        &mut self.models[model.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BatchId;

    const MODEL: ModelId = ModelId::first(3);

    fn granted(tier: Tier) -> Granted {
        Granted { batch: BatchId(0), model: MODEL, level: 2, tier }
    }

    #[test]
    fn batches_count_by_model_level_and_tier() {
        let mut running = Running::default();
        assert!(running.is_empty());
        running.add(granted(Tier::High));
        running.add(granted(Tier::Low));
        assert_eq!((running.of_model(MODEL), running.by_level()[2], running.low()), (2, 2, 1));
        running.remove(granted(Tier::Low));
        running.remove(granted(Tier::High));
        assert!(running.is_empty() && running.low() == 0);
    }

    #[test]
    fn a_closed_model_is_forgotten_once_and_only_when_nothing_of_it_runs() {
        let mut running = Running::default();
        running.add(granted(Tier::High));
        running.close(MODEL);
        running.close(MODEL);
        assert_eq!((running.has_closed(), running.forget_ended()), (true, None));
        running.remove(granted(Tier::High));
        assert_eq!(running.forget_ended(), Some(MODEL));
        assert_eq!((running.has_closed(), running.forget_ended()), (false, None));
        let next = MODEL.next_generation();
        assert!(!running.admit(MODEL) && running.admit(next));
        running.close(MODEL);
        assert_eq!(running.forget_ended(), None, "it is gone already");
        running.close(next);
        assert_eq!(running.forget_ended(), Some(next));
    }
}
