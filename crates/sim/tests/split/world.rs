//! A pool in which a history happens: it runs what a policy decides, and checks it.

use crate::histories::{ACCELERATORS, Happening, History, LATE, MODELS};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, ModelTerms, Policy, Start};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, DropReason, ModelId, Objective, Profile, Request,
    RequestId, Span, Time,
};
use symphony_sim::MESSAGE_MAX;

/// What a policy did in one step: its starts and drops in order, and the removed models.
pub(crate) type Step = (Time, Actions, BTreeSet<ModelId>);

/// A pool that runs what the policy decides, and checks it.
pub(crate) struct World<'a, P> {
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
pub(crate) struct Member {
    is_wanted: bool,
    /// Batches that the policy has given up and that have not ended.
    lost: BTreeSet<BatchId>,
    /// It was told to drain and has not reported that it is drained.
    is_draining: bool,
    /// When it was last told to drain, or given up. Grants may still be on their way.
    left: Option<Time>,
}

/// How many batches of a model have to end before the spread of their times is measured.
pub(crate) const MEASURED: u32 = 16;

/// The most steps of the policy in one history. More means that it goes in circles.
pub(crate) const STEPS_MAX: usize = 100_000;

impl<'a, P: Policy> World<'a, P> {
    pub(crate) fn new(history: &'a History, policy: P, message: Span) -> World<'a, P> {
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
    pub(crate) fn run(mut self) -> Vec<Step> {
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
