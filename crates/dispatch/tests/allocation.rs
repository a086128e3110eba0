//! The scheduler's threads allocate nothing in the steady state: neither they themselves, nor the
//! ways between them and to the threads that send to them, nor what a batch does to the process: its
//! plan goes to an accelerator by a bounded channel, and its requests wait in the in-flight table.

mod support;

use allocation_counter::measure;
use crossbeam_channel::{Receiver, bounded};
use std::sync::Arc;
use support::{SLO, Send};
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{AcceleratorId, Class, ModelId, Objective, Profile, Span, Time};
use symphony_dispatch::{InFlightEffects, Settings, Thread, threads};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, Layout, PlanBuffers, SchedulerPort, scheduler};
use symphony_wire::message::{BatchPlan, Cancel, Outcome, Submit};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

const MODELS: u32 = 10;
const ACCELERATORS: u32 = 8;
/// Time between requests: more than the pool can serve, so that drops are exercised too.
const GAP: Span = Span::from_micros(120);
/// Requests are found this many at a time.
const DRAIN: u64 = 4;

/// A batch that an accelerator runs.
struct RunningBatch {
    accelerator: AcceleratorId,
    plan: BatchPlan,
    taken: Time,
    exec: Span,
}

/// A pool under a clock of the test's own.
struct Pool {
    now: Time,
    port: SchedulerPort,
    threads: Vec<Thread<InFlightEffects<Send>>>,
    inflight: Arc<InFlight>,
    buffers: PlanBuffers,
    plans: Receiver<(AcceleratorId, Timed<BatchPlan>)>,
    running: Vec<RunningBatch>,
    waiting: Vec<oneshot::Receiver<Outcome>>,
    requests: u64,
    started: u64,
    dropped: u64,
    /// By the scheduler, and by the threads that send to it.
    allocations: u64,
}

impl Pool {
    fn new(mode: Mode, layout: Layout) -> Pool {
        let (port, inboxes) = scheduler(layout);
        let inflight = Arc::new(InFlight::new(100_000));
        let buffers = PlanBuffers::default();
        let (sender, plans) = bounded(2 * ACCELERATORS as usize);
        let threads = threads(&Settings::new(mode, ACCELERATORS), inboxes, |_| {
            let sender = sender.clone();
            let send = move |accelerator, plan| {
                sender.try_send((accelerator, plan)).expect("two batches for each at most");
            };
            let send = Box::new(send) as Send;
            InFlightEffects::new(Arc::clone(&inflight), buffers.clone(), send)
        });
        let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
        let profile = Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile"));
        for model in (0..MODELS).map(ModelId::first) {
            let profile = Arc::clone(&profile);
            let terms = ModelTerms {
                profile,
                objective: Objective::Slo(SLO),
                queue_max: 40,
                loss_weight: 1.0,
                lane_of: None,
            };
            drop(port.add_model(model, terms).expect("it runs"));
        }
        let mut pool = Pool {
            now: Time::ZERO,
            port,
            threads,
            inflight,
            buffers,
            plans,
            running: Vec::new(),
            waiting: Vec::new(),
            requests: 0,
            started: 0,
            dropped: 0,
            allocations: 0,
        };
        pool.count(Pool::turn);
        pool
    }

    /// Serves so many requests; how often the scheduler allocated meanwhile.
    fn serve(&mut self, count: u64) -> u64 {
        self.allocations = 0;
        for _ in 0..count / DRAIN {
            (0..DRAIN).for_each(|_| self.submit());
            self.complete();
            self.count(Pool::turn);
            self.take_up();
            self.note_outcomes();
        }
        self.allocations
    }

    fn count(&mut self, work: impl FnOnce(&mut Pool)) {
        self.allocations += measure(|| work(self)).count_total;
    }

    fn submit(&mut self) {
        self.now = self.now + GAP;
        let (reply, outcome) = oneshot::channel();
        let id = self.inflight.admit(Inputs::fixed(1, vec![]), reply).expect("room");
        self.waiting.push(outcome);
        let model = ModelId::first(u32::try_from(self.requests % u64::from(MODELS)).expect("few"));
        let class = Class::ALL[usize::from(self.requests.is_multiple_of(5))];
        let submit = Submit { model, id, age: Span::ZERO, budget: SLO, rows: 1, class };
        let leaves = self.requests.is_multiple_of(11);
        self.requests += 1;
        self.count(|pool| pool.port.submit(Timed::new(pool.now, submit)).expect("room"));
        if leaves {
            drop(self.inflight.take(id));
            let cancel = Timed::new(self.now, Cancel { model, id, budget: SLO });
            self.count(|pool| pool.port.cancel(cancel));
        }
    }

    fn turn(&mut self) {
        support::turn(&mut self.threads, self.now);
    }

    /// The accelerators take up what was sent.
    fn take_up(&mut self) {
        for (accelerator, Timed { at: taken, message: plan }) in self.plans.try_iter() {
            // Some take longer than planned, so that the plans follow.
            let exec = Span(plan.exec.0 * (90 + self.started % 20) / 100);
            self.running.push(RunningBatch { accelerator, plan, taken, exec });
            self.started += 1;
        }
    }

    /// The accelerators answer what is due, and give the plans' room back.
    fn complete(&mut self) {
        let now = self.now;
        let is_due = |batch: &mut RunningBatch| batch.taken + batch.exec <= now;
        let ended: Vec<_> = self.running.extract_if(.., is_due).collect();
        for RunningBatch { accelerator, plan, taken, exec } in ended {
            support::answer(&self.inflight, &plan);
            let completion = support::completion(accelerator, &plan, taken, exec, taken + exec);
            self.count(|pool| pool.port.completed(completion).expect("room"));
            self.buffers.give_back(plan.requests);
        }
    }

    fn note_outcomes(&mut self) {
        let dropped = &mut self.dropped;
        self.waiting.retain_mut(|outcome| match outcome.try_recv() {
            Ok(outcome) => {
                *dropped += u64::from(matches!(outcome, Outcome::Dropped { .. }));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
    }
}

#[test]
fn the_steady_state_allocates_nothing() {
    let layouts = [Layout::TOGETHER, Layout::on_threads(2), Layout::on_threads(3)];
    for mode in Mode::ALL {
        for layout in layouts {
            let mut pool = Pool::new(mode, layout);
            // Queues, rings and buffers grow to their size.
            pool.serve(60_000);
            let before = [pool.started, pool.dropped];
            // Something may be needed for the first time yet, and have to get its size; what
            // belongs to every request, batch or plan is in each of these.
            let allocations = [(); 4].map(|()| pool.serve(20_000));
            assert!(allocations.contains(&0), "{mode:?} {layout:?}: {allocations:?}");
            let happened = [pool.started - before[0], pool.dropped - before[1]];
            assert!(happened.iter().all(|count| *count > 100), "{mode:?} {layout:?}: {happened:?}");
        }
    }
}
