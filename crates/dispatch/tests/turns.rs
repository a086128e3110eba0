//! A thread of the scheduler under a clock of the test's own: messages in, plans and outcomes out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use support::{MODEL, Rig};
use symphony_core::sched::Mode;
use symphony_core::{AcceleratorId, DropReason, ModelId, RequestId, Slowdown, Span, Time};
use symphony_dispatch::Settings;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{Layout, SubmitError};
use symphony_wire::message::{BatchPlan, Completion, Outcome, Statistics};
use tokio::sync::oneshot;

/// One accelerator, of whose model two requests may queue.
fn pool(mode: Mode) -> Rig {
    Rig::new(&Settings::new(mode, 1), Layout::TOGETHER, 2)
}

fn at(ms: u64) -> Time {
    Time(Span::from_millis(ms).0)
}

impl Rig {
    fn submit(&mut self, now: Time) -> (RequestId, oneshot::Receiver<Outcome>) {
        let submitted = self.send(now).unwrap();
        self.turn(now);
        submitted
    }

    /// Ends the oldest plan at `now`, without running anything.
    fn complete(&mut self, now: Time) {
        let (accelerator, Timed { at: taken, message: plan }) = self.oldest();
        support::answer(&self.inflight, &plan);
        self.completed(now, support::completion(accelerator, &plan, taken, plan.exec, now));
    }

    /// The oldest plan that was sent.
    fn oldest(&mut self) -> (AcceleratorId, Timed<BatchPlan>) {
        self.plans.lock().unwrap().remove(0)
    }

    fn oldest_model(&self) -> ModelId {
        self.plans.lock().unwrap()[0].1.message.model
    }

    fn completed(&mut self, now: Time, completion: Timed<Completion>) {
        self.port.completed(completion).unwrap();
        self.turn(now);
    }

    fn statistics(&mut self, now: Time) -> Statistics {
        let mut statistics = self.port.statistics().unwrap();
        self.turn(now);
        statistics.try_recv().unwrap()
    }

    fn planned(&self) -> usize {
        self.plans.lock().unwrap().len()
    }
}

#[test]
fn a_full_queue_and_a_hopeless_request_are_answered_with_their_reason() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let (_, mut first) = pool.submit(at(0));
    let (_, mut second) = pool.submit(at(0));
    let (_, mut third) = pool.submit(at(1));
    let reason = |outcome: &mut oneshot::Receiver<Outcome>| match outcome.try_recv() {
        Ok(Outcome::Dropped { reason, .. }) => Some(reason),
        _ => None,
    };
    assert_eq!(reason(&mut third), Some(DropReason::QueueFull));
    assert_eq!(reason(&mut first), None);
    // The accelerator never answers: at some point the others cannot be served.
    pool.turn(at(20));
    assert_eq!(reason(&mut first), Some(DropReason::Hopeless));
    assert_eq!(reason(&mut second), Some(DropReason::Hopeless));
}

#[test]
fn a_cancelled_request_is_not_planned() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let (id, _gone) = pool.submit(at(0));
    drop(pool.inflight.take(id));
    pool.cancel(MODEL, id, at(0));
    pool.turn(at(1));
    pool.complete(at(6));
    assert_eq!(pool.planned(), 0);
}

#[test]
fn draining_ends_when_the_last_batch_does() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let (_, _queued) = pool.submit(at(0));
    let mut drained = pool.port.drain().unwrap();
    pool.turn(at(1));
    assert!(!pool.threads[0].is_over());
    pool.complete(at(6));
    assert!(!pool.threads[0].is_over(), "the queued request runs first");
    pool.complete(at(12));
    assert!(pool.threads[0].is_over());
    assert_eq!(drained.try_recv(), Ok(()));
}

#[test]
fn a_removed_model_lets_its_batches_end_and_takes_nothing_new() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let mut removed = pool.port.remove_model(MODEL).unwrap();
    let (_, mut refused) = pool.submit(at(1));
    assert!(matches!(refused.try_recv(), Ok(Outcome::Unloaded(_))));
    assert!(removed.try_recv().is_err());
    pool.complete(at(6));
    assert_eq!(removed.try_recv(), Ok(()));
}

