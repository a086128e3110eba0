//! Shards and a matcher as separate parties: without delays they decide exactly as the scheduler
//! does, and with any delays they keep its promises.

use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler, Start};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, DropReason, ModelId, Objective, Profile, Request,
    RequestId, Span, Time,
};
use symphony_sim::goodput::{BAD_SHARE_MAX, OfferedLoad, run_at};
use symphony_sim::{Delay, MESSAGE_MAX, PolicyKind, Scenario, Split, SplitScheduler};
use symphony_workload::Process;

const MODELS: u32 = 5;

/// An event from outside.
#[derive(Clone, Debug)]
enum Happening {
    Arrive {
        model: u32,
        rows: u32,
        slo_us: u64,
        class: Class,
    },
    CancelOldest,
    MeasureDelays {
        control_us: u64,
        data_us: u64,
        jitter_us: u64,
    },
    /// Its times were measured again, and spread by so many thousandths.
    MeasureSpread {
        model: u32,
        thousandths: u32,
    },
    Remove {
        model: u32,
    },
    Add {
        model: u32,
    },
    Switch {
        mode: Mode,
    },
    AddAccelerator {
        accelerator: u32,
    },
    DrainAccelerator {
        accelerator: u32,
    },
    /// Nothing happens for so long that everything that does not end is noticed.
    Silence,
}

/// The accelerators that a history may name: one more than it may begin with.
const ACCELERATORS: u32 = 5;

/// The factor on the time of a late execution. It mostly suffices for its accelerator to count as
/// lost.
const LATE: u64 = 300;

#[derive(Clone, Debug)]
struct History {
    mode: Mode,
    accelerators: u32,
    /// Time per row and per batch in microseconds, and the largest batch.
    profiles: Vec<(u64, u64, u32)>,
    /// The times of successive executions, in percent of the profile.
    speeds: Vec<u64>,
    /// One in this many executions takes [`LATE`] times as long.
    late_every: usize,
    /// One in this many executions does not end.
    endless_every: usize,
    /// Whether plans follow what was measured.
    follows: bool,
    happenings: Vec<(u64, Happening)>,
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Consolidate), Just(Mode::Adaptive), Just(Mode::Eager)]
}

fn happenings() -> impl Strategy<Value = Happening> {
    let model = 0..MODELS;
    prop_oneof![
        30 => (model.clone(), 1u32..4, 500u64..60_000, prop::sample::select(&Class::ALL))
            .prop_map(|(model, rows, slo_us, class)| {
                Happening::Arrive { model, rows, slo_us, class }
            }),
        2 => Just(Happening::CancelOldest),
        1 => (0u64..3000, 0u64..300, 0u64..2000).prop_map(|(control_us, data_us, jitter_us)| {
            Happening::MeasureDelays { control_us, data_us, jitter_us }
        }),
        1 => (model.clone(), 0u32..1000)
            .prop_map(|(model, thousandths)| Happening::MeasureSpread { model, thousandths }),
        2 => model.clone().prop_map(|model| Happening::Remove { model }),
        2 => model.prop_map(|model| Happening::Add { model }),
        1 => modes().prop_map(|mode| Happening::Switch { mode }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::AddAccelerator { accelerator }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::DrainAccelerator { accelerator }),
        1 => Just(Happening::Silence),
    ]
}

fn histories() -> impl Strategy<Value = History> {
    // Some batches are shorter than a message.
    let profile = (0u64..2000, prop_oneof![3 => 1u64..8000, 1 => 1u64..100], 1u32..20);
    // Bursts with gaps between them.
    let gap = prop_oneof![3 => 0u64..100, 2 => 0u64..3000, 1 => 0u64..30_000];
    let seldom = || prop_oneof![Just(usize::MAX), 5usize..60];
    (
        modes(),
        1..ACCELERATORS,
        prop::collection::vec(profile, MODELS as usize),
        prop::collection::vec(50u64..150, 1..8),
        (seldom(), seldom()),
        any::<bool>(),
        prop::collection::vec((gap, happenings()), 1..150),
    )
        .prop_map(|(mode, accelerators, profiles, speeds, odd, follows, happenings)| History {
            mode,
            accelerators,
            profiles,
            speeds,
            late_every: odd.0,
            endless_every: odd.1,
            follows,
            happenings,
        })
}

