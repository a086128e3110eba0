//! Between the threads of one process: rings, tables and snapshots in shared memory. Senders and
//! receivers share one clock, so a message is timed when it is sent and the spans in it cost nothing.
//!
//! - [`port`], [`inbox`]: from everywhere to the scheduler.
//! - [`answer`]: the ways that answers take.
//! - [`buffers`]: room for batch plans, used again and again.
//! - [`inflight`]: the table where admitted requests wait for their outcome.
//! - [`catalog`]: the snapshot of what is served, which every frontend reads.
//! - [`repository`]: from frontends to the loader of models.

pub mod answer;
pub mod buffers;
pub mod catalog;
pub mod inbox;
pub mod inflight;
pub mod port;
pub mod repository;

pub use answer::{Reply, Share};
pub use buffers::PlanBuffers;
pub use catalog::{Catalog, ServedVersions, SharedCatalog};
pub use inbox::{
    FrontendToShard, GapBoard, Inbox, Layout, MatcherInbox, MatcherQuestion, Received,
    ServingCount, ShardInbox, ShardQuestion, ThreadInbox, home,
};
pub use inflight::{Answers, InFlight, Pending, RunningRequest, TooManyInFlight};
pub use port::{SchedulerPort, SubmitError, scheduler};
pub use repository::{RepositoryPort, RepositoryQuestion, commands};
