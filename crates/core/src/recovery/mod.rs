//! What is done again after a process was lost, as rules without I/O, clock or process: a live cluster
//! and the simulator both act by them.
//!
//! - [`Ledger`]: the scheduler's. What it sent and has not heard the end of, and so which requests
//!   are submitted again when a batch is lost.
//! - [`Whereabouts`]: a frontend's, of each request that has no outcome: whether it is submitted again
//!   when a scheduler, or a backend that a former scheduler used, is lost.
//! - [`Allegiance`]: everybody's but the scheduler's. Which scheduler is in charge.

mod ledger;
mod whereabouts;

use crate::time::Span;

pub use ledger::{GivenUp, Ledger, Verdict};
pub use whereabouts::{Allegiance, Session, Whereabouts};

/// A frontend waits this long beyond a request's deadline for its outcome, then answers it as failed.
/// Whatever is lost together, no client waits longer.
pub const GRACE: Span = Span::from_millis(100);
