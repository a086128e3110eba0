//! The scheduler as separate parties: shards and a matcher that know each other only by messages.
//!
//! Whoever drives them carries the messages, at once or in any time, on threads or under simulated
//! time; what a party does with a message is decided here. Messages on one way must not overtake
//! each other, with one exception: a [`Candidate`] may pass other messages, and only the newest one
//! of a model needs to arrive, as its generation tells which grants it knows of.

use super::matcher::{AcceleratorState, BatchEnded, Matcher};
use super::needs::{HighLoad, RecentTraffic};
use super::plan::{ModelDemand, ModelPlan};
use super::shard::{ModelStatistics, Shard};
use super::{Action, Actions, Candidate, Event, Grant, Mode, Reply};
use crate::ids::{AcceleratorId, ModelId};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// What a shard says to the matcher.
#[derive(Clone, Debug)]
pub enum ShardToMatcher {
    /// A model's newest batch.
    Candidate(Candidate),
    /// What became of a grant.
    Reply(Reply),
    /// What was measured of one of its models.
    ModelDemand(ModelDemand),
    /// Which requests come to it; it tells of its models next.
    RecentTraffic(RecentTraffic),
    /// It has told of all its models.
    Reported,
    /// This model takes no requests any more, and has none.
    Closed(ModelId),
}

/// What the matcher says to the shard that owns a model, or to all shards.
#[derive(Clone, Copy, Debug)]
pub enum MatcherToShard {
    /// An accelerator for its next batch.
    Grant(Grant),
    /// What the pool's load asks of it.
    Plan(ModelId, ModelPlan),
    /// What the high requests of all shards ask of the pool, while low ones come.
    High(HighLoad),
    /// A batch of it has ended.
    BatchEnded(BatchEnded),
    /// The last batch of the closed model has ended, and the matcher has forgotten it.
    Forgotten(ModelId),
    /// So many accelerators serve now.
    Serving(u32),
}

impl MatcherToShard {
    /// The model whose shard is addressed; `None` when all shards are.
    #[must_use]
    pub fn model(&self) -> Option<ModelId> {
        match self {
            MatcherToShard::Grant(grant) => Some(grant.model),
            MatcherToShard::BatchEnded(ended) => Some(ended.model),
            MatcherToShard::Plan(model, _) | MatcherToShard::Forgotten(model) => Some(*model),
            MatcherToShard::High(_) | MatcherToShard::Serving(_) => None,
        }
    }
}

/// A shard, and what it owes the matcher.
#[derive(Clone, Debug)]
pub struct ShardParty {
    shard: Shard,
    /// Models that were told to go, and whether the matcher was told that their queue is empty.
    closing: Vec<(ModelId, bool)>,
}

impl ShardParty {
    /// A party of a shard that has no models yet.
    #[must_use]
    pub fn new(shard: Shard) -> ShardParty {
        ShardParty { shard, closing: Vec::new() }
    }

    /// Keeps this share for low requests that wait; see [`Shard::set_low_share`].
    pub fn set_low_share(&mut self, share: f64) {
        self.shard.set_low_share(share);
    }

    /// Whether more requests wait than it can take at a time; see [`Shard::set_behind`].
    pub fn set_behind(&mut self, is_behind: bool) {
        self.shard.set_behind(is_behind);
    }

    /// How long a message to the matcher, and one back, takes; see [`Shard::set_message_delay`].
    pub fn set_message_delay(&mut self, message: Span) {
        self.shard.set_message_delay(message);
    }

