//! From measured times to a profile, robustly: a stall of the machine in a few runs changes neither
//! the estimate of its own cell by much nor that of any other.
//!
//! - A cell's typical time is its median. Its high percentile is its own where it has runs enough to
//!   tell; otherwise it is the median times the spread that the runs of all cells have together.
//! - Times never decrease with rows or with size: isotonic regression takes out what the runs
//!   contradict.
//! - What was not measured is foreseen from what was.

use super::cell::{Cell, CellMeasurement, Extent, predict, rows_up_to};
use super::isotonic::{Weighted, isotonic};
use std::collections::BTreeMap;
use symphony_core::{Profile, ProfileError, SizedProfile, SizedProfileError, Span};

/// Runs from which on a 95th percentile is the cell's own: of so many, the longest is not it.
const RUNS_OF_ITS_OWN: usize = 20;
/// Runs of a cell that say something of the spread.
const RUNS_TO_SPREAD: usize = 3;
/// From so many ratios on the longest is left out of the spread.
const RATIOS_TO_DROP_ONE: usize = 5;

/// The measurements of cells, of which each has at least one run.
pub(super) fn summarize(times: Vec<(Cell, Vec<Span>)>) -> Vec<CellMeasurement> {
    let sorted = |(cell, mut times): (Cell, Vec<Span>)| {
        times.sort_unstable();
        (cell, times)
    };
    let sorted: Vec<_> = times.into_iter().map(sorted).collect();
    let spread = spread(sorted.iter().map(|(_, times)| times.as_slice()));
    let measurement = |(cell, times): &(Cell, Vec<Span>)| {
        // A clock that is too coarse to see a run must not make the run free.
        let p50 = percentile(times, 50).max(Span(1));
        let p95 = match times.len() {
            RUNS_OF_ITS_OWN.. => percentile(times, 95),
            _ => Span::from_millis_f64(p50.as_millis_f64() * spread),
        };
        let runs = u32::try_from(times.len()).unwrap_or(u32::MAX);
        CellMeasurement { cell: *cell, p50, p95: p95.max(p50), runs }
    };
    sorted.iter().map(measurement).collect()
}

/// How many times longer than the median of its cell a run takes that one in twenty exceeds.
fn spread<'a>(cells: impl Iterator<Item = &'a [Span]>) -> f64 {
    let mut ratios: Vec<f64> = cells
        .filter(|times| times.len() >= RUNS_TO_SPREAD)
        .flat_map(|times| {
            let median = percentile(times, 50).0.max(1) as f64;
            times.iter().map(move |time| time.0 as f64 / median)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    if ratios.len() >= RATIOS_TO_DROP_ONE {
        ratios.pop();
    }
    let rank = (ratios.len() * 95).div_ceil(100);
    rank.checked_sub(1).map_or(1.0, |at| ratios[at].max(1.0))
}

/// The smallest value that is at least as large as `percent` percent of the sorted values (nearest
/// rank).
pub(super) fn percentile(sorted: &[Span], percent: usize) -> Span {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(Span::ZERO)
}

/// The profiles of all sizes.
///
/// # Errors
/// Nothing was measured.
pub(super) fn fitted(
    cells: &[CellMeasurement],
    extents: &[Extent],
    of: fn(&CellMeasurement) -> Span,
) -> Result<SizedProfile, SizedProfileError> {
    let known = monotone(cells, of);
    let profile = |extent: &Extent| match of_size(&known, *extent) {
        Ok(profile) => Ok((extent.size, profile)),
        Err(problem) => Err(SizedProfileError::Profile { size: extent.size, problem }),
    };
    SizedProfile::new(extents.iter().map(profile).collect::<Result<_, _>>()?)
}

/// The measured times, so that more rows or larger ones never take less.
fn monotone(cells: &[CellMeasurement], of: fn(&CellMeasurement) -> Span) -> BTreeMap<Cell, Span> {
    let weight: BTreeMap<Cell, u32> = cells.iter().map(|cell| (cell.cell, cell.runs)).collect();
    let mut known: BTreeMap<Cell, Span> = cells.iter().map(|cell| (cell.cell, of(cell))).collect();
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
