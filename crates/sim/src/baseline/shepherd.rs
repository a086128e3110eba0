//! Shepherd's Flex algorithm: the largest batch first, with preemption.
//!
//! Source: Zhang et al., *SHEPHERD: Serving DNNs in the Wild*, NSDI 2023, section 4.2. As in the
//! paper, a free accelerator takes the largest feasible batch over all models, and a running batch
//! is stopped for one that is at least 3.03 times as large. The work of the stopped batch is lost,
//! and its requests are queued again.
//!
//! Where we had to decide:
//! - All accelerators form one group. (The paper's planner for groups is for models that do not all
//!   fit into the memory of every accelerator.)
//! - A batch is feasible when it meets the deadline of its head. Heads are dropped only when they
//!   are hopeless, and no head is skipped to reach a larger batch.
//! - If the running batch is of the same model, its requests count as part of the new batch.
//! - Stopping takes effect at once. The accelerator with the smallest running batch is considered
//!   first.
//! - Batches are planned with the 95th percentile of their times, by batch size. The paper takes
//!   times as certain.
//! - Among batches of equal size the one with the more urgent head comes first. The paper does not
//!   say. In order of model, unpopular models wait behind equals forever (ten models on eight
//!   accelerators: 1340 instead of 2054 r/s).

use super::plan::PlannedTimes;
use super::pool::{Noted, RivalPool, insert, prefix};
use crate::Contender;
use std::cmp::Reverse;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{AcceleratorId, BatchId, ModelId, Request, Time};

/// A running batch is stopped for a batch that is this many times as large.
const PREEMPTION_RATIO: f64 = 3.03;

/// The largest batch first, with preemption.
#[derive(Clone, Debug)]
pub struct Shepherd {
    pool: RivalPool,
    /// The requests of the last batch that was sent to each accelerator.
    sent: Vec<Vec<Request>>,
    touched: Vec<ModelId>,
    stopped: Vec<BatchId>,
    now: Time,
}

impl Shepherd {
    /// Shepherd on `accelerators` idle accelerators. Batches are planned with these times.
    #[must_use]
    pub(crate) fn new(plans: PlannedTimes, accelerators: u32) -> Shepherd {
        Shepherd {
            pool: RivalPool::new(accelerators).with_plans(plans),
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

    /// Stops a running batch for a larger batch of `model`, if there is a batch to stop.
    fn preempt_for(&mut self, now: Time, model: ModelId, todo: &mut Actions) {
        let smaller = self.pool.ids().filter_map(|id| {
            let outstanding = &self.pool.accelerators[id.index()].outstanding;
            // Only a batch with no other batch behind it.
            let only = outstanding.front().filter(|_| outstanding.len() == 1)?;
            let joined = if only.model == model { &self.sent[id.index()][..] } else { &[] };
            let new = f64::from(self.joint_batch(now, model, joined));
            (new >= PREEMPTION_RATIO * f64::from(only.rows)).then_some((only.rows, id))
        });
        let Some((_, id)) = smaller.min() else { return };
        self.stop(now, id, todo);
        let queue = &self.pool.models[model.index()].queue;
        let batch = self.pool.feasible(model, queue, now, now);
        self.send(now, model, id, batch.count, todo);
    }

    /// The rows of the largest feasible batch of a model's queue together with `joined`, the
    /// requests of a running batch, which come before the queue.
    fn joint_batch(&self, now: Time, model: ModelId, joined: &[Request]) -> u32 {
        let state = &self.pool.models[model.index()];
        let heads = [joined.first(), state.queue.front()].into_iter().flatten();
        let Some(due) = heads.map(|head| self.pool.due(head)).min() else { return 0 };
        let rows_max = self.pool.rows_in_time(model, now, now, due);
        if !state.multirow {
            let all = u32::try_from(joined.len() + state.queue.len()).unwrap_or(u32::MAX);
            return rows_max.min(all);
        }
        let mut queue = state.queue.clone();
        for request in joined {
            insert(&mut queue, *request);
        }
        prefix(&queue, rows_max).rows
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
