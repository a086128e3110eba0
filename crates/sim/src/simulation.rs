//! The event loop: arrivals, ends of batches and the policy's own timers, in order of time.
//!
//! Memory holds only what is in flight, however long the run is: arrivals are drawn one by one, and
//! the record of a batch is reused after its end.

use crate::contender::Contender;
use crate::delay::stretched;
use crate::lanes::{Lanes, REPLAN_EVERY};
use crate::noise::RunningNoise;
use crate::report::{ModelReport, Report};
use crate::scenario::Scenario;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use symphony_core::sched::{Action, Actions, Event, Start};
use symphony_core::{
    AcceleratorId, BatchId, DropReason, ModelId, Objective, Request, RequestId, Span, Time,
};
use symphony_workload::Arrival;
use symphony_workload::random::Random;

/// A step of a run, for a drawing or a check.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// A request arrived.
    Arrived {
        /// When.
        now: Time,
        /// Its model.
        model: ModelId,
    },
    /// A batch was sent.
    Started {
        /// When.
        now: Time,
        /// The batch as the policy planned it.
        start: &'a Start,
        /// Its requests.
        requests: &'a [Request],
        /// When the batch really begins.
        begin: Time,
        /// When the batch really ends, unless it is stopped.
        end: Time,
    },
    /// A client got its answer.
    Answered {
        /// When.
        at: Time,
        /// Its model.
        model: ModelId,
        /// The request.
        request: &'a Request,
        /// Whether the answer came after its deadline.
        late: bool,
    },
    /// A request was dropped.
    Dropped {
        /// When.
        now: Time,
        /// Its model.
        model: ModelId,
        /// The request.
        request: &'a Request,
        /// Why.
        reason: DropReason,
    },
    /// A batch was stopped.
    Preempted {
        /// When.
        now: Time,
        /// Where the batch ran.
        accelerator: AcceleratorId,
        /// The batch.
        batch: BatchId,
    },
}

/// Runs the arrivals of the warm-up and of the measured time through the policy, until each has its
/// outcome. `seed` is the seed of the scenario's own random numbers (network, execution, clock).
///
/// Arrivals must be in order of time and name models of the scenario.
pub fn run(
    scenario: &Scenario,
    policy: &mut (impl Contender + ?Sized),
    arrivals: impl Iterator<Item = Arrival>,
    seed: u64,
) -> Report {
    run_observed(scenario, policy, arrivals, seed, |_| {})
}

/// Like [`run`], and shows every step to `observe`.
pub fn run_observed(
    scenario: &Scenario,
    policy: &mut (impl Contender + ?Sized),
    arrivals: impl Iterator<Item = Arrival>,
    seed: u64,
    observe: impl FnMut(Observed<'_>),
) -> Report {
    let end = Time::ZERO + scenario.warmup + scenario.measured;
    let mut simulation = Simulation::new(scenario, policy, observe, seed);
    simulation.run(arrivals.take_while(|arrival| arrival.time < end));
    simulation.report()
}

struct Simulation<'a, P: ?Sized, O> {
    scenario: &'a Scenario,
    policy: &'a mut P,
    observe: O,
    seed: u64,
    network: Random,
    execution: Random,
    clock: Random,
    noise: RunningNoise<'a>,
    /// When the policy receives the ends of batches. Batches are numbered in the order in which
    /// they start, which orders equal times.
    ends: BinaryHeap<Reverse<(Time, u64, usize)>>,
    started: u64,
    batches: Vec<SimBatch>,
    /// Places in `batches` that can be reused.
    spare: Vec<usize>,
    accelerators: Vec<SimAccelerator>,
    models: Vec<ModelReport>,
    lanes: Lanes,
    /// When borders of lanes are planned next.
    replan: Time,
    todo: Actions,
    stopped: Vec<BatchId>,
}

/// A batch on its accelerator.
struct SimBatch {
    batch: BatchId,
    accelerator: AcceleratorId,
    model: ModelId,
    requests: Vec<Request>,
    begin: Time,
    end: Time,
    stopped: bool,
}

#[derive(Clone, Copy, Default)]
struct SimAccelerator {
    /// When everything that was sent to it will have ended.
    free: Time,
    /// How long it was busy within the measured time.
    busy: Span,
}

