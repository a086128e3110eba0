//! Accelerators come and go while the others go on: they are added, drained, and taken out of the
//! pool when they stop answering.
//!
//! Whether an accelerator is wanted and whether it answers are two things. One that is dead comes
//! back by ending what it was given, and then serves only if it is still wanted. What a dead one
//! was given stays in its places until then, so that it never has more than two batches; nothing
//! else counts it any more.

use super::{Accelerator, Matcher, Outstanding};
use crate::ids::AcceleratorId;
use crate::sched::{Action, Actions, BatchEnded};
use crate::time::{Span, Time};

/// An accelerator is dead when a batch has not ended so long after it should have. Longer than a
/// machine stalls and stays usable: an operating system may stop a thread for half a second.
pub const OVERDUE_AFTER: Span = Span::from_secs(1);

/// Or so many times as long as the batch was planned to run, if that is longer: plans follow what
/// is measured up to eight times the profile, and an engine may take much longer than that for a
/// batch of a size that it never ran before.
const OVERDUE_TIMES: u64 = 10;

/// Accelerators are numbered below this, so that no number makes the table of them huge.
pub const ACCELERATORS_MAX: u32 = 1 << 16;

/// What an accelerator is in its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceleratorState {
    /// It is granted batches.
    #[default]
    Serving,
    /// It is granted none any more, and has not ended the last.
    Draining,
    /// It was drained, or never added.
    Away,
    /// It has not ended a batch for so long that it is granted none, until it has.
    Dead,
}

impl AcceleratorState {
    /// Every state.
    pub const ALL: [AcceleratorState; 4] = [
        AcceleratorState::Serving,
        AcceleratorState::Draining,
        AcceleratorState::Away,
        AcceleratorState::Dead,
    ];

    /// What protocols and metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AcceleratorState::Serving => "serving",
            AcceleratorState::Draining => "draining",
            AcceleratorState::Away => "away",
            AcceleratorState::Dead => "dead",
        }
    }
}

/// When to look for accelerators that are overdue. Batches set no timers: each may only move the
/// next look forward, and as long as batches end, a look finds that it can be moved back.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// How late a batch has to be at least.
    after: Span,
    /// No batch is overdue before; `None` while none runs.
    due: Option<Time>,
    /// The last look.
    looked: Time,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { after: OVERDUE_AFTER, due: None, looked: Time::ZERO }
    }

    /// When this batch is overdue, which should end at `end`.
    fn overdue(&self, running: &Outstanding, end: Time) -> Time {
        end + self.after.max(running.started.exec.times(OVERDUE_TIMES))
    }

    /// A batch runs that should end at `end`.
    pub(super) fn note(&mut self, running: &Outstanding, end: Time) {
        let overdue = self.overdue(running, end);
        self.due = Some(self.due.map_or(overdue, |due| due.min(overdue)));
    }

    fn half(&self) -> Span {
        Span(self.after.0 / 2)
    }

    /// Whether to look: a batch may be overdue, or will be soon if it has not ended long since.
    fn is_due(&self, now: Time) -> bool {
        let soon = now + self.half();
        let is_fresh = self.looked + self.half() > now;
        self.due.is_some_and(|due| due <= now || (due <= soon && !is_fresh))
    }
}

impl Accelerator {
    pub(super) fn is_serving(&self) -> bool {
        self.is_wanted && !self.is_dead
    }

    fn is_empty(&self) -> bool {
        self.promised.is_none() && (self.is_dead || self.outstanding[0].is_none())
    }

    fn state(&self) -> AcceleratorState {
        match (self.is_dead, self.is_wanted, self.is_empty()) {
            (true, ..) => AcceleratorState::Dead,
            (_, true, _) => AcceleratorState::Serving,
            (_, _, false) => AcceleratorState::Draining,
            (_, _, true) => AcceleratorState::Away,
        }
    }
}

impl Matcher {
    /// Takes an accelerator for dead when a batch has not ended so long after it should have, or
    /// ten times as long as the batch was planned to run, if that is longer.
    pub fn set_overdue_after(&mut self, after: Span) {
        self.watch.after = after;
    }

    /// Accelerators that are granted batches.
    #[must_use]
    pub fn serving(&self) -> u32 {
        self.serving
    }

    /// What an accelerator is in the pool; one that was never heard of is away.
    #[must_use]
    pub fn state(&self, id: AcceleratorId) -> AcceleratorState {
        let known = self.accelerators.get(id.index());
        known.map_or(AcceleratorState::Away, Accelerator::state)
    }

    /// Grants batches to an accelerator from now on: one that is away or draining, or a new one,
    /// before which all numbers that are new are away. A dead one serves once it has ended its
    /// batches. No effect on others, or from [`ACCELERATORS_MAX`] on.
    pub fn add(&mut self, now: Time, id: AcceleratorId) {
        if id.0 >= ACCELERATORS_MAX {
            return;
        }
        if self.accelerators.len() <= id.index() {
            self.accelerators.resize_with(id.index() + 1, Accelerator::default);
        }
        self.change(now, id, |accelerator| accelerator.is_wanted = true);
    }

