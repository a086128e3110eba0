//! The ring under loom, which cannot see into rtrb's atomics: the part of rtrb's interface that
//! this crate uses, with the same two counters and the same orderings on them. It shows that the
//! bell misses nothing of what a ring publishes; it does not check rtrb's own slots.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};

use loom::sync::atomic::AtomicUsize;

/// Makes rings.
pub(crate) struct RingBuffer;

impl RingBuffer {
    #[expect(clippy::new_ret_no_self, reason = "the interface that is stood in for")]
    pub(crate) fn new<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let shared = Arc::new(Shared {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
        });
        (Producer { shared: Arc::clone(&shared) }, Consumer { shared })
    }
}

struct Shared<T> {
    /// How many were taken, ever.
    head: AtomicUsize,
    /// How many were put in, ever.
    tail: AtomicUsize,
    /// The standard library's locks, which loom does not see: they order nothing in its eyes.
    slots: Box<[Mutex<Option<T>>]>,
}

impl<T> Shared<T> {
    fn swap(&self, position: usize, value: Option<T>) -> Option<T> {
        let slot = &self.slots[position % self.slots.len()];
        std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), value)
    }
}

pub(crate) enum PushError<T> {
    Full(T),
}

pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Producer<T> {
    pub(crate) fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.slots() == 0 {
            return Err(PushError::Full(value));
        }
        let tail = self.shared.tail.load(Relaxed);
        self.shared.swap(tail, Some(value));
        self.shared.tail.store(tail + 1, Release);
        Ok(())
    }

    pub(crate) fn slots(&self) -> usize {
        let head = self.shared.head.load(Acquire);
        self.shared.slots.len() - (self.shared.tail.load(Relaxed) - head)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) < 2
    }
}

pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Consumer<T> {
    pub(crate) fn pop(&mut self) -> Result<T, ()> {
        self.read_chunk(1)?.into_iter().next().ok_or(())
    }

    pub(crate) fn read_chunk(&mut self, count: usize) -> Result<Vec<T>, ()> {
        if self.slots() < count {
            return Err(());
        }
        let head = self.shared.head.load(Relaxed);
        let taken = (head..head + count).filter_map(|at| self.shared.swap(at, None)).collect();
        self.shared.head.store(head + count, Release);
        Ok(taken)
    }

    pub(crate) fn slots(&self) -> usize {
        self.shared.tail.load(Acquire) - self.shared.head.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots() == 0
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) < 2
    }
}
