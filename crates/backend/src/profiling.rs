//! How long a model takes, by batch size. Profiles are measured, kept on disk, and checked when the
//! server starts again.
//!
//! The measured time covers what the worker does for a batch: assembling it and running it. Plans
//! take its mean and its spread, neither of which a few stalls of the machine change. One
//! accelerator is measured while the others idle, so a profile does not show how much accelerators
//! slow each other down.
//!
//! A first profile takes 1.5 s at most. It is made of few runs where a model is slow, so what
//! becomes of them is robust: see `fit`.
//!
//! Nothing here knows an engine, a file format or an objective.

mod cache;
mod cell;
mod fit;
mod isotonic;
mod machine;
mod measure;
mod measured;
mod observed;
mod sample;
mod target;
mod usual;

pub use cache::{ProfileCache, ProfileKey, ProfilePlace};
pub use cell::{Cell, CellMeasurement, Extent, rows_up_to};
pub use machine::Machine;
pub use measure::Effort;
pub use measured::Measured;
pub use observed::{Observed, Refinement};
pub use sample::{SampledSize, sample_rows};
pub use symphony_wire::message::ProfileOrigin;
pub use target::ProfilingTarget;
pub use usual::{p95_of, spread_of};

#[cfg(test)]
mod tests;

use crate::batch::AssemblyError;
use crate::engine::EngineError;
use crate::worker::Unreachable;
use symphony_core::SizedProfileError;

/// Why a model could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProfilingError {
    /// The generated requests do not make a batch.
    #[error("measuring a batch of {rows} rows: {source}")]
    Input {
        /// Rows of the batch.
        rows: u32,
        /// Why they do not.
        source: AssemblyError,
    },
    /// A kept profile has a size of which there are no requests.
    #[error("there is no request of size {0} to measure")]
    Size(u64),
    /// The accelerator is not free.
    #[error(transparent)]
    Accelerator(#[from] Unreachable),
    /// The engine failed.
    #[error("measuring the model: {0}")]
    Engine(#[from] EngineError),
    /// The measurements give no profile.
    #[error(transparent)]
    Profile(#[from] SizedProfileError),
}
