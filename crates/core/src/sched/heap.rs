//! A binary heap over a dense set of indices, one key each, that can be changed in place.
//!
//! Timers and orders of the scheduler live here: setting the key of a model again moves its one
//! entry, so nothing stale piles up however often a candidate changes.

/// Smallest key first; equal keys by index, so that a run replays exactly.
#[derive(Clone, Debug)]
pub(crate) struct IndexedHeap<K> {
    entries: Vec<(K, u32)>,
    /// Where each index stands in `entries`; [`ABSENT`] when it does not.
    positions: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl<K: Ord + Copy> IndexedHeap<K> {
    pub(crate) fn new() -> IndexedHeap<K> {
        IndexedHeap { entries: Vec::new(), positions: Vec::new() }
    }

    /// Gives `index` this key, whether or not it had one.
    pub(crate) fn set(&mut self, index: u32, key: K) {
        if self.positions.len() <= index as usize {
            self.positions.resize(index as usize + 1, ABSENT);
        }
        let at = match self.positions[index as usize] {
            ABSENT => {
                self.entries.push((key, index));
                self.entries.len() - 1
            }
            position => {
                self.entries[position as usize].0 = key;
                position as usize
            }
        };
        let at = self.rise(at);
        self.sink(at);
    }

    /// Takes `index` out; nothing happens when it is not in.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some(&position) = self.positions.get(index as usize) else { return };
        if position == ABSENT {
            return;
        }
        let at = position as usize;
        self.positions[index as usize] = ABSENT;
        let last = self.entries.len() - 1;
        self.entries.swap_remove(at);
        if at < last {
            let at = self.rise(at);
            self.sink(at);
        }
    }

    /// The smallest key and its index.
    pub(crate) fn peek(&self) -> Option<(K, u32)> {
        self.entries.first().copied()
    }

    /// The smallest key but that of `index`: the top, or one of the two below it.
    pub(crate) fn first_but(&self, index: u32) -> Option<K> {
        match self.entries.first()? {
            (_, top) if *top == index => {
                self.entries.iter().skip(1).take(2).map(|(key, _)| *key).min()
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

    /// Moves the entry up to its place and returns it; records positions on the way.
    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.entries[parent] <= self.entries[at] {
                break;
            }
            self.entries.swap(parent, at);
            self.record(at);
            at = parent;
        }
        self.record(at);
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let right = left + 1;
            let mut smallest = at;
            if left < self.entries.len() && self.entries[left] < self.entries[smallest] {
                smallest = left;
            }
            if right < self.entries.len() && self.entries[right] < self.entries[smallest] {
                smallest = right;
            }
            if smallest == at {
                break;
            }
            self.entries.swap(smallest, at);
            self.record(at);
            at = smallest;
        }
        self.record(at);
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most one entry per u32 index")]
    fn record(&mut self, at: usize) {
        self.positions[self.entries[at].1 as usize] = at as u32;
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
                    None => { heap.remove(index); model.remove(&index); }
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
