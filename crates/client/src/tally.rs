//! The outcomes of the requests of a run.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// How one request ended, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Answered,
    /// It ran, and was late: the server said so.
    Late,
    /// The server gave it up: its deadline passed or could no longer be met.
    Dropped,
    /// The server had no room for it.
    Refused,
    /// In a way that a correct server and a correct client have no place for.
    Failed(String),
}

/// Counts of outcomes, and the latencies of answered requests, from the moment each was due.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answers after this long are late.
    objective: Duration,
    /// What became of the requests.
    pub counts: Counts,
    /// What the first failed request was told.
    pub failure: Option<String>,
    latency: Histogram<u64>,
    lag: Histogram<u64>,
}

/// Outcomes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered within the objective.
    pub good: u64,
    /// Answered later, or said to be late.
    pub late: u64,
    /// Given up by the server.
    pub dropped: u64,
    /// Refused for lack of room.
    pub refused: u64,
    /// Everything else.
    pub failed: u64,
}

/// Percentiles of a time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them are at most this.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
}

/// Times are kept to a thousandth of themselves.
const DIGITS: u8 = 3;

/// Longer times, an hour in nanoseconds, are kept as this.
const TIME_MAX: u64 = 3600 * 1_000_000_000;

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(objective: Duration) -> Tally {
        let histogram =
            || Histogram::new_with_max(TIME_MAX, DIGITS).expect("three digits of an hour are kept");
        Tally {
            objective,
            counts: Counts::default(),
            failure: None,
            latency: histogram(),
            lag: histogram(),
        }
    }

    /// Counts a request that was sent `lag` after it was due and ended `latency` after that.
    pub fn record(&mut self, outcome: Outcome, lag: Duration, latency: Duration) {
        record(&mut self.lag, lag);
        match outcome {
            Outcome::Answered => {
                record(&mut self.latency, latency);
                if latency <= self.objective {
                    self.counts.good += 1;
                } else {
                    self.counts.late += 1;
                }
            }
            Outcome::Late => self.counts.late += 1,
            Outcome::Dropped => self.counts.dropped += 1,
            Outcome::Refused => self.counts.refused += 1,
            Outcome::Failed(text) => {
                self.counts.failed += 1;
                self.failure.get_or_insert(text);
            }
        }
    }

    /// Latencies of the answered requests.
    #[must_use]
    pub fn latency(&self) -> Percentiles {
        percentiles(&self.latency)
    }

    /// The longest latency of an answered request.
    #[must_use]
    pub fn latency_max(&self) -> Duration {
        Duration::from_nanos(self.latency.max())
    }

    /// How late requests were sent.
    #[must_use]
    pub fn lag(&self) -> Percentiles {
        percentiles(&self.lag)
    }

    /// Whether every request ended as it may.
    ///
    /// # Errors
    /// A request failed.
    pub fn expect_no_failure(&self) -> anyhow::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(text) => {
                anyhow::bail!("{} requests failed, the first: {text}", self.counts.failed)
            }
        }
    }
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn offered(self) -> u64 {
        self.good + self.late + self.dropped + self.refused + self.failed
    }

    /// Share of the offered requests that were not good; zero when none were offered.
    #[must_use]
    pub fn bad_share(self) -> f64 {
        match self.offered() {
            0 => 0.0,
            offered => 1.0 - self.good as f64 / offered as f64,
        }
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    histogram.saturating_record(nanos);
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Percentiles { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_answered_and_every_outcome_is_counted() {
        let mut tally = Tally::new(Duration::from_micros(900));
        for micros in 1..=1000 {
            let latency = Duration::from_micros(micros);
            tally.record(Outcome::Answered, Duration::ZERO, latency);
        }
        let hour = Duration::from_secs(3600);
        for outcome in [Outcome::Late, Outcome::Dropped, Outcome::Dropped, Outcome::Refused] {
            tally.record(outcome, hour, hour);
        }
        let counts = Counts { good: 900, late: 101, dropped: 2, refused: 1, failed: 0 };
        assert_eq!(tally.counts, counts);
        assert_eq!(counts.offered(), 1004);
        assert!((counts.bad_share() - 104.0 / 1004.0).abs() < 1e-9);
        let Percentiles { p50_us, p99_us, p999_us } = tally.latency();
        for (is, should) in [(p50_us, 500.0), (p99_us, 990.0), (p999_us, 999.0)] {
            assert!((is / should - 1.0).abs() < 2e-3, "{is} for {should}");
        }
        assert!(tally.lag().p999_us > 3.5e9);
    }

    #[test]
    fn the_first_failure_is_told() {
        let mut tally = Tally::new(Duration::ZERO);
        assert!(tally.expect_no_failure().is_ok());
        for text in ["one", "two"] {
            tally.record(Outcome::Failed(text.to_owned()), Duration::ZERO, Duration::ZERO);
        }
        let error = tally.expect_no_failure().unwrap_err().to_string();
        assert_eq!(error, "2 requests failed, the first: one");
    }

    #[test]
    fn nothing_offered_is_nothing_bad() {
        assert_eq!(Counts::default().bad_share().to_bits(), 0.0f64.to_bits());
        assert_eq!(Tally::new(Duration::ZERO).latency(), Percentiles::default());
    }
}
