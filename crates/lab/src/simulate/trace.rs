//! Recorded requests: read once to check them and to count those of each model, then replayed for
//! each run.

use super::input::BadInput;
use super::model::SimulatedModel;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_core::{Span, Time};
use symphony_sim::{Observed, PolicyKind, Report, Scenario, run_observed};
use symphony_workload::Arrival;
use symphony_workload::trace::{Azure, Jsonl, TraceError, UntilError};

/// A trace file.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    requests: Recorded,
    /// Requests per second of each model over the whole trace, as recorded.
    rates: Vec<f64>,
    /// Mean rows of a request of each model; zero where it has none.
    rows: Vec<f64>,
    length: Span,
}

#[derive(Clone, Debug)]
enum Recorded {
    /// JSON lines; another rate replays them faster or slower.
    Lines { path: PathBuf, names: Vec<String> },
    /// Counts per minute in the layout of the Azure Functions trace; another rate multiplies them.
    Counts(Arc<Azure>),
}

/// Slower than this a replay is a mistake: 30 years.
const SECONDS_MAX: f64 = 1e9;

impl Trace {
    /// Reads a trace to its end.
    ///
    /// # Errors
    /// The file cannot be read, is no trace, or has no request.
    pub(super) fn read(path: &Path, models: &[SimulatedModel]) -> Result<Trace> {
        if path.extension().is_some_and(|extension| extension == "csv") {
            let count = u32::try_from(models.len()).unwrap_or(u32::MAX);
            let azure = Azure::open(path, count).map_err(BadInput::error)?;
            let (rates, length) = (azure.rates(), azure.length());
            let rows = vec![1.0; models.len()];
            return Ok(Trace { requests: Recorded::Counts(Arc::new(azure)), rates, rows, length });
        }
        let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
        let (mut counts, mut rows) = (vec![0.0; names.len()], vec![0.0; names.len()]);
        let mut last = None;
        for arrival in lines(path, &names)? {
            let arrival = arrival.map_err(BadInput::error)?;
            counts[arrival.model.index()] += 1.0;
            rows[arrival.model.index()] += f64::from(arrival.rows);
            last = Some(arrival.time);
        }
        let Some(Time(last)) = last else {
            return Err(BadInput::error(format!("{}: the trace has no request", path.display())));
        };
        // The last request is part of the trace.
        let length = Span(last.saturating_add(1));
        for (rows, count) in rows.iter_mut().zip(&counts) {
            *rows /= f64::max(*count, 1.0);
        }
        let rates = counts.into_iter().map(|count| count / length.as_secs_f64()).collect();
        let requests = Recorded::Lines { path: path.to_owned(), names };
        Ok(Trace { requests, rates, rows, length })
    }

    /// Requests per second in total, as recorded.
    pub(super) fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }

    /// Each model's part of the requests.
    pub(super) fn shares(&self) -> Vec<f64> {
        self.rates.iter().map(|rate| rate / self.rate()).collect()
    }

    /// Mean rows of a request of each model.
    pub(super) fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// How many times faster than recorded the requests follow each other at a rate.
    pub(super) fn speed(&self, rate: f64) -> f64 {
        match self.requests {
            Recorded::Lines { .. } => rate / self.rate(),
            Recorded::Counts(_) => 1.0,
        }
    }

    /// The warm-up and the measured time at a rate, where `warmup` and `measured` are meant in
    /// recorded time: the same requests are measured at every speed.
    ///
    /// # Errors
    /// The trace ends before the warm-up does, or the rate is far too low.
    pub(super) fn window(&self, warmup: Span, measured: Span, rate: f64) -> Result<(Span, Span)> {
        if self.length <= warmup {
            return Err(BadInput::error(format!(
                "the trace ends after {}, within the warm-up of {warmup}: lower warmup_s",
                self.length
            )));
        }
        let rest = self.length.saturating_sub(warmup);
        let speed = self.speed(rate);
        if (warmup + measured.min(rest)).as_secs_f64() / speed > SECONDS_MAX {
            return Err(BadInput::error(format!("rate {rate}: the trace would last for decades")));
        }
        let played = |span: Span| Span(sped_up(span.0, speed));
        if measured < rest || speed.to_bits() == 1f64.to_bits() {
            return Ok((played(warmup), played(measured.min(rest))));
        }
        // Where times are rounded, the last request must not fall behind the end.
        Ok((played(warmup), played(rest) + Span::from_micros(1)))
    }

    /// Replays the trace at a rate. Its beginning is that of the warm-up.
    ///
    /// # Errors
    /// The file cannot be read any more, or no request falls into the measured time.
    pub(super) fn run(
        &self,
        scenario: &Scenario,
        policy: PolicyKind,
        (rate, seed): (f64, u64),
        observe: impl FnMut(Observed<'_>),
    ) -> Result<Report> {
        let factor = rate / self.rate();
        let rates: Vec<f64> = self.rates.iter().map(|rate| rate * factor).collect();
        let mut policy = policy.build(scenario, &rates);
        let report = match &self.requests {
            Recorded::Counts(azure) => {
                let arrivals = azure.arrivals(factor, seed);
                run_observed(scenario, &mut *policy, arrivals, seed, observe)
            }
            Recorded::Lines { path, names } => {
                let mut lines = UntilError::new(lines(path, names)?);
                let faster = |arrival: Arrival| Arrival {
                    time: Time(sped_up(arrival.time.0, factor)),
                    ..arrival
                };
                let arrivals = lines.by_ref().map(faster);
                let report = run_observed(scenario, &mut *policy, arrivals, seed, observe);
                lines.finish().map_err(BadInput::error)?;
                report
            }
        };
        if report.offered() == 0 {
            return Err(BadInput::error(
                "no request of the trace falls into the measured time: change warmup_s or seconds",
            ));
        }
        Ok(report)
    }
}

fn lines(path: &Path, names: &[String]) -> Result<impl Iterator<Item = TraceLine> + use<>> {
    Jsonl::open(path, names).map_err(BadInput::error)
}

type TraceLine = std::result::Result<Arrival, TraceError>;

/// Nanoseconds at so many times the speed.
#[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
#[expect(clippy::cast_sign_loss, reason = "times and speeds are positive")]
fn sped_up(nanoseconds: u64, speed: f64) -> u64 {
    (nanoseconds as f64 / speed) as u64
}
