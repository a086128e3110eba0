//! From the file of a Python model to a model that a process runs: it is opened, placed, tried out and
//! measured.

use super::guest::{GuestModel, Visit};
use super::times::{Part, Times};
use super::{LoadProblem, LoadedFiles, Loader, PlacedModel, Stage, residents};
use crate::engine::{Engine, place_on};
use crate::engines::python::PythonRequest;
use crate::prepare::Declared;
use crate::repository::{FingerprintBuilder, ModelSource, PythonModel};
use std::path::Path;
use std::sync::Arc;

impl Loader {
    /// Loads a Python model on every accelerator.
    pub(super) fn declare(
        &self,
        source: &ModelSource,
        file: &Path,
        model: &PythonModel,
        times: &Arc<Times>,
    ) -> Result<Declared, LoadProblem> {
        self.tell(&source.name, Stage::Preparing(self.python.name()));
        let configuration = source.configuration();
        let request = PythonRequest {
            name: &source.name,
            version: source.version,
            file,
            directory: &source.directory,
            model,
            rows_max: source.terms.rows_max,
            configuration: &configuration,
        };
        let visit = Visit::new(Arc::clone(&self.gaps), Arc::clone(times));
        let opened = times.of(Part::Read, || self.python.open(&request))?;
        let guest = GuestModel::new(opened, &visit);
        let executables = place_on(&guest, self.config.cores.accelerators)?;
        let rows_max = source.terms.rows_max;
        let declared = Declared::new(&model.signature, &model.bounds, rows_max, executables)?;
        visit.end();
        Ok(declared)
    }

    /// Loads a Python model and measures it.
    pub(super) fn run_python(
        &self,
        source: &ModelSource,
        file: &Path,
        model: &PythonModel,
    ) -> Result<(PlacedModel, LoadedFiles), LoadProblem> {
        self.tell(&source.name, Stage::Reading);
        let times = Arc::new(Times::default());
        let state = LoadedFiles::of(source)?;
        let Declared { signature, executables, samples } =
            self.declare(source, file, model, &times)?;
        if !state.files_are_as_before() {
            return Err(LoadProblem::Changed);
        }
        let residents = residents(&Arc::new(signature), source.terms.rows_max, executables)?;
        // The settings are part of what decides how fast a script is.
        let mut content = FingerprintBuilder::default();
        for text in source.settings.texts() {
            content = content.text(text);
        }
        for file in state.files() {
            content = content.file(file)?;
        }
        let content = content.finish();
        let placed =
            self.measure_placed(source, &self.python, content, residents, &samples, &times)?;
        Ok((placed, state))
    }
}
