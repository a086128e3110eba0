//! Nexus: models packed onto accelerators beforehand, each of which batches on its own.
//!
//! Source: Shen et al., *Nexus: A GPU Cluster Engine for Accelerating DNN-Based Video Analysis*,
//! SOSP 2019. As there: *squishy bin packing* ([`super::packing`]) gives each accelerator some
//! models with target batches; requests go round-robin, weighted by the planned rates, to the
//! accelerators of their model and never elsewhere; each accelerator serves its models in turn
//! and drops a head that allows only a batch smaller than the target (window drop).
//!
//! Where we had to decide:
//! - The plan is made once, from the true mean rates. (The paper plans again every 30 s from
//!   measured ones: under a steady load the same.)
//! - The plan uses all accelerators: the rates are scaled up or down alike until it just fits.
//! - An accelerator does not wait for its duty cycle: one that has nothing of the model in turn
//!   goes on to the next (work-conserving).
//! - A batch is the largest that meets its head's deadline: the target says which heads to drop,
//!   not where to stop. Held to the target, models that share a duty cycle would answer a burst
//!   over several cycles, too late (ten models on eight accelerators: 570 instead of 1355 r/s; one
//!   model on one accelerator: 386 instead of 419).

use super::packing::{Demand, pack};
use super::pool::{Noted, Pool, insert, prefix};
use crate::{Contender, Scenario};
use std::collections::VecDeque;
use symphony_core::sched::{Action, Actions, Event, Policy};
use symphony_core::{AcceleratorId, DropReason, ModelId, Request, Time};

/// Accelerators with a plan each.
#[derive(Clone, Debug)]
pub struct Nexus {
    pool: Pool,
    nodes: Vec<Node>,
    /// By model: where its requests go.
    routes: Vec<Vec<Route>>,
    /// Accelerators that have something to do.
    touched: Vec<AcceleratorId>,
    now: Time,
}

#[derive(Clone, Debug, Default)]
struct Node {
    sessions: Vec<Session>,
    /// Whose turn it is.
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

/// A share of a model's requests; smooth weighted round-robin.
#[derive(Clone, Debug)]
struct Route {
    node: usize,
    session: usize,
    weight: f64,
    credit: f64,
}

impl Nexus {
    /// Nexus for this pool, planned for `rates` requests per second by model.
    #[must_use]
    pub fn new(scenario: &Scenario, rates: &[f64]) -> Nexus {
        let delays = scenario.delays();
        let demand = |(sim, rate): (&crate::SimModel, &f64)| Demand {
            profile: std::sync::Arc::clone(&sim.terms.profile),
            budget: sim
                .terms
                .slo
                .saturating_sub(delays.lead(1) + delays.response + scenario.overrun(sim, false)),
            rate: *rate,
        };
        let demands: Vec<_> = scenario.models.iter().zip(rates).map(demand).collect();
        let plans = pack(&demands, scenario.accelerators as usize);
        let mut routes: Vec<Vec<Route>> = vec![Vec::new(); scenario.models.len()];
        let mut nodes = vec![Node::default(); scenario.accelerators as usize];
        for (number, (node, plan)) in nodes.iter_mut().zip(plans).enumerate() {
            for share in plan {
                let session = node.sessions.len();
                let model = ModelId::first(u32::try_from(share.demand).unwrap_or(u32::MAX));
                let route = Route { node: number, session, weight: share.rate, credit: 0.0 };
                routes[share.demand].push(route);
                node.sessions.push(Session { model, target: share.rows, queue: VecDeque::new() });
            }
        }
        let pool = Pool::new(scenario.accelerators);
        Nexus { pool, nodes, routes, touched: Vec::new(), now: Time::ZERO }
    }

    fn arrive(&mut self, model: ModelId, request: Request, todo: &mut Actions) {
        let Some(route) = next_route(&mut self.routes[model.index()]) else {
            // No batch of this model meets its objective anywhere.
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
    /// Drops the heads that stand in the way of the target and says how many requests to run.
    fn batch(&mut self, pool: &Pool, now: Time, free: Time, todo: &mut Actions) -> usize {
        let model = self.model;
        while let Some(&head) = self.queue.front() {
            let rows_max = pool.rows_in_time(model, now, free, pool.due(model, &head));
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

fn next_route(routes: &mut [Route]) -> Option<&Route> {
    let total: f64 = routes.iter().map(|route| route.weight).sum();
    for route in &mut *routes {
        route.credit += route.weight;
    }
    // The first of equals: ties go by accelerator number.
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
