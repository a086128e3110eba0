//! Fixed waiting rules. Each has the same queue and the same choice of accelerator as our own
//! scheduler, so that only the moment of starting differs.
//!
//! [`When::Timeout`] follows the dynamic batcher of NVIDIA Triton: a batch starts when it has
//! reached a preferred size, or when its oldest request has waited `max_queue_delay`, on any free
//! instance. Where we had to decide:
//! - Triton knows no deadlines. Here a batch is never larger than its head's deadline allows and
//!   never waits past the moment at which it must start, and hopeless heads are dropped (in Triton
//!   they would wait for a time-out of their own). This favours the rival.
//! - A batch that reaches the preferred size starts with everything that is queued, not with
//!   exactly that many.
//! - When several models are ready, the one with the earliest latest start goes first.
//!
//! The other rules serve to compare deferral rules: a target size, the moment from which waiting
//! cannot make the batch bigger (*frontrun*: the deferral of the paper on which our scheduler is
//! built, but without its window drop), and the last possible moment.

use super::plan::PlannedTimes;
use super::pool::{Noted, RivalPool};
use crate::Contender;
use std::collections::BTreeSet;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{ModelId, Span, Time};

/// How long a batch waits although an accelerator is free. No batch waits beyond the moment at
/// which it must start, and only with `Latest` does a batch wait when it cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Until its oldest request has waited this long or there are enough rows.
    Timeout {
        /// How long.
        delay: Span,
        /// The number of rows that is enough; 0 for none.
        preferred: u32,
    },
    /// Until there are this many rows, or until its frontrun.
    Target {
        /// The number of rows.
        rows: u32,
    },
    /// Until it would miss its head's deadline with one more row.
    Frontrun,
    /// Until it must start.
    Latest,
}

/// Starts batches by a fixed rule.
#[derive(Clone, Debug)]
pub struct Waiting {
    when: When,
    pool: RivalPool,
    windows: Vec<Option<OpenWindow>>,
    /// Models by the time at which their window must be computed again without an event.
    due: BTreeSet<(Time, ModelId)>,
    /// Models with an open window, by the time at which it closes.
    ready: BTreeSet<(Time, ModelId)>,
    touched: Vec<ModelId>,
    now: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenWindow {
    latest: Time,
    /// When it opens, or, once it is open, when it closes.
    look: Time,
}

impl Waiting {
    /// This rule on `accelerators` idle accelerators. Batches are planned with these times.
    #[must_use]
    pub(crate) fn new(when: When, plans: PlannedTimes, accelerators: u32) -> Waiting {
        Waiting {
            when,
            pool: RivalPool::new(accelerators).with_plans(plans),
            windows: Vec::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            touched: Vec::new(),
            now: Time::ZERO,
        }
    }

    /// Computes a model's window again.
    fn look(&mut self, now: Time, model: ModelId, todo: &mut Actions) {
        let index = model.index();
        if self.windows.len() <= index {
            self.windows.resize(index + 1, None);
        }
        if let Some(old) = self.windows[index].take() {
            self.due.remove(&(old.look, model));
            self.ready.remove(&(old.latest, model));
        }
        self.pool.drop_hopeless(model, now, todo);
        let Some((exec, latest)) = self.window(now, model) else { return };
        let open = exec <= now;
        let look = if open { latest + Span(1) } else { exec };
        self.windows[index] = Some(OpenWindow { latest, look });
        self.due.insert((look, model));
        if open {
            self.ready.insert((latest, model));
        }
    }

    /// The earliest and the latest time at which the model's batch may start.
    fn window(&self, now: Time, model: ModelId) -> Option<(Time, Time)> {
        let pool = &self.pool;
        let state = &pool.models[model.index()];
        let head = state.queue.front()?;
        let batch = pool.feasible(model, &state.queue, now, now);
        let due = pool.due(head);
        let latest = pool.send_by(model, due, batch.rows).max(now);
        let can_grow =
            batch.count == state.queue.len() && batch.rows < state.terms.profile.rows_max();
        let frontrun = || pool.wake_for(pool.send_by(model, due, batch.rows + 1));
        let exec = match self.when {
            When::Latest => pool.wake_for(latest),
            _ if !can_grow => now,
            When::Timeout { preferred, .. } if preferred > 0 && batch.rows >= preferred => now,
            When::Timeout { delay, .. } => head.arrival + delay,
            When::Target { rows } if batch.rows >= rows => now,
            When::Target { .. } | When::Frontrun => frontrun(),
        };
        Some((exec.clamp(now, latest), latest))
    }
}

impl Policy for Waiting {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.touched.push(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.now = now;
        while let Some(&(time, model)) = self.due.first()
            && time <= now
        {
            self.look(now, model, todo);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for model in touched.drain(..) {
            self.look(now, model, todo);
        }
        self.touched = touched;
        while let Some(&(_, model)) = self.ready.first()
            && let Some(accelerator) = self.pool.first_available(now)
        {
            let free = self.pool.accelerators[accelerator.index()].free;
            let queue = &self.pool.models[model.index()].queue;
            let batch = self.pool.feasible(model, queue, now, free);
            if batch.count == 0 {
                // This happens only on an accelerator that is still running: wait for an idle one.
                break;
            }
            self.pool.send_head(now, model, accelerator, batch.count, todo);
            self.look(now, model, todo);
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let window = self.due.first().map(|(time, _)| *time);
        let available = self.pool.next_available(self.now).filter(|_| !self.ready.is_empty());
        [window, available].into_iter().flatten().min()
    }
}

impl Contender for Waiting {}
