//! How benchmarks load models in this process.

use anyhow::Result;
use std::path::{Path, PathBuf};
use symphony_backend::loader::{BackendFile, LoaderConfig};
use symphony_backend::repository::TomlSource;
use toml::Spanned;

/// Models on so many accelerators with so many threads each.
///
/// # Errors
/// A number is out of range.
pub(crate) fn loader(
    accelerators: u32,
    threads: u32,
    cache_dir: Option<PathBuf>,
    onnxruntime: Option<PathBuf>,
) -> Result<LoaderConfig> {
    let count = |count: u32| Some(Spanned::new(0..0, i64::from(count)));
    let (accelerators, threads) = (count(accelerators), count(threads));
    let source = TomlSource::from_text(Path::new("the command line"), "");
    let file = BackendFile { accelerators, threads, cache_dir, onnxruntime, python: None };
    // How many cores there are says nothing where both numbers are given.
    Ok(LoaderConfig::resolve(file, &source, 1)?)
}
