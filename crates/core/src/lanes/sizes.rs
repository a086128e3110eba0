//! Buckets of sizes: the requests that come are counted in them, and a lane may end at each.

use crate::sized_profile::SizedProfile;

/// Most buckets. A border is found within a tenth of where it would be best for sizes that differ by
/// up to five hundred times, as lengths of text do.
const BUCKETS: u32 = 64;

/// Ranges of sizes, each a little wider than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeBuckets {
    /// The largest size of each, growing. Never empty.
    upper: Vec<u64>,
}

impl SizeBuckets {
    /// Buckets for the sizes of this profile. Sizes below the smallest that was measured cost the
    /// same, and need no borders.
    #[must_use]
    pub fn of(profile: &SizedProfile) -> SizeBuckets {
        let (least, most) = (profile.sizes().next().unwrap_or(1).max(1), profile.size_max().max(1));
        let ratio = most as f64 / least as f64;
        // The root by bisection: the same on every machine.
        let step = root(ratio, BUCKETS - 1);
        let (mut upper, mut at) = (vec![least], least as f64);
        for _ in 1..BUCKETS {
            at *= step;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
            let size = (at.round() as u64).min(most);
            if upper.last().is_none_or(|last| *last < size) {
                upper.push(size);
            }
        }
        if upper.last().is_none_or(|last| *last < most) {
            upper.push(most);
        }
        SizeBuckets { upper }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.upper.len()
    }

    /// There is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The largest size of each, growing.
    #[must_use]
    pub fn upper(&self) -> &[u64] {
        &self.upper
    }

    /// The bucket of a size; larger sizes count with the last.
    #[must_use]
    #[inline]
    pub fn of_size(&self, size: u64) -> usize {
        self.upper.partition_point(|upper| *upper < size).min(self.upper.len() - 1)
    }
}

/// The number whose power is `product`, at least one.
pub(super) fn root(product: f64, exponent: u32) -> f64 {
    let (mut low, mut high) = (1.0, product.max(1.0));
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if crate::power::power(middle, exponent) <= product { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::time::Span;

    #[test]
    fn buckets_grow_by_a_ratio_and_end_at_the_largest_size() {
        let line = Profile::linear(Span(1), Span(1), 4).unwrap();
        let of = |sizes: &[u64]| {
            let measured = sizes.iter().map(|size| (*size, line.clone())).collect();
            SizeBuckets::of(&SizedProfile::new(measured).unwrap())
        };
        assert_eq!(of(&[7]).upper(), [7]);
        assert_eq!(of(&[1, 4]).upper(), [1, 2, 3, 4]);
        for (least, most) in [(1, 512), (64, 1 << 40), (1, u64::MAX / 2)] {
            let buckets = of(&[least, most]);
            assert!(buckets.len() <= BUCKETS as usize + 1);
            assert_eq!((buckets.upper()[0], buckets.upper().last()), (least, Some(&most)));
            assert!(buckets.upper().is_sorted_by(|a, b| a < b));
        }
        let text = of(&[1, 512]);
        assert_eq!(
            [0, 1, 512, 9999].map(|size| text.of_size(size)),
            [0, 0, text.len() - 1, text.len() - 1]
        );
        assert!(
            text.upper()[text.of_size(100)] >= 100 && text.upper()[text.of_size(100) - 1] < 100
        );
    }
}
