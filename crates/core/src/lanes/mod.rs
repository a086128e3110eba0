//! The lanes of a model whose requests differ: which lane a request goes to, and by which profile the
//! scheduler plans the batches of each.
//!
//! A lane is what the scheduler queues: it has a [`ModelId`](crate::ModelId) and a profile of its own.
//! In: a request's *form* (what has to be equal for two requests to go into one batch) and its *size*
//! (what a batch's cost depends on), both as numbers. Out: the number of a lane. Nothing here knows
//! shapes, queues or clocks; the server and the simulator share it.
//!
//! - [`BorderLanes`]: all requests have one form and are padded to the longest of their batch. Lanes are
//!   ranges of sizes, and their borders follow the requests that come.
//! - [`FormLanes`]: requests of several forms. Lanes are given to forms as they come.
//!
//! Lanes are about speed only: whoever runs a batch groups its requests by form and pads within each
//! group, whatever lane they came by.

mod border_lanes;
mod borders;
mod forms;
mod sizes;

pub use border_lanes::{BorderLanes, LaneChange};
pub use borders::{BorderPlanner, SizeRate, lane_of};
pub use forms::{FormLanes, Routed};
pub use sizes::SizeBuckets;

/// Most lanes of a model whose requests all have one form.
pub const BORDER_LANES: usize = 8;
/// Lanes of a model with several forms that are given to one form each.
pub const FORM_LANES: usize = 12;
/// Lanes of such a model for the forms that have none of their own.
pub const OVERFLOW_LANES: usize = 4;
/// Most lanes of any model.
pub const LANES_MAX: usize = FORM_LANES + OVERFLOW_LANES;
