//! The queues of some models: requests in, candidates out; grants in, batches out.
//!
//! Per request the work is constant: queue it and mark its model. Only when the inbox is
//! drained is each marked model looked at, once.

use super::drift::Drift;
use super::heap::IndexedHeap;
use super::lanes::{Choice, Lanes};
use super::needs::{HighDemand, Need, needs};
use super::plan::{Demand, ModelPlan};
use super::rate::RateEstimator;
use super::rule::{Outlook, Rule, rows_in_time};
use super::{Action, Actions, Candidate, Ended, Grant, ModelTerms, Offer, Reply, Start, Started};
use crate::ids::{BatchId, ModelId, RequestId};
use crate::pace::Pace;
use crate::profile::Profile;
use crate::request::{Class, Delays, DropReason, Request};
use crate::time::{Span, Time};

/// The share of low requests where none is set.
pub const LOW_SHARE_DEFAULT: f64 = 0.05;

/// High requests count as coming for as many of their objectives.
const HIGH_SEEN_SLOS: u64 = 8;

/// What high requests need beside the accelerators that they keep busy, where low batches are so
/// long that these cannot wait for them.
const SPARE: f64 = 0.5;

/// How often what high requests need is computed again.
const NEEDS_EVERY: Span = Span::from_millis(50);

/// Low requests count as coming for this long.
const LOW_SEEN: Span = Span::from_secs(1);

/// Low requests that got more than their share are taken to have had that of this long in advance.
pub(super) const SHARE_ADVANCE: Span = Span::from_secs(1);

/// Owns the queues of its models.
#[derive(Clone, Debug)]
pub struct Shard {
    pool: Pool,
    delays: Delays,
    models: Vec<Option<Model>>,
    /// Models whose queue changed since they were last looked at.
    touched: Vec<ModelId>,
    /// Spare room, swapped with `touched` while that is worked through.
    touched_before: Vec<ModelId>,
    /// When to look at a model again though nothing happened: its batch no longer meets its
    /// deadline.
    expiries: IndexedHeap<Time>,
    next_batch: u64,
    /// When to look again at what high requests need.
    needs_due: Time,
    /// Room for computing it.
    needs: Vec<Need>,
}

/// Counters of one model since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub pace: Pace,
}

/// What the models of a shard have in common.
#[derive(Clone, Copy, Debug)]
struct Pool {
    rule: Rule,
    accelerators: u32,
    /// Of the rows in batches of high requests, what low ones that wait are owed.
    low_share: f64,
    /// The tightest objective that high requests came with lately, and when one last did.
    tightest: (Span, Time),
    /// When a request last came that may have to give way: a low one, or one with an early deadline.
    low_seen: Option<Time>,
    /// Accelerators that high requests keep busy, by measured rates; zero while no low ones come.
    high_load: f64,
}

/// How low requests of a model run on their own.
#[derive(Clone, Copy, Debug)]
struct LowTerms {
    rows_max: u32,
    /// Accelerators to leave to high requests; a whole number.
    spared: f64,
}

#[derive(Clone, Debug)]
struct Model {
    terms: ModelTerms,
    /// The profile at the pace that plans count with.
    profile: Profile,
    drift: Drift,
    queue: Lanes,
    /// Arrivals of both classes.
    rate: RateEstimator,
    /// Arrivals of low requests.
    rate_low: RateEstimator,
    /// Rows that low requests are owed, for they waited while high ones ran.
    owed: f64,
    /// Measured arrivals of rows of high requests, and what these need; kept up to date while
    /// low ones come to the pool.
    high_per_ns: f64,
    need: Need,
    /// Arrivals of high requests that were set aside, and the share of the others.
    rate_aside: RateEstimator,
    kept: f64,
    /// The pool's delays, as far as the objective has room for them.
    delays: Delays,
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
    /// What the pool's load asks of it; looked at by the adaptive rule only.
    plan: ModelPlan,
    last_arrival: Option<Time>,
    /// Whether the pool's planner knows it to have requests.
    is_planned: bool,
    /// Requests that arrived, and those of them that were dropped.
    arrived: u64,
    dropped: u64,
    stats: ModelStatistics,
}

