//! Which served model a request names, and why there is none.

use crate::error::InferError;
use crate::quote::brief;
use std::sync::Arc;
use symphony_wire::carrier::in_process::{Catalog, ServedVersions};
use symphony_wire::message::{IndexEntry, ModelState, ServedModel};

/// How many served models an error names.
const NAMED_MAX: usize = 10;

/// Whether it is known which models there are. A process without a loader of its own learns it from a
/// scheduler.
///
/// # Errors
/// Not yet: of no model can be said that there is none.
pub(crate) fn check_known(catalog: &Catalog) -> Result<(), InferError> {
    if catalog.known {
        return Ok(());
    }
    Err(InferError::Unavailable(
        "the server has not yet learned its models from a scheduler: wait until it is ready"
            .to_owned(),
    ))
}

/// The served model of this name, and of this version unless that is empty.
///
/// # Errors
/// It is unknown, or known and not served now.
pub(crate) fn find<'a>(
    catalog: &'a Catalog,
    name: &str,
    version: &str,
) -> Result<&'a Arc<ServedModel>, InferError> {
    let Some(versions) = catalog.models.get(name) else {
        check_known(catalog)?;
        return Err(not_served(catalog, name));
    };
    if version.is_empty() {
        return Ok(versions.highest());
    }
    versions.find(version).ok_or_else(|| not_in_version(catalog, name, versions, version))
}

fn not_in_version(
    catalog: &Catalog,
    name: &str,
    versions: &ServedVersions,
    version: &str,
) -> InferError {
    let is_meant = |entry: &&IndexEntry| entry.name == name && entry.version == version;
    match catalog.index.iter().find(is_meant).map(|entry| &entry.state) {
        Some(ModelState::Unavailable(reason)) => InferError::Unavailable(format!(
            "version {version:?} of model {name:?} is not available: {reason}"
        )),
        Some(ModelState::Loading) => InferError::Unavailable(format!(
            "version {version:?} of model {name:?} is still being loaded: wait until it is ready"
        )),
        Some(ModelState::Ready) | None => {
            let mut served: Vec<_> = versions
                .iter()
                .rev()
                .take(NAMED_MAX)
                .map(|model| format!("{:?}", model.version))
                .collect();
            served.reverse();
            InferError::NotFound(format!(
                "model {name:?} is not served in version {:?}, only in version {}",
                brief(version),
                served.join(", ")
            ))
        }
    }
}

/// A model that is not served in any version. Of several the highest says why.
fn not_served(catalog: &Catalog, name: &str) -> InferError {
    match catalog.index.iter().rfind(|entry| entry.name == name).map(|entry| &entry.state) {
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
