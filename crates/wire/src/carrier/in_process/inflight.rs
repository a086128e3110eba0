//! The table of admitted requests: tensors wait here, with the frontend, until a backend
//! fetches them. The scheduler never sees them.
//!
//! An entry can be taken out once. The scheduler takes it to drop the request, the frontend when the
//! client has left; each holds the only [`Pending`] then, and owes the request its one outcome. A
//! `Pending` that is dropped without an outcome answers `Failed`: even a panicking thread loses no
//! request.
//!
//! The backend takes only the tensors, as a [`RunningRequest`]. The way to the client stays in the
//! table, so that a request whose accelerator stops answering can still be given its outcome. The
//! first outcome counts.

use crate::carrier::shared_memory::Arena;
use crate::message::Outcome;
use crate::tensor::Inputs;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use symphony_core::{Origin, RequestId};
use tokio::sync::oneshot;

/// The outcome of a request that somebody dropped without one.
fn lost() -> Outcome {
    Outcome::Failed("the request was lost inside the server".to_owned())
}

/// One admitted request that still waits for its outcome.
#[derive(Debug)]
pub struct Pending {
    /// The tensors.
    pub inputs: Inputs,
    reply: Option<oneshot::Sender<Outcome>>,
}

impl Pending {
    /// Gives the request its outcome. A client that has left is no error.
    pub fn answer(mut self, outcome: Outcome) {
        self.send(|| outcome);
    }

    /// Gives the request back: its model was removed before the scheduler saw it.
    pub fn give_back(mut self) {
        let inputs = std::mem::take(&mut self.inputs);
        self.send(|| Outcome::Unloaded(inputs));
    }

    fn send(&mut self, outcome: impl FnOnce() -> Outcome) {
        if let Some(reply) = self.reply.take() {
            // The receiver is gone only when the client is.
            let _ = reply.send(outcome());
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.send(lost);
    }
}

/// Who has to be told how requests end that run.
pub trait Answers {
    /// Gives a request its outcome; no effect when it has one.
    fn settle(&self, id: RequestId, outcome: Outcome);

    /// Whether nobody waits for its outcome any more.
    fn is_abandoned(&self, id: RequestId) -> bool;
}

/// One request that runs: its tensors are here, its client waits elsewhere. Dropped without an
/// outcome it answers `Failed`, as a [`Pending`] does.
pub struct RunningRequest<'a> {
    /// The tensors.
    pub inputs: Inputs,
    id: RequestId,
    /// Until it is answered.
    answers: Option<&'a dyn Answers>,
}

impl<'a> RunningRequest<'a> {
    /// A request with these tensors, whose outcome goes to `answers`.
    #[must_use]
    pub fn new(id: RequestId, inputs: Inputs, answers: &'a dyn Answers) -> RunningRequest<'a> {
        RunningRequest { inputs, id, answers: Some(answers) }
    }

    /// Gives the request its outcome, unless it has been given up. A client that has left is no
    /// error.
    pub fn answer(mut self, outcome: Outcome) {
        self.settle(|| outcome);
    }

    /// Whether nobody waits any more: the client left, or was answered because this took too long.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.answers.is_none_or(|answers| answers.is_abandoned(self.id))
    }

    fn settle(&mut self, outcome: impl FnOnce() -> Outcome) {
        if let Some(answers) = self.answers.take() {
            answers.settle(self.id, outcome());
        }
    }
}

impl fmt::Debug for RunningRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningRequest").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.settle(lost);
    }
}

/// The table is full: too many requests are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} requests are already in flight, the server's limit")]
pub struct TooManyInFlight {
    /// The bound.
    pub limit: usize,
}

/// Bound on requests in flight in one process, where the configuration sets none.
pub const IN_FLIGHT_MAX_DEFAULT: usize = 65_536;

/// The table of one frontend, split in segments so that connections on different cores rarely meet.
/// Requests of other frontends, or of a former life of this one, are not in it.
#[derive(Debug)]
pub struct InFlight {
    origin: Origin,
    segments: Box<[Mutex<Segment>]>,
    next: AtomicUsize,
    count: AtomicUsize,
    limit: usize,
    arena: Option<Arena>,
}

