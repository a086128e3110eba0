//! How long the server takes to build: from nothing, and after a change of one line in the crate on
//! which everything depends, in one on which little depends, and in the binary itself.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;
use crate::files::own_files;
use crate::workspace::{Workspace, cargo, host_triple};

/// The packages to change.
const CHANGED: [&str; 3] = ["symphony-core", "symphony-frontend", "symphony"];
/// The number of changes to each package. The figure is their median.
const ROUNDS: usize = 3;

/// Measures a copy of the workspace and prints the figures.
pub(crate) fn run(workspace: &Workspace, release: bool) -> Result<()> {
    fs::create_dir_all(&workspace.target)?;
    let folder = tempfile::tempdir_in(&workspace.target)?;
    let copy = Copy { root: folder.path().join("sources"), release };
    copy.take(&workspace.root)?;
    // Downloads are not part of building.
    command::run(copy.cargo("fetch").args(["--locked", "--target", &host_triple()?]))?;
    println!("{:34} {:8.1} s", "from nothing", copy.build()?.as_secs_f64());
    for name in CHANGED {
        let root = root_file(workspace, name)?;
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            copy.change(&root, round)?;
            times.push(copy.build()?.as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let what = format!("after a line in {name}");
        let (first, last) = (times[0], times[ROUNDS - 1]);
        println!("{what:34} {:8.1} s ({first:.1} to {last:.1})", times[ROUNDS / 2]);
    }
    Ok(())
}

/// A copy of the sources with a build directory of its own.
struct Copy {
    root: PathBuf,
    release: bool,
}

impl Copy {
    fn take(&self, from: &Path) -> Result<()> {
        for path in own_files(from)? {
            let to = self.root.join(path.strip_prefix(from)?);
            fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
            fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        }
        Ok(())
    }

    fn cargo(&self, what: &str) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).arg(what);
        command
    }

    /// Builds the server and returns how long that took.
    fn build(&self) -> Result<Duration> {
        let mut build = self.cargo("build");
        build.args(["--quiet", "--bin", "symphony", "--target-dir"]).arg(self.root.join("target"));
        if self.release {
            build.arg("--release");
        }
        let start = Instant::now();
        command::run(&mut build)?;
        Ok(start.elapsed())
    }

    /// Adds a line to `file` that is visible to the crates which import it.
    fn change(&self, file: &Path, round: usize) -> Result<()> {
        let path = self.root.join(file);
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot change {}", path.display()))?;
        writeln!(file, "#[doc(hidden)] pub const ROUND_{round}: usize = {round};")?;
        Ok(())
    }
}

/// The file of the root module of a package's library or program, relative to the workspace's root.
fn root_file(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let found = workspace.own_packages().find(|own| own.name == package);
    let target = found.and_then(|found| found.targets.iter().find(|target| target.is_built()));
    let target = target.with_context(|| format!("the workspace builds no package {package}"))?;
    Ok(target.src_path.strip_prefix(&workspace.root)?.to_owned())
}
