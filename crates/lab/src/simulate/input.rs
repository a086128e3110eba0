//! Input that a command cannot work with: exit code 2, as for a mistyped flag.

use std::fmt::{self, Display};

/// A refusal of what the user gave, apart from everything else that can go wrong.
#[derive(Debug)]
pub struct BadInput(String);

impl BadInput {
    /// The error that says so.
    pub(crate) fn error(problem: impl Display) -> anyhow::Error {
        anyhow::Error::new(BadInput(problem.to_string()))
    }
}

impl Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}
