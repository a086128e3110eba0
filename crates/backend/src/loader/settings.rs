//! The backend's part of the server's configuration: `[backend]` in `symphony.toml`.

use crate::engine::Cores;
use crate::profiling::Effort;
use crate::repository::{ConfigError, TomlSource};
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The most accelerators of one process. Beyond what one machine has, they are emulated.
pub const ACCELERATORS_MAX: usize = 1024;
/// The most threads of one accelerator, and of all accelerators together.
pub const THREADS_MAX: usize = 1024;

/// The interpreter that runs Python models where nothing else is said.
pub const PYTHON_DEFAULT: &str = "python3";

/// The table as it is written. Missing values follow from the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendFile {
    /// The number of accelerators into which the machine's cores are split. Default: 1.
    pub accelerators: Option<Spanned<i64>>,
    /// The threads of each accelerator. Default: its share of the cores.
    pub threads: Option<Spanned<i64>>,
    /// The directory of generated examples, and of what was found out and measured. Default: the user's cache
    /// directory.
    pub cache_dir: Option<PathBuf>,
    /// The onnxruntime library. Default: looked for in the usual places.
    pub onnxruntime: Option<PathBuf>,
    /// The Python interpreter of models that are run in Python. Default: `python3`.
    pub python: Option<PathBuf>,
}

/// The validated configuration of the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// The accelerators that each model is loaded on.
    pub cores: Cores,
    /// The directory of generated examples, and of what was found out and measured.
    pub cache_dir: PathBuf,
    /// The onnxruntime library to open; `None` looks for it in the usual places.
    pub onnxruntime: Option<PathBuf>,
    /// The interpreter that runs Python models: a path, or a name that is looked for in `PATH`.
    pub python: PathBuf,
    /// How much to measure a new model.
    pub effort: Effort,
}

impl LoaderConfig {
    /// Fills in the missing values for a machine with `cores` cores.
    ///
    /// # Errors
    /// A number is out of range. The error takes the line from `source`, the text that the file was
    /// parsed from.
    pub fn resolve(
        file: BackendFile,
        source: &TomlSource,
        cores: usize,
    ) -> Result<LoaderConfig, ConfigError> {
        let accelerators =
            count(source, "accelerators", file.accelerators, ACCELERATORS_MAX)?.unwrap_or(1);
        let threads = count(source, "threads", file.threads, THREADS_MAX / accelerators)?;
        let threads = threads.unwrap_or_else(|| (cores / accelerators).clamp(1, THREADS_MAX));
        Ok(LoaderConfig {
            cores: Cores { accelerators, threads },
            cache_dir: file.cache_dir.unwrap_or_else(cache_dir_default),
            onnxruntime: file.onnxruntime,
            python: file.python.unwrap_or_else(|| PYTHON_DEFAULT.into()),
            effort: Effort::default(),
        })
    }

    /// The directory of generated examples.
    #[must_use]
    pub fn examples_dir(&self) -> PathBuf {
        self.cache_dir.join("examples")
    }
}

fn count(
    source: &TomlSource,
    key: &str,
    value: Option<Spanned<i64>>,
    max: usize,
) -> Result<Option<usize>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match usize::try_from(*value.get_ref()).ok().filter(|count| (1..=max).contains(count)) {
        Some(count) => Ok(Some(count)),
        None => Err(source.refuse(
            Some(value.span()),
            format!(
                "{key} = {} is not allowed: give a whole number from 1 to {max}",
                value.get_ref()
            ),
        )),
    }
}

/// `symphony` in the user's cache directory, or in the system's temporary directory when there is
/// no user.
fn cache_dir_default() -> PathBuf {
    let of = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    cache_dir(of("XDG_CACHE_HOME").as_deref(), of("HOME").as_deref())
}

fn cache_dir(xdg: Option<&Path>, home: Option<&Path>) -> PathBuf {
    let user = xdg.map(Path::to_owned).or_else(|| Some(home?.join(".cache")));
    user.unwrap_or_else(env::temp_dir).join("symphony")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, cores: usize) -> Result<LoaderConfig, String> {
        let source = TomlSource::from_text(Path::new("symphony.toml"), text);
        let file = source.parse().map_err(|error| error.to_string())?;
        LoaderConfig::resolve(file, &source, cores).map_err(|error| error.to_string())
    }

    #[test]
    fn the_cores_are_split_between_the_accelerators() {
        for (text, cores, expected) in [
            ("", 2, (1, 2)),
            ("accelerators = 4", 16, (4, 4)),
            ("accelerators = 8", 2, (8, 1)),
            ("accelerators = 2\nthreads = 3", 2, (2, 3)),
        ] {
            let config = resolve(text, cores).unwrap();
            assert_eq!((config.cores.accelerators, config.cores.threads), expected, "{text}");
        }
        let config = resolve("cache_dir = '/c'\nonnxruntime = '/lib/o.so'", 2).unwrap();
        assert_eq!(config.examples_dir(), Path::new("/c/examples"));
        assert_eq!(config.onnxruntime.as_deref(), Some(Path::new("/lib/o.so")));
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, expected) in [
            (
                "\naccelerators = 0",
                "symphony.toml:2: accelerators = 0 is not allowed: give a whole number from 1 to 1024",
            ),
            (
                "accelerators = 8\nthreads = 129",
                "symphony.toml:2: threads = 129 is not allowed: give a whole number from 1 to 128",
            ),
            (
                "threads = -1",
                "symphony.toml:1: threads = -1 is not allowed: give a whole number from 1 to 1024",
            ),
            (
                "cores = 1",
                "symphony.toml:1: unknown field `cores`, expected one of `accelerators`, \
                 `threads`, `cache_dir`, `onnxruntime`, `python`",
            ),
        ] {
            assert_eq!(resolve(text, 2).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_cache_has_a_place_even_without_a_user() {
        let [xdg, home] = ["/x", "/home/u"].map(Path::new);
        assert_eq!(cache_dir(Some(xdg), Some(home)), Path::new("/x/symphony"));
        assert_eq!(cache_dir(None, Some(home)), Path::new("/home/u/.cache/symphony"));
        assert_eq!(cache_dir(None, None), env::temp_dir().join("symphony"));
    }
}
