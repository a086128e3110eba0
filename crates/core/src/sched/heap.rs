//! A heap over a dense set of indices, one key each, that can be changed in place.
//!
//! Timers and orders of the scheduler live here: setting the key of a model again moves its one
//! entry, so nothing stale piles up however often a candidate changes.

use std::cmp::Ordering;

/// Smallest key first; equal keys by index, so that a run replays exactly.
#[derive(Clone, Debug)]
pub(crate) struct IndexedHeap<K> {
    entries: Vec<(K, u32)>,
    /// Where each index stands in `entries`; [`ABSENT`] when it does not.
    positions: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

/// Entries below each one. Keys mostly change by little, so that an entry moves up or down by a
/// level at most; with four below each there are half as many levels as with two.
const ARITY: usize = 4;

impl<K: Ord + Copy> IndexedHeap<K> {
    pub(crate) fn new() -> IndexedHeap<K> {
        IndexedHeap { entries: Vec::new(), positions: Vec::new() }
    }

    /// Gives `index` this key, or takes it out where there is none.
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
        let entry = (key, index);
        match self.positions[index as usize] {
            ABSENT => {
                self.entries.push(entry);
                self.rise(self.entries.len() - 1, entry);
            }
            position => {
                let at = position as usize;
                let before = self.entries[at].0;
                match key.cmp(&before) {
                    Ordering::Less => self.rise(at, entry),
                    Ordering::Equal => {}
                    Ordering::Greater => self.sink(at, entry),
                }
            }
        }
    }

    /// Takes `index` out; nothing happens when it is not in.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some(position) = self.positions.get_mut(index as usize) else { return };
        if *position == ABSENT {
            return;
        }
        let at = std::mem::replace(position, ABSENT) as usize;
        let removed = self.entries[at];
        // The last one takes its place.
        let Some(last) = self.entries.pop() else { return };
        if at == self.entries.len() {
            return;
        }
        match last < removed {
            true => self.rise(at, last),
            false => self.sink(at, last),
        }
    }

    /// The smallest key and its index.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(K, u32)> {
        self.entries.first().copied()
    }

    /// The smallest key but that of `index`: the top, or one of those right below it.
    pub(crate) fn first_but(&self, index: u32) -> Option<K> {
        match self.entries.first()? {
            (_, top) if *top == index => {
                self.entries.iter().skip(1).take(ARITY).map(|(key, _)| *key).min()
            }
            (key, _) => Some(*key),
        }
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.positions.get(index as usize).is_some_and(|position| *position != ABSENT)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts an entry at `at` or as far above as it belongs; what is there now moves down.
    fn rise(&mut self, mut at: usize, entry: (K, u32)) {
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

    /// Puts an entry at `at` or as far below as it belongs; what is there now moves up.
    fn sink(&mut self, mut at: usize, entry: (K, u32)) {
        loop {
            let first = at * ARITY + 1;
            let below = self.entries.get(first..).unwrap_or_default().iter().take(ARITY);
            let Some((offset, &least)) = below.enumerate().min_by_key(|(_, entry)| **entry) else {
                break;
            };
            if entry < least {
                break;
            }
            self.write(at, least);
            at = first + offset;
        }
        self.write(at, entry);
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most one entry per u32 index")]
    fn write(&mut self, at: usize, entry: (K, u32)) {
        self.entries[at] = entry;
        self.positions[entry.1 as usize] = at as u32;
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
            let mut heap = IndexedHeap::new();
            let mut model = BTreeMap::new();
            for (index, key) in steps {
                match key {
                    Some(key) => { heap.set(index, key); model.insert(index, key); }
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
