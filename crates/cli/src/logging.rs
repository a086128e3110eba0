//! Where log lines go: to standard error, as text or as one JSON object per line.

use crate::args::LogFormat;
use crate::config::LogConfig;
use std::io::{self, IsTerminal};

/// Sends the process's log lines to standard error from now on.
pub(crate) fn start(config: LogConfig) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_ansi(io::stderr().is_terminal())
        // Complaining of a log that cannot be written, to where it cannot be written, would end
        // the thread that logs.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match config.format {
        LogFormat::Text => lines.with_target(false).init(),
        // Fields stay in an object of their own: some library's may be called `level`, too.
        LogFormat::Json => lines.json().with_current_span(false).init(),
    }
}
