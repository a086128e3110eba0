//! The rivals, implemented as fairly as their papers allow. The head of each file says which rules
//! it follows and what the paper leaves open.
//!
//! They share everything that is not scheduling policy: queues are in order of deadline, a head
//! that cannot meet its deadline even alone is dropped at once, and batches are planned with the
//! delays that our own scheduler is told, and sent ahead by them. What each knows of how long batches
//! take is its own: a percentile by batch size, or what it measures.

mod clairvoyant;
mod clockwork;
mod fixed;
mod nexus;
mod orloj;
mod packing;
mod plan;
mod pool;
mod shepherd;
mod waiting;

pub use clairvoyant::{ClairvoyantError, REQUESTS_MAX, clairvoyant};
pub use clockwork::Clockwork;
pub use fixed::{Fixed, FixedKnobs};
pub use nexus::Nexus;
pub use orloj::Orloj;
pub(crate) use plan::percentiles;
pub use shepherd::Shepherd;
pub use waiting::{Waiting, When};
