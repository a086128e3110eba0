//! A shard of the live scheduler: requests and grants in, batches and outcomes out.

use crate::between::{FromMatcher, ShardEnd, Words};
use crate::effects::Effects;
use crate::measure::Meter;
use crate::settings::Settings;
use crate::slowdowns::{Slowdowns, Subject};
use crate::times::{Times, figures};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use symphony_core::sched::{
    Action, Actions, Event, MatcherToShard, Mode, Shard, ShardToMatcher, Start,
};
use symphony_core::{AcceleratorId, BatchId, Delays, ModelId, Origin, Slowdown, Span, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{
    FrontendToShard, Received, Reply, ShardInbox, ShardQuestion, Share,
};
use symphony_wire::message::{
    AcceleratorStatistics, AddModel, Completion, ModelStatistics, Statistics,
};

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
    records: ShardRecords,
}

/// What the shard's thread records beside what decides.
struct ShardRecords {
    meter: Meter,
    slowdowns: Slowdowns,
    /// By lane.
    times: HashMap<ModelId, Times>,
    sent: HashMap<BatchId, LiveBatch>,
    models: BTreeMap<ModelId, Removal>,
    /// Frontends' lives that are over, of which requests may still wait to be read.
    forgetting: BTreeSet<Origin>,
    /// Batches of this shard by accelerator.
    accelerators: Vec<AcceleratorStatistics>,
    draining: Vec<Share<()>>,
    drained: Drained,
}

/// Who is to be told when a model is gone.
type Removal = Vec<Reply<()>>;

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
struct LiveBatch {
    decided: Time,
    planned: Span,
    /// The slowdown that it was planned with.
    slowdown: Slowdown,
    /// Sent while another ran, so that it had to wait for that one.
    behind: bool,
    rows: u32,
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
        let records = ShardRecords {
            meter,
            slowdowns: Slowdowns::default(),
            times: HashMap::new(),
            sent: HashMap::new(),
            models: BTreeMap::new(),
            forgetting: BTreeSet::new(),
            accelerators: Vec::new(),
            draining: Vec::new(),
            drained: Drained::No,
        };
        LiveShard { party, inbox, end, effects, todo, records }
    }

    /// Takes note of everything that has arrived, and reports if it is time to.
    pub(crate) fn take_in(&mut self, now: Time) {
        self.receive(now);
        let LiveShard { party, inbox, end, todo, records, .. } = self;
        let most = (records.models.len() * DRAIN_PER_MODEL).clamp(DRAIN_MIN, DRAIN_MAX);
        let taken = inbox.drain(most, |received| match received {
            Received::Message(FrontendToShard::Submit { model, request }) => {
                party.on_event(now, Event::Arrive { model, request }, todo);
            }
            Received::Message(FrontendToShard::Cancel { model, request, deadline }) => {
                party.on_event(now, Event::Cancel { model, request, deadline }, todo);
            }
            Received::Question(question) => records.answer(now, party, question, todo),
        });
        let is_behind = taken >= most;
        party.set_behind(is_behind);
        records.forget(now, party, todo, is_behind);
        let mut to_matcher = end.to_matcher.burst();
        party.report(now, |report| to_matcher.send(report));
    }

    /// Takes what the matcher sent.
    fn receive(&mut self, now: Time) {
        let LiveShard { party, end, effects, todo, records, .. } = self;
        let mut to_matcher = end.to_matcher.burst();
        let mut send = |answer| to_matcher.send(answer);
        end.from_matcher.drain(usize::MAX, |message| match message {
            FromMatcher::Decided(at, message) => {
                let time = records.time_of(now, at, &message);
                party.receive(time, message, todo, &mut send);
            }
            FromMatcher::Measured(completion, slowdown) => {
                records.measured(now, party, &completion, slowdown);
                effects.ended(completion.message.batch);
            }
            FromMatcher::Lost(batch, accelerator) => {
                records.sent.remove(&batch);
                effects.lost(batch, accelerator);
            }
            FromMatcher::Late(late) => records.meter.matcher_late(late),
        });
        records.update_delays(now, party, todo);
    }

    /// Takes what the matcher sent, decides for everything that is known, and acts.
    pub(crate) fn decide(&mut self, now: Time) {
        self.receive(now);
        let LiveShard { party, end, todo, .. } = self;
        let ShardEnd { candidates, to_matcher, shards, .. } = end;
        let (mut candidates, mut to_matcher) = (candidates.burst(), to_matcher.burst());
        party.settle(now, todo, |message| match message {
            ShardToMatcher::Candidate(candidate) => {
                candidates.publish(candidate.model.index() / *shards, Words::of(&candidate));
            }
            other => to_matcher.send(other),
        });
        // The reader of a message may look for the candidate that came before it.
        drop(to_matcher);
        drop(candidates);
        self.act(now);
    }

    fn act(&mut self, now: Time) {
        let LiveShard { effects, todo, records, .. } = self;
        for action in &todo.list {
            match action {
                Action::Start(start) => {
                    records.started(now, start);
                    effects.start(now, start, todo.batch(start));
                }
                Action::Drop { request, reason, .. } => effects.dropped(now, request, *reason),
                Action::Removed { model } => records.removed(*model),
                // The matcher's.
                Action::Drained { .. } | Action::Lost { .. } | Action::Recovered { .. } => {}
            }
        }
        todo.clear();
        records.finish_draining(&self.party);
    }

    /// Whether a message of the matcher waits.
    pub(crate) fn has_message(&self) -> bool {
        !self.end.from_matcher.is_empty()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.has_message() || !self.inbox.is_empty()
    }

    /// Whether everybody who could send to it is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether something waits for room on the way to the matcher.
    pub(crate) fn has_backlog(&self) -> bool {
        self.end.to_matcher.is_waiting()
    }

    /// Whether it was told to drain and has had nothing left since; says so once.
    pub(crate) fn is_newly_drained(&mut self) -> bool {
        let is_news = self.records.drained == Drained::News;
        if is_news {
            self.records.drained = Drained::Told;
        }
        is_news
    }

    pub(crate) fn next_wake(&self) -> Option<Time> {
        self.party.next_wake()
    }

    /// Whether the end of a batch could lead to anything now.
    pub(crate) fn awaits_ends(&self) -> bool {
        self.party.awaits_ends() || !self.records.draining.is_empty()
    }

    /// Its thread woke by its timer, this late.
    pub(crate) fn timer_fired(&mut self, late: Span) {
        self.records.meter.timer_fired(late);
    }

    pub(crate) fn effects(&mut self) -> &mut E {
        &mut self.effects
    }

    /// Stops reading. The inbox is closed first: later senders get an error, and `over` finds every
    /// request that was submitted before.
    pub(crate) fn end(self, failed: bool) {
        let LiveShard { inbox, mut effects, .. } = self;
        drop(inbox);
        effects.over(failed);
    }
}

