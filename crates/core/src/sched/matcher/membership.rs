//! Accelerators that join and leave a pool: on request, and when they stop answering.
//!
//! Whether an accelerator is wanted and whether it answers are two things. A dead accelerator comes
//! back by ending what it was sent, and then serves only if it is still wanted. Until then it keeps
//! what it was sent, so that it never has more than two batches; nothing else counts them. One that
//! is gone keeps nothing, for it will never end anything: whoever is added by its number is another.

use super::accelerator::{Outstanding, PoolAccelerator};
use super::accelerators::Accelerators;
use super::running::Running;
use crate::ids::AcceleratorId;
use crate::sched::action::{Action, Loss};
use crate::time::{Span, Time};

/// Accelerators are numbered below this, so that no number makes the table of them huge.
pub const ACCELERATORS_MAX: u32 = 1 << 16;

impl Accelerators {
    /// An accelerator is dead when a batch has not ended this long after it should have, or ten times
    /// as long as the batch was planned to run, if that is longer.
    pub(super) fn set_overdue_after(&mut self, after: Span) {
        self.watch.set_after(after);
    }

    /// Grants batches to an accelerator from now on, whether it is away, draining, gone or new. All
    /// numbers below a new one are away until they are added. A dead one serves once it has ended its
    /// batches. Numbers from [`ACCELERATORS_MAX`] on are ignored.
    pub(super) fn add(&mut self, now: Time, id: AcceleratorId) {
        if id.0 >= ACCELERATORS_MAX {
            return;
        }
        if self.list.len() <= id.index() {
            self.list.resize_with(id.index() + 1, PoolAccelerator::default);
        }
        self.change(now, id, |accelerator| {
            (accelerator.is_wanted, accelerator.is_gone) = (true, false);
        });
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

    /// An accelerator's process is gone: all that it was sent is lost, and what was learned of it is
    /// forgotten.
    pub(super) fn note_gone(&mut self, now: Time, id: AcceleratorId, running: &mut Running) {
        let Some(&before) = self.list.get(id.index()) else { return };
        self.change(now, id, |accelerator| *accelerator = before.gone());
        // Those of a dead one are lost already.
        let lost = before.outstanding.into_iter().flatten().filter(|_| !before.is_dead);
        for lost in lost {
            self.lose(id, &lost, Loss::Gone, running);
        }
        if !before.is_empty() {
            self.note_drained(id);
        }
    }

    /// Looks for overdue batches, if it is time to.
    #[inline]
    pub(super) fn watch_overdue(&mut self, now: Time, running: &mut Running) {
        if self.watch.is_due(now) {
            self.look(now, running);
        }
    }

    /// When to look for overdue batches although nothing happens.
    pub(super) fn next_look(&self, running: &Running) -> Option<Time> {
        self.watch.due().filter(|_| !running.is_empty())
    }

    fn look(&mut self, now: Time, running: &mut Running) {
        let grace = self.watch.begin_look(now);
        for number in (0u32..).take(self.list.len()) {
            let accelerator = &self.list[number as usize];
            let Some(first) = accelerator.outstanding[0].filter(|_| !accelerator.is_dead) else {
                continue;
            };
            let overdue = self.watch.overdue(&first, accelerator.first_end).max(grace);
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
        let why = self.overdue(now, id);
        for lost in self.list[id.index()].outstanding.into_iter().flatten() {
            self.lose(id, &lost, why, running);
        }
        self.note_drained(id);
    }

    /// What is lost on a dead accelerator is lost because of its first batch.
    pub(super) fn overdue(&self, now: Time, id: AcceleratorId) -> Loss {
        Loss::Overdue { by: now.since(self.list[id.index()].first_end) }
    }

    /// A batch that was sent to an accelerator does not count as running any more.
    pub(super) fn lose(
        &mut self,
        id: AcceleratorId,
        lost: &Outstanding,
        why: Loss,
        running: &mut Running,
    ) {
        running.remove(lost.granted);
        let (model, batch) = (lost.granted.model, lost.granted.batch);
        self.news.push(Action::Lost { model, batch, accelerator: id, why });
    }

    /// A dead accelerator ended a batch that was given up: with the last one it is back.
    pub(super) fn end_lost(&mut self, now: Time, id: AcceleratorId) {
        if self.list[id.index()].outstanding[0].is_none() {
            self.change(now, id, |accelerator| accelerator.is_dead = false);
            self.news.push(Action::Recovered { accelerator: id });
        }
    }

    /// Tells of an accelerator that is not wanted, if it runs nothing.
    #[inline]
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
