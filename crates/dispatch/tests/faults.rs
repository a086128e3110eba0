//! What may go wrong around the scheduler's threads, under a clock of the test's own: nothing is
//! lost, and what comes afterwards is served as before.

use std::sync::{Arc, Mutex};
use symphony_core::sched::{ModelTerms, Rule};
use symphony_core::{
    AcceleratorId, BatchId, Class, DropReason, ModelId, Profile, Request, Span, Time,
};
use symphony_dispatch::{InFlightEffects, Settings, Thread, threads};
use symphony_wire::inflight::{Answer, Execution, InFlight, Outcome};
use symphony_wire::schedule::port::REQUESTS_MAX;
use symphony_wire::schedule::{
    BatchPlan, Completion, Layout, SchedulerPort, SubmitError, scheduler,
};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

const MODEL: ModelId = ModelId(0);
const SLO: Span = Span::from_millis(25);
const LAYOUTS: [fn() -> Layout; 2] = [|| Layout::TOGETHER, || Layout::on_threads(2)];

type Plans = Arc<Mutex<Vec<(AcceleratorId, BatchPlan)>>>;
type Send = Box<dyn FnMut(AcceleratorId, BatchPlan) + std::marker::Send>;

/// Two accelerators and one model, `l(b) = b + 5 ms`, whose batches end as planned.
struct Pool {
    now: Time,
    threads: Vec<Thread<InFlightEffects<Send>>>,
    port: SchedulerPort,
    inflight: Arc<InFlight>,
    plans: Plans,
    running: Vec<(Time, AcceleratorId, BatchPlan)>,
    waiting: Vec<oneshot::Receiver<Outcome>>,
    good: usize,
    dropped: Vec<DropReason>,
}

impl Pool {
    fn new(layout: Layout) -> Pool {
        let inflight = Arc::new(InFlight::new(100_000));
        let plans = Plans::default();
        let (port, inboxes) = scheduler(layout);
        let threads = threads(&Settings::new(Rule::Deferred, 2), inboxes, |_| {
            let sent = Arc::clone(&plans);
            let send = move |accelerator, plan| {
                sent.lock().expect("no panic").push((accelerator, plan));
            };
            InFlightEffects::new(Arc::clone(&inflight), Box::new(send) as Send)
        });
        let profile = Profile::linear(Span::from_millis(1), Span::from_millis(5), 8);
        let profile = Arc::new(profile.expect("valid profile"));
        let terms = ModelTerms { profile, slo: SLO, queue_max: 50_000, loss_weight: 1.0 };
        drop(port.add_model(MODEL, terms).expect("it runs"));
        let mut pool = Pool {
            now: Time::ZERO,
            threads,
            port,
            inflight,
            plans,
            running: Vec::new(),
            waiting: Vec::new(),
            good: 0,
            dropped: Vec::new(),
        };
        pool.turn();
        pool
    }

    fn submit(&mut self) -> Result<(), SubmitError> {
        let (reply, outcome) = oneshot::channel();
        let id = self.inflight.admit(Inputs { rows: 1, tensors: vec![] }, reply).expect("room");
        let (arrival, deadline) = (self.now, self.now + SLO);
        let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
        let submitted = self.port.submit(MODEL, request);
        match submitted {
            Ok(()) => self.waiting.push(outcome),
            Err(_) => drop(self.inflight.take(id)),
        }
        submitted
    }

    /// Everybody looks at what has arrived, until nobody has anything to say.
    fn turn(&mut self) {
        self.threads.iter_mut().for_each(|thread| thread.turn(self.now));
        while self.threads.iter().any(Thread::is_pending) {
            self.threads.iter_mut().for_each(|thread| thread.turn(self.now));
        }
        for (accelerator, plan) in self.plans.lock().expect("no panic").drain(..) {
            self.running.push((self.now + plan.exec, accelerator, plan));
        }
    }

    /// Lets the time pass, with `arrivals` requests in each millisecond.
    fn pass(&mut self, ms: u64, arrivals: usize) {
        for _ in 0..ms {
            for _ in 0..arrivals {
                self.submit().expect("room");
            }
            for _ in 0..10 {
                self.now = self.now + Span::from_micros(100);
                self.complete();
                self.turn();
            }
        }
        self.count();
    }

