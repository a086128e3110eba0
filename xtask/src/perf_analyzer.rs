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

/// The pinned version.
const VERSION: &str = "2.60.0";
/// The tag of the wheel that holds the program. On systems with an older glibc, plain `pip install`
/// would choose an empty stub.
const PLATFORM: &str = "manylinux_2_38_x86_64";
/// The Debian release with the libraries that the program can use, and the packages that contain
/// them.
const RELEASE: &str = "trixie";
const PACKAGES: [&str; 6] =
    ["libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1"];
const LIBRARIES: &str = "root/usr/lib/x86_64-linux-gnu";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
        fetch_libraries(folder)?;
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

/// Fetches the libraries with apt from the configured mirror of this machine, with its own source
/// list, state and cache.
fn fetch_libraries(folder: &Path) -> Result<()> {
    let apt = folder.join("apt");
    for part in ["parts", "state/lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(apt.join(part))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(
        apt.join("parts/debian.sources"),
        format!(
            "Types: deb\nURIs: {}\nSuites: {RELEASE}\nComponents: main\nSigned-By: {KEYRING}\n",
            debian_mirror()?
        ),
    )?;
    command::run(apt_get(&apt).args(["--quiet=2", "update"])).with_context(|| {
        format!("apt could not read Debian {RELEASE}: it needs the network and {KEYRING}")
    })?;
    command::run(
        apt_get(&apt).current_dir(apt.join("debs")).args(["--quiet=2", "download"]).args(PACKAGES),
    )?;
    let root = folder.join("root");
    for entry in fs::read_dir(apt.join("debs"))? {
        command::run(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(&root))?;
    }
    Ok(())
}

fn apt_get(folder: &Path) -> Command {
    let options = [
        ("Dir::Etc::sourcelist", Path::new("/dev/null").to_owned()),
        ("Dir::Etc::sourceparts", folder.join("parts")),
        ("Dir::State", folder.join("state")),
        ("Dir::State::status", folder.join("status")),
        ("Dir::Cache", folder.join("cache")),
    ];
    let mut command = Command::new("apt-get");
    for (name, value) in options {
        command.arg("-o").arg(format!("{name}={}", value.display()));
    }
    // When it runs as root, apt would download as another user, which may not have access to this
    // folder.
    command.args(["-o", "APT::Sandbox::User="]);
    command
}

/// The Debian mirror in this machine's own apt configuration.
fn debian_mirror() -> Result<String> {
    // This lists what `update` would fetch, even if no package list has ever been read.
    let lines = command::output(Command::new("apt-get").args(["--print-uris", "update"]))?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename =
        release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    mirror_among(&lines, codename).with_context(|| {
        format!(
            "apt's configuration names no Debian mirror for {codename:?}: \
             use Debian, or a system with glibc 2.38 or newer"
        )
    })
}

/// The mirror of the suite `codename`. Security updates and archives of other vendors have other
/// suite names. When the suite has another name, such as `stable`, the archive whose path is that
/// of Debian's mirrors.
fn mirror_among(lines: &str, codename: &str) -> Option<String> {
    let addresses = || lines.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next());
    let ending = format!("/dists/{codename}/InRelease");
    let by_codename = addresses().find_map(|address| address.strip_suffix(&ending));
    let by_path = || {
        let archives = addresses().filter_map(|address| address.split_once("/dists/"));
        archives.map(|(archive, _)| archive).find(|archive| archive.ends_with("/debian"))
    };
    by_codename.or_else(by_path).map(str::to_owned)
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("no .{extension} file was downloaded into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_plain_suite() {
        let lines = "'http://a/vendor/dists/stable/InRelease' a_dists_stable_InRelease 0 \n\
                     'http://b/debian-security/dists/bookworm-security/InRelease' b_InRelease 0 \n\
                     'http://b/debian/dists/bookworm/InRelease' b_dists_bookworm_InRelease 0 \n";
        assert_eq!(mirror_among(lines, "bookworm").as_deref(), Some("http://b/debian"));
        assert_eq!(mirror_among(lines, "sid-like").as_deref(), Some("http://b/debian"));
        let vendor = "'http://a/ubuntu/dists/noble/InRelease' a_InRelease 0 \n";
        assert_eq!(mirror_among(vendor, "trixie"), None);
        assert_eq!(mirror_among("", ""), None);
    }
}
