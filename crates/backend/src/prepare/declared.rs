//! A model whose file does not say what it takes and gives: its settings do, and what they leave open
//! is found by running it.

use super::{PrepareError, Samples};
use crate::engine::Executable;
use crate::repository::TensorBounds;
use crate::values::InputValues;
use crate::verify::{Bound, SizesError, Trial};
use std::collections::HashMap;
use symphony_wire::tensor::Signature;

/// A declared model that runs.
pub(crate) struct Declared {
    /// What it takes and gives, with the sizes at which it was seen to run.
    pub(crate) signature: Signature,
    /// The model on each accelerator.
    pub(crate) executables: Vec<Box<dyn Executable>>,
    /// What it can be measured with.
    pub(crate) samples: Samples,
}

impl Declared {
    /// Tries a loaded model out.
    ///
    /// # Errors
    /// It does not run with any of the generated inputs.
    pub(crate) fn new(
        signature: &Signature,
        bounds: &[TensorBounds],
        rows_max: u32,
        executables: Vec<Box<dyn Executable>>,
    ) -> Result<Declared, PrepareError> {
        let values = InputValues::of(signature, &HashMap::new());
        let bounds = bounds.iter().map(|bound| match bound {
            TensorBounds::Configured => Bound::Configured,
            TensorBounds::Free => Bound::Free,
        });
        let trial = Trial::new(signature.clone(), rows_max, executables, &values)?;
        let trial = trial.find_sizes(&bounds.collect::<Vec<_>>()).map_err(|error| match error {
            SizesError::Engine(error) => error.into(),
            SizesError::Configured { dimension, max, problem } => {
                PrepareError::MaxSize { dimension, max, problem }
            }
            SizesError::Nowhere(problem) => PrepareError::Trial(problem),
        })?;
        let trial = trial.observe().map_err(PrepareError::Trial)?;
        let (signature, sizes) = (trial.signature().clone(), trial.sizes().to_vec());
        let executables = trial.into_executables();
        Ok(Declared { signature, executables, samples: Samples { values, sizes } })
    }
}
