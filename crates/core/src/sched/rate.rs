//! The measured arrival rate of one model: rows over a sliding window, in constant time per
//! request and without a logarithm or an exponential, so that every machine computes the same.

use crate::time::{Span, Time};

/// Buckets the window is divided in: it slides by a bucket at a time.
const BUCKETS: usize = 16;

/// The window in latency objectives. Long enough to count some dozens of requests wherever
/// batching matters, short enough to follow a step in the load within a few objectives.
const WINDOW_SLOS: u64 = 8;

/// Counts arrivals of one model over the last [`WINDOW_SLOS`] objectives.
#[derive(Clone, Debug)]
pub(crate) struct RateEstimator {
    width: Span,
    counts: [u64; BUCKETS],
    total: u64,
    /// Number of the bucket that is being filled, counted from the epoch.
    current: u64,
    /// When counting began: the first arrival, which itself is not counted (a rate is
    /// arrivals per elapsed time, and no time had elapsed).
    since: Option<Time>,
}

impl RateEstimator {
    /// An estimator for a model with this objective.
    pub(crate) fn new(slo: Span) -> RateEstimator {
        let width = Span((slo.0 / BUCKETS as u64).saturating_mul(WINDOW_SLOS).max(1));
        RateEstimator { width, counts: [0; BUCKETS], total: 0, current: 0, since: None }
    }

    /// Counts an arrival of `rows` rows.
    pub(crate) fn record(&mut self, now: Time, rows: u32) {
        if self.since.is_none() {
            self.since = Some(now);
            self.current = now.0 / self.width.0;
            return;
        }
        self.slide(now);
        self.counts[bucket(self.current)] += u64::from(rows);
        self.total += u64::from(rows);
    }

    /// Rows per nanosecond over the window; zero before anything could be measured.
    pub(crate) fn rows_per_ns(&mut self, now: Time) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        self.slide(now);
        let begun =
            Time(self.current.saturating_sub(BUCKETS as u64 - 1).saturating_mul(self.width.0));
        let covered = now.since(begun.max(since)).max(self.width);
        self.total as f64 / covered.0 as f64
    }

    /// Empties the buckets that fell out of the window.
    fn slide(&mut self, now: Time) {
        let target = now.0 / self.width.0;
        if target >= self.current + BUCKETS as u64 {
            self.counts = [0; BUCKETS];
            self.total = 0;
            self.current = target;
        }
        while self.current < target {
            self.current += 1;
            let count = &mut self.counts[bucket(self.current)];
            self.total -= *count;
            *count = 0;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder by 16")]
fn bucket(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate in rows per second after requests every `gap` from `from` to `to`.
    fn feed(rate: &mut RateEstimator, from: Span, to: Span, gap: Span) -> f64 {
        let mut at = from;
        while at < to {
            rate.record(Time(at.0), 1);
            at += gap;
        }
        rate.rows_per_ns(Time(to.0)) * 1e9
    }

    #[test]
    fn follows_a_step_within_the_window_and_forgets_after_silence() {
        let slo = Span::from_millis(25);
        let mut rate = RateEstimator::new(slo);
        assert!(rate.rows_per_ns(Time::ZERO).abs() < f64::EPSILON);
        let slow = feed(&mut rate, Span::ZERO, Span::from_secs(1), Span::from_millis(1));
        assert!((slow - 1000.0).abs() < 20.0, "{slow}");
        let fast =
            feed(&mut rate, Span::from_secs(1), Span::from_millis(1200), Span::from_micros(250));
        assert!((fast - 4000.0).abs() < 80.0, "{fast}");
        assert!(rate.rows_per_ns(Time(2_000_000_000)).abs() < f64::EPSILON);
    }

    #[test]
    fn the_first_arrivals_are_not_taken_for_a_burst() {
        let mut rate = RateEstimator::new(Span::from_millis(100));
        rate.record(Time(0), 1);
        rate.record(Time(1_000), 1);
        let rows_per_second = rate.rows_per_ns(Time(1_000)) * 1e9;
        assert!(rows_per_second <= 20.0, "{rows_per_second}");
    }
}
