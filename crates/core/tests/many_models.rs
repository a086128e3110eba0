//! Thousands of models that are loaded, served and removed at once cost each as much as a few do: no
//! step of the scheduler looks at all of them for the sake of one.

#![expect(clippy::disallowed_types, reason = "two durations of one run are compared")]

use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{Class, ModelId, Objective, Profile, Request, RequestId, Span, Time};

/// Models that are there at once.
const MANY: u32 = 10_000;
const FEW: u32 = 1_000;

/// The many may take this many times as long as the few do for as many models: their memory no longer
/// fits the caches. Were a step of each model to look at all others, it would be ten times as long.
const RATIO_MAX: u32 = 5;

/// Rounds that are measured. The fastest counts, for in the others the machine had other work too.
const ROUNDS: u32 = 5;

/// Loads so many models, has each serve a request, removes all at once while these still run, and ends
/// the batches one by one: how long that takes.
fn live_and_go(models: u32) -> Duration {
    let mut scheduler = Scheduler::new(Mode::Eager, 1);
    let mut todo = Actions::default();
    let profile = Arc::new(Profile::linear(Span(1), Span(1), 4).expect("valid profile"));
    let slo = Span::from_secs(1000);
    let begun = Instant::now();
    for model in (0..models).map(ModelId::first) {
        let profile = Arc::clone(&profile);
        let terms = ModelTerms {
            profile,
            objective: Objective::Slo(slo),
            queue_max: 4,
            loss_weight: 1.0,
            lane_of: None,
        };
        scheduler.on_event(
            Time::ZERO,
            Event::AddModel { model, terms: Box::new(terms) },
            &mut todo,
        );
        let (id, deadline) = (RequestId::only(model.slot().into()), Time::ZERO + slo);
        let request = Request { id, arrival: Time::ZERO, deadline, rows: 1, class: Class::High };
        scheduler.on_event(Time::ZERO, Event::Arrive { model, request }, &mut todo);
    }
    for model in (0..models).map(ModelId::first) {
        scheduler.on_event(Time::ZERO, Event::RemoveModel { model }, &mut todo);
    }
    let (mut now, mut removed) = (Time::ZERO, 0);
    while removed < models {
        scheduler.settle(now, &mut todo);
        let mut ended = None;
        for action in todo.list.drain(..) {
            match action {
                Action::Start(start) => ended = Some(start),
                Action::Removed { .. } => removed += 1,
                other => panic!("{other:?}"),
            }
        }
        todo.clear();
        if let Some(start) = ended {
            now = start.begin + start.exec;
            let (accelerator, batch, exec) = (start.accelerator, start.batch, start.exec);
            scheduler.on_event(now, Event::Complete { accelerator, batch, exec }, &mut todo);
        }
    }
    begun.elapsed()
}

#[test]
fn ten_thousand_models_come_and_go_in_linear_time() {
    let few = || (0..MANY / FEW).map(|_| live_and_go(FEW)).sum::<Duration>();
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (few(), live_and_go(MANY))).collect();
    let few = rounds.iter().map(|(few, _)| *few).min().expect("rounds");
    let many = rounds.iter().map(|(_, many)| *many).min().expect("rounds");
    assert!(many < few * RATIO_MAX, "{many:?} at once, {few:?} in {} parts", MANY / FEW);
}
