//! The newest candidate of each model, and whose turn it is.
//!
//! In: candidates, grants, time. Out: the first candidate whose window is open, of each tier. Knows
//! no accelerators.

use crate::ids::ModelId;
use crate::sched::heap::IndexedHeap;
use crate::sched::message::{Candidate, LEVELS, Offer, Tier};
use crate::time::Time;

/// The candidates of a pool.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    /// By the index of the model.
    slots: Vec<CandidateSlot>,
    /// Candidates whose window has not opened, or which are not urgent, by when that changes.
    waiting: IndexedHeap<Time>,
    /// By priority level, high candidates whose window is open, by their turn.
    ready: [IndexedHeap<Time>; LEVELS],
    /// By lower tier, candidates whose window is open, by their turn.
    ready_low: [IndexedHeap<Time>; Tier::LOWER.len()],
    /// High candidates whose window has not opened, by when they are expected to be sent.
    expected: IndexedHeap<Time>,
}

/// The newest candidate of one model.
#[derive(Clone, Copy, Debug, Default)]
struct CandidateSlot {
    /// The generation of the model that has this place.
    of: u32,
    offer: Option<Offer>,
    /// The level under which it is filed as ready, if it is a high one.
    ready_in: Option<u8>,
    /// Grants issued; a candidate made before the newest was answered is stale.
    issued: u32,
}

/// Under what a candidate is filed.
#[derive(Clone, Copy, Debug, Default)]
struct Filed {
    /// When its window opens, or it becomes urgent.
    waiting: Option<Time>,
    /// When it is expected to be sent, if it is a high one.
    expected: Option<Time>,
    /// Its tier among the lower ones, and its turn.
    ready_low: Option<(usize, Time)>,
    /// Its level and turn, if it is a high one.
    ready: Option<(u8, Time)>,
}

impl CandidateSlot {
    /// The place of a model that has offered nothing yet.
    fn of(model: ModelId) -> CandidateSlot {
        CandidateSlot { of: model.generation(), ..CandidateSlot::default() }
    }
}

impl Filed {
    fn of(now: Time, offer: &Offer) -> Filed {
        let none = Filed::default();
        let lower = offer.tier.lower();
        if offer.exec > now {
            let expected = lower.is_none().then_some(offer.expected);
            return Filed { waiting: Some(offer.exec), expected, ..none };
        }
        if let Some(lower) = lower {
            return Filed { ready_low: Some((lower, offer.turn)), ..none };
        }
        let is_urgent = offer.level == 0 || offer.urgent <= now;
        let level = if is_urgent { 0 } else { offer.level };
        let waiting = (!is_urgent).then_some(offer.urgent);
        Filed { waiting, ready: Some((level, offer.turn)), ..none }
    }
}

impl Candidates {
    pub(super) fn new() -> Candidates {
        Candidates {
            slots: Vec::new(),
            waiting: IndexedHeap::new(),
            ready: std::array::from_fn(|_| IndexedHeap::new()),
            ready_low: std::array::from_fn(|_| IndexedHeap::new()),
            expected: IndexedHeap::new(),
        }
    }

