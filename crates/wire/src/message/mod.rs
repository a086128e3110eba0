//! The messages between frontends, the scheduler and the accelerators' backends.
//!
//! A message is a value that could travel as bytes. It holds no handle, no lock and no way to answer:
//! who sent it, and where the answer goes, is the business of the [carrier](crate::carrier). Nor does
//! it hold a point in time, which would mean nothing to another machine's clock, but spans: how old a
//! request is, and what is left until its deadline. Its carrier delivers it with the time, of the
//! receiver's clock, from which they count; see [`Timed`](crate::carrier::Timed).
//!
//! - [`request`]: what a frontend says of a request.
//! - [`batch`]: a batch on its way to an accelerator, and its end.
//! - [`outcome`]: how a request ended.
//! - [`control`]: what is asked of the scheduler now and then.
//! - [`catalog`]: what is served right now; [`image`]: the same as a value.
//! - [`repository`]: what can be asked of the loader of models.
//! - [`registration`]: what a backend says of itself; [`order`]: what it is told to do.
//! - [`link`]: what two processes say to each other, by the pair that they are.

pub mod batch;
pub mod catalog;
pub mod control;
pub mod image;
pub mod link;
pub mod order;
pub mod outcome;
pub mod registration;
pub mod repository;
pub mod request;
pub(crate) mod serde_bytes;
mod version;

pub use batch::{BatchPlan, Completion, PlannedRequest};
pub use catalog::{IndexEntry, Intake, ModelState, ServedModel};
pub use control::{AcceleratorStatistics, AddModel, GapFigures, MeasuredTimes, Serve, Statistics};
pub use image::{CatalogImage, ServedImage};
pub use order::{AnnouncedFile, FilePart, FileWanted, Order, OrderDone, Source};
pub use outcome::{Answer, Execution, Outcome};
pub use registration::{
    AcceleratorFacts, EngineFacts, LoadedFacts, ProfileOrigin, Registration, RunningBatch,
};
pub use repository::{RepositoryCommand, RepositoryError};
pub use request::{Cancel, Submit};
pub use symphony_core::sched::{AcceleratorState, Mode, ModelPlan, ModelStatistics, ModelTerms};
pub use version::VersionKey;
