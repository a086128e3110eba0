//! What a model takes and gives: names, types, and shapes with dimensions that requests may choose.
//!
//! A shape has every dimension of the tensor in its order. One of them may be the **batch
//! dimension**, which counts rows, wherever it stands; others may be **open**: each request chooses
//! their sizes, and the same open dimension is the same number in all tensors of a request. Nothing
//! here knows a graph, a protocol or an engine.

use super::{DataType, Inputs};
use crate::message::serde_bytes;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

/// One dimension of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dim {
    /// Always of this size.
    Fixed(usize),
    /// Counts the rows of a request, or of a batch.
    Batch,
    /// Chosen by each request; the index in [`Signature::dimensions`].
    Open(u16),
    /// Known only after a run. Only outputs have such dimensions.
    Unknown,
}

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// All dimensions, in order. An input without a batch dimension, of a model that has one, is
    /// *shared*: one value for all rows of a batch.
    pub shape: Vec<Dim>,
    /// The contents where a request leaves the input out: one row of it, or the whole of a shared
    /// one. `None` for an input that has to be given.
    #[serde(with = "serde_bytes::optional")]
    pub default: Option<Bytes>,
    /// The element, in its wire form, that padding is made of. `None` for an input that is never
    /// padded.
    #[serde(with = "serde_bytes::optional")]
    pub fill: Option<Bytes>,
    /// Whether a request may give one row of it beside any number of rows of the other inputs.
    pub broadcast: bool,
}

impl TensorSpec {
    /// An input that has to be given, or an output.
    #[must_use]
    pub fn new(name: impl Into<String>, datatype: DataType, shape: Vec<Dim>) -> TensorSpec {
        let name = name.into();
        TensorSpec { name, datatype, shape, default: None, fill: None, broadcast: false }
    }

    /// The same with a batch dimension first and a row of fixed shape behind it.
    #[must_use]
    pub fn of_rows(name: impl Into<String>, datatype: DataType, row: &[usize]) -> TensorSpec {
        let row = row.iter().map(|&size| Dim::Fixed(size));
        TensorSpec::new(name, datatype, std::iter::once(Dim::Batch).chain(row).collect())
    }

    /// Where the batch dimension stands.
    #[must_use]
    pub fn batch_axis(&self) -> Option<usize> {
        self.shape.iter().position(|dim| *dim == Dim::Batch)
    }

    /// The shape as the protocol shows it: -1 for every dimension that is not fixed.
    #[must_use]
    pub fn metadata_shape(&self) -> Vec<i64> {
        self.shape.iter().copied().map(metadata_size).collect()
    }

    /// The same without the batch dimension.
    #[must_use]
    pub fn metadata_row_shape(&self) -> Vec<i64> {
        let row = self.shape.iter().copied().filter(|dim| *dim != Dim::Batch);
        row.map(metadata_size).collect()
    }

    /// Elements in one row whose dimensions are all fixed. Returns `None` when one is not, or the
    /// product overflows.
    #[must_use]
    pub fn fixed_row_elements(&self) -> Option<usize> {
        self.elements(|dim| match dim {
            Dim::Fixed(size) => Some(size),
            Dim::Batch => Some(1),
            Dim::Open(_) | Dim::Unknown => None,
        })
    }

    /// Bytes in one row whose dimensions are all fixed. `None` as for
    /// [`fixed_row_elements`](Self::fixed_row_elements), and for BYTES.
    #[must_use]
    pub fn fixed_row_bytes(&self) -> Option<usize> {
        self.fixed_row_elements()?.checked_mul(self.datatype.size()?)
    }

    fn elements(&self, size: impl Fn(Dim) -> Option<usize>) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(size(*dim)?))
    }
}

fn metadata_size(dim: Dim) -> i64 {
    match dim {
        Dim::Fixed(size) => size.try_into().unwrap_or(-1),
        Dim::Batch | Dim::Open(_) | Dim::Unknown => -1,
    }
}

/// A dimension whose size each request chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDimension {
    /// Its name in the graph, or one that was made up for it.
    pub name: String,
    /// The largest size that is taken.
    pub max: usize,
}

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReadSignature")]
pub struct Signature {
    /// Inputs, in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// The open dimensions of the inputs.
    pub dimensions: Vec<OpenDimension>,
    /// The open dimension, if any, along which shorter requests are padded to the longest of their
    /// batch.
    pub padded: Option<u16>,
}

/// A signature as it was read, before anybody relies on its numbers.
#[derive(Deserialize)]
struct ReadSignature {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    dimensions: Vec<OpenDimension>,
    padded: Option<u16>,
}

