//! The whole scheduler of a pool on one thread: one shard and one matcher, their messages delivered
//! at once.

use super::action::Actions;
use super::event::Event;
use super::matcher::{AcceleratorState, Matcher};
use super::message::MatcherToShard;
use super::mode::Mode;
use super::shard::{ModelStatistics, Shard};
use crate::ids::{AcceleratorId, ModelId};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// What a driver (the live loop, the simulator) drives.
///
/// Events go in with [`on_event`](Policy::on_event), as many as there are; then
/// [`settle`](Policy::settle) decides once for all of them. A driver settles whenever it has taken in
/// everything that arrived, and when [`next_wake`](Policy::next_wake) is due. Settling more often is
/// harmless.
pub trait Policy {
    /// Takes note of an event; what needs no decision (a refusal) is answered in `todo`.
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions);

    /// Decides, given everything noted so far.
    fn settle(&mut self, now: Time, todo: &mut Actions);

    /// When to settle next although no event comes.
    fn next_wake(&self) -> Option<Time>;
}

/// The whole scheduler of a pool on one thread.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shard: Shard,
    matcher: Matcher,
    /// Messages of the matcher that the shard has not received.
    inbox: Vec<MatcherToShard>,
    /// Spare room, swapped with `inbox` while that is worked through.
    inbox_before: Vec<MatcherToShard>,
}

impl Scheduler {
    /// A scheduler for `accelerators` idle accelerators and no models yet.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Scheduler {
        Scheduler {
            shard: Shard::new(mode, accelerators),
            matcher: Matcher::new(mode, accelerators),
            inbox: Vec::new(),
            inbox_before: Vec::new(),
        }
    }

    /// The same, but plans go by the profiles as they were loaded, whatever is measured.
    #[must_use]
    pub fn with_fixed_profiles(self) -> Scheduler {
        Scheduler { matcher: self.matcher.with_fixed_profiles(), ..self }
    }

    /// Keeps this share for low requests that wait: of the accelerators' time between models, of the
    /// rows of batches within one.
    ///
    /// # Panics
    /// When it is not between 0 and 1.
    #[must_use]
    pub fn with_low_share(mut self, share: f64) -> Scheduler {
        assert!((0.0..=1.0).contains(&share), "{share} is no share");
        self.shard.set_low_share(share);
        self.matcher.set_low_share(share);
        self
    }

    /// Takes an accelerator for dead by this bound; see [`Matcher::set_overdue_after`].
    #[must_use]
    pub fn with_overdue_after(mut self, after: Span) -> Scheduler {
        self.matcher.set_overdue_after(after);
        self
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        self.shard.stats(model)
    }

    /// Whether plans follow measured execution times.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.matcher.follows()
    }

    /// How many times longer than elsewhere in the pool batches run on an accelerator.
    #[must_use]
    pub fn accelerator_slowdown(&self, accelerator: AcceleratorId) -> Slowdown {
        self.matcher.accelerator_slowdown(accelerator)
    }

    /// What an accelerator is in the pool.
    #[must_use]
    pub fn state(&self, accelerator: AcceleratorId) -> AcceleratorState {
        self.matcher.state(accelerator)
    }

    /// Delivers the matcher's messages to the shard, and the shard's answers to the matcher.
    fn deliver(&mut self, now: Time, todo: &mut Actions) {
        let Scheduler { shard, matcher, inbox, inbox_before } = self;
        std::mem::swap(inbox, inbox_before);
        for message in inbox_before.drain(..) {
            shard.receive(now, message, todo, |answer| {
                matcher.receive(now, answer, |message| inbox.push(message));
            });
        }
    }
}

impl Policy for Scheduler {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        // Each takes what concerns it.
        let Scheduler { shard, matcher, inbox, .. } = self;
        matcher.on_event(now, &event, |message| inbox.push(message));
        shard.on_event(now, event, todo);
        // The end of a batch is known before the requests that come after it.
        if !inbox.is_empty() {
            self.deliver(now, todo);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        let Scheduler { shard, matcher, inbox, .. } = self;
        shard.report(now, |report| matcher.receive(now, report, |_| {}));
        matcher.plan(now, |message| inbox.push(message));
        self.deliver(now, todo);
        loop {
            let Scheduler { shard, matcher, inbox, .. } = self;
            shard.settle(now, todo, |message| {
                matcher.receive(now, message, |message| inbox.push(message));
            });
            matcher.settle(now, todo, |message| inbox.push(message));
            if inbox.is_empty() {
                break;
            }
            self.deliver(now, todo);
        }
    }

