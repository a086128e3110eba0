//! Which served model a request names, and why there is none.

use crate::error::InferError;
use crate::quote::brief;
use std::sync::Arc;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{ModelState, ServedModel};

/// How many served models an error names.
const NAMED_MAX: usize = 10;

/// The served model of this name, and of this version unless that is empty.
///
/// # Errors
/// It is unknown, or known and not served now.
pub(crate) fn find<'a>(
    catalog: &'a Catalog,
    name: &str,
    version: &str,
) -> Result<&'a Arc<ServedModel>, InferError> {
    match catalog.models.get(name) {
        Some(model) if version.is_empty() || model.version == version => Ok(model),
        Some(model) => Err(InferError::NotFound(format!(
            "model {name:?} is not served in version {:?}, only in version {:?}",
            brief(version),
            model.version
        ))),
        None => Err(not_served(catalog, name)),
    }
}

fn not_served(catalog: &Catalog, name: &str) -> InferError {
    match catalog.index.iter().find(|entry| entry.name == name).map(|entry| &entry.state) {
        Some(ModelState::Unavailable(reason)) if reason.is_empty() => InferError::NotFound(
            format!("model {name:?} is not loaded: load it through the repository API first"),
        ),
        Some(ModelState::Unavailable(reason)) => {
            InferError::Unavailable(format!("model {name:?} is not available: {reason}"))
        }
        Some(ModelState::Loading | ModelState::Ready) => InferError::Unavailable(format!(
            "model {name:?} is still being loaded: wait until it is ready"
        )),
        None => unknown(catalog, name),
    }
}

fn unknown(catalog: &Catalog, name: &str) -> InferError {
    let mut served: Vec<_> =
        catalog.models.keys().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
    match catalog.models.len() {
        0 => served.push("none".to_owned()),
        count if count > NAMED_MAX => served.push(format!("{} more", count - NAMED_MAX)),
        _ => {}
    }
    let served = served.join(", ");
    InferError::NotFound(format!("unknown model {:?}; served models: {served}", brief(name)))
}
