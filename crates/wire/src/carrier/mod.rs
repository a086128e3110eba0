//! The ways that [messages](crate::message) take.
//!
//! A carrier delivers messages in order, each at most once, and says so when nobody reads them any
//! more. What it adds to a message is [when its spans count from](Timed), and where an answer goes.
//!
//! - [`in_process`]: between the threads of one process.
//! - [`link`]: between processes, by TCP or by a socket of one host.
//! - [`shared_memory`]: tensors of one host, without a copy.
//!
//! What a link carries is handed to the ports of [`in_process`]: the roles see these and no carrier
//! beyond.

pub mod in_process;
pub mod link;
pub mod shared_memory;

use symphony_core::Time;

/// A message, and the time of this process's clock from which the spans in it count: when it was
/// sent, where sender and receiver share that clock, and when it was received where they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed<M> {
    /// From when the spans count.
    pub at: Time,
    /// The message.
    pub message: M,
}

impl<M> Timed<M> {
    /// A message whose spans count from `at`.
    #[must_use]
    pub fn new(at: Time, message: M) -> Timed<M> {
        Timed { at, message }
    }
}