/// Up to 200 microseconds, or a tail beyond the planned delay.
fn messages() -> impl Strategy<Value = Delay> {
    let us = |range: std::ops::Range<u64>| range.prop_map(Span::from_micros);
    prop_oneof![
        us(0..200).prop_map(Delay::Constant),
        (us(0..50), us(0..200), 0.0..1.0).prop_map(|(usual, tail, share)| Delay::Tailed {
            usual,
            tail,
            share
        }),
        (us(1..60), 0.1..1.0).prop_map(|(median, sigma)| Delay::LogNormal { median, sigma }),
    ]
}

/// What a policy did in one step: its starts and drops in order, and the removed models.
type Step = (Time, Actions, BTreeSet<ModelId>);

/// A pool that runs what the policy decides, and checks it.
struct World<'a, P> {
    history: &'a History,
    policy: P,
    /// The planned delay of a message between the parties of the policy.
    message: Span,
    todo: Actions,
    delays: Delays,
    /// Whether there have been delays during which a batch may be sent behind another.
    was_delayed: bool,
    /// Models whose times were said to spread.
    varying: BTreeSet<ModelId>,
    /// How many batches of each model have ended.
    ended: BTreeMap<ModelId, u32>,
    now: Time,
    /// Requests without an outcome.
    open: BTreeMap<RequestId, (ModelId, Request)>,
    running: Vec<Vec<BatchId>>,
    members: Vec<Member>,
    busy_until: Vec<Time>,
    ends: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId, Span)>>,
    /// Every batch that was started, and whose it is.
    batches: BTreeMap<BatchId, ModelId>,
    /// The model that has each place now.
    models: Vec<ModelId>,
    /// Models that the policy was told to remove, and whether they are gone.
    removed: BTreeMap<ModelId, bool>,
    steps: Vec<Step>,
    log: Vec<String>,
}

/// The state of an accelerator in the policy, from what it was told and what it reported.
#[derive(Clone, Debug, Default)]
struct Member {
    is_wanted: bool,
    /// Batches that the policy has given up and that have not ended.
    lost: BTreeSet<BatchId>,
    /// It was told to drain and has not reported that it is drained.
    is_draining: bool,
    /// When it was last told to drain, or given up. Grants may still be on their way.
    left: Option<Time>,
}

/// How many batches of a model have to end before the spread of their times is measured.
const MEASURED: u32 = 16;

/// The most steps of the policy in one history. More means that it goes in circles.
const STEPS_MAX: usize = 100_000;

