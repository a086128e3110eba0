//! Files that a command writes: refused early when they cannot be, and never left half written.

use super::input::BadInput;
use crate::plot::replace;
use anyhow::Result;
use std::path::Path;

/// Refuses a file before any work goes into it.
///
/// # Errors
/// Its ending is none of these, or its folder does not exist.
pub(super) fn check(path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !endings.contains(&ending) {
        let allowed = endings.join(" or .");
        return Err(BadInput::error(format!("{}: name it .{allowed}", path.display())));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(BadInput::error(format!("{}: there is no such folder", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Writes a text.
///
/// # Errors
/// The file cannot be written; then what was there before still is.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    replace(path, text.as_bytes())
}
