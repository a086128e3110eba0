//! A run by intervals of time: what was offered, what became of it, and which accelerators were
//! in use.

use super::input::BadInput;
use super::sheet::{Cell, Sheet};
use crate::plot::{Chart, Line};
use anyhow::Result;
use symphony_core::{Span, Time};
use symphony_sim::{Observed, PolicyKind, Scenario};

/// The measured time of one run, cut into intervals.
#[derive(Clone, Debug)]
pub(super) struct Series {
    from: Time,
    width: Span,
    /// The time that the intervals divide.
    measured: Span,
    accelerators: usize,
    /// Requests by interval.
    offered: Vec<u64>,
    /// Those that were late or dropped, by the interval in which they arrived.
    bad: Vec<u64>,
    /// Time that accelerators were busy, by interval and then by accelerator.
    busy: Vec<Span>,
    /// What each accelerator was sent last: only that can be stopped.
    last: Vec<(Time, Time)>,
}

/// Intervals times accelerators; more are a mistake, and more than a table can show.
const CELLS_MAX: f64 = 1e7;

/// An accelerator that is busy for less of an interval does not count as in use.
const USED_SHARE: f64 = 0.01;

impl Series {
    /// # Errors
    /// The intervals are empty or too many.
    pub(super) fn new(scenario: &Scenario, seconds: f64) -> Result<Series> {
        let cells = scenario.measured.as_secs_f64() / seconds * f64::from(scenario.accelerators);
        if !(seconds > 0.0 && cells <= CELLS_MAX) {
            let least =
                scenario.measured.as_secs_f64() * f64::from(scenario.accelerators) / CELLS_MAX;
            return Err(BadInput::error(format!(
                "--interval-s {seconds}: give more than {least} for this scenario"
            )));
        }
        let width = Span::from_millis_f64(seconds * 1e3).max(Span(1));
        let intervals =
            usize::try_from(scenario.measured.0.div_ceil(width.0)).unwrap_or(usize::MAX);
        let accelerators = scenario.accelerators as usize;
        Ok(Series {
            from: Time::ZERO + scenario.warmup,
            width,
            measured: scenario.measured,
            accelerators,
            offered: vec![0; intervals],
            bad: vec![0; intervals],
            busy: vec![Span::ZERO; intervals * accelerators],
            last: vec![(Time::ZERO, Time::ZERO); accelerators],
        })
    }

    /// Notes a step of the run.
    pub(super) fn add(&mut self, observed: Observed<'_>) {
        match observed {
            Observed::Arrived { now, .. } => self.count(now, |series| &mut series.offered),
            Observed::Dropped { request, .. } | Observed::Answered { request, late: true, .. } => {
                self.count(request.arrival, |series| &mut series.bad);
            }
            Observed::Started { start, begin, end, .. } => {
                self.last[start.accelerator.index()] = (begin, end);
                self.change(start.accelerator.index(), begin, end, |busy, part| busy + part);
            }
            Observed::Preempted { now, accelerator, .. } => {
                let (begin, end) = self.last[accelerator.index()];
                self.change(accelerator.index(), begin.max(now), end, Span::saturating_sub);
            }
            Observed::Answered { .. } => {}
        }
    }

    /// Counts a request that arrived at some time.
    fn count(&mut self, arrival: Time, counts: fn(&mut Series) -> &mut Vec<u64>) {
        let interval = self.interval(arrival);
        if arrival >= self.from
            && let Some(count) = counts(self).get_mut(interval)
        {
            *count += 1;
        }
    }

    fn interval(&self, time: Time) -> usize {
        usize::try_from(time.since(self.from).0 / self.width.0).unwrap_or(usize::MAX)
    }

    /// Changes what an accelerator was busy by the parts of `begin` to `end` in each interval.
    fn change(&mut self, accelerator: usize, begin: Time, end: Time, by: fn(Span, Span) -> Span) {
        let (mut begin, end) = (begin.max(self.from), end.min(self.from + self.measured));
        while begin < end {
            let interval = self.interval(begin);
            let next = self.begin(interval + 1).min(end);
            let Some(busy) = self.busy.get_mut(interval * self.accelerators + accelerator) else {
                return;
            };
            *busy = by(*busy, next.since(begin));
            begin = next;
        }
    }

    /// When an interval begins.
    fn begin(&self, interval: usize) -> Time {
        self.from + self.width.times(interval as u64)
    }

