//! A model that is loaded beside models that serve: until it serves itself, it gives way to them.
//!
//! Its graph is optimised on a thread that yields its core, and each of its trial runs goes into a
//! gap between the batches of the accelerator.

use super::times::{Part, Times};
use crate::background::in_background;
use crate::batch::{Batch, BufferMemory, Representation};
use crate::engine::{
    Engine, EngineError, EngineModel, Executable, FailedRequest, GraphEngine, LoadRequest,
};
use crate::worker::Gaps;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use symphony_wire::tensor::OutputTensor;

/// The time during which a model is a guest.
#[derive(Debug)]
pub(super) struct Visit {
    gaps: Arc<Gaps>,
    times: Arc<Times>,
    is_over: AtomicBool,
}

impl Visit {
    pub(super) fn new(gaps: Arc<Gaps>, times: Arc<Times>) -> Arc<Visit> {
        Arc::new(Visit { gaps, times, is_over: AtomicBool::new(false) })
    }

    /// Who runs the model from now on knows when it may run.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// An engine whose models come as guests.
pub(super) struct GuestEngine<'a> {
    pub(super) engine: &'a dyn GraphEngine,
    pub(super) visit: Arc<Visit>,
}

impl Engine for GuestEngine<'_> {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn version(&self) -> String {
        self.engine.version()
    }

    fn platform(&self) -> &'static str {
        self.engine.platform()
    }
}

impl GraphEngine for GuestEngine<'_> {
    fn replaces_stored(&self) -> bool {
        self.engine.replaces_stored()
    }

    fn open(&self, request: &LoadRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError> {
        let visit = Arc::clone(&self.visit);
        let model = visit.quietly(|| self.engine.open(request))?;
        Ok(Box::new(GuestModel::new(model, &visit)))
    }
}

impl Visit {
    /// Has an engine do its part of a load, on a thread that yields its core.
    fn quietly<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let no_thread = |error| EngineError::Library(format!("no thread to load it on: {error}"));
        self.times.of(Part::Engine, || in_background(work)).map_err(no_thread)?
    }
}

/// An opened model that is placed as a guest.
pub(super) struct GuestModel {
    model: Box<dyn EngineModel>,
    visit: Arc<Visit>,
}

impl GuestModel {
    pub(super) fn new(model: Box<dyn EngineModel>, visit: &Arc<Visit>) -> GuestModel {
        GuestModel { model, visit: Arc::clone(visit) }
    }
}

impl EngineModel for GuestModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        let executable = self.visit.quietly(|| self.model.place(device))?;
        let visit = Arc::clone(&self.visit);
        Ok(Box::new(Guest { executable, accelerator: device, visit }))
    }
}

/// A loaded model on one accelerator, whose runs wait for gaps during the visit.
struct Guest {
    executable: Box<dyn Executable>,
    accelerator: usize,
    visit: Arc<Visit>,
}

impl Executable for Guest {
    fn representation(&self) -> Representation {
        self.executable.representation()
    }

    fn memory(&self) -> Arc<dyn BufferMemory> {
        self.executable.memory()
    }

    fn failed(&mut self) -> Vec<FailedRequest> {
        self.executable.failed()
    }

    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        if self.visit.is_over.load(Ordering::Acquire) {
            return self.executable.run(batch);
        }
        let Visit { gaps, times, .. } = &*self.visit;
        let gap = times.of(Part::Wait, || gaps.wait(self.accelerator));
        let _gap = gap.map_err(|error| EngineError::Library(error.to_string()))?;
        times.of(Part::TryOut, || self.executable.run(batch))
    }
}
