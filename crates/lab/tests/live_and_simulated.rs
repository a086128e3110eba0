//! One trace through the live scheduler's loop, under a clock of the test's own, and through the
//! simulator: both decide the same, action by action. The decisions are one piece of code; this
//! holds its two drivers to the same order of events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex};
use symphony_core::sched::{Mode, ModelTerms, Scheduler};
use symphony_core::{
    AcceleratorId, BatchId, Class, DropReason, ModelId, Objective, Profile, Request, RequestId,
    Span, Time,
};
use symphony_dispatch::{InFlightEffects, Settings, Thread, threads};
use symphony_sim::{Delay, Network, Observed, Scenario, run_observed};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, Layout, PlanBuffers, SchedulerPort, scheduler};
use symphony_wire::message::{BatchPlan, Completion, Outcome, Submit};
use symphony_wire::tensor::Inputs;
use symphony_workload::{Arrival, Arrivals, Process, Stream};
use tokio::sync::oneshot;

const ACCELERATORS: u32 = 4;
/// What the live loop takes the response to cost before it has measured anything.
const RESPONSE: Span = Span::from_micros(200);

/// A batch, its requests counted in order of arrival.
#[derive(Debug, PartialEq, Eq)]
struct Started {
    at: Time,
    accelerator: AcceleratorId,
    batch: BatchId,
    model: ModelId,
    requests: Vec<u64>,
    exec: Span,
}

/// What was decided; drops in order of time and arrival.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decisions {
    started: Vec<Started>,
    dropped: Vec<(Time, u64, DropReason)>,
}

fn models() -> Vec<ModelTerms> {
    let model = |(alpha, beta, slo): (u64, u64, u64)| {
        let (alpha, beta) = (Span::from_micros(alpha), Span::from_micros(beta));
        let profile = Arc::new(Profile::linear(alpha, beta, 32).expect("valid profile"));
        ModelTerms {
            profile,
            objective: Objective::Slo(Span::from_millis(slo)),
            queue_max: 100,
            loss_weight: 1.0,
            lane_of: None,
        }
    };
    [(1053, 5072, 25), (400, 9000, 60)].map(model).into()
}

/// A little more than the pool can serve, in clumps.
fn trace() -> Vec<Arrival> {
    let stream = |model, rate| Stream {
        rows: 1 + model,
        ..Stream::steady(ModelId::first(model), Process::Gamma { cv: 1.5 }, rate)
    };
    let arrivals = Arrivals::new(&[stream(0, 1800.0), stream(1, 600.0)], 3).expect("valid");
    arrivals.take(4000).collect()
}

fn simulated(mode: Mode) -> Decisions {
    let mut scenario = Scenario::ideal(models(), ACCELERATORS, Span::ZERO, Span::from_secs(1000));
    scenario.network = Network { response: Delay::Constant(RESPONSE), ..Network::default() };
    let mut scheduler = Scheduler::new(mode, ACCELERATORS);
    let mut decisions = Decisions::default();
    run_observed(&scenario, &mut scheduler, trace().into_iter(), 0, |observed| match observed {
        Observed::Started { now, start, requests, .. } => decisions.started.push(Started {
            at: now,
            accelerator: start.accelerator,
            batch: start.batch,
            model: start.model,
            requests: requests.iter().map(|request| request.id.number()).collect(),
            exec: start.exec,
        }),
        Observed::Dropped { now, request, reason, .. } => {
            decisions.dropped.push((now, request.id.number(), reason));
        }
        Observed::Arrived { .. } | Observed::Answered { .. } => {}
        Observed::Preempted { .. } => unreachable!("the scheduler never stops a batch"),
    });
    decisions.dropped.sort_by_key(|(at, number, _)| (*at, *number));
    decisions
}

type Plans = Arc<Mutex<Vec<(AcceleratorId, Timed<BatchPlan>)>>>;

/// A thread of the live scheduler and the world around it.
struct Live<S: FnMut(AcceleratorId, Timed<BatchPlan>) + Send> {
    threads: Vec<Thread<InFlightEffects<S>>>,
    port: SchedulerPort,
    inflight: Arc<InFlight>,
    plans: Plans,
    /// Batches under way, by when they end.
    ends: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId)>>,
    batches: BTreeMap<BatchId, BatchPlan>,
    /// Requests without an outcome, by number.
    waiting: BTreeMap<u64, oneshot::Receiver<Outcome>>,
    numbers: BTreeMap<RequestId, u64>,
    decisions: Decisions,
}

impl<S: FnMut(AcceleratorId, Timed<BatchPlan>) + Send> Live<S> {
    fn run(mut self) -> Decisions {
        let mut arrivals = (0u64..).zip(trace()).peekable();
        let mut now = Time::ZERO;
        loop {
            let arrival = arrivals.peek().map(|(_, arrival)| arrival.time);
            let end = self.ends.peek().map(|Reverse((time, ..))| *time);
            let wake = self.threads.iter().filter_map(|thread| thread.next_wake(now)).min();
            let Some(next) = [arrival, end, wake].into_iter().flatten().min() else { break };
            now = next;
            while let Some(&Reverse((time, batch, accelerator))) = self.ends.peek()
                && time <= now
            {
                self.ends.pop();
                self.complete(now, batch, accelerator);
            }
            while let Some((number, arrival)) = arrivals.next_if(|(_, next)| next.time <= now) {
                self.submit(now, number, arrival);
            }
            self.turn(now);
            self.note(now);
        }
        self.decisions
    }

