//! Trial runs of a newly loaded model: whether several rows in one batch give the same results as
//! one by one, and which shapes the outputs have.
//!
//! The inputs are generated, so the trial finds errors of structure (a leading dimension that is
//! not a batch, rows that are mixed) and not of rounding.

use crate::engine::Executable;
use crate::profiling::sample_rows;
use crate::resident::{BatchError, Resident};
use half::{bf16, f16};
use std::sync::Arc;
use symphony_wire::tensor::{DataType, Dim, Inputs, OutputTensor, Signature};

/// How far results may differ, relative to the largest value in a row of an output. Batches sum in
/// another order, through many layers.
const TOLERANCE: f64 = 2e-3;

/// The same tolerance for 16-bit floats.
const TOLERANCE_HALF: f64 = 3e-2;

/// The same tolerance for models that quantise activations over the batch.
const TOLERANCE_QUANTIZED: f64 = 0.25;

/// The seed of the trial rows.
const SEED: u64 = 20_11;

/// The outputs of the trial rows, one by one.
pub(crate) type Reference = Vec<Vec<OutputTensor>>;

/// What to try with a batched model.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The largest batch that the configuration asks for.
    pub(crate) rows_max: u32,
    /// The expected outputs, if they are known from another form of the graph.
    pub(crate) reference: Option<Reference>,
    /// Whether the rows of a batch influence each other slightly by design.
    pub(crate) dynamic: bool,
}

/// The result of a trial.
pub(crate) enum Verdict {
    /// Batches give correct results.
    Batched {
        /// The signature with the output shapes that the trial observed.
        signature: Signature,
        /// The executables that were passed in.
        executables: Vec<Box<dyn Executable>>,
    },
    /// Batches fail or give wrong results. The text says how.
    Single(String),
}