    /// How long an interval is: the last one ends with the measured time.
    fn seconds(&self, interval: usize) -> f64 {
        let begin = self.width.times(interval as u64);
        self.measured.saturating_sub(begin).min(self.width).as_secs_f64()
    }

    /// The middle of an interval, in seconds of the measured time.
    fn middle(&self, interval: usize) -> f64 {
        interval as f64 * self.width.as_secs_f64() + self.seconds(interval) / 2.0
    }

    fn offered_rate(&self, interval: usize) -> f64 {
        self.offered[interval] as f64 / self.seconds(interval)
    }

    /// Share of the requests that were late or dropped; zero when none were offered.
    fn bad_share(&self, interval: usize) -> f64 {
        self.bad[interval] as f64 / self.offered[interval].max(1) as f64
    }

    /// The bad share of the interval that has the largest.
    pub(super) fn worst_bad_share(&self) -> f64 {
        (0..self.offered.len()).map(|interval| self.bad_share(interval)).fold(0.0, f64::max)
    }

    fn shares(&self, interval: usize) -> impl Iterator<Item = f64> {
        let first = interval * self.accelerators;
        let busy = self.busy[first..first + self.accelerators].iter();
        let seconds = self.seconds(interval);
        busy.map(move |busy| busy.as_secs_f64() / seconds)
    }

    /// Accelerators busy on average.
    fn busy(&self, interval: usize) -> f64 {
        self.shares(interval).sum()
    }

    /// Accelerators that ran at all.
    fn used(&self, interval: usize) -> u64 {
        self.shares(interval).filter(|share| *share >= USED_SHARE).count() as u64
    }
}

/// The runs of several policies on the same requests, side by side.
pub(super) fn sheet(policies: &[PolicyKind], runs: &[Series]) -> Sheet {
    let mut sheet = Sheet::new("intervals", ["from s", "offered r/s"]);
    for policy in policies {
        let columns = ["bad %", "busy", "in use"];
        sheet.columns.extend(columns.map(|column| format!("{policy} {column}")));
    }
    let Some(first) = runs.first() else { return sheet };
    for interval in 0..first.offered.len() {
        let from = first.begin(interval).since(first.from).as_secs_f64();
        let mut row =
            vec![Cell::Text(from.to_string()), Cell::Number(first.offered_rate(interval), 0)];
        for run in runs {
            row.extend([
                Cell::Number(run.bad_share(interval) * 100.0, 2),
                Cell::Number(run.busy(interval), 2),
                Cell::Count(run.used(interval)),
            ]);
        }
        sheet.rows.push(row);
    }
    sheet
}

/// The lines' names, which the chart borrows: the offered rate, scaled to the accelerators.
pub(super) fn names(policies: &[PolicyKind], runs: &[Series]) -> Vec<String> {
    let offered = format!("offered, in {} requests per second", unit(runs));
    let in_use = policies.iter().map(|policy| format!("{policy}: accelerators in use"));
    std::iter::once(offered).chain(in_use).collect()
}

/// The accelerators in use over time, and the offered rate in a unit that fits beside them.
pub(super) fn chart<'a>(names: &'a [String], runs: &[Series]) -> Chart<'a> {
    let unit = unit(runs);
    let points = |run: &Series, of: &dyn Fn(&Series, usize) -> f64| -> Vec<(f64, f64)> {
        (0..run.offered.len()).map(|at| (run.middle(at), of(run, at))).collect()
    };
    let offered =
        runs.iter().take(1).map(|run| points(run, &|run, at| run.offered_rate(at) / unit));
    #[expect(clippy::cast_precision_loss, reason = "a few thousand accelerators")]
    let used = runs.iter().map(|run| points(run, &|run, at| run.used(at) as f64));
    let lines = names.iter().zip(offered.chain(used));
    Chart {
        title: "accelerators in use over time",
        x: "seconds",
        y: "accelerators",
        lines: lines.map(|(name, points)| Line { name, points }).collect(),
        diagonal: None,
    }
}

/// The power of ten in which the highest offered rate is at most the number of accelerators.
fn unit(runs: &[Series]) -> f64 {
    let Some(run) = runs.first() else { return 1.0 };
    let highest = (0..run.offered.len()).map(|at| run.offered_rate(at)).fold(0.0, f64::max);
    let mut unit = 1.0;
    while highest / unit > run.accelerators as f64 {
        unit *= 10.0;
    }
    unit
}
