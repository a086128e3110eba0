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
    /// From receiving the plan until the inputs of the batch were there. Zero where they are at
    /// hand; it may pass while another batch runs.
    pub data: Span,
    /// Time to assemble the batch and run it: what the profile predicts. Zero when nothing ran.
    pub exec: Span,
    /// From the end of execution until the last outcome was handed over.
    pub response: Span,
    /// From receiving the plan until the last outcome was handed over: the three above, and the wait
    /// for a batch before. What the plan's round trip took beyond this was the way there and back.
    pub stay: Span,
}

impl Completion {
    /// Tells that a batch has ended from which nothing can be learned, for nothing ran.
    #[must_use]
    pub fn not_run(accelerator: AcceleratorId, batch: BatchId, model: ModelId) -> Completion {
        let none = Span::ZERO;
        Completion { accelerator, batch, model, data: none, exec: none, response: none, stay: none }
    }
}
