//! A loaded model on one accelerator, with the buffers for its batches. Serving, profiling and
//! verification all go from requests to outputs through it.

use crate::batch::{Arena, AssemblyError, OutputError, split};
use crate::engine::{EngineError, Executable, FailedRequest};
use crate::profiling::{Cell, Observed};
use crate::view::OutputViews;
use std::sync::Arc;
use symphony_core::Span;
use symphony_wire::tensor::{Inputs, OutputTensor, Signature};

/// A model that is ready to run on one accelerator.
pub struct Resident {
    signature: Arc<Signature>,
    arena: Arena,
    executable: Box<dyn Executable>,
    views: Arc<OutputViews>,
    /// Where the times of its batches go.
    observed: Option<Arc<Observed>>,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident").field("signature", &self.signature).finish_non_exhaustive()
    }
}

/// Why a batch did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The requests do not make a batch.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
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
        let representation = executable.representation();
        let memory = executable.memory();
        let arena = Arena::in_memory(Arc::clone(&signature), rows_max, representation, memory)?;
        let (views, observed) = (Arc::default(), None);
        Ok(Resident { signature, arena, executable, views, observed })
    }

    /// The inputs and outputs of the model.
    #[must_use]
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Answers with outputs in the shapes that clients see.
    pub fn show_outputs(&mut self, views: Arc<OutputViews>) {
        self.views = views;
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

    /// Gives back the memory of larger batches than those that come: of its buffers now, of the
    /// engine with the end of the next batch.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn trim(&mut self) -> Result<(), EngineError> {
        let representation = self.executable.representation();
        let signature = Arc::clone(&self.signature);
        let (rows_max, memory) = (self.arena.rows_max(), self.executable.memory());
        self.arena = Arena::in_memory(signature, rows_max, representation, memory)?;
        self.executable.trim();
        Ok(())
    }

    /// Whether a batch of so many rows, at these sizes of the open dimensions, keeps to the bounds
    /// on rows and memory.
    #[must_use]
    pub fn fits(&self, rows: u32, sizes: &[usize]) -> bool {
        self.arena.fits(rows, sizes)
    }

    /// Makes one batch of whole requests, in their order.
    ///
    /// # Errors
    /// The requests do not make a batch.
    pub fn assemble<'r>(
        &mut self,
        requests: impl Iterator<Item = &'r Inputs> + Clone,
    ) -> Result<(), AssemblyError> {
        self.arena.assemble(requests)
    }

    /// Rows of the batch.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.arena.batch().rows()
    }

    /// From now on the times of its batches go there.
    pub fn observe(&mut self, observed: &Arc<Observed>) {
        self.observed = Some(Arc::clone(observed));
    }

    /// The batch took so long to assemble and to compute.
    pub fn took(&self, took: Span) {
        if let Some(observed) = &self.observed {
            let batch = self.arena.batch();
            let size = self.signature.size(batch.sizes());
            observed.add(Cell { size, rows: batch.rows() }, took);
        }
    }

    /// Runs the batch.
    ///
    /// # Errors
    /// The engine failed on the batch.
    pub fn compute(&mut self) -> Result<Vec<OutputTensor>, EngineError> {
        self.executable.run(&self.arena.batch())
    }

    /// Requests of the batch that failed by themselves while it ran.
    pub fn failed(&mut self) -> Vec<FailedRequest> {
        self.executable.failed()
    }

    /// Splits the outputs of the batch into those of its requests, in their order.
    ///
    /// # Errors
    /// An output does not have one entry per row.
    pub fn split(&self, outputs: Vec<OutputTensor>) -> Result<Vec<Vec<OutputTensor>>, OutputError> {
        let mut requests = split(&self.signature, outputs, self.arena.parts())?;
        requests.iter_mut().for_each(|outputs| self.views.apply(outputs));
        Ok(requests)
    }

    /// Runs requests as one batch and returns the outputs of each.
    ///
    /// # Errors
    /// They do not make a batch, the engine failed, or an output does not have one entry per row.
    pub fn run(&mut self, requests: &[Inputs]) -> Result<Vec<Vec<OutputTensor>>, BatchError> {
        self.assemble(requests.iter())?;
        let outputs = self.compute()?;
        Ok(self.split(outputs)?)
    }
}
