//! What commands print to the person who started them: lines on standard output, and bars of what is
//! under way on standard error where that is a terminal.

use indicatif::MultiProgress;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::sync::LazyLock;

/// The bars that are shown now. Lines are printed above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Where bars are added. Without a terminal none is ever shown.
pub(crate) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Whether bars are seen by anybody.
pub(crate) fn shows_bars() -> bool {
    stderr().is_terminal()
}

/// Prints a line. A reader who has left or a disk that is full is no reason to end: a server has
/// requests to answer.
pub(crate) fn say(line: impl Display) {
    BARS.suspend(|| {
        let _ = writeln!(stdout(), "{line}");
    });
}

/// Standard error for the lines of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if shows_bars() { BARS.suspend(|| stderr().write(line)) } else { stderr().write(line) }
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
