//! Between a frontend and the scheduler.

use crate::lanes::LanesImage;
use crate::message::{
    AcceleratorState, Cancel, CatalogImage, Mode, RepositoryCommand, RepositoryError, Serve,
    Statistics, Submit,
};
use serde::{Deserialize, Serialize};
use symphony_core::{DropReason, ModelId, RequestId, Span};

/// From a frontend to the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum FrontendToScheduler {
    /// It admitted a request.
    Submit(Submit),
    /// The client of a queued request has left.
    Cancel(Cancel),
    /// It gave a lane to requests of this size: batches of the lane take as long as the model's costs
    /// say of it. Sent before the first such request.
    LaneSize {
        /// The lane.
        lane: ModelId,
        /// The size.
        size: u64,
    },
    /// So many rows came to a model since this was said last, by bucket of sizes.
    SizeCounts {
        /// The model, by its first lane.
        model: ModelId,
        /// Rows by bucket.
        counts: Vec<u64>,
    },
    /// Something is asked.
    Question {
        /// Comes back with the answer.
        number: u64,
        /// What is asked.
        question: Question,
    },
    /// Something is asked of the loader of models.
    Command {
        /// Comes back with the answer.
        number: u64,
        /// What is to be done.
        command: RepositoryCommand,
    },
}

/// What a frontend asks of the scheduler now and then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// The counters.
    Statistics,
    /// Schedule in another mode from now on.
    SetMode(Mode),
    /// Send batches to an accelerator, or no more of them.
    Serve(Serve),
}

/// What is answered to a question or a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answered {
    /// The counters.
    Statistics(Box<Statistics>),
    /// The mode is in force.
    Mode,
    /// What the accelerator is now; `None` when the pool has no such accelerator.
    Serves(Option<AcceleratorState>),
    /// How the command ended.
    Command(Result<(), RepositoryError>),
    /// There is no answer. The text says why.
    Failed(String),
}

/// From the scheduler to a frontend.
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerToFrontend {
    /// It schedules from now on, and nobody of a lower epoch does.
    Welcome {
        /// Its epoch.
        epoch: u64,
    },
    /// It took a request out of its queue.
    Dropped {
        /// Which.
        id: RequestId,
        /// Why.
        reason: DropReason,
        /// How long it was queued.
        queued: Span,
    },
    /// The model of a request was removed before the scheduler saw the request. Another version may
    /// take it.
    Unloaded {
        /// Which request.
        id: RequestId,
    },
    /// A request was lost: the text says how.
    Failed {
        /// Which.
        id: RequestId,
        /// For its client.
        text: String,
    },
    /// What is served from now on, whole.
    Catalog(Box<CatalogImage>),
    /// The lanes of one served model have changed.
    Lanes {
        /// The model, by its first lane.
        model: ModelId,
        /// Its lanes as they are now.
        image: Box<LanesImage>,
    },
    /// So many accelerators get batches.
    Serving(u32),
    /// The answer to a question or a command.
    Answer {
        /// Of which.
        number: u64,
        /// What it is.
        answer: Answered,
    },
    /// A backend's life has ended: nothing of it counts any more, whatever still arrives.
    BackendGone {
        /// Its name.
        name: String,
        /// The life that has ended.
        life: u64,
    },
}