#[test]
fn what_is_meant_for_a_former_model_never_reaches_the_one_that_has_its_place() {
    for layout in [Layout::TOGETHER, Layout::on_threads(2)] {
        let mut pool = Rig::new(&Settings::new(Mode::Eager, 1), layout, 10);
        let (_, _running) = pool.submit(at(0));
        let mut removed = pool.port.remove_model(MODEL).unwrap();
        pool.complete(at(6));
        assert_eq!(removed.try_recv(), Ok(()));
        let model = MODEL.next_generation();
        drop(pool.port.add_model(model, support::terms(10)).unwrap());
        let (_, mut refused) = pool.submit(at(10));
        assert!(matches!(refused.try_recv(), Ok(Outcome::Unloaded(_))));
        assert_eq!(pool.planned(), 0);
        let (id, _runs) = pool.send_to(model, at(11)).unwrap();
        pool.cancel(MODEL, id, at(11));
        pool.turn(at(11));
        assert_eq!(pool.oldest_model(), model);
        pool.complete(at(17));
        let models = pool.statistics(at(18)).models;
        assert_eq!(models.iter().map(|(model, _)| *model).collect::<Vec<_>>(), [model]);
        assert_eq!((models[0].1.batches, models[0].1.queued), (1, 0));
    }
}

/// What waits for the end of a batch, after each step of a pool's life.
#[test]
fn the_end_of_a_batch_is_waited_for_where_it_leads_to_something() {
    let mut pool = pool(Mode::Eager);
    let mut check = |what: &str, step: &dyn Fn(&mut Rig), awaits: bool| {
        step(&mut pool);
        assert_eq!(pool.threads[0].awaits_ends(), awaits, "{what}");
    };
    let submit = |ms| move |pool: &mut Rig| drop(pool.submit(at(ms)));
    let end = |ms| move |pool: &mut Rig| pool.complete(at(ms));
    let serve = |serves: bool| {
        move |pool: &mut Rig| {
            drop(pool.port.serve(AcceleratorId(0), serves).unwrap());
            pool.turn(at(50));
        }
    };
    check("nothing runs", &|_| (), false);
    check("one runs alone", &submit(0), false);
    check("a request waits behind it", &submit(1), true);
    check("that runs alone", &end(6), false);
    check("the accelerator is to be drained", &serve(false), true);
    check("the accelerator is away", &end(52), true);
    check("the accelerator is back", &serve(true), false);
    check("one runs alone again", &submit(60), false);
    let remove = |pool: &mut Rig| {
        drop(pool.port.remove_model(MODEL).unwrap());
        pool.turn(at(61));
    };
    check("its model is to be removed", &remove, true);
    check("its model is gone", &end(66), false);
}

#[test]
fn a_drain_waits_for_the_end_of_the_last_batch() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let _drained = pool.port.drain().unwrap();
    pool.turn(at(1));
    assert!(pool.threads[0].awaits_ends());
}

/// When batches of which size are sent, of requests that come in bursts, three of them every
/// `every_ms`, with time between the bursts in which nothing runs. Either the thread takes a turn
/// for every batch that ends, or only for those that it waits for.
fn batches_sent(mode: Mode, every_ms: u64, wakes_for_all: bool) -> Vec<(Time, u32)> {
    let mut pool = pool(mode);
    let (mut sent, mut running) = (Vec::new(), VecDeque::new());
    for ms in 0..4000 {
        let now = at(ms);
        let mut is_woken = pool.threads[0].next_wake(now).is_some_and(|wake| wake <= now);
        if let Some((_, completion)) = running.pop_front_if(|(end, _)| *end <= now) {
            pool.port.completed(completion).unwrap();
            is_woken |= wakes_for_all || pool.threads[0].awaits_ends();
        }
        if ms % every_ms < 3 {
            let (id, _outcome) = pool.submit(now);
            drop(pool.inflight.take(id));
        } else if is_woken {
            pool.turn(now);
        }
        for (accelerator, plan) in pool.sent() {
            let plan = plan.message;
            sent.push((now, plan.rows));
            let taken = running.back().map_or(now, |(end, _)| now.max(*end));
            let end = taken + plan.exec;
            running
                .push_back((end, support::completion(accelerator, &plan, taken, plan.exec, end)));
        }
    }
    sent
}

#[test]
fn ends_that_nobody_woke_for_are_learnt_from_all_the_same() {
    // Under the adaptive mode any turn may be the one that plans anew.
    for mode in [Mode::Consolidate, Mode::Eager] {
        for every_ms in [20, 30, 40, 50, 100] {
            let [some, all] = [false, true].map(|all| batches_sent(mode, every_ms, all));
            assert_eq!(some, all, "{mode:?}, every {every_ms} ms");
        }
    }
}

