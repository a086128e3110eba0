//! Which batches are measured, and what the times of some say of the others.

use std::collections::BTreeMap;
use symphony_core::Span;

/// A batch to measure: so many rows of so many elements each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The elements of one row over all inputs.
    pub size: u64,
    /// The rows of the batch.
    pub rows: u32,
}

/// The largest batch of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The elements of one row over all inputs.
    pub size: u64,
    /// The most rows of them in one batch.
    pub rows_max: u32,
}

/// What was measured of one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellMeasurement {
    /// The batch.
    pub cell: Cell,
    /// What a run takes as a rule: the mean, on which a few stalls have no influence.
    pub mean: Span,
    /// The standard deviation as a share of the mean, on which a few stalls have no influence. Where
    /// there are fewer than 20 runs, that of all runs of the model together.
    pub spread: f64,
    /// The median time.
    pub p50: Span,
    /// The 95th percentile. Where there are fewer than 20 runs, the median and the spread tell it.
    pub p95: Span,
    /// The number of runs.
    pub runs: u32,
}

/// A growing time that was not measured grows at least by this share of what it would if every row
/// cost the same.
const GROWTH_LEAST: f64 = 0.25;

/// The batch sizes worth measuring: powers of two, the sizes half-way between, and `rows_max`.
#[must_use]
pub fn rows_up_to(rows_max: u32) -> Vec<u32> {
    let powers = std::iter::successors(Some(1u32), |power| power.checked_mul(2));
    let mut rows: Vec<u32> = powers
        .flat_map(|power| [Some(power), (power > 1).then_some(power.saturating_add(power / 2))])
        .flatten()
        .take_while(|&rows| rows < rows_max)
        .collect();
    rows.push(rows_max);
    rows
}

/// The cells of some sizes, those first without which the others cannot be told: one row and the
/// largest batch of every size, then powers of two, then the rest.
pub(super) fn in_order_of_use(extents: &[Extent]) -> Vec<Cell> {
    let mut cells: Vec<(u8, Cell)> = Vec::new();
    for &Extent { size, rows_max } in extents {
        for rows in rows_up_to(rows_max) {
            let rank = match rows {
                1 => 0,
                _ if rows == rows_max => 1,
                _ if rows.is_power_of_two() => 2,
                _ => 3,
            };
            cells.push((rank, Cell { size, rows }));
        }
    }
    cells.sort_by_key(|(rank, _)| *rank);
    cells.into_iter().map(|(_, cell)| cell).collect()
}

/// The time of a cell, as far as those of others tell. None where nothing is known.
pub(super) fn predict(known: &BTreeMap<Cell, Span>, cell: Cell) -> Option<Span> {
    if let Some(&time) = known.get(&cell) {
        return Some(time);
    }
    let mut sizes: Vec<u64> = known.keys().map(|known| known.size).collect();
    sizes.dedup();
    let along_rows = |size: u64| {
        let of_size = Cell { size, rows: 0 }..=Cell { size, rows: u32::MAX };
        let points = known.range(of_size).map(|(cell, time)| (f64::from(cell.rows), time.0 as f64));
        at(&points.collect::<Vec<_>>(), f64::from(cell.rows))
    };
    let time = if sizes.contains(&cell.size) {
        along_rows(cell.size)?
    } else {
        let points: Vec<_> =
            sizes.iter().filter_map(|&size| Some((size as f64, along_rows(size)?))).collect();
        at(&points, cell.size as f64)?
    };
    Some(Span::from_millis_f64(time / 1e6))
}

/// The value at `x` of the line through points in order: straight between them, the first value
/// before the first, and beyond the last growing as it did over the last octave.
fn at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let &(last, value) = points.last()?;
    let beyond = points.partition_point(|point| point.0 < x);
    match (beyond.checked_sub(1).map(|before| points[before]), points.get(beyond)) {
        (None, Some(&(_, first))) => Some(first),
        (Some(before), Some(&after)) => {
            let share = (x - before.0) / (after.0 - before.0);
            Some(before.1 + (after.1 - before.1) * share)
        }
        _ => {
            let even = value / last.max(1.0);
            let octave = points.iter().rev().find(|point| point.0 <= last / 2.0);
            let slope = octave.map_or(even, |point| (value - point.1) / (last - point.0));
            Some(value + (x - last) * slope.max(even * GROWTH_LEAST))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(size: u64, rows: u32) -> Cell {
        Cell { size, rows }
    }

    #[test]
    fn rows_are_powers_of_two_those_between_and_the_last() {
        for (rows_max, expected) in [
            (1, vec![1]),
            (2, vec![1, 2]),
            (3, vec![1, 2, 3]),
            (5, vec![1, 2, 3, 4, 5]),
            (32, vec![1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),
            (33, vec![1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 33]),
        ] {
            assert_eq!(rows_up_to(rows_max), expected);
        }
        assert_eq!(rows_up_to(u32::MAX).last(), Some(&u32::MAX));
    }

    #[test]
    fn what_tells_most_of_the_others_comes_first() {
        let one = in_order_of_use(&[Extent { size: 9, rows_max: 12 }]);
        let rows: Vec<_> = one.iter().map(|cell| cell.rows).collect();
        assert_eq!(rows, [1, 12, 2, 4, 8, 3, 6]);
        let two = [Extent { size: 4, rows_max: 4 }, Extent { size: 8, rows_max: 2 }];
        let two = in_order_of_use(&two);
        let expected =
            [cell(4, 1), cell(8, 1), cell(4, 4), cell(8, 2), cell(4, 2), cell(4, 3)].to_vec();
        assert_eq!(two, expected);
    }

    #[test]
    fn times_between_and_beyond_the_measured_ones_are_told() {
        let known = |cells: &[(u64, u32, u64)]| {
            let time =
                |&(size, rows, ms): &(u64, u32, u64)| (cell(size, rows), Span::from_millis(ms));
            cells.iter().map(time).collect::<BTreeMap<_, _>>()
        };
        let check = |cells: &[(u64, u32, u64)], wanted, ms: Option<u64>| {
            assert_eq!(predict(&known(cells), wanted), ms.map(Span::from_millis), "{wanted:?}");
        };
        check(&[], cell(1, 1), None);
        check(&[(1, 1, 10)], cell(1, 1), Some(10));
        check(&[(1, 1, 10)], cell(1, 8), Some(80));
        check(&[(1, 1, 6), (1, 2, 7), (1, 4, 9)], cell(1, 8), Some(13));
        check(&[(1, 1, 6), (1, 4, 9)], cell(1, 2), Some(7));
        // No time is foreseen to stand still.
        check(&[(1, 1, 8), (1, 2, 8)], cell(1, 4), Some(10));
        // A size between two, one beyond them, and one below.
        let sizes = [(10, 1, 10), (10, 4, 40), (30, 1, 30), (30, 4, 120)];
        check(&sizes, cell(20, 4), Some(80));
        check(&sizes, cell(60, 1), Some(60));
        check(&sizes, cell(5, 4), Some(40));
    }
}
