//! etcd, which the tests of leases start: the server of Debian's package, in a folder of the build
//! directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::debian;

/// The package with the server, and where the server is in it.
const PACKAGE: &str = "etcd-server";
const PROGRAM: &str = "root/usr/bin/etcd";

/// Fetches etcd into `folder` unless it is there, and returns its program.
pub(crate) fn prepare(folder: &Path) -> Result<PathBuf> {
    let program = folder.join(PROGRAM);
    if starts(&program) {
        return Ok(program);
    }
    // What is there was not unpacked to the end.
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    eprintln!("fetching etcd into {}", folder.display());
    debian::unpack(folder, &[PACKAGE])?;
    ensure!(starts(&program), "etcd was fetched but does not start: {}", program.display());
    Ok(program)
}

fn starts(program: &Path) -> bool {
    program.is_file() && command::succeeds(Command::new(program).arg("--version"))
}
