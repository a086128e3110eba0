//! Measuring a model within a time budget.
//!
//! Cells are run in rounds, each once a round, so that a stall of the machine hits single runs of
//! several cells and not all runs of one. A cell that does not fit the time that is left is passed
//! over for smaller ones.

use super::ProfilingError;
use super::cell::{Cell, predict};
use std::collections::BTreeMap;
use symphony_core::Span;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of each cell, if time allows.
    pub runs: u32,
    /// A model that is quick is run for so long, in more runs: a machine's stalls last as long as
    /// many of them.
    pub time_least: Span,
    /// Time for all runs together. Only the first two runs, of one row, may exceed it.
    pub time_max: Span,
    /// The longest run of a cell.
    pub run_max: Span,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort {
            runs: 20,
            time_least: Span::from_millis(200),
            time_max: Span::from_millis(1500),
            run_max: Span::MAX,
        }
    }
}

impl Effort {
    /// What is enough beside models that serve: a batch of theirs waits for a run, so there are few
    /// and short ones. What the profile lacks is learned from the batches that the model runs.
    fn beside_serving(self) -> Effort {
        Effort {
            runs: self.runs.min(5),
            time_least: Span::ZERO,
            time_max: Span(self.time_max.0 / 4),
            run_max: self.run_max.min(RUN_BESIDE_SERVING_MAX),
        }
    }
}

/// The longest run beside models that serve.
pub(super) const RUN_BESIDE_SERVING_MAX: Span = Span::from_millis(20);

/// A cell is run for the first time only if it takes no more than this part of the time that is
/// left: what it takes is a guess then, and others need time too.
const FIRST_RUN_PART: u64 = 2;

/// Runs of the first cell, whatever they take: the very first includes what the engine does only
/// once.
const FIRST_RUNS: usize = 2;

/// The least that a run counts with: a clock may be too coarse to see it.
const RUN_LEAST: Span = Span::from_micros(1);

/// A run of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    pub(super) took: Span,
    /// Whether models serve on the accelerator at other times.
    pub(super) beside_serving: bool,
}

/// The times of one cell.
#[derive(Clone, Debug, Default)]
struct Times {
    /// The first run includes what the engine does only once for this cell: it counts only where
    /// there is no other.
    first: Option<Span>,
    later: Vec<Span>,
    /// The model does not run at this size.
    is_refused: bool,
}

impl Times {
    fn add(&mut self, took: Span) {
        match self.first {
            None => self.first = Some(took),
            Some(_) => self.later.push(took),
        }
    }

    fn runs(&self) -> usize {
        usize::from(self.first.is_some()) + self.later.len()
    }

    /// What the next run will take; none before the first.
    fn expected(&self) -> Option<Span> {
        self.later.last().copied().or(self.first)
    }

    fn into_times(self) -> Vec<Span> {
        match (self.first, self.later.as_slice()) {
            (Some(first), []) => vec![first],
            // Of two, the shorter was disturbed less.
            (Some(first), [second]) => vec![first.min(*second)],
            _ => self.later,
        }
    }
}

/// Measures cells, in order of their use, at the latest until the time is up. Those for which there
/// is no time are left out, but never the first. `run` gives no time where the model does not run at
/// the cell's size: no cell of that size is measured.
///
/// # Errors
/// A run failed.
pub(super) fn measure(
    cells: &[Cell],
    effort: &Effort,
    run: &mut dyn FnMut(Cell) -> Result<Option<Ran>, ProfilingError>,
) -> Result<Vec<(Cell, Vec<Span>)>, ProfilingError> {
    let mut round = Round { cells, times: vec![Times::default(); cells.len()], effort: *effort };
    let mut spent = Span::ZERO;
    while let Some(at) = round.next(spent) {
        let Some(ran) = run(cells[at])? else {
            round.refuse(cells[at].size);
            continue;
        };
        round.times[at].add(ran.took);
        round.effort = if ran.beside_serving { effort.beside_serving() } else { *effort };
        spent += ran.took.max(RUN_LEAST);
    }
    let measured = cells.iter().copied().zip(round.times.into_iter().map(Times::into_times));
    Ok(measured.filter(|(_, times)| !times.is_empty()).collect())
}

struct Round<'a> {
    cells: &'a [Cell],
    times: Vec<Times>,
    effort: Effort,
}

impl Round<'_> {
    /// The cell to run next: the one with the fewest runs that fits. None when every cell has its
    /// runs, or when none fits.
    fn next(&self, spent: Span) -> Option<usize> {
        let left = self.effort.time_max.saturating_sub(spent);
        // The first run of a cell comes on top.
        let enough = self.effort.runs as usize + 1;
        let is_done = spent >= self.effort.time_least;
        let mut best: Option<(usize, usize)> = None;
        let mut known = None;
        let first = self.times.iter().position(|times| !times.is_refused)?;
        if self.times[first].runs() < FIRST_RUNS {
            return Some(first);
        }
        for (at, times) in self.times.iter().enumerate().filter(|(_, times)| !times.is_refused) {
            let runs = times.runs();
            if runs >= enough && is_done || best.is_some_and(|(fewest, _)| runs >= fewest) {
                continue;
            }
            let fits = match times.expected() {
                Some(expected) => expected <= left.min(self.effort.run_max),
                None => {
                    let known = known.get_or_insert_with(|| self.known());
                    let guess = predict(known, self.cells[at]).unwrap_or(Span::MAX);
                    guess <= Span(left.0 / FIRST_RUN_PART).min(self.effort.run_max)
                }
            };
            if fits {
                best = Some((runs, at));
            }
        }
        best.map(|(_, at)| at)
    }

    fn refuse(&mut self, size: u64) {
        for (cell, times) in self.cells.iter().zip(&mut self.times) {
            if cell.size == size {
                *times = Times { is_refused: true, ..Times::default() };
            }
        }
    }

    fn known(&self) -> BTreeMap<Cell, Span> {
        let cells = self.cells.iter().zip(&self.times);
        cells.filter_map(|(cell, times)| Some((*cell, times.expected()?))).collect()
    }
}