impl<'a, P: Contender + ?Sized, O: FnMut(Observed<'_>)> Simulation<'a, P, O> {
    fn new(scenario: &'a Scenario, policy: &'a mut P, observe: O, seed: u64) -> Self {
        let mut todo = Actions::default();
        let lanes = Lanes::new(scenario, policy.lanes(), seed);
        let mut tell = |event| policy.on_event(Time::ZERO, told(scenario, event), &mut todo);
        for (number, sim) in scenario.models.iter().enumerate() {
            lanes.add(number, sim, &mut tell);
        }
        tell(Event::SetDelays(scenario.delays()));
        // The streams of arrivals are numbered from zero.
        let random = |number| Random::numbered(seed, u64::MAX - number);
        Simulation {
            scenario,
            policy,
            observe,
            seed,
            network: random(0),
            execution: random(1),
            clock: random(2),
            noise: RunningNoise::new(&scenario.noise, scenario.accelerators, seed, |number| {
                random(3 + number)
            }),
            ends: BinaryHeap::new(),
            started: 0,
            batches: Vec::new(),
            spare: Vec::new(),
            accelerators: vec![SimAccelerator::default(); scenario.accelerators as usize],
            models: scenario.models.iter().map(|_| ModelReport::new()).collect(),
            replan: if lanes.is_empty() { Time::NEVER } else { Time::ZERO + REPLAN_EVERY },
            lanes,
            todo,
            stopped: Vec::new(),
        }
    }

    fn run(&mut self, arrivals: impl Iterator<Item = Arrival>) {
        let mut arrivals = (0u64..).zip(arrivals).peekable();
        loop {
            let arrival = arrivals.peek().map(|(_, arrival)| arrival.time);
            let end = self.ends.peek().map(|Reverse((time, ..))| *time);
            let wake = self.policy.next_wake().map(|asked| self.noise.woken(asked));
            // Without arrivals there is nothing to plan for.
            let replan = arrival.map(|_| self.replan);
            let Some(now) = [arrival, end, wake, replan].into_iter().flatten().min() else { break };
            self.replan_lanes(now);
            while let Some(&Reverse((time, _, place))) = self.ends.peek()
                && time <= now
            {
                self.ends.pop();
                self.complete(now, place);
            }
            while let Some((id, arrival)) = arrivals.next_if(|(_, next)| next.time <= now) {
                self.arrive(now, arrival, RequestId::only(id));
            }
            self.policy.settle(now, &mut self.todo);
            self.stop(now);
            self.act(now);
        }
    }

    fn replan_lanes(&mut self, now: Time) {
        if now < self.replan {
            return;
        }
        self.replan = now + REPLAN_EVERY;
        let Simulation { scenario, lanes, policy, todo, .. } = self;
        lanes.replan(now, |event| policy.on_event(now, told(scenario, event), todo));
    }

    fn arrive(&mut self, now: Time, arrival: Arrival, id: RequestId) {
        let Arrival { model, rows, .. } = arrival;
        (self.observe)(Observed::Arrived { now, model });
        let sim = &self.scenario.models[model.index()];
        let kind = sim.mix.kind(self.seed, id);
        let allowed = match sim.terms.objective {
            Objective::Slo(slo) => slo,
            Objective::Soft(_) => Objective::REQUEST_MAX_DEFAULT,
        };
        let mut deadline = now + kind.tight.unwrap_or(allowed);
        if !self.scenario.clock_error.is_none() {
            let error = self.scenario.clock_error.draw(&mut self.clock);
            deadline = Time(deadline.0.saturating_add_signed(error)).max(now);
        }
        let request = Request { id, arrival: now, deadline, rows, class: kind.class };
        if self.is_measured(&request) {
            self.models[model.index()].arrived(kind);
        }
        let Simulation { scenario, lanes, policy, todo, .. } = self;
        let tell = |event| policy.on_event(now, told(scenario, event), todo);
        let lane = lanes.route(&request, model, tell);
        self.policy.on_event(now, Event::Arrive { model: lane, request }, &mut self.todo);
    }

    /// Stops the batches that the policy takes back.
    fn stop(&mut self, now: Time) {
        self.policy.preempt(&mut self.stopped);
        while let Some(batch) = self.stopped.pop() {
            let running = self.batches.iter_mut().find(|b| b.batch == batch && !b.stopped);
            let running = running.expect("a policy stops only batches that run");
            running.stopped = true;
            let SimBatch { accelerator, begin, end, .. } = *running;
            // A batch that ended before the stop took effect has used its full time.
            self.count_busy(accelerator, begin, end.min(now));
            self.accelerators[accelerator.index()].free = now;
            (self.observe)(Observed::Preempted { now, accelerator, batch });
        }
    }

    fn act(&mut self, now: Time) {
        let mut todo = std::mem::take(&mut self.todo);
        for action in &todo.list {
            match action {
                Action::Start(start) => self.start(now, start, todo.batch(start)),
                Action::Drop { model, request, reason } => {
                    self.lanes.left(*model, request);
                    self.lanes.done(*model);
                    let (model, reason) = (self.lanes.model(*model), *reason);
                    (self.observe)(Observed::Dropped { now, model, request, reason });
                    if self.is_measured(request) {
                        self.models[model.index()].drop_one(reason);
                    }
                }
                Action::Removed { .. }
                | Action::Drained { .. }
                | Action::Lost { .. }
                | Action::Recovered { .. } => {}
            }
        }
        todo.clear();
        self.todo = todo;
    }

    /// Queues a batch behind what its accelerator already has.
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let network = self.scenario.network;
        let data = network.data.draw(&mut self.network).times(u64::from(start.rows));
        let ready = now + network.control.draw(&mut self.network) + data;
        let model = self.lanes.model(start.model);
        let sized = self.lanes.exec(start.model, start.rows, requests);
        let actual = &self.scenario.models[model.index()].actual;
        let exec = sized.unwrap_or_else(|| actual.exec(start.rows));
        let mut exec = self.noise.exec(exec, model, actual, requests);
        requests.iter().for_each(|request| self.lanes.left(start.model, request));
        if self.scenario.execution_sigma > 0.0 {
            exec = stretched(exec, self.scenario.execution_sigma * self.execution.normal());
        }
        let begin = self.accelerators[start.accelerator.index()].free.max(ready);
        let factor = self.scenario.drift.factor(begin, start.accelerator);
        if factor != 1.0 {
            exec = Span::from_millis_f64(exec.as_millis_f64() * factor);
        }
        let end = self.noise.end(now, begin, exec, start.accelerator);
        self.accelerators[start.accelerator.index()].free = end;
        let shown = Start { model, ..start.clone() };
        (self.observe)(Observed::Started { now, start: &shown, requests, begin, end });
        let place = self.spare.pop().unwrap_or(self.batches.len());
        let running = SimBatch {
            batch: start.batch,
            accelerator: start.accelerator,
            model: start.model,
            requests: Vec::new(),
            begin,
            end,
            stopped: false,
        };
        match self.batches.get_mut(place) {
            Some(old) => {
                let room = std::mem::take(&mut old.requests);
                *old = SimBatch { requests: room, ..running };
            }
            None => self.batches.push(running),
        }
        self.batches[place].requests.extend_from_slice(requests);
        let heard = end + network.control.draw(&mut self.network);
        self.ends.push(Reverse((heard, self.started, place)));
        self.started += 1;
    }

    /// Ends a batch: its requests have their outcome, and the policy receives its end.
    fn complete(&mut self, now: Time, place: usize) {
        self.spare.push(place);
        let SimBatch { batch, accelerator, model, begin, end, stopped, .. } = self.batches[place];
        let mut requests = std::mem::take(&mut self.batches[place].requests);
        if !stopped {
            self.count_busy(accelerator, begin, end);
            requests.iter().for_each(|_| self.lanes.done(model));
            self.answer(self.lanes.model(model), &requests, end);
            let exec = end.since(begin);
            self.policy.on_event(now, Event::Complete { accelerator, batch, exec }, &mut self.todo);
        }
        requests.clear();
        self.batches[place].requests = requests;
    }

    fn answer(&mut self, model: ModelId, requests: &[Request], end: Time) {
        let from = Time::ZERO + self.scenario.warmup;
        let sim = &self.scenario.models[model.index()];
        let report = &mut self.models[model.index()];
        let mut measured = 0;
        for request in requests.iter().filter(|request| request.arrival >= from) {
            let at = end + self.scenario.network.response.draw(&mut self.network);
            // The true deadline, not the one that the scheduler saw.
            let latency = at.since(request.arrival);
            let kind = sim.mix.kind(self.seed, request.id);
            let late = !report.answered(latency, sim.terms.objective.span(), kind);
            (self.observe)(Observed::Answered { at, model, request, late });
            measured += 1;
        }
        report.batches += u64::from(measured > 0);
    }

    fn count_busy(&mut self, accelerator: AcceleratorId, begin: Time, end: Time) {
        let (from, to) = (Time::ZERO + self.scenario.warmup, self.measured_end());
        self.accelerators[accelerator.index()].busy += end.min(to).since(begin.max(from));
    }

    fn is_measured(&self, request: &Request) -> bool {
        request.arrival >= Time::ZERO + self.scenario.warmup
    }

    fn measured_end(&self) -> Time {
        Time::ZERO + self.scenario.warmup + self.scenario.measured
    }

    fn report(self) -> Report {
        let measured = self.scenario.measured;
        let share = |a: &SimAccelerator| a.busy.as_secs_f64() / measured.as_secs_f64();
        let busy = self.accelerators.iter().map(share).collect();
        Report { busy, models: self.models, measured }
    }
}

/// The event with what the policy is told of profiles.
fn told(scenario: &Scenario, event: Event) -> Event {
    match event {
        Event::AddModel { model, mut terms } => {
            terms.profile = scenario.told(&terms.profile);
            Event::AddModel { model, terms }
        }
        Event::SetProfile { model, profile } => {
            Event::SetProfile { model, profile: scenario.told(&profile) }
        }
        other => other,
    }
}
