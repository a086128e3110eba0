//! Measuring a model within a time budget.

use super::{Measured, ProfileOrigin, ProfilingError, SizeMeasurement, percentile, sizes_up_to};
use crate::resident::Resident;
use symphony_core::{Span, Time};
use symphony_wire::tensor::Inputs;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of each size, if time allows.
    pub runs: u32,
    /// Time to spend on each size, if time allows.
    pub size_time: Span,
    /// The fewest runs of each size. When there is no time for them, sizes between 1 and the
    /// largest are skipped.
    pub runs_least: u32,
    /// Time for all sizes together. Only the first runs of 1 row and of the largest batch may
    /// exceed it.
    pub time_max: Span,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort {
            runs: 20,
            size_time: Span::from_millis(200),
            runs_least: 3,
            time_max: Span::from_secs(30),
        }
    }
}

/// Runs per size when a kept profile is checked, and the time they may take.
const CHECK_RUNS: usize = 5;
const CHECK_TIME_MAX: Span = Span::from_secs(1);
/// How far a kept profile may be off: a share of its time, but at least the resolution of a timer.
const CHECK_TOLERANCE: f64 = 0.2;
const CHECK_TOLERANCE_LEAST: Span = Span::from_micros(20);

/// A loaded model to measure, and the clock to measure it with.
#[expect(missing_debug_implementations, reason = "a clock has nothing to show")]
pub struct ProfilingTarget<'a> {
    /// The model on one accelerator.
    pub resident: &'a mut Resident,
    /// Requests of one row each, which fill the batches in turn; at least one.
    pub rows: Vec<Inputs>,
    /// Tells the time.
    pub now: &'a dyn Fn() -> Time,
}

/// A batch size that is still to be measured.
#[derive(Clone, Copy, Debug)]
struct Work {
    rows: u32,
    /// The time of one run: measured for 1 row and for the largest batch, interpolated between
    /// them.
    run: Span,
}