    /// Every thread takes a turn, and again as long as they have something to say to each other.
    fn turn(&mut self, now: Time) {
        self.threads.iter_mut().for_each(|thread| thread.turn(now));
        while self.threads.iter().any(Thread::is_pending) {
            self.threads.iter_mut().for_each(|thread| thread.turn(now));
        }
    }

    fn submit(&mut self, now: Time, number: u64, arrival: Arrival) {
        let Arrival { model, rows, .. } = arrival;
        let (reply, outcome) = oneshot::channel();
        let inputs = Inputs::fixed(rows, vec![]);
        let id = self.inflight.admit(inputs, reply).expect("room in the table");
        let deadline = now + models()[model.index()].objective.span();
        let request = Request { id, arrival: now, deadline, rows, class: Class::High };
        self.numbers.insert(id, number);
        self.waiting.insert(number, outcome);
        let submit = Timed::new(now, Submit::of(model, &request, now));
        self.port.submit(submit).expect("room in the ring");
    }

    /// Ends a batch as if nothing could be learned from it, so that the delays stay as they are.
    fn complete(&mut self, now: Time, batch: BatchId, accelerator: AcceleratorId) {
        let plan = self.batches.remove(&batch).expect("a batch ends once");
        for request in &plan.requests {
            drop(self.inflight.take(request.id));
            self.waiting.remove(&self.numbers[&request.id]);
        }
        let completion = Completion::not_run(accelerator, batch, plan.model);
        self.port.completed(Timed::new(now, completion)).expect("room in the ring");
    }

    /// Takes note of what the loop did.
    fn note(&mut self, now: Time) {
        for (accelerator, sent) in self.plans.lock().expect("no panic").drain(..) {
            let plan = sent.message;
            self.ends.push(Reverse((now + plan.exec, plan.batch, accelerator)));
            self.decisions.started.push(Started {
                at: now,
                accelerator,
                batch: plan.batch,
                model: plan.model,
                requests: plan.requests.iter().map(|r| self.numbers[&r.id]).collect(),
                exec: plan.exec,
            });
            self.batches.insert(plan.batch, plan);
        }
        let dropped = &mut self.decisions.dropped;
        self.waiting.retain(|number, outcome| match outcome.try_recv() {
            Ok(Outcome::Dropped { reason, .. }) => {
                dropped.push((now, *number, reason));
                false
            }
            _ => true,
        });
    }
}

fn live(mode: Mode, layout: Layout) -> Decisions {
    let inflight = Arc::new(InFlight::new(10_000));
    let plans = Plans::default();
    let sent = Arc::clone(&plans);
    let send = move |accelerator, plan| sent.lock().expect("no panic").push((accelerator, plan));
    let effects = InFlightEffects::new(Arc::clone(&inflight), PlanBuffers::default(), send);
    let (port, inboxes) = scheduler(layout);
    let mut threads = threads(&Settings::new(mode, ACCELERATORS), inboxes, |_| effects.clone());
    for (model, terms) in (0u32..).map(ModelId::first).zip(models()) {
        drop(port.add_model(model, terms).expect("it runs"));
    }
    // The simulator's timers fire on time.
    threads.iter_mut().for_each(|thread| thread.timer_fired(Time::ZERO, Span::ZERO));
    let live = Live {
        threads,
        port,
        inflight,
        plans,
        ends: BinaryHeap::new(),
        batches: BTreeMap::new(),
        waiting: BTreeMap::new(),
        numbers: BTreeMap::new(),
        decisions: Decisions::default(),
    };
    live.run()
}

#[test]
fn the_live_scheduler_and_the_simulator_decide_alike() {
    for mode in Mode::ALL {
        compare(mode, Layout::TOGETHER);
    }
}

/// Adaptive plans are left out: where shards and matcher are apart, a candidate is already on its
/// way when the pool is planned anew, and is granted by the plan before.
#[test]
fn threads_apart_decide_as_the_simulator_does() {
    for mode in [Mode::Consolidate, Mode::Eager] {
        compare(mode, Layout::on_threads(2));
        compare(mode, Layout::on_threads(3));
    }
}

fn compare(mode: Mode, layout: Layout) {
    let (live, simulated) = (live(mode, layout), simulated(mode));
    assert!(simulated.started.len() > 100, "{mode:?}: too few batches to tell");
    assert!(!simulated.dropped.is_empty(), "{mode:?}: no drop to compare");
    for (is, expected) in live.started.iter().zip(&simulated.started) {
        assert_eq!(is, expected, "{mode:?}: {layout:?}: decided otherwise");
    }
    assert_eq!(live, simulated, "{mode:?} {layout:?}");
}
