//! From measured times to a profile, robustly: a stall of the machine in a few runs changes neither
//! the estimate of its own cell by much nor that of any other.
//!
//! - What a cell takes is its mean, and its spread is its own where it has runs enough to tell;
//!   otherwise it is the spread that the runs of all cells have together. A few stalls have no
//!   influence on either: see [`usual`](super::usual).
//! - Times never decrease with rows or with size: isotonic regression takes out what the runs
//!   contradict.
//! - What was not measured is foreseen from what was.

use super::cell::{Cell, CellMeasurement, Extent, predict, rows_up_to};
use super::isotonic::{Weighted, isotonic};
use super::usual::{Usual, p95_over_p50};
use std::collections::BTreeMap;
use symphony_core::{Profile, ProfileError, SizedProfile, SizedProfileError, Span};

/// Runs from which on a spread and a 95th percentile are the cell's own.
const RUNS_OF_ITS_OWN: usize = 20;
/// Runs of a cell that say something of the spread.
const RUNS_TO_SPREAD: usize = 3;
/// The spread where no run says anything of it: that of a machine with other users.
const SPREAD_UNKNOWN: f64 = 0.1;

/// The measurements of cells, of which each has at least one run.
pub(super) fn summarize(times: Vec<(Cell, Vec<Span>)>) -> Vec<CellMeasurement> {
    let sorted = |(cell, mut times): (Cell, Vec<Span>)| {
        times.sort_unstable();
        (cell, times)
    };
    let sorted: Vec<_> = times.into_iter().map(sorted).collect();
    let together = spread_together(sorted.iter().map(|(_, times)| times.as_slice()));
    let measurement = |(cell, times): &(Cell, Vec<Span>)| {
        let Usual { mean, spread } = Usual::of_times(times)?;
        // A clock that is too coarse to see a run must not make the run free.
        let (mean, p50) = (nanoseconds(mean), percentile(times, 50).max(Span(1)));
        let (spread, p95) = match times.len() {
            RUNS_OF_ITS_OWN.. => (spread, percentile(times, 95)),
            _ => (together, nanoseconds(p50.0 as f64 * p95_over_p50(together))),
        };
        let runs = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Some(CellMeasurement { cell: *cell, mean, spread, p50, p95: p95.max(p50), runs })
    };
    sorted.iter().filter_map(measurement).collect()
}

/// At least one.
fn nanoseconds(time: f64) -> Span {
    Span::from_millis_f64(time / 1e6).max(Span(1))
}

/// The spread of all runs around the mean of their cell.
fn spread_together<'a>(cells: impl Iterator<Item = &'a [Span]>) -> f64 {
    let mut ratios: Vec<f64> = cells
        .filter(|times| times.len() >= RUNS_TO_SPREAD)
        .filter_map(|times| Some((Usual::of_times(times)?.mean.max(1.0), times)))
        .flat_map(|(mean, times)| {
            // Few runs lie nearer to their own mean than to the true one.
            let wider = (times.len() as f64 / (times.len() - 1) as f64).sqrt();
            times.iter().map(move |time| 1.0 + (time.0 as f64 / mean - 1.0) * wider)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    Usual::of(&ratios).map_or(SPREAD_UNKNOWN, |usual| usual.spread)
}

/// The smallest value that is at least as large as `percent` percent of the sorted values (nearest
/// rank).
pub(super) fn percentile(sorted: &[Span], percent: usize) -> Span {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(Span::ZERO)
}

/// The profiles of all sizes: means, and how far they spread.
///
/// # Errors
/// Nothing was measured.
pub(super) fn fitted(
    cells: &[CellMeasurement],
    extents: &[Extent],
) -> Result<SizedProfile, SizedProfileError> {
    let known = monotone(cells);
    let profile = |extent: &Extent| match of_size(&known, *extent) {
        Ok(profile) => Ok((extent.size, profile.with_spread(&spreads(cells, extent.size)))),
        Err(problem) => Err(SizedProfileError::Profile { size: extent.size, problem }),
    };
    SizedProfile::new(extents.iter().map(profile).collect::<Result<_, _>>()?)
}

/// The spread of batches of a size by their rows: as they were measured at that size, or at the one
/// nearest to it.
fn spreads(cells: &[CellMeasurement], size: u64) -> Vec<(u32, f64)> {
    let distance = |cell: &CellMeasurement| cell.cell.size.abs_diff(size);
    let nearest = cells.iter().map(distance).min();
    let of_nearest = cells.iter().filter(|cell| Some(distance(cell)) == nearest);
    of_nearest.map(|cell| (cell.cell.rows, cell.spread)).collect()
}

/// The measured times, so that more rows or larger ones never take less.
fn monotone(cells: &[CellMeasurement]) -> BTreeMap<Cell, Span> {
    let weight: BTreeMap<Cell, u32> = cells.iter().map(|cell| (cell.cell, cell.runs)).collect();
    let mut known: BTreeMap<Cell, Span> = cells.iter().map(|cell| (cell.cell, cell.mean)).collect();
    for line in [|cell: &Cell| cell.size, |cell: &Cell| u64::from(cell.rows)] {
        let mut lines: BTreeMap<u64, Vec<Cell>> = BTreeMap::new();
        for cell in known.keys() {
            lines.entry(line(cell)).or_default().push(*cell);
        }
        for cells in lines.values() {
            let points =
                cells.iter().map(|cell| Weighted { value: known[cell], weight: weight[cell] });
            let fitted = isotonic(&points.collect::<Vec<_>>());
            known.extend(cells.iter().copied().zip(fitted));
        }
    }
    known
}

/// The profile of one size: measured or foreseen at the sizes worth measuring, straight between.
fn of_size(known: &BTreeMap<Cell, Span>, extent: Extent) -> Result<Profile, ProfileError> {
    let Extent { size, rows_max } = extent;
    let cells = Cell { size, rows: 1 }..=Cell { size, rows: rows_max };
    let mut rows: Vec<u32> = known.range(cells).map(|(cell, _)| cell.rows).collect();
    rows.extend(rows_up_to(rows_max));
    rows.sort_unstable();
    rows.dedup();
    let samples: Option<Vec<_>> = rows
        .into_iter()
        .map(|rows| Some((rows, predict(known, Cell { size, rows })?.max(Span(1)))))
        .collect();
    Profile::from_samples(&samples.ok_or(ProfileError::Empty)?)
}
