//! The parameters that requests carry, and which of them this server takes.

use crate::error::InferError;

/// Refuses parameters of a load that would change what is loaded: what is served is what the
/// repository holds.
///
/// # Errors
/// There is such a parameter.
pub(crate) fn check_load<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), InferError> {
    match names.find(|name| *name == "config" || name.starts_with("file:")) {
        None => Ok(()),
        Some(name) => Err(InferError::Unsupported(format!(
            "the load parameter {name:?} is not supported: \
             change the model's files in the repository instead"
        ))),
    }
}
