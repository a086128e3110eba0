//! Checks that no compiler makes: each is a function from text or metadata to a list of complaints,
//! every complaint one line that names the place and what to do.

mod arrows;
mod columns;
mod licences;
mod links;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Runs every check and prints what it found; fails when there is anything.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let policy = licences::Policy::read(&workspace.root.join("deny.toml"))?;
    let mut complaints = arrows::check(workspace);
    complaints.extend(licences::check(&policy, workspace));
    let files = own_files(&workspace.root)?;
    for path in &files {
        let shown = path.strip_prefix(&workspace.root).unwrap_or(path);
        complaints.extend(too_large(shown, fs::metadata(path)?.len()));
        if !is_source(path) {
            continue;
        }
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {} as text", path.display()))?;
        complaints.extend(text::check(shown, &text));
        if shown.extension().is_some_and(|extension| extension == "md") {
            let folder = path.parent().unwrap_or(&workspace.root);
            complaints.extend(columns::check(shown, &text));
            complaints.extend(links::check(shown, &text, |target| folder.join(target).exists()));
        }
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} places are not tidy", complaints.len());
    }
    eprintln!("{} files and {} packages are tidy", files.len(), workspace.packages.len());
    Ok(())
}

/// Every file that is not generated, in a fixed order.
fn own_files(root: &Path) -> Result<Vec<PathBuf>> {
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

/// Build outputs, caches, and what version control keeps for itself.
fn is_generated(folder: &str) -> bool {
    folder.starts_with('.') || ["target", "__pycache__", "node_modules"].contains(&folder)
}

/// Build directories and Python environments of any name: their makers put a file there.
fn is_marked_generated(folder: &Path) -> bool {
    [".rustc_info.json", "CACHEDIR.TAG", "pyvenv.cfg"].iter().any(|mark| folder.join(mark).exists())
}

/// What people read and write.
fn is_source(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|name| ["rs", "py", "toml", "md", "proto", "sh"].contains(&name))
}

/// Bytes that no file here has use for.
const BYTES_MAX: u64 = 1 << 20;

/// What was not meant to be here, mostly: once in the history it is in every clone.
fn too_large(file: &Path, bytes: u64) -> Option<String> {
    let megabytes = bytes >> 20;
    (bytes > BYTES_MAX).then(|| {
        format!("{}: {megabytes} MiB: take it out, or make it when it is needed", file.display())
    })
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
        let sources: Vec<_> = found.iter().filter(|path| is_source(path)).collect();
        assert_eq!(sources, [&root.path().join("a/c.md"), &root.path().join("b.rs")]);
    }

    #[test]
    fn a_dump_is_not_left_lying_about() {
        assert_eq!(too_large(Path::new("model.onnx"), BYTES_MAX), None);
        let complaint = too_large(Path::new("core"), 109 << 20).unwrap();
        assert!(complaint.starts_with("core: 109 MiB"), "{complaint}");
    }
}
