//! Tensors that are stored outside the model file: which files they name, and whether these are
//! safe to read.
//!
//! A model may name any path. Only plain paths below the model's own directory are followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::proto::TensorProto;
use crate::tensor;

/// Checks that an external tensor lies completely within an existing file below `directory`.
/// Returns the file's path.
fn locate(tensor: &TensorProto, directory: &Path) -> Result<PathBuf, Error> {
    let entry = |key: &str| {
        tensor.external_data.iter().find(|e| e.key() == key).map(|e| e.value().to_owned())
    };
    let location = entry("location").unwrap_or_default();
    let refuse = |problem: &str| Error::External {
        name: tensor.name().to_owned(),
        location: location.clone(),
        problem: problem.to_owned(),
    };
    let relative = Path::new(&location);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
    if location.is_empty() || !plain || location.contains('\\') {
        return Err(refuse(
            "only files in the model's own directory are read; save the model again with its data beside it",
        ));
    }
    let path = directory.join(relative);
    let metadata =
        fs::metadata(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    if !metadata.is_file() {
        return Err(refuse("it is not a file; copy the model again with all its files"));
    }
    let number = |key| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| refuse("its offset or length is no number"))
        }
    };
    let offset = number("offset")?.unwrap_or(0);
    let needed = tensor::element(tensor)
        .zip(tensor::element_count(&tensor.dims))
        .and_then(|(element, count)| tensor::raw_len(element, count))
        .ok_or_else(|| refuse("its type or dimensions cannot be stored outside"))?
        as u64;
    let length = number("length")?.unwrap_or(needed);
    let end = offset.checked_add(length.max(needed));
    if length != needed || end.is_none_or(|end| end > metadata.len()) {
        return Err(refuse(
            "the file does not hold as many bytes as the tensor needs; copy the model again with all its files",
        ));
    }
    Ok(path)
}

/// The files that hold the given tensors, each checked against its tensors.
///
/// # Errors
/// [`Error::External`] for a path outside `directory` or data outside the file, [`Error::Read`]
/// for a missing file.
pub(crate) fn files<'a>(
    tensors: impl IntoIterator<Item = &'a TensorProto>,
    directory: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    for tensor in tensors {
        if tensor::is_external(tensor) {
            files.insert(locate(tensor, directory)?);
        }
    }
    Ok(files.into_iter().collect())
}

/// Refuses external tensors in a model that came without a directory.
pub(crate) fn refuse<'a>(tensors: impl IntoIterator<Item = &'a TensorProto>) -> Result<(), Error> {
    match tensors.into_iter().find(|t| tensor::is_external(t)) {
        None => Ok(()),
        Some(tensor) => Err(Error::External {
            name: tensor.name().to_owned(),
            location: tensor
                .external_data
                .iter()
                .find(|e| e.key() == "location")
                .map(|e| e.value().to_owned())
                .unwrap_or_default(),
            problem: "this model came without its directory; load it from its file, or save it \
                      with its weights inside"
                .to_owned(),
        }),
    }
}
