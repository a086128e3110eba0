//! Why a model was not loaded.

use crate::engine::EngineError;
use crate::operators::Unproven;
use crate::prepare::PrepareError;
use crate::profiling::ProfilingError;
use crate::repository::ConfigError;
use crate::worker::Unreachable;
use std::fmt;
use symphony_core::Span;

/// A model that was not loaded, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("model {model:?} cannot be served: {problem}")]
pub struct LoadError {
    /// The model's name.
    pub model: String,
    /// The reason.
    #[source]
    pub problem: Box<LoadProblem>,
}

impl LoadError {
    /// Makes the error of a model that was not loaded because of `problem`.
    #[must_use]
    pub fn new(model: &str, problem: LoadProblem) -> LoadError {
        LoadError { model: model.to_owned(), problem: Box::new(problem) }
    }
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadProblem {
    /// Its directory or its `model.toml` is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its ONNX file, or the example that it is generated from, is wrong.
    #[error(transparent)]
    Onnx(#[from] symphony_onnx::Error),
    /// Its inputs or outputs cannot be served.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The pool already serves as many models as it can.
    #[error("the pool already serves {0} models, its maximum: unload one first")]
    TooMany(usize),
    /// An accelerator does not take it.
    #[error(transparent)]
    Accelerator(#[from] Unreachable),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It uses operators that the engine is not proven to compute correctly.
    #[error("{}", Lines(.0))]
    Unproven(Vec<Unproven>),
    /// No engine runs it.
    #[error("no engine runs it: {}", Lines(.0))]
    NoEngine(Vec<LoadProblem>),
    /// Its files changed while they were read.
    #[error("its files changed while they were read: load it again when they are complete")]
    Changed,
    /// It could not be measured.
    #[error(transparent)]
    Profiling(#[from] ProfilingError),
    /// Its objective cannot be met.
    #[error(
        "slo_ms = {} cannot be met: one row alone takes {least} (95th percentile) on {engine}; \
         raise slo_ms to at least that, or use a faster engine or machine",
        slo.as_millis_f64()
    )]
    Objective {
        /// The objective.
        slo: Span,
        /// The time of one row.
        least: Span,
        /// The engine it was measured on.
        engine: &'static str,
    },
}

/// The most problems that one message lists. A file can be made to have any number of them.
const PROBLEMS_MAX: usize = 10;

/// Several problems on one line.
struct Lines<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().take(PROBLEMS_MAX).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().saturating_sub(PROBLEMS_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_problems_are_told_and_no_more() {
        for (count, expected) in [
            (1, "0"),
            (3, "0; 1; 2"),
            (10, "0; 1; 2; 3; 4; 5; 6; 7; 8; 9"),
            (1000, "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 990 more"),
        ] {
            let problems: Vec<_> = (0..count).collect();
            assert_eq!(Lines(&problems).to_string(), expected);
        }
    }
}
