//! The scheduler as separate parties: shards and a matcher that know each other only by messages,
//! each of which takes its time.
//!
//! This is the scheduler on many cores, without the cores. The shards and the matcher are those
//! of [`Scheduler`](symphony_core::sched::Scheduler), which delivers their messages at once; here
//! they take as long as the scenario says, and none overtakes another on the same way, as in a
//! ring. Nothing here decides anything: what a party does with a message is `core`'s.

use crate::{Contender, Delay};
use std::collections::VecDeque;
use symphony_core::sched::{
    Action, Actions, Candidate, Demand, Ended, Event, Grant, Matcher, ModelPlan, PLAN_AGE_MAX,
    Policy, Reply, Rule, Shard,
};
use symphony_core::{ModelId, Span, Time};
use symphony_workload::random::Random;

/// How a scheduler is split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// Shards, to which models are dealt in turn; at least one.
    pub shards: u32,
    /// How long a message from a shard to the matcher takes, and one back. The shards plan with
    /// its [planning value](Delay::planned).
    pub message: Delay,
}

/// No message takes longer. Shards report and plans come back several times within the age of a
/// plan, so that a pool without requests comes to rest.
pub const MESSAGE_MAX: Span = Span::from_millis(10);

/// What a shard says to the matcher.
#[derive(Clone, Debug)]
enum ToMatcher {
    Candidate(Candidate),
    Reply(Reply),
    /// What was measured of all its models.
    Demands(Vec<Demand>),
    /// This model takes no requests any more, and has none.
    Closed(ModelId),
}

/// What the matcher says to a shard.
#[derive(Clone, Copy, Debug)]
enum ToShard {
    Grant(Grant),
    Plan(ModelId, ModelPlan),
    Ended(Ended),
    /// The last batch of a closed model has ended, and the matcher has forgotten it.
    Forgotten(ModelId),
}

/// A way from one party to another.
#[derive(Clone, Debug)]
struct Link<M> {
    underway: VecDeque<(Time, M)>,
    /// When the last message arrives: none overtakes it.
    last: Time,
}

/// How long messages take.
#[derive(Clone, Debug)]
struct Messages {
    delay: Delay,
    random: Random,
}

/// A shard with its ways to the matcher and back.
#[derive(Clone, Debug)]
struct ShardParty {
    shard: Shard,
    inbox: Link<ToShard>,
    outbox: Link<ToMatcher>,
    /// Models that were told to go, and whether the matcher was told that their queue is empty.
    closing: Vec<(ModelId, bool)>,
    /// When to report its models' demands next; a settling after that does.
    report_due: Time,
}

/// A scheduler of several shards and one matcher.
#[derive(Clone, Debug)]
pub struct SplitScheduler {
    shards: Vec<ShardParty>,
    matcher: Matcher,
    messages: Messages,
    rule: Rule,
    /// Whether plans follow measured execution times.
    follows: bool,
    /// Whether a shard has reported since the pool was planned.
    is_reported: bool,
    /// Closed models whose last batch has not ended.
    closing: Vec<ModelId>,
    grants: Vec<Grant>,
}

impl<M> Link<M> {
    fn new() -> Link<M> {
        Link { underway: VecDeque::new(), last: Time::ZERO }
    }

    fn send(&mut self, now: Time, messages: &mut Messages, message: M) {
        let delay = messages.delay.draw(&mut messages.random).min(MESSAGE_MAX);
        self.last = self.last.max(now + delay);
        self.underway.push_back((self.last, message));
    }

    /// The next message that has arrived.
    fn receive(&mut self, now: Time) -> Option<M> {
        if self.next_due()? > now {
            return None;
        }
        self.underway.pop_front().map(|(_, message)| message)
    }

    fn next_due(&self) -> Option<Time> {
        self.underway.front().map(|(due, _)| *due)
    }
}

impl ShardParty {
    fn new(rule: Rule, accelerators: u32, message: Span) -> ShardParty {
        ShardParty {
            shard: Shard::new(rule, accelerators).with_message_delay(message),
            inbox: Link::new(),
            outbox: Link::new(),
            closing: Vec::new(),
            report_due: Time::ZERO,
        }
    }

