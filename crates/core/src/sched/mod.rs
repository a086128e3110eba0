//! The scheduler: which requests run together, where, and when.
//!
//! - [`Shard`]: the queues of some models; turns a queue into a *candidate* (the batch it would
//!   run next, and when) and a *grant* into a sealed batch.
//! - [`Matcher`]: the accelerators of one pool; gives ready candidates the lowest-numbered free
//!   accelerator.
//! - [`Scheduler`]: one shard and one matcher, with their messages delivered at once.
//! - [`ShardParty`], [`MatcherParty`]: any number of shards and a matcher that somebody else carries
//!   messages between.
//!
//! Shard and matcher know each other only by message, so that they can run on threads of their
//! own; messages carry a generation number, which makes crossing ones harmless. Messages from one
//! to the other must not overtake each other, but may take their time.

mod drift;
mod heap;
mod lanes;
mod matcher;
mod mode;
mod needs;
mod parties;
mod plan;
mod queue;
mod rate;
mod scheduler;
mod shard;

pub use matcher::{ACCELERATORS_MAX, AcceleratorState, BatchEnded, Matcher, OVERDUE_AFTER};
pub use mode::{Mode, UnknownMode};
pub use needs::{HighLoad, HighNeed, RecentTraffic};
pub use parties::{MatcherParty, MatcherToShard, ShardParty, ShardToMatcher};
pub use plan::{ModelDemand, ModelPlan};
pub use scheduler::{Policy, Scheduler};
pub use shard::{LOW_SHARE_DEFAULT, ModelStatistics, Shard};

use crate::ids::{AcceleratorId, BatchId, ModelId, RequestId};
use crate::profile::Profile;
use crate::request::{Class, Delays, DropReason, Request};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use std::ops::Range;
use std::sync::Arc;

/// How many levels there are of models that keep accelerators free for others.
pub const LEVELS: usize = 8;

/// What a scheduler has to know of a model.
#[derive(Clone, Debug)]
pub struct ModelTerms {
    /// Planned execution time by batch size (a high percentile); its largest batch is the bound.
    pub profile: Arc<Profile>,
    /// The latency objective.
    pub slo: Span,
    /// Bound on queued requests.
    pub queue_max: u32,
    /// How much the share of its requests that is lost under overload counts beside the other
    /// models': with 2, half of theirs is lost. Positive; looked at by the adaptive mode.
    pub loss_weight: f64,
}

/// Everything that can happen to a scheduler.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request arrived.
    Arrive {
        /// Its model.
        model: ModelId,
        /// The request.
        request: Request,
    },
    /// A client left: take its request out if it is still queued.
    Cancel {
        /// Its model.
        model: ModelId,
        /// The request.
        request: RequestId,
        /// The deadline it came with.
        deadline: Time,
    },
    /// An accelerator finished a batch.
    Complete {
        /// Where it ran.
        accelerator: AcceleratorId,
        /// Which batch.
        batch: BatchId,
        /// How long it ran, as the profile counts it; zero when it teaches nothing.
        exec: Span,
    },
    /// Take requests for this model; its identity must not be in use.
    AddModel {
        /// The model.
        model: ModelId,
        /// Its terms.
        terms: ModelTerms,
    },
    /// Take no new requests for this model; answered by [`Action::Removed`] once its queue is
    /// empty and its last batch has ended.
    RemoveModel {
        /// The model.
        model: ModelId,
    },
    /// Grant batches to this accelerator from now on; see [`Matcher::add`].
    AddAccelerator {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// Grant no more batches to this accelerator; answered by [`Action::Drained`] once it runs
    /// none, unless it is added again before.
    DrainAccelerator {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// The pool is to be scheduled by another mode from now on.
    SetMode(Mode),
    /// The scheduler was measured to sustain so many batches per second.
    SetBatchesMax(f64),
    /// The pool's delays were measured again.
    SetDelays(Delays),
    /// How much longer than planned this model's batches were measured to run, where they do.
    SetOverrun {
        /// The model.
        model: ModelId,
        /// To be left between the planned end of execution and the deadline, besides the delays.
        overrun: Span,
    },
}

/// What a scheduler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this batch to its accelerator now.
    Start(Start),
    /// Answer this request without running it.
    Drop {
        /// Its model.
        model: ModelId,
        /// The request.
        request: Request,
        /// Why.
        reason: DropReason,
    },
    /// The model has no request and no batch left; its identity may be used again.
    Removed {
        /// The model.
        model: ModelId,
    },
    /// An accelerator that is to be granted no more batches runs none.
    Drained {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// An accelerator is dead: it has not ended this batch, or one before it, long after it should
    /// have. It is granted none until it has ended all it was sent. The batch is not counted as
    /// running any more; its requests are owed their outcome.
    Lost {
        /// Whose it is.
        model: ModelId,
        /// The batch.
        batch: BatchId,
        /// Where it was to run.
        accelerator: AcceleratorId,
        /// How late the first batch there is.
        overdue: Span,
    },
    /// A dead accelerator has ended all that it was sent: it is granted batches again, if it was
    /// not drained.
    Recovered {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
}

/// A sealed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its identity.
    pub batch: BatchId,
    /// Where it runs.
    pub accelerator: AcceleratorId,
    /// Whose it is.
    pub model: ModelId,
    /// Its requests: a range of [`Actions::requests`].
    pub requests: Range<usize>,
    /// Rows of all its requests.
    pub rows: u32,
    /// When execution is planned to begin.
    pub begin: Time,
    /// How long it is planned to run.
    pub exec: Span,
    /// How many times longer that is than by the profile as it was loaded.
    pub slowdown: Slowdown,
    /// Whether it is sent while another batch runs there, so that it has to wait for that one.
    pub behind: bool,
}

/// The actions of one step, in order. Kept and cleared by the driver, so that a step allocates
/// nothing once the buffers have grown.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// What to do.
    pub list: Vec<Action>,
    /// The requests of all started batches.
    pub requests: Vec<Request>,
}

