//! Batches of given requests, and of random ones against a reference that goes element by element.

mod random;
mod splitting;

use super::*;
use bytes::Bytes;
use symphony_wire::tensor::{Dim, OpenDimension, TensorSpec, bytes_contents};

fn signature(datatype: DataType, row: &[usize]) -> Arc<Signature> {
    let spec = |name: &str| TensorSpec::of_rows(name, datatype, row);
    Arc::new(Signature::fixed(vec![spec("x")], vec![spec("y")]))
}

fn request(rows: u32, data: &[u8]) -> Inputs {
    Inputs::fixed(rows, vec![Bytes::copy_from_slice(data)])
}

fn le<const N: usize, T>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(bytes).collect()
}

/// Places requests of one row of two elements each; returns what the engine sees.
fn assembled(datatype: DataType, how: Representation, rows: &[&[u8]]) -> String {
    let mut arena = Arena::new(signature(datatype, &[2]), 4, how).unwrap();
    let requests: Vec<Inputs> = rows.iter().map(|row| request(1, row)).collect();
    if let Err(error) = arena.assemble(requests.iter()) {
        return error.to_string();
    }
    let input = arena.batch().inputs().next().unwrap();
    assert_eq!(input.shape, [rows.len(), 2]);
    format!("{:?}", input.elements)
}

