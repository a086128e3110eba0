//! The engine onnxruntime with its library, and whether the embedded engine agrees with it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use symphony_backend::engine::{Cores, GraphEngine};
use symphony_backend::engines::onnxruntime::Onnxruntime;
use symphony_backend::engines::rten::Rten;
use symphony_backend::prepare::{Options, Prepared, Runnable};
use symphony_backend::profiling::sample_rows;
use symphony_backend::repository::GraphSettings;
use symphony_backend::resident::Resident;
use symphony_onnx::builder::GraphBuilder;
use symphony_onnx::examples::{Encoder, WideDense, encoder, mobilenet_v2, resnet50, wide_dense};
use symphony_onnx::proto::StringStringEntryProto;
use symphony_onnx::proto::tensor_proto::DataLocation;
use symphony_onnx::{Dim, ElementType, OnnxModel};
use symphony_wire::tensor::{DataType, Inputs, OutputTensor, bytes_contents};

const CORES: Cores = Cores { accelerators: 2, threads: 1 };

fn onnxruntime() -> Onnxruntime {
    assert!(
        std::env::var_os("ORT_DYLIB_PATH").is_some(),
        "this test needs the onnxruntime library: run `cargo xtask test`, or set ORT_DYLIB_PATH"
    );
    Onnxruntime::open(None, CORES).unwrap()
}

/// Loads a model from a file, as serving does, for batches of up to four rows.
fn load(engine: &dyn GraphEngine, model: &OnnxModel, shape: &[(&str, usize)]) -> Runnable {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, model.encode()).unwrap();
    let shapes = shape.iter().map(|(name, size)| ((*name).to_owned(), vec![Some(*size)]));
    let settings = GraphSettings { shapes: shapes.collect(), ..GraphSettings::default() };
    let options =
        Options { name: "m", settings: &settings, custom_ops: None, rows_max: 4, accelerators: 2 };
    let model = OnnxModel::read(&path).unwrap();
    Prepared::new(model, &path, &options).unwrap().load(engine).unwrap()
}

/// Runs a batch of the requests on the second accelerator.
fn run(mut runnable: Runnable, requests: &[Inputs]) -> Vec<Vec<OutputTensor>> {
    let second = runnable.executables.remove(1);
    let rows_max = runnable.rows_max;
    Resident::new(runnable.signature, rows_max, second).unwrap().run(requests).unwrap()
}

fn floats(tensor: &OutputTensor) -> Vec<f32> {
    tensor.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Checks that both engines load a model and give the same results for a batch of two requests with
/// three rows.
fn check_agreement(model: &OnnxModel, shape: &[(&str, usize)]) {
    let theirs = load(&onnxruntime(), model, shape);
    let ours = load(&Rten::new(CORES), model, shape);
    assert_eq!(theirs.signature, ours.signature);
    assert_eq!((theirs.rows_max, ours.rows_max), (4, 4));
    let rows = sample_rows(&theirs.signature, &[], 3, 1);
    let joined = |index: usize| [&rows[0].tensors[index][..], &rows[1].tensors[index]].concat();
    let tensors = (0..rows[0].tensors.len()).map(|index| Bytes::from(joined(index))).collect();
    let requests = [Inputs::fixed(2, tensors), rows[2].clone()];
    let (theirs, ours) = (run(theirs, &requests), run(ours, &requests));
    for (theirs, ours) in theirs.iter().flatten().zip(ours.iter().flatten()) {
        assert_eq!(theirs.shape, ours.shape);
        let (theirs, ours) = (floats(theirs), floats(ours));
        let scale = theirs.iter().fold(0f32, |max, value| value.abs().max(max));
        assert!(scale > 0.0, "the model gives zeros");
        for (their, our) in theirs.iter().zip(&ours) {
            assert!((their - our).abs() <= 1e-3 * scale, "{their} and {our} of up to {scale}");
        }
    }
}

#[test]
fn the_engines_agree_on_the_digits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path: PathBuf = path.join("../../examples/models/digits/1/model.onnx");
    check_agreement(&OnnxModel::read(&path).unwrap(), &[]);
}

#[test]
fn the_engines_agree_on_mobilenet() {
    check_agreement(&mobilenet_v2(96, 100).unwrap(), &[]);
}

#[test]
fn the_engines_agree_on_resnet() {
    check_agreement(&resnet50(64, 100).unwrap(), &[]);
}

#[test]
fn the_engines_agree_on_an_encoder() {
    let model = encoder(&Encoder::default()).unwrap();
    check_agreement(&model, &[("input_ids", 16), ("attention_mask", 16)]);
}

#[test]
fn the_engines_agree_on_wide_layers() {
    let sizes = WideDense { width: 512, ..WideDense::default() };
    check_agreement(&wide_dense(&sizes).unwrap(), &[]);
}

