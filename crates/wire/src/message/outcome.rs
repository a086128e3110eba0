//! How a request ended, as its frontend is told.

use crate::tensor::{Inputs, OutputTensor};
use symphony_core::{AcceleratorId, DropReason, Span};

/// How one request ended. Each gets exactly one.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It ran.
    Done(Answer),
    /// The scheduler took it out of its queue.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How long it was queued.
        queued: Span,
    },
    /// Its model was removed before the scheduler saw the request. Here are its inputs: another
    /// version of the model may take them.
    Unloaded(Inputs),
    /// One of its inputs holds a value that the model's engine cannot take, which was seen when
    /// its batch was assembled; the text names input and element. The others ran without it.
    Refused(String),
    /// The engine failed on its batch, or the system lost track of it; the text says how.
    Failed(String),
}

/// The result of a request that ran, and what it went through.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Outputs in the signature's order.
    pub outputs: Vec<OutputTensor>,
    /// What the batch it ran in looked like.
    pub execution: Execution,
}

/// One execution, as seen by one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Where it ran.
    pub accelerator: AcceleratorId,
    /// Rows in the batch, this request's included.
    pub batch_rows: u32,
    /// From arrival until the backend began to assemble the batch.
    pub queued: Span,
    /// Time to place the inputs of the whole batch in its buffer.
    pub assembly: Span,
    /// Time the engine took for the whole batch.
    pub compute: Span,
    /// Time to split the outputs.
    pub split: Span,
    /// What would have been left until the deadline, had execution taken the planned time.
    pub slack: Span,
}