impl ShardRecords {
    /// Does what is asked of the shard, and answers once that is done.
    fn answer(
        &mut self,
        now: Time,
        party: &mut Shard,
        question: ShardQuestion,
        todo: &mut Actions,
    ) {
        match question {
            ShardQuestion::AddModel(AddModel { model, terms }, reply) => {
                self.models.insert(model, Removal::new());
                party.on_event(now, Event::AddModel { model, terms: Box::new(terms) }, todo);
                reply.answer(());
            }
            ShardQuestion::RemoveModel(model, reply) => {
                // One that is not there is gone already.
                let Some(removal) = self.models.get_mut(&model) else { return reply.answer(()) };
                removal.push(reply);
                party.on_event(now, Event::RemoveModel { model }, todo);
            }
            ShardQuestion::SetProfile { model, profile, reply, .. } => {
                party.on_event(now, Event::SetProfile { model, profile }, todo);
                // They were multiples of what the profile before says.
                self.times.remove(&model);
                reply.answer(());
            }
            ShardQuestion::SetMode(mode, _share) => self.set_mode(now, party, mode, todo),
            ShardQuestion::Statistics(share) => share.add(|all| self.count(party, all)),
            ShardQuestion::Forget(origin) => drop(self.forgetting.insert(origin)),
            ShardQuestion::Drain(share) => self.draining.push(share),
        }
    }

    fn set_mode(&self, now: Time, party: &mut Shard, mode: Mode, todo: &mut Actions) {
        if mode != party.mode() {
            party.on_event(now, Event::SetMode(mode), todo);
        }
    }

