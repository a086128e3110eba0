//! What cargo knows about the workspace: its folders, its packages and their origin.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

/// The root of the workspace that this program was built from.
pub(crate) const OWN_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The part of `cargo metadata` that is used here.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// The build directory. Everything that is fetched or made for tests is in it.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    #[serde(rename = "workspace_members")]
    pub(crate) members: Vec<String>,
    pub(crate) packages: Vec<Package>,
}

/// One package of the build: ours or a dependency.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// The origin of the package; `None` for a path.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<CargoTarget>,
}

/// One thing that cargo builds from a package.
#[derive(Deserialize)]
pub(crate) struct CargoTarget {
    kind: Vec<String>,
    /// The file of its root module.
    pub(crate) src_path: PathBuf,
}

impl CargoTarget {
    /// Whether the target is the library or a program of its package.
    pub(crate) fn is_built(&self) -> bool {
        self.kind.iter().any(|kind| kind == "lib" || kind == "bin")
    }

    /// Whether the target is a test or a benchmark.
    pub(crate) fn is_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test" || kind == "bench")
    }
}

/// One line of a package's dependency tables.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
}

impl Workspace {
    /// Asks cargo about the workspace from which this program was built.
    pub(crate) fn load() -> Result<Self> {
        // Without the filter cargo would also download packages for other systems.
        metadata(Path::new(OWN_ROOT), &["--filter-platform", &host_triple()?])
    }

    /// Asks cargo about the workspace in `root`, without the packages of others.
    pub(crate) fn load_own(root: PathBuf) -> Result<Self> {
        metadata(&root, &["--no-deps"])
    }

    /// The packages of this repository.
    pub(crate) fn own_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.members.contains(&package.id))
    }

    /// The packages of others.
    pub(crate) fn foreign_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.members.contains(&package.id))
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn metadata(root: &Path, options: &[&str]) -> Result<Workspace> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--manifest-path"]);
    command.arg(root.join("Cargo.toml")).args(options);
    let text = command::output(&mut command)?;
    serde_json::from_str(&text).context("cannot read what `cargo metadata` printed")
}

/// The system that this machine compiles for.
pub(crate) fn host_triple() -> Result<String> {
    let text = command::output(Command::new("rustc").arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV does not print the host")
}
