//! Accelerators are drained and added under load, and one stops answering for a while. The others
//! go on, in both forms of the scheduler.

use std::collections::VecDeque;
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{AcceleratorId, ModelId, Objective, Profile, Span, Time};
use symphony_sim::{Contender, Delay, Report, Scenario, Split, SplitScheduler, run};
use symphony_workload::{Arrivals, Process, Stream};

const ACCELERATORS: u32 = 8;
const MODELS: u32 = 3;

fn ms(ms: f64) -> Span {
    Span::from_millis_f64(ms)
}

fn at(seconds: u64) -> Time {
    Time(Span::from_secs(seconds).0)
}

/// Accelerators that hang for a while. The scheduler receives the ends of their batches only
/// afterwards.
#[derive(Clone, Copy)]
struct Hanging {
    accelerator: AcceleratorId,
    from: Time,
    to: Time,
}

/// A scheduler that receives events at set times. It records the batches that it started and the
/// changes of accelerators that it reported.
struct Staged {
    scheduler: Box<dyn Contender>,
    events: VecDeque<(Time, Event)>,
    hanging: Option<Hanging>,
    held: Vec<Event>,
    /// The reported changes of accelerators, with their times.
    said: Vec<(Time, Action)>,
    /// When each accelerator was last sent a batch.
    sent: Vec<Option<Time>>,
}

impl Staged {
    fn new(scheduler: Box<dyn Contender>, events: Vec<(Time, Event)>) -> Staged {
        let sent = vec![None; ACCELERATORS as usize];
        let events = events.into();
        Staged { scheduler, events, hanging: None, held: Vec::new(), said: Vec::new(), sent }
    }

    fn last_sent(&self, accelerator: usize) -> Option<Time> {
        self.sent[accelerator]
    }

    /// Whether an accelerator hangs at the time of this event.
    fn holds_back(&self, now: Time, event: &Event) -> bool {
        match (event, self.hanging) {
            (Event::Complete { accelerator, .. }, Some(hanging)) => {
                *accelerator == hanging.accelerator && (hanging.from..hanging.to).contains(&now)
            }
            _ => false,
        }
    }
}

