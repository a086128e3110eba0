//! Why a model was not loaded.

use crate::contract::Contradiction;
use crate::engine::EngineError;
use crate::operators::Unproven;
use crate::prepare::PrepareError;
use crate::profiling::ProfilingError;
use crate::repository::ConfigError;
use crate::view::ReshapeError;
use crate::worker::Unreachable;
use std::fmt;
use symphony_core::Span;

/// The most characters of an error. [`LoadError::details`] has all that is known.
const TEXT_MAX: usize = 300;
/// The end of a text that is cut in the middle: it says what to do.
const TEXT_END: usize = 100;

/// A model that was not loaded, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}", brief(format!("model {model:?} cannot be served: {problem}"), problem))]
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

    /// Everything that is known of the problem, one part after the other.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        self.problem.details()
    }
}

/// A text of bounded length: the beginning and the end of a longer one. Lines that are to be pasted
/// into a file stay whole.
fn brief(text: String, problem: &LoadProblem) -> String {
    let count = text.chars().count();
    if count <= TEXT_MAX || problem.is_question() {
        return text;
    }
    let mark = " ... ";
    let start = text.chars().take(TEXT_MAX - TEXT_END - mark.len());
    let end = text.chars().skip(count - TEXT_END);
    start.chain(mark.chars()).chain(end).collect()
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
    /// Its `config.pbtxt` contradicts its graph.
    #[error(transparent)]
    Contract(#[from] Contradiction),
    /// Its inputs or outputs cannot be seen in the shapes that its settings give.
    #[error(transparent)]
    Reshape(#[from] ReshapeError),
    /// The pool already serves as many models as it can.
    #[error("the pool already serves {0} models, its maximum: unload one first")]
    TooMany(usize),
    /// An accelerator does not take it.
    #[error(transparent)]
    Accelerator(#[from] Unreachable),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It uses operators that rten is not proven to compute correctly.
    #[error("{}; `pip install onnxruntime` is all it takes to serve it", First(.0))]
    Unproven(Vec<Unproven>),
    /// No engine runs it.
    #[error("no engine runs it: {}", First(.0))]
    NoEngine(Vec<LoadProblem>),
    /// Its files changed while they were read.
    #[error("its files changed while they were read: load it again when they are complete")]
    Changed,
    /// No backend of the cluster can load it; the text names one and its reason.
    #[error("{0}")]
    Backends(String),
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

impl LoadProblem {
    /// Its parts, each by itself.
    fn details(&self) -> Vec<String> {
        match self {
            LoadProblem::Unproven(problems) => problems.iter().map(ToString::to_string).collect(),
            LoadProblem::NoEngine(problems) => {
                problems.iter().flat_map(LoadProblem::details).collect()
            }
            problem => vec![problem.to_string()],
        }
    }

    /// Whether it asks for settings, with lines to paste.
    fn is_question(&self) -> bool {
        matches!(self, LoadProblem::Prepare(PrepareError::Questions(_)))
    }
}

/// The first of several problems, and how many more there are.
struct First<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for First<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else { return Ok(()) };
        match others.len() {
            0 => write!(f, "{first}"),
            more => write!(f, "{first} (and {more} more: `symphony serve --check -v`)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_problem_is_told_and_how_many_more() {
        assert_eq!(First(&[7]).to_string(), "7");
        assert_eq!(First(&[7, 8, 9]).to_string(), "7 (and 2 more: `symphony serve --check -v`)");
    }

    #[test]
    fn an_error_is_short_and_keeps_its_end() {
        let problem = "x".repeat(1000) + " export it again";
        let error = LoadError::new("m", EngineError::Library(problem.clone()).into());
        let text = error.to_string();
        assert_eq!(text.chars().count(), TEXT_MAX, "{text}");
        assert!(text.starts_with("model \"m\" cannot be served: xxx"), "{text}");
        assert!(text.ends_with("xxx export it again"), "{text}");
        assert_eq!(error.details(), [problem]);
    }
}