#[test]
fn statistics_count_batches_and_busy_time() {
    let mut pool = pool(Mode::Eager);
    let (_, _first) = pool.submit(at(0));
    pool.complete(at(6));
    let statistics = pool.statistics(at(7));
    assert_eq!(statistics.accelerators[0].batches, 1);
    assert_eq!(statistics.accelerators[0].busy, Span::from_millis(6));
    assert_eq!(statistics.models.len(), 1);
    assert_eq!((statistics.models[0].1.batches, statistics.models[0].1.queued), (1, 0));
}

#[test]
fn measured_delays_make_plans_earlier() {
    let mut pool = pool(Mode::Consolidate);
    for round in 0..64 {
        let now = at(round * 100);
        let (_, _outcome) = pool.submit(now);
        assert_eq!(pool.planned(), 1, "a lone request starts at once");
        // It takes 3 ms until the answer is out.
        let (accelerator, Timed { at: taken, message: plan }) = pool.oldest();
        let exec = plan.exec;
        let answered = taken + exec + Span::from_millis(3);
        pool.completed(answered, support::completion(accelerator, &plan, taken, exec, answered));
    }
    // A running batch holds the accelerator; the request behind it expires earlier than its
    // deadline less the profile alone would say: 25 - 6 ms.
    let now = at(10_000);
    let (_, _running) = pool.submit(now);
    let (_, _waiting) = pool.submit(now);
    let wake = pool.threads[0].next_wake(now).unwrap();
    let room = wake.since(now);
    assert!(room < Span::from_millis(16), "{room}");
    assert!(room > Span::from_millis(15), "{room}");
}

#[test]
fn one_bad_measurement_does_not_shut_a_model_out() {
    let mut pool = pool(Mode::Consolidate);
    let (_, _first) = pool.submit(at(0));
    // The accelerator took it up only when its objective had passed, and answered late too.
    let (accelerator, Timed { message: plan, .. }) = pool.oldest();
    let completion = support::completion(accelerator, &plan, at(40), plan.exec, at(80));
    pool.completed(at(80), completion);
    let (_, mut second) = pool.submit(at(100));
    assert_eq!(pool.planned(), 1, "{:?}", second.try_recv());
}

#[test]
fn waiting_behind_a_running_batch_is_not_measured_as_a_delay() {
    let mut pool = pool(Mode::Eager);
    let end = |pool: &mut Rig, taken: u64, finished: u64| {
        let (accelerator, Timed { message: plan, .. }) = pool.oldest();
        let (taken, finished) = (at(taken), at(finished));
        let exec = finished.since(taken);
        let completion = support::completion(accelerator, &plan, taken, exec, finished);
        pool.completed(finished, completion);
    };
    // It takes 1 ms to reach the accelerator.
    let (_, _alone) = pool.submit(at(0));
    end(&mut pool, 1, 7);
    // Fewer batches than the plans would follow.
    for round in 1..8 {
        let now = round * 100;
        let (_, _first) = pool.submit(at(now));
        let (_, _second) = pool.submit(at(now));
        pool.turn(at(now + 6));
        assert_eq!(pool.planned(), 2, "round {round}: sent 1 ms before the first should end");
        // The first runs for 34 ms longer than planned, the second behind it.
        end(&mut pool, now + 1, now + 41);
        end(&mut pool, now + 41, now + 47);
    }
}

#[test]
fn plans_follow_executions_that_take_longer_and_back() {
    let mut pool = pool(Mode::Consolidate);
    let mut round = 0;
    // Runs so many batches of one row that take `exec_ms`; what the last was planned to take.
    let mut run = |batches: u64, exec_ms: u64| {
        let mut planned = Span::ZERO;
        for _ in 0..batches {
            let now = at(round * 100);
            round += 1;
            let (id, _outcome) = pool.submit(now);
            drop(pool.inflight.take(id));
            let (accelerator, Timed { at: taken, message: plan }) = pool.oldest();
            let exec = Span::from_millis(exec_ms);
            let end = taken + exec;
            pool.completed(end, support::completion(accelerator, &plan, taken, exec, end));
            planned = plan.exec;
        }
        planned
    };
    assert_eq!(run(64, 6), Span::from_millis(6), "as the profile says");
    assert_eq!(run(4, 9), Span::from_millis(6), "it takes four to tell");
    assert_eq!(run(1, 9), Span::from_millis(9));
    assert_eq!(run(4, 6), Span::from_millis(9), "and four to tell that it is over");
    assert_eq!(run(1, 6), Span::from_millis(6));
    let statistics = pool.statistics(at(round * 100));
    assert_eq!(statistics.models[0].1.slowdown, Slowdown::ONE);
    assert_eq!(statistics.accelerators[0].slowdown, Slowdown::ONE);
}

