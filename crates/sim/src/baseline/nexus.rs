//! Nexus: models are packed onto accelerators in advance, and each accelerator forms its own
//! batches.
//!
//! Source: Shen et al., *Nexus: A GPU Cluster Engine for Accelerating DNN-Based Video Analysis*,
//! SOSP 2019. As in the paper, *squishy bin packing* ([`super::packing`]) gives each accelerator
//! some models with target batches. Requests go round-robin, weighted by the planned rates, to the
//! accelerators of their model and never to others. Each accelerator serves its models in turn and
//! drops a head that allows only a batch smaller than the target (window drop).
//!
//! Where we had to decide:
//! - The plan is made once, from the true mean rates. (The paper plans again every 30 s from
//!   measured rates, which is the same under a steady load.)
//! - The plan uses all accelerators: all rates are scaled by the same factor until the plan just
//!   fits.
//! - Batches are planned with the time that one standard deviation takes beyond the median. The
//!   paper measures profiles in advance and does not say which percentile it plans with.
//! - An accelerator does not wait for its duty cycle: when the model in turn has no requests, it
//!   goes on to the next (work-conserving).
//! - A batch is the largest that meets its head's deadline: the target decides which heads to drop,
//!   not how large a batch may be. If the target limited batches, models that share a duty cycle
//!   would answer a burst over several cycles, too late (ten models on eight accelerators: 570
//!   instead of 1355 r/s; one model on one accelerator: 386 instead of 419).

use super::packing::{PackedDemand, pack};
use super::plan::percentiles;
use super::pool::{Noted, RivalPool, insert, prefix};
use crate::{Contender, Scenario};
use std::collections::VecDeque;
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Policy};
use symphony_core::{AcceleratorId, DropReason, ModelId, Request, Time};

/// Batches are planned with the time that is so many standard deviations beyond the median.
const SIGMAS: f64 = 1.0;

/// Accelerators that each have a plan.
#[derive(Clone, Debug)]
pub struct Nexus {
    pool: RivalPool,
    nodes: Vec<NexusAccelerator>,
    /// Where the requests of each model go, by model.
    routes: Vec<Vec<WeightedRoute>>,
    /// Accelerators that may have work.
    touched: Vec<AcceleratorId>,
    now: Time,
}

#[derive(Clone, Debug, Default)]
struct NexusAccelerator {
    sessions: Vec<Session>,
    /// The session whose turn it is.
    turn: usize,
    queued: usize,
}

#[derive(Clone, Debug)]
struct Session {
    model: ModelId,
    /// The planned batch.
    target: u32,
    queue: VecDeque<Request>,
}

/// A share of a model's requests, for smooth weighted round-robin.
#[derive(Clone, Debug)]
struct WeightedRoute {
    node: usize,
    session: usize,
    weight: f64,
    credit: f64,
}

impl Nexus {
    /// Nexus for this pool, planned for these requests per second of each model.
    #[must_use]
    pub fn new(scenario: &Scenario, rates: &[f64]) -> Nexus {
        let delays = scenario.delays();
        let pool = RivalPool::new(scenario.accelerators).with_plans(percentiles(scenario, SIGMAS));
        let demand = |((model, sim), rate): ((ModelId, &crate::SimModel), &f64)| PackedDemand {
            profile: pool.planned(model, Arc::clone(&sim.terms.profile)),
            budget: sim.terms.objective.span().saturating_sub(delays.lead(1) + delays.response),
            rate: *rate,
        };
        let numbered = (0..).map(ModelId::first).zip(&scenario.models);
        let demands: Vec<_> = numbered.zip(rates).map(demand).collect();
        let plans = pack(&demands, scenario.accelerators as usize);
        let mut routes: Vec<Vec<WeightedRoute>> = vec![Vec::new(); scenario.models.len()];
        let mut nodes = vec![NexusAccelerator::default(); scenario.accelerators as usize];
        for (number, (node, plan)) in nodes.iter_mut().zip(plans).enumerate() {
            for share in plan {
                let session = node.sessions.len();
                let model = ModelId::first(u32::try_from(share.demand).unwrap_or(u32::MAX));
                let route =
                    WeightedRoute { node: number, session, weight: share.rate, credit: 0.0 };
                routes[share.demand].push(route);
                node.sessions.push(Session { model, target: share.rows, queue: VecDeque::new() });
            }
        }
        Nexus { pool, nodes, routes, touched: Vec::new(), now: Time::ZERO }
    }

