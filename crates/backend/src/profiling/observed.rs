//! What batches of a model took while it served, and the profile that follows from it.
//!
//! The first profile of a slow model is of few runs. Whatever it serves, and what it is probed with
//! while nothing else is to do, makes it better.

use super::cell::{Cell, CellMeasurement, Extent};
use super::fit::summarize;
use super::measured::Measured;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use symphony_core::{Profile, Span};

/// How many of the newest times of a cell count.
const NEWEST: usize = 32;
/// A cell is known better by its batches than by its first measurement from so many on.
const RUNS_TO_KNOW: usize = 20;
/// Bound on the cells that are observed.
const CELLS_MAX: usize = 1024;
/// How far a batch's size may be from a measured one to tell of it.
const SIZE_NEAR: f64 = 0.15;
/// Plans change where a time differs by so much: less is within what they follow anyway.
const CHANGE_LEAST: f64 = 0.1;

/// The times of a model's batches, by cell. Filled by the accelerators' threads.
#[derive(Debug)]
pub struct Observed {
    sizes: Vec<u64>,
    cells: Mutex<BTreeMap<Cell, VecDeque<Span>>>,
}

impl Observed {
    /// Nothing yet, of a model that was measured at these sizes.
    #[must_use]
    pub fn new(extents: &[Extent]) -> Observed {
        let sizes = extents.iter().map(|extent| extent.size).collect();
        Observed { sizes, cells: Mutex::default() }
    }

    /// A batch of the model took so long. One of a size far from those that are measured tells
    /// nothing.
    pub fn add(&self, cell: Cell, took: Span) {
        let distance = |size: &&u64| (**size as f64 / cell.size.max(1) as f64 - 1.0).abs();
        let nearest = self.sizes.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let Some(&size) = nearest.filter(|size| distance(size) <= SIZE_NEAR) else { return };
        let took = took.as_millis_f64() * size as f64 / cell.size.max(1) as f64;
        let mut cells = self.lock();
        let cell = Cell { size, rows: cell.rows };
        if cells.len() >= CELLS_MAX && !cells.contains_key(&cell) {
            return;
        }
        let times = cells.entry(cell).or_default();
        if times.len() == NEWEST {
            times.pop_front();
        }
        times.push_back(Span::from_millis_f64(took));
    }

    /// How many times of a cell are known.
    #[must_use]
    pub fn runs(&self, cell: Cell) -> usize {
        self.lock().get(&cell).map_or(0, VecDeque::len)
    }

    /// What is known well of the cells.
    fn measurements(&self) -> Vec<CellMeasurement> {
        let cells = self.lock();
        let known = cells.iter().filter(|(_, times)| times.len() >= RUNS_TO_KNOW);
        summarize(known.map(|(cell, times)| (*cell, times.iter().copied().collect())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Cell, VecDeque<Span>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    /// The profile with what was observed since, where that changes a plan by enough.
    #[must_use]
    pub fn refined(&self, observed: &Observed) -> Option<Measured> {
        let news = observed.measurements();
        let mut cells: BTreeMap<Cell, CellMeasurement> =
            self.cells.iter().map(|measured| (measured.cell, *measured)).collect();
        cells.extend(news.iter().map(|measured| (measured.cell, *measured)));
        let cells: Vec<_> = cells.into_values().collect();
        let is_first =
            self.shortened && cells.iter().all(|cell| cell.runs as usize >= RUNS_TO_KNOW);
        let refined =
            Measured::new(cells, self.extents.clone(), self.shortened && !is_first, self.origin);
        let refined = refined.ok()?;
        let before = self.by_size.measured().iter();
        let differs = before.zip(refined.by_size.measured());
        let differs = differs.into_iter().any(|((_, before), (_, now))| is_changed(before, now));
        (differs || is_first).then_some(refined)
    }

    /// The cells of which a probe would tell more than is known, those that tell most first, each
    /// with the time that it is likely to take. None is of a size at which the model has not run: it
    /// may refuse that size.
    pub fn unknown<'a>(
        &'a self,
        observed: &'a Observed,
    ) -> impl Iterator<Item = (Cell, Span)> + 'a {
        let known = |cell: Cell| {
            let measured = self.cells.iter().find(|measured| measured.cell == cell);
            measured.map_or(0, |measured| measured.runs as usize).max(observed.runs(cell))
        };
        let cells = super::cell::in_order_of_use(&self.extents);
        let has_run = |size| self.cells.iter().any(|measured| measured.cell.size == size);
        let cells = cells.into_iter().filter(move |cell| has_run(cell.size));
        let unknown = cells.filter(move |cell| known(*cell) < RUNS_TO_KNOW);
        unknown.map(|cell| (cell, self.by_size.at(cell.size).exec(cell.rows)))
    }
}

/// Whether two profiles differ by enough at any of the sizes worth measuring.
fn is_changed(before: &Profile, now: &Profile) -> bool {
    let mut rows = super::rows_up_to(before.rows_max()).into_iter();
    rows.any(|rows| {
        let (before, now) = (before.exec(rows).0 as f64, now.exec(rows).0 as f64);
        (now - before).abs() > CHANGE_LEAST * before
    })
}

#[cfg(test)]
mod tests {
    use super::super::ProfileOrigin;
    use super::*;

