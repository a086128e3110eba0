//! The scheduler's thread among others, under the real clock: whatever races, every request
//! gets exactly one outcome.

mod support;

use crossbeam_channel::{Sender, unbounded};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{AcceleratorId, Class, ModelId, Objective, Profile, Span};
use symphony_dispatch::{InFlightEffects, Settings, spawn, threads};
use symphony_exchange::Spin;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{
    InFlight, Layout, PlanBuffers, SchedulerPort, SubmitError, scheduler,
};
use symphony_wire::clock::Clock;
use symphony_wire::message::{BatchPlan, Cancel, Outcome, Submit};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

const MODELS: u32 = 3;
const ACCELERATORS: u32 = 2;
/// On one thread, on two, and with two shards.
const LAYOUTS: [fn() -> Layout; 3] =
    [|| Layout::TOGETHER, || Layout::on_threads(2), || Layout::on_threads(3)];

/// A numbers generator good enough to vary what threads do.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Pool {
    clock: Clock,
    inflight: Arc<InFlight>,
    port: SchedulerPort,
    scheduler: Vec<JoinHandle<()>>,
    accelerators: Vec<JoinHandle<()>>,
}

fn start(mode: Mode, layout: Layout) -> Pool {
    let (port, inboxes) = scheduler(layout);
    let (clock, inflight) = (Clock::start(), Arc::new(InFlight::new(100_000)));
    let (plans, accelerators): (Vec<Sender<Timed<BatchPlan>>>, Vec<_>) =
        (0..ACCELERATORS).map(|number| accelerator(number, clock, &inflight, &port)).unzip();
    let send = move |id: AcceleratorId, plan| plans[id.index()].send(plan).expect("it runs");
    let effects = InFlightEffects::new(Arc::clone(&inflight), PlanBuffers::default(), send);
    let scheduling = threads(&Settings::new(mode, ACCELERATORS), inboxes, |_| effects.clone());
    drop(effects);
    let scheduler = spawn(scheduling, clock, Spin::NEVER).expect("threads");
    for model in 0..MODELS {
        let (alpha, beta) = (Span::from_micros(5), Span::from_micros(100));
        let profile = Arc::new(Profile::linear(alpha, beta, 16).expect("valid profile"));
        let terms = ModelTerms {
            profile,
            objective: Objective::Slo(Span::from_millis(5)),
            queue_max: 50,
            loss_weight: 1.0,
            lane_of: None,
        };
        let added = port.add_model(ModelId::first(model), terms).expect("it runs");
        added.blocking_recv().expect("added");
    }
    Pool { clock, inflight, port, scheduler, accelerators }
}

/// A thread that answers each batch as soon as it comes.
fn accelerator(
    number: u32,
    clock: Clock,
    inflight: &Arc<InFlight>,
    port: &SchedulerPort,
) -> (Sender<Timed<BatchPlan>>, JoinHandle<()>) {
    let (plans, inbox) = unbounded::<Timed<BatchPlan>>();
    let (inflight, port, accelerator) = (Arc::clone(inflight), port.clone(), AcceleratorId(number));
    let thread = thread::spawn(move || {
        for Timed { message: plan, .. } in inbox {
            let taken = clock.now();
            support::answer(&inflight, &plan);
            let finished = clock.now();
            let completion = support::completion(accelerator, &plan, taken, Span::ZERO, finished);
            let _ = port.completed(completion);
        }
    });
    (plans, thread)
}

/// How the requests of one client ended.
#[derive(Debug, Default)]
struct Tally {
    submitted: usize,
    refused: usize,
    cancelled: usize,
    done: usize,
    dropped: usize,
    failed: usize,
}

/// Submits `count` requests of all kinds and cancels some. With `drain_at` it goes on, with
/// pauses in which the pool may find itself idle, until the scheduler has stopped; number
/// `drain_at` is preceded by the wish to drain.
fn client(pool: &Pool, seed: u64, count: usize, drain_at: Option<usize>) -> Tally {
    let (mut dice, mut tally) = (Dice(seed), Tally::default());
    let mut waiting = Vec::new();
    for number in 0..count {
        if drain_at == Some(number) {
            // Whether it is told before or after this client ends is open.
            let _ = pool.port.drain();
        }
        let (reply, outcome) = oneshot::channel();
        let model = ModelId::first(u32::try_from(dice.roll(u64::from(MODELS) + 1)).expect("small"));
        let rows = u32::try_from(dice.roll(18)).expect("small");
        let id = pool.inflight.admit(Inputs::fixed(rows, vec![]), reply).expect("room");
        let arrival = pool.clock.now();
        let budget = Span::from_micros(dice.roll(6000));
        tally.submitted += 1;
        let submit = Submit { model, id, age: Span::ZERO, budget, rows, class: Class::High };
        if let Err(error) = pool.port.submit(Timed::new(arrival, submit)) {
            assert_eq!(error, SubmitError::Stopped);
            drop(pool.inflight.take(id));
            tally.refused += 1;
            break;
        }
        waiting.push((Timed::new(arrival, Cancel { model, id, budget }), outcome));
        if dice.roll(4) == 0 {
            let at = usize::try_from(dice.roll(waiting.len() as u64)).expect("small");
            if cancel(pool, waiting[at].0) {
                waiting.swap_remove(at);
                tally.cancelled += 1;
            }
        }
        if drain_at.is_some() {
            thread::sleep(Duration::from_micros(dice.roll(200)));
        }
    }
    for (_, outcome) in waiting {
        match outcome.blocking_recv().expect("every request gets an outcome") {
            Outcome::Done(_) => tally.done += 1,
            Outcome::Dropped { .. } | Outcome::Unloaded(_) => tally.dropped += 1,
            Outcome::Failed(_) | Outcome::Refused(_) => tally.failed += 1,
        }
    }
    tally
}

