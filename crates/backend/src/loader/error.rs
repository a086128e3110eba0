//! Why a model was not loaded.

use crate::engine::EngineError;
use crate::operators::Unproven;
use crate::prepare::PrepareError;
use crate::profiling::ProfilingError;
use crate::repository::ConfigError;
use crate::worker::Unreachable;
use std::fmt;
use symphony_core::Span;

/// A model that was not loaded, and why.
#[derive(Debug, thiserror::Error)]
#[error("model {model:?} cannot be served: {problem}")]
pub struct LoadError {
    /// The model's name.
    pub model: String,
    /// What is in the way.
    #[source]
    pub problem: Box<LoadProblem>,
}

impl LoadError {
    /// The model was not loaded for this.
    #[must_use]
    pub fn new(model: &str, problem: LoadProblem) -> LoadError {
        LoadError { model: model.to_owned(), problem: Box::new(problem) }
    }
}

/// What is in the way of serving a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadProblem {
    /// Its directory or its `model.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its ONNX file, or the example it is generated from.
    #[error(transparent)]
    Onnx(#[from] symphony_onnx::Error),
    /// Its inputs or outputs.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The pool has no place for it.
    #[error("the pool serves {0} models already, the most it can: unload one first")]
    TooMany(usize),
    /// An accelerator that it would be loaded on.
    #[error(transparent)]
    Accelerator(#[from] Unreachable),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Operators that the engine is not proven right on.
    #[error("{}", Lines(.0))]
    Unproven(Vec<Unproven>),
    /// No engine takes it.
    #[error("no engine runs it: {}", Lines(.0))]
    NoEngine(Vec<LoadProblem>),
    /// Its files did not stay as they were while they were read.
    #[error("its files changed while they were read: load it again when they are complete")]
    Changed,
    /// It could not be measured.
    #[error(transparent)]
    Profiling(#[from] ProfilingError),
    /// The objective is out of reach.
    #[error(
        "slo_ms = {} cannot be met: one row alone takes {least} (95th percentile) on {engine}; \
         give at least that, or an engine or machine that is faster",
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

/// Most problems that are told: a file can be made to have any number of them.
const PROBLEMS_MAX: usize = 10;

/// Several problems in one line.
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
