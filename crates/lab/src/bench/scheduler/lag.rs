//! How late things happen: a histogram cheap enough to record every request of ten million a
//! second.

use serde::Serialize;
use symphony_core::Span;

/// Lags by logarithmic buckets of a sixteenth of their power of two.
#[derive(Clone, Debug)]
pub(super) struct Lags {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    /// Of these, those longer than what counts as handed over in time.
    over: u64,
    max: Span,
}

const SUB_BITS: u32 = 4;
const BUCKETS: usize = 64 << SUB_BITS;

/// A request that is handed over later than this after it was due counts as held up.
pub(super) const IN_TIME: Span = Span::from_millis(2);

/// Percentiles of lags, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) p99_99_us: f64,
    pub(super) p99_999_us: f64,
    pub(super) max_us: f64,
}

impl Lags {
    pub(super) fn new() -> Lags {
        Lags { buckets: Box::new([0; BUCKETS]), count: 0, over: 0, max: Span::ZERO }
    }

    pub(super) fn record(&mut self, lag: Span) {
        self.buckets[bucket(lag.0)] += 1;
        self.count += 1;
        self.over += u64::from(lag > IN_TIME);
        self.max = self.max.max(lag);
    }

    pub(super) fn add(&mut self, other: &Lags) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *sum += count;
        }
        self.count += other.count;
        self.over += other.over;
        self.max = self.max.max(other.max);
    }

    /// The share that was handed over in time; all of nothing.
    pub(super) fn in_time(&self) -> f64 {
        1.0 - self.over as f64 / (self.count.max(1)) as f64
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50_us: self.quantile(0.5),
            p99_us: self.quantile(0.99),
            p99_9_us: self.quantile(0.999),
            p99_99_us: self.quantile(0.9999),
            p99_999_us: self.quantile(0.99999),
            max_us: self.max.0 as f64 / 1e3,
        }
    }

    /// In microseconds, at most a sixteenth too high.
    fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.count as f64;
        let mut seen = 0.0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += *count as f64;
            if seen >= rank && *count > 0 {
                return upper(at).min(self.max.0 as f64) / 1e3;
            }
        }
        0.0
    }
}

/// The bucket of a number of nanoseconds.
fn bucket(ns: u64) -> usize {
    let exponent = u64::BITS - (ns >> SUB_BITS).leading_zeros();
    let shift = exponent.saturating_sub(1);
    if exponent == 0 {
        return usize::try_from(ns).unwrap_or(0);
    }
    let sub = (ns >> shift) & ((1 << SUB_BITS) - 1);
    ((exponent as usize) << SUB_BITS) + usize::try_from(sub).unwrap_or(0)
}

/// Where a bucket ends, in nanoseconds.
fn upper(at: usize) -> f64 {
    let (exponent, sub) = (at >> SUB_BITS, at & ((1 << SUB_BITS) - 1));
    if exponent == 0 {
        return sub as f64;
    }
    let base = (1 << SUB_BITS) + sub + 1;
    base as f64 * 2f64.powi(i32::try_from(exponent).unwrap_or(0) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_high() {
        let mut lags = Lags::new();
        (1..=100_000u64).for_each(|us| lags.record(Span::from_micros(us)));
        let percentiles = lags.percentiles();
        for (found, exact) in [
            (percentiles.p50_us, 50_000.0),
            (percentiles.p99_us, 99_000.0),
            (percentiles.p99_9_us, 99_900.0),
            (percentiles.max_us, 100_000.0),
        ] {
            assert!(found >= exact && found <= exact * 17.0 / 16.0, "{found} {exact}");
        }
        assert!((lags.in_time() - 0.02).abs() < 1e-9);
        let mut twice = lags.clone();
        twice.add(&lags);
        assert_eq!(twice.percentiles(), percentiles);
    }

    #[test]
    fn every_number_has_a_bucket_that_ends_behind_it() {
        let mut before = 0;
        for ns in (0..200).chain((8..64).map(|bit| (1u64 << bit) - 1)).chain([u64::MAX]) {
            let at = bucket(ns);
            assert!(at >= before && at < BUCKETS && upper(at) >= ns as f64, "{ns}: {at}");
            before = at;
        }
    }
}
