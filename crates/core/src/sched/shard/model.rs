//! One model of a shard: its queue, and what is known of it. Knows no other model but by what the
//! pool has in common.
//!
//! In: requests, grants, ends of batches, plans. Out: offers, sealed batches, dropped requests, what
//! was measured.

use super::arrivals::{MeasuredRates, ModelArrivals};
use super::dropping::{had_a_chance, low_expiry};
use super::offering::tier;
use super::pool::PoolView;
use super::published::Published;
use super::situation::Situation;
use super::statistics::ModelStatistics;
use super::timing::{ModelTiming, Stage};
use crate::ids::{ModelId, Origin, RequestId};
use crate::profile::Profile;
use crate::request::{Class, DropReason, Objective, Request};
use crate::sched::action::{Action, Actions, Start};
use crate::sched::class_queues::{Choice, ClassQueues};
use crate::sched::event::ModelTerms;
use crate::sched::low_share::{Deficit, debt_max};
use crate::sched::message::{Candidate, Grant, ModelDemand, ModelPlan, Reply, SentBatch, Tier};
use crate::sched::mode::Mode;
use crate::sched::times::ModelTimes;
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use std::sync::Arc;

/// Whether a model takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It does.
    Open,
    /// It takes no more requests, and some may be queued.
    Closing,
    /// No request is queued, and the matcher knows it.
    Closed,
}

/// One model of a shard.
#[derive(Clone, Debug)]
pub(super) struct QueuedModel {
    id: ModelId,
    terms: ModelTerms,
    timing: ModelTiming,
    times: ModelTimes,
    queue: ClassQueues,
    arrivals: ModelArrivals,
    /// Rows that low requests are owed, because they waited while high ones ran.
    deficit: Deficit,
    /// What the pool's load asks of it.
    plan: ModelPlan,
    published: Published,
    /// Requests queued, as its model's other lanes know it.
    counted: usize,
    /// The most requests that may be queued here: the bound, less what its model's other lanes have
    /// queued.
    queue_max: usize,
    /// A high request that came with less time than this is early; zero without an objective.
    early_below: Span,
    /// Batches sent and not ended.
    running: u32,
    life: Life,
    /// Whether it stands on the list of models to look at.
    is_touched: bool,
    /// Whether the pool's planner knows it to have requests.
    is_planned: bool,
    stats: ModelStatistics,
}

impl QueuedModel {
    pub(super) fn new(id: ModelId, terms: ModelTerms, pool: &PoolView) -> QueuedModel {
        let profile = Profile::clone(&terms.profile);
        let slo = terms.objective.span();
        let (patience, early_below) = match terms.objective {
            Objective::Slo(slo) => (Span::MAX, Span(slo.0 / 8 * 7)),
            Objective::Soft(span) => (span, Span::ZERO),
        };
        let mut model = QueuedModel {
            id,
            timing: ModelTiming::new(slo, profile, &pool.delays, pool.message),
            times: ModelTimes::new(terms.profile.spread(1)),
            queue: ClassQueues::new(patience),
            arrivals: ModelArrivals::new(slo),
            deficit: Deficit::default(),
            plan: ModelPlan::default(),
            published: Published::default(),
            counted: 0,
            queue_max: terms.queue_max as usize,
            early_below,
            running: 0,
            life: Life::Open,
            is_touched: false,
            is_planned: false,
            stats: ModelStatistics::default(),
            terms,
        };
        model.follow_spread(0.0);
        model
    }

    #[inline]
    pub(super) fn id(&self) -> ModelId {
        self.id
    }

    /// The first lane of its model, if that has several.
    #[inline]
    pub(super) fn lane_of(&self) -> Option<ModelId> {
        self.terms.lane_of
    }

    /// Its model's lanes have so many requests queued, with its own as they were counted last.
    #[inline]
    pub(super) fn note_others(&mut self, queued: usize) {
        let others = queued - self.counted;
        self.queue_max = (self.terms.queue_max as usize).saturating_sub(others);
    }

    /// How many requests it had queued when this was asked last, and has now.
    #[inline]
    pub(super) fn count_queued(&mut self) -> (usize, usize) {
        let now = self.queue.len();
        (std::mem::replace(&mut self.counted, now), now)
    }

