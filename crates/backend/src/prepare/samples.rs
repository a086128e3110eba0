//! Inputs with which a model runs, for whoever measures it.

use crate::profiling::{Cell, SampledSize};
use crate::values::InputValues;
use symphony_wire::tensor::{Inputs, Signature};

/// So many rows of a generated batch differ.
const DIFFERENT_ROWS: usize = 4;

/// Inputs with which a model runs.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Values that the inputs could have.
    pub(super) values: InputValues,
    /// Sizes of the open dimensions at which it has run, in order, each with the way of generating
    /// values.
    pub(super) sizes: Vec<(Vec<usize>, usize)>,
}

impl Samples {
    /// Generates requests of one row each, of every size. `count` tells how many of a size.
    #[must_use]
    pub fn sized(
        &self,
        signature: &Signature,
        count: impl Fn(&[usize]) -> usize,
        seed: u64,
    ) -> Vec<SampledSize> {
        let sampled = |(sizes, way): &(Vec<usize>, usize)| {
            let rows = self.values.rows(signature, sizes, *way, count(sizes).max(1), seed);
            SampledSize { size: signature.size(sizes), rows }
        };
        let mut all: Vec<SampledSize> = self.sizes.iter().map(sampled).collect();
        all.dedup_by_key(|sampled| sampled.size);
        all
    }

    /// Generates a batch of requests of one row each. None for a size at which it has not run.
    #[must_use]
    pub fn batch(&self, signature: &Signature, cell: Cell, seed: u64) -> Option<Vec<Inputs>> {
        let mut sizes = self.sizes.iter();
        let (sizes, way) = sizes.find(|(sizes, _)| signature.size(sizes) == cell.size)?;
        let rows = cell.rows as usize;
        let different = self.values.rows(signature, sizes, *way, rows.min(DIFFERENT_ROWS), seed);
        // What they hold is shared, not copied.
        Some(different.iter().cycle().take(rows).cloned().collect())
    }
}
