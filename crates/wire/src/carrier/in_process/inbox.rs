//! The scheduler's ends of the ways into it: one inbox for each shard and one for the matcher,
//! grouped by the thread that reads them.
//!
//! An inbox has a ring for each thread that sends to it, so that none waits for another, and one
//! channel for what comes rarely.

use super::{Reply, Share};
use crate::carrier::Timed;
use crate::message::{AcceleratorState, AddModel, Completion, GapFigures, Mode, Serve, Statistics};
use crossbeam_channel::{Receiver, TryRecvError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use symphony_core::{AcceleratorId, ModelId, Origin, Profile, Request, RequestId, Time};
use symphony_exchange::{Doorbell, Receiver as Ring};

/// How a scheduler is laid out on threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shards, to which models are dealt in turn.
    shards: usize,
    /// Whether each shard and the matcher have a thread of their own.
    is_apart: bool,
}

impl Layout {
    /// One shard and the matcher on one thread.
    pub const TOGETHER: Layout = Layout { shards: 1, is_apart: false };

    /// On so many threads, at least one: the matcher has one to itself where there are two.
    #[must_use]
    pub fn on_threads(threads: usize) -> Layout {
        match threads.checked_sub(1) {
            None | Some(0) => Layout::TOGETHER,
            Some(shards) => Layout { shards, is_apart: true },
        }
    }

    /// How many shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Whether each shard and the matcher have a thread of their own.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// How many threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        if self.is_apart { self.shards + 1 } else { 1 }
    }
}

/// The shard, of so many, that owns a model. All generations of a place have the same one.
#[must_use]
pub fn home(model: ModelId, shards: usize) -> usize {
    model.index() % shards
}

/// What one thread of the scheduler reads.
pub struct ThreadInbox {
    /// Rings for everything below.
    pub doorbell: Doorbell,
    /// Its shards, by number.
    pub shards: Vec<(usize, ShardInbox)>,
    /// The matcher, on the thread that has it.
    pub matcher: Option<MatcherInbox>,
    /// For the matcher to set.
    pub serving: ServingCount,
    /// What accelerators have said of their gaps.
    pub gaps: GapBoard,
}

/// The newest gaps of each accelerator, as each said last. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct GapBoard(Arc<Mutex<BTreeMap<AcceleratorId, GapFigures>>>);

impl GapBoard {
    pub(super) fn set(&self, accelerator: AcceleratorId, gaps: GapFigures) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(accelerator, gaps);
    }

    /// What an accelerator said last.
    #[must_use]
    pub fn read(&self, accelerator: AcceleratorId) -> GapFigures {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&accelerator).copied().unwrap_or_default()
    }
}

/// How many accelerators serve: none until the matcher's thread sets it. Clones are the same number.
/// It is read without asking anybody, while the scheduler is busy, too.
#[derive(Clone, Debug, Default)]
pub struct ServingCount(Arc<AtomicU32>);

