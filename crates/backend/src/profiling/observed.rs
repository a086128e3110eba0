//! What batches of a model took while it served, and the profile that follows from it.
//!
//! The first profile of a slow model is of few runs. Whatever it serves, and what it is probed with
//! while nothing else is to do, makes it better.

use super::cell::{Cell, CellMeasurement, Extent};
use super::fit::summarize;
use super::measured::Measured;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use symphony_core::{Profile, Span};

/// How many of the newest times of a cell count.
const NEWEST: usize = 32;
/// A cell is known better by its batches than by its first measurement from so many on.
const RUNS_TO_KNOW: usize = 20;
/// Bound on the cells that are observed.
const CELLS_MAX: usize = 1024;
/// How far a batch's size may be from a measured one to tell of it.
const SIZE_NEAR: f64 = 0.15;
/// Plans change where a time, or how far it spreads, differs by so much of the time: less is within
/// what they follow anyway.
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

    /// What is known well of the cells that are asked for.
    fn measurements(&self, is_asked: impl Fn(Cell) -> bool) -> Vec<CellMeasurement> {
        let cells = self.lock();
        let is_known = |cell, times: &VecDeque<Span>| is_asked(cell) && times.len() >= RUNS_TO_KNOW;
        let known = cells.iter().filter(|(cell, times)| is_known(**cell, times));
        summarize(known.map(|(cell, times)| (*cell, times.iter().copied().collect())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Cell, VecDeque<Span>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which cells a look may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Those that were measured too few times to be known.
    OfFewRuns,
    /// All: the machine may have changed since.
    OfAll,
}

/// A profile that gets better while its model serves.
#[derive(Debug)]
pub struct Refinement {
    measured: Measured,
    /// Since when what was measured well is contradicted.
    contradicted: Option<Instant>,
}

/// What was measured well is replaced only when it was contradicted for so long. An accelerator that
/// is slow for a while is the business of slowdowns, and is fast again afterwards.
const CONTRADICTED_LEAST: Duration = Duration::from_secs(120);

impl Refinement {
    /// From this profile on.
    #[must_use]
    pub fn new(measured: Measured) -> Refinement {
        Refinement { measured, contradicted: None }
    }

    /// The profile as it is.
    #[must_use]
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Looks at what was observed. The profile, if it is another one from now on: where little was
    /// known at once, and where much was known when that has been wrong for long.
    pub fn look(&mut self, now: Instant, observed: &Observed) -> Option<&Measured> {
        let refined = self.measured.refined(observed, Doubt::OfFewRuns);
        let refined = refined.or_else(|| self.contradiction(now, observed))?;
        self.measured = refined;
        Some(&self.measured)
    }

    fn contradiction(&mut self, now: Instant, observed: &Observed) -> Option<Measured> {
        let Some(refined) = self.measured.refined(observed, Doubt::OfAll) else {
            self.contradicted = None;
            return None;
        };
        let since = *self.contradicted.get_or_insert(now);
        if now.saturating_duration_since(since) < CONTRADICTED_LEAST {
            return None;
        }
        self.contradicted = None;
        Some(refined)
    }
}

impl Measured {
    /// The profile with what was observed since, where that changes a plan by enough.
    fn refined(&self, observed: &Observed, doubt: Doubt) -> Option<Measured> {
        let news =
            observed.measurements(|cell| doubt == Doubt::OfAll || self.runs(cell) < RUNS_TO_KNOW);
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
        let known = |cell: Cell| self.runs(cell).max(observed.runs(cell));
        let cells = super::cell::in_order_of_use(&self.extents);
        let has_run = |size| self.cells.iter().any(|measured| measured.cell.size == size);
        let cells = cells.into_iter().filter(move |cell| has_run(cell.size));
        let unknown = cells.filter(move |cell| known(*cell) < RUNS_TO_KNOW);
        unknown.map(|cell| (cell, self.by_size.exec(cell.size, cell.rows)))
    }

    /// How many runs of a cell it is made of.
    fn runs(&self, cell: Cell) -> usize {
        let measured = self.cells.iter().find(|measured| measured.cell == cell);
        measured.map_or(0, |measured| measured.runs as usize)
    }
}

/// Whether two profiles differ by enough at any of the sizes worth measuring.
fn is_changed(before: &Profile, now: &Profile) -> bool {
    let mut rows = super::rows_up_to(before.rows_max()).into_iter();
    rows.any(|rows| {
        let wider = (now.spread(rows) - before.spread(rows)).abs();
        let (before, now) = (before.exec(rows).0 as f64, now.exec(rows).0 as f64);
        wider > CHANGE_LEAST || (now - before).abs() > CHANGE_LEAST * before
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
            CellMeasurement { cell, mean: p50, spread: 0.0, p50, p95: p50, runs: 1 }
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
        let few = |measured: &Measured| measured.refined(&observed, Doubt::OfFewRuns);
        let all = |measured: &Measured| measured.refined(&observed, Doubt::OfAll);
        add(4, 10, ms(20), RUNS_TO_KNOW - 1);
        assert_eq!(all(&first), None, "too few to know");
        add(4, 10, ms(20), 1);
        let refined = few(&first).unwrap();
        assert_eq!([1, 4, 8].map(|rows| refined.plan.exec(rows)), [10, 20, 45].map(ms));
        assert_eq!(all(&refined), None, "nothing new");
        // Only the newest count, and stalls among them do not.
        add(4, 10, ms(900), 2);
        assert_eq!(all(&refined), None);
        add(4, 10, ms(26), NEWEST);
        assert_eq!(few(&refined), None, "it was known");
        let later = all(&refined).unwrap();
        assert_eq!(later.plan.exec(4), ms(26));
        // A size near by tells of the measured one, and one far away nothing.
        add(1, 11, ms(22), RUNS_TO_KNOW);
        add(1, 20, ms(99), NEWEST);
        assert_eq!(few(&later).unwrap().plan.exec(1), ms(20));
    }

    #[test]
    fn what_is_known_is_not_given_up_for_a_slow_spell() {
        let observed = Observed::new(&first().extents);
        let run = |took: u64| {
            (0..NEWEST).for_each(|_| observed.add(Cell { size: 10, rows: 4 }, ms(took)));
        };
        let (start, mut known) = (Instant::now(), Refinement::new(first()));
        let mut look = |seconds, observed: &Observed| {
            let refined = known.look(start + Duration::from_secs(seconds), observed);
            refined.map(|refined| refined.plan.exec(4))
        };
        run(20);
        assert_eq!(look(0, &observed), Some(ms(20)), "it was not known");
        for second in [5, 10] {
            run(60);
            assert_eq!(look(second, &observed), None);
        }
        run(20);
        assert_eq!(look(15, &observed), None);
        // It is slower for good.
        run(60);
        assert_eq!([20, 80, 139].map(|second| look(second, &observed)), [None; 3]);
        assert_eq!(look(140, &observed), Some(ms(60)));
        assert_eq!(look(145, &observed), None, "nothing new");
    }

    #[test]
    fn a_spread_is_learned_as_well() {
        let (first, observed) = (first(), Observed::new(&first().extents));
        let add = |took| observed.add(Cell { size: 10, rows: 8 }, took);
        (0..NEWEST).for_each(|run| add([ms(30), ms(60)][run % 2]));
        let refined = first.refined(&observed, Doubt::OfFewRuns).unwrap();
        assert_eq!(refined.plan.exec(8), ms(45));
        let spread = refined.plan.spread(8);
        assert!((0.3..0.5).contains(&spread), "{spread}");
        assert_eq!(refined.plan.spread(1), 0.0);
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
        assert!(
            !first.refined(&observed, Doubt::OfFewRuns).unwrap().shortened,
            "it is known in full"
        );
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