impl Shard {
    /// A shard without models that schedules by `rule`, for a pool of `accelerators`.
    #[must_use]
    pub fn new(rule: Rule, accelerators: u32) -> Shard {
        let tightest = (Span::MAX, Time::ZERO);
        Shard {
            pool: Pool {
                rule,
                accelerators,
                low_share: LOW_SHARE_DEFAULT,
                tightest,
                low_seen: None,
                high_load: 0.0,
            },
            delays: Delays::default(),
            models: Vec::new(),
            touched: Vec::new(),
            touched_before: Vec::new(),
            expiries: IndexedHeap::new(),
            next_batch: 0,
            needs_due: Time::ZERO,
            needs: Vec::new(),
        }
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
        *slot = Some(Model {
            rate: RateEstimator::new(terms.slo),
            delays: within_objective(&self.delays, terms.slo, &terms.profile),
            profile: Profile::clone(&terms.profile),
            drift: Drift::new(),
            rate_low: RateEstimator::new(terms.slo),
            owed: 0.0,
            high_per_ns: 0.0,
            need: Need::default(),
            rate_aside: RateEstimator::new(terms.slo),
            kept: 1.0,
            terms,
            queue: Lanes::default(),
            overrun: Span::ZERO,
            running: 0,
            idle_since: Some(Time::ZERO),
            touched: false,
            closing: false,
            answered: 0,
            published: None,
            plan: ModelPlan::default(),
            last_arrival: None,
            is_planned: false,
            arrived: 0,
            dropped: 0,
            stats: ModelStatistics::default(),
        });
    }

    /// Keeps this share of the rows in batches of high requests for low ones that wait.
    pub fn set_low_share(&mut self, share: f64) {
        self.pool.low_share = share;
    }

    /// Takes no more requests for a model; its queue runs empty.
    pub fn close(&mut self, model: ModelId) {
        if let Some(Some(state)) = self.models.get_mut(model.index()) {
            state.closing = true;
        }
    }

    /// Whether a model is closing and nothing of it is queued.
    #[must_use]
    pub fn is_closed(&self, model: ModelId) -> bool {
        self.model(model).is_some_and(|state| state.closing && state.queue.is_empty())
    }

    /// Forgets a model.
    ///
    /// # Panics
    /// When it is not closed.
    pub fn remove(&mut self, model: ModelId) {
        assert!(self.is_closed(model), "{model:?} still has requests");
        self.expiries.remove(model.0);
        self.touched.retain(|other| *other != model);
        self.models[model.index()] = None;
    }

    /// Replaces the measured delays; every window is computed again.
    pub fn set_delays(&mut self, delays: Delays) {
        self.delays = delays;
        for index in 0..self.models.len() {
            if let Some(state) = &mut self.models[index] {
                state.delays = within_objective(&delays, state.terms.slo, &state.profile);
                self.touch(index);
            }
        }
    }

    /// Replaces what this model's batches were measured to run longer than planned.
    pub fn set_overrun(&mut self, model: ModelId, overrun: Span) {
        if let Some(Some(state)) = self.models.get_mut(model.index()) {
            state.overrun = overrun;
            self.touch(model.index());
        }
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        let state = self.model(model)?;
        let (queued, pace) = (state.queue.len() as u64, state.profile.pace());
        Some(ModelStatistics { queued, pace, ..state.stats })
    }

    /// Queues a request, or drops it at once when it can never run.
    pub fn arrive(&mut self, now: Time, model: ModelId, request: Request, todo: &mut Actions) {
        let state = self.models.get_mut(model.index()).and_then(Option::as_mut);
        let refusal = match &state {
            None => Some(DropReason::Unloaded),
            Some(state) => state.refusal(&request),
        };
        if let Some(reason) = refusal {
            todo.list.push(Action::Drop { model, request, reason });
        }
        let Some(state) = state else { return };
        // A request that can never run promises nothing to others. Any other refused one counts
        // towards the rate: it is part of the load.
        if refusal == Some(DropReason::TooLarge) {
            return;
        }
        let idle = state.idle_since.map(|since| now.since(since));
        state.rate.record(now, request.rows, idle);
        state.last_arrival = Some(now);
        match request.class {
            Class::High => {
                state.arrived += 1;
                state.dropped += u64::from(refusal.is_some());
                self.pool.note_high(now, state.terms.slo);
            }
            Class::Low => {
                self.pool.low_seen = Some(now);
                state.rate_low.record(now, request.rows, idle);
            }
        }
        if refusal.is_none() {
            if state.is_full()
                && let Some(request) = state.queue.evict()
            {
                todo.list.push(Action::Drop { model, request, reason: DropReason::Evicted });
            }
            state.idle_since = None;
            let aside = self.pool.rule != Rule::Eager && state.is_early(&request) && {
                self.pool.low_seen = Some(now);
                state.rows_allowed(&self.pool, &request) < state.need.rows
            };
            if aside {
                state.rate_aside.record(now, request.rows, idle);
            }
            state.queue.push(request, aside);
            self.touch(model.index());
        }
    }