impl<'a, P: Policy> World<'a, P> {
    fn new(history: &'a History, policy: P, message: Span) -> World<'a, P> {
        let count = ACCELERATORS as usize;
        let member =
            |number| Member { is_wanted: number < history.accelerators, ..Member::default() };
        let mut world = World {
            history,
            policy,
            message,
            todo: Actions::default(),
            delays: Delays::default(),
            was_delayed: false,
            varying: BTreeSet::new(),
            ended: BTreeMap::new(),
            now: Time::ZERO,
            open: BTreeMap::new(),
            running: vec![Vec::new(); count],
            members: (0..ACCELERATORS).map(member).collect(),
            busy_until: vec![Time::ZERO; count],
            ends: BinaryHeap::new(),
            batches: BTreeMap::new(),
            models: (0..MODELS).map(ModelId::first).collect(),
            removed: BTreeMap::new(),
            steps: Vec::new(),
            log: Vec::new(),
        };
        for model in (0..MODELS).map(ModelId::first) {
            let terms = world.terms(model);
            world.event(Event::AddModel { model, terms: Box::new(terms) });
        }
        world
    }

    /// Runs the whole history.
    fn run(mut self) -> Vec<Step> {
        for (number, (gap_us, happening)) in (0u64..).zip(&self.history.happenings) {
            self.pass(Some(self.now + Span::from_micros(*gap_us)));
            self.happen(number, happening);
        }
        self.pass(None);
        assert!(self.open.is_empty(), "{}", self.story("requests without an outcome"));
        let all_gone = self.removed.values().all(|gone| *gone);
        assert!(all_gone, "{}", self.story("a model that was removed is still there"));
        let left = self.running.iter().any(|running| !running.is_empty());
        assert!(!left, "{}", self.story("a batch that does not end and is not given up"));
        let draining = self.members.iter().any(|member| member.is_draining);
        assert!(!draining, "{}", self.story("drained and nobody told"));
        self.steps
    }

    fn terms(&self, model: ModelId) -> ModelTerms {
        let (alpha, beta, rows_max) = self.history.profiles[model.index()];
        let (alpha, beta) = (Span::from_micros(alpha), Span::from_micros(beta));
        ModelTerms {
            profile: Arc::new(Profile::linear(alpha, beta, rows_max).expect("valid profile")),
            objective: Objective::Slo(Span::from_micros(40_000)),
            queue_max: 12,
            loss_weight: if model.index() == 0 { 2.0 } else { 1.0 },
            lane_of: None,
        }
    }

    fn event(&mut self, event: Event) {
        self.log.push(format!("{} {event:?}", self.now));
        self.policy.on_event(self.now, event, &mut self.todo);
    }

    fn happen(&mut self, number: u64, happening: &Happening) {
        match *happening {
            Happening::Arrive { model, rows, slo_us, class } => {
                let deadline = self.now + Span::from_micros(slo_us);
                let id = RequestId::only(number);
                let request = Request { id, arrival: self.now, deadline, rows, class };
                self.arrive(self.models[model as usize], request);
            }
            Happening::CancelOldest => {
                let Some((id, (model, request))) = self.open.pop_first() else { return };
                self.event(Event::Cancel { model, request: id, deadline: request.deadline });
            }
            Happening::MeasureDelays { control_us, data_us, jitter_us } => {
                self.delays = Delays {
                    control: Span::from_micros(control_us),
                    data: Span::from_micros(data_us),
                    response: Span::ZERO,
                    jitter: Span::from_micros(jitter_us),
                };
                self.was_delayed |= self.delays.lead(1) > Span::ZERO;
                self.event(Event::SetDelays(self.delays));
            }
            Happening::MeasureSpread { model, thousandths } => {
                let model = self.models[model as usize];
                self.varying.insert(model);
                let profile = Profile::clone(&self.terms(model).profile);
                let profile = profile.with_spread(&[(1, f64::from(thousandths) / 1e3)]);
                self.event(Event::SetProfile { model, profile: Arc::new(profile) });
            }
            Happening::Remove { model } => {
                let model = self.models[model as usize];
                if self.removed.get(&model) != Some(&true) {
                    self.removed.insert(model, false);
                    self.event(Event::RemoveModel { model });
                }
            }
            Happening::Add { model } => {
                let before = self.models[model as usize];
                if self.removed.get(&before) == Some(&true) {
                    self.replace(number, before);
                }
            }
            Happening::Switch { mode } => self.event(Event::SetMode(mode)),
            Happening::AddAccelerator { accelerator } => {
                let member = &mut self.members[accelerator as usize];
                (member.is_wanted, member.is_draining) = (true, false);
                self.event(Event::AddAccelerator { accelerator: AcceleratorId(accelerator) });
            }
            Happening::DrainAccelerator { accelerator } => {
                let member = &mut self.members[accelerator as usize];
                (member.is_wanted, member.is_draining) = (false, true);
                member.left = Some(self.now);
                self.event(Event::DrainAccelerator { accelerator: AcceleratorId(accelerator) });
            }
            Happening::Silence => self.pass(Some(self.now + Span::from_secs(100))),
        }
        self.settle();
    }

    fn arrive(&mut self, model: ModelId, request: Request) {
        self.open.insert(request.id, (model, request));
        self.event(Event::Arrive { model, request });
    }

    /// Gives the place of a model that is gone to the next one, while a request for the former is
    /// still on its way.
    fn replace(&mut self, number: u64, before: ModelId) {
        let (model, terms) = (before.next_generation(), self.terms(before));
        self.models[model.index()] = model;
        self.event(Event::AddModel { model, terms: Box::new(terms) });
        let (id, arrival) = (RequestId::only(number), self.now);
        let deadline = arrival + Span::from_micros(40_000);
        self.arrive(before, Request { id, arrival, deadline, rows: 1, class: Class::High });
    }

    /// Lets time pass until `until`, completing batches and waking the policy on the way.
    fn pass(&mut self, until: Option<Time>) {
        loop {
            let end = self.ends.peek().map(|Reverse((time, ..))| *time);
            let next = [end, self.policy.next_wake()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| until.is_none_or(|until| *next <= until)) else {
                break;
            };
            assert!(next >= self.now, "{}", self.story("time runs backwards"));
            self.now = next;
            while let Some(&Reverse((time, batch, accelerator, exec))) = self.ends.peek()
                && time <= self.now
            {
                self.ends.pop();
                self.running[accelerator.index()].retain(|other| *other != batch);
                self.members[accelerator.index()].lost.remove(&batch);
                *self.ended.entry(self.batches[&batch]).or_default() += 1;
                self.event(Event::Complete { accelerator, batch, exec });
            }
            self.settle();
        }
        self.now = until.unwrap_or(self.now);
    }

    fn settle(&mut self) {
        self.policy.settle(self.now, &mut self.todo);
        let mut todo = std::mem::take(&mut self.todo);
        let mut gone = BTreeSet::new();
        for action in &todo.list {
            self.log.push(format!("{} -> {action:?}", self.now));
            match action {
                Action::Start(start) => self.start(start, todo.batch(start)),
                Action::Drop { model, request, reason } => {
                    let known = self.open.remove(&request.id);
                    assert_eq!(known, Some((*model, *request)), "{}", self.story("dropped twice"));
                    self.check_drop(*model, request, *reason);
                }
                Action::Removed { model } => {
                    let before = self.removed.insert(*model, true);
                    assert_eq!(before, Some(false), "{}", self.story("removed unasked"));
                    let left = self.open.values().any(|(of, _)| of == model);
                    assert!(!left, "{}", self.story("removed with requests left"));
                    gone.insert(*model);
                }
                Action::Drained { accelerator } => {
                    let member = &mut self.members[accelerator.index()];
                    let asked = std::mem::take(&mut member.is_draining);
                    assert!(asked, "{}", self.story("drained unasked"));
                    let runs = !self.running[accelerator.index()].is_empty();
                    assert!(!runs, "{}", self.story("drained and not done"));
                }
                Action::Lost { batch, accelerator, .. } => {
                    let running = &mut self.running[accelerator.index()];
                    assert_eq!(running.first(), Some(batch), "lost out of order");
                    running.remove(0);
                    let member = &mut self.members[accelerator.index()];
                    if member.lost.is_empty() {
                        member.left = Some(self.now);
                    }
                    member.lost.insert(*batch);
                }
                Action::Recovered { accelerator } => {
                    let left = self.members[accelerator.index()].lost.len();
                    assert_eq!(left, 0, "{}", self.story("back too early"));
                }
            }
        }
        let wake = self.policy.next_wake();
        assert!(wake.is_none_or(|wake| wake > self.now), "{}", self.story("spins in place"));
        todo.list.retain(|action| !matches!(action, Action::Removed { .. }));
        self.steps.push((self.now, todo, gone));
        assert!(self.steps.len() < STEPS_MAX, "{}", self.story("never ends"));
    }

    fn check_drop(&self, model: ModelId, request: &Request, reason: DropReason) {
        let terms = self.terms(model);
        // To the accelerator and back.
        let lead = self.delays.lead(request.rows) + self.message.times(2);
        let exec = terms.profile.exec(request.rows);
        let end = self.now + lead + exec + self.delays.response;
        let lucky_end = self.now + lead + self.luckiest(model, exec) + self.delays.response;
        let justified = match reason {
            // Only the policy knows the slowdown of the executions.
            DropReason::Hopeless => self.history.follows || end > request.deadline,
            DropReason::Overload => self.history.follows || lucky_end <= request.deadline,
            DropReason::TooLarge => request.rows > terms.profile.rows_max(),
            DropReason::Evicted => request.class == Class::Low,
            DropReason::QueueFull => !self.removed.contains_key(&model),
            DropReason::Unloaded => self.removed.contains_key(&model),
        };
        assert!(justified, "{}", self.story("dropped without a reason"));
    }

    fn start(&mut self, start: &Start, requests: &[Request]) {
        let accelerator = start.accelerator.index();
        let terms = self.terms(start.model);
        let rows: u32 = requests.iter().map(|request| request.rows).sum();
        assert_eq!(rows, start.rows, "{}", self.story("rows do not add up"));
        assert!(rows <= terms.profile.rows_max(), "{}", self.story("too large a batch"));
        let known = self.batches.insert(start.batch, start.model);
        assert_eq!(known, None, "{}", self.story("two batches of one name"));
        let table = terms.profile.exec(rows);
        let is_planned = self.history.follows || start.exec == table;
        assert!(is_planned, "{}", self.story("not the profile"));
        for request in requests {
            let (model, known) = self.open.remove(&request.id).expect("one outcome per request");
            assert_eq!((model, known), (start.model, *request), "{}", self.story("mixed up"));
            let end = start.begin + self.luckiest(start.model, start.exec);
            assert!(end <= request.deadline, "{}", self.story("planned past a deadline"));
        }
        if !self.was_delayed && self.message == Span::ZERO {
            assert!(self.running[accelerator].is_empty(), "{}", self.story("two batches at once"));
        }
        let member = &self.members[accelerator];
        let sent = self.running[accelerator].len() + member.lost.len();
        assert!(sent < 2, "{}", self.story("sent too far ahead"));
        let serves = member.is_wanted && member.lost.is_empty();
        let crossed = member.left.is_some_and(|left| self.now.since(left) <= MESSAGE_MAX);
        assert!(serves || crossed, "{}", self.story("it does not serve"));
        let number = self.batches.len();
        let speed = self.history.speeds[number % self.history.speeds.len()];
        let mut exec = Span(table.0 * speed / 100);
        if number.is_multiple_of(self.history.late_every) {
            exec = exec.times(LATE);
        }
        self.running[accelerator].push(start.batch);
        if number.is_multiple_of(self.history.endless_every) {
            self.busy_until[accelerator] = Time::NEVER;
        }
        let end = start.begin.max(self.busy_until[accelerator]) + exec;
        self.busy_until[accelerator] = end;
        if end == Time::NEVER {
            return;
        }
        self.ends.push(Reverse((end, start.batch, start.accelerator, exec)));
    }

    /// The shortest execution of a model that a policy may hope for. Where times spread, a request
    /// that few batches would meet may still take its chance. A policy that follows what it measures
    /// finds that times spread without being told: not in fewer than [`MEASURED`] batches.
    fn luckiest(&self, model: ModelId, exec: Span) -> Span {
        let ended = self.ended.get(&model).copied().unwrap_or_default();
        let is_measured = self.history.follows && ended >= MEASURED;
        if is_measured || self.varying.contains(&model) { Span(exec.0 / 2) } else { exec }
    }

    fn story(&self, what: &str) -> String {
        format!("{what}\n{}", self.log.join("\n"))
    }
}

fn split(history: &History, shards: u32, message: Delay, seed: u64) -> SplitScheduler {
    let split = Split { shards, message };
    let scheduler = SplitScheduler::new(history.mode, history.accelerators, split, seed);
    if history.follows { scheduler } else { scheduler.with_fixed_profiles() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4000)))]

    #[test]
    fn messages_that_take_no_time_change_nothing(history in histories()) {
        let mut whole = Scheduler::new(history.mode, history.accelerators);
        if !history.follows {
            whole = whole.with_fixed_profiles();
        }
        let parties = split(&history, 1, Delay::Constant(Span::ZERO), 0);
        let whole = World::new(&history, whole, Span::ZERO).run();
        let parties = World::new(&history, parties, Span::ZERO).run();
        for (one, other) in whole.iter().zip(&parties) {
            prop_assert_eq!(one.0, other.0);
            prop_assert_eq!(&one.1.list, &other.1.list);
            prop_assert_eq!(&one.1.requests, &other.1.requests);
            prop_assert_eq!(&one.2, &other.2);
        }
        prop_assert_eq!(whole.len(), parties.len());
    }

    #[test]
    fn promises_are_kept_whatever_messages_take(
        history in histories(),
        shards in 1u32..5,
        message in messages(),
        seed in any::<u64>(),
    ) {
        World::new(&history, split(&history, shards, message, seed), message.planned()).run();
    }
}

