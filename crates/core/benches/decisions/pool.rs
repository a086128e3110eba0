//! A pool in simulated time: requests come open-loop, completions are fed back.

use crate::random::{Random, Zipf};
use crate::spent::Spent;
use crate::workload::Workload;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, ModelId, Objective, Profile, Request, RequestId, Span,
    Time,
};

const SLO: Span = Span::from_millis(20);
const BATCH_MAX: u32 = 256;
const QUEUE_MAX: u32 = 1 << 16;
/// What a running system measures of itself.
const DELAYS: Delays = Delays {
    control: Span::from_micros(50),
    data: Span(100),
    response: Span::from_micros(20),
    jitter: Span::from_micros(20),
};
/// What the matcher is taken to sustain; the adaptive mode plans half as many.
const BATCHES_PER_S: f64 = 1e6;
/// Requests found at once: at least, and how many more at most.
const DRAIN: (u64, u64) = (50, 150);

/// A pool, and the requests that come to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolTerms {
    pub(crate) mode: Mode,
    pub(crate) models: u32,
    pub(crate) accelerators: u32,
    /// Time between requests in the mean, in nanoseconds.
    pub(crate) gap: u64,
}

pub(crate) struct Pool {
    terms: PoolTerms,
    scheduler: Scheduler,
    todo: Actions,
    popularity: Zipf,
    random: Random,
    now: Time,
    requests: u64,
    /// Batches under way: when each ends, where it runs, and how long it ran.
    running: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId, Span)>>,
    /// What the inbox holds.
    arrived: Vec<Event>,
    completed: Vec<Event>,
}

impl Pool {
    pub(crate) fn new(terms: PoolTerms) -> Pool {
        let mut scheduler = Scheduler::new(terms.mode, terms.accelerators);
        let mut todo = Actions::default();
        load(&mut scheduler, terms.models, &mut todo);
        scheduler.on_event(Time::ZERO, Event::SetDelays(DELAYS), &mut todo);
        scheduler.on_event(Time::ZERO, Event::SetBatchesMax(BATCHES_PER_S), &mut todo);
        Pool {
            terms,
            scheduler,
            todo,
            popularity: Zipf::new(terms.models, 0.9),
            random: Random(1),
            now: Time::ZERO,
            requests: 0,
            running: BinaryHeap::new(),
            arrived: Vec::new(),
            completed: Vec::new(),
        }
    }

    /// Fills the inbox with what happens until some more requests are there.
    fn gather(&mut self) {
        for _ in 0..DRAIN.0 + self.random.below(DRAIN.1 + 1) {
            let arrival = self.now + Span(self.random.below(2 * self.terms.gap + 1));
            let id = RequestId::only(self.requests);
            let deadline = arrival + SLO;
            let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
            let model = ModelId::first(self.popularity.pick(&mut self.random));
            self.arrived.push(Event::Arrive { model, request });
            self.requests += 1;
            self.now = arrival;
        }
        while let Some(Reverse((end, batch, accelerator, exec))) = self.running.peek().copied()
            && end <= self.now
        {
            self.running.pop();
            self.completed.push(Event::Complete { accelerator, batch, exec });
        }
    }

    /// Sends what was decided: how many batches.
    fn act(&mut self) -> u64 {
        let mut batches = 0;
        for action in &self.todo.list {
            if let Action::Start(start) = action {
                // A plan holds a high percentile: most batches take a little less.
                let exec = Span(start.exec.0 / 100 * (90 + self.random.below(10)));
                let end = start.begin + exec;
                self.running.push(Reverse((end, start.batch, start.accelerator, exec)));
                batches += 1;
            }
        }
        self.todo.clear();
        batches
    }
}

/// Loads so many models, each with a profile of its own: how long the scheduler took.
pub(crate) fn load(scheduler: &mut Scheduler, models: u32, todo: &mut Actions) -> Duration {
    let terms = |_| {
        let profile = Profile::linear(Span::from_micros(50), Span::from_millis(1), BATCH_MAX);
        let profile = Arc::new(profile.expect("valid profile"));
        ModelTerms {
            profile,
            objective: Objective::Slo(SLO),
            queue_max: QUEUE_MAX,
            loss_weight: 1.0,
            lane_of: None,
        }
    };
    let terms: Vec<ModelTerms> = (0..models).map(terms).collect();
    let begun = Instant::now();
    for (model, terms) in (0..).map(ModelId::first).zip(terms) {
        scheduler.on_event(Time::ZERO, Event::AddModel { model, terms: Box::new(terms) }, todo);
    }
    scheduler.settle(Time::ZERO, todo);
    begun.elapsed()
}

impl Workload for Pool {
    fn run(&mut self, count: u64) -> Spent {
        let mut spent = Spent::default();
        let before = self.requests;
        while self.requests - before < count {
            self.gather();
            let Pool { scheduler, todo, arrived, completed, now, .. } = self;
            let now = *now;
            spent.complete(|| take_in(scheduler, now, completed, todo));
            spent.arrive(|| take_in(scheduler, now, arrived, todo));
            spent.settle(|| scheduler.settle(now, todo));
            spent.batches += self.act();
        }
        spent.requests = self.requests - before;
        spent
    }
}

#[inline(always)]
fn take_in(scheduler: &mut Scheduler, now: Time, events: &mut Vec<Event>, todo: &mut Actions) {
    for event in events.drain(..) {
        scheduler.on_event(now, event, todo);
    }
}
