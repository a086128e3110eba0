//! What can be said of a model before it is served: by reading it, or by running it once.

use super::onnx::{Earlier, OnnxFile, Placed, first_that, prove};
use super::{LoadError, LoadProblem, Loader};
use crate::engine::Engine;
use crate::prepare::Runnable;
use crate::repository::{ModelDirectory, ModelKind, ModelSource, Note, OnnxSource};
use crate::view;
use std::sync::Arc;

/// A model that can be served, as far as was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The model's name.
    pub name: String,
    /// The version that would be served.
    pub version: u64,
    /// What a run showed, if there was one.
    pub ran: Option<Ran>,
    /// What is done in place of what its `config.pbtxt` asks for.
    pub notes: Vec<Note>,
}

/// What running a model once shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The engine that runs it.
    pub engine: &'static str,
    /// The largest batch, in rows.
    pub rows_max: u32,
    /// Why its requests do not share batches, if they could be meant to.
    pub unbatched: Option<String>,
}

impl Loader {
    /// Checks the versions that the settings choose, highest first, for everything that needs
    /// neither an engine nor a measurement: files, settings, signature and operators. For a bundled
    /// example only its name is checked.
    ///
    /// # Errors
    /// As [`Loader::load`], except for the errors of an engine or a measurement.
    pub fn check(&self, directory: &ModelDirectory) -> Result<Vec<Checked>, LoadError> {
        self.checked(directory, false).map_err(|problem| LoadError::new(&directory.name, problem))
    }

    /// Loads the versions that the settings choose and runs them, as [`Loader::load`] does before it
    /// measures.
    ///
    /// # Errors
    /// As [`Loader::load`], except for the errors of a measurement.
    pub fn try_out(&self, directory: &ModelDirectory) -> Result<Vec<Checked>, LoadError> {
        self.checked(directory, true).map_err(|problem| LoadError::new(&directory.name, problem))
    }

    fn checked(&self, directory: &ModelDirectory, run: bool) -> Result<Vec<Checked>, LoadProblem> {
        let choice = directory.versions()?;
        let wanted = choice.wanted().iter();
        wanted.map(|&version| self.checked_version(directory.read_version(version)?, run)).collect()
    }

    fn checked_version(&self, source: ModelSource, run: bool) -> Result<Checked, LoadProblem> {
        let ran = match &source.kind {
            ModelKind::Onnx { file: OnnxSource::Example(example), .. } if !run => {
                symphony_onnx::examples::find(example)?;
                None
            }
            ModelKind::Onnx { file, settings } if run => {
                let described = self.describe(&source, file, settings)?;
                let placed = self.place(&source, settings, &described, Earlier::Ignored)?;
                let Placed { engine, runnable: Runnable { signature, rows_max, found, .. } } =
                    placed;
                view::seen(&signature, &settings.reshape)?;
                let unbatched = found.unbatched().map(str::to_owned);
                Some(Ran { engine: engine.name(), rows_max, unbatched })
            }
            ModelKind::Onnx { file, settings } => {
                let OnnxFile { path, model, .. } = self.read_onnx(&source, file)?;
                let prepared = self.prepare(&source, settings, model, &path)?;
                let engines = self.engines(settings.choice)?;
                first_that(&source.name, &engines, |engine| prove(engine, &prepared))?;
                None
            }
            ModelKind::Python { file, model } if run => {
                self.declare(&source, file, model, &Arc::default())?;
                let rows_max = source.terms.rows_max;
                Some(Ran { engine: self.python.name(), rows_max, unbatched: None })
            }
            ModelKind::Python { .. } | ModelKind::Emulated(_) => None,
        };
        let notes = source.settings.notes();
        let ModelSource { name, version, .. } = source;
        Ok(Checked { name, version, ran, notes })
    }
}
