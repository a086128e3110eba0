//! Which shapes the outputs of a model have, observed for other numbers of rows and other sizes.

use super::Trial;
use crate::resident::BatchError;
use symphony_wire::tensor::{Dim, Inputs, OutputTensor, Signature};

/// Rows of the batch in which the batch dimension of outputs is looked for.
const ROWS: usize = 3;

/// The shapes of all outputs in one run.
type Shapes = Vec<Vec<usize>>;

/// Runs that differ in one thing from the first.
struct Runs {
    first: Shapes,
    /// Other values.
    others: Vec<Shapes>,
    /// More rows, for a model with a batch dimension.
    rows: Option<Shapes>,
    /// A larger size of one open dimension, with that size.
    sizes: Vec<Option<(usize, Shapes)>>,
}

impl<'a> Trial<'a> {
    /// Runs the model for other rows and sizes, and gives its outputs the shapes that this shows.
    /// An output without rows, of a model with a batch dimension, keeps the shape that it has.
    ///
    /// # Errors
    /// The model fails on a single row.
    pub(crate) fn observe(mut self) -> Result<Trial<'a>, BatchError> {
        let is_batched = self.signature().is_batched() && self.resident.rows_max() > 1;
        let rows = self.rows_at(&self.base.clone(), ROWS);
        let mut alone = Vec::new();
        for row in &rows {
            alone.push(self.shapes(std::slice::from_ref(row))?);
        }
        let together = if is_batched { self.shapes(&rows).ok() } else { None };
        let mut sizes = Vec::new();
        for index in 0..self.base.len() {
            let mut changed = self.base.clone();
            changed[index] *= 2;
            let is_allowed = changed[index] <= self.signature().dimensions[index].max;
            let rows = self.rows_at(&changed, 1);
            let shapes = if is_allowed { self.shapes(&rows).ok() } else { None };
            sizes.push(shapes.map(|shapes| (changed[index], shapes)));
        }
        let mut others = alone;
        let first = others.remove(0);
        let runs = Runs { first, others, rows: together, sizes };
        let mut signature = self.signature().clone();
        for (at, spec) in (0..signature.outputs.len()).zip(signature.outputs.clone()) {
            signature.outputs[at].shape = runs.shape(at, &spec.shape, &self.base);
        }
        Ok(self.resign(signature)?)
    }

    /// The outputs of one row that the model was tried with.
    ///
    /// # Errors
    /// The model fails on it.
    pub(crate) fn one_row(
        &mut self,
        sizes: &[usize],
        way: usize,
    ) -> Result<Vec<OutputTensor>, BatchError> {
        let row = self.values.rows(self.signature(), sizes, way, 1, super::SEED);
        self.outputs(&row)
    }

    fn rows_at(&self, sizes: &[usize], count: usize) -> Vec<Inputs> {
        self.values.rows(self.signature(), sizes, self.way(), count, super::SEED)
    }

    fn shapes(&mut self, rows: &[Inputs]) -> Result<Shapes, BatchError> {
        Ok(self.outputs(rows)?.into_iter().map(|output| output.shape).collect())
    }
}

impl Runs {
    /// The shape of an output, where the graph declares another or none.
    fn shape(&self, output: usize, declared: &[Dim], base: &[usize]) -> Vec<Dim> {
        let first = &self.first[output];
        let mut all = self.others.iter().chain(&self.rows);
        let sized = self.sizes.iter().flatten().map(|(_, shapes)| shapes);
        let same_rank = all.all(|shapes| shapes[output].len() == first.len())
            && sized.clone().all(|shapes| shapes[output].len() == first.len());
        if !same_rank {
            return vec![Dim::Unknown; first.len()];
        }
        let mut shape: Vec<Dim> = (0..first.len())
            .map(|axis| {
                let declared =
                    declared.get(axis).copied().filter(|_| declared.len() == first.len());
                self.dim(output, axis, declared, base)
            })
            .collect();
        // Of several candidates for the batch dimension one is it: the declared one, or the first.
        let is_declared = |axis: usize| declared.get(axis) == Some(&Dim::Batch);
        let candidates: Vec<usize> =
            (0..shape.len()).filter(|axis| shape[*axis] == Dim::Batch).collect();
        let kept = candidates.iter().copied().find(|axis| is_declared(*axis));
        let kept = kept.or(candidates.first().copied());
        for axis in candidates.into_iter().filter(|axis| Some(*axis) != kept) {
            shape[axis] = Dim::Unknown;
        }
        shape
    }

    fn dim(&self, output: usize, axis: usize, declared: Option<Dim>, base: &[usize]) -> Dim {
        let of = |shapes: &Shapes| shapes[output][axis];
        let size = of(&self.first);
        if let Some(rows) = &self.rows
            && of(rows) != size
        {
            return if size == 1 && of(rows) == ROWS { Dim::Batch } else { Dim::Unknown };
        }
        if self.others.iter().any(|other| of(other) != size) {
            return Dim::Unknown;
        }
        for (index, run) in self.sizes.iter().enumerate() {
            let Some((changed, shapes)) = run else { continue };
            if of(shapes) == size {
                continue;
            }
            let follows = size == base[index] && of(shapes) == *changed;
            return match u16::try_from(index) {
                Ok(index) if follows => Dim::Open(index),
                _ => Dim::Unknown,
            };
        }
        match declared {
            // No more rows were tried.
            Some(Dim::Batch) if self.rows.is_none() && size == 1 => Dim::Batch,
            // Nothing contradicts it, as where only one size of it runs.
            Some(Dim::Open(index)) if base.get(usize::from(index)) == Some(&size) => {
                Dim::Open(index)
            }
            // A dimension that was 0 in every run holds what is found.
            _ if size == 0 => Dim::Unknown,
            _ => Dim::Fixed(size),
        }
    }
}

/// The outputs that have no rows although the model has a batch dimension.
pub(crate) fn without_rows(signature: &Signature) -> Vec<usize> {
    let outputs = signature.outputs.iter().enumerate();
    outputs.filter(|(_, spec)| spec.batch_axis().is_none()).map(|(at, _)| at).collect()
}
