//! Values that a model could see: what its inputs are called and what its graph does with them says
//! what is plausible. Trial runs and measurements use them, because an index beyond its table or a
//! mask of nothing but zeros shows nothing about a model.

use bytes::Bytes;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashMap;
use symphony_onnx::InputHints;
use symphony_wire::tensor::{DataType, Inputs, Signature, TensorSpec, bytes_contents};

/// The ways in which values are generated: each has other ranges for what is not known. The first
/// is the least demanding.
pub(crate) const WAYS: usize = 6;

/// By how much the rows of one set differ, so that whatever passes from one to another shows.
const MAGNITUDES: [f64; 5] = [1.0, 0.01, 30.0, 0.3, 5.0];

/// Ranges for whole numbers of which nothing is known, and for floats, by way.
const WHOLE: [(i64, i64); WAYS] = [(0, 1), (0, 9), (0, 255), (1, 3), (-20, 100), (0, 1000)];
const REAL: [(f64, f64); WAYS] =
    [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-4.0, 4.0), (0.0, 10.0)];

/// Values for a single number that all rows share, where the graph compares it with none: a flag, a
/// factor, a sample rate.
const SHARED: [i64; WAYS] = [1, 16_000, 8_000, 0, 2, 10];

/// Texts of which at least some mean something to most models.
const TEXTS: [&str; 6] = ["a", "the quick brown fox", "42", "Grüße, 世界", "0", ""];

/// What the elements of one input may be.
#[derive(Clone, Debug, PartialEq)]
enum Domain {
    /// Whatever its type allows, in the range of the way.
    Any,
    /// Whole numbers from 0 up to this one, exclusive.
    Below(i64),
    /// One of these, the same everywhere in the tensor; which of them depends on the way.
    OneOf(Vec<i64>),
    /// Ones, and zeros behind them in the last dimension.
    Mask,
    /// Whole numbers from 1 to the smallest size of an open dimension.
    Length,
    Texts(Vec<Vec<u8>>),
}

/// What the inputs of a model may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputValues {
    /// By the input's name. Of others nothing is known.
    domains: HashMap<String, Domain>,
}

impl InputValues {
    /// What the names of inputs and the graph say.
    pub(crate) fn of(signature: &Signature, hints: &HashMap<String, InputHints>) -> InputValues {
        let domain = |spec: &TensorSpec| {
            let hints = hints.get(&spec.name).cloned().unwrap_or_default();
            (spec.name.clone(), domain(spec, hints, signature.is_shared(spec)))
        };
        InputValues { domains: signature.inputs.iter().map(domain).collect() }
    }

    /// Generates requests of one row each, alike in magnitude, at these sizes of the open
    /// dimensions.
    #[must_use]
    pub fn rows(
        &self,
        signature: &Signature,
        sizes: &[usize],
        way: usize,
        count: usize,
        seed: u64,
    ) -> Vec<Inputs> {
        self.generate(signature, &vec![sizes.to_vec(); count], way, seed, |_| 1.0)
    }

    /// The same for rows that differ strongly in magnitude, one for each list of sizes.
    pub(crate) fn strong_rows(
        &self,
        signature: &Signature,
        sizes: &[Vec<usize>],
        way: usize,
        seed: u64,
    ) -> Vec<Inputs> {
        let magnitude = |row: usize| MAGNITUDES[row % MAGNITUDES.len()];
        self.generate(signature, sizes, way, seed, magnitude)
    }

