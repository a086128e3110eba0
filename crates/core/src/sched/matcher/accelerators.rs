//! The accelerators of one pool: which of them a batch can have, and when they will be free.
//!
//! In: grants, replies and ends of batches. Out: the accelerator for an offer. Lowest first is what
//! makes use follow the load: at part load the accelerators at the high end stay idle and can be
//! given back. Only stragglers come last.

use super::accelerator::{AcceleratorState, PoolAccelerator};
use super::watch::Watch;
use crate::ids::AcceleratorId;
use crate::sched::action::Action;
use crate::sched::heap::IndexedHeap;
use crate::sched::message::{Offer, SentBatch};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// The accelerators of a pool.
#[derive(Clone, Debug)]
pub(super) struct Accelerators {
    pub(super) list: Vec<PoolAccelerator>,
    /// How many of them are granted batches. Only these stand in the orders below.
    pub(super) serving: u32,
    pub(super) watch: Watch,
    /// News of accelerators that have not been handed out.
    pub(super) news: Vec<Action>,
    /// When to look for slowdowns to forget; `None` while there is no straggler.
    pub(super) forget_due: Option<Time>,
    /// Accelerators with nothing to do, by slowdown and number.
    idle: IndexedHeap<Slowdown>,
    /// Accelerators about to end their last batch, to which the next may be sent ahead.
    ending: IndexedHeap<Slowdown>,
    /// Accelerators that run their last batch, by when the next may be sent ahead.
    ahead: IndexedHeap<Time>,
    /// Accelerators that are not idle, by when they should be. Those that should be and are not may
    /// be missing.
    busy: IndexedHeap<Time>,
}

impl Accelerators {
    /// So many idle accelerators, numbered from zero.
    pub(super) fn new(count: u32) -> Accelerators {
        let mut idle = IndexedHeap::new();
        for number in 0..count {
            idle.set(number, Slowdown::ONE);
        }
        Accelerators {
            list: vec![PoolAccelerator::idle(); count as usize],
            serving: count,
            watch: Watch::new(),
            news: Vec::new(),
            forget_due: None,
            idle,
            ending: IndexedHeap::new(),
            ahead: IndexedHeap::new(),
            busy: IndexedHeap::new(),
        }
    }

    /// How many accelerators are granted batches.
    #[inline]
    pub(super) fn serving(&self) -> u32 {
        self.serving
    }

    /// Whether all accelerators serve that the pool ever had.
    pub(super) fn all_serve(&self) -> bool {
        self.serving as usize >= self.list.len()
    }

    /// What an accelerator is in the pool; away, if nobody ever added it.
    pub(super) fn state(&self, id: AcceleratorId) -> AcceleratorState {
        self.list.get(id.index()).map_or(AcceleratorState::Away, PoolAccelerator::state)
    }

    /// How many times longer than elsewhere in the pool batches run on an accelerator.
    #[inline]
    pub(super) fn slowdown(&self, id: AcceleratorId) -> Slowdown {
        self.list.get(id.index()).map_or(Slowdown::ONE, PoolAccelerator::slowdown)
    }

    /// Takes note of time: which accelerators may be sent a batch ahead now, and which slowdowns are
    /// to be forgotten.
    #[inline]
    pub(super) fn advance(&mut self, now: Time) {
        if self.forget_due.is_some_and(|due| due <= now) {
            self.forget_slowdowns(now);
        }
        while let Some((time, number)) = self.ahead.peek()
            && time <= now
        {
            self.ahead.remove(number);
            self.ending.set(number, self.list[number as usize].slowdown());
        }
    }

    /// The lowest-numbered accelerator on which the batch can start as early as anywhere. It may
    /// still be running if the window allows the batch to wait for it. A straggler comes after all
    /// others, so also after a running accelerator, and only if the batch's head would be in
    /// time on it.
    #[inline]
    pub(super) fn choose(&mut self, now: Time, offer: &Offer) -> Option<AcceleratorId> {
        // An accelerator that should have ended and has not may never end: nothing more is sent to
        // it.
        while let Some((_, number)) = self.ending.peek()
            && self.list[number as usize].free < now
        {
            self.ending.remove(number);
        }
        let (idle, ending) = (self.idle.peek(), self.ending.peek());
        let start_by = match idle {
            Some((Slowdown::ONE, _)) => now + offer.lead,
            _ => offer.latest + offer.lead,
        };
        let free = |number: u32| self.list[number as usize].free;
        let in_time = |(_, number): &(Slowdown, u32)| free(*number) <= start_by;
        let has_room = |(slowdown, number): &(Slowdown, u32)| {
            let start = free(*number).max(now + offer.lead);
            *slowdown == Slowdown::ONE || start + slowdown.stretch(offer.head_exec) <= offer.due
        };
        let fitting = [idle, ending.filter(in_time)].into_iter().flatten().filter(has_room);
        fitting.min().map(|(_, number)| AcceleratorId(number))
    }

    /// Whether this accelerator, with this low batch, would be missing to a high batch that has to
    /// be sent by `start_by`: no other one is free by then.
    #[inline]
    pub(super) fn is_last_free(
        &mut self,
        now: Time,
        id: AcceleratorId,
        low: &Offer,
        start_by: Time,
    ) -> bool {
        let begin = self.list[id.index()].free.max(now + low.lead);
        if begin + low.exec_span <= start_by {
            return false;
        }
        if self.idle.len() > usize::from(self.idle.contains(id.0)) {
            return false;
        }
        while let Some((free, late)) = self.busy.peek()
            && free < now
        {
            self.busy.remove(late);
        }
        self.busy.first_but(id.0).is_none_or(|free| free > start_by)
    }

    /// Takes an accelerator out of all orders, because it is granted a batch.
    #[inline]
    pub(super) fn take(&mut self, id: AcceleratorId) -> &mut PoolAccelerator {
        self.idle.remove(id.0);
        self.ending.remove(id.0);
        self.busy.remove(id.0);
        &mut self.list[id.index()]
    }

    /// Makes an accelerator available as far as its batches allow.
    #[inline]
    pub(super) fn release(&mut self, now: Time, id: AcceleratorId) {
        let accelerator = &self.list[id.index()];
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
        if accelerator.pending.is_some() {
            return;
        }
        match accelerator.outstanding {
            [None, _] => self.idle.set(id.0, accelerator.slowdown()),
            // Its end is a plan, not a fact: a batch is sent ahead only to hide a delay.
            [Some(only), None] if hides_delay(&only.sent) => {
                let from = accelerator.free - only.sent.lead;
                if from <= now {
                    self.ending.set(id.0, accelerator.slowdown());
                } else {
                    self.ahead.set(id.0, from);
                }
            }
            _ => {}
        }
    }

    /// Whether a batch could be granted to one now.
    pub(super) fn has_available(&self) -> bool {
        !self.idle.is_empty() || !self.ending.is_empty()
    }

    /// When the next accelerator may be sent a batch ahead.
    pub(super) fn next_ahead(&self) -> Option<Time> {
        self.ahead.peek().map(|(time, _)| time)
    }
}

/// Whether to send a batch ahead, to have its inputs there when this one ends. If that end is less
/// certain than the delay is long, the batch behind would more often wait for it than the other way
/// round, while more requests come and other accelerators become free.
#[inline]
fn hides_delay(running: &SentBatch) -> bool {
    running.lead > Span::ZERO && Span(running.spread.0 / 2) <= running.lead
}
