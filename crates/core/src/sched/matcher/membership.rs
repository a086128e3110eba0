//! Accelerators that join and leave a pool: on request, and when they stop answering.
//!
//! Whether an accelerator is wanted and whether it answers are two things. A dead accelerator comes
//! back by ending what it was sent, and then serves only if it is still wanted. Until then it keeps
//! what it was sent, so that it never has more than two batches; nothing else counts them.

use super::accelerator::{Outstanding, PoolAccelerator};
use super::accelerators::Accelerators;
use super::running::Running;
use crate::ids::AcceleratorId;
use crate::sched::action::Action;
use crate::time::{Span, Time};

/// An accelerator is dead when a batch has not ended this long after it should have. Longer than a
/// machine stalls and stays usable: an operating system may stop a thread for half a second.
pub const OVERDUE_AFTER: Span = Span::from_secs(1);

/// Or so many times as long as the batch was planned to run, if that is longer: plans follow what is
/// measured up to eight times the profile, and an engine may take much longer than that for a batch
/// of a size that it never ran before.
const OVERDUE_TIMES: u64 = 10;

/// Accelerators are numbered below this, so that no number makes the table of them huge.
pub const ACCELERATORS_MAX: u32 = 1 << 16;

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
    fn overdue(&self, running: &Outstanding, end: Time) -> Time {
        end + self.after.max(running.sent.exec.times(OVERDUE_TIMES))
    }

    /// A batch runs that should end at `end`.
    pub(super) fn note(&mut self, running: &Outstanding, end: Time) {
        self.look_at(self.overdue(running, end));
    }

    /// Looks at this time at the latest.
    fn look_at(&mut self, time: Time) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    fn half(&self) -> Span {
        Span(self.after.0 / 2)
    }

    /// Whether to look: a batch may be overdue, or will be soon if it has not ended long since.
    fn is_due(&self, now: Time) -> bool {
        let soon = now + self.half();
        let is_fresh = self.looked + self.half() > now;
        self.due.is_some_and(|due| due <= now || (due <= soon && !is_fresh))
    }
}

impl Accelerators {
    /// An accelerator is dead when a batch has not ended this long after it should have, or ten times
    /// as long as the batch was planned to run, if that is longer.
    pub(super) fn set_overdue_after(&mut self, after: Span) {
        self.watch.after = after;
    }

    /// Grants batches to an accelerator from now on: one that is away or draining, or a new one. All
    /// numbers below a new one are away until they are added. A dead one serves once it has ended its
    /// batches. Numbers from [`ACCELERATORS_MAX`] on are ignored.
    pub(super) fn add(&mut self, now: Time, id: AcceleratorId) {
        if id.0 >= ACCELERATORS_MAX {
            return;
        }
        if self.list.len() <= id.index() {
            self.list.resize_with(id.index() + 1, PoolAccelerator::default);
        }
        self.change(now, id, |accelerator| accelerator.is_wanted = true);
    }

    /// Grants no more batches to an accelerator. [`Action::Drained`] tells when it runs nothing; at
    /// once if it runs nothing now.
    pub(super) fn drain(&mut self, now: Time, id: AcceleratorId) {
        if id.index() >= self.list.len() {
            self.news.push(Action::Drained { accelerator: id });
            return;
        }
        self.change(now, id, |accelerator| accelerator.is_wanted = false);
        self.note_drained(id);
    }

    /// Looks for overdue batches, if it is time to.
    pub(super) fn watch_overdue(&mut self, now: Time, running: &mut Running) {
        if self.watch.is_due(now) {
            self.look(now, running);
        }
    }

    /// When to look for overdue batches although nothing happens.
    pub(super) fn next_look(&self, running: &Running) -> Option<Time> {
        self.watch.due.filter(|_| !running.is_empty())
    }

    fn look(&mut self, now: Time, running: &mut Running) {
        // A look that comes this late was itself held up, and so may the accelerators have been: they
        // get a little more time.
        let is_late = self.watch.due.is_some_and(|due| now.since(due) > self.watch.half());
        self.watch.looked = now;
        self.watch.due = None;
        for number in (0u32..).take(self.list.len()) {
            let accelerator = &self.list[number as usize];
            let Some(first) = accelerator.outstanding[0].filter(|_| !accelerator.is_dead) else {
                continue;
            };
            let mut overdue = self.watch.overdue(&first, accelerator.first_end);
            if is_late {
                overdue = overdue.max(now + self.watch.half());
            }
            if overdue <= now {
                self.bury(now, AcceleratorId(number), running);
            } else {
                self.watch.look_at(overdue);
            }
        }
    }

    /// An accelerator is dead: its batches are lost.
    fn bury(&mut self, now: Time, id: AcceleratorId, running: &mut Running) {
        self.change(now, id, |accelerator| accelerator.is_dead = true);
        for lost in self.list[id.index()].outstanding.into_iter().flatten() {
            self.lose(now, id, &lost, running);
        }
        self.note_drained(id);
    }

    /// A batch that was sent to a dead accelerator does not count as running any more.
    pub(super) fn lose(
        &mut self,
        now: Time,
        id: AcceleratorId,
        lost: &Outstanding,
        running: &mut Running,
    ) {
        running.remove(lost.granted);
        let (model, batch) = (lost.granted.model, lost.granted.batch);
        let overdue = now.since(self.list[id.index()].first_end);
        self.news.push(Action::Lost { model, batch, accelerator: id, overdue });
    }

    /// A dead accelerator ended a batch that was given up: with the last one it is back.
    pub(super) fn end_lost(&mut self, now: Time, id: AcceleratorId) {
        if self.list[id.index()].outstanding[0].is_none() {
            self.change(now, id, |accelerator| accelerator.is_dead = false);
            self.news.push(Action::Recovered { accelerator: id });
        }
    }

    /// Tells of an accelerator that is not wanted, if it runs nothing.
    pub(super) fn note_drained(&mut self, id: AcceleratorId) {
        let accelerator = &self.list[id.index()];
        if !accelerator.is_wanted && accelerator.is_empty() {
            self.news.push(Action::Drained { accelerator: id });
        }
    }

    /// Changes what an accelerator is, and with it whether it serves.
    fn change(&mut self, now: Time, id: AcceleratorId, change: impl FnOnce(&mut PoolAccelerator)) {
        let accelerator = &mut self.list[id.index()];
        self.serving -= u32::from(accelerator.is_serving());
        change(accelerator);
        self.serving += u32::from(accelerator.is_serving());
        self.release(now, id);
    }
}
