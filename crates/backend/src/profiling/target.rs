//! A loaded model as something to measure: batches of generated rows are assembled and run, each in
//! a gap between the batches of models that serve.

use super::cell::{Cell, Extent, in_order_of_use};
use super::fit::summarize;
use super::measure::{Effort, RUN_BESIDE_SERVING_MAX, Ran, measure};
use super::sample::SampledSize;
use super::{Measured, ProfileOrigin, ProfilingError};
use crate::resident::Resident;
use crate::worker::Gaps;
use std::thread;
use std::time::Duration;
use symphony_core::{Span, Time};

/// Runs per cell when a kept profile is checked, and the time they may take together: all models of a
/// repository are checked one after the other before the server is ready.
const CHECK_RUNS: usize = 5;
const CHECK_RUNS_LEAST: usize = 3;
const CHECK_TIME_MAX: Span = Span::from_millis(60);
/// A kept profile is measured anew if it is off by more than this factor. What is off by less is
/// corrected while the model serves; a start, with loads under way on all cores, would measure it
/// less well than it was.
const CHECK_FACTOR: f64 = 2.0;
/// And by more than this. When it was measured, runs of other cells came in between and left the
/// processor's caches to it as they were; when it is checked, one follows the other.
const CHECK_TOLERANCE_LEAST: Span = Span::from_micros(200);

/// The largest batch is run before the first request only if it takes no longer.
const WARM_UP_MAX: Span = Span::from_millis(250);

/// After a run beside models that serve, the accelerator is theirs for so many times as long.
const REST_TIMES: u64 = 4;

/// A loaded model to measure, and the clock to measure it with.
#[expect(missing_debug_implementations, reason = "a clock has nothing to show")]
pub struct ProfilingTarget<'a> {
    /// The model on one accelerator.
    pub resident: &'a mut Resident,
    /// Requests that fill the batches in turn, by size; at least one size.
    pub samples: &'a [SampledSize],
    /// Tells the time.
    pub now: &'a dyn Fn() -> Time,
    /// When the accelerator is free.
    pub gaps: &'a Gaps,
    /// Which accelerator.
    pub accelerator: usize,
}

