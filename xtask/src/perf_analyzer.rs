//! perf_analyzer, the usual load generator for the open inference protocol.
//!
//! Its wheel holds one program, built for glibc 2.38. On systems with an older C library it starts
//! with the loader and the libraries of Debian 13, unpacked into a private folder. The system
//! itself is not changed. Everything is in one folder of the build directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::debian;

/// The pinned version.
const VERSION: &str = "2.60.0";
/// The tag of the wheel that holds the program. On systems with an older glibc, plain `pip install`
/// would choose an empty stub.
const PLATFORM: &str = "manylinux_2_38_x86_64";
/// The Debian packages with the libraries that the program can use.
const PACKAGES: [&str; 6] =
    ["libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1"];
const LIBRARIES: &str = "root/usr/lib/x86_64-linux-gnu";

/// Fetches perf_analyzer into `folder` unless it is there, and returns a script that starts it.
pub(crate) fn prepare(folder: &Path, python: &Path) -> Result<PathBuf> {
    let launcher = folder.join(format!("perf_analyzer-{VERSION}.sh"));
    if launcher.is_file() {
        return Ok(launcher);
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    eprintln!("fetching perf_analyzer {VERSION} into {}", folder.display());
    let program = fetch_program(folder, python)?;
    let start = if command::succeeds(Command::new(&program).arg("--version")) {
        format!("exec '{}' \"$@\"", program.display())
    } else {
        debian::unpack(folder, &PACKAGES)?;
        let libraries = folder.join(LIBRARIES);
        format!(
            "exec '{0}/ld-linux-x86-64.so.2' --library-path '{0}' '{1}' \"$@\"",
            libraries.display(),
            program.display()
        )
    };
    // The launcher gets its final name last: if it exists, everything is there.
    let unproven = folder.join("unproven.sh");
    fs::write(&unproven, format!("#!/bin/sh\n{start}\n"))?;
    fs::set_permissions(&unproven, fs::Permissions::from_mode(0o755))?;
    command::run(Command::new(&unproven).arg("--version"))
        .context("perf_analyzer was fetched but does not start")?;
    fs::rename(&unproven, &launcher)?;
    Ok(launcher)
}

/// Downloads and unpacks the wheel, and returns the program in it.
fn fetch_program(folder: &Path, python: &Path) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("perf_analyzer exists only for Linux on x86-64: run the tests there");
    }
    command::run(
        Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--platform", PLATFORM, "--python-version", "3.12"])
            .arg("--dest")
            .arg(folder)
            .arg(format!("perf-analyzer=={VERSION}")),
    )
    .context("pip could not fetch perf_analyzer: it needs the network or a package index")?;
    let wheel = only_file(folder, "whl")?;
    command::run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
    let program = folder.join("perf_analyzer/bin/perf_analyzer");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("its wheel does not contain the program {}", program.display()))?;
    Ok(program)
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("no .{extension} file was downloaded into {}", folder.display()))
}
