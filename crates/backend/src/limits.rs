//! Bounds on the memory of one model's tensors. A file that asks for more is refused before
//! anything is allocated, because running out of memory ends the whole process.

use symphony_wire::tensor::TensorSpec;

/// Bytes of one row over all inputs, or over all outputs as far as their shapes are declared.
pub(crate) const ROW_BYTES_MAX: u64 = 1 << 30;

/// The same bound for the largest batch.
pub(crate) const BATCH_BYTES_MAX: u64 = 4 << 30;

/// Bytes of one row, where a dimension that is not fixed counts as 1. Returns `None` when the
/// number is too large to represent.
pub(crate) fn row_bytes(spec: &TensorSpec) -> Option<u64> {
    // The text of a string is bounded with the request that carries it.
    let element = spec.datatype.size().unwrap_or(size_of::<String>()) as u64;
    let mut dims = spec.row_shape.iter().map(|dim| dim.unwrap_or(1) as u64);
    dims.try_fold(element, u64::checked_mul)
}

/// Sums the sizes of inputs (or outputs) in order, for batches of up to `rows_max` rows, and
/// returns the position at which the sum exceeds a bound, with the bound in words. Returns `None`
/// when both bounds hold.
pub(crate) fn excess(specs: &[TensorSpec], rows_max: u32) -> Option<(usize, String)> {
    let mut row = 0u64;
    for (at, spec) in specs.iter().enumerate() {
        row = row_bytes(spec).map_or(u64::MAX, |bytes| row.saturating_add(bytes));
        let largest = row.saturating_mul(u64::from(rows_max));
        if row > ROW_BYTES_MAX {
            return Some((at, format!("one row may take {} GiB at most", ROW_BYTES_MAX >> 30)));
        }
        if largest > BATCH_BYTES_MAX {
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
    use symphony_wire::tensor::DataType;

    #[test]
    fn both_bounds_are_kept_and_nothing_overflows() {
        let check = |datatype, rows: &[&[Option<usize>]], rows_max, expected| {
            let spec = |row: &&[Option<usize>]| TensorSpec {
                name: "x".to_owned(),
                datatype,
                row_shape: row.to_vec(),
            };
            let specs: Vec<_> = rows.iter().map(spec).collect();
            let found = excess(&specs, rows_max);
            let found = found.as_ref().map(|(at, problem)| (*at, problem.as_str()));
            assert_eq!(found, expected, "{specs:?}");
        };
        let row = "one row may take 1 GiB at most";
        check(DataType::Fp32, &[&[Some(1 << 28), None]], 4, None);
        check(DataType::Fp32, &[&[Some((1 << 28) + 1)]], 1, Some((0, row)));
        check(DataType::Fp32, &[&[Some(1 << 28)], &[], &[Some(9)]], 1, Some((1, row)));
        check(DataType::Uint8, &[&[Some(usize::MAX), Some(usize::MAX)]], 1, Some((0, row)));
        check(DataType::Bytes, &[&[Some(1 << 26)]], 1, Some((0, row)));
        let batch = "5 rows take more than 4 GiB: lower max_batch";
        check(DataType::Fp32, &[&[Some(1 << 28)]], 5, Some((0, batch)));
    }
}