    /// A batch of a model ended.
    pub fn complete(&mut self, now: Time, ended: Ended) {
        let Ended { model, ratio } = ended;
        let Some(Some(state)) = self.models.get_mut(model.index()) else { return };
        state.running = state.running.saturating_sub(1);
        state.note_idle(now);
        if let Some(ratio) = ratio {
            state.drift.record(now, ratio);
            if state.follow(&self.delays) {
                self.touch(model.index());
            }
        }
    }

    /// Takes a request out of its queue, if it is there.
    pub fn cancel(&mut self, model: ModelId, request: RequestId, deadline: Time) {
        let Some(Some(state)) = self.models.get_mut(model.index()) else { return };
        if state.queue.remove(request, deadline).is_some() {
            self.touch(model.index());
        }
    }

    /// Looks once at every model that was touched or whose batch no longer meets its deadline:
    /// drops what has to be dropped and hands each changed candidate to `publish`.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, mut publish: impl FnMut(Candidate)) {
        self.refresh_needs(now);
        while let Some((expiry, index)) = self.expiries.peek()
            && expiry <= now
        {
            self.expiries.remove(index);
            self.touch(index as usize);
        }
        std::mem::swap(&mut self.touched, &mut self.touched_before);
        for model in self.touched_before.drain(..) {
            let Some(state) = self.models[model.index()].as_mut() else { continue };
            state.touched = false;
            state.drift.forget(now);
            state.follow(&self.delays);
            let offer = state.offer(model, &self.pool, now, todo);
            state.note_idle(now);
            let expiry = offer.map(|offer| offer.latest + Span(1));
            match expiry.into_iter().chain(state.low_expiry()).min() {
                Some(expiry) => self.expiries.set(model.0, expiry),
                None => self.expiries.remove(model.0),
            }
            let candidate = Candidate { model, generation: state.answered, offer };
            if state.published != Some(candidate) {
                state.published = Some(candidate);
                publish(candidate);
            }
        }
    }

    /// Looks now and then at what high requests need, as long as there are low ones to hold back.
    fn refresh_needs(&mut self, now: Time) {
        if now < self.needs_due || self.pool.low_seen.is_none() {
            return;
        }
        self.needs_due = now + NEEDS_EVERY;
        if !self.pool.has_low(now) {
            self.pool.low_seen = None;
            self.pool.high_load = 0.0;
            return;
        }
        for state in self.models.iter_mut().flatten() {
            let low = state.rate_low.rows_per_ns(now);
            state.high_per_ns = (state.rate.rows_per_ns(now) - low).max(0.0);
            let aside =
                state.rate_aside.rows_per_ns(now) / state.high_per_ns.max(f64::MIN_POSITIVE);
            state.kept = (1.0 - aside).clamp(0.0, 1.0);
        }
        self.needs.clear();
        let demands = self.models.iter().flatten().map(Model::high_demand);
        self.pool.high_load = needs(demands, self.pool.accelerators, &mut self.needs);
        for (state, need) in self.models.iter_mut().flatten().zip(&self.needs) {
            state.need = *need;
        }
    }

    /// Answers a grant: seals the largest batch that, started on this accelerator, meets its
    /// deadline. Requests may have come or gone since the candidate was made.
    pub fn grant(&mut self, now: Time, grant: Grant, todo: &mut Actions) -> Reply {
        let Grant { model, accelerator, free, lag } = grant;
        self.touch(model.index());
        let declined = Reply { model, accelerator, started: None };
        let Some(Some(state)) = self.models.get_mut(model.index()) else { return declined };
        state.answered = state.answered.wrapping_add(1);
        let choice = state.sealable(&self.pool, now, free, lag);
        let (count, rows) = (choice.count(), choice.rows());
        if count == 0 {
            return declined;
        }
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let first = todo.requests.len();
        state.account(&choice, self.pool.low_share);
        state.queue.take(&choice, &mut todo.requests);
        state.running += 1;
        state.stats.batches += 1;
        state.stats.requests += count as u64;
        state.stats.rows += u64::from(rows);
        let lead = state.delays.lead(rows);
        let begin = free.max(now + lead);
        let table = state.terms.profile.exec(rows);
        let exec = state.profile.pace().times(lag).stretch(table);
        let requests = first..todo.requests.len();
        let start = Start { batch, accelerator, model, requests, rows, begin, exec };
        todo.list.push(Action::Start(start));
        let started = Started { batch, ready: now + lead, exec, table, lead };
        Reply { started: Some(started), ..declined }
    }

    /// Schedules by another rule from now on; every candidate is made again.
    pub fn set_rule(&mut self, rule: Rule) {
        self.pool.rule = rule;
        for index in 0..self.models.len() {
            if let Some(state) = &mut self.models[index] {
                state.plan = ModelPlan::default();
                state.is_planned = false;
                self.touch(index);
            }
        }
    }

    /// Hands what was measured of each model that has requests, or has none any more, to `report`,
    /// for the next plan of the pool.
    pub fn demands(&mut self, now: Time, mut report: impl FnMut(Demand)) {
        for (model, slot) in (0u32..).map(ModelId).zip(&mut self.models) {
            let Some(state) = slot else { continue };
            let is_present = state.last_arrival.is_some_and(|at| now.since(at) < PRESENT_FOR);
            if is_present || state.is_planned {
                report(state.demand(model, now, is_present));
            }
            state.is_planned = is_present;
        }
    }

    /// Takes what the pool's load asks of a model in place of what it asked before.
    pub fn set_plan(&mut self, model: ModelId, plan: ModelPlan) {
        let Some(Some(state)) = self.models.get_mut(model.index()) else { return };
        let is_new = state.plan != plan;
        state.plan = plan;
        if is_new && !state.queue.is_empty() {
            self.touch(model.index());
        }
    }

    /// When to settle again though nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let expiry = self.expiries.peek().map(|(time, _)| time);
        // While high requests hold back low ones, somebody has to notice when they stop coming.
        let needs = Some(self.needs_due).filter(|_| self.pool.high_load >= 0.5);
        expiry.into_iter().chain(needs).min()
    }

    fn model(&self, model: ModelId) -> Option<&Model> {
        self.models.get(model.index())?.as_ref()
    }

    #[expect(clippy::cast_possible_truncation, reason = "models are indexed by u32 identities")]
    fn touch(&mut self, index: usize) {
        if let Some(Some(state)) = self.models.get_mut(index)
            && !state.touched
        {
            state.touched = true;
            self.touched.push(ModelId(index as u32));
        }
    }
}

