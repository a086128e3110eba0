//! A model in the place of one that was removed: messages for the old model never reach the new one.

use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{
    Class, DropReason, ModelId, Objective, Profile, Request, RequestId, Span, Time,
};

const FORMER: ModelId = ModelId::new(3, 7);
const MODEL: ModelId = FORMER.next_generation();
const SLO: Span = Span::from_millis(100);

/// A scheduler in which `FORMER` was served and removed, and `MODEL` has its place.
struct World {
    scheduler: Scheduler,
    todo: Actions,
}

impl World {
    fn new() -> World {
        let scheduler = Scheduler::new(Mode::Eager, 1);
        let mut world = World { scheduler, todo: Actions::default() };
        world.tell(Event::AddModel { model: FORMER, terms: Box::new(terms()) });
        world.tell(Event::RemoveModel { model: FORMER });
        assert_eq!(world.settle(), [Action::Removed { model: FORMER }]);
        world.tell(Event::AddModel { model: MODEL, terms: Box::new(terms()) });
        assert_eq!(world.settle(), []);
        world
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.on_event(Time::ZERO, event, &mut self.todo);
    }

    fn settle(&mut self) -> Vec<Action> {
        self.scheduler.settle(Time::ZERO, &mut self.todo);
        std::mem::take(&mut self.todo.list)
    }
}

fn terms() -> ModelTerms {
    let profile = Profile::linear(Span::from_millis(1), Span::from_millis(5), 8);
    let profile = Arc::new(profile.expect("valid profile"));
    ModelTerms {
        profile,
        objective: Objective::Slo(SLO),
        queue_max: 10,
        loss_weight: 1.0,
        lane_of: None,
    }
}

fn request(number: u64) -> Request {
    let (arrival, deadline) = (Time::ZERO, Time::ZERO + SLO);
    Request { id: RequestId::only(number), arrival, deadline, rows: 1, class: Class::High }
}

#[test]
fn a_request_for_the_former_is_answered_as_one_for_an_unknown_model() {
    let mut world = World::new();
    world.tell(Event::Arrive { model: FORMER, request: request(1) });
    let reason = DropReason::Unloaded;
    assert_eq!(world.settle(), [Action::Drop { model: FORMER, request: request(1), reason }]);
    assert_eq!(world.scheduler.stats(MODEL).map(|stats| stats.queued), Some(0));
    assert_eq!(world.scheduler.stats(FORMER), None);
}

#[test]
fn what_else_is_meant_for_the_former_changes_nothing() {
    let mut world = World::new();
    let Request { id, deadline, .. } = request(2);
    world.tell(Event::Arrive { model: MODEL, request: request(1) });
    world.tell(Event::Arrive { model: MODEL, request: request(2) });
    world.tell(Event::Cancel { model: FORMER, request: id, deadline });
    let slow = Profile::linear(Span::from_millis(2), Span::from_millis(9), 8).expect("a profile");
    world.tell(Event::SetProfile { model: FORMER, profile: Arc::new(slow) });
    world.tell(Event::RemoveModel { model: FORMER });
    let did = world.settle();
    let started = did.iter().find_map(|action| match action {
        Action::Start(start) => Some((start.model, start.rows, start.exec)),
        _ => None,
    });
    assert_eq!(started, Some((MODEL, 2, Span::from_millis(7))));
    assert!(did.contains(&Action::Removed { model: FORMER }), "the caller is told: {did:?}");
    world.tell(Event::Arrive { model: MODEL, request: request(3) });
    assert_eq!(world.settle(), [], "it still serves");
}

#[test]
#[should_panic(expected = "is in use")]
fn two_generations_are_never_there_at_once() {
    let mut world = World::new();
    world.tell(Event::AddModel { model: MODEL.next_generation(), terms: Box::new(terms()) });
}
