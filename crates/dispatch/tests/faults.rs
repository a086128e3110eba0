//! What may go wrong around the scheduler's threads, under a clock of the test's own: nothing is
//! lost, and what comes afterwards is served as before.

mod support;

use support::{MODEL, Rig};
use symphony_core::sched::{ACCELERATORS_MAX, AcceleratorState, Mode};
use symphony_core::{AcceleratorId, BatchId, DropReason, ModelId, Origin, Span, Time};
use symphony_dispatch::Settings;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::port::REQUESTS_MAX;
use symphony_wire::carrier::in_process::{Layout, SubmitError};
use symphony_wire::message::{BatchPlan, Completion, Outcome};
use tokio::sync::oneshot;

const LAYOUTS: [fn() -> Layout; 2] = [|| Layout::TOGETHER, || Layout::on_threads(2)];

/// Two accelerators whose batches end as planned.
struct Pool {
    now: Time,
    rig: Rig,
    running: Vec<(Time, AcceleratorId, Timed<BatchPlan>)>,
    waiting: Vec<oneshot::Receiver<Outcome>>,
    good: usize,
    dropped: Vec<DropReason>,
}

impl Pool {
    fn new(layout: Layout) -> Pool {
        let settings = Settings::new(Mode::Consolidate, 2);
        Pool {
            now: Time::ZERO,
            rig: Rig::new(&settings, layout, 50_000),
            running: Vec::new(),
            waiting: Vec::new(),
            good: 0,
            dropped: Vec::new(),
        }
    }

    fn submit(&mut self) -> Result<(), SubmitError> {
        let (_, outcome) = self.rig.send(self.now)?;
        self.waiting.push(outcome);
        Ok(())
    }

    fn turn(&mut self) {
        self.rig.turn(self.now);
        self.take_up();
    }

