//! The environment of the tests: a virtual Python environment in the build directory with the
//! packages that `tests/clients/requirements.txt` pins. Rust tests use it, too: they open its
//! onnxruntime library and call its Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::etcd;
use crate::perf_analyzer;
use crate::workspace::Workspace;

/// The Python versions for which all pinned packages have wheels, newest first.
const VERSIONS: [&str; 3] = ["3.13", "3.12", "3.11"];

/// A prepared environment.
pub(crate) struct Environment {
    folder: PathBuf,
    onnxruntime: PathBuf,
    perf_analyzer: PathBuf,
    etcd: PathBuf,
}

impl Environment {
    /// Makes the environment, or reuses the existing one if its requirements are the same.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("python");
        let requirements = workspace.root.join("tests/clients/requirements.txt");
        let wanted = fs::read_to_string(&requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        let stamp = folder.join("requirements.stamp");
        // The interpreter belongs to the system, and an upgrade may have removed it.
        let runs = command::succeeds(Command::new(python_in(&folder)).args(["-c", ""]));
        if !runs || fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
            install(&folder, &requirements)?;
            // This is written last, so that an interrupted installation is repeated.
            fs::write(&stamp, &wanted)
                .with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        Ok(Self {
            onnxruntime: onnxruntime_library(&folder)?,
            perf_analyzer: perf_analyzer::prepare(
                &workspace.target.join("perf_analyzer"),
                &python_in(&folder),
            )?,
            etcd: etcd::prepare(&workspace.target.join("etcd"))?,
            folder,
        })
    }

    /// The interpreter.
    pub(crate) fn python(&self) -> PathBuf {
        python_in(&self.folder)
    }

    /// The environment variables that the tests read, with their values.
    pub(crate) fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("ORT_DYLIB_PATH", self.onnxruntime.clone()),
            ("SYMPHONY_TEST_PYTHON", self.python()),
            ("SYMPHONY_TEST_PERF_ANALYZER", self.perf_analyzer.clone()),
            ("SYMPHONY_TEST_ETCD", self.etcd.clone()),
        ]
    }
}

fn python_in(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

fn install(folder: &Path, requirements: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let system = find_python()?;
    eprintln!("making a Python environment in {}", folder.display());
    command::run(Command::new(&system).args(["-m", "venv"]).arg(folder)).context(
        "Python cannot make virtual environments: install Debian's package `python3-venv`",
    )?;
    // The file lists every package, so pip has nothing to resolve.
    command::run(
        Command::new(python_in(folder))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--requirement"])
            .arg(requirements),
    )
    .context("pip could not install the pinned packages: it needs the network or a package index")
}

/// An installed Python of a suitable version.
fn find_python() -> Result<String> {
    let named = VERSIONS.iter().map(|version| format!("python{version}"));
    for program in std::iter::once("python3".to_owned()).chain(named) {
        let mut command = Command::new(&program);
        command.args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
        if let Ok(output) = command.output()
            && VERSIONS.contains(&String::from_utf8_lossy(&output.stdout).trim())
        {
            return Ok(program);
        }
    }
    bail!(
        "no Python {} found: install Debian's packages `python3` and `python3-venv`",
        VERSIONS.join(" or ")
    )
}

/// The shared library inside the installed onnxruntime package.
fn onnxruntime_library(folder: &Path) -> Result<PathBuf> {
    let text = command::output(
        Command::new(python_in(folder))
            .args(["-c", "import sysconfig; print(sysconfig.get_paths()['platlib'])"]),
    )?;
    let capi = Path::new(text.trim()).join("onnxruntime/capi");
    let entries = fs::read_dir(&capi).with_context(|| format!("cannot list {}", capi.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
        })
        .with_context(|| format!("{} does not contain libonnxruntime.so", capi.display()))
}
