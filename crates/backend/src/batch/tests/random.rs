//! Random models and requests: a batch holds every element of every request in its place, and what
//! comes back from it is what was sent. The reference goes element by element, by full positions.

use super::super::{Arena, Batch, Elements, Representation, split};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;
use symphony_wire::tensor::{
    DataType, Dim, Inputs, OpenDimension, OutputTensor, Signature, TensorSpec, bytes_contents,
    bytes_elements,
};

/// Open dimensions: the first is the same in all requests, the second is padded.
const FREE: u16 = 0;
const PADDED: u16 = 1;

#[derive(Clone, Debug)]
struct Model {
    signature: Arc<Signature>,
    free: usize,
}

#[derive(Clone, Debug)]
struct Asked {
    rows: u32,
    length: usize,
    /// By input, whether it is given with one row.
    one_row: Vec<bool>,
}

fn dim() -> impl Strategy<Value = Dim> {
    prop_oneof![
        3 => (0usize..4).prop_map(Dim::Fixed),
        1 => Just(Dim::Open(FREE)),
        2 => Just(Dim::Open(PADDED)),
    ]
}

fn input(name: String) -> impl Strategy<Value = TensorSpec> {
    let datatype = prop_oneof![Just(DataType::Int32), Just(DataType::Uint8), Just(DataType::Bytes)];
    let shape = (prop::collection::vec(dim(), 0..4), any::<prop::sample::Index>(), any::<bool>());
    (datatype, shape, any::<bool>()).prop_map(move |(datatype, shape, broadcast)| {
        let (mut dims, at, is_shared) = shape;
        if is_shared {
            // What is shared is equal, hence of the same size.
            dims.iter_mut().filter(|dim| **dim == Dim::Open(PADDED)).for_each(|dim| {
                *dim = Dim::Open(FREE);
            });
        } else {
            dims.insert(at.index(dims.len() + 1), Dim::Batch);
        }
        let fill = Some(Bytes::from(wire(datatype, u32::MAX)));
        let broadcast = broadcast && !is_shared;
        TensorSpec { fill, broadcast, ..TensorSpec::new(name.clone(), datatype, dims) }
    })
}

fn model() -> impl Strategy<Value = Model> {
    let first = TensorSpec::of_rows("rows", DataType::Int32, &[]);
    let inputs = (1usize..4).prop_flat_map(|count| {
        (0..count).map(|number| input(format!("x{number}"))).collect::<Vec<_>>()
    });
    (inputs, 0usize..4).prop_map(move |(mut inputs, free)| {
        inputs.push(first.clone());
        let dimension = |name: &str| OpenDimension { name: name.to_owned(), max: 8 };
        let dimensions = vec![dimension("free"), dimension("padded")];
        let outputs = inputs.clone();
        let signature = Signature { inputs, outputs, dimensions, padded: Some(PADDED) };
        Model { signature: Arc::new(signature), free }
    })
}

fn asked() -> impl Strategy<Value = Vec<Asked>> {
    let one = (1u32..4, 0usize..5, prop::collection::vec(any::<bool>(), 4));
    let one = one.prop_map(|(rows, length, one_row)| Asked { rows, length, one_row });
    prop::collection::vec(one, 1..5)
}

/// An element in its wire form, different for different numbers as far as its type allows.
fn wire(datatype: DataType, number: u32) -> Vec<u8> {
    match datatype {
        DataType::Uint8 => vec![number.to_le_bytes()[0]],
        DataType::Bytes => bytes_contents([format!("element {number}").as_bytes()]),
        _ => number.to_le_bytes().to_vec(),
    }
}

/// The elements of a batch's input in their wire form.
fn elements(input: &super::super::BatchInput<'_>) -> Vec<Vec<u8>> {
    match input.elements {
        Elements::Int32(values) => values.iter().map(|v| v.to_le_bytes().to_vec()).collect(),
        Elements::Uint8(values) => values.iter().map(|v| vec![*v]).collect(),
        Elements::Bytes(values) => elements_of(input.datatype, values),
        Elements::Raw(values) => values.iter().map(|v| bytes_contents([v.as_slice()])).collect(),
        other => panic!("{other:?}"),
    }
}

/// The elements of a tensor in their wire form.
fn elements_of(datatype: DataType, data: &[u8]) -> Vec<Vec<u8>> {
    match datatype.size() {
        Some(size) => data.chunks(size).map(<[u8]>::to_vec).collect(),
        None => bytes_elements(data).unwrap().into_iter().map(|e| bytes_contents([e])).collect(),
    }
}

/// Every position of a tensor, in row-major order.
fn positions(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |positions, &size| {
        let longer = |position: &Vec<usize>| {
            let position = position.clone();
            (0..size).map(move |index| [position.as_slice(), &[index]].concat())
        };
        positions.iter().flat_map(longer).collect()
    })
}

fn number_of(shape: &[usize], position: &[usize]) -> usize {
    shape.iter().zip(position).fold(0, |number, (size, index)| number * size + index)
}