    fn complete(&mut self) {
        let now = self.now;
        for (finished, accelerator, plan) in self.running.extract_if(.., |(end, ..)| *end <= now) {
            for request in &plan.requests {
                let Some(pending) = self.inflight.take(request.id) else { continue };
                assert!(finished <= request.deadline, "late");
                pending.answer(Outcome::Done(Answer { outputs: vec![], execution: EXECUTION }));
            }
            let BatchPlan { batch, model, exec, decided: taken, .. } = plan;
            let completion = Completion { accelerator, batch, model, taken, exec, finished };
            self.port.completed(completion).expect("room");
        }
    }

    /// Takes note of the outcomes that have come.
    fn count(&mut self) {
        let Pool { good, dropped, .. } = self;
        self.waiting.retain_mut(|outcome| match outcome.try_recv() {
            Ok(Outcome::Done(_)) => {
                *good += 1;
                false
            }
            Ok(Outcome::Dropped { reason, .. }) => {
                dropped.push(reason);
                false
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => true,
        });
    }

    /// Requests that ran since the last call, and that were dropped.
    fn ended(&mut self) -> (usize, usize) {
        self.count();
        (std::mem::take(&mut self.good), std::mem::take(&mut self.dropped).len())
    }

    #[track_caller]
    fn expect_all_ended(&mut self) {
        self.pass(50, 0);
        assert!(self.waiting.is_empty(), "{} without an outcome", self.waiting.len());
        assert!(self.inflight.is_empty());
    }
}

const EXECUTION: Execution = Execution {
    accelerator: AcceleratorId(0),
    batch_rows: 1,
    queued: Span::ZERO,
    assembly: Span::ZERO,
    compute: Span::ZERO,
    split: Span::ZERO,
    slack: Span::ZERO,
};

#[test]
fn a_thread_that_was_stopped_recovers_within_one_objective() {
    for layout in LAYOUTS {
        for stopped in 0..layout().threads() {
            let mut pool = Pool::new(layout());
            pool.pass(400, 1);
            pool.ended();
            // One thread stands still for half a second; requests and completions pile up.
            let others: Vec<usize> = (0..pool.threads.len()).filter(|at| *at != stopped).collect();
            for _ in 0..500 {
                pool.submit().expect("room");
                pool.now = pool.now + Span::from_millis(1);
                pool.complete();
                for &other in &others {
                    pool.threads[other].turn(pool.now);
                }
                for (accelerator, plan) in pool.plans.lock().expect("no panic").drain(..) {
                    pool.running.push((pool.now + plan.exec, accelerator, plan));
                }
            }
            pool.turn();
            pool.pass(25, 1);
            pool.ended();
            pool.pass(200, 1);
            let (good, dropped) = pool.ended();
            assert!(dropped == 0 && good > 150, "{stopped}: {good} good, {dropped} dropped");
            pool.expect_all_ended();
        }
    }
}

#[test]
fn what_finds_the_ring_full_is_refused_and_the_rest_has_its_outcome() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        for _ in 0..REQUESTS_MAX {
            pool.submit().expect("room");
        }
        assert_eq!(pool.submit(), Err(SubmitError::Full));
        assert_eq!(pool.inflight.len(), REQUESTS_MAX);
        pool.pass(1, 0);
        pool.submit().expect("there is room again");
        pool.expect_all_ended();
        let (good, dropped) = pool.ended();
        assert_eq!(good + dropped, REQUESTS_MAX + 1);
        assert!(good >= 8, "{good}");
    }
}

#[test]
fn clients_that_have_left_hold_up_nobody() {
    let mut pool = Pool::new(Layout::TOGETHER);
    for _ in 0..100 {
        pool.submit().expect("room");
        pool.waiting.clear();
        pool.pass(1, 0);
    }
    pool.expect_all_ended();
    pool.pass(300, 1);
    pool.ended();
    pool.pass(100, 1);
    assert_eq!(pool.ended().1, 0);
}

#[test]
fn completions_of_unknown_batches_and_accelerators_change_nothing() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        pool.pass(300, 1);
        pool.ended();
        for (accelerator, batch, model) in
            [(0, u64::MAX, MODEL), (9, 1, MODEL), (u32::MAX, 3, ModelId(9)), (1, 0, MODEL)]
        {
            let (accelerator, batch) = (AcceleratorId(accelerator), BatchId(batch));
            let (taken, finished, exec) = (pool.now, pool.now, Span::from_millis(1));
            let completion = Completion { accelerator, batch, model, taken, exec, finished };
            pool.port.completed(completion).expect("room");
        }
        pool.pass(100, 1);
        assert_eq!(pool.ended().1, 0);
        pool.expect_all_ended();
    }
}
