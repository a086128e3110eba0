//! Isotonic regression: the values nearest to the given ones that never decrease, by pooling
//! adjacent violators (Ayer et al. 1955; Best and Chakravarti 1990).
//!
//! Nearest is meant in absolute differences, so a pool takes its median: one value that is far too
//! high moves its neighbours no further than to each other. A running maximum would lift all that
//! follow.

use symphony_core::Span;

/// A value, and for how many measurements it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weighted {
    pub(super) value: Span,
    pub(super) weight: u32,
}

/// Values that are fitted by one value.
struct Pool {
    /// In order of value.
    values: Vec<Weighted>,
    median: Span,
}

impl Pool {
    fn of(mut values: Vec<Weighted>) -> Pool {
        values.sort_by_key(|weighted| weighted.value);
        Pool { median: median(&values), values }
    }
}

/// The fitted values, in order: as many as there are points.
pub(super) fn isotonic(points: &[Weighted]) -> Vec<Span> {
    let mut pools: Vec<Pool> = Vec::new();
    for &point in points {
        let mut pool = Pool::of(vec![point]);
        while let Some(before) = pools.pop_if(|before| before.median > pool.median) {
            pool = Pool::of([before.values, pool.values].concat());
        }
        pools.push(pool);
    }
    pools.iter().flat_map(|pool| vec![pool.median; pool.values.len()]).collect()
}

/// The lowest value that at least half of the weight does not exceed.
fn median(sorted: &[Weighted]) -> Span {
    let weight = |weighted: &Weighted| u64::from(weighted.weight.max(1));
    let all: u64 = sorted.iter().map(weight).sum();
    let mut below = 0;
    let middle = sorted.iter().find(|weighted| {
        below += weight(weighted);
        2 * below >= all
    });
    middle.map_or(Span::ZERO, |weighted| weighted.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fitted(points: &[(u64, u32)]) -> Vec<u64> {
        let point = |&(value, weight): &(u64, u32)| Weighted { value: Span(value), weight };
        let points: Vec<_> = points.iter().map(point).collect();
        isotonic(&points).into_iter().map(|span| span.0).collect()
    }

    #[test]
    fn one_value_far_too_high_does_not_lift_those_behind_it() {
        assert!(fitted(&[]).is_empty());
        assert_eq!(fitted(&[(1, 1), (3, 1), (7, 1)]), [1, 3, 7]);
        assert_eq!(fitted(&[(10, 3), (23, 3), (11, 3), (13, 3), (15, 3)]), [10, 11, 11, 13, 15]);
        assert_eq!(fitted(&[(10, 3), (99, 3), (11, 3), (98, 3), (15, 3)]), [10, 11, 11, 15, 15]);
        // One that stands for more measurements counts more.
        assert_eq!(fitted(&[(10, 1), (9, 20)]), [9, 9]);
        assert_eq!(fitted(&[(10, 20), (9, 1)]), [10, 10]);
    }

    proptest! {
        #[test]
        fn what_never_decreases_stays_and_anything_else_becomes_so(
            points in prop::collection::vec((0u64..100, 1u32..9), 0..40),
        ) {
            let result = fitted(&points);
            prop_assert!(result.is_sorted());
            prop_assert_eq!(result.len(), points.len());
            let again: Vec<_> = result.iter().map(|&value| (value, 1)).collect();
            prop_assert_eq!(&fitted(&again), &result);
            // Fitting higher values never gives lower ones.
            let higher: Vec<_> = points.iter().map(|&(value, weight)| (value + 5, weight)).collect();
            prop_assert!(fitted(&higher).iter().zip(&result).all(|(high, low)| high >= low));
        }
    }
}
