//! A slot of a board: a sequence lock whose value is a few atomic words, so that reading what is
//! being overwritten is no undefined behaviour, only a value that is thrown away.
//!
//! The version is odd while the writer writes. Neither side ever waits for the other: a reader that
//! meets a write in progress gets nothing, and is to be told when that write is done. It must know
//! neither who tells it nor what the values mean.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{AtomicU64, fence};

/// A small value that travels as a fixed number of words.
pub trait Value: Copy {
    /// Its words: `[u64; N]` with `N` of at most 32.
    type Words: AsRef<[u64]> + AsMut<[u64]> + Default;

    /// The value as words.
    fn to_words(self) -> Self::Words;

    /// The value of words that [`Value::to_words`] made; whole, never words of two values.
    fn from_words(words: Self::Words) -> Self;
}

impl<const N: usize> Value for [u64; N]
where
    [u64; N]: Default,
{
    type Words = [u64; N];

    fn to_words(self) -> [u64; N] {
        self
    }

    fn from_words(words: [u64; N]) -> [u64; N] {
        words
    }
}

/// How many atomics a slot takes: its version, then its words.
pub(crate) fn width<T: Value>() -> usize {
    1 + T::Words::default().as_ref().len()
}

/// Room for `count` slots that hold nothing yet.
pub(crate) fn cells<T: Value>(count: usize) -> Box<[AtomicU64]> {
    (0..count * width::<T>()).map(|_| AtomicU64::new(0)).collect()
}

/// Writes a value; one thread at a time.
pub(crate) fn store<T: Value>(slot: &[AtomicU64], value: T) {
    let [version, cells @ ..] = slot else { return };
    let before = version.load(Relaxed);
    version.store(before + 1, Relaxed);
    // A reader that sees one of the words below sees the odd version, too.
    fence(Release);
    for (cell, &word) in cells.iter().zip(value.to_words().as_ref()) {
        cell.store(word, Relaxed);
    }
    version.store(before + 2, Release);
}

/// The value, if it is whole and of another version than `seen`.
pub(crate) fn load<T: Value>(slot: &[AtomicU64], seen: &mut u64) -> Option<T> {
    let [version, cells @ ..] = slot else { return None };
    let before = version.load(Acquire);
    let is_whole = before.is_multiple_of(2);
    if before == *seen || !is_whole {
        return None;
    }
    let mut words = T::Words::default();
    for (cell, word) in cells.iter().zip(words.as_mut()) {
        *word = cell.load(Relaxed);
    }
    // Pairs with the writer's fence: a word of a later value shows in the version.
    fence(Acquire);
    if version.load(Relaxed) != before {
        return None;
    }
    *seen = before;
    Some(T::from_words(words))
}
