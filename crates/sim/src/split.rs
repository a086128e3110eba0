//! The scheduler as separate parties: shards and a matcher that communicate only by messages, each
//! with a delay.
//!
//! This is the scheduler on many cores, without the cores. The shards and the matcher are the same
//! as in [`Scheduler`](symphony_core::sched::Scheduler), which delivers their messages at once.
//! Here a message takes as long as the scenario says, and as in a ring no message overtakes another
//! on the same link. Nothing here decides anything: `core` decides what a party does with a
//! message.

use crate::lanes::LaneRule;
use crate::{Contender, Delay};
use std::collections::VecDeque;
use symphony_core::sched::{
    Actions, Event, Matcher, MatcherToShard, Mode, ModelStatistics, Policy, Shard, ShardToMatcher,
};
use symphony_core::{ModelId, Span, Time};
use symphony_workload::random::Random;

/// How a scheduler is split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// The number of shards, to which models are dealt in turn; at least one.
    pub shards: u32,
    /// How long a message takes from a shard to the matcher, or back. The shards plan with its
    /// [planning value](Delay::planned).
    pub message: Delay,
}

/// The longest delay of a message. Shards report and plans come back several times within the age
/// of a plan, so that a pool without requests comes to rest.
pub const MESSAGE_MAX: Span = Span::from_millis(10);

/// A link from one party to another.
#[derive(Clone, Debug)]
struct Link<M> {
    underway: VecDeque<(Time, M)>,
    /// When the last message arrives. No message overtakes another.
    last: Time,
}

/// The delays of messages.
#[derive(Clone, Debug)]
struct Messages {
    delay: Delay,
    random: Random,
}

/// A shard with its links to and from the matcher.
#[derive(Clone, Debug)]
struct Member {
    shard: Shard,
    inbox: Link<MatcherToShard>,
    outbox: Link<ShardToMatcher>,
}

/// A scheduler of several shards and one matcher.
#[derive(Clone, Debug)]
pub struct SplitScheduler {
    shards: Vec<Member>,
    matcher: Matcher,
    messages: Messages,
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

impl Member {
    /// Takes the messages that have arrived.
    fn receive(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        let Member { shard, inbox, outbox } = self;
        while let Some(message) = inbox.receive(now) {
            let send = |message| outbox.send(now, messages, message);
            shard.receive(now, message, todo, send);
        }
    }

    /// Takes the messages that have arrived, then reports if it is time for that.
    fn take_in(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        self.receive(now, messages, todo);
        let Member { shard, outbox, .. } = self;
        shard.report(now, |message| outbox.send(now, messages, message));
    }

    /// Takes the messages that have arrived, then decides.
    fn decide(&mut self, now: Time, messages: &mut Messages, todo: &mut Actions) {
        self.receive(now, messages, todo);
        let Member { shard, outbox, .. } = self;
        shard.settle(now, todo, |message| outbox.send(now, messages, message));
    }
}

impl SplitScheduler {
    /// A scheduler for `accelerators` idle accelerators and no models yet. `seed` is the seed of
    /// the message delays.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32, split: Split, seed: u64) -> SplitScheduler {
        let Split { shards, message } = split;
        let planned = message.planned().min(MESSAGE_MAX);
        let member = |_| {
            let mut shard = Shard::new(mode, accelerators);
            shard.set_message_delay(planned);
            Member { shard, inbox: Link::new(), outbox: Link::new() }
        };
        SplitScheduler {
            shards: (0..shards.max(1)).map(member).collect(),
            matcher: Matcher::new(mode, accelerators),
            messages: Messages { delay: message, random: Random::new(seed) },
        }
    }

    /// Plans with the profiles as they were loaded, whatever is measured.
    #[must_use]
    pub fn with_fixed_profiles(self) -> SplitScheduler {
        SplitScheduler { matcher: self.matcher.with_fixed_profiles(), ..self }
    }

    /// Takes an accelerator for dead by this bound; see [`Matcher::set_overdue_after`].
    #[must_use]
    pub fn with_overdue_after(mut self, after: Span) -> SplitScheduler {
        self.matcher.set_overdue_after(after);
        self
    }

