//! The matcher of the live scheduler: candidates and completions in, grants out.

use crate::between::{FromMatcher, Heard, Outbox};
use crate::cost::Cost;
use crate::measure::Lateness;
use crate::thread::Settings;
use std::collections::BTreeSet;
use symphony_core::sched::{
    AcceleratorState, Action, Actions, Event, Matcher, MatcherToShard, Mode, ShardToMatcher,
};
use symphony_core::{AcceleratorId, Span, Time};
use symphony_wire::schedule::{
    AcceleratorStatistics, Completion, MatcherControl, MatcherInbox, Message, Serving, Statistics,
    home,
};

/// Completions of one sender taken in before deciding.
const COMPLETIONS_MAX: usize = 1024;

/// The matcher, and everything around it on its thread.
pub(crate) struct LiveMatcher {
    party: Matcher,
    inbox: MatcherInbox,
    /// From each shard.
    heard: Vec<Heard>,
    /// To each shard.
    said: Vec<Outbox<FromMatcher>>,
    /// What became of accelerators.
    todo: Actions,
    own: Own,
}

/// What the matcher's thread keeps for itself.
struct Own {
    mode: Mode,
    accelerators: u32,
    cost: Cost,
    /// Grants since its cost was last counted.
    granted: u64,
    late: Lateness,
    serving: Serving,
    /// The accelerators whose threads have failed.
    lost: BTreeSet<AcceleratorId>,
}

impl LiveMatcher {
    pub(crate) fn new(
        settings: &Settings,
        inbox: MatcherInbox,
        serving: Serving,
        heard: Vec<Heard>,
        said: Vec<Outbox<FromMatcher>>,
    ) -> LiveMatcher {
        let Settings { mode, accelerators, low_share, overdue_after } = *settings;
        let mut party = Matcher::new(mode, accelerators);
        party.set_low_share(low_share);
        party.set_overdue_after(overdue_after);
        serving.tell(party.serving());
        let (cost, late) = (Cost::new(), Lateness::new());
        let own =
            Own { mode, accelerators, cost, granted: 0, late, serving, lost: BTreeSet::new() };
        LiveMatcher { party, inbox, heard, said, todo: Actions::default(), own }
    }

    /// Takes note of the completions that have arrived, and of what is asked of it.
    pub(crate) fn take_in(&mut self, now: Time) {
        let LiveMatcher { party, inbox, said, own, .. } = self;
        inbox.drain(COMPLETIONS_MAX, |message| match message {
            Message::Plain(completion) => completed(now, party, said, &completion),
            Message::Control(MatcherControl::SetMode(mode, _share)) => {
                own.set_mode(now, party, mode);
            }
            Message::Control(MatcherControl::Statistics(share)) => {
                share.add(|all| own.count(party, all));
            }
            Message::Control(MatcherControl::Serve { accelerator, serves, done }) => {
                // The caller may have given up.
                let _ = done.send(own.serve(now, party, accelerator, serves));
            }
            Message::Control(MatcherControl::Lose { accelerator }) => {
                own.lose(now, party, accelerator);
            }
        });
    }

    /// Takes what the shards said, and plans the pool if it is time to.
    pub(crate) fn hear(&mut self, now: Time) {
        let LiveMatcher { party, heard, said, .. } = self;
        let shards = heard.len();
        for (number, Heard { candidates, messages }) in heard.iter_mut().enumerate() {
            candidates.drain(|place, words| {
                let index = index_at(place, number, shards);
                let message = ShardToMatcher::Candidate(words.candidate(index));
                party.receive(now, message, |message| say(said, now, message));
            });
            messages.drain(usize::MAX, |message| {
                party.receive(now, message, |message| say(said, now, message));
            });
        }
        party.plan(now, |message| say(said, now, message));
    }

