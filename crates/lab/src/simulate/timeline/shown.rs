//! What a timeline shows: requests, and the batches and drops of each policy.

use symphony_core::{BatchId, Objective, Time};
use symphony_sim::PolicyKind;

/// The part of the runs that is shown.
pub(super) struct Timeline {
    pub(super) models: Vec<ShownModel>,
    pub(super) accelerators: u32,
    /// Since the beginning of the runs, warm-up included.
    pub(super) from: Time,
    pub(super) to: Time,
    /// Milliseconds between the end of the warm-up and `from`.
    pub(super) from_ms: f64,
    /// The same for every policy, in order of time; too many to draw are cut off.
    pub(super) arrivals: Vec<Arrival>,
    pub(super) runs: Vec<ShownRun>,
}

pub(super) struct ShownModel {
    pub(super) name: String,
    pub(super) objective: Objective,
}

/// What one policy did.
pub(super) struct ShownRun {
    pub(super) policy: PolicyKind,
    pub(super) batches: Vec<ShownBatch>,
    pub(super) drops: Vec<ShownDrop>,
}

pub(super) struct ShownBatch {
    pub(super) id: BatchId,
    pub(super) accelerator: usize,
    pub(super) model: usize,
    pub(super) size: usize,
    pub(super) begin: Time,
    pub(super) end: Time,
    /// The earliest of its requests.
    pub(super) deadline: Time,
}

pub(super) struct Arrival {
    pub(super) at: Time,
    pub(super) model: usize,
}

pub(super) struct ShownDrop {
    pub(super) at: Time,
    pub(super) model: usize,
    pub(super) reason: &'static str,
}