/// A history of models with these profiles, whose batches take these percentages of their profile.
fn of_models(
    mode: Mode,
    profiles: [(u64, u64, u32); MODELS as usize],
    speeds: &[u64],
    happenings: Vec<(u64, Happening)>,
) -> History {
    History {
        mode,
        accelerators: 1,
        profiles: profiles.to_vec(),
        speeds: speeds.to_vec(),
        late_every: usize::MAX,
        endless_every: usize::MAX,
        follows: true,
        happenings,
    }
}

fn arrives(model: u32, slo_us: u64, class: Class) -> Happening {
    Happening::Arrive { model, rows: 1, slo_us, class }
}

/// The shards whose models get no requests hear in the midst of a decision that low ones come and
/// that high ones need most of the pool. Their report for the next plan was due long ago.
#[test]
fn a_shard_that_hears_of_low_requests_elsewhere_does_not_wake_in_the_past() {
    let mut profiles = [(0, 1, 1); MODELS as usize];
    profiles[3] = (1480, 6583, 3);
    let high = (0..200).map(|_| (1000, arrives(3, 20_000, Class::High)));
    let happenings: Vec<_> = high.chain([(500, arrives(0, 500, Class::Low))]).collect();
    for mode in Mode::ALL {
        let history = of_models(mode, profiles, &[50], happenings.clone());
        let at_once = Delay::Constant(Span::ZERO);
        World::new(&history, split(&history, 3, at_once, 0), at_once.planned()).run();
    }
}

