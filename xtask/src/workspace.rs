//! What cargo knows about the workspace: its folders, its packages and where they come from.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

/// The part of `cargo metadata` that is used here.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// The build directory; everything that is fetched or made for tests goes below it.
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
    /// Where it came from; `None` for a path.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependency tables.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
}

impl Workspace {
    /// Asks cargo about the workspace this program was built from.
    pub(crate) fn load() -> Result<Self> {
        let host = host_triple()?;
        // Packages for other systems would be downloaded only to be looked at here.
        let text = command::output(cargo().args(["metadata", "--format-version=1"]).args([
            "--filter-platform",
            &host,
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
        ]))?;
        serde_json::from_str(&text).context("cargo metadata answered something else than expected")
    }

    /// The packages of this repository.
    pub(crate) fn own_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.members.contains(&package.id))
    }

    /// The packages from elsewhere.
    pub(crate) fn foreign_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.members.contains(&package.id))
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn host_triple() -> Result<String> {
    let text = command::output(Command::new("rustc").arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
