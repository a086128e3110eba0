//! Lanes of one model: what they have in common, and profiles that are replaced while they serve.

use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{
    AcceleratorId, BatchId, Class, DropReason, ModelId, Objective, Profile, Request, RequestId,
    Span, Time,
};

const FIRST: ModelId = ModelId::first(0);
const SECOND: ModelId = ModelId::first(5);
const OTHER: ModelId = ModelId::first(1);

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

fn line(alpha_ms: u64, beta_ms: u64) -> Arc<Profile> {
    Arc::new(Profile::linear(ms(alpha_ms), ms(beta_ms), 16).expect("a valid profile"))
}

/// One accelerator, a model with two lanes and another model, each with room for four requests.
struct World {
    scheduler: Scheduler,
    todo: Actions,
    requests: u64,
}

impl World {
    fn new(mode: Mode) -> World {
        let mut world =
            World { scheduler: Scheduler::new(mode, 1), todo: Actions::default(), requests: 0 };
        let lanes = [(FIRST, Some(FIRST)), (SECOND, Some(FIRST)), (OTHER, None)];
        for (model, lane_of) in lanes {
            let objective = Objective::Slo(ms(100));
            let (profile, queue_max) = (line(1, 5), 4);
            let terms = ModelTerms { profile, objective, queue_max, loss_weight: 1.0, lane_of };
            world.tell(0, Event::AddModel { model, terms: Box::new(terms) });
        }
        world
    }

    fn tell(&mut self, at: u64, event: Event) {
        self.scheduler.on_event(Time(ms(at).0), event, &mut self.todo);
    }

    fn arrive(&mut self, at: u64, model: ModelId, class: Class) -> Request {
        let (id, arrival) = (RequestId::only(self.requests), Time(ms(at).0));
        self.requests += 1;
        let request = Request { id, arrival, deadline: arrival + ms(100), rows: 1, class };
        self.tell(at, Event::Arrive { model, request });
        request
    }

    /// What became of requests since this was asked last.
    fn dropped(&mut self) -> Vec<(ModelId, u64, DropReason)> {
        let drops = self.todo.list.drain(..).filter_map(|action| match action {
            Action::Drop { model, request, reason } => Some((model, request.id.number(), reason)),
            _ => None,
        });
        drops.collect()
    }

    /// Settles; the batches that start: their models, requests and planned times.
    fn settle(&mut self, at: u64) -> Vec<(ModelId, usize, Span)> {
        self.scheduler.settle(Time(ms(at).0), &mut self.todo);
        let starts = self.todo.list.iter().filter_map(|action| match action {
            Action::Start(start) => Some((start.model, start.requests.len(), start.exec)),
            _ => None,
        });
        let starts = starts.collect();
        self.todo.clear();
        starts
    }
}

#[test]
fn lanes_share_the_bound_on_queued_requests() {
    let mut world = World::new(Mode::Consolidate);
    for model in [FIRST, FIRST, SECOND, SECOND] {
        world.arrive(0, model, Class::High);
    }
    assert_eq!(world.dropped(), []);
    world.arrive(0, SECOND, Class::High);
    let other = world.arrive(0, OTHER, Class::High);
    assert_eq!(world.dropped(), [(SECOND, 4, DropReason::QueueFull)]);
    let Request { id: request, deadline, .. } = Request { id: RequestId::only(0), ..other };
    world.tell(0, Event::Cancel { model: FIRST, request, deadline });
    world.arrive(0, SECOND, Class::High);
    world.arrive(0, FIRST, Class::High);
    assert_eq!(world.dropped(), [(FIRST, 7, DropReason::QueueFull)]);
}

#[test]
fn a_high_request_takes_the_place_of_a_low_one_in_another_lane() {
    let mut world = World::new(Mode::Consolidate);
    for model in [FIRST, FIRST, FIRST, SECOND] {
        let class = if model == FIRST { Class::High } else { Class::Low };
        world.arrive(0, model, class);
    }
    world.arrive(0, FIRST, Class::Low);
    assert_eq!(world.dropped(), [(FIRST, 4, DropReason::QueueFull)]);
    world.arrive(0, FIRST, Class::High);
    assert_eq!(world.dropped(), [(SECOND, 3, DropReason::Evicted)]);
    world.arrive(0, FIRST, Class::High);
    assert_eq!(world.dropped(), [(FIRST, 6, DropReason::QueueFull)]);
}

#[test]
fn what_runs_makes_room_in_every_lane() {
    let mut world = World::new(Mode::Eager);
    for model in [FIRST, FIRST, FIRST, SECOND] {
        world.arrive(0, model, Class::High);
    }
    assert_eq!(world.settle(0), [(FIRST, 3, ms(8))]);
    for _ in 0..3 {
        world.arrive(1, SECOND, Class::High);
    }
    assert_eq!(world.dropped(), []);
    world.arrive(1, SECOND, Class::High);
    assert_eq!(world.dropped(), [(SECOND, 7, DropReason::QueueFull)]);
}

#[test]
fn batches_are_planned_by_the_newest_profile() {
    let mut world = World::new(Mode::Eager);
    world.arrive(0, FIRST, Class::High);
    assert_eq!(world.settle(0), [(FIRST, 1, ms(6))]);
    for _ in 0..4 {
        world.arrive(1, FIRST, Class::High);
    }
    // In the 99 ms that are left, but for the batch that runs, one row fits three times over.
    world.tell(1, Event::SetProfile { model: FIRST, profile: line(20, 30) });
    world
        .tell(6, Event::Complete { accelerator: AcceleratorId(0), batch: BatchId(0), exec: ms(6) });
    assert_eq!(world.settle(6), [(FIRST, 3, ms(90))]);
    // Of a model that is not there, nothing.
    let gone = Event::SetProfile { model: ModelId::new(0, 7), profile: line(1, 1) };
    world.tell(6, gone);
    assert_eq!(world.dropped(), []);
}

#[test]
fn a_request_with_more_rows_than_the_new_profile_covers_is_dropped() {
    let mut world = World::new(Mode::Consolidate);
    let arrival = Time::ZERO;
    let (id, deadline) = (RequestId::only(9), arrival + ms(100));
    let request = Request { id, arrival, deadline, rows: 8, class: Class::High };
    world.tell(0, Event::Arrive { model: FIRST, request });
    let short = Arc::new(Profile::linear(ms(1), ms(5), 4).unwrap());
    world.tell(0, Event::SetProfile { model: FIRST, profile: short });
    world.scheduler.settle(Time::ZERO, &mut world.todo);
    assert_eq!(world.dropped(), [(FIRST, 9, DropReason::Hopeless)]);
}
