//! A model of a scenario.

use std::sync::Arc;
use symphony_core::{Objective, Profile};
use symphony_sim::Mix;

/// A model of a scenario, as its file describes it.
#[derive(Clone, Debug)]
pub(super) struct SimulatedModel {
    pub(super) name: String,
    pub(super) profile: Arc<Profile>,
    pub(super) objective: Objective,
    pub(super) mix: Mix,
    /// How much its losses under overload count beside the other models'.
    pub(super) loss_weight: f64,
}
