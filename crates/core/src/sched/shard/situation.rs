//! One model at one moment: everything that a decision on it looks at, as values.
//!
//! In: queue, arrivals, plan and timing at one stage. Out: the [`Outlook`] on its next batch. The
//! decisions themselves are next door: which heads to drop (`dropping`), what to offer (`offering`),
//! what to seal (`sealing`).

use super::arrivals::ModelArrivals;
use super::low::LowTerms;
use super::pool::PoolView;
use super::published::Published;
use super::timing::{ModelTiming, Stage};
use crate::ids::ModelId;
use crate::profile::Profile;
use crate::request::{Class, Objective, Request};
use crate::sched::class_queues::ClassQueues;
use crate::sched::low_share::Deficit;
use crate::sched::margins::Margins;
use crate::sched::message::ModelPlan;
use crate::sched::timing::Timing;
use crate::sched::window::Outlook;
use crate::time::{Span, Time};

/// One model at one moment.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) model: ModelId,
    pub(super) now: Time,
    pub(super) pool: &'a PoolView,
    pub(super) objective: Objective,
    pub(super) model_timing: &'a ModelTiming,
    /// What counts at this stage, on the accelerator in question.
    pub(super) timing: Timing<'a>,
    pub(super) plan: &'a ModelPlan,
    pub(super) published: &'a Published,
    /// Rows that low requests are owed.
    pub(super) deficit: Deficit,
    pub(super) queue: &'a mut ClassQueues,
    pub(super) arrivals: &'a mut ModelArrivals,
}

impl Situation<'_> {
    /// The same on an accelerator where executions take as long as this profile says.
    pub(super) fn with_profile<'b>(&'b mut self, profile: &'b Profile) -> Situation<'b> {
        let timing = Timing { profile, ..self.timing };
        Situation { timing, queue: &mut *self.queue, arrivals: &mut *self.arrivals, ..*self }
    }

    /// What has to be left between the end of execution and the deadline.
    #[inline]
    pub(super) fn after_execution(&self) -> Span {
        self.timing.delays.response
    }

    /// The timing at another stage.
    #[inline]
    pub(super) fn timing_at(&self, stage: Stage) -> Timing<'_> {
        self.model_timing.at(stage)
    }

    /// The largest batch from the head on, for an accelerator that is free from `free` on; the
    /// queue's prefix is fitted to it.
    #[inline]
    pub(super) fn outlook(&mut self, head: &Request, free: Time) -> Outlook {
        if let Some(outlook) = self.together(free) {
            return outlook;
        }
        if self.objective.is_soft() {
            return self.soft_outlook(head, free);
        }
        let rows_max = match head.class {
            Class::High => u32::MAX,
            Class::Low => self.low_terms().rows_max.max(head.rows),
        };
        let Situation { now, timing, .. } = *self;
        let due = head.deadline - timing.delays.response;
        let queue = self.queue.leading_mut();
        let most = u32::try_from(queue.rows()).unwrap_or(u32::MAX).min(rows_max);
        let mut margins = timing.margins;
        let mut prefix = queue.fit(timing.rows_in_time(now, free, due, most));
        // A margin is left free by choice. A request that needs it runs in it, and takes its chance:
        // late is no worse than dropped.
        if prefix.count == 0 && margins != Margins::NONE {
            for pressed in [margins.even(), margins.lucky()] {
                if prefix.count == 0 {
                    margins = pressed;
                    let timing = Timing { margins, ..timing };
                    prefix = queue.fit(timing.rows_in_time(now, free, due, most));
                }
            }
        }
        let next = queue.rows_behind(prefix.count);
        let request_rows = queue.request_rows();
        let suffices = self.plan.high_need.is_some_and(|need| prefix.rows >= need.rows);
        Outlook {
            arrival: head.arrival,
            due,
            limit: due,
            rows: prefix.rows,
            next,
            together: false,
            low_waits: self.queue.is_mixed() && suffices,
            request_rows,
            companions_per_ns: self.arrivals.companions_per_ns(now),
            margins,
        }
    }

    /// The same for best effort. Everything that is queued, if that is in time for the head; if not,
    /// at least a batch whose rows cost as little as they can. A head that is late is no reason for
    /// small batches, so that a long queue is served at full throughput. Only its own deadline is.
    fn soft_outlook(&mut self, head: &Request, free: Time) -> Outlook {
        let rows_max = self.low_terms().rows_max.max(head.rows);
        let Situation { now, timing, .. } = *self;
        let limit = head.deadline - timing.delays.response;
        let is_mixed = self.queue.is_mixed();
        let queue = self.queue.leading_mut();
        let due = queue.due(head) - timing.delays.response;
        let queued = u32::try_from(queue.rows()).unwrap_or(u32::MAX).min(rows_max);
        let in_time = timing.rows_in_time(now, free, due, queued);
        let wanted = in_time.max(timing.profile.thrifty()).max(head.rows).min(queued);
        let prefix = queue.fit(timing.rows_in_time(now, free, limit, wanted));
        Outlook {
            arrival: head.arrival,
            due,
            limit,
            rows: prefix.rows,
            next: queue.rows_behind(prefix.count),
            together: false,
            low_waits: is_mixed,
            request_rows: queue.request_rows(),
            companions_per_ns: self.arrivals.companions_per_ns(now),
            margins: timing.margins,
        }
    }

    /// The batch of everything that is queued, high and low, if one batch is in time for all.
    #[inline]
    fn together(&mut self, free: Time) -> Option<Outlook> {
        if !self.queue.is_mixed() {
            return None;
        }
        let rows = u32::try_from(self.queue.rows()).ok()?;
        let (deadline, arrival) = self.queue.earliest()?;
        let due = deadline - self.after_execution();
        let room = self.timing.rows_in_time(self.now, free, due, rows);
        (rows <= room.min(self.low_rows_max())).then(|| Outlook {
            arrival,
            due,
            limit: due,
            rows,
            next: None,
            together: true,
            low_waits: false,
            request_rows: self.queue.leading().request_rows(),
            companions_per_ns: self.arrivals.companions_per_ns(self.now),
            margins: self.timing.margins,
        })
    }

    /// The largest batch that low requests may make where high ones, of the tightest objective,
    /// have to wait for it.
    pub(super) fn low_rows_max(&self) -> u32 {
        super::low::rows_max(self.pool, self.timing.profile, self.now)
    }

    /// How low requests of the model run on their own.
    pub(super) fn low_terms(&self) -> LowTerms {
        LowTerms::of(self.pool, self.timing.profile, self.objective.span(), self.now)
    }
}
