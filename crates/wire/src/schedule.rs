//! What the rest of the process says to a scheduler, and what it says back.
//!
//! Requests and completions are plain messages in rings ([`port`]); everything rarer is a control
//! message with its own answer.

pub mod inbox;
pub mod port;
pub mod share;

pub use inbox::{Inbox, Layout, MatcherInbox, Message, Serving, ShardInbox, ThreadInbox, home};
pub use port::{SchedulerPort, SubmitError, scheduler};
pub use share::Share;
pub use symphony_core::sched::{AcceleratorState, Mode, ModelPlan, ModelStatistics, ModelTerms};
use symphony_core::{AcceleratorId, BatchId, ModelId, Request, RequestId, Slowdown, Span, Time};
use tokio::sync::oneshot;

/// What comes to a shard with every request.
#[derive(Clone, Copy, Debug)]
pub enum ToShard {
    /// A frontend admitted a request.
    Submit {
        /// Its model.
        model: ModelId,
        /// Its metadata.
        request: Request,
    },
    /// The client of a queued request has left.
    Cancel {
        /// Its model.
        model: ModelId,
        /// The request.
        request: RequestId,
        /// Its deadline, by which the queue finds it.
        deadline: Time,
    },
}

/// What comes to a shard now and then.
#[derive(Debug)]
pub enum ShardControl {
    /// A model is loaded on every accelerator of the pool: take its requests.
    AddModel {
        /// Identity, chosen by the sender and not in use.
        model: ModelId,
        /// What the scheduler has to know of it.
        terms: ModelTerms,
        /// Told once requests for it are taken.
        done: oneshot::Sender<()>,
    },
    /// Let the model's queue run empty, take no new requests for it, then forget it.
    RemoveModel {
        /// The model.
        model: ModelId,
        /// Told once its last batch has ended.
        done: oneshot::Sender<()>,
    },
    /// Schedule by another mode from now on. What is queued stays queued.
    SetMode(Mode, Share<()>),
    /// Fill in the counters of all models.
    Statistics(Share<Statistics>),
    /// Let every queue run empty (each request runs or is dropped by its deadline), then stop.
    Drain(Share<()>),
}

/// What comes to the matcher now and then.
#[derive(Debug)]
pub enum MatcherControl {
    /// Schedule by another mode from now on.
    SetMode(Mode, Share<()>),
    /// Fill in the counters of the pool and its accelerators.
    Statistics(Share<Statistics>),
    /// Send batches to an accelerator, or no more of them.
    Serve {
        /// The accelerator.
        accelerator: AcceleratorId,
        /// Whether it gets batches from now on.
        serves: bool,
        /// Told what it is then; `None` when the pool has no such accelerator.
        done: oneshot::Sender<Option<AcceleratorState>>,
    },
    /// Never send a batch to an accelerator again: nothing runs there any more.
    Lose {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
}

/// A sealed batch, on its way to an accelerator.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    /// Identity, returned in the completion.
    pub batch: BatchId,
    /// Whose batch.
    pub model: ModelId,
    /// Its requests, in deadline order.
    pub requests: Vec<Request>,
    /// Rows of all requests together.
    pub rows: u32,
    /// The execution time the plan counts with.
    pub exec: Span,
    /// When the scheduler decided.
    pub decided: Time,
}

/// A batch has ended, well or not; its requests have had their outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Where it ran.
    pub accelerator: AcceleratorId,
    /// Which batch.
    pub batch: BatchId,
    /// Whose batch.
    pub model: ModelId,
    /// When the backend took up the plan.
    pub taken: Time,
    /// Time to assemble the batch and run it: what the profile predicts.
    pub exec: Span,
    /// When the last outcome was handed over.
    pub finished: Time,
}

/// Counters of one accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceleratorStatistics {
    /// Batches completed.
    pub batches: u64,
    /// Time spent on them.
    pub busy: Span,
    /// How many times longer than elsewhere in the pool batches run on it.
    pub slowdown: Slowdown,
    /// What it is in the pool.
    pub state: AcceleratorState,
}

/// The scheduler's counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The mode in force.
    pub mode: Mode,
    /// Batches per second that the scheduler itself was measured to sustain; none before it has
    /// started enough of them to tell.
    pub batches_max: Option<f64>,
    /// Per model.
    pub models: Vec<(ModelId, ModelStatistics)>,
    /// Per accelerator, by number.
    pub accelerators: Vec<AcceleratorStatistics>,
}
