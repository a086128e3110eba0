//! The rivals, implemented as fairly as their papers allow. The head of each file says which rules
//! it follows and what the paper leaves open.
//!
//! They share everything that is not scheduling policy: queues are in order of deadline, a head
//! that cannot meet its deadline even alone is dropped at once, and batches are planned with the
//! profile, its spread and the delays that our own scheduler is told, and sent ahead by the delays.
//! They leave free what the longest batch takes more than on average at the 99th percentile of the
//! spread. Each file says where its rival plans otherwise.

mod clairvoyant;
mod clockwork;
mod fixed;
mod nexus;
mod orloj;
mod packing;
mod pool;
mod shepherd;
mod waiting;

pub use clairvoyant::{ClairvoyantError, REQUESTS_MAX, clairvoyant};
pub use clockwork::Clockwork;
pub use fixed::{Fixed, FixedKnobs};
pub use nexus::Nexus;
pub use orloj::Orloj;
pub use shepherd::Shepherd;
pub use waiting::{Waiting, When};
