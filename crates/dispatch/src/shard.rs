//! A shard of the live scheduler: requests and grants in, batches and outcomes out.

use crate::between::{FromMatcher, ShardEnd, Words};
use crate::effects::Effects;
use crate::measure::Meter;
use crate::slowdowns::{Slowdowns, Subject};
use crate::thread::Settings;
use std::collections::HashMap;
use symphony_core::sched::{
    Action, Actions, Event, MatcherToShard, Mode, Shard, ShardToMatcher, Start,
};
use symphony_core::{BatchId, ModelId, Slowdown, Span, Time};
use symphony_wire::schedule::{
    AcceleratorStatistics, Completion, Message, ShardControl, ShardInbox, Share, Statistics,
    ToShard,
};
use tokio::sync::oneshot;

/// Messages of one sender taken in before deciding. More would make the first of them wait, and a
/// shard that is behind could seal only one batch of each model for so many.
const DRAIN_MIN: usize = 256;
/// With many models most of those taken in are of different ones, each of which is decided on: more
/// at a time make it fewer decisions.
const DRAIN_PER_MODEL: usize = 4;
const DRAIN_MAX: usize = 4096;

/// One shard, and everything around it on its thread.
pub(crate) struct LiveShard<E> {
    party: Shard,
    inbox: ShardInbox,
    end: ShardEnd,
    effects: E,
    todo: Actions,
    own: Own,
}

/// What the shard's thread keeps for itself.
struct Own {
    meter: Meter,
    slowdowns: Slowdowns,
    running: HashMap<BatchId, Running>,
    models: Vec<ModelId>,
    /// Batches of this shard by accelerator.
    accelerators: Vec<AcceleratorStatistics>,
    removing: Vec<(ModelId, oneshot::Sender<()>)>,
    draining: Vec<Share<()>>,
    drained: Drained,
}

/// Whether it was told to drain and nothing was left then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    No,
    /// The other threads do not know yet.
    News,
    Told,
}

/// A batch that was sent and has not completed.
#[derive(Debug)]
struct Running {
    decided: Time,
    planned: Span,
    /// The slowdown that it was planned with.
    slowdown: Slowdown,
    /// Sent while another ran, so that it had to wait for that one.
    behind: bool,
}

impl<E: Effects> LiveShard<E> {
    pub(crate) fn new(
        settings: &Settings,
        inbox: ShardInbox,
        end: ShardEnd,
        effects: E,
    ) -> LiveShard<E> {
        let mut party = Shard::new(settings.mode, settings.accelerators);
        party.set_low_share(settings.low_share);
        let meter = Meter::new();
        let mut todo = Actions::default();
        party.on_event(Time::ZERO, Event::SetDelays(meter.delays()), &mut todo);
        let own = Own {
            meter,
            slowdowns: Slowdowns::default(),
            running: HashMap::new(),
            models: Vec::new(),
            accelerators: Vec::new(),
            removing: Vec::new(),
            draining: Vec::new(),
            drained: Drained::No,
        };
        LiveShard { party, inbox, end, effects, todo, own }
    }

    /// Takes note of everything that has arrived, and reports if it is time to.
    pub(crate) fn take_in(&mut self, now: Time) {
        self.hear(now);
        let LiveShard { party, inbox, end, todo, own, .. } = self;
        let most = (own.models.len() * DRAIN_PER_MODEL).clamp(DRAIN_MIN, DRAIN_MAX);
        let taken = inbox.drain(most, |message| match message {
            Message::Plain(ToShard::Submit { model, request }) => {
                party.on_event(now, Event::Arrive { model, request }, todo);
            }
            Message::Plain(ToShard::Cancel { model, request, deadline }) => {
                party.on_event(now, Event::Cancel { model, request, deadline }, todo);
            }
            Message::Control(control) => own.control(now, party, control, todo),
        });
        party.set_behind(taken >= most);
        end.said.saying(|say| party.report(now, say));
    }