    /// Takes the messages that have arrived.
    fn receive(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        while let Some(message) = self.inbox.receive(now) {
            match message {
                ToShard::Grant(grant) => {
                    let reply = self.shard.grant(now, grant, todo);
                    self.outbox.send(now, messages, ToMatcher::Reply(reply));
                }
                ToShard::Plan(model, plan) => self.shard.set_plan(model, plan),
                ToShard::Ended(ended) => self.shard.complete(now, ended),
                ToShard::Forgotten(model) => {
                    self.shard.remove(model);
                    self.closing.retain(|(other, _)| *other != model);
                    todo.list.push(Action::Removed { model });
                }
            }
        }
    }

    /// Reports its models' demands.
    fn report(&mut self, now: Time, messages: &mut Messages) {
        let mut demands = Vec::new();
        self.shard.demands(now, |demand| demands.push(demand));
        self.outbox.send(now, messages, ToMatcher::Demands(demands));
        self.report_due = now + PLAN_AGE_MAX;
    }

    fn settle(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        let ShardParty { shard, outbox, .. } = self;
        shard.settle(now, todo, |candidate| {
            outbox.send(now, messages, ToMatcher::Candidate(candidate));
        });
    }

    /// Tells the matcher of models whose queue has run empty. One that was never there is gone
    /// already: whoever asked is told.
    fn close(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        let ShardParty { shard, outbox, closing, .. } = self;
        closing.retain_mut(|(model, is_told)| {
            if shard.stats(*model).is_none() {
                todo.list.push(Action::Removed { model: *model });
                return false;
            }
            if !*is_told && shard.is_closed(*model) {
                *is_told = true;
                outbox.send(now, messages, ToMatcher::Closed(*model));
            }
            true
        });
    }
}

impl SplitScheduler {
    /// A scheduler for `accelerators` idle accelerators and no models yet. `seed` is for the
    /// delays of its messages.
    #[must_use]
    pub fn new(rule: Rule, accelerators: u32, split: Split, seed: u64) -> SplitScheduler {
        let Split { shards, message } = split;
        let planned = message.planned().min(MESSAGE_MAX);
        let party = |_| ShardParty::new(rule, accelerators, planned);
        SplitScheduler {
            shards: (0..shards.max(1)).map(party).collect(),
            matcher: Matcher::new(rule, accelerators),
            messages: Messages { delay: message, random: Random::new(seed) },
            rule,
            follows: true,
            is_reported: false,
            closing: Vec::new(),
            grants: Vec::new(),
        }
    }

    /// The same, but plans go by the profiles as they were loaded, whatever is measured.
    #[must_use]
    pub fn with_fixed_profiles(self) -> SplitScheduler {
        SplitScheduler { follows: false, ..self }
    }

    /// Keeps this share for low requests that wait, as the whole scheduler does.
    ///
    /// # Panics
    /// When it is not between 0 and 1.
    #[must_use]
    pub fn with_low_share(mut self, share: f64) -> SplitScheduler {
        assert!((0.0..=1.0).contains(&share), "{share} is no share");
        self.shards.iter_mut().for_each(|party| party.shard.set_low_share(share));
        self.matcher.set_low_share(share);
        self
    }

    /// The shard that owns a model. An identity that is used again comes to the same shard, so
    /// that what the old model's shard said last has arrived before the new one's says a word.
    fn home(&self, model: ModelId) -> usize {
        model.index() % self.shards.len()
    }

    /// The same, after it has taken the messages that came before the event that it is asked for.
    fn shard_of(&mut self, now: Time, model: ModelId, todo: &mut Actions) -> &mut Shard {
        let home = self.home(model);
        let party = &mut self.shards[home];
        party.receive(now, &mut self.messages, todo);
        &mut party.shard
    }

    /// The matcher takes the messages that have arrived from the shards, in their order.
    fn receive(&mut self, now: Time) {
        let SplitScheduler { shards, matcher, messages, closing, is_reported, .. } = self;
        for party in shards {
            while let Some(message) = party.outbox.receive(now) {
                match message {
                    ToMatcher::Candidate(candidate) => matcher.candidate(now, candidate),
                    ToMatcher::Reply(reply) => {
                        // It ended before the matcher knew that it had begun.
                        if let Some(ended) = matcher.reply(now, reply) {
                            party.inbox.send(now, messages, ToShard::Ended(ended));
                        }
                    }
                    ToMatcher::Demands(demands) => {
                        *is_reported = true;
                        demands.into_iter().for_each(|demand| matcher.note(demand));
                    }
                    ToMatcher::Closed(model) => closing.push(model),
                }
            }
        }
    }

