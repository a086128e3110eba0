//! The accelerators of one pool: ready candidates get the lowest-numbered free one.
//!
//! Lowest first is what makes use follow load: at part load the accelerators at the high end
//! stay idle and can be given back. Only those that run slower than the others come last.
//!
//! High candidates go first, and an accelerator is kept free for the next one to open where no
//! other would be free for it. Low ones that wait meanwhile earn a share of the accelerators' time.

mod members;

pub use members::{ACCELERATORS_MAX, AcceleratorState, OVERDUE_AFTER};

use super::drift::{Lag, Shown, Usual};
use super::heap::IndexedHeap;
use super::needs::{HighLoad, RecentTraffic};
use super::plan::{ModelDemand, ModelPlan, Planner};
use super::shard::SHARE_ADVANCE;
use super::{Action, Candidate, Grant, LEVELS, LOW_SHARE_DEFAULT, Mode, Offer, Reply, Started};
use crate::ids::{AcceleratorId, BatchId, ModelId};
use crate::request::Class;
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};
use members::Watch;

/// Owns the accelerators of a pool.
#[derive(Clone, Debug)]
pub struct Matcher {
    models: Vec<Slot>,
    /// Candidates whose window has not opened, by when it does.
    waiting: IndexedHeap<Time>,
    /// By level, high candidates whose window is open, by their turn.
    ready: [IndexedHeap<Time>; LEVELS],
    /// Low candidates whose window is open, by their turn.
    ready_low: IndexedHeap<Time>,
    /// By level, batches that were granted or sent, and have not completed.
    active: [u32; LEVELS],
    /// Plans the batches of the pool, of what the shards report.
    planner: Planner,
    batches_max: f64,
    /// High candidates whose window has not opened, by when they are expected to be sent.
    expected: IndexedHeap<Time>,
    /// Accelerators with a low batch, or granted to one.
    low_running: u32,
    /// Of the time of high batches, what low ones that wait earn.
    low_share: f64,
    /// Nanoseconds of accelerators that low candidates are owed.
    owed: f64,
    accelerators: Vec<Accelerator>,
    /// How many of them are granted batches. Only these stand in one of the following orders.
    serving: u32,
    watch: Watch,
    /// What became of accelerators that nobody was told of.
    changes: Vec<Action>,
    /// Accelerators with nothing to do, by lag and number.
    idle: IndexedHeap<Slowdown>,
    /// Accelerators about to end their last batch, to which the next may be sent ahead.
    ending: IndexedHeap<Slowdown>,
    /// Accelerators that run their last batch, by when the next may be sent ahead.
    ahead: IndexedHeap<Time>,
    /// When to look for lags to forget; none while no accelerator lags.
    forget_due: Option<Time>,
    /// Accelerators that are not idle, by when they should be; without those that should be and
    /// are not.
    busy: IndexedHeap<Time>,
    next_batch: u64,
}

/// What the matcher knows of one model.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of the model that has this place; what comes from one before it is ignored.
    generation: u32,
    offer: Option<Offer>,
    /// The level under which the candidate is filed as ready, where it is a high one.
    ready_in: Option<u8>,
    /// Grants issued; a candidate made before the newest was answered is stale.
    issued: u32,
    /// Batches granted or sent, and not completed.
    running: u32,
    usual: Usual,
}

/// Batches sent to one accelerator and not completed: the running one, and one sent ahead so
/// that its inputs arrive while the other runs.
const OUTSTANDING_MAX: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Accelerator {
    /// Whether it was added, and not drained since.
    is_wanted: bool,
    /// Whether it has stopped answering. What it was sent is no longer counted.
    is_dead: bool,
    outstanding: [Option<Outstanding>; OUTSTANDING_MAX],
    /// When the first of these will have ended, as planned.
    first_end: Time,
    /// When everything sent will have ended, as planned.
    free: Time,
    /// Granted, and the shard has not answered.
    promised: Option<Promise>,
    lag: Lag,
}

/// A batch that completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEnded {
    /// Whose it was.
    pub model: ModelId,
    /// How long it ran compared with the profile as it was loaded, its accelerator's lag taken
    /// out; `None` when that is not known.
    pub ratio: Option<Slowdown>,
}

/// A grant that the shard has not answered, and what it changes in the account of low candidates.
#[derive(Clone, Copy, Debug)]
struct Promise {
    batch: BatchId,
    model: ModelId,
    /// How long the batch ran, when its end is known before its beginning.
    ended: Option<Span>,
    level: u8,
    class: Class,
    /// A low candidate was passed over for a high one.
    passed_over: bool,
    /// Nanoseconds that were paid in advance.
    paid: f64,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    batch: BatchId,
    model: ModelId,
    level: u8,
    class: Class,
    started: Started,
}