    /// Replaces a model's candidate, unless this one is stale. The model is the one that has its place
    /// now: a candidate of another generation is the first of this one.
    #[inline]
    pub(super) fn receive(&mut self, now: Time, candidate: &Candidate) {
        let index = candidate.model.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, CandidateSlot::default);
        }
        let slot = &mut self.slots[index];
        if slot.of != candidate.model.generation() {
            *slot = CandidateSlot { ready_in: slot.ready_in, ..CandidateSlot::of(candidate.model) };
        }
        if candidate.generation != slot.issued {
            return;
        }
        slot.offer = candidate.offer;
        self.place(now, candidate.model.slot(), candidate.offer);
    }

    /// Files every candidate as ready whose window has opened, and as urgent that has become so.
    #[inline]
    pub(super) fn open_windows(&mut self, now: Time) {
        while let Some((time, index)) = self.waiting.peek()
            && time <= now
        {
            self.place(now, index, self.slots[index as usize].offer);
        }
    }

    /// The high candidate whose turn is first, of the levels that may take accelerators: `running`
    /// batches of a level and all higher ones together stay within its limit.
    #[inline]
    pub(super) fn first_high(
        &mut self,
        now: Time,
        limits: &[u32; LEVELS],
        running: &[u32; LEVELS],
    ) -> Option<(ModelId, Offer)> {
        let mut taken: u32 = running.iter().sum();
        let mut first: Option<(Time, u32, Offer)> = None;
        for ((limit, running), ready) in limits.iter().zip(running).zip(&mut self.ready) {
            if taken >= *limit {
                break;
            }
            taken -= running;
            while let Some((turn, index)) = ready.peek() {
                match self.slots[index as usize].offer {
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

    /// The candidate of this lower tier whose turn is first.
    #[inline]
    pub(super) fn first_lower(&mut self, now: Time, lower: usize) -> Option<(ModelId, Offer)> {
        while let Some((_, index)) = self.ready_low[lower].peek() {
            match self.slots[index as usize].offer {
                Some(offer) if offer.latest >= now => return Some((self.model(index), offer)),
                _ => self.ready_low[lower].remove(index),
            }
        }
        None
    }

    /// The high candidate that is expected to be sent next, and when.
    pub(super) fn next_expected(&self) -> Option<(Time, Offer)> {
        let (expected, index) = self.expected.peek()?;
        Some((expected, self.slots[index as usize].offer?))
    }

    /// Whether a candidate of a lower tier may be ready.
    #[inline]
    pub(super) fn has_ready_lower(&self) -> bool {
        self.ready_low.iter().any(|ready| !ready.is_empty())
    }

    /// By lower tier, whether a candidate of it may be ready that gives way to this tier.
    #[inline]
    pub(super) fn passed_over(&self, tier: Tier) -> [bool; Tier::LOWER.len()] {
        let behind = tier.lower().map_or(0, |lower| lower + 1);
        std::array::from_fn(|lower| lower >= behind && !self.ready_low[lower].is_empty())
    }

    /// Whether there may be a candidate; a candidate that became too late stays filed until it is looked at.
    pub(super) fn has_any(&self) -> bool {
        let is_ready = self.ready.iter().any(|ready| !ready.is_empty());
        is_ready || self.has_ready_lower() || !self.waiting.is_empty()
    }

    /// When the next window opens, or the next candidate becomes urgent.
    pub(super) fn next_opening(&self) -> Option<Time> {
        self.waiting.peek().map(|(time, _)| time)
    }

    /// The batch of this offer was granted; it counts as offered again while there are more.
    #[inline]
    pub(super) fn grant(&mut self, model: ModelId, offer: &Offer) {
        let slot = &mut self.slots[model.index()];
        let left = offer.more_batches.checked_sub(1);
        slot.offer = left.map(|more_batches| Offer { more_batches, ..*offer });
        slot.issued = slot.issued.wrapping_add(1);
        if left.is_none() {
            self.file(model.slot(), Filed::default());
        }
    }

    /// Forgets a model.
    pub(super) fn forget(&mut self, model: ModelId) {
        self.file(model.slot(), Filed::default());
        if let Some(slot) = self.slots.get_mut(model.index()) {
            *slot = CandidateSlot::of(model.next_generation());
        }
    }

    #[cfg(test)]
    pub(super) fn issued(&self, model: ModelId) -> u32 {
        self.slots.get(model.index()).map_or(0, |slot| slot.issued)
    }

    /// The model that has a place now.
    #[inline]
    fn model(&self, index: u32) -> ModelId {
        ModelId::new(index, self.slots[index as usize].of)
    }

    /// Files a candidate under what it waits for.
    #[inline]
    fn place(&mut self, now: Time, index: u32, offer: Option<Offer>) {
        let filed = offer.map_or_else(Filed::default, |offer| Filed::of(now, &offer));
        self.file(index, filed);
    }

    #[inline]
    fn file(&mut self, index: u32, filed: Filed) {
        self.waiting.put(index, filed.waiting);
        self.expected.put(index, filed.expected);
        for (lower, ready) in self.ready_low.iter_mut().enumerate() {
            let turn = filed.ready_low.filter(|(tier, _)| *tier == lower);
            ready.put(index, turn.map(|(_, turn)| turn));
        }
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let before = std::mem::replace(&mut slot.ready_in, filed.ready.map(|(level, _)| level));
        if let Some(level) = before.filter(|_| before != slot.ready_in) {
            self.ready[usize::from(level)].remove(index);
        }
        if let Some((level, turn)) = filed.ready {
            self.ready[usize::from(level)].set(index, turn);
        }
    }
}