    /// Counters of a model.
    #[must_use]
    pub fn stats(&self, model: ModelId) -> Option<ModelStatistics> {
        self.shards[model.index() % self.shards.len()].shard.stats(model)
    }

    /// Keeps this share for low requests that wait, as the whole scheduler does.
    ///
    /// # Panics
    /// When it is not between 0 and 1.
    #[must_use]
    pub fn with_low_share(mut self, share: f64) -> SplitScheduler {
        assert!((0.0..=1.0).contains(&share), "{share} is no share");
        self.shards.iter_mut().for_each(|member| member.shard.set_low_share(share));
        self.matcher.set_low_share(share);
        self
    }

    /// Lets the matcher take the messages that have arrived from the shards, in their order, and
    /// then do `then`. Sends the matcher's messages to the shards.
    fn matcher(
        &mut self,
        now: Time,
        then: impl FnOnce(&mut Matcher, &mut dyn FnMut(MatcherToShard)),
    ) {
        let SplitScheduler { shards, matcher, messages } = self;
        for number in 0..shards.len() {
            while let Some(message) = shards[number].outbox.receive(now) {
                matcher.receive(now, message, |message| tell(shards, messages, now, message));
            }
        }
        then(matcher, &mut |message| tell(shards, messages, now, message));
    }
}

/// The shard that owns a model. An id that is used again belongs to the same shard, so the last
/// message about the old model arrives before the first one about the new model.
fn home(shards: &mut [Member], model: ModelId) -> &mut Member {
    let count = shards.len();
    &mut shards[model.index() % count]
}

/// Sends a message to the shard of a model, or to all shards.
fn tell(shards: &mut [Member], messages: &mut Messages, now: Time, message: MatcherToShard) {
    match message.model() {
        Some(model) => home(shards, model).inbox.send(now, messages, message),
        None => shards.iter_mut().for_each(|member| member.inbox.send(now, messages, message)),
    }
}

impl Policy for SplitScheduler {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match &event {
            Event::Arrive { model, .. }
            | Event::Cancel { model, .. }
            | Event::AddModel { model, .. }
            | Event::RemoveModel { model }
            | Event::SetProfile { model, .. } => {
                let member = home(&mut self.shards, *model);
                // Messages that arrived before the event are received before it.
                member.receive(now, &mut self.messages, todo);
                member.shard.on_event(now, event, todo);
            }
            Event::Complete { .. }
            | Event::AddAccelerator { .. }
            | Event::DrainAccelerator { .. }
            | Event::AcceleratorGone { .. }
            | Event::SetBatchesMax(_) => {
                self.matcher(now, |matcher, send| matcher.on_event(now, &event, send));
            }
            Event::SetMode(_) | Event::SetDelays(_) | Event::ForgetOrigin { .. } => {
                for member in &mut self.shards {
                    member.shard.on_event(now, event.clone(), todo);
                }
                self.matcher.on_event(now, &event, |_| {});
            }
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        for member in &mut self.shards {
            member.take_in(now, &mut self.messages, todo);
        }
        self.matcher(now, |matcher, send| matcher.plan(now, send));
        // Messages that take no time are answered at the same instant.
        loop {
            for member in &mut self.shards {
                member.decide(now, &mut self.messages, todo);
            }
            self.matcher(now, |matcher, send| matcher.settle(now, todo, send));
            if self.shards.iter().all(|member| member.inbox.next_due().is_none_or(|due| due > now))
            {
                break;
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let own = |member: &Member| {
            let Member { shard, inbox, outbox } = member;
            [shard.next_wake(), inbox.next_due(), outbox.next_due()].into_iter().flatten().min()
        };
        let shards = self.shards.iter().filter_map(own).min();
        [shards, self.matcher.next_wake()].into_iter().flatten().min()
    }
}

impl Contender for SplitScheduler {
    fn lanes(&self) -> LaneRule {
        LaneRule::Own
    }

    fn follows(&self) -> bool {
        self.matcher.follows()
    }
}
