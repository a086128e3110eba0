//! What commands print to the person who started them, on standard output.

use std::fmt::Display;
use std::io::{Write, stdout};

/// Prints a line. A reader who has left or a disk that is full is no reason to end: a server has
/// requests to answer.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}
