//! A set of indices that one thread marks and another drains: one bit each, and above every 64
//! words of them one summary word, so that finding nothing in thousands costs a few loads.
//!
//! A mark is always written, even if it is there already: only then is it certain to be drained
//! after the values that were stored before it. It must not know what is marked.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU64;

const BITS: usize = u64::BITS as usize;

/// The set.
pub(crate) struct Marks {
    words: Box<[AtomicU64]>,
    /// One bit for each word that may hold marks.
    summary: Box<[AtomicU64]>,
}

impl Marks {
    /// A set for the indices below `len`, none marked.
    pub(crate) fn new(len: usize) -> Marks {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let words = len.div_ceil(BITS);
        Marks { words: zeros(words), summary: zeros(words.div_ceil(BITS)) }
    }

    /// Marks `index`; whether it was not marked before. One thread at a time.
    pub(crate) fn mark(&self, index: usize) -> bool {
        let word = index / BITS;
        let bit = 1 << (index % BITS);
        let before = self.words[word].fetch_or(bit, AcqRel);
        // Where the word held marks, this thread has set the summary before, and the drainer clears
        // the summary first: it is still to come to this word.
        if before == 0 {
            self.summary[word / BITS].fetch_or(1 << (word % BITS), AcqRel);
        }
        before & bit == 0
    }

    /// Takes every mark, in the order of the indices. One thread at a time. A panic in `each` may
    /// lose marks of up to 64 indices.
    pub(crate) fn drain(&self, mut each: impl FnMut(usize)) {
        for (group, summary) in self.summary.iter().enumerate() {
            // Reading leaves the line with the writer where there is nothing.
            if summary.load(Relaxed) == 0 {
                continue;
            }
            for word in bits(summary.swap(0, AcqRel)) {
                let word = group * BITS + word;
                for bit in bits(self.words[word].swap(0, AcqRel)) {
                    each(word * BITS + bit);
                }
            }
        }
    }

    /// Whether nothing is marked.
    pub(crate) fn is_empty(&self) -> bool {
        self.summary.iter().all(|summary| summary.load(Relaxed) == 0)
    }
}

/// The positions of the ones, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = word.trailing_zeros();
        (word != 0).then(|| {
            word &= word - 1;
            lowest as usize
        })
    })
}