    /// Says something to the shard of a model.
    fn tell(&mut self, now: Time, model: ModelId, message: ToShard) {
        let home = self.home(model);
        self.shards[home].inbox.send(now, &mut self.messages, message);
    }

    fn plan(&mut self, now: Time) {
        if !self.is_reported || !self.matcher.is_plan_due(now) {
            return;
        }
        self.is_reported = false;
        let SplitScheduler { shards, matcher, messages, .. } = self;
        let count = shards.len();
        matcher.plan(now, |model, plan| {
            let inbox = &mut shards[model.index() % count].inbox;
            inbox.send(now, messages, ToShard::Plan(model, plan));
        });
    }

    fn assign(&mut self, now: Time) {
        let mut grants = std::mem::take(&mut self.grants);
        self.matcher.assign(now, |grant| grants.push(grant));
        for grant in grants.drain(..) {
            self.tell(now, grant.model, ToShard::Grant(grant));
        }
        self.grants = grants;
    }

    /// The matcher forgets closed models that run nothing any more.
    fn forget_closed(&mut self, now: Time) {
        let mut closing = std::mem::take(&mut self.closing);
        closing.retain(|&model| {
            if self.matcher.running(model) > 0 {
                return true;
            }
            self.matcher.remove(model);
            self.tell(now, model, ToShard::Forgotten(model));
            false
        });
        self.closing = closing;
    }
}

impl Policy for SplitScheduler {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match event {
            Event::Arrive { model, request } => {
                self.shard_of(now, model, todo).arrive(now, model, request, todo);
            }
            Event::Cancel { model, request, deadline } => {
                self.shard_of(now, model, todo).cancel(model, request, deadline);
            }
            Event::Complete { accelerator, batch, exec } => {
                self.receive(now);
                let exec = if self.follows { exec } else { Span::ZERO };
                if let Some(ended) = self.matcher.complete(now, accelerator, batch, exec) {
                    self.tell(now, ended.model, ToShard::Ended(ended));
                }
            }
            Event::AddModel { model, terms } => self.shard_of(now, model, todo).add(model, terms),
            Event::RemoveModel { model } => {
                self.shard_of(now, model, todo).close(model);
                let home = self.home(model);
                let closing = &mut self.shards[home].closing;
                if closing.iter().all(|(other, _)| *other != model) {
                    closing.push((model, false));
                }
            }
            Event::SetRule(rule) => {
                self.rule = rule;
                self.matcher.set_rule(rule);
                for party in &mut self.shards {
                    party.shard.set_rule(rule);
                    party.report_due = now;
                }
            }
            Event::SetBatchesMax(batches_per_s) => self.matcher.set_batches_max(batches_per_s),
            Event::SetDelays(delays) => {
                for party in &mut self.shards {
                    party.shard.set_delays(delays);
                }
            }
            Event::SetOverrun { model, overrun } => {
                self.shard_of(now, model, todo).set_overrun(model, overrun);
            }
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        for party in &mut self.shards {
            party.receive(now, &mut self.messages, todo);
            if self.rule == Rule::Adaptive && party.report_due <= now {
                party.report(now, &mut self.messages);
            }
        }
        self.receive(now);
        self.plan(now);
        // Messages that take no time are answered at the same instant.
        loop {
            for party in &mut self.shards {
                party.receive(now, &mut self.messages, todo);
                party.settle(now, &mut self.messages, todo);
            }
            self.receive(now);
            self.assign(now);
            if self.shards.iter().all(|party| party.inbox.next_due().is_none_or(|due| due > now)) {
                break;
            }
        }
        for party in &mut self.shards {
            party.close(now, &mut self.messages, todo);
        }
        self.receive(now);
        self.forget_closed(now);
        for party in &mut self.shards {
            party.receive(now, &mut self.messages, todo);
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let own = |party: &ShardParty| {
            let ShardParty { shard, inbox, outbox, .. } = party;
            [shard.next_wake(), inbox.next_due(), outbox.next_due()].into_iter().flatten().min()
        };
        let shards = self.shards.iter().filter_map(own).min();
        [shards, self.matcher.next_wake()].into_iter().flatten().min()
    }
}

impl Contender for SplitScheduler {
    fn follows(&self) -> bool {
        self.follows
    }
}
