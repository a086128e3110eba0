//! What two processes say to each other, by the pair that they are: one enum for each way.
//!
//! | from | to | what |
//! |---|---|---|
//! | frontend | scheduler | [`FrontendToScheduler`] |
//! | scheduler | frontend | [`SchedulerToFrontend`] |
//! | scheduler | backend | [`SchedulerToBackend`] |
//! | backend | scheduler | [`BackendToScheduler`] |
//! | backend | frontend | [`BackendToFrontend`] |
//! | frontend | backend | [`FrontendToBackend`] |
//!
//! The messages inside are those of one process. What is added: the *epoch* of the scheduler that
//! something comes from, so that nobody obeys a former one, and the number of a question, by which its
//! answer is found.

mod backend;
mod data;
mod frontend;

pub use backend::{
    AcceleratorGaps, BackendToScheduler, FrontendAddress, HandedBack, SchedulerToBackend, SentPlan,
};
pub use data::{BackendToFrontend, Fetch, FrontendToBackend};
pub use frontend::{Answered, FrontendToScheduler, Question, SchedulerToFrontend};