#[test]
fn every_type_is_decoded_into_its_rows() {
    use DataType::{
        Bf16, Bool, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
    };
    let check = |datatype, rows: &[&[u8]], expected: &str| {
        assert_eq!(assembled(datatype, Representation::Declared, rows), expected);
    };
    check(Bool, &[&[0, 1], &[2, 0]], "Bool([false, true, true, false])");
    check(Uint8, &[&[1, 2], &[3, 4]], "Uint8([1, 2, 3, 4])");
    check(Int8, &[&[255, 2]], "Int8([-1, 2])");
    check(Uint16, &[&[1, 1, 2, 0]], "Uint16([257, 2])");
    check(Int16, &[&[255, 255, 2, 0]], "Int16([-1, 2])");
    check(Uint32, &[&le(&[7u32, 8], |v| v.to_le_bytes())], "Uint32([7, 8])");
    check(Int32, &[&le(&[-7i32, 8], |v| v.to_le_bytes())], "Int32([-7, 8])");
    check(Uint64, &[&le(&[u64::MAX, 8], |v| v.to_le_bytes())], "Uint64([18446744073709551615, 8])");
    check(Int64, &[&le(&[-7i64, 8], |v| v.to_le_bytes())], "Int64([-7, 8])");
    check(Fp16, &[&[0x00, 0x3c, 0x00, 0xc0]], "Fp16([1.0, -2.0])");
    check(Bf16, &[&[0x80, 0x3f, 0x00, 0xc0]], "Bf16([1.0, -2.0])");
    check(Fp32, &[&le(&[0.5f32, -2.0], |v| v.to_le_bytes())], "Fp32([0.5, -2.0])");
    check(Fp64, &[&le(&[0.5f64, -2.0], |v| v.to_le_bytes())], "Fp64([0.5, -2.0])");
    let words = bytes_contents([b"ab".as_slice(), b""]);
    check(DataType::Bytes, &[&words], r#"Text(["ab", ""])"#);
    let any = bytes_contents([b"\xff\0".as_slice(), b""]);
    let raw = assembled(DataType::Bytes, Representation::Raw, &[&any]);
    assert_eq!(raw, "Raw([[255, 0], []])");
}

#[test]
fn an_engine_may_take_elements_as_they_travel() {
    let check = |datatype, rows: &[&[u8]], expected: &str| {
        assert_eq!(assembled(datatype, Representation::Bytes, rows), expected);
    };
    check(DataType::Bool, &[&[0, 1], &[2, 0]], "Bytes([0, 1, 1, 0])");
    check(
        DataType::Int16,
        &[&[255, 255, 2, 0], &[3, 0, 4, 0]],
        "Bytes([255, 255, 2, 0, 3, 0, 4, 0])",
    );
    check(DataType::Bytes, &[&bytes_contents([b"a".as_slice(), b""])], "Raw([[97], []])");
}

#[test]
fn a_narrow_engine_gets_32_bit_integers() {
    let narrow = |datatype, row: &[u8]| assembled(datatype, Representation::Narrow, &[row]);
    assert_eq!(narrow(DataType::Bool, &[0, 9]), "Int32([0, 1])");
    let int64 = |values: [i64; 2]| narrow(DataType::Int64, &le(&values, |v| v.to_le_bytes()));
    assert_eq!(int64([-1, i64::from(i32::MAX)]), "Int32([-1, 2147483647])");
    assert!(int64([0, 1 << 31]).starts_with("element 1 of input \"x\" is 2147483648"));
}

/// What is wrong with which of the requests.
fn refusals(arena: &mut Arena, requests: &[Inputs]) -> Vec<(usize, String)> {
    match arena.assemble(requests.iter()) {
        Err(AssemblyError::Requests(refused)) => refused
            .into_iter()
            .map(|refused| (refused.position, refused.error.to_string()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_others_make_a_batch_without_it() {
    let mut arena =
        Arena::new(signature(DataType::Uint8, &[2]), 3, Representation::Declared).unwrap();
    let good = [request(2, &[1, 2, 3, 4]), request(1, &[5, 6])];
    let mut refused = |inputs: Inputs, expected: &str| {
        let requests = [good[0].clone(), inputs, good[1].clone()];
        assert_eq!(refusals(&mut arena, &requests), [(1, expected.to_owned())]);
        assert_eq!((arena.batch().rows(), arena.parts()), (0, [].as_slice()));
    };
    refused(request(2, &[0; 4]), "the request has 2 rows where 1 to 1 fit");
    refused(request(0, &[]), "the request has 0 rows where 1 to 1 fit");
    refused(Inputs::fixed(1, vec![]), "the request has 0 tensors, the model takes 1 inputs");
    let sized = Inputs { sizes: vec![7], ..request(1, &[1, 2]) };
    refused(sized, "the request has 1 sizes, the model has 0 open dimensions");
    let short = refusals(&mut arena, &[request(1, &[9]), request(1, &[1, 2]), request(1, &[])]);
    let needs = |bytes| format!("input \"x\" has {bytes} bytes where its shape needs 2");
    assert_eq!(short, [(0, needs(1)), (2, needs(0))]);
    arena.assemble(good.iter()).unwrap();
    let input = arena.batch().inputs().next().unwrap();
    assert_eq!((input.shape, input.elements), (vec![3, 2], Elements::Uint8(&[1, 2, 3, 4, 5, 6])));
}

#[test]
fn requests_of_different_forms_are_never_one_batch() {
    let shape = vec![Dim::Batch, Dim::Open(0), Dim::Open(1)];
    let inputs = vec![
        TensorSpec::new("x", DataType::Uint8, shape),
        TensorSpec::new("rate", DataType::Uint8, vec![]),
    ];
    let dimension = |name: &str| OpenDimension { name: name.to_owned(), max: 4 };
    let dimensions = vec![dimension("width"), dimension("length")];
    let signature = Signature { inputs, outputs: vec![], dimensions, padded: Some(1) };
    let mut arena = Arena::new(Arc::new(signature), 8, Representation::Declared).unwrap();
    let request = |width: usize, length: usize, rate: u8| Inputs {
        rows: 1,
        sizes: vec![width, length],
        tensors: vec![vec![1; width * length].into(), vec![rate].into()],
    };
    let form = "the request is of another form than the others of its batch".to_owned();
    let mixed = [request(2, 1, 5), request(1, 1, 5), request(2, 1, 6), request(2, 1, 5)];
    assert_eq!(refusals(&mut arena, &mixed), [(1, form.clone()), (2, form)]);
    // Nothing says what the input is to be filled with.
    let lengths = [request(2, 1, 5), request(2, 3, 5)];
    let unpadded = "input \"x\" cannot be padded: nothing says what with".to_owned();
    assert_eq!(refusals(&mut arena, &lengths), [(0, unpadded)]);
    let single = Signature::fixed(vec![TensorSpec::new("x", DataType::Uint8, vec![])], vec![]);
    let mut arena = Arena::new(Arc::new(single), 8, Representation::Declared).unwrap();
    let one = Inputs::fixed(1, vec![vec![1].into()]);
    let room = "the request has 1 rows where 1 to 0 fit".to_owned();
    assert_eq!(refusals(&mut arena, &[one.clone(), one]), [(1, room)]);
}

#[test]
fn the_bound_on_the_memory_of_a_batch_holds_and_buffers_grow_with_the_batches() {
    let max = 1 << 31;
    let signature = Signature {
        inputs: vec![TensorSpec::new("x", DataType::Uint8, vec![Dim::Batch, Dim::Open(0)])],
        dimensions: vec![OpenDimension { name: "length".to_owned(), max }],
        ..Signature::default()
    };
    let mut arena = Arena::new(Arc::new(signature), 8, Representation::Declared).unwrap();
    assert!(arena.fits(2, &[max]) && !arena.fits(3, &[max]) && !arena.fits(9, &[1]));
    let large = Inputs { rows: 3, sizes: vec![max], tensors: vec![Bytes::new()] };
    let error = arena.assemble(std::iter::once(&large)).unwrap_err();
    assert!(error.to_string().starts_with("input \"x\" needs 6442450944 bytes"), "{error}");
    for length in [1, 5, 3] {
        let request =
            Inputs { rows: 2, sizes: vec![length], tensors: vec![vec![7; 2 * length].into()] };
        arena.assemble(std::iter::once(&request)).unwrap();
        let input = arena.batch().inputs().next().unwrap();
        assert_eq!(
            (input.shape, input.elements),
            (vec![2, length], Elements::Uint8(&vec![7; 2 * length]))
        );
    }
}

#[test]
fn text_that_no_engine_takes_is_refused() {
    let text = |elements: [&[u8]; 2]| {
        assembled(DataType::Bytes, Representation::Declared, &[&bytes_contents(elements)])
    };
    let refused = "element 1 of input \"x\" is not UTF-8 text without null characters";
    assert!(text([b"a", b"\xff"]).starts_with(refused));
    assert!(text([b"a", b"\0"]).starts_with(refused));
    let cut = assembled(DataType::Bytes, Representation::Declared, &[&[9, 0, 0, 0, 1]]);
    assert_eq!(cut, "input \"x\" is cut short: the element at byte 0 goes past the end");
    let one = assembled(DataType::Bytes, Representation::Declared, &[&[0, 0, 0, 0]]);
    assert_eq!(one, "input \"x\" has 1 elements where its shape needs 2");
}

#[test]
fn more_than_there_is_memory_for_is_refused() {
    for row in [vec![1 << 62], vec![1 << 40, 1 << 20], vec![usize::MAX, 2]] {
        let signature = signature(DataType::Fp32, &row);
        let error = Arena::new(signature, 32, Representation::Declared).unwrap_err();
        assert_eq!((error.input.as_str(), error.rows), ("x", 32), "{error}");
    }
}
