//! The queues of some models: requests in, candidates out; grants in, batches out.
//!
//! Per request the work is constant: queue it and mark its model. Only when the inbox is
//! drained is each marked model looked at, once.

mod model;

use super::drift::Drift;
use super::heap::IndexedHeap;
use super::lanes::Lanes;
use super::mode::Mode;
use super::needs::{HighLoad, RecentTraffic};
use super::plan::{ModelDemand, ModelPlan, PLAN_STALE, plan_age};
use super::rate::{RateEstimator, RowRate};
use super::{Action, Actions, BatchEnded, Candidate, Grant, ModelTerms, Reply, Start, Started};
use crate::ids::{ModelId, RequestId};
use crate::profile::Profile;
use crate::request::{Class, Delays, DropReason, Request};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// The share of low requests where none is set.
pub const LOW_SHARE_DEFAULT: f64 = 0.05;

/// What high requests need beside the accelerators that they keep busy, where low batches are so
/// long that these cannot wait for them.
const SPARE: f64 = 0.5;

/// How often one model is looked at for room that it no longer needs.
const RELEASE_EVERY: Span = Span::from_millis(1);

/// A model that had a request within this time is one that others leave room for.
const PRESENT_FOR: Span = Span::from_secs(60);

/// Low requests that got more than their share are taken to have had that of this long in advance.
pub(super) const SHARE_ADVANCE: Span = Span::from_secs(1);

/// Owns the queues of its models.
#[derive(Clone, Debug)]
pub struct Shard {
    pool: Pool,
    delays: Delays,
    /// How long a message to the matcher is planned to take, and one back.
    message: Span,
    /// Each in a place of its own: there may be thousands, and most have nothing to do.
    models: Vec<Option<Box<Model>>>,
    /// Models whose queue changed since they were last looked at.
    touched: Vec<ModelId>,
    /// Spare room, swapped with `touched` while that is worked through.
    touched_before: Vec<ModelId>,
    /// When to look at a model again though nothing happened: its batch no longer meets its
    /// deadline.
    expiries: IndexedHeap<Time>,
    /// Which model to look at next for room that it no longer needs, and when.
    release: (usize, Time),
    /// When to tell next what was measured of its models.
    report_due: Time,
}

/// Counters of one model since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelStatistics {
    /// Batches started.
    pub batches: u64,
    /// Requests in them.
    pub requests: u64,
    /// Rows in them.
    pub rows: u64,
    /// Requests queued now.
    pub queued: u64,
    /// How many times longer than by the profile as it was loaded its batches are planned to run.
    pub slowdown: Slowdown,
    /// What the load asks of it; one row and no wait unless the adaptive mode is in force, but for
    /// what high requests need.
    pub plan: ModelPlan,
}

/// What the models of a shard have in common.
#[derive(Clone, Copy, Debug)]
struct Pool {
    mode: Mode,
    /// Those that serve.
    accelerators: u32,
    /// Of the rows in batches of high requests, what low ones that wait are owed.
    low_share: f64,
    /// Which requests came to the pool, here or, as far as the matcher has told, elsewhere.
    lately: RecentTraffic,
    /// Low requests have begun to come, and the matcher does not know.
    has_low_news: bool,
    /// Accelerators that high requests of the pool keep busy, as the matcher told; zero while no
    /// low ones come.
    high_load: f64,
    /// More requests wait to be taken in than the shard can take at a time.
    is_behind: bool,
}

/// Accelerators that low batches leave to high requests which keep so many busy, where they are
/// short enough for these to wait for one.
fn reserved_with_short(high_load: f64) -> f64 {
    high_load.floor()
}

/// The same where they are too long for that.
fn reserved_with_long(high_load: f64) -> f64 {
    (high_load + SPARE).ceil()
}

/// How low requests of a model run on their own.
#[derive(Clone, Copy, Debug)]
struct LowTerms {
    rows_max: u32,
    /// Accelerators to leave to high requests; a whole number.
    reserved: f64,
}

