//! The matcher: ready candidates get the lowest-numbered free accelerator.
//!
//! In: what happens from outside ([`Event`]), and what shards say ([`ShardToMatcher`]). Out: what the
//! shards have to know ([`MatcherToShard`]): grants, ends of batches and plans; and actions, which
//! tell what became of accelerators.
//!
//! High candidates go first, and an accelerator is kept free for the next one to open where no other
//! would be free for it. Low candidates that wait meanwhile earn a share of the accelerators' time.

mod accelerator;
mod accelerators;
mod candidates;
mod membership;
mod running;
mod stragglers;
mod watch;

pub use accelerator::AcceleratorState;
pub use membership::ACCELERATORS_MAX;
pub use watch::OVERDUE_AFTER;

use super::action::{Action, Actions, Loss};
use super::drift::UsualRatio;
use super::event::Event;
use super::low_share::{Deficit, LOW_SHARE_DEFAULT, debt_max};
use super::message::{
    BatchEnded, Grant, MatcherToShard, Offer, Reply, SentBatch, ShardToMatcher, Tier,
};
use super::mode::Mode;
use super::planner::Planner;
use crate::ids::{AcceleratorId, BatchId, ModelId};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use accelerator::{Granted, Outstanding, PendingGrant};
use accelerators::Accelerators;
use candidates::Candidates;
use running::Running;

/// Owns the accelerators of a pool.
///
/// A driver hands it events with [`on_event`](Matcher::on_event) and messages with
/// [`receive`](Matcher::receive), as many as there are; then [`plan`](Matcher::plan) and
/// [`settle`](Matcher::settle) decide once for all of them.
#[derive(Clone, Debug)]
pub struct Matcher {
    candidates: Candidates,
    accelerators: Accelerators,
    running: Running,
    /// Plans the batches of the pool from what the shards report.
    planner: Planner,
    /// Batches per second that the scheduler was measured to sustain.
    batches_max: f64,
    /// Whether a shard has reported since the last plan.
    is_reported: bool,
    /// Whether plans follow measured execution times.
    follows: bool,
    /// The share of the time of other batches that those of lower tiers which wait earn.
    low_share: f64,
    /// By lower tier, nanoseconds of accelerators that its candidates are owed.
    deficits: [Deficit; Tier::LOWER.len()],
    /// How many accelerators serve, as the shards were told.
    told_serving: u32,
    next_batch: u64,
}

