//! The rivals, as fair as their papers let them be. Each file's head says which rules it follows
//! and where it had to decide.
//!
//! They share everything that is not a matter of scheduling policy: queues in order of deadline, a head
//! that cannot meet its deadline even alone is dropped at once, batches planned with the same
//! profile, delays and overrun that the scheduler is told, and sent ahead by the delays.

mod clairvoyant;
mod clockwork;
mod nexus;
mod packing;
mod pool;
mod shepherd;
mod waiting;

pub use clairvoyant::{ClairvoyantError, REQUESTS_MAX, clairvoyant};
pub use clockwork::Clockwork;
pub use nexus::Nexus;
pub use shepherd::Shepherd;
pub use waiting::{Waiting, When};