#[derive(Debug, Default)]
struct Segment {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    /// Until somebody takes them.
    inputs: Option<Inputs>,
    /// A backend elsewhere has a copy of them, and runs the request.
    is_fetched: bool,
    /// Until its request has its outcome; the slot is free without it.
    reply: Option<oneshot::Sender<Outcome>>,
}

impl Segment {
    /// The slot of a request that has no outcome yet.
    fn entry(&mut self, generation: u32, slot: u32) -> Option<&mut Slot> {
        let entry = self.slots.get_mut(slot as usize)?;
        (entry.generation == generation && entry.reply.is_some()).then_some(entry)
    }

    /// Frees the slot of a request that gets its outcome now.
    fn free(&mut self, slot: u32) -> Option<oneshot::Sender<Outcome>> {
        let entry = self.slots.get_mut(slot as usize)?;
        let reply = entry.reply.take()?;
        entry.is_fetched = false;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        Some(reply)
    }
}

const SEGMENTS: usize = 16;
const SLOT_BITS: u32 = 28;

impl InFlight {
    /// An empty table for at most `limit` requests, of the first frontend in a life that begins now.
    #[must_use]
    pub fn new(limit: usize) -> InFlight {
        InFlight::of(Origin::new(0, life()), limit)
    }

    /// An empty table for at most `limit` requests that come from `origin`.
    #[must_use]
    pub fn of(origin: Origin, limit: usize) -> InFlight {
        InFlight {
            origin,
            segments: (0..SEGMENTS).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            // An identity has room for no more slots.
            limit: limit.min(1 << SLOT_BITS),
            arena: None,
        }
    }

    /// The same, and tensors wait where peers of this host read them.
    #[must_use]
    pub fn with_arena(self, arena: Option<Arena>) -> InFlight {
        InFlight { arena, ..self }
    }

    /// The memory in which tensors wait, where peers read it. What is put there to begin with is not
    /// copied into it.
    #[must_use]
    pub fn arena(&self) -> Option<&Arena> {
        self.arena.as_ref()
    }