    fn generate(
        &self,
        signature: &Signature,
        sizes: &[Vec<usize>],
        way: usize,
        seed: u64,
        magnitude: impl Fn(usize) -> f64,
    ) -> Vec<Inputs> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut rows: Vec<Inputs> = Vec::new();
        for (row, sizes) in sizes.iter().enumerate() {
            let tensors = signature.inputs.iter().enumerate().map(|(index, spec)| {
                if let Some(first) = rows.first().filter(|_| signature.is_shared(spec)) {
                    // All rows of a batch have it in common.
                    return first.tensors[index].clone();
                }
                if let Some(default) = &spec.default {
                    return default.clone();
                }
                let shape = signature.shape_of(spec, 1, sizes).unwrap_or_default();
                let smallest = sizes.iter().copied().min().unwrap_or(1);
                let made = Made { shape: &shape, way, magnitude: magnitude(row), smallest };
                self.tensor(spec, &made, &mut random)
            });
            let tensors = tensors.collect();
            rows.push(Inputs { rows: 1, sizes: sizes.clone(), tensors });
        }
        rows
    }

    fn tensor(&self, spec: &TensorSpec, made: &Made<'_>, random: &mut Pcg64Mcg) -> Bytes {
        let elements: usize = made.shape.iter().product();
        let domain = self.domains.get(&spec.name).unwrap_or(&Domain::Any);
        if spec.datatype == DataType::Bytes {
            return texts(domain, elements, made.way, random);
        }
        let last = made.shape.last().copied().unwrap_or(1).max(1);
        // A row's mask ends in one place; it is never empty.
        let cut = 1 + random.next_u32() as usize % last;
        let mut data = Vec::with_capacity(elements * spec.datatype.size().unwrap_or(1));
        for at in 0..elements {
            let number = match domain {
                Domain::Below(below) => whole(random, 0, (*below - 1).max(0)),
                Domain::OneOf(values) => values[made.way % values.len()] as f64,
                Domain::Mask => f64::from(u8::from(at % last < cut)),
                Domain::Length => whole(random, 1, i64::try_from(made.smallest).unwrap_or(1)),
                Domain::Any | Domain::Texts(_) => any(spec.datatype, made, random),
            };
            push(&mut data, spec.datatype, number);
        }
        data.into()
    }
}

/// What to make.
struct Made<'a> {
    shape: &'a [usize],
    way: usize,
    magnitude: f64,
    smallest: usize,
}

fn domain(spec: &TensorSpec, hints: InputHints, is_shared: bool) -> Domain {
    let name = spec.name.to_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let is_integer = matches!(spec.datatype, DataType::Int32 | DataType::Int64);
    if spec.datatype == DataType::Bytes {
        return Domain::Texts(hints.texts);
    }
    if is(&["mask"]) && spec.shape.len() > 1 {
        return Domain::Mask;
    }
    if !is_integer {
        return Domain::Any;
    }
    if let Some(below) = hints.below {
        return Domain::Below(below.max(1));
    }
    if is(&["type_id", "segment"]) {
        return Domain::Below(2);
    }
    let is_single = spec.shape.len() <= 1;
    if is_single && is(&["len", "size", "count"]) {
        return Domain::Length;
    }
    if !hints.compared.is_empty() || is_shared && is_single {
        let mut values = hints.compared;
        values.extend(SHARED);
        values.truncate(WAYS);
        return Domain::OneOf(values);
    }
    Domain::Any
}

fn texts(domain: &Domain, elements: usize, way: usize, random: &mut Pcg64Mcg) -> Bytes {
    let known: &[Vec<u8>] = match domain {
        Domain::Texts(texts) => texts,
        _ => &[],
    };
    let pick = |count: usize, random: &mut Pcg64Mcg| random.next_u32() as usize % count;
    let mut chosen: Vec<&[u8]> = Vec::with_capacity(elements);
    for _ in 0..elements {
        // Some models refuse texts that they do not know, and others know none.
        let from_known =
            !known.is_empty() && (way.is_multiple_of(2) || random.next_u32().is_multiple_of(2));
        chosen.push(if from_known {
            &known[pick(known.len(), random)]
        } else {
            TEXTS[pick(TEXTS.len(), random)].as_bytes()
        });
    }
    bytes_contents(chosen).into()
}

