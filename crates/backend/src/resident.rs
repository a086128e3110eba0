//! A loaded model on one accelerator, with the buffers for its batches. Serving, profiling and
//! verification all go from requests to outputs through it.

use crate::batch::{Arena, InputError, OutputError, split};
use crate::engine::{EngineError, Executable};
use std::sync::Arc;
use symphony_wire::tensor::{Inputs, OutputTensor, Signature};

/// A model that is ready to run on one accelerator.
pub struct Resident {
    signature: Arc<Signature>,
    arena: Arena,
    executable: Box<dyn Executable>,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident").field("signature", &self.signature).finish_non_exhaustive()
    }
}

/// Why a batch did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A request does not fit the model.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The outputs cannot be given to the requests.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Resident {
    /// Allocates the buffers for batches of up to `rows_max` rows.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(
        signature: Arc<Signature>,
        rows_max: u32,
        executable: Box<dyn Executable>,
    ) -> Result<Resident, EngineError> {
        let arena = Arena::new(&signature, rows_max, executable.representation())?;
        Ok(Resident { signature, arena, executable })
    }

    /// The inputs and outputs of the model.
    #[must_use]
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// The largest batch, in rows.
    #[must_use]
    pub fn rows_max(&self) -> u32 {
        self.arena.rows_max()
    }

    /// Releases the buffers and returns the executable.
    #[must_use]
    pub fn into_executable(self) -> Box<dyn Executable> {
        self.executable
    }

    /// Starts a new batch.
    pub fn clear(&mut self) {
        self.arena.clear();
    }

    /// Adds a request to the batch.
    ///
    /// # Errors
    /// The request does not fit. The batch is as it was before.
    pub fn push(&mut self, inputs: &Inputs) -> Result<(), InputError> {
        self.arena.push(inputs)
    }

    /// Runs the batch.
    ///
    /// # Errors
    /// The engine failed on the batch.
    pub fn compute(&mut self) -> Result<Vec<OutputTensor>, EngineError> {
        self.executable.run(&self.arena.batch())
    }

    /// Splits the outputs of a batch into those of its requests. `rows` holds the rows of each
    /// request, in the order in which they were added.
    ///
    /// # Errors
    /// An output does not have one entry per row.
    pub fn split(
        &self,
        outputs: Vec<OutputTensor>,
        rows: &[u32],
    ) -> Result<Vec<Vec<OutputTensor>>, OutputError> {
        split(&self.signature, outputs, rows)
    }

    /// Runs requests as one batch and returns the outputs of each.
    ///
    /// # Errors
    /// A request does not fit, the engine failed, or an output does not have one entry per row.
    pub fn run(&mut self, requests: &[Inputs]) -> Result<Vec<Vec<OutputTensor>>, BatchError> {
        self.clear();
        for request in requests {
            self.push(request)?;
        }
        let outputs = self.compute()?;
        let rows: Vec<u32> = requests.iter().map(|request| request.rows).collect();
        Ok(self.split(outputs, &rows)?)
    }
}
