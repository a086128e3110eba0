//! Shepherd's Flex algorithm: the largest batch first, with preemption.
//!
//! Source: Zhang et al., *SHEPHERD: Serving DNNs in the Wild*, NSDI 2023, section 4.2. As there: a
//! free accelerator takes the largest feasible batch over all models; a running batch is stopped
//! for one that is at least 3.03 times as large. The stopped batch's work is lost, and its
//! requests are queued again.
//!
//! Where we had to decide:
//! - All accelerators form one group (the paper's planner for groups is for models that do not
//!   all fit into every accelerator's memory).
//! - A batch is feasible when it meets the deadline of its head; heads are dropped only when they
//!   are hopeless. No head is passed over to reach a larger batch.
//! - For the running batch's own model, its requests count among those of the new batch.
//! - Stopping takes effect at once. Of several accelerators the one with the smallest running
//!   batch is considered first.
//! - Equal sizes: the more urgent head first.

use super::pool::{Noted, Pool, insert, prefix};
use crate::Contender;
use std::cmp::Reverse;
use std::collections::VecDeque;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{AcceleratorId, BatchId, ModelId, Request, Time};

/// A running batch is stopped for one this many times as large.
const PREEMPTION_RATIO: f64 = 3.03;

/// The largest batch first, with preemption.
#[derive(Clone, Debug)]
pub struct Shepherd {
    pool: Pool,
    /// Requests of the last batch sent to each accelerator.
    sent: Vec<Vec<Request>>,
    touched: Vec<ModelId>,
    stopped: Vec<BatchId>,
    now: Time,
}

impl Shepherd {
    /// Shepherd on `accelerators` idle accelerators.
    #[must_use]
    pub fn new(accelerators: u32) -> Shepherd {
        Shepherd {
            pool: Pool::new(accelerators),
            sent: vec![Vec::new(); accelerators as usize],
            touched: Vec::new(),
            stopped: Vec::new(),
            now: Time::ZERO,
        }
    }

    /// The model with the largest feasible batch on an accelerator that is free from `free`.
    fn largest(&self, now: Time, free: Time) -> Option<(ModelId, usize)> {
        let pool = &self.pool;
        let batch = |(rank, model): (usize, ModelId)| {
            let batch = pool.feasible(model, &pool.models[model.index()].queue, now, free);
            (batch.rows, Reverse(rank), model, batch.count)
        };
        let best = pool.queued().enumerate().map(batch).filter(|batch| batch.3 > 0).max();
        best.map(|(_, _, model, count)| (model, count))
    }

    fn send(
        &mut self,
        now: Time,
        model: ModelId,
        id: AcceleratorId,
        count: usize,
        todo: &mut Actions,
    ) {
        let queue = &self.pool.models[model.index()].queue;
        let sent = &mut self.sent[id.index()];
        sent.clear();
        sent.extend(queue.range(..count));
        self.pool.send_head(now, model, id, count, todo);
        self.pool.watch(model);
    }

    /// Stops a running batch for a larger one of `model`, if there is one to stop.
    fn preempt_for(&mut self, now: Time, model: ModelId, todo: &mut Actions) {
        let queued = self.pool.models[model.index()].queue.len() as f64;
        let running = |id: AcceleratorId| {
            let outstanding = &self.pool.accelerators[id.index()].outstanding;
            // Only one that runs: none that has another one behind it.
            let only = outstanding.front().filter(|_| outstanding.len() == 1)?;
            let joined = if only.model == model { self.sent[id.index()].len() as f64 } else { 0.0 };
            // A quick bound, for requests of one row, before the batch itself is looked at.
            let rows_max = f64::from(self.pool.models[model.index()].terms.profile.rows_max());
            let enough = f64::from(only.rows) * PREEMPTION_RATIO;
            let possible = enough <= rows_max
                && (queued + joined >= enough || self.pool.models[model.index()].multirow);
            possible.then_some((only.rows, id))
        };
        let mut candidates: Vec<_> = self.pool.ids().filter_map(running).collect();
        candidates.sort_unstable();
        for (rows, id) in candidates {
            let same = self.pool.accelerators[id.index()].outstanding[0].model == model;
            let mut queue = self.pool.models[model.index()].queue.clone();
            if same {
                for request in &self.sent[id.index()] {
                    insert(&mut queue, *request);
                }
            }
            let new = self.new_batch(now, model, &queue);
            if f64::from(new) >= PREEMPTION_RATIO * f64::from(rows) {
                self.stop(now, id, todo);
                let batch =
                    self.pool.feasible(model, &self.pool.models[model.index()].queue, now, now);
                self.send(now, model, id, batch.count, todo);
                return;
            }
        }
    }

    /// Rows of the batch that these requests would make.
    fn new_batch(&self, now: Time, model: ModelId, queue: &VecDeque<Request>) -> u32 {
        queue.front().map_or(0, |head| {
            prefix(queue, self.pool.rows_in_time(model, now, now, self.pool.due(model, head))).rows
        })
    }

    fn stop(&mut self, now: Time, id: AcceleratorId, todo: &mut Actions) {
        for outstanding in self.pool.abandon(now, id) {
            self.stopped.push(outstanding.batch);
            for request in self.sent[id.index()].drain(..) {
                self.pool.queue(outstanding.model, request, todo);
            }
            self.pool.watch(outstanding.model);
        }
    }
}

impl Policy for Shepherd {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.touched.push(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.now = now;
        let mut touched = std::mem::take(&mut self.touched);
        for &model in &touched {
            self.pool.watch(model);
        }
        self.pool.drop_expired(now, todo);
        while let Some(id) = self.pool.first_available(now)
            && let Some((model, count)) = self.largest(now, self.pool.accelerators[id.index()].free)
        {
            self.send(now, model, id, count, todo);
        }
        touched.dedup();
        for model in touched.drain(..) {
            self.preempt_for(now, model, todo);
        }
        self.touched = touched;
    }

    fn next_wake(&self) -> Option<Time> {
        let expiry = self.pool.next_expiry()?;
        [Some(expiry), self.pool.next_available(self.now)].into_iter().flatten().min()
    }
}

impl Contender for Shepherd {
    fn preempt(&mut self, stopped: &mut Vec<BatchId>) {
        stopped.append(&mut self.stopped);
    }
}
