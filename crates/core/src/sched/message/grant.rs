//! Matcher to shard and back: an accelerator for a batch, what became of it, and how it ended.

use crate::ids::{AcceleratorId, BatchId, ModelId};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// Matcher to shard: an accelerator for the model's next batch. The shard answers each with one
/// [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The model.
    pub model: ModelId,
    /// The accelerator.
    pub accelerator: AcceleratorId,
    /// The identity of the batch, if there is one.
    pub batch: BatchId,
    /// When everything already sent to the accelerator will have ended.
    pub free: Time,
    /// How many times longer than elsewhere in the pool batches run on it; at least one.
    pub slowdown: Slowdown,
    /// Whether it still runs a batch.
    pub behind: bool,
}

/// Shard to matcher: what became of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The grant's accelerator.
    pub accelerator: AcceleratorId,
    /// The grant's batch.
    pub batch: BatchId,
    /// The batch that was sent; `None` when there was nothing to run after all.
    pub sent: Option<SentBatch>,
}

/// A batch on its way to an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentBatch {
    /// When its inputs are there: the earliest start of execution.
    pub ready: Time,
    /// How long it will run on average.
    pub exec: Span,
    /// The standard deviation of that.
    pub spread: Span,
    /// How long it would run by the profile as it was loaded.
    pub table: Span,
    /// From granting until its inputs are there.
    pub lead: Span,
}

/// Matcher to shard: a batch of a model no longer runs, because it completed or was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEnded {
    /// The model.
    pub model: ModelId,
    /// How long it ran compared with the profile as it was loaded, its accelerator's slowdown taken
    /// out; `None` when that is not known.
    pub ratio: Option<Slowdown>,
}
