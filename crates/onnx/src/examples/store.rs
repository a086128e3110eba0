//! Generated examples on disk: written once, complete or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Example, find};
use crate::error::Error;

/// Names the generators' present results: raise it whenever one of them changes, so that files
/// written before are not taken for new ones.
const REVISION: &str = "generated-1";

/// Tells apart the writers of one process.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Writes an example under a cache directory unless it is there already; returns its directory,
/// which holds `model.toml` and `1/model.onnx`. The directory above is a model repository of
/// the examples written so far.
///
/// Several threads and processes may do this at once: each writes aside and renames, the first wins.
///
/// # Errors
/// [`Error::UnknownExample`], [`Error::Write`].
pub fn materialize(cache_dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let example = find(name)?;
    let repository = cache_dir.join(REVISION);
    let directory = repository.join(name);
    if directory.is_dir() {
        return Ok(directory);
    }
    // Beside the repository, so that an unfinished model is never taken for one of its models.
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let aside = cache_dir.join(format!(".{name}-{}-{attempt}", process::id()));
    let written = write(example, &aside)
        .and_then(|()| fs::create_dir_all(&repository).map_err(at(&repository)))
        .and_then(|()| publish(&aside, &directory));
    if written.is_err() {
        // The first error is the one to report; what is left behind is only a cache.
        fs::remove_dir_all(&aside).ok();
    }
    written.map(|()| directory)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Write { path: path.to_owned(), source }
}

fn write(example: &Example, directory: &Path) -> Result<(), Error> {
    let version = directory.join("1");
    fs::create_dir_all(&version).map_err(at(&version))?;
    let settings = directory.join("model.toml");
    let text = format!("# {}\n{}", example.description, example.model_toml);
    fs::write(&settings, text).map_err(at(&settings))?;
    example.build()?.write(&version.join("model.onnx"))
}

fn publish(aside: &Path, directory: &Path) -> Result<(), Error> {
    match fs::rename(aside, directory) {
        Err(_) if directory.is_dir() => fs::remove_dir_all(aside).map_err(at(aside)),
        renamed => renamed.map_err(at(directory)),
    }
}
