//! The measured arrivals of one model over a sliding window.
//!
//! In: arrivals. Out: rates, and how even the arrivals are. Takes constant time per request and uses no
//! logarithm or exponential, so that every machine computes the same.

use crate::time::{Span, Time};
use std::ops::{AddAssign, SubAssign};

/// The window is divided into so many buckets, and slides by one bucket at a time.
const BUCKETS: usize = 16;

/// The window in latency objectives. Long enough to count some dozens of requests wherever
/// batching matters, short enough to follow a step in the load within a few objectives.
const WINDOW_SLOS: u64 = 8;

/// Buckets that the running mean of the dispersion reaches back.
const DISPERSION_BUCKETS: f64 = 4.0 * BUCKETS as f64;

/// Counts the arrivals of one model over the last [`WINDOW_SLOS`] objectives, and how even they are.
#[derive(Clone, Debug)]
pub(crate) struct RateEstimator {
    window: SlidingWindow<BucketCounts>,
    /// Running mean, over four windows, of the squared difference between the arrivals of a bucket and
    /// their mean, divided by the mean.
    dispersion: f64,
}

/// Counts rows over the same window, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct RowRate(SlidingWindow<u64>);

/// Counts over a sliding window.
#[derive(Clone, Debug)]
struct SlidingWindow<C> {
    width: Span,
    /// The bucket that is being filled.
    filling: C,
    /// When it is full.
    full_at: Time,
    /// The full buckets; the place of the bucket in filling is empty.
    buckets: [C; BUCKETS],
    /// The sum of the full buckets.
    full: C,
    /// Number of the bucket that is being filled, counted from the epoch.
    current: u64,
    /// When counting began: at the first arrival, which itself is not counted. A rate is arrivals per
    /// elapsed time, and no time had elapsed.
    since: Option<Time>,
    /// Number of the bucket with which counting began anew: the first, or the first after a window
    /// without any arrival.
    begun: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct BucketCounts {
    /// Requests that arrived.
    requests: u64,
    /// Rows that arrived.
    rows: u64,
    /// How many of them found another request of the model queued or running.
    accompanied: u64,
    /// Nanoseconds without any request of the model, ended by an arrival in this bucket.
    idle: u64,
}

impl RateEstimator {
    /// An estimator for a model with this objective.
    pub(crate) fn new(slo: Span) -> RateEstimator {
        RateEstimator { window: SlidingWindow::new(slo), dispersion: 1.0 }
    }

    /// Counts an arrival of `rows` rows; `idle` is how long the model had had no request, if it
    /// had none.
    #[inline]
    pub(crate) fn record(&mut self, now: Time, rows: u32, idle: Option<Span>) {
        if !self.window.has_begun(now) {
            return;
        }
        self.slide(now);
        let rows = u64::from(rows);
        let SlidingWindow { filling, width, .. } = &mut self.window;
        filling.requests += 1;
        filling.rows += rows;
        match idle {
            None => filling.accompanied += rows,
            Some(idle) => filling.idle += idle.min(width.times(BUCKETS as u64)).0,
        }
    }

    /// Rows per nanosecond over the window; zero before anything could be measured.
    pub(crate) fn rows_per_ns(&mut self, now: Time) -> f64 {
        self.slide(now);
        self.window.total().rows as f64 / self.window.covered(now).0 as f64
    }

    /// Rows per nanosecond that join a request while it waits or runs.
    ///
    /// For independent arrivals that is the rate. A client that sends its next request only after the
    /// answer adds to the rate, but its requests never join another.
    pub(crate) fn companions_per_ns(&mut self, now: Time) -> f64 {
        self.slide(now);
        let (covered, total) = (self.window.covered(now), self.window.total());
        let engaged = Span(covered.0.saturating_sub(total.idle)).max(self.window.width);
        let rate = total.rows as f64 / covered.0 as f64;
        rate.min(total.accompanied as f64 / engaged.0 as f64)
    }

    /// Variance of the arrivals over their mean, counted over half an objective: one where they are
    /// independent, less where they are even, more where they come in bursts. One until enough arrivals
    /// were seen.
    pub(crate) fn dispersion(&self) -> f64 {
        self.dispersion
    }

    #[inline]
    fn slide(&mut self, now: Time) {
        let RateEstimator { window, dispersion } = self;
        window.slide(now, |window| note_dispersion(window, dispersion));
    }
}

/// Adds the bucket that is full. Where buckets have less than one request each they say nothing of how
/// even the arrivals are, nor does the first window, whose mean is not known yet.
fn note_dispersion(window: &SlidingWindow<BucketCounts>, dispersion: &mut f64) {
    let mean = window.total().requests as f64 / BUCKETS as f64;
    if mean < 1.0 || window.current <= window.begun + BUCKETS as u64 {
        return;
    }
    let off = window.filling.requests as f64 - mean;
    *dispersion += (off * off / mean - *dispersion) / DISPERSION_BUCKETS;
}

impl RowRate {
    /// For a model with this objective.
    pub(crate) fn new(slo: Span) -> RowRate {
        RowRate(SlidingWindow::new(slo))
    }

