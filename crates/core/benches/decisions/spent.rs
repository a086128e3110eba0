//! Time spent in the scheduler, by what it was doing; that of the driver around it is left out.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Taking in requests.
pub(crate) const ARRIVE: usize = 0;
/// Deciding, once for each drained inbox; of the matcher alone: from candidates to grants sent.
pub(crate) const SETTLE: usize = 1;
/// Taking in the ends of batches.
pub(crate) const COMPLETE: usize = 2;

/// What a run did, and how long the scheduler took for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) requests: u64,
    pub(crate) batches: u64,
    pub(crate) time: [Duration; 3],
}

impl Spent {
    pub(crate) fn total(&self) -> Duration {
        self.time.iter().sum()
    }

    pub(crate) fn arrive(&mut self, work: impl FnOnce()) {
        self.timed(ARRIVE, || arrive(work));
    }

    pub(crate) fn settle(&mut self, work: impl FnOnce()) {
        self.timed(SETTLE, || settle(work));
    }

    pub(crate) fn complete(&mut self, work: impl FnOnce()) {
        self.timed(COMPLETE, || complete(work));
    }

    fn timed(&mut self, section: usize, work: impl FnOnce()) {
        let begun = Instant::now();
        work();
        self.time[section] += begun.elapsed();
    }
}

// `cargo xtask instructions` knows these by name: they are what it counts. Where two do the same
// the compiler would make them one function, were it not for the black box.

#[inline(never)]
fn arrive(work: impl FnOnce()) {
    black_box(ARRIVE);
    work();
}

#[inline(never)]
fn settle(work: impl FnOnce()) {
    black_box(SETTLE);
    work();
}

#[inline(never)]
fn complete(work: impl FnOnce()) {
    black_box(COMPLETE);
    work();
}