    /// Takes what the matcher said.
    fn hear(&mut self, now: Time) {
        let LiveShard { party, end: ShardEnd { said, heard, .. }, effects, todo, own, .. } = self;
        said.saying(|say| {
            heard.drain(usize::MAX, |message| match message {
                FromMatcher::Decided(at, message) => {
                    let time = own.time_of(now, at, &message);
                    if let Some(model) = party.receive(time, message, todo, &mut *say) {
                        // What exceeded the plans before says nothing of the plans from now on.
                        own.meter.forget(model);
                    }
                }
                FromMatcher::Measured(completion, slowdown) => {
                    own.measured(now, party, &completion, slowdown);
                    effects.ended(completion.batch);
                }
                FromMatcher::Lost(batch, accelerator) => {
                    own.running.remove(&batch);
                    effects.lost(batch, accelerator);
                }
                FromMatcher::Late(late) => own.meter.matcher_late(late),
            });
        });
        own.update_delays(now, party, todo);
    }

    /// Takes what the matcher said, decides for everything that is known, and acts.
    pub(crate) fn decide(&mut self, now: Time) {
        self.hear(now);
        let LiveShard { party, end, todo, .. } = self;
        let ShardEnd { candidates, said, shards, .. } = end;
        let mut candidates = candidates.burst();
        said.saying(|say| {
            party.settle(now, todo, |message| match message {
                ShardToMatcher::Candidate(candidate) => {
                    candidates.publish(candidate.model.index() / *shards, Words::of(&candidate));
                }
                other => say(other),
            });
        });
        drop(candidates);
        self.act(now);
    }

    fn act(&mut self, now: Time) {
        let LiveShard { effects, todo, own, .. } = self;
        for action in &todo.list {
            match action {
                Action::Start(start) => {
                    own.started(now, start);
                    effects.start(now, start, todo.batch(start));
                }
                Action::Drop { request, reason, .. } => effects.dropped(now, request, *reason),
                Action::Removed { model } => own.removed(*model),
                // The matcher's.
                Action::Drained { .. } | Action::Lost { .. } | Action::Recovered { .. } => {}
            }
        }
        todo.clear();
        own.finish_draining(&self.party);
    }

    /// Whether the matcher has said something that was not heard.
    pub(crate) fn is_told(&self) -> bool {
        !self.end.heard.is_empty()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.is_told() || !self.inbox.is_empty()
    }

    /// Whether everybody who could send to it is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether something waits for room on the way to the matcher.
    pub(crate) fn has_backlog(&self) -> bool {
        self.end.said.is_waiting()
    }

    /// Whether it was told to drain and has had nothing left since; says so once.
    pub(crate) fn is_newly_drained(&mut self) -> bool {
        let is_news = self.own.drained == Drained::News;
        if is_news {
            self.own.drained = Drained::Told;
        }
        is_news
    }

    pub(crate) fn next_wake(&self) -> Option<Time> {
        self.party.next_wake()
    }

    /// Whether the end of a batch could lead to anything now.
    pub(crate) fn awaits_ends(&self) -> bool {
        self.party.awaits_ends() || !self.own.draining.is_empty()
    }

    /// Its thread woke by its timer, this late.
    pub(crate) fn timer_fired(&mut self, late: Span) {
        self.own.meter.timer_fired(late);
    }

    pub(crate) fn effects(&mut self) -> &mut E {
        &mut self.effects
    }

    /// Reads nothing any more. The order matters: a request that is submitted after the inbox is
    /// closed is refused, and `over` finds every request that was submitted before.
    pub(crate) fn end(self, failed: bool) {
        let LiveShard { inbox, mut effects, .. } = self;
        drop(inbox);
        effects.over(failed);
    }
}

impl Own {
    fn control(&mut self, now: Time, party: &mut Shard, control: ShardControl, todo: &mut Actions) {
        match control {
            ShardControl::AddModel { model, terms, done } => {
                self.models.push(model);
                party.on_event(now, Event::AddModel { model, terms }, todo);
                let _ = done.send(());
            }
            ShardControl::RemoveModel { model, done } => {
                self.removing.push((model, done));
                party.on_event(now, Event::RemoveModel { model }, todo);
            }
            ShardControl::SetMode(mode, _share) => self.set_mode(now, party, mode, todo),
            ShardControl::Statistics(share) => share.add(|all| self.count(party, all)),
            ShardControl::Drain(share) => self.draining.push(share),
        }
    }

    fn set_mode(&self, now: Time, party: &mut Shard, mode: Mode, todo: &mut Actions) {
        if mode != party.mode() {
            party.on_event(now, Event::SetMode(mode), todo);
        }
    }

