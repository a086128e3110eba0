//! Outputs of a batch, given to its requests.

use super::super::{Part, split};
use bytes::Bytes;
use symphony_wire::tensor::{
    DataType, Dim, OpenDimension, OutputTensor, Signature, TensorSpec, bytes_contents,
};

/// A model with one input of rows, and one output.
fn signature(datatype: DataType, output: &[Dim]) -> Signature {
    let inputs = vec![TensorSpec::of_rows("x", DataType::Uint8, &[])];
    Signature::fixed(inputs, vec![TensorSpec::new("y", datatype, output.to_vec())])
}

fn output(shape: &[usize], data: &[u8]) -> OutputTensor {
    OutputTensor { shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
}

/// Requests of so many rows and such a size along the padded dimension.
fn parts<const N: usize>(parts: [(u32, usize); N]) -> [Part; N] {
    parts.map(|(rows, length)| Part { rows, length })
}

fn rows<const N: usize>(rows: [u32; N]) -> [Part; N] {
    rows.map(|rows| Part { rows, length: 0 })
}

fn firsts(split: Vec<Vec<OutputTensor>>) -> Vec<OutputTensor> {
    split.into_iter().map(|mut outputs| outputs.remove(0)).collect()
}

#[test]
fn outputs_are_split_by_rows_without_a_copy() {
    let whole = output(&[3, 2], &[1, 2, 3, 4, 5, 6]);
    let address = whole.data.as_ptr();
    let signature = signature(DataType::Uint8, &[Dim::Batch, Dim::Fixed(2)]);
    let split = firsts(split(&signature, vec![whole], &rows([2, 1])).unwrap());
    assert_eq!(split, [output(&[2, 2], &[1, 2, 3, 4]), output(&[1, 2], &[5, 6])]);
    assert_eq!(split[0].data.as_ptr(), address);
}

#[test]
fn string_outputs_are_split_at_their_elements() {
    let whole = bytes_contents([b"a".as_slice(), b"", b"bcd", b"e"]);
    let whole = || vec![output(&[2, 2], &whole)];
    let of = |elements: [&[u8]; 2]| Bytes::from(bytes_contents(elements));
    let first = signature(DataType::Bytes, &[Dim::Batch, Dim::Fixed(2)]);
    let split_first = firsts(split(&first, whole(), &rows([1, 1])).unwrap());
    assert_eq!(split_first[0].data, of([b"a", b""]));
    assert_eq!(split_first[1].data, of([b"bcd", b"e"]));
    let second = signature(DataType::Bytes, &[Dim::Fixed(2), Dim::Batch]);
    let split_second = firsts(split(&second, whole(), &rows([1, 1])).unwrap());
    assert_eq!(split_second[0].data, of([b"a", b"bcd"]));
    assert_eq!((&split_second[1].data, &split_second[1].shape), (&of([b"", b"e"]), &vec![2, 1]));
}

#[test]
fn outputs_are_cut_back_to_the_size_of_each_request() {
    let shape = [Dim::Fixed(2), Dim::Batch, Dim::Open(0)];
    let mut signature = signature(DataType::Uint8, &shape);
    signature.dimensions = vec![OpenDimension { name: "length".to_owned(), max: 9 }];
    signature.padded = Some(0);
    let whole = output(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let split = split(&signature, vec![whole.clone()], &parts([(1, 3), (1, 2)])).unwrap();
    let expected = [output(&[2, 1, 3], &[1, 2, 3, 7, 8, 9]), output(&[2, 1, 2], &[4, 5, 10, 11])];
    assert_eq!(firsts(split), expected);
    let error = super::super::split(&signature, vec![whole], &parts([(1, 4), (1, 2)]));
    let text = "output \"y\" has shape [2, 2, 3] for a batch that is padded to 4";
    assert_eq!(error.unwrap_err().to_string(), text);
}

#[test]
fn outputs_without_a_batch_dimension_or_without_elements_go_to_every_request() {
    let scalar = signature(DataType::Uint8, &[]);
    let split_scalar = split(&scalar, vec![output(&[], &[7])], &rows([1, 2])).unwrap();
    assert_eq!(firsts(split_scalar), [output(&[], &[7]), output(&[], &[7])]);
    let none = signature(DataType::Fp32, &[Dim::Batch, Dim::Unknown, Dim::Fixed(7)]);
    let split_none = split(&none, vec![output(&[3, 0, 7], &[])], &rows([1, 2])).unwrap();
    assert_eq!(firsts(split_none), [output(&[1, 0, 7], &[]), output(&[2, 0, 7], &[])]);
    // A detector that finds nothing, one image at a time.
    let found = TensorSpec::new("y", DataType::Fp32, vec![Dim::Unknown, Dim::Fixed(7)]);
    let single = Signature::fixed(vec![], vec![found]);
    let split_single = split(&single, vec![output(&[0, 7], &[])], &rows([1])).unwrap();
    assert_eq!(firsts(split_single), [output(&[0, 7], &[])]);
}

#[test]
fn outputs_that_are_not_per_row_are_refused() {
    let batched = signature(DataType::Uint8, &[Dim::Batch, Dim::Fixed(2)]);
    let check = |signature: &Signature, outputs: Vec<OutputTensor>, parts: &[Part], text: &str| {
        assert_eq!(split(signature, outputs, parts).unwrap_err().to_string(), text);
    };
    let count = "the engine gave 0 outputs where the model has 1";
    check(&batched, vec![], &rows([1]), count);
    let one = || vec![output(&[1, 2], &[1, 2])];
    let two = "output \"y\" has shape [1, 2] for a batch of 2 rows";
    check(&batched, one(), &rows([1, 1]), two);
    let short = vec![output(&[2, 2], &[1, 2, 3])];
    check(&batched, short, &rows([1, 1]), "output \"y\" has less data than its shape says");
    let huge = vec![output(&[2, usize::MAX], &[1, 2, 3])];
    check(&batched, huge, &rows([1, 1]), "output \"y\" has less data than its shape says");
    let unbatched = Signature::fixed(vec![], batched.outputs.clone());
    let shared = "2 requests shared a batch of a model that has no batch dimension";
    check(&unbatched, one(), &rows([1, 1]), shared);
    assert_eq!(split(&unbatched, one(), &rows([1])).unwrap(), [one()]);
}