    /// How it schedules now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shard.mode()
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        self.shard.stats(model)
    }

    /// Takes note of what happened from outside, as far as it is a shard's.
    #[inline]
    pub fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match event {
            Event::Arrive { model, request } => self.shard.arrive(now, model, request, todo),
            Event::Cancel { model, request, deadline } => {
                self.shard.cancel(model, request, deadline);
            }
            Event::AddModel { model, terms } => self.shard.add(model, terms),
            Event::RemoveModel { model } => {
                self.shard.close(model);
                if self.closing.iter().all(|(other, _)| *other != model) {
                    self.closing.push((model, false));
                }
            }
            Event::SetMode(mode) => self.shard.set_mode(mode),
            Event::SetDelays(delays) => self.shard.set_delays(delays),
            Event::SetOverrun { model, overrun } => self.shard.set_overrun(model, overrun),
            Event::Complete { .. }
            | Event::AddAccelerator { .. }
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
        send: &mut impl FnMut(ShardToMatcher),
    ) {
        match message {
            MatcherToShard::Grant(grant) => {
                send(ShardToMatcher::Reply(self.shard.grant(now, grant, todo)))
            }
            MatcherToShard::Plan(model, plan) => self.shard.set_plan(model, plan),
            MatcherToShard::High(high) => self.shard.set_high_load(high),
            MatcherToShard::BatchEnded(ended) => self.shard.complete(now, ended),
            MatcherToShard::Forgotten(model) => {
                self.shard.remove(model);
                self.closing.retain(|(other, _)| *other != model);
                todo.list.push(Action::Removed { model });
            }
            MatcherToShard::Serving(accelerators) => {
                self.shard.set_accelerators(accelerators);
            }
        }
    }

    /// Reports what was measured of its models, when it is time to and a plan is made of it.
    pub fn report(&mut self, now: Time, send: &mut impl FnMut(ShardToMatcher)) {
        if self.shard.is_report_due(now) {
            send(ShardToMatcher::RecentTraffic(self.shard.tell_lately()));
            self.shard.report(now, |demand| send(ShardToMatcher::ModelDemand(demand)));
            send(ShardToMatcher::Reported);
        }
    }

    /// Decides, given everything noted so far.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, send: &mut impl FnMut(ShardToMatcher)) {
        self.shard.settle(now, todo, |candidate| send(ShardToMatcher::Candidate(candidate)));
        if !self.closing.is_empty() {
            self.close(todo, send);
        }
    }

    /// Tells the matcher of models whose queue has run empty. One that was never there is gone
    /// already: whoever asked is told.
    fn close(&mut self, todo: &mut Actions, send: &mut impl FnMut(ShardToMatcher)) {
        let ShardParty { shard, closing, .. } = self;
        closing.retain_mut(|(model, is_told)| {
            if shard.stats(*model).is_none() {
                todo.list.push(Action::Removed { model: *model });
                return false;
            }
            if !*is_told && shard.is_closed(*model) {
                *is_told = true;
                send(ShardToMatcher::Closed(*model));
            }
            true
        });
    }

    /// When to settle next though nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.shard.next_wake()
    }

    /// Whether the end of a batch could lead to anything now: a request waits, or a model is to go.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.shard.has_queued() || !self.closing.is_empty()
    }
}

/// The matcher, and what it owes the shards.
#[derive(Clone, Debug)]
pub struct MatcherParty {
    matcher: Matcher,
    /// Whether plans follow measured execution times.
    follows: bool,
    /// Whether a shard has reported since the pool was planned.
    is_reported: bool,
    /// Closed models whose last batch has not ended.
    closing: Vec<ModelId>,
    /// How many accelerators serve, as the shards were told.
    serving: u32,
}

impl MatcherParty {
    /// The party of a matcher.
    #[must_use]
    pub fn new(matcher: Matcher) -> MatcherParty {
        let serving = matcher.serving();
        MatcherParty { matcher, follows: true, is_reported: false, closing: Vec::new(), serving }
    }

    /// The same, but plans go by the profiles as they were loaded, whatever is measured.
    #[must_use]
    pub fn with_fixed_profiles(self) -> MatcherParty {
        MatcherParty { follows: false, ..self }
    }

    /// Whether plans follow measured execution times.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// Keeps this share for low requests that wait; see [`Matcher::set_low_share`].
    pub fn set_low_share(&mut self, share: f64) {
        self.matcher.set_low_share(share);
    }

    /// Takes an accelerator for dead by this bound; see [`Matcher::set_overdue_after`].
    pub fn set_overdue_after(&mut self, after: Span) {
        self.matcher.set_overdue_after(after);
    }

