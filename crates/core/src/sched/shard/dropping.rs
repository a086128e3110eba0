//! Which queued requests are dropped: those that are late even alone, and heads that stand in the way
//! of the batches behind them. A rule for dropping belongs here.

use super::situation::Situation;
use crate::request::{Class, DropReason, Request};
use crate::sched::action::{Action, Actions};
use crate::sched::class_queues::{Choice, ClassQueues};
use crate::sched::message::ModelPlan;
use crate::sched::mode::Mode;
use crate::sched::timing::Timing;
use crate::sched::window::{Outlook, drop_target};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// When the first low request behind high ones can no longer end in time, even alone.
#[inline]
pub(super) fn low_expiry(queue: &ClassQueues, timing: &Timing<'_>) -> Option<Time> {
    let head = queue.low().head().filter(|_| queue.is_mixed())?;
    let end = head.deadline - timing.delays.response;
    let needed = timing.longest(head.rows, timing.margins.luck) + timing.delays.lead(head.rows);
    // Saturating: a request that never had that much time is late from the beginning.
    Some(if end.0 < needed.0 { Time::ZERO } else { end - needed + Span(1) })
}

impl Situation<'_> {
    /// Drops low requests behind high ones that can no longer end in time.
    #[inline]
    pub(super) fn drop_late_low(&mut self, todo: &mut Actions) {
        while let Some(latest) = low_expiry(self.queue, &self.timing)
            && latest <= self.now
            && let Some(request) = self.queue.low_mut().pop_head()
        {
            let (model, reason) = (self.model, DropReason::Hopeless);
            todo.list.push(Action::Drop { model, request, reason });
        }
    }

    /// Drops the heads that would be late even alone, now that a grant has come. Time has passed
    /// since the queue was settled, much of it where the thread was held up; if these heads stayed,
    /// the shard would decline every grant for them.
    pub(super) fn drop_hopeless(&mut self, todo: &mut Actions) {
        while let Some(head) = self.queue.leading().head()
            && !self.timing.meets_alone(self.now, head)
        {
            self.drop_head(todo);
        }
    }

    /// Drops the head of the leading queue.
    pub(super) fn drop_head(&mut self, todo: &mut Actions) {
        if let Some(request) = self.queue.leading_mut().pop_head() {
            self.report_drop(request, todo);
        }
    }

    fn report_drop(&mut self, request: Request, todo: &mut Actions) {
        if request.class == Class::High && had_a_chance(&self.timing, &request) {
            self.arrivals.record_drop();
        }
        let reason = if self.timing.meets_alone(self.now, &request) {
            DropReason::Overload
        } else {
            DropReason::Hopeless
        };
        todo.list.push(Action::Drop { model: self.model, request, reason });
    }

    /// How many heads to drop for the sake of those behind them.
    #[inline]
    pub(super) fn in_the_way(&mut self, head: &Request, outlook: &Outlook) -> usize {
        match self.pool.mode {
            Mode::Eager => 0,
            Mode::Adaptive if !self.plan.is_overloaded && !self.objective.is_soft() => {
                self.worth_dropping(outlook)
            }
            Mode::Adaptive | Mode::Consolidate => {
                usize::from(self.stands_in_the_way(head, outlook))
            }
        }
    }

    /// How many heads to drop so that the batch behind them, up to the size that the load needs, gains
    /// most rows over the price of those dropped.
    #[inline]
    fn worth_dropping(&self, outlook: &Outlook) -> usize {
        let &ModelPlan { target, price, .. } = self.plan;
        let queue = self.queue.leading();
        let target = target.min(self.target_max());
        let is_deferring = || self.published.is_deferring(self.now);
        if outlook.next.is_none() || outlook.rows >= target || is_deferring() {
            return 0;
        }
        let after = self.after_execution();
        let mut left = queue.rows();
        let (mut best, mut most, mut paid) = (0, f64::from(outlook.rows), 0.0);
        for count in 1..queue.len() {
            let (Some(head), Some(next)) = (queue.get(count - 1), queue.get(count)) else {
                break;
            };
            left -= u64::from(head.rows);
            paid += price * f64::from(head.rows);
            // From here on not even a batch of the target size would be worth it.
            if left <= u64::from(outlook.rows) || f64::from(target) - paid <= most {
                break;
            }
            let due = next.deadline - after;
            let room = self.timing.rows_in_time(self.now, self.now, due, target);
            let rows = u64::from(room).min(left) as f64;
            if rows - paid > most {
                (best, most) = (count, rows - paid);
            }
        }
        best
    }

    /// The largest batch for which a head may be dropped. Low requests give way first, so that a
    /// batch which suffices for the high ones is large enough. Of best effort it is the batch beyond
    /// which nothing is gained.
    #[inline]
    fn target_max(&self) -> u32 {
        if self.objective.is_soft() {
            return self.low_terms().rows_max.min(self.timing.profile.thrifty());
        }
        match self.queue.class() {
            Class::High => {
                let low_come = self.pool.traffic.has_low(self.now);
                let need = self.plan.high_need.filter(|_| low_come);
                need.map_or(u32::MAX, |need| need.rows)
            }
            Class::Low => self.low_terms().rows_max,
        }
    }

    /// Whether the head leaves out a request that a batch of the target size would take in. The
    /// number of rows alone does not tell: one request of eight rows fills a target of ten.
    #[inline]
    fn stands_in_the_way(&mut self, head: &Request, outlook: &Outlook) -> bool {
        let message = self.model_timing.message();
        let had_chance = |_: &u32| !self.published.awaits_chance(self.now, message);
        let Some(next) = outlook.next.filter(had_chance) else { return false };
        next <= self.target_of(head).saturating_sub(outlook.rows)
    }

    /// The batch that a head has to allow: what gathers in the time that it came with.
    #[inline]
    fn target_of(&mut self, head: &Request) -> u32 {
        let allowed = head.deadline.since(head.arrival);
        let budget = allowed.saturating_sub(self.after_execution() + self.arrivals.age());
        let rows_per_ns = self.arrivals.class_per_ns(self.now, head.class);
        let target = drop_target(self.pool.mode, &self.timing, budget, rows_per_ns);
        target.min(self.target_max())
    }

    /// What becomes of a batch of best effort that would miss the deadline that one of its requests,
    /// not the first, came with. It shrinks, if it stays as large as a head would have to allow; if
    /// not, the request is dropped, and the batch has to be chosen anew. In the mode that drops
    /// nothing for others, and on a straggler, the batch ends before that request.
    pub(super) fn heed_own_deadlines(
        &mut self,
        choice: Choice,
        (free, slowdown): (Time, Slowdown),
        todo: &mut Actions,
    ) -> Option<Choice> {
        let Some((at, request)) = self.first_missed(&choice, free) else { return Some(choice) };
        let due = request.deadline - self.timing.delays.response;
        let allowed = self.timing.rows_in_time(self.now, free, due, choice.rows());
        let smaller = self.queue.leading_mut().fit(allowed);
        let is_large = allowed >= self.target_of(&request);
        if is_large && smaller.count > at {
            return Some(Choice { leading: smaller, ..Choice::default() });
        }
        let is_usual = slowdown == Slowdown::ONE;
        let is_hopeless = is_usual && !self.timing.meets_alone(self.now, &request);
        if !is_hopeless && (!is_usual || self.pool.mode == Mode::Eager) {
            let before = (0..at).filter_map(|at| self.queue.leading().get(at));
            let rows = before.map(|request| request.rows).sum();
            let leading = self.queue.leading_mut().fit(rows);
            let before = Choice { leading, ..Choice::default() };
            return self.heed_own_deadlines(before, (free, slowdown), todo);
        }
        if let Some(request) = self.queue.leading_mut().remove_at(at) {
            self.report_drop(request, todo);
        }
        None
    }

    /// The leading request of a batch with the earliest deadline, and where it stands, if the batch
    /// misses that.
    fn first_missed(&self, choice: &Choice, free: Time) -> Option<(usize, Request)> {
        let queue = self.queue.leading();
        let requests = (0..choice.leading.count).filter_map(|at| Some((at, *queue.get(at)?)));
        let (at, request) = requests.min_by_key(|(_, request)| request.deadline)?;
        let due = request.deadline - self.timing.delays.response;
        let rows = choice.rows();
        let is_missed = self.timing.rows_in_time(self.now, free, due, rows) < rows;
        is_missed.then_some((at, request))
    }
}

/// Whether a request would have met its deadline alone, started when it arrived. If not, no schedule
/// could have spared its model the loss.
pub(super) fn had_a_chance(timing: &Timing<'_>, request: &Request) -> bool {
    timing.meets_alone(request.arrival, request)
}
