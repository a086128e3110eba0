//! Trial runs of a newly loaded model: at which sizes it runs, which shapes its outputs have, and
//! whether rows in a batch give what they give alone.
//!
//! The inputs are generated, and such as the model could see. Rows of a batch differ strongly, so
//! that whatever passes from one to another shows; what counts as a difference is measured, from
//! what the engine itself differs by for the same row.

mod compare;
mod finding;
mod observe;
mod padding;
mod sizes;

pub(crate) use finding::Finding;
pub(crate) use observe::without_rows;
pub(crate) use padding::padding;
pub(crate) use sizes::{Bound, SizesError};

use crate::engine::{EngineError, Executable};
use crate::resident::{BatchError, Resident};
use crate::values::{InputValues, WAYS};
use compare::{Distances, Expected};
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_wire::tensor::{Inputs, OutputTensor, Signature};

/// Rows of a trial batch.
const ROWS: usize = 5;

/// The ways of generating values in which a model is tried.
const WAYS_TRIED: usize = 3;

/// The seed of the trial rows.
const SEED: u64 = 20_11;

/// A batch as large as the configuration allows is tried if it takes no longer than this.
const LARGEST_TIME: Duration = Duration::from_secs(1);

/// Every row is tried against copies of itself if that takes no longer than this; else two are.
const COPIES_TIME: Duration = Duration::from_millis(300);

/// A model that has been loaded, and what is known of how to run it.
pub(crate) struct Trial<'a> {
    resident: Resident,
    others: Vec<Box<dyn Executable>>,
    values: &'a InputValues,
    /// Sizes of the open dimensions at which it runs.
    base: Vec<usize>,
    /// The ways of generating values with which it runs, one at least, and sizes for each: a model
    /// may take other sizes for other values, as at another sample rate.
    ways: Vec<(usize, Vec<usize>)>,
    /// Sizes up to the largest that were tried together, each with the way of generating values.
    ran: Vec<(Vec<usize>, usize)>,
    /// How long one row takes.
    time: Duration,
}

