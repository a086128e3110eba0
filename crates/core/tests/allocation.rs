//! The steady state of the scheduler allocates nothing: neither per request nor per batch.

use allocation_counter::{AllocationInfo, measure};
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, ModelId, Objective, Profile, Request, RequestId, Span,
    Time,
};

const MODELS: u32 = 10;
const ACCELERATORS: u32 = 8;
/// Time between requests: twice what the pool can serve, so that drops are exercised too.
const GAP: Span = Span::from_micros(90);

/// A pool in simulated time that keeps its own records in fixed room.
struct Pool {
    scheduler: Scheduler,
    todo: Actions,
    now: Time,
    requests: u64,
    /// Batches under way: at most two for each accelerator.
    running: [Option<(Time, AcceleratorId, BatchId, Span)>; 2 * ACCELERATORS as usize],
    started: u64,
    dropped: u64,
    cancelled: u64,
}

impl Pool {
    fn new(mode: Mode, delays: Delays) -> Pool {
        let mut scheduler = Scheduler::new(mode, ACCELERATORS);
        let mut todo = Actions::default();
        let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
        let profile = Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile"));
        for number in 0..MODELS {
            let (profile, slo) = (Arc::clone(&profile), Span::from_millis(25));
            let terms = ModelTerms {
                profile,
                objective: Objective::Slo(slo),
                queue_max: 40,
                loss_weight: 1.0,
                lane_of: None,
            };
            let event = Event::AddModel { model: ModelId::first(number), terms: Box::new(terms) };
            scheduler.on_event(Time::ZERO, event, &mut todo);
        }
        scheduler.on_event(Time::ZERO, Event::SetDelays(delays), &mut todo);
        Pool {
            scheduler,
            todo,
            now: Time::ZERO,
            requests: 0,
            running: [None; 2 * ACCELERATORS as usize],
            started: 0,
            dropped: 0,
            cancelled: 0,
        }
    }

    /// Lets `count` requests of 1 to 3 rows arrive, some with a deadline of their own, some
    /// cancelled, and everything happen that is due meanwhile.
    fn serve(&mut self, count: u64) {
        for _ in 0..count {
            let arrival = self.now + GAP;
            while let Some(due) = self.due().filter(|due| *due <= arrival) {
                self.step(due);
            }
            self.now = arrival;
            let number = self.requests;
            self.requests += 1;
            let model =
                ModelId::first(u32::try_from(number % u64::from(MODELS)).expect("few models"));
            let rows = 1 + u32::try_from(number % 3).expect("small");
            let slo = Span::from_millis(if number.is_multiple_of(7) { 15 } else { 25 });
            let (request, deadline) = (RequestId::only(number), arrival + slo);
            let class = Class::ALL[usize::from(number.is_multiple_of(5))];
            let arrived = Request { id: request, arrival, deadline, rows, class };
            self.event(Event::Arrive { model, request: arrived });
            if number.is_multiple_of(11) {
                self.event(Event::Cancel { model, request, deadline });
                self.cancelled += 1;
            }
            self.settle();
        }
    }

    fn due(&self) -> Option<Time> {
        let ends = self.running.iter().flatten().map(|(end, ..)| *end);
        ends.chain(self.scheduler.next_wake()).min()
    }

    fn step(&mut self, now: Time) {
        self.now = now;
        for at in 0..self.running.len() {
            if let Some((_, accelerator, batch, exec)) =
                self.running[at].filter(|(end, ..)| *end <= now)
            {
                self.running[at] = None;
                self.event(Event::Complete { accelerator, batch, exec });
            }
        }
        self.settle();
    }

    fn event(&mut self, event: Event) {
        self.scheduler.on_event(self.now, event, &mut self.todo);
    }

    fn settle(&mut self) {
        self.scheduler.settle(self.now, &mut self.todo);
        for action in &self.todo.list {
            match action {
                Action::Start(start) => {
                    let place = self.running.iter_mut().find(|place| place.is_none());
                    let end = start.begin + start.exec;
                    // Some take longer than planned, so that the plans follow.
                    let table = Span::from_micros(1053).times(start.rows.into());
                    let share = 90 + self.started % 20;
                    let exec = Span((table + Span::from_micros(5072)).0 * share / 100);
                    *place.expect("room") = Some((end, start.accelerator, start.batch, exec));
                    self.started += 1;
                }
                Action::Drop { .. } => self.dropped += 1,
                Action::Removed { .. }
                | Action::Drained { .. }
                | Action::Lost { .. }
                | Action::Recovered { .. } => {}
            }
        }
        self.todo.clear();
    }
}

#[track_caller]
fn check(mode: Mode, delays: Delays) {
    let mut pool = Pool::new(mode, delays);
    // Queues, heaps and buffers grow to their size.
    pool.serve(60_000);
    let (started, dropped, cancelled) = (pool.started, pool.dropped, pool.cancelled);
    let AllocationInfo { count_total, bytes_total, .. } = measure(|| pool.serve(20_000));
    assert_eq!((count_total, bytes_total), (0, 0), "{mode:?} {delays:?}");
    let happened = [pool.started - started, pool.dropped - dropped, pool.cancelled - cancelled];
    assert!(happened.iter().all(|count| *count > 100), "{mode:?} {delays:?}: {happened:?}");
}

#[test]
fn the_steady_state_allocates_nothing() {
    let ahead = Delays { control: Span::from_micros(800), ..Delays::default() };
    for mode in [Mode::Consolidate, Mode::Adaptive, Mode::Eager] {
        for delays in [Delays::default(), ahead] {
            check(mode, delays);
        }
    }
}

#[test]
fn allocations_are_seen() {
    assert!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total > 0);
}
