//! A batch on its way to an accelerator, and the completion that answers it.

use super::request::Submit;
use symphony_core::{AcceleratorId, BatchId, Class, ModelId, Request, RequestId, Span, Time};

/// A sealed batch, on its way to an accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Identity, returned in the completion.
    pub batch: BatchId,
    /// Whose batch.
    pub model: ModelId,
    /// Its requests, in deadline order.
    pub requests: Vec<PlannedRequest>,
    /// Rows of all requests together.
    pub rows: u32,
    /// The execution time the plan counts with.
    pub exec: Span,
}

/// One request of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// Identity, by which its tensors are found.
    pub id: RequestId,
    /// How long ago its frontend received it.
    pub age: Span,
    /// What is left until its answer has to be with the client.
    pub budget: Span,
    /// Rows along the batch dimension.
    pub rows: u32,
    /// Whether others go first.
    pub class: Class,
}

impl PlannedRequest {
    /// A request as its plan describes it at the time `now`.
    #[must_use]
    pub fn of(request: &Request, now: Time) -> PlannedRequest {
        let &Request { id, arrival, deadline, rows, class } = request;
        PlannedRequest { id, age: now.since(arrival), budget: deadline.since(now), rows, class }
    }

    /// Has the request scheduled again, for its batch does not run. Its spans count from the same
    /// time as the plan's.
    #[must_use]
    pub fn submit(&self, model: ModelId) -> Submit {
        let &PlannedRequest { id, age, budget, rows, class } = self;
        Submit { model, id, age, budget, rows, class }
    }
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
    /// Time to assemble the batch and run it: what the profile predicts.
    pub exec: Span,
    /// From taking up the plan, `exec` included, until the last outcome was handed over.
    pub stay: Span,
}

impl Completion {
    /// From the end of execution until the last outcome was handed over.
    #[must_use]
    pub fn response(&self) -> Span {
        self.stay.saturating_sub(self.exec)
    }
}
