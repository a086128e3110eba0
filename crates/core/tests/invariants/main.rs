//! Random histories of a pool: whatever happens, the scheduler keeps its promises.

mod history;

use history::{ACCELERATORS, FRONTENDS, Happening, History, LATE, histories};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use symphony_core::sched::{
    AcceleratorState, Action, Actions, Event, Loss, Mode, ModelTerms, OVERDUE_AFTER, Policy,
    Scheduler, Start,
};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, DropReason, ModelId, Objective, Origin, Profile,
    Request, RequestId, Slowdown, Span, Time,
};

/// The objective of every model.
const SLO: Span = Span::from_micros(40_000);

/// How long a request of best effort may take that has no limit of its own.
const UNLIMITED: Span = Span::from_secs(200);

/// The frontend of a request.
fn origin(number: u64) -> Origin {
    let frontend = number % u64::from(FRONTENDS);
    Origin::new(u16::try_from(frontend).expect("there are few"), 0)
}

/// A pool that runs what the scheduler says and checks it.
struct World<'a> {
    history: &'a History,
    /// The mode now.
    mode: Mode,
    scheduler: Scheduler,
    todo: Actions,
    delays: Delays,
    /// Whether there have been delays, to hide which a batch is sent behind another.
    was_delayed: bool,
    now: Time,
    /// Requests without an outcome.
    open: BTreeMap<RequestId, (ModelId, Request)>,
    /// By accelerator, its batches, and before when none of them may be taken for overdue.
    running: Vec<Vec<(BatchId, Time)>>,
    members: Vec<Member>,
    /// Accelerators below this number were there at some time.
    known: usize,
    /// When each accelerator ends what it was sent.
    busy_until: Vec<Time>,
    ends: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId, Span)>>,
    batches: usize,
    /// How much longer than by its profile each model is planned to run, before and after the
    /// scheduler settled: after a silence what was measured is forgotten.
    slowdowns: [[Slowdown; 2]; 3],
    /// How many times its mean a batch takes that runs a deviation faster, likewise, at the least and
    /// at the most: plans follow the spread in steps of a sixteenth.
    lucks: [[Slowdown; 4]; 3],
    /// The model that has each place now.
    models: [ModelId; 3],
    /// Models that were told to go, and whether they are gone.
    removed: BTreeMap<ModelId, bool>,
    log: Vec<String>,
}

/// What an accelerator is to the scheduler, by what it was told and has said.
#[derive(Clone, Debug, Default)]
struct Member {
    is_wanted: bool,
    /// Its process went, and it was not added since.
    is_gone: bool,
    /// Batches that were given up and have not ended.
    lost: BTreeSet<BatchId>,
    /// It was told to drain, and has not said that it did.
    is_draining: bool,
    /// It ended the last of the lost ones, and has not been said to be back.
    is_back: bool,
}

impl Member {
    fn is_serving(&self) -> bool {
        self.is_wanted && self.lost.is_empty() && !self.is_gone
    }
}

