//! Which ranges of a memory are free: the smallest that fits is given out, and what comes back joins its
//! neighbours.

use std::collections::{BTreeMap, BTreeSet};

/// Ranges begin at multiples of this, a line of the cache.
const ALIGN: usize = 64;

/// The free ranges of one memory.
#[derive(Debug)]
pub(super) struct FreeRanges {
    /// Length by beginning.
    by_place: BTreeMap<usize, usize>,
    /// Length and beginning.
    by_length: BTreeSet<(usize, usize)>,
}

impl FreeRanges {
    /// All of a memory of this length is free.
    pub(super) fn new(length: usize) -> FreeRanges {
        let mut free = FreeRanges { by_place: BTreeMap::new(), by_length: BTreeSet::new() };
        free.add(0, length / ALIGN * ALIGN);
        free
    }

    /// Takes a range of at least this length: where it begins.
    pub(super) fn take(&mut self, length: usize) -> Option<usize> {
        let length = taken(length)?;
        let &(whole, start) = self.by_length.range((length, 0)..).next()?;
        self.remove(start, whole);
        self.add(start + length, whole - length);
        Some(start)
    }

    /// Gives a range back that was taken with this length.
    pub(super) fn give_back(&mut self, start: usize, length: usize) {
        let Some(length) = taken(length) else { return };
        let (mut start, mut end) = (start, start + length);
        if let Some((&before, &length)) = self.by_place.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            start = before;
        }
        if let Some(&length) = self.by_place.get(&end) {
            self.remove(end, length);
            end += length;
        }
        self.add(start, end - start);
    }

    fn add(&mut self, start: usize, length: usize) {
        if length > 0 {
            self.by_place.insert(start, length);
            self.by_length.insert((length, start));
        }
    }

    fn remove(&mut self, start: usize, length: usize) {
        self.by_place.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

/// What is taken for a range of this length.
fn taken(length: usize) -> Option<usize> {
    length.max(1).checked_next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: usize = 1 << 14;

    proptest! {
        /// Ranges in use never overlap or leave the memory, and all of it is whole in the end.
        #[test]
        fn ranges_in_use_are_apart(steps in prop::collection::vec((any::<bool>(), 0usize..3000, any::<prop::sample::Index>()), 1..200)) {
            let mut free = FreeRanges::new(LENGTH);
            let mut used: Vec<(usize, usize)> = Vec::new();
            for (takes, length, which) in steps {
                if takes {
                    if let Some(start) = free.take(length) {
                        prop_assert!(start % ALIGN == 0 && start + length <= LENGTH);
                        for &(other, long) in &used {
                            prop_assert!(start + length.max(1) <= other || other + long.max(1) <= start);
                        }
                        used.push((start, length));
                    }
                } else if !used.is_empty() {
                    let (start, length) = used.swap_remove(which.index(used.len()));
                    free.give_back(start, length);
                }
            }
            used.into_iter().for_each(|(start, length)| free.give_back(start, length));
            prop_assert_eq!(free.take(LENGTH), Some(0));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_given() {
        let mut free = FreeRanges::new(LENGTH + 63);
        assert_eq!(free.take(LENGTH + 1), None);
        assert_eq!(free.take(usize::MAX), None);
        assert_eq!(free.take(LENGTH), Some(0));
        assert_eq!(free.take(1), None);
    }
}