/// Under what a candidate is filed.
#[derive(Clone, Copy, Debug, Default)]
struct Filed {
    /// When its window opens, or it becomes urgent.
    waiting: Option<Time>,
    /// When it is expected to be sent, if it is a high one.
    expected: Option<Time>,
    /// Its turn, if it is a low one.
    ready_low: Option<Time>,
    /// Its level and turn, if it is a high one.
    ready: Option<(u8, Time)>,
}

impl Slot {
    /// That of a model of which nothing was heard yet.
    fn of(model: ModelId) -> Slot {
        Slot { generation: model.generation(), ..Slot::default() }
    }

    fn is_of(&self, model: ModelId) -> bool {
        self.generation == model.generation()
    }
}

impl Filed {
    fn of(now: Time, offer: &Offer) -> Filed {
        let none = Filed::default();
        let is_high = offer.class == Class::High;
        if offer.exec > now {
            let expected = is_high.then_some(offer.expected);
            return Filed { waiting: Some(offer.exec), expected, ..none };
        }
        if !is_high {
            return Filed { ready_low: Some(offer.turn), ..none };
        }
        let is_urgent = offer.level == 0 || offer.urgent <= now;
        let level = if is_urgent { 0 } else { offer.level };
        let waiting = (!is_urgent).then_some(offer.urgent);
        Filed { waiting, ready: Some((level, offer.turn)), ..none }
    }
}

impl Matcher {
    /// A matcher for `accelerators` idle accelerators, numbered from zero, of a pool that is
    /// scheduled by `mode`.
    #[must_use]
    pub fn new(mode: Mode, accelerators: u32) -> Matcher {
        let mut idle = IndexedHeap::new();
        for number in 0..accelerators {
            idle.set(number, Slowdown::ONE);
        }
        Matcher {
            models: Vec::new(),
            waiting: IndexedHeap::new(),
            ready: std::array::from_fn(|_| IndexedHeap::new()),
            ready_low: IndexedHeap::new(),
            active: [0; LEVELS],
            planner: Planner::new(mode, f64::INFINITY),
            batches_max: f64::INFINITY,
            expected: IndexedHeap::new(),
            low_running: 0,
            low_share: LOW_SHARE_DEFAULT,
            owed: 0.0,
            accelerators: vec![
                Accelerator { is_wanted: true, ..Accelerator::default() };
                accelerators as usize
            ],
            serving: accelerators,
            watch: Watch::new(),
            changes: Vec::new(),
            idle,
            ending: IndexedHeap::new(),
            ahead: IndexedHeap::new(),
            forget_due: None,
            busy: IndexedHeap::new(),
            next_batch: 0,
        }
    }

    /// Schedules by another mode from now on.
    pub fn set_mode(&mut self, mode: Mode) {
        self.planner = Planner::new(mode, self.batches_max);
    }

    /// Plans no more than half of the batches per second that the scheduler was measured to
    /// sustain.
    pub fn set_batches_max(&mut self, batches_per_s: f64) {
        self.batches_max = batches_per_s;
        self.planner.set_batches_max(batches_per_s);
    }

    /// Whether the pool is to be planned again.
    #[must_use]
    pub fn is_plan_due(&self, now: Time) -> bool {
        self.planner.is_due(now)
    }

    /// Takes what was measured of a model, for the next plan.
    pub fn note(&mut self, demand: ModelDemand) {
        self.planner.note(demand);
    }

    /// Takes what a shard has heard of, for the next plan.
    pub fn note_lately(&mut self, lately: RecentTraffic) {
        self.planner.note_lately(lately);
    }

    /// Plans the pool's batches from what was noted, and hands each model's plan to `issue`.
    /// Answers what high requests ask of the pool, while low ones come that can leave it to them.
    pub fn plan(&mut self, now: Time, issue: impl FnMut(ModelId, ModelPlan)) -> Option<HighLoad> {
        // Without any, nothing will be granted whatever is planned.
        self.planner.plan(now, self.serving.max(1), issue)
    }

    /// Keeps this share of the time of high batches for low candidates that wait.
    pub fn set_low_share(&mut self, share: f64) {
        self.low_share = share;
    }