#[derive(Clone, Debug)]
struct Model {
    id: ModelId,
    terms: ModelTerms,
    /// The profile at the slowdown that plans count with.
    profile: Profile,
    drift: Drift,
    queue: Lanes,
    /// Arrivals of both classes.
    rate: RateEstimator,
    /// Arrivals of low requests.
    rate_low: RowRate,
    /// Rows that low requests are owed, for they waited while high ones ran.
    owed: f64,
    /// Arrivals of rows of high requests, as measured for the last report.
    high_per_ns: f64,
    /// Arrivals of high requests that were demoted.
    rate_demoted: RowRate,
    /// The pool's delays, as far as the objective has room for them, from a new candidate on:
    /// it has to reach the matcher, and the grant to come back, before anything is sent.
    delays: Delays,
    /// What each of these two takes.
    message: Span,
    /// What a request needs at least from its arrival to its deadline, and where the shard is
    /// behind.
    least: [Span; 2],
    /// How much longer than planned executions were measured to run.
    overrun: Span,
    /// Batches sent and not completed.
    running: u32,
    /// Since when nothing is queued or running.
    idle_since: Option<Time>,
    touched: bool,
    closing: bool,
    /// Grants answered so far; the generation of the next candidate.
    answered: u32,
    published: Option<Candidate>,
    /// From when on the matcher can grant what is offered.
    opens: Time,
    /// What the pool's load asks of it.
    plan: ModelPlan,
    last_arrival: Option<Time>,
    /// How old the newest request was when it came: time that none of those to come will have.
    spent: Span,
    /// Whether the pool's planner knows it to have requests.
    is_planned: bool,
    /// Requests that arrived, and those of them that were dropped.
    arrived: u64,
    dropped: u64,
    stats: ModelStatistics,
}