    /// The time at which the shard takes a message that the matcher sent `at` some time.
    fn time_of(&mut self, now: Time, at: Time, message: &MatcherToShard) -> Time {
        match message {
            MatcherToShard::Grant(_) => {
                self.meter.message(now.since(at));
                now
            }
            // The shard may hear of it much later.
            MatcherToShard::BatchEnded(_) => at,
            _ => now,
        }
    }

    fn started(&mut self, now: Time, start: &Start) {
        let &Start { exec, slowdown, behind, .. } = start;
        let running = Running { decided: now, planned: exec, slowdown, behind };
        self.running.insert(start.batch, running);
    }

    /// A batch has ended, on an accelerator that is so much slower than the others.
    fn measured(
        &mut self,
        now: Time,
        party: &Shard,
        completion: &Completion,
        accelerator_slowdown: Slowdown,
    ) {
        let &Completion { accelerator, batch, model, taken, exec, .. } = completion;
        let Some(running) = self.running.remove(&batch) else { return };
        if self.accelerators.len() <= accelerator.index() {
            self.accelerators.resize_with(accelerator.index() + 1, AcceleratorStatistics::default);
        }
        let statistics = &mut self.accelerators[accelerator.index()];
        statistics.batches += 1;
        statistics.busy += exec;
        if exec == Span::ZERO {
            return; // every client had left: nothing ran, so it teaches nothing
        }
        let model_slowdown = slowdown(party, model);
        self.slowdowns.tell(now, Subject::Model(model), model_slowdown);
        self.slowdowns.tell(now, Subject::Accelerator(accelerator), accelerator_slowdown);
        // What it would be planned to take now.
        let planned = model_slowdown
            .times(accelerator_slowdown)
            .over(running.slowdown)
            .stretch(running.planned);
        // The wait for a batch that still ran is no delay: counted, it would send the next batch
        // ahead earlier, that would wait longer, and so on.
        let control = Some(taken.since(running.decided)).filter(|_| !running.behind);
        self.meter.completed(completion, control, planned);
    }

    /// Takes over the measured delays from time to time.
    fn update_delays(&mut self, now: Time, party: &mut Shard, todo: &mut Actions) {
        if !self.meter.is_due(now) {
            return;
        }
        if let Some(delays) = self.meter.changed_delays() {
            party.on_event(now, Event::SetDelays(delays), todo);
        }
        if let Some(message) = self.meter.changed_message() {
            party.set_message_delay(message);
        }
        self.meter.changed_overruns(|model, overrun| {
            party.on_event(now, Event::SetOverrun { model, overrun }, todo);
        });
    }

    fn removed(&mut self, model: ModelId) {
        self.models.retain(|other| *other != model);
        self.meter.forget(model);
        self.slowdowns.forget(model);
        for (_, done) in self.removing.extract_if(.., |(other, _)| *other == model) {
            let _ = done.send(());
        }
    }

    /// Lets go of its shares in a drain once nothing is queued or running.
    fn finish_draining(&mut self, party: &Shard) {
        if self.draining.is_empty() || !self.running.is_empty() {
            return;
        }
        let is_empty = |model: &ModelId| party.stats(*model).is_none_or(|stats| stats.queued == 0);
        if self.models.iter().all(is_empty) {
            self.draining.clear();
            if self.drained == Drained::No {
                self.drained = Drained::News;
            }
        }
    }

    fn count(&self, party: &Shard, all: &mut Statistics) {
        let model = |&model: &ModelId| Some((model, party.stats(model)?));
        all.models.extend(self.models.iter().filter_map(model));
        let more = self.accelerators.len().saturating_sub(all.accelerators.len());
        all.accelerators.extend((0..more).map(|_| AcceleratorStatistics::default()));
        for (sum, own) in all.accelerators.iter_mut().zip(&self.accelerators) {
            sum.batches += own.batches;
            sum.busy += own.busy;
        }
    }
}

/// How many times longer than by its profile a model's batches are planned to take.
fn slowdown(party: &Shard, model: ModelId) -> Slowdown {
    party.stats(model).map_or(Slowdown::ONE, |stats| stats.slowdown)
}
