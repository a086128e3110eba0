//! The sizes of a model's requests, where they differ: what batches cost by size, and which sizes come.
//! The size of a request depends only on the seed and its number, so every policy receives the same.

use crate::delay::P99_SIGMAS;
use std::sync::Arc;
use symphony_core::{Profile, RequestId, SizedProfile, Span};
use symphony_workload::random::Random;

/// How the requests of a model differ in size.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// What batches cost, as it is and as schedulers are told; measured up to the largest size.
    pub costs: Arc<SizedProfile>,
    /// Which sizes come.
    pub drawn: DrawnSizes,
}

/// Which sizes come. None is larger than the largest whose cost is known.
#[derive(Clone, Debug)]
pub enum DrawnSizes {
    /// Log-normal; what would be larger than the bound has its size, as a text that is cut.
    LogNormal {
        /// The median.
        median: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Recorded sizes, one after the other, and again from the first.
    Recorded(Arc<[u64]>),
}

impl DrawnSizes {
    /// Log-normal sizes with this median and 99th percentile, which is larger.
    #[must_use]
    pub fn log_normal(median: f64, p99: f64) -> DrawnSizes {
        DrawnSizes::LogNormal { median, sigma: libm::log(p99 / median) / P99_SIGMAS }
    }
}

/// So many quantiles tell what sizes cost on average.
const QUANTILES: u64 = 4096;

impl Sizes {
    /// The largest size.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.costs.size_max()
    }

    /// The size of request `id` in the run with this seed.
    #[must_use]
    pub fn of(&self, seed: u64, id: RequestId) -> u64 {
        let size = match &self.drawn {
            DrawnSizes::LogNormal { median, sigma } => {
                let mut random = Random::numbered(seed.rotate_left(16), id.number());
                rounded(median * libm::exp(sigma * random.normal()))
            }
            DrawnSizes::Recorded(sizes) => {
                let at = id.number() % (sizes.len() as u64).max(1);
                usize::try_from(at).ok().and_then(|at| sizes.get(at)).copied().unwrap_or(1)
            }
        };
        size.clamp(1, self.bound())
    }

    /// The time of an accelerator that a request takes at least, in seconds: its part of the largest
    /// batch of its own size within the objective.
    #[must_use]
    pub fn seconds_per_row(&self, slo: Span) -> f64 {
        let cost = |profile: &Profile| {
            let rows = profile.rows_within(slo).max(1);
            profile.exec(rows).as_secs_f64() / f64::from(rows)
        };
        let drawn = (0..QUANTILES).map(|number| self.of(0, RequestId::only(number)));
        drawn.map(|size| cost(&self.costs.at(size))).sum::<f64>() / QUANTILES as f64
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
fn rounded(size: f64) -> u64 {
    size.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(drawn: DrawnSizes) -> Sizes {
        let line = |alpha| Profile::linear(Span(alpha), Span(100), 8).unwrap();
        let costs = SizedProfile::new(vec![(1, line(1)), (512, line(512))]).unwrap();
        Sizes { costs: Arc::new(costs), drawn }
    }

    #[test]
    fn sizes_have_their_median_and_their_bound() {
        let text = sizes(DrawnSizes::LogNormal { median: 40.0, sigma: 1.0 });
        let mut drawn: Vec<u64> = (0..20_000).map(|id| text.of(3, RequestId::only(id))).collect();
        assert_eq!(text.of(3, RequestId::only(7)), drawn[7], "again");
        drawn.sort_unstable();
        assert!((39..=41).contains(&drawn[10_000]), "{}", drawn[10_000]);
        assert_eq!((drawn[0].min(1), drawn[19_999]), (1, 512));
        let p84 = drawn[16_827];
        assert!((104..=114).contains(&p84), "one sigma above the median: {p84}");
    }

    #[test]
    fn recorded_sizes_come_in_their_order() {
        let trace = sizes(DrawnSizes::Recorded([3, 900, 0].into()));
        let drawn: Vec<u64> = (0..4).map(|id| trace.of(9, RequestId::only(id))).collect();
        assert_eq!(drawn, [3, 512, 1, 3]);
        let alone = trace.costs.at(512).exec(8).as_secs_f64() / 8.0;
        assert!(trace.seconds_per_row(Span::from_secs(1)) < alone);
    }
}