/// A model that had a request within this time is one that others leave room for.
const PRESENT_FOR: Span = Span::from_secs(60);

/// The delays, shrunk to three quarters of what the objective leaves beside execution. Measured
/// in a bad moment and taken whole they could make every request hopeless; then no batch would
/// run and nothing would be measured again.
fn within_objective(delays: &Delays, slo: Span, profile: &Profile) -> Delays {
    let left = slo.saturating_sub(profile.exec(1));
    delays.within(Span(left.0 / 4 * 3))
}

impl Pool {
    /// A high request came, with this objective.
    fn note_high(&mut self, now: Time, slo: Span) {
        let (tightest, seen) = self.tightest;
        if slo <= tightest || now.since(seen) > tightest.times(HIGH_SEEN_SLOS) {
            self.tightest = (slo, now);
        }
    }
}

impl Pool {
    /// Whether low requests come.
    fn has_low(&self, now: Time) -> bool {
        self.low_seen.is_some_and(|seen| now.since(seen) <= LOW_SEEN)
    }
}

impl Model {
    /// Plans with the pace that was measured, as far as a mean request alone is still done in
    /// three quarters of the objective: nothing is measured of batches that never run. Whether
    /// it changed.
    fn follow(&mut self, delays: &Delays) -> bool {
        let ModelTerms { profile, slo, .. } = &self.terms;
        let ModelStatistics { rows, requests, .. } = self.stats;
        let rows = u32::try_from(rows.div_ceil(requests.max(1))).unwrap_or(u32::MAX).max(1);
        let most = Pace::of(Span(slo.0 / 4 * 3), profile.exec(rows)).max(Pace::ONE);
        let pace = self.drift.pace().min(most);
        if pace == self.profile.pace() {
            return false;
        }
        self.profile.set_pace(pace);
        self.delays = within_objective(delays, *slo, &self.profile);
        true
    }