impl Matcher {
    /// A matcher for `accelerators` idle accelerators, numbered from zero, of a pool that is
    /// scheduled in `mode`.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Matcher {
        Matcher {
            candidates: Candidates::new(),
            accelerators: Accelerators::new(accelerators),
            running: Running::default(),
            planner: Planner::new(mode, f64::INFINITY),
            batches_max: f64::INFINITY,
            is_reported: false,
            follows: true,
            low_share: LOW_SHARE_DEFAULT,
            deficits: [Deficit::default(); 2],
            told_serving: accelerators,
            next_batch: 0,
        }
    }

    /// The same, but plans go by the profiles as they were loaded, whatever is measured.
    #[must_use]
    pub fn with_fixed_profiles(self) -> Matcher {
        Matcher { follows: false, ..self }
    }

    /// Keeps this share of the time of high batches for low candidates that wait.
    pub fn set_low_share(&mut self, share: f64) {
        self.low_share = share;
    }

    /// Takes an accelerator for dead when a batch has not ended this long after it should have, or
    /// ten times as long as the batch was planned to run, if that is longer.
    pub fn set_overdue_after(&mut self, after: Span) {
        self.accelerators.set_overdue_after(after);
    }

    /// Whether plans follow measured execution times.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// How many accelerators are granted batches.
    #[must_use]
    pub fn serving(&self) -> u32 {
        self.accelerators.serving()
    }

    /// What an accelerator is in the pool; away, if nobody ever added it.
    #[must_use]
    pub fn state(&self, accelerator: AcceleratorId) -> AcceleratorState {
        self.accelerators.state(accelerator)
    }

    /// How many times longer than elsewhere in the pool batches run on an accelerator.
    #[must_use]
    pub fn accelerator_slowdown(&self, accelerator: AcceleratorId) -> Slowdown {
        self.accelerators.slowdown(accelerator)
    }

    /// Takes note of an event, as far as it concerns the matcher.
    #[inline]
    pub fn on_event(&mut self, now: Time, event: &Event, send: impl FnOnce(MatcherToShard)) {
        match *event {
            Event::Complete { accelerator, batch, exec } => {
                let exec = if self.follows { exec } else { Span::ZERO };
                if let Some(ended) = self.complete(now, accelerator, batch, exec) {
                    send(MatcherToShard::BatchEnded(ended));
                }
            }
            Event::AddAccelerator { accelerator } => self.accelerators.add(now, accelerator),
            Event::DrainAccelerator { accelerator } => self.accelerators.drain(now, accelerator),
            Event::AcceleratorGone { accelerator } => {
                self.accelerators.note_gone(now, accelerator, &mut self.running);
            }
            Event::SetMode(mode) => self.planner = Planner::new(mode, self.batches_max),
            Event::SetBatchesMax(batches_per_s) => {
                self.batches_max = batches_per_s;
                self.planner.set_batches_max(batches_per_s);
            }
            Event::Arrive { .. }
            | Event::Cancel { .. }
            | Event::AddModel { .. }
            | Event::RemoveModel { .. }
            | Event::ForgetOrigin { .. }
            | Event::SetDelays(_)
            | Event::SetProfile { .. } => {}
        }
    }

    /// Takes a message of a shard.
    #[inline]
    pub fn receive(
        &mut self,
        now: Time,
        message: ShardToMatcher,
        send: impl FnOnce(MatcherToShard),
    ) {
        match message {
            ShardToMatcher::Candidate(candidate) => {
                if self.running.admit(candidate.model) {
                    self.candidates.receive(now, &candidate);
                }
            }
            ShardToMatcher::Reply(reply) => {
                if let Some(ended) = self.reply(now, reply) {
                    send(MatcherToShard::BatchEnded(ended));
                }
            }
            ShardToMatcher::Demand(demand) => self.planner.note_demand(demand),
            ShardToMatcher::Traffic(traffic) => self.planner.note_traffic(traffic),
            ShardToMatcher::Reported => self.is_reported = true,
            ShardToMatcher::Closed(model) => self.running.close(model),
            ShardToMatcher::Reprofiled(model) => {
                if self.running.admit(model) {
                    *self.running.usual_of(model) = UsualRatio::default();
                }
            }
        }
    }

    /// Plans the pool from what was reported, if it is time to.
    pub fn plan(&mut self, now: Time, mut send: impl FnMut(MatcherToShard)) {
        if !self.is_reported || !self.planner.is_due(now) {
            return;
        }
        self.is_reported = false;
        // Without any accelerator nothing will be granted, whatever is planned.
        let serving = self.accelerators.serving().max(1);
        let issue = |model, plan| send(MatcherToShard::Plan(model, plan));
        if let Some(high) = self.planner.plan(now, serving, issue) {
            send(MatcherToShard::High(high));
        }
    }

    /// Decides, given everything noted so far. What became of accelerators goes to `todo`.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, mut send: impl FnMut(MatcherToShard)) {
        self.accelerators.watch_overdue(now, &mut self.running);
        self.hand_out_news(todo, &mut send);
        let serving = self.accelerators.serving();
        if self.told_serving != serving {
            self.told_serving = serving;
            send(MatcherToShard::Serving(serving));
        }
        self.assign(now, |grant| send(MatcherToShard::Grant(grant)));
        while let Some(model) = self.running.forget_ended() {
            self.candidates.forget(model);
            self.planner.forget(model);
            send(MatcherToShard::Forgotten(model));
        }
    }

    /// When to settle again although nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let accelerators = &self.accelerators;
        // With nothing to grant it to, an accelerator that may be sent a batch ahead changes nothing.
        let ahead = accelerators.next_ahead().filter(|_| self.candidates.has_any());
        // Without an accelerator to grant an opening window changes nothing.
        let opening = self.candidates.next_opening().filter(|_| accelerators.has_available());
        [ahead, opening, accelerators.next_look(&self.running)].into_iter().flatten().min()
    }

    /// Whether the end of a batch could lead to anything now: a candidate may be granted, an
    /// accelerator or a model is about to go, or a dead accelerator to come back. Where that holds of
    /// neither the matcher nor a shard, the end of a batch may be told later, as long as it is told
    /// with the time at which it came.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.candidates.has_any() || !self.accelerators.all_serve() || self.running.has_closed()
    }

    /// Takes a shard's answer to a grant; one to no grant has no effect. Returns the batch if it has
    /// ended already: its end may be known before its beginning.
    #[inline]
    fn reply(&mut self, now: Time, reply: Reply) -> Option<BatchEnded> {
        let Reply { accelerator: id, batch, sent } = reply;
        let accelerator = self.accelerators.list.get_mut(id.index())?;
        let pending = accelerator.pending.take_if(|pending| pending.granted.batch == batch)?;
        let PendingGrant { granted, ended, is_void, .. } = pending;
        match sent.map(|sent| Outstanding { granted, sent }) {
            None => self.running.remove(granted),
            // The accelerator went while the grant was on its way.
            Some(batch) if is_void => {
                self.accelerators.lose(id, &batch, Loss::Gone, &mut self.running);
            }
            Some(batch) => {
                accelerator.send(batch);
                // Or died.
                if accelerator.is_dead {
                    let why = self.accelerators.overdue(now, id);
                    self.accelerators.lose(id, &batch, why, &mut self.running);
                }
            }
        }
        self.account(&pending, sent);
        self.accelerators.release(now, id);
        self.accelerators.note_drained(id);
        ended.and_then(|exec| self.complete(now, id, batch, exec))
    }

    /// An accelerator completed a batch, after running it for `exec`; zero when nothing is to be
    /// learned from it. No effect when it runs no such batch. The end of a batch that was given up
    /// only tells that its accelerator is not dead.
    #[inline]
    fn complete(
        &mut self,
        now: Time,
        id: AcceleratorId,
        batch: BatchId,
        exec: Span,
    ) -> Option<BatchEnded> {
        let accelerator = self.accelerators.list.get_mut(id.index())?;
        let Some(Outstanding { granted, sent }) = accelerator.end(now, batch) else {
            accelerator.end_unsent(batch, exec);
            return None;
        };
        if accelerator.is_dead {
            self.accelerators.end_lost(now, id);
            return None;
        }
        self.running.remove(granted);
        let model = granted.model;
        let ratio = (exec > Span::ZERO).then(|| {
            let usual = self.running.usual_of(model);
            self.accelerators.learn(now, id, usual, Slowdown::of(exec, sent.table))
        });
        self.accelerators.release(now, id);
        self.accelerators.note_drained(id);
        Some(BatchEnded { model, ratio })
    }

    /// Hands out what became of accelerators; the shards count lost batches as ended.
    #[inline]
    fn hand_out_news(&mut self, todo: &mut Actions, send: &mut impl FnMut(MatcherToShard)) {
        for news in self.accelerators.news.drain(..) {
            if let Action::Lost { model, .. } = news {
                send(MatcherToShard::BatchEnded(BatchEnded { model, ratio: None }));
            }
            todo.list.push(news);
        }
    }

    /// Matches ready candidates to free accelerators and hands each grant to `issue`.
    #[inline]
    fn assign(&mut self, now: Time, mut issue: impl FnMut(Grant)) {
        self.accelerators.advance(now);
        while let Some((model, offer)) = self.next_ready(now)
            && let Some(id) = self.accelerator_for(now, &offer)
        {
            issue(self.grant(model, &offer, id));
        }
    }

    /// The ready candidate to serve next: the first of the highest tier, unless the first of a lower
    /// one is owed the time of its batch.
    #[inline]
    fn next_ready(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        self.candidates.open_windows(now);
        if self.candidates.has_ready_lower() { self.next_of_all(now) } else { self.next_high(now) }
    }

    /// The first of the high candidates.
    #[inline]
    fn next_high(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        let (limits, running) = (self.planner.level_limits(), self.running.by_level());
        self.candidates.first_high(now, limits, running)
    }

    /// The candidate to serve next while there are some of lower tiers. Apart, so that a pool without
    /// them does not pay for it.
    #[inline(never)]
    fn next_of_all(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        let low = self.candidates.first_lower(now, 0);
        let best_effort = self.candidates.first_lower(now, 1);
        let is_owed = |first: &(ModelId, Offer)| self.is_owed(&first.1);
        let owed = best_effort.filter(is_owed).or_else(|| low.filter(is_owed));
        owed.or_else(|| self.next_high(now)).or(low).or(best_effort)
    }

    /// Whether the tier of this batch is a lower one that is owed its time.
    fn is_owed(&self, low: &Offer) -> bool {
        let deficit = low.tier.lower().map(|lower| self.deficits[lower]);
        deficit.is_some_and(|deficit| deficit.covers(low.exec_span.0 as f64))
    }

    /// The accelerator for this offer, unless it is kept from a low one.
    #[inline]
    fn accelerator_for(&mut self, now: Time, offer: &Offer) -> Option<AcceleratorId> {
        let id = self.accelerators.choose(now, offer)?;
        let is_kept = offer.tier != Tier::High && self.is_kept(now, offer, id);
        (!is_kept).then_some(id)
    }

    /// Whether this accelerator is kept from a low batch: high requests need all that low ones leave,
    /// or no other accelerator is free in time for the high candidate expected next.
    fn is_kept(&mut self, now: Time, low: &Offer, id: AcceleratorId) -> bool {
        if self.is_owed(low) {
            return false;
        }
        let low_running = f64::from(self.running.low() + 1);
        if low_running + low.reserved > f64::from(self.accelerators.serving()) {
            return true;
        }
        let Some((expected, high)) = self.candidates.next_expected() else { return false };
        self.accelerators.is_last_free(now, id, low, expected + high.lead)
    }

    /// Grants an accelerator to a candidate. The lower tiers pay for their batch in advance, so that
    /// what they are owed is not spent twice.
    #[inline]
    fn grant(&mut self, model: ModelId, offer: &Offer, id: AcceleratorId) -> Grant {
        let passed_over = self.candidates.passed_over(offer.tier);
        let lower = offer.tier.lower();
        let prepaid = lower.map_or(0.0, |_| offer.exec_span.0 as f64);
        if let Some(lower) = lower {
            self.deficits[lower].prepay(prepaid);
        }
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let granted = Granted { batch, model, level: offer.level, tier: offer.tier };
        let accelerator = self.accelerators.take(id);
        accelerator.pending =
            Some(PendingGrant { granted, ended: None, is_void: false, passed_over, prepaid });
        let (free, slowdown) = (accelerator.free, accelerator.slowdown());
        let behind = accelerator.outstanding[0].is_some();
        self.running.add(granted);
        self.candidates.grant(model, offer);
        Grant { model, accelerator: id, batch, free, slowdown, behind }
    }

    /// Settles the accounts of the lower tiers when it is known what became of a grant.
    #[inline]
    fn account(&mut self, pending: &PendingGrant, sent: Option<SentBatch>) {
        let PendingGrant { granted, passed_over, .. } = *pending;
        // Where only high requests come there is nothing to settle.
        let is_even = self.deficits == [Deficit::default(); 2];
        if is_even && granted.tier == Tier::High && passed_over == [false; 2] {
            return;
        }
        let ran = sent.map_or(0.0, |sent| sent.exec.0 as f64);
        let serving = f64::from(self.accelerators.serving());
        let debt_max = debt_max(self.low_share, serving);
        for (lower, deficit) in self.deficits.iter_mut().enumerate() {
            let is_own = granted.tier.lower() == Some(lower);
            let got = if is_own { ran - pending.prepaid } else { 0.0 };
            let earned = if passed_over[lower] { self.low_share * ran } else { 0.0 };
            deficit.settle(earned, got, debt_max);
        }
    }
}

#[cfg(test)]
mod tests;