#[test]
fn another_mode_starts_what_was_held_back_and_loses_nothing() {
    let mut pool = pool(Mode::Consolidate);
    // Requests enough for the rate to promise company.
    for round in 0..40 {
        let (_, _first) = pool.submit(at(round * 26));
        let (_, _second) = pool.submit(at(round * 26));
        for after in [6, 12, 18, 24] {
            pool.turn(at(round * 26 + after));
            while pool.planned() > 0 {
                pool.complete(at(round * 26 + after));
            }
            if after == 6 {
                let (_, _third) = pool.submit(at(round * 26 + after));
            }
        }
        assert_eq!(pool.statistics(at(round * 26 + 24)).models[0].1.queued, 0, "round {round}");
    }
    let (_, mut outcome) = pool.submit(at(1040));
    assert_eq!((pool.planned(), outcome.try_recv().is_err()), (0, true), "it waits for company");
    for (mode, planned) in [(Mode::Consolidate, 0), (Mode::Eager, 1), (Mode::Adaptive, 1)] {
        let mut changed = pool.port.set_mode(mode).unwrap();
        pool.turn(at(1041));
        assert_eq!(changed.try_recv(), Ok(()));
        assert_eq!(pool.planned(), planned, "{mode:?}");
        assert_eq!(pool.statistics(at(1041)).mode, mode);
    }
    assert!(outcome.try_recv().is_err(), "it has neither run nor been dropped");
}

#[test]
fn the_requests_of_an_accelerator_that_stops_answering_get_their_outcome_and_it_comes_back() {
    let mut pool = pool(Mode::Eager);
    let (running, mut first) = pool.submit(at(0));
    let inflight = Arc::clone(&pool.inflight);
    let taken = inflight.run(running).unwrap();
    pool.turn(at(900));
    assert!(first.try_recv().is_err(), "it has a second more than planned");
    pool.turn(at(1100));
    let Ok(Outcome::Failed(why)) = first.try_recv() else { panic!("no outcome") };
    assert_eq!(why, "accelerator 0 has stopped answering");
    assert!(taken.is_abandoned());
    drop(taken);
    let (_, mut refused) = pool.submit(at(1200));
    pool.turn(at(1300));
    let hopeless = DropReason::Hopeless;
    assert!(
        matches!(refused.try_recv(), Ok(Outcome::Dropped { reason, .. }) if reason == hopeless)
    );
    pool.complete(at(1400));
    let (_, _next) = pool.submit(at(1400));
    pool.complete(at(1410));
    let statistics = pool.statistics(at(1410));
    assert_eq!(statistics.accelerators[0].batches, 1, "what was given up is not counted");
    assert!(pool.inflight.is_empty());
}

#[test]
fn how_many_accelerators_serve_is_known_without_asking() {
    let mut pool = pool(Mode::Eager);
    let only = AcceleratorId(0);
    assert_eq!(pool.port.serving(), Ok(1));
    for (serves, serving) in [(false, 0), (true, 1)] {
        let mut changed = pool.port.serve(only, serves).unwrap();
        assert_ne!(pool.port.serving(), Ok(serving), "nobody has looked yet");
        pool.turn(at(0));
        assert!(changed.try_recv().is_ok());
        assert_eq!(pool.port.serving(), Ok(serving));
    }
    // It stops answering, and is back once it has.
    let (_, _running) = pool.submit(at(0));
    pool.turn(at(1100));
    assert_eq!(pool.port.serving(), Ok(0));
    pool.complete(at(1200));
    assert_eq!(pool.port.serving(), Ok(1));
    let Rig { mut threads, port, .. } = pool;
    threads.remove(0).end();
    assert_eq!(port.serving(), Err(SubmitError::Stopped));
}

#[test]
fn a_batch_that_does_not_end_holds_up_neither_a_removal_nor_a_drain() {
    let mut pool = pool(Mode::Eager);
    let (_, _running) = pool.submit(at(0));
    let mut removed = pool.port.remove_model(MODEL).unwrap();
    let mut drained = pool.port.drain().unwrap();
    pool.turn(at(900));
    assert!(removed.try_recv().is_err() && drained.try_recv().is_err());
    for ms in [1100, 1101] {
        pool.turn(at(ms));
    }
    assert_eq!((removed.try_recv(), drained.try_recv()), (Ok(()), Ok(())));
}