/// The requests, whose elements have numbers of their own but for shared inputs.
fn requests(model: &Model, asked: &[Asked]) -> Vec<Inputs> {
    let mut number = 0;
    let one = |asked: &Asked| {
        let sizes = vec![model.free, asked.length];
        let signature = &model.signature;
        let tensor = |(spec, one_row): (&TensorSpec, &bool)| {
            let rows = if spec.broadcast && *one_row { 1 } else { asked.rows };
            let count = signature.elements_of(spec, rows, &sizes).unwrap();
            if signature.is_shared(spec) {
                return Bytes::from(wire(spec.datatype, 7).repeat(count));
            }
            let mut next = || {
                number += 1;
                wire(spec.datatype, number)
            };
            (0..count).flat_map(|_| next()).collect::<Vec<_>>().into()
        };
        let tensors = signature.inputs.iter().zip(&asked.one_row).map(tensor).collect();
        Inputs { rows: asked.rows, sizes, tensors }
    };
    asked.iter().map(one).collect()
}

/// What stands at a position of a batch's input: the element of the request whose row it is, or what
/// padding is made of.
fn expected(model: &Model, input: usize, requests: &[Inputs], position: &[usize]) -> Vec<u8> {
    let spec = &model.signature.inputs[input];
    let (mut row, mut request) = (0, &requests[0]);
    if let Some(axis) = spec.batch_axis() {
        row = position[axis];
        for candidate in requests {
            request = candidate;
            if row < candidate.rows as usize {
                break;
            }
            row -= candidate.rows as usize;
        }
    }
    let own = elements_of(spec.datatype, &request.tensors[input]);
    let full = model.signature.elements_of(spec, request.rows, &request.sizes).unwrap();
    let rows = if own.len() < full { 1 } else { request.rows };
    let shape = model.signature.shape_of(spec, rows, &request.sizes).unwrap();
    let mut position = position.to_vec();
    if let Some(axis) = spec.batch_axis() {
        position[axis] = if rows == 1 { 0 } else { row };
    }
    match position.iter().zip(&shape).all(|(index, size)| index < size) {
        true => own[number_of(&shape, &position)].clone(),
        false => wire(spec.datatype, u32::MAX),
    }
}

/// The inputs of a batch as if a model had copied them to its outputs.
fn echo(model: &Model, batch: &Batch<'_>) -> Vec<OutputTensor> {
    let output = |(input, spec): (super::super::BatchInput<'_>, &TensorSpec)| {
        assert_eq!((input.name, input.datatype), (spec.name.as_str(), spec.datatype));
        let data: Vec<u8> = elements(&input).concat();
        OutputTensor { shape: input.shape, data: data.into() }
    };
    batch.inputs().zip(&model.signature.inputs).map(output).collect()
}

proptest! {
    #[test]
    fn every_element_is_in_its_place_and_comes_back(
        (model, batches) in (model(), prop::collection::vec(asked(), 1..3)),
        how in prop::sample::select(vec![Representation::Raw, Representation::Bytes]),
    ) {
        let signature = Arc::clone(&model.signature);
        let mut arena = Arena::new(signature, 32, how).unwrap();
        for asked in &batches {
            let requests = requests(&model, asked);
            arena.assemble(requests.iter()).unwrap();
            let batch = arena.batch();
            let rows: u32 = asked.iter().map(|asked| asked.rows).sum();
            let longest = asked.iter().map(|asked| asked.length).max().unwrap();
            prop_assert_eq!(batch.rows(), rows);
            prop_assert_eq!(batch.sizes(), &[model.free, longest]);
            for (index, input) in batch.inputs().enumerate() {
                let spec = &model.signature.inputs[index];
                let shape = model.signature.shape_of(spec, rows, batch.sizes()).unwrap();
                prop_assert_eq!(&input.shape, &shape);
                let found = elements(&input);
                let positions = positions(&shape);
                prop_assert_eq!(found.len(), positions.len());
                for (found, position) in found.iter().zip(&positions) {
                    let wanted = expected(&model, index, &requests, position);
                    prop_assert_eq!(found, &wanted, "input {} at {:?}", spec.name, position);
                }
            }
            let split = split(&model.signature, echo(&model, &batch), arena.parts()).unwrap();
            for (request, outputs) in requests.iter().zip(&split) {
                for ((spec, sent), got) in
                    model.signature.inputs.iter().zip(&request.tensors).zip(outputs)
                {
                    let shape = model.signature.shape_of(spec, request.rows, &request.sizes);
                    prop_assert_eq!(Some(&got.shape), shape.as_ref());
                    let full = model.signature.elements_of(spec, request.rows, &request.sizes);
                    if Some(elements_of(spec.datatype, sent).len()) == full {
                        prop_assert_eq!(&got.data, sent, "output {}", spec.name);
                    }
                }
            }
        }
    }
}