impl Policy for Staged {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        if self.holds_back(now, &event) {
            self.held.push(event);
        } else {
            self.scheduler.on_event(now, event, todo);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        while let Some((_, event)) = self.events.pop_front_if(|(due, _)| *due <= now) {
            self.scheduler.on_event(now, event, todo);
        }
        if self.hanging.is_some_and(|hanging| hanging.to <= now) {
            for event in self.held.drain(..) {
                self.scheduler.on_event(now, event, todo);
            }
        }
        self.scheduler.settle(now, todo);
        for action in &todo.list {
            match action {
                Action::Start(start) => self.sent[start.accelerator.index()] = Some(now),
                Action::Drop { .. } | Action::Removed { .. } => {}
                of_accelerator => self.said.push((now, of_accelerator.clone())),
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let event = self.events.front().map(|(due, _)| *due);
        let back = self.hanging.map(|hanging| hanging.to).filter(|_| !self.held.is_empty());
        [event, back, self.scheduler.next_wake()].into_iter().flatten().min()
    }
}

impl Contender for Staged {}

/// The scheduler of this many accelerators, whole and split.
fn both(mode: Mode, accelerators: u32) -> [Box<dyn Contender>; 2] {
    let split = Split { shards: 2, message: Delay::Constant(Span::from_micros(20)) };
    [
        Box::new(Scheduler::new(mode, accelerators)),
        Box::new(SplitScheduler::new(mode, accelerators, split, 0)),
    ]
}

/// Serves `rate` requests per second of all models together for ten seconds after the first, with
/// `l(b) = b + 5 ms` and an objective of 25 ms.
fn serve(staged: &mut Staged, rate: f64) -> Report {
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(ms(1.0), ms(5.0), 64).expect("a profile")),
        objective: Objective::Slo(ms(25.0)),
        queue_max: 10_000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let models = vec![terms; MODELS as usize];
    let mut scenario =
        Scenario::ideal(models, ACCELERATORS, Span::from_secs(1), Span::from_secs(10));
    scenario.network.control = Delay::Constant(Span::from_micros(100));
    let rate = rate / f64::from(MODELS);
    let streams: Vec<_> = (0..MODELS)
        .map(|model| Stream::steady(ModelId::first(model), Process::Poisson, rate))
        .collect();
    let arrivals = Arrivals::new(&streams, 3).expect("a rate");
    run(&scenario, staged, arrivals, 3)
}

fn add(accelerator: u32) -> Event {
    Event::AddAccelerator { accelerator: AcceleratorId(accelerator) }
}

fn drain(accelerator: u32) -> Event {
    Event::DrainAccelerator { accelerator: AcceleratorId(accelerator) }
}

/// A rate that half of the accelerators serve easily.
const EASY: f64 = 1200.0;

#[test]
fn half_of_the_accelerators_leave_and_come_back_and_no_request_is_lost() {
    for mode in Mode::ALL {
        for scheduler in both(mode, ACCELERATORS) {
            let leave = [0, 2, 4, 6].map(|number| (at(3), drain(number)));
            let back = [0, 2, 4, 6].map(|number| (at(6), add(number)));
            let mut staged = Staged::new(scheduler, [leave, back].concat());
            let report = serve(&mut staged, EASY);
            assert!(report.good_rate() > EASY * 0.985, "{mode:?}: {}", report.good_rate());
            let drained: Vec<_> = staged.said.iter().map(|(when, _)| *when).collect();
            assert_eq!(drained.len(), 4, "{mode:?}: {:?}", staged.said);
            let in_time = |when: &Time| *when >= at(3) && when.since(at(3)) < ms(60.0);
            assert!(drained.iter().all(in_time), "{mode:?}: {:?}", staged.said);
            assert!(staged.last_sent(0) > Some(at(10)), "{mode:?}: it serves again");
        }
    }
}

#[test]
fn what_is_drained_is_sent_nothing() {
    for mode in Mode::ALL {
        for scheduler in both(mode, ACCELERATORS) {
            let mut staged = Staged::new(scheduler, vec![(at(3), drain(0))]);
            serve(&mut staged, EASY);
            let last = staged.last_sent(0).expect("it served before");
            // A grant may have been on its way.
            assert!(last <= at(3) + ms(0.1), "{mode:?}: {last}");
        }
    }
}

#[test]
fn accelerators_that_were_never_there_join_and_raise_the_goodput() {
    for mode in Mode::ALL {
        let [small, joined, all] = [2, 2, ACCELERATORS].map(|count| both(mode, count));
        for ((small, joined), all) in small.into_iter().zip(joined).zip(all) {
            let good = |scheduler, events| serve(&mut Staged::new(scheduler, events), 6000.0);
            let join = (2..ACCELERATORS).map(|number| (at(1), add(number))).collect();
            let before = good(small, vec![]).good_rate();
            let after = good(joined, join).good_rate();
            let all = good(all, vec![]).good_rate();
            assert!(after > 2.5 * before, "{mode:?}: {after} after {before}");
            assert!(after > 0.95 * all, "{mode:?}: {after} where {all} is possible");
        }
    }
}

#[test]
fn without_accelerators_requests_are_dropped_in_time_and_served_once_there_are_some() {
    for mode in Mode::ALL {
        for scheduler in both(mode, 1) {
            let events = vec![(at(0), drain(0)), (at(6), add(0))];
            let mut staged = Staged::new(scheduler, events);
            let report = serve(&mut staged, 100.0);
            let good = report.good_rate();
            assert!((40.0..60.0).contains(&good), "{mode:?}: {good} of 100, half of the time");
        }
    }
}

#[test]
fn one_that_stops_answering_costs_its_batches_and_comes_back() {
    for mode in Mode::ALL {
        for scheduler in both(mode, ACCELERATORS) {
            let mut staged = Staged::new(scheduler, vec![]);
            let accelerator = AcceleratorId(1);
            staged.hanging = Some(Hanging { accelerator, from: at(3), to: at(7) });
            let report = serve(&mut staged, EASY);
            assert!(report.good_rate() > EASY * 0.985, "{mode:?}: {}", report.good_rate());
            let lost = |(_, action): &&(Time, Action)| matches!(action, Action::Lost { .. });
            let when: Vec<_> = staged.said.iter().filter(lost).map(|(when, _)| *when).collect();
            assert!((1..=2).contains(&when.len()), "{mode:?}: {:?}", staged.said);
            let noticed = when[0].since(at(3));
            assert!(noticed >= ms(1000.0) && noticed < ms(1100.0), "{mode:?}: after {noticed}");
            let back = staged.said.last();
            assert_eq!(back, Some(&(at(7), Action::Recovered { accelerator })), "{mode:?}");
            assert!(staged.last_sent(1) > Some(at(9)), "{mode:?}: it serves again");
        }
    }
}
