//! Measuring within a budget of time.

use super::{Measured, Origin, ProfilingError, SizeMeasurement, percentile, sizes_up_to};
use crate::resident::Resident;
use symphony_core::{Span, Time};
use symphony_wire::tensor::Inputs;

/// How much measuring is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of each size, where time allows.
    pub runs: u32,
    /// Time spent on each size, where time allows.
    pub size_time: Span,
    /// Runs of each size that there must be time for; else sizes in between are left out.
    pub runs_least: u32,
    /// Time for all sizes together; only the first runs of 1 row and of the most may take more.
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
/// How far a kept profile may be off: this share, and what a timer cannot tell apart.
const CHECK_TOLERANCE: f64 = 0.2;
const CHECK_TOLERANCE_LEAST: Span = Span::from_micros(20);

/// A loaded model to be measured, and the clock to measure it by.
#[expect(missing_debug_implementations, reason = "a clock has nothing to show")]
pub struct Target<'a> {
    /// The model on one accelerator.
    pub resident: &'a mut Resident,
    /// Requests of one row to fill them with, used in turn; at least one.
    pub rows: Vec<Inputs>,
    /// Now.
    pub now: &'a dyn Fn() -> Time,
}

/// What is left to be done at one size.
#[derive(Clone, Copy, Debug)]
struct Work {
    rows: u32,
    /// One run: measured of 1 row and of the most, guessed between them.
    run: Span,
}

impl Target<'_> {
    /// Measures every size of [`sizes_up_to`] the model's largest batch. When the budget does not
    /// allow that, in-between sizes are left out; when it does not allow all runs, the sizes share
    /// the time. Of 1 row and of the most rows the first run counts where there is time for no
    /// other, so the budget is kept unless these alone exceed it.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn measure(&mut self, effort: &Effort) -> Result<Measured, ProfilingError> {
        let start = (self.now)();
        let end = start + effort.time_max;
        let rows_max = self.resident.rows_max();
        // The first run of all pays for what the engine does only once.
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
        Ok(Measured::from_sizes(measured, shortened, Origin::Measured)?)
    }

    /// Runs one row and the most rows, so that the first batch that counts finds everything
    /// allocated.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn warm_up(&mut self) -> Result<(), ProfilingError> {
        self.run(1)?;
        self.run(self.resident.rows_max())?;
        Ok(())
    }

    /// Whether a kept profile still holds: three sizes take about what it says.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn agrees(&mut self, kept: &Measured) -> Result<bool, ProfilingError> {
        let last = kept.sizes.len().saturating_sub(1);
        let mut checked = [0, last / 2, last].map(|at| kept.sizes.get(at)).to_vec();
        checked.dedup();
        for size in checked.into_iter().flatten() {
            // The first run of a size pays for what is allocated at it.
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

    /// The times of one size's runs, after one that warms it up; none when time allows no more
    /// than that one.
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

    /// Assembles a batch from single rows and runs it; returns the time of both.
    fn run(&mut self, rows: u32) -> Result<Span, ProfilingError> {
        let start = (self.now)();
        self.resident.clear();
        for inputs in self.rows.iter().cycle().take(rows as usize) {
            self.resident.push(inputs).map_err(|source| ProfilingError::Input { rows, source })?;
        }
        self.resident.compute()?;
        Ok((self.now)().since(start))
    }
}

/// The time of `rows` rows on the line from one row to the most.
fn between(least: Span, most: Span, rows: u32, rows_max: u32) -> Span {
    let share = f64::from(rows - 1) / f64::from(rows_max - 1).max(1.0);
    Span::from_millis_f64(
        least.as_millis_f64() + most.saturating_sub(least).as_millis_f64() * share,
    )
}

/// As many sizes as can have their least runs within the budget: all, else the powers of two,
/// else one row and the most, which a profile cannot do without.
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

/// The time for the first of the sizes that are left: what it needs and all that the others will
/// leave over, or its share when there is not enough for all.
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
