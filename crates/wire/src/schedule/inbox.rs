//! The scheduler's ends of the ways into it: one inbox for each shard and one for the matcher,
//! grouped by the thread that reads them.
//!
//! An inbox has a ring for each thread that sends to it, so that none waits for another, and one
//! channel for what comes rarely.

use super::{Completion, MatcherControl, ShardControl, ToShard};
use crossbeam_channel::{Receiver, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use symphony_core::ModelId;
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

/// The shard, of so many, that owns a model. An identity that is used again comes to the same one.
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
    /// For that one to tell.
    pub serving: Serving,
}

/// How many accelerators serve: none until the matcher's thread tells it. Clones are the same
/// number. Whoever reads it asks nobody, and has an answer while the scheduler is busy.
#[derive(Clone, Debug, Default)]
pub struct Serving(Arc<AtomicU32>);

impl Serving {
    /// So many do now.
    pub fn tell(&self, accelerators: u32) {
        // Who reads it keeps the line in its cache while nothing changes.
        if self.read() != accelerators {
            self.0.store(accelerators, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests and what is asked of a shard.
pub type ShardInbox = Inbox<ToShard, ShardControl>;
/// Completions and what is asked of the matcher.
pub type MatcherInbox = Inbox<Completion, MatcherControl>;

/// What arrives at a shard or at the matcher.
#[derive(Debug)]
pub enum Message<M, C> {
    /// One of many.
    Plain(M),
    /// One that comes now and then.
    Control(C),
}

/// What comes by the channel.
pub(super) enum Rare<M, C> {
    /// A thread sends for the first time.
    Connect(Ring<M>),
    Control(C),
}

/// The reading end of the ways to a shard or to the matcher.
pub struct Inbox<M, C> {
    rare: Receiver<Rare<M, C>>,
    rings: Vec<Ring<M>>,
    /// Every port is gone: nothing more can come but what waits.
    is_closed: bool,
    /// Said to the ports when nobody reads any more.
    is_gone: Arc<AtomicBool>,
}

impl<M, C> Inbox<M, C> {
    pub(super) fn new(rare: Receiver<Rare<M, C>>, is_gone: Arc<AtomicBool>) -> Inbox<M, C> {
        Inbox { rare, rings: Vec::new(), is_closed: false, is_gone }
    }

    /// Gives what waits to `each`: everything rare, then at most `max` of each sender's messages,
    /// in the order in which that one sent them. How many messages there were.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(Message<M, C>)) -> usize {
        let mut count = self.drain_rare(&mut each);
        for ring in &mut self.rings {
            count += ring.drain(max, |message| each(Message::Plain(message)));
        }
        count
    }

    fn drain_rare(&mut self, each: &mut impl FnMut(Message<M, C>)) -> usize {
        let mut count = 0;
        loop {
            match self.rare.try_recv() {
                Ok(Rare::Connect(ring)) => {
                    // Threads come and go; a good moment to forget those that went.
                    self.rings.retain(|ring| !(ring.is_abandoned() && ring.is_empty()));
                    self.rings.push(ring);
                }
                Ok(Rare::Control(control)) => {
                    count += 1;
                    each(Message::Control(control));
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

impl<M, C> Drop for Inbox<M, C> {
    /// A channel keeps what nobody received as long as somebody can send. Whoever sent before this
    /// is said finds it taken out here, its ring abandoned or its question let go; whoever sends
    /// later sees that it was said.
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.rare.try_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{SubmitError, scheduler};
    use symphony_core::{Class, ModelId, Request, RequestId, Span, Time};

    #[test]
    fn what_nobody_read_when_the_scheduler_ended_is_let_go() {
        let model = ModelId::first(0);
        let deadline = Time::ZERO + Span::from_secs(1);
        let (arrival, class) = (Time::ZERO, Class::High);
        let request = Request { id: RequestId::only(0), arrival, deadline, rows: 1, class };
        let (port, threads) = scheduler(Layout::TOGETHER);
        assert_eq!(port.submit(model, request), Ok(()), "by a ring that nobody has seen");
        let removed = port.remove_model(model).unwrap();
        drop(threads);
        assert!(removed.blocking_recv().is_err());
        assert_eq!(port.submit(model, request), Err(SubmitError::Stopped));
        assert_eq!(port.remove_model(model).err(), Some(SubmitError::Stopped));
    }
}