/// Tries a model that has a batch dimension.
///
/// # Errors
/// The model fails on a single row.
pub(crate) fn batched(
    mut signature: Signature,
    executables: Vec<Box<dyn Executable>>,
    trial: Trial,
) -> Result<Verdict, BatchError> {
    let rows = sample_rows(&signature, &signature.sizes_max(), 2, SEED);
    let (mut resident, others) = first(&signature, 2, executables)?;
    let mut alone = Vec::new();
    for row in &rows {
        match resident.run(std::slice::from_ref(row)) {
            Ok(mut outputs) => alone.push(outputs.remove(0)),
            Err(BatchError::Output(error)) => return Ok(Verdict::Single(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    let limit = if trial.dynamic { TOLERANCE_QUANTIZED } else { 0.0 };
    let reference = trial.reference.as_ref();
    let changed = reference.and_then(|rows| difference(&signature, rows, &alone, limit));
    if let Some(difference) = changed {
        return Ok(Verdict::Single(format!("with an open batch dimension {difference}")));
    }
    if trial.rows_max > 1 {
        let together = match resident.run(&rows) {
            Ok(outputs) => outputs,
            Err(error) => return Ok(Verdict::Single(format!("a batch of two failed: {error}"))),
        };
        if let Some(difference) = difference(&signature, &alone, &together, limit) {
            return Ok(Verdict::Single(format!("in a batch {difference}")));
        }
        if trial.dynamic {
            tracing::warn!(
                "activations are quantised by the batch: results depend slightly on the other \
                 rows of a batch; set max_batch = 1 if they must not"
            );
        }
    }
    observe(&mut signature, &alone);
    Ok(Verdict::Batched { signature, executables: rejoin(resident, others) })
}

/// Tries a model that runs one request at a time. Returns its signature with the output shapes that
/// the trial observed.
///
/// # Errors
/// The model fails on a row.
pub(crate) fn single(
    mut signature: Signature,
    executables: Vec<Box<dyn Executable>>,
) -> Result<(Signature, Vec<Box<dyn Executable>>), BatchError> {
    let (mut resident, others) = first(&signature, 1, executables)?;
    let outputs =
        run_each(&mut resident, &sample_rows(&signature, &signature.sizes_max(), 2, SEED))?;
    observe(&mut signature, &outputs);
    Ok((signature, rejoin(resident, others)))
}

/// The outputs of a model that runs one request at a time, for the trial rows.
///
/// # Errors
/// The model fails on a row.
pub(crate) fn reference(
    signature: Signature,
    executables: Vec<Box<dyn Executable>>,
) -> Result<Reference, BatchError> {
    let (mut resident, _) = first(&signature, 1, executables)?;
    run_each(&mut resident, &sample_rows(&signature, &signature.sizes_max(), 2, SEED))
}

fn run_each(resident: &mut Resident, rows: &[Inputs]) -> Result<Reference, BatchError> {
    rows.iter().map(|row| Ok(resident.run(std::slice::from_ref(row))?.remove(0))).collect()
}

/// Makes the first executable ready to run and returns the others unchanged.
fn first(
    signature: &Signature,
    rows_max: u32,
    mut executables: Vec<Box<dyn Executable>>,
) -> Result<(Resident, Vec<Box<dyn Executable>>), BatchError> {
    assert!(!executables.is_empty(), "a model is loaded on at least one accelerator");
    let first = executables.remove(0);
    Ok((Resident::new(Arc::new(signature.clone()), rows_max, first)?, executables))
}

fn rejoin(first: Resident, mut others: Vec<Box<dyn Executable>>) -> Vec<Box<dyn Executable>> {
    others.insert(0, first.into_executable());
    others
}

/// Sets the output shapes. A dimension that differs between rows stays unknown.
fn observe(signature: &mut Signature, rows: &[Vec<OutputTensor>]) {
    for (index, spec) in signature.outputs.iter_mut().enumerate() {
        let mut seen = rows.iter().map(|outputs| &outputs[index].shape);
        let Some(first) = seen.next() else { continue };
        let mut shape: Vec<Dim> = first.iter().copied().map(Dim::Fixed).collect();
        for other in seen {
            for (dim, seen) in shape.iter_mut().zip(other) {
                if *dim != Dim::Fixed(*seen) {
                    *dim = Dim::Unknown;
                }
            }
        }
        if let Some(axis) = spec.batch_axis().filter(|&axis| axis < shape.len()) {
            shape[axis] = Dim::Batch;
        }
        spec.shape = shape;
    }
}

/// How two runs of the same rows differ, if they differ by more than rounding and `limit`.
fn difference(
    signature: &Signature,
    expected: &[Vec<OutputTensor>],
    got: &[Vec<OutputTensor>],
    limit: f64,
) -> Option<String> {
    for (expected, got) in expected.iter().zip(got) {
        for ((spec, expected), got) in signature.outputs.iter().zip(expected).zip(got) {
            let name = &spec.name;
            if expected.shape != got.shape {
                let (expected, got) = (&expected.shape, &got.shape);
                return Some(format!("output {name:?} has shape {got:?} instead of {expected:?}"));
            }
            if !is_close(spec.datatype, &expected.data, &got.data, limit) {
                return Some(format!("output {name:?} has other values for the same row"));
            }
        }
    }
    None
}

fn is_close(datatype: DataType, expected: &[u8], got: &[u8], limit: f64) -> bool {
    let tolerance = match datatype {
        DataType::Fp32 | DataType::Fp64 => TOLERANCE.max(limit),
        DataType::Fp16 | DataType::Bf16 => TOLERANCE_HALF.max(limit),
        // Rounding may go the other way by one step.
        DataType::Int8 | DataType::Uint8 => {
            let off = expected.iter().zip(got).map(|(a, b)| a.wrapping_sub(*b));
            return off.into_iter().all(|off| limit > 0.0 || matches!(off, 0 | 1 | 255));
        }
        _ => return limit > 0.0 || expected == got,
    };
    let (expected, got) = (numbers(datatype, expected), numbers(datatype, got));
    let scale = expected.iter().copied().filter(|v| v.is_finite()).fold(0.0, |a, v| v.abs().max(a));
    let room = tolerance * scale + f64::from(f32::MIN_POSITIVE);
    expected.iter().zip(&got).all(|(a, b)| {
        // Equal infinities pass, and so do two values that are not numbers.
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= room
    })
}

/// Floats of any width as numbers to compare.
fn numbers(datatype: DataType, data: &[u8]) -> Vec<f64> {
    match datatype {
        DataType::Fp16 => chunks(data).map(|b| f16::from_le_bytes(b).to_f64()).collect(),
        DataType::Bf16 => chunks(data).map(|b| bf16::from_le_bytes(b).to_f64()).collect(),
        DataType::Fp32 => chunks(data).map(|b| f64::from(f32::from_le_bytes(b))).collect(),
        _ => chunks(data).map(f64::from_le_bytes).collect(),
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use symphony_wire::tensor::TensorSpec;

    #[test]
    fn rounding_is_no_difference_and_anything_else_is() {
        let fp32 = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let check = |expected: &[f32], got: &[f32], limit: f64, close: bool| {
            let result = is_close(DataType::Fp32, &fp32(expected), &fp32(got), limit);
            assert_eq!(result, close, "{expected:?} {got:?}");
        };
        check(&[1000.0, 0.0], &[1001.0, -1.0], 0.0, true);
        check(&[1000.0, 0.0], &[1003.0, 0.0], 0.0, false);
        check(&[1000.0, 0.0], &[1003.0, 0.0], 0.25, true);
        check(&[0.0], &[1e-3], 0.0, false);
        check(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 0.0, true);
        check(&[f32::INFINITY, 1.0], &[1.0, 1.0], 0.25, false);
        check(&[1.0], &[f32::NAN], 0.25, false);
        let half = |value: f32| f16::from_f32(value).to_le_bytes();
        assert!(is_close(DataType::Fp16, &half(1.0), &half(1.02), 0.0));
        assert!(!is_close(DataType::Bf16, &half(1.0), &half(1.2), 0.0));
        assert!(is_close(DataType::Uint8, &[0, 7], &[255, 8], 0.0));
        assert!(!is_close(DataType::Int8, &[7], &[9], 0.0));
        assert!(!is_close(DataType::Int64, &[7], &[8], 0.0));
        assert!(is_close(DataType::Bytes, b"a", b"a", 0.0));
    }

    #[test]
    fn an_output_dimension_that_varies_stays_unknown() {
        let spec = TensorSpec::of_rows("y", DataType::Uint8, &[]);
        let mut signature = Signature::fixed(vec![], vec![spec]);
        let row =
            |shape: &[usize]| vec![OutputTensor { shape: shape.to_vec(), data: Bytes::new() }];
        observe(&mut signature, &[row(&[1, 4, 2]), row(&[1, 4, 3])]);
        assert_eq!(signature.outputs[0].shape, [Dim::Batch, Dim::Fixed(4), Dim::Unknown]);
    }
}
