//! Clockwork: the central controller that plans every accelerator a few milliseconds ahead.
//!
//! Source: Gujarati et al., *Serving DNNs like Clockwork: Performance Predictability from the
//! Bottom Up*, OSDI 2020. As in the paper, execution times count as predictable. Each model offers
//! its batches as *strategies* with a latest start (deadline less execution), which is earlier for
//! larger batches. Whenever an accelerator has less than 5 ms of work ahead, it receives the
//! strategy with the earliest latest start. Requests that cannot be met are refused in advance.
//!
//! Where we had to decide:
//! - Every batch size of the profile is allowed; the paper compiles powers of two up to 16. This
//!   favours the rival.
//! - A model's strategy is its largest batch that still starts in time; the paper reaches it by
//!   discarding the strategies of larger batches one by one.
//! - All models are resident everywhere, so there is no loading of weights to plan.

use super::pool::{Noted, RivalPool};
use crate::Contender;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{AcceleratorId, ModelId, Span, Time};

/// The work that each accelerator has ahead.
const AHEAD: Span = Span::from_millis(5);

/// Plans all accelerators a few milliseconds ahead.
#[derive(Clone, Debug)]
pub struct Clockwork {
    pool: RivalPool,
    touched: Vec<ModelId>,
}

impl Clockwork {
    /// Clockwork on `accelerators` idle accelerators.
    #[must_use]
    pub fn new(accelerators: u32) -> Clockwork {
        Clockwork { pool: RivalPool::new(accelerators), touched: Vec::new() }
    }

    /// The accelerator that can start a batch first, and the time from which it can.
    fn earliest(&self, now: Time) -> Option<(Time, AcceleratorId)> {
        let free = |id: AcceleratorId| self.pool.accelerators[id.index()].free.max(now);
        self.pool.ids().map(|id| (free(id), id)).min()
    }

    /// The strategy with the earliest latest start on an accelerator that is free from `free`: the
    /// model and the number of its requests.
    fn strategy(&mut self, now: Time, free: Time, todo: &mut Actions) -> Option<(ModelId, usize)> {
        let pool = &self.pool;
        let strategy = |model: ModelId| {
            let queue = &pool.models[model.index()].queue;
            let batch = pool.feasible(model, queue, now, free);
            let due = queue.front().map_or(Time::NEVER, |head| pool.due(model, head));
            (pool.send_by(model, due, batch.rows), model, batch.count)
        };
        // No accelerator is free earlier, so a head that fits no batch here cannot be met.
        let refused: Vec<_> =
            pool.queued().map(strategy).filter(|s| s.2 == 0).map(|s| s.1).collect();
        let best = pool.queued().map(strategy).filter(|s| s.2 > 0).min();
        for model in refused {
            self.pool.drop_head(model, todo);
            self.pool.watch(model);
        }
        best.map(|(_, model, count)| (model, count))
    }
}

impl Policy for Clockwork {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.touched.push(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        for model in self.touched.drain(..) {
            self.pool.watch(model);
        }
        self.pool.drop_expired(now, todo);
        while self.pool.next_expiry().is_some()
            && let Some((free, accelerator)) = self.earliest(now)
            && free <= now + AHEAD
        {
            if let Some((model, count)) = self.strategy(now, free, todo) {
                self.pool.send_head(now, model, accelerator, count, todo);
                self.pool.watch(model);
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let expiry = self.pool.next_expiry()?;
        let planning = self.earliest(Time::ZERO).map(|(free, _)| free - AHEAD);
        [Some(expiry), planning].into_iter().flatten().min()
    }
}

impl Contender for Clockwork {}
