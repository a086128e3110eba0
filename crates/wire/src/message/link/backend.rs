//! Between the scheduler and a backend.

use crate::message::{
    BatchPlan, Completion, FilePart, FileWanted, GapFigures, Order, OrderDone, Registration,
};
use serde::{Deserialize, Serialize};
use symphony_core::{AcceleratorId, BatchId, ModelId, Origin, SizedProfile};

/// From the scheduler to a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerToBackend {
    /// It schedules from now on, and nobody of a lower epoch does.
    Welcome {
        /// Its epoch.
        epoch: u64,
        /// What the backend's accelerators are called in the pool, in the order in which the backend
        /// named them.
        accelerators: Vec<AcceleratorId>,
    },
    /// Run a batch.
    Plan(SentPlan),
    /// Do something with models. It is answered once it is done.
    Order {
        /// Comes back with the answer.
        number: u64,
        /// What is to be done.
        order: Box<Order>,
    },
    /// A piece of the files that an order announced, which the backend has asked for.
    File(FilePart),
    /// The files that an order announced cannot be had.
    NoFile {
        /// Of the order.
        number: u64,
        /// Why.
        text: String,
    },
    /// Nothing more is planned for this backend: end all batches, then the process.
    Drain,
    /// The frontends that there are, whole. Nobody else is a frontend.
    Frontends(Vec<FrontendAddress>),
    /// The backend is not taken into the pool: the text says why.
    Refused {
        /// For its log.
        text: String,
    },
}

/// A batch on its way to one accelerator, sent by the scheduler of this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentPlan {
    /// Of the scheduler.
    pub epoch: u64,
    /// Where it is to run.
    pub accelerator: AcceleratorId,
    /// The batch.
    pub plan: BatchPlan,
}

/// Where a backend finds a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendAddress {
    /// The origin of its requests.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Its life.
    pub life: u64,
    /// Its data link's endpoints, the best first.
    pub addresses: Vec<String>,
}

/// From a backend to the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendToScheduler {
    /// What it has, and what runs there. Sent first, and again when it changes.
    Register(Box<Registration>),
    /// A batch has ended; its plan was of this epoch.
    Completed {
        /// Of its plan.
        epoch: u64,
        /// How it ended.
        completion: Completion,
    },
    /// A batch does not run.
    HandedBack(HandedBack),
    /// An accelerator will never end a batch again.
    Lost {
        /// Which.
        accelerator: AcceleratorId,
    },
    /// Send a piece of a file that an order announced. Pieces come in the order in which they were
    /// asked for.
    FileWanted(FileWanted),
    /// An order has been carried out, or not.
    Done {
        /// Of the order.
        number: u64,
        /// What came of it, or what went wrong.
        result: Result<OrderDone, String>,
    },
    /// What the batches of a model cost was measured again.
    Refined {
        /// The model, by its first lane.
        model: ModelId,
        /// What they cost.
        costs: Box<SizedProfile>,
    },
    /// How well its accelerators are kept busy.
    Gaps(Vec<AcceleratorGaps>),
    /// Its process was told to end: nothing more is to be planned for it. It ends once it is told to
    /// [drain](SchedulerToBackend::Drain).
    Leaving,
}

/// A batch that does not run, with what the scheduler finds its requests by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedBack {
    /// Of its plan.
    pub epoch: u64,
    /// Where it was to run.
    pub accelerator: AcceleratorId,
    /// Which batch.
    pub batch: BatchId,
    /// Its accelerator could run batches, and refuses this one: its requests are scheduled again once.
    pub is_refused: bool,
    /// Why it does not run.
    pub why: String,
}

/// How one accelerator is kept busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorGaps {
    /// Which accelerator.
    pub accelerator: AcceleratorId,
    /// Its newest gaps.
    pub gaps: GapFigures,
}
