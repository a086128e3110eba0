//! Bounds on the memory of one model's tensors. A file that asks for more is refused before
//! anything is allocated, because running out of memory ends the whole process.

use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec};

/// Bytes of one row over all inputs, or over all outputs as far as their shapes are declared.
pub(crate) const ROW_BYTES_MAX: u64 = 1 << 30;

/// The same bound for the largest batch.
pub(crate) const BATCH_BYTES_MAX: u64 = 4 << 30;

/// Bytes that an element takes in a buffer. The text of a string is bounded with the request that
/// carries it.
pub(crate) fn element_bytes(datatype: DataType) -> u64 {
    datatype.size().unwrap_or(size_of::<String>()) as u64
}

/// Bytes of one row, where an open dimension counts as the largest size it may have, and one that
/// is known only after a run as 1. Returns `None` when the number is too large to represent.
pub(crate) fn row_bytes(signature: &Signature, spec: &TensorSpec) -> Option<u64> {
    let element = element_bytes(spec.datatype);
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Open(index) => {
            signature.dimensions.get(usize::from(*index)).map_or(usize::MAX, |open| open.max)
        }
        Dim::Batch | Dim::Unknown => 1,
    };
    spec.shape.iter().map(|dim| size(dim) as u64).try_fold(element, u64::checked_mul)
}

/// Sums the sizes of inputs (or outputs) in order, for batches of up to `rows_max` rows, and
/// returns the position at which the sum exceeds a bound, with the bound in words. Returns `None`
/// when both bounds hold.
pub(crate) fn excess(
    signature: &Signature,
    specs: &[TensorSpec],
    rows_max: u32,
) -> Option<(usize, String)> {
    let mut row = 0u64;
    for (at, spec) in specs.iter().enumerate() {
        row = row_bytes(signature, spec).map_or(u64::MAX, |bytes| row.saturating_add(bytes));
        let largest = row.saturating_mul(u64::from(rows_max));
        if row > ROW_BYTES_MAX {
            return Some((at, format!("one row may take {} GiB at most", ROW_BYTES_MAX >> 30)));
        }
        // Where requests choose their sizes, batches of large ones are cut to the bound as they come.
        if largest > BATCH_BYTES_MAX && signature.dimensions.is_empty() {
            let most = BATCH_BYTES_MAX >> 30;
            let problem = format!("{rows_max} rows take more than {most} GiB: lower max_batch");
            return Some((at, problem));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_wire::tensor::Dim::{Fixed, Open, Unknown};
    use symphony_wire::tensor::OpenDimension;

    #[test]
    fn both_bounds_are_kept_and_nothing_overflows() {
        let open = OpenDimension { name: "length".to_owned(), max: 1 << 29 };
        let signature = Signature { dimensions: vec![open], ..Signature::default() };
        let check = |datatype, rows: &[&[Dim]], rows_max, expected| {
            let spec = |row: &&[Dim]| {
                let shape = std::iter::once(Dim::Batch).chain(row.iter().copied());
                TensorSpec::new("x", datatype, shape.collect())
            };
            let specs: Vec<_> = rows.iter().map(spec).collect();
            let found = excess(&signature, &specs, rows_max);
            let found = found.as_ref().map(|(at, problem)| (*at, problem.as_str()));
            assert_eq!(found, expected, "{specs:?}");
        };
        let row = "one row may take 1 GiB at most";
        check(DataType::Fp32, &[&[Fixed(1 << 28), Unknown]], 4, None);
        check(DataType::Fp32, &[&[Fixed((1 << 28) + 1)]], 1, Some((0, row)));
        check(DataType::Fp32, &[&[Fixed(1 << 28)], &[], &[Fixed(9)]], 1, Some((1, row)));
        check(DataType::Uint8, &[&[Fixed(usize::MAX), Fixed(usize::MAX)]], 1, Some((0, row)));
        check(DataType::Bytes, &[&[Fixed(1 << 26)]], 1, Some((0, row)));
        check(DataType::Uint8, &[&[Open(0)]], 1, None);
        check(DataType::Uint8, &[&[Open(0), Fixed(3)]], 1, Some((0, row)));
        // Where requests choose their sizes, the largest batch is not bounded here.
        check(DataType::Fp32, &[&[Fixed(1 << 28)]], 5, None);
        let fixed = Signature::default();
        let spec = TensorSpec::new("x", DataType::Fp32, vec![Dim::Batch, Fixed(1 << 28)]);
        let batch = "5 rows take more than 4 GiB: lower max_batch";
        assert_eq!(excess(&fixed, &[spec], 5), Some((0, batch.to_owned())));
    }
}
