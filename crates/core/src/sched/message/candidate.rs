//! Shard to matcher: the batch that a model would run next, and when it may be sent.

use crate::ids::ModelId;
use crate::time::{Span, Time};

/// Which batches go first between models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Led by high requests, with an objective.
    #[default]
    High,
    /// Led by low requests, with an objective.
    Low,
    /// Of a model without an objective. Takes what the others leave.
    BestEffort,
}

impl Tier {
    /// Those that give way to the ones before them, in order.
    pub(crate) const LOWER: [Tier; 2] = [Tier::Low, Tier::BestEffort];

    /// Its place among the lower ones.
    #[inline]
    pub(crate) fn lower(self) -> Option<usize> {
        match self {
            Tier::High => None,
            Tier::Low => Some(0),
            Tier::BestEffort => Some(1),
        }
    }
}

/// How many priority levels there are.
pub const LEVELS: usize = 8;

/// The batch that a model would run next, or that it has none. The newest one counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The model.
    pub model: ModelId,
    /// How many grants of this model the shard had answered when it made the candidate. The matcher
    /// ignores a candidate that was made before its newest grant was answered: the grant may have
    /// taken the candidate's requests.
    ///
    /// Counting starts again when an identity is used again. The matcher forgets a model only after
    /// its shard has reported it closed, behind its last candidate; a new model of that identity has
    /// to reach the matcher by the same way.
    pub generation: u32,
    /// When the batch may be sent; `None` when the model has nothing to run.
    pub offer: Option<Offer>,
}

/// The batch of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// The window opens: it may be sent from here on.
    pub exec: Time,
    /// From here on it may take any accelerator, also one that its level leaves to others.
    pub urgent: Time,
    /// The window closes: it may be sent until here, inclusive.
    pub latest: Time,
    /// Its turn among batches whose windows are open: the earliest goes first.
    pub turn: Time,
    /// Its priority level; less than [`LEVELS`].
    pub level: u8,
    /// From granting until execution can begin on a free accelerator.
    pub lead: Span,
    /// When execution has to have ended, or its first request is of no use any more.
    pub due: Time,
    /// How long its first request alone would run. An accelerator must have room for at least that.
    pub head_exec: Span,
    /// Which batches go before it.
    pub tier: Tier,
    /// How long it is planned to run.
    pub exec_span: Span,
    /// Of a lower tier: how many accelerators are reserved for high requests. A whole number.
    pub reserved: f64,
    /// When the batch that will have gathered by the measured rate has to be sent; no later than
    /// `exec`.
    pub expected: Time,
    /// How many more such batches are queued behind it. Each may be granted at once: to offer one
    /// only after the shard has answered for the one before would leave accelerators waiting.
    pub more_batches: u32,
}