    /// Accelerators that are granted batches.
    #[must_use]
    pub fn serving(&self) -> u32 {
        self.matcher.serving()
    }

    /// What an accelerator is in the pool.
    #[must_use]
    pub fn state(&self, accelerator: AcceleratorId) -> AcceleratorState {
        self.matcher.state(accelerator)
    }

    /// How many times longer than elsewhere in the pool batches run on an accelerator.
    #[must_use]
    pub fn accelerator_slowdown(&self, accelerator: AcceleratorId) -> Slowdown {
        self.matcher.accelerator_slowdown(accelerator)
    }

    /// Takes note of what happened from outside, as far as it is the matcher's.
    #[inline]
    pub fn on_event(&mut self, now: Time, event: &Event, send: &mut impl FnMut(MatcherToShard)) {
        match *event {
            Event::Complete { accelerator, batch, exec } => {
                let exec = if self.follows { exec } else { Span::ZERO };
                if let Some(ended) = self.matcher.complete(now, accelerator, batch, exec) {
                    send(MatcherToShard::BatchEnded(ended));
                }
            }
            Event::AddAccelerator { accelerator } => self.matcher.add(now, accelerator),
            Event::DrainAccelerator { accelerator } => self.matcher.drain(now, accelerator),
            Event::SetMode(mode) => self.matcher.set_mode(mode),
            Event::SetBatchesMax(batches_per_s) => self.matcher.set_batches_max(batches_per_s),
            Event::Arrive { .. }
            | Event::Cancel { .. }
            | Event::AddModel { .. }
            | Event::RemoveModel { .. }
            | Event::SetDelays(_)
            | Event::SetOverrun { .. } => {}
        }
    }

    /// Takes a message of a shard.
    pub fn receive(
        &mut self,
        now: Time,
        message: ShardToMatcher,
        send: &mut impl FnMut(MatcherToShard),
    ) {
        match message {
            ShardToMatcher::Candidate(candidate) => self.matcher.candidate(now, candidate),
            ShardToMatcher::Reply(reply) => {
                // It ended before the matcher knew that it had begun.
                if let Some(ended) = self.matcher.reply(now, reply) {
                    send(MatcherToShard::BatchEnded(ended));
                }
            }
            ShardToMatcher::ModelDemand(demand) => self.matcher.note(demand),
            ShardToMatcher::RecentTraffic(lately) => self.matcher.note_lately(lately),
            ShardToMatcher::Reported => self.is_reported = true,
            ShardToMatcher::Closed(model) => self.closing.push(model),
        }
    }

    /// Plans the pool from what was reported, when it is time to.
    pub fn plan(&mut self, now: Time, send: &mut impl FnMut(MatcherToShard)) {
        if self.is_reported && self.matcher.is_plan_due(now) {
            self.is_reported = false;
            let high =
                self.matcher.plan(now, |model, plan| send(MatcherToShard::Plan(model, plan)));
            if let Some(high) = high {
                send(MatcherToShard::High(high));
            }
        }
    }

    /// Decides, given everything noted so far. What became of accelerators goes to `todo`.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, send: &mut impl FnMut(MatcherToShard)) {
        self.matcher.attend(now, todo, |ended| send(MatcherToShard::BatchEnded(ended)));
        let serving = self.matcher.serving();
        if self.serving != serving {
            self.serving = serving;
            send(MatcherToShard::Serving(serving));
        }
        self.matcher.assign(now, |grant| send(MatcherToShard::Grant(grant)));
        let MatcherParty { matcher, closing, .. } = self;
        closing.retain(|&model| {
            if matcher.running(model) > 0 {
                return true;
            }
            matcher.remove(model);
            send(MatcherToShard::Forgotten(model));
            false
        });
    }

    /// When to settle next though nothing happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.matcher.next_wake()
    }

    /// Whether the end of a batch could lead to anything now: a candidate may be granted, an
    /// accelerator or a model is about to go, or a dead accelerator to come back. Where that holds of
    /// no party an end may be told of later, as long as it is told with the time at which it came.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.matcher.awaits_ends() || !self.closing.is_empty()
    }
}
