//! What a scheduler wants done: batches started, requests dropped, news of models and accelerators.

use crate::ids::{AcceleratorId, BatchId, ModelId};
use crate::request::{DropReason, Request};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use std::ops::Range;

/// One thing to do.
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
    /// The accelerator, which is to be granted no more batches, runs none.
    Drained {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// The batch is not waited for any more, because of what became of its accelerator. It no longer
    /// counts as running, and its requests are still without an outcome.
    Lost {
        /// The batch's model.
        model: ModelId,
        /// The batch.
        batch: BatchId,
        /// The accelerator.
        accelerator: AcceleratorId,
        /// Why.
        why: Loss,
    },
    /// A dead accelerator has ended all it was sent. It is granted batches again, unless it was
    /// drained.
    Recovered {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
}

/// Why a batch is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The accelerator is dead: this batch, or one before it, has not ended long after it should
    /// have. It is granted nothing until it has ended all it was sent.
    Overdue {
        /// How late its first batch is.
        by: Span,
    },
    /// The accelerator is gone, and what it was sent with it.
    Gone,
}

/// A sealed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its identity.
    pub batch: BatchId,
    /// Where it runs.
    pub accelerator: AcceleratorId,
    /// Its model.
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
    /// Whether it is sent ahead, while another batch runs there.
    pub behind: bool,
}

/// The actions of one step, in order. The driver keeps it and clears it after each step, so that a
/// step allocates nothing once the buffers have grown.
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
    /// When `start` is not of this step.
    #[must_use]
    pub fn batch(&self, start: &Start) -> &[Request] {
        &self.requests[start.requests.clone()]
    }
}