    /// Takes what the shards said, and grants.
    pub(crate) fn decide(&mut self, now: Time) {
        self.hear(now);
        let LiveMatcher { party, said, todo, own, .. } = self;
        party.settle(now, todo, |message| {
            own.granted += u64::from(matches!(message, MatcherToShard::Grant(_)));
            say(said, now, message);
        });
        own.serving.tell(party.serving());
        for action in todo.list.drain(..) {
            changed(said, party, &action);
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        let heard = |heard: &Heard| !heard.messages.is_empty() || !heard.candidates.is_empty();
        !self.inbox.is_empty() || self.heard.iter().any(heard)
    }

    /// Whether everybody who could send to it is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether something waits for room on the way to a shard.
    pub(crate) fn has_backlog(&self) -> bool {
        self.said.iter().any(Outbox::is_waiting)
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
        if let Some(late) = self.own.late.record(now, late) {
            for outbox in &mut self.said {
                outbox.saying(|say| say(FromMatcher::Late(late)));
            }
        }
    }

    /// Its thread was busy for so long since the last call.
    pub(crate) fn worked(&mut self, now: Time, busy: Span) {
        let granted = std::mem::take(&mut self.own.granted);
        if let Some(batches_per_s) = self.own.cost.turn(now, busy, granted) {
            self.party.on_event(now, &Event::SetBatchesMax(batches_per_s), |_| {});
        }
    }
}

impl Own {
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
        accelerator: AcceleratorId,
        serves: bool,
    ) -> Option<AcceleratorState> {
        if accelerator.0 >= self.accelerators {
            return None;
        }
        if self.lost.contains(&accelerator) {
            return Some(AcceleratorState::Lost);
        }
        let before = party.state(accelerator).name();
        let event = if serves {
            Event::AddAccelerator { accelerator }
        } else {
            Event::DrainAccelerator { accelerator }
        };
        party.on_event(now, &event, |_| {});
        let (state, serving) = (party.state(accelerator), party.serving());
        // Before the caller is answered.
        self.serving.tell(serving);
        let number = accelerator.0;
        let what =
            if serves { "the accelerator is to serve" } else { "the accelerator is drained" };
        tracing::info!(accelerator = number, before, state = state.name(), serving, "{what}");
        Some(state)
    }

    /// Never has an accelerator serve again.
    fn lose(&mut self, now: Time, party: &mut Matcher, accelerator: AcceleratorId) {
        if accelerator.0 >= self.accelerators || !self.lost.insert(accelerator) {
            return;
        }
        party.on_event(now, &Event::DrainAccelerator { accelerator }, |_| {});
        let serving = party.serving();
        self.serving.tell(serving);
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
            accelerator.state = if self.lost.contains(&AcceleratorId(number)) {
                AcceleratorState::Lost
            } else {
                party.state(AcceleratorId(number))
            };
        }
    }
}

/// Tells the matcher of a completion, and the shard of what was measured.
fn completed(
    now: Time,
    party: &mut Matcher,
    said: &mut [Outbox<FromMatcher>],
    completion: &Completion,
) {
    let &Completion { accelerator, batch, exec, model, finished, .. } = completion;
    let event = Event::Complete { accelerator, batch, exec };
    // Nobody may have woken for it when it came.
    let ended = finished.min(now);
    party.on_event(ended, &event, |message| say(said, ended, message));
    let slowdown = party.accelerator_slowdown(accelerator);
    let home = home(model, said.len());
    said[home].saying(|say| say(FromMatcher::Measured(*completion, slowdown)));
}

/// Tells of what became of an accelerator.
fn changed(said: &mut [Outbox<FromMatcher>], party: &Matcher, action: &Action) {
    let serving = party.serving();
    if serving == 0 && !matches!(action, Action::Recovered { .. }) {
        tracing::warn!(
            "no accelerator serves: queued requests are dropped when they can no longer be in time"
        );
    }
    match *action {
        Action::Lost { model, batch, accelerator, overdue } => {
            tracing::error!(
                accelerator = accelerator.0,
                batch = batch.0,
                model = %model,
                overdue_ms = overdue.as_millis_f64(),
                serving,
                "the accelerator has not completed a batch: it is taken out of the pool until it \
                 has, and the batch is given up"
            );
            let home = home(model, said.len());
            said[home].saying(|say| say(FromMatcher::Lost(batch, accelerator)));
        }
        Action::Recovered { accelerator } => {
            tracing::info!(accelerator = accelerator.0, serving, "the accelerator serves again");
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

/// Sends what the matcher decided to the shard that it is for, or to all.
fn say(said: &mut [Outbox<FromMatcher>], now: Time, message: MatcherToShard) {
    let said = match message.model() {
        Some(model) => {
            let home = home(model, said.len());
            &mut said[home..=home]
        }
        None => said,
    };
    for outbox in said {
        outbox.saying(|say| say(FromMatcher::Decided(now, message)));
    }
}

/// The index of the models that have a place on a shard's board.
#[expect(clippy::cast_possible_truncation, reason = "places are counted by model indices")]
fn index_at(place: usize, shard: usize, shards: usize) -> u32 {
    (place * shards + shard) as u32
}