    /// Takes a model's newest candidate in place of the one before.
    pub fn candidate(&mut self, now: Time, candidate: Candidate) {
        let index = candidate.model.index();
        if self.models.len() <= index {
            self.models.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.models[index];
        if candidate.model.is_later_than(slot.generation) && slot.running == 0 {
            *slot = Slot { ready_in: slot.ready_in, ..Slot::of(candidate.model) };
        }
        if !slot.is_of(candidate.model) || candidate.generation != slot.issued {
            return;
        }
        slot.offer = candidate.offer;
        self.place(now, candidate.model.slot(), candidate.offer);
    }

    /// Matches ready candidates to free accelerators and hands each grant to `issue`.
    pub fn assign(&mut self, now: Time, mut issue: impl FnMut(Grant)) {
        if self.forget_due.is_some_and(|due| due <= now) {
            self.forget_lags(now);
        }
        while let Some((time, number)) = self.ahead.peek()
            && time <= now
        {
            self.ahead.remove(number);
            self.ending.set(number, self.accelerators[number as usize].lag.slowdown());
        }
        while let Some((model, offer)) = self.next_ready(now)
            && let Some(number) = self.accelerator_for(now, &offer)
        {
            self.idle.remove(number);
            self.ending.remove(number);
            self.busy.remove(number);
            let promise = self.promise(model, &offer);
            let accelerator = &mut self.accelerators[number as usize];
            accelerator.promised = Some(promise);
            let Accelerator { free, lag, outstanding: [running, _], .. } = *accelerator;
            let slot = &mut self.models[model.index()];
            slot.offer =
                offer.more_batches.checked_sub(1).map(|more| Offer { more_batches: more, ..offer });
            slot.issued = slot.issued.wrapping_add(1);
            self.count_in(model, offer.level, offer.class);
            if offer.more_batches == 0 {
                self.file(model.slot(), Filed::default());
            }
            let (accelerator, slowdown) = (AcceleratorId(number), lag.slowdown());
            let behind = running.is_some();
            issue(Grant { model, accelerator, batch: promise.batch, free, slowdown, behind });
        }
    }

    /// Takes a shard's answer to a grant; one to no grant has no effect. Returns the batch if it
    /// has ended already.
    pub fn reply(&mut self, now: Time, reply: Reply) -> Option<BatchEnded> {
        let Reply { accelerator: id, batch, started } = reply;
        let accelerator = self.accelerators.get_mut(id.index())?;
        let promise = accelerator.promised.take_if(|promise| promise.batch == batch)?;
        let Promise { model, level, class, ended, .. } = promise;
        if let Some(started) = started {
            let sent = Outstanding { batch, model, level, class, started };
            let place = accelerator.outstanding.iter_mut().position(|place| place.is_none());
            let place = place.expect("an accelerator with no room is not granted");
            accelerator.outstanding[place] = Some(sent);
            accelerator.free = accelerator.free.max(started.ready) + started.exec;
            if place == 0 {
                accelerator.first_end = accelerator.free;
            }
            // It died while the grant was on its way.
            if accelerator.is_dead {
                self.lose(now, id, &sent);
            }
        } else {
            self.count_out(model, level, class);
        }
        self.account(promise, started);
        self.release(now, id);
        self.note_drained(id);
        ended.and_then(|exec| self.complete(now, id, batch, exec))
    }

    /// An accelerator finished a batch, after running it for `exec`; zero when that teaches
    /// nothing. No effect when it runs no such batch. The end of one of which the shard has not
    /// said yet that it began is kept until it does; that of one that was given up only tells that
    /// its accelerator is not dead.
    pub fn complete(
        &mut self,
        now: Time,
        id: AcceleratorId,
        batch: BatchId,
        exec: Span,
    ) -> Option<BatchEnded> {
        let accelerator = self.accelerators.get_mut(id.index())?;
        let [first, second] = accelerator.outstanding;
        let is = |place: Option<Outstanding>| place.filter(|o| o.batch == batch);
        let (done, left) = match (is(first), is(second)) {
            (Some(done), _) => (done, second),
            (None, Some(done)) => (done, first),
            (None, None) => {
                let promise = accelerator.promised.as_mut().filter(|p| p.batch == batch)?;
                promise.ended = Some(exec);
                return None;
            }
        };
        accelerator.outstanding = [left, None];
        // The one behind starts now, whether this one ended early or late.
        accelerator.free = left.map_or(now, |o| now.max(o.started.ready) + o.started.exec);
        accelerator.first_end = accelerator.free;
        if accelerator.is_dead {
            self.ended_late(now, id);
            return None;
        }
        self.count_out(done.model, done.level, done.class);
        let ratio = (exec > Span::ZERO).then(|| self.learn(now, id, done, exec));
        self.release(now, id);
        self.note_drained(id);
        Some(BatchEnded { model: done.model, ratio })
    }

    /// A batch was granted.
    fn count_in(&mut self, model: ModelId, level: u8, class: Class) {
        self.models[model.index()].running += 1;
        self.active[usize::from(level)] += 1;
        self.low_running += u32::from(class == Class::Low);
    }

    /// A batch that was granted has completed, or was never sent.
    fn count_out(&mut self, model: ModelId, level: u8, class: Class) {
        self.models[model.index()].running -= 1;
        self.active[usize::from(level)] -= 1;
        self.low_running -= u32::from(class == Class::Low);
    }

    /// How many times longer than elsewhere in the pool batches run on an accelerator.
    #[must_use]
    pub fn accelerator_slowdown(&self, id: AcceleratorId) -> Slowdown {
        self.accelerators
            .get(id.index())
            .map_or(Slowdown::ONE, |accelerator| accelerator.lag.slowdown())
    }

    /// Compares a batch with what is usual for its model on other accelerators; returns how it
    /// compares with the loaded profile, its accelerator's lag taken out.
    fn learn(&mut self, now: Time, id: AcceleratorId, done: Outstanding, exec: Span) -> Slowdown {
        let ratio = Slowdown::of(exec, done.started.table);
        let lag = &mut self.accelerators[id.index()].lag;
        let usual = &mut self.models[done.model.index()].usual;
        lag.record(now, usual.compare(ratio.over(lag.slowdown())));
        match lag.shown() {
            Some(Shown::Slower(slowdown)) if self.stands_alone(now, id) => {
                self.set_lag(now, id, slowdown)
            }
            Some(Shown::Faster(slowdown)) => self.set_lag(now, id, slowdown),
            _ => {}
        }
        ratio.over(self.accelerator_slowdown(id))
    }

    /// Whether most of the other accelerators that ran a batch of late were not slower than
    /// usual: what befalls them all is not this one's own.
    fn stands_alone(&self, now: Time, id: AcceleratorId) -> bool {
        let others = (0u32..).zip(&self.accelerators).filter(|(number, _)| *number != id.0);
        let witnesses = others.filter_map(|(_, accelerator)| accelerator.lag.witness(now));
        let (mut slower, mut all) = (0, 0);
        for slow in witnesses {
            slower += usize::from(slow);
            all += 1;
        }
        all > 0 && slower * 2 < all
    }

    /// Replaces what is known of an accelerator's lag. A lag that more than half of the
    /// accelerators have is none: the models' own drifts take it up from the next batches on.
    fn set_lag(&mut self, now: Time, id: AcceleratorId, slowdown: Slowdown) {
        self.accelerators[id.index()].lag.set(slowdown);
        let mut lags = self.lags_beside(id);
        let middle = (lags.len() - 1) / 2;
        let common = *lags.select_nth_unstable(middle).1;
        if common > Slowdown::ONE {
            for accelerator in &mut self.accelerators {
                accelerator.lag.set(accelerator.lag.slowdown().over(common));
            }
            self.rank_again(now);
        } else {
            self.release(now, id);
            let forget_due = self.accelerators[id.index()].lag.forget_due();
            self.forget_due = self.forget_due.into_iter().chain(forget_due).min();
        }
    }

    /// The lags of all that serve, and of this one.
    fn lags_beside(&self, id: AcceleratorId) -> Vec<Slowdown> {
        let lag = |accelerator: &Accelerator| accelerator.lag.slowdown();
        // Mostly all do, and to ask each would take longer than the rest.
        if self.serving as usize == self.accelerators.len() {
            return self.accelerators.iter().map(lag).collect();
        }
        let others = (0u32..).zip(&self.accelerators);
        let serving = others.filter(|(number, other)| other.is_serving() || *number == id.0);
        serving.map(|(_, other)| lag(other)).collect()
    }

    fn forget_lags(&mut self, now: Time) {
        for accelerator in &mut self.accelerators {
            accelerator.lag.forget(now);
        }
        self.rank_again(now);
    }

    /// Files every accelerator under its lag, after some have changed.
    fn rank_again(&mut self, now: Time) {
        for number in (0u32..).take(self.accelerators.len()) {
            self.release(now, AcceleratorId(number));
        }
        self.forget_due = self.accelerators.iter().filter_map(|a| a.lag.forget_due()).min();
    }

    /// Batches of a model that were granted or sent, and have not completed.
    #[must_use]
    pub fn running(&self, model: ModelId) -> u32 {
        let slot = self.models.get(model.index()).filter(|slot| slot.is_of(model));
        slot.map_or(0, |slot| slot.running)
    }

    /// Forgets a model, so that its identity may be used again.
    ///
    /// # Panics
    /// When a batch of it is running.
    pub fn remove(&mut self, model: ModelId) {
        assert_eq!(self.running(model), 0, "{model:?} still runs");
        self.planner.forget(model);
        if self.models.get(model.index()).is_some_and(|slot| slot.is_of(model)) {
            self.file(model.slot(), Filed::default());
            self.models[model.index()] = Slot::of(model.next_generation());
        }
    }

    /// When to assign again though no message comes.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        // With nothing to grant it to, an accelerator that may be sent a batch ahead changes nothing.
        let ahead = self.ahead.peek().map(|(time, _)| time).filter(|_| self.has_candidate());
        // Without an accelerator to grant an opening window changes nothing.
        let none = self.idle.is_empty() && self.ending.is_empty();
        let opening = self.waiting.peek().map(|(time, _)| time).filter(|_| !none);
        [ahead, opening, self.next_look()].into_iter().flatten().min()
    }