    /// What was measured of the model.
    fn demand(&mut self, model: ModelId, now: Time, is_present: bool) -> Demand {
        let Delays { control, data, response, .. } = self.delays;
        let taken = control + response + self.overrun_allowance();
        Demand {
            model,
            profile: self.profile.clone(),
            data,
            room: self.terms.slo.saturating_sub(taken),
            slo: self.terms.slo,
            rows_per_ns: self.rate.rows_per_ns(now),
            dispersion: self.rate.dispersion(),
            is_present,
            weight: 1.0,
            arrived: self.arrived,
            dropped: self.dropped,
        }
    }

    /// Whether a high request came with a deadline of its own that leaves it noticeably less time
    /// than the objective does.
    fn is_early(&self, request: &Request) -> bool {
        let allowed = request.deadline.since(request.arrival);
        request.class == Class::High && allowed < Span(self.terms.slo.0 / 8 * 7)
    }

    /// The largest batch that the time allows which a request came with, in a pool whose
    /// accelerators start one after the other.
    fn rows_allowed(&self, pool: &Pool, request: &Request) -> u32 {
        let after =
            self.delays.response + self.overrun_allowance() + self.delays.lead(request.rows);
        let budget = request.deadline.since(request.arrival).saturating_sub(after);
        let n = u64::from(pool.accelerators);
        self.terms.profile.rows_within(Span(budget.0 / (n + 1)).times(n))
    }

