//! What the lanes of models are called. The next scheduler gives other names, so that requests that wait
//! are submitted to it under these.

use std::collections::HashMap;
use symphony_core::ModelId;
use symphony_wire::carrier::in_process::Catalog;

/// A lane, by what stays the same from one scheduler to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lane {
    model: String,
    version: String,
    number: usize,
}

/// The lanes by name.
#[derive(Debug, Default)]
pub(crate) struct LaneNames(HashMap<ModelId, Lane>);

impl LaneNames {
    /// The lanes of a catalog, and no others.
    pub(crate) fn of(catalog: &Catalog) -> LaneNames {
        let mut names = LaneNames::default();
        names.add(catalog);
        names
    }

    /// The lanes of a catalog of the same scheduler, beside those that are known.
    pub(crate) fn add(&mut self, catalog: &Catalog) {
        for model in catalog.served() {
            for (number, lane) in model.lanes.ids().iter().enumerate() {
                let (model, version) = (model.name.clone(), model.version.clone());
                self.0.insert(*lane, Lane { model, version, number });
            }
        }
    }

    /// Whether a lane is one of these.
    pub(crate) fn has(&self, lane: ModelId) -> bool {
        self.0.contains_key(&lane)
    }

    /// Forgets the others.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&ModelId) -> bool) {
        self.0.retain(|lane, _| is_kept(lane));
    }

    /// What a lane is called in another scheduler's catalog; `None` when that serves no such model.
    pub(crate) fn translate(&self, lane: ModelId, to: &Catalog) -> Option<ModelId> {
        let lane = self.0.get(&lane)?;
        let model = to.models.get(&lane.model)?.find(&lane.version)?;
        let ids = model.lanes.ids();
        // A model that has fewer lanes now takes the request by its first.
        ids.get(lane.number).or_else(|| ids.first()).copied()
    }
}