    /// Counts an arrival of `rows` rows.
    pub(crate) fn record(&mut self, now: Time, rows: u32) {
        if self.0.has_begun(now) {
            self.0.slide(now, |_| ());
            self.0.filling += u64::from(rows);
        }
    }

    /// Rows per nanosecond over the window; zero before anything could be measured.
    pub(crate) fn rows_per_ns(&mut self, now: Time) -> f64 {
        self.0.slide(now, |_| ());
        self.0.total() as f64 / self.0.covered(now).0 as f64
    }
}

impl<C: Copy + Default + AddAssign + SubAssign> SlidingWindow<C> {
    fn new(slo: Span) -> SlidingWindow<C> {
        let width = Span((slo.0 / BUCKETS as u64).saturating_mul(WINDOW_SLOS).max(1));
        SlidingWindow {
            width,
            filling: C::default(),
            full_at: Time::NEVER,
            buckets: [C::default(); BUCKETS],
            full: C::default(),
            current: 0,
            since: None,
            begun: 0,
        }
    }

    /// Whether counting had begun; if not, it begins now.
    #[inline]
    fn has_begun(&mut self, now: Time) -> bool {
        if self.since.is_none() {
            self.since = Some(now);
            self.begin_anew(now.0 / self.width.0);
            return false;
        }
        true
    }

    /// What was counted.
    fn total(&self) -> C {
        let mut total = self.full;
        total += self.filling;
        total
    }

    /// The time in which the counts were made, at least a bucket.
    fn covered(&self, now: Time) -> Span {
        let Some(since) = self.since else { return self.width };
        let first = self.current.saturating_sub(BUCKETS as u64 - 1);
        let begun = Time(first.saturating_mul(self.width.0));
        now.since(begun.max(since)).max(self.width)
    }

    /// Begins a new bucket if the current one is full; `note` sees the full one first.
    #[inline]
    fn slide(&mut self, now: Time, note: impl FnMut(&Self)) {
        if now >= self.full_at {
            self.slide_to(now.0 / self.width.0, note);
        }
    }

    /// Moves on to this bucket, and empties the buckets that fall out of the window.
    #[cold]
    fn slide_to(&mut self, target: u64, mut note: impl FnMut(&Self)) {
        if target >= self.current + BUCKETS as u64 {
            self.buckets = [C::default(); BUCKETS];
            self.full = C::default();
            self.filling = C::default();
            self.begin_anew(target);
        }
        while self.current < target {
            note(self);
            let filled = std::mem::take(&mut self.filling);
            self.full += filled;
            self.buckets[place(self.current)] = filled;
            self.begin(self.current + 1);
            let old = std::mem::take(&mut self.buckets[place(self.current)]);
            self.full -= old;
        }
    }

    fn begin_anew(&mut self, number: u64) {
        self.begun = number;
        self.begin(number);
    }

    fn begin(&mut self, number: u64) {
        self.current = number;
        self.full_at = Time(number.saturating_add(1).saturating_mul(self.width.0));
    }
}

impl AddAssign for BucketCounts {
    fn add_assign(&mut self, other: BucketCounts) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.accompanied += other.accompanied;
        self.idle += other.idle;
    }
}

impl SubAssign for BucketCounts {
    fn sub_assign(&mut self, other: BucketCounts) {
        self.requests -= other.requests;
        self.rows -= other.rows;
        self.accompanied -= other.accompanied;
        self.idle -= other.idle;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder by 16")]
fn place(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate in rows per second after requests every `gap` from `from` to `to`.
    fn feed(rate: &mut RateEstimator, from: Span, to: Span, gap: Span) -> f64 {
        let mut at = from;
        while at < to {
            rate.record(Time(at.0), 1, None);
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
        rate.record(Time(0), 1, None);
        rate.record(Time(1_000), 1, None);
        let rows_per_second = rate.rows_per_ns(Time(1_000)) * 1e9;
        assert!(rows_per_second <= 20.0, "{rows_per_second}");
    }

    #[test]
    fn even_arrivals_differ_from_bursts() {
        let fed = |burst: u64| {
            let mut rate = RateEstimator::new(Span::from_millis(20));
            for number in 0..20_000u64 {
                let burst_began = number / burst * burst;
                rate.record(Time(Span::from_micros(500 * burst_began).0), 1, None);
            }
            rate.dispersion()
        };
        assert!(fed(1) < 0.1, "{}", fed(1));
        assert!(fed(100) > 10.0, "{}", fed(100));
    }

    #[test]
    fn a_client_that_waits_for_its_answer_joins_no_other_request() {
        let mut rate = RateEstimator::new(Span::from_millis(25));
        for millisecond in 0..400 {
            let idle = Some(Span::from_micros(700));
            rate.record(Time(Span::from_millis(millisecond).0), 1, idle);
        }
        let now = Time(Span::from_millis(400).0);
        assert!(rate.rows_per_ns(now) * 1e9 > 900.0);
        assert!(rate.companions_per_ns(now).abs() < f64::EPSILON);
    }
}
