//! The files of a checkout that are not generated.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every file that is not generated, in a fixed order.
pub(crate) fn own_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() && !is_generated(&name) && !is_marked_generated(&entry.path()) {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Build outputs, caches, and the files of version control.
fn is_generated(folder: &str) -> bool {
    folder.starts_with('.') || ["target", "__pycache__", "node_modules"].contains(&folder)
}

/// Build directories and Python environments of any name, which their tools mark with a file.
fn is_marked_generated(folder: &Path) -> bool {
    [".rustc_info.json", "CACHEDIR.TAG", "pyvenv.cfg"].iter().any(|mark| folder.join(mark).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "b.rs",
            "a/c.md",
            "a/d.onnx",
            "target/e.rs",
            ".git/f.rs",
            "a/__pycache__/g.py",
            "target-2/CACHEDIR.TAG",
            "target-2/debug/h.rs",
            "env/pyvenv.cfg",
            "env/lib/i.py",
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = own_files(root.path()).unwrap();
        assert_eq!(found, ["a/c.md", "a/d.onnx", "b.rs"].map(|path| root.path().join(path)));
    }
}
