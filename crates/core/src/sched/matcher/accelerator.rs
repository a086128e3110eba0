//! One accelerator as the matcher sees it: what it was sent, when it will be free, and whether it
//! serves.

use crate::ids::{BatchId, ModelId};
use crate::sched::drift::AcceleratorDrift;
use crate::sched::message::{SentBatch, Tier};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// What an accelerator is in its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcceleratorState {
    /// It is granted batches.
    #[default]
    Serving,
    /// It is granted no more batches, and has not ended the last.
    Draining,
    /// It was drained, or never added.
    Away,
    /// It has not ended a batch for so long that it is granted none until it has.
    Dead,
    /// Its process is gone, with all that it was sent. It is granted nothing until it is added again.
    Gone,
    /// Its thread has failed: it was drained, and is never added again. The matcher's driver keeps
    /// this state; to the matcher such an accelerator is away.
    Lost,
}

impl AcceleratorState {
    /// Every state.
    pub const ALL: [AcceleratorState; 6] = [
        AcceleratorState::Serving,
        AcceleratorState::Draining,
        AcceleratorState::Away,
        AcceleratorState::Dead,
        AcceleratorState::Gone,
        AcceleratorState::Lost,
    ];

    /// Its name in protocols and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AcceleratorState::Serving => "serving",
            AcceleratorState::Draining => "draining",
            AcceleratorState::Away => "away",
            AcceleratorState::Dead => "dead",
            AcceleratorState::Gone => "gone",
            AcceleratorState::Lost => "lost",
        }
    }
}

/// Batches sent to one accelerator and not ended: the running one, and one sent ahead.
const OUTSTANDING_MAX: usize = 2;

/// One accelerator of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PoolAccelerator {
    /// Whether it was added, and not drained since.
    pub(super) is_wanted: bool,
    /// Whether it has stopped answering. What it was sent no longer counts as running.
    pub(super) is_dead: bool,
    /// Whether its process is gone.
    pub(super) is_gone: bool,
    /// What it was sent, in order.
    pub(super) outstanding: [Option<Outstanding>; OUTSTANDING_MAX],
    /// When the first of these will have ended, as planned.
    pub(super) first_end: Time,
    /// When everything sent will have ended, as planned.
    pub(super) free: Time,
    /// Granted, and the shard has not answered.
    pub(super) pending: Option<PendingGrant>,
    pub(super) drift: AcceleratorDrift,
}

/// A batch that was granted: whose it is, and what it counts as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) batch: BatchId,
    pub(super) model: ModelId,
    /// Its priority level.
    pub(super) level: u8,
    pub(super) tier: Tier,
}

/// A grant that the shard has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingGrant {
    pub(super) granted: Granted,
    /// How long the batch ran, when its end is known before its beginning.
    pub(super) ended: Option<Span>,
    /// Whether the accelerator went before the batch ended: if the batch was sent, it is lost.
    pub(super) is_void: bool,
    /// By lower tier, whether a candidate of it was passed over.
    pub(super) passed_over: [bool; 2],
    /// Nanoseconds that its tier paid for it in advance, if that is a lower one.
    pub(super) prepaid: f64,
}

/// A batch that was sent and has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) granted: Granted,
    pub(super) sent: SentBatch,
}

impl PoolAccelerator {
    /// One that serves and has nothing to do.
    pub(super) fn idle() -> PoolAccelerator {
        PoolAccelerator { is_wanted: true, ..PoolAccelerator::default() }
    }

    /// The one that has this one's number after it, not added yet. A grant that is on its way would
    /// bring it a batch that nobody waits for, so it is granted nothing before that is answered.
    pub(super) fn gone(self) -> PoolAccelerator {
        let voided = |pending: PendingGrant| PendingGrant {
            is_void: pending.is_void || pending.ended.is_none(),
            ..pending
        };
        PoolAccelerator {
            is_wanted: self.is_wanted,
            is_gone: true,
            pending: self.pending.map(voided),
            ..PoolAccelerator::default()
        }
    }

    #[inline]
    pub(super) fn is_serving(&self) -> bool {
        self.is_wanted && !self.is_dead && !self.is_gone
    }

    /// Whether nothing that counts as running was sent or granted.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none() && (self.is_dead || self.outstanding[0].is_none())
    }

    pub(super) fn state(&self) -> AcceleratorState {
        match (self.is_dead, self.is_wanted, self.is_empty()) {
            _ if self.is_gone => AcceleratorState::Gone,
            (true, ..) => AcceleratorState::Dead,
            (_, true, _) => AcceleratorState::Serving,
            (_, _, false) => AcceleratorState::Draining,
            (_, _, true) => AcceleratorState::Away,
        }
    }

    /// How many times longer than elsewhere in the pool batches run on it.
    #[inline]
    pub(super) fn slowdown(&self) -> Slowdown {
        self.drift.slowdown()
    }

    /// A batch was sent to it.
    #[inline]
    pub(super) fn send(&mut self, batch: Outstanding) {
        let place = self.outstanding.iter().position(Option::is_none);
        let place = place.expect("an accelerator with no room is not granted");
        self.outstanding[place] = Some(batch);
        self.free = self.free.max(batch.sent.ready) + batch.sent.exec;
        if place == 0 {
            self.first_end = self.free;
        }
    }

    /// A batch ended on it; `None` when it has no such batch.
    #[inline]
    pub(super) fn end(&mut self, now: Time, batch: BatchId) -> Option<Outstanding> {
        let [first, second] = self.outstanding;
        let is = |place: Option<Outstanding>| place.filter(|o| o.granted.batch == batch);
        let (ended, left) = match (is(first), is(second)) {
            (Some(ended), _) => (ended, second),
            (None, Some(ended)) => (ended, first),
            (None, None) => return None,
        };
        self.outstanding = [left, None];
        // The batch behind starts now, whether this one ended early or late.
        self.free = left.map_or(now, |left| now.max(left.sent.ready) + left.sent.exec);
        self.first_end = self.free;
        Some(ended)
    }

    /// A batch ended of which the shard has not said that it began: its end is kept until then.
    pub(super) fn end_unsent(&mut self, batch: BatchId, exec: Span) {
        let pending = self.pending.as_mut();
        if let Some(pending) = pending.filter(|p| p.granted.batch == batch && !p.is_void) {
            pending.ended = Some(exec);
        }
    }
}
