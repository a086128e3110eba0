//! Checks that no compiler makes. Each is a function from text or metadata to a list of complaints;
//! each complaint is one line that names the place and says what to do.

mod arrows;
mod circles;
mod columns;
mod licences;
mod links;
mod text;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files::own_files;
use crate::source;
use crate::workspace::Workspace;

/// Runs every check and prints what it found; fails when there is anything.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let policy = licences::DependencyPolicy::read(&workspace.root.join("deny.toml"))?;
    let mut complaints = arrows::check(workspace);
    complaints.extend(circles::check(&source::read(workspace)?));
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

/// Whether people read and write the file.
fn is_source(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|name| ["rs", "py", "toml", "md", "proto", "sh"].contains(&name))
}

/// The largest size of a file, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Complains about large files, which are mostly mistakes. Once a file is in the history, it is in
/// every clone.
fn too_large(file: &Path, bytes: u64) -> Option<String> {
    let megabytes = bytes >> 20;
    (bytes > BYTES_MAX).then(|| {
        format!("{}: {megabytes} MiB: remove it, or generate it when it is needed", file.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_write_is_source() {
        let sources =
            ["a.rs", "b/c.md", "d.onnx", "LICENSE"].map(|path| is_source(Path::new(path)));
        assert_eq!(sources, [true, true, false, false]);
    }

    #[test]
    fn a_dump_is_not_left_lying_about() {
        assert_eq!(too_large(Path::new("model.onnx"), BYTES_MAX), None);
        let complaint = too_large(Path::new("core"), 109 << 20).unwrap();
        assert!(complaint.starts_with("core: 109 MiB"), "{complaint}");
    }
}
