//! Where log lines go: to standard error, as text or as one JSON object per line.

use crate::args::LogFormat;
use crate::config::LogConfig;
use crate::console::LogWriter;
use std::io::{self, IsTerminal};

/// What is worth reading beside the figures of a benchmark.
#[cfg(feature = "lab")]
pub(crate) const WARNINGS: LogConfig =
    LogConfig { format: LogFormat::Text, level: tracing::level_filters::LevelFilter::WARN };

/// Sends the process's log lines to standard error from now on.
pub(crate) fn start(config: LogConfig) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_ansi(io::stderr().is_terminal())
        // The complaint about a log that cannot be written would go where it cannot be written
        // either, and end the thread that logs.
        .log_internal_errors(false)
        .with_writer(|| LogWriter);
    match config.format {
        LogFormat::Text => lines.with_target(false).init(),
        // Fields stay in an object of their own: a library's field may be called `level`, too.
        LogFormat::Json => lines.json().with_current_span(false).init(),
    }
}
