//! What the lanes of one model have in common in a shard: the bound on their queued requests.
//!
//! Knows of the lanes only how many requests each has queued.

use super::model::QueuedModel;
use crate::ids::ModelId;

/// The models of a shard that have several lanes, by the index of their first.
#[derive(Clone, Debug, Default)]
pub(super) struct LanesOfModels(Vec<LanesOfModel>);

#[derive(Clone, Debug, Default)]
struct LanesOfModel {
    lanes: Vec<ModelId>,
    /// Requests queued in all of them.
    queued: usize,
}

impl LanesOfModels {
    /// A lane was added; one without others is none.
    pub(super) fn add(&mut self, lane: &QueuedModel) {
        let Some(first) = lane.lane_of() else { return };
        if self.0.len() <= first.index() {
            self.0.resize_with(first.index() + 1, LanesOfModel::default);
        }
        self.0[first.index()].lanes.push(lane.id());
    }

    /// A lane is gone; its queue was counted empty.
    pub(super) fn remove(&mut self, lane: &QueuedModel) {
        if let Some(model) = lane.lane_of().and_then(|first| self.0.get_mut(first.index())) {
            model.lanes.retain(|other| *other != lane.id());
        }
    }

    /// Tells a lane what the others of its model have queued.
    #[inline]
    pub(super) fn tell(&self, lane: &mut QueuedModel) {
        let model = lane.lane_of().and_then(|first| self.0.get(first.index()));
        if let Some(model) = model {
            lane.note_others(model.queued);
        }
    }

    /// The queue of a lane has changed.
    #[inline]
    pub(super) fn recount(&mut self, lane: &mut QueuedModel) {
        let model = lane.lane_of().and_then(|first| self.0.get_mut(first.index()));
        if let Some(model) = model {
            let (before, now) = lane.count_queued();
            model.queued = model.queued + now - before;
        }
    }

    /// The lanes of the model that this one belongs to.
    pub(super) fn of(&self, lane: &QueuedModel) -> &[ModelId] {
        let model = lane.lane_of().and_then(|first| self.0.get(first.index()));
        model.map_or(&[], |model| &model.lanes)
    }
}
