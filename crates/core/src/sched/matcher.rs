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
    /// Accelerators with nothing to do, by number.
    idle: IndexedHeap<()>,
    /// Accelerators about to end their last batch, to which the next may be sent ahead.
    ending: IndexedHeap<()>,
    /// Accelerators that run their last batch, by when the next may be sent ahead.
    ahead: IndexedHeap<Time>,
}

/// What the matcher knows of one model.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    offer: Option<Offer>,
    /// Grants issued; a candidate made before the newest was answered is stale.
    issued: u32,
    /// Batches granted or sent, and not completed.
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
        let mut idle = IndexedHeap::new();
        for number in 0..accelerators {
            idle.set(number, ());
        }
        Matcher {
            models: Vec::new(),
            waiting: IndexedHeap::new(),
            ready: IndexedHeap::new(),
            accelerators: vec![Accelerator::default(); accelerators as usize],
            idle,
            ending: IndexedHeap::new(),
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
            self.ending.set(number, ());
        }
        while let Some((model, offer)) = self.next_ready(now)
            && let Some(number) = self.accelerator_for(now, &offer)
        {
            self.idle.remove(number);
            self.ending.remove(number);
            let accelerator = &mut self.accelerators[number as usize];
            accelerator.promised = true;
            let slot = &mut self.models[model.index()];
            slot.offer = None;
            slot.issued = slot.issued.wrapping_add(1);
            slot.running += 1;
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
            accelerator.free = accelerator.free.max(started.ready) + started.exec;
        } else {
            self.models[reply.model.index()].running -= 1;
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
        // The one behind starts now, whether this one ended early or late.
        accelerator.free = left.map_or(now, |o| now.max(o.started.ready) + o.started.exec);
        self.models[done.model.index()].running -= 1;
        self.release(now, id);
        Some(done.model)
    }

    /// Batches of a model that were granted or sent, and have not completed.
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
        // Without an accelerator to grant an opening window changes nothing.
        let none = self.idle.is_empty() && self.ending.is_empty();
        let opening = self.waiting.peek().map(|(time, _)| time).filter(|_| !none);
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

    /// The ready candidate to serve next. Candidates past their window are forgotten: their
    /// shard makes new ones.
    fn next_ready(&mut self, now: Time) -> Option<(ModelId, Offer)> {
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
            return Some((ModelId(index), offer));
        }
    }

    /// The lowest-numbered accelerator on which the batch can start as early as anywhere; one
    /// that is still running when the batch's window allows to wait for it.
    fn accelerator_for(&mut self, now: Time, offer: &Offer) -> Option<u32> {
        // One that should have ended and has not may never end: nothing more is sent to it.
        while let Some(((), number)) = self.ending.peek()
            && self.accelerators[number as usize].free < now
        {
            self.ending.remove(number);
        }
        let idle = self.idle.peek().map(|((), number)| number);
        let ending = self.ending.peek().map(|((), number)| number);
        let start_by = match idle {
            Some(_) => now + offer.lead,
            None => offer.latest + offer.lead,
        };
        let in_time = |number: &u32| self.accelerators[*number as usize].free <= start_by;
        [idle, ending.filter(in_time)].into_iter().flatten().min()
    }

    /// Makes an accelerator available as far as its batches allow.
    fn release(&mut self, now: Time, id: AcceleratorId) {
        let accelerator = &self.accelerators[id.index()];
        self.idle.remove(id.0);
        self.ending.remove(id.0);
        self.ahead.remove(id.0);
        if accelerator.promised {
            return;
        }
        match accelerator.outstanding {
            [None, _] => self.idle.set(id.0, ()),
            // Its end is a plan, not a fact: send ahead only to hide a delay.
            [Some(only), None] if only.started.lead > Span::ZERO => {
                let from = accelerator.free - only.started.lead;
                if from <= now { self.ending.set(id.0, ()) } else { self.ahead.set(id.0, from) }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: ModelId = ModelId(0);

    fn at(ms: u64) -> Time {
        Time(Span::from_millis(ms).0)
    }

    fn ms(ms: u64) -> Span {
        Span::from_millis(ms)
    }

    /// Offers a batch that may be sent from now until `latest` and runs for 10 ms, its inputs
    /// underway for `lead`: the accelerator that gets it.
    fn send(matcher: &mut Matcher, now: Time, batch: u64, latest: Time, lead: Span) -> Option<u32> {
        let generation = matcher.models.first().map_or(0, |slot| slot.issued);
        let offer = Some(Offer { exec: now, latest, lead, priority: 0 });
        matcher.candidate(now, Candidate { model: MODEL, generation, offer });
        let mut grants = Vec::new();
        matcher.assign(now, |grant| grants.push(grant));
        let accelerator = grants.pop()?.accelerator;
        let started = Started { batch: BatchId(batch), ready: now + lead, exec: ms(10), lead };
        matcher.reply(now, Reply { model: MODEL, accelerator, started: Some(started) });
        Some(accelerator.0)
    }

    #[test]
    fn nothing_is_sent_ahead_to_an_accelerator_that_overran() {
        let mut matcher = Matcher::new(2);
        assert_eq!(send(&mut matcher, at(0), 0, at(20), ms(1)), Some(0));
        // Planned from 1 to 11 ms.
        assert_eq!(send(&mut matcher, at(12), 1, at(30), ms(1)), Some(1));
        assert_eq!(send(&mut matcher, at(13), 2, at(30), ms(1)), None);
        assert!(matcher.complete(at(20), AcceleratorId(0), BatchId(0)).is_some());
        assert_eq!(send(&mut matcher, at(20), 3, at(30), ms(1)), Some(0));
    }

    #[test]
    fn an_idle_accelerator_is_not_passed_over_for_one_that_is_still_running() {
        let mut matcher = Matcher::new(2);
        assert_eq!(send(&mut matcher, at(0), 0, at(20), ms(5)), Some(0));
        // It ends at 15 ms, and something with a lead of 5 ms could be sent from 10 ms on.
        assert_eq!(send(&mut matcher, at(10), 1, at(11), ms(1)), Some(1));
        assert_eq!(send(&mut matcher, at(12), 2, at(12), ms(3)), Some(0), "no loss in waiting");
    }

    #[test]
    fn a_batch_sent_ahead_ends_later_when_the_one_before_it_does() {
        let mut matcher = Matcher::new(1);
        assert_eq!(send(&mut matcher, at(0), 0, at(20), ms(1)), Some(0));
        assert_eq!(send(&mut matcher, at(10), 1, at(20), ms(1)), Some(0));
        // The first ends at 18 instead of 11 ms, so the second at 28 instead of 21 ms.
        assert!(matcher.complete(at(18), AcceleratorId(0), BatchId(0)).is_some());
        assert_eq!(matcher.next_wake(), Some(at(27)));
        assert_eq!(send(&mut matcher, at(22), 2, at(25), ms(1)), None);
        assert_eq!(send(&mut matcher, at(27), 3, at(30), ms(1)), Some(0));
    }

    #[test]
    fn an_unanswered_grant_counts_as_running() {
        let mut matcher = Matcher::new(1);
        let offer = Some(Offer { exec: at(0), latest: at(1), lead: ms(0), priority: 0 });
        matcher.candidate(at(0), Candidate { model: MODEL, generation: 0, offer });
        matcher.assign(at(0), |_| {});
        assert_eq!(matcher.running(MODEL), 1);
        let declined = Reply { model: MODEL, accelerator: AcceleratorId(0), started: None };
        matcher.reply(at(0), declined);
        assert_eq!(matcher.running(MODEL), 0);
    }
}