impl<'a> Trial<'a> {
    /// Makes a loaded model ready to run on its first accelerator.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn new(
        signature: Signature,
        rows_max: u32,
        mut executables: Vec<Box<dyn Executable>>,
        values: &'a InputValues,
    ) -> Result<Trial<'a>, EngineError> {
        assert!(!executables.is_empty(), "a model is loaded on at least one accelerator");
        let first = executables.remove(0);
        let resident = Resident::new(Arc::new(signature), rows_max, first)?;
        let base = Vec::new();
        let time = Duration::ZERO;
        let (ways, ran) = (Vec::new(), Vec::new());
        Ok(Trial { resident, others: executables, values, base, ways, ran, time })
    }

    pub(crate) fn signature(&self) -> &Signature {
        self.resident.signature()
    }

    /// The way of generating values with which the model runs.
    pub(crate) fn way(&self) -> usize {
        self.ways.first().map_or(0, |(way, _)| *way)
    }

    /// Sizes of the open dimensions at which it has run, in order, each with the way of generating
    /// values.
    pub(crate) fn sizes(&self) -> &[(Vec<usize>, usize)] {
        &self.ran
    }

    /// The executables, the first first.
    pub(crate) fn into_executables(self) -> Vec<Box<dyn Executable>> {
        let Trial { resident, mut others, .. } = self;
        others.insert(0, resident.into_executable());
        others
    }

    /// The same model with another signature.
    fn resign(self, signature: Signature) -> Result<Trial<'a>, EngineError> {
        let Trial { resident, others, values, base, ways, ran, time } = self;
        let rows_max = resident.rows_max();
        let resident = Resident::new(Arc::new(signature), rows_max, resident.into_executable())?;
        Ok(Trial { resident, others, values, base, ways, ran, time })
    }

    /// The outputs of a batch as a whole.
    fn outputs(&mut self, rows: &[Inputs]) -> Result<Vec<OutputTensor>, BatchError> {
        self.resident.assemble(rows.iter())?;
        Ok(self.resident.compute()?)
    }

    /// The outputs of each row of a batch.
    fn run(&mut self, rows: &[Inputs]) -> Result<Vec<Vec<OutputTensor>>, BatchError> {
        self.resident.run(rows)
    }

    /// The outputs of each row alone.
    fn alone(&mut self, rows: &[Inputs]) -> Result<Vec<Vec<OutputTensor>>, BatchError> {
        rows.iter().map(|row| Ok(self.run(std::slice::from_ref(row))?.remove(0))).collect()
    }

    /// Rows that differ strongly, for one way of generating values.
    fn strong_rows(&self, way: usize, sizes: &[usize], count: usize) -> Vec<Inputs> {
        let sizes = vec![sizes.to_vec(); count];
        self.values.strong_rows(self.signature(), &sizes, way, SEED)
    }

    /// The outputs of the trial rows one by one, to compare another form of the graph with.
    ///
    /// # Errors
    /// The model fails on a row.
    pub(crate) fn reference(
        &mut self,
        rows: &[Inputs],
    ) -> Result<Vec<Vec<OutputTensor>>, BatchError> {
        self.alone(rows)
    }

    /// The trial rows of the first way.
    pub(crate) fn reference_rows(&self) -> Vec<Inputs> {
        self.strong_rows(self.way(), &self.base, 2)
    }

    /// How the outputs of rows differ from those of another form of the graph, if they do.
    ///
    /// # Errors
    /// The model fails on a row.
    pub(crate) fn differs(
        &mut self,
        rows: &[Inputs],
        reference: &[Vec<OutputTensor>],
    ) -> Result<Option<String>, BatchError> {
        let alone = self.alone(rows)?;
        let expected = Expected::new(reference, Distances::tolerated(self.signature()));
        Ok(expected.difference(self.signature(), &alone).map(|(text, _)| text))
    }

    /// Tries whether rows in a batch give what they give alone. `quantized` says that the model
    /// rounds its activations, so that tiny differences may grow.
    ///
    /// # Errors
    /// The model fails on a single row.
    pub(crate) fn batches(&mut self, quantized: bool) -> Result<Finding, BatchError> {
        for (way, sizes) in self.ways.clone() {
            let count = ROWS.min(self.resident.rows_max() as usize).max(2);
            let rows = self.strong_rows(way, &sizes, count);
            let begun = Instant::now();
            let alone = self.alone(&rows)?;
            self.time = begun.elapsed() / u32::try_from(count).unwrap_or(1);
            let noise = match self.noise(&rows, &alone, quantized) {
                Ok(noise) => noise,
                Err(finding) => return Ok(finding),
            };
            let finding = self.together(&rows, Expected::new(&alone, noise));
            if finding != Finding::Independent {
                return Ok(finding);
            }
        }
        Ok(Finding::Independent)
    }

    /// By how much the outputs of the same row differ from place to place in a batch: copies of a
    /// row do not influence each other.
    fn noise(
        &mut self,
        rows: &[Inputs],
        alone: &[Vec<OutputTensor>],
        quantized: bool,
    ) -> Result<Distances, Finding> {
        let count = u32::try_from(rows.len() * rows.len()).unwrap_or(u32::MAX);
        let tried = if self.time * count <= COPIES_TIME { rows.len() } else { 2 };
        let mut distances = Distances::zero(self.signature());
        // The rows of the largest magnitude are among the first three.
        for (row, expected) in rows.iter().zip(alone).rev().take(tried) {
            let copies = vec![row.clone(); rows.len()];
            let got = self.run(&copies).map_err(|error| fails(rows.len(), &error))?;
            for outputs in &got {
                distances.add(self.signature(), expected, outputs).map_err(Finding::Fails)?;
            }
        }
        distances.limit(self.signature(), quantized)
    }

    /// Rows together, in other orders, and as many as the configuration allows.
    fn together(&mut self, rows: &[Inputs], expected: Expected<'_>) -> Finding {
        let count = rows.len();
        let straight: Vec<usize> = (0..count).collect();
        let turned: Vec<usize> = (0..count).rev().collect();
        let mut orders = vec![straight, turned];
        let largest = self.resident.rows_max();
        if self.time * largest <= LARGEST_TIME && self.resident.fits(largest, &rows[0].sizes) {
            orders.push((0..largest as usize).map(|at| (at * 3 + 1) % count).collect());
        }
        for order in orders {
            let batch: Vec<Inputs> = order.iter().map(|&at| rows[at].clone()).collect();
            let got = match self.run(&batch) {
                Ok(got) => got,
                Err(error) => return fails(batch.len(), &error),
            };
            let wanted = expected.in_order(&order);
            if let Some((text, distance)) = wanted.difference(self.signature(), &got) {
                return Finding::Dependent(text, distance);
            }
        }
        Finding::Independent
    }
}

fn fails(rows: usize, error: &BatchError) -> Finding {
    Finding::Fails(format!("a batch of {rows} rows failed: {error}"))
}

/// All ways of generating values, the least demanding first.
fn all_ways() -> impl Iterator<Item = usize> {
    0..WAYS
}