impl ProfilingTarget<'_> {
    /// Measures every size of [`sizes_up_to`] up to the model's largest batch. If the budget is too
    /// small for that, sizes in between are skipped; if it is too small for all runs, the sizes
    /// share the time. When there is no time for more, the first run of 1 row and of the largest
    /// batch counts. The budget is exceeded only when these two runs alone exceed it.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn measure(&mut self, effort: &Effort) -> Result<Measured, ProfilingError> {
        let start = (self.now)();
        let end = start + effort.time_max;
        let rows_max = self.resident.rows_max();
        // The very first run includes what the engine does only once.
        self.run(1)?;
        let least = self.run(1)?;
        let most = if rows_max > 1 { self.run(rows_max)? } else { least };
        let sizes = sizes_up_to(rows_max);
        let works =
            sizes.iter().map(|&rows| Work { rows, run: between(least, most, rows, rows_max) });
        let works = thinned(works.collect(), effort, end.since((self.now)()));
        let mut shortened = works.len() < sizes.len();
        let mut measured = Vec::with_capacity(works.len());
        for (at, work) in works.iter().enumerate() {
            let allotted = allotted(&works[at..], effort, end.since((self.now)()));
            let mut times = self.size(work, effort, allotted)?;
            shortened |= times.len() < effort.runs as usize;
            if times.is_empty() && (work.rows == 1 || work.rows == rows_max) {
                times.push(work.run);
            }
            if !times.is_empty() {
                measured.push(summary(work.rows, times));
            }
        }
        Ok(Measured::from_sizes(measured, shortened, ProfileOrigin::Measured)?)
    }

    /// Runs one row and then the largest batch, so that everything is allocated before the first
    /// batch that counts.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn warm_up(&mut self) -> Result<(), ProfilingError> {
        self.run(1)?;
        self.run(self.resident.rows_max())?;
        Ok(())
    }

    /// Whether a kept profile still holds: three sizes are run and compared with it.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn agrees(&mut self, kept: &Measured) -> Result<bool, ProfilingError> {
        let last = kept.sizes.len().saturating_sub(1);
        let mut checked = [0, last / 2, last].map(|at| kept.sizes.get(at)).to_vec();
        checked.dedup();
        for size in checked.into_iter().flatten() {
            // The first run of a size includes its allocations.
            self.run(size.rows)?;
            let start = (self.now)();
            let mut times = Vec::with_capacity(CHECK_RUNS);
            while times.is_empty()
                || times.len() < CHECK_RUNS && (self.now)().since(start) < CHECK_TIME_MAX
            {
                times.push(self.run(size.rows)?);
            }
            let now = summary(size.rows, times).p50;
            let off = now.0.abs_diff(size.p50.0);
            let tolerance =
                (size.p50.0 as f64 * CHECK_TOLERANCE).max(CHECK_TOLERANCE_LEAST.0 as f64);
            if off as f64 > tolerance {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The times of the runs of one size, after one run that warms it up. Empty when there is no
    /// time for more than the warm-up.
    fn size(
        &mut self,
        work: &Work,
        effort: &Effort,
        allotted: Span,
    ) -> Result<Vec<Span>, ProfilingError> {
        let mut times = Vec::new();
        if work.run.times(2) > allotted {
            return Ok(times);
        }
        let start = (self.now)();
        self.run(work.rows)?;
        let warm = (self.now)();
        loop {
            let now = (self.now)();
            let spent = now.since(warm);
            let runs = u32::try_from(times.len()).unwrap_or(u32::MAX);
            let full = runs >= effort.runs && spent >= effort.size_time;
            let next = Span(spent.0 / u64::from(runs.max(1)));
            let out_of_time = now.since(start) + next > allotted;
            if full || runs > 0 && out_of_time {
                return Ok(times);
            }
            times.push(self.run(work.rows)?);
        }
    }

    /// Assembles a batch from single rows, runs it, and returns the time of both.
    fn run(&mut self, rows: u32) -> Result<Span, ProfilingError> {
        let start = (self.now)();
        let requests = self.rows.iter().cycle().take(rows as usize);
        let assembled = self.resident.assemble(requests);
        assembled.map_err(|source| ProfilingError::Input { rows, source })?;
        self.resident.compute()?;
        Ok((self.now)().since(start))
    }
}

/// Interpolates the time of `rows` rows between the times of one row and of the largest batch.
fn between(least: Span, most: Span, rows: u32, rows_max: u32) -> Span {
    let share = f64::from(rows - 1) / f64::from(rows_max - 1).max(1.0);
    Span::from_millis_f64(
        least.as_millis_f64() + most.saturating_sub(least).as_millis_f64() * share,
    )
}

/// The sizes for whose fewest runs there is time: all of them, or the powers of two, or only one
/// row and the largest batch, which every profile needs.
fn thinned(works: Vec<Work>, effort: &Effort, budget: Span) -> Vec<Work> {
    let ends = [works.first().map(|work| work.rows), works.last().map(|work| work.rows)];
    let is_end = |work: &Work| ends.contains(&Some(work.rows));
    let fits = |works: &[Work]| {
        let runs = u64::from(effort.runs_least) + 1;
        works.iter().fold(Span::ZERO, |sum, work| sum + work.run.times(runs)) <= budget
    };
    if fits(&works) {
        return works;
    }
    let mut works = works;
    works.retain(|work| is_end(work) || work.rows.is_power_of_two());
    if !fits(&works) {
        works.retain(is_end);
    }
    works
}

/// The time for the first of the remaining sizes: what it needs plus what the others will leave
/// over, or its share when there is not enough time for all.
fn allotted(works: &[Work], effort: &Effort, budget: Span) -> Span {
    let need =
        |work: &Work| work.run + work.run.times(u64::from(effort.runs)).max(effort.size_time);
    let first = works.first().map_or(Span::ZERO, need);
    let all = works.iter().fold(Span::ZERO, |sum, work| sum + need(work));
    if all <= budget {
        return first + budget.saturating_sub(all);
    }
    let share = first.as_secs_f64() / all.as_secs_f64();
    Span::from_millis_f64(budget.as_millis_f64() * share)
}

fn summary(rows: u32, mut times: Vec<Span>) -> SizeMeasurement {
    times.sort_unstable();
    SizeMeasurement {
        rows,
        p50: percentile(&times, 50),
        p95: percentile(&times, 95),
        runs: u32::try_from(times.len()).unwrap_or(u32::MAX),
    }
}
