//! A rule with three fixed knobs, for which a search can find the best values of each case: a
//! yardstick for rules that have to find theirs while they serve.
//!
//! Whenever an accelerator is free, each model with a queue
//! 1. drops heads by the window rule: while its head allows only fewer rows than the target and
//!    than are queued, the head is dropped;
//! 2. takes the largest batch that meets its head's deadline when it takes `margin` times the
//!    profile's time;
//! 3. waits until so many rows are queued, but not past its frontrun, from which on one more row
//!    would be too late.
//!
//! Of several models that need not wait, the one with the earliest latest start goes first, on the
//! lowest-numbered free accelerator. The margin is all that it knows of how times vary. All models
//! share the knobs.

use super::plan::multiples;
use super::pool::{Noted, RivalPool};
use crate::{Contender, Scenario};
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{ModelId, Time};

/// The knobs of the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedKnobs {
    /// How many times the profile's time a batch is planned with.
    pub margin: f64,
    /// The batch size below which heads are dropped for the sake of the requests behind them.
    pub target: u32,
    /// The number of queued rows that start a batch.
    pub rows: u32,
}

/// Starts and drops by fixed knobs.
#[derive(Clone, Debug)]
pub struct Fixed {
    knobs: FixedKnobs,
    pool: RivalPool,
    /// When a batch that waits must start, if nothing happens before.
    wake: Option<Time>,
}

/// What a model would run on a free accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FixedBatch {
    latest: Time,
    model: ModelId,
    count: usize,
}

impl Fixed {
    /// The rule for a scenario, on idle accelerators.
    #[must_use]
    pub fn new(knobs: FixedKnobs, scenario: &Scenario) -> Fixed {
        let plans = multiples(scenario, knobs.margin);
        Fixed { knobs, pool: RivalPool::new(scenario.accelerators).with_plans(plans), wake: None }
    }

    /// Drops heads that keep the batch behind them below the target.
    fn drop_by_window(&mut self, now: Time, model: ModelId, todo: &mut Actions) {
        loop {
            let state = &self.pool.models[model.index()];
            let Some(head) = state.queue.front() else { return };
            let allowed = self.pool.rows_in_time(model, now, now, self.pool.due(head));
            let wanted = self.knobs.target.min(state.queued_rows()).max(head.rows);
            if allowed >= wanted.min(state.terms.profile.rows_max()) {
                return;
            }
            self.pool.drop_head(model, todo);
        }
    }

    /// The model's batch, and when it need not wait any longer.
    fn batch(&self, now: Time, free: Time, model: ModelId) -> Option<(Time, FixedBatch)> {
        let pool = &self.pool;
        let state = &pool.models[model.index()];
        let head = state.queue.front()?;
        let batch = pool.feasible(model, &state.queue, now, free);
        if batch.count == 0 {
            return None;
        }
        let due = pool.due(head);
        let is_full = batch.rows >= state.terms.profile.rows_max();
        let exec = if is_full || state.queued_rows() >= self.knobs.rows {
            now
        } else {
            pool.wake_for(pool.send_by(model, due, batch.rows + 1))
        };
        let latest = pool.send_by(model, due, batch.rows);
        Some((exec, FixedBatch { latest, model, count: batch.count }))
    }
}

impl Policy for Fixed {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.pool.watch(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.wake = None;
        while let Some(accelerator) = self.pool.first_available(now) {
            let queued: Vec<ModelId> = self.pool.queued().collect();
            for &model in &queued {
                self.drop_by_window(now, model, todo);
                self.pool.watch(model);
            }
            let free = self.pool.accelerators[accelerator.index()].free;
            let batches = queued.iter().filter_map(|model| self.batch(now, free, *model));
            let (ready, waiting): (Vec<_>, Vec<_>) = batches.partition(|(exec, _)| *exec <= now);
            let Some((_, first)) = ready.into_iter().min_by_key(|(_, batch)| *batch) else {
                self.wake = waiting.into_iter().map(|(exec, _)| exec).min();
                return;
            };
            self.pool.send_head(now, first.model, accelerator, first.count, todo);
            self.pool.watch(first.model);
        }
        // Without a free accelerator the next that comes free decides.
        self.wake = self.pool.next_available(now).filter(|_| self.pool.next_expiry().is_some());
    }

    fn next_wake(&self) -> Option<Time> {
        self.wake
    }
}

impl Contender for Fixed {}