    /// Whether the end of a batch could lead to anything now: a candidate may be granted, or an
    /// accelerator is about to leave the pool or to come back.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.has_candidate() || (self.serving as usize) < self.accelerators.len()
    }

    /// Whether there may be a candidate; those that became too late stay filed until looked at.
    fn has_candidate(&self) -> bool {
        let is_ready = self.ready.iter().any(|ready| !ready.is_empty());
        is_ready || !self.waiting.is_empty() || !self.ready_low.is_empty()
    }

    /// Files a candidate under what it waits for.
    fn place(&mut self, now: Time, index: u32, offer: Option<Offer>) {
        let filed = offer.map_or_else(Filed::default, |offer| Filed::of(now, &offer));
        self.file(index, filed);
    }

    fn file(&mut self, index: u32, filed: Filed) {
        self.waiting.put(index, filed.waiting);
        self.expected.put(index, filed.expected);
        self.ready_low.put(index, filed.ready_low);
        let Some(slot) = self.models.get_mut(index as usize) else { return };
        let before = std::mem::replace(&mut slot.ready_in, filed.ready.map(|(level, _)| level));
        if let Some(level) = before.filter(|_| before != slot.ready_in) {
            self.ready[usize::from(level)].remove(index);
        }
        if let Some((level, turn)) = filed.ready {
            self.ready[usize::from(level)].set(index, turn);
        }
    }

    /// The ready candidate to serve next: the first high one, unless the first low one is owed
    /// the time of its batch.
    fn next_ready(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        while let Some((time, index)) = self.waiting.peek()
            && time <= now
        {
            self.place(now, index, self.models[index as usize].offer);
        }
        let low = self.first_low(now);
        let is_owed = |(_, offer): &(ModelId, Offer)| self.owed >= offer.exec_span.0 as f64;
        match low.filter(is_owed) {
            Some(owed) => Some(owed),
            None => self.first_high(now).or(low),
        }
    }

    /// The high candidate whose turn is first, of the levels that may take accelerators.
    fn first_high(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        let limits = self.planner.limits();
        let mut taken: u32 = self.active.iter().sum();
        let mut first: Option<(Time, u32, Offer)> = None;
        for ((limit, active), ready) in limits.iter().zip(&self.active).zip(&mut self.ready) {
            // What this level and the higher ones run keeps it, and all higher ones, from more.
            if taken >= *limit {
                break;
            }
            taken -= active;
            while let Some((turn, index)) = ready.peek() {
                match self.models[index as usize].offer {
                    Some(offer) if offer.latest >= now => {
                        let next = (turn, index, offer);
                        first = first.filter(|(other, ..)| *other <= turn).or(Some(next));
                        break;
                    }
                    _ => ready.remove(index),
                }
            }
        }
        first.map(|(_, index, offer)| (self.model(index), offer))
    }

    /// The model that has a place now.
    fn model(&self, index: u32) -> ModelId {
        ModelId::new(index, self.models[index as usize].generation)
    }

    /// The low candidate whose turn is first.
    fn first_low(&mut self, now: Time) -> Option<(ModelId, Offer)> {
        while let Some((_, index)) = self.ready_low.peek() {
            match self.models[index as usize].offer {
                Some(offer) if offer.latest >= now => return Some((self.model(index), offer)),
                _ => self.ready_low.remove(index),
            }
        }
        None
    }

    /// Pays for a low batch in advance, so that what is owed is not spent twice.
    fn promise(&mut self, model: ModelId, offer: &Offer) -> Promise {
        let low = &self.ready_low;
        let (passed_over, paid) = match offer.class {
            Class::High => (!low.is_empty(), 0.0),
            Class::Low => (false, offer.exec_span.0 as f64),
        };
        self.owed -= paid;
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let &Offer { level, class, .. } = offer;
        Promise { batch, model, ended: None, level, class, passed_over, paid }
    }

    /// Settles the account of low candidates when it is known what became of a grant.
    fn account(&mut self, promise: Promise, started: Option<Started>) {
        let Promise { class, passed_over, paid, .. } = promise;
        let ran = started.map_or(0.0, |started| started.exec.0 as f64);
        match class {
            Class::High if passed_over => self.owed += self.low_share * ran,
            Class::High => {}
            Class::Low => self.owed += paid - ran,
        }
        let accelerators = f64::from(self.serving);
        self.owed = self.owed.max(-self.low_share * accelerators * SHARE_ADVANCE.0 as f64);
    }

    /// Whether this accelerator is kept from a low batch: high requests need all that low ones
    /// leave, or it is the last one that is free in time for the high candidate expected next.
    fn is_kept(&mut self, now: Time, low: &Offer, number: u32) -> bool {
        if self.owed >= low.exec_span.0 as f64 {
            return false;
        }
        if f64::from(self.low_running + 1) + low.reserved > f64::from(self.serving) {
            return true;
        }
        let Some((expected, index)) = self.expected.peek() else { return false };
        let Some(high) = self.models[index as usize].offer else { return false };
        let start_by = expected + high.lead;
        let begin = self.accelerators[number as usize].free.max(now + low.lead);
        if begin + low.exec_span <= start_by {
            return false;
        }
        if self.idle.len() > usize::from(self.idle.contains(number)) {
            return false;
        }
        while let Some((free, late)) = self.busy.peek()
            && free < now
        {
            self.busy.remove(late);
        }
        let other = self.busy.first_but(number);
        other.is_none_or(|free| free > start_by)
    }

    /// The lowest-numbered accelerator on which the batch can start as early as anywhere; one
    /// that is still running when the batch's window allows to wait for it. One that lags comes
    /// after all that do not, so also after one that is still running, and only if the batch's
    /// first request would be in time on it.
    fn accelerator_for(&mut self, now: Time, offer: &Offer) -> Option<u32> {
        // One that should have ended and has not may never end: nothing more is sent to it.
        while let Some((_, number)) = self.ending.peek()
            && self.accelerators[number as usize].free < now
        {
            self.ending.remove(number);
        }
        let (idle, ending) = (self.idle.peek(), self.ending.peek());
        let start_by = match idle {
            Some((Slowdown::ONE, _)) => now + offer.lead,
            _ => offer.latest + offer.lead,
        };
        let free = |number: u32| self.accelerators[number as usize].free;
        let in_time = |(_, number): &(Slowdown, u32)| free(*number) <= start_by;
        let has_room = |(lag, number): &(Slowdown, u32)| {
            let start = free(*number).max(now + offer.lead);
            *lag == Slowdown::ONE || start + lag.stretch(offer.head_exec) <= offer.due
        };
        let fitting = [idle, ending.filter(in_time)].into_iter().flatten().filter(has_room);
        let (_, number) = fitting.min()?;
        let kept = offer.class == Class::Low && self.is_kept(now, offer, number);
        (!kept).then_some(number)
    }

    /// Makes an accelerator available as far as its batches allow.
    fn release(&mut self, now: Time, id: AcceleratorId) {
        let accelerator = &self.accelerators[id.index()];
        self.idle.remove(id.0);
        self.ending.remove(id.0);
        self.ahead.remove(id.0);
        self.busy.remove(id.0);
        if let Some(running) = accelerator.outstanding[0].filter(|_| !accelerator.is_dead) {
            self.watch.note(&running, accelerator.first_end);
        }
        if !accelerator.is_serving() {
            return;
        }
        if accelerator.outstanding[0].is_some() {
            self.busy.set(id.0, accelerator.free);
        }
        if accelerator.promised.is_some() {
            return;
        }
        match accelerator.outstanding {
            [None, _] => self.idle.set(id.0, accelerator.lag.slowdown()),
            // Its end is a plan, not a fact: send ahead only to hide a delay.
            [Some(only), None] if only.started.lead > Span::ZERO => {
                let from = accelerator.free - only.started.lead;
                match from <= now {
                    true => self.ending.set(id.0, accelerator.lag.slowdown()),
                    false => self.ahead.set(id.0, from),
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const MODEL: ModelId = ModelId::first(0);

    pub(super) fn at(ms: u64) -> Time {
        Time(Span::from_millis(ms).0)
    }

    pub(super) fn ms(ms: u64) -> Span {
        Span::from_millis(ms)
    }

    /// A batch that may be sent from now until `latest` and runs for 10 ms, its inputs underway
    /// for `lead`.
    fn candidate(generation: u32, now: Time, latest: Time, lead: Span) -> Candidate {
        let offer = Some(Offer {
            exec: now,
            urgent: now,
            latest,
            turn: latest,
            level: 0,
            lead,
            due: latest + ms(10),
            head_exec: ms(10),
            class: Class::High,
            exec_span: ms(10),
            reserved: 0.0,
            expected: now,
            more_batches: 0,
        });
        Candidate { model: MODEL, generation, offer }
    }

    /// Offers such a batch: what it is granted.
    pub(super) fn offer(
        matcher: &mut Matcher,
        now: Time,
        latest: Time,
        lead: Span,
    ) -> Option<Grant> {
        let generation = matcher.models.first().map_or(0, |slot| slot.issued);
        matcher.candidate(now, candidate(generation, now, latest, lead));
        let mut grants = Vec::new();
        matcher.assign(now, |grant| grants.push(grant));
        grants.pop()
    }

    /// The shard's answer: it was sent.
    pub(super) fn sent(now: Time, grant: Grant, lead: Span) -> Reply {
        let started = Started { ready: now + lead, exec: ms(10), table: ms(10), lead };
        let Grant { accelerator, batch, .. } = grant;
        Reply { accelerator, batch, started: Some(started) }
    }

    /// Offers such a batch and sends it at once: the accelerator that gets it. Batches are
    /// numbered in the order of their grants.
    pub(super) fn send(matcher: &mut Matcher, now: Time, latest: Time, lead: Span) -> Option<u32> {
        let grant = offer(matcher, now, latest, lead)?;
        assert_eq!(matcher.reply(now, sent(now, grant, lead)), None);
        Some(grant.accelerator.0)
    }

    /// Ends a batch on the first accelerator.
    pub(super) fn end(matcher: &mut Matcher, now: Time, batch: u64) {
        let ended = matcher.complete(now, AcceleratorId(0), BatchId(batch), Span::ZERO);
        assert_eq!(ended, Some(BatchEnded { model: MODEL, ratio: None }));
    }

    #[test]
    fn several_batches_of_a_model_are_granted_before_its_shard_answers() {
        let mut matcher = Matcher::new(Mode::Consolidate, 4);
        let with_more = |generation, more| {
            let candidate = candidate(generation, at(0), at(20), Span::ZERO);
            let offer = candidate.offer.map(|offer| Offer { more_batches: more, ..offer });
            Candidate { offer, ..candidate }
        };
        let mut grants = Vec::new();
        matcher.candidate(at(0), with_more(0, 2));
        matcher.assign(at(0), |grant| grants.push(grant));
        let numbers: Vec<_> = grants.iter().map(|grant| grant.accelerator.0).collect();
        assert_eq!(numbers, [0, 1, 2], "the batch and two more");
        assert_eq!(matcher.running(MODEL), 3);
        // Made when one of the three grants had been answered: it knows nothing of the others.
        matcher.candidate(at(1), with_more(1, 2));
        matcher.assign(at(1), |grant| panic!("{grant:?}"));
        for grant in grants {
            assert_eq!(matcher.reply(at(1), sent(at(1), grant, Span::ZERO)), None);
        }
        matcher.candidate(at(1), with_more(3, 0));
        matcher.assign(at(1), |grant| assert_eq!(grant.accelerator, AcceleratorId(3)));
        assert_eq!(matcher.running(MODEL), 4);
    }

    #[test]
    fn nothing_is_sent_ahead_to_an_accelerator_that_overran() {
        let mut matcher = Matcher::new(Mode::Consolidate, 2);
        assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
        // Planned from 1 to 11 ms.
        assert_eq!(send(&mut matcher, at(12), at(30), ms(1)), Some(1));
        assert_eq!(send(&mut matcher, at(13), at(30), ms(1)), None);
        end(&mut matcher, at(20), 0);
        assert_eq!(send(&mut matcher, at(20), at(30), ms(1)), Some(0));
    }

    #[test]
    fn an_idle_accelerator_is_not_passed_over_for_one_that_is_still_running() {
        let mut matcher = Matcher::new(Mode::Consolidate, 2);
        assert_eq!(send(&mut matcher, at(0), at(20), ms(5)), Some(0));
        // It ends at 15 ms, and something with a lead of 5 ms could be sent from 10 ms on.
        assert_eq!(send(&mut matcher, at(10), at(11), ms(1)), Some(1));
        assert_eq!(send(&mut matcher, at(12), at(12), ms(3)), Some(0), "no loss in waiting");
    }

    #[test]
    fn a_batch_sent_ahead_ends_later_when_the_one_before_it_does() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
        assert_eq!(send(&mut matcher, at(10), at(20), ms(1)), Some(0));
        // The first ends at 18 instead of 11 ms, so the second at 28 instead of 21 ms.
        end(&mut matcher, at(18), 0);
        assert_eq!(matcher.next_wake(), matcher.next_look(), "there is nothing to send ahead");
        assert_eq!(send(&mut matcher, at(22), at(25), ms(1)), None);
        assert_eq!(matcher.next_wake(), Some(at(27)));
        assert_eq!(send(&mut matcher, at(27), at(30), ms(1)), Some(0));
    }

    #[test]
    fn an_unanswered_grant_counts_as_running() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        let Grant { accelerator, batch, .. } = offer(&mut matcher, at(0), at(1), ms(0)).unwrap();
        assert_eq!(matcher.running(MODEL), 1);
        let declined = Reply { accelerator, batch, started: None };
        assert_eq!(matcher.reply(at(0), declined), None);
        assert_eq!(matcher.running(MODEL), 0);
        assert_eq!(matcher.reply(at(0), declined), None, "said twice");
        assert_eq!(matcher.running(MODEL), 0);
        let elsewhere = Reply { accelerator: AcceleratorId(9), ..declined };
        assert_eq!(matcher.reply(at(0), elsewhere), None);
        assert_eq!(send(&mut matcher, at(2), at(3), ms(0)), Some(0));
    }

    #[test]
    fn an_end_that_is_heard_of_before_the_beginning_is_kept() {
        let mut matcher = Matcher::new(Mode::Consolidate, 1);
        let grant = offer(&mut matcher, at(0), at(20), ms(0)).unwrap();
        assert_eq!(matcher.complete(at(9), grant.accelerator, grant.batch, ms(9)), None);
        assert_eq!(matcher.running(MODEL), 1);
        let ended = matcher.reply(at(10), sent(at(1), grant, ms(0)));
        assert_eq!(
            ended,
            Some(BatchEnded { model: MODEL, ratio: Some(Slowdown::of(ms(9), ms(10))) })
        );
        assert_eq!(matcher.running(MODEL), 0);
        assert_eq!(send(&mut matcher, at(10), at(20), ms(0)), Some(0));
    }

    #[test]
    fn a_model_is_not_offered_for_by_one_that_had_its_place_before() {
        let mut matcher = Matcher::new(Mode::Consolidate, 2);
        let granted = |matcher: &mut Matcher, model| {
            matcher.candidate(at(0), Candidate { model, ..candidate(0, at(0), at(20), ms(0)) });
            let mut grants = Vec::new();
            matcher.assign(at(0), |grant| grants.push(grant.model));
            grants
        };
        let later = ModelId::new(0, 2);
        // Nothing was heard of the generation between: it may have been given up before it served.
        assert_eq!(granted(&mut matcher, later), [later]);
        assert_eq!(granted(&mut matcher, MODEL), []);
        assert_eq!((matcher.running(later), matcher.running(MODEL)), (1, 0));
    }

    #[test]
    fn a_candidate_from_before_the_newest_grant_is_ignored() {
        let mut matcher = Matcher::new(Mode::Consolidate, 2);
        assert!(offer(&mut matcher, at(0), at(20), ms(0)).is_some());
        // The shard offered this while the grant was on its way.
        let mut crossed = candidate(0, at(0), at(20), ms(0));
        matcher.candidate(at(0), crossed);
        matcher.assign(at(0), |grant| panic!("{grant:?}"));
        crossed.generation = 1;
        matcher.candidate(at(0), crossed);
        let mut grants = 0;
        matcher.assign(at(0), |_| grants += 1);
        assert_eq!(grants, 1);
    }
}
