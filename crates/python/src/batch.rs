//! What is run, and what comes of it.

use symphony_wire::tensor::OutputTensor;

/// A batch to run.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// In the signature's order.
    pub inputs: &'a [Input<'a>],
    /// The rows of each request, in their order. A model without a batch dimension has one request of
    /// one row.
    pub rows: &'a [u32],
}

impl Batch<'_> {
    pub(crate) fn rows_in_all(&self) -> u32 {
        self.rows.iter().fold(0, |sum: u32, rows| sum.saturating_add(*rows))
    }
}

/// One input of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its full shape, with all rows.
    pub shape: &'a [usize],
    /// Its contents. Where they lie in a [buffer](crate::PythonWorker::buffer) of the worker the script sees
    /// them there, and may change them; others are copied into one.
    pub contents: &'a [u8],
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// In the signature's order, over all rows, where the process wrote them; it gets the memory back
    /// when they are dropped. Rows of requests that failed are zeros. Empty if all requests failed.
    pub outputs: Vec<OutputTensor>,
    /// Requests that failed by themselves, and why. Only models written for Triton have such.
    pub failed: Vec<(usize, String)>,
}
