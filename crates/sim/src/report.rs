//! The results of a run: outcomes and latencies of each model, and the use of each accelerator.

use crate::mix::RequestKind;
use hdrhistogram::Histogram;
use symphony_core::{Class, DropReason, Span};

/// The results of one run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The results of each model, by number.
    pub models: Vec<ModelReport>,
    /// The share of the measured time for which each accelerator was busy.
    pub busy: Vec<f64>,
    /// The measured time.
    pub measured: Span,
}

/// The requests of one model that arrived in the measured time.
#[derive(Clone, Debug)]
pub struct ModelReport {
    /// Requests that arrived.
    pub offered: u64,
    /// Requests that were answered within the objective, or the deadline of their own.
    pub good: u64,
    /// Requests that were answered later.
    pub late: u64,
    /// Requests that were dropped, by reason, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// The counts of each class, in the order of [`Class::ALL`].
    pub classes: [RequestCounts; Class::ALL.len()],
    /// The counts of the requests with a deadline of their own.
    pub tight: RequestCounts,
    /// Batches that held at least one of the requests.
    pub batches: u64,
    /// The latency of the answered requests, in nanoseconds.
    latency: Histogram<u64>,
}

/// The counts of some of a model's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Requests that arrived.
    pub offered: u64,
    /// Requests that were answered by their deadline.
    pub good: u64,
}

/// Three significant digits are enough for a simulated latency.
const LATENCY_DIGITS: u8 = 3;

impl ModelReport {
    pub(crate) fn new() -> ModelReport {
        ModelReport {
            offered: 0,
            good: 0,
            late: 0,
            dropped: [0; DropReason::ALL.len()],
            classes: [RequestCounts::default(); Class::ALL.len()],
            tight: RequestCounts::default(),
            batches: 0,
            latency: Histogram::new(LATENCY_DIGITS).expect("three digits are supported"),
        }
    }

    /// Counts the arrival of a request of this kind.
    pub(crate) fn arrived(&mut self, kind: RequestKind) {
        self.offered += 1;
        self.shares(kind).for_each(|share| share.offered += 1);
    }

    /// Counts an answer that took `latency`. Returns whether it was in time.
    pub(crate) fn answered(&mut self, latency: Span, slo: Span, kind: RequestKind) -> bool {
        let good = latency <= kind.tight.unwrap_or(slo);
        if good {
            self.good += 1;
            self.shares(kind).for_each(|share| share.good += 1);
        } else {
            self.late += 1;
        }
        self.latency.record(latency.0).expect("the histogram grows with what it records");
        good
    }

    fn shares(&mut self, kind: RequestKind) -> impl Iterator<Item = &mut RequestCounts> {
        let tight = kind.tight.map(|_| &mut self.tight);
        tight.into_iter().chain([&mut self.classes[kind.class as usize]])
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// The share of the offered requests that were late or dropped; zero when none were offered.
    #[must_use]
    pub fn bad_share(&self) -> f64 {
        RequestCounts { offered: self.offered, good: self.good }.bad_share()
    }

    /// The mean number of requests per batch; zero when no batch ran.
    #[must_use]
    pub fn mean_batch(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { (self.good + self.late) as f64 / self.batches as f64 }
    }

    /// The quantile of the latency of the answered requests.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Span {
        Span(self.latency.value_at_quantile(quantile))
    }
}

impl RequestCounts {
    /// The share of the offered requests that were late or dropped; zero when none were offered.
    #[must_use]
    pub fn bad_share(&self) -> f64 {
        if self.offered == 0 { 0.0 } else { 1.0 - self.good as f64 / self.offered as f64 }
    }
}

impl Report {
    /// Requests that arrived in the measured time, all models together.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.models.iter().map(|model| model.offered).sum()
    }

    /// Requests per second answered in time, all models together.
    #[must_use]
    pub fn good_rate(&self) -> f64 {
        self.models.iter().map(|model| model.good).sum::<u64>() as f64 / self.measured.as_secs_f64()
    }

    /// The largest bad share of any model.
    #[must_use]
    pub fn worst_bad_share(&self) -> f64 {
        self.models.iter().map(ModelReport::bad_share).fold(0.0, f64::max)
    }
}
