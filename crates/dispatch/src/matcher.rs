//! The matcher of the live scheduler: candidates and completions in, grants out.

use crate::between::{FromMatcher, FromShard, Outbox};
use crate::cost::Cost;
use crate::measure::Lateness;
use crate::settings::Settings;
use std::collections::BTreeSet;
use symphony_core::sched::{
    ACCELERATORS_MAX, AcceleratorState, Action, Actions, Event, Loss, Matcher, MatcherToShard,
    Mode, ShardToMatcher,
};
use symphony_core::{AcceleratorId, ModelId, Span, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{
    GapBoard, MatcherInbox, MatcherQuestion, Received, ServingCount, home,
};
use symphony_wire::message::{AcceleratorStatistics, Completion, Serve, Statistics};

/// Completions of one sender taken in before deciding.
const COMPLETIONS_MAX: usize = 1024;

/// The matcher, and everything around it on its thread.
pub(crate) struct LiveMatcher {
    party: Matcher,
    inbox: MatcherInbox,
    from_shards: Vec<FromShard>,
    to_shards: ToShards,
    /// What became of accelerators.
    todo: Actions,
    pool: LivePool,
}

/// The ways to the shards, by number.
struct ToShards(Vec<Outbox<FromMatcher>>);

/// What the matcher's thread knows of the pool beside what decides.
struct LivePool {
    mode: Mode,
    /// Accelerators are numbered below this.
    accelerators: u32,
    cost: Cost,
    /// Grants since its cost was last counted.
    granted: u64,
    late: Lateness,
    serving: ServingCount,
    gaps: GapBoard,
    /// The accelerators whose threads have failed.
    lost: BTreeSet<AcceleratorId>,
}

/// What is read and set beside the messages.
pub(crate) struct Shown {
    /// How many accelerators serve.
    pub(crate) serving: ServingCount,
    /// What accelerators say of their gaps.
    pub(crate) gaps: GapBoard,
}

impl LiveMatcher {
    pub(crate) fn new(
        settings: &Settings,
        inbox: MatcherInbox,
        Shown { serving, gaps }: Shown,
        from_shards: Vec<FromShard>,
        to_shards: Vec<Outbox<FromMatcher>>,
    ) -> LiveMatcher {
        let Settings { mode, accelerators, low_share, overdue_after } = *settings;
        let mut party = Matcher::new(mode, accelerators);
        party.set_low_share(low_share);
        party.set_overdue_after(overdue_after);
        serving.set(party.serving());
        let (cost, late) = (Cost::new(), Lateness::new());
        let lost = BTreeSet::new();
        let pool = LivePool { mode, accelerators, cost, granted: 0, late, serving, gaps, lost };
        let (to_shards, todo) = (ToShards(to_shards), Actions::default());
        LiveMatcher { party, inbox, from_shards, to_shards, todo, pool }
    }

    /// Takes note of the completions that have arrived, and of what is asked of it.
    pub(crate) fn take_in(&mut self, now: Time) {
        let LiveMatcher { party, inbox, to_shards, pool, .. } = self;
        inbox.drain(COMPLETIONS_MAX, |received| match received {
            Received::Message(completion) => to_shards.completed(now, party, &completion),
            Received::Question(MatcherQuestion::SetMode(mode, _share)) => {
                pool.set_mode(now, party, mode);
            }
            Received::Question(MatcherQuestion::Statistics(share)) => {
                share.add(|all| pool.count(party, all));
            }
            Received::Question(MatcherQuestion::Serve(serve, reply)) => {
                reply.answer(pool.serve(now, party, serve));
            }
            Received::Question(MatcherQuestion::Join(accelerator, reply)) => {
                reply.answer(pool.join(now, party, accelerator));
            }
            Received::Question(MatcherQuestion::Gone(accelerator)) => {
                pool.note_gone(now, party, accelerator);
            }
            Received::Question(MatcherQuestion::Lose(accelerator)) => {
                pool.lose(now, party, accelerator);
            }
        });
    }

    /// Takes what the shards sent, and plans the pool if it is time to.
    pub(crate) fn receive(&mut self, now: Time) {
        let LiveMatcher { party, from_shards, to_shards, .. } = self;
        let shards = from_shards.len();
        for (number, FromShard { candidates, messages }) in from_shards.iter_mut().enumerate() {
            candidates.drain(|place, words| {
                let index = index_at(place, number, shards);
                let message = ShardToMatcher::Candidate(words.candidate(index));
                party.receive(now, message, |message| to_shards.decided(now, message));
            });
            messages.drain(usize::MAX, |message| {
                party.receive(now, message, |message| to_shards.decided(now, message));
            });
        }
        party.plan(now, |message| to_shards.decided(now, message));
    }

    /// Takes what the shards sent, and grants.
    pub(crate) fn decide(&mut self, now: Time) {
        self.receive(now);
        let LiveMatcher { party, to_shards, todo, pool, .. } = self;
        party.settle(now, todo, |message| {
            pool.granted += u64::from(matches!(message, MatcherToShard::Grant(_)));
            to_shards.decided(now, message);
        });
        pool.serving.set(party.serving());
        for action in todo.list.drain(..) {
            to_shards.changed(party, &action);
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        let has_news = |from: &FromShard| !from.messages.is_empty() || !from.candidates.is_empty();
        !self.inbox.is_empty() || self.from_shards.iter().any(has_news)
    }

    /// Whether everybody who could send to it is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether something waits for room on the way to a shard.
    pub(crate) fn has_backlog(&self) -> bool {
        self.to_shards.0.iter().any(Outbox::is_waiting)
    }

    pub(crate) fn next_wake(&self) -> Option<Time> {
        self.party.next_wake()
    }

    /// Whether the end of a batch could lead to anything now.
    pub(crate) fn awaits_ends(&self) -> bool {
        self.party.awaits_ends()
    }

    /// Its thread woke by its timer, this late; the shards' plans count with it.
    pub(crate) fn timer_fired(&mut self, now: Time, late: Span) {
        if let Some(late) = self.pool.late.record(now, late) {
            for outbox in &mut self.to_shards.0 {
                outbox.burst().send(FromMatcher::Late(late));
            }
        }
    }

    /// Its thread was busy for so long since the last call.
    pub(crate) fn worked(&mut self, now: Time, busy: Span) {
        let granted = std::mem::take(&mut self.pool.granted);
        if let Some(batches_per_s) = self.pool.cost.turn(now, busy, granted) {
            self.party.on_event(now, &Event::SetBatchesMax(batches_per_s), |_| {});
        }
    }
}

impl LivePool {
    fn set_mode(&mut self, now: Time, party: &mut Matcher, mode: Mode) {
        if mode == self.mode {
            return;
        }
        let before = self.mode.name();
        tracing::info!(mode = mode.name(), before, "scheduling in another mode");
        self.mode = mode;
        party.on_event(now, &Event::SetMode(mode), |_| {});
    }

    /// Has an accelerator serve, or not, and answers what it is then.
    fn serve(
        &self,
        now: Time,
        party: &mut Matcher,
        Serve { accelerator, serves }: Serve,
    ) -> Option<AcceleratorState> {
        if accelerator.0 >= self.accelerators {
            return None;
        }
        let before = self.state(party, accelerator);
        if matches!(before, AcceleratorState::Lost | AcceleratorState::Gone) {
            return Some(before);
        }
        let before = before.name();
        let event = if serves {
            Event::AddAccelerator { accelerator }
        } else {
            Event::DrainAccelerator { accelerator }
        };
        party.on_event(now, &event, |_| {});
        let (state, serving) = (party.state(accelerator), party.serving());
        // Before the answer: who asked may read it next.
        self.serving.set(serving);
        let number = accelerator.0;
        let what =
            if serves { "the accelerator is to serve" } else { "the accelerator is drained" };
        tracing::info!(accelerator = number, before, state = state.name(), serving, "{what}");
        Some(state)
    }

    /// Has an accelerator serve that is new to the pool, or has the number of one that is gone, and
    /// answers what it is then.
    fn join(
        &mut self,
        now: Time,
        party: &mut Matcher,
        accelerator: AcceleratorId,
    ) -> Option<AcceleratorState> {
        if accelerator.0 >= ACCELERATORS_MAX {
            return None;
        }
        if self.lost.contains(&accelerator) {
            return Some(AcceleratorState::Lost);
        }
        self.accelerators = self.accelerators.max(accelerator.0 + 1);
        party.on_event(now, &Event::AddAccelerator { accelerator }, |_| {});
        let (state, serving) = (party.state(accelerator), party.serving());
        self.serving.set(serving);
        tracing::info!(accelerator = accelerator.0, serving, "the accelerator joins the pool");
        Some(state)
    }

    /// Has no more batches sent to an accelerator before another joins by its number. Whether a
    /// thread of its process had failed says nothing of that one.
    fn note_gone(&mut self, now: Time, party: &mut Matcher, accelerator: AcceleratorId) {
        self.lost.remove(&accelerator);
        party.on_event(now, &Event::AcceleratorGone { accelerator }, |_| {});
        let serving = party.serving();
        self.serving.set(serving);
        tracing::warn!(
            accelerator = accelerator.0,
            serving,
            "the accelerator is gone: its batches are given up"
        );
    }

    /// What an accelerator is in the pool.
    fn state(&self, party: &Matcher, accelerator: AcceleratorId) -> AcceleratorState {
        if self.lost.contains(&accelerator) {
            AcceleratorState::Lost
        } else {
            party.state(accelerator)
        }
    }

    /// Never has an accelerator serve again.
    fn lose(&mut self, now: Time, party: &mut Matcher, accelerator: AcceleratorId) {
        if accelerator.0 >= self.accelerators || !self.lost.insert(accelerator) {
            return;
        }
        party.on_event(now, &Event::DrainAccelerator { accelerator }, |_| {});
        let serving = party.serving();
        self.serving.set(serving);
        tracing::error!(
            accelerator = accelerator.0,
            serving,
            "the accelerator is lost, and the others go on: restart the server to have it back"
        );
    }

    fn count(&self, party: &Matcher, all: &mut Statistics) {
        all.mode = self.mode;
        all.batches_max = self.cost.told();
        all.accelerators.resize(self.accelerators as usize, AcceleratorStatistics::default());
        for (number, accelerator) in (0u32..).zip(&mut all.accelerators) {
            accelerator.slowdown = party.accelerator_slowdown(AcceleratorId(number));
            accelerator.state = self.state(party, AcceleratorId(number));
            accelerator.gaps = self.gaps.read(AcceleratorId(number));
        }
    }
}

impl ToShards {
    /// Sends to the shard of a model.
    fn send(&mut self, model: ModelId, message: FromMatcher) {
        let home = home(model, self.0.len());
        self.0[home].burst().send(message);
    }

    /// Sends what the matcher decided to the shard that it is for, or to all.
    fn decided(&mut self, now: Time, message: MatcherToShard) {
        match message.model() {
            Some(model) => self.send(model, FromMatcher::Decided(now, message)),
            None => {
                for outbox in &mut self.0 {
                    outbox.burst().send(FromMatcher::Decided(now, message));
                }
            }
        }
    }

    /// Tells the matcher of a completion, and the shard of what was measured.
    fn completed(&mut self, now: Time, party: &mut Matcher, completion: &Timed<Completion>) {
        let Completion { accelerator, batch, exec, model, .. } = completion.message;
        let event = Event::Complete { accelerator, batch, exec };
        // It may have come while nobody was woken for it.
        let ended = completion.at.min(now);
        party.on_event(ended, &event, |message| self.decided(ended, message));
        let slowdown = party.accelerator_slowdown(accelerator);
        self.send(model, FromMatcher::Measured(*completion, slowdown));
    }

    /// Tells of what became of an accelerator.
    fn changed(&mut self, party: &Matcher, action: &Action) {
        let serving = party.serving();
        if serving == 0 && !matches!(action, Action::Recovered { .. }) {
            tracing::warn!(
                "no accelerator serves: queued requests are dropped when they can no longer be in \
                 time"
            );
        }
        match *action {
            Action::Lost { model, batch, accelerator, why: Loss::Overdue { by } } => {
                tracing::error!(
                    accelerator = accelerator.0,
                    batch = batch.0,
                    model = %model,
                    overdue_ms = by.as_millis_f64(),
                    serving,
                    "the accelerator has not completed a batch: it is taken out of the pool until \
                     it has, and the batch is given up"
                );
                self.send(model, FromMatcher::Lost(batch, accelerator));
            }
            // That it is gone was logged when that was heard of.
            Action::Lost { model, batch, accelerator, why: Loss::Gone } => {
                self.send(model, FromMatcher::Lost(batch, accelerator));
            }
            Action::Recovered { accelerator } => {
                tracing::info!(
                    accelerator = accelerator.0,
                    serving,
                    "the accelerator serves again"
                );
            }
            Action::Drained { accelerator } => {
                tracing::info!(
                    accelerator = accelerator.0,
                    serving,
                    "the accelerator runs no batch any more"
                );
            }
            // A shard's.
            Action::Start(_) | Action::Drop { .. } | Action::Removed { .. } => {}
        }
    }
}

/// The index of the models that have a place on a shard's board.
#[expect(clippy::cast_possible_truncation, reason = "places are counted by model indices")]
fn index_at(place: usize, shard: usize, shards: usize) -> u32 {
    (place * shards + shard) as u32
}
