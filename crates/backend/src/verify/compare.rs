//! How far the outputs of two runs of the same rows lie apart.

use super::finding::Finding;
use half::{bf16, f16};
use symphony_wire::tensor::{DataType, OutputTensor, Signature, TensorSpec};

/// How many times as far as the engine differs by itself two results may lie apart.
const ROOM: f64 = 8.0;

/// The distance, relative to the largest value of an output, that is no difference: a few times the
/// precision of the type.
fn floor(datatype: DataType) -> f64 {
    match datatype {
        DataType::Fp16 => 4e-3,
        DataType::Bf16 => 3e-2,
        DataType::Fp32 | DataType::Fp64 => 2e-5,
        _ => 0.0,
    }
}

/// The distance by which an engine may differ between two forms of a graph.
fn tolerance(datatype: DataType) -> f64 {
    match datatype {
        DataType::Fp16 => 3e-2,
        DataType::Bf16 => 0.1,
        DataType::Fp32 | DataType::Fp64 => 1e-3,
        _ => 0.0,
    }
}

/// The distance beyond which copies of a row influence each other, whatever the engine does. A model
/// that normalises values that hardly differ enlarges rounding by as much.
fn ceiling(datatype: DataType) -> f64 {
    (20.0 * tolerance(datatype)).min(0.2)
}

/// A rounded activation may be off by a step of its 8 bits.
const QUANTIZED: f64 = 2e-2;

/// Distances by output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distances(Vec<f64>);

impl Distances {
    pub(super) fn zero(signature: &Signature) -> Distances {
        Distances(vec![0.0; signature.outputs.len()])
    }

    /// What another form of the same graph may differ by.
    pub(super) fn tolerated(signature: &Signature) -> Distances {
        Distances(signature.outputs.iter().map(|spec| tolerance(spec.datatype)).collect())
    }

    /// Takes the larger distances. The error says which shape differs.
    pub(super) fn add(
        &mut self,
        signature: &Signature,
        expected: &[OutputTensor],
        got: &[OutputTensor],
    ) -> Result<(), String> {
        let outputs = signature.outputs.iter().zip(expected.iter().zip(got));
        for (largest, (spec, (expected, got))) in self.0.iter_mut().zip(outputs) {
            *largest = distance(spec, expected, got)?.max(*largest);
        }
        Ok(())
    }

    /// What results may differ by, from what copies of a row differed by. Copies that differ by more
    /// than an engine can are not independent.
    pub(super) fn limit(
        self,
        signature: &Signature,
        quantized: bool,
    ) -> Result<Distances, Finding> {
        let mut limits = Vec::new();
        for (spec, noise) in signature.outputs.iter().zip(self.0) {
            let is_float = floor(spec.datatype) > 0.0;
            let least = if quantized && is_float { QUANTIZED } else { floor(spec.datatype) };
            let most = ceiling(spec.datatype).max(least);
            if noise > most {
                let text = format!(
                    "output {:?} of a row differs by {noise:.2e} when the batch holds copies of it",
                    spec.name
                );
                return Err(Finding::Dependent(text, noise));
            }
            limits.push((ROOM * noise).clamp(least, most));
        }
        Ok(Distances(limits))
    }
}

/// Outputs of rows, and by how much others may differ from them.
#[derive(Clone, Debug)]
pub(super) struct Expected<'a> {
    rows: Vec<&'a [OutputTensor]>,
    limits: Distances,
}

impl<'a> Expected<'a> {
    pub(super) fn new(rows: &'a [Vec<OutputTensor>], limits: Distances) -> Expected<'a> {
        Expected { rows: rows.iter().map(Vec::as_slice).collect(), limits }
    }

    /// The same rows in another order, as often as they stand in it.
    pub(super) fn in_order(&self, order: &[usize]) -> Expected<'a> {
        let rows = order.iter().map(|&at| self.rows[at]).collect();
        Expected { rows, limits: self.limits.clone() }
    }

