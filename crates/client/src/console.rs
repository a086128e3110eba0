//! What commands print to the person who started them, on standard output.

use anyhow::Result;
use std::io::{ErrorKind, Write as _};

/// Prints a text as it is. A reader that has read enough, such as `head`, is no error.
///
/// # Errors
/// The text cannot be written.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line.
///
/// # Errors
/// The line cannot be written.
pub fn print_line(line: impl std::fmt::Display) -> Result<()> {
    print(&format!("{line}\n"))
}
