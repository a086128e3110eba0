//! Recorded arrivals instead of generated ones.
//!
//! - [`Jsonl`]: one request per line, streamed.
//! - [`Azure`]: the layout of the Azure Functions trace of 2019, with counts per function and
//!   minute.

mod azure;
mod jsonl;

pub use azure::{Azure, AzureArrivals};
pub use jsonl::Jsonl;

use crate::Arrival;
use std::path::PathBuf;

/// An error in a trace file, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {fault}", path.display(), at(*line))]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1. Zero when no line could be read.
    pub line: u64,
    /// The error.
    pub fault: TraceFault,
}

/// The line, if there is one.
fn at(line: u64) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

/// An error in a line of a trace file.
#[derive(Debug, thiserror::Error)]
pub enum TraceFault {
    /// The file cannot be read.
    #[error("cannot read the trace: {0}")]
    Read(#[from] std::io::Error),
    /// A line that is longer than any request can be.
    #[error("a line of more than {max} bytes: this is not a trace")]
    LineLength {
        /// The bound.
        max: u64,
    },
    /// A line that is not the expected JSON.
    #[error(
        "{0}; each line must be complete and look like \
         {{\"time_ms\": 12.5, \"model\": \"resnet50\"}}, with \"rows\" if it is not 1"
    )]
    Json(serde_json::Error),
    /// A time outside of what can be simulated.
    #[error("the time is {time_ms} ms: it must lie between 0 and {max} ms")]
    Time {
        /// The value in the file.
        time_ms: f64,
        /// The latest time that is allowed.
        max: f64,
    },
    /// An arrival before the previous one.
    #[error("the time {time_ms} ms comes after {before_ms} ms: sort the trace by time")]
    Order {
        /// The value in the file.
        time_ms: f64,
        /// The time of the line before.
        before_ms: f64,
    },
    /// A model that the scenario does not have.
    #[error("unknown model `{model}`: the scenario has {known}")]
    Model {
        /// The value in the file.
        model: String,
        /// The models of the scenario.
        known: String,
    },
    /// A request without rows.
    #[error("a request of 0 rows: give it at least 1")]
    Rows,
    /// A header that is not the one of the Azure trace.
    #[error(
        "the header must be `HashOwner,HashApp,HashFunction,Trigger,1,2,…` with one column per \
         minute, numbered from 1; got `{0}`"
    )]
    Header(String),
    /// A row that does not match the header.
    #[error("{is} columns where the header has {expected}: the row is cut off or has too many")]
    Columns {
        /// The columns of this row.
        is: usize,
        /// The columns of the header.
        expected: usize,
    },
    /// A count that is not a number.
    #[error("minute {minute}: `{text}` is not a number of requests from 0 to 4294967295")]
    Count {
        /// The minute of the column, from 1.
        minute: usize,
        /// The value in the file.
        text: String,
    },
    /// A trace without any request.
    #[error("the trace has no requests")]
    Empty,
}

/// The arrivals of a reader up to its first error, which is kept. It is for consumers of plain
/// arrivals, which ask at the end how the reading ended.
#[derive(Debug)]
pub struct UntilError<I> {
    reader: I,
    error: Option<TraceError>,
}

impl<I> UntilError<I> {
    /// Reads from `reader`.
    pub fn new(reader: I) -> UntilError<I> {
        UntilError { reader, error: None }
    }

    /// Tells how the reading ended.
    ///
    /// # Errors
    /// The error that stopped it before the end of the trace.
    pub fn finish(self) -> Result<(), TraceError> {
        self.error.map_or(Ok(()), Err)
    }
}

impl<I: Iterator<Item = Result<Arrival, TraceError>>> Iterator for UntilError<I> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.error.is_some() {
            return None;
        }
        match self.reader.next()? {
            Ok(arrival) => Some(arrival),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Reads a line without its end into `line`. Returns `false` at the end of the file.
fn read_line(reader: &mut impl std::io::BufRead, line: &mut String) -> Result<bool, TraceFault> {
    use std::io::{BufRead, Read};
    line.clear();
    let mut bounded = reader.take(LINE_BYTES_MAX);
    let bytes = bounded.read_line(line)?;
    if bytes as u64 == LINE_BYTES_MAX && !line.ends_with('\n') {
        return Err(TraceFault::LineLength { max: LINE_BYTES_MAX });
    }
    line.truncate(line.trim_end().len());
    Ok(bytes > 0)
}
