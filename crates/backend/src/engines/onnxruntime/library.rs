//! Where to look for an onnxruntime library: first what is asked for, then what a Python package or
//! the system has installed.
//!
//! This looks at file names; only a `python3` that is a script is run. Whether a file is usable
//! shows when it is opened.

use super::{extensions, python};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The engine's name in configurations and errors.
pub const NAME: &str = "onnxruntime";

/// The oldest usable library is `1.MINOR_VERSION_MIN`.
pub const MINOR_VERSION_MIN: u32 = ort::MINOR_VERSION;

/// The beginning of the library's file name, and the ending of libraries on this system.
const PREFIX: &str = if cfg!(windows) { "onnxruntime" } else { "libonnxruntime" };
const KIND: &str = if cfg!(windows) {
    ".dll"
} else if cfg!(target_os = "macos") {
    ".dylib"
} else {
    ".so"
};

/// The most libraries that are tried. A machine with more of them has many broken copies.
const CANDIDATES_MAX: usize = 16;

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The library that the configuration names. If it is set, no other place is searched.
    pub configured: Option<PathBuf>,
    /// The library that `ORT_DYLIB_PATH` names. If it is set, only the configured one comes before
    /// it.
    pub from_environment: Option<PathBuf>,
    /// Root directories of Python environments, which contain `lib/python3.x/site-packages`.
    pub python: Vec<PathBuf>,
    /// Directories that contain libraries.
    pub libraries: Vec<PathBuf>,
}

impl Places {
    /// The places where this process looks.
    #[must_use]
    pub fn of_process(configured: Option<&Path>) -> Places {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let path = |name| variable(name).map(PathBuf::from);
        let home = path("HOME").or_else(|| path("USERPROFILE"));
        let pyenv = path("PYENV_ROOT").or_else(|| home.as_ref().map(|home| home.join(".pyenv")));
        let mut python = Vec::new();
        python.extend(path("VIRTUAL_ENV"));
        python.extend(path("CONDA_PREFIX"));
        python.extend(python::roots());
        python.extend(home.map(|home| home.join(".local")));
        python.extend(pyenv.map(|root| entries(&root.join("versions"))).unwrap_or_default());
        python.extend(["/usr/local", "/usr"].map(PathBuf::from));
        let mut libraries: Vec<PathBuf> =
            variable("LD_LIBRARY_PATH").iter().flat_map(env::split_paths).collect();
        libraries.retain(|directory| directory.is_absolute());
        libraries.extend(
            [
                "/usr/local/lib",
                "/opt/onnxruntime/lib",
                "/opt/homebrew/lib",
                "/usr/lib64",
                "/usr/lib",
            ]
            .map(PathBuf::from),
        );
        // Debian keeps libraries in one directory per architecture.
        libraries.push(PathBuf::from(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH)));
        let configured = configured.map(Path::to_owned);
        Places { configured, from_environment: path("ORT_DYLIB_PATH"), python, libraries }
    }

    /// The libraries to try, in order, as absolute paths.
    #[must_use]
    pub fn candidates(&self) -> Vec<PathBuf> {
        if let Some(asked) = self.configured.as_ref().or(self.from_environment.as_ref()) {
            if asked.is_dir() {
                return libraries_in(asked);
            }
            // The binding would resolve a relative path from the directory of the executable.
            return vec![std::path::absolute(asked).unwrap_or_else(|_| asked.clone())];
        }
        let mut found: Vec<PathBuf> = self
            .python
            .iter()
            .flat_map(|root| sites(root))
            .flat_map(|site| libraries_in(&site.join("onnxruntime").join("capi")))
            .collect();
        found.extend(self.libraries.iter().flat_map(|directory| libraries_in(directory)));
        found.truncate(CANDIDATES_MAX);
        found
    }

    /// The library of the Python package `onnxruntime-extensions`. It is looked for beside the
    /// opened `onnxruntime` first, if that is a Python package's.
    pub(super) fn extensions(&self, onnxruntime: &Path) -> Option<PathBuf> {
        let beside = onnxruntime.ancestors().nth(3).map(Path::to_owned);
        let others = self.python.iter().flat_map(|root| sites(root));
        beside.into_iter().chain(others).find_map(|site| extensions::library_in(&site))
    }

    /// Explains why there is no library and what to do. `refusals` says why each candidate was
    /// refused.
    pub(super) fn explain(&self, refusals: &[String]) -> String {
        let source = match (&self.configured, &self.from_environment) {
            (Some(_), _) => "as configured, ",
            (None, Some(_)) => "from ORT_DYLIB_PATH, ",
            (None, None) => "",
        };
        let asked = self.configured.as_ref().or(self.from_environment.as_ref());
        let found = match (refusals, asked) {
            ([], Some(directory)) => format!("no library found in {}", directory.display()),
            ([], None) => "no library found".to_owned(),
            (refusals, _) => refusals.join("; "),
        };
        format!(
            "onnxruntime is not usable ({source}{found}): pip install onnxruntime (1.{} or \
             later), or set ORT_DYLIB_PATH to its library",
            MINOR_VERSION_MIN
        )
    }
}