    /// Lets go of the requests of frontends' lives that are over. Questions are read before requests
    /// that came before them, so it does so until all that waited is read.
    fn forget(&mut self, now: Time, party: &mut Shard, todo: &mut Actions, is_behind: bool) {
        for &origin in &self.forgetting {
            party.on_event(now, Event::ForgetOrigin { origin }, todo);
        }
        if !is_behind {
            self.forgetting.clear();
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
        let &Start { exec, slowdown, behind, rows, .. } = start;
        let sent = LiveBatch { decided: now, planned: exec, slowdown, behind, rows };
        self.sent.insert(start.batch, sent);
    }

    /// A batch has ended, on an accelerator that is so much slower than the others.
    fn measured(
        &mut self,
        now: Time,
        party: &Shard,
        completion: &Timed<Completion>,
        accelerator_slowdown: Slowdown,
    ) {
        let Timed { at: ended, message: completion } = completion;
        let &Completion { accelerator, batch, model, exec, stay, .. } = completion;
        let Some(sent) = self.sent.remove(&batch) else { return };
        self.count_batch(accelerator, exec);
        if exec == Span::ZERO {
            return; // every client had left: nothing ran, so it teaches nothing
        }
        let model_slowdown = slowdown(party, model);
        self.slowdowns.tell(now, Subject::Model(model), model_slowdown);
        self.slowdowns.tell(now, Subject::Accelerator(accelerator), accelerator_slowdown);
        let profile = sent.planned.as_secs_f64() / sent.slowdown.as_f64();
        self.times.entry(model).or_insert_with(Times::new).add(exec.as_secs_f64() / profile);
        // The round trip of the plan by this process's clock, without the stay that the backend
        // measured by its own. The wait for a batch that still ran is no delay: counted, it would
        // send the next batch ahead earlier, that would wait longer, and so on.
        let control = ended.since(sent.decided).saturating_sub(stay);
        let control = Some(control).filter(|_| !sent.behind);
        self.meter.completed(completion, sent.rows, control);
    }

    fn count_batch(&mut self, accelerator: AcceleratorId, exec: Span) {
        if self.accelerators.len() <= accelerator.index() {
            self.accelerators.resize_with(accelerator.index() + 1, AcceleratorStatistics::default);
        }
        let statistics = &mut self.accelerators[accelerator.index()];
        statistics.batches += 1;
        statistics.busy += exec;
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
    }

    fn removed(&mut self, model: ModelId) {
        self.times.remove(&model);
        self.slowdowns.forget(model);
        for reply in self.models.remove(&model).unwrap_or_default() {
            reply.answer(());
        }
    }

    /// Lets go of its shares in a drain once nothing is queued or running.
    fn finish_draining(&mut self, party: &Shard) {
        if self.draining.is_empty() || !self.sent.is_empty() || party.has_queued() {
            return;
        }
        self.draining.clear();
        if self.drained == Drained::No {
            self.drained = Drained::News;
        }
    }

    fn count(&self, party: &Shard, all: &mut Statistics) {
        // A model's lanes are all here.
        let mut models: BTreeMap<ModelId, ModelStatistics> = BTreeMap::new();
        let mut times: BTreeMap<ModelId, Vec<f32>> = BTreeMap::new();
        for &model in self.models.keys() {
            let Some(statistics) = party.stats(model) else { continue };
            let first = statistics.lane_of.unwrap_or(model);
            if statistics.lane_of.is_some() {
                all.lanes.push((first, model, statistics.queued));
            }
            if let Some(newest) = self.times.get(&model).map(Times::newest) {
                times.entry(first).or_default().extend(newest);
            }
            models.entry(first).and_modify(|sum| sum.add(&statistics)).or_insert(statistics);
        }
        all.models.extend(models);
        let measured =
            times.into_iter().filter_map(|(model, times)| Some((model, figures(&times)?)));
        all.times.extend(measured);
        all.delays = longest(&all.delays, &self.meter.told());
        let more = self.accelerators.len().saturating_sub(all.accelerators.len());
        all.accelerators.extend((0..more).map(|_| AcceleratorStatistics::default()));
        for (sum, own) in all.accelerators.iter_mut().zip(&self.accelerators) {
            sum.batches += own.batches;
            sum.busy += own.busy;
        }
    }
}

/// The longer of each delay.
fn longest(one: &Delays, other: &Delays) -> Delays {
    Delays {
        control: one.control.max(other.control),
        data: one.data.max(other.data),
        response: one.response.max(other.response),
        jitter: one.jitter.max(other.jitter),
    }
}

/// How many times longer than by its profile a model's batches are planned to take.
fn slowdown(party: &Shard, model: ModelId) -> Slowdown {
    party.stats(model).map_or(Slowdown::ONE, |stats| stats.slowdown)
}
