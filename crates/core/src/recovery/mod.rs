//! What is done again after a process was lost, as rules without I/O, clock or process: a live cluster
//! and the simulator both act by them.
//!
//! - [`Ledger`]: the scheduler's. What it sent and has not heard the end of, and so which requests
//!   are submitted again when a batch is lost.

mod ledger;

pub use ledger::{GivenUp, Ledger, Verdict};
