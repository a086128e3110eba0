//! From the outputs of a batch to the outputs of its requests.

use symphony_wire::tensor::{ElementBytes, OutputTensor, Runs, Signature, TensorSpec, elements_in};

/// What of a batch belongs to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rows along the batch dimension.
    pub rows: u32,
    /// Size along the padded dimension; zero where the model has none.
    pub length: usize,
}

/// Splits the outputs of a batch into the outputs of its requests, in the order in which they were
/// assembled. Each gets its rows, cut back to its own size along the padded dimension; an output
/// without a batch dimension belongs to all of them. Where the elements of a request lie together,
/// its output shares the memory of the batch.
///
/// # Errors
/// An output does not have one entry per row of the batch, so the model cannot be batched.
pub fn split(
    signature: &Signature,
    outputs: Vec<OutputTensor>,
    parts: &[Part],
) -> Result<Vec<Vec<OutputTensor>>, OutputError> {
    if outputs.len() != signature.outputs.len() {
        let expected = signature.outputs.len();
        return Err(OutputError::Count { expected, got: outputs.len() });
    }
    if !signature.is_batched() {
        return match parts {
            [_] => Ok(vec![outputs]),
            _ => Err(OutputError::Unbatched { requests: parts.len() }),
        };
    }
    let whole = Part {
        rows: parts.iter().map(|part| part.rows).sum(),
        length: parts.iter().map(|part| part.length).max().unwrap_or(0),
    };
    let mut requests: Vec<_> = parts.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for (spec, output) in signature.outputs.iter().zip(outputs) {
        let output = BatchOutput::new(signature, spec, output, whole)?;
        let mut row = 0;
        for (request, part) in requests.iter_mut().zip(parts) {
            request.push(output.part(row, *part));
            row += part.rows as usize;
        }
    }
    Ok(requests)
}

/// One output of a whole batch.
struct BatchOutput {
    output: OutputTensor,
    axis: Option<usize>,
    /// The padded dimensions.
    padded: Vec<usize>,
    bytes: ElementBytes,
}

impl BatchOutput {
    /// Checks that an output is what a batch of this size has to give.
    fn new(
        signature: &Signature,
        spec: &TensorSpec,
        output: OutputTensor,
        whole: Part,
    ) -> Result<BatchOutput, OutputError> {
        let axis = spec.batch_axis();
        let padded: Vec<usize> =
            (0..spec.shape.len()).filter(|&axis| signature.is_padded(spec.shape[axis])).collect();
        let has = |axis: usize, size: usize| output.shape.get(axis) == Some(&size);
        if axis.is_some_and(|axis| !has(axis, whole.rows as usize)) {
            let (output, shape) = (spec.name.clone(), output.shape);
            return Err(OutputError::Rows { output, shape, rows: whole.rows as usize });
        }
        if padded.iter().any(|&axis| !has(axis, whole.length)) {
            let (output, shape) = (spec.name.clone(), output.shape);
            return Err(OutputError::Padded { output, shape, length: whole.length });
        }
        let bytes = elements_in(&output.shape)
            .and_then(|elements| ElementBytes::new(&output.data, spec.datatype, elements))
            .ok_or_else(|| OutputError::Length { output: spec.name.clone() })?;
        Ok(BatchOutput { output, axis, padded, bytes })
    }

    /// What belongs to a request, whose first row is this one.
    fn part(&self, row: usize, part: Part) -> OutputTensor {
        let mut shape = self.output.shape.clone();
        for &axis in &self.padded {
            shape[axis] = part.length;
        }
        if let Some(axis) = self.axis {
            shape[axis] = part.rows as usize;
        }
        let runs = if self.axis.unwrap_or(0) == 0 && shape.get(1..) == self.output.shape.get(1..) {
            let row_elements: usize = shape.iter().skip(1).product();
            let start = if self.axis.is_some() { row * row_elements } else { 0 };
            Runs::one(start, shape.iter().product())
        } else {
            let mut at = vec![0; shape.len()];
            if let Some(axis) = self.axis {
                at[axis] = row;
            }
            Runs::of_box(&self.output.shape, &shape, &at)
        };
        let data = self.bytes.cut(&self.output.data, runs);
        OutputTensor { shape, data }
    }
}

/// Why the outputs of a batch cannot be given to its requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The number of tensors differs from the number of outputs.
    #[error("the engine gave {got} outputs where the model has {expected}")]
    Count {
        /// Outputs of the model.
        expected: usize,
        /// Outputs the engine gave.
        got: usize,
    },
    /// A model without a batch dimension ran several requests at once.
    #[error("{requests} requests shared a batch of a model that has no batch dimension")]
    Unbatched {
        /// The number of requests.
        requests: usize,
    },
    /// The batch dimension of an output is not the number of rows in the batch.
    #[error("output {output:?} has shape {shape:?} for a batch of {rows} rows")]
    Rows {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rows of the batch.
        rows: usize,
    },
    /// The padded dimension of an output is not the size of the longest request of the batch.
    #[error("output {output:?} has shape {shape:?} for a batch that is padded to {length}")]
    Padded {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Size of the batch along the padded dimension.
        length: usize,
    },
    /// An output has less data than its shape says.
    #[error("output {output:?} has less data than its shape says")]
    Length {
        /// The output.
        output: String,
    },
}
