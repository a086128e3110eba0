//! The pool as the models of one shard see it: how it schedules, what serves, and what the high
//! requests of all shards need.

use crate::request::Delays;
use crate::sched::low_share::LOW_SHARE_DEFAULT;
use crate::sched::mode::Mode;
use crate::sched::traffic::RecentTraffic;
use crate::time::{Span, Time};

/// What high requests need beside the accelerators that they keep busy, where low batches are so
/// long that high ones cannot wait for them.
const SPARE: f64 = 0.5;

/// What the models of a shard have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolView {
    pub(super) mode: Mode,
    /// How many accelerators serve.
    pub(super) accelerators: u32,
    /// The part of the rows in batches of high requests that low ones which wait are owed.
    pub(super) low_share: f64,
    /// The measured delays.
    pub(super) delays: Delays,
    /// How long a message to the matcher, and one back, is planned to take.
    pub(super) message: Span,
    /// Which requests came to the pool: here or, as far as the matcher has told, elsewhere.
    pub(super) traffic: RecentTraffic,
    /// Low requests have begun to come, and the matcher does not know.
    pub(super) has_low_news: bool,
    /// Accelerators that high requests of the pool keep busy, as the matcher told; zero while no low
    /// ones come.
    pub(super) high_load: f64,
    /// More requests wait to be taken in than the shard can take at a time.
    pub(super) is_behind: bool,
}

impl PoolView {
    pub(super) fn new(mode: Mode, accelerators: u32) -> PoolView {
        PoolView {
            mode,
            accelerators,
            low_share: LOW_SHARE_DEFAULT,
            delays: Delays::default(),
            message: Span::ZERO,
            traffic: RecentTraffic::default(),
            has_low_news: false,
            high_load: 0.0,
            is_behind: false,
        }
    }

    /// A request came that may have to give way.
    pub(super) fn note_low(&mut self, now: Time) {
        self.has_low_news |= !self.traffic.has_low(now);
        self.traffic.note_low(now);
    }

    /// How long a batch may run at most so that the next one can be as long and both end within this
    /// time: of `n` accelerators whose batches start one after the other, one is free again after an
    /// `n`th of a batch.
    pub(super) fn staggered(&self, time: Span) -> Span {
        let n = u64::from(self.accelerators);
        Span(time.0 / (n + 1)).times(n)
    }

    /// Accelerators that are reserved for high requests where low batches are short enough for high
    /// ones to wait for an accelerator. A whole number.
    pub(super) fn reserved_with_short_batches(&self) -> f64 {
        self.high_load.floor()
    }

    /// The same where low batches are too long for that.
    pub(super) fn reserved_with_long_batches(&self) -> f64 {
        (self.high_load + SPARE).ceil()
    }
}
