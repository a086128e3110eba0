//! Which accelerators run slower than the others of their pool, learned from the batches that end.

use super::accelerator::PoolAccelerator;
use super::accelerators::Accelerators;
use crate::ids::AcceleratorId;
use crate::sched::drift::{Shown, UsualRatio};
use crate::slowdown::Slowdown;
use crate::time::Time;

impl Accelerators {
    /// Compares a batch that ran `ratio` times as long as by its loaded profile with what is usual for
    /// its model. Returns the ratio with the accelerator's slowdown taken out.
    #[inline]
    pub(super) fn learn(
        &mut self,
        now: Time,
        id: AcceleratorId,
        usual: &mut UsualRatio,
        ratio: Slowdown,
    ) -> Slowdown {
        let drift = &mut self.list[id.index()].drift;
        drift.record(now, usual.compare(ratio.over(drift.slowdown())));
        match drift.shown() {
            Some(Shown::Slower(slowdown)) if self.stands_alone(now, id) => {
                self.set_slowdown(now, id, slowdown);
            }
            Some(Shown::Faster(slowdown)) => self.set_slowdown(now, id, slowdown),
            _ => {}
        }
        ratio.over(self.slowdown(id))
    }

    /// Whether most of the other accelerators that ran a batch lately were not slower than usual: what
    /// slows all of them is not this one's own.
    fn stands_alone(&self, now: Time, id: AcceleratorId) -> bool {
        let others = (0u32..).zip(&self.list).filter(|(number, _)| *number != id.0);
        let witnesses = others.filter_map(|(_, accelerator)| accelerator.drift.witness(now));
        let (mut slower, mut all) = (0, 0);
        for is_slower in witnesses {
            slower += usize::from(is_slower);
            all += 1;
        }
        all > 0 && slower * 2 < all
    }

    /// Replaces an accelerator's slowdown. What more than half of the accelerators share is taken out
    /// of all: the models' own slowdowns take it up from the next batches on.
    fn set_slowdown(&mut self, now: Time, id: AcceleratorId, slowdown: Slowdown) {
        self.list[id.index()].drift.set(slowdown);
        let mut slowdowns = self.slowdowns_beside(id);
        let middle = (slowdowns.len() - 1) / 2;
        let common = *slowdowns.select_nth_unstable(middle).1;
        if common > Slowdown::ONE {
            for accelerator in &mut self.list {
                accelerator.drift.set(accelerator.slowdown().over(common));
            }
            self.rank_again(now);
        } else {
            self.release(now, id);
            let forget_due = self.list[id.index()].drift.forget_due();
            self.forget_due = self.forget_due.into_iter().chain(forget_due).min();
        }
    }

    /// The slowdowns of all accelerators that serve, and of this one.
    fn slowdowns_beside(&self, id: AcceleratorId) -> Vec<Slowdown> {
        // Mostly all serve, and to ask each would take longer than the rest.
        if self.all_serve() {
            return self.list.iter().map(PoolAccelerator::slowdown).collect();
        }
        let others = (0u32..).zip(&self.list);
        let serving = others.filter(|(number, other)| other.is_serving() || *number == id.0);
        serving.map(|(_, other)| other.slowdown()).collect()
    }

    /// Forgets part of the slowdowns that were not seen again.
    pub(super) fn forget_slowdowns(&mut self, now: Time) {
        for accelerator in &mut self.list {
            accelerator.drift.forget(now);
        }
        self.rank_again(now);
    }

    /// Files every accelerator under its slowdown, after some have changed.
    fn rank_again(&mut self, now: Time) {
        for number in (0u32..).take(self.list.len()) {
            self.release(now, AcceleratorId(number));
        }
        self.forget_due = self.list.iter().filter_map(|a| a.drift.forget_due()).min();
    }
}