fn any(datatype: DataType, made: &Made<'_>, random: &mut Pcg64Mcg) -> f64 {
    match datatype {
        DataType::Bool => whole(random, 0, 1),
        DataType::Uint8 => whole(random, 0, 255),
        DataType::Int8 => whole(random, -128, 127),
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
            let (from, to) = REAL[made.way % WAYS];
            let unit = f64::from(random.next_u32()) / f64::from(u32::MAX);
            (from + unit * (to - from)) * made.magnitude
        }
        _ => {
            let (from, to) = WHOLE[made.way % WAYS];
            whole(random, from, to)
        }
    }
}

/// A whole number between two, both included.
fn whole(random: &mut Pcg64Mcg, from: i64, to: i64) -> f64 {
    let span = to.abs_diff(from).saturating_add(1);
    (i128::from(from) + i128::from(random.next_u64() % span)) as f64
}

/// Appends a number in the form of a type.
#[expect(clippy::cast_possible_truncation, reason = "generated numbers fit; others are cut")]
#[expect(clippy::cast_sign_loss, reason = "unsigned types get no negative numbers but by cutting")]
pub(crate) fn push(data: &mut Vec<u8>, datatype: DataType, number: f64) {
    match datatype {
        DataType::Bool => data.push(u8::from(number != 0.0)),
        DataType::Uint8 => data.push(number as u8),
        DataType::Int8 => data.extend((number as i8).to_le_bytes()),
        DataType::Uint16 => data.extend((number as u16).to_le_bytes()),
        DataType::Int16 => data.extend((number as i16).to_le_bytes()),
        DataType::Uint32 => data.extend((number as u32).to_le_bytes()),
        DataType::Int32 => data.extend((number as i32).to_le_bytes()),
        DataType::Uint64 => data.extend((number as u64).to_le_bytes()),
        DataType::Int64 => data.extend((number as i64).to_le_bytes()),
        DataType::Fp16 => data.extend(half::f16::from_f64(number).to_le_bytes()),
        DataType::Bf16 => data.extend(half::bf16::from_f64(number).to_le_bytes()),
        DataType::Fp32 => data.extend((number as f32).to_le_bytes()),
        DataType::Fp64 => data.extend(number.to_le_bytes()),
        DataType::Bytes => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_wire::tensor::{Dim, OpenDimension};

    fn numbers(data: &Bytes) -> Vec<i64> {
        data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn values_are_such_as_the_model_could_see() {
        let row = || vec![Dim::Batch, Dim::Open(0)];
        let spec = |name: &str, shape| TensorSpec::new(name, DataType::Int64, shape);
        let signature = Signature {
            inputs: vec![
                spec("ids", row()),
                spec("attention_mask", row()),
                spec("rate", vec![]),
                spec("lengths", vec![Dim::Batch]),
            ],
            dimensions: vec![OpenDimension { name: "sequence".to_owned(), max: 100 }],
            ..Signature::default()
        };
        let hints = HashMap::from([
            ("ids".to_owned(), InputHints { below: Some(30), ..InputHints::default() }),
            ("rate".to_owned(), InputHints { compared: vec![16000], ..InputHints::default() }),
        ]);
        let values = InputValues::of(&signature, &hints);
        for way in 0..WAYS {
            let rows = values.rows(&signature, &[12], way, 3, 7);
            for row in &rows {
                assert!(numbers(&row.tensors[0]).iter().all(|id| (0..30).contains(id)));
                let mask = numbers(&row.tensors[1]);
                assert!(mask[0] == 1 && mask.is_sorted_by(|a, b| a >= b), "{mask:?}");
                assert_eq!(row.tensors[2], rows[0].tensors[2], "all rows share it");
                assert!((1..=12).contains(&numbers(&row.tensors[3])[0]));
            }
        }
        let first = values.rows(&signature, &[12], 0, 1, 7);
        assert_eq!(numbers(&first[0].tensors[2]), [16000]);
    }
}
