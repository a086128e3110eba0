//! The queues of some models.
//!
//! In: what happens from outside ([`Event`]), and what the matcher says ([`MatcherToShard`]). Out:
//! actions, and what the matcher has to know ([`ShardToMatcher`]): the candidate of each model, what
//! became of grants, and reports for the next plan.
//!
//! Per request the work is constant: queue it and mark its model. Only when everything that arrived
//! is taken in is each marked model looked at, once.

mod arrivals;
mod dropping;
mod lanes;
mod low;
mod model;
mod offering;
mod pool;
mod published;
mod sealing;
mod situation;
mod statistics;
mod timing;

pub use statistics::ModelStatistics;

use super::action::{Action, Actions};
use super::event::{Event, ModelTerms};
use super::heap::IndexedHeap;
use super::message::{
    BatchEnded, Grant, HighLoad, MatcherToShard, ModelPlan, PLAN_STALE, Reply, ShardToMatcher,
    plan_age,
};
use super::mode::Mode;
use crate::ids::{ModelId, Origin, RequestId};
use crate::profile::Profile;
use crate::request::{Class, Delays, DropReason, Request};
use crate::time::{Span, Time};
use lanes::LanesOfModels;
use model::QueuedModel;
use pool::PoolView;
use std::sync::Arc;

/// One model is looked at this often for room that its queue no longer needs.
const RELEASE_EVERY: Span = Span::from_millis(1);

/// Owns the queues of its models.
///
/// A driver hands it events with [`on_event`](Shard::on_event) and messages with
/// [`receive`](Shard::receive), as many as there are; then [`report`](Shard::report) and
/// [`settle`](Shard::settle) decide once for all of them.
#[derive(Clone, Debug)]
pub struct Shard {
    pool: PoolView,
    models: ModelTable,
    /// What the lanes of one model have in common.
    lanes: LanesOfModels,
    /// When to look at a model again although nothing happened: its batch no longer meets its
    /// deadline.
    expiries: IndexedHeap<Time>,
    /// The index of the model to look at next for room that its queue no longer needs, and when.
    release: (usize, Time),
    /// When to report next.
    report_due: Time,
    /// How many models are to go and are not forgotten.
    closing: usize,
    /// Models that have become closed, to be reported.
    closed: Vec<ModelId>,
    /// Models whose profile was replaced, to be reported.
    reprofiled: Vec<ModelId>,
}

/// The models of a shard, by index.
#[derive(Clone, Debug, Default)]
struct ModelTable {
    /// Each in a place of its own: there may be thousands, and most have nothing to do.
    slots: Vec<Option<Box<QueuedModel>>>,
    /// Models to look at: something of them changed.
    touched: Vec<ModelId>,
    /// Spare room, swapped with `touched` while that is worked through.
    touched_before: Vec<ModelId>,
}

impl ModelTable {
    fn get(&self, model: ModelId) -> Option<&QueuedModel> {
        self.slots.get(model.index())?.as_deref().filter(|state| state.id() == model)
    }

    /// The model, and the list of those to look at. What is meant for a model that had its place before
    /// finds none.
    #[inline]
    fn find(&mut self, model: ModelId) -> Option<(&mut QueuedModel, &mut Vec<ModelId>)> {
        let slot = self.slots.get_mut(model.index())?.as_deref_mut();
        let state = slot.filter(|state| state.id() == model)?;
        Some((state, &mut self.touched))
    }

    /// Changes a model; it is looked at if `change` says so.
    #[inline]
    fn update(&mut self, model: ModelId, change: impl FnOnce(&mut QueuedModel) -> bool) {
        if let Some((state, touched)) = self.find(model)
            && change(state)
        {
            state.touch(touched);
        }
    }

    /// Changes every model; each is looked at for which `change` says so.
    fn update_all(&mut self, mut change: impl FnMut(&mut QueuedModel) -> bool) {
        let ModelTable { slots, touched, .. } = self;
        for state in slots.iter_mut().flatten() {
            if change(state) {
                state.touch(touched);
            }
        }
    }
}