impl Shard {
    /// A shard without models that schedules by `mode`, for a pool of `accelerators`.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Shard {
        Shard {
            pool: Pool {
                mode,
                accelerators,
                low_share: LOW_SHARE_DEFAULT,
                lately: RecentTraffic::default(),
                has_low_news: false,
                high_load: 0.0,
                is_behind: false,
            },
            delays: Delays::default(),
            message: Span::ZERO,
            models: Vec::new(),
            touched: Vec::new(),
            touched_before: Vec::new(),
            expiries: IndexedHeap::new(),
            release: (0, Time::ZERO),
            report_due: Time::ZERO,
        }
    }

    /// The same, but a message to the matcher, and one back, is planned to take so long: a
    /// candidate's window is the matcher's time to grant, and opens and closes so much earlier.
    #[must_use]
    pub fn with_message_delay(self, message: Span) -> Shard {
        Shard { message, ..self }
    }

    /// Plans with another delay of messages from now on; every window is computed again.
    pub fn set_message_delay(&mut self, message: Span) {
        self.message = message;
        self.set_delays(self.delays);
    }

    /// Takes requests for a model from now on.
    ///
    /// # Panics
    /// When the identity is in use.
    pub fn add(&mut self, model: ModelId, terms: ModelTerms) {
        if self.models.len() <= model.index() {
            self.models.resize_with(model.index() + 1, || None);
        }
        let slot = &mut self.models[model.index()];
        assert!(slot.is_none(), "{model:?} is in use");
        let mut state = Box::new(Model {
            id: model,
            rate: RateEstimator::new(terms.slo),
            delays: Delays::default(),
            message: Span::ZERO,
            least: [Span::ZERO; 2],
            profile: Profile::clone(&terms.profile),
            drift: Drift::new(),
            rate_low: RowRate::new(terms.slo),
            owed: 0.0,
            high_per_ns: 0.0,
            rate_demoted: RowRate::new(terms.slo),
            terms,
            queue: Lanes::default(),
            overrun: Span::ZERO,
            running: 0,
            idle_since: Some(Time::ZERO),
            touched: false,
            closing: false,
            answered: 0,
            published: None,
            opens: Time::ZERO,
            plan: ModelPlan::default(),
            last_arrival: None,
            spent: Span::ZERO,
            is_planned: false,
            arrived: 0,
            dropped: 0,
            stats: ModelStatistics::default(),
        });
        state.plan_with(&self.delays, self.message);
        *slot = Some(state);
    }

    /// Whether more requests wait to be taken in than the shard can take at a time. It keeps up
    /// then by refusing those that have spent half of what they can: small batches of old requests
    /// would cost so much that those behind them come late, too, and it would stay behind.
    pub fn set_behind(&mut self, is_behind: bool) {
        self.pool.is_behind = is_behind;
    }

    /// Keeps this share of the rows in batches of high requests for low ones that wait.
    pub fn set_low_share(&mut self, share: f64) {
        self.pool.low_share = share;
    }

    /// Takes no more requests for a model; its queue runs empty.
    pub fn close(&mut self, model: ModelId) {
        if let Some(state) = find(&mut self.models, model) {
            state.closing = true;
        }
    }

    /// Whether a model is closing and nothing of it is queued.
    #[must_use]
    pub fn is_closed(&self, model: ModelId) -> bool {
        self.model(model).is_some_and(|state| state.is_closed())
    }

    /// Forgets a model.
    ///
    /// # Panics
    /// When it is not closed.
    pub fn remove(&mut self, model: ModelId) {
        assert!(self.is_closed(model), "{model:?} still has requests");
        self.expiries.remove(model.slot());
        self.models[model.index()] = None;
    }

    /// Replaces the measured delays; every window is computed again.
    pub fn set_delays(&mut self, delays: Delays) {
        self.delays = delays;
        for index in 0..self.models.len() {
            if let Some(state) = &mut self.models[index] {
                state.plan_with(&delays, self.message);
                self.touch(index);
            }
        }
    }

    /// The pool has so many accelerators that serve now; says whether that is new.
    pub fn set_accelerators(&mut self, serving: u32) -> bool {
        if self.pool.accelerators == serving {
            return false;
        }
        self.pool.accelerators = serving;
        for index in 0..self.models.len() {
            // What an empty queue offers does not depend on it.
            if self.models[index].as_ref().is_some_and(|state| !state.queue.is_empty()) {
                self.touch(index);
            }
        }
        true
    }

    /// Replaces what this model's batches were measured to run longer than planned.
    pub fn set_overrun(&mut self, model: ModelId, overrun: Span) {
        if let Some(state) = find(&mut self.models, model) {
            state.overrun = overrun;
            state.touch(&mut self.touched);
        }
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        let state = self.model(model)?;
        let (queued, slowdown) = (state.queue.len() as u64, state.profile.slowdown());
        Some(ModelStatistics { queued, slowdown, plan: state.plan, ..state.stats })
    }

    /// Queues a request, or drops it at once when it can never run.
    #[inline]
    pub fn arrive(&mut self, now: Time, model: ModelId, request: Request, todo: &mut Actions) {
        let Some(state) = find(&mut self.models, model) else {
            return todo.list.push(Action::Drop { model, request, reason: DropReason::Unloaded });
        };
        // A request that can never run promises nothing to others. Any other refused one counts
        // towards the rate: it is part of the load.
        let refusal = state.refusal(&self.pool, now, &request);
        if refusal != Some(DropReason::TooLarge) {
            state.note_arrival(&mut self.pool, now, &request);
        }
        if let Some(reason) = refusal {
            return state.refuse(model, request, reason, todo);
        }
        if state.is_full() {
            // A high request takes the place of a low one.
            let evicted = match request.class {
                Class::High => state.queue.evict(),
                Class::Low => None,
            };
            let Some(evicted) = evicted else {
                return state.refuse(model, request, DropReason::QueueFull, todo);
            };
            let reason = DropReason::Evicted;
            todo.list.push(Action::Drop { model, request: evicted, reason });
        }
        state.idle_since = None;
        let is_early = self.pool.mode != Mode::Eager && state.is_early(&request);
        if is_early {
            self.pool.note_low(now);
        }
        let demoted = is_early && state.is_demoted(&self.pool, &request);
        if demoted {
            state.rate_demoted.record(now, request.rows);
        }
        state.queue.push(request, demoted);
        state.touch(&mut self.touched);
    }

    /// A batch of a model ended.
    pub fn complete(&mut self, now: Time, ended: BatchEnded) {
        let BatchEnded { model, ratio } = ended;
        let Some(state) = find(&mut self.models, model) else { return };
        state.running = state.running.saturating_sub(1);
        state.note_idle(now);
        if let Some(ratio) = ratio {
            state.drift.record(now, ratio);
            if state.follow(&self.delays, self.message) {
                state.touch(&mut self.touched);
            }
        }
    }

    /// Takes a request out of its queue, if it is there.
    pub fn cancel(&mut self, model: ModelId, request: RequestId, deadline: Time) {
        let Some(state) = find(&mut self.models, model) else { return };
        if state.queue.remove(request, deadline).is_some() {
            state.touch(&mut self.touched);
        }
    }

    /// Looks once at every model that was touched or whose batch no longer meets its deadline:
    /// drops what has to be dropped and hands each changed candidate to `publish`.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, mut publish: impl FnMut(Candidate)) {
        self.release_room(now);
        if self.pool.high_load > 0.0 && !self.pool.lately.has_low(now) {
            self.leave(0.0);
        }
        while let Some((expiry, index)) = self.expiries.peek()
            && expiry <= now
        {
            self.expiries.remove(index);
            self.touch(index as usize);
        }
        std::mem::swap(&mut self.touched, &mut self.touched_before);
        for model in self.touched_before.drain(..) {
            let Some(state) = find(&mut self.models, model) else { continue };
            state.touched = false;
            state.drift.forget(now);
            state.follow(&self.delays, self.message);
            let offer = state.offer(model, &self.pool, now, todo);
            state.note_idle(now);
            // A grant at the last moment is on its way for a while.
            let expiry = offer.map(|offer| offer.latest + state.message + Span(1));
            match expiry.into_iter().chain(state.low_expiry()).min() {
                Some(expiry) => self.expiries.set(model.slot(), expiry),
                None => self.expiries.remove(model.slot()),
            }
            let candidate = Candidate { model, generation: state.answered, offer };
            if state.published != Some(candidate) {
                state.note_published(now, candidate);
                publish(candidate);
            }
        }
    }

    /// Takes back the room for requests that a model has had no use for in a long time. Looks at
    /// one model now and then, so that thousands of them are no burst of work.
    fn release_room(&mut self, now: Time) {
        let (next, due) = self.release;
        if now < due {
            return;
        }
        self.release = ((next + 1) % self.models.len().max(1), now + RELEASE_EVERY);
        if let Some(Some(state)) = self.models.get_mut(next)
            && !state.is_present(now)
        {
            state.queue.release();
        }
    }

    /// Answers a grant: seals the largest batch that, started on this accelerator, meets its
    /// deadline. Requests may have come or gone since the candidate was made.
    pub fn grant(&mut self, now: Time, grant: Grant, todo: &mut Actions) -> Reply {
        let Grant { model, accelerator, batch, free, slowdown: lag, behind } = grant;
        let declined = Reply { accelerator, batch, started: None };
        let Some(state) = find(&mut self.models, model) else { return declined };
        state.touch(&mut self.touched);
        state.answered = state.answered.wrapping_add(1);
        state.drop_hopeless(model, now, todo);
        let choice = state.sealable(&self.pool, now, free, lag);
        let (count, rows) = (choice.count(), choice.rows());
        if count == 0 {
            return declined;
        }
        let first = todo.requests.len();
        state.account(&choice, self.pool.low_share);
        state.queue.take(&choice, &mut todo.requests);
        state.running += 1;
        state.stats.batches += 1;
        state.stats.requests += count as u64;
        state.stats.rows += u64::from(rows);
        let ready = now + state.delays_after(2).lead(rows);
        let begin = free.max(ready);
        let table = state.terms.profile.exec(rows);
        let slowdown = state.profile.slowdown().times(lag);
        let exec = slowdown.stretch(table);
        let requests = first..todo.requests.len();
        let start =
            Start { batch, accelerator, model, requests, rows, begin, exec, slowdown, behind };
        todo.list.push(Action::Start(start));
        let lead = state.delays_after(1).lead(rows);
        let started = Started { ready, exec, table, lead };
        Reply { started: Some(started), ..declined }
    }

    /// How it schedules now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.pool.mode
    }

    /// Schedules by another mode from now on; every candidate is made again.
    pub fn set_mode(&mut self, mode: Mode) {
        self.pool.mode = mode;
        self.report_due = Time::ZERO;
        for index in 0..self.models.len() {
            if let Some(state) = &mut self.models[index] {
                state.plan = ModelPlan::default();
                state.is_planned = false;
                self.touch(index);
            }
        }
    }

    /// Whether it is time to report: a plan is made of it by the adaptive mode, and by every mode
    /// where low requests have to leave to high ones what these need.
    #[must_use]
    pub fn is_report_due(&self, now: Time) -> bool {
        let is_planned = self.pool.mode == Mode::Adaptive || self.pool.lately.has_low(now);
        is_planned && (self.report_due <= now || self.pool.has_low_news)
    }

    /// Hands what was measured of each model that has requests, or has none any more, to `report`,
    /// for the next plan of the pool. A closed model is to be forgotten, and not to be heard of
    /// again.
    pub fn report(&mut self, now: Time, mut report: impl FnMut(ModelDemand)) {
        let mut reported = 0;
        for state in self.models.iter_mut().flatten().filter(|state| !state.is_closed()) {
            let is_present = state.is_present(now);
            if is_present || state.is_planned {
                reported += 1;
                report(state.demand(now, is_present));
            }
            state.is_planned = is_present;
        }
        self.report_due = now + plan_age(reported);
    }

    /// Which requests came here, for the next plan of the pool.
    pub fn tell_lately(&mut self) -> RecentTraffic {
        self.pool.has_low_news = false;
        self.pool.lately
    }

    /// Takes what the pool's load asks of a model in place of what it asked before.
    pub fn set_plan(&mut self, model: ModelId, plan: ModelPlan) {
        let plan = match self.pool.mode {
            Mode::Adaptive => plan,
            // The rest may have been on its way when the mode changed.
            Mode::Consolidate | Mode::Eager => {
                ModelPlan { need: plan.need, ..ModelPlan::default() }
            }
        };
        let Some(state) = find(&mut self.models, model) else { return };
        let is_new = state.plan != plan;
        state.plan = plan;
        if is_new && !state.queue.is_empty() {
            state.touch(&mut self.touched);
        }
    }

    /// Takes what the high requests of the pool ask of it, and which requests come elsewhere.
    pub fn set_high_load(&mut self, high: HighLoad) {
        self.leave(high.busy);
        self.pool.lately.merge(high.lately);
    }

    /// High requests keep so many accelerators busy now. What low batches have to leave is part of
    /// what was offered of them: where it is another number, that is offered anew.
    fn leave(&mut self, high_load: f64) {
        let reserved = |load: f64| (reserved_with_short(load), reserved_with_long(load));
        let before = std::mem::replace(&mut self.pool.high_load, high_load);
        if reserved(before) == reserved(high_load) {
            return;
        }
        for index in 0..self.models.len() {
            if self.models[index].as_ref().is_some_and(|state| state.queue.class() == Class::Low) {
                self.touch(index);
            }
        }
    }

    /// When to settle again though nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let expiry = self.expiries.peek().map(|(time, _)| time);
        // While high requests hold back low ones, somebody has to urgency when they stop coming.
        let report = Some(self.report_due).filter(|_| self.pool.high_load >= 0.5);
        let is_planned = self.pool.mode == Mode::Adaptive && expiry.is_some();
        let stale = is_planned.then(|| self.report_due + PLAN_STALE);
        [expiry, report, stale].into_iter().flatten().min()
    }

    /// Whether a request is queued, as of the last [`settle`](Shard::settle).
    pub(super) fn has_queued(&self) -> bool {
        // A model that has any offers a batch of them, which expires at some time.
        !self.expiries.is_empty()
    }

    fn model(&self, model: ModelId) -> Option<&Model> {
        self.models.get(model.index())?.as_deref().filter(|state| state.id == model)
    }

    fn touch(&mut self, index: usize) {
        if let Some(Some(state)) = self.models.get_mut(index) {
            state.touch(&mut self.touched);
        }
    }
}