impl ServingCount {
    /// So many serve now.
    pub fn set(&self, accelerators: u32) {
        // A reader keeps the line in its cache while nothing changes.
        if self.read() != accelerators {
            self.0.store(accelerators, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests and what is asked of a shard.
pub type ShardInbox = Inbox<FrontendToShard, ShardQuestion>;
/// Completions and what is asked of the matcher.
pub type MatcherInbox = Inbox<Timed<Completion>, MatcherQuestion>;

/// What arrives at a shard or at the matcher.
#[derive(Debug)]
pub enum Received<M, Q> {
    /// One of many messages.
    Message(M),
    /// What is asked now and then.
    Question(Q),
}

/// A message from a frontend to a shard, in the time of this process's clock.
#[derive(Clone, Copy, Debug)]
pub enum FrontendToShard {
    /// A frontend admitted a request.
    Submit {
        /// Its model.
        model: ModelId,
        /// Its metadata.
        request: Request,
    },
    /// The client of a queued request has left.
    Cancel {
        /// Its model.
        model: ModelId,
        /// The request.
        request: RequestId,
        /// Its deadline, by which the queue finds it.
        deadline: Time,
    },
}

/// What is asked of a shard, each with the way of its answer.
#[derive(Debug)]
pub enum ShardQuestion {
    /// Take the requests of a model. Answered once they are taken.
    AddModel(AddModel, Reply<()>),
    /// Let the model's queue run empty, take no new requests for it, then forget it. Answered once
    /// its last batch has ended.
    RemoveModel(ModelId, Reply<()>),
    /// Run a model's batches by another profile from now on. Answered once they are planned by it;
    /// for a model that is not there nothing changes.
    SetProfile {
        /// The model, or one of its lanes.
        model: ModelId,
        /// What batches take from now on.
        profile: Arc<Profile>,
        /// The size of the requests that the lane was given to, if that is why: a scheduler in another
        /// process is told the size, and knows the profile itself.
        size: Option<u64>,
        /// Answered once batches are planned by it.
        reply: Reply<()>,
    },
    /// Schedule in another mode from now on. What is queued stays queued.
    SetMode(Mode, Share<()>),
    /// Add the counters of all models.
    Statistics(Share<Statistics>),
    /// The life of a frontend is over: let go of its requests, those that were submitted before this
    /// was asked and wait to be read too. Not answered.
    Forget(Origin),
    /// Let every queue run empty (each request runs or is dropped by its deadline), then stop.
    Drain(Share<()>),
}

/// What is asked of the matcher, each with the way of its answer.
#[derive(Debug)]
pub enum MatcherQuestion {
    /// Schedule in another mode from now on.
    SetMode(Mode, Share<()>),
    /// Add the counters of the pool and its accelerators.
    Statistics(Share<Statistics>),
    /// Send batches to an accelerator, or no more. Answered with what it is then; `None` when the
    /// pool has no such accelerator.
    Serve(Serve, Reply<Option<AcceleratorState>>),
    /// Send batches to an accelerator that is new to the pool, or that has the number of one that is
    /// gone. Answered with what it is then; `None` when there can be no accelerator of this number.
    Join(AcceleratorId, Reply<Option<AcceleratorState>>),
    /// An accelerator's process is gone, with what was sent to it. Not answered.
    Gone(AcceleratorId),
    /// Never send a batch to an accelerator again: its thread has failed. Not answered.
    Lose(AcceleratorId),
}

/// What comes by the channel.
pub(super) enum Rare<M, Q> {
    /// A thread sends for the first time.
    Connect(Ring<M>),
    Question(Q),
}

/// The reading end of the ways to a shard or to the matcher.
pub struct Inbox<M, Q> {
    rare: Receiver<Rare<M, Q>>,
    rings: Vec<Ring<M>>,
    /// Every port is gone: nothing more can come but what waits.
    is_closed: bool,
    /// Tells the ports that nobody reads any more.
    is_gone: Arc<AtomicBool>,
}

impl<M, Q> Inbox<M, Q> {
    pub(super) fn new(rare: Receiver<Rare<M, Q>>, is_gone: Arc<AtomicBool>) -> Inbox<M, Q> {
        Inbox { rare, rings: Vec::new(), is_closed: false, is_gone }
    }

    /// Gives what waits to `each`: all questions, then at most `max` messages of each sender, in the
    /// order in which it sent them. Returns how many there were.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(Received<M, Q>)) -> usize {
        let mut count = self.drain_rare(&mut each);
        for ring in &mut self.rings {
            count += ring.drain(max, |message| each(Received::Message(message)));
        }
        count
    }

    fn drain_rare(&mut self, each: &mut impl FnMut(Received<M, Q>)) -> usize {
        let mut count = 0;
        loop {
            match self.rare.try_recv() {
                Ok(Rare::Connect(ring)) => {
                    // Threads come and go: forget the rings of threads that have ended.
                    self.rings.retain(|ring| !(ring.is_abandoned() && ring.is_empty()));
                    self.rings.push(ring);
                }
                Ok(Rare::Question(question)) => {
                    count += 1;
                    each(Received::Question(question));
                }
                Err(TryRecvError::Empty) => return count,
                Err(TryRecvError::Disconnected) => {
                    self.is_closed = true;
                    return count;
                }
            }
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rare.is_empty() && self.rings.iter().all(Ring::is_empty)
    }

    /// Whether every port was gone at the last [`drain`](Inbox::drain).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl<M, Q> Drop for Inbox<M, Q> {
    /// A channel keeps what nobody received as long as somebody can send. What was sent before the
    /// flag is set is taken out here: its ring is abandoned, its question dropped. Who sends later
    /// sees the flag.
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.rare.try_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::in_process::{SubmitError, scheduler};
    use crate::message::Submit;
    use symphony_core::{Class, Span};

    #[test]
    fn what_nobody_read_when_the_scheduler_ended_is_let_go() {
        let model = ModelId::first(0);
        let (id, age, budget) = (RequestId::only(0), Span::ZERO, Span::from_secs(1));
        let submit = Submit { model, id, age, budget, rows: 1, class: Class::High };
        let submit = Timed::new(Time::ZERO, submit);
        let (port, threads) = scheduler(Layout::TOGETHER);
        assert_eq!(port.submit(submit), Ok(()), "by a ring that nobody has seen");
        let removed = port.remove_model(model).unwrap();
        drop(threads);
        assert!(removed.blocking_recv().is_err());
        assert_eq!(port.submit(submit), Err(SubmitError::Stopped));
        assert_eq!(port.remove_model(model).err(), Some(SubmitError::Stopped));
    }
}
