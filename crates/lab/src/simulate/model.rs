//! A model of a scenario.

use std::sync::Arc;
use symphony_core::{Objective, Profile};
use symphony_sim::{Bimodal, Mix, Sizes};

/// A model of a scenario, as its file describes it.
#[derive(Clone, Debug)]
pub(super) struct SimulatedModel {
    pub(super) name: String,
    pub(super) profile: Arc<Profile>,
    pub(super) objective: Objective,
    pub(super) mix: Mix,
    /// How much its losses under overload count beside the other models'.
    pub(super) loss_weight: f64,
    /// How its requests differ in size; the profile is that of the largest.
    pub(super) sizes: Option<Sizes>,
}

impl SimulatedModel {
    /// The time of an accelerator that a row takes at least, in seconds.
    pub(super) fn seconds_per_row(&self, bimodal: Option<Bimodal>) -> f64 {
        if let Some(sizes) = &self.sizes {
            return sizes.seconds_per_row(self.objective.span()) * bimodal.map_or(1.0, cheapest);
        }
        if let Some(bimodal) = bimodal {
            return bimodal.seconds_per_row(&self.profile, self.objective.span());
        }
        let rows = self.profile.rows_within(self.objective.span());
        self.profile.exec(rows).as_secs_f64() / f64::from(rows)
    }
}

/// At least this part of the full time is what a batch takes.
fn cheapest(bimodal: Bimodal) -> f64 {
    bimodal.factor.min(1.0)
}
