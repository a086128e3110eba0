//! What the benchmark runs.

use crate::spent::Spent;

/// Something that can be run on and on.
pub(crate) trait Workload {
    /// Goes on for so many requests, or batches where there are no requests.
    fn run(&mut self, count: u64) -> Spent;
}
