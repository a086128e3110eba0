//! Messages into the scheduler and batch plans out of it.

use crossbeam_channel::{Receiver, Sender, TrySendError};
pub use symphony_core::sched::{ModelPlan, ModelStatistics, ModelTerms, Rule};
use symphony_core::{AcceleratorId, BatchId, ModelId, Pace, Request, RequestId, Span, Time};
use tokio::sync::oneshot;

/// Everything that can reach the scheduler, in one closed list.
#[derive(Debug)]
pub enum ToScheduler {
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
    /// A backend finished a batch.
    Completed(Completion),
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
    /// Schedule by another rule from now on. What is queued stays queued.
    SetRule {
        /// The rule.
        rule: Rule,
        /// Told once it is in force.
        done: oneshot::Sender<()>,
    },
    /// Asks for the counters.
    Statistics(oneshot::Sender<Statistics>),
    /// Let every queue run empty (each request runs or is dropped by its deadline), then stop.
    Drain(oneshot::Sender<()>),
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
    pub lag: Pace,
}

/// The scheduler's counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The rule in force.
    pub rule: Rule,
    /// Batches per second that the scheduler itself was measured to sustain; none before it has
    /// started enough of them to tell.
    pub batches_max: Option<f64>,
    /// Per model.
    pub models: Vec<(ModelId, ModelStatistics)>,
    /// Per accelerator, by number.
    pub accelerators: Vec<AcceleratorStatistics>,
}

/// Why the scheduler did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Its inbox is full.
    #[error("the scheduler's inbox is full")]
    Full,
    /// It has stopped.
    #[error("the scheduler has stopped")]
    Stopped,
}

/// The way into the scheduler; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct SchedulerPort(Sender<ToScheduler>);

/// Bound on messages waiting for the scheduler.
pub const INBOX_MAX: usize = 65_536;

/// The bounded inbox of a scheduler in this process.
#[must_use]
pub fn inbox() -> (SchedulerPort, Receiver<ToScheduler>) {
    let (sender, receiver) = crossbeam_channel::bounded(INBOX_MAX);
    (SchedulerPort(sender), receiver)
}

impl SchedulerPort {
    /// Submits a request's metadata, without waiting.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; the request was not submitted.
    pub fn submit(&self, model: ModelId, request: Request) -> Result<(), SubmitError> {
        self.try_send(ToScheduler::Submit { model, request })
    }

    /// Tells that a client has left. When the inbox is full the request simply stays queued: its
    /// entry is already out of the table, so the backend will find no one to run.
    pub fn cancel(&self, model: ModelId, request: RequestId, deadline: Time) {
        let _ = self.0.try_send(ToScheduler::Cancel { model, request, deadline });
    }

    /// Asks for the counters, without waiting for room.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped.
    pub fn statistics(&self) -> Result<oneshot::Receiver<Statistics>, SubmitError> {
        let (reply, statistics) = oneshot::channel();
        self.try_send(ToScheduler::Statistics(reply))?;
        Ok(statistics)
    }

    /// Changes the rule, without waiting for room; the receiver tells once it is in force.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; nothing has changed.
    pub fn set_rule(&self, rule: Rule) -> Result<oneshot::Receiver<()>, SubmitError> {
        let (done, changed) = oneshot::channel();
        self.try_send(ToScheduler::SetRule { rule, done })?;
        Ok(changed)
    }

    fn try_send(&self, message: ToScheduler) -> Result<(), SubmitError> {
        self.0.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }

    /// Sends any other message, waiting for room: completions and control must not be lost.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn send(&self, message: ToScheduler) -> Result<(), SubmitError> {
        self.0.send(message).map_err(|_| SubmitError::Stopped)
    }
}