    /// What its high requests ask of the pool.
    fn high_demand(&self) -> HighDemand<'_> {
        let after = self.delays.response + self.overrun_allowance();
        HighDemand {
            profile: &self.profile,
            delays: &self.delays,
            budget: self.terms.slo.saturating_sub(after),
            rows_per_ns: self.high_per_ns,
            kept: self.kept,
        }
    }

    /// Why a request can never run here.
    fn refusal(&self, request: &Request) -> Option<DropReason> {
        if self.closing {
            Some(DropReason::Unloaded)
        } else if request.rows == 0 || request.rows > self.terms.profile.rows_max() {
            Some(DropReason::TooLarge)
        } else if self.is_full() && (request.class == Class::Low || !self.queue.can_evict()) {
            Some(DropReason::QueueFull)
        } else {
            None
        }
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= self.terms.queue_max as usize
    }

    /// Drops what stands in the way and says when the rest may run.
    fn offer(
        &mut self,
        model: ModelId,
        pool: &Pool,
        now: Time,
        todo: &mut Actions,
    ) -> Option<Offer> {
        let delays = self.delays;
        self.drop_late_low(model, now, todo);
        loop {
            let head = *self.queue.leading().head()?;
            let outlook = self.outlook(pool, &head, now, now);
            let count = match outlook.rows {
                0 => 1,
                _ => self.in_the_way(pool, now, &head, &outlook),
            };
            if count == 0 {
                let window = pool.rule.window(&self.profile, &delays, now, &outlook, &self.plan);
                return Some(Offer {
                    exec: window.exec,
                    firm: window.firm,
                    latest: window.latest,
                    turn: Time(window.latest.0.saturating_sub(self.plan.advance.0)),
                    tier: self.plan.tier,
                    lead: delays.lead(outlook.rows),
                    due: outlook.due,
                    alone: self.profile.exec(head.rows),
                    class: self.queue.class(),
                    exec_span: self.profile.exec(outlook.rows),
                    spared: self.low_terms(pool, now).spared,
                    expected: self.expected(&outlook).clamp(now, window.exec),
                });
            }
            for _ in 0..count {
                let Some(request) = self.queue.leading_mut().pop_head() else { break };
                self.dropped +=
                    u64::from(request.class == Class::High && self.had_a_chance(&request));
                let reason = match self.runs_alone(now, &request) {
                    true => DropReason::Overload,
                    false => DropReason::Hopeless,
                };
                todo.list.push(Action::Drop { model, request, reason });
            }
        }
    }

    /// When the batch that will have gathered has to be sent.
    fn expected(&self, outlook: &Outlook) -> Time {
        let rows = outlook.rows.max(self.need.gathered);
        outlook.due - self.profile.exec(rows) - self.delays.lead(rows)
    }

    /// The largest batch from the head on, for an accelerator that is free from `free`; fitted
    /// into the queue's prefix.
    fn outlook(&mut self, pool: &Pool, head: &Request, now: Time, free: Time) -> Outlook {
        if let Some(outlook) = self.together(pool, now, free) {
            return outlook;
        }
        let rows_max = match head.class {
            Class::High => u32::MAX,
            Class::Low => self.low_terms(pool, now).rows_max.max(head.rows),
        };
        let delays = &self.delays;
        let profile = &self.profile;
        let end = head.deadline - delays.response;
        let mut due = end - self.overrun_allowance();
        let room = rows_in_time(profile, delays, now, free, due);
        let queue = self.queue.leading_mut();
        let mut prefix = queue.fit(room.min(rows_max));
        if prefix.count == 0 {
            // What is left free for a long execution is left so by choice; a request that
            // only needs that room runs in it.
            due = end;
            let room = rows_in_time(profile, delays, now, free, due);
            prefix = queue.fit(room.min(rows_max));
        }
        let next = queue.rows_behind(prefix.count);
        Outlook {
            arrival: head.arrival,
            due,
            rows: prefix.rows,
            next,
            together: false,
            low_waits: self.queue.is_mixed() && prefix.rows >= self.need.rows,
            request_rows: self.queue.leading().request_rows(),
            companions_per_ns: self.rate.companions_per_ns(now),
        }
    }

    /// The batch of everything that is queued, high and low, if that is one that meets every
    /// deadline.
    fn together(&mut self, pool: &Pool, now: Time, free: Time) -> Option<Outlook> {
        if !self.queue.is_mixed() {
            return None;
        }
        let rows = u32::try_from(self.queue.rows()).ok()?;
        let (deadline, arrival) = self.queue.earliest()?;
        let due = deadline - self.delays.response - self.overrun_allowance();
        let room = rows_in_time(&self.profile, &self.delays, now, free, due);
        (rows <= room.min(self.low_rows_max(pool, now))).then(|| Outlook {
            arrival,
            due,
            rows,
            next: None,
            together: true,
            low_waits: false,
            request_rows: self.queue.leading().request_rows(),
            companions_per_ns: self.rate.companions_per_ns(now),
        })
    }

    /// The largest batch that low requests may make where high ones have to wait for it. With `n`
    /// accelerators, each busy for at most `n / (n + 1)` of the tightest objective, the next is
    /// free early enough for a batch as long.
    fn low_rows_max(&self, pool: &Pool, now: Time) -> u32 {
        let (slo, seen) = pool.tightest;
        if now.since(seen) > slo.times(HIGH_SEEN_SLOS) || slo == Span::MAX {
            return u32::MAX;
        }
        let n = u64::from(pool.accelerators);
        let longest = Span(slo.0 / (n + 1)).times(n);
        self.profile.rows_within(longest).max(1)
    }

    /// How low requests run on their own: in short batches on all accelerators that high ones do
    /// not keep busy all the time, or in long ones on those that these can do without; whichever
    /// serves more.
    fn low_terms(&self, pool: &Pool, now: Time) -> LowTerms {
        let profile = &self.profile;
        let rows_short = self.low_rows_max(pool, now);
        let rows_long = profile.rows_within(self.terms.slo).max(1);
        if rows_short >= rows_long {
            return LowTerms { rows_max: u32::MAX, spared: pool.high_load.floor() };
        }
        let served = |rows: u32, spared: f64| {
            let accelerators = (f64::from(pool.accelerators) - spared).max(0.0);
            accelerators * f64::from(rows) / profile.exec(rows).0 as f64
        };
        let (short, long) = (pool.high_load.floor(), (pool.high_load + SPARE).ceil());
        if served(rows_long, long) > served(rows_short, short) {
            LowTerms { rows_max: u32::MAX, spared: long }
        } else {
            LowTerms { rows_max: rows_short, spared: short }
        }
    }

    /// What is left free for executions that run longer than planned: a quarter of the room that
    /// the objective has for them at most. More of it makes batches so small that the throughput
    /// it costs loses many more requests than are in time by it.
    fn overrun_allowance(&self) -> Span {
        let Model { terms, profile, delays, .. } = self;
        let taken = profile.exec(1) + delays.lead(1) + delays.response;
        self.overrun.min(Span(terms.slo.saturating_sub(taken).0 / 4))
    }

    /// Whether a request would have met its deadline alone, started when it arrived. One that would
    /// not is no loss that any schedule could have spared its model.
    fn had_a_chance(&self, request: &Request) -> bool {
        self.runs_alone(request.arrival, request)
    }

    /// Whether a request would meet its deadline alone, started now.
    fn runs_alone(&self, now: Time, request: &Request) -> bool {
        let due = request.deadline - self.delays.response;
        rows_in_time(&self.profile, &self.delays, now, now, due) >= request.rows
    }

    /// How many heads to drop for the sake of those behind them.
    fn in_the_way(&mut self, pool: &Pool, now: Time, head: &Request, outlook: &Outlook) -> usize {
        match pool.rule {
            Rule::Eager => 0,
            Rule::Adaptive if !self.plan.is_overloaded => self.worth_dropping(pool, now, outlook),
            Rule::Adaptive | Rule::Deferred => {
                usize::from(self.stands_in_the_way(pool, now, head, outlook))
            }
        }
    }

    /// How many heads to drop so that the batch behind them, up to the one that the load needs,
    /// gains most rows over the price of those that are dropped.
    fn worth_dropping(&self, pool: &Pool, now: Time, outlook: &Outlook) -> usize {
        let ModelPlan { target, price, .. } = self.plan;
        let queue = self.queue.leading();
        let target = target.min(self.target_max(pool, now));
        if outlook.next.is_none() || outlook.rows >= target || self.is_deferring(now) {
            return 0;
        }
        let after = self.delays.response + self.overrun_allowance();
        let mut left = queue.rows();
        let (mut best, mut most, mut paid) = (0, f64::from(outlook.rows), 0.0);
        for count in 1..queue.len() {
            let (Some(head), Some(next)) = (queue.get(count - 1), queue.get(count)) else {
                break;
            };
            left -= u64::from(head.rows);
            paid += price * f64::from(head.rows);
            // Not even a batch of the target size would be worth it from here on.
            if left <= u64::from(outlook.rows) || f64::from(target) - paid <= most {
                break;
            }
            let due = next.deadline - after;
            let room = rows_in_time(&self.profile, &self.delays, now, now, due);
            let rows = u64::from(room.min(target)).min(left) as f64;
            if rows - paid > most {
                (best, most) = (count, rows - paid);
            }
        }
        best
    }

    /// The largest batch for which a head may be dropped. Low ones give way first: a batch that
    /// suffices for the high ones is large enough for them.
    fn target_max(&self, pool: &Pool, now: Time) -> u32 {
        match self.queue.class() {
            Class::High if pool.has_low(now) => self.need.rows,
            Class::High => u32::MAX,
            Class::Low => self.low_terms(pool, now).rows_max,
        }
    }

    /// Whether the head leaves out a request that a batch of the target size would take in. The
    /// number of rows alone does not tell: one request of eight fills a target of ten.
    fn stands_in_the_way(
        &mut self,
        pool: &Pool,
        now: Time,
        head: &Request,
        outlook: &Outlook,
    ) -> bool {
        let Some(next) = outlook.next.filter(|_| !self.is_deferring(now)) else { return false };
        let allowed = head.deadline.since(head.arrival);
        let after = self.delays.response + self.overrun_allowance();
        let budget = allowed.saturating_sub(after);
        let low_per_ns = self.rate_low.rows_per_ns(now);
        let rows_per_ns = match head.class {
            Class::High => (self.rate.rows_per_ns(now) - low_per_ns).max(0.0),
            Class::Low => low_per_ns,
        };
        let target = pool.rule.drop_target(&self.profile, &self.delays, budget, rows_per_ns);
        let target = target.min(self.target_max(pool, now));
        next <= target.saturating_sub(outlook.rows)
    }

    /// Whether the batch was still held back for company. It has not had its chance to start.
    fn is_deferring(&self, now: Time) -> bool {
        let current = self.published.filter(|published| published.generation == self.answered);
        current.and_then(|published| published.offer).is_some_and(|offer| offer.exec > now)
    }

    /// The batch to run on an accelerator that is free from `free`, if its window is open. On
    /// one that lags it is as large as is in time there; whether to start at all does not depend
    /// on the lag, for the candidate was made without it.
    fn sealable(&mut self, pool: &Pool, now: Time, free: Time, lag: Pace) -> Choice {
        let delays = self.delays;
        let Some(head) = self.queue.leading().head().copied() else { return Choice::default() };
        let outlook = self.outlook(pool, &head, now, free);
        if outlook.rows == 0 {
            return Choice::default();
        }
        // What the candidate was made of: on an accelerator that is free later, high and low ones
        // may no longer go together, and the high ones alone would wait for company.
        let offered = match self.queue.is_mixed() {
            true => self.outlook(pool, &head, now, now),
            false => outlook,
        };
        let window = pool.rule.window(&self.profile, &delays, now, &offered, &self.plan);
        if window.exec > now {
            return Choice::default();
        }
        if lag == Pace::ONE {
            return self.chosen(pool, &outlook, now, free);
        }
        let usual = self.profile.pace();
        self.profile.set_pace(usual.times(lag));
        let outlook = self.outlook(pool, &head, now, free);
        let choice = match outlook.rows {
            0 => Choice::default(),
            _ => self.chosen(pool, &outlook, now, free),
        };
        self.profile.set_pace(usual);
        choice
    }

    /// The batch of this outlook.
    fn chosen(&mut self, pool: &Pool, outlook: &Outlook, now: Time, free: Time) -> Choice {
        if outlook.together {
            return self.queue.all();
        }
        if !self.queue.is_mixed() {
            let leading = self.queue.leading_mut().fit(outlook.rows);
            return Choice { leading, ..Choice::default() };
        }
        self.filled(pool, outlook, now, free)
    }

    /// The batch of high requests of this outlook, and the low ones that ride with them.
    fn filled(&mut self, pool: &Pool, outlook: &Outlook, now: Time, free: Time) -> Choice {
        let low_rows_max = self.low_rows_max(pool, now);
        let after = self.delays.response + self.overrun_allowance();
        let Model { profile, delays, queue, .. } = self;
        let leading = queue.leading_mut().fit(outlook.rows);
        let room = rows_in_time(profile, delays, now, free, outlook.due);
        let room = room.min(low_rows_max.max(leading.rows));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a batch"
        )]
        let kept = self.owed as u32;
        queue.fill(leading, room, kept, |rows, deadline| {
            let begin = free.max(now + delays.lead(rows));
            begin + profile.exec(rows) <= deadline - after
        })
    }

    /// Notes what low requests are owed now that this batch runs: a share of the rows of high
    /// ones while any of them is left waiting, less what runs.
    fn account(&mut self, choice: &Choice, share: f64) {
        let (earned, paid) = match self.queue.class() {
            Class::Low => (0.0, choice.leading.rows),
            Class::High if self.queue.low().len() > choice.riders.len() => {
                (share * f64::from(choice.leading.rows), choice.rider_rows)
            }
            Class::High => (0.0, choice.rider_rows),
        };
        let advance = share * self.high_per_ns * SHARE_ADVANCE.0 as f64;
        let most = f64::from(self.terms.profile.rows_max());
        self.owed = (self.owed + earned - f64::from(paid)).clamp(-advance, most);
    }

    /// Drops low requests behind high ones that can no longer finish in time.
    fn drop_late_low(&mut self, model: ModelId, now: Time, todo: &mut Actions) {
        while let Some(latest) = self.low_expiry()
            && latest <= now
            && let Some(request) = self.queue.low_mut().pop_head()
        {
            todo.list.push(Action::Drop { model, request, reason: DropReason::Hopeless });
        }
    }

    /// When the first low request behind high ones can no longer finish in time, even alone.
    fn low_expiry(&self) -> Option<Time> {
        let head = self.queue.low().head().filter(|_| self.queue.is_mixed())?;
        let end = head.deadline - self.delays.response;
        let needed = self.profile.exec(head.rows) + self.delays.lead(head.rows);
        // Saturating: one that never had that much time is late from the beginning.
        Some(if end.0 < needed.0 { Time::ZERO } else { end - needed + Span(1) })
    }

    /// Remembers since when the model has had nothing to do.
    fn note_idle(&mut self, now: Time) {
        if self.queue.is_empty() && self.running == 0 && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }
}