impl ProfilingTarget<'_> {
    /// Measures as many sizes and rows as there is time for, from those on that tell most. A size
    /// at which the engine does not run the model is left out.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn measure(&mut self, effort: &Effort) -> Result<Measured, ProfilingError> {
        let sampled = self.sampled();
        let cells = in_order_of_use(&sampled);
        let sizes = sampled.len();
        let mut refused = Vec::new();
        let times = measure(&cells, effort, &mut |cell| match self.run(cell) {
            Ok(ran) => Ok(Some(ran)),
            Err(ProfilingError::Engine(error)) if cell.rows == 1 && refused.len() + 1 < sizes => {
                tracing::info!(size = cell.size, "not measured at this size: {error}");
                refused.push(cell.size);
                Ok(None)
            }
            Err(error) => Err(error),
        })?;
        let mut extents = self.extents();
        // The times of the largest requests are foreseen where they could not be measured: such
        // requests may still come.
        let largest = extents.last().map(|extent| extent.size);
        extents.retain(|extent| Some(extent.size) == largest || !refused.contains(&extent.size));
        let runs = effort.runs as usize;
        let is_whole =
            times.len() == cells.len() && times.iter().all(|(_, times)| times.len() >= runs);
        Ok(Measured::new(summarize(times), extents, !is_whole, ProfileOrigin::Measured)?)
    }

    /// The sizes that its profile has: those that are measured, and the largest that a request may
    /// have.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        let signature = self.resident.signature();
        let size = signature.size(&signature.sizes_max());
        let mut extents = self.sampled();
        if extents.last().is_none_or(|extent| extent.size < size) {
            extents.push(Extent { size, rows_max: self.resident.rows_max() });
        }
        extents
    }

    /// What there is to measure.
    fn sampled(&self) -> Vec<Extent> {
        let rows_max = self.resident.rows_max();
        self.samples.iter().map(|sample| Extent { size: sample.size, rows_max }).collect()
    }

    /// Runs one row, and the largest batch if that takes no long time, so that everything is
    /// allocated before the first batch that counts.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn warm_up(&mut self, known: &Measured) -> Result<(), ProfilingError> {
        let Some(size) = self.samples.last().map(|sample| sample.size) else { return Ok(()) };
        let ran = self.run(Cell { size, rows: 1 })?;
        let rows = self.resident.rows_max();
        let most = if ran.beside_serving { RUN_BESIDE_SERVING_MAX } else { WARM_UP_MAX };
        if known.plan.exec(rows) <= most {
            self.run(Cell { size, rows })?;
        }
        Ok(())
    }

    /// Gives back the memory that the largest batches took. The next batches may be far smaller, and
    /// a server with many models would hold the largest of all of them.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn trim(&mut self) -> Result<(), ProfilingError> {
        let Some(size) = self.samples.first().map(|sample| sample.size) else { return Ok(()) };
        self.resident.trim()?;
        self.run(Cell { size, rows: 1 })?;
        Ok(())
    }

    /// Whether a kept profile still holds: some of its cells are run and compared with it, one row of
    /// the smallest size in any case. A cell of one or two runs tells too little to compare with.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn agrees(&mut self, kept: &Measured) -> Result<bool, ProfilingError> {
        let last = kept.cells.len().saturating_sub(1);
        let mut checked = [0, last / 2, last].map(|at| kept.cells.get(at)).to_vec();
        checked.dedup();
        let mut spent = Span::ZERO;
        for (at, measured) in checked.into_iter().flatten().enumerate() {
            if at > 0 && spent + measured.p50.times(2) > CHECK_TIME_MAX {
                continue;
            }
            // The first run of a cell includes its allocations.
            let mut last = self.run(measured.cell)?.took;
            spent += last;
            let mut times = Vec::with_capacity(CHECK_RUNS);
            while times.len() < CHECK_RUNS && spent + last <= CHECK_TIME_MAX {
                last = self.run(measured.cell)?.took;
                spent += last;
                times.push(last);
            }
            if times.is_empty() {
                times.push(last);
            }
            let is_known = measured.runs as usize >= CHECK_RUNS_LEAST;
            if is_known && !is_near(times, measured.p50) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Assembles a batch from single rows, runs it, and returns the time of both.
    fn run(&mut self, cell: Cell) -> Result<Ran, ProfilingError> {
        let Cell { size, rows } = cell;
        let sample = self.samples.iter().find(|sample| sample.size == size);
        let sample = sample.ok_or(ProfilingError::Size(size))?;
        let gap = self.gaps.wait(self.accelerator)?;
        let start = (self.now)();
        let requests = sample.rows.iter().cycle().take(rows as usize);
        let assembled = self.resident.assemble(requests);
        assembled.map_err(|source| ProfilingError::Input { rows, source })?;
        self.resident.compute()?;
        let took = (self.now)().since(start);
        let beside_serving = gap.serves;
        drop(gap);
        if beside_serving {
            thread::sleep(Duration::from_nanos(took.times(REST_TIMES).0));
        }
        Ok(Ran { took, beside_serving })
    }
}

/// Whether some runs are as long as they should be. What else the machine does makes runs longer
/// and never shorter: the shortest tells whether they have become longer, if they are not too few,
/// and any of them whether they have become shorter.
fn is_near(mut times: Vec<Span>, expected: Span) -> bool {
    times.sort_unstable();
    let least = CHECK_TOLERANCE_LEAST.0 as f64;
    let expected = expected.0 as f64;
    let (shortest, middle) = (times[0].0 as f64, times[times.len() / 2].0 as f64);
    let is_longer = times.len() >= CHECK_RUNS_LEAST
        && shortest > (expected * CHECK_FACTOR).max(expected + least);
    !is_longer && middle >= (expected / CHECK_FACTOR).min(expected - least)
}