    fn arrive(&mut self, model: ModelId, request: Request, todo: &mut Actions) {
        let Some(route) = next_route(&mut self.routes[model.index()]) else {
            // No batch of this model can meet its objective anywhere.
            todo.list.push(Action::Drop { model, request, reason: DropReason::Hopeless });
            return;
        };
        let (node, session) = (route.node, route.session);
        let state = &mut self.nodes[node];
        let queue = &mut state.sessions[session].queue;
        if queue.len() >= self.pool.models[model.index()].terms.queue_max as usize {
            todo.list.push(Action::Drop { model, request, reason: DropReason::QueueFull });
            return;
        }
        insert(queue, request);
        state.queued += 1;
        self.touched.extend(self.pool.ids().nth(node));
    }

    /// Gives an available accelerator its next batch.
    fn serve(&mut self, now: Time, id: AcceleratorId, todo: &mut Actions) {
        let node = &mut self.nodes[id.index()];
        while node.queued > 0 && self.pool.available(id).is_some_and(|time| time <= now) {
            let sessions = node.sessions.len();
            let session = &mut node.sessions[node.turn];
            node.turn = (node.turn + 1) % sessions;
            let before = session.queue.len();
            let free = self.pool.accelerators[id.index()].free;
            let count = session.batch(&self.pool, now, free, todo);
            if count > 0 {
                self.pool.send(now, session.model, id, session.queue.drain(..count), todo);
            }
            node.queued -= before - session.queue.len();
        }
    }
}

impl Session {
    /// Drops the heads that do not allow the target batch. Returns the number of requests to run.
    fn batch(&mut self, pool: &RivalPool, now: Time, free: Time, todo: &mut Actions) -> usize {
        let model = self.model;
        while let Some(&head) = self.queue.front() {
            let rows_max = pool.rows_in_time(model, now, free, pool.due(&head));
            let batch = prefix(&self.queue, rows_max);
            let reason = if batch.count == 0 {
                DropReason::Hopeless
            } else if rows_max < self.target && batch.count < self.queue.len() {
                DropReason::Overload
            } else {
                return batch.count;
            };
            self.queue.pop_front();
            todo.list.push(Action::Drop { model, request: head, reason });
        }
        0
    }
}

fn next_route(routes: &mut [WeightedRoute]) -> Option<&WeightedRoute> {
    let total: f64 = routes.iter().map(|route| route.weight).sum();
    for route in &mut *routes {
        route.credit += route.weight;
    }
    // The first of equal ones, so that ties go by accelerator number.
    let best = (0..routes.len())
        .reduce(|best, i| if routes[i].credit > routes[best].credit { i } else { best })?;
    routes[best].credit -= total;
    Some(&routes[best])
}

impl Policy for Nexus {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match self.pool.note(now, event, todo) {
            Noted::Arrived(model, request) => self.arrive(model, request, todo),
            Noted::Completed(accelerator) => self.touched.push(accelerator),
            Noted::Told | Noted::Refused => {}
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        if self.pool.next_available(self.now).is_some_and(|time| time <= now) {
            self.touched.extend(self.pool.ids());
        }
        self.now = now;
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.serve(now, id, todo);
        }
        self.touched = touched;
    }

    fn next_wake(&self) -> Option<Time> {
        let waiting = |id: &AcceleratorId| self.nodes[id.index()].queued > 0;
        let available = self.pool.ids().filter(waiting).filter_map(|id| self.pool.available(id));
        available.filter(|time| *time > self.now).min()
    }
}

impl Contender for Nexus {}