    fn ms(ms: u64) -> Span {
        Span::from_millis(ms)
    }

    /// Measured once at one row and at eight, of ten elements each.
    fn first() -> Measured {
        let cell = |rows, p50| {
            let cell = Cell { size: 10, rows };
            CellMeasurement { cell, p50, p95: p50, runs: 1 }
        };
        let extents = vec![Extent { size: 10, rows_max: 8 }];
        let cells = vec![cell(1, ms(10)), cell(8, ms(45))];
        Measured::new(cells, extents, true, ProfileOrigin::Measured).unwrap()
    }

    #[test]
    fn a_profile_follows_the_batches_that_the_model_runs() {
        let first = first();
        let observed = Observed::new(&first.extents);
        let add = |rows, size, took: Span, runs: usize| {
            (0..runs).for_each(|_| observed.add(Cell { size, rows }, took));
        };
        add(4, 10, ms(20), RUNS_TO_KNOW - 1);
        assert_eq!(first.refined(&observed), None, "too few to know");
        add(4, 10, ms(20), 1);
        let refined = first.refined(&observed).unwrap();
        assert_eq!([1, 4, 8].map(|rows| refined.plan.exec(rows)), [10, 20, 45].map(ms));
        assert_eq!(refined.refined(&observed), None, "nothing new");
        // Only the newest count, and a stall among them does not.
        add(4, 10, ms(900), 1);
        assert_eq!(refined.refined(&observed), None);
        add(4, 10, ms(26), NEWEST);
        let later = refined.refined(&observed).unwrap();
        assert_eq!(later.plan.exec(4), ms(26));
        // A size near by tells of the measured one, and one far away nothing.
        add(1, 11, ms(22), RUNS_TO_KNOW);
        add(1, 20, ms(99), NEWEST);
        assert_eq!(later.refined(&observed).unwrap().plan.exec(1), ms(20));
    }

    #[test]
    fn probes_go_where_little_is_known_and_end() {
        let first = first();
        let observed = Observed::new(&first.extents);
        let unknown = |observed| {
            let unknown = first.unknown(observed);
            unknown.map(|(cell, takes)| (cell.rows, takes)).collect::<Vec<_>>()
        };
        let expected = [(1, 10), (8, 45), (2, 15), (4, 25), (3, 20), (6, 35)];
        assert_eq!(unknown(&observed), expected.map(|(rows, takes)| (rows, ms(takes))));
        for (rows, takes) in expected {
            for _ in 0..RUNS_TO_KNOW {
                observed.add(Cell { size: 10, rows }, ms(takes));
            }
        }
        assert_eq!(unknown(&observed), []);
        assert!(!first.refined(&observed).unwrap().shortened, "it is known in full");
    }

    #[test]
    fn a_size_at_which_the_model_has_not_run_is_not_probed() {
        let mut measured = first();
        measured.extents.push(Extent { size: 20, rows_max: 8 });
        let observed = Observed::new(&measured.extents);
        let sizes: Vec<u64> = measured.unknown(&observed).map(|(cell, _)| cell.size).collect();
        assert_eq!(sizes, [10; 6]);
    }
}
