//! Generated examples on disk. Each is written once, completely or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Example, find};
use crate::error::Error;

/// The revision of the generators. Raise it whenever the result of a generator changes, so that
/// older files are not taken for new ones.
const REVISION: &str = "generated-1";

/// Distinguishes the writers of one process.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Writes an example below a cache directory unless it is there already. Returns its directory,
/// which holds `model.toml` and `1/model.onnx`. The directory above it is a model repository of the
/// examples written so far.
///
/// Several threads and processes may do this at once: each writes to a directory of its own and
/// renames it, and the first wins.
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
    // This is outside of the repository, so that an unfinished model is never taken for one of its
    // models.
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let aside = cache_dir.join(format!(".{name}-{}-{attempt}", process::id()));
    let written = write(example, &aside)
        .and_then(|()| fs::create_dir_all(&repository).map_err(at(&repository)))
        .and_then(|()| publish(&aside, &directory));
    if written.is_err() {
        // Report the first error. What is left behind is only a cache.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::CATALOGUE;
    use crate::model::OnnxModel;

    /// FNV-1a, 64 bits.
    fn fingerprint(bytes: &[u8]) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    #[test]
    fn the_revision_names_these_files() {
        let pinned = [
            ("mobilenet_v2", 17_163_923_785_871_987_048),
            ("resnet50", 18_033_583_647_653_125_425),
            ("encoder", 3_918_741_586_530_401_124),
            ("wide_dense", 2_587_102_401_526_289_235),
        ];
        // `wider_dense` is what makes `wide_dense`, at four times the size.
        let built: Vec<(&str, u64)> = CATALOGUE
            .iter()
            .filter(|e| e.name != "wider_dense")
            .map(|e| (e.name, fingerprint(&e.build().expect("builds").encode())))
            .collect();
        assert_eq!(built, pinned, "an example changed: raise REVISION, then pin it again");
    }

    #[test]
    fn an_example_is_written_once_by_the_first_caller() {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let write = || materialize(cache.path(), "mobilenet_v2").expect("writes");
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3).map(|_| scope.spawn(write)).collect();
            writers.into_iter().map(|w| w.join().expect("no panic")).collect()
        });
        assert!(paths.iter().all(|path| path == &paths[0]));
        let model = OnnxModel::read(&paths[0].join("1/model.onnx")).expect("reads");
        assert_eq!(model, find("mobilenet_v2").expect("is there").build().expect("builds"));
        // No unfinished model is left.
        assert_eq!(fs::read_dir(cache.path()).expect("reads").count(), 1);
        let written = fs::metadata(&paths[0]).and_then(|m| m.modified()).expect("a time");
        let again = fs::metadata(write()).and_then(|m| m.modified()).expect("a time");
        assert_eq!(written, again);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let unknown = materialize(cache.path(), "vgg").expect_err("no such example").to_string();
        let known = "there are mobilenet_v2, resnet50, encoder, wide_dense, wider_dense";
        assert_eq!(unknown, format!("no example \"vgg\"; {known}"));
        let file = cache.path().join("file");
        fs::write(&file, "").expect("writes");
        let error = materialize(&file, "mobilenet_v2").expect_err("no directory").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
