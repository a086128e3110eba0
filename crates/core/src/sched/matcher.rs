//! The accelerators of one pool: ready candidates get the lowest-numbered free one.
//!
//! Lowest first is what makes use follow load: at part load the accelerators at the high end
//! stay idle and can be given back.

use super::heap::IndexedHeap;
use super::{Candidate, Grant, Offer, Reply, Started};
use crate::ids::{AcceleratorId, BatchId, ModelId};
use crate::time::{Span, Time};

/// Owns the accelerators of a pool.
#[derive(Clone, Debug)]
pub struct Matcher {
    models: Vec<Slot>,
    /// Candidates whose window has not opened, by when it does.
    waiting: IndexedHeap<Time>,
    /// Candidates whose window is open: priority, then the moment it closes.
    ready: IndexedHeap<(u8, Time)>,
    accelerators: Vec<Accelerator>,
    /// Accelerators that can be granted, by number.
    free: IndexedHeap<()>,
    /// Accelerators that run their last batch, by when the next may be sent ahead.
    ahead: IndexedHeap<Time>,
}

/// What the matcher knows of one model.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    offer: Option<Offer>,
    /// Grants issued; a candidate made before the newest was answered is stale.
    issued: u32,
    /// Batches sent and not completed.
    running: u32,
}

/// Batches sent to one accelerator and not completed: the running one, and one sent ahead so
/// that its inputs arrive while the other runs.
const OUTSTANDING_MAX: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Accelerator {
    outstanding: [Option<Outstanding>; OUTSTANDING_MAX],
    /// When everything sent will have ended, as planned.
    free: Time,
    /// Granted, and the shard has not answered.
    promised: bool,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    model: ModelId,
    started: Started,
}

impl Matcher {
    /// A matcher for `accelerators` idle accelerators, numbered from zero.
    #[must_use]
    pub fn new(accelerators: u32) -> Matcher {
        let mut free = IndexedHeap::new();
        for number in 0..accelerators {
            free.set(number, ());
        }
        Matcher {
            models: Vec::new(),
            waiting: IndexedHeap::new(),
            ready: IndexedHeap::new(),
            accelerators: vec![Accelerator::default(); accelerators as usize],
            free,
            ahead: IndexedHeap::new(),
        }
    }

    /// Takes a model's newest candidate in place of the one before.
    pub fn candidate(&mut self, now: Time, candidate: Candidate) {
        let index = candidate.model.index();
        if self.models.len() <= index {
            self.models.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.models[index];
        if candidate.generation != slot.issued {
            return;
        }
        slot.offer = candidate.offer;
        self.place(now, candidate.model.0, candidate.offer);
    }

    /// Matches ready candidates to free accelerators and hands each grant to `issue`.
    pub fn assign(&mut self, now: Time, mut issue: impl FnMut(Grant)) {
        while let Some((time, number)) = self.ahead.peek()
            && time <= now
        {
            self.ahead.remove(number);
            self.free.set(number, ());
        }
        while let Some(((), number)) = self.free.peek()
            && let Some(model) = self.next_ready(now, self.accelerators[number as usize].free)
        {
            self.free.remove(number);
            let accelerator = &mut self.accelerators[number as usize];
            accelerator.promised = true;
            let slot = &mut self.models[model.index()];
            slot.offer = None;
            slot.issued = slot.issued.wrapping_add(1);
            self.ready.remove(model.0);
            issue(Grant { model, accelerator: AcceleratorId(number), free: accelerator.free });
        }
    }

    /// Takes a shard's answer to a grant.
    ///
    /// # Panics
    /// When there was no such grant.
    pub fn reply(&mut self, now: Time, reply: Reply) {
        let accelerator = &mut self.accelerators[reply.accelerator.index()];
        assert!(accelerator.promised, "a reply without a grant: {reply:?}");
        accelerator.promised = false;
        if let Some(started) = reply.started {
            let place = accelerator.outstanding.iter_mut().find(|place| place.is_none());
            let place = place.expect("an accelerator with no room is not granted");
            *place = Some(Outstanding { model: reply.model, started });
            accelerator.free = started.end;
            self.models[reply.model.index()].running += 1;
        }
        self.release(now, reply.accelerator);
    }

    /// An accelerator finished a batch: whose it was. No effect when it runs no such batch.
    pub fn complete(&mut self, now: Time, id: AcceleratorId, batch: BatchId) -> Option<ModelId> {
        let accelerator = self.accelerators.get_mut(id.index())?;
        let [first, second] = accelerator.outstanding;
        let is = |place: Option<Outstanding>| place.filter(|o| o.started.batch == batch);
        let (done, left) = match (is(first), is(second)) {
            (Some(done), _) => (done, second),
            (None, Some(done)) => (done, first),
            (None, None) => return None,
        };
        accelerator.outstanding = [left, None];
        if left.is_none() {
            accelerator.free = now;
        }
        self.models[done.model.index()].running -= 1;
        self.release(now, id);
        Some(done.model)
    }

    /// Batches of a model that were sent and have not completed.
    #[must_use]
    pub fn running(&self, model: ModelId) -> u32 {
        self.models.get(model.index()).map_or(0, |slot| slot.running)
    }

    /// Forgets a model, so that its identity may be used again.
    ///
    /// # Panics
    /// When a batch of it is running.
    pub fn remove(&mut self, model: ModelId) {
        assert_eq!(self.running(model), 0, "{model:?} still runs");
        self.waiting.remove(model.0);
        self.ready.remove(model.0);
        if let Some(slot) = self.models.get_mut(model.index()) {
            *slot = Slot::default();
        }
    }

    /// When to assign again though no message comes.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let ahead = self.ahead.peek().map(|(time, _)| time);
        // Without a free accelerator an opening window changes nothing.
        let opening = self.waiting.peek().map(|(time, _)| time).filter(|_| !self.free.is_empty());
        [ahead, opening].into_iter().flatten().min()
    }

    /// Files a candidate under what it waits for.
    fn place(&mut self, now: Time, index: u32, offer: Option<Offer>) {
        self.waiting.remove(index);
        self.ready.remove(index);
        match offer {
            Some(offer) if offer.exec > now => self.waiting.set(index, offer.exec),
            Some(offer) => self.ready.set(index, (offer.priority, offer.latest)),
            None => {}
        }
    }

    /// The ready candidate to serve next on an accelerator that is free from `free`. Candidates
    /// past their window are forgotten: their shard makes new ones.
    fn next_ready(&mut self, now: Time, free: Time) -> Option<ModelId> {
        while let Some((exec, index)) = self.waiting.peek()
            && exec <= now
        {
            self.place(now, index, self.models[index as usize].offer);
        }
        loop {
            let (_, index) = self.ready.peek()?;
            let offer = self.models[index as usize].offer?;
            if offer.latest < now {
                self.ready.remove(index);
                continue;
            }
            return (free <= offer.latest + offer.lead).then_some(ModelId(index));
        }
    }

    /// Makes an accelerator available as far as its batches allow.
    fn release(&mut self, now: Time, id: AcceleratorId) {
        let accelerator = &self.accelerators[id.index()];
        self.free.remove(id.0);
        self.ahead.remove(id.0);
        if accelerator.promised {
            return;
        }
        match accelerator.outstanding {
            [None, _] => self.free.set(id.0, ()),
            // Its end is a plan, not a fact: send ahead only to hide a delay.
            [Some(only), None] if only.started.lead > Span::ZERO => {
                let from = accelerator.free - only.started.lead;
                if from <= now { self.free.set(id.0, ()) } else { self.ahead.set(id.0, from) }
            }
            _ => {}
        }
    }
}
