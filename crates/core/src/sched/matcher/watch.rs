//! When to look for overdue batches.

use super::accelerator::Outstanding;
use crate::time::{Span, Time};

/// An accelerator is dead when a batch has not ended this long after it should have. Longer than a
/// machine stalls and stays usable: an operating system may stop a thread for half a second.
pub const OVERDUE_AFTER: Span = Span::from_secs(1);

/// Or so many times as long as the batch was planned to run, if that is longer: plans follow what is
/// measured up to eight times the profile, and an engine may take much longer than that for a batch
/// of a size that it never ran before.
const OVERDUE_TIMES: u64 = 10;

/// When to look for overdue batches. Batches set no timers: each may only move the next look forward,
/// and as long as batches end in time, a look finds that it can be moved back.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// How late a batch has to be at least.
    after: Span,
    /// No batch is overdue before this; `None` while none runs.
    due: Option<Time>,
    /// The last look.
    looked: Time,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { after: OVERDUE_AFTER, due: None, looked: Time::ZERO }
    }

    /// When this batch is overdue, which should end at `end`.
    #[inline]
    pub(super) fn overdue(&self, running: &Outstanding, end: Time) -> Time {
        end + self.after.max(running.sent.exec.times(OVERDUE_TIMES))
    }

    /// A batch runs that should end at `end`.
    #[inline]
    pub(super) fn note(&mut self, running: &Outstanding, end: Time) {
        self.look_at(self.overdue(running, end));
    }

    /// Looks at this time at the latest.
    #[inline]
    pub(super) fn look_at(&mut self, time: Time) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    fn half(&self) -> Span {
        Span(self.after.0 / 2)
    }

    /// Whether to look: a batch may be overdue, or will be soon if it has not ended long since.
    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        let soon = now + self.half();
        let is_fresh = self.looked + self.half() > now;
        self.due.is_some_and(|due| due <= now || (due <= soon && !is_fresh))
    }

    /// When to look although nothing happens, as long as a batch runs.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// A batch is overdue when it is this late.
    pub(super) fn set_after(&mut self, after: Span) {
        self.after = after;
    }

    /// Begins a look. Returns the time before which nothing counts as overdue: a look that comes late
    /// was itself held up, and so may the accelerators have been, which get a little more time.
    pub(super) fn begin_look(&mut self, now: Time) -> Time {
        let is_late = self.due.is_some_and(|due| now.since(due) > self.half());
        self.looked = now;
        self.due = None;
        if is_late { now + self.half() } else { Time::ZERO }
    }
}