impl Actions {
    /// Forgets everything, keeping the room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.requests.clear();
    }

    /// The requests of a batch.
    ///
    /// # Panics
    /// When `start` is not one of this step's.
    #[must_use]
    pub fn batch(&self, start: &Start) -> &[Request] {
        &self.requests[start.requests.clone()]
    }
}

/// Shard to matcher: the batch a model would run next, or none. The newest one counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The model.
    pub model: ModelId,
    /// How many grants of this model the shard had answered when it made the candidate. The
    /// matcher ignores one made before the shard saw its newest grant: its requests are gone.
    /// Counting begins again when the identity is used again: the matcher forgets a model only
    /// after its shard said, behind its last offer, that it is closed; and a new model of that
    /// identity has to be known to it by the same way.
    pub generation: u32,
    /// When the batch may be sent; `None` when the model has nothing to run.
    pub offer: Option<Offer>,
}

/// The batch of a candidate and when it may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Not before.
    pub exec: Time,
    /// From here on it may be sent to an accelerator that others would rather keep free.
    pub urgent: Time,
    /// Not after.
    pub latest: Time,
    /// The turn it takes among batches that may be sent: the earliest goes first.
    pub turn: Time,
    /// Batches of a higher level keep accelerators free for lower ones; less than [`LEVELS`].
    pub level: u8,
    /// From granting until execution can begin on a free accelerator.
    pub lead: Span,
    /// When execution has to have ended.
    pub due: Time,
    /// How long its first request alone would run: what an accelerator must have room for.
    pub head_exec: Span,
    /// Of the requests that lead it; high goes first.
    pub class: Class,
    /// How long it is planned to run.
    pub exec_span: Span,
    /// Of a low batch: so many accelerators have to be left without one. A whole number.
    pub reserved: f64,
    /// When the batch that the measured rate promises will have to be sent; no later than `exec`.
    pub expected: Time,
    /// How many more such batches are queued behind it, each of which may be granted at once: an
    /// answer of the shard takes its time, and one batch for each would be too few.
    pub more_batches: u32,
}

/// Matcher to shard: an accelerator for the model's next batch. The shard answers each with
/// one [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The model.
    pub model: ModelId,
    /// Its accelerator.
    pub accelerator: AcceleratorId,
    /// What the batch will be called, if there is one.
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
    pub started: Option<Started>,
}

/// A batch on its way to an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// When its inputs are there: the earliest start of execution.
    pub ready: Time,
    /// How long it is planned to run.
    pub exec: Span,
    /// How long it would run by the profile as it was loaded.
    pub table: Span,
    /// From granting until its inputs are there.
    pub lead: Span,
}
