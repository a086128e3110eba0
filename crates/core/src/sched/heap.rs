//! A heap of indices by key, in which each index has at most one key that can be changed in place.
//!
//! The scheduler's timers and orders are such heaps: setting the key of a model again moves its one
//! entry, so that nothing stale piles up however often a candidate changes.

use crate::slowdown::Slowdown;
use crate::time::Time;
use std::cmp::Ordering;
use std::marker::PhantomData;

/// Smallest key first; equal keys by index, so that a run replays exactly.
#[derive(Clone, Debug)]
pub(crate) struct IndexedHeap<K> {
    /// Key and index in one number, so that comparing takes no branch.
    entries: Vec<u128>,
    /// Where each index stands in `entries`; [`ABSENT`] if it does not.
    positions: Vec<u32>,
    keys: PhantomData<K>,
}

/// What entries are ordered by: a number of 64 bits.
pub(crate) trait Key: Copy {
    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

impl Key for Time {
    fn bits(self) -> u64 {
        self.0
    }

    fn from_bits(bits: u64) -> Time {
        Time(bits)
    }
}

impl Key for Slowdown {
    fn bits(self) -> u64 {
        self.bits().into()
    }

    #[expect(clippy::cast_possible_truncation, reason = "they came from 32")]
    fn from_bits(bits: u64) -> Slowdown {
        Slowdown::from_bits(bits as u32)
    }
}

const ABSENT: u32 = u32::MAX;

/// Entries below each entry. Keys mostly change by little, so that an entry moves by one level at most;
/// with four below each there are half as many levels as with two.
const ARITY: usize = 4;

fn entry(key: impl Key, index: u32) -> u128 {
    u128::from(key.bits()) << 32 | u128::from(index)
}

#[expect(clippy::cast_possible_truncation, reason = "its low half")]
fn index(entry: u128) -> u32 {
    entry as u32
}

#[expect(clippy::cast_possible_truncation, reason = "64 bits above 32")]
fn key<K: Key>(entry: u128) -> K {
    K::from_bits((entry >> 32) as u64)
}

impl<K: Key> IndexedHeap<K> {
    pub(crate) fn new() -> IndexedHeap<K> {
        IndexedHeap { entries: Vec::new(), positions: Vec::new(), keys: PhantomData }
    }

    /// Gives `index` this key, or takes it out if there is none.
    #[inline]
    pub(crate) fn put(&mut self, index: u32, key: Option<K>) {
        match key {
            Some(key) => self.set(index, key),
            None => self.remove(index),
        }
    }

    /// Gives `index` this key, whether or not it had one.
    pub(crate) fn set(&mut self, index: u32, key: K) {
        if self.positions.len() <= index as usize {
            self.positions.resize(index as usize + 1, ABSENT);
        }
        let entry = entry(key, index);
        match self.positions[index as usize] {
            ABSENT => {
                self.entries.push(entry);
                self.rise(self.entries.len() - 1, entry);
            }
            position => {
                let at = position as usize;
                match entry.cmp(&self.entries[at]) {
                    Ordering::Less => self.rise(at, entry),
                    Ordering::Equal => {}
                    Ordering::Greater => self.sink(at, entry),
                }
            }
        }
    }

    /// Takes `index` out, if it is in.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) {
        if self.contains(index) {
            self.take_out(index);
        }
    }

    fn take_out(&mut self, index: u32) {
        let at = std::mem::replace(&mut self.positions[index as usize], ABSENT) as usize;
        // The last entry takes its place.
        let Some(last) = self.entries.pop() else { return };
        let Some(&removed) = self.entries.get(at) else { return };
        if last < removed {
            self.rise(at, last);
        } else {
            self.sink(at, last);
        }
    }

    /// The smallest key and its index.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(K, u32)> {
        self.entries.first().map(|entry| (key(*entry), index(*entry)))
    }

    /// The smallest key of all indices but `without`: the top, or one of the entries right below it.
    pub(crate) fn first_but(&self, without: u32) -> Option<K> {
        let first = match self.entries.first()? {
            top if index(*top) == without => self.entries.iter().skip(1).take(ARITY).min()?,
            top => top,
        };
        Some(key(*first))
    }

    #[inline]
    pub(crate) fn contains(&self, index: u32) -> bool {
        self.positions.get(index as usize).is_some_and(|position| *position != ABSENT)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts an entry at `at`, or as far above as it belongs; the entries on the way move down.
    fn rise(&mut self, mut at: usize, entry: u128) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            let above = self.entries[parent];
            if above < entry {
                break;
            }
            self.write(at, above);
            at = parent;
        }
        self.write(at, entry);
    }

    /// Puts an entry at `at`, or as far below as it belongs; the entries on the way move up.
    fn sink(&mut self, mut at: usize, entry: u128) {
        while let Some((below, least)) = self.least_below(at)
            && least < entry
        {
            self.write(at, least);
            at = below;
        }
        self.write(at, entry);
    }

    /// The least of the entries right below `at`, and where it stands.
    #[inline]
    fn least_below(&self, at: usize) -> Option<(usize, u128)> {
        let first = at * ARITY + 1;
        let below = self.entries.get(first..)?;
        if let Some(&[a, b, c, d]) = below.first_chunk::<ARITY>() {
            let left = if b < a { (first + 1, b) } else { (first, a) };
            let right = if d < c { (first + 3, d) } else { (first + 2, c) };
            return Some(if right.1 < left.1 { right } else { left });
        }
        (first..).zip(below.iter().copied()).min_by_key(|(_, entry)| *entry)
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most one entry per u32 index")]
    fn write(&mut self, at: usize, entry: u128) {
        self.entries[at] = entry;
        self.positions[index(entry) as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in prop::collection::vec((0u32..20, prop::option::of(0u64..50)), 0..200)) {
            let mut heap = IndexedHeap::<Time>::new();
            let mut model = BTreeMap::new();
            for (index, key) in steps {
                match key {
                    Some(key) => { heap.set(index, Time(key)); model.insert(index, Time(key)); }
                    None => { heap.put(index, None); model.remove(&index); }
                }
                prop_assert_eq!(heap.peek(), model.iter().map(|(&i, &k)| (k, i)).min());
                prop_assert_eq!(heap.is_empty(), model.is_empty());
                prop_assert_eq!(heap.len(), model.len());
                let others = model.iter().filter(|(i, _)| **i != index).map(|(_, &k)| k);
                prop_assert_eq!(heap.first_but(index), others.min());
                prop_assert_eq!(heap.contains(index), model.contains_key(&index));
            }
        }
    }
}
