//! At part load nothing is dropped, whatever the requests look like: the window drop is for
//! overload.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler, Start};
use symphony_core::{Class, ModelId, Objective, Profile, Request, RequestId, Span, Time};

const MODEL: ModelId = ModelId::first(0);
const ACCELERATORS: u32 = 8;
/// Rows per second at which `l(b) = 1.053 b + 5.072 ms` keeps eight accelerators half busy.
const HALF_LOAD: u64 = 2500;

/// Offers four seconds of requests whose rows and latency objectives (ms) take turns, at half
/// load on average, unevenly spaced. Returns how many were offered and what was dropped.
fn offer(requests: &[(u32, u64)]) -> (u64, Vec<String>) {
    let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
    let profile = Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile"));
    let terms = ModelTerms {
        profile,
        objective: Objective::Slo(Span::from_millis(25)),
        queue_max: 1000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let mut scheduler = Scheduler::new(Mode::Consolidate, ACCELERATORS);
    let mut todo = Actions::default();
    scheduler.on_event(
        Time::ZERO,
        Event::AddModel { model: MODEL, terms: Box::new(terms) },
        &mut todo,
    );
    let (mut ends, mut dropped) = (BinaryHeap::new(), Vec::new());
    let (mut due, mut id) = (Time::ZERO, 0u64);
    loop {
        let arrival = Some(due).filter(|due| *due < Time(4_000_000_000));
        let end = ends.peek().map(|Reverse((time, _, _, _))| *time);
        let next = [arrival, end, scheduler.next_wake()].into_iter().flatten().min();
        let Some(now) = next else { break };
        while let Some(&Reverse((time, batch, accelerator, exec))) = ends.peek()
            && time <= now
        {
            ends.pop();
            scheduler.on_event(now, Event::Complete { accelerator, batch, exec }, &mut todo);
        }
        if arrival == Some(now) {
            let (rows, slo) = requests[usize::try_from(id).expect("few") % requests.len()];
            let deadline = now + Span::from_millis(slo);
            let request = Request {
                id: RequestId::only(id),
                arrival: now,
                deadline,
                rows,
                class: Class::High,
            };
            scheduler.on_event(now, Event::Arrive { model: MODEL, request }, &mut todo);
            // Gaps of a quarter to seven quarters of the mean, in a fixed disorder.
            let mean = u64::from(rows) * 1_000_000_000 / HALF_LOAD;
            due = due + Span(mean / 4 + mean * (id * 7 % 13) / 8);
            id += 1;
        }
        scheduler.settle(now, &mut todo);
        for action in &todo.list {
            match action {
                Action::Start(start) => {
                    let &Start { batch, accelerator, begin, exec, .. } = start;
                    ends.push(Reverse((begin + exec, batch, accelerator, exec)));
                }
                other => dropped.push(format!("{now} {other:?}")),
            }
        }
        todo.clear();
    }
    (id, dropped)
}

#[track_caller]
fn check_none_dropped(requests: &[(u32, u64)]) {
    let (offered, dropped) = offer(requests);
    assert!(offered > 1000, "{offered}");
    let share = dropped.len() as f64 / offered as f64;
    assert!(dropped.is_empty(), "{:.1} % of {requests:?}: {}", share * 100.0, dropped[0]);
}

#[test]
fn requests_of_several_rows_are_not_held_to_a_target_they_cannot_hit() {
    check_none_dropped(&[(4, 25)]);
    check_none_dropped(&[(6, 25)]);
    check_none_dropped(&[(1, 25), (8, 25), (2, 25), (4, 25)]);
}

#[test]
fn a_large_request_behind_a_waiting_batch_costs_nobody() {
    check_none_dropped(&[(1, 25), (1, 25), (1, 25), (9, 25)]);
}

#[test]
fn a_request_with_an_early_deadline_of_its_own_is_not_held_to_the_others_batches() {
    let mut requests = [(1, 25); 20];
    requests[10].1 = 12;
    check_none_dropped(&requests);
    requests[15].1 = 14;
    check_none_dropped(&requests);
}