    /// Begins the batches that were sent.
    fn take_up(&mut self) {
        for (accelerator, plan) in self.rig.sent() {
            self.running.push((self.now + plan.message.exec, accelerator, plan));
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
            let Timed { at, message: plan } = plan;
            let mut requests = plan.requests.iter();
            assert!(requests.all(|request| finished <= at + request.budget), "late");
            support::answer(&self.rig.inflight, &plan);
            let completion = support::completion(accelerator, &plan, at, plan.exec, finished);
            self.rig.port.completed(completion).expect("room");
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
        assert!(self.rig.inflight.is_empty());
    }
}

#[test]
fn a_thread_that_was_stopped_recovers_within_one_objective() {
    for layout in LAYOUTS {
        for stopped in 0..layout().threads() {
            let mut pool = Pool::new(layout());
            pool.pass(400, 1);
            pool.ended();
            // One thread stands still for half a second; requests and completions pile up.
            let others: Vec<usize> =
                (0..pool.rig.threads.len()).filter(|at| *at != stopped).collect();
            for _ in 0..500 {
                pool.submit().expect("room");
                pool.now = pool.now + Span::from_millis(1);
                pool.complete();
                for &other in &others {
                    pool.rig.threads[other].turn(pool.now);
                }
                pool.take_up();
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
        assert_eq!(pool.rig.inflight.len(), REQUESTS_MAX);
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

/// Has another accelerator join, and takes the turns in which that is heard of.
fn join(pool: &mut Pool, number: u32) -> Option<AcceleratorState> {
    let mut joined = pool.rig.port.join(AcceleratorId(number)).expect("it runs");
    pool.turn();
    joined.try_recv().expect("an answer")
}

fn state(pool: &mut Pool, number: usize) -> AcceleratorState {
    let mut statistics = pool.rig.port.statistics().expect("room");
    pool.turn();
    statistics.try_recv().expect("an answer").accelerators[number].state
}

#[test]
fn what_an_accelerator_ran_that_went_fails_at_once_and_late_ends_change_nothing() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        for _ in 0..100 {
            pool.submit().expect("room");
            pool.pass(1, 0);
        }
        pool.ended();
        let (end, gone, plan) = pool.running.first().cloned().expect("one runs");
        pool.rig.port.gone(gone).expect("it runs");
        pool.turn();
        let (mut failed, requests) = (0, plan.message.requests.len());
        pool.waiting.retain_mut(|outcome| match outcome.try_recv() {
            Ok(Outcome::Failed(why)) => {
                assert!(why.contains("has stopped answering"), "{why}");
                failed += 1;
                false
            }
            _ => true,
        });
        assert!(failed >= requests, "{failed} of {requests}");
        assert_eq!(state(&mut pool, gone.index()), AcceleratorState::Gone);
        pool.running.retain(|(_, accelerator, _)| *accelerator != gone);
        let late = support::completion(gone, &plan.message, plan.at, plan.message.exec, end);
        pool.rig.port.completed(late).expect("room");
        pool.pass(30, 1);
        assert!(pool.running.iter().all(|(_, accelerator, _)| *accelerator != gone));
        assert_eq!(pool.rig.port.serving(), Ok(1));
        let mut resumed = pool.rig.port.serve(gone, true).expect("room");
        pool.turn();
        assert_eq!(resumed.try_recv(), Ok(Some(AcceleratorState::Gone)), "there is none to resume");
        assert_eq!(join(&mut pool, gone.0), Some(AcceleratorState::Serving));
        pool.pass(300, 1);
        pool.ended();
        pool.pass(100, 1);
        assert_eq!(pool.ended().1, 0, "as before");
        pool.expect_all_ended();
    }
}

#[test]
fn an_accelerator_whose_thread_failed_is_lost_until_its_process_goes() {
    let mut pool = Pool::new(Layout::TOGETHER);
    pool.rig.port.lose(AcceleratorId(1)).expect("room");
    assert_eq!(join(&mut pool, 1), Some(AcceleratorState::Lost));
    assert_eq!(state(&mut pool, 1), AcceleratorState::Lost);
    pool.rig.port.gone(AcceleratorId(1)).expect("it runs");
    assert_eq!(state(&mut pool, 1), AcceleratorState::Gone);
    assert_eq!(join(&mut pool, 1), Some(AcceleratorState::Serving));
    assert_eq!(pool.rig.port.serving(), Ok(2));
}

#[test]
fn a_pool_grows_by_what_joins_and_has_holes_where_nothing_did() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        assert_eq!(join(&mut pool, 5), Some(AcceleratorState::Serving));
        assert_eq!(join(&mut pool, ACCELERATORS_MAX), None);
        let mut unknown = pool.rig.port.serve(AcceleratorId(6), true).expect("room");
        pool.turn();
        assert_eq!(unknown.try_recv(), Ok(None), "nobody joined by this number");
        let states = [0, 1, 2, 3, 4, 5].map(|number| state(&mut pool, number).name());
        assert_eq!(states, ["serving", "serving", "away", "away", "away", "serving"]);
        assert_eq!(pool.rig.port.serving(), Ok(3));
        for number in [0, 1] {
            pool.rig.port.gone(AcceleratorId(number)).expect("it runs");
        }
        for _ in 0..100 {
            pool.pass(1, 1);
            pool.pass(1, 0);
        }
        let (good, dropped) = pool.ended();
        assert!(good > 75 && dropped == 0, "{good} good, {dropped} dropped");
        let mut statistics = pool.rig.port.statistics().expect("room");
        pool.turn();
        let batches = statistics.try_recv().expect("an answer").accelerators;
        let batches: Vec<_> = batches.iter().map(|accelerator| accelerator.batches > 0).collect();
        assert_eq!(batches, [false, false, false, false, false, true]);
        pool.expect_all_ended();
    }
}

#[test]
fn the_requests_of_a_frontend_that_is_over_leave_the_queue_with_those_on_their_way() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        for number in [0, 1] {
            pool.rig.port.gone(AcceleratorId(number)).expect("it runs");
        }
        let queued = |pool: &mut Pool| {
            pool.turn();
            let mut statistics = pool.rig.port.statistics().expect("room");
            pool.turn();
            statistics.try_recv().expect("an answer").models[0].1.queued
        };
        // More than are read before a decision, so that some are not read when it is said.
        for _ in 0..3000 {
            pool.submit().expect("room");
        }
        pool.turn();
        let (id, _) = pool.rig.send(pool.now).expect("room");
        for _ in 0..3000 {
            pool.submit().expect("room");
        }
        let origin = id.origin();
        pool.rig.port.forget(origin).expect("it runs");
        for _ in 0..20 {
            pool.turn();
        }
        assert_eq!(queued(&mut pool), 0);
        pool.count();
        assert_eq!((pool.good, pool.dropped.len()), (0, 0), "nobody is told");
        // Other lives go on.
        pool.waiting.clear();
        pool.submit().expect("room");
        assert_eq!(queued(&mut pool), 1);
        let other = Origin::new(origin.frontend() + 1, origin.life());
        pool.rig.port.forget(other).expect("it runs");
        pool.turn();
        assert_eq!(queued(&mut pool), 1);
    }
}

#[test]
fn a_request_without_time_left_is_dropped_at_once() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        for (age, budget) in [(0, 0), (25, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (25, 24)] {
            let (age, budget) = (Span::from_millis(age), Span::from_millis(budget));
            let outcome = pool.rig.send_aged(pool.now, age, budget).expect("room");
            pool.waiting.push(outcome);
        }
        pool.turn();
        pool.count();
        let hopeless = DropReason::Hopeless;
        assert_eq!(pool.dropped, [hopeless; 3]);
        pool.expect_all_ended();
        assert_eq!(pool.good, 2);
    }
}

#[test]
fn completions_of_unknown_batches_and_accelerators_change_nothing() {
    for layout in LAYOUTS {
        let mut pool = Pool::new(layout());
        pool.pass(300, 1);
        pool.ended();
        for (accelerator, batch, model) in
            [(0, u64::MAX, MODEL), (9, 1, MODEL), (u32::MAX, 3, ModelId::first(9)), (1, 0, MODEL)]
        {
            let (accelerator, batch) = (AcceleratorId(accelerator), BatchId(batch));
            let (exec, stay) = (Span::from_millis(1), Span::from_millis(1));
            let completion = Completion::not_run(accelerator, batch, model);
            let completion = Completion { exec, stay, ..completion };
            pool.rig.port.completed(Timed::new(pool.now, completion)).expect("room");
        }
        pool.pass(100, 1);
        assert_eq!(pool.ended().1, 0);
        pool.expect_all_ended();
    }
}