    /// Grants no more batches to an accelerator. [`Action::Drained`] tells when it runs nothing;
    /// at once of one that runs nothing now.
    pub fn drain(&mut self, now: Time, id: AcceleratorId) {
        if id.index() >= self.accelerators.len() {
            self.changes.push(Action::Drained { accelerator: id });
            return;
        }
        self.change(now, id, |accelerator| accelerator.is_wanted = false);
        self.note_drained(id);
    }

    /// Looks for accelerators that are overdue, and hands out what became of accelerators since
    /// the last call: the lost batches to `end`, for the shards to count as ended.
    pub fn attend(&mut self, now: Time, todo: &mut Actions, mut end: impl FnMut(BatchEnded)) {
        if self.watch.is_due(now) {
            self.look(now);
        }
        for change in self.changes.drain(..) {
            if let Action::Lost { model, .. } = change {
                end(BatchEnded { model, ratio: None });
            }
            todo.list.push(change);
        }
    }

    /// When to look for overdue accelerators though nothing happens.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.watch.due.filter(|_| self.active.iter().any(|active| *active > 0))
    }

    fn look(&mut self, now: Time) {
        // Whoever comes this late was stopped itself, and so may the accelerators have been: they
        // get a little more time.
        let is_late = self.watch.due.is_some_and(|due| now.since(due) > self.watch.half());
        self.watch.looked = now;
        self.watch.due = None;
        for number in (0u32..).take(self.accelerators.len()) {
            let accelerator = &self.accelerators[number as usize];
            let Some(running) = accelerator.outstanding[0].filter(|_| !accelerator.is_dead) else {
                continue;
            };
            let mut overdue = self.watch.overdue(&running, accelerator.first_end);
            if is_late {
                overdue = overdue.max(now + self.watch.half());
            }
            if overdue <= now {
                self.bury(now, AcceleratorId(number));
            } else {
                self.watch.due = Some(self.watch.due.map_or(overdue, |due| due.min(overdue)));
            }
        }
    }

    /// An accelerator is taken for dead: its batches are lost.
    fn bury(&mut self, now: Time, id: AcceleratorId) {
        self.change(now, id, |accelerator| accelerator.is_dead = true);
        for lost in self.accelerators[id.index()].outstanding.into_iter().flatten() {
            self.lose(now, id, &lost);
        }
        self.note_drained(id);
    }

    /// What was sent to a dead accelerator will not be waited for.
    pub(super) fn lose(&mut self, now: Time, id: AcceleratorId, lost: &Outstanding) {
        let &Outstanding { batch, model, level, class, .. } = lost;
        self.count_out(model, level, class);
        let overdue = now.since(self.accelerators[id.index()].first_end);
        self.changes.push(Action::Lost { model, batch, accelerator: id, overdue });
    }

    /// A dead accelerator ended a batch that was given up: with the last one it is back.
    pub(super) fn ended_late(&mut self, now: Time, id: AcceleratorId) {
        if self.accelerators[id.index()].outstanding[0].is_none() {
            self.change(now, id, |accelerator| accelerator.is_dead = false);
            self.changes.push(Action::Recovered { accelerator: id });
        }
    }

    /// Tells of an accelerator that is not wanted, if it runs nothing.
    pub(super) fn note_drained(&mut self, id: AcceleratorId) {
        let accelerator = &self.accelerators[id.index()];
        if !accelerator.is_wanted && accelerator.is_empty() {
            self.changes.push(Action::Drained { accelerator: id });
        }
    }

    /// Changes what an accelerator is, and with it whether it serves.
    fn change(&mut self, now: Time, id: AcceleratorId, change: impl FnOnce(&mut Accelerator)) {
        let accelerator = &mut self.accelerators[id.index()];
        self.serving -= u32::from(accelerator.is_serving());
        change(accelerator);
        self.serving += u32::from(accelerator.is_serving());
        self.release(now, id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MODEL, at, end, ms, offer, send, sent};
    use super::*;
    use crate::ids::BatchId;
    use crate::sched::Mode;

    const FIRST: AcceleratorId = AcceleratorId(0);

    /// What the matcher says of accelerators, and how many batches it has the shards count out.
    fn attend(matcher: &mut Matcher, now: Time) -> (Vec<Action>, usize) {
        let (mut todo, mut ends) = (Actions::default(), 0);
        matcher.attend(now, &mut todo, |_| ends += 1);
        (todo.list, ends)
    }

    fn lost(batch: u64, overdue: Span) -> Action {
        Action::Lost { model: MODEL, batch: BatchId(batch), accelerator: FIRST, overdue }
    }

    fn nothing() -> (Vec<Action>, usize) {
        (vec![], 0)
    }

    #[test]
    fn one_that_does_not_answer_is_dead_until_it_has_ended_everything() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
        assert_eq!(send(&mut matcher, at(10), at(20), ms(1)), Some(0));
        // Planned to end at 11 ms, and the one behind it at 21 ms.
        assert_eq!(matcher.next_wake(), Some(at(1011)));
        assert_eq!(attend(&mut matcher, at(1010)), nothing());
        let both = [0, 1].map(|batch| lost(batch, ms(1000))).to_vec();
        assert_eq!(attend(&mut matcher, at(1011)), (both, 2));
        assert_eq!((matcher.running(MODEL), matcher.serving()), (0, 0));
        assert_eq!(matcher.state(FIRST), AcceleratorState::Dead);
        assert_eq!(send(&mut matcher, at(1012), at(1020), ms(0)), None);
        assert_eq!(matcher.next_wake(), None);
        for (batch, state) in [(1, AcceleratorState::Dead), (0, AcceleratorState::Serving)] {
            assert_eq!(matcher.complete(at(1015), FIRST, BatchId(batch), ms(10)), None);
            assert_eq!(matcher.state(FIRST), state);
        }
        let back = vec![Action::Recovered { accelerator: FIRST }];
        assert_eq!(attend(&mut matcher, at(1015)), (back, 0));
        assert_eq!(send(&mut matcher, at(1015), at(1020), ms(0)), Some(0));
    }

    #[test]
    fn what_ends_in_time_costs_no_look() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        for batch in 0..1000 {
            let now = at(batch * 10);
            assert_eq!(send(&mut matcher, now, now + ms(5), ms(0)), Some(0));
            assert_eq!(attend(&mut matcher, now), nothing());
            let due = matcher.next_look().unwrap();
            assert!(due > now + ms(500), "{due} at {now}: looked at ahead of time");
            end(&mut matcher, now + ms(10), batch);
            assert_eq!(matcher.next_look(), None, "nothing runs");
        }
    }

    #[test]
    fn whoever_looks_late_gives_a_little_time() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        matcher.set_overdue_after(ms(200));
        assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
        // Everything stood still for a minute.
        assert_eq!(attend(&mut matcher, at(60_000)), nothing());
        assert_eq!(matcher.next_wake(), Some(at(60_100)));
        assert_eq!(attend(&mut matcher, at(60_100)), (vec![lost(0, ms(60_090))], 1));
    }

    #[test]
    fn a_batch_that_a_dead_one_is_sent_late_is_lost_at_once() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
        let grant = offer(&mut matcher, at(10), at(20), ms(1)).unwrap();
        assert_eq!(attend(&mut matcher, at(1200)), (vec![lost(0, ms(1189))], 1));
        assert_eq!(matcher.running(MODEL), 1, "granted and not answered");
        assert_eq!(matcher.reply(at(1300), sent(at(10), grant, ms(1))), None);
        assert_eq!(attend(&mut matcher, at(1300)), (vec![lost(1, ms(1289))], 1));
        assert_eq!(matcher.running(MODEL), 0);
    }

    #[test]
    fn drained_is_said_when_nothing_runs_and_whenever_it_is_asked() {
        let mut matcher = Matcher::new(Mode::Consolidate, 2);
        let drained = |number| Action::Drained { accelerator: AcceleratorId(number) };
        assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
        for number in [0, 1, 1, 7, u32::MAX] {
            matcher.drain(at(1), AcceleratorId(number));
        }
        let idle = [1, 1, 7, u32::MAX].map(drained).to_vec();
        assert_eq!(attend(&mut matcher, at(1)), (idle, 0));
        assert_eq!(matcher.state(FIRST), AcceleratorState::Draining);
        end(&mut matcher, at(10), 0);
        assert_eq!(attend(&mut matcher, at(10)), (vec![drained(0)], 0));
        assert_eq!((matcher.state(FIRST), matcher.serving()), (AcceleratorState::Away, 0));
        assert_eq!(send(&mut matcher, at(11), at(20), ms(0)), None);
    }

    #[test]
    fn new_numbers_join_and_absurd_ones_do_not() {
        let mut matcher = Matcher::new(Mode::Consolidate, 0);
        for number in [2, 2, u32::MAX, ACCELERATORS_MAX] {
            matcher.add(at(0), AcceleratorId(number));
        }
        assert_eq!((matcher.serving(), matcher.accelerators.len()), (1, 3));
        assert_eq!(matcher.state(FIRST), AcceleratorState::Away);
        assert_eq!(send(&mut matcher, at(0), at(1), ms(0)), Some(2));
        matcher.add(at(1), FIRST);
        assert_eq!(send(&mut matcher, at(1), at(2), ms(0)), Some(0));
    }
}