    /// The largest difference beyond the limits, with where it is.
    pub(super) fn difference(
        &self,
        signature: &Signature,
        got: &[Vec<OutputTensor>],
    ) -> Option<(String, f64)> {
        let mut largest: Option<(String, f64)> = None;
        for (expected, got) in self.rows.iter().zip(got) {
            let outputs = signature.outputs.iter().zip(expected.iter().zip(got));
            for (limit, (spec, (expected, got))) in self.limits.0.iter().zip(outputs) {
                let (text, distance) = match distance(spec, expected, got) {
                    Err(text) => (text, f64::INFINITY),
                    Ok(distance) if distance.is_infinite() => {
                        (format!("output {:?} has other values", spec.name), distance)
                    }
                    Ok(distance) => {
                        let text = format!("output {:?} differs by {distance:.2e}", spec.name);
                        (text, distance)
                    }
                };
                let is_larger = largest.as_ref().is_none_or(|(_, before)| distance > *before);
                if distance > *limit && is_larger {
                    largest = Some((text, distance));
                }
            }
        }
        largest
    }
}

/// How far two outputs lie apart, relative to the largest expected value. Infinite for values that
/// cannot be near each other. The error says how the shapes differ.
fn distance(spec: &TensorSpec, expected: &OutputTensor, got: &OutputTensor) -> Result<f64, String> {
    if expected.shape != got.shape {
        let (name, expected, got) = (&spec.name, &expected.shape, &got.shape);
        return Err(format!("output {name:?} has shape {got:?} instead of {expected:?}"));
    }
    let equal = |is_equal| if is_equal { 0.0 } else { f64::INFINITY };
    let (expected, got) = (&expected.data, &got.data);
    Ok(match spec.datatype {
        DataType::Int8 | DataType::Uint8 => {
            // Rounding may go the other way by one step.
            let mut off = expected.iter().zip(got).map(|(a, b)| a.wrapping_sub(*b));
            equal(off.all(|off| matches!(off, 0 | 1 | 255)))
        }
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
            apart(&numbers(spec.datatype, expected), &numbers(spec.datatype, got))
        }
        _ => equal(expected == got),
    })
}

fn apart(expected: &[f64], got: &[f64]) -> f64 {
    let finite = expected.iter().copied().filter(|value| value.is_finite());
    let scale = finite.fold(f64::from(f32::MIN_POSITIVE), |most, value| value.abs().max(most));
    let each = expected.iter().zip(got).map(|(a, b)| {
        // Equal infinities are equal, and so are two values that are not numbers.
        if a == b || (a.is_nan() && b.is_nan()) {
            0.0
        } else if a.is_finite() && b.is_finite() {
            (a - b).abs() / scale
        } else {
            f64::INFINITY
        }
    });
    each.fold(0.0, f64::max)
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

    #[test]
    fn distances_are_relative_to_the_largest_value() {
        let check = |datatype, expected: &[u8], got: &[u8], far: f64| {
            let spec = TensorSpec::of_rows("y", datatype, &[]);
            let tensor = |data: &[u8]| OutputTensor {
                shape: vec![1],
                data: bytes::Bytes::copy_from_slice(data),
            };
            let found = distance(&spec, &tensor(expected), &tensor(got)).unwrap();
            let near = found == far || (found - far).abs() < 1e-6 * far;
            assert!(near, "{found} instead of {far}");
        };
        let fp32 = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let floats = |expected: &[f32], got: &[f32], far| {
            check(DataType::Fp32, &fp32(expected), &fp32(got), far);
        };
        floats(&[1000.0, 0.0], &[1001.0, -1.0], 1e-3);
        floats(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 0.0);
        floats(&[f32::INFINITY, 1.0], &[1.0, 1.0], f64::INFINITY);
        floats(&[1.0], &[f32::NAN], f64::INFINITY);
        check(DataType::Uint8, &[0, 7], &[255, 8], 0.0);
        check(DataType::Int8, &[7], &[9], f64::INFINITY);
        check(DataType::Int64, &[7], &[8], f64::INFINITY);
        check(DataType::Bytes, b"a", b"a", 0.0);
    }

    #[test]
    fn copies_of_a_row_set_the_limit_and_may_not_differ_by_much() {
        let output = TensorSpec::of_rows("y", DataType::Fp32, &[]);
        let signature = Signature::fixed(vec![], vec![output]);
        let limit = |noise, quantized| Distances(vec![noise]).limit(&signature, quantized);
        assert_eq!(limit(0.0, false), Ok(Distances(vec![2e-5])));
        assert_eq!(limit(1e-5, false), Ok(Distances(vec![8e-5])));
        assert_eq!(limit(0.0, true), Ok(Distances(vec![QUANTIZED])));
        assert!(limit(0.5, false).is_err());
    }
}