impl<'a> World<'a> {
    fn new(history: &'a History) -> World<'a> {
        let scheduler = Scheduler::new(history.mode, history.accelerators);
        let mut scheduler = scheduler.with_low_share(history.low_share);
        if !history.follows {
            scheduler = scheduler.with_fixed_profiles();
        }
        let count = ACCELERATORS as usize;
        let member =
            |number| Member { is_wanted: number < history.accelerators, ..Member::default() };
        let mut world = World {
            history,
            mode: history.mode,
            scheduler,
            todo: Actions::default(),
            delays: Delays::default(),
            was_delayed: false,
            now: Time::ZERO,
            open: BTreeMap::new(),
            running: vec![Vec::new(); count],
            members: (0..ACCELERATORS).map(member).collect(),
            known: history.accelerators as usize,
            busy_until: vec![Time::ZERO; count],
            ends: BinaryHeap::new(),
            batches: 0,
            slowdowns: [[Slowdown::ONE; 2]; 3],
            lucks: [[Slowdown::ONE; 4]; 3],
            models: [0, 1, 2].map(ModelId::first),
            removed: BTreeMap::new(),
            log: Vec::new(),
        };
        for model in world.models {
            let terms = world.terms(model);
            world.event(Event::AddModel { model, terms: Box::new(terms) });
        }
        world
    }

    fn is_soft(&self, model: ModelId) -> bool {
        self.history.soft[model.index()]
    }

    fn terms(&self, model: ModelId) -> ModelTerms {
        let (alpha, beta, rows_max) = self.history.profiles[model.index()];
        let (alpha, beta) = (Span::from_micros(alpha), Span::from_micros(beta));
        ModelTerms {
            profile: Arc::new(Profile::linear(alpha, beta, rows_max).expect("valid profile")),
            objective: if self.is_soft(model) { Objective::Soft(SLO) } else { Objective::Slo(SLO) },
            queue_max: 12,
            loss_weight: 1.0,
            lane_of: None,
        }
    }

    fn event(&mut self, event: Event) {
        self.log.push(format!("{} {event:?}", self.now));
        self.scheduler.on_event(self.now, event, &mut self.todo);
    }

    fn happen(&mut self, number: u64, happening: &Happening) {
        match *happening {
            Happening::Arrive { model, rows, slo_us, class, limited, age_us } => {
                let is_limited = limited || !self.is_soft(self.models[model as usize]);
                let limit = if is_limited { Span::from_micros(slo_us) } else { UNLIMITED };
                let arrival = self.now - Span::from_micros(age_us);
                // One that comes a second time may have nothing left.
                let deadline = (arrival + limit).max(self.now);
                let id = RequestId::new(origin(number), number);
                let request = Request { id, arrival, deadline, rows, class };
                self.arrive(self.models[model as usize], request);
            }
            Happening::CancelOldest => {
                let Some((&id, &(model, request))) = self.open.first_key_value() else { return };
                // A request that is cancelled has its outcome already.
                self.open.remove(&id);
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
                let profile = Profile::clone(&self.terms(model).profile);
                let profile = profile.with_spread(&[(1, f64::from(thousandths) / 1e3)]);
                self.event(Event::SetProfile { model, profile: Arc::new(profile) });
            }
            Happening::Remove { model } => {
                // Telling it twice changes nothing.
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
            Happening::Switch { mode } => {
                self.mode = mode;
                self.event(Event::SetMode(mode));
            }
            Happening::AddAccelerator { accelerator } => self.join(AcceleratorId(accelerator)),
            Happening::DrainAccelerator { accelerator } => {
                let member = &mut self.members[accelerator as usize];
                (member.is_wanted, member.is_draining) = (false, true);
                self.event(Event::DrainAccelerator { accelerator: AcceleratorId(accelerator) });
            }
            Happening::Go { accelerator } => self.go(AcceleratorId(accelerator)),
            Happening::Forget { frontend } => {
                let origin = Origin::new(frontend, 0);
                self.open.retain(|id, _| id.origin() != origin);
                self.event(Event::ForgetOrigin { origin });
            }
            Happening::CompleteUnknown { accelerator } => {
                let accelerator = AcceleratorId(accelerator);
                let (batch, exec) = (BatchId(u64::MAX), Span::from_micros(7));
                self.event(Event::Complete { accelerator, batch, exec });
            }
            Happening::Silence => self.pass(Some(self.now + Span::from_secs(100))),
        }
        self.settle();
    }

    /// Lets time pass until `until`, completing batches and waking the scheduler on the way.
    fn pass(&mut self, until: Option<Time>) {
        loop {
            let end = self.ends.peek().map(|Reverse((time, ..))| *time);
            let next = [end, self.scheduler.next_wake()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| until.is_none_or(|until| *next <= until)) else {
                break;
            };
            assert!(next >= self.now, "{}", self.story("time runs backwards"));
            self.now = next;
            while let Some(&Reverse((time, batch, accelerator, exec))) = self.ends.peek()
                && time <= self.now
            {
                self.ends.pop();
                self.running[accelerator.index()].retain(|(other, _)| *other != batch);
                let member = &mut self.members[accelerator.index()];
                member.is_back |= member.lost.remove(&batch) && member.lost.is_empty();
                self.event(Event::Complete { accelerator, batch, exec });
            }
            self.settle();
        }
        self.now = until.unwrap_or(self.now);
    }

    fn settle(&mut self) {
        // Before, for a model may be gone afterwards.
        self.note_slowdowns(0);
        self.note_slowdowns(1);
        self.scheduler.settle(self.now, &mut self.todo);
        self.note_slowdowns(1);
        let todo = std::mem::take(&mut self.todo);
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
                }
                Action::Drained { accelerator } => {
                    let member = &mut self.members[accelerator.index()];
                    let asked = std::mem::take(&mut member.is_draining);
                    assert!(asked, "{}", self.story("drained unasked"));
                }
                Action::Lost { batch, accelerator, why, .. } => {
                    self.lose(*batch, *accelerator, *why);
                }
                Action::Recovered { accelerator } => {
                    let member = &mut self.members[accelerator.index()];
                    let is_back = std::mem::take(&mut member.is_back);
                    assert!(is_back, "{}", self.story("back from nowhere"));
                }
            }
        }
        self.check_members();
        let mut members = self.running.iter().zip(&self.members);
        let idle = members.any(|(running, member)| running.is_empty() && member.is_serving());
        if idle && self.mode == Mode::Eager && !self.any_straggler() {
            // Low ones may be held back for the high ones that are known to come, and those with
            // early deadlines that came under another mode.
            let early = |request: &Request| request.deadline.since(request.arrival) < SLO;
            let first = |request: &Request| request.class == Class::High && !early(request);
            let bound = |model: ModelId| !self.is_soft(model);
            let high = self.open.values().any(|(model, request)| bound(*model) && first(request));
            assert!(!high, "{}", self.story("work and an idle accelerator"));
        }
        let wake = self.scheduler.next_wake();
        assert!(wake.is_none_or(|wake| wake > self.now), "{}", self.story("spins in place"));
    }

    /// An accelerator is taken for dead.
    fn arrive(&mut self, model: ModelId, request: Request) {
        self.open.insert(request.id, (model, request));
        self.event(Event::Arrive { model, request });
    }

    /// Gives the place of a model that is gone to the next one. A request for the former is still
    /// on its way, and so is what was measured of it.
    fn replace(&mut self, number: u64, before: ModelId) {
        let (model, terms) = (before.next_generation(), self.terms(before));
        self.models[model.index()] = model;
        self.event(Event::AddModel { model, terms: Box::new(terms) });
        let (id, arrival) = (RequestId::only(number), self.now);
        let (deadline, class) = (arrival + SLO, Class::High);
        self.arrive(before, Request { id, arrival, deadline, rows: 1, class });
        let profile = self.terms(before).profile;
        self.event(Event::SetProfile { model: before, profile });
    }

    /// An accelerator is to serve, from now on or again.
    fn join(&mut self, accelerator: AcceleratorId) {
        let member = &mut self.members[accelerator.index()];
        (member.is_wanted, member.is_draining, member.is_gone) = (true, false, false);
        self.known = self.known.max(accelerator.index() + 1);
        self.event(Event::AddAccelerator { accelerator });
    }

    /// The process of an accelerator goes, and never ends what it was sent.
    fn go(&mut self, accelerator: AcceleratorId) {
        let at = accelerator.index();
        self.busy_until[at] = self.now;
        self.ends.retain(|Reverse((_, _, of, _))| *of != accelerator);
        let member = &mut self.members[at];
        // Numbers that nobody added are away.
        member.is_gone = at < self.known;
        member.lost.clear();
        self.event(Event::AcceleratorGone { accelerator });
    }

    fn lose(&mut self, batch: BatchId, accelerator: AcceleratorId, why: Loss) {
        let (running, overdue) = self.running[accelerator.index()].remove(0);
        assert_eq!(running, batch, "{}", self.story("lost out of order"));
        let member = &mut self.members[accelerator.index()];
        if why == Loss::Gone {
            return assert!(member.is_gone, "{}", self.story("lost with one that is there"));
        }
        let is_first = member.lost.is_empty();
        member.lost.insert(batch);
        assert!(!is_first || self.now >= overdue, "{}", self.story("given up too early"));
    }

    fn check_members(&self) {
        for (number, member) in (0u32..).zip(&self.members) {
            let runs = !self.running[number as usize].is_empty();
            let expected = match (member.is_wanted, runs) {
                _ if member.is_gone => AcceleratorState::Gone,
                _ if !member.lost.is_empty() => AcceleratorState::Dead,
                (true, _) => AcceleratorState::Serving,
                (false, true) => AcceleratorState::Draining,
                (false, false) => AcceleratorState::Away,
            };
            let state = self.scheduler.state(AcceleratorId(number));
            assert_eq!(state, expected, "{}", self.story(&format!("accelerator {number}")));
            assert!(runs || !member.is_draining, "{}", self.story("drained and nobody told"));
            assert!(!member.is_back, "{}", self.story("back and nobody told"));
        }
    }

    fn note_slowdowns(&mut self, moment: usize) {
        for (number, model) in self.models.iter().enumerate() {
            let Some(stats) = self.scheduler.stats(*model) else { continue };
            self.slowdowns[number][moment] = stats.slowdown;
            // Of best effort none is lost for being late, so there is no margin.
            let is_soft = self.terms(*model).objective.is_soft();
            let spread = if is_soft { 0.0 } else { stats.spread };
            for (at, step) in [(0, 15.0 / 16.0), (1, 16.0 / 15.0)] {
                let deviation = f64::min(spread * step, 0.5);
                self.lucks[number][2 * moment + at] = Slowdown::ONE.scaled_by(1.0 - deviation);
            }
        }
    }

    fn any_straggler(&self) -> bool {
        let accelerators = (0..ACCELERATORS).map(AcceleratorId);
        accelerators
            .map(|id| self.scheduler.accelerator_slowdown(id))
            .any(|slowdown| slowdown > Slowdown::ONE)
    }

    fn check_drop(&self, model: ModelId, request: &Request, reason: DropReason) {
        let terms = self.terms(model);
        let alone = [0, 1, 2, 3].map(|at| {
            let slowdown = self.slowdowns[model.index()][at / 2];
            let exec = slowdown.stretch(terms.profile.exec(request.rows));
            let exec = self.lucks[model.index()][at].stretch(exec);
            let end = self.now + self.delays.lead(request.rows) + exec;
            end + self.delays.response <= request.deadline
        });
        let justified = match reason {
            DropReason::Hopeless => alone.contains(&false),
            // Nothing but its own deadline is a reason to drop a request of best effort.
            DropReason::Overload => {
                let is_limited = request.deadline.since(request.arrival) < UNLIMITED;
                alone.contains(&true) && self.mode != Mode::Eager && is_limited
            }
            DropReason::TooLarge => request.rows > terms.profile.rows_max(),
            DropReason::QueueFull => {
                // High requests with early deadlines may stand among the low ones.
                let due_last = |class| {
                    let queued = self.open.values().filter(|(of, _)| *of == model);
                    let of = queued.filter(|(_, other)| other.class == class);
                    of.map(|(_, other)| other.deadline).max()
                };
                let evictable =
                    request.class == Class::High && due_last(Class::Low) > due_last(Class::High);
                !self.removed.contains_key(&model) && !evictable
            }
            DropReason::Evicted => request.class == Class::Low,
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
        let table = terms.profile.exec(rows);
        let there = self.scheduler.accelerator_slowdown(start.accelerator);
        let planned = self.slowdowns[start.model.index()]
            .map(|slowdown| slowdown.times(there).stretch(table));
        assert!(planned.contains(&start.exec), "{}", self.story("not the profile"));
        for request in requests {
            let (model, known) = self.open.remove(&request.id).expect("one outcome per request");
            assert_eq!((model, known), (start.model, *request), "{}", self.story("mixed up"));
            let lucks = self.lucks[start.model.index()];
            let may_meet =
                |luck: Slowdown| start.begin + luck.stretch(start.exec) <= request.deadline;
            assert!(lucks.into_iter().any(may_meet), "{}", self.story("planned past a deadline"));
        }
        assert!(self.members[accelerator].is_serving(), "{}", self.story("it does not serve"));
        if !self.was_delayed {
            assert!(self.running[accelerator].is_empty(), "{}", self.story("two batches at once"));
            let mut lower = self.running[..accelerator].iter().zip(&self.members);
            let lower = lower.all(|(running, member)| !running.is_empty() || !member.is_serving());
            let lower = lower || self.any_straggler();
            assert!(lower, "{}", self.story("a lower-numbered accelerator was free"));
        }
        assert!(self.running[accelerator].len() < 2, "{}", self.story("sent too far ahead"));
        let speed = self.history.speeds[self.batches % self.history.speeds.len()];
        self.batches += 1;
        let begin = start.begin.max(self.busy_until[accelerator]);
        let mut exec = Span(table.0 * speed / 100 * self.history.slowness[accelerator] / 100);
        if self.batches.is_multiple_of(self.history.late_every) {
            exec = exec.times(LATE);
        }
        let overdue = self.now + start.exec + OVERDUE_AFTER.max(start.exec.times(10));
        self.running[accelerator].push((start.batch, overdue));
        if self.batches.is_multiple_of(self.history.endless_every) {
            self.busy_until[accelerator] = Time::NEVER;
        }
        let end = begin.max(self.busy_until[accelerator]) + exec;
        self.busy_until[accelerator] = end;
        if end == Time::NEVER {
            return;
        }
        self.ends.push(Reverse((end, start.batch, start.accelerator, exec)));
    }

    fn story(&self, what: &str) -> String {
        format!("{what}\n{}", self.log.join("\n"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1000)))]

    #[test]
    fn promises_are_kept_in_random_histories(history in histories()) {
        let mut world = World::new(&history);
        for (number, (gap_us, happening)) in (0u64..).zip(&history.happenings) {
            world.pass(Some(world.now + Span::from_micros(*gap_us)));
            world.happen(number, happening);
        }
        world.pass(None);
        prop_assert!(world.open.is_empty(), "{}", world.story("requests without an outcome"));
        prop_assert!(world.ends.is_empty());
        let left = world.running.iter().any(|running| !running.is_empty());
        prop_assert!(!left, "{}", world.story("a batch that does not end and is not given up"));
    }
}
