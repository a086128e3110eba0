//! A loaded model as something to measure: batches of generated rows are assembled and run.

use super::cell::{Extent, in_order_of_use};
use super::measure::{Effort, Ran, measure};
use super::{Measured, ProfileOrigin, ProfilingError, summarize};
use crate::resident::Resident;
use symphony_core::{Span, Time};
use symphony_wire::tensor::Inputs;

/// Runs per cell when a kept profile is checked, and the time they may take together. A profile is
/// refined while it serves, so this finds only what has changed by much.
const CHECK_RUNS: usize = 5;
const CHECK_RUNS_LEAST: usize = 3;
const CHECK_TIME_MAX: Span = Span::from_millis(150);
/// How far a kept profile may be off: a share of its time, but at least the resolution of a timer.
const CHECK_TOLERANCE: f64 = 0.2;
const CHECK_TOLERANCE_LEAST: Span = Span::from_micros(20);

/// The largest batch is run before the first request only if it takes no longer.
const WARM_UP_MAX: Span = Span::from_millis(250);

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

impl ProfilingTarget<'_> {
    /// Measures as many batch sizes as there is time for, from those on that tell most.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn measure(&mut self, effort: &Effort) -> Result<Measured, ProfilingError> {
        let extents = vec![self.extent()];
        let cells = in_order_of_use(&extents);
        let times = measure(&cells, effort, &mut |cell| {
            Ok(Ran { took: self.run(cell.rows)?, next_max: Span::MAX })
        })?;
        let is_whole = times.len() == cells.len()
            && times.iter().all(|(_, times)| times.len() >= effort.runs as usize);
        Ok(Measured::new(summarize(times), extents, !is_whole, ProfileOrigin::Measured)?)
    }

    /// What is measured.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent { size: 1, rows_max: self.resident.rows_max() }
    }

    /// Runs one row, and the largest batch if that takes no long time, so that everything is
    /// allocated before the first batch that counts.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn warm_up(&mut self, known: &Measured) -> Result<(), ProfilingError> {
        self.run(1)?;
        let rows_max = self.resident.rows_max();
        if known.typical.exec(rows_max) <= WARM_UP_MAX {
            self.run(rows_max)?;
        }
        Ok(())
    }

    /// Whether a kept profile still holds: some of its sizes are run and compared with it.
    ///
    /// # Errors
    /// The engine failed on a batch.
    pub fn agrees(&mut self, kept: &Measured) -> Result<bool, ProfilingError> {
        let last = kept.cells.len().saturating_sub(1);
        let mut checked = [0, last / 2, last].map(|at| kept.cells.get(at)).to_vec();
        checked.dedup();
        let mut spent = Span::ZERO;
        for cell in checked.into_iter().flatten() {
            if cell.cell.rows > 1 && spent + cell.p50.times(2) > CHECK_TIME_MAX {
                continue;
            }
            // The first run of a size includes its allocations.
            spent += self.run(cell.cell.rows)?;
            let mut times = Vec::with_capacity(CHECK_RUNS);
            while times.is_empty() || times.len() < CHECK_RUNS && spent + cell.p50 <= CHECK_TIME_MAX
            {
                let took = self.run(cell.cell.rows)?;
                spent += took;
                times.push(took);
            }
            if !is_near(times, cell.p50) {
                return Ok(false);
            }
        }
        Ok(true)
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

/// Whether some runs are as long as they should be. What else the machine does makes runs longer
/// and never shorter, so the shortest tells whether they have become longer. Too few tell nothing.
fn is_near(mut times: Vec<Span>, expected: Span) -> bool {
    if times.len() < CHECK_RUNS_LEAST {
        return true;
    }
    times.sort_unstable();
    let room = (expected.0 as f64 * CHECK_TOLERANCE).max(CHECK_TOLERANCE_LEAST.0 as f64);
    let (shortest, middle) = (times[0].0 as f64, times[times.len() / 2].0 as f64);
    let expected = expected.0 as f64;
    shortest <= expected + room && middle >= expected - room
}
