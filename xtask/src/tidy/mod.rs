//! Checks that no compiler makes: each is a function from text or metadata to a list of complaints,
//! every complaint one line that names the place and what to do.

mod arrows;
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
    let files = source_files(&workspace.root)?;
    for path in &files {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {} as text", path.display()))?;
        let shown = path.strip_prefix(&workspace.root).unwrap_or(path);
        complaints.extend(text::check(shown, &text));
        if shown.extension().is_some_and(|extension| extension == "md") {
            let folder = path.parent().unwrap_or(&workspace.root);
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

/// Every file of ours that people read and write, in a fixed order.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
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
            } else if kind.is_file() && is_source(&name) {
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

fn is_source(file: &str) -> bool {
    [".rs", ".py", ".toml", ".md", ".proto", ".sh"].iter().any(|ending| file.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_files_leaves_out_what_is_generated() {
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
        let found = source_files(root.path()).unwrap();
        assert_eq!(found, [root.path().join("a/c.md"), root.path().join("b.rs")]);
    }
}
