//! The scheduler as separate parties: shards and a matcher that know each other only by messages.
//!
//! Whoever drives them carries the messages, at once or in any time, on threads or under simulated
//! time; what a party does with a message is decided here. Messages on one way must not overtake
//! each other, with one exception: a [`Candidate`] may pass other messages, and only the newest one
//! of a model needs to arrive, as its generation tells which grants it knows of.

use super::matcher::{AcceleratorState, Ended, Matcher};
use super::needs::{HighLoad, Lately};
use super::plan::{Demand, ModelPlan};
use super::shard::{ModelStatistics, Shard};
use super::{Action, Actions, Candidate, Event, Grant, Reply, Rule};
use crate::ids::{AcceleratorId, ModelId};
use crate::pace::Pace;
use crate::time::{Span, Time};

/// What a shard says to the matcher.
#[derive(Clone, Debug)]
pub enum ToMatcher {
    /// A model's newest batch.
    Candidate(Candidate),
    /// What became of a grant.
    Reply(Reply),
    /// What was measured of one of its models.
    Demand(Demand),
    /// Which requests come to it; it tells of its models next.
    Lately(Lately),
    /// It has told of all its models.
    Reported,
    /// This model takes no requests any more, and has none.
    Closed(ModelId),
}

/// What the matcher says to the shard that owns a model, or to all shards.
#[derive(Clone, Copy, Debug)]
pub enum ToShard {
    /// An accelerator for its next batch.
    Grant(Grant),
    /// What the pool's load asks of it.
    Plan(ModelId, ModelPlan),
    /// What the high requests of all shards ask of the pool, while low ones come.
    High(HighLoad),
    /// A batch of it has ended.
    Ended(Ended),
    /// The last batch of the closed model has ended, and the matcher has forgotten it.
    Forgotten(ModelId),
    /// So many accelerators serve now.
    Serving(u32),
}

impl ToShard {
    /// The model whose shard is addressed; `None` when all shards are.
    #[must_use]
    pub fn model(&self) -> Option<ModelId> {
        match self {
            ToShard::Grant(grant) => Some(grant.model),
            ToShard::Ended(ended) => Some(ended.model),
            ToShard::Plan(model, _) | ToShard::Forgotten(model) => Some(*model),
            ToShard::High(_) | ToShard::Serving(_) => None,
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
    pub fn rule(&self) -> Rule {
        self.shard.rule()
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
            Event::SetRule(rule) => self.shard.set_rule(rule),
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
        message: ToShard,
        todo: &mut Actions,
        send: &mut impl FnMut(ToMatcher),
    ) {
        match message {
            ToShard::Grant(grant) => send(ToMatcher::Reply(self.shard.grant(now, grant, todo))),
            ToShard::Plan(model, plan) => self.shard.set_plan(model, plan),
            ToShard::High(high) => self.shard.set_high_load(high),
            ToShard::Ended(ended) => self.shard.complete(now, ended),
            ToShard::Forgotten(model) => {
                self.shard.remove(model);
                self.closing.retain(|(other, _)| *other != model);
                todo.list.push(Action::Removed { model });
            }
            ToShard::Serving(accelerators) => {
                self.shard.set_accelerators(accelerators);
            }
        }
    }

    /// Reports what was measured of its models, when it is time to and a plan is made of it.
    pub fn report(&mut self, now: Time, send: &mut impl FnMut(ToMatcher)) {
        if self.shard.is_report_due(now) {
            send(ToMatcher::Lately(self.shard.tell_lately()));
            self.shard.report(now, |demand| send(ToMatcher::Demand(demand)));
            send(ToMatcher::Reported);
        }
    }

    /// Decides, given everything noted so far.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, send: &mut impl FnMut(ToMatcher)) {
        self.shard.settle(now, todo, |candidate| send(ToMatcher::Candidate(candidate)));
        if !self.closing.is_empty() {
            self.close(todo, send);
        }
    }

    /// Tells the matcher of models whose queue has run empty. One that was never there is gone
    /// already: whoever asked is told.
    fn close(&mut self, todo: &mut Actions, send: &mut impl FnMut(ToMatcher)) {
        let ShardParty { shard, closing, .. } = self;
        closing.retain_mut(|(model, is_told)| {
            if shard.stats(*model).is_none() {
                todo.list.push(Action::Removed { model: *model });
                return false;
            }
            if !*is_told && shard.is_closed(*model) {
                *is_told = true;
                send(ToMatcher::Closed(*model));
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
    pub fn lag(&self, accelerator: AcceleratorId) -> Pace {
        self.matcher.lag(accelerator)
    }

    /// Takes note of what happened from outside, as far as it is the matcher's.
    #[inline]
    pub fn on_event(&mut self, now: Time, event: &Event, send: &mut impl FnMut(ToShard)) {
        match *event {
            Event::Complete { accelerator, batch, exec } => {
                let exec = if self.follows { exec } else { Span::ZERO };
                if let Some(ended) = self.matcher.complete(now, accelerator, batch, exec) {
                    send(ToShard::Ended(ended));
                }
            }
            Event::AddAccelerator { accelerator } => self.matcher.add(now, accelerator),
            Event::DrainAccelerator { accelerator } => self.matcher.drain(now, accelerator),
            Event::SetRule(rule) => self.matcher.set_rule(rule),
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
    pub fn receive(&mut self, now: Time, message: ToMatcher, send: &mut impl FnMut(ToShard)) {
        match message {
            ToMatcher::Candidate(candidate) => self.matcher.candidate(now, candidate),
            ToMatcher::Reply(reply) => {
                // It ended before the matcher knew that it had begun.
                if let Some(ended) = self.matcher.reply(now, reply) {
                    send(ToShard::Ended(ended));
                }
            }
            ToMatcher::Demand(demand) => self.matcher.note(demand),
            ToMatcher::Lately(lately) => self.matcher.note_lately(lately),
            ToMatcher::Reported => self.is_reported = true,
            ToMatcher::Closed(model) => self.closing.push(model),
        }
    }

    /// Plans the pool from what was reported, when it is time to.
    pub fn plan(&mut self, now: Time, send: &mut impl FnMut(ToShard)) {
        if self.is_reported && self.matcher.is_plan_due(now) {
            self.is_reported = false;
            let high = self.matcher.plan(now, |model, plan| send(ToShard::Plan(model, plan)));
            if let Some(high) = high {
                send(ToShard::High(high));
            }
        }
    }

    /// Decides, given everything noted so far. What became of accelerators goes to `todo`.
    pub fn settle(&mut self, now: Time, todo: &mut Actions, send: &mut impl FnMut(ToShard)) {
        self.matcher.attend(now, todo, |ended| send(ToShard::Ended(ended)));
        let serving = self.matcher.serving();
        if self.serving != serving {
            self.serving = serving;
            send(ToShard::Serving(serving));
        }
        self.matcher.assign(now, |grant| send(ToShard::Grant(grant)));
        let MatcherParty { matcher, closing, .. } = self;
        closing.retain(|&model| {
            if matcher.running(model) > 0 {
                return true;
            }
            matcher.remove(model);
            send(ToShard::Forgotten(model));
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
