//! Our own package for Python, where the interpreter can read it.

use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("symphony_worker/", $name)))),*]
    };
}

const FILES: [(&str, &str); 13] = files![
    "__init__.py",
    "__main__.py",
    "channel.py",
    "errors.py",
    "guard.py",
    "memory.py",
    "model.py",
    "modules.py",
    "server.py",
    "tensors.py",
    "torch_module.py",
    "triton_model.py",
    "triton_utils.py",
];

/// Tells apart what threads of this process are writing.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes what is not there yet into a directory that only this user can read or write. Returns what
/// Python is to run.
pub(crate) fn write(directory: &Path) -> io::Result<PathBuf> {
    let mut hasher = Sha256::new();
    FILES.iter().for_each(|(_, text)| hasher.update(text));
    let version: String = hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let package = directory.join(version).join("symphony_worker");
    DirBuilder::new().recursive(true).mode(0o700).create(&package)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for (name, text) in FILES {
        let file = package.join(name);
        if fs::read(&file).is_ok_and(|written| written == text.as_bytes()) {
            continue;
        }
        // Processes that start at the same time read it whole or not at all.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let beginning = package.join(format!("{name}.{}.{number}", std::process::id()));
        fs::write(&beginning, text)?;
        fs::rename(&beginning, &file)?;
    }
    Ok(package.join("__main__.py"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_once_and_mended() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("python");
        let main = write(&place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(&main, "half").unwrap();
        assert_eq!(write(&place).unwrap(), main);
        assert_eq!(fs::read_to_string(&main).unwrap(), FILES[1].1);
        assert_eq!(fs::read_dir(main.parent().unwrap()).unwrap().count(), FILES.len());
    }

    #[test]
    fn processes_that_start_at_the_same_time_find_it_whole() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("python");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let main = write(&place).unwrap();
                    assert_eq!(fs::read_to_string(&main).unwrap(), FILES[1].1);
                });
            }
        });
    }

    #[test]
    fn every_file_of_the_package_is_written() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/symphony_worker");
        let entries = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.filter(|name| name != "__pycache__").collect();
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }
}