    /// Admits a request: its tensors wait here under the returned identity.
    ///
    /// # Errors
    /// The bound is reached; the request was not admitted.
    pub fn admit(
        &self,
        mut inputs: Inputs,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<RequestId, TooManyInFlight> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.count.fetch_sub(1, Ordering::Relaxed);
            // The caller reports the refusal; the request was never in flight.
            return Err(TooManyInFlight { limit: self.limit });
        }
        if let Some(arena) = &self.arena {
            let tensors = inputs.tensors.iter_mut();
            tensors.for_each(|tensor| *tensor = arena.keep(std::mem::take(tensor)));
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed) % SEGMENTS;
        let mut segment = self.segment(index);
        let slot = segment.free.pop().unwrap_or_else(|| {
            segment.slots.push(Slot::default());
            u32::try_from(segment.slots.len() - 1).expect("in-flight limit keeps slots few")
        });
        let entry = &mut segment.slots[slot as usize];
        (entry.inputs, entry.reply) = (Some(inputs), Some(reply));
        Ok(RequestId::new(self.origin, number(entry.generation, slot, index)))
    }

    /// Takes a request out; `None` when someone else has.
    #[must_use]
    pub fn take(&self, id: RequestId) -> Option<Pending> {
        let (generation, slot, index) = self.parts(id)?;
        let mut segment = self.segment(index);
        let entry = segment.entry(generation, slot).filter(|entry| !entry.is_fetched)?;
        let inputs = entry.inputs.take()?;
        Some(self.pending(&mut segment, slot, inputs))
    }

    /// A copy of a request's tensors for a backend that runs it elsewhere; they stay here, for it may
    /// have to be fetched again. `None` when it has its outcome, or its client has left.
    #[must_use]
    pub fn fetch(&self, id: RequestId) -> Option<Inputs> {
        let (generation, slot, index) = self.parts(id)?;
        let mut segment = self.segment(index);
        let entry = segment.entry(generation, slot)?;
        if entry.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return None;
        }
        let inputs = entry.inputs.clone()?;
        if !std::mem::replace(&mut entry.is_fetched, true) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        Some(inputs)
    }

    /// The backend that had fetched a request is gone: the request waits again.
    pub fn unfetch(&self, id: RequestId) {
        let Some((generation, slot, index)) = self.parts(id) else { return };
        let mut segment = self.segment(index);
        let Some(entry) = segment.entry(generation, slot) else { return };
        if std::mem::take(&mut entry.is_fetched) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frees the requests that were fetched and whose clients have left: the backend that had them
    /// may never answer. Returns which.
    pub fn sweep(&self) -> Vec<RequestId> {
        let mut freed = Vec::new();
        for index in 0..SEGMENTS {
            let mut segment = self.segment(index);
            for slot in (0u32..).take(segment.slots.len()) {
                let entry = &mut segment.slots[slot as usize];
                let is_left = entry.reply.as_ref().is_some_and(oneshot::Sender::is_closed);
                if entry.is_fetched && is_left {
                    freed.push(RequestId::new(self.origin, number(entry.generation, slot, index)));
                    entry.inputs = None;
                    segment.free(slot);
                }
            }
        }
        freed
    }

    /// Takes a request's tensors out to run it; `None` when someone has taken it, or its client has
    /// left.
    #[must_use]
    pub fn run(&self, id: RequestId) -> Option<RunningRequest<'_>> {
        let (generation, slot, index) = self.parts(id)?;
        let mut segment = self.segment(index);
        let entry = segment.entry(generation, slot)?;
        let inputs = entry.inputs.take()?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        if entry.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            segment.free(slot);
            return None;
        }
        Some(RunningRequest::new(id, inputs, self))
    }

    /// Gives a request its outcome, whether or not it runs; no effect when it has one.
    pub fn settle(&self, id: RequestId, outcome: Outcome) {
        let Some((generation, slot, index)) = self.parts(id) else { return };
        let mut segment = self.segment(index);
        let Some(entry) = segment.entry(generation, slot) else { return };
        let inputs = entry.inputs.take();
        let waited = inputs.is_some() && !entry.is_fetched;
        let reply = segment.free(slot);
        // Neither waking a client nor freeing memory is to hold up others.
        drop(segment);
        drop(inputs);
        self.count.fetch_sub(usize::from(waited), Ordering::Relaxed);
        if let Some(reply) = reply {
            // The receiver is gone only when the client is.
            let _ = reply.send(outcome);
        }
    }

    /// Takes out every request that does not run. Called when the scheduler, which would have taken
    /// them, ends.
    #[must_use]
    pub fn take_all(&self) -> Vec<Pending> {
        let mut all = Vec::new();
        for index in 0..SEGMENTS {
            let slots = self.segment(index).slots.len();
            for slot in (0u32..).take(slots) {
                let mut segment = self.segment(index);
                let waiting = segment.slots.get_mut(slot as usize).filter(|slot| !slot.is_fetched);
                let inputs = waiting.and_then(|slot| slot.inputs.take());
                all.extend(inputs.map(|inputs| self.pending(&mut segment, slot, inputs)));
            }
        }
        all
    }

    /// Generation, slot and segment of a request of this table.
    #[expect(clippy::cast_possible_truncation, reason = "each part is masked to its width")]
    fn parts(&self, id: RequestId) -> Option<(u32, u32, usize)> {
        let number = id.number();
        let slot = (number as u32 >> 4) & ((1 << SLOT_BITS) - 1);
        (id.origin() == self.origin).then_some((
            (number >> 32) as u32,
            slot,
            (number & 15) as usize,
        ))
    }

    fn pending(&self, segment: &mut Segment, slot: u32, inputs: Inputs) -> Pending {
        self.count.fetch_sub(1, Ordering::Relaxed);
        Pending { inputs, reply: segment.free(slot) }
    }

    /// How many requests are waiting to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn segment(&self, index: usize) -> std::sync::MutexGuard<'_, Segment> {
        self.segments[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers for InFlight {
    fn settle(&self, id: RequestId, outcome: Outcome) {
        InFlight::settle(self, id, outcome);
    }

    fn is_abandoned(&self, id: RequestId) -> bool {
        let Some((generation, slot, index)) = self.parts(id) else { return true };
        let mut segment = self.segment(index);
        let entry = segment.entry(generation, slot);
        entry.and_then(|entry| entry.reply.as_ref()).is_none_or(oneshot::Sender::is_closed)
    }
}

/// A number in the table: generation (32 bits), slot (28), segment (4).
fn number(generation: u32, slot: u32, segment: usize) -> u64 {
    u64::from(generation) << 32 | u64::from(slot) << 4 | segment as u64
}

/// The life of a frontend that starts now. Counted in quarters of a second, so that it comes again
/// only a quarter of an hour later, when nobody knows of its requests any more; never zero, which is
/// [`Origin::ONLY`]'s.
#[expect(clippy::cast_possible_truncation, reason = "it is below 4096")]
fn life() -> u16 {
    let quarters =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() / 250;
    (quarters % u128::from(Origin::NUMBERS - 1)) as u16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admit(table: &InFlight) -> (Result<RequestId, TooManyInFlight>, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        (table.admit(Inputs::fixed(1, vec![]), reply), outcome)
    }

    #[test]
    fn an_entry_is_taken_once_and_its_slot_is_reused_under_another_identity() {
        let table = InFlight::new(64);
        let ids: Vec<_> = (0..40).map(|_| admit(&table).0.unwrap()).collect();
        for &id in &ids {
            assert!(table.take(id).is_some());
            assert!(table.take(id).is_none());
        }
        assert!(table.is_empty());
        for _ in 0..40 {
            assert!(!ids.contains(&admit(&table).0.unwrap()));
        }
    }

    #[test]
    fn the_bound_holds_and_room_comes_back() {
        let table = InFlight::new(2);
        let (first, _) = admit(&table);
        let (_second, _) = admit(&table);
        assert_eq!(admit(&table).0, Err(TooManyInFlight { limit: 2 }));
        drop(table.take(first.unwrap()));
        assert!(admit(&table).0.is_ok());
    }

    #[test]
    fn a_pending_request_let_go_still_gets_an_outcome() {
        let table = InFlight::new(2);
        let (id, mut outcome) = admit(&table);
        drop(table.take(id.unwrap()));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
    }

    #[test]
    fn an_unknown_identity_is_nobody() {
        let table = InFlight::new(2);
        for number in [u64::MAX, 0] {
            assert!(table.take(RequestId::new(table.origin, number)).is_none());
        }
    }

    proptest! {
        /// Whatever is asked with an identity of another frontend, or of another life, has no effect.
        #[test]
        fn a_request_of_another_origin_is_nobody(
            of in (0..3u16, 0..3u16), other in (0..3u16, 0..3u16), before in 0..3usize,
        ) {
            prop_assume!(of != other);
            let table = InFlight::of(Origin::new(of.0, of.1), 8);
            // The number may be of any generation.
            (0..before).for_each(|_| drop(table.take(admit(&table).0.unwrap())));
            let (id, mut outcome) = admit(&table);
            let id = id.unwrap();
            let alien = RequestId::new(Origin::new(other.0, other.1), id.number());
            prop_assert!(table.take(alien).is_none() && table.run(alien).is_none());
            table.settle(alien, Outcome::Failed("of another".to_owned()));
            prop_assert!(outcome.try_recv().is_err());
            prop_assert_eq!(table.len(), 1);
            prop_assert!(table.take(id).is_some());
        }
    }

    #[test]
    fn everything_can_be_taken_out_and_the_slots_are_used_again() {
        let table = InFlight::new(64);
        let ids: Vec<_> = (0..40).map(|_| admit(&table).0.unwrap()).collect();
        drop(table.take(ids[7]));
        assert_eq!(table.take_all().len(), 39);
        assert!(table.is_empty());
        assert!(ids.iter().all(|&id| table.take(id).is_none()));
        assert!((0..64).all(|_| admit(&table).0.is_ok()));
    }

    #[test]
    fn a_request_that_runs_has_the_first_of_its_outcomes_and_its_slot_is_used_again() {
        let why = |outcome: &mut oneshot::Receiver<Outcome>| match outcome.try_recv() {
            Ok(Outcome::Failed(why)) => why,
            other => panic!("{other:?}"),
        };
        let failed = |why: &str| Outcome::Failed(why.to_owned());
        let table = InFlight::new(1);
        let (id, mut outcome) = admit(&table);
        let id = id.unwrap();
        let running = table.run(id).unwrap();
        assert!(table.is_empty() && !running.is_abandoned());
        assert!(table.run(id).is_none() && table.take(id).is_none(), "it is taken");
        assert!(table.take_all().is_empty());
        table.settle(id, failed("given up"));
        assert!(running.is_abandoned());
        let (next, mut next_outcome) = admit(&table);
        running.answer(failed("too late"));
        table.settle(id, failed("again"));
        assert_eq!(why(&mut outcome), "given up");
        let running = table.run(next.unwrap()).unwrap();
        running.answer(failed("as usual"));
        assert_eq!(why(&mut next_outcome), "as usual");
        let (waiting, mut waiting_outcome) = admit(&table);
        table.settle(waiting.unwrap(), failed("never ran"));
        assert_eq!(why(&mut waiting_outcome), "never ran");
        assert!(table.is_empty());
    }

    #[test]
    fn a_running_request_let_go_still_gets_an_outcome_and_one_without_a_client_does_not_run() {
        let table = InFlight::new(1);
        let (id, mut outcome) = admit(&table);
        drop(table.run(id.unwrap()));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
        let (id, outcome) = admit(&table);
        drop(outcome);
        assert!(table.run(id.unwrap()).is_none());
        assert!(table.is_empty() && table.take(id.unwrap()).is_none());
        let (id, outcome) = admit(&table);
        let running = table.run(id.unwrap()).unwrap();
        drop(outcome);
        assert!(running.is_abandoned());
    }

    #[test]
    fn a_request_that_is_fetched_stays_until_its_outcome_or_until_its_client_has_left() {
        let table = InFlight::new(2);
        let (id, mut outcome) = admit(&table);
        let id = id.unwrap();
        assert!(table.fetch(id).is_some() && table.is_empty());
        assert!(table.take(id).is_none() && table.take_all().is_empty(), "it runs");
        assert!(table.fetch(id).is_some(), "another backend may have to run it");
        table.unfetch(id);
        assert_eq!(table.len(), 1);
        assert!(table.fetch(id).is_some());
        table.settle(id, Outcome::Failed("as asked".to_owned()));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
        assert!(table.fetch(id).is_none() && table.is_empty());

        let (id, outcome) = admit(&table);
        let id = id.unwrap();
        assert!(table.fetch(id).is_some());
        assert!(table.sweep().is_empty(), "its client waits");
        drop(outcome);
        assert!(table.fetch(id).is_none());
        assert_eq!(table.sweep(), [id]);
        assert!(table.sweep().is_empty() && table.is_empty());
        assert!(admit(&table).0.is_ok() && admit(&table).0.is_ok());
    }

    /// Threads admit requests and take their own and each other's, all at once: each request is
    /// taken by exactly one of them, each gets one outcome, and nothing stays behind.
    #[test]
    fn threads_that_race_for_a_request_do_not_both_get_it() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 300;
        const EACH: usize = 8;
        let table = InFlight::new(THREADS * EACH);
        let shared: Vec<_> = (0..THREADS * EACH).map(|_| Mutex::new(None)).collect();
        let barrier = std::sync::Barrier::new(THREADS);
        let run = |thread: usize| {
            let mut taken = 0;
            for _ in 0..ROUNDS {
                let mine: Vec<_> = (0..EACH).map(|_| admit(&table)).collect();
                for (at, (id, _)) in (thread * EACH..).zip(&mine) {
                    *shared[at].lock().unwrap() = Some((*id).unwrap());
                }
                barrier.wait();
                for at in 0..shared.len() {
                    let at = (at + thread * 3) % shared.len();
                    let id = shared[at].lock().unwrap().unwrap();
                    // Some to drop them, some to run them.
                    taken += usize::from(match thread % 2 {
                        0 => table.take(id).is_some(),
                        _ => table.run(id).is_some(),
                    });
                }
                barrier.wait();
                for (_, mut outcome) in mine {
                    assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
                }
            }
            taken
        };
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn({
                        let run = &run;
                        move || run(thread)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, THREADS * EACH * ROUNDS);
        assert!(table.is_empty());
    }
}