fn cancel(pool: &Pool, cancel: Timed<Cancel>) -> bool {
    let mine = pool.inflight.take(cancel.message.id).is_some();
    if mine {
        pool.port.cancel(cancel);
    }
    mine
}

#[track_caller]
fn check(pool: Pool, tallies: &[Tally]) {
    for tally in tallies {
        let ended = tally.refused + tally.cancelled + tally.done + tally.dropped + tally.failed;
        assert_eq!(ended, tally.submitted, "{tally:?}");
    }
    let Pool { inflight, port, scheduler, accelerators, .. } = pool;
    drop(port);
    for thread in scheduler {
        thread.join().expect("no panic");
    }
    for accelerator in accelerators {
        accelerator.join().expect("no panic");
    }
    assert!(inflight.is_empty(), "{} left in the table", inflight.len());
}

fn drain(pool: &Pool) {
    let drained = pool.port.drain().expect("it runs");
    drained.blocking_recv().expect("drained");
}

#[test]
fn every_request_gets_one_outcome() {
    for (mode, layout) in
        Mode::ALL.into_iter().flat_map(|mode| LAYOUTS.map(|layout| (mode, layout)))
    {
        let pool = start(mode, layout());
        let tallies: Vec<_> = thread::scope(|scope| {
            let pool = &pool;
            let clients = [1, 2, 3].map(|seed| scope.spawn(move || client(pool, seed, 3000, None)));
            clients.map(|client| client.join().expect("no panic")).into()
        });
        assert!(tallies.iter().all(|tally| tally.failed == 0), "{tallies:?}");
        drain(&pool);
        check(pool, &tallies);
    }
}

#[test]
fn every_request_gets_one_outcome_while_the_pool_drains() {
    for (seed, layout) in (0..200).zip(LAYOUTS.iter().cycle()) {
        let pool = start(Mode::Eager, layout());
        let tallies: Vec<_> = thread::scope(|scope| {
            let pool = &pool;
            let clients = [0, 1, 2].map(|n| {
                let drain_at = Some(if n == 0 { 10 } else { usize::MAX });
                scope.spawn(move || client(pool, seed * 3 + n, 50_000, drain_at))
            });
            clients.map(|client| client.join().expect("no panic")).into()
        });
        check(pool, &tallies);
    }
}

#[test]
fn a_scheduler_that_panics_leaves_no_request_behind() {
    for layout in LAYOUTS {
        one_that_panics(layout());
    }
}

fn one_that_panics(layout: Layout) {
    let (port, inboxes) = scheduler(layout);
    let (clock, inflight) = (Clock::start(), Arc::new(InFlight::new(10)));
    let buffers = PlanBuffers::default();
    let effects = InFlightEffects::new(Arc::clone(&inflight), buffers, |_, _| panic!("asked to"));
    let scheduling = threads(&Settings::new(Mode::Eager, 1), inboxes, |_| effects.clone());
    let scheduler = spawn(scheduling, clock, Spin::NEVER).expect("threads");
    let profile = Arc::new(Profile::linear(Span(1), Span(1), 1).expect("valid profile"));
    let terms = ModelTerms {
        profile,
        objective: Objective::Slo(Span::from_secs(9)),
        queue_max: 9,
        loss_weight: 1.0,
        lane_of: None,
    };
    let model = ModelId::first(0);
    port.add_model(model, terms).expect("it runs").blocking_recv().expect("added");
    let outcomes: Vec<_> = (0..5)
        .map(|_| {
            let (reply, outcome) = oneshot::channel();
            let inputs = Inputs::fixed(1, vec![]);
            let id = inflight.admit(inputs, reply).expect("room");
            let (age, budget, class) = (Span::ZERO, Span::from_secs(9), Class::High);
            let submit = Submit { model, id, age, budget, rows: 1, class };
            if port.submit(Timed::new(clock.now(), submit)).is_err() {
                drop(inflight.take(id));
            }
            outcome
        })
        .collect();
    for outcome in outcomes {
        let outcome = outcome.blocking_recv().expect("every request gets an outcome");
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    let panicked = scheduler.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(panicked, 1, "the others end by themselves");
    assert!(inflight.is_empty());
}
