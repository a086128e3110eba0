//! From the outputs of a batch to the outputs of its requests.

use symphony_wire::tensor::{DataType, OutputTensor, Signature};

/// Splits the outputs of a batch into the outputs of its requests, in the order in which the
/// requests were added. `rows` holds the number of rows of each request. The results share the
/// memory of the batch.
///
/// # Errors
/// An output does not have one entry per row of the batch, so the model cannot be batched.
pub fn split(
    signature: &Signature,
    outputs: Vec<OutputTensor>,
    rows: &[u32],
) -> Result<Vec<Vec<OutputTensor>>, OutputError> {
    if outputs.len() != signature.outputs.len() {
        let expected = signature.outputs.len();
        return Err(OutputError::Count { expected, got: outputs.len() });
    }
    if !signature.is_batched() {
        return match rows {
            [_] => Ok(vec![outputs]),
            _ => Err(OutputError::Unbatched { requests: rows.len() }),
        };
    }
    let mut requests: Vec<_> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for (spec, output) in signature.outputs.iter().zip(outputs) {
        let total: usize = rows.iter().map(|&rows| rows as usize).sum();
        if output.shape.first() != Some(&total) {
            let (output, shape) = (spec.name.clone(), output.shape);
            return Err(OutputError::Rows { output, shape, rows: total });
        }
        let mut start = 0;
        for (request, &rows) in requests.iter_mut().zip(rows) {
            let mut shape = output.shape.clone();
            shape[0] = rows as usize;
            let elements = shape.iter().product();
            let length = length_of(&output.data[start..], spec.datatype, elements)
                .ok_or_else(|| OutputError::Length { output: spec.name.clone() })?;
            request.push(OutputTensor { shape, data: output.data.slice(start..start + length) });
            start += length;
        }
    }
    Ok(requests)
}

/// The number of bytes that the first `elements` elements of `data` take, or `None` when `data` is
/// shorter than that.
fn length_of(data: &[u8], datatype: DataType, elements: usize) -> Option<usize> {
    if let Some(size) = datatype.size() {
        return elements.checked_mul(size).filter(|&length| length <= data.len());
    }
    let mut at = 0;
    for _ in 0..elements {
        let (length, rest) = data.get(at..)?.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        rest.get(..length)?;
        at += 4 + length;
    }
    Some(at)
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
    /// The leading dimension of an output is not the number of rows in the batch.
    #[error("output {output:?} has shape {shape:?} for a batch of {rows} rows")]
    Rows {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rows of the batch.
        rows: usize,
    },
    /// An output has less data than its shape says.
    #[error("output {output:?} has less data than its shape says")]
    Length {
        /// The output.
        output: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use symphony_wire::tensor::{Dim, TensorSpec, bytes_contents};

    fn signature(datatype: DataType, row: &[usize], batched: bool) -> Signature {
        let batch = batched.then_some(Dim::Batch).into_iter();
        let shape: Vec<Dim> = batch.chain(row.iter().map(|&size| Dim::Fixed(size))).collect();
        let spec = |name: &str| TensorSpec::new(name, datatype, shape.clone());
        Signature::fixed(vec![spec("x")], vec![spec("y")])
    }

    fn output(shape: &[usize], data: &[u8]) -> OutputTensor {
        OutputTensor { shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn outputs_are_split_by_rows_without_a_copy() {
        let whole = output(&[3, 2], &[1, 2, 3, 4, 5, 6]);
        let address = whole.data.as_ptr();
        let parts = split(&signature(DataType::Uint8, &[2], true), vec![whole], &[2, 1]).unwrap();
        assert_eq!(parts[0], [output(&[2, 2], &[1, 2, 3, 4])]);
        assert_eq!(parts[1], [output(&[1, 2], &[5, 6])]);
        assert_eq!(parts[0][0].data.as_ptr(), address);
    }

    #[test]
    fn string_outputs_are_split_at_their_elements() {
        let whole = bytes_contents([b"a".as_slice(), b"", b"bcd", b"e"]);
        let signature = signature(DataType::Bytes, &[2], true);
        let parts = split(&signature, vec![output(&[2, 2], &whole)], &[1, 1]).unwrap();
        assert_eq!(parts[0][0].data, bytes_contents([b"a".as_slice(), b""]));
        assert_eq!(parts[1][0].data, bytes_contents([b"bcd".as_slice(), b"e"]));
    }

    #[test]
    fn outputs_that_are_not_per_row_are_refused() {
        let batched = signature(DataType::Uint8, &[2], true);
        let unbatched = signature(DataType::Uint8, &[2], false);
        let check =
            |signature: &Signature, outputs: Vec<OutputTensor>, rows: &[u32], text: &str| {
                assert_eq!(split(signature, outputs, rows).unwrap_err().to_string(), text);
            };
        check(&batched, vec![], &[1], "the engine gave 0 outputs where the model has 1");
        let one = || vec![output(&[1, 2], &[1, 2])];
        check(&batched, one(), &[1, 1], "output \"y\" has shape [1, 2] for a batch of 2 rows");
        let short = vec![output(&[2, 2], &[1, 2, 3])];
        check(&batched, short, &[1, 1], "output \"y\" has less data than its shape says");
        check(
            &unbatched,
            one(),
            &[1, 1],
            "2 requests shared a batch of a model that has no batch dimension",
        );
        assert_eq!(split(&unbatched, one(), &[1]).unwrap(), [one()]);
    }
}
