//! Between a backend and a frontend: tensors and outcomes. The frontend of a link is known, so a
//! request is its number there.

use crate::message::Outcome;
use crate::tensor::Inputs;
use symphony_core::BatchId;

/// From a backend to a frontend.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendToFrontend {
    /// Send the inputs of these requests.
    Fetch(Fetch),
    /// How a request ended.
    Outcome {
        /// Which request.
        number: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A request that was fetched does not run, or its outcome was lost with a link: none comes, and
    /// the scheduler does not see to it.
    NotRun {
        /// Which request.
        number: u64,
    },
}

/// The requests of one batch that come from one frontend, in the order of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Of the batch's plan.
    pub epoch: u64,
    /// Which batch.
    pub batch: BatchId,
    /// Which requests.
    pub numbers: Vec<u64>,
}

/// From a frontend to a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum FrontendToBackend {
    /// The inputs of a request.
    Inputs {
        /// Which request.
        number: u64,
        /// Its inputs.
        inputs: Inputs,
    },
    /// A request has no inputs any more: it has its outcome, or its client has left.
    NoInputs {
        /// Which request.
        number: u64,
    },
    /// The link is new, and these requests were fetched by an earlier one: which of them have no outcome
    /// to come?
    Awaited {
        /// Which requests.
        numbers: Vec<u64>,
    },
}
