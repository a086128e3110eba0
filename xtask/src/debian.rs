//! Programs and libraries of Debian's packages, unpacked into a folder of the build directory. The
//! system itself is not changed, and nothing needs root.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// The Debian release whose packages are used, whatever the system is.
const RELEASE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches the packages with apt from the configured mirror of this machine, with its own source
/// list, state and cache, and unpacks them into `root` in `folder`.
pub(crate) fn unpack(folder: &Path, packages: &[&str]) -> Result<()> {
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
        apt_get(&apt).current_dir(apt.join("debs")).args(["--quiet=2", "download"]).args(packages),
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
