//! The scheduler's threads allocate nothing in the steady state: neither they themselves nor the
//! ways between them and to whoever sends to them. What a batch's effects need is their own.

mod support;

use allocation_counter::measure;
use std::sync::Arc;
use symphony_core::sched::{Mode, ModelTerms, Start};
use symphony_core::{
    AcceleratorId, BatchId, Class, DropReason, ModelId, Profile, Request, RequestId, Span, Time,
};
use symphony_dispatch::{Effects, Settings, Thread, threads};
use symphony_wire::schedule::{Completion, Layout, SchedulerPort, scheduler};

const MODELS: u32 = 10;
const ACCELERATORS: u32 = 8;
const SLO: Span = Span::from_millis(25);
/// Time between requests: more than the pool can serve, so that drops are exercised too.
const GAP: Span = Span::from_micros(120);
/// Requests are found this many at a time.
const DRAIN: u64 = 4;

/// Remembers in fixed room what runs.
struct Fixed {
    running: [Option<Running>; 2 * ACCELERATORS as usize],
    started: u64,
    dropped: u64,
}

#[derive(Clone, Copy)]
struct Running {
    end: Time,
    accelerator: AcceleratorId,
    batch: BatchId,
    model: ModelId,
    taken: Time,
    exec: Span,
}

impl Effects for Fixed {
    fn start(&mut self, now: Time, start: &Start, _: &[Request]) {
        let &Start { accelerator, batch, model, begin, exec, .. } = start;
        // Some take longer than planned, so that the plans follow.
        let took = Span(exec.0 * (90 + self.started % 20) / 100);
        let running =
            Running { end: begin + took, accelerator, batch, model, taken: now, exec: took };
        let place = self.running.iter_mut().find(|place| place.is_none());
        *place.expect("two batches for each accelerator at most") = Some(running);
        self.started += 1;
    }

    fn dropped(&mut self, _: Time, _: &Request, _: DropReason) {
        self.dropped += 1;
    }

    fn over(&mut self, _: bool) {}
}

/// A pool under a clock of the test's own.
struct Pool {
    now: Time,
    port: SchedulerPort,
    threads: Vec<Thread<Fixed>>,
    requests: u64,
}

impl Pool {
    fn new(mode: Mode, layout: Layout) -> Pool {
        let (port, inboxes) = scheduler(layout);
        let threads = threads(&Settings::new(mode, ACCELERATORS), inboxes, |_| Fixed {
            running: [None; 2 * ACCELERATORS as usize],
            started: 0,
            dropped: 0,
        });
        let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
        let profile = Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile"));
        for model in (0..MODELS).map(ModelId::first) {
            let profile = Arc::clone(&profile);
            let terms = ModelTerms { profile, slo: SLO, queue_max: 40, loss_weight: 1.0 };
            drop(port.add_model(model, terms).expect("it runs"));
        }
        let mut pool = Pool { now: Time::ZERO, port, threads, requests: 0 };
        pool.turn();
        pool
    }

    fn serve(&mut self, count: u64) {
        for _ in 0..count / DRAIN {
            (0..DRAIN).for_each(|_| self.submit());
            self.complete();
            self.turn();
        }
    }

    fn submit(&mut self) {
        self.now = self.now + GAP;
        let (id, arrival) = (RequestId::only(self.requests), self.now);
        let model = ModelId::first(u32::try_from(self.requests % u64::from(MODELS)).expect("few"));
        let class = Class::ALL[usize::from(self.requests.is_multiple_of(5))];
        let request = Request { id, arrival, deadline: arrival + SLO, rows: 1, class };
        self.port.submit(model, request).expect("room");
        if self.requests.is_multiple_of(11) {
            self.port.cancel(model, id, request.deadline);
        }
        self.requests += 1;
    }

    fn complete(&mut self) {
        let Pool { now, port, threads, .. } = self;
        let running = threads.iter_mut().flat_map(Thread::effects);
        for place in running.flat_map(|fixed| &mut fixed.running) {
            let Some(ended) = place.take_if(|running| running.end <= *now) else { continue };
            let Running { end: finished, accelerator, batch, model, taken, exec } = ended;
            let completion = Completion { accelerator, batch, model, taken, exec, finished };
            port.completed(completion).expect("room");
        }
    }

    fn turn(&mut self) {
        support::turn(&mut self.threads, self.now);
    }

    fn counts(&mut self) -> [u64; 2] {
        let effects = self.threads.iter_mut().flat_map(Thread::effects);
        effects.fold([0, 0], |[started, dropped], fixed| {
            [started + fixed.started, dropped + fixed.dropped]
        })
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
            let before = pool.counts();
            // Something may be needed for the first time yet, and have to get its size; what
            // belongs to every request, batch or plan is in each of these.
            let allocations = [(); 4].map(|()| measure(|| pool.serve(20_000)).count_total);
            assert!(allocations.contains(&0), "{mode:?} {layout:?}: {allocations:?}");
            let happened = [0, 1].map(|at| pool.counts()[at] - before[at]);
            assert!(happened.iter().all(|count| *count > 100), "{mode:?} {layout:?}: {happened:?}");
        }
    }
}
