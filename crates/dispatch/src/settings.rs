//! How a pool is scheduled.

use symphony_core::Span;
use symphony_core::sched::{LOW_SHARE_DEFAULT, Mode, OVERDUE_AFTER};

/// How a pool is scheduled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// In which mode, at first.
    pub mode: Mode,
    /// Accelerators, idle at first, numbered from zero.
    pub accelerators: u32,
    /// What is kept for low requests that wait, between 0 and 1.
    pub low_share: f64,
    /// An accelerator is dead when a batch is late by this, or by ten times what it was planned to
    /// run, if that is longer.
    pub overdue_after: Span,
}

impl Settings {
    /// The usual share for low requests, and the usual bound on how late a batch may be.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Settings {
        let (low_share, overdue_after) = (LOW_SHARE_DEFAULT, OVERDUE_AFTER);
        Settings { mode, accelerators, low_share, overdue_after }
    }
}