impl Shard {
    /// A shard without models for a pool that is scheduled in `mode` and has so many accelerators.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Shard {
        Shard {
            pool: PoolView::new(mode, accelerators),
            models: ModelTable::default(),
            lanes: LanesOfModels::default(),
            expiries: IndexedHeap::new(),
            release: (0, Time::ZERO),
            report_due: Time::ZERO,
            closing: 0,
            closed: Vec::new(),
            reprofiled: Vec::new(),
        }
    }

    /// Keeps this share of the rows in batches of high requests for low ones that wait.
    pub fn set_low_share(&mut self, share: f64) {
        self.pool.low_share = share;
    }

    /// Plans with this delay of a message to the matcher, and of one back, from now on. A candidate's
    /// window is the matcher's time to grant: it opens and closes so much earlier.
    pub fn set_message_delay(&mut self, message: Span) {
        self.pool.message = message;
        self.follow_delays();
    }

    /// Says whether more requests wait to be taken in than the shard can take at a time. It catches
    /// up by refusing requests that have spent half of the time they can spare: small batches of old
    /// requests would cost so much that the requests behind them would be late as well, and the shard
    /// would stay behind.
    pub fn set_behind(&mut self, is_behind: bool) {
        self.pool.is_behind = is_behind;
    }

    /// The mode in force.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.pool.mode
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        self.models.get(model).map(QueuedModel::stats)
    }

    /// Takes note of an event, as far as it concerns a shard.
    ///
    /// # Panics
    /// When a model is added whose identity is in use.
    #[inline]
    pub fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match event {
            Event::Arrive { model, request } => self.arrive(now, model, request, todo),
            Event::Cancel { model, request, deadline } => self.cancel(model, request, deadline),
            Event::AddModel { model, terms } => self.add(model, *terms),
            Event::RemoveModel { model } => self.close(model, todo),
            Event::SetMode(mode) => self.set_mode(mode),
            Event::SetDelays(delays) => self.set_delays(delays),
            Event::SetProfile { model, profile } => self.set_profile(model, profile),
            Event::ForgetOrigin { origin } => self.forget(origin),
            Event::Complete { .. }
            | Event::AddAccelerator { .. }
            | Event::AcceleratorGone { .. }
            | Event::DrainAccelerator { .. }
            | Event::SetBatchesMax(_) => {}
        }
    }

    /// Takes a message of the matcher.
    pub fn receive(
        &mut self,
        now: Time,
        message: MatcherToShard,
        todo: &mut Actions,
        mut send: impl FnMut(ShardToMatcher),
    ) {
        match message {
            MatcherToShard::Grant(grant) => {
                send(ShardToMatcher::Reply(self.grant(now, grant, todo)));
            }
            MatcherToShard::BatchEnded(ended) => self.complete(now, ended),
            MatcherToShard::Plan(model, plan) => self.set_plan(model, plan),
            MatcherToShard::High(high) => {
                self.set_high_load(high);
                // Low requests come elsewhere, which the shard may hear only now: from here on it has
                // to report. A report left due in the past would wake it in vain.
                self.report(now, send);
            }
            MatcherToShard::Serving(accelerators) => self.set_accelerators(accelerators),
            MatcherToShard::Forgotten(model) => self.remove(model, todo),
        }
    }

    /// Reports what was measured of its models, if it is time to and a plan is made of it.
    pub fn report(&mut self, now: Time, mut send: impl FnMut(ShardToMatcher)) {
        if !self.is_report_due(now) {
            return;
        }
        self.pool.has_low_news = false;
        send(ShardToMatcher::Traffic(self.pool.traffic));
        let mut reported = 0;
        // A closed model is to be forgotten, and not to be heard of again.
        let open = self.models.slots.iter_mut().flatten().filter(|state| !state.is_closed());
        for demand in open.filter_map(|state| state.report(now)) {
            reported += 1;
            send(ShardToMatcher::Demand(demand));
        }
        self.report_due = now + plan_age(reported);
        send(ShardToMatcher::Reported);
    }

    /// Decides, given everything noted so far: looks once at every model of which something changed
    /// or whose batch no longer meets its deadline.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, mut send: impl FnMut(ShardToMatcher)) {
        self.release_room(now);
        if self.pool.high_load > 0.0 && !self.pool.traffic.has_low(now) {
            self.reserve_for(0.0);
        }
        for model in self.reprofiled.drain(..) {
            send(ShardToMatcher::Reprofiled(model));
        }
        self.touch_expired(now);
        let ModelTable { slots, touched, touched_before } = &mut self.models;
        std::mem::swap(touched, touched_before);
        for model in touched_before.drain(..) {
            let Some(state) = slots[model.index()].as_deref_mut() else { continue };
            if !state.take_touched() {
                continue;
            }
            let publish = |candidate| send(ShardToMatcher::Candidate(candidate));
            let expiry = state.settle(&self.pool, now, todo, publish);
            self.lanes.recount(state);
            self.expiries.put(model.slot(), expiry);
            if state.has_newly_closed() {
                self.closed.push(state.id());
            }
        }
        for model in self.closed.drain(..) {
            send(ShardToMatcher::Closed(model));
        }
    }

    /// When to settle again although nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let expiry = self.expiries.peek().map(|(time, _)| time);
        // While high requests hold back low ones, the shard has to notice when they stop coming.
        let report = Some(self.report_due).filter(|_| self.pool.high_load >= 0.5);
        let is_planned = self.pool.mode == Mode::Adaptive && expiry.is_some();
        let stale = is_planned.then(|| self.report_due + PLAN_STALE);
        [expiry, report, stale].into_iter().flatten().min()
    }

    /// Whether a request is queued, as of the last [`settle`](Shard::settle).
    #[must_use]
    pub fn has_queued(&self) -> bool {
        // A model that has requests offers a batch of them, which expires at some time.
        !self.expiries.is_empty()
    }

    /// Whether the end of a batch could lead to anything now: a request waits, or a model is to go.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.has_queued() || self.closing > 0
    }

    #[inline]
    fn arrive(&mut self, now: Time, model: ModelId, request: Request, todo: &mut Actions) {
        let Some((state, touched)) = self.models.find(model) else {
            let reason = DropReason::Unloaded;
            return todo.list.push(Action::Drop { model, request, reason });
        };
        if state.lane_of().is_some() {
            return self.arrive_in_lane(now, model, request, todo);
        }
        if state.arrive(&mut self.pool, now, request, todo) {
            state.touch(touched);
        }
    }

    /// The same for a model that has other lanes.
    fn arrive_in_lane(&mut self, now: Time, model: ModelId, request: Request, todo: &mut Actions) {
        let Shard { models, lanes, .. } = self;
        let Some((state, _)) = models.find(model) else { return };
        lanes.tell(state);
        if state.is_full() && request.class == Class::High {
            self.evict_from_lanes(model, todo);
        }
        let Some((state, touched)) = self.models.find(model) else { return };
        if state.arrive(&mut self.pool, now, request, todo) {
            state.touch(touched);
        }
        self.lanes.recount(state);
    }

    /// A high request comes to a lane of a model that has as many requests queued as it may. If the
    /// lane has no low request to drop for it, another lane of the model may.
    #[cold]
    fn evict_from_lanes(&mut self, model: ModelId, todo: &mut Actions) {
        let Some(own) = self.models.get(model).filter(|own| !own.can_evict()) else { return };
        let others = self.lanes.of(own).iter().copied();
        let can_evict =
            |other: &ModelId| self.models.get(*other).is_some_and(QueuedModel::can_evict);
        let Some(other) = others.into_iter().find(can_evict) else { return };
        let Shard { models, lanes, .. } = self;
        models.update(other, |state| {
            let evicted = state.evict(todo);
            lanes.recount(state);
            evicted
        });
        if let Some((state, _)) = models.find(model) {
            lanes.tell(state);
        }
    }

    fn cancel(&mut self, model: ModelId, request: RequestId, deadline: Time) {
        let Shard { models, lanes, .. } = self;
        models.update(model, |state| {
            let cancelled = state.cancel(request, deadline);
            lanes.recount(state);
            cancelled
        });
    }

    /// Lets go of all requests of a frontend's life that is over.
    fn forget(&mut self, origin: Origin) {
        let Shard { models, lanes, .. } = self;
        models.update_all(|state| {
            let had_some = state.forget(origin);
            if had_some {
                lanes.recount(state);
            }
            had_some
        });
    }

    fn add(&mut self, model: ModelId, terms: ModelTerms) {
        let slots = &mut self.models.slots;
        if slots.len() <= model.index() {
            slots.resize_with(model.index() + 1, || None);
        }
        let slot = &mut slots[model.index()];
        assert!(slot.is_none(), "{model:?} is in use");
        let state = slot.insert(Box::new(QueuedModel::new(model, terms, &self.pool)));
        self.lanes.add(state);
    }

    /// Takes no more requests for a model; its queue runs empty. A model that is not there is gone.
    fn close(&mut self, model: ModelId, todo: &mut Actions) {
        let Some((state, _)) = self.models.find(model) else {
            return todo.list.push(Action::Removed { model });
        };
        if !state.close() {
            return;
        }
        self.closing += 1;
        if state.has_newly_closed() {
            self.closed.push(model);
        }
    }

    /// The matcher has forgotten a model: so does the shard.
    fn remove(&mut self, model: ModelId, todo: &mut Actions) {
        let state = self.models.get(model).filter(|state| state.is_closed());
        let state = state.unwrap_or_else(|| panic!("{model:?} was forgotten and is not closed"));
        self.lanes.remove(state);
        self.models.slots[model.index()] = None;
        self.expiries.remove(model.slot());
        self.closing -= 1;
        todo.list.push(Action::Removed { model });
    }

    /// A batch of a model ended.
    fn complete(&mut self, now: Time, ended: BatchEnded) {
        let BatchEnded { model, ratio } = ended;
        let Some((state, touched)) = self.models.find(model) else { return };
        if state.complete(&self.pool, now, ratio) {
            state.touch(touched);
        }
    }

    /// A model's batches run by another profile from now on.
    fn set_profile(&mut self, model: ModelId, profile: Arc<Profile>) {
        let Shard { pool, models, reprofiled, .. } = self;
        models.update(model, |state| {
            state.set_profile(profile, pool);
            reprofiled.push(model);
            true
        });
    }

    /// Answers a grant.
    fn grant(&mut self, now: Time, grant: Grant, todo: &mut Actions) -> Reply {
        let Grant { model, accelerator, batch, .. } = grant;
        let Some((state, touched)) = self.models.find(model) else {
            return Reply { accelerator, batch, sent: None };
        };
        state.touch(touched);
        let reply = state.grant(&self.pool, now, grant, todo);
        self.lanes.recount(state);
        reply
    }

    /// Schedules in another mode from now on; every candidate is made again.
    fn set_mode(&mut self, mode: Mode) {
        self.pool.mode = mode;
        self.report_due = Time::ZERO;
        self.models.update_all(|state| {
            state.forget_plan();
            true
        });
    }

    fn set_delays(&mut self, delays: Delays) {
        self.pool.delays = delays;
        self.follow_delays();
    }

    /// The delays were measured again; every candidate is made again.
    fn follow_delays(&mut self) {
        let Shard { pool, models, .. } = self;
        models.update_all(|state| {
            state.follow_delays(pool);
            true
        });
    }

    /// So many accelerators serve now.
    fn set_accelerators(&mut self, serving: u32) {
        if self.pool.accelerators != serving {
            self.pool.accelerators = serving;
            // What an empty queue offers does not depend on it.
            self.models.update_all(|state| state.has_queued());
        }
    }

    fn set_plan(&mut self, model: ModelId, plan: ModelPlan) {
        let plan = match self.pool.mode {
            Mode::Adaptive => plan,
            // The rest may have been on its way when the mode changed.
            Mode::Consolidate | Mode::Eager => {
                ModelPlan { high_need: plan.high_need, ..ModelPlan::default() }
            }
        };
        self.models.update(model, |state| state.set_plan(plan));
    }

    /// Takes what the high requests of the pool ask of it, and which requests come elsewhere.
    fn set_high_load(&mut self, high: HighLoad) {
        self.reserve_for(high.busy);
        self.pool.traffic.merge(high.traffic);
    }

    /// High requests keep so many accelerators busy now. What is reserved for them is part of what
    /// was offered of low batches: if it is another number, these are offered anew.
    fn reserve_for(&mut self, high_load: f64) {
        let reserved = |pool: &PoolView| {
            (pool.reserved_with_short_batches(), pool.reserved_with_long_batches())
        };
        let before = reserved(&self.pool);
        self.pool.high_load = high_load;
        if before != reserved(&self.pool) {
            self.models.update_all(|state| state.gives_way());
        }
    }

    /// Whether it is time to report. A plan is made of reports in the adaptive mode, and in every mode
    /// while low requests have to leave to high ones what these need.
    fn is_report_due(&self, now: Time) -> bool {
        let is_planned = self.pool.mode == Mode::Adaptive || self.pool.traffic.has_low(now);
        is_planned && (self.report_due <= now || self.pool.has_low_news)
    }

    fn touch_expired(&mut self, now: Time) {
        let ModelTable { slots, touched, .. } = &mut self.models;
        while let Some((expiry, index)) = self.expiries.peek()
            && expiry <= now
        {
            self.expiries.remove(index);
            if let Some(state) = &mut slots[index as usize] {
                state.touch(touched);
            }
        }
    }

    /// Takes back the room for requests that a queue has had no use for in a long time. Looks at one
    /// model now and then, so that thousands are no burst of work.
    fn release_room(&mut self, now: Time) {
        let (next, due) = self.release;
        if now < due {
            return;
        }
        let slots = &mut self.models.slots;
        self.release = ((next + 1) % slots.len().max(1), now + RELEASE_EVERY);
        if let Some(Some(state)) = slots.get_mut(next)
            && !state.is_present(now)
        {
            state.release_room();
        }
    }
}