/// An open dimension that a signature names and does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature names open dimension {index} and has {count}")]
pub struct NoSuchDimension {
    /// The dimension named.
    pub index: u16,
    /// How many there are.
    pub count: usize,
}

impl TryFrom<ReadSignature> for Signature {
    type Error = NoSuchDimension;

    fn try_from(read: ReadSignature) -> Result<Signature, NoSuchDimension> {
        let ReadSignature { inputs, outputs, dimensions, padded } = read;
        let count = dimensions.len();
        let shapes = inputs.iter().chain(&outputs).flat_map(|spec| &spec.shape);
        let open = shapes.filter_map(|dim| match dim {
            Dim::Open(index) => Some(*index),
            Dim::Fixed(_) | Dim::Batch | Dim::Unknown => None,
        });
        match open.chain(padded).find(|index| usize::from(*index) >= count) {
            Some(index) => Err(NoSuchDimension { index, count }),
            None => Ok(Signature { inputs, outputs, dimensions, padded }),
        }
    }
}

impl Signature {
    /// A signature without open dimensions.
    #[must_use]
    pub fn fixed(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs, outputs, ..Signature::default() }
    }

    /// Whether any input has a batch dimension. Without one, a request is one row, and batches hold
    /// one request.
    #[must_use]
    pub fn is_batched(&self) -> bool {
        self.inputs.iter().any(|spec| spec.batch_axis().is_some())
    }

    /// Whether every input and output has the batch dimension, and has it first, as protocols take
    /// for granted that know only one place for it.
    #[must_use]
    pub fn is_batch_first(&self) -> bool {
        let mut specs = self.inputs.iter().chain(&self.outputs);
        self.is_batched() && specs.all(|spec| spec.batch_axis() == Some(0))
    }

    /// Whether all rows of a batch share an input: it has no batch dimension, and others have one.
    #[must_use]
    pub fn is_shared(&self, input: &TensorSpec) -> bool {
        input.batch_axis().is_none() && self.is_batched()
    }

    /// Whether a dimension is the padded one.
    #[must_use]
    pub fn is_padded(&self, dim: Dim) -> bool {
        matches!(dim, Dim::Open(index) if self.padded == Some(index))
    }

    /// The shape of one of its tensors for so many rows, and the sizes of the open dimensions.
    /// Returns `None` when a dimension is known only after a run.
    #[must_use]
    pub fn shape_of(&self, spec: &TensorSpec, rows: u32, sizes: &[usize]) -> Option<Vec<usize>> {
        spec.shape.iter().map(|dim| size_of(*dim, rows, sizes)).collect()
    }

    /// Elements of one of its tensors. Returns `None` when a dimension is known only after a run, or
    /// the product overflows.
    #[must_use]
    pub fn elements_of(&self, spec: &TensorSpec, rows: u32, sizes: &[usize]) -> Option<usize> {
        spec.elements(|dim| size_of(dim, rows, sizes))
    }

    /// The largest size of every open dimension.
    #[must_use]
    pub fn sizes_max(&self) -> Vec<usize> {
        self.dimensions.iter().map(|dimension| dimension.max).collect()
    }

    /// Input elements of one row at these sizes of the open dimensions, which is what the time of a
    /// request depends on. A number too large to represent counts as the largest.
    #[must_use]
    pub fn size(&self, sizes: &[usize]) -> u64 {
        let elements = self.inputs.iter().map(|spec| self.elements_of(spec, 1, sizes));
        elements.fold(0, |sum: u64, elements| {
            sum.saturating_add(elements.map_or(u64::MAX, |elements| elements as u64))
        })
    }

    /// Whether requests can differ in form at all.
    #[must_use]
    pub fn has_forms(&self) -> bool {
        let open = self.dimensions.len() > usize::from(self.padded.is_some());
        self.is_batched() && (open || self.inputs.iter().any(|spec| spec.batch_axis().is_none()))
    }

    /// What has to be equal for two requests to share a batch, as a number: the sizes of open
    /// dimensions that are not padded, and the contents of shared inputs. Zero for a model whose
    /// requests are all of one form. Requests of equal numbers may still differ: see
    /// [`is_of_form`](Self::is_of_form).
    #[must_use]
    pub fn form(&self, inputs: &Inputs) -> u64 {
        if !self.has_forms() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        for part in self.form_parts(inputs) {
            part.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether two requests may share a batch: exactly what [`form`](Self::form) makes a number of
    /// is equal.
    #[must_use]
    pub fn is_of_form(&self, one: &Inputs, other: &Inputs) -> bool {
        !self.has_forms() || self.form_parts(one).eq(self.form_parts(other))
    }

    fn form_parts<'a>(&'a self, inputs: &'a Inputs) -> impl Iterator<Item = FormPart<'a>> {
        let sizes = (0u16..).zip(&inputs.sizes);
        let sizes = sizes.filter(|(index, _)| self.padded != Some(*index));
        let tensors = self.inputs.iter().zip(&inputs.tensors);
        let shared = tensors.filter(|(spec, _)| spec.batch_axis().is_none());
        let sizes = sizes.map(|(_, size)| FormPart::Size(*size));
        sizes.chain(shared.map(|(_, data)| FormPart::Shared(data)))
    }
}

fn size_of(dim: Dim, rows: u32, sizes: &[usize]) -> Option<usize> {
    match dim {
        Dim::Fixed(size) => Some(size),
        Dim::Batch => Some(rows as usize),
        Dim::Open(index) => sizes.get(usize::from(index)).copied(),
        Dim::Unknown => None,
    }
}

/// One of the things that requests of one form have in common.
#[derive(PartialEq, Hash)]
enum FormPart<'a> {
    Size(usize),
    Shared(&'a [u8]),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x [batch, a, 2]`, padded along `a`; `state [2, batch, b]`; `rate []`, shared.
    fn signature() -> Signature {
        let dimension = |name: &str| OpenDimension { name: name.to_owned(), max: 9 };
        Signature {
            inputs: vec![
                TensorSpec::new("x", DataType::Fp32, vec![Dim::Batch, Dim::Open(0), Dim::Fixed(2)]),
                TensorSpec::new(
                    "state",
                    DataType::Fp32,
                    vec![Dim::Fixed(2), Dim::Batch, Dim::Open(1)],
                ),
                TensorSpec::new("rate", DataType::Int64, vec![]),
            ],
            outputs: vec![TensorSpec::new("y", DataType::Fp32, vec![Dim::Batch, Dim::Unknown])],
            dimensions: vec![dimension("a"), dimension("b")],
            padded: Some(0),
        }
    }

    fn request(sizes: [usize; 2], rate: u8) -> Inputs {
        let rate = Bytes::copy_from_slice(&[rate, 0, 0, 0, 0, 0, 0, 0]);
        Inputs { rows: 1, sizes: sizes.to_vec(), tensors: vec![Bytes::new(), Bytes::new(), rate] }
    }

    #[test]
    fn shapes_follow_rows_and_sizes() {
        let signature = signature();
        let [x, state, rate] = &signature.inputs[..] else { panic!("three inputs") };
        assert_eq!(signature.shape_of(x, 3, &[5, 7]), Some(vec![3, 5, 2]));
        assert_eq!(signature.shape_of(state, 3, &[5, 7]), Some(vec![2, 3, 7]));
        assert_eq!(signature.shape_of(rate, 3, &[5, 7]), Some(vec![]));
        assert_eq!(signature.shape_of(&signature.outputs[0], 3, &[5, 7]), None);
        assert_eq!(state.batch_axis(), Some(1));
        assert_eq!(
            (state.metadata_shape(), state.metadata_row_shape()),
            (vec![2, -1, -1], vec![2, -1])
        );
        assert!(signature.is_shared(rate) && !signature.is_shared(x));
        assert!(signature.is_batched() && !signature.is_batch_first());
        assert_eq!(signature.size(&[5, 7]), 10 + 14 + 1);
        assert_eq!(signature.size(&signature.sizes_max()), 18 + 18 + 1);
    }

    #[test]
    fn requests_are_of_one_form_when_what_is_not_padded_is_equal() {
        let signature = signature();
        let of_form = |one: &Inputs, other: &Inputs| {
            let equal = signature.is_of_form(one, other);
            assert_eq!(equal, signature.form(one) == signature.form(other));
            equal
        };
        assert!(of_form(&request([1, 2], 3), &request([5, 2], 3)), "padding evens it out");
        assert!(!of_form(&request([1, 2], 3), &request([1, 3], 3)), "an open dimension differs");
        assert!(!of_form(&request([1, 2], 3), &request([1, 2], 4)), "a shared value differs");
        let plain = Signature::fixed(vec![TensorSpec::of_rows("x", DataType::Int8, &[2])], vec![]);
        assert_eq!(plain.form(&Inputs::fixed(1, vec![Bytes::from_static(&[1, 2])])), 0);
        assert!(!plain.has_forms() && plain.is_batch_first());
    }

    #[test]
    fn sizes_do_not_overflow() {
        let shape = vec![Dim::Fixed(usize::MAX), Dim::Fixed(2)];
        let spec = TensorSpec::new("x", DataType::Fp64, shape);
        assert_eq!((spec.fixed_row_elements(), spec.fixed_row_bytes()), (None, None));
        assert_eq!(Signature::fixed(vec![spec], vec![]).size(&[]), u64::MAX);
    }
}