/// The directories in which a Python environment keeps packages.
fn sites(root: &Path) -> Vec<PathBuf> {
    let versions = entries(&root.join("lib"));
    let is_python = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
    };
    // In descending order of name, so that the newest usually comes first. On Windows the path
    // holds no version.
    let mut versions: Vec<PathBuf> = versions.into_iter().filter(is_python).collect();
    versions.reverse();
    versions.push(root.join("Lib"));
    let sites = |version: PathBuf| ["site-packages", "dist-packages"].map(|s| version.join(s));
    versions.into_iter().flat_map(sites).collect()
}

/// The libraries in a directory in descending order of name: names with a version come first.
fn libraries_in(directory: &Path) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // This leaves out libonnxruntime_providers_shared.so and the like.
        name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.') && rest.contains(KIND))
    };
    let mut libraries: Vec<PathBuf> = entries(directory).into_iter().filter(is_library).collect();
    libraries.reverse();
    libraries
}

/// The entries of a directory in order of name. Empty when it cannot be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates empty files below a directory and returns the paths that are tried, relative to it.
    fn tried(files: &[&str], places: impl Fn(&Path) -> Places) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let candidates = places(root.path()).candidates();
        let relative = candidates.iter().map(|path| path.strip_prefix(root.path()).unwrap());
        relative.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn installed_libraries_are_found_python_first_and_newest_first() {
        let files = [
            "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.24.0",
            "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1",
            "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime_providers_shared.so",
            "usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.21.0",
            "lib/libonnxruntime.so",
            "lib/libonnxruntime.so.1.25",
            "lib/libother.so",
        ];
        let places = |root: &Path| Places {
            python: vec![root.join("venv"), root.join("nowhere"), root.join("usr")],
            libraries: vec![root.join("lib")],
            ..Places::default()
        };
        assert_eq!(tried(&files, places), [files[1], files[0], files[3], files[5], files[4]]);
    }

    #[test]
    fn what_is_asked_for_is_tried_alone() {
        let asked = |root: &Path, name: &str| Some(root.join(name));
        let python = |root: &Path| vec![root.to_owned()];
        let configured = |root: &Path| Places {
            configured: asked(root, "a"),
            from_environment: asked(root, "b"),
            python: python(root),
            libraries: vec![],
        };
        assert_eq!(tried(&[], configured), ["a"]);
        let environment =
            |root: &Path| Places { from_environment: asked(root, "b"), ..Places::default() };
        assert_eq!(tried(&[], environment), ["b"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_that_is_asked_for_is_searched() {
        let places = |root: &Path| Places { configured: Some(root.join("d")), ..Places::default() };
        let file = "d/libonnxruntime.so.1.31.1";
        assert_eq!(tried(&[file, "d/other"], places), [file]);
    }

    #[test]
    fn the_error_says_what_was_tried_and_what_to_do() {
        let text = Places::default().explain(&[]);
        assert!(text.contains("no library found") && text.contains("pip install"), "{text}");
        let places = Places { configured: Some("x.so".into()), ..Places::default() };
        let text = places.explain(&["x.so: not a file".to_owned()]);
        assert!(text.contains("(as configured, x.so: not a file)"), "{text}");
    }
}
