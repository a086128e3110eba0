//! Which requests make up a batch, now that it has an accelerator.

use super::situation::Situation;
use super::timing::Stage;
use crate::profile::Profile;
use crate::sched::action::Actions;
use crate::sched::class_queues::Choice;
use crate::sched::window::{Outlook, send_window};
use crate::slowdown::Slowdown;
use crate::time::Time;

impl Situation<'_> {
    /// The batch to run on an accelerator that is free from `free` on, if its window is open. On a
    /// straggler it is as large as is in time there; whether to start at all does not depend on the
    /// accelerator's slowdown, because the candidate was made without it.
    #[inline]
    pub(super) fn sealable(
        &mut self,
        free: Time,
        slowdown: Slowdown,
        todo: &mut Actions,
    ) -> Choice {
        loop {
            let choice = self.opened(free, slowdown);
            if !self.objective.is_soft() {
                return choice;
            }
            let slower = self.profile_at(slowdown);
            let there = (free, slowdown);
            let heeded = self.with_profile(&slower).heed_own_deadlines(choice, there, todo);
            if let Some(choice) = heeded {
                return choice;
            }
        }
    }

    #[inline]
    fn opened(&mut self, free: Time, slowdown: Slowdown) -> Choice {
        let Some(head) = self.queue.leading().head().copied() else { return Choice::default() };
        let outlook = self.outlook(&head, free);
        if outlook.rows == 0 {
            return Choice::default();
        }
        // The candidate was made for an accelerator that is free at once. If it is free later,
        // high and low requests may no longer go together, and the high ones alone would wait for
        // company.
        let offered = if self.queue.is_mixed() { self.outlook(&head, self.now) } else { outlook };
        let granted = self.timing_at(Stage::Granted);
        let window = send_window(self.pool.mode, &granted, self.now, &offered, self.plan);
        if window.exec > self.now {
            return Choice::default();
        }
        if slowdown == Slowdown::ONE {
            return self.chosen(&outlook, free);
        }
        let slower = self.profile_at(slowdown);
        let mut here = self.with_profile(&slower);
        let outlook = here.outlook(&head, free);
        if outlook.rows == 0 { Choice::default() } else { here.chosen(&outlook, free) }
    }

    /// Execution times on an accelerator that is so much slower than the others.
    fn profile_at(&self, slowdown: Slowdown) -> Profile {
        let usual = self.timing.profile;
        usual.clone().at_slowdown(usual.slowdown().times(slowdown))
    }

    /// The batch of this outlook.
    #[inline]
    fn chosen(&mut self, outlook: &Outlook, free: Time) -> Choice {
        if outlook.together {
            return self.queue.all();
        }
        if !self.queue.is_mixed() {
            let leading = self.queue.leading_mut().fit(outlook.rows);
            return Choice { leading, ..Choice::default() };
        }
        self.filled(outlook, free)
    }

    /// The batch of high requests of this outlook, and the low ones that ride with them.
    fn filled(&mut self, outlook: &Outlook, free: Time) -> Choice {
        let low_rows_max = self.low_rows_max();
        let after = self.after_execution();
        let Situation { now, timing, .. } = *self;
        let leading = self.queue.leading_mut().fit(outlook.rows);
        let most = low_rows_max.max(leading.rows);
        let end = |rows: u32| {
            free.max(now + timing.delays.lead(rows)) + timing.longest(rows, timing.margins.row)
        };
        if self.objective.is_soft() {
            let in_time = timing.rows_in_time(now, free, outlook.due, most);
            let wanted = in_time.max(timing.profile.thrifty()).min(most).max(leading.rows);
            let room = timing.rows_in_time(now, free, outlook.limit, wanted);
            let choice = self.queue.fill(leading, room, self.deficit.rows(), |_, _| true);
            let due = end(choice.rows()) + timing.delays.response;
            return self.queue.with_riders_until(choice, |rider| rider.deadline >= due);
        }
        let room = timing.rows_in_time(now, free, outlook.due, most);
        self.queue.fill(leading, room, self.deficit.rows(), |rows, deadline| {
            end(rows) <= deadline - after
        })
    }
}