    fn next_wake(&self) -> Option<Time> {
        [self.shard.next_wake(), self.matcher.next_wake()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BatchId, RequestId};
    use crate::profile::Profile;
    use crate::request::Objective;
    use crate::request::{Class, Request};
    use crate::sched::{Action, ModelTerms};
    use std::sync::Arc;

    #[test]
    fn removing_a_model_that_is_not_there_is_answered() {
        let mut scheduler = Scheduler::new(Mode::Eager, 1);
        let mut todo = Actions::default();
        let model = ModelId::first(7);
        scheduler.on_event(Time::ZERO, Event::RemoveModel { model }, &mut todo);
        scheduler.settle(Time::ZERO, &mut todo);
        assert_eq!(todo.list, [Action::Removed { model }]);
    }

    /// Another model's overload has every request wait; when it is over and nothing else comes,
    /// a request with a long objective must not wait for that.
    #[test]
    fn a_request_does_not_wait_for_an_overload_that_is_over() {
        let (tight, patient) = (model(300, 0, 200), model(60_000, 0, 2));
        let mut world = World::new(Mode::Adaptive, 1, [tight, patient]);
        for ms in 0..600 {
            world.arrives(ms, u32::from(ms % 8 > 0), Class::High);
        }
        world.arrives(610, 1, Class::High);
        let waited = world.run()[1].since(at(610));
        assert!(waited < Span::from_secs(3), "{waited}");
    }

    /// What high requests need is left free for them, and no longer than they come.
    #[test]
    fn a_low_request_does_not_wait_for_high_ones_that_no_longer_come() {
        for mode in Mode::ALL {
            let mut world = World::new(mode, 2, [model(25, 900, 1), model(20_000, 0, 100)]);
            for ms in 0..2000 {
                world.arrives(ms, 0, Class::High);
                world.arrives(ms, 0, Class::High);
            }
            world.arrives(1950, 1, Class::Low);
            let [_, started] = world.run();
            assert!(started > Time::ZERO, "{mode:?}: not at all");
            let waited = started.since(at(1950));
            assert!(waited > Span::from_millis(40), "{mode:?}: {waited}, nothing was left free");
            assert!(waited < Span::from_millis(1500), "{mode:?}: {waited}");
        }
    }

    fn at(ms: u64) -> Time {
        Time(Span::from_millis(ms).0)
    }

    /// An objective, and `l(b)` of up to eight rows.
    fn model(slo_ms: u64, alpha_us: u64, beta_ms: u64) -> ModelTerms {
        let (alpha, beta) = (Span::from_micros(alpha_us), Span::from_millis(beta_ms));
        let profile = Arc::new(Profile::linear(alpha, beta, 8).expect("valid profile"));
        let slo = Span::from_millis(slo_ms);
        ModelTerms {
            profile,
            objective: Objective::Slo(slo),
            queue_max: 100,
            loss_weight: 1.0,
            lane_of: None,
        }
    }

    /// Runs batches as planned, and only when the scheduler wants to be woken or something comes.
    struct World {
        scheduler: Scheduler,
        todo: Actions,
        slos: [Span; 2],
        arrivals: Vec<(Time, ModelId, Request)>,
        ends: Vec<(Time, AcceleratorId, BatchId)>,
    }

    impl World {
        fn new(mode: Mode, accelerators: u32, models: [ModelTerms; 2]) -> World {
            let mut scheduler = Scheduler::new(mode, accelerators);
            let (mut todo, slos) =
                (Actions::default(), models.each_ref().map(|terms| terms.objective.span()));
            for (model, terms) in (0..).map(ModelId::first).zip(models) {
                scheduler.on_event(
                    Time::ZERO,
                    Event::AddModel { model, terms: Box::new(terms) },
                    &mut todo,
                );
            }
            World { scheduler, todo, slos, arrivals: Vec::new(), ends: Vec::new() }
        }

        fn arrives(&mut self, ms: u64, model: u32, class: Class) {
            let (id, arrival) = (RequestId::only(self.arrivals.len() as u64), at(ms));
            let deadline = arrival + self.slos[model as usize];
            let request = Request { id, arrival, deadline, rows: 1, class };
            self.arrivals.push((arrival, ModelId::first(model), request));
        }

        /// When the last batch of each model started.
        fn run(&mut self) -> [Time; 2] {
            let World { scheduler, todo, arrivals, ends, .. } = self;
            arrivals.sort_by_key(|(arrival, ..)| *arrival);
            let mut arrivals = arrivals.drain(..).peekable();
            let mut last = [Time::ZERO; 2];
            loop {
                let arrival = arrivals.peek().map(|(arrival, ..)| *arrival);
                let end = ends.iter().map(|(end, ..)| *end).min();
                let wake = scheduler.next_wake();
                let Some(now) = [arrival, end, wake].into_iter().flatten().min() else { break };
                for (_, accelerator, batch) in ends.extract_if(.., |(end, ..)| *end <= now) {
                    let complete = Event::Complete { accelerator, batch, exec: Span::ZERO };
                    scheduler.on_event(now, complete, todo);
                }
                while let Some((_, model, request)) =
                    arrivals.next_if(|(arrival, ..)| *arrival <= now)
                {
                    scheduler.on_event(now, Event::Arrive { model, request }, todo);
                }
                scheduler.settle(now, todo);
                for action in &todo.list {
                    let Action::Start(start) = action else { continue };
                    ends.push((start.begin + start.exec, start.accelerator, start.batch));
                    last[start.model.index()] = now;
                }
                todo.clear();
            }
            last
        }
    }
}
