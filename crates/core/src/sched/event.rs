//! What happens to a scheduler from outside: requests, the ends of batches, changes of models,
//! accelerators and settings.

use super::mode::Mode;
use crate::ids::{AcceleratorId, BatchId, ModelId, Origin, RequestId};
use crate::profile::Profile;
use crate::request::{Delays, Objective, Request};
use crate::time::{Span, Time};
use std::sync::Arc;

/// What a scheduler has to know of a model.
#[derive(Clone, Debug)]
pub struct ModelTerms {
    /// Mean execution time by batch size, and its spread, as they were measured. Its largest batch is
    /// the largest that runs.
    pub profile: Arc<Profile>,
    /// The latency objective: promised, or best effort.
    pub objective: Objective,
    /// Bound on queued requests.
    pub queue_max: u32,
    /// How much a lost request of this model counts beside other models' under overload, in the
    /// adaptive mode: with 2, the model loses half the share of its requests that others lose.
    /// Positive.
    pub loss_weight: f64,
    /// Whose lane this is, where a model has several: the first lane's identity, for the first lane
    /// as well. Its lanes are in one shard, share the bound on queued requests, and their losses
    /// count together. `None` for a model with one lane.
    pub lane_of: Option<ModelId>,
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
    /// A client left: its request is taken out of the queue, if it is still there.
    Cancel {
        /// Its model.
        model: ModelId,
        /// The request.
        request: RequestId,
        /// The deadline it came with.
        deadline: Time,
    },
    /// An accelerator completed a batch.
    Complete {
        /// The accelerator.
        accelerator: AcceleratorId,
        /// The batch.
        batch: BatchId,
        /// How long it ran, as the profile counts it; zero when nothing is to be learned from it.
        exec: Span,
    },
    /// Requests for this model are served from now on. Its identity must not be in use.
    AddModel {
        /// The model.
        model: ModelId,
        /// Its terms. In a place of their own, so that requests, which come in events as well, are
        /// not moved with room for them.
        terms: Box<ModelTerms>,
    },
    /// Batches of this model run by another profile from now on: its measurements were refined, or
    /// the lane takes requests of other sizes. Requests that are queued stay queued; one with more
    /// rows than the profile covers is dropped.
    SetProfile {
        /// The model.
        model: ModelId,
        /// Its execution times, as in [`ModelTerms`].
        profile: Arc<Profile>,
    },
    /// New requests for this model are refused from now on.
    /// [`Action::Removed`](super::Action::Removed) follows once its queue is empty and its last batch
    /// has ended.
    RemoveModel {
        /// The model.
        model: ModelId,
    },
    /// The accelerator is granted batches from now on. If it is dead, it serves once it has ended
    /// its batches. If it is gone, another has its number now, of which nothing is known yet and
    /// which serves at once. Numbers from [`ACCELERATORS_MAX`](super::ACCELERATORS_MAX) on are ignored.
    AddAccelerator {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// The accelerator is granted no more batches. [`Action::Drained`](super::Action::Drained)
    /// follows once it runs none, unless it is added again before.
    DrainAccelerator {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// The accelerator's process is gone. It is granted no more batches until it is added again, and
    /// all that it was granted is lost: [`Action::Lost`](super::Action::Lost) tells of each batch
    /// that was sent, and ends of these that still come have no effect.
    AcceleratorGone {
        /// The accelerator.
        accelerator: AcceleratorId,
    },
    /// A frontend's life is over: its requests leave the queues, and nobody is told of them. Batches
    /// that were sent run on.
    ForgetOrigin {
        /// The frontend, in the life that is over.
        origin: Origin,
    },
    /// The pool is scheduled in another mode from now on.
    SetMode(Mode),
    /// The scheduler was measured to sustain so many batches per second. Plans ask for half of them
    /// at most.
    SetBatchesMax(f64),
    /// The pool's delays were measured again.
    SetDelays(Delays),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_no_larger_than_a_request_needs() {
        assert_eq!(size_of::<Event>(), size_of::<ModelId>() + size_of::<Request>());
    }
}