    /// Puts it on the list of models to look at.
    #[inline]
    pub(super) fn touch(&mut self, touched: &mut Vec<ModelId>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(self.id);
        }
    }

    /// Takes it off the list; whether it stood there.
    #[inline]
    pub(super) fn take_touched(&mut self) -> bool {
        std::mem::take(&mut self.is_touched)
    }

    /// Counters.
    pub(super) fn stats(&self) -> ModelStatistics {
        let (queued, slowdown) = (self.queue.len() as u64, self.slowdown());
        let (spread, margin) = (self.times.spread(), self.timing.margins().row);
        let (plan, lane_of) = (self.plan, self.terms.lane_of);
        ModelStatistics { queued, slowdown, spread, margin, plan, lane_of, ..self.stats }
    }

    /// How many times longer than by the profile as it was loaded its batches run on average.
    #[inline]
    pub(super) fn slowdown(&self) -> Slowdown {
        self.timing.profile().slowdown()
    }

    /// Whether batches of high requests with an objective go before its next one.
    pub(super) fn gives_way(&self) -> bool {
        tier(self.terms.objective, self.queue.class()) != Tier::High
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether requests came lately.
    pub(super) fn is_present(&self, now: Time) -> bool {
        self.arrivals.is_present(now)
    }

    /// Gives back the room for requests that the queue has no use for.
    pub(super) fn release_room(&mut self) {
        self.queue.release();
    }

    /// Queues a request, or drops it at once when it can never run; whether it is queued.
    #[inline]
    pub(super) fn arrive(
        &mut self,
        pool: &mut PoolView,
        now: Time,
        request: Request,
        todo: &mut Actions,
    ) -> bool {
        // A request that can never run promises nothing to others. Any other refused request counts
        // towards the rate: it is part of the load.
        let refusal = self.refusal(pool, now, &request);
        if refusal != Some(DropReason::TooLarge) {
            self.note_arrival(pool, now, &request);
        }
        if let Some(reason) = refusal {
            self.refuse(request, reason, todo);
            return false;
        }
        if self.is_full() && !self.make_room(&request, todo) {
            self.refuse(request, DropReason::QueueFull, todo);
            return false;
        }
        self.arrivals.end_idle();
        let is_early = pool.mode != Mode::Eager && self.is_early(&request);
        if is_early {
            pool.note_low(now);
        }
        let demoted = is_early && self.is_demoted(pool, &request);
        if demoted {
            self.arrivals.record_demoted(now, request.rows);
        }
        self.queue.push(request, demoted);
        true
    }

    /// Why a request can never run here, whatever is queued. A request that is late already is not
    /// queued to be dropped with more effort later: after a stall there may be very many.
    #[inline]
    fn refusal(&self, pool: &PoolView, now: Time, request: &Request) -> Option<DropReason> {
        if self.life != Life::Open {
            Some(DropReason::Unloaded)
        } else if request.rows == 0 || request.rows > self.timing.profile().rows_max() {
            Some(DropReason::TooLarge)
        } else if request.deadline < now + self.timing.least_now(pool.is_behind) {
            let is_hopeless = request.deadline < now + self.timing.least();
            Some(if is_hopeless { DropReason::Hopeless } else { DropReason::Overload })
        } else {
            None
        }
    }

    /// Counts a request towards the rate.
    #[inline]
    fn note_arrival(&mut self, pool: &mut PoolView, now: Time, request: &Request) {
        self.arrivals.record(now, request);
        match tier(self.terms.objective, request.class) {
            Tier::High => pool.traffic.note_high(now, self.terms.objective.span()),
            Tier::Low | Tier::BestEffort => pool.note_low(now),
        }
    }

    /// Drops a request that came.
    #[cold]
    fn refuse(&mut self, request: Request, reason: DropReason, todo: &mut Actions) {
        todo.list.push(Action::Drop { model: self.id, request, reason });
        let is_loss = match reason {
            DropReason::TooLarge => false,
            DropReason::Hopeless => had_a_chance(&self.timing.at(Stage::Offered), &request),
            _ => true,
        };
        if request.class == Class::High && is_loss {
            self.arrivals.record_drop();
        }
    }

    /// Whether it and its model's other lanes have as many requests queued as they may.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.queue_max
    }

    /// Gives a high request the place of a low one in a full queue, if there is one.
    fn make_room(&mut self, request: &Request, todo: &mut Actions) -> bool {
        request.class == Class::High && self.evict(todo)
    }

    /// Drops the low request that is due last, if there is one.
    pub(super) fn evict(&mut self, todo: &mut Actions) -> bool {
        let Some(request) = self.queue.evict() else { return false };
        let (model, reason) = (self.id, DropReason::Evicted);
        todo.list.push(Action::Drop { model, request, reason });
        true
    }

    /// Whether it has a low request that can give its place to a high one.
    pub(super) fn can_evict(&self) -> bool {
        self.queue.low().tail().is_some_and(|tail| tail.class == Class::Low)
    }

    /// Whether a high request came with a deadline of its own that leaves it noticeably less time
    /// than the objective does.
    #[inline]
    fn is_early(&self, request: &Request) -> bool {
        let allowed = request.deadline.since(request.arrival);
        request.class == Class::High && allowed < self.early_below
    }

    /// Whether an early request leaves too little time for the batches that the load of high requests
    /// needs.
    fn is_demoted(&self, pool: &PoolView, request: &Request) -> bool {
        self.plan.high_need.is_some_and(|need| self.rows_allowed(pool, request) < need.rows)
    }

    /// The largest batch that the time allows which a request came with, in a pool whose accelerators
    /// start one after the other.
    fn rows_allowed(&self, pool: &PoolView, request: &Request) -> u32 {
        let timing = self.timing.at(Stage::Offered);
        let taken = timing.delays.response + timing.delays.lead(request.rows);
        let budget = request.deadline.since(request.arrival).saturating_sub(taken);
        timing.profile.rows_within(pool.staggered(budget))
    }

    /// Takes a request out of its queue; whether it was there.
    pub(super) fn cancel(&mut self, request: RequestId, deadline: Time) -> bool {
        self.queue.remove(request, deadline).is_some()
    }

    /// Takes all requests of a frontend's life out of its queue; whether there were some.
    pub(super) fn forget(&mut self, origin: Origin) -> bool {
        self.queue.forget(origin)
    }

    /// A batch ended after running so many times as long as by the loaded profile; `None` when that is
    /// not known. Returns whether plans count with another slowdown from now on.
    #[inline]
    pub(super) fn complete(&mut self, pool: &PoolView, now: Time, ratio: Option<Slowdown>) -> bool {
        self.running = self.running.saturating_sub(1);
        self.note_idle(now);
        let Some(ratio) = ratio else { return false };
        if self.times.record(now, ratio) {
            let rows_per_ns = self.arrivals.rows_per_ns(now);
            self.follow_spread(rows_per_ns);
        }
        self.follow_times(pool)
    }

    /// Plans with margins for the spread that was measured.
    fn follow_spread(&mut self, rows_per_ns: f64) {
        self.timing.follow_spread(self.spread(), rows_per_ns);
    }

    /// The spread that plans count with. Of best effort nothing is lost for being late.
    fn spread(&self) -> f64 {
        if self.terms.objective.is_soft() { 0.0 } else { self.times.spread() }
    }

    /// Plans with the slowdown that was measured, as far as a mean request alone still takes no more
    /// than three quarters of the objective: nothing would be measured of batches that never run.
    /// Returns whether the slowdown changed.
    #[inline]
    fn follow_times(&mut self, pool: &PoolView) -> bool {
        let measured = self.times.slowdown();
        // The bound is of the table at least, so it is none for a model no slower than that.
        let slowdown =
            if measured > Slowdown::ONE { measured.min(self.slowdown_max()) } else { measured };
        if slowdown == self.slowdown() {
            return false;
        }
        self.timing.set_slowdown(slowdown, &pool.delays, pool.message);
        true
    }

    /// The slowdown at which a mean request alone takes three quarters of the objective; at least
    /// one. Without an objective no batch is too slow to run.
    fn slowdown_max(&self) -> Slowdown {
        let ModelTerms { profile, objective, .. } = &self.terms;
        let &Objective::Slo(slo) = objective else { return Slowdown::PLANNED_MAX };
        let ModelStatistics { rows, requests, .. } = self.stats;
        let rows = mean(rows, requests);
        Slowdown::of(Span(slo.0 / 4 * 3), profile.exec(rows)).max(Slowdown::ONE)
    }

    /// Runs its batches by another profile from now on. What is known of its slowdown was measured
    /// by the profile before: see [`ModelTimes::change_table`].
    pub(super) fn set_profile(&mut self, profile: Arc<Profile>, pool: &PoolView) {
        let ModelStatistics { rows, batches, .. } = self.stats;
        let rows = mean(rows, batches).min(profile.rows_max()).min(self.terms.profile.rows_max());
        let (before, after) = (self.terms.profile.exec(rows), profile.exec(rows));
        self.times.change_table(before, after, profile.spread(rows));
        self.terms.profile = profile;
        let profile = Profile::clone(&self.terms.profile).at_slowdown(self.times.slowdown());
        self.timing.set_profile((profile, self.spread()), &pool.delays, pool.message);
        self.follow_times(pool);
    }

    /// Plans with the pool's delays as they are now.
    pub(super) fn follow_delays(&mut self, pool: &PoolView) {
        self.timing.set_delays(&pool.delays, pool.message);
    }

    /// Replaces its plan; returns whether that changes what it offers.
    pub(super) fn set_plan(&mut self, plan: ModelPlan) -> bool {
        let is_new = self.plan != plan;
        self.plan = plan;
        is_new && !self.queue.is_empty()
    }

    /// Forgets its plan.
    pub(super) fn forget_plan(&mut self) {
        self.plan = ModelPlan::default();
        self.is_planned = false;
    }

    /// Looks at it: drops what has to be dropped, and hands its candidate to `publish` if it changed.
    /// Returns when to look again although nothing happens.
    #[inline]
    pub(super) fn settle(
        &mut self,
        pool: &PoolView,
        now: Time,
        todo: &mut Actions,
        publish: impl FnOnce(Candidate),
    ) -> Option<Time> {
        self.times.forget(now);
        self.follow_times(pool);
        let offer = self.situation(pool, now, Stage::Offered).offer(todo);
        self.note_idle(now);
        let message = self.timing.message();
        // A grant at the last moment is on its way for a while.
        let expiry = offer.map(|offer| offer.latest + message + Span(1));
        let low_expiry = low_expiry(&self.queue, &self.timing.at(Stage::Offered));
        let generation = self.published.generation();
        let candidate = Candidate { model: self.id, generation, offer };
        if self.published.is_news(&candidate) {
            self.published.publish(now, message, candidate);
            publish(candidate);
        }
        expiry.into_iter().chain(low_expiry).min()
    }

    /// Answers a grant: seals the largest batch that, started on this accelerator, meets its
    /// deadline. Requests may have come or gone since the candidate was made.
    pub(super) fn grant(
        &mut self,
        pool: &PoolView,
        now: Time,
        grant: Grant,
        todo: &mut Actions,
    ) -> Reply {
        let Grant { accelerator, batch, free, slowdown, .. } = grant;
        let declined = Reply { accelerator, batch, sent: None };
        self.published.count_answer();
        let mut situation = self.situation(pool, now, Stage::Sealed);
        situation.drop_hopeless(todo);
        let choice = situation.sealable(free, slowdown, todo);
        if choice.count() == 0 {
            return declined;
        }
        let sent = self.seal(pool, now, grant, &choice, todo);
        Reply { sent: Some(sent), ..declined }
    }

    /// Seals the chosen batch.
    fn seal(
        &mut self,
        pool: &PoolView,
        now: Time,
        grant: Grant,
        choice: &Choice,
        todo: &mut Actions,
    ) -> SentBatch {
        let Grant { accelerator, batch, free, behind, .. } = grant;
        let (count, rows) = (choice.count(), choice.rows());
        let first = todo.requests.len();
        self.account(choice, pool.low_share);
        self.queue.take(choice, &mut todo.requests);
        self.running += 1;
        self.stats.batches += 1;
        self.stats.requests += count as u64;
        self.stats.rows += u64::from(rows);
        let ready = now + self.timing.delays_at(Stage::Sealed).lead(rows);
        let begin = free.max(ready);
        let table = self.terms.profile.exec(rows);
        let slowdown = self.slowdown().times(grant.slowdown);
        let exec = slowdown.stretch(table);
        let (model, requests) = (self.id, first..todo.requests.len());
        let start =
            Start { batch, accelerator, model, requests, rows, begin, exec, slowdown, behind };
        todo.list.push(Action::Start(start));
        let lead = self.timing.delays_at(Stage::Granted).lead(rows);
        let spread = Slowdown::ONE.scaled_by(self.times.spread()).stretch(exec);
        SentBatch { ready, exec, spread, table, lead }
    }

    /// Notes what low requests are owed now that this batch runs: a share of the rows of high ones
    /// while any low one is left waiting, less what runs.
    fn account(&mut self, choice: &Choice, low_share: f64) {
        let leading = f64::from(choice.leading.rows);
        let (earned, got) = match self.queue.class() {
            Class::Low => (0.0, leading),
            Class::High if self.queue.low().len() > choice.riders.len() => {
                (low_share * leading, choice.rider_rows.into())
            }
            Class::High => (0.0, choice.rider_rows.into()),
        };
        let debt_max = debt_max(low_share, self.arrivals.high_per_ns());
        self.deficit.settle(earned, got, debt_max);
        self.deficit.limit(f64::from(self.terms.profile.rows_max()));
    }

    /// Remembers since when it has had nothing to do.
    #[inline]
    fn note_idle(&mut self, now: Time) {
        if self.queue.is_empty() && self.running == 0 {
            self.arrivals.begin_idle(now);
        }
    }

    /// What was measured of it, if the planner is to know: while requests come, and once after.
    pub(super) fn report(&mut self, now: Time) -> Option<ModelDemand> {
        let is_present = self.is_present(now);
        let was_planned = std::mem::replace(&mut self.is_planned, is_present);
        let demand = (is_present || was_planned).then(|| self.demand(now, is_present));
        if let Some(demand) = &demand {
            self.follow_spread(demand.rows_per_ns);
        }
        demand
    }

    fn demand(&mut self, now: Time, is_present: bool) -> ModelDemand {
        let timing = self.timing.at(Stage::Offered);
        let taken = timing.delays.control + timing.delays.response + self.arrivals.age();
        let (profile, data) = (timing.profile.clone(), timing.delays.data);
        let MeasuredRates { rows_per_ns, high_per_ns, demoted } = self.arrivals.measure(now);
        let is_soft = self.terms.objective.is_soft();
        let slo = self.terms.objective.span();
        // Nothing that is lost of best effort is a reason for others to make way.
        let (arrived, dropped) = if is_soft { (0, 0) } else { self.arrivals.counts() };
        ModelDemand {
            model: self.id,
            profile,
            data,
            room: slo.saturating_sub(taken),
            slo,
            is_soft,
            rows_per_ns,
            high_per_ns: if is_soft { 0.0 } else { high_per_ns },
            demoted,
            dispersion: self.arrivals.dispersion(),
            is_present,
            weight: self.terms.loss_weight,
            lane_of: self.terms.lane_of,
            arrived,
            dropped,
        }
    }

    /// Takes no more requests; returns whether it took some before.
    pub(super) fn close(&mut self) -> bool {
        let was_open = self.life == Life::Open;
        if was_open {
            self.life = Life::Closing;
        }
        was_open
    }

    /// Whether it takes no more requests and has none.
    pub(super) fn is_closed(&self) -> bool {
        self.life != Life::Open && self.queue.is_empty()
    }

    /// Whether it has become closed since this was asked last.
    #[inline]
    pub(super) fn has_newly_closed(&mut self) -> bool {
        let is_news = self.life == Life::Closing && self.queue.is_empty();
        if is_news {
            self.life = Life::Closed;
        }
        is_news
    }

    #[inline]
    fn situation<'a>(&'a mut self, pool: &'a PoolView, now: Time, stage: Stage) -> Situation<'a> {
        let timing = self.timing.at(stage);
        Situation {
            model: self.id,
            now,
            pool,
            objective: self.terms.objective,
            model_timing: &self.timing,
            timing,
            plan: &self.plan,
            published: &self.published,
            deficit: self.deficit,
            queue: &mut self.queue,
            arrivals: &mut self.arrivals,
        }
    }
}

/// So many things in so many, rounded up; at least one.
fn mean(things: u64, count: u64) -> u32 {
    u32::try_from(things.div_ceil(count.max(1))).unwrap_or(u32::MAX).max(1)
}
