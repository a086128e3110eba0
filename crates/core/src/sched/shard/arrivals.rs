//! The arrivals of one model, as its shard measures them: rates, losses, and how old requests are
//! when they come.

use crate::request::{Class, Request};
use crate::sched::rate::{RateEstimator, RowRate};
use crate::time::{Span, Time};

/// Other models leave room for a model that had a request within this time.
const PRESENT_FOR: Span = Span::from_secs(60);

/// Measured arrivals of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeasuredRates {
    pub(super) rows_per_ns: f64,
    /// The part of them that belongs to high requests.
    pub(super) high_per_ns: f64,
    /// The share of the rows of high requests that are demoted.
    pub(super) demoted: f64,
}

/// What is known of a model's arrivals.
#[derive(Clone, Debug)]
pub(super) struct ModelArrivals {
    /// Of both classes.
    rate: RateEstimator,
    rate_low: RowRate,
    rate_demoted: RowRate,
    /// Arrivals of rows of high requests, as measured for the last report.
    high_per_ns: f64,
    last: Option<Time>,
    /// How old the newest request was when it came: time that none of those to come will have.
    age: Span,
    /// Since when nothing is queued or running.
    idle_since: Option<Time>,
    /// High requests that arrived, and how many of them were dropped.
    arrived: u64,
    dropped: u64,
}

impl ModelArrivals {
    /// No arrivals yet, for a model with this objective.
    pub(super) fn new(slo: Span) -> ModelArrivals {
        ModelArrivals {
            rate: RateEstimator::new(slo),
            rate_low: RowRate::new(slo),
            rate_demoted: RowRate::new(slo),
            high_per_ns: 0.0,
            last: None,
            age: Span::ZERO,
            idle_since: Some(Time::ZERO),
            arrived: 0,
            dropped: 0,
        }
    }

    /// Counts a request that came.
    #[inline]
    pub(super) fn record(&mut self, now: Time, request: &Request) {
        let idle = self.idle_since.map(|since| now.since(since));
        self.rate.record(now, request.rows, idle);
        self.last = Some(now);
        self.age = now.since(request.arrival);
        match request.class {
            Class::High => self.arrived += 1,
            Class::Low => self.rate_low.record(now, request.rows),
        }
    }

    /// Counts a request as demoted.
    pub(super) fn record_demoted(&mut self, now: Time, rows: u32) {
        self.rate_demoted.record(now, rows);
    }

    /// Counts a high request as lost.
    pub(super) fn record_drop(&mut self) {
        self.dropped += 1;
    }

    /// Something is queued or running from now on.
    #[inline]
    pub(super) fn end_idle(&mut self) {
        self.idle_since = None;
    }

    /// Nothing is queued or running, now at the latest.
    #[inline]
    pub(super) fn begin_idle(&mut self, now: Time) {
        if self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }

    /// Whether requests came lately.
    pub(super) fn is_present(&self, now: Time) -> bool {
        self.last.is_some_and(|at| now.since(at) < PRESENT_FOR)
    }

    /// How old the newest request was when it came.
    pub(super) fn age(&self) -> Span {
        self.age
    }

    /// High requests that arrived, and how many of them were dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.arrived, self.dropped)
    }

    /// Variance of the arrivals over their mean.
    pub(super) fn dispersion(&self) -> f64 {
        self.rate.dispersion()
    }

    /// Measures for a report.
    pub(super) fn measure(&mut self, now: Time) -> MeasuredRates {
        let rows_per_ns = self.rate.rows_per_ns(now);
        self.high_per_ns = (rows_per_ns - self.rate_low.rows_per_ns(now)).max(0.0);
        let demoted = self.rate_demoted.rows_per_ns(now) / self.high_per_ns.max(f64::MIN_POSITIVE);
        let demoted = demoted.clamp(0.0, 1.0);
        MeasuredRates { rows_per_ns, high_per_ns: self.high_per_ns, demoted }
    }

    /// Rows of both classes per nanosecond.
    pub(super) fn rows_per_ns(&mut self, now: Time) -> f64 {
        self.rate.rows_per_ns(now)
    }

    /// Rows of high requests per nanosecond, as of the last report.
    pub(super) fn high_per_ns(&self) -> f64 {
        self.high_per_ns
    }

    /// Rows of a class per nanosecond.
    #[inline]
    pub(super) fn class_per_ns(&mut self, now: Time, class: Class) -> f64 {
        let low_per_ns = self.rate_low.rows_per_ns(now);
        match class {
            Class::High => (self.rate.rows_per_ns(now) - low_per_ns).max(0.0),
            Class::Low => low_per_ns,
        }
    }

    /// Rows per nanosecond that join a request while it waits or runs.
    #[inline]
    pub(super) fn companions_per_ns(&mut self, now: Time) -> f64 {
        self.rate.companions_per_ns(now)
    }
}