/// Batches that take now half and now one and a half times their profile: a request that a mean batch
/// would miss takes its chance, though nobody said that times spread.
#[test]
fn a_request_may_hope_for_luck_once_times_are_measured_to_vary() {
    let profiles = [(0, 1000, 1); MODELS as usize];
    let steady = (0..60).map(|_| (10_000, arrives(0, 60_000, Class::High)));
    let happenings: Vec<_> = steady.chain([(10_000, arrives(0, 900, Class::High))]).collect();
    for mode in Mode::ALL {
        let history = of_models(mode, profiles, &[50, 150], happenings.clone());
        let at_once = Delay::Constant(Span::ZERO);
        let steps = World::new(&history, split(&history, 1, at_once, 0), Span::ZERO).run();
        let mut actions = steps.iter().rev().flat_map(|(_, todo, _)| todo.list.iter().rev());
        let last = actions.find_map(|action| match action {
            Action::Start(start) => Some(start),
            _ => None,
        });
        let last = last.expect("some start");
        let deadline = Time(Span::from_micros(610_900).0);
        assert!(last.begin + last.exec > deadline, "{mode:?}: {last:?}");
    }
}

/// A head that shrinks the batches of others is not dropped while its own grant is on its way.
#[test]
fn half_a_millisecond_of_message_costs_little_goodput() {
    let profile = Profile::linear(Span::from_micros(1053), Span::from_micros(5072), 64);
    let terms = ModelTerms {
        profile: Arc::new(profile.expect("a growing line")),
        objective: Objective::Slo(Span::from_millis(25)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let mut scenario = Scenario::ideal(vec![terms], 8, Span::from_secs(1), Span::from_secs(10));
    let message = Delay::Constant(Span::from_micros(500));
    scenario.split = Some(Split { shards: 4, message });
    let load = OfferedLoad::new(&[1.0], Process::Poisson);
    // Without messages the goodput is 5 310 and 5 476.
    for (policy, rate) in [(PolicyKind::Consolidate, 5000.0), (PolicyKind::Adaptive, 4800.0)] {
        let bad = run_at(&scenario, &load, &policy, rate, 1).expect("valid load").worst_bad_share();
        assert!(bad <= BAD_SHARE_MAX, "{policy} at {rate} r/s: {:.2} % bad", bad * 100.0);
    }
}
