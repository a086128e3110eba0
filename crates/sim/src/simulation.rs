//! The event loop: arrivals, ends of batches and the policy's own timers, in order of time.

use crate::report::{ModelReport, Report};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use symphony_core::sched::{Action, Actions, Event, ModelTerms, Policy, Start};
use symphony_core::{AcceleratorId, BatchId, ModelId, Request, RequestId, Span, Time};

/// What is simulated, apart from the policy and the arrivals.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The models, by number.
    pub models: Vec<ModelTerms>,
    /// How many accelerators there are, all of one kind.
    pub accelerators: u32,
    /// Time before measuring begins.
    pub warmup: Span,
    /// Requests that arrive during this time are measured, to their end.
    pub measured: Span,
}

/// Runs the arrivals of warm-up and measured time through the policy, until each has its outcome.
///
/// Arrivals must come in order of time and name models of the scenario.
pub fn run(
    scenario: &Scenario,
    policy: &mut impl Policy,
    arrivals: impl Iterator<Item = (Time, ModelId)>,
) -> Report {
    run_observed(scenario, policy, arrivals, |_, _, _| {})
}

/// Like [`run`], and shows every step's actions to `observe`.
pub fn run_observed(
    scenario: &Scenario,
    policy: &mut impl Policy,
    arrivals: impl Iterator<Item = (Time, ModelId)>,
    observe: impl FnMut(Time, &Action, &Actions),
) -> Report {
    let end = Time::ZERO + scenario.warmup + scenario.measured;
    let mut simulation = Simulation {
        scenario,
        policy,
        observe,
        ends: BinaryHeap::new(),
        busy: vec![Span::ZERO; scenario.accelerators as usize],
        models: scenario.models.iter().map(|_| ModelReport::new()).collect(),
        todo: Actions::default(),
    };
    for (number, terms) in (0u32..).zip(&scenario.models) {
        let event = Event::AddModel { model: ModelId(number), terms: terms.clone() };
        simulation.policy.on_event(Time::ZERO, event, &mut simulation.todo);
    }
    simulation.run(arrivals.take_while(|(time, _)| *time < end));
    simulation.report()
}

struct Simulation<'a, P, O> {
    scenario: &'a Scenario,
    policy: &'a mut P,
    observe: O,
    /// When batches end. Batches are numbered in the order they start: equal times are in order.
    ends: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId)>>,
    busy: Vec<Span>,
    models: Vec<ModelReport>,
    todo: Actions,
}

impl<P: Policy, O: FnMut(Time, &Action, &Actions)> Simulation<'_, P, O> {
    fn run(&mut self, arrivals: impl Iterator<Item = (Time, ModelId)>) {
        let mut arrivals = (0u64..).zip(arrivals).peekable();
        loop {
            let arrival = arrivals.peek().map(|(_, (time, _))| *time);
            let end = self.ends.peek().map(|Reverse((time, ..))| *time);
            let wake = self.policy.next_wake();
            let Some(now) = [arrival, end, wake].into_iter().flatten().min() else { break };
            while let Some(&Reverse((time, batch, accelerator))) = self.ends.peek()
                && time <= now
            {
                self.ends.pop();
                self.policy.on_event(now, Event::Complete { accelerator, batch }, &mut self.todo);
            }
            while let Some((id, (_, model))) = arrivals.next_if(|(_, (time, _))| *time <= now) {
                self.arrive(now, model, RequestId(id));
            }
            self.policy.settle(now, &mut self.todo);
            self.act(now);
        }
    }

    fn arrive(&mut self, now: Time, model: ModelId, id: RequestId) {
        let slo = self.scenario.models[model.index()].slo;
        let request = Request { id, arrival: now, deadline: now + slo, rows: 1 };
        if self.is_measured(&request) {
            self.models[model.index()].offered += 1;
        }
        self.policy.on_event(now, Event::Arrive { model, request }, &mut self.todo);
    }

    fn act(&mut self, now: Time) {
        let mut todo = std::mem::take(&mut self.todo);
        for action in &todo.list {
            (self.observe)(now, action, &todo);
            match action {
                Action::Start(start) => self.start(start, todo.batch(start)),
                Action::Drop { model, request, reason } => {
                    if self.is_measured(request) {
                        self.models[model.index()].drop_one(*reason);
                    }
                }
                Action::Removed { .. } => {}
            }
        }
        todo.clear();
        self.todo = todo;
    }

    fn start(&mut self, start: &Start, requests: &[Request]) {
        let end = start.begin + start.exec;
        self.ends.push(Reverse((end, start.batch, start.accelerator)));
        let (from, to) = (Time::ZERO + self.scenario.warmup, self.measured_end());
        self.busy[start.accelerator.index()] += end.min(to).since(start.begin.max(from));
        let model = &mut self.models[start.model.index()];
        let mut measured = 0;
        for request in requests.iter().filter(|request| request.arrival >= from) {
            model.answered(request, end);
            measured += 1;
        }
        model.batches += u64::from(measured > 0);
    }

    fn is_measured(&self, request: &Request) -> bool {
        request.arrival >= Time::ZERO + self.scenario.warmup
    }

    fn measured_end(&self) -> Time {
        Time::ZERO + self.scenario.warmup + self.scenario.measured
    }

    fn report(self) -> Report {
        let measured = self.scenario.measured;
        let share = |busy: &Span| busy.as_secs_f64() / measured.as_secs_f64();
        Report { busy: self.busy.iter().map(share).collect(), models: self.models, measured }
    }
}
