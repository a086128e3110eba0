//! What is asked of the scheduler now and then, and what it answers.

use serde::{Deserialize, Serialize};
use symphony_core::sched::{AcceleratorState, Mode, ModelStatistics, ModelTerms};
use symphony_core::{AcceleratorId, Delays, ModelId, Slowdown, Span};

/// A model is loaded on every accelerator of the pool: take its requests.
#[derive(Clone, Debug)]
pub struct AddModel {
    /// Identity, chosen by the sender and not in use.
    pub model: ModelId,
    /// What the scheduler has to know of it.
    pub terms: ModelTerms,
}

/// Send batches to an accelerator, or no more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// The accelerator.
    pub accelerator: AcceleratorId,
    /// Whether it gets batches from now on.
    pub serves: bool,
}

/// Counters of one accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorStatistics {
    /// Batches completed.
    pub batches: u64,
    /// Time spent on them.
    pub busy: Span,
    /// How many times longer than elsewhere in the pool batches run on it.
    pub slowdown: Slowdown,
    /// What it is in the pool.
    pub state: AcceleratorState,
    /// How it lay idle lately though its next batch was planned.
    pub gaps: GapFigures,
}

/// The newest gaps of an accelerator: the time that it lay idle between two batches of which the second
/// was planned before the first ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFigures {
    /// How many there were since the accelerator's thread began.
    pub count: u64,
    /// The mean of the newest.
    pub mean: Span,
    /// Their 95th percentile.
    pub p95: Span,
    /// How much of the mean passed before the inputs of the second batch were there.
    pub inputs: Span,
}

/// What the newest batches of a model took, as multiples of what its profile says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredTimes {
    /// How many batches.
    pub batches: usize,
    /// Their mean.
    pub mean: f64,
    /// Their 95th percentile.
    pub p95: f64,
    /// Their standard deviation, as a share of the mean.
    pub spread: f64,
}

/// The scheduler's counters at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Statistics {
    /// The mode in force.
    pub mode: Mode,
    /// Batches per second that the scheduler itself was measured to sustain; none before it has
    /// started enough of them to tell.
    pub batches_max: Option<f64>,
    /// Per model, by its first lane; all of its lanes together.
    pub models: Vec<(ModelId, ModelStatistics)>,
    /// What batches took lately, of the models that have run any: as it was, with every stall.
    pub times: Vec<(ModelId, MeasuredTimes)>,
    /// The delays that plans count with.
    pub delays: Delays,
    /// Requests queued in each lane of the models that have several: by the model's first lane, and
    /// the lane.
    pub lanes: Vec<(ModelId, ModelId, u64)>,
    /// Per accelerator, by number.
    pub accelerators: Vec<AcceleratorStatistics>,
}