#[test]
fn every_type_goes_through() {
    let engine = onnxruntime();
    let types = [
        (ElementType::Bool, DataType::Bool),
        (ElementType::Uint8, DataType::Uint8),
        (ElementType::Uint16, DataType::Uint16),
        (ElementType::Uint32, DataType::Uint32),
        (ElementType::Uint64, DataType::Uint64),
        (ElementType::Int8, DataType::Int8),
        (ElementType::Int16, DataType::Int16),
        (ElementType::Int32, DataType::Int32),
        (ElementType::Int64, DataType::Int64),
        (ElementType::Float16, DataType::Fp16),
        (ElementType::Bfloat16, DataType::Bf16),
        (ElementType::Float32, DataType::Fp32),
        (ElementType::Float64, DataType::Fp64),
        (ElementType::String, DataType::Bytes),
    ];
    for (element, datatype) in types {
        let dims = [Dim::Named("batch".to_owned()), Dim::Fixed(2)];
        let mut graph = GraphBuilder::new("identity", 16, 1);
        graph.input("x", element, &dims);
        graph.node("y", "Identity", &["x"], vec![]);
        graph.output("y", element, &dims);
        let runnable = load(&engine, &graph.finish().unwrap(), &[]);
        assert_eq!(runnable.signature.outputs[0].datatype, datatype);
        let contents = |seed: u8| match datatype.size() {
            // Ones for integers and, for floats, numbers that are not NaN.
            Some(size) => Bytes::from([vec![1; size], vec![seed & 1; size]].concat()),
            None => bytes_contents([b"\xc3\xa4 long enough".as_slice(), &[seed, b'x']]).into(),
        };
        let request = |seed| Inputs::fixed(1, vec![contents(seed)]);
        let outputs = run(runnable, &[request(b'1'), request(b'2')]);
        for (outputs, seed) in outputs.iter().zip([b'1', b'2']) {
            assert_eq!(outputs[0].shape, [1, 2]);
            assert_eq!(outputs[0].data, contents(seed), "{datatype}");
        }
    }
}

#[test]
fn outputs_outlive_the_model() {
    let runnable = load(&onnxruntime(), &mobilenet_v2(32, 10).unwrap(), &[]);
    let request = sample_rows(&runnable.signature, &[], 1, 1);
    let outputs = run(runnable, &request);
    let logits = floats(&outputs[0][0]);
    assert_eq!(logits.len(), 10);
    assert!(logits.iter().all(|value| value.is_finite()));
}

#[test]
fn a_graph_that_does_not_load_is_an_error() {
    let mut graph = GraphBuilder::new("broken", 17, 1);
    graph.input("x", ElementType::Float32, &[Dim::Named("batch".to_owned())]);
    graph.node("y", "NoSuchOperator", &["x"], vec![]);
    graph.output("y", ElementType::Float32, &[Dim::Named("batch".to_owned())]);
    let model = graph.finish().unwrap();
    let settings = GraphSettings::default();
    let options = Options {
        name: "broken",
        settings: &settings,
        custom_ops: None,
        rows_max: 4,
        accelerators: 1,
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, model.encode()).unwrap();
    let prepared = Prepared::new(model, &path, &options).unwrap();
    for engine in [&onnxruntime() as &dyn GraphEngine, &Rten::new(CORES)] {
        let error = prepared.load(engine).unwrap_err().to_string();
        let expected = format!("{} cannot load model \"broken\"", engine.name());
        assert!(error.starts_with(&expected) && error.contains("NoSuchOperator"), "{error}");
    }
}

#[test]
fn weights_outside_the_model_file_are_found() {
    let mut graph = GraphBuilder::new("outside", 17, 1);
    let dims = [Dim::Named("batch".to_owned()), Dim::Named("length".to_owned())];
    graph.input("x", ElementType::Float32, &dims);
    graph.floats("w", &[2], &[3.0, 5.0]);
    graph.node("y", "Mul", &["x", "w"], vec![]);
    graph.output("y", ElementType::Float32, &dims);
    let mut proto = graph.finish().unwrap().proto().clone();
    let weights = &mut proto.graph.as_mut().unwrap().initializer[0];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("model.onnx.data");
    std::fs::write(&file, weights.raw_data.take().unwrap()).unwrap();
    weights.data_location = Some(DataLocation::External.into());
    for (key, value) in [("location", "model.onnx.data"), ("offset", "0"), ("length", "8")] {
        let (key, value) = (Some(key.to_owned()), Some(value.to_owned()));
        weights.external_data.push(StringStringEntryProto { key, value });
    }
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    let shapes = BTreeMap::from([("x".to_owned(), vec![Some(2)])]);
    let settings = GraphSettings { shapes, ..GraphSettings::default() };
    let options = Options {
        name: "outside",
        settings: &settings,
        custom_ops: None,
        rows_max: 4,
        accelerators: 2,
    };
    for engine in [&onnxruntime() as &dyn GraphEngine, &Rten::new(CORES)] {
        // The shape changes the graph, so it is loaded from memory.
        let prepared = Prepared::new(OnnxModel::read(&path).unwrap(), &path, &options).unwrap();
        let runnable = prepared.load(engine).unwrap();
        let ones = [1f32, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let request = Inputs::fixed(1, vec![ones.into()]);
        assert_eq!(floats(&run(runnable, &[request])[0][0]), [3.0, 5.0], "{}", engine.name());
    }
}
