//! A board: many latest-value slots from one thread to another, with marks for the slots that have
//! news, so that a reader of thousands looks only at these. It must not know what the values mean.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::bell::Ringer;
use crate::marks::Marks;
use crate::seqlock::{self, Value};
use crate::sync::AtomicU64;

/// A board of `len` slots that hold nothing yet, whose reader listens to the bell of `ringer`.
#[must_use]
pub fn board<T: Value>(len: usize, ringer: Ringer) -> (BoardWriter<T>, BoardReader<T>) {
    let shared = Arc::new(Shared {
        cells: seqlock::cells::<T>(len),
        marks: Marks::new(len),
        value: PhantomData,
    });
    let writer = BoardWriter { shared: Arc::clone(&shared), ringer };
    (writer, BoardReader { shared, seen: vec![0; len].into_boxed_slice() })
}

struct Shared<T> {
    cells: Box<[AtomicU64]>,
    marks: Marks,
    value: PhantomData<T>,
}

impl<T: Value> Shared<T> {
    fn slot(&self, index: usize) -> &[AtomicU64] {
        let width = seqlock::width::<T>();
        &self.cells[index * width..][..width]
    }
}

/// The writing end of a board.
pub struct BoardWriter<T> {
    shared: Arc<Shared<T>>,
    ringer: Ringer,
}

impl<T: Value> BoardWriter<T> {
    /// Replaces the value of slot `index`, whether or not the last was ever seen, and wakes the
    /// reader if it is parked.
    ///
    /// # Panics
    ///
    /// When the board has no such slot.
    pub fn publish(&mut self, index: usize, value: T) {
        self.burst().publish(index, value);
    }

    /// Publishes several values and rings once, when the burst is dropped: the fence of a ring
    /// costs more than the rest. The reader may see the values before that.
    pub fn burst(&mut self) -> BoardBurst<'_, T> {
        BoardBurst { writer: self, owes_ring: false }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.shared.cells.len() / seqlock::width::<T>()
    }
}

/// Values published together, see [`BoardWriter::burst`].
pub struct BoardBurst<'a, T> {
    writer: &'a mut BoardWriter<T>,
    owes_ring: bool,
}

impl<T: Value> BoardBurst<'_, T> {
    /// Replaces the value of slot `index`, whether or not the last was ever seen.
    ///
    /// # Panics
    ///
    /// When the board has no such slot.
    pub fn publish(&mut self, index: usize, value: T) {
        let shared = &self.writer.shared;
        seqlock::store(shared.slot(index), value);
        // A mark that still stands was rung for, or this burst will.
        self.owes_ring |= shared.marks.mark(index);
    }
}

impl<T> Drop for BoardBurst<'_, T> {
    fn drop(&mut self) {
        if self.owes_ring {
            self.writer.ringer.ring();
        }
    }
}

/// The reading end of a board.
pub struct BoardReader<T> {
    shared: Arc<Shared<T>>,
    /// The version of each slot that was taken last.
    seen: Box<[u64]>,
}

impl<T: Value> BoardReader<T> {
    /// Gives the newest value of every slot that has one not taken yet to `each`, with the slot's
    /// index, in the order of the indices; returns how many. A value that is being written at this
    /// moment is there at the next call, and the bell rings for it.
    ///
    /// A panic in `each` may lose the news of other slots.
    pub fn drain(&mut self, mut each: impl FnMut(usize, T)) -> usize {
        let mut count = 0;
        let Self { shared, seen } = self;
        shared.marks.drain(|index| {
            // Nothing is there when the mark was for a value already taken, or one that is being
            // replaced: the writer marks that again.
            if let Some(value) = seqlock::load(shared.slot(index), &mut seen[index]) {
                count += 1;
                each(index, value);
            }
        });
        count
    }

    /// Whether no slot has news.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.marks.is_empty()
    }
}
