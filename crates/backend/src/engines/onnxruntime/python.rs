//! Which Python environment `python3` stands for: the one whose packages a user means who says
//! `pip install`.
//!
//! Most environments show in the path of the interpreter. A script in its place, such as pyenv's,
//! has to be run to know; it gets a bounded time.

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long an interpreter may take to say where its packages are.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The most that is read of what it says.
const ANSWER_BYTES_MAX: u64 = 1 << 16;

/// The root directories of the environment of the `python3` that is first on the search path, the
/// environment's own first. Empty where there is none.
pub(super) fn roots() -> Vec<PathBuf> {
    let Some(python) = first_on_path(env::var_os("PATH").unwrap_or_default().as_os_str()) else {
        return Vec::new();
    };
    let roots = roots_of(&python);
    if roots.is_empty() { asked(&python) } else { roots }
}

fn first_on_path(path: &std::ffi::OsStr) -> Option<PathBuf> {
    let name = format!("python3{}", env::consts::EXE_SUFFIX);
    let directories = env::split_paths(path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(&name)).find(|file| file.is_file())
}

/// The roots that follow from where an interpreter lies: its virtual environment's, then that of
/// the interpreter that it links to.
fn roots_of(python: &Path) -> Vec<PathBuf> {
    let root = |python: &Path| python.parent()?.parent().map(Path::to_owned);
    let mut roots: Vec<PathBuf> = root(python).into_iter().collect();
    roots.extend(fs::canonicalize(python).ok().and_then(|target| root(&target)));
    roots.dedup();
    roots.retain(|root| holds_packages(root));
    roots
}

/// Whether a directory is the root of an environment.
fn holds_packages(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("python3"))
}

/// What an interpreter says when it is asked. Nothing where it fails or does not answer in time.
fn asked(python: &Path) -> Vec<PathBuf> {
    let child = Command::new(python)
        .args(["-c", "import sys; print(sys.prefix); print(sys.base_prefix)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return Vec::new() };
    let Some(output) = child.stdout.take() else { return Vec::new() };
    let (send, answer) = mpsc::channel();
    // A thread of its own: what the interpreter has started may keep the pipe open for ever.
    let reader = thread::Builder::new().name("python3".to_owned()).spawn(move || {
        let mut text = String::new();
        let read = output.take(ANSWER_BYTES_MAX).read_to_string(&mut text);
        // Nobody waits any more when the time is over.
        let _ = send.send(read.map(|_| text));
    });
    let text = reader.ok().and_then(|_| answer.recv_timeout(ANSWER_MAX).ok()?.ok());
    // It has ended, or it has had its time.
    let _ = child.kill();
    let _ = child.wait();
    let lines = text.iter().flat_map(|text| text.lines());
    let mut roots: Vec<PathBuf> = lines.map(|line| PathBuf::from(line.trim())).collect();
    roots.dedup();
    roots.retain(|root| root.is_absolute() && holds_packages(root));
    roots
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn an_environment_shows_in_the_path_of_its_interpreter() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for environment in ["venv", "base"] {
            fs::create_dir_all(root.join(environment).join("lib/python3.12")).unwrap();
        }
        script(&root.join("base/bin/python3.12"), "");
        fs::create_dir_all(root.join("venv/bin")).unwrap();
        symlink(root.join("base/bin/python3.12"), root.join("venv/bin/python3")).unwrap();
        let search = env::join_paths([root.join("nowhere"), root.join("venv/bin")]).unwrap();
        let python = first_on_path(&search).unwrap();
        assert_eq!(roots_of(&python), [root.join("venv"), root.join("base")]);
        assert_eq!(first_on_path(std::ffi::OsStr::new("")), None);
    }

    #[test]
    fn a_script_in_its_place_is_asked_and_may_say_anything() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("env/lib/python3.12")).unwrap();
        let python = root.join("shims/python3");
        let answer = format!("#!/bin/sh\necho {0}/env\necho {0}/env\n", root.display());
        for (text, expected) in [
            (answer.as_str(), vec![root.join("env")]),
            ("#!/bin/sh\necho nonsense\n", vec![]),
            ("#!/bin/sh\nexit 3\n", vec![]),
            ("no interpreter at all", vec![]),
        ] {
            script(&python, text);
            assert_eq!(roots_of(&python), Vec::<PathBuf>::new());
            assert_eq!(asked(&python), expected, "{text}");
        }
    }
}