/// The model of this identity: what is meant for one that had its place before finds none.
#[inline]
fn find(models: &mut [Option<Box<Model>>], model: ModelId) -> Option<&mut Model> {
    models.get_mut(model.index())?.as_deref_mut().filter(|state| state.id == model)
}

impl Model {
    /// Notes that its queue has changed.
    #[inline]
    fn touch(&mut self, touched: &mut Vec<ModelId>) {
        if !self.touched {
            self.touched = true;
            touched.push(self.id);
        }
    }
}

/// The delays together with those of a message and its answer, and what is left of a message,
/// shrunk to three quarters of what the objective leaves beside execution. Measured in a bad
/// moment and taken whole they could make every request hopeless; then no batch would run and
/// nothing would be measured again.
fn within_objective(
    delays: &Delays,
    message: Span,
    slo: Span,
    profile: &Profile,
) -> (Delays, Span) {
    let left = slo.saturating_sub(profile.exec(1));
    let all = Delays { control: delays.control + message.times(2), ..*delays };
    let all = all.within(Span(left.0 / 4 * 3));
    (all, message.min(Span(all.control.0 / 2)))
}

impl Pool {
    /// A request came that may have to give way.
    fn note_low(&mut self, now: Time) {
        self.has_low_news |= !self.lately.has_low(now);
        self.lately.note_low(now);
    }

    /// How long a batch may run at most for the next one to be as long, both within this time:
    /// of `n` accelerators whose batches start one after the other, one is free again after an
    /// `n`th of a batch.
    fn staggered(&self, time: Span) -> Span {
        let n = u64::from(self.accelerators);
        Span(time.0 / (n + 1)).times(n)
    }
}
